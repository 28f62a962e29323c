//! Memory for frames.

use std::ffi::{CString, c_int};
use std::ptr::NonNull;

use fulcrum_director::Pool;
use fulcrum_dpdk_sys as sys;

use crate::{Eal, Mbuf, eal, log};

/// Why a pool was not made.
#[derive(Debug, thiserror::Error)]
#[error("no memory for {count} frames of {room} bytes: {reason}{complaints}")]
pub struct MempoolError {
    count: u32,
    room: u16,
    reason: String,
    complaints: String,
}

/// Buffers for frames, shared by all threads; lives until the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mempool {
    raw: NonNull<sys::rte_mempool>,
    room: u16,
    size: u32,
}

// SAFETY: rte_mempool is made for concurrent use by any thread (its default ring is multi-producer, multi-consumer),
// and the pool is never freed.
unsafe impl Send for Mempool {}
// SAFETY: as above.
unsafe impl Sync for Mempool {}

/// What DPDK puts beside each frame's room: mbuf header, mempool header and trailer, cache line alignment.
const OVERHEAD: usize = 128 + 128 + 64;
/// Frames that an lcore keeps for itself.
const CACHE: u32 = 256;

/// Bytes that a pool of `count` frames of `room` bytes takes.
pub(crate) fn bytes_needed(count: usize, room: usize) -> usize {
    count * (room + sys::RTE_PKTMBUF_HEADROOM as usize + OVERHEAD)
}

impl Mempool {
    /// A pool of `count` frames of at most `room` bytes each, beside DPDK's headroom, wherever there is memory. Names
    /// must differ.
    pub fn new(eal: &'static Eal, name: &str, count: u32, room: u16) -> Result<Mempool, MempoolError> {
        Mempool::on(eal, name, count, room, None)
    }

    /// The same on a NUMA node, where memory comes from huge pages; without these there is one piece for all.
    pub fn on(
        _eal: &'static Eal,
        name: &str,
        count: u32,
        room: u16,
        node: Option<u32>,
    ) -> Result<Mempool, MempoolError> {
        let failed = |reason: String| MempoolError { count, room, reason, complaints: log::complaints() };
        let c_name = CString::new(name).map_err(|_| failed("its name holds a zero byte".to_owned()))?;
        let data_room = u16::try_from(u32::from(room) + sys::RTE_PKTMBUF_HEADROOM)
            .map_err(|_| failed("frames that large do not exist".to_owned()))?;
        let node = node.and_then(|node| c_int::try_from(node).ok()).unwrap_or(-1);
        // DPDK wants a cache no larger than two thirds of the pool.
        let cache = CACHE.min(count / 2);
        // SAFETY: EAL has started (`_eal` proves it); the name is copied.
        let raw = unsafe { sys::fulcrum_pool_create(c_name.as_ptr(), count, cache, data_room, node) };
        match NonNull::new(raw) {
            Some(raw) => Ok(Mempool { raw, room, size: count }),
            None => Err(failed(eal::words(eal::last_error()))),
        }
    }

    /// Largest frame that fits, in bytes.
    pub fn room(&self) -> usize {
        usize::from(self.room)
    }

    /// Frames that there are.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// Whether all frames lie in one piece of memory, as AF_XDP wants it.
    pub fn is_one_piece(&self) -> bool {
        // SAFETY: the pool lives for ever.
        unsafe { sys::fulcrum_pool_is_one_piece(self.raw.as_ptr()) }
    }

    /// Frames that nobody holds. Walks the caches of all lcores: not for the packet path.
    pub fn available(&self) -> u32 {
        // SAFETY: the pool lives for ever.
        unsafe { sys::fulcrum_mempool_available(self.raw.as_ptr()) }
    }

    pub(crate) fn as_ptr(self) -> *mut sys::rte_mempool {
        self.raw.as_ptr()
    }
}

impl Pool for Mempool {
    type Buf = Mbuf;

    fn alloc(&mut self, len: usize) -> Option<Mbuf> {
        Mbuf::alloc(*self, len)
    }
}
