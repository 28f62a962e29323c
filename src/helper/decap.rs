//! The far end of a tunnel on a real server, for kernels that have no tunnel devices.
//!
//! Raw sockets take tunnel packets from the kernel, which then does not refuse them; the inner packet enters the
//! server again through a veth pair, as it would through a tunnel device.

use std::io::Read;
use std::net::UdpSocket;
use std::thread;

use pcap::{Active, Capture};
use socket2::{Domain, Protocol, Socket, Type};

/// Where GUE arrives.
const GUE_PORT: u16 = 6080;

/// What is around the inner packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Around {
    Nothing,
    Gre,
    Gue,
}

/// Decapsulates until it is ended: inner packets leave by `device`, for the station `mac`.
pub(crate) fn run(device: &str, mac: [u8; 6]) -> Result<(), Box<dyn std::error::Error>> {
    let mut threads = Vec::new();
    // Keeps the kernel from refusing GUE, of either family; it would not take IPv6 without a checksum itself.
    let _bound = UdpSocket::bind((super::any(false), GUE_PORT))?;
    for family in [Domain::IPV4, Domain::IPV6] {
        for (protocol, around) in
            [(4, Around::Nothing), (41, Around::Nothing), (47, Around::Gre), (17, Around::Gue)]
        {
            let socket = Socket::new(family, Type::RAW, Some(Protocol::from(protocol)))?;
            socket.set_recv_buffer_size(4 << 20)?;
            let out: Capture<Active> = Capture::from_device(device)?.open()?;
            // Only a raw IPv4 socket gives the outer header too.
            let header = family == Domain::IPV4;
            threads.push(thread::spawn(move || pump(socket, header, around, out, mac)));
        }
    }
    println!("ready");
    threads.into_iter().for_each(|thread| drop(thread.join()));
    Err("all sockets are gone".into())
}

fn pump(mut socket: Socket, header: bool, around: Around, mut out: Capture<Active>, mac: [u8; 6]) {
    let mut packet = [0; 65535];
    while let Ok(length) = socket.read(&mut packet) {
        let outer = &packet[..length];
        let skip = if header { usize::from(outer.first().unwrap_or(&0) & 15) * 4 } else { 0 };
        if let Some(inner) = outer.get(skip..).and_then(|payload| inner(payload, around)) {
            let frame = [&ethernet(mac, inner), inner].concat();
            if let Err(error) = out.sendpacket(frame) {
                eprintln!("{} bytes not sent: {error}", inner.len());
            }
        }
    }
}

/// What the server's kernel finds before the inner packet: sent to the pair's other end.
fn ethernet(to: [u8; 6], inner: &[u8]) -> [u8; 14] {
    let [a, b, c, d, e, f] = to;
    let [high, low] = if inner[0] >> 4 == 4 { [0x08, 0x00] } else { [0x86, 0xdd] };
    [a, b, c, d, e, f, 2, 0, 0, 0, 0, 4, high, low]
}

/// The IP packet in a tunnel packet, behind its outer IP header; `None` when either is malformed.
fn inner(payload: &[u8], around: Around) -> Option<&[u8]> {
    let skip = match around {
        Around::Nothing => 0,
        // RFC 2890: checksum, key and sequence number are there when their bits are.
        Around::Gre => 4 + 4 * (payload.first()? & 0xb0).count_ones() as usize,
        Around::Gue if payload.get(2..4)? != GUE_PORT.to_be_bytes() => return None,
        // Behind the UDP header (draft-ietf-intarea-gue): four bytes, and as many words as the first byte says.
        Around::Gue => 8 + 4 + 4 * usize::from(payload.get(8)? & 31),
    };
    let inner = payload.get(skip..)?;
    let be16 = |at: usize| Some(usize::from(u16::from_be_bytes([*inner.get(at)?, *inner.get(at + 1)?])));
    let total = match inner.first()? >> 4 {
        4 => be16(2)?,
        6 => 40 + be16(4)?,
        _ => return None,
    };
    (total >= 20).then(|| inner.get(..total)).flatten()
}

#[cfg(test)]
mod tests {
    use super::{Around, inner};

    #[test]
    fn the_inner_packet_is_taken_out_whole() {
        let mut inside = vec![0x45, 0, 0, 21];
        inside.resize(21, 7);
        let mut inside6 = vec![0x60, 0, 0, 0, 0, 2];
        inside6.resize(42, 7);
        for (head, around) in [
            (&[][..], Around::Nothing),
            (&[0, 0, 8, 0], Around::Gre),
            (&[0x80, 0, 8, 0, 1, 2, 3, 4], Around::Gre),
            (&[9, 9, 0x17, 0xc0, 0, 0, 0, 0, 0, 4, 0, 0], Around::Gue),
            (&[9, 9, 0x17, 0xc0, 0, 0, 0, 0, 1, 4, 0, 0, 1, 2, 3, 4], Around::Gue),
        ] {
            for inside in [&inside, &inside6] {
                let packet = [head, inside, &[0, 0]].concat(); // with padding
                assert_eq!(inner(&packet, around), Some(&inside[..]));
                let short = head.len() + inside.len() - 1;
                assert_eq!(inner(&packet[..short], around), None);
                assert_eq!(inner(&packet[..head.len()], around), None);
            }
        }
        assert_eq!(inner(&[], Around::Gre), None);
    }
}
