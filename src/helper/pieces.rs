//! Large UDP datagrams, cut into fragments here and sent in any order, which no kernel does by itself.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use clap::ValueEnum;
use socket2::{Domain, Protocol, Socket, Type};

/// How the fragments of a datagram are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Order {
    /// By the kernel, as it likes.
    Kernel,
    /// First to last.
    Forward,
    /// Last to first.
    Backward,
    /// The first one in the middle.
    Shuffled,
}

/// Bytes of the datagram in one fragment: fits everywhere.
const PIECE: usize = 1200;
const UDP: u8 = 17;
const FRAGMENT: u8 = 44;

/// Asks `count` times with `size` bytes, from a new port each time, and prints the names that came back with the same
/// bytes, one a line, `-` for none.
pub(crate) fn ask(
    server: SocketAddr,
    size: usize,
    count: u32,
    order: Order,
    wait: Duration,
) -> Result<(), Box<dyn std::error::Error>> {
    // Kept open: the kernel would give a port that is free again a second time.
    let mut open = Vec::new();
    for number in 0..count {
        let socket = UdpSocket::bind((super::any(server.is_ipv4()), 0))?;
        socket.connect(server)?;
        socket.set_read_timeout(Some(wait))?;
        let question = question(number, size);
        if order == Order::Kernel {
            socket.send(&question)?;
        } else {
            send(&socket, server, number, &question, order)?;
        }
        let mut buffer = vec![0; 65535];
        let answer = socket.recv(&mut buffer).ok().and_then(|length| {
            let name = buffer[..length].strip_suffix(&question[..])?.strip_suffix(b" ")?;
            Some(String::from_utf8_lossy(name).into_owned())
        });
        println!("{}", answer.unwrap_or_else(|| "-".to_owned()));
        open.push(socket);
    }
    Ok(())
}

/// Bytes that differ from datagram to datagram and from place to place.
fn question(number: u32, size: usize) -> Vec<u8> {
    (0..size as u32).map(|at| (at.wrapping_mul(0x9e37_79b9) >> 13) as u8 ^ number as u8).collect()
}

fn send(
    socket: &UdpSocket,
    server: SocketAddr,
    number: u32,
    payload: &[u8],
    order: Order,
) -> Result<(), Box<dyn std::error::Error>> {
    let client = socket.local_addr()?;
    let datagram = datagram(client, server, payload);
    let id = (std::process::id() << 8).wrapping_add(number);
    let mut pieces: Vec<Vec<u8>> = (0..datagram.len())
        .step_by(PIECE)
        .map(|at| fragment(client.ip(), server.ip(), id, at, &datagram))
        .collect();
    match order {
        Order::Kernel | Order::Forward => {}
        Order::Backward => pieces.reverse(),
        Order::Shuffled => pieces.rotate_left(2),
    }
    // For this protocol the kernel takes IP headers as they are given.
    let raw = Socket::new(Domain::for_address(server), Type::RAW, Some(Protocol::from(255)))?;
    let to = SocketAddr::new(server.ip(), 0).into();
    pieces.iter().try_for_each(|piece| raw.send_to(piece, &to).map(drop))?;
    Ok(())
}

/// A UDP datagram with its checksum.
fn datagram(client: SocketAddr, server: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() + 8) as u16;
    let mut datagram = [client.port(), server.port(), length, 0].map(u16::to_be_bytes).concat();
    datagram.extend(payload);
    let mut all = [octets(client.ip()), octets(server.ip())].concat();
    all.extend([0, UDP]);
    all.extend(length.to_be_bytes());
    all.extend(&datagram);
    let words = all.chunks(2).map(|word| u64::from(word[0]) << 8 | u64::from(*word.get(1).unwrap_or(&0)));
    let mut sum: u64 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let sum = if sum == 0xffff { 0xffff } else { !sum as u16 };
    datagram[6..8].copy_from_slice(&sum.to_be_bytes());
    datagram
}

/// The IP packet that carries the datagram's part from `at` on.
fn fragment(from: IpAddr, to: IpAddr, id: u32, at: usize, datagram: &[u8]) -> Vec<u8> {
    let part = &datagram[at..datagram.len().min(at + PIECE)];
    let more = at + part.len() < datagram.len();
    let mut packet = if from.is_ipv4() {
        let cut = (at / 8) as u16 | u16::from(more) << 13;
        let words = [0x4500, (20 + part.len()) as u16, id as u16, cut, 0x4000 | u16::from(UDP), 0];
        words.map(u16::to_be_bytes).concat()
    } else {
        let length = ((8 + part.len()) as u16).to_be_bytes();
        [&[0x60, 0, 0, 0], &length[..], &[FRAGMENT, 64]].concat()
    };
    packet.extend(octets(from));
    packet.extend(octets(to));
    if from.is_ipv6() {
        packet.extend([UDP, 0]);
        packet.extend((at as u16 | u16::from(more)).to_be_bytes());
        packet.extend(id.to_be_bytes());
    }
    packet.extend(part);
    packet
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}
