//! Two workers beside one: what the second one adds, as a share of what a second core adds at all.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Barrier, mpsc};
use std::time::{Duration, Instant};

use fulcrum_director::{Buf as _, Nanos};
use fulcrum_dpdk::{BURST, Eal, LaunchError, Mempool};
use fulcrum_model::{Family, Forward};
use fulcrum_packet::tcp;
use fulcrum_runtime::Decide;
use fulcrum_runtime::harness::Harness;

use crate::feed::{Drain, Feed, Stream};
use crate::frames::{Flows, Segment, Template, Tuple};
use crate::measure::{Clock, Effort, median};
use crate::plan::{K, plain};
use crate::table::{self, Lost, Ours, Table, crew, drain, feed};
use crate::world::World;

/// Sessions of each worker.
const SESSIONS: usize = 256 * K;
/// Frames on their way to the other worker at most: what is offered is what that one bears, whoever else wants its
/// processor.
const WINDOW: u64 = 1024;
/// How long who waits for the other worker leaves the processor to others.
const NAP: Duration = Duration::from_micros(20);
/// How long frames may be on their way when no more are offered.
const PATIENCE: Duration = Duration::from_secs(2);

pub(crate) const NAME: &str = "fullnat two-workers 256k 64b ipv4";

/// What two workers do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Two {
    /// Packets per second of two workers against one.
    pub(crate) ours: f64,
    /// The same of two ceilings against one.
    pub(crate) ceilings: f64,
    /// Of that, what is left when each gets half of the other's packets first.
    pub(crate) handed_off: f64,
}

impl Two {
    /// What is reached of what can be.
    pub(crate) fn share(&self) -> f64 {
        self.ours / self.ceilings
    }
}

type Worker<D> = Harness<D, Feed, Drain>;

/// Measures one worker, two, one ceiling and two, on the first two lcores.
pub(crate) fn measure(eal: &'static Eal, pool: Mempool, effort: Effort) -> Result<Two, Lost> {
    let world = plain(Family::V4, Forward::FullNat);
    let template = || Template::new(world.family, 64);

    let mut alone = Table::open(pool, world, SESSIONS)?;
    let stream = Stream::of(&alone.requests, template());
    feed(&mut alone.worker).set_stream(Some(stream.clone()));
    let clock = alone.clock;
    let (one, _) = rate(eal, vec![alone.worker], &clock, effort)?;

    let (mut pair, owned) = open_two(pool, world)?;
    for (worker, flows) in pair.iter_mut().zip(&owned) {
        feed(worker).set_stream(Some(Stream::of(flows, template())));
    }
    let (two, mut pair) = rate(eal, pair, &clock, effort)?;
    check(&mut pair)?;

    for (number, worker) in pair.iter_mut().enumerate() {
        feed(worker).set_stream(Some(Stream::of(&owned[number], template())));
        feed(worker).mix(Stream::of(&owned[1 - number], template()), BURST / 2);
    }
    let (handed_off, mut pair) = rate(eal, pair, &clock, effort)?;
    check(&mut pair)?;

    let ceiling = |_| {
        let mut ceiling = table::ceiling(pool);
        feed(&mut ceiling).set_stream(Some(stream.clone()));
        ceiling
    };
    let (one_ceiling, _) = rate(eal, vec![ceiling(0)], &clock, effort)?;
    let (two_ceilings, _) = rate(eal, vec![ceiling(0), ceiling(1)], &clock, effort)?;
    Ok(Two { ours: two / one, ceilings: two_ceilings / one_ceiling, handed_off: handed_off / two })
}

/// What workers tell one another of the frames that cross between them.
#[derive(Debug, Default)]
struct Crossing {
    /// Frames that a worker was given for others.
    handed: AtomicU64,
    /// Frames of others that it has sent.
    met: AtomicU64,
}

/// A worker's turns beside another one's.
#[derive(Debug)]
struct Side {
    own: usize,
    crossings: Arc<[Crossing]>,
    /// Frames that it sent beyond those that it was given, and was given for others, when this began.
    before: (u64, u64),
}

impl Side {
    fn new<D: Decide>(own: usize, crossings: Arc<[Crossing]>, worker: &mut Worker<D>) -> Side {
        let before = (drain(worker).taken.wrapping_sub(feed(worker).given), feed(worker).mixed);
        Side { own, crossings, before }
    }

    /// Takes a turn, with new frames unless too many of those given before are still on their way.
    #[inline]
    fn turn<D: Decide>(&self, worker: &mut Worker<D>, now: Nanos) {
        let handed = self.handed(worker);
        let met: u64 = self.others().map(|other| other.met.load(Relaxed)).sum();
        let paused = handed.saturating_sub(met) > WINDOW;
        feed(worker).paused = paused;
        let before = drain(worker).taken;
        worker.turn(now);
        let (sent, given) = (drain(worker).taken, feed(worker).given);
        let handed = self.handed(worker);
        let beyond = sent.wrapping_sub(given).wrapping_sub(self.before.0);
        self.crossings[self.own].handed.store(handed, Relaxed);
        self.crossings[self.own].met.store(beyond.wrapping_add(handed), Relaxed);
        if paused && sent == before {
            std::thread::sleep(NAP);
        }
    }

    fn handed<D: Decide>(&self, worker: &mut Worker<D>) -> u64 {
        feed(worker).mixed - self.before.1
    }

    fn others(&self) -> impl Iterator<Item = &Crossing> {
        self.crossings.iter().enumerate().filter(|(number, _)| *number != self.own).map(|(_, other)| other)
    }

    /// Whether all frames have arrived.
    fn is_over(&self) -> bool {
        let sum = |count: fn(&Crossing) -> &AtomicU64| -> u64 {
            self.crossings.iter().map(|crossing| count(crossing).load(Relaxed)).sum()
        };
        sum(|crossing| &crossing.handed) == sum(|crossing| &crossing.met)
    }
}

/// Packets per nanosecond of thread CPU time of workers that run at the same time, each on its lcore.
fn rate<D: Decide + Send + 'static>(
    eal: &'static Eal,
    workers: Vec<Worker<D>>,
    clock: &Clock,
    effort: Effort,
) -> Result<(f64, Vec<Worker<D>>), Lost> {
    let count = workers.len();
    let (barrier, done) = (Arc::new(Barrier::new(count)), Arc::new(AtomicUsize::new(0)));
    let crossings: Arc<[Crossing]> = (0..count).map(|_| Crossing::default()).collect();
    let (say, said) = mpsc::channel();
    let launched: Result<Vec<_>, LaunchError> = (0..)
        .zip(workers)
        .map(|(number, mut worker)| {
            let (barrier, done) = (Arc::clone(&barrier), Arc::clone(&done));
            let (crossings, say, mut clock) = (Arc::clone(&crossings), say.clone(), *clock);
            eal.launch(number, move || {
                let side = Side::new(number, crossings, &mut worker);
                barrier.wait();
                let mut slice =
                    || clock.slice_of(&mut worker, effort.packets, |worker, now| side.turn(worker, now));
                slice();
                let mut times: Vec<f64> = (0..effort.slices).map(|_| slice()).collect();
                // Who is done first goes on: the other is measured beside it.
                done.fetch_add(1, Relaxed);
                while done.load(Relaxed) < count {
                    side.turn(&mut worker, clock.tick());
                }
                feed(&mut worker).set_stream(None);
                barrier.wait();
                let end = Instant::now();
                while !side.is_over() && end.elapsed() < PATIENCE {
                    side.turn(&mut worker, clock.tick());
                }
                let _ = say.send((number, median(&mut times), worker));
            })
        })
        .collect();
    let launched = launched.map_err(|error| Lost(error.to_string()))?;
    drop(say);
    let mut ended: Vec<_> = said.into_iter().collect();
    drop(launched);
    ended.sort_by_key(|(number, ..)| *number);
    let rate = ended.iter().map(|(_, ns, _)| 1.0 / ns).sum();
    Ok((rate, ended.into_iter().map(|(.., worker)| worker).collect()))
}

/// Whether everything that two workers were given came out of one of them.
fn check(pair: &mut [Ours]) -> Result<(), Lost> {
    let given: u64 = pair.iter_mut().map(|worker| feed(worker).given).sum();
    let taken: u64 = pair.iter_mut().map(|worker| drain(worker).taken).sum();
    if given != taken {
        let drops: Vec<_> = pair.iter().map(|worker| table::drops(worker.counters())).collect();
        return Err(Lost(format!("of {given} frames {taken} came out: {}", drops.join("; "))));
    }
    Ok(())
}

/// Two workers with established sessions, and the flows that each of them owns.
fn open_two(pool: Mempool, world: World) -> Result<(Vec<Ours>, [Arc<Flows>; 2]), Lost> {
    let (snapshot, _) = table::program_for(2).compile(&world.state(), 1);
    let mut pair = crew(pool, 2, SESSIONS * 11 / 10, &snapshot);
    let mut owned = [0, 1].map(|_| Flows::new(world.family, SESSIONS * 11 / 10));
    for number in 0..2 * SESSIONS {
        let now = table::OPENING * number as u64 / (2 * SESSIONS) as u64;
        let request = world.request(number);
        let owner = through(&mut pair, now, &request, Segment::bare(tcp::SYN, number as u32, 0));
        let Some((owner, answer)) = owner else {
            let drops: Vec<_> = pair.iter().map(|worker| table::drops(worker.counters())).collect();
            return Err(Lost(format!("SYN {number} did not come out: {}", drops.join("; "))));
        };
        owned[owner].push(&request);
        through(&mut pair, now, &answer, Segment::bare(tcp::SYN | tcp::ACK, 7, number as u32 + 1));
        through(&mut pair, now, &request, Segment::bare(tcp::ACK, number as u32 + 1, 8));
    }
    owned.iter_mut().for_each(|flows| flows.shuffle(7));
    Ok((pair, owned.map(Arc::new)))
}

/// Sends one frame through worker 0 and, where that hands it off, worker 1: who sent it, and its answer's tuple.
fn through(pair: &mut [Ours], now: u64, tuple: &Tuple, segment: Segment) -> Option<(usize, Tuple)> {
    feed(&mut pair[0]).offer(tuple, segment);
    for (number, worker) in pair.iter_mut().enumerate() {
        drain(worker).kept = Some(Vec::new());
        worker.turn(now);
        let kept = drain(worker).kept.take().unwrap_or_default();
        if let Some((_, out)) = kept.first().and_then(|frame| table::seen(frame.bytes())) {
            let answer = Tuple { src: out.dst, sport: out.dport, dst: out.src, dport: out.sport };
            return Some((number, answer));
        }
    }
    None
}
