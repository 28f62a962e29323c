//! The kernel's interface to IPVS, without a kernel: what tools that were written for it send, and what they read.
//!
//! Lives here: messages of a datagram and what answers them (`message`), what a message asks for (`request`,
//! `controller`), what that means as edits (`change`), what answers hold (`record`), the files in `/proc` (`proc`).
//! Does not live here: sockets, permissions, who has the state (fulcrum-manager's `door`).

mod attribute;
mod change;
mod controller;
mod errno;
mod family;
mod message;
pub mod proc;
mod record;
mod request;

pub use controller::{FAMILY_ID, Known};
pub use errno::Errno;
pub use message::{Dump, Message, PACKET, messages};
pub use record::Record;
pub use request::{Name, Question, Request, ServerAsked, ServiceAsked};
