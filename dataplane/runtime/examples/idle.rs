//! What an idle worker costs and how fast it wakes: `cargo run --release -p fulcrum-runtime --example idle`.
//!
//! A thread turns as workers do. For a second nothing comes; then, at moments that it cannot foresee, something does.
//! Both processors should be otherwise idle. Prints CPU time of polling and of naps, and how late what came was seen.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fulcrum_machine::thread_time;
use fulcrum_runtime::{Idle, Policy, Rest};

const WAKES: usize = 2000;

fn main() {
    let poll = share(Policy::Poll);
    let adaptive = share(Policy::Adaptive);
    println!(
        "CPU time of an idle worker: poll {:.1} %, adaptive {:.1} %, a ratio of {:.3}",
        100.0 * poll,
        100.0 * adaptive,
        adaptive / poll
    );
    for policy in [Policy::Poll, Policy::Adaptive] {
        let mut late = wakes(policy);
        late.sort_unstable();
        let at = |share: f64| late[(share * (late.len() - 1) as f64) as usize] / 1000;
        println!(
            "seen after, {policy:?}: median {} µs, 90 % {} µs, 99 % {} µs, at most {} µs",
            at(0.5),
            at(0.9),
            at(0.99),
            at(1.0)
        );
    }
}

/// CPU time of a second without work, as a share of it.
fn share(policy: Policy) -> f64 {
    let worker = thread::spawn(move || {
        let (start, before) = (Instant::now(), thread_time());
        turn_until(policy, start, |now| now >= 1_000_000_000);
        (thread_time() - before).as_secs_f64() / start.elapsed().as_secs_f64()
    });
    worker.join().expect("a worker that ends")
}

/// How many nanoseconds after it came something was seen, again and again.
fn wakes(policy: Policy) -> Vec<u64> {
    let (came, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let start = Instant::now();
    let (sees, ends) = (Arc::clone(&came), Arc::clone(&over));
    let worker = thread::spawn(move || {
        let mut late = Vec::with_capacity(WAKES);
        turn_until(policy, start, |_| {
            let at = sees.swap(0, Ordering::Relaxed);
            if at != 0 {
                late.push(start.elapsed().as_nanos() as u64 - at);
            }
            ends.load(Ordering::Relaxed)
        });
        late
    });
    for wake in 0..WAKES as u64 {
        // Not in step with naps.
        thread::sleep(Duration::from_nanos(300_000 + wake * 7919 % 400_000));
        came.store(start.elapsed().as_nanos() as u64, Ordering::Relaxed);
    }
    thread::sleep(Duration::from_millis(10));
    over.store(true, Ordering::Relaxed);
    worker.join().expect("a worker that ends")
}

fn turn_until(policy: Policy, start: Instant, mut over: impl FnMut(u64) -> bool) {
    let mut idle = Idle::new(policy);
    idle.settle();
    loop {
        let now = start.elapsed().as_nanos() as u64;
        if over(now) {
            return;
        }
        if let Rest::Nap(time) = idle.turn(false, now, || now + 100_000_000) {
            thread::sleep(time);
        }
    }
}
