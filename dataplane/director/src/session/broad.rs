//! Both addresses of a packet of IPv6 as they stand in its header: compared, hashed, turned round and written as they
//! are, whatever the machine's order of bytes.

use std::net::Ipv6Addr;

/// Source and destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Broad([[u8; 16]; 2]);

impl Broad {
    /// Of addresses as numbers ([`Ipv6Addr::to_bits`]).
    #[inline]
    pub(crate) fn new(src: u128, dst: u128) -> Broad {
        Broad([src.to_be_bytes(), dst.to_be_bytes()])
    }

    /// Of what a header has.
    #[inline(always)]
    pub(crate) fn read(src: [u8; 16], dst: [u8; 16]) -> Broad {
        Broad([src, dst])
    }

    /// What a header has of it: source and destination.
    #[inline(always)]
    pub(crate) fn bytes(self) -> [[u8; 16]; 2] {
        self.0
    }

    /// Of the opposite direction.
    #[inline(always)]
    pub(crate) fn turned(self) -> Broad {
        let [src, dst] = self.0;
        Broad([dst, src])
    }

    /// Source and destination as addresses.
    #[inline]
    pub(crate) fn addresses(self) -> (Ipv6Addr, Ipv6Addr) {
        let [src, dst] = self.0;
        (src.into(), dst.into())
    }

    /// All of it, to be hashed: halves of the source, then of the destination.
    #[inline(always)]
    pub(super) fn parts(self) -> [(u64, u64); 2] {
        self.0.map(|address| {
            let bits = u128::from_ne_bytes(address);
            ((bits >> 64) as u64, bits as u64)
        })
    }
}
