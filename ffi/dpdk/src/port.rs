//! Devices: found, set up, started, asked, stopped.

use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::Arc;

use fulcrum_dpdk_sys as sys;

use crate::bond::Members;
use crate::queue::Lease;
use crate::rss::{RssConfig, Spread};
use crate::{Eal, Mempool, RxQueue, TxQueue, eal, log, mbuf, rss};

const RX_CHECKSUMS: u64 = sys::FULCRUM_RX_IPV4_CHECKSUM as u64;
const RX_HASH: u64 = sys::FULCRUM_RX_RSS_HASH as u64;
const RX_SCATTER: u64 = sys::FULCRUM_RX_SCATTER as u64;

/// Why a device does not do.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// Nothing of that name.
    #[error("no DPDK driver took `{device}`: {reason}{complaints}")]
    NotFound {
        /// As asked for.
        device: String,
        /// DPDK's word on it.
        reason: String,
        /// What its log said.
        complaints: String,
    },
    /// A step of its set-up went wrong.
    #[error("`{device}` {step}: {reason}{complaints}")]
    Setup {
        /// As asked for.
        device: String,
        /// What it did not do.
        step: &'static str,
        /// DPDK's word on it.
        reason: String,
        /// What its log said.
        complaints: String,
    },
    /// A text with a zero byte.
    #[error("`{0}` holds a zero byte")]
    BadName(String),
    /// It was to stop while a queue was in somebody's hands.
    #[error("`{0}` cannot stop: some of its queues are still in use")]
    InUse(String),
    /// It was to start again.
    #[error("`{0}` has been started already; a device is set up once")]
    Started(String),
}

/// What a device is and can do.
#[derive(Clone, Debug)]
pub struct PortInfo {
    /// Name of its driver.
    pub driver: String,
    /// MAC address.
    pub mac: [u8; 6],
    /// Largest IP packet now, in bytes.
    pub mtu: u16,
    /// Most receive queues.
    pub max_rx_queues: u16,
    /// Most transmit queues.
    pub max_tx_queues: u16,
    /// Whether it spreads flows over receive queues by a hash.
    pub rss: bool,
    /// Whether it can spread them by their source alone, and by their destination.
    pub rss_by_end: bool,
    /// Bytes of the hash's key, 0 = it does not tell.
    pub rss_key_len: u8,
    /// Entries of the table that leads from hashes to queues.
    pub rss_table: u16,
    /// Whether it looks at the checksums of received IPv4 headers.
    pub header_checksums: bool,
    /// Whether it can spread a large frame over several buffers.
    pub scatter: bool,
    /// Index of the Linux interface behind it, 0 = none.
    pub if_index: u32,
}

/// How a device is to be set up.
#[derive(Clone, Copy, Debug, Default)]
pub struct PortConfig {
    /// Receive queues, at most what the device has.
    pub rx_queues: u16,
    /// Transmit queues, at most what the device has.
    pub tx_queues: u16,
    /// Frames a queue holds, adjusted to what the device allows.
    pub descriptors: u16,
    /// Largest IP packet in bytes.
    pub mtu: u16,
    /// Whether it is to look at the checksums of received IPv4 headers, if it can.
    pub header_checksums: bool,
    /// Whether it may spread a large frame over several buffers, if it can.
    pub scatter: bool,
    /// How it is to spread frames over several queues, if it can; its own way otherwise.
    pub rss: Option<RssConfig>,
    /// Whether receive queues are to wake who waits for them ([`RxQueue::watch`]), if they can.
    pub interrupts: bool,
}

/// The queues of a started port, by number.
#[derive(Debug)]
pub struct Queues {
    /// Receive queues.
    pub rx: Vec<RxQueue>,
    /// Transmit queues.
    pub tx: Vec<TxQueue>,
}

/// State of the link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Whether it is up.
    pub up: bool,
    /// Speed in Mbit/s, 0 = unknown.
    pub speed_mbps: u32,
}

/// The device's own counters, since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Frames received.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Frames sent.
    pub tx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Frames lost because nobody took them in time.
    pub rx_missed: u64,
    /// Frames received broken.
    pub rx_errors: u64,
    /// Frames that were not sent.
    pub tx_errors: u64,
    /// Frames lost because the pool was empty.
    pub rx_nombuf: u64,
}

/// A device.
#[derive(Debug)]
pub struct Port {
    id: u16,
    device: String,
    lease: Lease,
    started: bool,
    /// Where it is a bond. They are closed after it.
    pub(crate) members: Option<Members>,
}

impl Port {
    /// Opens a device by DPDK's name for it: a vdev string (`net_tap0,iface=x`) or a PCI address (which EAL was
    /// told of when it started).
    pub fn open(_eal: &'static Eal, device: &str) -> Result<Port, PortError> {
        log::complaints();
        let c_device = CString::new(device).map_err(|_| PortError::BadName(device.to_owned()))?;
        let name = device.split(',').next().unwrap_or(device);
        let c_name = CString::new(name).map_err(|_| PortError::BadName(device.to_owned()))?;
        let not_found = |code| PortError::NotFound {
            device: device.to_owned(),
            reason: eal::words(code),
            complaints: log::complaints(),
        };
        let mut id = 0;
        // SAFETY: EAL has started (`_eal` proves it); both strings are only read, the number only written.
        unsafe {
            // A PCI device that EAL took when it started is there already.
            if sys::rte_eth_dev_get_port_by_name(c_name.as_ptr(), &mut id) != 0 {
                let status = sys::rte_dev_probe(c_device.as_ptr());
                if status < 0 {
                    return Err(not_found(status));
                }
                let status = sys::rte_eth_dev_get_port_by_name(c_name.as_ptr(), &mut id);
                if status != 0 {
                    return Err(not_found(status));
                }
            }
        }
        // The AF_XDP driver's libraries were perhaps loaded just now.
        // SAFETY: looks up already loaded libraries only.
        unsafe { sys::fulcrum_quiet_libbpf() };
        Ok(Port { id, device: device.to_owned(), lease: Arc::new(()), started: false, members: None })
    }

    /// What the device is.
    pub fn info(&self) -> Result<PortInfo, PortError> {
        let mut raw = MaybeUninit::uninit();
        // SAFETY: the port exists; the shim fills the whole struct on success.
        let raw: sys::fulcrum_port_info = unsafe {
            self.check("tells nothing about itself", sys::fulcrum_port_info(self.id, raw.as_mut_ptr()))?;
            raw.assume_init()
        };
        // SAFETY: the shim ends the text with a zero inside the array.
        let driver = unsafe { CStr::from_ptr(raw.driver.as_ptr()) };
        Ok(PortInfo {
            driver: driver.to_string_lossy().into_owned(),
            mac: raw.mac,
            mtu: raw.mtu,
            max_rx_queues: raw.max_rx_queues,
            max_tx_queues: raw.max_tx_queues,
            rss: raw.rss != 0,
            rss_by_end: rss::spreads(raw.rss, Spread::Source) && rss::spreads(raw.rss, Spread::Destination),
            rss_key_len: raw.rss_key_len,
            rss_table: raw.rss_table,
            header_checksums: raw.rx_offloads & RX_CHECKSUMS != 0,
            scatter: raw.rx_offloads & RX_SCATTER != 0,
            if_index: raw.if_index,
        })
    }

    /// Sets the device up and starts it; frames go to `pool`.
    pub fn start(&mut self, config: &PortConfig, pool: Mempool) -> Result<Queues, PortError> {
        self.start_from(config, |_| pool)
    }

    /// The same where each receive queue has its pool.
    pub fn start_from(
        &mut self,
        config: &PortConfig,
        pool_of: impl Fn(u16) -> Mempool,
    ) -> Result<Queues, PortError> {
        if self.started {
            return Err(PortError::Started(self.device.clone()));
        }
        let info = self.info()?;
        let header_checksums = config.header_checksums && info.header_checksums;
        let spreads = config.rx_queues > 1 && info.rss;
        let wanted = config.rss.filter(|_| spreads).map(|wanted| wanted.raw(info.rss_key_len));
        let offloads = [
            (header_checksums, RX_CHECKSUMS, mbuf::CHECKSUM),
            (config.scatter && info.scatter, RX_SCATTER, 0),
            (wanted.is_some(), RX_HASH, mbuf::HASHED),
        ];
        let offloads = offloads.iter().filter(|(on, ..)| *on);
        let (offloads, keep) = offloads.fold((0, 0), |all, (_, bit, keep)| (all.0 | bit, all.1 | keep));
        let (mut rx, mut tx) = (config.descriptors, config.descriptors);
        // SAFETY: the port exists and is not started, so that no queue of it is out; pools live for ever.
        unsafe {
            let configure = |rss: *const sys::fulcrum_rss| {
                let (rx_queues, tx_queues) = (config.rx_queues, config.tx_queues);
                let (mtu, interrupts) = (config.mtu, config.interrupts);
                sys::fulcrum_port_configure(self.id, rx_queues, tx_queues, mtu, rss, offloads, interrupts)
            };
            let own = rss::own();
            let rss = wanted.as_ref().or(spreads.then_some(&own));
            let mut status = configure(rss.map_or(ptr::null(), ptr::from_ref));
            // That it does not hash as wanted is no reason to do without a device.
            if wanted.is_some() && status < 0 {
                status = configure(&own);
            }
            self.check("refuses its configuration", status)?;
            self.check(
                "refuses its queues' length",
                sys::fulcrum_port_adjust_desc(self.id, &mut rx, &mut tx),
            )?;
            let socket = sys::rte_eth_dev_socket_id(self.id);
            for queue in 0..config.rx_queues {
                let status = sys::fulcrum_port_rx_queue(self.id, queue, rx, socket, pool_of(queue).as_ptr());
                self.check("refuses a receive queue", status)?;
            }
            for queue in 0..config.tx_queues {
                let status = sys::fulcrum_port_tx_queue(self.id, queue, tx, socket);
                self.check("refuses a transmit queue", status)?;
            }
            self.check("does not start", sys::rte_eth_dev_start(self.id))?;
        }
        self.started = true;
        let (port, lease) = (self.id, &self.lease);
        let seats =
            self.members.as_mut().map(|members| members.seats(port, config.rx_queues, config.tx_queues));
        let mut seats = seats.into_iter().flatten();
        let rx = (0..config.rx_queues)
            .map(|queue| RxQueue { port, queue, keep, seat: seats.next(), _lease: lease.clone() })
            .collect();
        let tx = (0..config.tx_queues)
            .map(|queue| TxQueue { port, queue, seat: seats.next(), _lease: lease.clone() })
            .collect();
        Ok(Queues { rx, tx })
    }

    /// Gives the device another MAC address.
    pub fn set_mac(&mut self, mac: [u8; 6]) -> Result<(), PortError> {
        // SAFETY: the port exists; six bytes are read.
        self.check("keeps its MAC address", unsafe { sys::fulcrum_port_set_mac(self.id, mac.as_ptr()) })
    }

    /// Makes the device take frames for every MAC address.
    pub fn set_promiscuous(&mut self) -> Result<(), PortError> {
        // SAFETY: the port exists.
        self.check("does not go promiscuous", unsafe { sys::rte_eth_promiscuous_enable(self.id) })
    }

    /// Makes the device take frames for every multicast address.
    pub fn set_all_multicast(&mut self) -> Result<(), PortError> {
        // SAFETY: the port exists.
        self.check("takes no multicast", unsafe { sys::rte_eth_allmulticast_enable(self.id) })
    }

    /// The device's counters.
    pub fn stats(&self) -> Result<Stats, PortError> {
        let mut raw = MaybeUninit::uninit();
        // SAFETY: the port exists; the shim fills the whole struct on success.
        let raw: sys::fulcrum_port_stats = unsafe {
            self.check("has no counters", sys::fulcrum_port_stats(self.id, raw.as_mut_ptr()))?;
            raw.assume_init()
        };
        Ok(Stats {
            rx_packets: raw.rx_packets,
            rx_bytes: raw.rx_bytes,
            tx_packets: raw.tx_packets,
            tx_bytes: raw.tx_bytes,
            rx_missed: raw.rx_missed,
            rx_errors: raw.rx_errors,
            tx_errors: raw.tx_errors,
            rx_nombuf: raw.rx_nombuf,
        })
    }

    /// State of the link, without waiting for it.
    pub fn link(&self) -> Link {
        let mut raw = MaybeUninit::<sys::fulcrum_port_link>::uninit();
        // SAFETY: the port exists; the shim fills the whole struct on success.
        unsafe {
            match sys::fulcrum_port_link(self.id, raw.as_mut_ptr()) {
                0 => {
                    let raw = raw.assume_init();
                    Link { up: raw.up, speed_mbps: raw.speed_mbps }
                }
                _ => Link::default(),
            }
        }
    }

    /// Stops and closes the device, once all its queues were dropped.
    pub fn close(mut self) -> Result<(), PortError> {
        if Arc::strong_count(&self.lease) > 1 {
            return Err(PortError::InUse(self.device.clone()));
        }
        self.shut();
        Ok(())
    }

    fn shut(&mut self) {
        // SAFETY: the port exists and no queue of it is out; it is not used afterwards.
        unsafe {
            if self.started {
                sys::rte_eth_dev_stop(self.id);
            }
            sys::rte_eth_dev_close(self.id);
        }
        self.started = false;
        self.device.clear();
    }

    /// DPDK's name for the device.
    pub(crate) fn name(&self) -> &str {
        self.device.split(',').next().unwrap_or(&self.device)
    }

    pub(crate) fn lease(&self) -> &Lease {
        &self.lease
    }

    pub(crate) fn id(&self) -> u16 {
        self.id
    }

    pub(crate) fn check(&self, step: &'static str, status: i32) -> Result<(), PortError> {
        if status >= 0 { Ok(()) } else { Err(self.refusal(step, status)) }
    }

    pub(crate) fn refusal(&self, step: &'static str, status: i32) -> PortError {
        PortError::Setup {
            device: self.device.clone(),
            step,
            reason: eal::words(status),
            complaints: log::complaints(),
        }
    }
}

impl Drop for Port {
    /// Closes a device that nobody closed, unless queues are still out: then it stays open until the process ends.
    fn drop(&mut self) {
        if Arc::strong_count(&self.lease) > 1 {
            // A bond's queues are its members'.
            std::mem::forget(self.members.take());
        } else if !self.device.is_empty() {
            self.shut();
        }
    }
}
