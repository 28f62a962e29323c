//! Schedulers: which server takes a new connection.
//!
//! One trait; one file a scheduler. The engine never knows which one runs. State that survives from one choice
//! to the next (the cursor of the round robins) is a shared word per service, touched once per new connection
//! and never per packet: with several workers the sequence of choices is the one a single kernel would make.

use std::fmt::Debug;
use std::sync::Arc;

use crate::snapshot::Destination;

/// Chooses a server for each new connection of one service.
pub trait Scheduler: Debug + Send + Sync {
    /// The name that IPVS knows it by.
    fn name(&self) -> &'static str;

    /// The index in `destinations` (newest first) of the server that takes a new connection, `None` when none may.
    fn choose(&self, destinations: &[Arc<Destination>]) -> Option<usize>;

    /// A scheduler of the same kind for a changed list of destinations, going on where this one stands.
    /// Both lists are newest first.
    fn carry_over(&self, old: &[Arc<Destination>], new: &[Arc<Destination>]) -> Box<dyn Scheduler>;
}
