//! How long packets wait for a change of configuration: thread CPU time of the longest step before and after it, and of
//! taking it over, with bursts of established sessions going through all the while.
//!
//! `cargo run --release -p fulcrum-director --example install`, on a core of its own: `taskset -c 3 …`.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use fulcrum_director::buffer::{VecBuf, VecPool};
use fulcrum_director::{Engine, EngineConfig, Output, Received, SECOND, Snapshot, WorkerCounters};
use fulcrum_machine::thread_time;
use fulcrum_model::file::Config;
use fulcrum_model::{Forward, Protocol, Server, ServerKey, Service, ServiceKey, State};
use fulcrum_packet::{ethernet, ipv4, udp};
use fulcrum_program::{PortFacts, Program};

const NETWORK: &str = r#"
[[port]]
name = "wan"
device = "net_null0"
[[interface]]
name = "wan"
port = "wan"
addresses = ["10.0.0.1/8"]
[[neighbour]]
address = "10.255.0.1"
mac = "02:00:00:00:09:09"
interface = "wan"
[[service]]
address = "10.254.0.1:80"
protocol = "udp"
[[service.server]]
address = "10.255.0.1:80"
forward = "dr"
"#;

const OWN: [u8; 6] = [2, 0, 0, 0, 1, 1];
const PEER: [u8; 6] = [2, 0, 0, 0, 9, 9];
const SERVICES: u32 = 10_000;
const SERVERS: u32 = 10;
const FLOWS: u32 = 16_384;
const BURST: u32 = 64;
/// Steps with whose longest an installation's are compared.
const STEPS: u32 = 1024;
/// Time that a step takes, by the engine's clock.
const STEP: u64 = 20_000;

struct Bench {
    engine: Engine<VecPool>,
    program: Program,
    generation: u64,
    now: u64,
    next: u32,
    out: Output<VecBuf>,
    burst: Vec<Received<VecBuf>>,
}

impl Bench {
    fn new(state: &State) -> Bench {
        let port = PortFacts { name: "wan".to_owned(), mac: OWN, partial_checksums: false };
        let mut program = Program::new(1, vec![port]);
        let config = EngineConfig {
            worker: 0,
            workers: 1,
            sessions: FLOWS as usize * 2,
            seed: 1,
            announce: true,
            misdirect: false,
            short_way: true,
        };
        let snapshot = program.compile(state, 1).0;
        program.acknowledged(1);
        let engine = Engine::new(config, snapshot, Arc::new(WorkerCounters::new(1)));
        let (out, burst) = (Output::default(), Vec::with_capacity(BURST as usize));
        Bench { engine, program, generation: 1, now: SECOND, next: 0, out, burst }
    }

    /// CPU time of one step over a burst.
    fn step(&mut self) -> Duration {
        for _ in 0..BURST {
            self.burst.push(Received { port: 0, buf: VecBuf::new(&datagram(self.next % FLOWS)) });
            self.next += 1;
        }
        self.now += STEP;
        let before = thread_time();
        self.engine.step(self.now, &mut VecPool, &mut self.burst, &mut Vec::new(), &mut self.out);
        let took = thread_time() - before;
        assert!(self.out.tx.len() >= BURST as usize, "every packet is forwarded");
        self.out.tx.clear();
        took
    }

    /// The median and the longest of many steps.
    fn steps(&mut self) -> (Duration, Duration) {
        let mut times: Vec<Duration> = (0..STEPS).map(|_| self.step()).collect();
        times.sort();
        (times[times.len() / 2], times[times.len() - 1])
    }

    /// Goes over to `state`: CPU time of its compilation, which is another thread's, of that, and of the step that follows.
    fn install(&mut self, state: &State) -> [Duration; 3] {
        self.generation += 1;
        let before = thread_time();
        let (snapshot, warnings) = self.program.compile(state, self.generation);
        let compilation = thread_time() - before;
        assert_eq!(warnings, Vec::<String>::new());
        let before = thread_time();
        let old: Arc<Snapshot> = self.engine.install(snapshot);
        let took = thread_time() - before;
        let step = self.step();
        self.program.acknowledged(self.generation);
        drop(old);
        [compilation, took, step]
    }
}

fn datagram(flow: u32) -> [u8; 60] {
    let mut bytes = [0; 60];
    let l3 = ethernet::emit(&mut bytes, OWN, PEER, 0, ethernet::IPV4);
    let header = ipv4::Header {
        tos: 0,
        total_len: 46,
        id: 1,
        fragment: ipv4::DF,
        ttl: 64,
        protocol: ipv4::UDP,
        src: Ipv4Addr::from_bits(0x2000_0000 + flow / 8),
        dst: Ipv4Addr::new(10, 254, 0, 1),
    };
    header.emit(&mut bytes[l3..]);
    let datagram = udp::Header { src_port: 32_768 + (flow % 8) as u16, dst_port: 80, length: 26 };
    datagram.emit(&mut bytes[l3 + ipv4::HEADER..]);
    bytes
}

fn service(number: u32, forward: Forward) -> Service {
    let key = ServiceKey::new(Protocol::Tcp, Ipv4Addr::from_bits(0x0a64_0000 + number).into(), 80);
    let server = |server| {
        let address = Ipv4Addr::from_bits(0x0a80_0000 + number * SERVERS + server + 1).into();
        Server::new(ServerKey { address, port: 80 }, forward)
    };
    Service { servers: (0..SERVERS).map(server).collect(), ..Service::new(key, "wlc") }
}

fn main() {
    let base = Config::parse("network", NETWORK).expect("it is right").state;
    let with = |forward| {
        let mut state = base.clone();
        state.services.extend((0..SERVICES).map(|number| service(number, forward)));
        state
    };
    let mut reweighed = with(Forward::Nat);
    for server in reweighed.services.iter_mut().flat_map(|service| &mut service.servers) {
        server.weight = 7;
    }
    let mut one = with(Forward::Nat);
    one.services[500].servers[3].weight = 9;
    let mut flushed = base.clone();
    flushed.settings.expire_nodest_conn = true;
    let transactions = [
        ("10 000 services come", with(Forward::Nat)),
        ("nothing changes", with(Forward::Nat)),
        ("one weight changes", one),
        ("all weights change", reweighed),
        ("all methods change", with(Forward::Dr)),
        ("10 000 services go", base.clone()),
        ("they come back", with(Forward::Nat)),
        ("they go, sessions of deleted servers end", flushed),
    ];
    let mut bench = Bench::new(&base);
    (0..2 * FLOWS / BURST).for_each(|_| _ = bench.step());
    println!("steps of {BURST} packets, {FLOWS} flows; microseconds of thread CPU time");
    println!(
        "{:42} {:>8} {:>8} {:>10} {:>9} {:>8} {:>8}",
        "", "median", "longest", "(compile)", "install", "then", "longest"
    );
    for (name, state) in &transactions {
        let (median, longest) = bench.steps();
        let [compilation, install, then] = bench.install(state);
        let (_, after) = bench.steps();
        let [median, longest, compilation, install, then, after] =
            [median, longest, compilation, install, then, after].map(|time| time.as_secs_f64() * 1e6);
        println!(
            "{name:42} {median:8.1} {longest:8.1} {compilation:10.0} {install:9.1} {then:8.1} {after:8.1}"
        );
    }
}
