//! In what a session and a packet have to agree for the short way, in one word, so that one comparison tells.
//!
//! Of a session these are its protocol, method and state, and, as far as that is remembered, by which interfaces its packets
//! come and in which era that was. A packet's terms say what all that has to be.

use fulcrum_packet::ipv4;

use super::{Direction, State, sctp, tcp};
use crate::snapshot::Forward;

/// Protocol, method, state, era and interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Terms(u64);

/// Places of the interfaces, by direction, a byte each.
const INTERFACES: [u32; 2] = [0, 8];
const PROTOCOL: u32 = 16;
/// Six bits.
const STATE: u32 = 24;
/// The forwarding method, two bits.
const METHOD: u32 = 30;
const ERA: u32 = 32;
/// Of a session whose addresses are not all of IPv4.
const WIDE: u64 = 1 << 63;

/// How many eras there are before they begin anew; none is 0.
pub(crate) const ERAS: u32 = 1 << (u64::BITS - 1 - ERA);

/// By code.
const STATES: [State; 64] = {
    let mut states = [State::Udp; 64];
    let mut at = 0;
    while at < tcp::State::ALL.len() {
        states[at] = State::Tcp(tcp::State::ALL[at]);
        at += 1;
    }
    let mut at = 0;
    while at < sctp::State::ALL.len() {
        states[SCTP as usize + at] = State::Sctp(sctp::State::ALL[at]);
        at += 1;
    }
    states[ONE_PACKET as usize] = State::OnePacket;
    states[TEMPLATE as usize] = State::Template { assured: false };
    states[ASSURED as usize] = State::Template { assured: true };
    states
};
const SCTP: u8 = 16;
const UDP: u8 = 32;
const ONE_PACKET: u8 = 33;
const TEMPLATE: u8 = 34;
const ASSURED: u8 = 35;

const fn code(state: State) -> u8 {
    match state {
        State::Tcp(state) => state as u8,
        State::Sctp(state) => SCTP + state as u8,
        State::Udp => UDP,
        State::OnePacket => ONE_PACKET,
        State::Template { assured: false } => TEMPLATE,
        State::Template { assured: true } => ASSURED,
    }
}

const fn kind(protocol: u8, state: State) -> u64 {
    (protocol as u64) << PROTOCOL | (code(state) as u64) << STATE
}

impl Terms {
    /// Of a new session.
    pub(super) fn new(protocol: u8, forward: Forward, state: State) -> Terms {
        Terms(kind(protocol, state)).of_method(forward)
    }

    /// What a packet that comes by an interface expects, but for its kind.
    #[inline]
    pub(crate) fn expected(era: u32, interface: u8) -> Terms {
        let interfaces = INTERFACES.map(|at| u64::from(interface) << at);
        Terms(u64::from(era) << ERA | interfaces[0] | interfaces[1])
    }

    /// Of a segment in a session that both ends have agreed on.
    #[inline(always)]
    pub(crate) fn of_tcp(self) -> Terms {
        const ESTABLISHED: u64 = kind(ipv4::TCP, State::Tcp(tcp::State::Established));
        Terms(self.0 | ESTABLISHED)
    }

    /// Of a datagram.
    #[inline(always)]
    pub(crate) fn of_udp(self) -> Terms {
        const DATAGRAM: u64 = kind(ipv4::UDP, State::Udp);
        Terms(self.0 | DATAGRAM)
    }

    /// Of a packet that is forwarded by a method.
    #[inline(always)]
    pub(crate) fn of_method(self, forward: Forward) -> Terms {
        Terms(self.0 | (forward as u64) << METHOD)
    }

    #[inline(always)]
    pub(crate) fn method(self) -> Forward {
        match self.0 >> METHOD & 0b11 {
            0 => Forward::Nat,
            1 => Forward::FullNat,
            2 => Forward::Dr,
            _ => Forward::Tun,
        }
    }

    /// Of a packet of IPv6.
    #[inline(always)]
    pub(crate) fn of_v6(self) -> Terms {
        Terms(self.0 | WIDE)
    }

    /// Whether packets in a direction meet a session's terms.
    #[inline(always)]
    pub(crate) fn meet(self, session: Terms, direction: Direction) -> bool {
        let other = match direction {
            Direction::In => Direction::Out,
            Direction::Out => Direction::In,
        };
        (self.0 ^ session.0) & !(0xff << INTERFACES[other as usize]) == 0
    }

    #[inline(always)]
    pub(crate) fn protocol(self) -> u8 {
        (self.0 >> PROTOCOL) as u8
    }

    #[inline]
    pub(super) fn state(self) -> State {
        STATES[usize::from((self.0 >> STATE) as u8) % STATES.len()]
    }

    pub(super) fn set_state(&mut self, state: State) {
        let states = STATES.len() as u64 - 1;
        self.0 = self.0 & !(states << STATE) | u64::from(code(state)) << STATE;
    }

    pub(super) fn set_wide(&mut self) {
        self.0 |= WIDE;
    }

    #[inline]
    pub(super) fn is_wide(self) -> bool {
        self.0 & WIDE != 0
    }

    /// The era in which the interfaces were remembered; 0 when they never were.
    #[inline]
    pub(super) fn era(self) -> u32 {
        (self.0 >> ERA) as u32 % ERAS
    }

    pub(super) fn set_era(&mut self, era: u32) {
        self.0 = self.0 & (WIDE | !(!0 << ERA)) | u64::from(era) << ERA;
    }

    #[inline]
    pub(crate) fn interface(self, direction: Direction) -> u8 {
        (self.0 >> INTERFACES[direction as usize]) as u8
    }

    pub(super) fn set_interface(&mut self, direction: Direction, interface: u8) {
        self.set_byte(INTERFACES[direction as usize], interface);
    }

    fn set_byte(&mut self, at: u32, byte: u8) {
        self.0 = self.0 & !(0xff << at) | u64::from(byte) << at;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_is_kept() {
        let all =
            tcp::State::ALL.map(State::Tcp).into_iter().chain(sctp::State::ALL.map(State::Sctp)).chain([
                State::Udp,
                State::OnePacket,
                State::Template { assured: false },
                State::Template { assured: true },
            ]);
        for state in all {
            let mut terms = Terms::new(ipv4::TCP, Forward::Tun, State::Udp);
            terms.set_wide();
            terms.set_era(ERAS - 1);
            terms.set_state(state);
            assert_eq!((terms.state(), terms.method()), (state, Forward::Tun));
            assert_eq!((terms.protocol(), terms.era(), terms.is_wide()), (ipv4::TCP, ERAS - 1, true));
        }
    }

    #[test]
    fn all_of_it_has_to_agree_but_the_other_direction() {
        let mut session = Terms::new(ipv4::TCP, Forward::Nat, State::Tcp(tcp::State::Established));
        session.set_era(7);
        session.set_interface(Direction::In, 3);
        session.set_interface(Direction::Out, 4);
        let expected = Terms::expected;
        let meets = |terms: Terms, direction| terms.meet(session, direction);
        assert!(meets(expected(7, 3).of_tcp(), Direction::In));
        assert!(meets(expected(7, 4).of_tcp(), Direction::Out));
        assert!(!meets(expected(7, 4).of_tcp(), Direction::In));
        assert!(!meets(expected(7, 3).of_tcp(), Direction::Out));
        assert!(!meets(expected(8, 3).of_tcp(), Direction::In));
        assert!(!meets(expected(7, 3).of_udp(), Direction::In));
        assert!(!meets(expected(7, 3).of_tcp().of_v6(), Direction::In));
        assert!(!meets(expected(7, 3).of_tcp().of_method(Forward::Dr), Direction::In));
        session.set_state(State::Tcp(tcp::State::FinWait));
        assert!(!expected(7, 3).of_tcp().meet(session, Direction::In));
    }
}
