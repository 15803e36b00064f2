//! etcd's third interface, for whoever offers it or uses it.
//!
//! [`wire`] has its messages and services. Chainfire serves them; [`Store`] uses them, of Chainfire or of any other etcd v3 endpoint: what a
//! state machine needs whose decisions several processes have to agree on.

pub mod store;
pub mod wire;

pub use store::Store;
