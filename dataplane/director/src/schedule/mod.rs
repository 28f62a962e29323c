//! Schedulers: which server takes a new connection.
//!
//! One trait; one file for each way to choose. The engine never knows which one runs. What a scheduler remembers
//! from one choice to the next (a cursor, where an address went) is shared by all workers and touched once per
//! new connection, never per packet: with several workers the sequence of choices is the one a single kernel
//! would make, so nobody has to start staggered. Loads are the sums of the workers' own counts.
//!
//! To add a scheduler: write its file, list it in `SCHEDULERS`.

mod cache;
mod hashed;
mod least;
mod locality;
mod maglev;
mod priority;
mod rr;
#[cfg(test)]
mod tests;
mod twos;
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
    /// The setting of that name, for lblc.
    pub lblc_expiration: Nanos,
    /// The setting of that name, for lblcr.
    pub lblcr_expiration: Nanos,
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
    /// then additions, then changes of settings, oldest first in each.
    fn carry_over(&self, flags: u8, old: &[Arc<Destination>], new: &[Arc<Destination>])
    -> Box<dyn Scheduler>;
}

/// Makes a scheduler with these flags for destinations that are there already (newest first).
type Make = fn(u8, &[Arc<Destination>]) -> Box<dyn Scheduler>;

/// Every scheduler by name, in the order in which ipvsadm's help lists them.
const SCHEDULERS: &[(&str, Make)] = &[
    ("rr", rr::make),
    ("wrr", wrr::make),
    ("lc", least::lc),
    ("wlc", least::wlc),
    ("lblc", locality::lblc),
    ("lblcr", locality::lblcr),
    ("dh", hashed::dh),
    ("sh", hashed::sh),
    ("sed", least::sed),
    ("nq", least::nq),
    ("fo", priority::fo),
    ("ovf", priority::ovf),
    ("mh", hashed::mh),
    ("twos", twos::make),
];

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

/// Whether a server may take new connections.
fn eligible(destination: &Destination) -> bool {
    destination.weight > 0 && !destination.overloaded()
}

/// Connections of a server in an active state, over all workers.
fn active(destination: &Destination) -> u64 {
    count(destination.counters.sum(|cells| &cells.active))
}

/// IPVS's measure of a server's load, over all workers: an active connection weighs 257, another one 1.
fn overhead(destination: &Destination) -> u64 {
    let inactive = count(destination.counters.sum(|cells| &cells.inactive));
    active(destination).saturating_mul(257).saturating_add(inactive)
}

/// A sum of counters that move while they are read: it may be short of zero for a moment.
fn count(sum: u64) -> u64 {
    if sum > u64::MAX / 2 { 0 } else { sum }
}
