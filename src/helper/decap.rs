//! The far end of an IPIP tunnel on a real server, for kernels that have no ipip device.
//!
//! A raw socket takes IP protocol 4 from the kernel (which then does not refuse it), the inner packet enters
//! the server again through a veth pair, as it would through a tunnel device.

use std::io::Read;

use pcap::{Active, Capture};
use socket2::{Domain, Protocol, Socket, Type};

/// What the server's kernel finds before the inner packet: sent to the pair's other end.
fn ethernet(to: [u8; 6]) -> [u8; 14] {
    let [a, b, c, d, e, f] = to;
    [a, b, c, d, e, f, 2, 0, 0, 0, 0, 4, 8, 0]
}

/// Decapsulates until it is ended: inner packets leave by `device`, for the station `mac`.
pub(crate) fn run(device: &str, mac: [u8; 6]) -> Result<(), Box<dyn std::error::Error>> {
    let mut socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(4)))?;
    socket.set_recv_buffer_size(4 << 20)?;
    let mut out: Capture<Active> = Capture::from_device(device)?.open()?;
    println!("ready");
    let mut packet = [0; 65535];
    loop {
        let length = socket.read(&mut packet)?;
        if let Some(inner) = inner(&packet[..length]) {
            let frame = [&ethernet(mac), inner].concat();
            if let Err(error) = out.sendpacket(frame) {
                eprintln!("{} bytes not sent: {error}", inner.len());
            }
        }
    }
}

/// The IPv4 packet inside an IPIP packet, `None` when either is malformed.
fn inner(outer: &[u8]) -> Option<&[u8]> {
    let header = usize::from(outer.first()? & 15) * 4;
    let inner = outer.get(header..)?;
    let total = usize::from(u16::from_be_bytes([*inner.get(2)?, *inner.get(3)?]));
    (inner[0] >> 4 == 4 && total >= 20).then(|| inner.get(..total)).flatten()
}

#[cfg(test)]
mod tests {
    use super::inner;

    #[test]
    fn the_inner_packet_is_taken_out_whole() {
        let mut packet = vec![0x46; 24]; // an outer header with options
        let mut inside = vec![0x45, 0, 0, 21];
        inside.resize(21, 7);
        packet.extend(&inside);
        packet.extend([0, 0]); // padding
        assert_eq!(inner(&packet), Some(&inside[..]));
        assert_eq!(inner(&packet[..44]), None);
        assert_eq!(inner(&packet[..20]), None);
        assert_eq!(inner(&[]), None);
    }
}
