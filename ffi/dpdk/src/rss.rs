//! Receive side scaling: what a device is told to spread frames by, and what it says that it does.

use fulcrum_director::rss::{KEY, Kinds};
use fulcrum_dpdk_sys as sys;

use crate::port::{Port, PortError};

/// Which end of a packet the device goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// Both.
    Both,
    /// Its source.
    Source,
    /// Its destination.
    Destination,
}

/// How a device is to spread frames over its receive queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RssConfig {
    /// Key of the hash.
    pub key: [u8; KEY],
    /// What is hashed.
    pub by: Spread,
}

/// How a device says that it spreads frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RssState {
    /// Key of the hash.
    pub key: [u8; KEY],
    /// What is hashed.
    pub by: Spread,
    /// Packets of which ports are hashed.
    pub kinds: Kinds,
    /// Receive queues by the lowest bits of the hash.
    pub table: Vec<u16>,
}

const ENDS: [(Spread, u64); 2] =
    [(Spread::Source, sys::FULCRUM_RSS_SOURCE), (Spread::Destination, sys::FULCRUM_RSS_DESTINATION)];

impl RssConfig {
    /// As the device wants it, whose keys have `key_len` bytes. What is behind the first 40 counts for longer input
    /// than there is.
    pub(crate) fn raw(&self, key_len: u8) -> sys::fulcrum_rss {
        let mut key = [0; sys::FULCRUM_RSS_KEY as usize];
        // Who does not tell has what everybody had once.
        let key_len = if (1..=key.len()).contains(&key_len.into()) { key_len } else { KEY as u8 };
        key.iter_mut().zip(self.key.iter().cycle()).for_each(|(to, from)| *to = *from);
        let end = ENDS.iter().find(|(end, _)| *end == self.by).map_or(0, |(_, bits)| *bits);
        sys::fulcrum_rss { key, key_len, types: sys::FULCRUM_RSS_ALL | end }
    }
}

/// The device's own way: any key, both ends.
pub(crate) fn own() -> sys::fulcrum_rss {
    sys::fulcrum_rss { key: [0; sys::FULCRUM_RSS_KEY as usize], key_len: 0, types: sys::FULCRUM_RSS_ALL }
}

/// Whether a device that can spread by `types` can spread by an end alone.
pub(crate) fn spreads(types: u64, by: Spread) -> bool {
    ENDS.iter().all(|(end, bits)| *end != by || types & bits == *bits)
}

impl Port {
    /// How the started device spreads frames.
    pub fn rss(&self) -> Result<RssState, PortError> {
        let raw = self.raw_rss()?;
        let mut key = [0; KEY];
        let told = usize::from(raw.key_len).min(raw.key.len()).min(KEY);
        key[..told].copy_from_slice(&raw.key[..told]);
        let has = |bits: u64| raw.types & bits == bits;
        let by = ENDS.iter().find(|(_, bits)| has(*bits)).map_or(Spread::Both, |(end, _)| *end);
        let kinds = Kinds {
            tcp4: has(sys::FULCRUM_RSS_TCP4),
            udp4: has(sys::FULCRUM_RSS_UDP4),
            tcp6: has(sys::FULCRUM_RSS_TCP6),
            udp6: has(sys::FULCRUM_RSS_UDP6),
        };
        Ok(RssState { key, by, kinds, table: self.rss_table()? })
    }

    fn raw_rss(&self) -> Result<sys::fulcrum_rss, PortError> {
        let mut raw = own();
        // SAFETY: the port exists; the shim fills the struct.
        self.check("does not tell its hash", unsafe { sys::fulcrum_port_rss(self.id(), &mut raw) })?;
        Ok(raw)
    }

    fn rss_table(&self) -> Result<Vec<u16>, PortError> {
        let mut table = vec![0; usize::from(self.info()?.rss_table)];
        let count = u16::try_from(table.len()).unwrap_or(0);
        // SAFETY: the port exists; the array has `count` places.
        let status = unsafe { sys::fulcrum_port_rss_table(self.id(), table.as_mut_ptr(), count) };
        self.check("does not tell its redirection table", status)?;
        Ok(table)
    }

    /// Has the started device hash by `config`; devices that take it with their configuration alone refuse.
    pub fn set_rss(&mut self, config: &RssConfig) -> Result<(), PortError> {
        let raw = config.raw(self.info()?.rss_key_len);
        // SAFETY: the port exists; the struct is only read.
        self.check("keeps its hash", unsafe { sys::fulcrum_port_set_rss(self.id(), &raw) })
    }

    /// Has the started device take its queues by `table`, which has as many entries as the device's.
    pub fn set_rss_table(&mut self, table: &[u16]) -> Result<(), PortError> {
        let count = u16::try_from(table.len()).unwrap_or(u16::MAX);
        // SAFETY: the port exists; the array has `count` places and is only read; too many are refused.
        let status = unsafe { sys::fulcrum_port_set_rss_table(self.id(), table.as_ptr(), count) };
        self.check("keeps its redirection table", status)
    }
}
