//! In which order own addresses came up.

use std::net::IpAddr;
use std::sync::Arc;

use fulcrum_director::snapshot::{Arrival, FastMap, Local};

/// The arrivals of the snapshot of `generation`, which has these addresses; the same list as `before` when nothing
/// came or went.
pub(crate) fn arrivals(
    before: &Arc<[Arrival]>,
    locals: &FastMap<IpAddr, Local>,
    generation: u64,
) -> Arc<[Arrival]> {
    let known: FastMap<_, _> =
        before.iter().map(|arrival| ((arrival.interface, arrival.address), arrival.since)).collect();
    let now = locals.iter().filter_map(|(&address, local)| {
        let interface = local.arp?;
        let since = known.get(&(interface, address)).copied().unwrap_or(generation);
        Some(Arrival { since, interface, address })
    });
    let mut now: Vec<Arrival> = now.collect();
    now.sort_unstable();
    if *now == **before { before.clone() } else { now.into() }
}
