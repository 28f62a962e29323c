//! The command line `fulcrum`, and ipvsadm's.
//!
//! Lives here: arguments, printing, exit codes. Does not live here: what the commands do (fulcrum-manager does
//! it), and what makes them valid (fulcrum-model).

pub mod client;
pub mod failure;
pub mod ipvsadm;
pub mod output;

pub use client::Client;
pub use failure::Failure;
pub use output::Output;
