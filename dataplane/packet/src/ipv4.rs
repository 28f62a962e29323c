//! IPv4 headers (RFC 791).

use core::net::Ipv4Addr;

use crate::Malformed;
use crate::checksum::{Delta, checksum, fold};
use crate::field::{put_u16, put_u32, u16_at, u32_at};

const VERSION_IHL: usize = 0;
const TOS: usize = 1;
const TOTAL: usize = 2;
const ID: usize = 4;
const FRAGMENT: usize = 6;
const TTL: usize = 8;
const PROTOCOL: usize = 9;
const CHECKSUM: usize = 10;
const SRC: usize = 12;
const DST: usize = 16;

/// Length of a header without options.
pub const HEADER: usize = 20;

/// Protocol number of ICMP.
pub const ICMP: u8 = 1;
/// Protocol number of IPv4 in IP.
pub const IPIP: u8 = 4;
/// Protocol number of TCP.
pub const TCP: u8 = 6;
/// Protocol number of UDP.
pub const UDP: u8 = 17;
/// Protocol number of encapsulating security payload.
pub const ESP: u8 = 50;
/// Protocol number of the authentication header.
pub const AH: u8 = 51;
/// Protocol number of SCTP.
pub const SCTP: u8 = 132;

/// The flag "don't fragment" in the fragment field.
pub const DF: u16 = 0x4000;
/// The flag "more fragments" in the fragment field.
pub const MF: u16 = 0x2000;
/// The offset bits of the fragment field, in units of eight bytes.
pub const OFFSET: u16 = 0x1fff;

/// A packet; the bytes begin with its header.
#[derive(Clone, Copy, Debug)]
pub struct Packet<T> {
    bytes: T,
}

impl<T: AsRef<[u8]>> Packet<T> {
    /// Checks version, header length and that the total length lies between the two ends.
    #[inline]
    pub fn new_checked(bytes: T) -> Result<Packet<T>, Malformed> {
        let b = bytes.as_ref();
        if b.len() < HEADER || b[VERSION_IHL] >> 4 != 4 {
            return Err(Malformed);
        }
        let header = usize::from(b[VERSION_IHL] & 15) * 4;
        let total = usize::from(u16_at(b, TOTAL));
        if header < HEADER || total < header || b.len() < total {
            return Err(Malformed);
        }
        Ok(Packet { bytes })
    }

    /// Checks only that the header, options included, is there: for headers quoted by ICMP, whose packet is cut.
    /// The version is not judged: IPVS does not either.
    #[inline]
    pub fn new_quoted(bytes: T) -> Result<Packet<T>, Malformed> {
        let b = bytes.as_ref();
        if b.len() < HEADER {
            return Err(Malformed);
        }
        let header = usize::from(b[VERSION_IHL] & 15) * 4;
        if header < HEADER || b.len() < header {
            return Err(Malformed);
        }
        Ok(Packet { bytes })
    }

    /// Header length in bytes, options included.
    #[inline]
    pub fn header_len(&self) -> usize {
        usize::from(self.bytes.as_ref()[VERSION_IHL] & 15) * 4
    }

    /// Type of service: DSCP and ECN.
    #[inline]
    pub fn tos(&self) -> u8 {
        self.bytes.as_ref()[TOS]
    }

    /// Length of header and payload in bytes.
    #[inline]
    pub fn total_len(&self) -> u16 {
        u16_at(self.bytes.as_ref(), TOTAL)
    }

    /// Identification.
    #[inline]
    pub fn id(&self) -> u16 {
        u16_at(self.bytes.as_ref(), ID)
    }

    /// Flags and offset: [`DF`], [`MF`], [`OFFSET`].
    #[inline]
    pub fn fragment(&self) -> u16 {
        u16_at(self.bytes.as_ref(), FRAGMENT)
    }

    /// Whether the packet is a fragment, first or later.
    #[inline]
    pub fn is_fragment(&self) -> bool {
        self.fragment() & (MF | OFFSET) != 0
    }

    /// Whether the packet must not be fragmented.
    #[inline]
    pub fn dont_fragment(&self) -> bool {
        self.fragment() & DF != 0
    }

    /// Time to live.
    #[inline]
    pub fn ttl(&self) -> u8 {
        self.bytes.as_ref()[TTL]
    }

    /// Protocol of the payload.
    #[inline]
    pub fn protocol(&self) -> u8 {
        self.bytes.as_ref()[PROTOCOL]
    }

    /// Header checksum.
    #[inline]
    pub fn checksum(&self) -> u16 {
        u16_at(self.bytes.as_ref(), CHECKSUM)
    }

    /// Whether the header checksum is right.
    #[inline]
    pub fn checksum_ok(&self) -> bool {
        checksum(&self.bytes.as_ref()[..self.header_len()]) == 0
    }

    /// Source address.
    #[inline]
    pub fn src(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(u32_at(self.bytes.as_ref(), SRC))
    }

    /// Destination address.
    #[inline]
    pub fn dst(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(u32_at(self.bytes.as_ref(), DST))
    }

    /// The options, padding included.
    #[inline]
    pub fn options(&self) -> &[u8] {
        &self.bytes.as_ref()[HEADER..self.header_len()]
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Packet<T> {
    /// Sets the source address and mends the header checksum; gives the change for the transport checksum.
    #[inline]
    pub fn set_src(&mut self, address: Ipv4Addr) -> Delta {
        self.set_address(SRC, address)
    }

    /// Sets the destination address and mends the header checksum; gives the change for the transport checksum.
    #[inline]
    pub fn set_dst(&mut self, address: Ipv4Addr) -> Delta {
        self.set_address(DST, address)
    }

    #[inline]
    fn set_address(&mut self, at: usize, address: Ipv4Addr) -> Delta {
        let old = u32_at(self.bytes.as_ref(), at);
        let delta = Delta::default().double(old, address.to_bits());
        put_u32(self.bytes.as_mut(), at, address.to_bits());
        self.mend(delta);
        delta
    }

    /// Allows fragmentation and mends the header checksum.
    #[inline]
    pub fn clear_dont_fragment(&mut self) {
        self.set_fragment(self.total_len(), self.fragment() & !DF);
    }

    /// Sets the TTL and mends the header checksum.
    #[inline]
    pub fn set_ttl(&mut self, ttl: u8) {
        let old = u16_at(self.bytes.as_ref(), TTL);
        let new = (u16::from(ttl) << 8) | (old & 0xff);
        put_u16(self.bytes.as_mut(), TTL, new);
        self.mend(Delta::default().word(old, new));
    }

    /// Takes one off the TTL, which is not 0, and mends the header checksum.
    #[inline]
    pub fn decrement_ttl(&mut self) {
        let old = u16_at(self.bytes.as_ref(), TTL);
        let new = old.wrapping_sub(0x0100);
        put_u16(self.bytes.as_mut(), TTL, new);
        self.mend(Delta::default().word(old, new));
    }

    /// Sets total length and fragment field and mends the header checksum.
    #[inline]
    pub fn set_fragment(&mut self, total: u16, fragment: u16) {
        let delta = Delta::default().word(self.total_len(), total).word(self.fragment(), fragment);
        put_u16(self.bytes.as_mut(), TOTAL, total);
        put_u16(self.bytes.as_mut(), FRAGMENT, fragment);
        self.mend(delta);
    }

    /// Computes the header checksum anew.
    #[inline]
    pub fn fill_checksum(&mut self) {
        let header = self.header_len();
        let bytes = self.bytes.as_mut();
        put_u16(bytes, CHECKSUM, 0);
        let sum = checksum(&bytes[..header]);
        put_u16(bytes, CHECKSUM, sum);
    }

    #[inline]
    fn mend(&mut self, delta: Delta) {
        let sum = delta.apply(self.checksum());
        put_u16(self.bytes.as_mut(), CHECKSUM, sum);
    }
}

/// A header without options, to be written.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// Type of service.
    pub tos: u8,
    /// Length of header and payload in bytes.
    pub total_len: u16,
    /// Identification.
    pub id: u16,
    /// Flags and offset.
    pub fragment: u16,
    /// Time to live.
    pub ttl: u8,
    /// Protocol of the payload.
    pub protocol: u8,
    /// Source address.
    pub src: Ipv4Addr,
    /// Destination address.
    pub dst: Ipv4Addr,
}

impl Header {
    /// Writes the header with its checksum into the first [`HEADER`] of `bytes`.
    #[inline]
    pub fn emit(&self, bytes: &mut [u8]) {
        let bytes = &mut bytes[..HEADER];
        let first = 0x45 << 56
            | u64::from(self.tos) << 48
            | u64::from(self.total_len) << 32
            | u64::from(self.id) << 16
            | u64::from(self.fragment);
        let (first, kind) = (first.to_be_bytes(), [self.ttl, self.protocol]);
        let (src, dst) = (self.src.octets(), self.dst.octets());
        // As checksums add, words may be of any length, in any order of bytes (RFC 1071).
        let rest = u64::from(u16::from_ne_bytes(kind))
            + u64::from(u32::from_ne_bytes(src))
            + u64::from(u32::from_ne_bytes(dst));
        let (sum, carry) = u64::from_ne_bytes(first).overflowing_add(rest);
        let checksum = !fold(sum + u64::from(carry));
        bytes[..8].copy_from_slice(&first);
        bytes[8..CHECKSUM].copy_from_slice(&kind);
        bytes[CHECKSUM..SRC].copy_from_slice(&checksum.to_ne_bytes());
        bytes[SRC..DST].copy_from_slice(&src);
        bytes[DST..].copy_from_slice(&dst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> [u8; 40] {
        let mut bytes = [0u8; 40];
        Header {
            tos: 0x2b,
            total_len: 40,
            id: 0x1234,
            fragment: DF,
            ttl: 64,
            protocol: TCP,
            src: Ipv4Addr::new(10, 0, 0, 2),
            dst: Ipv4Addr::new(10, 0, 0, 100),
        }
        .emit(&mut bytes);
        bytes
    }

    #[test]
    fn setters_keep_the_checksum_right() {
        let mut bytes = header();
        let mut packet = Packet::new_checked(&mut bytes[..]).unwrap();
        assert!(packet.checksum_ok());
        packet.set_dst(Ipv4Addr::new(255, 255, 255, 255));
        packet.set_src(Ipv4Addr::new(0, 0, 0, 0));
        packet.decrement_ttl();
        packet.set_fragment(36, MF | 7);
        assert!(packet.checksum_ok());
        assert_eq!((packet.ttl(), packet.total_len(), packet.is_fragment()), (63, 36, true));
    }

    #[test]
    fn contradictory_lengths_are_malformed() {
        let good = header();
        assert!(Packet::new_checked(&good[..39]).is_err());
        assert!(Packet::new_quoted(&good[..20]).is_ok());
        for (at, value) in [(0, 0x65), (0, 0x44), (0, 0x4f), (3, 19)] {
            let mut bad = good;
            bad[at] = value;
            assert!(Packet::new_checked(&bad[..]).is_err(), "byte {at} = {value:#x}");
        }
    }
}
