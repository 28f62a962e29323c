//! Probes of the host that go through the data plane: each is for one server, whether its service has it or not.
//!
//! A server that is out of its service because of its checks has to be asked all the same, so that it can come back: it is
//! kept like a deleted one that has sessions.

use std::sync::Arc;

use fulcrum_director::snapshot::{Destination, FastMap, Forward};
use fulcrum_director::threshold::Thresholds;
use fulcrum_model::{self as model, ServiceKey};

use crate::services::{KnownDestination, Registry, put};
use crate::terms;

/// One way of probes: by their protocol and source port to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Source port of the probes, of the service's protocol.
    pub port: u16,
    /// The service, to whose VIP and port they go.
    pub service: ServiceKey,
    /// The server that gets them.
    pub server: model::Server,
    /// Whether they come from one of the service's local addresses, as with FULLNAT, whatever the server's method is.
    pub from_local_address: bool,
}

impl Registry {
    /// Keeps the servers of these probes from now on, and of no others.
    pub(crate) fn probe(&mut self, probes: Vec<Probe>) {
        self.probed = probes.iter().map(|probe| (probe.service, probe.server.key)).collect();
        self.probes = probes;
    }

    /// Sees to it that every server that is probed is there. After services have been compiled and before what is not
    /// needed is forgotten.
    pub(crate) fn keep_probed(&mut self, generation: u64) {
        for at in 0..self.probes.len() {
            let Probe { service, server, .. } = &self.probes[at];
            let place = (*service, server.key);
            if self.destinations.contains_key(&place) {
                continue;
            }
            let Some(known) = self.services.get(service).filter(|known| known.now.is_some()) else {
                continue;
            };
            let id = self.destination_ids.take();
            let destination = Arc::new(Destination {
                id,
                service: known.id,
                protocol: terms::number(service.protocol()),
                address: server.key.address,
                port: server.key.port,
                forward: terms::forward(server.forward),
                tunnel: terms::tunnel(server.tunnel),
                tunnel_sources: known.tunnel_sources.of(server),
                weight: 0,
                last_weight: server.weight,
                thresholds: Thresholds::new(0, 0),
                available: false,
                counters: self.destination_cells.begin(id),
                profile: known.profile.clone(),
                local: server.forward == model::Forward::Local,
            });
            let nat = server.forward == model::Forward::Nat;
            self.steer_anew |= nat;
            self.same_ways = false;
            put(&mut self.by_id, &destination);
            self.destinations.insert(place, KnownDestination { destination, nat, gone: Some(generation) });
            self.gone.push(place);
        }
    }

    /// Whom probes are for, by protocol number and source port. What the director knows as servers of clients is counted
    /// for these; its probes are not.
    pub(crate) fn probes(&self) -> FastMap<(u8, u16), Arc<Destination>> {
        let of = |probe: &Probe| {
            let protocol = probe.service.protocol()?.number();
            let known = self.destinations.get(&(probe.service, probe.server.key))?;
            let mut destination = Destination::clone(&known.destination);
            destination.available = false;
            if probe.from_local_address {
                destination.forward = Forward::FullNat;
            }
            Some(((protocol, probe.port), Arc::new(destination)))
        };
        self.probes.iter().filter_map(of).collect()
    }
}
