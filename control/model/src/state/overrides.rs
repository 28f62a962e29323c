//! What a service has beside what a tool that knows only IPVS's words makes of it.

use std::borrow::Cow;
use std::collections::HashMap;

use super::{ClientAddress, Forward, Server, Service, ServiceKey, State};

/// Goes by the service's key and stands beside the service: it is there before, and stays when the service is deleted.
/// What it names comes in place of what the service says itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// Of which service.
    pub service: ServiceKey,
    /// Whether its NAT servers are reached by FULLNAT.
    pub full_nat: bool,
    /// Its pool of local addresses.
    pub local_pool: Option<String>,
    /// Interface on which its VIP answers ARP.
    pub interface: Option<String>,
    /// Largest TCP segment that may be announced.
    pub mss: Option<u16>,
    /// How its FULLNAT servers learn the client's address.
    pub client_address: Option<ClientAddress>,
}

impl Override {
    /// One that changes nothing yet.
    pub const fn new(service: ServiceKey) -> Override {
        Override {
            service,
            full_nat: false,
            local_pool: None,
            interface: None,
            mss: None,
            client_address: None,
        }
    }

    /// The service as it is with this.
    pub fn on(&self, service: &Service) -> Service {
        let mut shaped = service.clone();
        if self.full_nat {
            let sorry = shaped.health.sorry_server.iter_mut().map(|sorry| &mut **sorry);
            let nat = |server: &&mut Server| server.forward == Forward::Nat;
            shaped.servers.iter_mut().chain(sorry).filter(nat).for_each(|server| {
                server.forward = Forward::FullNat;
            });
        }
        shaped.local_pool = self.local_pool.clone().or(shaped.local_pool);
        shaped.interface = self.interface.clone().or(shaped.interface);
        shaped.mss = self.mss.or(shaped.mss);
        shaped.client_address = self.client_address.unwrap_or(shaped.client_address);
        shaped
    }
}

impl State {
    /// The override of a service, whether the service is there or not.
    pub fn override_of(&self, key: ServiceKey) -> Option<&Override> {
        self.overrides.iter().find(|over| over.service == key)
    }

    /// A service as it is with its override.
    pub fn overridden<'a>(&self, service: &'a Service) -> Cow<'a, Service> {
        match self.override_of(service.key) {
            Some(over) => Cow::Owned(over.on(service)),
            None => Cow::Borrowed(service),
        }
    }

    /// The state with every service as it is with its override, and without overrides.
    pub fn with_overrides(&self) -> State {
        let by_key: HashMap<_, _> = self.overrides.iter().map(|over| (over.service, over)).collect();
        let mut state = State { overrides: Vec::new(), ..self.clone() };
        for service in &mut state.services {
            if let Some(over) = by_key.get(&service.key) {
                *service = over.on(service);
            }
        }
        state
    }
}
