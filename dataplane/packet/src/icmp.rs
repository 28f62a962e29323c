//! ICMP headers (RFC 792), which ICMPv6 shares but for types and sums ([`icmpv6`](crate::icmpv6)).

use crate::Malformed;
use crate::checksum::{Delta, checksum};
use crate::field::{put_u16, put_u32, u16_at, u32_at};

const TYPE: usize = 0;
const CODE: usize = 1;
pub(crate) const CHECKSUM: usize = 2;
const REST: usize = 4;

/// Length of the header.
pub const HEADER: usize = 8;

/// Type: echo reply.
pub const ECHO_REPLY: u8 = 0;
/// Type: destination unreachable.
pub const UNREACHABLE: u8 = 3;
/// Type: source quench.
pub const SOURCE_QUENCH: u8 = 4;
/// Type: redirect.
pub const REDIRECT: u8 = 5;
/// Type: echo request.
pub const ECHO_REQUEST: u8 = 8;
/// Type: time exceeded.
pub const TIME_EXCEEDED: u8 = 11;
/// Type: parameter problem.
pub const PARAMETER_PROBLEM: u8 = 12;
/// Type: time-stamp request.
pub const TIMESTAMP_REQUEST: u8 = 13;
/// Type: time-stamp reply.
pub const TIMESTAMP_REPLY: u8 = 14;

/// Code of [`UNREACHABLE`]: host.
pub const HOST_UNREACHABLE: u8 = 1;
/// Code of [`UNREACHABLE`]: protocol.
pub const PROTOCOL_UNREACHABLE: u8 = 2;
/// Code of [`UNREACHABLE`]: port.
pub const PORT_UNREACHABLE: u8 = 3;
/// Code of [`UNREACHABLE`]: fragmentation needed.
pub const FRAGMENTATION_NEEDED: u8 = 4;

/// Whether a type reports an error about a packet that it quotes.
#[inline]
pub fn is_error(kind: u8) -> bool {
    matches!(kind, UNREACHABLE | SOURCE_QUENCH | REDIRECT | TIME_EXCEEDED | PARAMETER_PROBLEM)
}

/// A message, payload included.
#[derive(Clone, Copy, Debug)]
pub struct Message<T> {
    bytes: T,
}

impl<T: AsRef<[u8]>> Message<T> {
    /// Checks that the header is there.
    #[inline]
    pub fn new_checked(bytes: T) -> Result<Message<T>, Malformed> {
        if bytes.as_ref().len() < HEADER { Err(Malformed) } else { Ok(Message { bytes }) }
    }

    /// Type.
    #[inline]
    pub fn kind(&self) -> u8 {
        self.bytes.as_ref()[TYPE]
    }

    /// Code.
    #[inline]
    pub fn code(&self) -> u8 {
        self.bytes.as_ref()[CODE]
    }

    /// Checksum.
    #[inline]
    pub fn checksum(&self) -> u16 {
        u16_at(self.bytes.as_ref(), CHECKSUM)
    }

    /// Whether the checksum over the whole message is right, as IPv4 has it.
    #[inline]
    pub fn checksum_ok(&self) -> bool {
        checksum(self.bytes.as_ref()) == 0
    }

    /// The header's last four bytes: identifier and sequence number, MTU, pointer.
    #[inline]
    pub fn rest(&self) -> u32 {
        u32_at(self.bytes.as_ref(), REST)
    }

    /// What follows the header: of an error, the quoted packet.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.bytes.as_ref()[HEADER..]
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Message<T> {
    /// Sets the type and mends the checksum. An echo request whose ends are exchanged is its own reply then.
    #[inline]
    pub fn set_kind(&mut self, kind: u8) {
        let old = u16_at(self.bytes.as_ref(), TYPE);
        let new = (u16::from(kind) << 8) | (old & 0xff);
        put_u16(self.bytes.as_mut(), TYPE, new);
        let sum = Delta::default().word(old, new).apply(self.checksum());
        put_u16(self.bytes.as_mut(), CHECKSUM, sum);
    }

    /// Sets the identifier of an echo; gives what that does to the checksum, which stays as it is.
    #[inline]
    pub fn set_identifier(&mut self, identifier: u16) -> Delta {
        let old = u16_at(self.bytes.as_ref(), REST);
        put_u16(self.bytes.as_mut(), REST, identifier);
        Delta::default().word(old, identifier)
    }

    /// What follows the header, to be changed.
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        &mut self.bytes.as_mut()[HEADER..]
    }

    /// Sets the checksum.
    #[inline]
    pub fn set_checksum(&mut self, sum: u16) {
        put_u16(self.bytes.as_mut(), CHECKSUM, sum);
    }

    /// Computes the checksum anew, as IPv4 has it.
    #[inline]
    pub fn fill_checksum(&mut self) {
        put_u16(self.bytes.as_mut(), CHECKSUM, 0);
        let sum = checksum(self.bytes.as_ref());
        put_u16(self.bytes.as_mut(), CHECKSUM, sum);
    }
}

/// Writes a header with checksum 0 into the first [`HEADER`] of `bytes`.
pub fn emit(bytes: &mut [u8], kind: u8, code: u8, rest: u32) {
    bytes[TYPE] = kind;
    bytes[CODE] = code;
    put_u16(bytes, CHECKSUM, 0);
    put_u32(bytes, REST, rest);
}
