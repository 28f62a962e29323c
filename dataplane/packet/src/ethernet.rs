//! Ethernet II with at most one 802.1Q tag.

use crate::Malformed;
use crate::field::{mac_at, put_u16, u16_at};

const DST: usize = 0;
const SRC: usize = 6;
const TYPE: usize = 12;
const TAG_TYPE: usize = 16;

/// Length of an untagged header.
pub const HEADER: usize = 14;
/// Length of an 802.1Q tag.
pub const TAG: usize = 4;
/// Length of the two addresses at the beginning.
pub const ADDRESSES: usize = 12;

/// Ethernet type of IPv4.
pub const IPV4: u16 = 0x0800;
/// Ethernet type of ARP.
pub const ARP: u16 = 0x0806;
/// Ethernet type of IPv6.
pub const IPV6: u16 = 0x86dd;
/// Ethernet type of an 802.1Q tag.
pub const VLAN: u16 = 0x8100;

/// The broadcast address.
pub const BROADCAST: [u8; 6] = [0xff; 6];

/// Whether an address is a group address (multicast or broadcast).
#[inline]
pub fn is_group(mac: [u8; 6]) -> bool {
    mac[0] & 1 != 0
}

/// A frame.
#[derive(Clone, Copy, Debug)]
pub struct Frame<T> {
    bytes: T,
    header: usize,
}

impl<T: AsRef<[u8]>> Frame<T> {
    /// Checks that the header, tag included, is there.
    #[inline]
    pub fn new_checked(bytes: T) -> Result<Frame<T>, Malformed> {
        let b = bytes.as_ref();
        if b.len() < HEADER {
            return Err(Malformed);
        }
        let header = if u16_at(b, TYPE) == VLAN { HEADER + TAG } else { HEADER };
        if b.len() < header {
            return Err(Malformed);
        }
        Ok(Frame { bytes, header })
    }

    /// Destination address.
    #[inline]
    pub fn dst(&self) -> [u8; 6] {
        mac_at(self.bytes.as_ref(), DST)
    }

    /// Source address.
    #[inline]
    pub fn src(&self) -> [u8; 6] {
        mac_at(self.bytes.as_ref(), SRC)
    }

    /// VLAN id; 0 without a tag and for a priority tag.
    #[inline]
    pub fn vlan(&self) -> u16 {
        if self.header == HEADER { 0 } else { u16_at(self.bytes.as_ref(), HEADER) & 0x0fff }
    }

    /// Type of the payload, behind a tag.
    #[inline]
    pub fn ethertype(&self) -> u16 {
        u16_at(self.bytes.as_ref(), self.header - 2)
    }

    /// Length of the header, tag included: 14 or 18.
    #[inline]
    pub fn header_len(&self) -> usize {
        self.header
    }
}

/// Length of the longest header that [`emit`] writes.
pub const MAX_HEADER: usize = HEADER + TAG;

/// Length of the header that [`emit`] writes for a VLAN.
#[inline]
pub fn header_len(vlan: u16) -> usize {
    if vlan == 0 { HEADER } else { HEADER + TAG }
}

/// Writes a header, with a tag unless `vlan` is 0, and gives its length. `bytes` holds at least that.
#[inline]
pub fn emit(bytes: &mut [u8], dst: [u8; 6], src: [u8; 6], vlan: u16, ethertype: u16) -> usize {
    bytes[DST..DST + 6].copy_from_slice(&dst);
    bytes[SRC..SRC + 6].copy_from_slice(&src);
    if vlan == 0 {
        put_u16(bytes, TYPE, ethertype);
    } else {
        put_u16(bytes, TYPE, VLAN);
        put_u16(bytes, HEADER, vlan);
        put_u16(bytes, TAG_TYPE, ethertype);
    }
    header_len(vlan)
}

/// Sets both addresses of a frame whose header is in place.
#[inline]
pub fn set_addresses(bytes: &mut [u8], dst: [u8; 6], src: [u8; 6]) {
    bytes[DST..DST + 6].copy_from_slice(&dst);
    bytes[SRC..SRC + 6].copy_from_slice(&src);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tagged_and_untagged_round_trip() {
        for (vlan, len) in [(0, 14), (7, 18), (4094, 18)] {
            let mut bytes = [0u8; 18];
            assert_eq!(emit(&mut bytes, [1; 6], [2; 6], vlan, IPV4), len);
            let frame = Frame::new_checked(&bytes[..len]).unwrap();
            assert_eq!((frame.dst(), frame.src(), frame.vlan()), ([1; 6], [2; 6], vlan));
            assert_eq!((frame.ethertype(), frame.header_len()), (IPV4, len));
        }
    }

    #[test]
    fn a_cut_header_is_malformed() {
        let mut bytes = [0u8; 18];
        emit(&mut bytes, [1; 6], [2; 6], 7, IPV4);
        for len in 0..18 {
            assert!(Frame::new_checked(&bytes[..len]).is_err(), "length {len}");
        }
    }

    #[test]
    fn a_priority_tag_counts_as_untagged() {
        let mut bytes = [0u8; 18];
        emit(&mut bytes, [1; 6], [2; 6], 0xe000, ARP);
        assert_eq!(Frame::new_checked(&bytes[..]).unwrap().vlan(), 0);
    }
}
