//! Rules for what masquerades.

use super::{Problem, add, listed, mark, name};
use crate::state::{Family, Snat, SnatProtocol, State};

/// Rules for a rule that masquerades, in a state.
pub fn snat(state: &State, rule: &Snat) -> Vec<Problem> {
    let mut found = Vec::new();
    name(&mut found, "a snat rule", &rule.name);
    mark::host_bits(&mut found, [("source", Some(rule.source)), ("destination", rule.destination)]);
    let family = rule.family();
    if rule.destination.is_some_and(|to| Family::of(to.addr()) != family) {
        add(&mut found, "destination", "source and destination of a snat rule are of two families");
    }
    let transport = matches!(rule.protocol, Some(SnatProtocol::Transport(_)));
    mark::ports(&mut found, "destination-ports", &rule.destination_ports, transport);
    if let Some(wanted) = &rule.pool {
        match state.local_pools.iter().find(|pool| pool.name == *wanted) {
            None => {
                let known = listed(state.local_pools.iter().map(|pool| pool.name.as_str()));
                add(&mut found, "pool", format!("there is no local pool `{wanted}`; {known}"));
            }
            Some(pool) if pool.addresses.iter().all(|range| range.family() != family) => {
                let of = family.name();
                add(
                    &mut found,
                    "pool",
                    format!("local pool `{wanted}` has no address of {of}, which the source is of"),
                );
            }
            Some(_) => {}
        }
    }
    found
}
