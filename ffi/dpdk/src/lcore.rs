//! Workers on their pinned threads.

use std::ffi::{c_int, c_uint, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::abort;

use fulcrum_dpdk_sys as sys;

use crate::{Eal, eal};

/// Why a worker did not start.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// There are fewer workers.
    #[error("there is no worker {0}")]
    NoSuchWorker(usize),
    /// The thread is not waiting for work.
    #[error("worker {worker} did not start: {reason}")]
    Busy {
        /// The worker.
        worker: usize,
        /// DPDK's word on it.
        reason: String,
    },
}

/// A worker's thread at work. Dropping it waits for the end of the work.
#[derive(Debug)]
pub struct Lcore {
    id: c_uint,
}

type Work = Box<dyn FnOnce() + Send>;

impl Eal {
    /// The NUMA nodes of the workers' processors; 0 on a machine that has no others.
    pub fn nodes(&self) -> Vec<u32> {
        let ids = (1..).take(self.workers().len());
        // SAFETY: EAL has started (self exists) and has lcores 1..=workers.
        ids.map(|id| unsafe { sys::rte_lcore_to_socket_id(id) }).collect()
    }

    /// Runs `work` on the pinned thread of `worker`. Work that panics aborts the process: catch what shall be told.
    pub fn launch(
        &'static self,
        worker: usize,
        work: impl FnOnce() + Send + 'static,
    ) -> Result<Lcore, LaunchError> {
        if worker >= self.workers().len() {
            return Err(LaunchError::NoSuchWorker(worker));
        }
        let id = c_uint::try_from(worker + 1).map_err(|_| LaunchError::NoSuchWorker(worker))?;
        let work: Box<Work> = Box::new(Box::new(work));
        let argument = Box::into_raw(work).cast::<c_void>();
        // SAFETY: EAL has started (self exists) and has lcores 1..=workers; `run` takes the box back exactly once.
        let status = unsafe { sys::rte_eal_remote_launch(Some(run), argument, id) };
        if status != 0 {
            // SAFETY: the lcore did not take the argument, so it is still ours.
            drop(unsafe { Box::from_raw(argument.cast::<Work>()) });
            return Err(LaunchError::Busy { worker, reason: eal::words(status) });
        }
        Ok(Lcore { id })
    }
}

impl Drop for Lcore {
    fn drop(&mut self) {
        // SAFETY: the lcore exists; waiting for one that already finished returns at once.
        unsafe { sys::rte_eal_wait_lcore(self.id) };
    }
}

unsafe extern "C" fn run(argument: *mut c_void) -> c_int {
    // SAFETY: made by `launch` from a box of exactly this type, given to this call alone.
    let work = unsafe { Box::from_raw(argument.cast::<Work>()) };
    if catch_unwind(AssertUnwindSafe(work)).is_err() {
        abort();
    }
    0
}
