//! VIPs as a whole: which of them the director has, and on which interfaces of the host they are.
//!
//! Lives here: who has a VIP (`possession`), which may be announced and why not (`ready`), the interfaces of the host
//! (`host`), and the task that brings these in line (`announce`). Does not live here: answering for a VIP, which is the
//! data plane's, and telling routers of it, which is a routing daemon's.

pub mod announce;
pub mod host;
pub mod possession;
pub mod ready;
