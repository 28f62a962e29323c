//! What workers tell each other.

use std::net::IpAddr;

use crate::session::Key;
use crate::snapshot::InterfaceId;

/// A message and the worker it is for.
#[derive(Debug)]
pub struct Envelope<B> {
    /// Receiving worker.
    pub to: u16,
    /// The message.
    pub message: Message<B>,
}

/// What a datagram's first fragment said of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// Protocol, source and destination port.
    Ports(u8, u16, u16),
    /// A question by ICMP, which is answered fragment by fragment.
    Echo,
    /// An ICMP error about a packet with this key.
    Error(Key),
    /// Nothing of the director's, to an address that the host has too.
    Host,
}

/// What the worker is to a packet that it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// To be found out.
    Arrived,
    /// Its owner when the service was steered otherwise, by the n-th way that was: the session may still be there.
    FormerOwner(u8),
    /// Its owner, after the former one has been asked.
    Owner,
    /// To be found out; the host sent it.
    Host,
    /// It is a fragment whose datagram's first one has been seen.
    Fragment {
        /// What that one said.
        first: First,
        /// Whether the receiver owns the flow; it finds the owner otherwise.
        owner: bool,
        /// Whether it has waited for the first one, and its verdict has been given.
        held: bool,
    },
}

/// One message between workers.
#[derive(Debug)]
pub enum Message<B> {
    /// A received frame for the worker that owns its flow.
    Packet {
        /// Port it came in by.
        port: u16,
        /// Times it has been handed on.
        hops: u8,
        /// What the receiver is to it.
        stage: Stage,
        /// The frame as received.
        buf: B,
    },
    /// A finished frame without its Ethernet header's addresses, for the resolver: it waits there for its next hop.
    Park {
        /// Interface it leaves by.
        interface: InterfaceId,
        /// Next hop.
        next_hop: IpAddr,
        /// Port the packet came in by, to count a drop.
        port: u16,
        /// Whether it is no service's but was routed as it came, or is an answer of our own: fewer of these may wait,
        /// and a sender is told when the next hop is not there.
        routed: bool,
        /// The frame; VLAN tag and Ethernet type are in place.
        buf: B,
    },
    /// The resolver's word on a neighbour.
    Neighbour {
        /// Interface it is on.
        interface: InterfaceId,
        /// Its IP address.
        address: IpAddr,
        /// Its MAC address, `None` when it is not known any more.
        mac: Option<[u8; 6]>,
    },
    /// Tunnelled packets to a server must be no longer than this.
    PathMtu {
        /// The server.
        server: IpAddr,
        /// Largest IP packet in bytes, the tunnel's headers included.
        mtu: u16,
    },
    /// A frame that the host sent by the twin of an interface, for worker 0.
    FromHost {
        /// The interface.
        interface: InterfaceId,
        /// The frame, without a VLAN tag.
        buf: B,
    },
    /// A worker still uses this neighbour, whose entry is about to go stale.
    NeighbourUsed {
        /// Interface it is on.
        interface: InterfaceId,
        /// Its IP address.
        address: IpAddr,
    },
}

impl<B> Message<B> {
    /// Whether losing the message loses a packet (the runtime may drop such messages when a ring is full, counted).
    pub fn carries_packet(&self) -> bool {
        matches!(self, Message::Packet { .. } | Message::Park { .. } | Message::FromHost { .. })
    }
}
