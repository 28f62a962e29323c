//! Ports: from planned devices to started DPDK ports.
//!
//! Decides which driver a device gets, what has to be put right for it, and says so in notes. Which worker polls
//! which queue is `deal`'s affair.

use std::io;

use fulcrum_director::rss::KEY;
use fulcrum_dpdk::{Eal, Link, Mempool, PortConfig, PortError, PortInfo, Queues, RssConfig, Stats};
use fulcrum_model as model;

use crate::bond::Member;
use crate::deal;
use crate::device::Device;
use crate::host::{self, Ledger, Taken, Use};
use crate::plan::{Footing, LAYER2, Plan, STANDARD_MTU, slot};
use crate::steering::{Way, wanted};

/// Frames in each device queue, where the device allows it.
const DESCRIPTORS: u16 = 2048;
/// This driver looks at checksums itself, those of TCP and UDP too.
const CHECKS_IN_SOFTWARE: &str = "net_tap";

pub(crate) const COMPLETED: &str = "checksums that the kernel left unfinished are completed";

/// Why a port did not open.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("port {port}: {device} could not be prepared: {source}{}", root_hint(source))]
    Host { port: String, device: String, source: io::Error },
    #[error("port {port}: {source}{}", refusal_hint(source))]
    Dpdk { port: String, source: PortError },
    #[error(
        "port {port}: its members have {counts} queues, which would not all be polled: give them the same number"
    )]
    Queues { port: String, counts: String },
}

fn root_hint(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::PermissionDenied {
        " (run it as root or with CAP_NET_ADMIN)"
    } else {
        ""
    }
}

fn refusal_hint(error: &PortError) -> &'static str {
    let text = error.to_string();
    if text.contains("no DPDK driver took `net_bonding") && !text.contains("bond_probe") {
        return "; bonds need DPDK's bonding driver (Debian: apt-get install librte-net-bond23)";
    }
    if text.contains("not permitted") || text.contains("ermission denied") {
        "; run it as root or with CAP_NET_ADMIN, CAP_NET_RAW and CAP_BPF"
    } else {
        ""
    }
}

/// A port at work.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) name: String,
    /// As configured.
    pub(crate) device: String,
    pub(crate) bond: Option<model::Bond>,
    /// The devices of a bond.
    pub(crate) members: Vec<Member>,
    pub(crate) driver: String,
    pub(crate) mac: [u8; 6],
    pub(crate) partial_checksums: bool,
    /// Largest frame that it sends, in bytes.
    pub(crate) largest: usize,
    pub(crate) rx_queues: u16,
    pub(crate) tx_queues: u16,
    pub(crate) notes: Vec<String>,
    pub(crate) port: fulcrum_dpdk::Port,
    pub(crate) way: Way,
    /// The way that it was asked to go.
    pub(crate) steering: model::PortSteering,
    /// What the device was asked to hash by.
    pub(crate) rss: Option<RssConfig>,
    /// Whether the device looks at checksums of IPv4 headers.
    pub(crate) header_checksums: bool,
    taken: Option<Taken>,
}

/// Opens and starts ports.
#[derive(Debug)]
pub(crate) struct Opener<'a> {
    pub(crate) eal: &'static Eal,
    /// The pool of each worker, from which its queues take frames.
    pub(crate) pools: Vec<Mempool>,
    pub(crate) workers: usize,
    /// Whether ports are to wake a worker that sleeps, if they can.
    pub(crate) interrupts: bool,
    pub(crate) ledger: &'a mut Ledger,
    /// Key of the hash by which devices spread flows.
    pub(crate) key: [u8; KEY],
}

impl Opener<'_> {
    /// Opens the `number`th port; its queues are ready to be polled.
    pub(crate) fn open(&mut self, number: usize, plan: Plan) -> Result<(Port, Queues), OpenError> {
        let Plan { config, mut on, mtu } = plan;
        if let Some(bond) = &config.bond {
            return self.open_bond(number, &config, bond, &on, mtu);
        }
        let Footing { device, link, .. } = on.swap_remove(0);
        match (&device, &link) {
            (Device::Interface(_), Some(link)) => self.open_interface(number, &config, link, mtu),
            (Device::Virtual { text, driver, .. }, Some(link)) => {
                let how = if driver == "net_af_xdp" { Use::AfXdp } else { Use::AfPacket };
                self.open_on(number, &config, link, how, text, mtu)
            }
            (Device::Pci(name) | Device::Virtual { text: name, .. } | Device::Interface(name), _) => {
                let (mut port, queues) =
                    self.start(number, &config, name, mtu).map_err(|source| dpdk(&config, source))?;
                let note = multicast(&mut port.port);
                // Virtual devices have no filter.
                port.notes.extend(note.filter(|_| matches!(device, Device::Pci(_))));
                Ok((port, queues))
            }
        }
    }

    /// AF_XDP, else AF_PACKET.
    fn open_interface(
        &mut self,
        number: usize,
        config: &model::Port,
        link: &host::Link,
        mtu: u16,
    ) -> Result<(Port, Queues), OpenError> {
        let name = &link.name;
        let in_pieces = || {
            let reason = format!("AF_XDP is not used on {name}: memory for frames is not in one piece");
            (!self.pools.iter().all(Mempool::is_one_piece)).then_some(reason)
        };
        let refusal = match without_xdp(link).or_else(in_pieces) {
            Some(reason) => reason,
            None => {
                let queues = host::receive_queues(link.index);
                let text = format!("net_af_xdp{number},iface={name},start_queue=0,queue_count={queues}");
                match self.open_on(number, config, link, Use::AfXdp, &text, mtu) {
                    Ok(opened) => return Ok(opened),
                    Err(OpenError::Dpdk { source, .. }) => {
                        format!("AF_XDP is not to be had on {name}: {source}")
                    }
                    Err(error) => return Err(error),
                }
            }
        };
        let text = af_packet(&number.to_string(), name, self.workers, mtu);
        let (mut port, queues) = self.open_on(number, config, link, Use::AfPacket, &text, mtu)?;
        port.notes.insert(0, refusal);
        if link.kind == "veth" {
            port.notes.push(format!(
                "packets larger than a frame are cut off: switch segmentation offload off at the other end of {name} \
                 (ethtool -K PEER tso off gso off)"
            ));
        }
        Ok((port, queues))
    }

    fn open_on(
        &mut self,
        number: usize,
        config: &model::Port,
        link: &host::Link,
        how: Use,
        text: &str,
        mtu: u16,
    ) -> Result<(Port, Queues), OpenError> {
        let failed =
            |source| OpenError::Host { port: config.name.clone(), device: link.name.clone(), source };
        let text = &patient(text, how, link);
        let (taken, notes) = Taken::take(link, how, false, self.ledger).map_err(failed)?;
        match self.start(number, config, text, mtu) {
            Ok((mut port, queues)) => {
                port.partial_checksums = true;
                port.taken = Some(taken);
                port.notes.extend(notes);
                port.notes.push(COMPLETED.to_owned());
                Ok((port, queues))
            }
            Err(source) => {
                taken.give_back(self.ledger);
                Err(dpdk(config, source))
            }
        }
    }

    fn start(
        &mut self,
        number: usize,
        config: &model::Port,
        text: &str,
        mtu: u16,
    ) -> Result<(Port, Queues), PortError> {
        let port = fulcrum_dpdk::Port::open(self.eal, text)?;
        let info = port.info()?;
        let spreads = info.rss || config.steering == model::PortSteering::Flow;
        let counts = queue_counts(&info, self.workers, spreads);
        self.begin(number, config, port, counts, mtu)
    }

    /// Sets a device up and starts it.
    pub(crate) fn begin(
        &mut self,
        number: usize,
        config: &model::Port,
        mut port: fulcrum_dpdk::Port,
        (rx_queues, tx_queues): (u16, u16),
        mtu: u16,
    ) -> Result<(Port, Queues), PortError> {
        let info = port.info()?;
        let mut notes = Vec::new();
        let mac = config.mac.map_or(info.mac, |mac| mac.0);
        let bonded = config.bond.is_some();
        let (rss, way) = match wanted(config.steering, &info, self.workers, rx_queues, &self.key) {
            _ if bonded => {
                (None, Way::Software("the members of a bond spread packets each in its way".to_owned()))
            }
            Ok(rss) => (Some(rss), Way::Software("the device has not been asked".to_owned())),
            Err(why) => (None, Way::Software(why)),
        };
        let header_checksums = info.header_checksums && info.driver != CHECKS_IN_SOFTWARE;
        let settings = PortConfig {
            rx_queues,
            tx_queues,
            descriptors: DESCRIPTORS,
            mtu,
            header_checksums,
            // Packets of the standard size fit into any device's buffers.
            scatter: mtu > STANDARD_MTU,
            rss,
            interrupts: self.interrupts && !bonded,
        };
        let pool_of =
            |queue: u16| self.pools[deal::receiver(number, queue.into(), rx_queues.into(), self.workers)];
        let queues = match port.start_from(&settings, pool_of) {
            Err(error) if settings.interrupts => {
                tracing::debug!(port = config.name, "without interrupts: {error}");
                port.start_from(&PortConfig { interrupts: false, ..settings }, pool_of)?
            }
            started => started?,
        };
        if mac != info.mac && !own_mac(&mut port, &info, mac) {
            match port.set_promiscuous() {
                Ok(()) => {
                    notes.push(format!("keeps its MAC address {}: promiscuous instead", model::Mac(info.mac)))
                }
                Err(error) => notes.push(format!("may not receive frames for its MAC address: {error}")),
            }
        }
        let port = Port {
            name: config.name.clone(),
            device: config.made_of(),
            bond: config.bond.clone(),
            members: Vec::new(),
            driver: info.driver,
            mac,
            partial_checksums: false,
            largest: usize::from(mtu) + LAYER2 as usize,
            rx_queues,
            tx_queues,
            notes,
            port,
            way,
            steering: config.steering,
            rss,
            header_checksums,
            taken: None,
        };
        Ok((port, queues))
    }
}

impl Port {
    /// State of the link and counters now.
    pub(crate) fn now(&self) -> (Link, Stats) {
        let (link, stats) = (self.port.link(), self.port.stats().unwrap_or_default());
        if !self.members.is_empty() {
            let lost = self.members.iter().filter_map(|member| Some(member.taken.as_ref()?.now().1)).sum();
            let link = Link { up: self.carries(link.up), ..link };
            return (link, Stats { rx_missed: stats.rx_missed.max(lost), ..stats });
        }
        match &self.taken {
            Some(taken) => {
                let (up, lost) = taken.now();
                // The driver knows of some of these, those without a buffer.
                (Link { up, ..link }, Stats { rx_missed: stats.rx_missed.max(lost), ..stats })
            }
            None => (link, stats),
        }
    }

    /// Whether it has a link.
    pub(crate) fn has_link(&self) -> bool {
        match &self.taken {
            _ if !self.members.is_empty() => self.carries(self.port.link().up),
            Some(taken) => taken.now().0,
            None => self.port.link().up,
        }
    }

    /// Moves what the host has on the port's interfaces to its twin, if there are such interfaces.
    pub(crate) fn move_host_to(
        &mut self,
        twin: &str,
        index: u32,
        ledger: &mut Ledger,
    ) -> io::Result<Vec<String>> {
        let members = self.members.iter_mut().filter_map(|member| member.taken.as_mut());
        let mut notes = Vec::new();
        for taken in self.taken.iter_mut().chain(members) {
            notes.extend(taken.move_host_to(twin, index, ledger)?);
        }
        Ok(notes)
    }

    /// What the device does for the director, by name.
    pub(crate) fn offloads(&self) -> Vec<String> {
        let checksums = self.header_checksums.then(|| "ipv4-header-checksum".to_owned());
        checksums.into_iter().collect()
    }

    /// Closes the port, whose queues are back, and gives the host's interface back as it was.
    pub(crate) fn close(self, ledger: &mut Ledger) {
        if let Err(error) = self.port.close() {
            tracing::warn!("port {}: {error}", self.name);
        }
        let members = self.members.into_iter().filter_map(|member| member.taken);
        self.taken.into_iter().chain(members).for_each(|taken| taken.give_back(ledger));
    }
}

/// AF_PACKET's string for a Linux interface.
pub(crate) fn af_packet(number: &str, interface: &str, queues: usize, mtu: u16) -> String {
    let frame = slot(mtu);
    format!(
        "net_af_packet{number},iface={interface},qpairs={},blocksz={},framesz={frame},framecnt=2048",
        queues.min(16),
        16 * u32::from(frame),
    )
}

/// A driver's string as it is used on a Linux interface. Unless told otherwise AF_XDP's polls the device's NAPI itself,
/// and a veth whose ring has run full is then never woken up again. On hardware it would wait in poll(2) instead, so
/// that it is left as it is.
pub(crate) fn patient(text: &str, how: Use, link: &host::Link) -> String {
    match how {
        Use::AfXdp if !link.kind.is_empty() && !text.contains("busy_budget=") => {
            format!("{text},busy_budget=0")
        }
        _ => text.to_owned(),
    }
}

pub(crate) fn dpdk(config: &model::Port, source: PortError) -> OpenError {
    OpenError::Dpdk { port: config.name.clone(), source }
}

/// Gives the device another MAC address, where that does not change a Linux interface's.
fn own_mac(port: &mut fulcrum_dpdk::Port, info: &PortInfo, mac: [u8; 6]) -> bool {
    !matches!(info.driver.as_str(), "net_af_packet" | "net_af_xdp") && port.set_mac(mac).is_ok()
}

/// Lets a device take multicast, by which neighbours ask for IPv6 addresses; gives what is to be said about it.
pub(crate) fn multicast(port: &mut fulcrum_dpdk::Port) -> Option<String> {
    port.set_all_multicast().err()?;
    match port.set_promiscuous() {
        Ok(()) => Some("cannot take every multicast: promiscuous instead".to_owned()),
        Err(error) => Some(format!("may not receive who asks for its IPv6 addresses: {error}")),
    }
}

/// Why AF_XDP is not even tried, where it is not.
fn without_xdp(link: &host::Link) -> Option<String> {
    if link.xdp {
        return Some(format!(
            "AF_XDP is not used on {0}: an XDP program is attached (ip link set dev {0} xdp off)",
            link.name
        ));
    }
    // A frame has to fit into a page, with the room that XDP wants before and after it.
    (link.mtu > 1900)
        .then(|| format!("AF_XDP is not used on {}: its MTU {} is too large", link.name, link.mtu))
}

/// Whether the kernel spreads over all queues that there are, each of which is a pair.
pub(crate) fn has_all_queues(driver: &str) -> bool {
    matches!(driver, "net_af_xdp" | "net_af_packet")
}

/// Receive and transmit queues to use.
pub(crate) fn queue_counts(info: &PortInfo, workers: usize, spreads: bool) -> (u16, u16) {
    let workers = u16::try_from(workers).unwrap_or(u16::MAX);
    let (rx, tx) = (info.max_rx_queues.max(1), info.max_tx_queues.max(1));
    match info.driver.as_str() {
        driver if has_all_queues(driver) => (rx, rx),
        // Each is a file, to be read whoever there is.
        "net_pcap" => (rx, tx.min(workers)),
        // These spread over those in use by themselves, or have queues that do not differ.
        "net_tap" | "net_ring" | "net_null" | "net_memif" => (rx.min(workers), tx.min(workers)),
        // Without RSS or rules everything comes by the first queue.
        _ => (if spreads { rx.min(workers) } else { 1 }, tx.min(workers)),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn info(driver: &str, rx: u16, tx: u16, rss: bool) -> PortInfo {
        PortInfo {
            driver: driver.into(),
            mac: [2; 6],
            mtu: 1500,
            max_rx_queues: rx,
            max_tx_queues: tx,
            rss,
            rss_by_end: false,
            rss_key_len: 40,
            rss_table: 128,
            header_checksums: false,
            scatter: false,
            if_index: 0,
        }
    }

    #[test]
    fn queues_are_as_many_as_help() {
        assert_eq!(queue_counts(&info("net_af_packet", 2, 2, false), 1, false), (2, 2));
        assert_eq!(queue_counts(&info("net_tap", 16, 16, false), 4, false), (4, 4));
        assert_eq!(queue_counts(&info("net_af_xdp", 8, 8, false), 2, false), (8, 8));
        assert_eq!(queue_counts(&info("net_pcap", 1, 1, false), 3, false), (1, 1));
        assert_eq!(queue_counts(&info("net_pcap", 3, 1, false), 2, false), (3, 1));
        assert_eq!(queue_counts(&info("net_ice", 256, 256, true), 3, true), (3, 3));
        assert_eq!(queue_counts(&info("net_virtio", 4, 4, false), 3, false), (1, 3));
        assert_eq!(queue_counts(&info("net_virtio", 4, 4, false), 3, true), (3, 3));
    }
}
