//! A state while edits are made: its services found by key, however many there are.
//!
//! Deleted services stay in the list until somebody looks through it, so that the places of the others hold: a
//! transaction takes time in proportion to its edits and the state, not to their product.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use super::EditError;
use crate::state::{Service, ServiceKey, State};
use crate::validate::{self, Holders, Problem};

/// A state under edit.
pub(super) struct Draft {
    /// Its services, deleted ones among them.
    pub(super) state: State,
    /// Where in the list the living ones are.
    places: HashMap<ServiceKey, usize>,
    /// Where deleted ones are.
    deleted: HashSet<usize>,
    /// How many services have an address as VIP.
    vips: HashMap<IpAddr, usize>,
    /// How many have one as local address of their own.
    locals: HashMap<IpAddr, usize>,
}

impl Draft {
    pub(super) fn new(mut state: State) -> Draft {
        let services = std::mem::take(&mut state.services);
        let mut draft = Draft {
            state,
            places: HashMap::with_capacity(services.len()),
            deleted: HashSet::new(),
            vips: HashMap::new(),
            locals: HashMap::new(),
        };
        services.into_iter().for_each(|service| draft.push(service));
        draft
    }

    pub(super) fn into_state(mut self) -> State {
        self.sweep();
        self.state
    }

    /// The state with exactly its living services.
    pub(super) fn whole(&mut self) -> &State {
        self.sweep();
        &self.state
    }

    /// The state, of which only what is not services may be looked at.
    pub(super) const fn rest(&self) -> &State {
        &self.state
    }

    pub(super) fn service(&self, key: ServiceKey) -> Option<&Service> {
        self.places.get(&key).map(|place| &self.state.services[*place])
    }

    pub(super) fn known(&self, key: ServiceKey) -> Result<&Service, EditError> {
        self.service(key).ok_or(EditError::NoService(key))
    }

    /// A service whose servers are to be edited: its addresses must stay.
    pub(super) fn service_mut(&mut self, key: ServiceKey) -> Result<&mut Service, EditError> {
        let place = *self.places.get(&key).ok_or(EditError::NoService(key))?;
        Ok(&mut self.state.services[place])
    }

    /// All services, whose servers are to be edited: their addresses must stay.
    pub(super) fn services_mut(&mut self) -> &mut [Service] {
        self.sweep();
        &mut self.state.services
    }

    /// Changes a service in anything but its key.
    pub(super) fn change(
        &mut self,
        key: ServiceKey,
        change: impl FnOnce(&mut Service),
    ) -> Result<(), EditError> {
        let place = *self.places.get(&key).ok_or(EditError::NoService(key))?;
        self.release(place);
        change(&mut self.state.services[place]);
        self.hold(place);
        Ok(())
    }

    /// Adds a service, of whose key there must be none, at the end.
    pub(super) fn push(&mut self, service: Service) {
        let place = self.state.services.len();
        self.places.insert(service.key, place);
        self.state.services.push(service);
        self.hold(place);
    }

    pub(super) fn delete_service(&mut self, key: ServiceKey) -> Result<(), EditError> {
        let place = self.places.remove(&key).ok_or(EditError::NoService(key))?;
        self.release(place);
        self.deleted.insert(place);
        Ok(())
    }

    pub(super) fn clear_services(&mut self) {
        self.state.services.clear();
        self.places.clear();
        self.deleted.clear();
        self.vips.clear();
        self.locals.clear();
    }

    /// What is wrong with a service, its servers aside.
    pub(super) fn judge(&mut self, service: &Service) -> Vec<Problem> {
        let shared = service.key.address().is_some_and(|vip| self.locals.contains_key(&vip))
            || service.local_addresses.iter().any(|own| self.vips.contains_key(&own.0));
        validate::service_among(&self.holders(shared), service)
    }

    /// What is wrong with a local address of a service's own.
    pub(super) fn judge_local_address(&mut self, address: IpAddr) -> Vec<Problem> {
        let shared = self.vips.contains_key(&address);
        validate::local_address_among(&self.holders(shared), address)
    }

    /// Who has addresses; only where one is shared, which is a mistake, it matters who.
    fn holders(&mut self, shared: bool) -> Holders<'_> {
        match shared {
            true => Holders::search(self.whole()),
            false => Holders::nobody(&self.state),
        }
    }

    /// Counts the addresses of the service in this place.
    fn hold(&mut self, place: usize) {
        let service = &self.state.services[place];
        if let Some(vip) = service.key.address() {
            *self.vips.entry(vip).or_default() += 1;
        }
        for own in &service.local_addresses {
            *self.locals.entry(own.0).or_default() += 1;
        }
    }

    /// Counts them no more.
    fn release(&mut self, place: usize) {
        let service = &self.state.services[place];
        if let Some(vip) = service.key.address() {
            forget_one(&mut self.vips, vip);
        }
        for own in &service.local_addresses {
            forget_one(&mut self.locals, own.0);
        }
    }

    /// Takes deleted services out of the list.
    fn sweep(&mut self) {
        if self.deleted.is_empty() {
            return;
        }
        let mut place = 0;
        self.state.services.retain(|_| {
            place += 1;
            !self.deleted.contains(&(place - 1))
        });
        self.deleted.clear();
        self.places =
            self.state.services.iter().enumerate().map(|(place, service)| (service.key, place)).collect();
    }
}

fn forget_one(counts: &mut HashMap<IpAddr, usize>, address: IpAddr) {
    if let Some(count) = counts.get_mut(&address) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&address);
        }
    }
}
