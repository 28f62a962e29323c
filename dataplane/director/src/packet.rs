//! A packet in flight through the engine: the frame, and what parsing found in it.

use std::net::IpAddr;

use fulcrum_packet::ports::Ports;
use fulcrum_packet::{Malformed, ip, ipv4, ipv6, sctp, tcp, udp};

use crate::buffer::Buf;
use crate::message::Stage;
use crate::session::Key;
use crate::snapshot::InterfaceId;

/// A received IP packet whose headers have been checked.
#[derive(Debug)]
pub(crate) struct Packet<B> {
    pub(crate) buf: B,
    /// Port and interface it came in by.
    pub(crate) port: u16,
    pub(crate) interface: InterfaceId,
    /// Times it has been handed from worker to worker, and what this worker is to it.
    pub(crate) hops: u8,
    pub(crate) stage: Stage,
    /// Where the IP header begins, and the upper layer behind it and its extension headers.
    pub(crate) l3: usize,
    pub(crate) l4: usize,
    pub(crate) src: IpAddr,
    pub(crate) dst: IpAddr,
    pub(crate) protocol: u8,
    /// Length of the IP packet.
    pub(crate) total: usize,
    /// What makes it a fragment, when it is one (an atomic one of IPv6 is none).
    pub(crate) fragment: Option<Fragment>,
    /// Mark that the rules gave it.
    pub(crate) mark: u32,
    /// Ports, and TCP's flags or SCTP's leading chunk; 0 where there are none.
    pub(crate) sport: u16,
    pub(crate) dport: u16,
    pub(crate) flags: u8,
}

/// Which part of its datagram a fragment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fragment {
    pub(crate) id: u32,
    /// In bytes.
    pub(crate) offset: usize,
    pub(crate) more: bool,
}

impl<B: Buf> Packet<B> {
    /// Reads the headers of an IP packet at `l3` of a frame that has no padding any more.
    pub(crate) fn parse(buf: B, l3: usize) -> Result<Packet<B>, B> {
        let Ok(ip) = ip::Packet::new_checked(&buf.bytes()[l3..]) else { return Err(buf) };
        let (src, dst, total) = (ip.src(), ip.dst(), ip.total_len());
        let (protocol, offset, fragment) = match &ip {
            ip::Packet::V4(ip) => {
                let field = ip.fragment();
                let fragment = ip.is_fragment().then(|| Fragment {
                    id: u32::from(ip.id()),
                    offset: usize::from(field & ipv4::OFFSET) * 8,
                    more: field & ipv4::MF != 0,
                });
                (ip.protocol(), ip.header_len(), fragment)
            }
            ip::Packet::V6(ip) => {
                let Ok(upper) = ip.upper() else { return Err(buf) };
                let fragment = upper.fragment.filter(|fragment| !fragment.is_atomic());
                let fragment =
                    fragment.map(|ipv6::Fragment { id, offset, more, .. }| Fragment { id, offset, more });
                (upper.protocol, upper.offset, fragment)
            }
        };
        Ok(Packet {
            buf,
            port: 0,
            interface: 0,
            hops: 0,
            stage: Stage::Arrived,
            l3,
            l4: l3 + offset,
            src,
            dst,
            protocol,
            total,
            fragment,
            mark: 0,
            sport: 0,
            dport: 0,
            flags: 0,
        })
    }

    pub(crate) fn key(&self) -> Key {
        if is_ipsec(self.protocol) {
            return ike_key(self.src, self.dst);
        }
        Key {
            protocol: u16::from(self.protocol),
            src: self.src,
            sport: self.sport,
            dst: self.dst,
            dport: self.dport,
        }
    }

    /// Takes the packet for one of this flow.
    pub(crate) fn become_of(&mut self, flow: Key, flags: u8) {
        self.protocol = flow.protocol as u8;
        (self.src, self.sport) = (flow.src, flow.sport);
        (self.dst, self.dport) = (flow.dst, flow.dport);
        self.flags = flags;
    }

    pub(crate) fn is_v6(&self) -> bool {
        self.src.is_ipv6()
    }

    /// Whether it is ICMP of its family.
    pub(crate) fn is_icmp(&self) -> bool {
        self.protocol == if self.is_v6() { ipv6::ICMP } else { ipv4::ICMP }
    }

    /// Whether it is a fragment without the beginning of its datagram.
    pub(crate) fn is_later_fragment(&self) -> bool {
        self.fragment.is_some_and(|fragment| fragment.offset != 0)
    }

    /// Whether its ports are known: of a whole packet, or of a fragment whose first one has shown them.
    pub(crate) fn has_ports(&self) -> bool {
        self.fragment.is_none() || matches!(self.stage, Stage::Fragment { .. }) || is_ipsec(self.protocol)
    }

    /// Whether it asks for a new session: a SYN, of whoever, or an INIT. // IPVS: is_new_conn
    pub(crate) fn opens(&self) -> bool {
        match self.protocol {
            _ if self.is_later_fragment() => false,
            ipv4::TCP => self.flags & tcp::SYN != 0,
            ipv4::SCTP => self.flags == sctp::INIT,
            _ => false,
        }
    }

    /// What it counts: packets and bytes. A fragmented datagram counts once, with what a reassembled one had.
    pub(crate) fn weight(&self) -> (u64, u64) {
        if self.is_later_fragment() {
            return (0, (self.total - (self.l4 - self.l3)) as u64);
        }
        (1, self.total as u64)
    }

    /// Hops that it may still go, this one included.
    #[inline]
    pub(crate) fn ttl(&self) -> u8 {
        let place = self.l3 + if self.is_v6() { 7 } else { 8 };
        self.buf.bytes().get(place).copied().unwrap_or(0)
    }

    /// The IP packet.
    pub(crate) fn ip_bytes(&self) -> &[u8] {
        &self.buf.bytes()[self.l3..]
    }

    /// The IP header; it was checked when the packet was parsed.
    pub(crate) fn ip(&self) -> ip::Packet<&[u8]> {
        checked(ip::Packet::new_checked(&self.buf.bytes()[self.l3..]))
    }

    /// The IP header, to be changed.
    pub(crate) fn ip_mut(&mut self) -> ip::Packet<&mut [u8]> {
        checked(ip::Packet::new_checked(&mut self.buf.bytes_mut()[self.l3..]))
    }

    /// What follows the IP header and its extension headers.
    pub(crate) fn payload(&self) -> &[u8] {
        &self.buf.bytes()[self.l4..]
    }

    /// What follows the IP header and its extension headers, to be changed.
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
            ipv4::SCTP => match sctp::Packet::new_checked(payload).map(|packet| packet.leading_chunk()) {
                Ok(Some(chunk)) => self.flags = chunk,
                _ => return false,
            },
            _ => return true,
        }
        let ports = checked(Ports::new_checked(&self.buf.bytes()[self.l4..]));
        (self.sport, self.dport) = (ports.src(), ports.dst());
        true
    }
}

/// Takes a view whose check has passed once before on the same bytes.
pub(crate) fn checked<T>(view: Result<T, Malformed>) -> T {
    match view {
        Ok(view) => view,
        Err(malformed) => unreachable!("{malformed}: headers are checked when a packet is parsed"),
    }
}

/// Whether a protocol is one whose packets services balance.
pub(crate) fn is_balanced(protocol: u8) -> bool {
    matches!(protocol, ipv4::TCP | ipv4::UDP | ipv4::SCTP)
}

/// Whether a protocol is one that follows its IKE session, AH or ESP.
pub(crate) fn is_ipsec(protocol: u8) -> bool {
    matches!(protocol, ipv4::AH | ipv4::ESP)
}

/// Whether packets of a protocol belong to sessions.
pub(crate) fn follows_session(protocol: u8) -> bool {
    is_balanced(protocol) || is_ipsec(protocol)
}

/// The key of the IKE session that AH and ESP between two ends follow. // IPVS: ah_esp_conn_fill_param_proto
pub(crate) fn ike_key(src: IpAddr, dst: IpAddr) -> Key {
    const IKE: u16 = 500;
    Key { protocol: u16::from(ipv4::UDP), src, sport: IKE, dst, dport: IKE }
}
