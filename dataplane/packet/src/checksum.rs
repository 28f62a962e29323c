//! The Internet checksum: whole, with pseudo-header, and updated in place (RFC 1071, RFC 1624).

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// One's-complement sum of `bytes` as big-endian 16-bit words, an odd last byte padded with zero; not folded.
#[inline]
pub fn sum(bytes: &[u8]) -> u64 {
    let mut total = 0u64;
    let mut words = bytes.chunks_exact(4);
    for word in &mut words {
        total += u64::from(u32::from_be_bytes([word[0], word[1], word[2], word[3]]));
    }
    match *words.remainder() {
        [a] => total + (u64::from(a) << 24),
        [a, b] => total + (u64::from(u16::from_be_bytes([a, b])) << 16),
        [a, b, c] => total + u64::from(u32::from_be_bytes([a, b, c, 0])),
        _ => total,
    }
}

/// Folds a sum to 16 bits.
#[inline]
pub fn fold(sum: u64) -> u16 {
    let (sum, carry) = ((sum >> 32) as u32).overflowing_add(sum as u32);
    let sum = sum + u32::from(carry);
    let (sum, carry) = ((sum >> 16) as u16).overflowing_add(sum as u16);
    sum + u16::from(carry)
}

/// The checksum of `bytes`: what to put into a field that is zero in them. Zero when it is there and right.
#[inline]
pub fn checksum(bytes: &[u8]) -> u16 {
    !fold(sum(bytes))
}

/// Sum of the IPv4 pseudo-header of TCP and UDP.
#[inline]
pub fn pseudo_header(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, length: u16) -> u64 {
    u64::from(src.to_bits()) + u64::from(dst.to_bits()) + u64::from(protocol) + u64::from(length)
}

/// Sum of the pseudo-header of IPv6 (RFC 8200, 8.1).
#[inline]
pub fn pseudo_header6(src: Ipv6Addr, dst: Ipv6Addr, protocol: u8, length: u32) -> u64 {
    sum(&src.octets()) + sum(&dst.octets()) + u64::from(protocol) + u64::from(length)
}

/// Sum of the pseudo-header of either family; a length of IPv4 fits 16 bits.
#[inline]
pub fn pseudo_header_of(src: IpAddr, dst: IpAddr, protocol: u8, length: usize) -> u64 {
    let address = |address: IpAddr| match address {
        IpAddr::V4(address) => u64::from(address.to_bits()),
        IpAddr::V6(address) => sum(&address.octets()),
    };
    address(src) + address(dst) + u64::from(protocol) + length as u64
}

/// A change of checksummed bytes, to be applied to checksums that cover them (RFC 1624, eq. 3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delta(u64);

impl Delta {
    /// Adds the change of a 16-bit word.
    #[inline]
    #[must_use]
    pub fn word(self, old: u16, new: u16) -> Delta {
        Delta(self.0 + u64::from(!old) + u64::from(new))
    }

    /// Adds the change of a 32-bit field that starts at an even offset.
    #[inline]
    #[must_use]
    pub fn double(self, old: u32, new: u32) -> Delta {
        Delta(self.0 + u64::from(!old) + u64::from(new))
    }

    /// Adds the change of bytes that begin at offset `at` of what is summed; both have one length.
    #[inline]
    #[must_use]
    pub fn bytes(self, at: usize, old: &[u8], new: &[u8]) -> Delta {
        let pairs = old.iter().zip(new).enumerate();
        pairs.fold(self, |delta, (nth, (&old, &new))| {
            let shift = if (at + nth).is_multiple_of(2) { 8 } else { 0 };
            delta.word(u16::from(old) << shift, u16::from(new) << shift)
        })
    }

    /// Adds bytes that were not there, at offset `at` of what is summed.
    #[inline]
    #[must_use]
    pub fn added(self, at: usize, new: &[u8]) -> Delta {
        let sum = fold(sum(new));
        Delta(self.0 + u64::from(if at.is_multiple_of(2) { sum } else { sum.swap_bytes() }))
    }

    /// Takes off bytes that are there no more, from offset `at` of what is summed.
    #[inline]
    #[must_use]
    pub fn removed(self, at: usize, old: &[u8]) -> Delta {
        let sum = fold(sum(old));
        Delta(self.0 + u64::from(!if at.is_multiple_of(2) { sum } else { sum.swap_bytes() }))
    }

    /// Adds the change of an IPv4 address.
    #[inline]
    #[must_use]
    pub fn address(self, old: Ipv4Addr, new: Ipv4Addr) -> Delta {
        self.double(old.to_bits(), new.to_bits())
    }

    /// Adds another change.
    #[inline]
    #[must_use]
    pub fn and(self, other: Delta) -> Delta {
        Delta(self.0 + other.0)
    }

    /// The checksum after the change.
    #[inline]
    #[must_use]
    pub fn apply(self, checksum: u16) -> u16 {
        !fold(self.0 + u64::from(!checksum))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 1071's own definition: word by word.
    fn plain(bytes: &[u8]) -> u16 {
        let mut total = 0u32;
        for pair in bytes.chunks(2) {
            total += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
            total = (total & 0xffff) + (total >> 16);
        }
        !(total as u16)
    }

    #[test]
    fn agrees_with_the_definition_at_every_length() {
        let bytes: [u8; 67] = core::array::from_fn(|i| (i * 37 + 11) as u8);
        for len in 0..bytes.len() {
            assert_eq!(checksum(&bytes[..len]), plain(&bytes[..len]), "length {len}");
        }
        assert_eq!(checksum(&[0xff; 64]), plain(&[0xff; 64]));
    }

    #[test]
    fn an_update_equals_a_new_sum() {
        let mut bytes: [u8; 20] = core::array::from_fn(|i| (i * 71 + 3) as u8);
        bytes[10] = 0;
        bytes[11] = 0;
        let before = checksum(&bytes);
        let old_word = u16::from_be_bytes([bytes[2], bytes[3]]);
        let old_double = u32::from_be_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]);
        bytes[2..4].copy_from_slice(&0xbeefu16.to_be_bytes());
        bytes[12..16].copy_from_slice(&0x0a01_000bu32.to_be_bytes());
        let delta = Delta::default().word(old_word, 0xbeef).double(old_double, 0x0a01_000b);
        assert_eq!(delta.apply(before), checksum(&bytes));
    }

    #[test]
    fn bytes_may_change_come_and_go_at_any_offset() {
        let bytes: [u8; 40] = core::array::from_fn(|i| (i * 53 + 7) as u8);
        for at in 0..20 {
            for len in 1..9 {
                let new = [0xd7; 9];
                let mut changed = bytes;
                changed[at..at + len].copy_from_slice(&new[..len]);
                let delta = Delta::default().bytes(at, &bytes[at..at + len], &new[..len]);
                assert_eq!(delta.apply(checksum(&bytes)), checksum(&changed), "{len} bytes at {at}");
                let tail = Delta::default().removed(at, &bytes[at..]).added(at, &new[..len]);
                changed[at + len..].fill(0);
                assert_eq!(tail.apply(checksum(&bytes)), checksum(&changed), "{len} bytes at {at}, last");
            }
        }
    }

    #[test]
    fn a_wrong_sum_stays_wrong_by_the_same_amount() {
        let delta = Delta::default().word(1, 2);
        assert_eq!(delta.apply(0x1234), 0x1233);
    }
}
