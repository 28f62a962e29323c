//! Which sessions a listing is about. Applied where the sessions are, so that a million of them do not travel for ten.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use fulcrum_api::BadMessage;
use fulcrum_api::convert::port;
use fulcrum_api::dataplane::{SessionEnd, SessionFilter};
use fulcrum_director::snapshot::{GATEWAY, ServiceId};
use fulcrum_director::{SessionView, Snapshot};
use fulcrum_model::{Family, ServiceKey};
use ipnet::IpNet;
use tonic::Status;

/// What a session has to be; what is absent may be anything.
#[derive(Clone, Debug, Default)]
pub(super) struct Filter {
    worker: Option<usize>,
    protocol: Option<u8>,
    state: Option<String>,
    client: End,
    vip: End,
    local: End,
    server: End,
    template: Option<bool>,
    service: Option<ServiceId>,
    mark: Option<u32>,
}

/// What a session does not say of itself: its service, and that one's mark.
#[derive(Debug)]
pub(super) struct Services {
    snapshot: Arc<Snapshot>,
    marks: HashMap<ServiceId, u32>,
}

impl Services {
    pub(super) fn new(snapshot: Arc<Snapshot>) -> Services {
        let marks = snapshot.mark_services.iter().map(|((_, mark), service)| (service.id, *mark)).collect();
        Services { snapshot, marks }
    }

    /// Whether they are these.
    pub(super) fn are_of(&self, snapshot: &Arc<Snapshot>) -> bool {
        Arc::ptr_eq(&self.snapshot, snapshot)
    }

    fn service(&self, view: &SessionView) -> Option<ServiceId> {
        self.snapshot.destination(view.destination).map(|destination| destination.service)
    }

    /// The rule that masquerades the session; empty when it is a service's.
    pub(super) fn snat(&self, view: &SessionView) -> String {
        match self.service(view) {
            Some(GATEWAY) => {
                self.snapshot.snat_of(view.destination).map(|rule| rule.name.clone()).unwrap_or_default()
            }
            _ => String::new(),
        }
    }

    /// The mark that the session was made for, 0 for none.
    pub(super) fn mark(&self, view: &SessionView) -> u32 {
        self.service(view).and_then(|service| self.marks.get(&service)).copied().unwrap_or(0)
    }
}

/// An address within a network, and a port.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct End {
    pub(super) network: Option<IpNet>,
    pub(super) port: Option<u16>,
}

impl Filter {
    /// The filter that a client asks for, of a data plane with so many workers.
    pub(super) fn new(asked: SessionFilter, workers: usize, snapshot: &Snapshot) -> Result<Filter, Status> {
        let worker = asked.worker.map(|worker| worker as usize);
        if let Some(worker) = worker.filter(|worker| *worker >= workers) {
            let last = workers.saturating_sub(1);
            return Err(
                BadMessage::new("filter.worker", format!("{worker}: the last worker is {last}")).into()
            );
        }
        let protocol = asked.protocol.map(|number| {
            u8::try_from(number)
                .map_err(|_| BadMessage::new("filter.protocol", format!("{number} is more than 255")))
        });
        let end = |field: &str, end: Option<SessionEnd>| match end {
            Some(end) => End::new(end).map_err(|bad| bad.within(field)),
            None => Ok(End::default()),
        };
        let service = asked.service.map(|key| {
            let key = ServiceKey::try_from(key).map_err(|bad| bad.within("filter.service"))?;
            service_id(snapshot, key).ok_or_else(|| Status::not_found(format!("there is no service {key}")))
        });
        Ok(Filter {
            worker,
            protocol: protocol.transpose()?,
            state: Some(asked.state).filter(|state| !state.is_empty()),
            client: end("filter.client", asked.client)?,
            vip: end("filter.virtual", asked.r#virtual)?,
            local: end("filter.local", asked.local)?,
            server: end("filter.server", asked.server)?,
            template: asked.template,
            service: service.transpose()?,
            mark: asked.mark,
        })
    }

    /// Whether sessions of this worker may be meant.
    pub(super) fn takes_worker(&self, worker: usize) -> bool {
        self.worker.is_none_or(|wanted| wanted == worker)
    }

    /// Whether this session is meant.
    pub(super) fn takes(&self, view: &SessionView, services: &Services) -> bool {
        self.protocol.is_none_or(|wanted| wanted == view.protocol)
            && self.state.as_ref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(view.state))
            && self.client.takes(Some(view.client))
            && self.vip.takes(Some(view.vip))
            && self.local.takes(view.local)
            && self.server.takes(Some(view.server))
            && self.template.is_none_or(|wanted| wanted == view.template)
            && self.service.is_none_or(|wanted| services.service(view) == Some(wanted))
            && self.mark.is_none_or(|wanted| services.mark(view) == wanted)
    }
}

impl End {
    pub(super) fn new(end: SessionEnd) -> Result<End, BadMessage> {
        let network = end.network.map(IpNet::try_from).transpose().map_err(|bad| bad.within("network"))?;
        Ok(End { network, port: end.port.map(|number| port("port", number)).transpose()? })
    }

    /// Whether this end of a session is meant; a session without one is when nothing is asked of it.
    fn takes(&self, end: Option<(impl Into<IpAddr>, u16)>) -> bool {
        match end {
            Some((address, port)) => {
                let address = address.into();
                self.network.is_none_or(|network| network.contains(&address))
                    && self.port.is_none_or(|wanted| wanted == port)
            }
            None => self.network.is_none() && self.port.is_none(),
        }
    }
}

fn service_id(snapshot: &Snapshot, key: ServiceKey) -> Option<ServiceId> {
    let service = match key {
        ServiceKey::Address { protocol, address, port } => {
            snapshot.services.get(&(protocol.number(), address, port))
        }
        ServiceKey::Mark { family, mark } => snapshot.mark_services.get(&(family == Family::V6, mark)),
    };
    service.map(|service| service.id)
}
