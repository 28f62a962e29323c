//! Probes of the host that go through the data plane.

use std::time::{Duration, Instant};

use fulcrum_api::BadMessage;
use fulcrum_api::convert::{port, present};
use fulcrum_api::dataplane::{self as wire, RegisterProbesReply, RegisterProbesRequest};
use fulcrum_model::{Server, ServiceKey};
use fulcrum_program::Probe;
use tonic::Status;

use super::Service;

/// Probes at most: each has a source port of its own.
const LIMIT: usize = 32768;
/// How long workers may take to know of them.
const PATIENCE: Duration = Duration::from_secs(5);

/// Takes in all probes; answers when every worker knows of them.
pub(super) async fn register(
    service: &Service,
    request: RegisterProbesRequest,
) -> Result<RegisterProbesReply, Status> {
    if request.probes.len() > LIMIT {
        let message = format!("{} probes are too many; at most {LIMIT}", request.probes.len());
        return Err(BadMessage::new("probes", message).into());
    }
    let list = request
        .probes
        .into_iter()
        .enumerate()
        .map(|(at, probe)| read(probe).map_err(|bad| bad.within(&format!("probes[{at}]"))));
    let list = list.collect::<Result<Vec<Probe>, BadMessage>>()?;
    let wanted = service.control().probes(list);
    let begun = Instant::now();
    loop {
        {
            let mut control = service.control();
            if control.taken_over() >= wanted {
                let known = u32::try_from(control.snapshot.probes.len()).unwrap_or(u32::MAX);
                return Ok(RegisterProbesReply { known, exceptions: !control.host.exceptions.is_empty() });
            }
        }
        if begun.elapsed() > PATIENCE {
            return Err(Status::deadline_exceeded(
                "the workers have not taken the probes over yet; ask again",
            ));
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn read(probe: wire::Probe) -> Result<Probe, BadMessage> {
    let service = present("service", probe.service)?;
    let service = ServiceKey::try_from(service).map_err(|bad| bad.within("service"))?;
    if service.address().is_none() {
        return Err(BadMessage::new("service", "a mark has no address that a probe could go to"));
    }
    let server = present("server", probe.server)?;
    let server = Server::try_from(server).map_err(|bad| bad.within("server"))?;
    match port("port", probe.port)? {
        0 => Err(BadMessage::new("port", "0 is no source port; 1 to 65535")),
        port => Ok(Probe { port, service, server, from_local_address: probe.from_local_address }),
    }
}
