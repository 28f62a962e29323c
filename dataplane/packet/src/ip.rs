//! IPv4 or IPv6, whichever the bytes begin with: what both headers have in common.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::checksum::Delta;
use crate::{Malformed, ipv4, ipv6};

/// A packet; the bytes begin with its header.
#[derive(Clone, Copy, Debug)]
pub enum Packet<T> {
    /// IPv4.
    V4(ipv4::Packet<T>),
    /// IPv6.
    V6(ipv6::Packet<T>),
}

macro_rules! either {
    ($self:ident, $v4:ident => $a:expr, $v6:ident => $b:expr) => {
        match $self {
            Packet::V4($v4) => $a,
            Packet::V6($v6) => $b,
        }
    };
}

impl<T: AsRef<[u8]>> Packet<T> {
    /// Checks the header by its version.
    #[inline]
    pub fn new_checked(bytes: T) -> Result<Packet<T>, Malformed> {
        match bytes.as_ref().first() {
            Some(first) if first >> 4 == 6 => ipv6::Packet::new_checked(bytes).map(Packet::V6),
            _ => ipv4::Packet::new_checked(bytes).map(Packet::V4),
        }
    }

    /// Checks only that the header is there: for headers quoted by ICMP, whose packet is cut.
    #[inline]
    pub fn new_quoted(v6: bool, bytes: T) -> Result<Packet<T>, Malformed> {
        if v6 {
            return ipv6::Packet::new_quoted(bytes).map(Packet::V6);
        }
        ipv4::Packet::new_quoted(bytes).map(Packet::V4)
    }

    /// Source address.
    #[inline]
    pub fn src(&self) -> IpAddr {
        either!(self, v4 => IpAddr::V4(v4.src()), v6 => IpAddr::V6(v6.src()))
    }

    /// Destination address.
    #[inline]
    pub fn dst(&self) -> IpAddr {
        either!(self, v4 => IpAddr::V4(v4.dst()), v6 => IpAddr::V6(v6.dst()))
    }

    /// Length of header and payload in bytes.
    #[inline]
    pub fn total_len(&self) -> usize {
        either!(self, v4 => usize::from(v4.total_len()), v6 => v6.total_len())
    }

    /// Time to live, hop limit.
    #[inline]
    pub fn ttl(&self) -> u8 {
        either!(self, v4 => v4.ttl(), v6 => v6.hop_limit())
    }

    /// Type of service, traffic class: DSCP and ECN.
    #[inline]
    pub fn tos(&self) -> u8 {
        either!(self, v4 => v4.tos(), v6 => v6.traffic_class())
    }

    /// Whether a router must not fragment the packet; IPv6 never lets it.
    #[inline]
    pub fn dont_fragment(&self) -> bool {
        either!(self, v4 => v4.dont_fragment(), _v6 => true)
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Packet<T> {
    /// Sets the source address, which has the packet's family; mends the header checksum of IPv4. Gives the
    /// change for the transport checksum.
    #[inline]
    pub fn set_src(&mut self, address: IpAddr) -> Delta {
        match (self, address) {
            (Packet::V4(ip), IpAddr::V4(address)) => ip.set_src(address),
            (Packet::V6(ip), IpAddr::V6(address)) => ip.set_src(address),
            _ => unreachable!("an address of the other family"),
        }
    }

    /// Sets the destination address, like [`Packet::set_src`].
    #[inline]
    pub fn set_dst(&mut self, address: IpAddr) -> Delta {
        match (self, address) {
            (Packet::V4(ip), IpAddr::V4(address)) => ip.set_dst(address),
            (Packet::V6(ip), IpAddr::V6(address)) => ip.set_dst(address),
            _ => unreachable!("an address of the other family"),
        }
    }

    /// Sets the TTL or hop limit.
    #[inline]
    pub fn set_ttl(&mut self, ttl: u8) {
        either!(self, v4 => v4.set_ttl(ttl), v6 => v6.set_hop_limit(ttl));
    }

    /// Takes one off the TTL or hop limit, which is not 0.
    #[inline]
    pub fn decrement_ttl(&mut self) {
        either!(self, v4 => v4.decrement_ttl(), v6 => v6.decrement_hop_limit());
    }
}

/// The unspecified address of a family.
pub const fn unspecified(v6: bool) -> IpAddr {
    if v6 { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { IpAddr::V4(Ipv4Addr::UNSPECIFIED) }
}
