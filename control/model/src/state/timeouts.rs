//! How long sessions live in each state.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::Protocol;

macro_rules! timeout_states {
    ($($variant:ident $name:literal $protocol:ident $seconds:literal,)*) => {
        /// A state of a session that has a time-out. Called as `ipvsadm -Lc` lists it, in small letters, with the
        /// protocol in front; in the order of IPVS's tables.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[allow(missing_docs, reason = "each is its name")]
        pub enum TimeoutState { $($variant,)* }

        impl TimeoutState {
            /// All states, in order: `ALL[state as usize] == state`.
            pub const ALL: [TimeoutState; 26] = [$(TimeoutState::$variant,)*];

            /// Its name, such as `tcp-syn-recv`.
            pub const fn name(self) -> &'static str {
                match self { $(TimeoutState::$variant => $name,)* }
            }

            /// The protocol whose state it is.
            pub const fn protocol(self) -> Protocol {
                match self { $(TimeoutState::$variant => Protocol::$protocol,)* }
            }

            /// IPVS's time-out in seconds.
            pub const fn default_seconds(self) -> u32 {
                match self { $(TimeoutState::$variant => $seconds,)* }
            }
        }
    };
}

timeout_states! {
    TcpNone "tcp-none" Tcp 2,
    TcpEstablished "tcp-established" Tcp 900,
    TcpSynSent "tcp-syn-sent" Tcp 120,
    TcpSynRecv "tcp-syn-recv" Tcp 60,
    TcpFinWait "tcp-fin-wait" Tcp 120,
    TcpTimeWait "tcp-time-wait" Tcp 120,
    TcpClose "tcp-close" Tcp 10,
    TcpCloseWait "tcp-close-wait" Tcp 60,
    TcpLastAck "tcp-last-ack" Tcp 30,
    TcpListen "tcp-listen" Tcp 120,
    TcpSynAck "tcp-synack" Tcp 120,
    Udp "udp" Udp 300,
    SctpNone "sctp-none" Sctp 2,
    SctpInit1 "sctp-init1" Sctp 4,
    SctpInit "sctp-init" Sctp 61,
    SctpCookieSent "sctp-c-sent" Sctp 61,
    SctpCookieReplied "sctp-c-replied" Sctp 61,
    SctpCookieWait "sctp-c-wait" Sctp 61,
    SctpCookie "sctp-cookie" Sctp 61,
    SctpCookieEchoed "sctp-c-echoed" Sctp 61,
    SctpEstablished "sctp-established" Sctp 900,
    SctpShutdownSent "sctp-s-sent" Sctp 61,
    SctpShutdownReceived "sctp-s-received" Sctp 61,
    SctpShutdownAckSent "sctp-s-ack-sent" Sctp 61,
    SctpRejected "sctp-rejected" Sctp 4,
    SctpClosed "sctp-closed" Sctp 61,
}

impl fmt::Display for TimeoutState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A text that names no state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no state `{0}`; known: {known}", known = TimeoutState::ALL.map(TimeoutState::name).join(", "))]
pub struct UnknownState(pub String);

impl FromStr for TimeoutState {
    type Err = UnknownState;

    fn from_str(text: &str) -> Result<TimeoutState, UnknownState> {
        let found = TimeoutState::ALL.into_iter().find(|state| state.name() == text);
        found.ok_or_else(|| UnknownState(text.to_owned()))
    }
}

/// Time-outs in seconds of the states that are not left to a default.
pub type StateTimeouts = BTreeMap<TimeoutState, u32>;

/// The director's time-outs, in seconds: the three that `ipvsadm --set` changes, and the others where they are
/// not IPVS's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP ESTABLISHED, 900 by default.
    pub tcp: u32,
    /// TCP FIN_WAIT, 120 by default.
    pub tcp_fin: u32,
    /// UDP, 300 by default.
    pub udp: u32,
    /// Other states; none of the three.
    pub states: StateTimeouts,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts { tcp: 900, tcp_fin: 120, udp: 300, states: StateTimeouts::new() }
    }
}

impl Timeouts {
    /// The states that have fields of their own.
    pub const NAMED: [TimeoutState; 3] =
        [TimeoutState::TcpEstablished, TimeoutState::TcpFinWait, TimeoutState::Udp];

    /// Seconds that a session stays in `state`.
    pub fn of(&self, state: TimeoutState) -> u32 {
        match state {
            TimeoutState::TcpEstablished => self.tcp,
            TimeoutState::TcpFinWait => self.tcp_fin,
            TimeoutState::Udp => self.udp,
            other => self.states.get(&other).copied().unwrap_or_else(|| other.default_seconds()),
        }
    }

    /// Sets the time-out of a state, IPVS's with `None`.
    pub fn set(&mut self, state: TimeoutState, seconds: Option<u32>) {
        let value = seconds.unwrap_or_else(|| state.default_seconds());
        match state {
            TimeoutState::TcpEstablished => self.tcp = value,
            TimeoutState::TcpFinWait => self.tcp_fin = value,
            TimeoutState::Udp => self.udp = value,
            other if value == other.default_seconds() => drop(self.states.remove(&other)),
            other => drop(self.states.insert(other, value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_is_where_its_number_says_and_reads_back() {
        for (at, state) in TimeoutState::ALL.into_iter().enumerate() {
            assert_eq!(state as usize, at);
            assert_eq!(state.name().parse(), Ok(state));
            assert!(state.name().starts_with(&state.protocol().to_string()));
        }
        assert!("tcp-best".parse::<TimeoutState>().unwrap_err().to_string().contains("tcp-syn-recv"));
    }

    #[test]
    fn defaults_are_not_kept() {
        let mut timeouts = Timeouts::default();
        for state in TimeoutState::ALL {
            assert_eq!(timeouts.of(state), state.default_seconds(), "{state}");
            timeouts.set(state, Some(77));
            assert_eq!(timeouts.of(state), 77);
            timeouts.set(state, None);
        }
        assert_eq!(timeouts, Timeouts::default());
    }
}
