//! The process: arguments, start, signals, end.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use fulcrum_api::socket::{ListenError, Listener};
use fulcrum_daemon::{Generate, supervisor};
use fulcrum_health::{Limits, Prober, Through};
use fulcrum_log::LogArguments;
use fulcrum_model::file::{self, Config};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Mutex, Notify, mpsc, watch};
use tokio::time::sleep;
use tracing::{error, info};

use crate::access::Access;
use crate::desired::{Desired, FileError, read_file};
use crate::door::Door;
use crate::metrics::http::{self, ServeError};
use crate::metrics::scrape::Source;
use crate::probes::Registrar;
use crate::reconcile::Reconciler;
use crate::reload::{self, Reloader};
use crate::remote::{self, RemoteError};
use crate::service::Service;
use crate::store::{Store, StoreError, Stored};
use crate::verdict::keeper::Keeper;
use crate::vip::announce::{Announcer, Board};
use crate::vip::host::mark_of;
use crate::vip::possession::Possession;

/// Within this time a process that was killed a moment ago has let go of its state and its socket.
const PREDECESSOR: Duration = Duration::from_secs(2);

/// Who asks for the end has the answer within this time.
const ANSWERED: Duration = Duration::from_millis(100);

/// How often the supervisor hears that the process lives.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);

/// Keeps the data plane in its desired state, and changes that state on request.
#[derive(Clone, Debug, Parser)]
#[command(name = "fulcrum-control", version)]
pub struct Arguments {
    /// Configuration file; SIGHUP reads it again
    #[arg(long, value_name = "FILE", default_value = file::DEFAULT_PATH)]
    pub config: PathBuf,
    /// Socket for the command line [default: the file's, else /run/fulcrum/control.sock]
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Socket of the data plane [default: the file's, else /run/fulcrum/dataplane.sock]
    #[arg(long, value_name = "PATH")]
    pub dataplane: Option<PathBuf>,
    /// Socket for tools of IPVS; `-proc` is added to its name for a second one [default: the file's, else ipvs.sock beside
    /// the command line's]
    #[arg(long, value_name = "PATH")]
    pub ipvs: Option<PathBuf>,
    /// Where changes made at run time survive a restart [default: the file's, else /var/lib/fulcrum/state.toml]
    #[arg(long, value_name = "FILE")]
    pub state: Option<PathBuf>,
    /// How to log
    #[command(flatten)]
    pub log: LogArguments,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a text here would become the program's")]
    pub generate: Generate,
}

/// Why the process could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The configuration file is wrong and there is no stored state to go on with.
    #[error("{0}")]
    File(#[from] FileError),
    /// The store cannot be used.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The socket cannot be served.
    #[error("{0}")]
    Listen(#[from] ListenError),
    /// The address of the metrics cannot be served.
    #[error("{0}")]
    Metrics(#[from] ServeError),
    /// Other machines cannot be served.
    #[error("{0}")]
    Remote(#[from] RemoteError),
    /// The server ended.
    #[error("the control socket failed: {0}")]
    Serve(#[from] tonic::transport::Error),
    /// The system refused.
    #[error("{0}")]
    System(#[from] std::io::Error),
}

/// Runs until SIGTERM or SIGINT.
pub async fn run(arguments: Arguments) -> Result<(), ProcessError> {
    let started = Instant::now();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let hang_up = signal(SignalKind::hangup())?;

    let read = read_file(&arguments.config);
    let now = read.as_ref().ok().and_then(Option::clone);
    let default = file::DEFAULT_STATE_FILE.into();
    let state =
        arguments.state.clone().or_else(|| Some(now.as_ref()?.control.state_file.clone())).unwrap_or(default);
    let (desired, config_error) = begin(&arguments, open(&state, started).await?, read)?;

    // A file that is wrong or gone leaves the sockets where they were.
    let known = now.unwrap_or_else(|| desired.file().clone());
    let dataplane = arguments.dataplane.clone().unwrap_or_else(|| known.dataplane.socket());
    let socket = arguments.socket.clone().unwrap_or_else(|| known.control.socket.clone());
    // A supervisor that listens itself lets nobody notice that the process was started again.
    let mut given = supervisor::sockets()?;
    let handed = Door::given(&mut given)?;
    let named = arguments.ipvs.clone().or_else(|| known.control.ipvs_socket.clone());
    let door = match (handed, named) {
        (Some(door), _) => Some(door),
        (None, Some(path)) => Some(open_door(&path, started).await?),
        // Where the supervisor makes the sockets it is for it to say whether there is this one.
        (None, None) if !given.streams.is_empty() => None,
        (None, None) => Some(open_door(&socket.with_file_name(file::IPVS_SOCKET), started).await?),
    };
    if given.streams.len() > 1 {
        let message =
            "the supervisor hands over several sockets for streams; one, of the command line, is right";
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, message).into());
    }
    let listener = match given.streams.pop() {
        Some(given) => Listener::given(given)?,
        None => listen(&socket, started).await?,
    };
    let through = Arc::new(Through::default());
    let prober = Prober::start(through.clone(), Limits::of_process());
    let keeper = Keeper::new(desired.revisions(), &state, prober);
    let possession = Possession::new(known.control.vips, &state, keeper.revisions());
    let reconciler = Reconciler::new(dataplane.clone(), possession.revisions());
    let registrar = Registrar { through, verdicts: keeper.verdicts(), link: reconciler.link() };
    let announcements = Board::default();
    let verdicts = keeper.verdicts();
    let announcer = Announcer {
        given: possession.revisions(),
        link: reconciler.link(),
        lost: Box::new(move || verdicts.without_quorum()),
        mark: mark_of(&state),
        interface: known.control.announce_interface.clone(),
        board: announcements.clone(),
    };
    let config_error = watch::Sender::new(config_error);
    let source = Source {
        verdicts: keeper.verdicts(),
        link: reconciler.link(),
        config_error: config_error.subscribe(),
        possession: possession.clone(),
        announcements: announcements.clone(),
        started,
        limit: known.control.metrics_limit as usize,
    };
    let metrics = match known.control.metrics {
        Some(address) => Some(http::bind(address).await?),
        None => None,
    };
    let desired = Arc::new(Mutex::new(desired));
    let end = Arc::new(Notify::new());
    let (reload, reloads) = mpsc::channel(1);
    let service = Arc::new(Service {
        desired: desired.clone(),
        verdicts: keeper.verdicts(),
        link: reconciler.link(),
        config_error: config_error.subscribe(),
        config: arguments.config.clone(),
        dataplane,
        possession: possession.clone(),
        announcements,
        started,
        end: end.clone(),
        reload,
    });
    let door = {
        let service = service.clone();
        async {
            match door {
                Some(door) => door.serve(service).await,
                None => std::future::pending().await,
            }
        }
    };
    let service = service.server();
    let (remote_door, papers) = match &known.control.remote {
        Some(remote) => remote::open(remote).await.map(|(door, papers)| (Some(door), Some(papers)))?,
        None => (None, None),
    };
    let remote = async {
        match remote_door {
            Some(door) => door.serve(service.clone()).await,
            None => std::future::pending().await,
        }
    };
    let server = tonic::transport::Server::builder()
        .layer(Access::local())
        .add_service(service.clone())
        .serve_with_incoming(listener.incoming());
    let reloader = Reloader {
        config: arguments.config.clone(),
        desired: desired.clone(),
        error: config_error,
        papers,
        asked: reloads,
    };
    // Who cannot get at the desired state does not live.
    let live = async {
        loop {
            drop(desired.lock().await);
            supervisor::alive();
            sleep(SIGN_OF_LIFE).await;
        }
    };
    let metrics = async {
        match metrics {
            Some(listener) => http::serve(listener, source).await,
            None => std::future::pending().await,
        }
    };
    info!(version = env!("CARGO_PKG_VERSION"), pid = std::process::id(), "fulcrum-control is up");
    supervisor::ready("keeping the data plane in its desired state");
    tokio::select! {
        served = server => served?,
        served = remote => served?,
        () = keeper.run() => {}
        () = possession.run() => {}
        () = reconciler.run() => {}
        () = registrar.run() => {}
        () = announcer.run() => {}
        () = reloader.run(hang_up) => {}
        () = live => {}
        never = metrics => match never {},
        never = door => match never {},
        _ = terminate.recv() => info!("SIGTERM: ending; the data plane goes on as it is"),
        () = asked(&end) => info!("asked to end; the data plane goes on as it is"),
        _ = interrupt.recv() => info!("SIGINT: ending; the data plane goes on as it is"),
    }
    supervisor::stopping();
    Ok(())
}

/// Opens the store, waiting for a predecessor that is about to be gone.
async fn open(path: &Path, started: Instant) -> Result<Store, StoreError> {
    loop {
        match Store::open(path) {
            Err(StoreError::InUse(_)) if started.elapsed() < PREDECESSOR => pause().await,
            done => return done,
        }
    }
}

/// Takes the socket, waiting for a predecessor that is about to be gone.
async fn listen(path: &Path, started: Instant) -> Result<Listener, ListenError> {
    loop {
        match Listener::bind(path).await {
            Err(ListenError::InUse(_)) if started.elapsed() < PREDECESSOR => pause().await,
            done => return done,
        }
    }
}

/// Waits until somebody asks for the end, and has been answered.
async fn asked(end: &Notify) {
    end.notified().await;
    sleep(ANSWERED).await;
}

/// Takes the sockets for tools of IPVS, waiting for a predecessor that is about to be gone.
async fn open_door(path: &Path, started: Instant) -> Result<Door, ListenError> {
    loop {
        match Door::open(path).await {
            Err(ListenError::InUse(_)) if started.elapsed() < PREDECESSOR => pause().await,
            done => return done,
        }
    }
}

async fn pause() {
    sleep(Duration::from_millis(20)).await;
}

/// The state to begin with, and why the file is not in effect (empty when it is).
fn begin(
    arguments: &Arguments,
    store: Store,
    read: Result<Option<Config>, FileError>,
) -> Result<(Desired, String), ProcessError> {
    let stored = match store.load() {
        Ok(stored) => stored,
        Err(damage @ StoreError::Damaged { .. }) => {
            let aside = store.set_aside()?;
            error!(%damage, aside = %aside.display(), "run-time changes are lost; going on with the configuration file");
            None
        }
        Err(other) => return Err(other.into()),
    };
    let first_start = stored.is_none();
    let mut desired = Desired::new(store, stored.unwrap_or(Stored::default()));
    let taken = read.and_then(|file| reload::take(&arguments.config, &mut desired, file));
    match taken {
        Err(error) if first_start => Err(error.into()),
        taken => Ok((desired, reload::said(taken))),
    }
}
