//! What a warm worker asks of the allocator and of the kernel: nothing.

use fulcrum_dpdk::{BURST, Mempool};
use fulcrum_machine::{allocations, first_syscall};
use fulcrum_model::{Family, Forward};

use crate::connections::{Churn, Life};
use crate::plan::plain;
use crate::table::Lost;

/// What a worker asked for while connections came and went.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quiet {
    /// Packets meanwhile.
    pub(crate) packets: u64,
    /// Calls of the allocator.
    pub(crate) allocations: u64,
    /// The first system call, if there was one; `None` when this kernel cannot tell.
    pub(crate) syscall: Option<Option<i32>>,
}

pub(crate) const NAME: &str = "fullnat quiet";

/// Connections whose packets are watched, for either.
const WATCHED: u64 = 100_000;

/// Watches a worker that is warm: whole connections begin and end, timers run.
pub(crate) fn measure(pool: Mempool) -> Result<Quiet, Lost> {
    let mut churn = Churn::start(pool, plain(Family::V4, Forward::FullNat), Life::Whole)?;
    let batches = WATCHED / BURST as u64;
    let given = churn.given();
    let before = allocations();
    (0..batches).for_each(|_| churn.batch());
    let allocations = allocations() - before;
    let syscall = first_syscall(|| (0..batches).for_each(|_| churn.batch())).ok();
    if allocations > 0 || syscall.flatten().is_some() {
        let call = syscall.flatten().map_or(String::new(), |number| format!(", system call {number}"));
        return Err(Lost(format!(
            "a warm worker asked for more than nothing: {allocations} allocations{call}"
        )));
    }
    Ok(Quiet { packets: churn.given() - given, allocations, syscall })
}
