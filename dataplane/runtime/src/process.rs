//! The process from its start to its end.

use std::fs;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use fulcrum_api::dataplane::dataplane_server::DataplaneServer;
use fulcrum_api::socket::{ListenError, Listener, MESSAGE_LIMIT};
use fulcrum_daemon::supervisor;
use fulcrum_director::WorkerCounters;
use fulcrum_director::rss::{KEY, Part};
use fulcrum_director::session::Sessions;
use fulcrum_dpdk::{Eal, EalConfig, EalError, Hugepages, LaunchError, Mempool, MempoolError, Queues};
use fulcrum_machine::Capability;
use fulcrum_model::State;
use fulcrum_model::file::{Config, Dataplane, FileErrors, HugePages, Idle, read_text};
use fulcrum_program::{PortFacts, Program};
use tokio::sync::watch::{Receiver, channel};
use tokio::time::{MissedTickBehavior, interval};

use crate::advice::{self, Wants};
use crate::args::Args;
use crate::control::{Control, Host, Identity, WorkerLink};
use crate::crew::{Crew, Recruit, Running};
use crate::endings::Endings;
use crate::exception::{OpenTwins, Pump};
use crate::frames;
use crate::host::{self, Addresses, Ledger};
use crate::numbers;
use crate::plan::{self, Plan, PlanError};
use crate::ports::{OpenError, Opener, Port};
use crate::service::Service;
use crate::steering;
use crate::translations::{self, Exporter};
use crate::watch::{self, PERIOD, Watch};
use crate::worker::{self, Clock};

/// How often workers are told which ports have a link.
const LINKS: Duration = Duration::from_millis(100);

/// Why the data plane did not start.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The configuration file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The configuration file is wrong.
    #[error("the configuration has mistakes:\n{0}")]
    Config(#[from] FileErrors),
    /// No worker.
    #[error("[dataplane] lcores `{0}` names no processor")]
    NoLcores(String),
    /// No port.
    #[error("{} has no [[port]]: there is nothing to forward on", .0.display())]
    NoPorts(PathBuf),
    /// The socket cannot be served.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The system refused something basic.
    #[error("{0}")]
    System(#[from] io::Error),
    /// DPDK did not start.
    #[error(transparent)]
    Eal(#[from] EalError),
    /// More sessions than there is memory for.
    #[error(
        "sessions = {sessions} for each of {workers} workers take {} MiB when all are there, but only {} MiB of \
         memory are free: lower `sessions` in [dataplane]", needed >> 20, free >> 20
    )]
    Sessions {
        /// Sessions of each worker.
        sessions: usize,
        /// Workers.
        workers: usize,
        /// Bytes for all of them.
        needed: usize,
        /// Bytes that the machine has left.
        free: usize,
    },
    /// No memory for frames.
    #[error(transparent)]
    Memory(#[from] MempoolError),
    /// A port cannot be one, or did not open.
    #[error("{0}")]
    Port(String),
    /// A worker did not start.
    #[error(transparent)]
    Launch(#[from] LaunchError),
}

impl From<PlanError> for Failure {
    fn from(error: PlanError) -> Failure {
        Failure::Port(error.to_string())
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Failure {
        Failure::Port(error.to_string())
    }
}

/// Runs the data plane until it is told to end.
pub fn run(args: &Args) -> Result<(), Failure> {
    fulcrum_log::start(args.log);
    let (dataplane, state) = read(&args.config)?;
    if args.check_host {
        return check_host(args, &dataplane, &state);
    }
    watch::report_panics();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(live(args, dataplane, state))
}

fn read(path: &Path) -> Result<(Dataplane, State), Failure> {
    let text = fs::File::open(path)
        .and_then(read_text)
        .map_err(|source| Failure::Read { path: path.to_owned(), source })?;
    let Config { dataplane, state, .. } = Config::parse(&path.display().to_string(), &text)?;
    if state.ports.is_empty() {
        return Err(Failure::NoPorts(path.to_owned()));
    }
    Ok((dataplane, state))
}

/// Prints advice on the machine.
fn check_host(args: &Args, dataplane: &Dataplane, state: &State) -> Result<(), Failure> {
    let plans = Plan::make(state)?;
    let config = eal_config(args, dataplane, &plans, &args.socket(dataplane.socket.clone()))?;
    let advice = advice::here(&wants(dataplane, &plans, &config));
    for line in &advice {
        println!("{line}");
    }
    if advice.is_empty() {
        println!("host: nothing to be said");
    }
    Ok(())
}

/// What the data plane wants of the machine.
fn wants(dataplane: &Dataplane, plans: &[Plan], config: &EalConfig) -> Wants {
    Wants {
        cpus: config.workers.clone(),
        polls: dataplane.idle == Idle::Poll,
        huge_mb: if config.hugepages == Hugepages::Auto { config.memory_mb() } else { 0 },
        devices: plans.iter().flat_map(Plan::folders).collect(),
    }
}

/// From the first look at devices to the end. Of `state`, only what opening ports needs is used.
async fn live(args: &Args, dataplane: Dataplane, state: State) -> Result<(), Failure> {
    room_for_sessions(&dataplane, free_memory())?;
    let mut endings = Endings::new()?;
    let socket = args.socket(dataplane.socket.clone());
    // Whoever has the socket has the ports: a second instance ends here, before it touches anything.
    let listener = Listener::bind_for(&socket, args.socket_owner).await?;
    let (mut ledger, put_right) = Ledger::open(&socket);
    for interface in put_right {
        tracing::warn!("{interface}: left as it was by a data plane that was killed; put right");
    }
    let plans = Plan::make(&state)?;
    let config = eal_config(args, &dataplane, &plans, &socket)?;
    let advice = advice::here(&wants(&dataplane, &plans, &config));
    let eal = Eal::start(&config)?;
    let key = steering::key(&state.ports, random);
    // Between workers, messages have to be met in time too: there, naps do it.
    let interrupts = dataplane.idle == Idle::Adaptive && eal.workers().len() == 1;
    let started = open_all(eal, plans, key, interrupts, &mut ledger);
    let (mut ports, queues, pools) = match started {
        Ok(started) => started,
        Err(failure) => {
            eal.cleanup();
            return Err(failure);
        }
    };
    let twins = match OpenTwins::open(&state, &mut ports, &mut ledger) {
        Ok(twins) => twins,
        Err(error) => {
            drop(queues);
            ports.into_iter().for_each(|port| port.close(&mut ledger));
            eal.cleanup();
            return Err(Failure::Port(error.to_string()));
        }
    };
    let mut hosts = watch_hosts(&twins)?;
    let boot = plan::before_programmed(&state);
    let (control, running, pump, exporter) =
        set_up(args, &dataplane, eal, (ports, queues, pools), advice, (boot, twins))?;
    running.begun().await;
    // Devices are open: what is left to do with the kernel is to give interfaces back.
    if let Err(error) = fulcrum_machine::keep_only(&[Capability::NetAdmin]) {
        tracing::warn!("{error}");
    }
    let pumping = pump.map(Pump::begin).transpose()?;
    let control = Arc::new(Mutex::new(control));
    let service = DataplaneServer::new(Service::new(control.clone(), endings.asked()))
        .max_decoding_message_size(MESSAGE_LIMIT);
    let server = tonic::transport::Server::builder().add_service(service);
    let exporting = exporter.map(|exporter| tokio::spawn(exporter.run()));
    let serving = tokio::spawn(server.serve_with_incoming(listener.incoming()));
    tracing::info!(socket = %socket.display(), "ready");
    supervisor::ready("forwarding what fulcrum-control programs");

    tend(&control, args.patience(), &mut endings, &mut hosts).await;

    supervisor::stopping();
    exporting.into_iter().for_each(|exporting| exporting.abort());
    serving.abort();
    let _ = serving.await;
    running.stop().await;
    // The twins go before the host gets its interfaces back.
    drop(pumping);
    for port in std::mem::take(&mut lock(&control).ports) {
        port.close(&mut ledger);
    }
    eal.cleanup();
    tracing::info!("ended");
    Ok(())
}

/// Whether all sessions that are allowed have room in `free` bytes: better told now than by a flood at night.
fn room_for_sessions(dataplane: &Dataplane, free: usize) -> Result<(), Failure> {
    let (sessions, workers) = (dataplane.sessions, dataplane.worker_lcores().unwrap_or_default().len());
    let needed = Sessions::bytes(sessions).saturating_mul(workers);
    if needed > free {
        return Err(Failure::Sessions { sessions, workers, needed, free });
    }
    Ok(())
}

/// Memory that the machine has left, in bytes; as much as one likes where the kernel does not say.
fn free_memory() -> usize {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:")?.strip_suffix("kB"));
    kib.and_then(|kib| kib.trim().parse::<usize>().ok()).map_or(usize::MAX, |kib| kib << 10)
}

fn eal_config(
    args: &Args,
    dataplane: &Dataplane,
    plans: &[Plan],
    socket: &Path,
) -> Result<EalConfig, Failure> {
    let lcores = dataplane.worker_lcores().unwrap_or_default();
    if lcores.is_empty() {
        return Err(Failure::NoLcores(dataplane.lcores.clone()));
    }
    Ok(EalConfig {
        workers: lcores.iter().copied().map(usize::from).collect(),
        file_prefix: args.file_prefix(dataplane.file_prefix.clone(), socket),
        hugepages: match dataplane.hugepages {
            HugePages::Auto => Hugepages::Auto,
            HugePages::Off => Hugepages::Off,
        },
        frames: frames::count(plans, lcores.len()),
        room: plan::room(plans).into(),
        drivers_mb: plans.iter().map(|plan| plan.driver_mb(lcores.len())).sum(),
        pci: plans.iter().flat_map(Plan::pci).map(str::to_owned).collect(),
        drivers: args.drivers.clone(),
    })
}

type Opened = (Vec<Port>, Vec<Queues>, Vec<Mempool>);

/// Opens all ports, or none.
fn open_all(
    eal: &'static Eal,
    plans: Vec<Plan>,
    key: [u8; KEY],
    interrupts: bool,
    ledger: &mut Ledger,
) -> Result<Opened, Failure> {
    let workers = eal.workers().len();
    let pools = frames::pools(eal, frames::count(&plans, workers), plan::room(&plans))?;
    let mut opener = Opener { eal, pools, workers, interrupts, ledger, key };
    let (mut ports, mut queues) = (Vec::new(), Vec::new());
    for (number, plan) in plans.into_iter().enumerate() {
        match opener.open(number, plan) {
            Ok((port, its_queues)) => {
                tracing::info!(
                    port = port.name,
                    device = port.device,
                    driver = port.driver,
                    mac = %fulcrum_model::Mac(port.mac),
                    rx_queues = port.rx_queues,
                    tx_queues = port.tx_queues,
                    "open"
                );
                port.notes.iter().for_each(|note| tracing::info!(port = port.name, "{note}"));
                ports.push(port);
                queues.push(its_queues);
            }
            Err(error) => {
                drop(queues);
                ports.into_iter().for_each(|port: Port| port.close(opener.ledger));
                return Err(error.into());
            }
        }
    }
    Ok((ports, queues, opener.pools))
}

fn set_up(
    args: &Args,
    dataplane: &Dataplane,
    eal: &'static Eal,
    (mut ports, queues, pools): Opened,
    mut warnings: Vec<String>,
    (boot, twins): (State, OpenTwins),
) -> Result<(Control, Running, Option<Pump>, Option<Exporter>), Failure> {
    let workers = eal.workers().len();
    let (rss, gauges) = steering::settle(&mut ports, workers);
    let facts = ports
        .iter()
        .map(|port| PortFacts {
            name: port.name.clone(),
            mac: port.mac,
            partial_checksums: port.partial_checksums,
        })
        .collect();
    let mut program = Program::new(workers, facts);
    if rss.as_ref().is_some_and(|rss| rss.config().requests == Some(Part::Both)) {
        program.steer_by_flow();
    }
    program.twins(twins.names());
    let exceptions = twins.names();
    let (snapshot, _) = program.compile(&boot, 0);
    let twins = twins.of(&snapshot);
    let largest = twins.iter().map(|twin| usize::from(twin.mtu) + plan::LAYER2 as usize).max();
    let its_twins = twins.iter().map(|twin| (twin.interface, twin.port)).collect();
    let (signal, clock) = (Arc::new(worker::Signal::default()), Clock::start());
    let (outlets, exporter) = match dataplane.translation_log {
        Some(collector) => {
            let (outlets, inlets) = translations::rings(workers);
            let domain = dataplane.observation_domain;
            (outlets, Some(Exporter::new(collector, domain, inlets, clock)))
        }
        None => (Vec::new(), None),
    };
    let mut frames: Vec<Mempool> = Vec::new();
    for pool in &pools {
        if !frames.contains(pool) {
            frames.push(*pool);
        }
    }
    let crew = Crew {
        sessions: dataplane.sessions,
        seed: random(),
        numbers: numbers::begin(&args.socket(dataplane.socket.clone())),
        misdirect: dataplane.misdirect,
        idle: dataplane.idle,
        fault: args.test_fault,
        clock,
        pools,
        snapshot: snapshot.clone(),
        signal: signal.clone(),
        rss,
        twins: largest.map(|largest| (its_twins, largest)),
        outlets,
    };
    let mut lcores = Vec::new();
    let mut boards = Vec::new();
    let mut links = Vec::new();
    let (recruits, lines) = crew.hire(&ports, queues, gauges, workers);
    for (number, recruit) in recruits.into_iter().enumerate() {
        let lcore = eal.workers()[number];
        let Recruit { desk, counters, board, begin } = recruit;
        boards.push(board.clone());
        links.push(WorkerLink::new(lcore, desk, board.clone(), counters));
        lcores.push(eal.launch(number, move || {
            watch::this_is_worker(number, lcore, &board);
            begin().run();
        })?);
    }
    if dataplane.misdirect {
        warnings.push("test setting misdirect: every packet is brought to a wrong worker first".to_owned());
    }
    warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    let identity = Identity {
        instance: format!("{:016x}", random()),
        started: Instant::now(),
        clock,
        dpdk: fulcrum_dpdk::version(),
        hugepages: eal.hugepages(),
        idle: dataplane.idle.name(),
        sessions: dataplane.sessions,
        frames,
        warnings,
        collector: exporter.as_ref().map(|exporter| Arc::clone(exporter.collector())),
    };
    let counters = Arc::new(WorkerCounters::new(ports.len()));
    let pump = lines.map(|lines| Pump::new(twins, lines, Arc::clone(&counters)));
    let host = Host { boot, exceptions, addresses: Addresses::new(), counters };
    let control = Control::new(identity, links, ports, program, snapshot, host);
    Ok((control, Running { signal, boards, lcores }, pump, exporter))
}

/// The addresses of the host, where it matters which they are.
fn watch_hosts(twins: &OpenTwins) -> io::Result<Receiver<Addresses>> {
    let (tell, hosts) = channel(Addresses::new());
    let names: Vec<String> = twins.names().into_values().collect();
    if !names.is_empty() {
        host::watch_addresses(names, move |addresses| tell.send(addresses).is_ok())?;
    }
    Ok(hosts)
}

/// Does what has to be done regularly, until the end is asked for.
async fn tend(
    control: &Mutex<Control>,
    patience: Duration,
    endings: &mut Endings,
    hosts: &mut Receiver<Addresses>,
) {
    let boards: Vec<_> =
        lock(control).workers.iter().map(|worker| (worker.lcore, worker.board.clone())).collect();
    let mut watch = Watch::new(patience, boards);
    let every = |period| {
        let mut interval = interval(period);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        interval
    };
    let mut pumping = every(Duration::from_millis(5));
    let mut links = every(LINKS);
    let mut looking = every(PERIOD);
    let bonds = lock(control).has_bonds();
    let mut bonding = every(Duration::from_millis(50));
    let mut measuring = every(Duration::from_secs(1));
    // IPVS's estimator counts on two seconds; late ticks are made up for.
    let mut rating = interval(Duration::from_secs(2));
    loop {
        tokio::select! {
            ending = endings.next() => {
                tracing::info!("{}: ending", ending.name());
                return ending.answered().await;
            }
            _ = pumping.tick() => lock(control).pump(),
            _ = links.tick() => lock(control).look_at_links(),
            Ok(()) = hosts.changed() => {
                let addresses = hosts.borrow_and_update().clone();
                lock(control).hosts(addresses);
            }
            _ = looking.tick() => {
                watch.look_or_abort();
                supervisor::alive();
            }
            _ = bonding.tick(), if bonds => lock(control).look_after_bonds(),
            _ = measuring.tick() => lock(control).measure(),
            _ = rating.tick() => lock(control).meters.tick(),
        }
    }
}

fn lock(control: &Mutex<Control>) -> MutexGuard<'_, Control> {
    control.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Sixty-four bits that differ from start to start: std keys its hash maps with the system's randomness.
pub(crate) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::{PER_QUEUE, SPARE};

    #[test]
    fn more_sessions_than_memory_are_refused() {
        let dataplane = Dataplane { lcores: "0-1".to_owned(), sessions: 1 << 20, ..Dataplane::default() };
        assert!(room_for_sessions(&dataplane, 1 << 30).is_ok());
        let refused = room_for_sessions(&dataplane, 100 << 20).unwrap_err().to_string();
        assert!(refused.starts_with("sessions = 1048576 for each of 2 workers take "), "{refused}");
        assert!(refused.contains("only 100 MiB of memory are free"), "{refused}");
        assert!((1 << 20..usize::MAX).contains(&free_memory()));
    }

    #[test]
    fn the_page_about_sizing_has_these_frames() {
        let page = include_str!("../../../docs/sizing.md").split_whitespace().collect::<Vec<_>>().join(" ");
        let text = "[dataplane]\nlcores = \"1-4\"\n\
                    [[port]]\nname = \"a\"\ndevice = \"net_null0\"\n[[port]]\nname = \"b\"\ndevice = \"net_null1\"\n";
        let Config { dataplane, state, .. } = Config::parse("t", text).unwrap();
        let args = <Args as clap::Parser>::parse_from(["x"]);
        let config =
            eal_config(&args, &dataplane, &Plan::make(&state).unwrap(), Path::new("/run/x")).unwrap();
        let (frames, megabytes) = (config.frames, config.memory_mb());
        let frames = format!("{} {}", frames / 1000, frames % 1000);
        let pages = megabytes.div_ceil(2);
        for said in [
            format!("{SPARE}, and {PER_QUEUE} more for each port and worker"),
            format!("{SPARE} + 2 × 4 × {PER_QUEUE} = {frames} frames"),
            format!("| {frames}, {megabytes} MiB with DPDK's own: {pages} huge pages of 2 MiB |"),
            format!("vm.nr_hugepages={pages}` for {megabytes} MiB"),
        ] {
            assert!(page.contains(&said), "docs/sizing.md does not say `{said}`");
        }
    }
}
