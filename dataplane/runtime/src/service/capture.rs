//! Captures: taps for all workers, what these copy as a stream of chunks, and an end in good order.
//!
//! Bounds are kept here. The workers' rings are emptied every few milliseconds; a client that is slow to read has them
//! fill, and what finds no room is counted.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fulcrum_api::BadMessage;
use fulcrum_api::dataplane::captured_frame::Direction;
use fulcrum_api::dataplane::{CaptureChunk, CapturePort, CaptureRequest, CapturedFrame, SessionEnd};
use fulcrum_director::{Reason, Snapshot};
use fulcrum_model::{Family, ServiceKey};
use tokio::sync::{OwnedMutexGuard, mpsc};
use tokio::time::{Instant, sleep};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::filter::End;
use super::listing::ask;
use super::{Chunks, Service};
use crate::orders::{Answer, Order};
use crate::tap::filter::{self, Face, Filter, Place};
use crate::tap::{self, Catch, Caught};

/// Bytes of all workers' rings together, and of one at least.
const RINGS: usize = 32 << 20;
const RING: usize = 1 << 20;
/// Between looks into the rings.
const PAUSE: Duration = Duration::from_millis(5);
/// Bytes of a worker's frames in a chunk, about.
const CHUNK: usize = 64 << 10;
/// Chunks on their way to a client that is slow to read.
const AHEAD: usize = 4;

/// A capture that is under way.
struct Capture {
    service: Service,
    catches: Vec<Catch>,
    /// The time since 1970 when the workers' clock began.
    epoch: u64,
    sender: mpsc::Sender<Result<CaptureChunk, Status>>,
    /// What may still come.
    frames: u64,
    bytes: u64,
    /// Only one at a time.
    _turn: OwnedMutexGuard<()>,
}

/// Begins a capture; its frames, chunk by chunk.
pub(super) async fn capture(service: Service, asked: CaptureRequest) -> Result<Chunks<CaptureChunk>, Status> {
    let turn = Arc::clone(&service.capturing).try_lock_owned().map_err(|_| {
        Status::failed_precondition(
            "somebody captures already, and one capture is all there can be: end that one first",
        )
    })?;
    let (workers, snapshot) = service.workers_and_snapshot();
    let (ports, epoch) = {
        let control = service.control();
        let port =
            |port: &crate::ports::Port| CapturePort { name: port.name.clone(), device: port.device.clone() };
        let ports: Vec<CapturePort> = control.ports.iter().map(port).collect();
        (ports, now().saturating_sub(control.identity.clock.now()))
    };
    let filters = (0..workers).map(|_| filter(&asked, &ports, &snapshot)).collect::<Result<Vec<_>, _>>()?;
    let snap_length = match u16::try_from(asked.snap_length) {
        Ok(0) | Err(_) => u16::MAX,
        Ok(length) => length,
    };
    let (sender, receiver) = mpsc::channel(AHEAD);
    let unless_0 = |bound| if bound == 0 { u64::MAX } else { bound };
    let mut capture = Capture {
        service,
        catches: Vec::new(),
        epoch,
        sender,
        frames: unless_0(asked.frames),
        bytes: unless_0(asked.bytes),
        _turn: turn,
    };
    let ring = (RINGS / workers.max(1)).max(RING);
    for (worker, filter) in filters.into_iter().enumerate() {
        let (tap, catch) = tap::tap(filter, snap_length, ring);
        capture.catches.push(catch);
        if let Err(status) = set(&capture.service, worker, Some(tap)).await {
            capture.withdraw().await;
            return Err(status);
        }
    }
    let deadline = Instant::now()
        + Duration::from_millis(match asked.duration_ms {
            0 => u64::from(u32::MAX),
            milliseconds => milliseconds.min(u32::MAX.into()),
        });
    tracing::info!(asked = %words(&asked), "capture begun");
    tokio::spawn(async move {
        let end = capture.run(ports, deadline).await;
        capture.withdraw().await;
        // What was copied before the taps were gone.
        let _ = capture.collect().await;
        let lost = capture.lost();
        tracing::info!(lost, "capture ended: {end}");
        let _ = capture.sender.send(Ok(CaptureChunk { lost, end, ..CaptureChunk::default() })).await;
    });
    Ok(Box::pin(ReceiverStream::new(receiver)))
}

impl Capture {
    /// Sends what is copied until there is a reason to end, which it says.
    async fn run(&mut self, ports: Vec<CapturePort>, deadline: Instant) -> String {
        // Tells the client that frames are copied from now on.
        if self.sender.send(Ok(CaptureChunk { ports, ..CaptureChunk::default() })).await.is_err() {
            return "the client is gone".to_owned();
        }
        loop {
            if let Err(end) = self.collect().await {
                return end.to_owned();
            }
            if Instant::now() >= deadline {
                return "the time is over".to_owned();
            }
            tokio::select! {
                () = self.sender.closed() => return "the client is gone".to_owned(),
                () = sleep(PAUSE) => {}
            }
        }
    }

    /// Sends what is in the rings; an error is the reason to end.
    async fn collect(&mut self) -> Result<(), &'static str> {
        loop {
            let mut frames = Vec::new();
            let mut full = false;
            for worker in 0..self.catches.len() {
                full |= self.take(worker, &mut frames);
            }
            // Each worker's come in order, and what one hands to another is between them.
            frames.sort_by_key(|frame| frame.time_ns);
            if !frames.is_empty() {
                let chunk = CaptureChunk { frames, lost: self.lost(), ..CaptureChunk::default() };
                self.sender.send(Ok(chunk)).await.map_err(|_| "the client is gone")?;
            }
            if let Some(end) = self.end() {
                return Err(end);
            }
            if !full {
                return Ok(());
            }
        }
    }

    /// Takes frames out of a worker's ring; says whether there may be more.
    fn take(&mut self, worker: usize, frames: &mut Vec<CapturedFrame>) -> bool {
        let mut bytes = 0;
        while self.end().is_none() {
            let Some(caught) = self.catches[worker].next() else { return false };
            bytes += caught.bytes.len();
            self.frames -= 1;
            self.bytes = self.bytes.saturating_sub(caught.bytes.len() as u64);
            frames.push(message(caught, worker, self.epoch));
            if bytes >= CHUNK {
                return true;
            }
        }
        false
    }

    /// The bound that is reached, if one is.
    fn end(&self) -> Option<&'static str> {
        match (self.frames, self.bytes) {
            (0, _) => Some("these are all the frames that were asked for"),
            (_, 0) => Some("these are all the bytes that were asked for"),
            _ => None,
        }
    }

    fn lost(&self) -> u64 {
        self.catches.iter().map(Catch::lost).sum()
    }

    /// Takes the taps back.
    async fn withdraw(&mut self) {
        for worker in 0..self.catches.len() {
            if let Err(status) = set(&self.service, worker, None).await {
                tracing::warn!(worker, "the capture's tap stays: {}", status.message());
            }
        }
    }
}

async fn set(service: &Service, worker: usize, tap: Option<Box<tap::Tap>>) -> Result<(), Status> {
    match ask(service, worker, |question| Order::Tap { question, tap }).await? {
        Answer::Tap { old, .. } => {
            // On this thread: a worker frees nothing.
            drop(old);
            Ok(())
        }
        _ => Err(Status::internal("a worker answered another question")),
    }
}

fn message(caught: Caught, worker: usize, epoch: u64) -> CapturedFrame {
    let (direction, drop) = match caught.place {
        Place::In => (Direction::Incoming, ""),
        Place::Out => (Direction::Outgoing, ""),
        Place::Dropped(reason) => (Direction::Incoming, reason.name()),
    };
    CapturedFrame {
        time_ns: epoch.saturating_add(caught.time),
        port: caught.port.into(),
        direction: direction.into(),
        data: caught.bytes,
        length: caught.length,
        drop: drop.to_owned(),
        worker: u32::try_from(worker).unwrap_or(u32::MAX),
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// The filter that a client asks for.
fn filter(asked: &CaptureRequest, ports: &[CapturePort], snapshot: &Arc<Snapshot>) -> Result<Filter, Status> {
    let port = match &*asked.port {
        "" => None,
        name => Some(ports.iter().position(|port| port.name == name).ok_or_else(|| {
            let names: Vec<&str> = ports.iter().map(|port| &*port.name).collect();
            Status::not_found(format!("there is no port {name}; there are: {}", names.join(", ")))
        })?),
    };
    let end = |field: &str, end: &Option<SessionEnd>| -> Result<Option<filter::End>, BadMessage> {
        let Some(end) = end else { return Ok(None) };
        let End { network, port } = End::new(end.clone()).map_err(|bad| bad.within(field))?;
        Ok(Some(filter::End { network, port }))
    };
    let service = match &asked.service {
        Some(key) => {
            Some(service(ServiceKey::try_from(key.clone()).map_err(|bad| bad.within("service"))?, snapshot)?)
        }
        None => None,
    };
    Ok(Filter {
        port: port.map(|number| u16::try_from(number).unwrap_or(u16::MAX)),
        incoming: asked.incoming,
        outgoing: asked.outgoing,
        drops: drops(&asked.drops)?,
        client: end("client", &asked.client)?,
        server: end("server", &asked.server)?,
        service,
    })
}

/// The reasons that are asked for, by number.
fn drops(names: &[String]) -> Result<Vec<bool>, Status> {
    let mut wanted = vec![false; Reason::COUNT];
    for name in names {
        let chosen: Vec<&Reason> =
            Reason::ALL.iter().filter(|reason| name == "any" || reason.name() == name).collect();
        if chosen.is_empty() {
            let bad =
                format!("there is no reason `{name}` for drops; `fulcrum status` lists those that occur");
            return Err(Status::invalid_argument(bad));
        }
        chosen.into_iter().for_each(|reason| wanted[*reason as usize] = true);
    }
    Ok(wanted)
}

fn service(key: ServiceKey, snapshot: &Arc<Snapshot>) -> Result<filter::Service, Status> {
    let found = match key {
        ServiceKey::Address { protocol, address, port } => {
            snapshot.services.get(&(protocol.number(), address, port))
        }
        ServiceKey::Mark { family, mark } => snapshot.mark_services.get(&(family == Family::V6, mark)),
    };
    let found = found.ok_or_else(|| Status::not_found(format!("there is no service {key}")))?;
    let face = match key {
        ServiceKey::Address { address, port, .. } => Face::Address(address, port),
        ServiceKey::Mark { mark, .. } => Face::Mark(Arc::clone(snapshot), mark),
    };
    let servers: HashSet<_> = found.destinations.iter().map(|server| (server.address, server.port)).collect();
    Ok(filter::Service { protocol: found.protocol, face, servers })
}

/// What was asked for, for the log.
fn words(asked: &CaptureRequest) -> String {
    let mut words = Vec::new();
    if !asked.port.is_empty() {
        words.push(format!("port {}", asked.port));
    }
    if !asked.drops.is_empty() {
        words.push(format!("drops {}", asked.drops.join(",")));
    }
    for (what, is) in [
        ("service", asked.service.is_some()),
        ("client", asked.client.is_some()),
        ("server", asked.server.is_some()),
        ("in", asked.incoming),
        ("out", asked.outgoing),
    ] {
        if is {
            words.push(what.to_owned());
        }
    }
    words.join(" ")
}
