//! Notices workers that hang or panic: says what is known, then aborts the process, so that whoever supervises it
//! starts it again. A data plane that stands still with its ports open would swallow traffic.

use std::cell::Cell;
use std::fs;
use std::panic::{self, PanicHookInfo};
use std::process::abort;
use std::sync::Arc;
use std::time::Duration;

use crate::board::{Board, Stage};

thread_local! {
    /// The worker that runs on this thread, with its lcore.
    static WORKER: Cell<Option<(usize, usize)>> = const { Cell::new(None) };
}

/// How often signs of life are looked for.
pub(crate) const PERIOD: Duration = Duration::from_millis(500);

/// Names the calling thread for reports, and on its board.
pub(crate) fn this_is_worker(worker: usize, lcore: usize, board: &Board) {
    WORKER.set(Some((worker, lcore)));
    board.name_thread(nix::unistd::gettid().as_raw().unsigned_abs());
}

/// From now on every panic of this process is reported and ends it.
pub(crate) fn report_panics() {
    panic::set_hook(Box::new(|info: &PanicHookInfo<'_>| {
        let who = match WORKER.get() {
            Some((worker, lcore)) => format!("worker {worker} (lcore {lcore})"),
            None => "the control thread".to_owned(),
        };
        let payload = info.payload();
        let message = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no message");
        let place = info.location().map(|place| format!(" at {place}")).unwrap_or_default();
        tracing::error!("{who} panicked{place}: {message}; the process aborts");
        abort();
    }));
}

/// What the kernel says of a worker's thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Vitals {
    /// Whether it would go on if it were let: it has or waits for a processor, or the kernel holds it, for want of
    /// memory or for a debugger. A process that is aborted meanwhile would not end any sooner.
    willing: bool,
    /// Time that it has had a processor for.
    ran: Duration,
}

impl Vitals {
    /// `None` where the kernel does not say, or the thread is gone.
    fn of(thread: u32) -> Option<Vitals> {
        let file = |name| fs::read_to_string(format!("/proc/self/task/{thread}/{name}")).ok();
        Vitals::read(&file("stat")?, &file("schedstat")?)
    }

    fn read(stat: &str, schedstat: &str) -> Option<Vitals> {
        // The state follows the name, which may hold anything, in parentheses.
        let state = stat.rsplit_once(") ")?.1.chars().next()?;
        let ran = schedstat.split_ascii_whitespace().next()?.parse().ok()?;
        Some(Vitals { willing: matches!(state, 'R' | 'D' | 'T' | 't'), ran: Duration::from_nanos(ran) })
    }
}

/// What a look has found.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Finding {
    /// A worker could have gone on and has not.
    Hung(String),
    /// A worker would go on and is not let.
    Starved(String),
}

/// Looks for signs of life of all workers.
///
/// A worker that shows none either hangs or is kept from its processor: by other work, or because the machine is a
/// guest whose host is busy. Only the first is held against it. Time counts as its own when it had a processor, or
/// when it slept where no worker should. An idle one sleeps by itself, and is woken up when the kernel gets to it.
#[derive(Debug)]
pub(crate) struct Watch {
    /// Time without a sign of life that is too much.
    patience: Duration,
    workers: Vec<Watched>,
}

#[derive(Debug)]
struct Watched {
    lcore: usize,
    board: Arc<Board>,
    turns: u64,
    /// Processor time at the last look.
    ran: Option<Duration>,
    /// Since the last sign of life.
    silent: Duration,
    /// The part of it that was the worker's own.
    wasted: Duration,
    /// When starving is worth the next word.
    next_word: Duration,
}

impl Watch {
    /// Over workers with their lcores; one that does nothing with `patience` hangs.
    pub(crate) fn new(patience: Duration, workers: impl IntoIterator<Item = (usize, Arc<Board>)>) -> Watch {
        let patience = patience.max(2 * PERIOD);
        let watched = |(lcore, board)| Watched {
            lcore,
            board,
            turns: 0,
            ran: None,
            silent: Duration::ZERO,
            wasted: Duration::ZERO,
            next_word: patience,
        };
        Watch { patience, workers: workers.into_iter().map(watched).collect() }
    }

    /// Looks once; to be called every [`PERIOD`]. Counting looks instead of time keeps a machine that slept as a
    /// whole from being taken for a worker that hangs.
    fn look(&mut self, vitals: impl Fn(u32) -> Option<Vitals>) -> Vec<Finding> {
        let patience = self.patience;
        let look = |(worker, watched): (usize, &mut Watched)| watched.look(worker, patience, &vitals);
        self.workers.iter_mut().enumerate().filter_map(look).collect()
    }

    /// Looks once and aborts the process when a worker hangs.
    pub(crate) fn look_or_abort(&mut self) {
        for finding in self.look(Vitals::of) {
            match finding {
                Finding::Starved(report) => tracing::warn!("{report}"),
                Finding::Hung(report) => {
                    tracing::error!("{report}; the process aborts");
                    abort();
                }
            }
        }
    }
}

impl Watched {
    fn look(
        &mut self,
        worker: usize,
        patience: Duration,
        vitals: impl Fn(u32) -> Option<Vitals>,
    ) -> Option<Finding> {
        let (turns, stage) = (self.board.turns.get(), self.board.stage());
        let vitals = vitals(self.board.thread());
        let ran = vitals.map(|vitals| vitals.ran);
        let since = ran.unwrap_or_default().saturating_sub(self.ran.or(ran).unwrap_or_default());
        self.ran = ran;
        if turns != self.turns || stage == Stage::Stopped {
            self.turns = turns;
            (self.silent, self.wasted, self.next_word) = (Duration::ZERO, Duration::ZERO, patience);
            return None;
        }
        self.silent += PERIOD;
        self.wasted += match vitals {
            Some(vitals) if vitals.willing || stage == Stage::Idle => since.min(PERIOD),
            _ => PERIOD,
        };
        let report = |what: &str| {
            let (lcore, silent, stage) = (self.lcore, self.silent.as_millis(), stage.words());
            format!(
                "worker {worker} (lcore {lcore}) {what} for {silent} ms in its turn {turns} while {stage}"
            )
        };
        if self.wasted >= patience {
            return Some(Finding::Hung(report("has hung")));
        }
        if self.silent >= self.next_word {
            // At once, then ever more rarely.
            self.next_word = self.silent * 2;
            let report = report("has been kept from its processor");
            return Some(Finding::Starved(format!("{report}: lcores want processors of their own")));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASLEEP: Vitals = Vitals { willing: false, ran: Duration::from_secs(3) };

    /// The worker's thread as a test wants it.
    struct Thread {
        board: Arc<Board>,
        watch: Watch,
    }

    impl Thread {
        fn new(patience: Duration) -> Thread {
            let board = Arc::new(Board::default());
            let watch = Watch::new(patience, [(3, board.clone())]);
            Thread { board, watch }
        }

        /// Looks until something is found: after how many looks, and what.
        fn look_until(&mut self, looks: u32, vitals: impl Fn(u32) -> Vitals) -> Option<(u32, Finding)> {
            (1..=looks).find_map(|look| Some((look, self.watch.look(|_| Some(vitals(look))).pop()?)))
        }
    }

    #[test]
    fn only_a_worker_that_stands_still_is_reported() {
        let boards = [Arc::new(Board::default()), Arc::new(Board::default())];
        let mut watch =
            Watch::new(Duration::from_millis(1500), [(1, boards[0].clone()), (3, boards[1].clone())]);
        let mut look = || watch.look(|_| Some(ASLEEP));
        boards[1].enter(Stage::Deciding);
        for _ in 0..2 {
            boards[0].turns.add(1);
            assert_eq!(look(), []);
        }
        boards[1].turns.add(7);
        boards[0].turns.add(1);
        assert_eq!(look(), []);
        for _ in 0..2 {
            boards[0].turns.add(1);
            assert_eq!(look(), []);
        }
        boards[0].turns.add(1);
        let report =
            "worker 1 (lcore 3) has hung for 1500 ms in its turn 7 while deciding on packets (engine step)";
        assert_eq!(look(), [Finding::Hung(report.to_owned())]);
    }

    #[test]
    fn a_worker_that_was_stopped_is_left_in_peace() {
        let mut thread = Thread::new(Duration::from_secs(1));
        thread.board.enter(Stage::Stopped);
        assert_eq!(thread.look_until(100, |_| ASLEEP), None);
    }

    #[test]
    fn one_that_turns_in_circles_hangs_by_its_processor_time() {
        let mut thread = Thread::new(Duration::from_secs(5));
        // Half a processor: twice the time.
        let vitals = |look| Vitals { willing: true, ran: look * PERIOD / 2 };
        thread.board.enter(Stage::Deciding);
        thread.board.turns.add(1);
        assert_eq!(thread.look_until(1, |_| vitals(0)), None);
        let (look, starved) = thread.look_until(100, vitals).expect("no sign of life for five seconds");
        assert!(look == 10 && matches!(starved, Finding::Starved(_)), "{look}: {starved:?}");
        let (_, hung) = thread.look_until(100, |more| vitals(look + more)).expect("five seconds of its own");
        assert!(matches!(&hung, Finding::Hung(report) if report.contains("for 10000 ms")), "{hung:?}");
    }

    #[test]
    fn one_that_waits_for_its_processor_is_only_spoken_of_and_ever_more_rarely() {
        for (stage, willing) in [(Stage::Deciding, true), (Stage::Idle, true), (Stage::Idle, false)] {
            let mut thread = Thread::new(Duration::from_secs(2));
            thread.board.enter(stage);
            let mut words = 0;
            for _ in 0..1000 {
                match thread.watch.look(|_| Some(Vitals { willing, ..ASLEEP })).pop() {
                    Some(Finding::Hung(report)) => panic!("{report}"),
                    Some(Finding::Starved(report)) => {
                        assert!(report.contains("kept from its processor"), "{report}");
                        words += 1;
                    }
                    None => {}
                }
            }
            assert_eq!(words, 8, "after 2, 4, 8 … 256 seconds");
        }
    }

    #[test]
    fn a_thread_that_the_kernel_says_nothing_of_is_given_no_excuse() {
        let mut thread = Thread::new(Duration::from_secs(1));
        assert_eq!(thread.watch.look(|_| None), []);
        assert!(matches!(thread.watch.look(|_| None)[..], [Finding::Hung(_)]));
    }

    #[test]
    fn what_the_kernel_holds_would_go_on_and_what_sleeps_would_not() {
        for (state, willing) in
            [('R', true), ('D', true), ('t', true), ('T', true), ('S', false), ('Z', false)]
        {
            let stat = format!("4711 (lcore) R) {state} 1 4711 4711 0 -1 4194368 92 0 0 0 7 3 0 0 20 0 4");
            let vitals = Vitals { willing, ran: Duration::from_nanos(388_277) };
            assert_eq!(Vitals::read(&stat, "388277 12 1\n"), Some(vitals), "{state}");
        }
        assert_eq!(Vitals::read("", "388277 0 1\n"), None);
        assert_eq!(Vitals::read("4711 (lcore) R 1", "\n"), None);
    }

    #[test]
    fn the_kernel_tells_of_threads() {
        let me = nix::unistd::gettid().as_raw().unsigned_abs();
        let before = Vitals::of(me).expect("this thread exists");
        while Vitals::of(me).expect("it still does").ran < before.ran + Duration::from_millis(5) {}
        assert!(before.willing);
        assert_eq!(Vitals::of(u32::MAX), None);
    }
}
