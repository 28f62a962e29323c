//! Listings of what only workers know: each is asked for a slice at a time, between its bursts.

use std::time::Duration;

use fulcrum_api::convert::address_bytes;
use fulcrum_api::dataplane::{ListSessionsRequest, Session, SessionChunk};
use fulcrum_api::state::Forward;
use fulcrum_director::{NeighbourView, SECOND, SessionView, snapshot};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::filter::{Filter, Services};
use super::{Chunks, Service};
use crate::orders::{Answer, Order};

/// Room for one slice of sessions: more than a worker looks at for one.
const ROOM: usize = 4096;
/// Room for neighbours: more than a worker keeps.
const NEIGHBOURS: usize = 1 << 16;
/// Between looks for an answer: workers answer within a burst, sleeping ones within a nap.
const PAUSE: Duration = Duration::from_micros(200);
/// A worker that does not answer for so long is about to be reported by the watch.
const PATIENCE: Duration = Duration::from_secs(10);
/// Chunks on their way to a client that is slow to read.
const AHEAD: usize = 4;

/// The sessions of all workers that are asked for, chunk by chunk.
pub(super) fn sessions(service: Service, asked: ListSessionsRequest) -> Result<Chunks<SessionChunk>, Status> {
    let (limit, filter) = (asked.limit, asked.filter.unwrap_or_default());
    let (workers, snapshot) = service.workers_and_snapshot();
    let filter = Filter::new(filter, workers, &snapshot)?;
    let (sender, receiver) = mpsc::channel(AHEAD);
    tokio::spawn(async move {
        if let Err(status) = send_sessions(&service, limit, &filter, &sender).await {
            let _ = sender.send(Err(status)).await;
        }
    });
    Ok(Box::pin(ReceiverStream::new(receiver)))
}

async fn send_sessions(
    service: &Service,
    limit: u32,
    filter: &Filter,
    sender: &mpsc::Sender<Result<SessionChunk, Status>>,
) -> Result<(), Status> {
    let (workers, snapshot) = service.workers_and_snapshot();
    let mut services = Services::new(snapshot);
    let mut left = if limit == 0 { usize::MAX } else { limit as usize };
    let mut room = Vec::with_capacity(ROOM);
    for worker in (0..workers).filter(|worker| filter.takes_worker(*worker)) {
        let mut cursor = 0;
        loop {
            let order = move |question| Order::Sessions { question, cursor, room };
            let Answer::Sessions { cursor: next, done, mut found, .. } = ask(service, worker, order).await?
            else {
                return Err(Status::internal("a worker answered another question"));
            };
            // Of now: a session may be younger than the listing, and so its server.
            let (_, snapshot) = service.workers_and_snapshot();
            if !services.are_of(&snapshot) {
                services = Services::new(snapshot);
            }
            let wanted = found.iter().filter(|view| filter.takes(view, &services)).take(left);
            let sessions: Vec<_> = wanted.map(|view| message(worker, view, &services)).collect();
            found.clear();
            left -= sessions.len();
            // A client that went away needs no more.
            let gone = match sessions.is_empty() {
                true => sender.is_closed(),
                false => sender.send(Ok(SessionChunk { sessions })).await.is_err(),
            };
            if gone || left == 0 {
                return Ok(());
            }
            (cursor, room) = (next, found);
            if done {
                break;
            }
        }
    }
    Ok(())
}

/// What the resolver knows of neighbours.
pub(super) async fn neighbours(service: &Service) -> Result<Vec<NeighbourView>, Status> {
    let room = Vec::with_capacity(NEIGHBOURS);
    match ask(service, 0, |question| Order::Neighbours { question, room }).await? {
        Answer::Neighbours { found, .. } => Ok(found),
        _ => Err(Status::internal("a worker answered another question")),
    }
}

/// Asks one worker one question and waits for the answer. One at a time, and no longer than for the answer: a
/// client that does not read what it asked for keeps nobody else waiting.
pub(super) async fn ask(
    service: &Service,
    worker: usize,
    order: impl FnOnce(u64) -> Order,
) -> Result<Answer, Status> {
    let _one_at_a_time = service.listing.lock().await;
    let number = service.control().next_question();
    let mut asked = Some(order(number));
    let deadline = Instant::now() + PATIENCE;
    loop {
        {
            let mut control = service.control();
            let desk = &mut control.workers[worker].desk;
            if let Some(question) = asked.take() {
                asked = desk.ask(question).err();
            } else if let Some(answer) = desk.answer(number) {
                return Ok(answer);
            }
        }
        if Instant::now() > deadline {
            return Err(Status::unavailable(format!("worker {worker} does not answer")));
        }
        sleep(PAUSE).await;
    }
}

fn message(worker: usize, view: &SessionView, services: &Services) -> Session {
    let (local, local_port) =
        view.local.map_or((Vec::new(), 0), |(address, port)| (address_bytes(address), port.into()));
    Session {
        worker: u32::try_from(worker).unwrap_or(u32::MAX),
        protocol: view.protocol.into(),
        state: view.state.to_owned(),
        expires_ms: view.expires_in / (SECOND / 1000),
        client: address_bytes(view.client.0),
        client_port: view.client.1.into(),
        r#virtual: address_bytes(view.vip.0),
        virtual_port: view.vip.1.into(),
        local,
        local_port,
        server: address_bytes(view.server.0),
        server_port: view.server.1.into(),
        forward: match view.forward {
            snapshot::Forward::Nat => Forward::Nat,
            snapshot::Forward::FullNat => Forward::Fullnat,
            snapshot::Forward::Dr => Forward::Dr,
            snapshot::Forward::Tun => Forward::Tun,
        }
        .into(),
        template: view.template,
        mark: services.mark(view),
        snat: services.snat(view),
    }
}
