//! Wire formats: whatever the bytes are, a view that was checked can be read and written all over.

use std::hint::black_box;
use std::net::{Ipv4Addr, Ipv6Addr};

use fulcrum_packet::checksum::checksum;
use fulcrum_packet::ports::Ports;
use fulcrum_packet::{arp, ethernet, gre, gue, icmp, icmpv6, ipv4, ipv6, ndisc, sctp, tcp, udp};

/// Reads `data` as every format that begins at its first byte, and goes on inside.
pub fn run(data: &[u8]) {
    if let Ok(frame) = ethernet::Frame::new_checked(data) {
        black_box((frame.dst(), frame.src(), frame.vlan(), frame.ethertype()));
        let inside = &data[frame.header_len()..];
        network(inside);
    }
    network(data);
    transport(data);
}

fn network(data: &[u8]) {
    if let Ok(packet) = arp::Packet::parse(data) {
        let mut again = vec![0; data.len().max(28)];
        packet.emit(&mut again);
        assert_eq!(arp::Packet::parse(&again).ok(), Some(packet));
    }
    network6(data);
    if let Ok(quoted) = ipv4::Packet::new_quoted(data) {
        read_ipv4(&quoted);
        transport(&data[quoted.header_len().min(data.len())..]);
    }
    let mut copy = data.to_vec();
    let Ok(mut packet) = ipv4::Packet::new_checked(&mut copy[..]) else { return };
    assert!(usize::from(packet.total_len()) <= data.len());
    assert!(packet.header_len() <= usize::from(packet.total_len()));
    let body = packet.header_len()..usize::from(packet.total_len());
    packet.fill_checksum();
    assert!(packet.checksum_ok());
    packet.set_src(Ipv4Addr::new(10, 1, 2, 3));
    packet.set_dst(Ipv4Addr::new(198, 51, 100, 200));
    assert!(packet.checksum_ok(), "the checksum follows the addresses");
    if packet.ttl() > 0 {
        packet.decrement_ttl();
        assert!(packet.checksum_ok(), "the checksum follows the TTL");
    }
    transport(&data[body]);
}

fn network6(data: &[u8]) {
    if let Ok(quoted) = ipv6::Packet::new_quoted(data) {
        black_box((quoted.traffic_class(), quoted.flow_label(), quoted.next_header(), quoted.hop_limit()));
        if let Ok(upper) = quoted.upper() {
            assert!(upper.offset <= data.len());
            transport(&data[upper.offset..]);
            messages6(&data[upper.offset..], quoted.src(), quoted.dst());
        }
    }
    let mut copy = data.to_vec();
    let Ok(mut packet) = ipv6::Packet::new_checked(&mut copy[..]) else { return };
    assert!(packet.total_len() <= data.len());
    packet.set_src(Ipv6Addr::LOCALHOST);
    packet.set_dst(Ipv6Addr::UNSPECIFIED);
    packet.decrement_hop_limit();
    assert_eq!((packet.src(), packet.dst()), (Ipv6Addr::LOCALHOST, Ipv6Addr::UNSPECIFIED));
}

fn messages6(data: &[u8], src: Ipv6Addr, dst: Ipv6Addr) {
    let mut copy = data.to_vec();
    if copy.len() < icmp::HEADER {
        return;
    }
    icmpv6::fill_checksum(&mut copy, src, dst);
    assert!(icmpv6::checksum_ok(&copy, src, dst));
    let mut again = [0; ndisc::LEN_WITH_ADDRESS];
    if let Ok(asked) = ndisc::Solicitation::parse(&copy, src, dst) {
        let length = asked.emit(&mut again, src, dst);
        assert_eq!(ndisc::Solicitation::parse(&again[..length], src, dst).ok(), Some(asked));
    }
    if let Ok(told) = ndisc::Advertisement::parse(&copy, src, dst) {
        let length = told.emit(&mut again, src, dst);
        assert_eq!(ndisc::Advertisement::parse(&again[..length], src, dst).ok(), Some(told));
    }
}

fn read_ipv4<T: AsRef<[u8]>>(packet: &ipv4::Packet<T>) {
    black_box((packet.tos(), packet.id(), packet.fragment(), packet.is_fragment(), packet.dont_fragment()));
    black_box((
        packet.ttl(),
        packet.protocol(),
        packet.checksum(),
        packet.checksum_ok(),
        packet.options().len(),
    ));
    black_box((packet.src(), packet.dst(), packet.total_len()));
}

fn transport(data: &[u8]) {
    let mut copy = data.to_vec();
    if let Ok(mut ports) = Ports::new_checked(&mut copy[..]) {
        ports.set_src(1);
        ports.set_dst(2);
        assert_eq!((ports.src(), ports.dst()), (1, 2));
    }
    if let Ok(mut segment) = tcp::Segment::new_checked(&mut copy[..]) {
        black_box((segment.seq(), segment.ack(), segment.header_len(), segment.flags(), segment.checksum()));
        segment.set_checksum(3);
        assert_eq!(segment.checksum(), 3);
    }
    let mut copy = data.to_vec();
    options(&mut copy);
    let mut copy = data.to_vec();
    if let Ok(mut datagram) = udp::Datagram::new_checked(&mut copy[..]) {
        black_box(datagram.length());
        datagram.set_checksum(3);
        assert_eq!(datagram.checksum(), 3);
    }
    tunnels(data);
    let mut copy = data.to_vec();
    if let Ok(mut packet) = sctp::Packet::new_checked(&mut copy[..]) {
        black_box((packet.tag(), packet.checksum_ok(), packet.leading_chunk()));
        assert!(packet.chunks().map(|chunk| 4 + chunk.value.len()).sum::<usize>() <= data.len());
        packet.fill_checksum();
        assert!(packet.checksum_ok());
    }
    let mut copy = data.to_vec();
    if let Ok(mut message) = icmp::Message::new_checked(&mut copy[..]) {
        black_box((message.code(), message.checksum(), message.checksum_ok(), message.rest()));
        message.set_kind(0);
        message.payload_mut().fill(0xff);
        message.fill_checksum();
        assert!(message.checksum_ok());
        if let Ok(quoted) = ipv4::Packet::new_quoted(message.payload()) {
            read_ipv4(&quoted);
        }
    }
}

/// Changes TCP options, whatever they claim; a checksum over the segment follows what the change says of itself.
fn options(segment: &mut [u8]) {
    use fulcrum_packet::tcp::options::{
        EXPERIMENT_2, MSS, ROOM, TIMESTAMPS, blank, gather, lower_mss, of, shift_sacks,
    };
    if let Some((gathered, len)) = gather(segment, &[EXPERIMENT_2, 8, 0, 0, 0, 0, 0, 0], |kind| kind != MSS) {
        assert!(len <= ROOM && len.is_multiple_of(4));
        black_box(gathered);
    }
    let count = of(segment).count();
    assert!(count <= ROOM / 2);
    let before = checksum(segment);
    let delta = lower_mss(segment, 536).and(shift_sacks(segment, |edge| edge.wrapping_add(70_000)));
    let (blanked, change) = blank(segment, TIMESTAMPS);
    assert_eq!(of(segment).count(), count - blanked);
    // 0 and 0xffff mean the same sum.
    assert_eq!(delta.and(change).apply(before) % 0xffff, checksum(segment) % 0xffff);
}

fn tunnels(data: &[u8]) {
    if let Ok((header, length)) = gre::Header::parse(data) {
        assert!(length <= data.len());
        let mut again = vec![0; header.header_len() + 3];
        header.emit(&mut again);
        assert_eq!(gre::Header::parse(&again).ok(), Some((header, header.header_len())));
    }
    if let Ok((header, length)) = gue::Header::parse(data) {
        assert!(length <= data.len());
        let mut again = [0xff; gue::HEADER];
        header.emit(&mut again);
        assert_eq!(gue::Header::parse(&again).ok(), Some((header, gue::HEADER)));
    }
}
