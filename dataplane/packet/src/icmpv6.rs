//! ICMPv6 types, sums and errors (RFC 4443). Headers are [`icmp`](crate::icmp)'s; the messages of neighbour discovery are in
//! [`ndisc`](crate::ndisc).

use core::net::Ipv6Addr;

use crate::checksum::{fold, pseudo_header6, sum};
use crate::field::put_u16;
use crate::icmp::{CHECKSUM, HEADER, emit};
use crate::ipv6;

/// How many bytes of a packet an error about it quotes at most: the whole must fit the smallest MTU (RFC 4443, 2.4 c).
pub const MAX_QUOTE: usize = ipv6::MIN_MTU as usize - ipv6::HEADER - HEADER;

/// Type: destination unreachable.
pub const UNREACHABLE: u8 = 1;
/// Type: packet too big.
pub const PACKET_TOO_BIG: u8 = 2;
/// Type: time exceeded.
pub const TIME_EXCEEDED: u8 = 3;
/// Type: parameter problem.
pub const PARAMETER_PROBLEM: u8 = 4;
/// Type: echo request.
pub const ECHO_REQUEST: u8 = 128;
/// Type: echo reply.
pub const ECHO_REPLY: u8 = 129;
/// Type: multicast listener query (RFC 2710, 3810).
pub const LISTENER_QUERY: u8 = 130;
/// Type: multicast listener report (RFC 2710).
pub const LISTENER_REPORT: u8 = 131;
/// Type: multicast listener done (RFC 2710).
pub const LISTENER_DONE: u8 = 132;
/// Type: router solicitation (RFC 4861).
pub const ROUTER_SOLICITATION: u8 = 133;
/// Type: router advertisement (RFC 4861).
pub const ROUTER_ADVERTISEMENT: u8 = 134;
/// Type: neighbour solicitation (RFC 4861).
pub const NEIGHBOUR_SOLICITATION: u8 = 135;
/// Type: neighbour advertisement (RFC 4861).
pub const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// Type: redirect (RFC 4861).
pub const REDIRECT: u8 = 137;
/// Type: multicast listener report, version 2 (RFC 3810).
pub const LISTENER_REPORT_2: u8 = 143;

/// Code of [`UNREACHABLE`]: no route.
pub const NO_ROUTE: u8 = 0;
/// Code of [`UNREACHABLE`]: prohibited by the administrator.
pub const PROHIBITED: u8 = 1;
/// Code of [`UNREACHABLE`]: beyond the scope of the source address.
pub const BEYOND_SCOPE: u8 = 2;
/// Code of [`UNREACHABLE`]: address.
pub const ADDRESS_UNREACHABLE: u8 = 3;
/// Code of [`UNREACHABLE`]: port.
pub const PORT_UNREACHABLE: u8 = 4;

/// Code of [`TIME_EXCEEDED`]: hop limit ran out.
pub const HOP_LIMIT_EXCEEDED: u8 = 0;
/// Code of [`TIME_EXCEEDED`]: fragments missing when the time for reassembly was over.
pub const REASSEMBLY_TIMED_OUT: u8 = 1;

/// Code of [`PARAMETER_PROBLEM`]: erroneous header field.
pub const ERRONEOUS_FIELD: u8 = 0;
/// Code of [`PARAMETER_PROBLEM`]: unknown next header.
pub const UNKNOWN_NEXT_HEADER: u8 = 1;
/// Code of [`PARAMETER_PROBLEM`]: unknown option.
pub const UNKNOWN_OPTION: u8 = 2;

/// Whether a type reports an error about a packet that it quotes (RFC 4443, 2.1).
#[inline]
pub fn is_error(kind: u8) -> bool {
    kind < 128
}

/// Computes the checksum of a message whose header is there anew.
pub fn fill_checksum(message: &mut [u8], src: Ipv6Addr, dst: Ipv6Addr) {
    put_u16(message, CHECKSUM, 0);
    let sum = checksum(message, src, dst);
    put_u16(message, CHECKSUM, sum);
}

/// Whether the checksum over a message is right between these addresses.
#[inline]
pub fn checksum_ok(message: &[u8], src: Ipv6Addr, dst: Ipv6Addr) -> bool {
    checksum(message, src, dst) == 0
}

/// The checksum of a message between these addresses: what to put into a field that is zero, or zero when it is there and right.
pub(crate) fn checksum(message: &[u8], src: Ipv6Addr, dst: Ipv6Addr) -> u16 {
    !fold(pseudo_header6(src, dst, ipv6::ICMP, message.len() as u32) + sum(message))
}

/// An error to be reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// Destination unreachable, with its code.
    Unreachable(u8),
    /// Packet too big for a link of this MTU.
    PacketTooBig(u32),
    /// Hop limit ran out.
    TimeExceeded,
    /// Parameter problem.
    ParameterProblem {
        /// Its code.
        code: u8,
        /// Where in the quoted packet it is.
        pointer: u32,
    },
}

impl Error {
    /// Writes header and checksum before the quoted packet, which is in place from [`HEADER`] to the end of
    /// `message`.
    pub fn emit(self, message: &mut [u8], src: Ipv6Addr, dst: Ipv6Addr) {
        let (kind, code, rest) = match self {
            Error::Unreachable(code) => (UNREACHABLE, code, 0),
            Error::PacketTooBig(mtu) => (PACKET_TOO_BIG, 0, mtu),
            Error::TimeExceeded => (TIME_EXCEEDED, HOP_LIMIT_EXCEEDED, 0),
            Error::ParameterProblem { code, pointer } => (PARAMETER_PROBLEM, code, pointer),
        };
        emit(message, kind, code, rest);
        fill_checksum(message, src, dst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::icmp::Message;

    const CLIENT: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
    const VIP: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x100);

    #[test]
    fn the_sum_covers_addresses_length_and_next_header() {
        // fd00::2 to fd00::100, identifier 0x1234, sequence 1, payload "ping".
        let mut bytes = [0u8; 12];
        emit(&mut bytes, ECHO_REQUEST, 0, 0x1234_0001);
        bytes[8..].copy_from_slice(b"ping");
        fill_checksum(&mut bytes, CLIENT, VIP);
        let message = Message::new_checked(&bytes[..]).unwrap();
        // Word by word, as RFC 8200 draws the pseudo-header.
        let plain = 0xfd00u32 + 2 + 0xfd00 + 0x100 + 12 + 58 + 0x8000 + 0x1234 + 1 + 0x7069 + 0x6e67;
        assert_eq!(message.checksum(), !((plain & 0xffff) as u16 + (plain >> 16) as u16));
        assert!(checksum_ok(&bytes, CLIENT, VIP));
        assert!(!checksum_ok(&bytes, CLIENT, CLIENT));
    }

    #[test]
    fn a_request_becomes_its_reply() {
        let mut bytes = [0x5a; 40];
        emit(&mut bytes, ECHO_REQUEST, 0, 7);
        fill_checksum(&mut bytes, CLIENT, VIP);
        let mut message = Message::new_checked(&mut bytes[..]).unwrap();
        message.set_kind(ECHO_REPLY);
        assert_eq!((message.kind(), message.code(), message.rest()), (ECHO_REPLY, 0, 7));
        assert!(checksum_ok(&bytes, VIP, CLIENT));
    }

    #[test]
    fn errors_say_what_they_are_about() {
        for (error, header) in [
            (Error::Unreachable(PORT_UNREACHABLE), (1, 4, 0)),
            (Error::PacketTooBig(1400), (2, 0, 1400)),
            (Error::TimeExceeded, (3, 0, 0)),
            (Error::ParameterProblem { code: UNKNOWN_NEXT_HEADER, pointer: 40 }, (4, 1, 40)),
        ] {
            let mut bytes = [0x33; HEADER + 50];
            error.emit(&mut bytes, VIP, CLIENT);
            let message = Message::new_checked(&bytes[..]).unwrap();
            assert_eq!((message.kind(), message.code(), message.rest()), header);
            assert!(is_error(message.kind()) && checksum_ok(&bytes, VIP, CLIENT));
            assert_eq!(message.payload(), [0x33; 50]);
        }
        assert!(!is_error(ECHO_REQUEST));
        assert!(Message::new_checked(&[0u8; HEADER - 1][..]).is_err());
    }
}
