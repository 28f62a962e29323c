//! Routes as workers read them: where packets go, and which of several next hops answer.
//!
//! Which of several a flow takes is decided in `next_hop`; whether they answer is found out by worker 0's resolver,
//! and told in words that all workers read and that outlive a snapshot.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::InterfaceId;
use crate::next_hop::seed;

/// What a route does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hop {
    /// Delivers on the link.
    Link(InterfaceId),
    /// Sends to a gateway on the link.
    Via(InterfaceId, IpAddr),
    /// Sends to one of several gateways: so many of [`NextHops::list`], from this one on.
    Several {
        /// The first one.
        first: u32,
        /// How many there are, at least 1.
        count: u32,
    },
    /// Refuses with host unreachable.
    Unreachable,
    /// Drops.
    Blackhole,
}

/// A route; connected subnets are routes too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Network address.
    pub prefix: IpAddr,
    /// Prefix length.
    pub length: u8,
    /// Next hop.
    pub hop: Hop,
    /// Largest IP packet in bytes; 0 = the interface's.
    pub mtu: u16,
    /// Own address to use as source; unspecified where there is none, and where there are several next hops.
    pub source: IpAddr,
}

/// The next hops of all routes that have several.
#[derive(Clone, Debug, Default)]
pub struct NextHops {
    /// Route by route.
    pub list: Vec<NextHop>,
    /// Each gateway once, however many routes it is of.
    pub gateways: Vec<Gateway>,
    /// How often one fell silent or answered again; successive snapshots share it.
    turns: Arc<AtomicU64>,
}

impl NextHops {
    /// No next hop yet, where these turns are counted.
    pub fn counted_by(turns: Arc<AtomicU64>) -> NextHops {
        NextHops { turns, ..NextHops::default() }
    }

    /// How often one fell silent or answered again.
    #[inline]
    pub fn turns(&self) -> u64 {
        self.turns.load(Ordering::Acquire)
    }

    /// What has been said of gateways is to be looked at by all workers; for worker 0 alone.
    pub fn turn(&self) {
        self.turns.store(self.turns() + 1, Ordering::Release);
    }
}

/// Whether they lead to the same; what is known of them is the same object then.
impl PartialEq for NextHops {
    fn eq(&self, other: &NextHops) -> bool {
        self.list == other.list
    }
}

/// One of the gateways of a route that has several.
#[derive(Clone, Debug)]
pub struct NextHop {
    /// Who it is, and whether it answers.
    pub gateway: Gateway,
    /// Own address to use as source.
    pub source: IpAddr,
    /// Its share of the flows, at least 1, measured by the others'.
    pub weight: u16,
    /// What tells it from others by chance, in every run the same.
    pub(crate) seed: u64,
}

impl NextHop {
    /// A gateway with its share, towards which an own address is the source.
    pub fn new(gateway: Gateway, source: IpAddr, weight: u16) -> NextHop {
        let seed = seed(gateway.address);
        NextHop { gateway, source, weight: weight.max(1), seed }
    }
}

impl PartialEq for NextHop {
    fn eq(&self, other: &NextHop) -> bool {
        (self.gateway.interface, self.gateway.address, self.source, self.weight)
            == (other.gateway.interface, other.gateway.address, other.source, other.weight)
    }
}

/// A gateway that is watched.
#[derive(Clone, Debug)]
pub struct Gateway {
    /// Interface it is on.
    pub interface: InterfaceId,
    /// Its address.
    pub address: IpAddr,
    silent: Arc<AtomicBool>,
}

impl Gateway {
    /// One of which nothing is known yet: it is taken to answer.
    pub fn new(interface: InterfaceId, address: IpAddr) -> Gateway {
        Gateway { interface, address, silent: Arc::default() }
    }

    /// Whether it answers, as far as is known.
    #[inline]
    pub fn answers(&self) -> bool {
        !self.silent.load(Ordering::Relaxed)
    }

    /// Says whether it answers; [`NextHops::turn`] makes it known.
    pub fn set_answers(&self, answers: bool) {
        self.silent.store(!answers, Ordering::Relaxed);
    }
}

/// Which ports have a link, by number; those that nobody has said anything of have.
#[derive(Debug, Default)]
pub struct Links(Vec<AtomicBool>);

impl Links {
    /// Of so many ports, which have a link.
    pub fn new(ports: usize) -> Links {
        Links((0..ports).map(|_| AtomicBool::new(true)).collect())
    }

    /// Whether a port has one.
    #[inline]
    pub fn is_up(&self, port: u16) -> bool {
        self.0.get(usize::from(port)).is_none_or(|up| up.load(Ordering::Relaxed))
    }

    /// Says whether a port has one.
    pub fn set(&self, port: usize, up: bool) {
        if let Some(link) = self.0.get(port) {
            link.store(up, Ordering::Relaxed);
        }
    }
}
