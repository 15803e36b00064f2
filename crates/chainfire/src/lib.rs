//! chainfire
