//! What is done to a plain packet's bytes: one hop less to live, other addresses and ports, checksums by deltas.
//! `Packet`s are slices from the IP header on, whose headers have been read by `glance`.

use std::net::IpAddr;

use fulcrum_packet::checksum::fold;
use fulcrum_packet::{ethernet, ipv4, ipv6, tcp, udp};

use crate::buffer::Buf;
use crate::session::{Broad, Narrow};

/// By how much a session changes checksums on the way to its server; the other way it is the opposite. As checksums
/// stand in headers, whatever the machine's order of bytes: sums may be made in any (RFC 1071, 2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Deltas {
    /// Of the IPv4 header, with a hop less.
    pub(crate) header: u16,
    /// Of TCP or UDP; the session's offset is part of it, as if no number ever wrapped.
    pub(crate) upper: u16,
}

/// What is added to the complement of a checksum; of TCP and UDP never zero, so that sums keep the form in which
/// RFC 1624's never give the other zero.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change {
    header: [u16; 2],
    upper: u16,
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
        Deltas { header: plus(fold(header).to_be(), TTL), upper: fold(upper).to_be() }
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
        Deltas { header: plus(fold(header), TTL), upper: fold(upper) }
    }

    /// The same with another offset.
    #[inline]
    pub(crate) fn shifted(self, from: u32, to: u32) -> Deltas {
        let halves = |offset: u32| u64::from(offset.to_be() >> 16) + u64::from(offset.to_be() & 0xffff);
        Deltas { upper: fold(u64::from(self.upper) + 2 * 0xffff - halves(from) + halves(to)), ..self }
    }

    /// What changes on the way to the server, whose numbers are `offset` ahead of the client's.
    #[inline(always)]
    pub(super) fn to_server(self, offset: u32) -> Change {
        Change { header: [self.header, 0], upper: self.upper, number: Number::Sequence, offset }
    }

    /// What changes on the way back.
    #[inline(always)]
    pub(super) fn to_client(self, offset: u32) -> Change {
        // Also on the way back there is a hop less, not one more.
        const HOPS: u16 = plus(TTL, TTL);
        let upper = if self.upper == 0xffff { 0xffff } else { !self.upper };
        Change { header: [HOPS, !self.header], upper, number: Number::Acknowledgment, offset }
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
const TTL: u16 = 0xfeff_u16.to_be();

/// The sum, as checksums add (RFC 1071): zero only of zeros.
#[inline(always)]
const fn plus(a: u16, b: u16) -> u16 {
    let (sum, carry) = a.overflowing_add(b);
    sum + carry as u16
}

/// The complement of the sum of a number's complement and another.
#[inline(always)]
const fn minus(a: u16, b: u16) -> u16 {
    let (difference, borrow) = a.overflowing_sub(b);
    difference.wrapping_sub(borrow as u16)
}

/// Adds changes to the complement of the checksum at `at`, of which the first is not zero; gives the new one.
#[inline(always)]
fn mend<const N: usize>(head: &mut [u8; N], at: usize, first: u16, second: u16) -> u16 {
    let old = u16::from_ne_bytes([head[at], head[at + 1]]);
    let new = minus(minus(old, first), second);
    head[at..at + 2].copy_from_slice(&new.to_ne_bytes());
    new
}

/// The headers of a frame that begins with a plain Ethernet header, up to that of TCP; behind its packet of so many
/// bytes it is cut off.
#[inline(always)]
pub(super) fn heads<const V6: bool, B: Buf>(buf: &mut B, total: u16) -> Option<&mut [u8]> {
    const V4_HEADS: usize = ethernet::HEADER + ipv4::HEADER + tcp::HEADER;
    const V6_HEADS: usize = ethernet::HEADER + ipv6::HEADER + tcp::HEADER;
    let length = ethernet::HEADER + usize::from(total);
    match V6 {
        true => buf.cut::<V6_HEADS>(length).map(<[u8; V6_HEADS]>::as_mut_slice),
        false => buf.cut::<V4_HEADS>(length).map(<[u8; V4_HEADS]>::as_mut_slice),
    }
}

/// The same of a frame that has room for a tunnel's header of `OUTER` bytes before its packet of so many, up to the
/// packet's own.
#[inline(always)]
pub(super) fn heads_outside<const V6: bool, const OUTER: usize, B: Buf>(
    buf: &mut B,
    total: u16,
) -> Option<&mut [u8]> {
    const V4_IN_V4: usize = ethernet::HEADER + ipv4::HEADER + ipv4::HEADER;
    const MIXED: usize = ethernet::HEADER + ipv4::HEADER + ipv6::HEADER;
    const V6_IN_V6: usize = ethernet::HEADER + ipv6::HEADER + ipv6::HEADER;
    let length = ethernet::HEADER + OUTER + usize::from(total);
    match (V6, OUTER == ipv6::HEADER) {
        (false, false) => buf.cut::<V4_IN_V4>(length).map(<[u8; V4_IN_V4]>::as_mut_slice),
        (true, true) => buf.cut::<V6_IN_V6>(length).map(<[u8; V6_IN_V6]>::as_mut_slice),
        _ => buf.cut::<MIXED>(length).map(<[u8; MIXED]>::as_mut_slice),
    }
}

/// Whether the segment in a packet that begins at `l3` of a frame has options.
#[inline(always)]
pub(super) fn has_options<const V6: bool>(frame: &[u8], l3: usize) -> bool {
    let at = l3 + if V6 { ipv6::HEADER } else { ipv4::HEADER } + 12;
    frame.get(at).is_none_or(|offset| usize::from(offset >> 4) * 4 != tcp::HEADER)
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
        mend(head, 10, TTL, 0);
    }
}

/// One hop less, and other ends, of an IPv4 packet; behind a datagram's header there are at least as many bytes as a
/// segment's has, be it padding.
#[inline(always)]
pub(super) fn rewrite_v4(packet: &mut [u8], is_tcp: bool, ends: Narrow, change: Change) {
    let Some(head) = packet.first_chunk_mut::<{ ipv4::HEADER + tcp::HEADER }>() else { return };
    head[8] -= 1;
    let [first, second] = change.header;
    mend(head, 10, first, second);
    head[12..20].copy_from_slice(&ends.addresses());
    rewrite_upper(&mut head[ipv4::HEADER..], is_tcp, ends.ports(), change);
}

/// One hop less, and other ends, of an IPv6 packet.
#[inline(always)]
pub(super) fn rewrite_v6(
    packet: &mut [u8],
    is_tcp: bool,
    (others, ports): (&Broad, [u8; 4]),
    change: Change,
) {
    let Some(head) = packet.first_chunk_mut::<{ ipv6::HEADER + tcp::HEADER }>() else { return };
    head[7] -= 1;
    if let Some(addresses) = head[8..].first_chunk_mut() {
        others.write_turned(addresses);
    }
    rewrite_upper(&mut head[ipv6::HEADER..], is_tcp, ports, change);
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
        mend(head, 16, change.upper, renumbered);
    } else {
        let Some(head) = upper.first_chunk_mut::<{ udp::HEADER }>() else { return };
        head[..4].copy_from_slice(&ports);
        if mend(head, 6, change.upper, 0) == 0 {
            head[6..].fill(0xff);
        }
    }
}

/// Leads a number of TCP's to the other side's; gives what that changes in sums beyond the offset itself.
#[inline(always)]
fn renumber(head: &mut [u8; tcp::HEADER], number: Number, offset: u32) -> u16 {
    let at = number as usize;
    let Some(place) = head.get_mut(at..at + 4).and_then(|place| place.first_chunk_mut::<4>()) else {
        return 0;
    };
    let old = u32::from_be_bytes(*place);
    // Sums are remainders by 2^16 - 1, of which 2^32 leaves one: what wraps has lost one, or found it.
    let (new, beyond) = match number {
        Number::Sequence => {
            let (new, wraps) = old.overflowing_add(offset);
            (new, !u16::from(wraps).to_be())
        }
        Number::Acknowledgment => {
            let (new, wraps) = old.overflowing_sub(offset);
            (new, u16::from(wraps).to_be())
        }
    };
    *place = new.to_be_bytes();
    beyond
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
                    let deltas = Deltas { header: 0xffff, upper: 0xffff }.shifted(0x0101_fefe, by);
                    let deltas =
                        deltas.shifted(by, 0x8000_0000).shifted(0x8000_0000, by).shifted(0, 0x0101_fefe);
                    let (change, new) = match number {
                        Number::Sequence => (deltas.to_server(by), old.wrapping_add(by)),
                        Number::Acknowledgment => (deltas.to_client(by), old.wrapping_sub(by)),
                    };
                    let beyond = renumber(&mut head, number, by);
                    mend(&mut head, 16, change.upper, beyond);
                    assert_eq!(head[at..at + 4], new.to_be_bytes());
                    let mended = [head[16], head[17]];
                    head[16..18].fill(0);
                    assert_eq!(mended, right(&head), "{old:#x} + {by:#x}");
                }
            }
        }
    }

    #[test]
    fn differences_are_complements_of_sums() {
        let numbers = [0u16, 1, 2, 0x7fff, 0x8000, 0xfffe, 0xffff];
        for a in numbers {
            assert!(numbers.into_iter().all(|b| minus(a, b) == !plus(!a, b)), "{a:#x}");
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
                        let [first, second] = change;
                        mend(&mut bytes, 0, first, second);
                        u16::from_be_bytes(bytes)
                    };
                    let less = Delta::default().word(0x4006, 0x3f06);
                    let (to, from) = (deltas.to_server(0), deltas.to_client(0));
                    assert_eq!(mended(to.header), less.and(plain).apply(sum));
                    assert_eq!(mended([to.upper, 0]), upper.apply(sum));
                    let back = Delta::default().double(other, old).double(new, other);
                    assert_eq!(mended(from.header), less.and(back).apply(sum));
                    assert_eq!(mended([from.upper, 0]), back.word(5000, 1024).word(80, 80).apply(sum));
                }
            }
        }
    }
}
