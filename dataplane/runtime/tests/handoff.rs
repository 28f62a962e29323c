//! What workers hand to one another: their own loop on frames in memory, turn by turn on one thread, so that what is
//! lost is lost every time.

use std::cell::Cell;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};

use fulcrum_director::{
    Buf as _, Engine, EngineConfig, Event, InitialNumbers, Nanos, Pool as _, Reason, WorkerCounters,
};
use fulcrum_dpdk::{Eal, EalConfig, Hugepages, Mbuf, Mempool, allowed_cpus};
use fulcrum_model::file::Config;
use fulcrum_packet::{ethernet, ipv4};
use fulcrum_program::{PortFacts, Program};
use fulcrum_runtime::harness::{self, Harness, Parts};
use fulcrum_runtime::{Egress, Ingress};

const MAC: [u8; 6] = [2, 0, 0, 0, 1, 1];
/// Clients' ports from here on, one flow each.
const CLIENTS: u16 = 40_000;
const FLOWS: u16 = 512;
const BURST: usize = 64;

fn pool() -> Mempool {
    static POOL: OnceLock<Mempool> = OnceLock::new();
    *POOL.get_or_init(|| {
        let frames = 32_768;
        let eal = Eal::start(&EalConfig {
            workers: vec![allowed_cpus()[0]],
            file_prefix: format!("fulcrum-handoff-{}", std::process::id()),
            hugepages: Hugepages::Off,
            frames,
            room: 256,
            ..EalConfig::default()
        })
        .unwrap();
        Mempool::new(eal, "frames", frames as u32, 256).unwrap()
    })
}

/// A datagram from a client to the service.
fn datagram(mut pool: Mempool, client: u16) -> Mbuf {
    let mut frame = pool.alloc(60).unwrap();
    let bytes = frame.bytes_mut();
    bytes.fill(0);
    ethernet::emit(bytes, MAC, [2, 0, 0, 0, 0, 0x50], 0, ethernet::IPV4);
    let header = ipv4::Header {
        tos: 0,
        total_len: 28,
        id: 0,
        fragment: 0,
        ttl: 64,
        protocol: ipv4::UDP,
        src: Ipv4Addr::new(10, 0, 0, 50),
        dst: Ipv4Addr::new(10, 0, 0, 9),
    };
    header.emit(&mut bytes[14..]);
    bytes[34..36].copy_from_slice(&client.to_be_bytes());
    bytes[36..38].copy_from_slice(&53u16.to_be_bytes());
    bytes[38..40].copy_from_slice(&8u16.to_be_bytes());
    frame
}

/// A receive queue that is as full as a burst takes, while it is open.
struct Queue {
    pool: Mempool,
    open: Rc<Cell<bool>>,
    given: Rc<Cell<u64>>,
}

impl Ingress for Queue {
    fn poll(&mut self, limit: usize, mut each: impl FnMut(Mbuf)) -> usize {
        let count = if self.open.get() { limit } else { 0 };
        for _ in 0..count {
            each(datagram(self.pool, CLIENTS + self.given.get() as u16 % FLOWS));
            self.given.set(self.given.get() + 1);
        }
        count
    }
}

/// Counts what is sent.
struct Sink(Rc<Cell<u64>>);

impl Egress for Sink {
    fn send(&mut self, frames: &mut Vec<Mbuf>) -> usize {
        let count = frames.len();
        self.0.set(self.0.get() + count as u64);
        frames.clear();
        count
    }
}

/// Workers with a service, and what came in and went out of all of them.
struct Crew {
    workers: Vec<Harness<Engine<Mempool>, Queue, Sink>>,
    /// Whether a worker's queues have frames.
    open: Vec<Rc<Cell<bool>>>,
    given: Rc<Cell<u64>>,
    sent: Rc<Cell<u64>>,
    now: Nanos,
}

impl Crew {
    /// Workers that poll a queue of each of `ports` ports.
    fn new(workers: usize, ports: usize) -> Crew {
        let mut text = String::new();
        for port in 0..ports {
            text += &format!(
                "[[port]]\nname = \"p{port}\"\ndevice = \"net_null{port}\"\n\
                 [[interface]]\nname = \"p{port}\"\nport = \"p{port}\"\naddresses = [\"10.0.{port}.1/24\"]\n"
            );
        }
        text += "[[neighbour]]\ninterface = \"p0\"\naddress = \"10.0.0.7\"\nmac = \"02:00:00:00:00:07\"\n\
                 [[service]]\naddress = \"10.0.0.9:53\"\nprotocol = \"udp\"\n\
                 [[service.server]]\naddress = \"10.0.0.7:53\"\nforward = \"dr\"\n";
        let state = Config::parse("t", &text).unwrap().state;
        let facts = (0..ports)
            .map(|port| PortFacts { name: format!("p{port}"), mac: MAC, partial_checksums: false })
            .collect();
        let (snapshot, _) = Program::new(workers, facts).compile(&state, 1);
        let pool = pool();
        let (given, sent) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let open: Vec<_> = (0..workers).map(|_| Rc::new(Cell::new(true))).collect();
        let parts = open.iter().zip(0..).map(|(open, worker)| {
            let counters = Arc::new(WorkerCounters::new(ports));
            let config = EngineConfig {
                worker,
                workers: workers as u16,
                sessions: 4096,
                seed: 1,
                numbers: InitialNumbers::of_seed(1),
                announce: false,
                misdirect: false,
                short_way: true,
            };
            let queue = |_| Queue { pool, open: open.clone(), given: given.clone() };
            Parts {
                director: Engine::new(config, Arc::clone(&snapshot), Arc::clone(&counters)),
                counters,
                ingress: (0..ports).map(queue).collect(),
                egress: (0..ports).map(|_| Sink(sent.clone())).collect(),
            }
        });
        Crew { workers: harness::crew(pool, parts.collect()), open, given, sent, now: 0 }
    }

    fn turn(&mut self, worker: usize) {
        self.now += 1000;
        self.workers[worker].turn(self.now);
    }

    /// Every worker's turn, so many times.
    fn rounds(&mut self, count: usize) {
        (0..count).for_each(|_| (0..self.workers.len()).for_each(|worker| self.turn(worker)));
    }

    /// Closes the queues and lets all that is under way arrive, then looks whether it did.
    fn check(&mut self) {
        self.open.iter().for_each(|open| open.set(false));
        self.rounds(100);
        for worker in &self.workers {
            let drops = Reason::ALL.iter().filter(|reason| worker.counters().dropped(**reason) > 0);
            assert_eq!(drops.collect::<Vec<_>>(), Vec::<&Reason>::new());
        }
        assert_eq!(self.sent.get(), self.given.get());
        let sum = |count: fn(&WorkerCounters) -> u64| -> u64 {
            self.workers.iter().map(|worker| count(worker.counters())).sum()
        };
        assert_eq!(sum(|counters| counters.happened(Event::ForwardedDr)), self.given.get());
        assert_eq!(sum(|counters| counters.happened(Event::SessionCreated)), u64::from(FLOWS));
    }

    fn handed_off(&self) -> u64 {
        self.workers.iter().map(|worker| worker.counters().handed_off.get()).sum()
    }

    /// Sessions of each worker.
    fn sessions(&mut self) -> Vec<usize> {
        self.workers.iter_mut().map(|worker| worker.director().session_count()).collect()
    }
}

#[test]
fn whatever_queue_frames_come_by_all_arrive() {
    for (workers, ports) in [(1, 1), (2, 1), (2, 3), (3, 1), (3, 2), (8, 1), (8, 3)] {
        for to_one_alone in [false, true] {
            let mut crew = Crew::new(workers, ports);
            for open in crew.open.iter().skip(1) {
                open.set(!to_one_alone);
            }
            let full = if to_one_alone { 1 } else { workers };
            let rounds = 14_000 / (full * ports * BURST) + 1;
            crew.rounds(rounds);
            crew.check();
            assert_eq!(crew.given.get(), (rounds * full * ports * BURST) as u64);
            assert_eq!(crew.handed_off() > 0, workers > 1);
            let sessions = crew.sessions();
            let even = usize::from(FLOWS) / workers;
            assert!(sessions.iter().all(|&count| count > even / 2 && count < even * 2), "{sessions:?}");
        }
    }
}

#[test]
fn a_worker_that_was_kept_away_catches_up() {
    for ports in [1, 2] {
        let mut crew = Crew::new(2, ports);
        crew.rounds(1);
        // About as much as would wait in the queues of a device.
        (0..3600 / (ports * BURST)).for_each(|_| crew.turn(0));
        crew.rounds(100);
        crew.check();
    }
}
