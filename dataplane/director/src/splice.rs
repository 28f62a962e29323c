//! Packets that become longer or shorter in the middle: headers and options put in, text replaced.

use fulcrum_packet::checksum::Delta;
use fulcrum_packet::{ipv4, ipv6, tcp, udp};

use crate::buffer::Buf;
use crate::packet::{Packet, checked};

impl<B: Buf> Packet<B> {
    /// Offset of a TCP segment's data from the transport header; `None` when the data offset lies, and of a fragment.
    pub(crate) fn tcp_data(&self) -> Option<usize> {
        let payload = self.payload();
        let header = tcp::Segment::new_checked(payload).ok()?.header_len();
        let whole = self.protocol == ipv4::TCP && self.fragment.is_none();
        (whole && (tcp::HEADER..=payload.len()).contains(&header)).then_some(header)
    }

    /// Applies a change to the checksum of a TCP or UDP header that is there; a UDP datagram without one stays so.
    pub(crate) fn mend(&mut self, delta: Delta) {
        if self.protocol == ipv4::TCP {
            let mut segment = checked(tcp::Segment::new_checked(self.payload_mut()));
            let mended = delta.apply(segment.checksum());
            segment.set_checksum(mended);
        } else {
            let mut datagram = checked(udp::Datagram::new_checked(self.payload_mut()));
            if datagram.checksum() != 0 {
                let mended = delta.apply(datagram.checksum());
                datagram.set_checksum(if mended == 0 { 0xffff } else { mended });
            }
        }
    }

    /// Replaces the `old` bytes at offset `at` of the transport header and what follows it by `new`, and mends
    /// lengths and checksums; of UDP only when its length is the packet's. False, and nothing done, when there is
    /// no headroom or the packet would be longer than any. Not for fragments.
    #[must_use]
    pub(crate) fn splice(&mut self, at: usize, old: usize, new: &[u8]) -> bool {
        let body = self.payload();
        let (length, total) = (body.len() - old + new.len(), self.total - old + new.len());
        let limit = if self.is_v6() { ipv6::HEADER } else { 0 } + usize::from(u16::MAX);
        if total > limit {
            return false;
        }
        let datagram_length = match self.protocol {
            ipv4::UDP => checked(udp::Datagram::new_checked(body)).length(),
            _ => 0,
        };
        if self.protocol == ipv4::UDP && usize::from(datagram_length) != body.len() {
            return false;
        }
        // The pseudo-header has the length too.
        let mut delta = Delta::default()
            .removed(at, &body[at..at + old])
            .added(at, new)
            .double(body.len() as u32, length as u32);
        if !(old + new.len()).is_multiple_of(2) {
            let tail = &body[at + old..];
            delta = delta.removed(at + old, tail).added(at + new.len(), tail);
        }
        let front = self.l4 + at;
        if new.len() > old {
            let growth = new.len() - old;
            if !self.buf.grow_front(growth) {
                return false;
            }
            self.buf.bytes_mut().copy_within(growth..growth + front, 0);
        } else {
            let shrink = old - new.len();
            self.buf.bytes_mut().copy_within(..front, shrink);
            self.buf.shrink_front(shrink);
        }
        self.buf.bytes_mut()[front..front + new.len()].copy_from_slice(new);
        self.total = total;
        let (v6, header) = (self.is_v6(), self.l4 - self.l3);
        // The header's own length is not the packet's any more: it is not checked against it.
        let packet = &mut self.buf.bytes_mut()[self.l3..];
        if v6 {
            let payload = (header - ipv6::HEADER + length) as u16;
            checked(ipv6::Packet::new_quoted(packet)).set_payload_len(payload);
        } else {
            let mut ip = checked(ipv4::Packet::new_quoted(packet));
            ip.set_fragment(total as u16, ip.fragment());
        }
        if self.protocol == ipv4::UDP {
            let mut datagram = checked(udp::Datagram::new_checked(self.payload_mut()));
            delta = delta.and(datagram.set_length(length as u16));
        }
        self.mend(delta);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use fulcrum_packet::checksum::{fold, pseudo_header_of, sum};
    use fulcrum_packet::ip;

    use super::*;
    use crate::buffer::VecBuf;

    fn packet(v6: bool, protocol: u8, data: &[u8]) -> Packet<VecBuf> {
        let mut body = vec![0; if protocol == ipv4::TCP { tcp::HEADER } else { udp::HEADER }];
        if protocol == ipv4::TCP {
            let header = tcp::Header { src_port: 1, dst_port: 2, seq: 3, ack: 4, flags: tcp::ACK, window: 5 };
            header.emit(&mut body);
        }
        body.extend_from_slice(data);
        let length = body.len();
        if protocol == ipv4::UDP {
            body[4..6].copy_from_slice(&(length as u16).to_be_bytes());
        }
        let mut frame = vec![0xee; 14];
        let ends: (IpAddr, IpAddr) = if v6 {
            let (src, dst) = ("2001:db8::2".parse().unwrap(), "2001:db8::100".parse().unwrap());
            frame.resize(14 + ipv6::HEADER, 0);
            let header = ipv6::Header {
                traffic_class: 0,
                flow_label: 0,
                payload_len: length as u16,
                next_header: protocol,
                hop_limit: 64,
                src,
                dst,
            };
            header.emit(&mut frame[14..]);
            (src.into(), dst.into())
        } else {
            let (src, dst) = ([10, 0, 0, 2].into(), [10, 0, 0, 100].into());
            frame.resize(14 + ipv4::HEADER, 0);
            let total_len = (ipv4::HEADER + length) as u16;
            let header =
                ipv4::Header { tos: 0, total_len, id: 7, fragment: ipv4::DF, ttl: 64, protocol, src, dst };
            header.emit(&mut frame[14..]);
            (src.into(), dst.into())
        };
        let at = if protocol == ipv4::TCP { 16 } else { 6 };
        let checksum = !fold(pseudo_header_of(ends.0, ends.1, protocol, length) + sum(&body));
        body[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
        frame.extend_from_slice(&body);
        Packet::parse(VecBuf::new(&frame), 14).unwrap()
    }

    #[test]
    fn any_replacement_keeps_lengths_and_checksums_right() {
        let data: Vec<u8> = (0..41u8).map(|byte| byte.wrapping_mul(7)).collect();
        for (v6, protocol) in [false, true].into_iter().flat_map(|v6| [(v6, ipv4::TCP), (v6, ipv4::UDP)]) {
            let header = if protocol == ipv4::TCP { tcp::HEADER } else { udp::HEADER };
            for (offset, old, new) in [(0, 0, 28), (0, 0, 45), (3, 8, 9), (4, 8, 9), (5, 9, 3), (40, 1, 0)] {
                let mut packet = packet(v6, protocol, &data);
                let new = vec![0xa5; new];
                assert!(packet.splice(header + offset, old, &new));
                let expected = [&data[..offset], &new, &data[offset + old..]].concat();
                assert_eq!(packet.payload()[header..], expected);
                assert_eq!(packet.buf.bytes()[..14], [0xee; 14]);
                let again = Packet::parse(VecBuf::new(packet.buf.bytes()), 14).unwrap();
                assert_eq!(
                    (again.total, packet.total),
                    (packet.total, packet.l4 - 14 + packet.payload().len())
                );
                if let ip::Packet::V4(ip) = again.ip() {
                    assert!(ip.checksum_ok());
                }
                let pseudo = pseudo_header_of(packet.src, packet.dst, protocol, packet.payload().len());
                assert_eq!(fold(pseudo + sum(packet.payload())), 0xffff, "{offset} {old} {}", new.len());
            }
        }
    }

    #[test]
    fn what_cannot_be_is_refused_whole() {
        let mut long = packet(false, ipv4::TCP, &[1; 65_490]);
        let before = long.buf.bytes().to_vec();
        assert!(!long.splice(tcp::HEADER, 0, &[0; 60]), "too long");
        let mut short = packet(false, ipv4::TCP, b"data");
        assert!(!short.splice(tcp::HEADER, 0, &[0; 129]), "no headroom");
        let mut lying = packet(false, ipv4::UDP, b"data");
        lying.payload_mut()[5] = 9;
        assert!(!lying.splice(udp::HEADER, 0, b"x"));
        assert_eq!(long.buf.bytes(), before);
    }
}
