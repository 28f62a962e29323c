//! One look at everything: the desired state, and all that the data plane counts, asked for at once.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fulcrum_api::dataplane::dataplane_client::DataplaneClient;
use fulcrum_api::dataplane::{
    Counters, DataplaneStatus, GetStatusRequest, ListCountersRequest, LocalPoolUse, ProcessUse,
    ServiceCounters,
};
use fulcrum_api::{process, socket};
use fulcrum_model::{ServiceKey, State};
use tokio::sync::watch;
use tokio::time::timeout;
use tonic::Status;
use tonic::transport::Channel;

use crate::desired::Revision;
use crate::reconcile::Link;

/// The data plane has told everything within this time, or the scrape does without.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where it is looked.
#[derive(Clone, Debug)]
pub struct Source {
    /// The desired state.
    pub wanted: watch::Receiver<Revision>,
    /// The connection to the data plane.
    pub link: watch::Receiver<Link>,
    /// Why the configuration file is not in effect, empty when it is.
    pub config_error: watch::Receiver<String>,
    /// When the process started.
    pub started: Instant,
    /// Services, and as many servers, that are told of one by one at most.
    pub limit: usize,
}

/// What was seen.
#[derive(Debug, Default)]
pub struct Scrape {
    /// What this process takes of the machine.
    pub control: ProcessUse,
    /// Since its start.
    pub uptime: Duration,
    /// The configuration file is in effect.
    pub config_in_effect: bool,
    /// The connection to the data plane.
    pub link: Link,
    /// What the data plane told, unless it did not.
    pub dataplane: Option<DataplaneStatus>,
    /// Counters of all services together.
    pub total: Option<Counters>,
    /// Services in the order of the desired state, as many as are told of one by one.
    pub services: Vec<ServiceView>,
    /// Services that there are.
    pub service_count: usize,
    /// Servers that there are.
    pub server_count: usize,
    /// Services and servers without series of their own.
    pub omitted: (usize, usize),
    /// How long the look took.
    pub took: Duration,
}

/// A service and what was counted of it.
#[derive(Debug, Default)]
pub struct ServiceView {
    /// Its name, such as `tcp 172.16.100.9:80`.
    pub name: String,
    /// Its scheduler.
    pub scheduler: String,
    /// Its protocol, `mark` for a service by mark.
    pub protocol: &'static str,
    /// Absent without a data plane, or when this one does not have it yet.
    pub counters: Option<Counters>,
    /// Its servers that there are.
    pub server_count: usize,
    /// Of these, those that take new connections.
    pub available: usize,
    /// Sessions of all its servers: active, inactive.
    pub sessions: (u64, u64),
    /// Its use of local addresses: sessions, and ports that were found taken; absent when it uses none.
    pub local: Option<(u64, u64)>,
    /// Its servers: all of them, or none when there are too many.
    pub servers: Vec<ServerView>,
}

/// A server and what was counted of it.
#[derive(Debug, Default)]
pub struct ServerView {
    /// Its address and port.
    pub name: String,
    /// As configured.
    pub weight: u32,
    /// What was counted.
    pub counted: Option<ServerCounted>,
}

/// What the data plane counted of a server.
#[derive(Clone, Copy, Debug, Default)]
pub struct ServerCounted {
    /// Since they were zeroed.
    pub counters: Counters,
    /// Sessions that are established.
    pub active: u64,
    /// Other sessions.
    pub inactive: u64,
}

impl Source {
    /// Looks.
    pub async fn look(&self) -> Scrape {
        let begun = Instant::now();
        let link = self.link.borrow().clone();
        let answer = match link.channel.clone() {
            Some(channel) => timeout(PATIENCE, ask(channel)).await.ok().and_then(Result::ok),
            None => None,
        };
        let (mut dataplane, counted, total) = match answer {
            Some((status, counted, total)) => (Some(status), counted, total),
            None => (None, Vec::new(), None),
        };
        let state = self.wanted.borrow().state.clone();
        let (config_in_effect, limit) = (self.config_error.borrow().is_empty(), self.limit);
        let (uptime, control) = (self.started.elapsed(), process::usage());
        // Names of tens of thousands take their time, which is not the other tasks'.
        let uses =
            dataplane.as_mut().map(|status| std::mem::take(&mut status.local_pools)).unwrap_or_default();
        let views = tokio::task::spawn_blocking(move || views(&state, counted, &uses, limit));
        let (services, service_count, server_count, omitted) = views.await.unwrap_or_default();
        Scrape {
            control,
            uptime,
            config_in_effect,
            link,
            dataplane,
            total,
            services,
            service_count,
            server_count,
            omitted,
            took: begun.elapsed(),
        }
    }
}

type Answer = (DataplaneStatus, Vec<ServiceCounters>, Option<Counters>);

/// All that the data plane has to tell.
async fn ask(channel: Channel) -> Result<Answer, Status> {
    let mut client = DataplaneClient::new(channel).max_decoding_message_size(socket::MESSAGE_LIMIT);
    let asked = GetStatusRequest { local_pools: true, every_count: true };
    let status = client.get_status(asked).await?.into_inner();
    let mut chunks = client.list_counters(ListCountersRequest {}).await?.into_inner();
    let (mut services, mut total) = (Vec::new(), None);
    while let Some(chunk) = chunks.message().await? {
        services.extend(chunk.services);
        total = total.or(chunk.total);
    }
    Ok((status, services, total))
}

/// Services with what was counted of them, as far as `limit` allows; how many services and servers there are, and how
/// many of these are left out. Which ones follows from the desired state alone, so that series do not come and go.
fn views(
    state: &Arc<State>,
    counted: Vec<ServiceCounters>,
    uses: &[LocalPoolUse],
    limit: usize,
) -> (Vec<ServiceView>, usize, usize, (usize, usize)) {
    let by_key: HashMap<ServiceKey, ServiceCounters> = counted
        .into_iter()
        .filter_map(|service| Some((ServiceKey::try_from(service.key.clone()?).ok()?, service)))
        .collect();
    let mut locals: HashMap<&str, (u64, u64)> = HashMap::new();
    for used in uses {
        let (sessions, conflicts) = locals.entry(&used.service).or_default();
        *sessions += used.sessions;
        *conflicts += used.conflicts;
    }
    let servers = state.services.iter().map(|service| service.servers.len()).sum();
    let mut room = limit;
    let views: Vec<ServiceView> = state
        .services
        .iter()
        .take(limit)
        .map(|service| {
            let one_by_one = service.servers.len() <= room;
            room -= if one_by_one { service.servers.len() } else { 0 };
            let view = view(service, by_key.get(&service.key), one_by_one);
            ServiceView { local: locals.get(view.name.as_str()).copied(), ..view }
        })
        .collect();
    let omitted = (state.services.len() - views.len(), servers - (limit - room));
    (views, state.services.len(), servers, omitted)
}

fn view(
    service: &fulcrum_model::Service,
    counted: Option<&ServiceCounters>,
    one_by_one: bool,
) -> ServiceView {
    let counted_servers = counted.map_or(&[][..], |counted| &counted.servers);
    let sessions = counted_servers
        .iter()
        .fold((0, 0), |(active, inactive), server| (active + server.active, inactive + server.inactive));
    let servers = match one_by_one {
        true => {
            let by_key: HashMap<_, _> = counted_servers
                .iter()
                .filter_map(|server| {
                    Some((fulcrum_model::ServerKey::try_from(server.key.clone()?).ok()?, server))
                })
                .collect();
            let server = |server: &fulcrum_model::Server| ServerView {
                name: server.key.to_string(),
                weight: server.weight,
                counted: by_key.get(&server.key).map(|counted| ServerCounted {
                    counters: counted.counters.unwrap_or_default(),
                    active: counted.active,
                    inactive: counted.inactive,
                }),
            };
            service.servers.iter().map(server).collect()
        }
        false => Vec::new(),
    };
    ServiceView {
        name: service.key.to_string(),
        scheduler: service.scheduler.clone(),
        protocol: service.key.protocol().map_or("mark", |protocol| protocol.name()),
        counters: counted.map(|counted| counted.counters.unwrap_or_default()),
        server_count: service.servers.len(),
        available: service.servers.iter().filter(|server| server.weight > 0).count(),
        sessions,
        local: None,
        servers,
    }
}

#[cfg(test)]
mod tests {
    use fulcrum_model::Config;

    use super::*;

    fn state(services: &[usize]) -> Arc<State> {
        let text: String = services
            .iter()
            .enumerate()
            .map(|(n, servers)| {
                let servers = (0..*servers).map(|m| {
                    format!("[[service.server]]\naddress = \"192.168.20.{m}:80\"\nforward = \"dr\"\nweight = {m}\n")
                });
                format!("[[service]]\naddress = \"172.16.100.{n}:80\"\nprotocol = \"tcp\"\nscheduler = \"rr\"\n")
                    + &servers.collect::<String>()
            })
            .collect();
        Arc::new(Config::parse("test", &text).unwrap().state)
    }

    #[test]
    fn a_service_has_series_for_all_of_its_servers_or_for_none() {
        let state = state(&[2, 4, 1, 3]);
        let told = |limit| {
            let (views, services, servers, omitted) = views(&state, Vec::new(), &[], limit);
            assert_eq!((services, servers), (4, 10));
            (views.iter().map(|view| view.servers.len()).collect::<Vec<_>>(), omitted)
        };
        assert_eq!(told(100), (vec![2, 4, 1, 3], (0, 0)));
        assert_eq!(told(10), (vec![2, 4, 1, 3], (0, 0)));
        assert_eq!(told(5), (vec![2, 0, 1, 0], (0, 7)));
        assert_eq!(told(3), (vec![2, 0, 1], (1, 7)));
        assert_eq!(told(0), (vec![], (4, 10)));
        let view = &views(&state, Vec::new(), &[], 5).0[1];
        assert_eq!((view.server_count, view.available), (4, 3), "sums are of all servers");
    }
}
