//! Both ends of a packet of IPv4 as they stand in its headers: compared, hashed, turned round and written as they
//! are, whatever the machine's order of bytes.

/// An address and a port, as numbers.
type End = (u32, u16);

/// Source and destination, addresses and ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, packed(4))]
pub struct Narrow {
    addresses: u64,
    ports: u32,
}

impl Narrow {
    /// Of nobody.
    pub(crate) const NONE: Narrow = Narrow { addresses: 0, ports: 0 };

    /// Of ends as numbers ([`std::net::Ipv4Addr::to_bits`]).
    #[inline]
    pub fn new(src: End, dst: End) -> Narrow {
        let ([a, b, c, d], [e, f, g, h]) = (src.0.to_be_bytes(), dst.0.to_be_bytes());
        let ([i, j], [k, l]) = (src.1.to_be_bytes(), dst.1.to_be_bytes());
        Narrow::read([a, b, c, d, e, f, g, h], [i, j, k, l])
    }

    /// Of what headers have: addresses of an IPv4 header, ports of the one behind it.
    #[inline(always)]
    pub(crate) fn read(addresses: [u8; 8], ports: [u8; 4]) -> Narrow {
        Narrow { addresses: u64::from_ne_bytes(addresses), ports: u32::from_ne_bytes(ports) }
    }

    /// What an IPv4 header has of it.
    #[inline(always)]
    pub(crate) fn addresses(self) -> [u8; 8] {
        self.addresses.to_ne_bytes()
    }

    /// What the header behind it has.
    #[inline(always)]
    pub(crate) fn ports(self) -> [u8; 4] {
        self.ports.to_ne_bytes()
    }

    /// Of the opposite direction.
    #[inline(always)]
    pub(crate) fn turned(self) -> Narrow {
        Narrow { addresses: self.addresses.rotate_left(32), ports: self.ports.rotate_left(16) }
    }

    /// Source and destination as numbers.
    #[inline]
    pub(crate) fn ends(self) -> (End, End) {
        let ([a, b, c, d, e, f, g, h], [i, j, k, l]) = (self.addresses(), self.ports());
        let src = (u32::from_be_bytes([a, b, c, d]), u16::from_be_bytes([i, j]));
        (src, (u32::from_be_bytes([e, f, g, h]), u16::from_be_bytes([k, l])))
    }

    /// All of it, to be hashed.
    #[inline(always)]
    pub(super) fn parts(self) -> (u64, u32) {
        (self.addresses, self.ports)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stands_as_in_headers_and_turns_round() {
        let (src, dst) = ((0x0a00_0001, 1024), (0xc0a8_1407, 80));
        let narrow = Narrow::new(src, dst);
        assert_eq!(narrow.addresses(), [10, 0, 0, 1, 192, 168, 20, 7]);
        assert_eq!(narrow.ports(), [4, 0, 0, 80]);
        assert_eq!((narrow.ends(), narrow.turned().ends()), ((src, dst), (dst, src)));
        assert_eq!(narrow.turned().turned(), narrow);
        assert_eq!(size_of::<Narrow>(), 12);
    }
}
