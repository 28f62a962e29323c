//! States as streams of changes, and what two ends compare to know that they hold the same one.

use std::collections::{HashMap, HashSet};

use fulcrum_model::{Service, ServiceKey, State};
use prost::Message as _;
use xxhash_rust::xxh64::Xxh64;

use crate::convert::BadMessage;
use crate::state::{Change, Network, change};

/// The changes that make `state` out of nothing.
pub fn changes(state: &State) -> Vec<Change> {
    whole(state).collect()
}

/// The changes that make `new` out of `old`, the order of services included; none when they are equal.
pub fn difference(old: &State, new: &State) -> Vec<Change> {
    let stay = services_that_stay(old, new);
    let mut list = Vec::new();
    if Network::from(old) != Network::from(new) {
        list.push(network(new));
    }
    list.extend(
        old.services.iter().map(|service| &service.key).filter(|key| !stay.contains(key)).map(delete),
    );
    let before: HashMap<_, _> = old.services.iter().map(|service| (service.key, service)).collect();
    let unchanged = |service: &&Service| {
        stay.contains(&service.key) && before.get(&service.key).is_some_and(|old| old == service)
    };
    list.extend(new.services.iter().filter(|service| !unchanged(service)).map(put));
    list
}

/// Applies one change.
pub fn apply_change(state: &mut State, change: Change) -> Result<(), BadMessage> {
    apply_changes(state, [change])
}

/// Applies changes in order, in time linear in their number and the state's size. After an error the state is
/// something in between: apply to a copy.
pub fn apply_changes(state: &mut State, changes: impl IntoIterator<Item = Change>) -> Result<(), BadMessage> {
    // Services by key; a deleted one leaves a hole, so that the places of the others hold.
    let mut services: Vec<Option<Service>> =
        std::mem::take(&mut state.services).into_iter().map(Some).collect();
    let mut places: HashMap<ServiceKey, usize> =
        services.iter().enumerate().filter_map(|(at, service)| Some((service.as_ref()?.key, at))).collect();
    for change in changes {
        match change.change.ok_or_else(|| BadMessage::new("change", "is missing"))? {
            change::Change::Network(network) => {
                *state = State::try_from(network).map_err(|bad| bad.within("network"))?;
            }
            change::Change::PutService(service) => {
                let service = Service::try_from(service).map_err(|bad| bad.within("put_service"))?;
                let end = services.len();
                let place = *places.entry(service.key).or_insert(end);
                if place == end {
                    services.push(Some(service));
                } else {
                    services[place] = Some(service);
                }
            }
            change::Change::DeleteService(key) => {
                let key = ServiceKey::try_from(key).map_err(|bad| bad.within("delete_service"))?;
                match places.remove(&key) {
                    Some(place) => services[place] = None,
                    None => return Err(BadMessage::new("delete_service", "there is no such service")),
                }
            }
            change::Change::ClearServices(_) => {
                services.clear();
                places.clear();
            }
        }
    }
    state.services = services.into_iter().flatten().collect();
    Ok(())
}

/// A 64-bit hash of a state, the same on every machine and in every process of one version.
pub fn fingerprint(state: &State) -> u64 {
    let mut hash = Xxh64::new(0);
    let mut bytes = Vec::new();
    for change in whole(state) {
        bytes.clear();
        // The length in front keeps two neighbours from being read as one.
        change.encode_length_delimited(&mut bytes).expect("a vector takes any number of bytes");
        hash.update(&bytes);
    }
    hash.digest()
}

fn whole(state: &State) -> impl Iterator<Item = Change> {
    std::iter::once(network(state)).chain(state.services.iter().map(put))
}

fn network(state: &State) -> Change {
    Change { change: Some(change::Change::Network(state.into())) }
}

fn put(service: &Service) -> Change {
    Change { change: Some(change::Change::PutService(service.into())) }
}

fn delete(key: &ServiceKey) -> Change {
    Change { change: Some(change::Change::DeleteService(key.into())) }
}

/// A put adds at the end, so what may stay where it is are the first services of the new state, as far as they
/// come in the same order in the old one. All others are deleted and put again.
fn services_that_stay(old: &State, new: &State) -> HashSet<ServiceKey> {
    let places: HashMap<_, _> =
        old.services.iter().enumerate().map(|(at, service)| (service.key, at)).collect();
    let mut last = None;
    new.services
        .iter()
        .map_while(|service| {
            let place = *places.get(&service.key)?;
            (last < Some(place)).then(|| {
                last = Some(place);
                service.key
            })
        })
        .collect()
}
