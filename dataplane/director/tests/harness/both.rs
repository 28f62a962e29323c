//! Both families on both links: the network, frames of either, what comes out read back with its checksums checked.

use std::net::IpAddr;

use fulcrum_packet::checksum::{fold, pseudo_header_of, sum};
use fulcrum_packet::tcp::{ACK, SYN};
use fulcrum_packet::{ethernet, ip, ipv4, ipv6, udp};

pub use super::segments::ip_frame as packet;
use super::segments::{End, Segment, read_ip};
use super::{Director, LAN, Out, WAN};

/// IPv6 beside IPv4 on both links, by VLAN 6.
pub const SIX: &str = r#"
[[interface]]
name = "wan6"
port = "wan"
vlan = 6
addresses = ["fd00:1::1/64"]
[[interface]]
name = "lan6"
port = "lan"
vlan = 6
addresses = ["fd00:2::1/64"]
[[neighbour]]
address = "fd00:1::2"
mac = "02:00:00:00:09:09"
interface = "wan6"
[[neighbour]]
address = "fd00:2::11"
mac = "02:00:00:00:09:09"
interface = "lan6"
"#;

/// A pool of local addresses of each family.
pub const POOLS: &str = r#"
[[local-pool]]
name = "inside"
interface = "lan"
addresses = ["10.1.0.200"]
[[local-pool]]
name = "inside6"
interface = "lan6"
addresses = ["fd00:2::200"]
"#;

pub fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub fn service(vip: &str, protocol: &str, server: &str, forward: &str, pool: &str) -> String {
    format!(
        r#"{SIX}{POOLS}
[[service]]
address = "{vip}"
protocol = "{protocol}"
scheduler = "rr"
{pool}
[[service.server]]
address = "{server}"
forward = "{forward}"
"#
    )
}

/// The frame of a TCP segment without options.
pub fn segment(to: [u8; 6], src: End, dst: End, flags: u8, data: &[u8]) -> Vec<u8> {
    Segment { src, dst, seq: 1000, ack: 5000, flags, options: vec![], data: data.to_vec() }.frame(to)
}

/// A UDP datagram, without IP header.
pub fn datagram(src: End, dst: End, data: &[u8]) -> Vec<u8> {
    let length = (udp::HEADER + data.len()) as u16;
    let mut body = [src.1.to_be_bytes(), dst.1.to_be_bytes(), length.to_be_bytes(), [0; 2]].concat();
    body.extend_from_slice(data);
    let whole = !fold(pseudo_header_of(src.0, dst.0, ipv4::UDP, body.len()) + sum(&body));
    // A sum of 0 would say that there is none (RFC 768).
    body[6..8].copy_from_slice(&if whole == 0 { 0xffff } else { whole }.to_be_bytes());
    body
}

pub fn l3(frame: &[u8]) -> usize {
    ethernet::Frame::new_checked(frame).unwrap().header_len()
}

/// Protocol, ends and body of what came out, its checksum found right.
pub fn seen(out: &Out) -> (u8, End, End, Vec<u8>) {
    let (src, dst, protocol, body) = read_ip(out);
    let port = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
    (protocol, (src, port(0)), (dst, port(2)), body)
}

pub fn one(outs: Vec<Out>, director: &Director) -> Out {
    assert_eq!(outs.len(), 1, "one frame out for one in; drops: {:?}", director.drops());
    outs.into_iter().next().unwrap()
}

/// SYN, SYN+ACK, ACK between client and VIP; gives the ends that the server saw.
pub fn handshake(director: &mut Director, client: End, vip: End) -> [End; 2] {
    let outs = director.send(0, &segment(WAN, client, vip, SYN, b""));
    let (_, src, dst, _) = seen(&one(outs, director));
    let outs = director.send(1, &segment(LAN, dst, src, SYN | ACK, b""));
    let back = one(outs, director);
    let (_, from, to, _) = seen(&back);
    assert_eq!((back.port, from, to), (0, vip, client));
    let outs = director.send(0, &segment(WAN, client, vip, ACK, b"hello"));
    let (_, again, _, body) = seen(&one(outs, director));
    assert_eq!((again, &body[20..]), (src, &b"hello"[..]));
    [src, dst]
}

pub const CLIENT6: (&str, u16) = ("fd00:1::2", 40001);

pub fn end(address: &str, port: u16) -> End {
    (addr(address), port)
}

/// Cuts the packet of `body` to pieces of `size`, both families alike; in order.
pub fn fragments(to: [u8; 6], src: IpAddr, dst: IpAddr, body: &[u8], size: usize) -> Vec<Vec<u8>> {
    let pieces = body.chunks(size).enumerate().map(|(number, part)| {
        let (offset, more) = (number * size, (number + 1) * size < body.len());
        if src.is_ipv6() {
            let header = ipv6::fragment_header(ipv4::UDP, offset, more, 99);
            return packet(to, src, dst, ipv6::FRAGMENT, &[&header[..], part].concat());
        }
        let mut frame = packet(to, src, dst, ipv4::UDP, part);
        let at = l3(&frame);
        let mut ip = ipv4::Packet::new_checked(&mut frame[at..]).unwrap();
        let total = ip.total_len();
        ip.set_fragment(total, (offset / 8) as u16 | if more { ipv4::MF } else { 0 });
        frame
    });
    pieces.collect()
}

/// What a receiver makes of fragments that came out.
pub fn reassembled(outs: &[Out]) -> (IpAddr, IpAddr, Vec<u8>) {
    let mut parts: Vec<(usize, Vec<u8>)> = Vec::new();
    let mut ends = None;
    for out in outs {
        let bytes = &out.frame[l3(&out.frame)..];
        let ip = ip::Packet::new_checked(bytes).unwrap();
        ends = Some((ip.src(), ip.dst()));
        let (offset, at) = match &ip {
            ip::Packet::V4(ip) => (usize::from(ip.fragment() & ipv4::OFFSET) * 8, ip.header_len()),
            ip::Packet::V6(ip) => {
                let upper = ip.upper().unwrap();
                (upper.fragment.expect("a fragment").offset, upper.offset)
            }
        };
        parts.push((offset, bytes[at..].to_vec()));
    }
    parts.sort();
    let mut body = Vec::new();
    for (offset, part) in parts {
        assert_eq!(offset, body.len(), "without a hole");
        body.extend(part);
    }
    let (src, dst) = ends.unwrap();
    (src, dst, body)
}
