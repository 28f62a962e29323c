//! What sessions cost that come and go: nanoseconds of thread CPU time for each, from the first packet to the expiry,
//! while a million others are there. `cargo run --release -p fulcrum-director --example churn [table|engine|find]`, best
//! pinned to a core.
#![allow(missing_docs, missing_debug_implementations, reason = "a measurement")]

#[path = "../tests/harness/mod.rs"]
mod harness;

use std::net::Ipv4Addr;
use std::sync::Arc;

use fulcrum_director::session::{Key, NONE, Narrow, NewSession, Sessions, State, tcp};
use fulcrum_director::snapshot::Forward;
use fulcrum_director::{Buf, Engine, EngineConfig, Output, Pool, Received, SECOND, WorkerCounters};
use fulcrum_machine::thread_time;
use fulcrum_model::file::Config;
use fulcrum_program::{PortFacts, Program};
use harness::{LAN, NETWORK, VIP, WAN, tcp_frame};

const BURST: usize = 64;
const LIFE: u64 = 60 * SECOND;

fn main() {
    let only = std::env::args().nth(1);
    let wanted = |what: &str| only.as_deref().is_none_or(|only| only == what);
    for live in [1_000, 65_536, 1_000_000] {
        if live > 2 * least() {
            continue;
        }
        if wanted("table") {
            table(live);
        }
        if wanted("engine") {
            engine(live);
        }
    }
    if wanted("find") {
        // Full, and with the index as empty as one of a power of two of buckets may be.
        lookups(1_000_000, 1_000_000);
        lookups(1_000_000, 2_000_000);
    }
}

/// Sessions measured at least, half of them: fewer for tools that count instructions.
fn least() -> usize {
    std::env::args().nth(2).and_then(|least| least.parse().ok()).unwrap_or(500_000)
}

fn measured(what: &str, live: usize, count: usize, work: impl FnOnce()) {
    let before = thread_time();
    work();
    let each = (thread_time() - before).as_nanos() as f64 / count as f64;
    println!("{what:>24} {live:>9} live {each:>7.1} ns each");
}

fn new(number: u32) -> NewSession {
    let client =
        (Ipv4Addr::from_bits(0x1700_0000 | number.wrapping_mul(7) & 0xff_ffff).into(), number as u16);
    let local = 0x0a01_00c8 + number / 60_000 % 20;
    NewSession {
        protocol: 6,
        forward: Forward::FullNat,
        state: State::Tcp(tcp::State::None),
        client,
        vip: (VIP.into(), 80),
        local: (Ipv4Addr::from_bits(local).into(), (number % 60_000) as u16 + 1024),
        server: (Ipv4Addr::new(10, 1, 0, 11).into(), 8000),
        destination: 0,
        control: NONE,
    }
}

fn keys(new: &NewSession) -> [Key; 2] {
    let key = |(src, sport), (dst, dport)| Key { protocol: 6, src, sport, dst, dport };
    [key(new.client, new.vip), key(new.server, new.local)]
}

/// Sessions without packets.
fn table(live: usize) {
    let mut sessions = Sessions::new(live + live / 8 + 1000, 5, 0);
    let mut now = 0;
    let mut number = 0u32;
    let mut bursts = |count: usize| {
        for _ in 0..count {
            for _ in 0..BURST {
                number += 1;
                let new = new(number);
                let [request, answer] = keys(&new);
                assert!(sessions.find(request).is_none() && sessions.find(answer).is_none());
                let Some(id) = sessions.insert(new, now) else { panic!("no room") };
                let session = sessions.get_mut(id);
                session.set_state(State::Tcp(tcp::State::SynRecv));
                session.set_timeout(LIFE);
                session.touch(now);
                sessions.state_changed(id);
            }
            let mut budget = 2 * BURST;
            while let Some(id) = sessions.next_expired(now, &mut budget) {
                sessions.remove(id);
            }
            now += LIFE * BURST as u64 / live as u64;
        }
        sessions.len()
    };
    bursts(2 * live / BURST);
    let count = 2 * live.max(least()) / BURST;
    let mut there = 0;
    measured("table", live, count * BURST, || there = bursts(count));
    assert!(there.abs_diff(live) < live / 10 + 200, "{there}");
}

/// SYNs through an engine, FULLNAT.
fn engine(live: usize) {
    let locals: Vec<_> = (200..=220).map(|last| format!("\"10.1.0.{last}\"")).collect();
    let more = format!(
        "[[local-pool]]\nname = \"inside\"\ninterface = \"lan\"\naddresses = [{}]\n\
         [[service]]\naddress = \"10.0.0.100:80\"\nprotocol = \"tcp\"\nscheduler = \"rr\"\nlocal-pool = \"inside\"\n\
         [[service.server]]\naddress = \"10.1.0.11:8000\"\nforward = \"fullnat\"\n",
        locals.join(", ")
    );
    let config = Config::parse("churn", &format!("{NETWORK}{more}")).unwrap_or_else(|e| panic!("{e}"));
    let facts = |name: &str, mac| PortFacts { name: name.into(), mac, partial_checksums: false };
    let mut program = Program::new(1, vec![facts("wan", WAN), facts("lan", LAN)]);
    let (snapshot, _) = program.compile(&config.state, 1);
    let sessions = live + live / 8 + 1000;
    let config = EngineConfig {
        worker: 0,
        workers: 1,
        sessions,
        seed: 7,
        announce: false,
        misdirect: false,
        short_way: true,
    };
    let counters = Arc::new(WorkerCounters::new(2));
    let mut engine = Engine::<Frames>::new(config, snapshot, counters);
    let frame = tcp_frame(WAN, (Ipv4Addr::new(23, 0, 0, 0), 0), (VIP, 80), fulcrum_packet::tcp::SYN, b"");
    let mut out = Output::default();
    let (mut burst, mut spare) = (Vec::with_capacity(BURST), Vec::new());
    let (mut now, mut number) = (SECOND, 0u32);
    let mut bursts = |count: usize| {
        for _ in 0..count {
            for _ in 0..BURST {
                number += 1;
                let mut buf = spare.pop().unwrap_or_else(|| Frame::new(&frame));
                buf.fill(&frame);
                let bytes = buf.bytes_mut();
                let [_, a, b, c] = number.wrapping_mul(7).to_be_bytes();
                bytes[27..30].copy_from_slice(&[a, b, c]);
                bytes[34..36].copy_from_slice(&(number as u16).to_be_bytes());
                mend(bytes);
                burst.push(Received { port: 0, buf });
            }
            engine.step(now, &mut Frames, &mut burst, &mut Vec::new(), &mut out);
            assert_eq!(out.tx.len(), BURST);
            spare.extend(out.tx.drain(..).map(|tx| tx.buf));
            now += LIFE * BURST as u64 / live as u64;
        }
        engine.session_count()
    };
    bursts(2 * live / BURST);
    let count = 2 * live.max(least()) / BURST;
    let mut there = 0;
    measured("SYN through an engine", live, count * BURST, || there = bursts(count));
    assert!(there.abs_diff(live) < live / 10 + 200, "{there}");
}

/// Finds, one at a time and asked for ahead, in a table for `limit`.
fn lookups(live: u32, limit: usize) {
    println!("room for {limit}:");
    let mut sessions = Sessions::new(limit, 5, 0);
    for number in 0..live {
        assert!(sessions.insert(new(number), 0).is_some());
    }
    let order: Vec<u32> = (0..live).map(|i| (u64::from(i) * 0x9e37_79b1 % u64::from(live)) as u32).collect();
    let request = |number: u32| keys(&new(number))[0];
    let live = live as usize;
    measured("build a key", live, live, || {
        order.iter().for_each(|&number| _ = std::hint::black_box(request(number)));
    });
    measured("find", live, live, || {
        assert!(order.iter().all(|&number| sessions.find(request(number)).is_some()));
    });
    measured("miss", live, live, || {
        let miss = |&number: &u32| sessions.find(Key { dport: 81, ..request(number) }).is_none();
        assert!(order.iter().all(miss));
    });
    let mut bursts = order.chunks(BURST);
    measured("find, staged", live, live, || {
        let mut found = Vec::with_capacity(BURST);
        for burst in &mut bursts {
            found.clear();
            for &number in burst {
                let NewSession { client, vip, .. } = new(number);
                let (std::net::IpAddr::V4(src), std::net::IpAddr::V4(dst)) = (client.0, vip.0) else {
                    return;
                };
                let ends = Narrow::new((src.to_bits(), client.1), (dst.to_bits(), vip.1));
                let hash = sessions.hash_v4(6, ends);
                sessions.prefetch_bucket(hash);
                found.push((ends, hash, NONE));
            }
            for (_, hash, session) in &mut found {
                *session = sessions.candidate(*hash).map_or(NONE, |(id, _)| id);
                sessions.prefetch(*session);
            }
            let right = |&(ends, _, id): &(Narrow, u64, u32)| {
                sessions.get(id).is_between(fulcrum_director::session::Direction::In, ends)
            };
            assert!(found.iter().filter(|found| !right(found)).count() <= 1);
        }
    });
}

/// Header and TCP checksum of a frame.
fn mend(bytes: &mut [u8]) {
    use fulcrum_packet::checksum::{fold, pseudo_header, sum};
    bytes[24..26].fill(0);
    let checksum = !fold(sum(&bytes[14..34]));
    bytes[24..26].copy_from_slice(&checksum.to_be_bytes());
    let src = Ipv4Addr::new(bytes[26], bytes[27], bytes[28], bytes[29]);
    bytes[50..52].fill(0);
    let length = bytes.len() - 34;
    let checksum = !fold(pseudo_header(src, VIP, 6, length as u16) + sum(&bytes[34..]));
    bytes[50..52].copy_from_slice(&checksum.to_be_bytes());
}

/// A frame whose memory is used again.
#[derive(Debug)]
struct Frame {
    store: Box<[u8; 192]>,
    start: u16,
    end: u16,
}

impl Frame {
    fn new(frame: &[u8]) -> Frame {
        let mut new = Frame { store: Box::new([0; 192]), start: 0, end: 0 };
        new.fill(frame);
        new
    }

    fn fill(&mut self, frame: &[u8]) {
        (self.start, self.end) = (64, 64 + frame.len() as u16);
        self.bytes_mut().copy_from_slice(frame);
    }
}

impl Buf for Frame {
    fn bytes(&self) -> &[u8] {
        &self.store[usize::from(self.start)..usize::from(self.end)]
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.store[usize::from(self.start)..usize::from(self.end)]
    }

    fn grow_front(&mut self, n: usize) -> bool {
        let grown = self.start.checked_sub(n as u16);
        self.start = grown.unwrap_or(self.start);
        grown.is_some()
    }

    fn shrink_front(&mut self, n: usize) {
        self.start = (self.start + n as u16).min(self.end);
    }

    fn truncate(&mut self, len: usize) {
        self.end = self.end.min(self.start + len as u16);
    }
}

#[derive(Debug)]
struct Frames;

impl Pool for Frames {
    type Buf = Frame;

    fn alloc(&mut self, len: usize) -> Option<Frame> {
        (len <= 128).then(|| Frame::new(&[0; 128][..len]))
    }
}
