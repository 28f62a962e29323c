//! The director's own addresses.

use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;

use super::{FastMap, InterfaceId};
use crate::counters::{LocalCells, PerWorker};

/// An address of the director.
#[derive(Clone, Debug, Default)]
pub struct Local {
    /// Interface that answers ARP or neighbour solicitations for it; `None`: no interface does.
    pub arp: Option<InterfaceId>,
    /// What FULLNAT does with it, when it is a local address; the same object as long as the address is one.
    pub pool: Option<Arc<PerWorker<LocalCells>>>,
    /// Whether it is a VIP that somebody else has now: not answered for, not forwarded to, not defended.
    pub withheld: bool,
}

/// Own addresses. Every new session asks for one twice, and whether its client's is one: those of IPv4 are therefore
/// in a table of their own as well, where that takes a dozen instructions.
#[derive(Debug, Default)]
pub struct Locals {
    all: FastMap<IpAddr, Local>,
    /// At most half full: a search goes on to the next place until it meets a free one.
    narrow: Box<[Option<(u32, Local)>]>,
    /// Upper bits of a product that are a place.
    shift: u32,
}

/// Odd, near the golden ratio: neighbours are put far apart.
const SPREAD: u32 = 0x9e37_79b1;

impl Locals {
    /// What an address is, when it is the director's.
    #[inline]
    pub fn get(&self, address: &IpAddr) -> Option<&Local> {
        match address {
            IpAddr::V4(address) => self.get_v4(address.to_bits()),
            IpAddr::V6(_) => self.all.get(address),
        }
    }

    /// The same of IPv4.
    #[inline]
    pub fn get_v4(&self, address: u32) -> Option<&Local> {
        let mut place = (address.wrapping_mul(SPREAD) >> self.shift) as usize;
        loop {
            match self.narrow.get(place)? {
                Some((own, local)) if *own == address => return Some(local),
                Some(_) => place = (place + 1) & (self.narrow.len() - 1),
                None => return None,
            }
        }
    }

    /// Whether an address is the director's.
    #[inline]
    pub fn contains_key(&self, address: &IpAddr) -> bool {
        self.get(address).is_some()
    }
}

impl From<FastMap<IpAddr, Local>> for Locals {
    fn from(all: FastMap<IpAddr, Local>) -> Locals {
        let narrow = all.iter().filter_map(|(address, local)| match address {
            IpAddr::V4(address) => Some((address.to_bits(), local)),
            IpAddr::V6(_) => None,
        });
        let size = (2 * narrow.clone().count()).next_power_of_two().max(2);
        let mut places: Box<[Option<(u32, Local)>]> = vec![None; size].into();
        let shift = u32::BITS - size.ilog2();
        for (address, local) in narrow {
            let mut place = (address.wrapping_mul(SPREAD) >> shift) as usize;
            while places[place].is_some() {
                place = (place + 1) & (size - 1);
            }
            places[place] = Some((address, local.clone()));
        }
        Locals { all, narrow: places, shift }
    }
}

/// All of them, in no order.
impl Deref for Locals {
    type Target = FastMap<IpAddr, Local>;

    fn deref(&self) -> &FastMap<IpAddr, Local> {
        &self.all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locals(addresses: &[u32]) -> Locals {
        let local = |arp| Local { arp: Some(arp), ..Local::default() };
        let all = addresses.iter().zip(0..).map(|(&bits, number)| (IpAddr::V4(bits.into()), local(number)));
        all.collect::<FastMap<_, _>>().into()
    }

    #[test]
    fn own_addresses_are_found_and_no_others() {
        let pool: Vec<u32> = (0x0a01_0100..0x0a01_0200).chain([0, 1, u32::MAX]).collect();
        let pool = locals(&pool);
        for (address, local) in pool.iter() {
            assert_eq!(pool.get(address).and_then(|found| found.arp), local.arp);
        }
        for other in [0x0a01_00ff, 0x0a01_0200, 2, u32::MAX - 1] {
            assert!(pool.get_v4(other).is_none() && !pool.contains_key(&IpAddr::V4(other.into())));
        }
    }

    #[test]
    fn addresses_that_meet_go_round_the_end() {
        // Their products have the same upper bits, all ones.
        let inverse = (0..5).fold(SPREAD, |x, _| x.wrapping_mul(2u32.wrapping_sub(SPREAD.wrapping_mul(x))));
        let meet: Vec<u32> = (0..40).map(|n| (u32::MAX - n).wrapping_mul(inverse)).collect();
        let (here, others) = meet.split_at(20);
        let locals = locals(here);
        assert!(here.iter().all(|&address| locals.get_v4(address).is_some()));
        assert!(others.iter().all(|&address| locals.get_v4(address).is_none()));
    }

    #[test]
    fn without_any_nothing_is_found() {
        assert!(Locals::default().get_v4(7).is_none());
        assert!(locals(&[]).get_v4(7).is_none());
    }
}
