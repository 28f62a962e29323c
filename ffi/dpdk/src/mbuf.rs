//! One frame in DPDK's memory, owned like a box.

use std::fmt;
use std::ptr::NonNull;
use std::slice;

use fulcrum_director::Buf;
use fulcrum_dpdk_sys as sys;

use crate::Mempool;

/// A frame. Dropping it gives its memory back to its pool.
///
/// Invariants: the pointer is to a live mbuf that nobody else refers to; its first segment has `data_len` bytes at
/// `buf_addr + data_off`, inside a buffer of `buf_len` bytes. A frame of several segments shows its first one only.
#[repr(transparent)]
pub struct Mbuf(NonNull<sys::rte_mbuf>);

// SAFETY: an mbuf has no ties to a thread; its pool may be given it back by any.
unsafe impl Send for Mbuf {}

const BUF_ADDR: usize = sys::FULCRUM_MBUF_BUF_ADDR as usize;
const DATA_OFF: usize = sys::FULCRUM_MBUF_DATA_OFF as usize;
const NB_SEGS: usize = sys::FULCRUM_MBUF_NB_SEGS as usize;
const OL_FLAGS: usize = sys::FULCRUM_MBUF_OL_FLAGS as usize;
const PKT_LEN: usize = sys::FULCRUM_MBUF_PKT_LEN as usize;
const DATA_LEN: usize = sys::FULCRUM_MBUF_DATA_LEN as usize;
const VLAN_TCI: usize = sys::FULCRUM_MBUF_VLAN_TCI as usize;
const BUF_LEN: usize = sys::FULCRUM_MBUF_BUF_LEN as usize;
const RSS_HASH: usize = sys::FULCRUM_MBUF_RSS_HASH as usize;
const VLAN_STRIPPED: u64 = sys::FULCRUM_MBUF_VLAN_STRIPPED;
/// Flags that say how the buffer is held, not to be lost.
const HELD: u64 = sys::FULCRUM_MBUF_HELD;
/// Flag: the driver tells the hash by which it chose the queue.
pub(crate) const HASHED: u64 = sys::FULCRUM_MBUF_RSS_HASHED;
/// Flags: what the driver found of the IPv4 headers' checksums.
pub(crate) const CHECKSUM: u64 = sys::FULCRUM_MBUF_IP_CHECKSUM;
const CHECKSUM_GOOD: u64 = sys::FULCRUM_MBUF_IP_CHECKSUM_GOOD;

impl Mbuf {
    /// A frame of `len` bytes of unspecified content; `None` when the pool is empty or `len` too large.
    pub fn alloc(pool: Mempool, len: usize) -> Option<Mbuf> {
        let len = u16::try_from(len).ok().filter(|&len| usize::from(len) <= pool.room())?;
        // SAFETY: pools live for ever; a returned mbuf is ours alone, reset, with headroom and no flags.
        let mut mbuf = Mbuf(NonNull::new(unsafe { sys::fulcrum_mbuf_alloc(pool.as_ptr()) })?);
        mbuf.set_len(len);
        Some(mbuf)
    }

    /// Whether the frame lies in more than one piece, of which only the first is seen here.
    #[inline]
    pub fn is_multi_segment(&self) -> bool {
        // SAFETY: field of a live mbuf.
        unsafe { self.field::<u16>(NB_SEGS).read() != 1 }
    }

    /// The frame in one piece: itself, or a copy in a frame of `pool`; `None` when that is empty or has no room for it.
    #[inline]
    pub fn whole(self, pool: &Mempool) -> Option<Mbuf> {
        if self.is_multi_segment() { self.gathered(*pool) } else { Some(self) }
    }

    #[cold]
    fn gathered(self, pool: Mempool) -> Option<Mbuf> {
        // SAFETY: fields of a live mbuf.
        let (length, flags) = unsafe { (self.field::<u32>(PKT_LEN).read(), self.flags()) };
        let mut whole = Mbuf::alloc(pool, usize::try_from(length).ok()?)?;
        let to = whole.bytes_mut().as_mut_ptr();
        // SAFETY: `whole` has room for `length` bytes, and nobody else refers to either mbuf.
        if !unsafe { sys::fulcrum_mbuf_copy_out(self.0.as_ptr(), to.cast(), length) } {
            return None;
        }
        // SAFETY: fields of live mbufs, the written ones ours alone.
        unsafe {
            whole.field::<u16>(VLAN_TCI).write(self.field::<u16>(VLAN_TCI).read());
            whole.field::<u32>(RSS_HASH).write(self.field::<u32>(RSS_HASH).read());
        }
        whole.set_flags(flags & !HELD);
        Some(whole.settled(HASHED | CHECKSUM))
    }

    /// The hash by which the device chose the queue, where it tells.
    #[inline]
    pub fn rss_hash(&self) -> Option<u32> {
        // SAFETY: field of a live mbuf.
        (self.flags() & HASHED != 0).then(|| unsafe { self.field::<u32>(RSS_HASH).read() })
    }

    #[inline]
    fn flags(&self) -> u64 {
        // SAFETY: field of a live mbuf.
        unsafe { self.field::<u64>(OL_FLAGS).read() }
    }

    #[inline]
    fn set_flags(&mut self, flags: u64) {
        // SAFETY: field of a live mbuf, ours alone.
        unsafe { self.field::<u64>(OL_FLAGS).write(flags) };
    }

    /// Takes a pointer that a driver gave.
    ///
    /// # Safety
    /// It is to an mbuf that nobody else refers to, as rx_burst gives them.
    pub(crate) unsafe fn from_raw(raw: NonNull<sys::rte_mbuf>) -> Mbuf {
        Mbuf(raw)
    }

    /// Makes a received frame plain: a VLAN tag that the driver took off is put back, offload flags are cleared
    /// but those in `keep`, which the device was asked for: others may be those of a frame that was here before.
    /// A frame in several pieces keeps its tag apart until it is [`whole`](Mbuf::whole).
    #[inline]
    pub(crate) fn settled(mut self, keep: u64) -> Mbuf {
        let flags = self.flags();
        if flags & VLAN_STRIPPED != 0 {
            return self.settled_with_tag(keep);
        }
        self.set_flags(flags & (HELD | keep));
        self
    }

    #[cold]
    fn settled_with_tag(mut self, mut keep: u64) -> Mbuf {
        if self.is_multi_segment() {
            keep |= VLAN_STRIPPED;
        } else {
            self.put_tag_back();
        }
        self.set_flags(self.flags() & (HELD | keep));
        self
    }

    fn put_tag_back(&mut self) {
        // SAFETY: field of a live mbuf.
        let tci = unsafe { self.field::<u16>(VLAN_TCI).read() };
        if self.bytes().len() >= 12 && self.grow_front(4) {
            let bytes = self.bytes_mut();
            bytes.copy_within(4..16, 0);
            bytes[12..14].copy_from_slice(&[0x81, 0x00]);
            bytes[14..16].copy_from_slice(&tci.to_be_bytes());
        }
    }

    #[inline]
    fn field<T>(&self, offset: usize) -> *mut T {
        // SAFETY: offsets are those of fields inside the mbuf, by offsetof at build time.
        unsafe { self.0.as_ptr().cast::<u8>().add(offset).cast::<T>() }
    }

    #[inline]
    fn data_off(&self) -> u16 {
        // SAFETY: field of a live mbuf.
        unsafe { self.field::<u16>(DATA_OFF).read() }
    }

    #[inline]
    fn data_len(&self) -> u16 {
        // SAFETY: field of a live mbuf.
        unsafe { self.field::<u16>(DATA_LEN).read() }
    }

    #[inline]
    fn start(&self) -> *mut u8 {
        // SAFETY: fields of a live mbuf; data_off stays within the buffer, which is not at zero: to know that saves
        // whoever takes a slice apart a question.
        unsafe {
            let start = self.field::<*mut u8>(BUF_ADDR).read().add(usize::from(self.data_off()));
            std::hint::assert_unchecked(!start.is_null());
            start
        }
    }

    /// Sets the length of a frame of one segment; callers keep it within the buffer.
    #[inline]
    fn set_len(&mut self, len: u16) {
        // SAFETY: fields of a live mbuf, ours alone.
        unsafe {
            debug_assert!(
                usize::from(self.data_off()) + usize::from(len)
                    <= usize::from(self.field::<u16>(BUF_LEN).read())
            );
            self.field::<u16>(DATA_LEN).write(len);
            self.field::<u32>(PKT_LEN).write(u32::from(len));
        }
    }

    /// Moves the start; callers keep it within the buffer.
    #[inline]
    fn set_data_off(&mut self, offset: u16) {
        // SAFETY: field of a live mbuf, ours alone.
        unsafe { self.field::<u16>(DATA_OFF).write(offset) };
    }
}

impl Buf for Mbuf {
    #[inline]
    fn bytes(&self) -> &[u8] {
        // SAFETY: data_len bytes from the start belong to the first segment, and the mbuf is ours alone.
        unsafe { slice::from_raw_parts(self.start(), usize::from(self.data_len())) }
    }

    #[inline]
    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and `&mut self` makes the access exclusive.
        unsafe { slice::from_raw_parts_mut(self.start(), usize::from(self.data_len())) }
    }

    #[inline]
    fn grow_front(&mut self, n: usize) -> bool {
        let grown = u16::try_from(n)
            .ok()
            .and_then(|n| Some((self.data_off().checked_sub(n)?, self.data_len().checked_add(n)?)));
        match grown {
            Some((offset, len)) => {
                self.set_data_off(offset);
                self.set_len(len);
                true
            }
            None => false,
        }
    }

    #[inline]
    fn shrink_front(&mut self, n: usize) {
        let n = u16::try_from(n).unwrap_or(u16::MAX).min(self.data_len());
        self.set_data_off(self.data_off() + n);
        self.set_len(self.data_len() - n);
    }

    #[inline]
    fn truncate(&mut self, len: usize) {
        if len < usize::from(self.data_len()) {
            self.set_len(len as u16);
        }
    }

    #[inline]
    fn cut<const N: usize>(&mut self, len: usize) -> Option<&mut [u8; N]> {
        let (start, long) = (self.start(), usize::from(self.data_len()));
        if long < N {
            return None;
        }
        if len < long {
            self.set_len(len as u16);
        }
        // SAFETY: so many bytes from the start belong to the first segment, whatever of them has been cut off just now,
        // and the mbuf is ours alone.
        Some(unsafe { &mut *start.cast::<[u8; N]>() })
    }

    #[inline]
    fn has_good_header_checksum(&self) -> bool {
        self.flags() & CHECKSUM == CHECKSUM_GOOD
    }
}

impl Drop for Mbuf {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: ours alone, and gone after this.
        unsafe { sys::fulcrum_mbuf_free(self.0.as_ptr()) };
    }
}

impl fmt::Debug for Mbuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mbuf({} bytes)", self.data_len())
    }
}
