//! In which order own addresses came up.

use std::sync::Arc;

use fulcrum_director::snapshot::{Arrival, FastMap, InterfaceId, Locals};

/// The arrivals of the snapshot of `generation`, which has these addresses; the same list as `before` when nothing
/// came or went. Those of interfaces that are to be heard of `again` come up anew.
pub(crate) fn arrivals(
    before: &Arc<[Arrival]>,
    locals: &Locals,
    generation: u64,
    again: impl Fn(InterfaceId) -> bool,
) -> Arc<[Arrival]> {
    let known: FastMap<_, _> = before
        .iter()
        .filter(|arrival| !again(arrival.interface))
        .map(|arrival| ((arrival.interface, arrival.address), arrival.since))
        .collect();
    let now = locals.iter().filter_map(|(&address, local)| {
        let interface = local.arp?;
        let since = known.get(&(interface, address)).copied().unwrap_or(generation);
        Some(Arrival { since, interface, address })
    });
    let mut now: Vec<Arrival> = now.collect();
    now.sort_unstable();
    if *now == **before { before.clone() } else { now.into() }
}
