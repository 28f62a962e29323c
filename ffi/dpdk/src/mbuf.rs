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
const VLAN_STRIPPED: u64 = sys::FULCRUM_MBUF_VLAN_STRIPPED;
/// Flags that say how the buffer is held, not to be lost.
const HELD: u64 = sys::FULCRUM_MBUF_HELD;

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
    pub fn is_multi_segment(&self) -> bool {
        // SAFETY: field of a live mbuf.
        unsafe { self.field::<u16>(NB_SEGS).read() != 1 }
    }

    /// Takes a pointer that a driver gave.
    ///
    /// # Safety
    /// It is to an mbuf that nobody else refers to, as rx_burst gives them.
    pub(crate) unsafe fn from_raw(raw: NonNull<sys::rte_mbuf>) -> Mbuf {
        Mbuf(raw)
    }

    /// Makes a received frame plain: a VLAN tag that the driver took off is put back, offload flags are cleared
    /// so that they mean nothing when it is sent again.
    #[inline]
    pub(crate) fn settle(&mut self) {
        // SAFETY: field of a live mbuf, ours alone.
        let flags = unsafe { self.field::<u64>(OL_FLAGS).read() };
        if flags & VLAN_STRIPPED != 0 {
            self.put_tag_back();
        }
        // SAFETY: as above.
        unsafe { self.field::<u64>(OL_FLAGS).write(flags & HELD) };
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
        // SAFETY: fields of a live mbuf; data_off stays within the buffer.
        unsafe { self.field::<*mut u8>(BUF_ADDR).read().add(usize::from(self.data_off())) }
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
        if let Ok(len) = u16::try_from(len)
            && len < self.data_len()
        {
            self.set_len(len);
        }
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
