//! DPDK's log as tracing events of target `dpdk`, and its last complaints for error messages.

use std::ffi::c_char;
use std::slice;
use std::sync::Mutex;

use fulcrum_dpdk_sys as sys;

/// Complaints since somebody last asked; bounded.
static COMPLAINTS: Mutex<Vec<String>> = Mutex::new(Vec::new());
const COMPLAINTS_KEPT: usize = 6;

// rte_log.h: RTE_LOG_ERR and RTE_LOG_WARNING; lower is worse.
const ERROR: u32 = 4;
const WARNING: u32 = 5;

/// Sends DPDK's log here. To be called before EAL starts; whatever fails leaves DPDK logging to stderr.
pub(crate) fn capture() {
    // SAFETY: `sink` stays valid for the life of the process and does not unwind.
    unsafe { sys::fulcrum_log_to(Some(sink)) };
}

/// What DPDK complained about since the last call, to follow an error message; empty when it said nothing.
pub(crate) fn complaints() -> String {
    let mut lines = COMPLAINTS.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if lines.is_empty() {
        String::new()
    } else {
        format!(" (DPDK: {})", lines.drain(..).collect::<Vec<_>>().join("; "))
    }
}

unsafe extern "C" fn sink(level: u32, text: *const c_char, length: usize) {
    // SAFETY: the shim passes a buffer of `length` readable bytes that lives until this returns.
    let bytes = unsafe { slice::from_raw_parts(text.cast::<u8>(), length) };
    let text = String::from_utf8_lossy(bytes);
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if level <= ERROR {
            // Never waits: the caller may be a worker.
            if let Ok(mut lines) = COMPLAINTS.try_lock() {
                if lines.len() == COMPLAINTS_KEPT {
                    lines.remove(0);
                }
                lines.push(line.to_owned());
            }
        }
        // The operator hears of trouble from the error that we make of it; the raw log is for whoever asks.
        match level {
            ..=ERROR => tracing::info!(target: "dpdk", "{line}"),
            WARNING => tracing::debug!(target: "dpdk", "{line}"),
            _ => tracing::trace!(target: "dpdk", "{line}"),
        }
    }
}
