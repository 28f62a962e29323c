//! Schedulers: which server takes a new connection.
//!
//! One trait; one file a scheduler. The engine never knows which one runs. State that survives from one choice
//! to the next (the cursor of the round robins) is a shared word per service, touched once per new connection
//! and never per packet: with several workers the sequence of choices is the one a single kernel would make.
//!
//! To add a scheduler: write its file, list it in `SCHEDULERS`.

mod lc;
mod rr;
#[cfg(test)]
mod tests;
mod wlc;
mod wrr;

use std::fmt::Debug;
use std::net::IpAddr;
use std::sync::Arc;

use crate::Nanos;
use crate::snapshot::Destination;

/// What is known of a new connection.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// Where it comes from.
    pub client: IpAddr,
    /// The client's port.
    pub client_port: u16,
    /// Where it goes.
    pub vip: IpAddr,
    /// The port asked for.
    pub vip_port: u16,
    /// When.
    pub now: Nanos,
    /// A number by chance.
    pub chance: u64,
}

/// Chooses a server for each new connection of one service.
pub trait Scheduler: Debug + Send + Sync {
    /// The name that IPVS knows it by.
    fn name(&self) -> &'static str;

    /// The index in `destinations` (newest first) of the server that takes a new connection, `None` when none may.
    fn choose(&self, destinations: &[Arc<Destination>], request: &Request) -> Option<usize>;

    /// A scheduler of the same kind for a changed list of destinations or changed flags, going on where this one
    /// stands. Both lists are newest first.
    ///
    /// IPVS tells its schedulers of each single edit; here the difference of the lists is replayed as deletions,
    /// then additions, then changes of weight or forwarding, oldest first in each.
    fn carry_over(&self, flags: u8, old: &[Arc<Destination>], new: &[Arc<Destination>])
    -> Box<dyn Scheduler>;
}

/// Makes a scheduler with these flags for destinations that are there already (newest first).
type Make = fn(u8, &[Arc<Destination>]) -> Box<dyn Scheduler>;

/// Every scheduler by name.
const SCHEDULERS: &[(&str, Make)] =
    &[("rr", rr::make), ("wrr", wrr::make), ("lc", lc::make), ("wlc", wlc::make)];

/// The names that [`build`] knows.
pub const NAMES: &[&str] = &{
    let mut names = [""; SCHEDULERS.len()];
    let mut i = 0;
    while i < names.len() {
        names[i] = SCHEDULERS[i].0;
        i += 1;
    }
    names
};

/// The scheduler `name` bound to a service that has `destinations` (newest first), as when the scheduler of a
/// service is changed; `None` when there is none of that name. Bit n-1 of `flags` is IPVS's flag-n.
///
/// A service that is new has no servers when its scheduler is bound, they come one at a time: [`build_fresh`].
pub fn build(name: &str, flags: u8, destinations: &[Arc<Destination>]) -> Option<Box<dyn Scheduler>> {
    let (_, make) = SCHEDULERS.iter().find(|(known, _)| *known == name)?;
    Some(make(flags, destinations))
}

/// The scheduler `name` of a new service to which `destinations` (newest first) were added one after the other.
pub fn build_fresh(name: &str, flags: u8, destinations: &[Arc<Destination>]) -> Option<Box<dyn Scheduler>> {
    Some(build(name, flags, &[])?.carry_over(flags, &[], destinations))
}

/// IPVS's measure of a server's load, over all workers: an active connection weighs 257, another one 1.
fn overhead(destination: &Destination) -> u64 {
    let active = destination.counters.sum(|cells| &cells.active);
    let inactive = destination.counters.sum(|cells| &cells.inactive);
    // Both are sums of counters that move while they are read: a difference may be short of zero for a moment.
    let count = |n: u64| if n > u64::MAX / 2 { 0 } else { n };
    let (active, inactive) = (count(active), count(inactive));
    active.saturating_mul(256).saturating_add(active).saturating_add(inactive)
}
