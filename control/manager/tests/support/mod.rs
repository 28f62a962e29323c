//! A control process as it is started by an operator, and the other end of its socket to the data plane.
//!
//! The data plane here holds a state and a generation as the real one does and can be killed, started anew,
//! tampered with and told to refuse, at the moment that a test wants.

// Each test program uses a part of it.
#![allow(dead_code)]

pub(crate) mod certificates;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fulcrum_api::control::control_client::ControlClient;
use fulcrum_api::control::{self as wire, Delivery};
use fulcrum_api::dataplane::dataplane_server::{Dataplane, DataplaneServer};
use fulcrum_api::dataplane::*;
use fulcrum_api::socket::{self, Listener};
use fulcrum_api::{apply_changes, fingerprint};
use fulcrum_model::{Edit, State};
use tokio::runtime::Runtime;
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};

/// What the data plane holds.
#[derive(Debug, Default)]
pub(crate) struct Held {
    pub(crate) state: State,
    pub(crate) generation: u64,
    pub(crate) full: u64,
    pub(crate) increments: u64,
    pub(crate) acknowledged: u64,
    /// Status questions after which workers run a new state.
    pub(crate) lag: u32,
    pub(crate) refuse: Option<String>,
    pub(crate) hang: bool,
    /// Times it was asked to end, which it does not do by itself.
    pub(crate) asked_to_end: u64,
    /// What it tells of itself beside what it holds.
    pub(crate) status: DataplaneStatus,
    pub(crate) counters: Vec<CountersChunk>,
    /// Times it was asked for them.
    pub(crate) counted: u64,
    /// They are told when this may be entered.
    pub(crate) gate: Arc<tokio::sync::RwLock<()>>,
}

#[derive(Clone, Debug)]
struct Service {
    instance: String,
    held: Arc<Mutex<Held>>,
}

#[tonic::async_trait]
impl Dataplane for Service {
    async fn synchronize(
        &self,
        request: Request<Streaming<SyncPart>>,
    ) -> Result<Response<SyncReply>, Status> {
        let mut stream = request.into_inner();
        let (mut begin, mut changes, mut committed) = (None, Vec::new(), false);
        while let Some(part) = stream.message().await? {
            match part.part {
                Some(sync_part::Part::Begin(part)) => begin = Some(part),
                Some(sync_part::Part::Change(change)) => changes.push(change),
                Some(sync_part::Part::Commit(_)) => committed = true,
                None => return Err(Status::invalid_argument("an empty part")),
            }
        }
        let begin = begin.ok_or_else(|| Status::invalid_argument("no begin"))?;
        if !committed {
            return Err(Status::aborted("no commit"));
        }
        let mut held = self.held.lock().unwrap();
        if let Some(why) = &held.refuse {
            return Err(Status::invalid_argument(why.clone()));
        }
        if !begin.full && begin.base != held.generation {
            return Err(Status::failed_precondition("another generation"));
        }
        let mut state = if begin.full { State::default() } else { held.state.clone() };
        apply_changes(&mut state, changes)?;
        *(if begin.full { &mut held.full } else { &mut held.increments }) += 1;
        held.state = state;
        held.generation = begin.generation;
        Ok(Response::new(SyncReply { generation: held.generation, fingerprint: fingerprint(&held.state) }))
    }

    async fn get_status(&self, _: Request<GetStatusRequest>) -> Result<Response<DataplaneStatus>, Status> {
        if self.held.lock().unwrap().hang {
            std::future::pending::<()>().await;
        }
        let mut held = self.held.lock().unwrap();
        match held.lag.checked_sub(1) {
            Some(less) => held.lag = less,
            None => held.acknowledged = held.generation,
        }
        Ok(Response::new(DataplaneStatus {
            instance: self.instance.clone(),
            generation: held.generation,
            acknowledged: held.acknowledged,
            fingerprint: fingerprint(&held.state),
            ..held.status.clone()
        }))
    }

    type ListSessionsStream = tokio_stream::Iter<std::vec::IntoIter<Result<SessionChunk, Status>>>;

    async fn list_sessions(
        &self,
        request: Request<ListSessionsRequest>,
    ) -> Result<Response<Self::ListSessionsStream>, Status> {
        let chunk = |worker| SessionChunk { sessions: vec![Session { worker, ..Session::default() }] };
        let limit = request.into_inner().limit;
        let chunks: Vec<_> = (0..limit).map(|worker| Ok(chunk(worker))).collect();
        Ok(Response::new(tokio_stream::iter(chunks)))
    }

    type ListCountersStream = tokio_stream::Iter<std::vec::IntoIter<Result<CountersChunk, Status>>>;

    async fn list_counters(
        &self,
        _: Request<ListCountersRequest>,
    ) -> Result<Response<Self::ListCountersStream>, Status> {
        let (gate, chunks) = {
            let mut held = self.held.lock().unwrap();
            held.counted += 1;
            (held.gate.clone(), held.counters.clone())
        };
        let _entered = gate.read().await;
        Ok(Response::new(tokio_stream::iter(chunks.into_iter().map(Ok).collect::<Vec<_>>())))
    }

    async fn list_neighbours(
        &self,
        _: Request<ListNeighboursRequest>,
    ) -> Result<Response<ListNeighboursReply>, Status> {
        Ok(Response::new(ListNeighboursReply::default()))
    }

    async fn zero_counters(
        &self,
        _: Request<ZeroCountersRequest>,
    ) -> Result<Response<ZeroCountersReply>, Status> {
        Err(Status::not_found("no such service here"))
    }

    async fn end(&self, _: Request<EndRequest>) -> Result<Response<EndReply>, Status> {
        self.held.lock().unwrap().asked_to_end += 1;
        Ok(Response::new(EndReply {}))
    }

    type CaptureStream = tokio_stream::Iter<std::vec::IntoIter<Result<CaptureChunk, Status>>>;

    async fn register_probes(
        &self,
        _: Request<RegisterProbesRequest>,
    ) -> Result<Response<RegisterProbesReply>, Status> {
        Ok(Response::new(RegisterProbesReply::default()))
    }

    async fn capture(&self, _: Request<CaptureRequest>) -> Result<Response<Self::CaptureStream>, Status> {
        Ok(Response::new(tokio_stream::iter(Vec::new())))
    }
}

/// A running data plane.
#[derive(Debug)]
pub(crate) struct DataplaneProcess {
    pub(crate) held: Arc<Mutex<Held>>,
    /// Its own threads, so that its connections end with it.
    runtime: Option<Runtime>,
}

impl DataplaneProcess {
    /// Starts with an empty state at `path`.
    pub(crate) async fn start(path: &Path, instance: &str) -> DataplaneProcess {
        let held = Arc::new(Mutex::new(Held::default()));
        let service = Service { instance: instance.to_owned(), held: held.clone() };
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let path = path.to_owned();
        let incoming =
            runtime.spawn(async move { Listener::bind(&path).await.unwrap().incoming() }).await.unwrap();
        let server = tonic::transport::Server::builder()
            .add_service(DataplaneServer::new(service).max_decoding_message_size(socket::MESSAGE_LIMIT));
        runtime.spawn(async move { server.serve_with_incoming(incoming).await.unwrap() });
        DataplaneProcess { held, runtime: Some(runtime) }
    }

    /// Ends without a word, its connections with it.
    pub(crate) fn kill(self) {
        drop(self);
    }
}

impl Drop for DataplaneProcess {
    fn drop(&mut self) {
        // A runtime must not wait inside another one.
        let runtime = self.runtime.take().expect("only here");
        std::thread::spawn(move || runtime.shutdown_timeout(Duration::from_secs(5))).join().unwrap();
    }
}

/// Directory, sockets and files of one test.
#[derive(Debug)]
pub(crate) struct Room {
    directory: tempfile::TempDir,
}

impl Room {
    pub(crate) fn new() -> Room {
        Room { directory: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn dataplane(&self) -> PathBuf {
        self.path("dataplane.sock")
    }

    /// The control process, not waited for.
    pub(crate) fn spawn(&self) -> Child {
        self.spawn_with(&[("--socket", "control.sock"), ("--dataplane", "dataplane.sock")])
    }

    /// The same with options of the test's own.
    pub(crate) fn spawn_with(&self, paths: &[(&str, &str)]) -> Child {
        Command::new(env!("CARGO_BIN_EXE_fulcrum-control"))
            .args(paths.iter().flat_map(|(option, name)| [PathBuf::from(option), self.path(name)]))
            .arg("--config")
            .arg(self.path("fulcrum.toml"))
            .arg("--state")
            .arg(self.path("state.toml"))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// The control process, answering.
    pub(crate) async fn control(&self) -> ControlProcess {
        self.adopt(self.spawn()).await
    }

    /// A control process that was spawned, answering.
    pub(crate) async fn adopt(&self, child: Child) -> ControlProcess {
        let path = self.path("control.sock");
        let channel = until("the control socket", || socket::connect(&path)).await;
        ControlProcess { child, client: ControlClient::new(channel) }
    }
}

/// A running control process.
#[derive(Debug)]
pub(crate) struct ControlProcess {
    pub(crate) child: Child,
    pub(crate) client: ControlClient<Channel>,
}

impl ControlProcess {
    pub(crate) async fn edit(&mut self, edits: &[Edit]) -> Result<Delivery, Status> {
        let request = wire::EditRequest { edits: edits.iter().map(Into::into).collect() };
        Ok(self.client.edit(request).await?.into_inner().delivery.unwrap())
    }

    pub(crate) async fn state(&mut self) -> State {
        let reply = self.client.get_state(wire::GetStateRequest::default()).await.unwrap().into_inner();
        let mut state = State::default();
        apply_changes(&mut state, reply.changes).unwrap();
        state
    }

    pub(crate) async fn status(&mut self) -> wire::Status {
        self.client.get_status(wire::GetStatusRequest {}).await.unwrap().into_inner()
    }

    pub(crate) async fn link(&mut self) -> wire::Link {
        self.status().await.link.unwrap()
    }

    /// Waits until the data plane holds the desired state.
    pub(crate) async fn in_sync(&mut self) {
        let start = Instant::now();
        while !self.link().await.in_sync {
            assert!(start.elapsed() < Duration::from_secs(5), "never in sync: {:?}", self.link().await);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    pub(crate) fn end(mut self, signal: &str) -> ExitStatus {
        self.signal(signal);
        self.child.wait().unwrap()
    }
}

impl Drop for ControlProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Tries until it succeeds, for five seconds.
pub(crate) async fn until<T, E, F: Future<Output = Result<T, E>>>(
    what: &str,
    mut attempt: impl FnMut() -> F,
) -> T {
    let start = Instant::now();
    loop {
        if let Ok(done) = attempt().await {
            return done;
        }
        assert!(start.elapsed() < Duration::from_secs(5), "{what}: not within five seconds");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
