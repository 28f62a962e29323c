//! TCP segments and ends of either family, written and read field by field.

use std::net::IpAddr;

use fulcrum_packet::checksum::{fold, pseudo_header_of, sum};
use fulcrum_packet::{ethernet, ip, ipv4, ipv6, tcp};

use super::{Director, LAN, Out, PEER, WAN};

pub type End = (IpAddr, u16);

/// A TCP segment between two ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    pub src: End,
    pub dst: End,
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    pub options: Vec<u8>,
    pub data: Vec<u8>,
}

/// An Ethernet frame to a port of the director around an IP packet of either family; IPv6 comes by VLAN 6.
pub fn ip_frame(to: [u8; 6], src: IpAddr, dst: IpAddr, protocol: u8, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; ethernet::header_len(6)];
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => return super::frame(to, src, dst, protocol, body),
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            ethernet::emit(&mut frame, to, PEER, 6, ethernet::IPV6);
            let l3 = frame.len();
            frame.resize(l3 + ipv6::HEADER, 0);
            let payload_len = body.len() as u16;
            let (traffic_class, flow_label, next_header, hop_limit) = (0, 0, protocol, 64);
            ipv6::Header { traffic_class, flow_label, payload_len, next_header, hop_limit, src, dst }
                .emit(&mut frame[l3..]);
        }
        _ => panic!("two families"),
    }
    frame.extend_from_slice(body);
    frame
}

impl Segment {
    /// The frame that brings it to a port of the director.
    pub fn frame(&self, to: [u8; 6]) -> Vec<u8> {
        let mut body = vec![0; tcp::HEADER];
        let (src_port, dst_port) = (self.src.1, self.dst.1);
        let Segment { seq, ack, flags, .. } = *self;
        tcp::Header { src_port, dst_port, seq, ack, flags, window: 8192 }.emit(&mut body);
        body.extend_from_slice(&self.options);
        body[12] = ((body.len() / 4) << 4) as u8;
        body.extend_from_slice(&self.data);
        let pseudo = pseudo_header_of(self.src.0, self.dst.0, ipv4::TCP, body.len());
        let whole = !fold(pseudo + sum(&body));
        body[16..18].copy_from_slice(&whole.to_be_bytes());
        ip_frame(to, self.src.0, self.dst.0, ipv4::TCP, &body)
    }

    /// Reads one that came out; every checksum and length has to be right.
    pub fn read(out: &Out) -> Segment {
        let (src, dst, protocol, body) = read_ip(out);
        assert_eq!(protocol, ipv4::TCP, "TCP: {:02x?}", out.frame);
        let segment = tcp::Segment::new_checked(&body[..]).expect("a TCP header");
        let header = segment.header_len();
        let port = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
        let (seq, ack, flags) = (segment.seq(), segment.ack(), segment.flags());
        let (options, data) = (body[tcp::HEADER..header].to_vec(), body[header..].to_vec());
        Segment { src: (src, port(0)), dst: (dst, port(2)), seq, ack, flags, options, data }
    }
}

/// Ends, protocol and body of a packet that came out, whose lengths and checksums have to be right.
pub fn read_ip(out: &Out) -> (IpAddr, IpAddr, u8, Vec<u8>) {
    let l3 = ethernet::Frame::new_checked(&out.frame[..]).unwrap().header_len();
    let packet = ip::Packet::new_checked(&out.frame[l3..]).expect("an IP packet");
    assert_eq!(packet.total_len(), out.frame.len() - l3, "IP length of {:02x?}", out.frame);
    let (protocol, header) = match packet {
        ip::Packet::V4(ip) => {
            assert!(ip.checksum_ok(), "IPv4 checksum of {:02x?}", out.frame);
            (ip.protocol(), ip.header_len())
        }
        ip::Packet::V6(ip) => {
            let upper = ip.upper().unwrap();
            (upper.protocol, upper.offset)
        }
    };
    let body = out.frame[l3 + header..].to_vec();
    let pseudo = match protocol {
        ipv4::ICMP => 0,
        _ => pseudo_header_of(packet.src(), packet.dst(), protocol, body.len()),
    };
    assert_eq!(fold(pseudo + sum(&body)), 0xffff, "transport checksum of {:02x?}", out.frame);
    (packet.src(), packet.dst(), protocol, body)
}

impl Director {
    /// Puts segments into the port of the clients; gives the ones that come out there, and on the servers' side.
    pub fn tcp(&mut self, segment: &Segment, from_client: bool) -> (Vec<Segment>, Vec<Segment>) {
        let (port, mac) = if from_client { (0, WAN) } else { (1, LAN) };
        let outs = self.send(port, &segment.frame(mac));
        let of = |port| outs.iter().filter(|out| out.port == port).map(Segment::read).collect();
        (of(0), of(1))
    }

    /// What the server sees of a client's segment: exactly one.
    pub fn at_server(&mut self, segment: &Segment) -> Segment {
        let (back, mut there) = self.tcp(segment, true);
        assert_eq!((back.len(), there.len()), (0, 1), "{segment:?}: {back:?} {there:?} {:?}", self.drops());
        there.remove(0)
    }

    /// What the client sees of a server's segment: exactly one.
    pub fn at_client(&mut self, segment: &Segment) -> Segment {
        let (mut there, back) = self.tcp(segment, false);
        assert_eq!((there.len(), back.len()), (1, 0), "{segment:?}: {there:?} {back:?} {:?}", self.drops());
        there.remove(0)
    }
}

/// Both ends of a connection as each believes it to be: the client's to the VIP, and the server's to whom it sees.
#[derive(Clone, Debug)]
pub struct Conversation {
    pub client: Segment,
    pub server: Segment,
}

impl Conversation {
    /// Opens one: the client counts from 1000, the server from 5000. Gives what came out of the three packets.
    pub fn open(
        director: &mut Director,
        client: End,
        vip: End,
        syn_options: &[u8],
    ) -> (Conversation, [Segment; 3]) {
        let mut talk = Conversation {
            client: Segment {
                src: client,
                dst: vip,
                seq: 1000,
                ack: 0,
                flags: tcp::SYN,
                options: syn_options.to_vec(),
                data: vec![],
            },
            server: Segment {
                src: client,
                dst: client,
                seq: 5000,
                ack: 0,
                flags: tcp::SYN | tcp::ACK,
                options: syn_options.to_vec(),
                data: vec![],
            },
        };
        let syn = director.at_server(&talk.client);
        (talk.server.src, talk.server.dst, talk.server.ack) = (syn.dst, syn.src, syn.seq.wrapping_add(1));
        let syn_ack = director.at_client(&talk.server);
        talk.client.seq += 1;
        talk.client.ack = syn_ack.seq.wrapping_add(1);
        talk.client.flags = tcp::ACK;
        talk.client.options.clear();
        talk.server.seq += 1;
        talk.server.flags = tcp::ACK;
        talk.server.options.clear();
        let ack = director.at_server(&talk.client);
        (talk, [syn, syn_ack, ack])
    }

    /// The client's next segment, with these flags beside ACK.
    pub fn ask(&mut self, flags: u8, data: &[u8]) -> Segment {
        next(&mut self.client, flags, data)
    }

    /// The server's next segment.
    pub fn answer(&mut self, flags: u8, data: &[u8]) -> Segment {
        next(&mut self.server, flags, data)
    }
}

fn next(side: &mut Segment, flags: u8, data: &[u8]) -> Segment {
    let segment = Segment { flags: tcp::ACK | flags, data: data.to_vec(), ..side.clone() };
    let length = data.len() as u32 + u32::from(flags & tcp::FIN != 0);
    side.seq = side.seq.wrapping_add(length);
    segment
}
