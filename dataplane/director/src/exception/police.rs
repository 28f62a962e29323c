//! How much of each class goes up to the host: rates for all workers together, by token buckets that they share.
//!
//! A worker takes tokens for several frames at once, and when there are none it does not ask before there may be some:
//! under a flood workers write to the shared memory seldom.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::class::Class;
use crate::{Nanos, SECOND};

/// How many frames of each class may go up, in frames a second, by whichever workers; a tenth of a second's at once.
/// None by default: what is right is said by the configuration.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    /// [`Class::Routing`].
    pub routing: u32,
    /// [`Class::Link`].
    pub link: u32,
    /// [`Class::Management`].
    pub management: u32,
    /// [`Class::Answers`].
    pub answers: u32,
    /// [`Class::Rest`].
    pub rest: u32,
    /// TCP ports that are [`Class::Management`].
    pub management_ports: Vec<u16>,
    /// What is left; the same for all workers, and while rates stay what they are.
    pub buckets: Arc<Buckets>,
}

impl Limits {
    /// Of a class; `None` where it has none.
    fn of(&self, class: Class) -> Option<u32> {
        match class {
            Class::Routing => Some(self.routing),
            Class::Link => Some(self.link),
            Class::Management => Some(self.management),
            Class::Served => None,
            Class::Answers => Some(self.answers),
            Class::Rest => Some(self.rest),
        }
    }

    /// These, after others: with what is left of those if the rates are the same.
    pub fn after(mut self, last: &Limits) -> Limits {
        if Class::ALL.iter().all(|class| self.of(*class) == last.of(*class)) {
            self.buckets = Arc::clone(&last.buckets);
        }
        self
    }
}

/// Frames that may go up at once, however few may in a second.
const LEAST_BURST: u32 = 32;

/// A rate as a bucket sees it.
#[derive(Clone, Copy)]
struct Rate {
    /// Time that one token takes to come.
    price: Nanos,
    /// Tokens that the bucket holds.
    burst: u32,
}

impl Rate {
    /// `None` where nothing may go up.
    fn new(rate: u32) -> Option<Rate> {
        let price = SECOND.checked_div(rate.into())?.max(1);
        Some(Rate { price, burst: (rate / 10).max(LEAST_BURST) })
    }
}

/// A token bucket for each class.
#[derive(Debug, Default)]
pub struct Buckets {
    /// When each will be full again.
    full_at: [AtomicU64; Class::ALL.len()],
}

impl Buckets {
    /// Takes as many tokens as there are, up to `wanted`; without any, tells when there will be one.
    fn take(&self, class: Class, now: Nanos, rate: Rate, wanted: u32) -> Result<u32, Nanos> {
        let (cell, held) = (&self.full_at[class as usize], Nanos::from(rate.burst) * rate.price);
        let mut known = cell.load(Relaxed);
        loop {
            let full_at = known.max(now);
            let there = (now + held).saturating_sub(full_at) / rate.price;
            let taken = there.min(wanted.into());
            if taken == 0 {
                return Err((full_at + rate.price).saturating_sub(held));
            }
            match cell.compare_exchange_weak(known, full_at + taken * rate.price, Relaxed, Relaxed) {
                Ok(_) => return Ok(taken as u32),
                Err(other) => known = other,
            }
        }
    }
}

/// What a worker has of each class's tokens.
#[derive(Clone, Copy, Debug, Default)]
struct Purse {
    tokens: u32,
    /// There are none to be had earlier.
    not_before: Nanos,
}

/// A worker's own part in it.
#[derive(Debug)]
pub(crate) struct Policer {
    workers: u32,
    purses: [Purse; Class::ALL.len()],
    /// Where its tokens come from.
    buckets: Arc<Buckets>,
}

impl Policer {
    pub(crate) fn new(workers: u16) -> Policer {
        Policer { workers: u32::from(workers).max(1), purses: Default::default(), buckets: Arc::default() }
    }

    /// Takes a token of a class, if there is one.
    pub(crate) fn take(&mut self, class: Class, now: Nanos, limits: &Limits) -> bool {
        let Some(rate) = limits.of(class) else { return true };
        let Some(rate) = Rate::new(rate) else { return false };
        if !Arc::ptr_eq(&self.buckets, &limits.buckets) {
            (self.purses, self.buckets) = (Default::default(), Arc::clone(&limits.buckets));
        }
        let purse = &mut self.purses[class as usize];
        if purse.tokens == 0 {
            if now < purse.not_before {
                return false;
            }
            // What all workers have in their purses is a part of what may go up at once.
            let some = (rate.burst / (4 * self.workers)).max(1);
            match limits.buckets.take(class, now, rate, some) {
                Ok(tokens) => purse.tokens = tokens,
                Err(later) => {
                    purse.not_before = later;
                    return false;
                }
            }
        }
        purse.tokens -= 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(policer: &mut Policer, class: Class, now: Nanos, limits: &Limits) -> u32 {
        (0..1000).filter(|_| policer.take(class, now, limits)).count() as u32
    }

    #[test]
    fn a_class_that_has_had_its_share_leaves_others_theirs() {
        let limits = Limits { routing: 100, rest: 100, ..Limits::default() };
        let mut policer = Policer::new(1);
        assert_eq!(granted(&mut policer, Class::Rest, 0, &limits), LEAST_BURST);
        assert!(policer.take(Class::Routing, 0, &limits));
        assert_eq!(granted(&mut policer, Class::Rest, SECOND / 10, &limits), 10);
        let none = Limits { rest: 0, ..limits };
        assert!(!Policer::new(1).take(Class::Rest, 0, &none));
        assert!((0..100_000).all(|_| policer.take(Class::Served, 0, &none)));
    }

    #[test]
    fn a_rate_is_that_of_all_workers_together_and_one_may_have_it_all() {
        let limits = || Limits { rest: 1000, ..Limits::default() };
        let flood = |workers: u16, flooded: usize| {
            let limits = limits();
            let mut policers: Vec<Policer> = (0..workers).map(|_| Policer::new(workers)).collect();
            let mut up = 0;
            for step in 0..2000 {
                for policer in policers.iter_mut().take(flooded) {
                    up += (0..5).filter(|_| policer.take(Class::Rest, step * SECOND / 1000, &limits)).count();
                }
            }
            up
        };
        // Two seconds of it, and what may go up at once.
        for (workers, flooded) in [(1, 1), (2, 2), (16, 16), (16, 1)] {
            let up = flood(workers, flooded);
            assert!((2000..=2100).contains(&up), "{workers} workers, {flooded} flooded: {up}");
        }
    }

    #[test]
    fn other_rates_begin_with_full_buckets_and_the_same_ones_go_on() {
        let slow = Limits { rest: 1, ..Limits::default() };
        let mut policer = Policer::new(1);
        assert_eq!(granted(&mut policer, Class::Rest, 0, &slow), LEAST_BURST);
        let same = Limits { rest: 1, management_ports: vec![22], ..Limits::default() }.after(&slow);
        assert_eq!(granted(&mut policer, Class::Rest, 0, &same), 0);
        let fast = Limits { rest: 1000, ..Limits::default() }.after(&same);
        assert_eq!(granted(&mut policer, Class::Rest, 0, &fast), 100);
    }

    #[test]
    fn workers_that_take_at_the_same_time_take_each_token_once() {
        let limits = Limits { rest: 10_000, ..Limits::default() };
        let up: u32 = std::thread::scope(|scope| {
            let take = || granted(&mut Policer::new(8), Class::Rest, 0, &limits);
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(take)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(up, 1000);
    }
}
