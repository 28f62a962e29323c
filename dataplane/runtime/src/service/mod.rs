//! The Dataplane gRPC service: what may be asked of a running data plane.
//!
//! Everything runs on the control thread; the lock is there for the compiler and never waited for. Does not live
//! here: what the answers are made of (`control`, `rates`).

mod capture;
mod filter;
mod listing;
mod probes;
mod status;

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};

use fulcrum_api::convert::address_bytes;
use fulcrum_api::dataplane::dataplane_server::Dataplane;
use fulcrum_api::dataplane::{
    CaptureChunk, CaptureRequest, Counters, CountersChunk, DataplaneStatus, EndReply, EndRequest,
    GetStatusRequest, ListCountersRequest, ListNeighboursReply, ListNeighboursRequest, ListSessionsRequest,
    NeighbourStatus, RegisterProbesReply, RegisterProbesRequest, ServerCounters, ServiceCounters,
    SessionChunk, SyncPart, SyncReply, ZeroCountersReply, ZeroCountersRequest, sync_part::Part,
};
use fulcrum_api::socket::MESSAGE_LIMIT;
use fulcrum_api::state::Change;
use fulcrum_director::Snapshot;
use fulcrum_model::ServiceKey;
use prost::Message as _;
use tokio::sync::Notify;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};

use crate::control::{Control, Refused};
use crate::rates::{Meter, ServiceMeter};

/// Services in one chunk of counters.
const CHUNK: usize = 256;

/// Bytes of all changes of one transaction, which are collected before the first is applied.
const TRANSACTION_LIMIT: usize = MESSAGE_LIMIT;

/// The service; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    control: Arc<Mutex<Control>>,
    /// Held while a worker is asked for a slice: one question at a time.
    listing: Arc<tokio::sync::Mutex<()>>,
    /// Held while there is a capture.
    capturing: Arc<tokio::sync::Mutex<()>>,
    /// Told when the process is to end.
    end: Arc<Notify>,
}

type Answer<T> = Result<Response<T>, Status>;
type Chunks<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Service {
    pub(crate) fn new(control: Arc<Mutex<Control>>, end: Arc<Notify>) -> Service {
        Service { control, listing: Arc::default(), capturing: Arc::default(), end }
    }

    fn control(&self) -> MutexGuard<'_, Control> {
        self.control.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// How many workers there are, and what they run or are about to.
    fn workers_and_snapshot(&self) -> (usize, Arc<Snapshot>) {
        let control = self.control();
        (control.workers.len(), Arc::clone(&control.snapshot))
    }
}

#[tonic::async_trait]
impl Dataplane for Service {
    type ListSessionsStream = Chunks<SessionChunk>;
    type ListCountersStream = Chunks<CountersChunk>;
    type CaptureStream = Chunks<CaptureChunk>;

    async fn synchronize(&self, request: Request<Streaming<SyncPart>>) -> Answer<SyncReply> {
        let mut parts = request.into_inner();
        let Some(Part::Begin(begin)) = next(&mut parts).await? else {
            return Err(Status::invalid_argument("a transaction starts with `begin`"));
        };
        let (mut changes, mut bytes) = (Vec::new(), 0);
        loop {
            match next(&mut parts).await? {
                Some(Part::Change(change)) => {
                    bytes += change.encoded_len() + size_of::<Change>();
                    if bytes > TRANSACTION_LIMIT {
                        return Err(Status::resource_exhausted(format!(
                            "the transaction takes more than {} MiB: nothing changed",
                            TRANSACTION_LIMIT >> 20
                        )));
                    }
                    changes.push(change);
                }
                Some(Part::Commit(_)) => break,
                Some(Part::Begin(_)) => {
                    return Err(Status::invalid_argument("`begin` came in the middle of a transaction"));
                }
                None => {
                    return Err(Status::invalid_argument(
                        "the transaction ended without `commit`: nothing changed",
                    ));
                }
            }
        }
        let base = (!begin.full).then_some(begin.base);
        let count = changes.len();
        let (generation, fingerprint) =
            self.control().synchronize(begin.generation, base, changes).map_err(|refused| match refused {
                Refused::OtherBase { .. } => Status::failed_precondition(refused.to_string()),
                Refused::ZeroGeneration => Status::invalid_argument(refused.to_string()),
                Refused::Bad(bad) => bad.into(),
            })?;
        tracing::info!(generation, full = begin.full, changes = count, "programmed");
        Ok(Response::new(SyncReply { generation, fingerprint }))
    }

    async fn get_status(&self, request: Request<GetStatusRequest>) -> Answer<DataplaneStatus> {
        Ok(Response::new(status::status(&mut self.control(), request.get_ref())))
    }

    async fn list_sessions(&self, request: Request<ListSessionsRequest>) -> Answer<Self::ListSessionsStream> {
        Ok(Response::new(listing::sessions(self.clone(), request.into_inner())?))
    }

    async fn list_counters(&self, request: Request<ListCountersRequest>) -> Answer<Self::ListCountersStream> {
        let key = request.into_inner().key.map(ServiceKey::try_from).transpose()?;
        let chunks = match key {
            Some(key) => counters(self.control().meters.read_one(key), None),
            None => {
                let mut control = self.control();
                control.meters.read();
                counters(&control.meters.services, Some(message(&control.meters.total)))
            }
        };
        Ok(Response::new(Box::pin(tokio_stream::iter(chunks.into_iter().map(Ok)))))
    }

    async fn list_neighbours(&self, _: Request<ListNeighboursRequest>) -> Answer<ListNeighboursReply> {
        let found = listing::neighbours(self).await?;
        let control = self.control();
        let neighbours = found
            .into_iter()
            .map(|neighbour| NeighbourStatus {
                interface: control
                    .snapshot
                    .interfaces
                    .get(usize::from(neighbour.interface))
                    .map(|interface| interface.name.clone())
                    .unwrap_or_default(),
                address: address_bytes(neighbour.address),
                mac: neighbour.mac.map(|mac| mac.to_vec()).unwrap_or_default(),
                state: neighbour.state.to_owned(),
                parked: neighbour.parked,
            })
            .collect();
        Ok(Response::new(ListNeighboursReply { neighbours }))
    }

    async fn zero_counters(&self, request: Request<ZeroCountersRequest>) -> Answer<ZeroCountersReply> {
        let key = request.into_inner().key.map(ServiceKey::try_from).transpose()?;
        if !self.control().meters.zero(key) {
            return Err(Status::not_found("there is no such service"));
        }
        Ok(Response::new(ZeroCountersReply {}))
    }

    async fn register_probes(&self, request: Request<RegisterProbesRequest>) -> Answer<RegisterProbesReply> {
        Ok(Response::new(probes::register(self, request.into_inner()).await?))
    }

    async fn end(&self, _: Request<EndRequest>) -> Answer<EndReply> {
        self.end.notify_one();
        Ok(Response::new(EndReply {}))
    }

    async fn capture(&self, request: Request<CaptureRequest>) -> Answer<Self::CaptureStream> {
        Ok(Response::new(capture::capture(self.clone(), request.into_inner()).await?))
    }
}

async fn next(parts: &mut Streaming<SyncPart>) -> Result<Option<Part>, Status> {
    match parts.next().await.transpose()? {
        None => Ok(None),
        Some(SyncPart { part: Some(part) }) => Ok(Some(part)),
        Some(SyncPart { part: None }) => Err(Status::invalid_argument("a part of the transaction is empty")),
    }
}

/// Services in chunks, and in the first of them the sum.
fn counters(services: &[ServiceMeter], total: Option<Counters>) -> Vec<CountersChunk> {
    let mut chunks: Vec<CountersChunk> = services
        .chunks(CHUNK)
        .map(|services| CountersChunk { services: services.iter().map(of_service).collect(), total: None })
        .collect();
    if chunks.is_empty() {
        chunks.push(CountersChunk::default());
    }
    chunks[0].total = total;
    chunks
}

fn of_service(service: &ServiceMeter) -> ServiceCounters {
    let servers = service.servers.iter().map(|server| ServerCounters {
        key: Some((&server.key).into()),
        counters: Some(message(&server.meter)),
        active: server.cells.sum(|cells| &cells.active),
        inactive: server.cells.sum(|cells| &cells.inactive),
        persistent: server.cells.sum(|cells| &cells.persistent),
    });
    ServiceCounters {
        key: Some((&service.key).into()),
        counters: Some(message(&service.meter)),
        servers: servers.collect(),
    }
}

fn message(meter: &Meter) -> Counters {
    let [connections, in_packets, out_packets, in_bytes, out_bytes] = meter.counts();
    let [cps, in_pps, out_pps, in_bps, out_bps] = meter.rates();
    Counters {
        connections,
        in_packets,
        out_packets,
        in_bytes,
        out_bytes,
        cps,
        in_pps,
        out_pps,
        in_bps,
        out_bps,
    }
}
