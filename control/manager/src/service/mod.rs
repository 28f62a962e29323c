//! The Control gRPC service: requests in, desired state and data plane out.

mod processes;
mod vips;

use std::fmt::Display;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fulcrum_api::control::control_server::{Control, ControlServer};
use fulcrum_api::control::{self as wire, Delivery};
use fulcrum_api::dataplane::dataplane_client::DataplaneClient;
use fulcrum_api::status::clipped;
use fulcrum_api::{BadMessage, apply_changes, changes, dataplane, edit, socket};
use fulcrum_log::AUDIT;
use fulcrum_model::file::{Config, to_toml};
use fulcrum_model::{Edit, ServiceKey, State, validate};
use tokio::sync::{Mutex, Notify, broadcast, mpsc, watch};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};
use tracing::info;

use crate::access::{self, Who, needed_by};
use crate::desired::{ChangeError, Desired};
use crate::differences::differences;
use crate::reconcile::{ANSWER, Link};
use crate::reload::Asked;
use crate::verdict::event::Numbered;
use crate::verdict::keeper::{Known, Verdicts};
use crate::verdict::listing;
use crate::vip::announce::Board;
use crate::vip::possession::Possession;

/// How long a change waits for the data plane to have it before it is answered.
const DELIVERY: Duration = Duration::from_secs(2);

/// Changes of one transaction that are written down one by one.
const TOLD: usize = 100;

/// What the service answers from.
#[derive(Debug)]
pub struct Service {
    /// The desired state.
    pub desired: Arc<Mutex<Desired>>,
    /// What is known of servers, and what the data plane is given.
    pub verdicts: Verdicts,
    /// The connection to the data plane.
    pub link: watch::Receiver<Link>,
    /// Why the configuration file is not in effect, empty when it is.
    pub config_error: watch::Receiver<String>,
    /// Path of the configuration file.
    pub config: PathBuf,
    /// Path of the data plane's socket.
    pub dataplane: PathBuf,
    /// Which VIPs the director has.
    pub possession: Possession,
    /// Where they are announced.
    pub announcements: Board,
    /// When the process started.
    pub started: Instant,
    /// Told when the process is to end.
    pub end: Arc<Notify>,
    /// Who reads the configuration file again.
    pub reload: mpsc::Sender<Asked>,
}

type Reply<T> = Result<Response<T>, Status>;

impl Service {
    /// The service for tonic, taking messages of any size that a configuration has.
    pub fn server(self: Arc<Self>) -> ControlServer<Service> {
        ControlServer::from_arc(self)
            .max_decoding_message_size(socket::MESSAGE_LIMIT)
            .max_encoding_message_size(socket::MESSAGE_LIMIT)
    }

    /// Waits until the data plane has been given revision `number`, but not for a data plane that is not there.
    async fn delivery(&self, number: u64) -> Delivery {
        let mut link = self.link.clone();
        let settled = link.wait_for(|link| link.channel.is_none() || link.attempted >= number);
        note(timeout(DELIVERY, settled).await)
    }

    /// Waits until the data plane holds the state of `fingerprint`, but not for a data plane that is not there.
    async fn arrival(&self, fingerprint: u64) -> Delivery {
        let mut link = self.link.clone();
        let there = |link: &Link| link.in_sync && link.brought == fingerprint;
        let settled = link.wait_for(|link| link.channel.is_none() || there(link));
        note(timeout(DELIVERY, settled).await)
    }

    /// Makes edits of the desired state as it is and applies them, all or none; writes down who did.
    pub(crate) async fn change<E: From<ChangeError>>(
        &self,
        who: &Who,
        edits: impl FnOnce(&State) -> Result<Vec<Edit>, E>,
    ) -> Result<Delivery, E> {
        let mut desired = self.desired.lock().await;
        let edits = edits(&desired.current().state)?;
        let number = desired.edit(&edits)?;
        drop(desired);
        audit(who, number, edits.iter());
        Ok(self.delivery(number).await)
    }

    /// What is known of the desired state as it is now.
    pub(crate) async fn known(&self) -> Known {
        let number = self.desired.lock().await.current().number;
        self.verdicts.at(number).await
    }

    /// The data plane, to ask it something.
    pub(crate) fn dataplane(&self) -> Result<DataplaneClient<Channel>, Status> {
        let channel = self.link.borrow().channel.clone().ok_or_else(|| self.no_dataplane("not connected"))?;
        Ok(DataplaneClient::new(channel).max_decoding_message_size(socket::MESSAGE_LIMIT))
    }

    /// The data plane's answer, or why there is none.
    pub(crate) async fn answer<T>(
        &self,
        asked: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Status> {
        match timeout(ANSWER, asked).await {
            Ok(Err(status)) if matches!(status.code(), Code::Unavailable | Code::Unknown) => {
                Err(self.no_dataplane("lost"))
            }
            Ok(answer) => answer,
            Err(_) => Err(self.no_dataplane("not answering")),
        }
    }

    fn no_dataplane(&self, how: &str) -> Status {
        let socket = self.dataplane.display();
        Status::unavailable(format!("the data plane is {how} ({socket}); start fulcrum-dataplane"))
    }
}

impl From<ChangeError> for Status {
    fn from(error: ChangeError) -> Status {
        match &error {
            ChangeError::Edit(index, why) => edit::refused(*index, why),
            ChangeError::Invalid(why) => Status::invalid_argument(clipped(why.clone())),
            ChangeError::Store(_) => Status::internal(format!("not accepted: {error}")),
        }
    }
}

#[tonic::async_trait]
impl Control for Service {
    async fn edit(&self, request: Request<wire::EditRequest>) -> Reply<wire::EditReply> {
        let who = who(&request)?;
        let edits = request.into_inner().edits;
        let edits = edits
            .into_iter()
            .enumerate()
            .map(|(index, edit)| Edit::try_from(edit).map_err(|bad| bad.within(&format!("edits[{index}]"))));
        let edits: Vec<Edit> = edits.collect::<Result<_, BadMessage>>()?;
        if let Some(beyond) = edits.iter().find(|edit| needed_by(edit) > who.role) {
            return Err(access::refused(&who, &beyond.to_string(), needed_by(beyond)));
        }
        let delivery = self.change(&who, |_| Ok::<_, Status>(edits)).await?;
        Ok(Response::new(wire::EditReply { delivery: Some(delivery) }))
    }

    async fn apply(&self, request: Request<wire::ApplyRequest>) -> Reply<wire::ApplyReply> {
        let who = who(&request)?;
        let request = request.into_inner();
        let mut state = State::default();
        let whole = request.state.ok_or_else(|| BadMessage::new("state", "is missing"))?;
        apply_changes(&mut state, whole.changes)?;
        let mut desired = self.desired.lock().await;
        let state = desired.with_admin_states(state);
        let differences = differences(&desired.current().state, &state);
        if request.dry_run {
            if let Some((_, problem)) = validate::state(&state).into_iter().next() {
                return Err(Status::invalid_argument(clipped(problem.message)));
            }
            return Ok(Response::new(wire::ApplyReply { differences, delivery: None }));
        }
        let number = desired.replace(state)?;
        drop(desired);
        audit(&who, number, differences.iter());
        let delivery = Some(self.delivery(number).await);
        Ok(Response::new(wire::ApplyReply { differences, delivery }))
    }

    async fn get_state(&self, request: Request<wire::GetStateRequest>) -> Reply<wire::State> {
        let state = match request.into_inner().effective {
            // What is listed tells which servers are masqueraded for those who know no other way.
            true => {
                let effective = self.possession.on_top(&self.known().await.effective);
                let overrides = self.state().await.overrides.clone();
                Arc::new(State { overrides, ..State::clone(&effective) })
            }
            false => self.desired.lock().await.current().state,
        };
        Ok(Response::new(wire::State { changes: changes(&state) }))
    }

    async fn list_health(&self, request: Request<wire::ListHealthRequest>) -> Reply<wire::ListHealthReply> {
        let which = request.into_inner().service.map(ServiceKey::try_from).transpose();
        let which = which.map_err(|bad| bad.within("service"))?;
        let number = self.desired.lock().await.current().number;
        let known = self.verdicts.fresh(number).await;
        Ok(Response::new(wire::ListHealthReply { services: known.standings(which) }))
    }

    type WatchEventsStream = ReceiverStream<Result<wire::Event, Status>>;

    async fn watch_events(
        &self,
        request: Request<wire::WatchEventsRequest>,
    ) -> Reply<Self::WatchEventsStream> {
        let wire::WatchEventsRequest { follow, after } = request.into_inner();
        let (past, new) = self.verdicts.events().follow();
        let past = past.into_iter().filter(|(number, _)| *number > after).collect();
        let (to, from) = mpsc::channel(64);
        tokio::spawn(tell(past, follow.then_some(new), to));
        Ok(Response::new(ReceiverStream::new(from)))
    }

    async fn get_config(&self, _: Request<wire::GetConfigRequest>) -> Reply<wire::Config> {
        let desired = self.desired.lock().await;
        let config = Config { state: State::clone(&desired.current().state), ..desired.file().clone() };
        Ok(Response::new(wire::Config { toml: to_toml(&config) }))
    }

    async fn get_status(&self, _: Request<wire::GetStatusRequest>) -> Reply<wire::Status> {
        let tally = self.known().await.tally();
        let control = {
            let desired = self.desired.lock().await;
            let current = desired.current();
            let mut control = wire::ControlStatus {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                pid: std::process::id().into(),
                uptime_ms: millis(self.started),
                config: self.config.display().to_string(),
                config_error: self.config_error.borrow().clone(),
                store: desired.store_path().display().to_string(),
                runtime_changes: *current.state != desired.file().state,
                services: current.state.services.len() as u64,
                servers: current.state.services.iter().map(|service| service.servers.len() as u64).sum(),
                fingerprint: current.fingerprint,
                servers_down: tally.down,
                servers_unknown: tally.unknown,
                servers_draining: tally.draining,
                servers_disabled: tally.disabled,
                quorums_lost: tally.quorums_lost,
                sorry_servers: tally.sorry,
                ..wire::ControlStatus::default()
            };
            vips::count(&mut control, &current.state, &self.possession, &self.announcements);
            control
        };
        // Asked anew, so that counters are of now; what is known is the answer of a data plane that is busy.
        let fresh = match self.dataplane() {
            Ok(mut client) => {
                let asked = dataplane::GetStatusRequest { local_pools: true, every_count: false };
                self.answer(client.get_status(asked)).await.ok()
            }
            Err(_) => None,
        };
        let link = self.link.borrow().clone();
        let error = link.error.as_ref();
        Ok(Response::new(wire::Status {
            control: Some(control),
            link: Some(wire::Link {
                socket: self.dataplane.display().to_string(),
                connected: link.channel.is_some(),
                in_sync: link.in_sync,
                generation: link.generation,
                last_error: error.map(|(text, _)| text.clone()).unwrap_or_default(),
                error_age_ms: error.map_or(0, |(_, when)| millis(*when)),
                full_pushes: link.full_pushes,
                increments: link.increments,
                repairs: link.repairs,
            }),
            dataplane: fresh.map(Response::into_inner).or(link.status),
        }))
    }

    type ListSessionsStream = tonic::Streaming<dataplane::SessionChunk>;

    async fn list_sessions(
        &self,
        request: Request<dataplane::ListSessionsRequest>,
    ) -> Reply<Self::ListSessionsStream> {
        let mut client = self.dataplane()?;
        self.answer(client.list_sessions(request.into_inner())).await
    }

    type ListCountersStream = tonic::Streaming<dataplane::CountersChunk>;

    async fn list_counters(
        &self,
        request: Request<dataplane::ListCountersRequest>,
    ) -> Reply<Self::ListCountersStream> {
        let mut client = self.dataplane()?;
        self.answer(client.list_counters(request.into_inner())).await
    }

    async fn list_neighbours(
        &self,
        request: Request<dataplane::ListNeighboursRequest>,
    ) -> Reply<dataplane::ListNeighboursReply> {
        let mut client = self.dataplane()?;
        self.answer(client.list_neighbours(request.into_inner())).await
    }

    async fn zero_counters(
        &self,
        request: Request<dataplane::ZeroCountersRequest>,
    ) -> Reply<dataplane::ZeroCountersReply> {
        let who = who(&request)?;
        let mut client = self.dataplane()?;
        let reply = self.answer(client.zero_counters(request.into_inner())).await?;
        info!(target: AUDIT, who = %who.name, from = %who.from, "counters zeroed");
        Ok(reply)
    }

    async fn list_vips(&self, _: Request<wire::ListVipsRequest>) -> Reply<wire::ListVipsReply> {
        let current = self.desired.lock().await.current();
        Ok(Response::new(vips::list(&current.state, &self.possession, &self.announcements)))
    }

    async fn set_vips(&self, request: Request<wire::SetVipsRequest>) -> Reply<wire::SetVipsReply> {
        let who = who(&request)?;
        Ok(Response::new(self.take_or_release(&who, request.into_inner()).await?))
    }

    async fn withdraw_vips(
        &self,
        request: Request<wire::WithdrawVipsRequest>,
    ) -> Reply<wire::WithdrawVipsReply> {
        let who = who(&request)?;
        self.withdraw(&who, request.into_inner()).await;
        Ok(Response::new(wire::WithdrawVipsReply {}))
    }

    async fn reload(&self, request: Request<wire::ReloadRequest>) -> Reply<wire::ReloadReply> {
        let who = who(&request)?;
        info!(target: AUDIT, who = %who.name, from = %who.from, "asked to read files again");
        self.read_again().await?;
        Ok(Response::new(wire::ReloadReply {}))
    }

    async fn end(&self, request: Request<wire::EndRequest>) -> Reply<wire::EndReply> {
        let who = who(&request)?;
        self.end_process(&who, request.into_inner()).await?;
        Ok(Response::new(wire::EndReply {}))
    }

    type CaptureStream = tonic::Streaming<dataplane::CaptureChunk>;

    async fn capture(&self, request: Request<dataplane::CaptureRequest>) -> Reply<Self::CaptureStream> {
        let mut client = self.dataplane()?;
        self.answer(client.capture(request.into_inner())).await
    }
}

/// What is told of a change that was waited for.
fn note(
    settled: Result<Result<watch::Ref<'_, Link>, watch::error::RecvError>, tokio::time::error::Elapsed>,
) -> Delivery {
    let note = match settled {
        Ok(Ok(link)) if link.in_sync => return Delivery { delivered: true, note: String::new() },
        Ok(Ok(link)) if link.channel.is_none() => {
            "accepted; the data plane is not connected and will be given it when it is".to_owned()
        }
        Ok(Ok(link)) => {
            let error = link.error.as_ref().map_or("no reason known", |(text, _)| text);
            format!("accepted, but not in effect: {error}")
        }
        _ => "accepted; the data plane has not taken it in yet".to_owned(),
    };
    Delivery { delivered: false, note }
}

/// Who asks, as found out before the request came here.
fn who<T>(request: &Request<T>) -> Result<Who, Status> {
    let known = request.extensions().get::<Who>().cloned();
    known.ok_or_else(|| Status::permission_denied("a connection without a known end"))
}

/// Writes down who changed what: a line for each change, as far as one transaction may fill the log.
fn audit<T: Display>(who: &Who, revision: u64, changes: impl ExactSizeIterator<Item = T>) {
    let Who { name, from, .. } = who;
    let more = changes.len().saturating_sub(TOLD);
    for what in changes.take(TOLD) {
        info!(target: AUDIT, who = %name, %from, revision, %what, "changed");
    }
    if more > 0 {
        info!(target: AUDIT, who = %name, %from, revision, more, "changed");
    }
}

/// Brings events to a follower until it goes away.
async fn tell(
    past: Vec<Numbered>,
    new: Option<broadcast::Receiver<Numbered>>,
    to: mpsc::Sender<Result<wire::Event, Status>>,
) {
    for event in &past {
        if to.send(Ok(listing::event(event))).await.is_err() {
            return;
        }
    }
    let Some(mut new) = new else { return };
    loop {
        let event = tokio::select! {
            event = new.recv() => event,
            () = to.closed() => return,
        };
        let event = match event {
            Ok(event) => listing::event(&event),
            Err(broadcast::error::RecvError::Lagged(missed)) => listing::missed(missed),
            Err(broadcast::error::RecvError::Closed) => return,
        };
        if to.send(Ok(event)).await.is_err() {
            return;
        }
    }
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
