//! ARP for IPv4 over Ethernet (RFC 826).

use core::net::Ipv4Addr;

use crate::Malformed;
use crate::field::{mac_at, put_u16, u16_at, u32_at};

const HTYPE: usize = 0;
const PTYPE: usize = 2;
const LENGTHS: usize = 4;
const OPERATION: usize = 6;
const SHA: usize = 8;
const SPA: usize = 14;
const THA: usize = 18;
const TPA: usize = 24;

/// Length of a packet.
pub const LEN: usize = 28;

/// A question.
pub const REQUEST: u16 = 1;
/// An answer.
pub const REPLY: u16 = 2;

/// One ARP packet, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// [`REQUEST`], [`REPLY`] or something else.
    pub operation: u16,
    /// Sender's hardware address.
    pub sha: [u8; 6],
    /// Sender's protocol address.
    pub spa: Ipv4Addr,
    /// Target's hardware address.
    pub tha: [u8; 6],
    /// Target's protocol address.
    pub tpa: Ipv4Addr,
}

impl Packet {
    /// Reads a packet; [`Malformed`] unless it is whole and about IPv4 over Ethernet.
    pub fn parse(bytes: &[u8]) -> Result<Packet, Malformed> {
        if bytes.len() < LEN
            || u16_at(bytes, HTYPE) != 1
            || u16_at(bytes, PTYPE) != 0x0800
            || u16_at(bytes, LENGTHS) != 0x0604
        {
            return Err(Malformed);
        }
        Ok(Packet {
            operation: u16_at(bytes, OPERATION),
            sha: mac_at(bytes, SHA),
            spa: Ipv4Addr::from_bits(u32_at(bytes, SPA)),
            tha: mac_at(bytes, THA),
            tpa: Ipv4Addr::from_bits(u32_at(bytes, TPA)),
        })
    }

    /// Writes the packet into the first [`LEN`] of `bytes`.
    pub fn emit(&self, bytes: &mut [u8]) {
        put_u16(bytes, HTYPE, 1);
        put_u16(bytes, PTYPE, 0x0800);
        put_u16(bytes, LENGTHS, 0x0604);
        put_u16(bytes, OPERATION, self.operation);
        bytes[SHA..SPA].copy_from_slice(&self.sha);
        bytes[SPA..THA].copy_from_slice(&self.spa.octets());
        bytes[THA..TPA].copy_from_slice(&self.tha);
        bytes[TPA..LEN].copy_from_slice(&self.tpa.octets());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_cut() {
        let packet = Packet {
            operation: REPLY,
            sha: [2, 0, 0, 0, 1, 1],
            spa: Ipv4Addr::new(10, 0, 0, 1),
            tha: [2, 0, 0, 0, 1, 2],
            tpa: Ipv4Addr::new(10, 0, 0, 2),
        };
        let mut bytes = [0u8; LEN];
        packet.emit(&mut bytes);
        assert_eq!(Packet::parse(&bytes), Ok(packet));
        assert!(Packet::parse(&bytes[..LEN - 1]).is_err());
        bytes[4] = 8;
        assert!(Packet::parse(&bytes).is_err());
    }
}
