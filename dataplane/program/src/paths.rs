//! Whether an edit can alter what becomes of an established session's packets.
//!
//! What sessions remember of their way stays good over edits that cannot ([`Snapshot::paths`]). Only weights,
//! thresholds, schedulers with their flags and servers under new ids are known to be harmless; everything else counts.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use fulcrum_director::snapshot::{Destination, Local, Service, Snapshot};

/// Whether a session that is established under `before` meets the same under `after`.
pub(crate) fn unchanged(before: &Snapshot, after: &Snapshot) -> bool {
    before.ports == after.ports
        && before.interfaces == after.interfaces
        && before.by_vlan == after.by_vlan
        && before.routes == after.routes
        && before.next_hops == after.next_hops
        && before.neighbours == after.neighbours
        && before.marks == after.marks
        && before.settings == after.settings
        && before.deleted_services == after.deleted_services
        && before.deleted_mark_services == after.deleted_mark_services
        && before.former_steerings == after.former_steerings
        && Arc::ptr_eq(&before.snat, &after.snat)
        && before.servers == after.servers
        && before.tunnels == after.tunnels
        && before.hosts == after.hosts
        && alike(&before.locals, &after.locals, same_local)
        && alike(&before.services, &after.services, same_service)
        && alike(&before.mark_services, &after.mark_services, same_service)
        && same_destinations(&before.destinations, &after.destinations)
}

fn alike<K: Eq + Hash, V, S: BuildHasher>(
    before: &HashMap<K, V, S>,
    after: &HashMap<K, V, S>,
    same: fn(&V, &V) -> bool,
) -> bool {
    before.len() == after.len()
        && before.iter().all(|(key, before)| after.get(key).is_some_and(|after| same(before, after)))
}

fn same_local(before: &Local, after: &Local) -> bool {
    let pools = match (&before.pool, &after.pool) {
        (Some(before), Some(after)) => Arc::ptr_eq(before, after),
        (before, after) => before.is_none() && after.is_none(),
    };
    before.arp == after.arp && before.withheld == after.withheld && pools
}

fn same_service(before: &Arc<Service>, after: &Arc<Service>) -> bool {
    Arc::ptr_eq(before, after)
        || before.id == after.id
            && before.persistence == after.persistence
            && before.steering == after.steering
            && before.profile == after.profile
            && before.local_addresses == after.local_addresses
}

/// Servers may come under ids that nobody had; those that were there stay what they were.
fn same_destinations(before: &[Option<Arc<Destination>>], after: &[Option<Arc<Destination>>]) -> bool {
    before.len() <= after.len()
        && before.iter().zip(after).all(|(before, after)| match (before, after) {
            (Some(before), Some(after)) => same_destination(before, after),
            (before, after) => before.is_none() && after.is_none(),
        })
}

fn same_destination(before: &Arc<Destination>, after: &Arc<Destination>) -> bool {
    if Arc::ptr_eq(before, after) {
        return true;
    }
    // Every field is either compared or named as harmless: a new one asks here.
    let Destination {
        id,
        service,
        protocol,
        address,
        port,
        forward,
        tunnel,
        tunnel_sources,
        weight: _,
        last_weight: _,
        thresholds: _,
        available,
        counters,
        profile,
        local,
    } = &**before;
    (*id, *service, *protocol, *address, *port)
        == (after.id, after.service, after.protocol, after.address, after.port)
        && (*forward, *tunnel, *available) == (after.forward, after.tunnel, after.available)
        && *tunnel_sources == after.tunnel_sources
        && counters.same(&after.counters)
        && *profile == after.profile
        && *local == after.local
}
