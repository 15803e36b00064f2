//! Definitions of the services that labs know by name, one file per system.

pub mod chainfire;
pub mod quptime;
pub mod sink;
