//! Probes that go through the data plane: tells it which source port is for which server.
//!
//! Level-triggered: looks every [`LOOK`] whether what is probed or the data plane is another one than before, and then
//! says all of it. Until the data plane has it, such probes have no way, which says nothing about servers.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use fulcrum_api::dataplane::dataplane_client::DataplaneClient;
use fulcrum_api::dataplane::{Probe, RegisterProbesRequest};
use fulcrum_api::socket;
use fulcrum_health::{Target, Through};
use fulcrum_model::{CheckKind, Protocol, State, Via};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tonic::transport::Channel;
use tracing::{debug, warn};

use crate::reconcile::{ANSWER, Link};
use crate::verdict::keeper::Verdicts;
use crate::verdict::plan::Plan;

/// Between two looks at what has changed.
const LOOK: Duration = Duration::from_millis(250);

/// The one who tells.
#[derive(Debug)]
pub struct Registrar {
    /// Hands out the source ports, and opens probes' sockets.
    pub through: Arc<Through>,
    /// What is probed.
    pub verdicts: Verdicts,
    /// The data plane.
    pub link: watch::Receiver<Link>,
}

impl Registrar {
    /// Works until it is dropped.
    pub async fn run(self) {
        // What was told last: which probes, to which data plane, and whether there were any.
        let mut told: Option<(Arc<Plan>, String, bool)> = None;
        loop {
            sleep(LOOK).await;
            let (state, plan) = self.verdicts.asked();
            let Some((instance, channel)) = self.dataplane() else {
                if told.take().is_some() {
                    self.through.forget();
                }
                continue;
            };
            let same =
                |(before, to, _): &(Arc<Plan>, String, bool)| Arc::ptr_eq(before, &plan) && *to == instance;
            if told.as_ref().is_some_and(same) {
                continue;
            }
            if told.as_ref().is_some_and(|(_, to, _)| *to != instance) {
                self.through.forget();
            }
            let assigned = self.through.assign(&plan.targets);
            // A data plane that was started anew knows of none, and one that was told of none needs not be told again.
            if assigned.is_empty() && told.as_ref().is_none_or(|(_, to, any)| *to != instance || !any) {
                told = Some((plan, instance, false));
                continue;
            }
            let probes = probes(&state, &plan, &assigned);
            let count = probes.len();
            let mut client = DataplaneClient::new(channel).max_encoding_message_size(socket::MESSAGE_LIMIT);
            match timeout(ANSWER, client.register_probes(RegisterProbesRequest { probes })).await {
                Ok(Ok(reply)) => {
                    if count > 0 && !reply.get_ref().exceptions {
                        warn!(
                            "checks go through the data plane, but no [[interface]] has an `exception` by which they get there"
                        );
                    }
                    debug!(count, "probes registered");
                    self.through.confirm(&assigned);
                    told = Some((plan, instance, count > 0));
                }
                Ok(Err(status)) => warn!(error = status.message(), "the data plane refused the probes"),
                Err(_) => warn!("the data plane did not take the probes in time"),
            }
        }
    }

    /// The data plane that answers, with its identity.
    fn dataplane(&self) -> Option<(String, Channel)> {
        let link = self.link.borrow();
        let instance = link.status.as_ref()?.instance.clone();
        // Services come first: a probe is for one of them.
        link.channel.clone().filter(|_| link.in_sync).map(|channel| (instance, channel))
    }
}

/// Each source port with the service and the server that it is for.
fn probes(state: &State, plan: &Plan, assigned: &[(Target, u16)]) -> Vec<Probe> {
    let mut ports: HashMap<&Target, u16> = assigned.iter().map(|(target, port)| (target, *port)).collect();
    let mut probes = Vec::with_capacity(ports.len());
    for (at, service) in state.services.iter().enumerate() {
        for (nth, server) in service.servers.iter().enumerate() {
            for ask in plan.of(at, nth) {
                let target = &plan.targets[ask.place];
                if service.key.protocol() != Some(protocol(&target.check.kind)) {
                    continue;
                }
                // One target is one probe, for the first service that asks for it.
                let Some(port) = ports.remove(target) else { continue };
                probes.push(Probe {
                    port: port.into(),
                    service: Some((&service.key).into()),
                    server: Some(server.into()),
                    from_local_address: target.check.via == Via::LocalAddress,
                });
            }
        }
    }
    probes
}

/// The protocol that a check speaks.
fn protocol(kind: &CheckKind) -> Protocol {
    match kind {
        CheckKind::Udp { .. } | CheckKind::Dns { .. } => Protocol::Udp,
        _ => Protocol::Tcp,
    }
}

#[cfg(test)]
mod tests {
    use fulcrum_model::Config;

    use super::*;

    #[test]
    fn each_port_is_for_one_server_of_a_service_that_speaks_so() {
        let text = r#"
[[check]]
name = "web"
type = "tcp"
via = "vip"
[[check]]
name = "own"
type = "tcp"
[[service]]
address = "10.0.0.1:80"
protocol = "udp"
checks = ["web"]
[[service.server]]
address = "10.1.0.1:80"
forward = "nat"
[[service]]
address = "10.0.0.1:80"
protocol = "tcp"
checks = ["web", "own"]
[[service.server]]
address = "10.1.0.1:80"
forward = "nat"
[[service.server]]
address = "10.1.0.2:80"
forward = "nat"
"#;
        let state = Config::parse("test", text).unwrap().state;
        let plan = Plan::new(&state);
        let assigned = Through::default().assign(&plan.targets);
        assert_eq!(assigned.len(), 2);
        let mut found = probes(&state, &plan, &assigned);
        found.sort_by_key(|probe| probe.server.as_ref().map(|server| server.key.clone().unwrap().address));
        assert_eq!(found.len(), 2);
        for (probe, server) in found.iter().zip(&state.services[1].servers) {
            assert_eq!(probe.service, Some((&state.services[1].key).into()));
            assert_eq!(probe.server, Some(server.into()));
            assert!(!probe.from_local_address);
            let of = |(target, port): &&(Target, u16)| {
                target.address == server.key.address && u32::from(*port) == probe.port
            };
            assert!(assigned.iter().any(|pair| of(&pair)));
        }
    }
}
