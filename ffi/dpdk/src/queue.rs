//! The two ends of a port's queues, where frames come in and go out.

use std::mem::MaybeUninit;
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use fulcrum_dpdk_sys as sys;

use crate::Mbuf;
use crate::bond::Seat;

/// Frames that one poll takes at most.
pub const BURST: usize = 64;

/// Held by every queue of a started port: the port does not stop while one is out.
pub(crate) type Lease = Arc<()>;

/// One receive queue, for one thread at a time.
#[derive(Debug)]
pub struct RxQueue {
    pub(crate) port: u16,
    pub(crate) queue: u16,
    /// Offload flags of received frames that mean something.
    pub(crate) keep: u64,
    /// Where the port is a bond.
    pub(crate) seat: Option<Seat>,
    pub(crate) _lease: Lease,
}

impl RxQueue {
    /// Takes up to `limit` (at most [`BURST`]) received frames in order; says how many there were.
    #[inline]
    pub fn poll(&mut self, limit: usize, mut each: impl FnMut(Mbuf)) -> usize {
        if self.seat.as_ref().is_some_and(Seat::closed) {
            return 0;
        }
        let mut frames = [const { MaybeUninit::<Mbuf>::uninit() }; BURST];
        let limit = limit.min(BURST) as u16;
        // SAFETY: the port is started (the lease keeps it so), the queue was set up, `&mut self` makes this its only
        // user; an Mbuf is a transparent pointer to an mbuf, and the array has room for `limit` of them.
        let count = unsafe {
            let frames = frames.as_mut_ptr().cast::<*mut sys::rte_mbuf>();
            sys::fulcrum_rx_burst(self.port, self.queue, frames, limit)
        };
        let count = usize::from(count).min(BURST);
        for frame in &frames[..count] {
            // SAFETY: rx_burst wrote so many pointers, each to an mbuf that it gave to us alone.
            let frame = unsafe { frame.assume_init_read() };
            each(frame.settled(self.keep));
        }
        count
    }

    /// To be called every few milliseconds, whatever comes: a bond's members want it.
    pub fn tend(&mut self) {
        if let Some(seat) = &self.seat
            && !seat.closed()
        {
            seat.drain(self.queue);
        }
    }

    /// Has frames of this queue end the calling thread's [`wait_for_frames`] from now on, while the queue is armed;
    /// false when its driver has no interrupts, or was not told to use them.
    pub fn watch(&mut self) -> bool {
        // SAFETY: the port is started (the lease keeps it so) and the queue was set up.
        unsafe { sys::fulcrum_rx_interrupt_add(self.port, self.queue) == 0 }
    }

    /// Lets the next frame raise an interrupt. One that came before may have raised none: poll once more before
    /// waiting.
    pub fn arm(&mut self) {
        // SAFETY: as above. Drivers whose interrupts are always on know no such call.
        unsafe { sys::rte_eth_dev_rx_intr_enable(self.port, self.queue) };
    }

    /// The opposite of [`RxQueue::arm`].
    pub fn disarm(&mut self) {
        // SAFETY: as above.
        unsafe { sys::rte_eth_dev_rx_intr_disable(self.port, self.queue) };
    }
}

/// Waits until a frame comes to one of the queues that this thread watches and has armed, or for `limit`, which counts
/// in whole milliseconds.
pub fn wait_for_frames(limit: Duration) {
    let milliseconds = i32::try_from(limit.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: waits on the calling thread's own set of events.
    unsafe { sys::fulcrum_rx_interrupt_wait(milliseconds) };
}

/// One transmit queue, for one thread at a time.
#[derive(Debug)]
pub struct TxQueue {
    pub(crate) port: u16,
    pub(crate) queue: u16,
    /// Where the port is a bond.
    pub(crate) seat: Option<Seat>,
    pub(crate) _lease: Lease,
}

impl TxQueue {
    /// Gives the frames to the device, in order; those that it did not take stay, in order. Says how many it took.
    #[inline]
    pub fn send(&mut self, frames: &mut Vec<Mbuf>) -> usize {
        if self.seat.as_ref().is_some_and(Seat::closed) {
            return 0;
        }
        let count = u16::try_from(frames.len()).unwrap_or(u16::MAX);
        // SAFETY: the port is started (the lease keeps it so), the queue was set up and is ours alone; an Mbuf is a
        // transparent pointer to an mbuf, and there are `count` of them.
        let sent = unsafe {
            sys::fulcrum_tx_burst(
                self.port,
                self.queue,
                frames.as_mut_ptr().cast::<*mut sys::rte_mbuf>(),
                count,
            )
        };
        let sent = usize::from(sent).min(frames.len());
        let left = frames.len() - sent;
        // SAFETY: the first `sent` mbufs belong to the driver now and must not be dropped: the others are moved over
        // them, and the length is set to what is left.
        unsafe {
            let start = frames.as_mut_ptr();
            ptr::copy(start.add(sent), start, left);
            frames.set_len(left);
        }
        sent
    }

    /// To be called every few milliseconds, whatever is sent: LACP's frames go out by it.
    pub fn tend(&mut self) {
        if let Some(seat) = &self.seat
            && !seat.closed()
            && seat.beats()
        {
            // SAFETY: as in `send`; no frame is read.
            unsafe { sys::fulcrum_tx_burst(self.port, self.queue, ptr::null_mut(), 0) };
        }
    }
}
