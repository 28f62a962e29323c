//! IPv6 headers and the chain of extension headers behind them (RFC 8200).

use core::net::Ipv6Addr;

use crate::Malformed;
use crate::checksum::Delta;
use crate::field::{put_u16, put_u32, u16_at, u32_at};

const VERSION_CLASS_FLOW: usize = 0;
const LENGTH: usize = 4;
const NEXT: usize = 6;
const HOP_LIMIT: usize = 7;
const SRC: usize = 8;
const DST: usize = 24;

/// Length of a header without extension headers.
pub const HEADER: usize = 40;
/// Length of a fragment header.
pub const FRAGMENT_HEADER: usize = 8;
/// The smallest MTU that an IPv6 link may have.
pub const MIN_MTU: u16 = 1280;

/// Next header: hop-by-hop options.
pub const HOP_BY_HOP: u8 = 0;
/// Next header: IPv6 in IP.
pub const IPV6: u8 = 41;
/// Next header: routing.
pub const ROUTING: u8 = 43;
/// Next header: fragment.
pub const FRAGMENT: u8 = 44;
/// Next header: authentication (RFC 4302), which is walked past like an extension header.
pub const AUTHENTICATION: u8 = 51;
/// Next header: ICMPv6.
pub const ICMP: u8 = 58;
/// Next header: nothing follows.
pub const NONE: u8 = 59;
/// Next header: destination options.
pub const DESTINATION: u8 = 60;

/// Extension headers walked at most; no honest packet has more.
const MAX_HEADERS: usize = 8;

/// A packet; the bytes begin with its header.
#[derive(Clone, Copy, Debug)]
pub struct Packet<T> {
    bytes: T,
}

/// What a fragment header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Where the fragment header begins, from the IPv6 header on.
    pub at: usize,
    /// Offset of the fragment's data in its datagram, in bytes.
    pub offset: usize,
    /// Whether more fragments follow.
    pub more: bool,
    /// Identification.
    pub id: u32,
}

impl Fragment {
    /// Whether the fragment is the whole datagram (RFC 6946).
    pub fn is_atomic(&self) -> bool {
        self.offset == 0 && !self.more
    }
}

/// Where the chain of extension headers leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upper {
    /// Protocol of the upper layer; that of the first fragment's payload in a later fragment.
    pub protocol: u8,
    /// Where it begins, from the IPv6 header on; at most the length of the bytes.
    pub offset: usize,
    /// The fragment header, when there is one.
    pub fragment: Option<Fragment>,
}

impl<T: AsRef<[u8]>> Packet<T> {
    /// Checks version and that the payload length ends within the bytes. Jumbograms (RFC 2675) are not known.
    #[inline]
    pub fn new_checked(bytes: T) -> Result<Packet<T>, Malformed> {
        let packet = Packet::new_quoted(bytes)?;
        if packet.bytes.as_ref().len() < packet.total_len() {
            return Err(Malformed);
        }
        Ok(packet)
    }

    /// Checks version and that the header is there: for headers quoted by ICMP, whose packet is cut.
    #[inline]
    pub fn new_quoted(bytes: T) -> Result<Packet<T>, Malformed> {
        if bytes.as_ref().len() < HEADER || bytes.as_ref()[VERSION_CLASS_FLOW] >> 4 != 6 {
            return Err(Malformed);
        }
        Ok(Packet { bytes })
    }

    /// Traffic class: DSCP and ECN.
    #[inline]
    pub fn traffic_class(&self) -> u8 {
        (u16_at(self.bytes.as_ref(), VERSION_CLASS_FLOW) >> 4) as u8
    }

    /// Flow label.
    #[inline]
    pub fn flow_label(&self) -> u32 {
        u32_at(self.bytes.as_ref(), VERSION_CLASS_FLOW) & 0x000f_ffff
    }

    /// Length of everything behind the header in bytes.
    #[inline]
    pub fn payload_len(&self) -> u16 {
        u16_at(self.bytes.as_ref(), LENGTH)
    }

    /// Length of header and payload in bytes.
    #[inline]
    pub fn total_len(&self) -> usize {
        HEADER + usize::from(self.payload_len())
    }

    /// Kind of the header that follows.
    #[inline]
    pub fn next_header(&self) -> u8 {
        self.bytes.as_ref()[NEXT]
    }

    /// Hop limit.
    #[inline]
    pub fn hop_limit(&self) -> u8 {
        self.bytes.as_ref()[HOP_LIMIT]
    }

    /// Source address.
    #[inline]
    pub fn src(&self) -> Ipv6Addr {
        address_at(self.bytes.as_ref(), SRC)
    }

    /// Destination address.
    #[inline]
    pub fn dst(&self) -> Ipv6Addr {
        address_at(self.bytes.as_ref(), DST)
    }

    /// Walks the extension headers to the upper layer. Behind a later fragment's header nothing is walked: what
    /// is there is the middle of something.
    pub fn upper(&self) -> Result<Upper, Malformed> {
        let bytes = self.bytes.as_ref();
        let end = self.total_len().min(bytes.len());
        let mut upper = Upper { protocol: self.next_header(), offset: HEADER, fragment: None };
        for _ in 0..MAX_HEADERS {
            let at = upper.offset;
            let need = |n: usize| if end - at < n { Err(Malformed) } else { Ok(()) };
            let length = match upper.protocol {
                HOP_BY_HOP | ROUTING | DESTINATION => {
                    need(8)?;
                    (usize::from(bytes[at + 1]) + 1) * 8
                }
                AUTHENTICATION => {
                    need(8)?;
                    (usize::from(bytes[at + 1]) + 2) * 4
                }
                FRAGMENT => {
                    need(FRAGMENT_HEADER)?;
                    let field = u16_at(bytes, at + 2);
                    let fragment = Fragment {
                        at,
                        offset: usize::from(field & !7),
                        more: field & 1 != 0,
                        id: u32_at(bytes, at + 4),
                    };
                    upper.fragment = Some(fragment);
                    if fragment.offset != 0 {
                        upper.protocol = bytes[at];
                        upper.offset += FRAGMENT_HEADER;
                        return Ok(upper);
                    }
                    FRAGMENT_HEADER
                }
                _ => return Ok(upper),
            };
            need(length)?;
            upper.protocol = bytes[at];
            upper.offset += length;
        }
        Err(Malformed)
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Packet<T> {
    /// Sets the source address; gives the change for the transport checksum.
    #[inline]
    pub fn set_src(&mut self, address: Ipv6Addr) -> Delta {
        self.set_address(SRC, address)
    }

    /// Sets the destination address; gives the change for the transport checksum.
    #[inline]
    pub fn set_dst(&mut self, address: Ipv6Addr) -> Delta {
        self.set_address(DST, address)
    }

    #[inline]
    fn set_address(&mut self, at: usize, address: Ipv6Addr) -> Delta {
        let mut delta = Delta::default();
        for (word, new) in address.octets().chunks_exact(4).enumerate() {
            let new = u32_at(new, 0);
            delta = delta.double(u32_at(self.bytes.as_ref(), at + word * 4), new);
            put_u32(self.bytes.as_mut(), at + word * 4, new);
        }
        delta
    }

    /// Takes one off the hop limit, which is not 0.
    #[inline]
    pub fn decrement_hop_limit(&mut self) {
        let limit = self.hop_limit().wrapping_sub(1);
        self.bytes.as_mut()[HOP_LIMIT] = limit;
    }

    /// Sets the hop limit.
    #[inline]
    pub fn set_hop_limit(&mut self, limit: u8) {
        self.bytes.as_mut()[HOP_LIMIT] = limit;
    }

    /// Sets the kind of the header that follows.
    #[inline]
    pub fn set_next_header(&mut self, next: u8) {
        self.bytes.as_mut()[NEXT] = next;
    }

    /// Sets the length of everything behind the header.
    #[inline]
    pub fn set_payload_len(&mut self, length: u16) {
        put_u16(self.bytes.as_mut(), LENGTH, length);
    }
}

#[inline]
fn address_at(bytes: &[u8], at: usize) -> Ipv6Addr {
    let mut octets = [0; 16];
    octets.copy_from_slice(&bytes[at..at + 16]);
    Ipv6Addr::from(octets)
}

/// A fragment header: what follows it, where that is in its datagram in bytes, and of which datagram.
pub fn fragment_header(next: u8, offset: usize, more: bool, id: u32) -> [u8; FRAGMENT_HEADER] {
    let [high, low] = ((offset & 0xfff8) as u16 | u16::from(more)).to_be_bytes();
    let [a, b, c, d] = id.to_be_bytes();
    [next, 0, high, low, a, b, c, d]
}

/// A header to be written.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// Traffic class.
    pub traffic_class: u8,
    /// Flow label, 20 bits.
    pub flow_label: u32,
    /// Length of everything behind the header.
    pub payload_len: u16,
    /// Kind of the header that follows.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Source address.
    pub src: Ipv6Addr,
    /// Destination address.
    pub dst: Ipv6Addr,
}

impl Header {
    /// Writes the header to the front of `bytes`, which hold at least [`HEADER`].
    #[inline]
    pub fn emit(&self, bytes: &mut [u8]) {
        let bytes = &mut bytes[..HEADER];
        let first = (6 << 28) | (u32::from(self.traffic_class) << 20) | (self.flow_label & 0x000f_ffff);
        put_u32(bytes, VERSION_CLASS_FLOW, first);
        put_u16(bytes, LENGTH, self.payload_len);
        bytes[NEXT] = self.next_header;
        bytes[HOP_LIMIT] = self.hop_limit;
        bytes[SRC..SRC + 16].copy_from_slice(&self.src.octets());
        bytes[DST..DST + 16].copy_from_slice(&self.dst.octets());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(next_header: u8, payload: &[u8]) -> ([u8; 128], usize) {
        let mut bytes = [0; 128];
        let header = Header {
            traffic_class: 0xb8,
            flow_label: 0x12345,
            payload_len: payload.len() as u16,
            next_header,
            hop_limit: 64,
            src: Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2),
            dst: Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x100),
        };
        header.emit(&mut bytes);
        bytes[HEADER..HEADER + payload.len()].copy_from_slice(payload);
        (bytes, HEADER + payload.len())
    }

    #[test]
    fn what_is_written_is_read() {
        let (bytes, length) = packet(17, &[0; 8]);
        let ip = Packet::new_checked(&bytes[..length]).unwrap();
        assert_eq!((ip.traffic_class(), ip.flow_label(), ip.hop_limit()), (0xb8, 0x12345, 64));
        assert_eq!((ip.total_len(), ip.next_header()), (48, 17));
        assert!(Packet::new_checked(&bytes[..length - 1]).is_err());
        assert_eq!(ip.upper(), Ok(Upper { protocol: 17, offset: HEADER, fragment: None }));
    }

    #[test]
    fn extension_headers_lead_to_the_upper_layer() {
        let mut payload = [0; 40];
        (payload[0], payload[8], payload[9]) = (DESTINATION, FRAGMENT, 1);
        payload[24] = 6;
        (payload[27], payload[31]) = (1, 9);
        let (bytes, length) = packet(HOP_BY_HOP, &payload);
        let upper = Packet::new_checked(&bytes[..length]).unwrap().upper().unwrap();
        assert_eq!((upper.protocol, upper.offset), (6, 72));
        assert_eq!(upper.fragment, Some(Fragment { at: 64, offset: 0, more: true, id: 9 }));
    }

    #[test]
    fn chains_that_are_cut_or_endless_are_refused() {
        let (bytes, length) = packet(DESTINATION, &[6, 3, 0, 0, 0, 0, 0, 0]);
        assert_eq!(Packet::new_checked(&bytes[..length]).unwrap().upper(), Err(Malformed));
        let endless = [[DESTINATION, 0, 0, 0, 0, 0, 0, 0]; 9];
        let (bytes, length) = packet(DESTINATION, endless.as_flattened());
        assert_eq!(Packet::new_checked(&bytes[..length]).unwrap().upper(), Err(Malformed));
    }

    #[test]
    fn a_later_fragment_is_not_walked_further() {
        let (bytes, length) = packet(FRAGMENT, &[DESTINATION, 0, 0x05, 0xa8, 0, 0, 0, 7, 0xff, 0xff]);
        let upper = Packet::new_checked(&bytes[..length]).unwrap().upper().unwrap();
        assert_eq!((upper.protocol, upper.offset), (DESTINATION, 48));
        assert_eq!(upper.fragment, Some(Fragment { at: 40, offset: 0x5a8, more: false, id: 7 }));
    }
}
