//! What is done to a plain packet's bytes: one hop less to live, other addresses and ports, checksums by deltas.
//! `Packet`s are slices from the IP header on, whose headers have been read by `glance`.

use std::net::IpAddr;

use fulcrum_packet::checksum::fold;
use fulcrum_packet::{ipv4, ipv6};

/// By how much a session changes checksums on the way to its server; the other way it is the opposite.
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
    numbers: Numbers,
}

/// Which number of TCP's is another on the other side, and by how much.
#[derive(Clone, Copy, Debug)]
enum Numbers {
    Same,
    Sequence(u32),
    Acknowledgment(u32),
}

impl Deltas {
    /// Of a source and a destination that are replaced by others.
    pub(crate) fn between(old: (End, End), new: (End, End)) -> Deltas {
        let addresses = |(src, dst): (End, End)| halves(src.0) + halves(dst.0);
        let ports = |(src, dst): (End, End)| u64::from(src.1) + u64::from(dst.1);
        // The complement of a sum of sixteen halves is the sum of sixteen complements.
        let header = 16 * 0xffff - addresses(old) + addresses(new);
        let upper = header + 2 * 0xffff - ports(old) + ports(new);
        Deltas { header: fold(header), upper: fold(upper) }
    }

    /// What changes on the way to the server, when its numbers are `offset` ahead of the client's.
    #[inline(always)]
    pub(super) fn to_server(self, offset: u32) -> Change {
        let numbers = if offset == 0 { Numbers::Same } else { Numbers::Sequence(offset) };
        Change { header: self.header.into(), upper: self.upper.into(), numbers }
    }

    /// What changes on the way back.
    #[inline(always)]
    pub(super) fn to_client(self, offset: u32) -> Change {
        let numbers = match offset {
            0 => Numbers::Same,
            offset => Numbers::Acknowledgment(offset.wrapping_neg()),
        };
        let opposite = |delta: u16| 0xffff + u32::from(!delta);
        Change { header: opposite(self.header), upper: opposite(self.upper), numbers }
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
const TTL: u32 = 0xfeff;

#[inline(always)]
fn mend(sum: &mut [u8], change: u32) -> u16 {
    let old = u16::from_be_bytes([sum[0], sum[1]]);
    let total = u32::from(!old) + change;
    let total = (total >> 16) + (total & 0xffff);
    let new = !((total >> 16) + (total & 0xffff)) as u16;
    sum.copy_from_slice(&new.to_be_bytes());
    new
}

/// One hop less of an IPv4 packet.
#[inline(always)]
pub(super) fn route4(packet: &mut [u8]) {
    let Some(ip) = packet.first_chunk_mut::<{ ipv4::HEADER }>() else { return };
    ip[8] -= 1;
    mend(&mut ip[10..12], TTL);
}

/// One hop less of an IPv6 packet.
#[inline(always)]
pub(super) fn route6(packet: &mut [u8]) {
    let Some(ip) = packet.first_chunk_mut::<{ ipv6::HEADER }>() else { return };
    ip[7] -= 1;
}

/// One hop less, and other ends, of an IPv4 packet.
#[inline(always)]
pub(super) fn rewrite4(packet: &mut [u8], protocol: u8, src: (u32, u16), dst: (u32, u16), change: Change) {
    let Some((ip, body)) = packet.split_first_chunk_mut::<{ ipv4::HEADER }>() else { return };
    ip[8] -= 1;
    mend(&mut ip[10..12], TTL + change.header);
    ip[12..16].copy_from_slice(&src.0.to_be_bytes());
    ip[16..20].copy_from_slice(&dst.0.to_be_bytes());
    rewrite_upper(body, protocol, src.1, dst.1, change);
}

/// One hop less, and other ends, of an IPv6 packet.
#[inline(always)]
pub(super) fn rewrite6(packet: &mut [u8], protocol: u8, src: (u128, u16), dst: (u128, u16), change: Change) {
    let Some((ip, body)) = packet.split_first_chunk_mut::<{ ipv6::HEADER }>() else { return };
    ip[7] -= 1;
    ip[8..24].copy_from_slice(&src.0.to_be_bytes());
    ip[24..40].copy_from_slice(&dst.0.to_be_bytes());
    rewrite_upper(body, protocol, src.1, dst.1, change);
}

#[inline(always)]
fn rewrite_upper(body: &mut [u8], protocol: u8, sport: u16, dport: u16, change: Change) {
    let Some((ports, rest)) = body.split_first_chunk_mut::<4>() else { return };
    ports[..2].copy_from_slice(&sport.to_be_bytes());
    ports[2..].copy_from_slice(&dport.to_be_bytes());
    if protocol != ipv4::TCP {
        if let Some(sum) = rest.get_mut(2..4)
            && mend(sum, change.upper) == 0
        {
            sum.fill(0xff);
        }
        return;
    }
    // Sequence number, acknowledgment, flags and window, checksum.
    let Some(rest) = rest.first_chunk_mut::<14>() else { return };
    let renumbered = match change.numbers {
        Numbers::Same => 0,
        Numbers::Sequence(by) => renumber(&mut rest[..4], by),
        Numbers::Acknowledgment(by) => renumber(&mut rest[4..8], by),
    };
    mend(&mut rest[12..14], change.upper + renumbered);
}

/// Adds to a number of TCP's; gives what that changes in sums.
#[inline(always)]
fn renumber(number: &mut [u8], by: u32) -> u32 {
    let old = u32::from_be_bytes([number[0], number[1], number[2], number[3]]);
    let new = old.wrapping_add(by);
    number.copy_from_slice(&new.to_be_bytes());
    (!old >> 16) + (!old & 0xffff) + (new >> 16) + (new & 0xffff)
}

#[cfg(test)]
mod tests {
    use fulcrum_packet::checksum::Delta;

    use super::*;

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
                        mend(&mut bytes, change);
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
