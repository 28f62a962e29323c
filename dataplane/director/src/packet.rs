//! A packet in flight through the engine: the frame, and what parsing found in it.

use std::net::Ipv4Addr;

use fulcrum_packet::ports::Ports;
use fulcrum_packet::{ipv4, tcp, udp};

use crate::buffer::Buf;
use crate::message::Stage;
use crate::session::Key;

/// A received IPv4 packet whose headers have been checked.
#[derive(Debug)]
pub(crate) struct Packet<B> {
    pub(crate) buf: B,
    /// Port it came in by.
    pub(crate) port: u16,
    /// Times it has been handed from worker to worker, and what this worker is to it.
    pub(crate) hops: u8,
    pub(crate) stage: Stage,
    /// Where the IPv4 header begins, and what follows it.
    pub(crate) l3: usize,
    pub(crate) l4: usize,
    pub(crate) src: Ipv4Addr,
    pub(crate) dst: Ipv4Addr,
    pub(crate) protocol: u8,
    /// Length of the IPv4 packet.
    pub(crate) total: u16,
    /// Ports and TCP flags; 0 where there are none.
    pub(crate) sport: u16,
    pub(crate) dport: u16,
    pub(crate) flags: u8,
}

impl<B: Buf> Packet<B> {
    pub(crate) fn key(&self) -> Key {
        Key {
            protocol: u16::from(self.protocol),
            src: self.src,
            sport: self.sport,
            dst: self.dst,
            dport: self.dport,
        }
    }

    /// The IPv4 packet.
    pub(crate) fn ip_bytes(&self) -> &[u8] {
        &self.buf.bytes()[self.l3..]
    }

    /// The IPv4 header; it was checked when the packet was parsed.
    pub(crate) fn ip(&self) -> ipv4::Packet<&[u8]> {
        checked(ipv4::Packet::new_checked(&self.buf.bytes()[self.l3..]))
    }

    /// The IPv4 header, to be changed.
    pub(crate) fn ip_mut(&mut self) -> ipv4::Packet<&mut [u8]> {
        checked(ipv4::Packet::new_checked(&mut self.buf.bytes_mut()[self.l3..]))
    }

    /// What follows the IPv4 header.
    pub(crate) fn payload(&self) -> &[u8] {
        &self.buf.bytes()[self.l4..]
    }

    /// What follows the IPv4 header, to be changed.
    pub(crate) fn payload_mut(&mut self) -> &mut [u8] {
        &mut self.buf.bytes_mut()[self.l4..]
    }

    /// Reads ports and flags of the transport header; false when it is cut short. Only for a first fragment or
    /// a whole packet.
    pub(crate) fn parse_transport(&mut self) -> bool {
        let payload = &self.buf.bytes()[self.l4..];
        match self.protocol {
            ipv4::TCP => match tcp::Segment::new_checked(payload) {
                Ok(segment) => self.flags = segment.flags(),
                Err(_) => return false,
            },
            ipv4::UDP if udp::Datagram::new_checked(payload).is_err() => return false,
            ipv4::UDP => {}
            _ => return true,
        }
        let ports = checked(Ports::new_checked(&self.buf.bytes()[self.l4..]));
        (self.sport, self.dport) = (ports.src(), ports.dst());
        true
    }
}

/// Takes a view whose check has passed once before on the same bytes.
pub(crate) fn checked<T>(view: Result<T, fulcrum_packet::Malformed>) -> T {
    match view {
        Ok(view) => view,
        Err(malformed) => unreachable!("{malformed}: headers are checked when a packet is parsed"),
    }
}
