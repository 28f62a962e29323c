//! A whole director in memory: n engines, the state that programs them, and a clock that somebody turns.
//!
//! Messages between the engines go over plain queues until all is quiet, so that one frame is over before the
//! next one comes.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use fulcrum_director::buffer::{Buf, VecBuf, VecPool};
use fulcrum_director::export::SessionView;
use fulcrum_director::rss::{Kinds, Part, Rss, RssConfig};
use fulcrum_director::snapshot::InterfaceId;
use fulcrum_director::{
    Engine, EngineConfig, InitialNumbers, Message, Nanos, Output, Received, SECOND, Snapshot, Verdict,
    WorkerCounters,
};
use fulcrum_model::{Edit, EditError, Interface, Mac, Port, State};
use fulcrum_program::{PortFacts, Program};

/// Rounds of messages after which a frame would never come to rest: a bug in the engine.
const ROUNDS: usize = 1000;

/// How a bench is made.
#[derive(Clone, Copy, Debug)]
pub struct BenchConfig {
    /// How many engines, at least 1.
    pub workers: u16,
    /// Sessions that each has room for.
    pub sessions: usize,
    /// Seed of every choice by chance.
    pub seed: u64,
    /// Whether every frame goes to a wrong worker first.
    pub misdirect: bool,
    /// The time when it starts.
    pub start: Nanos,
}

/// A director in memory.
#[derive(Debug)]
pub struct Bench {
    state: State,
    program: Program,
    snapshot: Arc<Snapshot>,
    engines: Vec<Engine<VecPool>>,
    counters: Vec<Arc<WorkerCounters>>,
    inboxes: Vec<Vec<Message<VecBuf>>>,
    now: Nanos,
    warnings: Vec<String>,
}

/// A frame that the director sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// When.
    pub time: Nanos,
    /// Port number.
    pub port: u16,
    /// The frame.
    pub bytes: Vec<u8>,
}

/// What an input frame came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The verdict; `None` would be a bug in the engine.
    pub verdict: Option<Verdict>,
    /// The frames sent meanwhile, in order.
    pub sent: Vec<Sent>,
}

/// The MAC address of a port: the configured one, else 02:00:00:00:00:01 for the first port, and so on.
pub fn mac(port: &Port, number: usize) -> Mac {
    let [.., high, low] = (number + 1).to_be_bytes();
    port.mac.unwrap_or(Mac([2, 0, 0, 0, high, low]))
}

impl Bench {
    /// A director programmed with `state`.
    pub fn new(config: BenchConfig, state: State) -> Bench {
        let workers = config.workers.max(1);
        let facts = |(number, port): (usize, &Port)| PortFacts {
            name: port.name.clone(),
            mac: mac(port, number).0,
            partial_checksums: false,
        };
        let ports: Vec<PortFacts> = state.ports.iter().enumerate().map(facts).collect();
        let counters: Vec<_> = (0..workers).map(|_| Arc::new(WorkerCounters::new(ports.len()))).collect();
        let mut program = Program::new(usize::from(workers), ports);
        let (snapshot, warnings) = program.compile(&state, 1);
        program.acknowledged(1);
        let engine = |worker: u16| {
            let config = EngineConfig {
                worker,
                workers,
                sessions: config.sessions,
                seed: config.seed,
                numbers: InitialNumbers::of_seed(config.seed),
                announce: false,
                misdirect: config.misdirect,
                short_way: true,
            };
            Engine::new(config, snapshot.clone(), counters[usize::from(worker)].clone())
        };
        Bench {
            engines: (0..workers).map(engine).collect(),
            inboxes: (0..workers).map(|_| Vec::new()).collect(),
            state,
            program,
            snapshot,
            counters,
            now: config.start,
            warnings,
        }
    }

    /// Has flows owned as devices spread them that hash both ends of TCP and UDP. Before the first frame.
    pub fn steer_by_hash(&mut self) {
        // One as by chance, the same in every run.
        let key = std::array::from_fn(|n| (n * n * 37 + n * 101 + 59) as u8);
        let kinds = Kinds { tcp4: true, udp4: true, tcp6: true, udp6: true };
        let workers = self.engines.len() as u16;
        let (requests, answers) = (Some(Part::Both), Some(Part::Both));
        let rss = Arc::new(Rss::new(RssConfig { key, table: 128, workers, kinds, requests, answers }));
        self.engines.iter_mut().for_each(|engine| engine.steer_by(rss.clone()));
        self.program.steer_by_flow();
        self.install();
    }

    /// Gives interfaces that have an `exception` in the state their twins, and the host these addresses, each on the twin
    /// of that name or on another interface of its own. Before the first frame.
    pub fn host(&mut self, addresses: BTreeMap<IpAddr, Option<String>>) {
        let twin = |i: &Interface| Some((i.name.clone(), i.exception.clone()?));
        self.program.twins(self.state.interfaces.iter().filter_map(twin).collect());
        self.program.hosts(addresses);
        self.install();
    }

    /// Gives worker 0 a frame that the host sent by the twin of an interface, and waits until all is quiet.
    pub fn receive_from_host(&mut self, interface: InterfaceId, frame: &[u8]) -> Outcome {
        self.inboxes[0].push(Message::FromHost { interface, buf: VecBuf::new(frame) });
        self.settle(Vec::new(), 0)
    }

    /// What the director is programmed with.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The time.
    pub fn now(&self) -> Nanos {
        self.now
    }

    /// The configuration as the engines have it, with the counters of services and servers.
    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// Names for the ids of verdicts.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// The counters of every worker.
    pub fn counters(&self) -> &[Arc<WorkerCounters>] {
        &self.counters
    }

    /// The sessions and templates of all workers.
    pub fn sessions(&self) -> Vec<SessionView> {
        let mut list = Vec::new();
        for engine in &self.engines {
            let mut part = Vec::with_capacity(engine.session_count());
            let mut cursor = 0;
            while !engine.export_sessions(self.now, &mut cursor, &mut part, 1024) {
                part.reserve(1024);
            }
            list.append(&mut part);
        }
        list
    }

    /// How many sessions and templates all workers hold, those included that are over but not yet taken away.
    pub fn session_count(&self) -> usize {
        self.engines.iter().map(Engine::session_count).sum()
    }

    /// What of the state is not used; emptied by the call.
    pub fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    /// Changes the state, all or nothing, and programs the engines anew.
    pub fn apply(&mut self, edits: &[Edit]) -> Result<(), EditError> {
        self.state.apply_all(edits).map_err(|(_, error)| error)?;
        self.install();
        Ok(())
    }

    /// Programs the engines with another state; its ports are those that the director began with.
    pub fn replace(&mut self, state: State) {
        self.state = state;
        self.install();
    }

    fn install(&mut self) {
        let generation = self.snapshot.generation + 1;
        let (snapshot, warnings) = self.program.compile(&self.state, generation);
        self.warnings.extend(warnings);
        for engine in &mut self.engines {
            engine.install(snapshot.clone());
        }
        self.program.acknowledged(generation);
        self.snapshot = snapshot;
    }

    /// Lets time pass until `to`: sessions end, neighbours are asked again. What is sent meanwhile.
    pub fn advance(&mut self, to: Nanos) -> Vec<Sent> {
        let mut sent = Vec::new();
        // Engines want to be stepped every tenth of a second; over days that finely is of no use.
        let stride = to.saturating_sub(self.now) / 100_000;
        while self.now < to {
            let due = self.engines.iter().map(|engine| engine.next_deadline(self.now)).min().unwrap_or(to);
            self.now = due.max(self.now + stride.max(SECOND / 1000)).min(to);
            sent.append(&mut self.settle(Vec::new(), 0).sent);
        }
        sent
    }

    /// Goes to the time `to` in one step, as after a pause of the whole process. What is sent then.
    pub fn jump(&mut self, to: Nanos) -> Vec<Sent> {
        self.now = self.now.max(to);
        self.settle(Vec::new(), 0).sent
    }

    /// Gives a frame that came in by port number `port` to a worker and waits until all is quiet.
    pub fn receive(&mut self, port: u16, worker: usize, frame: &[u8]) -> Outcome {
        let burst = vec![Received { port, buf: VecBuf::new(frame) }];
        self.settle(burst, worker % self.engines.len())
    }

    /// Steps the engines until no message is under way. `burst` is for `worker`.
    fn settle(&mut self, burst: Vec<Received<VecBuf>>, worker: usize) -> Outcome {
        let mut outcome = Outcome { verdict: None, sent: Vec::new() };
        let mut bursts: Vec<Vec<Received<VecBuf>>> = self.engines.iter().map(|_| Vec::new()).collect();
        bursts[worker] = burst;
        for _ in 0..ROUNDS {
            let mut envelopes = Vec::new();
            for ((engine, burst), inbox) in self.engines.iter_mut().zip(&mut bursts).zip(&mut self.inboxes) {
                let mut out = Output { verdicts: Some(Vec::new()), ..Output::default() };
                engine.step(self.now, &mut VecPool, burst, inbox, &mut out);
                let sent = out.tx.into_iter();
                let time = self.now;
                outcome.sent.extend(sent.map(|tx| Sent {
                    time,
                    port: tx.port,
                    bytes: tx.buf.bytes().to_vec(),
                }));
                envelopes.append(&mut out.outbox);
                outcome.verdict = outcome.verdict.or(out.verdicts.and_then(|list| list.first().copied()));
            }
            if envelopes.is_empty() {
                return outcome;
            }
            for envelope in envelopes {
                self.inboxes[usize::from(envelope.to)].push(envelope.message);
            }
        }
        panic!("workers hand a message round and round: {:?}", self.inboxes);
    }
}
