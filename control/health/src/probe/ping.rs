//! `ping`: an ICMP echo, and its reply.

use std::net::SocketAddr;

use socket2::Type;
use tokio::net::UdpSocket;

use super::connect::begin;
use super::udp::send;
use super::{Asked, Tools, Trouble, random};
use crate::path::{Flavour, Way, words};
use crate::target::Target;

/// Type, code, checksum, identifier, sequence number (RFC 792, RFC 4443), and a token that only the reply has.
const LENGTH: usize = 16;

pub(super) async fn ask(tools: &Tools, target: &Target) -> Asked {
    let Way { socket, to } = tools.path.open(target, Flavour::Echo)?;
    let raw = socket.r#type().is_ok_and(|kind| kind == Type::RAW);
    begin(&socket, SocketAddr::new(to.ip(), 0))?;
    let (request, reply) = if to.is_ipv4() { (8, 0) } else { (128, 129) };
    let token = random().to_be_bytes();
    let mut echo = [0; LENGTH];
    echo[0] = request;
    echo[4..6].copy_from_slice(&token[..2]);
    echo[8..].copy_from_slice(&token);
    let sum = checksum(&echo);
    // Of ICMPv6 the kernel makes it: it covers addresses too.
    if to.is_ipv4() {
        echo[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    // Whatever its protocol, to tokio it is a socket that sends and receives.
    let socket = UdpSocket::from_std(socket.into()).map_err(|error| Trouble::Here(words(&error)))?;
    send(&socket, &echo).await?;
    let mut buffer = [0; 2048];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let mut packet = &buffer[..length];
        if raw && to.is_ipv4() {
            // Raw sockets of IPv4 give the IP header too.
            let header = usize::from(packet.first().map_or(0, |first| first & 0xf)) * 4;
            packet = packet.get(header..).unwrap_or_default();
        }
        // A raw socket sees every ICMP packet from there.
        if packet.len() >= LENGTH && packet[0] == reply && packet[8..LENGTH] == token {
            return Ok(());
        }
    }
}

/// RFC 1071, over an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !(((folded & 0xffff) + (folded >> 16)) as u16)
}
