//! Rules by which what servers start themselves is masqueraded, as workers read them.

use std::net::IpAddr;
use std::sync::Arc;

use super::{Destination, LocalRange};
use crate::PerWorker;
use crate::counters::Counter;
use crate::marks::prefix_matches;
use crate::session::Key;

/// Masquerades flows of some kind.
#[derive(Clone, Debug)]
pub struct SnatRule {
    /// Name, as configured.
    pub name: String,
    /// Only from this network.
    pub source: (IpAddr, u8),
    /// Only to this network.
    pub destination: Option<(IpAddr, u8)>,
    /// Only of this IP protocol.
    pub protocol: Option<u8>,
    /// Only to one of these ports (first and last); empty = any.
    pub ports: Vec<(u16, u16)>,
    /// Addresses and ports that flows get, of the family of `source`; `None`: they stay as they are.
    pub pool: Option<Arc<[LocalRange]>>,
    /// What counts for it, and what its sessions name as their destination; not available when the rule is deleted
    /// and only sessions of before are left.
    pub counts: Arc<Destination>,
    /// Flows' first packets for which the pool had no address and port left.
    pub refused: Arc<PerWorker<Counter>>,
}

impl SnatRule {
    /// Whether packets of a flow with this key are what the rule is for.
    #[inline]
    pub(crate) fn fits(&self, key: Key) -> bool {
        let within = |(prefix, length): (IpAddr, u8), address| prefix_matches(prefix, length, address);
        within(self.source, key.src)
            && self.destination.is_none_or(|network| within(network, key.dst))
            && self.protocol.is_none_or(|protocol| u16::from(protocol) == key.protocol)
            && (self.ports.is_empty()
                || self.ports.iter().any(|&(first, last)| (first..=last).contains(&key.dport)))
    }
}
