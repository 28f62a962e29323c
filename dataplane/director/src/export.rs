//! What an engine shows of itself: copies for listings.

use std::net::IpAddr;

use crate::Nanos;
use crate::session::{Ends, Session};
use crate::snapshot::{DestinationId, Forward, InterfaceId};

/// A session or template, for listings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionView {
    /// IP protocol number.
    pub protocol: u8,
    /// State by IPVS's name.
    pub state: &'static str,
    /// Time left if nothing comes.
    pub expires_in: Nanos,
    /// Client's address and port (network and 0 for templates).
    pub client: (IpAddr, u16),
    /// VIP and port.
    pub vip: (IpAddr, u16),
    /// What a FULLNAT server sees as its client.
    pub local: Option<(IpAddr, u16)>,
    /// Server's address and port.
    pub server: (IpAddr, u16),
    /// The server's identity.
    pub destination: DestinationId,
    /// Forwarding method.
    pub forward: Forward,
    /// Whether it is a template.
    pub template: bool,
}

impl SessionView {
    pub(crate) fn of(session: &Session, ends: &Ends, now: Nanos) -> SessionView {
        let fullnat = session.forward() == Forward::FullNat && !session.is_template();
        SessionView {
            protocol: session.protocol(),
            state: session.state().name(),
            expires_in: session.expires.saturating_sub(now),
            client: ends.client,
            vip: ends.vip,
            local: fullnat.then_some(ends.local),
            server: ends.server,
            destination: session.destination,
            forward: session.forward(),
            template: session.is_template(),
        }
    }
}

/// A neighbour, for listings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeighbourView {
    /// Interface it is on.
    pub interface: InterfaceId,
    /// IP address.
    pub address: IpAddr,
    /// MAC address, when known.
    pub mac: Option<[u8; 6]>,
    /// `static`, `reachable`, `probing`, `incomplete` or `failed`; `conflict`: somebody else, with this MAC address, who
    /// claims one of the director's own addresses.
    pub state: &'static str,
    /// Packets that wait for it.
    pub parked: u32,
}
