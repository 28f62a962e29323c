//! The safe face of DPDK: everything that Fulcrum asks of it, and all `unsafe` about it.
//!
//! [`Eal`] is started once a process and never goes away; [`Mempool`]s live as long as it does; a [`Port`] gives
//! out [`RxQueue`]s and [`TxQueue`]s, each used by one thread at a time (they are not `Clone` and want `&mut`);
//! an [`Mbuf`] is owned like a `Box`. Does not live here: which devices to open and what to do with frames.

mod bond;
mod cpus;
mod eal;
mod flow;
mod lcore;
mod log;
mod mbuf;
mod mempool;
mod port;
mod queue;
mod rss;

pub use bond::{BondMode, Lacp, MemberState};
pub use cpus::{BadCpuList, allowed_cpus, parse_cpu_list};
pub use eal::{Eal, EalConfig, EalError, Hugepages, version};
pub use flow::{Flow, FlowRule};
pub use lcore::{LaunchError, Lcore};
pub use mbuf::Mbuf;
pub use mempool::{Mempool, MempoolError};
pub use port::{Link, Port, PortConfig, PortError, PortInfo, Queues, Stats};
pub use queue::{BURST, RxQueue, TxQueue, wait_for_frames};
pub use rss::{RssConfig, RssState, Spread};
