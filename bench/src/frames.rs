//! The frames that the generator offers: TCP segments of either family, their checksums right.
//!
//! [`emit`] writes any one of them from scratch. A [`Template`] with a [`Flows`] record writes those of a stream:
//! what differs between flows is computed beforehand, so that the generator itself costs little.

use std::net::IpAddr;

use fulcrum_model::Family;
use fulcrum_packet::{checksum, ethernet, ipv4, ipv6, tcp};

/// The director's MAC address.
pub(crate) const DIRECTOR: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// The MAC address that frames come from.
const NEIGHBOUR: [u8; 6] = [2, 0, 0, 0, 0, 2];
/// Frames end with a checksum of four bytes, which no program sees.
const FCS: usize = 4;

/// The two ends of a flow, as one of its directions shows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tuple {
    pub(crate) src: IpAddr,
    pub(crate) dst: IpAddr,
    pub(crate) sport: u16,
    pub(crate) dport: u16,
}

/// What a frame is beside its tuple.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment {
    pub(crate) flags: u8,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    /// On the wire, FCS included.
    pub(crate) wire: usize,
}

impl Segment {
    /// The segment that carries nothing but these flags.
    pub(crate) fn bare(flags: u8, seq: u32, ack: u32) -> Segment {
        Segment { flags, seq, ack, wire: 64 }
    }
}

/// Length of the headers of a frame, Ethernet to TCP.
pub(crate) fn headers(family: Family) -> usize {
    match family {
        Family::V4 => ethernet::HEADER + ipv4::HEADER + tcp::HEADER,
        Family::V6 => ethernet::HEADER + ipv6::HEADER + tcp::HEADER,
    }
}

/// Length of a frame of `wire` bytes in memory: without FCS, and long enough for its headers.
pub(crate) fn length(family: Family, wire: usize) -> usize {
    (wire - FCS).max(headers(family))
}

/// Length of the IP packet in such a frame: segments of the smallest frames carry no data, only padding.
fn packet_length(family: Family, wire: usize) -> usize {
    if wire <= 64 { headers(family) - ethernet::HEADER } else { length(family, wire) - ethernet::HEADER }
}

/// Writes a frame to the front of `bytes`; what lies behind its headers is expected to be zero.
pub(crate) fn emit(bytes: &mut [u8], tuple: &Tuple, segment: Segment) {
    bytes[..6].copy_from_slice(&DIRECTOR);
    bytes[6..12].copy_from_slice(&NEIGHBOUR);
    let ip = &mut bytes[ethernet::HEADER..];
    let (family, at) = match (tuple.src, tuple.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let total_len = packet_length(Family::V4, segment.wire) as u16;
            let header = ipv4::Header {
                tos: 0,
                total_len,
                id: 1,
                fragment: 0x4000,
                ttl: 64,
                protocol: ipv4::TCP,
                src,
                dst,
            };
            header.emit(ip);
            (Family::V4, ipv4::HEADER)
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let payload_len = (packet_length(Family::V6, segment.wire) - ipv6::HEADER) as u16;
            let header = ipv6::Header {
                traffic_class: 0,
                flow_label: 0,
                payload_len,
                next_header: ipv4::TCP,
                hop_limit: 64,
                src,
                dst,
            };
            header.emit(ip);
            (Family::V6, ipv6::HEADER)
        }
        _ => unreachable!("both ends of a frame are of one family"),
    };
    let header = tcp::Header {
        src_port: tuple.sport,
        dst_port: tuple.dport,
        seq: segment.seq,
        ack: segment.ack,
        flags: segment.flags,
        window: 0xffff,
    };
    header.emit(&mut ip[at..]);
    let length = packet_length(family, segment.wire) - at;
    let pseudo = checksum::pseudo_header_of(tuple.src, tuple.dst, ipv4::TCP, length);
    let sum = !checksum::fold(pseudo + checksum::sum(&ip[at..at + tcp::HEADER]));
    ip[at + 16..at + 18].copy_from_slice(&sum.to_be_bytes());
    let kind = if family == Family::V4 { ethernet::IPV4 } else { ethernet::IPV6 };
    bytes[12..14].copy_from_slice(&kind.to_be_bytes());
}

/// What differs between the smallest frames of two IPv4 flows, as it lies in the frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct V4 {
    ip_sum: [u8; 2],
    tcp_sum: [u8; 2],
    /// Source, destination, ports.
    ends: [u8; 12],
}

/// What differs between the smallest frames of two IPv6 flows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct V6 {
    tcp_sum: [u8; 2],
    ends: [u8; 36],
}

const V4_SUM: usize = ethernet::HEADER + 10;
const V4_TCP_SUM: usize = ethernet::HEADER + ipv4::HEADER + 16;
const V6_ENDS: usize = ethernet::HEADER + 8;
const V6_TCP_SUM: usize = ethernet::HEADER + ipv6::HEADER + 16;

/// The flows of a stream, in the order in which their packets come.
#[derive(Debug)]
pub(crate) enum Flows {
    V4(Vec<V4>),
    V6(Vec<V6>),
}

impl Flows {
    pub(crate) fn new(family: Family, capacity: usize) -> Flows {
        match family {
            Family::V4 => Flows::V4(fulcrum_machine::vec_on_huge_pages(capacity)),
            Family::V6 => Flows::V6(fulcrum_machine::vec_on_huge_pages(capacity)),
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Flows::V4(list) => list.len(),
            Flows::V6(list) => list.len(),
        }
    }

    /// Memory that they take.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Flows::V4(list) => size_of_val(list.as_slice()),
            Flows::V6(list) => size_of_val(list.as_slice()),
        }
    }

    pub(crate) fn push(&mut self, tuple: &Tuple) {
        let mut bytes = [0; 128];
        emit(&mut bytes, tuple, Template::SEGMENT);
        match self {
            Flows::V4(list) => list.push(V4 {
                ip_sum: [bytes[V4_SUM], bytes[V4_SUM + 1]],
                tcp_sum: [bytes[V4_TCP_SUM], bytes[V4_TCP_SUM + 1]],
                ends: std::array::from_fn(|i| bytes[V4_SUM + 2 + i]),
            }),
            Flows::V6(list) => list.push(V6 {
                tcp_sum: [bytes[V6_TCP_SUM], bytes[V6_TCP_SUM + 1]],
                ends: std::array::from_fn(|i| bytes[V6_ENDS + i]),
            }),
        }
    }

    /// Random order, so that neighbours in it are not neighbours in any table.
    pub(crate) fn shuffle(&mut self, seed: u64) {
        let mut chance = Chance(seed);
        for last in (1..self.len()).rev() {
            let other = chance.below(last as u64 + 1) as usize;
            match self {
                Flows::V4(list) => list.swap(last, other),
                Flows::V6(list) => list.swap(last, other),
            }
        }
    }
}

/// Numbers by chance, the same in every run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    /// The next number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        // Steele, Lea, Flood: splitmix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        ((u128::from(z) * u128::from(end)) >> 64) as u64
    }
}

/// What is the same in all frames of one size of a stream.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    headers: [u8; 80],
    /// In memory.
    pub(crate) length: usize,
    /// How much longer the IP packet is than the smallest.
    more: u32,
    /// How much the words differ that TCP's checksum is over, from those of the smallest segment.
    more_tcp: u32,
}

impl Template {
    /// What the segments of a stream are: of a connection at rest, which no state takes amiss.
    const SEGMENT: Segment = Segment { flags: tcp::ACK, seq: 1_000_000, ack: 2_000_000, wire: 64 };

    /// For frames of `wire` bytes, FCS included.
    pub(crate) fn new(family: Family, wire: usize) -> Template {
        Template::with_flags(family, wire, Template::SEGMENT.flags)
    }

    /// For frames of other flags than a connection at rest has.
    pub(crate) fn with_flags(family: Family, wire: usize, flags: u8) -> Template {
        let zero: IpAddr = match family {
            Family::V4 => [0; 4].into(),
            Family::V6 => [0; 16].into(),
        };
        let mut headers = [0; 80];
        emit(
            &mut headers,
            &Tuple { src: zero, dst: zero, sport: 0, dport: 0 },
            Segment { wire, flags, ..Template::SEGMENT },
        );
        let more = (packet_length(family, wire) - packet_length(family, 64)) as u32;
        let more_tcp = more + difference(Template::SEGMENT.flags, flags);
        Template { headers, length: length(family, wire), more, more_tcp }
    }

    /// Writes what all frames begin with; zeroes over whatever else a buffer was used for.
    #[inline]
    fn start(&self, bytes: &mut [u8]) {
        const LEAST: usize = 60;
        bytes[..LEAST].copy_from_slice(&self.headers[..LEAST]);
        if bytes.len() > LEAST {
            let end = bytes.len().min(self.headers.len());
            bytes[LEAST..end].copy_from_slice(&self.headers[LEAST..end]);
        }
    }

    /// Writes the headers of an IPv4 flow's frame.
    #[inline]
    pub(crate) fn write_v4(&self, flow: &V4, bytes: &mut [u8]) {
        self.start(bytes);
        bytes[V4_SUM..V4_SUM + 2].copy_from_slice(&adjusted(flow.ip_sum, self.more));
        bytes[V4_SUM + 2..V4_SUM + 14].copy_from_slice(&flow.ends);
        bytes[V4_TCP_SUM..V4_TCP_SUM + 2].copy_from_slice(&adjusted(flow.tcp_sum, self.more_tcp));
    }

    /// Writes the headers of an IPv6 flow's frame.
    #[inline]
    pub(crate) fn write_v6(&self, flow: &V6, bytes: &mut [u8]) {
        self.start(bytes);
        bytes[V6_ENDS..V6_ENDS + 36].copy_from_slice(&flow.ends);
        bytes[V6_TCP_SUM..V6_TCP_SUM + 2].copy_from_slice(&adjusted(flow.tcp_sum, self.more_tcp));
    }
}

/// A checksum of words whose sum has grown by `more`.
#[inline]
fn adjusted(sum: [u8; 2], more: u32) -> [u8; 2] {
    // RFC 1624 eq. 3
    let sum = u32::from(!u16::from_be_bytes(sum)) + more;
    let sum = (sum & 0xffff) + (sum >> 16);
    (!((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes()
}

/// From one octet to another at the end of a word, in ones' complement.
#[inline]
fn difference(from: u8, to: u8) -> u32 {
    (0xffff + u32::from(to) - u32::from(from)) % 0xffff
}

/// Makes of a frame that came to a server the server's answer, with other flags.
pub(crate) fn answer(frame: &mut [u8], flags: u8) {
    frame[..6].copy_from_slice(&DIRECTOR);
    frame[6..12].copy_from_slice(&NEIGHBOUR);
    let (addresses, octets, at) = if frame[12..14] == ethernet::IPV4.to_be_bytes() {
        (ethernet::HEADER + 12, 4, ethernet::HEADER + ipv4::HEADER)
    } else {
        (ethernet::HEADER + 8, 16, ethernet::HEADER + ipv6::HEADER)
    };
    let (src, dst) = frame[addresses..].split_at_mut(octets);
    src.swap_with_slice(&mut dst[..octets]);
    let (src, dst) = frame[at..].split_at_mut(2);
    src.swap_with_slice(&mut dst[..2]);
    let sum = adjusted([frame[at + 16], frame[at + 17]], difference(frame[at + 13], flags));
    frame[at + 16..at + 18].copy_from_slice(&sum);
    frame[at + 13] = flags;
}

/// Why a frame is not one that a network would carry.
pub(crate) fn fault(frame: &[u8]) -> Option<String> {
    let kind = u16::from_be_bytes([frame[12], frame[13]]);
    packet_fault(kind, &frame[ethernet::HEADER..])
}

fn packet_fault(kind: u16, bytes: &[u8]) -> Option<String> {
    let (src, dst, protocol, upper): (IpAddr, IpAddr, u8, &[u8]) = if kind == ethernet::IPV4 {
        let Ok(ip) = ipv4::Packet::new_checked(bytes) else { return Some("a bad IPv4 header".to_owned()) };
        if !ip.checksum_ok() {
            return Some("a wrong IPv4 checksum".to_owned());
        }
        let upper = &bytes[ip.header_len()..usize::from(ip.total_len())];
        (ip.src().into(), ip.dst().into(), ip.protocol(), upper)
    } else if kind == ethernet::IPV6 {
        let Ok(ip) = ipv6::Packet::new_checked(bytes) else { return Some("a bad IPv6 header".to_owned()) };
        (ip.src().into(), ip.dst().into(), ip.next_header(), &bytes[ipv6::HEADER..ip.total_len()])
    } else {
        return Some(format!("Ethernet type {kind:#06x}"));
    };
    match protocol {
        4 => packet_fault(ethernet::IPV4, upper),
        41 => packet_fault(ethernet::IPV6, upper),
        ipv4::TCP => {
            let pseudo = checksum::pseudo_header_of(src, dst, ipv4::TCP, upper.len());
            let sum = checksum::fold(pseudo + checksum::sum(upper));
            (sum != 0xffff).then(|| format!("a wrong TCP checksum from {src} to {dst}"))
        }
        other => Some(format!("IP protocol {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuples() -> [(Family, Tuple); 2] {
        let of = |src: &str, dst: &str| Tuple {
            src: src.parse().unwrap(),
            dst: dst.parse().unwrap(),
            sport: 49_152,
            dport: 80,
        };
        [(Family::V4, of("32.0.7.9", "10.2.0.1")), (Family::V6, of("2001:db8::7", "fd00:2::1"))]
    }

    #[test]
    fn every_frame_of_a_stream_has_right_checksums() {
        for (family, tuple) in tuples() {
            let mut flows = Flows::new(family, 1);
            flows.push(&tuple);
            for wire in [64, 128, 594, 1518] {
                let template = Template::new(family, wire);
                let mut frame = vec![0; template.length];
                let used = frame.len().min(74);
                frame[..used].fill(0xaa);
                match &flows {
                    Flows::V4(list) => template.write_v4(&list[0], &mut frame),
                    Flows::V6(list) => template.write_v6(&list[0], &mut frame),
                }
                assert_eq!(fault(&frame), None, "{family} {wire}");
                let mut whole = vec![0; template.length];
                emit(&mut whole, &tuple, Segment { wire, ..Template::SEGMENT });
                assert_eq!(frame, whole, "{family} {wire}");
            }
        }
    }

    #[test]
    fn other_flags_and_answers_have_right_checksums() {
        for (family, tuple) in tuples() {
            let mut flows = Flows::new(family, 1);
            flows.push(&tuple);
            for flags in [tcp::SYN, tcp::FIN | tcp::ACK, tcp::ACK, 0] {
                let template = Template::with_flags(family, 128, flags);
                let mut frame = vec![0; template.length];
                match &flows {
                    Flows::V4(list) => template.write_v4(&list[0], &mut frame),
                    Flows::V6(list) => template.write_v6(&list[0], &mut frame),
                }
                assert_eq!(fault(&frame), None, "{family} {flags}");
                answer(&mut frame, tcp::SYN | tcp::ACK);
                assert_eq!(fault(&frame), None, "{family} {flags}, answered");
                let (src, dst) = (tuple.dst, tuple.src);
                let mut whole = vec![0; template.length];
                let back = Tuple { src, dst, sport: tuple.dport, dport: tuple.sport };
                emit(
                    &mut whole,
                    &back,
                    Segment { wire: 128, flags: tcp::SYN | tcp::ACK, ..Template::SEGMENT },
                );
                assert_eq!(frame, whole, "{family} {flags}");
            }
        }
    }

    #[test]
    fn the_smallest_frames_are_as_small_as_ethernet_allows() {
        assert_eq!((length(Family::V4, 64), length(Family::V6, 64)), (60, 74));
        assert_eq!((length(Family::V4, 1518), length(Family::V6, 1518)), (1514, 1514));
    }

    #[test]
    fn faults_are_seen() {
        let (_, tuple) = tuples()[0];
        let mut frame = vec![0; 60];
        emit(&mut frame, &tuple, Segment::bare(tcp::SYN, 7, 0));
        assert_eq!(fault(&frame), None);
        for (at, what) in [(V4_TCP_SUM, "TCP checksum"), (V4_SUM, "IPv4 checksum"), (12, "Ethernet type")] {
            let mut bad = frame.clone();
            bad[at] ^= 0x55;
            assert!(fault(&bad).is_some_and(|fault| fault.contains(what)), "{what}");
        }
    }

    #[test]
    fn shuffling_loses_no_flow() {
        let mut flows = Flows::new(Family::V4, 1000);
        for n in 0..1000u16 {
            let [high, low] = n.to_be_bytes();
            let src = [32, 0, high, low].into();
            flows.push(&Tuple { src, dst: [10, 2, 0, 1].into(), sport: n, dport: 80 });
        }
        flows.shuffle(1);
        let Flows::V4(list) = &flows else { panic!("IPv4 was asked for") };
        let mut ports: Vec<_> =
            list.iter().map(|flow| u16::from_be_bytes([flow.ends[8], flow.ends[9]])).collect();
        assert!(!ports.is_sorted());
        ports.sort_unstable();
        assert!(ports.into_iter().eq(0..1000));
    }
}
