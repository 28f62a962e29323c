//! Both addresses of a packet of IPv6 as they stand in its header: compared, hashed, turned round and written as they
//! are, whatever the machine's order of bytes. A packet's own are looked at in their place, not copied.

use std::net::Ipv6Addr;

/// Source and destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Broad([u8; 32]);

impl Broad {
    /// Of addresses as numbers ([`Ipv6Addr::to_bits`]).
    #[inline]
    pub(crate) fn new(src: u128, dst: u128) -> Broad {
        let mut both = [0; 32];
        both[..16].copy_from_slice(&src.to_be_bytes());
        both[16..].copy_from_slice(&dst.to_be_bytes());
        Broad(both)
    }

    /// Of what a header has.
    #[inline(always)]
    pub(crate) fn read(both: &[u8; 32]) -> Broad {
        Broad(*both)
    }

    /// Whether a header has it.
    #[inline(always)]
    pub(crate) fn is(&self, both: &[u8; 32]) -> bool {
        self.0 == *both
    }

    /// Writes into a header what packets of the opposite direction have.
    #[inline(always)]
    pub(crate) fn write_turned(&self, both: &mut [u8; 32]) {
        let (src, dst) = self.0.split_at(16);
        both[..16].copy_from_slice(dst);
        both[16..].copy_from_slice(src);
    }

    /// Source and destination as addresses.
    #[inline]
    pub(crate) fn addresses(&self) -> (Ipv6Addr, Ipv6Addr) {
        let address = |at: usize| {
            let mut bytes = [0; 16];
            bytes.copy_from_slice(&self.0[at..at + 16]);
            Ipv6Addr::from(bytes)
        };
        (address(0), address(16))
    }

    /// All of it, to be hashed: halves of the source, then of the destination.
    #[inline(always)]
    pub(super) fn parts(&self) -> [(u64, u64); 2] {
        let part = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&self.0[at..at + 8]);
            u64::from_ne_bytes(bytes)
        };
        [(part(0), part(8)), (part(16), part(24))]
    }
}
