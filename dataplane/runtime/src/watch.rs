//! Notices workers that hang or panic: says what is known, then aborts the process, so that whoever supervises it
//! starts it again. A data plane that stands still with its ports open would swallow traffic.

use std::cell::Cell;
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

/// Names the calling thread for reports.
pub(crate) fn this_is_worker(worker: usize, lcore: usize) {
    WORKER.set(Some((worker, lcore)));
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

/// Looks for signs of life of all workers.
#[derive(Debug)]
pub(crate) struct Watch {
    /// Looks without a sign of life that are too many.
    patience: u32,
    workers: Vec<Watched>,
}

#[derive(Debug)]
struct Watched {
    lcore: usize,
    board: Arc<Board>,
    turns: u64,
    silent: u32,
}

impl Watch {
    /// Over workers with their lcores; one that does nothing for `patience` hangs.
    pub(crate) fn new(patience: Duration, workers: impl IntoIterator<Item = (usize, Arc<Board>)>) -> Watch {
        let looks = patience.as_millis().div_ceil(PERIOD.as_millis()).max(2);
        let watched = |(lcore, board)| Watched { lcore, board, turns: 0, silent: 0 };
        Watch {
            patience: u32::try_from(looks).unwrap_or(u32::MAX),
            workers: workers.into_iter().map(watched).collect(),
        }
    }

    /// Looks once; to be called every [`PERIOD`]. Counting looks instead of time keeps a machine that slept as a
    /// whole from being taken for a worker that hangs. Gives the report about one that does.
    pub(crate) fn look(&mut self) -> Option<String> {
        for (worker, watched) in self.workers.iter_mut().enumerate() {
            let (turns, stage) = (watched.board.turns.get(), watched.board.stage());
            if turns != watched.turns || stage == Stage::Stopped {
                (watched.turns, watched.silent) = (turns, 0);
                continue;
            }
            watched.silent += 1;
            if watched.silent >= self.patience {
                return Some(format!(
                    "worker {worker} (lcore {}) has hung for {} ms in its turn {turns} while {}",
                    watched.lcore,
                    u128::from(watched.silent) * PERIOD.as_millis(),
                    stage.words(),
                ));
            }
        }
        None
    }

    /// Looks once and aborts the process when a worker hangs.
    pub(crate) fn look_or_abort(&mut self) {
        if let Some(report) = self.look() {
            tracing::error!("{report}; the process aborts");
            abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_worker_that_stands_still_is_reported() {
        let boards = [Arc::new(Board::default()), Arc::new(Board::default())];
        let mut watch =
            Watch::new(Duration::from_millis(1500), [(1, boards[0].clone()), (3, boards[1].clone())]);
        boards[1].enter(Stage::Deciding);
        for _ in 0..2 {
            boards[0].turns.add(1);
            assert_eq!(watch.look(), None);
        }
        boards[1].turns.add(7);
        boards[0].turns.add(1);
        assert_eq!(watch.look(), None);
        for _ in 0..2 {
            boards[0].turns.add(1);
            assert_eq!(watch.look(), None);
        }
        boards[0].turns.add(1);
        let report = watch.look().expect("three looks without a turn");
        assert_eq!(
            report,
            "worker 1 (lcore 3) has hung for 1500 ms in its turn 7 while deciding on packets (engine step)"
        );
    }

    #[test]
    fn a_worker_that_was_stopped_is_left_in_peace() {
        let board = Arc::new(Board::default());
        let mut watch = Watch::new(Duration::from_secs(1), [(0, board.clone())]);
        board.enter(Stage::Stopped);
        assert!((0..100).all(|_| watch.look().is_none()));
    }
}
