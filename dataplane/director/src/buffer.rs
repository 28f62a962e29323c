//! What the engine asks of the memory that frames live in: DPDK mbufs in the runtime, vectors in tests and replay.

/// One frame, contiguous, from its Ethernet header on. Dropping it gives the memory back.
pub trait Buf {
    /// The frame.
    fn bytes(&self) -> &[u8];
    /// The frame, to be changed in place.
    fn bytes_mut(&mut self) -> &mut [u8];
    /// Puts `n` bytes of unspecified content before the frame; false, and nothing done, without the headroom.
    #[must_use]
    fn grow_front(&mut self, n: usize) -> bool;
    /// Takes `n` bytes off the front (at most the whole frame).
    fn shrink_front(&mut self, n: usize);
    /// Cuts the frame to `len` bytes, when it is longer.
    fn truncate(&mut self, len: usize);
    /// Cuts the frame to `len` bytes, when it is longer, and gives its first `N`, of which some may be cut off then;
    /// `None`, and nothing done, of a frame that is shorter than `N`. One look at its length is enough for both.
    fn cut<const N: usize>(&mut self, len: usize) -> Option<&mut [u8; N]>;
    /// Whether the device that received the frame found its IPv4 header's checksum right.
    fn has_good_header_checksum(&self) -> bool {
        false
    }
}

/// Where the engine takes memory for frames of its own (ICMP errors, ARP, fragments).
pub trait Pool {
    /// The frames of this pool.
    type Buf: Buf;
    /// A frame of `len` bytes of unspecified content with at least 64 bytes of headroom; `None` when the pool
    /// is empty or `len` too large. Must not allocate from the heap in a runtime.
    fn alloc(&mut self, len: usize) -> Option<Self::Buf>;
}

/// Headroom that frames are expected to have: VLAN tag and an outer IPv4 header fit many times.
pub const HEADROOM: usize = 128;

/// A frame in a vector, for tests and replay.
#[derive(Clone, Debug, Default)]
pub struct VecBuf {
    store: Vec<u8>,
    start: usize,
    end: usize,
}

impl VecBuf {
    /// A copy of `frame` behind [`HEADROOM`] bytes.
    pub fn new(frame: &[u8]) -> VecBuf {
        let mut store = vec![0; HEADROOM];
        store.extend_from_slice(frame);
        VecBuf { start: HEADROOM, end: store.len(), store }
    }
}

impl Buf for VecBuf {
    fn bytes(&self) -> &[u8] {
        &self.store[self.start..self.end]
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.store[self.start..self.end]
    }

    fn grow_front(&mut self, n: usize) -> bool {
        match self.start.checked_sub(n) {
            Some(start) => {
                self.start = start;
                true
            }
            None => false,
        }
    }

    fn shrink_front(&mut self, n: usize) {
        self.start = (self.start + n).min(self.end);
    }

    fn truncate(&mut self, len: usize) {
        self.end = self.end.min(self.start + len);
    }

    fn cut<const N: usize>(&mut self, len: usize) -> Option<&mut [u8; N]> {
        if self.bytes().len() < N {
            return None;
        }
        self.truncate(len);
        self.store[self.start..].first_chunk_mut()
    }
}

/// A pool of [`VecBuf`]s without a limit.
#[derive(Clone, Copy, Debug, Default)]
pub struct VecPool;

impl Pool for VecPool {
    type Buf = VecBuf;

    fn alloc(&mut self, len: usize) -> Option<VecBuf> {
        Some(VecBuf { store: vec![0; HEADROOM + len], start: HEADROOM, end: HEADROOM + len })
    }
}
