//! What is done to a plain packet's bytes: one hop less to live, other addresses and ports, checksums by deltas.
//! `Packet`s are slices from the IP header on, whose headers have been read by `glance`.

use std::net::IpAddr;

use fulcrum_packet::checksum::fold;
use fulcrum_packet::{ipv4, ipv6, tcp, udp};

use crate::session::Narrow;

/// By how much a session changes checksums on the way to its server; the other way it is the opposite. As checksums
/// stand in headers, whatever the machine's order of bytes: sums may be made in any (RFC 1071, 2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Deltas {
    /// Of the IPv4 header.
    pub(crate) header: u16,
    /// Of TCP or UDP.
    pub(crate) upper: u16,
}

/// What is added to the complement of a checksum; never zero, so that sums keep the form in which RFC 1624's never
/// give the other zero.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change {
    header: u32,
    upper: u32,
    number: Number,
    offset: u32,
}

/// Which number of TCP's is another on the other side, by its place in the header.
#[derive(Clone, Copy, Debug)]
enum Number {
    Sequence = 4,
    Acknowledgment = 8,
}

impl Deltas {
    /// Of a source and a destination that are replaced by others.
    pub(crate) fn between(old: (End, End), new: (End, End)) -> Deltas {
        let addresses = |(src, dst): (End, End)| halves(src.0) + halves(dst.0);
        let ports = |(src, dst): (End, End)| u64::from(src.1) + u64::from(dst.1);
        // The complement of a sum of sixteen halves is the sum of sixteen complements.
        let header = 16 * 0xffff - addresses(old) + addresses(new);
        let upper = header + 2 * 0xffff - ports(old) + ports(new);
        Deltas { header: fold(header).to_be(), upper: fold(upper).to_be() }
    }

    /// The same of IPv4.
    #[inline]
    pub(crate) fn between_v4(old: Narrow, new: Narrow) -> Deltas {
        // Sums of halves are sums of words of any even length, in any order of bytes (RFC 1071).
        let addresses = |ends: Narrow| {
            let both = u64::from_ne_bytes(ends.addresses());
            (both >> 32) + (both & 0xffff_ffff)
        };
        let ports = |ends: Narrow| u64::from(u32::from_ne_bytes(ends.ports()));
        let header = 2 * u64::from(u32::MAX) - addresses(old) + addresses(new);
        let upper = header + u64::from(u32::MAX) - ports(old) + ports(new);
        Deltas { header: fold(header), upper: fold(upper) }
    }

    /// What changes on the way to the server, when its numbers are `offset` ahead of the client's.
    #[inline(always)]
    pub(super) fn to_server(self, offset: u32) -> Change {
        Change { header: self.header.into(), upper: self.upper.into(), number: Number::Sequence, offset }
    }

    /// What changes on the way back.
    #[inline(always)]
    pub(super) fn to_client(self, offset: u32) -> Change {
        let opposite = |delta: u16| 0xffff + u32::from(!delta);
        let (header, upper) = (opposite(self.header), opposite(self.upper));
        Change { header, upper, number: Number::Acknowledgment, offset: offset.wrapping_neg() }
    }
}

/// An address and a port.
type End = (IpAddr, u16);

fn halves(address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(address) => u64::from(address.to_bits() >> 16) + u64::from(address.to_bits() as u16),
        IpAddr::V6(address) => (0..8).map(|half| u64::from((address.to_bits() >> (16 * half)) as u16)).sum(),
    }
}

/// What an IPv4 header's checksum changes by when its TTL is one less (RFC 1141).
const TTL: u32 = 0xfeff_u16.to_be() as u32;

/// Adds a change, of at most sixteen sums, to the checksum at `at`; gives the new one.
#[inline(always)]
fn mend<const N: usize>(head: &mut [u8; N], at: usize, change: u32) -> u16 {
    let old = u16::from_ne_bytes([head[at], head[at + 1]]);
    let total = u32::from(!old) + change;
    // The upper half is the sum of both halves and of what that carries.
    let new = !((total.wrapping_add(total.rotate_left(16))) >> 16) as u16;
    head[at..at + 2].copy_from_slice(&new.to_ne_bytes());
    new
}

/// One hop less of a packet.
#[inline(always)]
pub(super) fn route<const V6: bool>(packet: &mut [u8]) {
    if V6 {
        let Some(head) = packet.first_chunk_mut::<{ ipv6::HEADER }>() else { return };
        head[7] -= 1;
    } else {
        let Some(head) = packet.first_chunk_mut::<{ ipv4::HEADER }>() else { return };
        head[8] -= 1;
        mend(head, 10, TTL);
    }
}

/// One hop less, and other ends, of an IPv4 packet; behind a datagram's header there are at least as many bytes as a
/// segment's has, be it padding.
#[inline(always)]
pub(super) fn rewrite_v4(packet: &mut [u8], is_tcp: bool, ends: Narrow, change: Change) {
    let Some(head) = packet.first_chunk_mut::<{ ipv4::HEADER + tcp::HEADER }>() else { return };
    head[8] -= 1;
    mend(head, 10, TTL + change.header);
    head[12..20].copy_from_slice(&ends.addresses());
    rewrite_upper(&mut head[ipv4::HEADER..], is_tcp, ends.ports(), change);
}

/// One hop less, and other ends, of an IPv6 packet.
#[inline(always)]
pub(super) fn rewrite_v6(
    packet: &mut [u8],
    is_tcp: bool,
    src: (u128, u16),
    dst: (u128, u16),
    change: Change,
) {
    let Some(head) = packet.first_chunk_mut::<{ ipv6::HEADER + tcp::HEADER }>() else { return };
    head[7] -= 1;
    head[8..24].copy_from_slice(&src.0.to_be_bytes());
    head[24..40].copy_from_slice(&dst.0.to_be_bytes());
    rewrite_upper(&mut head[ipv6::HEADER..], is_tcp, Narrow::new((0, src.1), (0, dst.1)).ports(), change);
}

#[inline(always)]
fn rewrite_upper(upper: &mut [u8], is_tcp: bool, ports: [u8; 4], change: Change) {
    if is_tcp {
        let Some(head) = upper.first_chunk_mut::<{ tcp::HEADER }>() else { return };
        head[..4].copy_from_slice(&ports);
        let renumbered = match change.offset {
            0 => 0,
            by => renumber(head, change.number, by),
        };
        mend(head, 16, change.upper + renumbered);
    } else {
        let Some(head) = upper.first_chunk_mut::<{ udp::HEADER }>() else { return };
        head[..4].copy_from_slice(&ports);
        if mend(head, 6, change.upper) == 0 {
            head[6..].fill(0xff);
        }
    }
}

/// Adds to a number of TCP's; gives what that changes in sums.
#[inline(always)]
fn renumber(head: &mut [u8; tcp::HEADER], number: Number, by: u32) -> u32 {
    let at = number as usize;
    let Some(number) = head.get_mut(at..at + 4).and_then(|number| number.first_chunk_mut::<4>()) else {
        return 0;
    };
    let (new, wraps) = u32::from_be_bytes(*number).overflowing_add(by);
    *number = new.to_be_bytes();
    // Sums are remainders by 2^16 - 1, of which 2^32 leaves one: what wraps has lost one.
    let by = by.to_be();
    (by >> 16) + (by & 0xffff) + 0xffff - u32::from(u16::from(wraps).to_be())
}

#[cfg(test)]
mod tests {
    use fulcrum_packet::checksum::{Delta, sum};

    use super::*;

    #[test]
    fn numbers_and_checksums_change_together() {
        let numbers =
            [0u32, 1, 0x7fff, 0xffff, 0x0001_0000, 0x8000_0000, 0xffff_0000, 0xffff_fffe, 0xffff_ffff];
        for old in numbers {
            for by in numbers.into_iter().filter(|&by| by != 0) {
                for number in [Number::Sequence, Number::Acknowledgment] {
                    let at = number as usize;
                    let mut head = [0x17; tcp::HEADER];
                    head[at..at + 4].copy_from_slice(&old.to_be_bytes());
                    head[16..18].fill(0);
                    let right = |head: &[u8]| (!fulcrum_packet::checksum::fold(sum(head))).to_be_bytes();
                    let checksum = right(&head);
                    head[16..18].copy_from_slice(&checksum);
                    let change = renumber(&mut head, number, by);
                    mend(&mut head, 16, change);
                    assert_eq!(head[at..at + 4], old.wrapping_add(by).to_be_bytes());
                    let mended = [head[16], head[17]];
                    head[16..18].fill(0);
                    assert_eq!(mended, right(&head), "{old:#x} + {by:#x}");
                }
            }
        }
    }

    #[test]
    fn deltas_agree_with_updates_word_by_word() {
        let numbers = [0u32, 1, 0xffff, 0x0001_0000, 0xffff_ffff, 0xc0a8_1407, 0x0a00_0001];
        for (at, &old) in numbers.iter().enumerate() {
            for &new in &numbers {
                let other = numbers[(at + 3) % numbers.len()];
                let end = |bits: u32, port: u16| (IpAddr::from(bits.to_be_bytes()), port);
                let deltas =
                    Deltas::between((end(old, 1024), end(other, 80)), (end(other, 5000), end(new, 80)));
                let plain = Delta::default().double(old, other).double(other, new);
                let upper = plain.word(1024, 5000).word(80, 80);
                for sum in [0u16, 1, 0x1234, 0xfffe, 0xffff] {
                    let mended = |change| {
                        let mut bytes = sum.to_be_bytes();
                        mend(&mut bytes, 0, change);
                        u16::from_be_bytes(bytes)
                    };
                    assert_eq!(mended(deltas.to_server(0).header), plain.apply(sum));
                    assert_eq!(mended(deltas.to_server(0).upper), upper.apply(sum));
                    let back = Delta::default().double(other, old).double(new, other);
                    assert_eq!(mended(deltas.to_client(0).header), back.apply(sum));
                }
            }
        }
    }
}
