//! The desired state of a director, without I/O.
//!
//! Lives here: the vocabulary of the configuration (`state`), the file format (`file`), what makes a state
//! valid (`validate`), changes to it (`edit`), ipvsadm's command line as such changes (`ipvsadm`) and rules of iptables that mark
//! packets (`iptables`).
//! Does not live here: who keeps the state (fulcrum-manager), how it travels (fulcrum-api), what a worker
//! makes of it (fulcrum-program).

pub mod edit;
pub mod file;
pub mod iptables;
pub mod ipvsadm;
pub mod state;
pub mod validate;

pub use edit::{Edit, EditError};
pub use file::Config;
pub use state::*;
