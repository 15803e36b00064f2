//! Several real servers that are one cluster.

mod membership;
mod together;
