//! The state of a session: by protocol, with a time-out each.

use fulcrum_packet::ipv4;

use super::{sctp, tcp};
use crate::Nanos;
use crate::snapshot::Timeouts;

/// What the director sees of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// A packet of the client.
    Input,
    /// A packet of the server.
    Output,
    /// A packet of the client; the server's go another way (DR, TUN).
    InputOnly,
}

/// State of a session, with IPVS's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// TCP, by [`tcp::State`].
    Tcp(tcp::State),
    /// UDP has one.
    Udp,
    /// SCTP, by [`sctp::State`].
    Sctp(sctp::State),
    /// UDP without answers: lives as long as its one datagram, in pieces that is. // IPVS: IP_VS_CONN_F_ONE_PACKET
    OnePacket,
    /// A template; assured when one of its sessions was established.
    Template {
        /// Whether a session of it was established.
        assured: bool,
    },
}

impl State {
    /// The state of a new session.
    pub const fn new(protocol: u8) -> State {
        match protocol {
            ipv4::TCP => State::Tcp(tcp::State::None),
            ipv4::SCTP => State::Sctp(sctp::State::None),
            _ => State::Udp,
        }
    }

    /// The state after a packet with these TCP flags, or this leading chunk of SCTP; `secure_tcp` as by the setting.
    #[inline]
    pub fn next(self, view: View, flags: u8, secure_tcp: bool) -> State {
        match self {
            State::Tcp(state) => State::Tcp(tcp::next(state, view, flags, secure_tcp)),
            State::Sctp(state) => State::Sctp(sctp::next(state, view, flags)),
            other => other,
        }
    }

    /// How long a session stays in it without a packet; templates and single packets have a time of their own.
    pub fn timeout(self, timeouts: &Timeouts) -> Option<Nanos> {
        match self {
            State::Tcp(state) => Some(timeouts.tcp[state as usize]),
            State::Sctp(state) => Some(timeouts.sctp[state as usize]),
            State::Udp => Some(timeouts.udp),
            State::Template { .. } | State::OnePacket => None,
        }
    }

    /// Whether a session in it counts as an active one of its server.
    pub const fn is_active(self) -> bool {
        match self {
            State::Tcp(state) => state.is_active(),
            State::Sctp(state) => state.is_active(),
            _ => false,
        }
    }

    /// Whether a session in this state only waits for its end.
    pub const fn is_over(self) -> bool {
        matches!(
            self,
            State::Tcp(tcp::State::TimeWait | tcp::State::Close) | State::Sctp(sctp::State::Closed)
        )
    }

    /// Whether both ends have agreed.
    pub const fn is_established(self) -> bool {
        matches!(self, State::Tcp(tcp::State::Established) | State::Sctp(sctp::State::Established))
    }

    /// The name that `ipvsadm -Lc` prints.
    pub const fn name(self) -> &'static str {
        match self {
            State::Tcp(state) => state.name(),
            State::Sctp(state) => state.name(),
            State::Udp | State::OnePacket => "UDP",
            State::Template { assured: false } => "NONE",
            State::Template { assured: true } => "ASSURED",
        }
    }
}
