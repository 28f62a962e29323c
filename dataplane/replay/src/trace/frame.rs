//! The frames of a trace: a flow's first packet and a later one, and in words what the director makes of them.

use std::fmt::Write as _;
use std::net::IpAddr;

use fulcrum_model::Mac;
use fulcrum_packet::checksum::{fold, pseudo_header_of, sum};
use fulcrum_packet::{ethernet, gre, gue, icmp, ip, ipv4, ipv6, ports::Ports, sctp, tcp, udp};

use super::Flow;

/// Length of what a datagram of a trace carries.
const PAYLOAD: usize = 18;

/// A packet of the flow, as the client's side sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// One that may open a session: SYN, INIT, a datagram.
    First,
    /// One in the middle of a session.
    Later,
}

/// A frame with a packet of the flow.
pub(super) fn build(
    flow: &Flow,
    client_port: u16,
    kind: Kind,
    to: [u8; 6],
    from: [u8; 6],
    vlan: u16,
) -> Vec<u8> {
    let number = flow.protocol.number();
    let body = body(number, kind, (flow.client.0, client_port), flow.virtual_);
    let header = ethernet::header_len(vlan);
    let v6 = flow.client.0.is_ipv6();
    let ip = if v6 { ipv6::HEADER } else { ipv4::HEADER };
    let mut frame = vec![0; header + ip + body.len()];
    ethernet::emit(&mut frame, to, from, vlan, if v6 { ethernet::IPV6 } else { ethernet::IPV4 });
    match (flow.client.0, flow.virtual_.0) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let total_len = (ip + body.len()) as u16;
            let header_ = ipv4::Header {
                tos: 0,
                total_len,
                id: 1,
                fragment: ipv4::DF,
                ttl: 64,
                protocol: number,
                src,
                dst,
            };
            header_.emit(&mut frame[header..]);
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let payload_len = body.len() as u16;
            let header_ = ipv6::Header {
                traffic_class: 0,
                flow_label: 0,
                payload_len,
                next_header: number,
                hop_limit: 64,
                src,
                dst,
            };
            header_.emit(&mut frame[header..]);
        }
        // [`super::Tracer::new`] refuses ends of two families.
        _ => {}
    }
    frame[header + ip..].copy_from_slice(&body);
    frame
}

fn body(protocol: u8, kind: Kind, from: (IpAddr, u16), to: (IpAddr, u16)) -> Vec<u8> {
    let (src_port, dst_port) = (from.1, to.1);
    match protocol {
        ipv4::TCP => {
            // A SYN says what it can take, so that a lowered segment size shows.
            let options: &[u8] = if kind == Kind::First { &[2, 4, 0x05, 0xb4] } else { &[] };
            let mut bytes = vec![0; tcp::HEADER + options.len()];
            let (flags, ack) = match kind {
                Kind::First => (tcp::SYN, 0),
                Kind::Later => (tcp::ACK, 1),
            };
            tcp::Header { src_port, dst_port, seq: 1, ack, flags, window: 65_535 }.emit(&mut bytes);
            bytes[12] = ((bytes.len() / 4) << 4) as u8;
            bytes[tcp::HEADER..].copy_from_slice(options);
            let pseudo = pseudo_header_of(from.0, to.0, protocol, bytes.len());
            let whole = !fold(pseudo + sum(&bytes));
            bytes[16..18].copy_from_slice(&whole.to_be_bytes());
            bytes
        }
        ipv4::SCTP => {
            let chunk: &[u8] = match kind {
                Kind::First => &[sctp::INIT, 0, 0, 20, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1],
                Kind::Later => &[sctp::DATA, 3, 0, 20, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            };
            let mut bytes = vec![0; sctp::HEADER + chunk.len()];
            sctp::Header { src_port, dst_port, tag: u32::from(kind == Kind::Later) }.emit(&mut bytes);
            bytes[sctp::HEADER..].copy_from_slice(chunk);
            if let Ok(mut packet) = sctp::Packet::new_checked(&mut bytes[..]) {
                packet.fill_checksum();
            }
            bytes
        }
        _ => {
            let mut bytes = vec![0; udp::HEADER + PAYLOAD];
            udp::Header { src_port, dst_port, length: bytes.len() as u16 }.emit(&mut bytes);
            let whole = match !fold(pseudo_header_of(from.0, to.0, protocol, bytes.len()) + sum(&bytes)) {
                0 => 0xffff,
                whole => whole,
            };
            bytes[6..8].copy_from_slice(&whole.to_be_bytes());
            bytes
        }
    }
}

/// A frame in words: who to whom on the link, then every packet from the outer one in.
pub(super) fn words(frame: &[u8]) -> String {
    let Ok(ethernet) = ethernet::Frame::new_checked(frame) else { return "no frame".to_owned() };
    let mut text = format!("{} > {}", Mac(ethernet.src()), Mac(ethernet.dst()));
    if ethernet.vlan() != 0 {
        let _ = write!(text, ", vlan {}", ethernet.vlan());
    }
    let mut rest = Some(&frame[ethernet.header_len()..]);
    while let Some(bytes) = rest {
        rest = packet(bytes, &mut text);
    }
    let _ = write!(text, ", {} bytes", frame.len());
    text
}

/// Adds a packet's words, and gives what it carries when that is a packet again.
fn packet<'a>(bytes: &'a [u8], text: &mut String) -> Option<&'a [u8]> {
    let v6 = bytes.first()? >> 4 == 6;
    let ip = ip::Packet::new_quoted(v6, bytes).ok()?;
    let (protocol, offset) = match &ip {
        ip::Packet::V4(ip) => (ip.protocol(), ip.header_len()),
        ip::Packet::V6(ip) => ip.upper().ok().map(|upper| (upper.protocol, upper.offset))?,
    };
    let body = bytes.get(offset..)?;
    let end = |address: IpAddr, port: u16| std::net::SocketAddr::new(address, port);
    let name = match protocol {
        ipv4::TCP => "tcp",
        ipv4::UDP => "udp",
        ipv4::SCTP => "sctp",
        _ => {
            let (kind, inner) = match protocol {
                ipv4::IPIP | ipv6::IPV6 => ("in a tunnel", Some(body)),
                gre::PROTOCOL => ("in GRE", gre::Header::parse(body).ok().map(|(_, length)| &body[length..])),
                ipv4::ICMP | ipv6::ICMP => ("icmp", None),
                _ => ("another protocol", None),
            };
            let _ = write!(text, "; {} > {} {kind}", ip.src(), ip.dst());
            if kind == "icmp" {
                let _ = write!(text, " type {}", body.first().copied().unwrap_or(icmp::ECHO_REPLY));
            }
            return inner;
        }
    };
    let ports = Ports::new_checked(body).ok()?;
    let _ = write!(text, "; {} > {} {name}", end(ip.src(), ports.src()), end(ip.dst(), ports.dst()));
    if protocol != ipv4::UDP {
        return None;
    }
    let message = body.get(udp::HEADER..)?;
    let (header, length) = gue::Header::parse(message).ok()?;
    matches!(header.protocol, ipv4::IPIP | ipv6::IPV6).then(|| message.get(length..))?
}
