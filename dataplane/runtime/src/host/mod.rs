//! The host's side of a device: Linux interfaces that the director takes over and gives back as it found them.
//!
//! Everything goes through netlink. Does not live here: DPDK, and which driver a device gets (`ports`).

mod addresses;
mod ethtool;
mod ledger;
mod link;
mod moved;
mod mute;
mod netlink;
mod taken;

pub(crate) use addresses::{Addresses, watch as watch_addresses};
pub(crate) use ledger::Ledger;
pub(crate) use link::{Link, carries_default_route, find, set_mtu, set_up_twin};
pub(crate) use taken::{Taken, Use};

/// Receive queues that the interface uses now; 1 where it does not say.
pub(crate) fn receive_queues(index: u32) -> u32 {
    ethtool::Ethtool::open().map_or(1, |mut ethtool| ethtool.receive_queues(index))
}
