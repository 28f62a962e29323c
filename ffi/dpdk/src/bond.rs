//! Several devices as one, by DPDK's bonding driver: members, what it tells of them, and what it has to be told.
//!
//! The driver chooses members by their link. Drivers on top of a Linux interface do not know theirs: such a member is
//! stopped and started as somebody else knows ([`Port::tell_link`]), while every queue of the bond stands still.

use std::mem::MaybeUninit;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use fulcrum_dpdk_sys as sys;

use crate::{Eal, Mbuf, Port, PortError, version};

/// How long queues may take to stand still, and the bond to notice that a link has changed.
const PATIENCE: Duration = Duration::from_millis(250);
/// Said of a bond that left a member out, as its own calls would.
const EINVAL: i32 = 22;
/// Time between two looks at that.
const LOOK: Duration = Duration::from_micros(200);
/// Frames of a member that nobody uses, thrown away at once at most.
const STALE: usize = 4096;

/// How members are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BondMode {
    /// One carries all; whenever its link is up, that of this number, if one is given.
    ActiveBackup(Option<usize>),
    /// All that the partner has agreed on do, chosen by a hash: `l2`, `l23` or `l34`.
    Lacp(&'static str),
}

/// What LACP has agreed on for a member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lacp {
    /// Whether frames that come by it are taken.
    pub collecting: bool,
    /// Whether frames are sent by it.
    pub distributing: bool,
    /// The partner, zero as long as none has answered.
    pub partner: [u8; 6],
}

/// A member as the bond has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemberState {
    /// Whether the bond takes its link for up, `None` when it does not tell.
    pub up: Option<bool>,
    /// Whether it carries traffic, `None` when the bond does not tell.
    pub active: Option<bool>,
    /// In mode LACP, of a member whose link is up.
    pub lacp: Option<Lacp>,
}

/// What a bond is made of.
#[derive(Debug)]
pub(crate) struct Members {
    pub(crate) ports: Vec<Port>,
    mode: BondMode,
    /// Where its queues stand still; none before it has started.
    gate: Option<Arc<Gate>>,
}

/// Between a bond's queues and whoever stops and starts its members.
#[derive(Debug)]
pub(crate) struct Gate {
    bond: u16,
    /// Odd: closed.
    epoch: AtomicU32,
    /// For each queue the last epoch in which it found the gate closed.
    seen: Vec<AtomicU32>,
    /// In mode active-backup: members, and whether they are started. Who is not active receives, too.
    spares: Vec<(u16, AtomicBool)>,
    /// Receive queues.
    receiving: u16,
    /// LACP's frames go out when somebody sends.
    beats: bool,
}

/// A queue's place at the gate.
#[derive(Debug)]
pub(crate) struct Seat {
    gate: Arc<Gate>,
    number: usize,
}

impl Seat {
    /// Whether the queue's user has to keep away from the device now. Once it has been told so it does, until this says
    /// otherwise.
    #[inline]
    pub(crate) fn closed(&self) -> bool {
        let epoch = self.gate.epoch.load(Ordering::Acquire);
        let closed = epoch & 1 == 1;
        if closed {
            // Release: what the queue's user did before is over for whoever reads this.
            self.gate.seen[self.number].store(epoch, Ordering::Release);
        }
        closed
    }

    /// Whether somebody has to send now and then, be it nothing.
    pub(crate) fn beats(&self) -> bool {
        self.gate.beats
    }

    /// Throws away what came to queue `queue` of members that are not active: it would be old when they are.
    pub(crate) fn drain(&self, queue: u16) {
        if self.gate.spares.is_empty() {
            return;
        }
        // SAFETY: reads the driver's own record of the bond, which exists as long as its queues do.
        let active = unsafe { sys::fulcrum_bond_active(self.gate.bond) };
        for (member, started) in &self.gate.spares {
            if active >= 0 && active != i32::from(*member) && started.load(Ordering::Relaxed) {
                // SAFETY: the member is started, and stays so while this queue's user has not seen the gate closed; of
                // all members, the queue of this number is only polled through the bond's, whose user this is.
                unsafe { discard(*member, queue) };
            }
        }
    }
}

/// Throws away what a queue has received.
///
/// # Safety
///
/// The port is started, and nobody else polls the queue meanwhile.
unsafe fn discard(port: u16, queue: u16) {
    let mut frames = [ptr::null_mut(); crate::BURST];
    for _ in 0..STALE / frames.len() {
        // SAFETY: by contract; the array holds as many pointers.
        let count = unsafe { sys::fulcrum_rx_burst(port, queue, frames.as_mut_ptr(), frames.len() as u16) };
        for frame in frames.iter().take(usize::from(count)).filter_map(|frame| ptr::NonNull::new(*frame)) {
            // SAFETY: rx_burst gave the mbuf to us alone.
            drop(unsafe { Mbuf::from_raw(frame) });
        }
        if usize::from(count) < frames.len() {
            return;
        }
    }
}

impl Gate {
    fn new(bond: u16, members: &Members, receiving: u16, sending: u16) -> Gate {
        let spares = match members.mode {
            BondMode::ActiveBackup(_) => {
                members.ports.iter().map(|port| (port.id(), AtomicBool::new(true))).collect()
            }
            BondMode::Lacp(_) => Vec::new(),
        };
        Gate {
            bond,
            epoch: AtomicU32::new(0),
            seen: (0..receiving + sending).map(|_| AtomicU32::new(0)).collect(),
            spares,
            receiving,
            beats: matches!(members.mode, BondMode::Lacp(_)),
        }
    }

    /// Waits until every queue keeps away; false when one does not answer, and the gate is open again.
    fn close(&self) -> bool {
        let epoch = self.epoch.load(Ordering::Relaxed) + 1;
        self.epoch.store(epoch, Ordering::Release);
        let away = wait_until(|| self.seen.iter().all(|seen| seen.load(Ordering::Acquire) == epoch));
        if !away {
            self.open();
        }
        away
    }

    fn open(&self) {
        let epoch = self.epoch.load(Ordering::Relaxed);
        self.epoch.store(epoch.wrapping_add(1), Ordering::Release);
    }
}

fn wait_until(mut so: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while !so() {
        if Instant::now() > deadline {
            return false;
        }
        sleep(LOOK);
    }
    true
}

impl Port {
    /// Makes one port, DPDK's `net_bonding<number>`, of several that have not been started. They share its queues, and
    /// `mac`.
    pub fn bond(
        eal: &'static Eal,
        number: usize,
        mode: BondMode,
        mac: [u8; 6],
        mtu: u16,
        ports: Vec<Port>,
    ) -> Result<Port, PortError> {
        let mut port = Port::open(eal, &arguments(number, mode, mac, &ports))?;
        // SAFETY: looks up functions of loaded libraries; no bond has been started by another thread.
        let told = unsafe { sys::fulcrum_bond_find() } == 0;
        // It takes its members in when it is configured, and only then knows what it can do.
        // SAFETY: the port exists and is not started.
        let status =
            unsafe { sys::fulcrum_port_configure(port.id(), 1, 1, mtu.min(1500), ptr::null(), 0, false) };
        let count = i32::try_from(ports.len()).unwrap_or(i32::MAX);
        // Before the bond is dropped on an error, and the members after it.
        port.members = Some(Members { ports, mode, gate: None });
        port.check("does not take its members", status)?;
        // SAFETY: reads the driver's own record of the bond.
        if told && unsafe { sys::fulcrum_bond_members(port.id()) } != count {
            return Err(port.refusal("does not take all of its members", -EINVAL));
        }
        Ok(port)
    }

    /// The ports that this one is made of, if it is a bond.
    pub fn members(&self) -> &[Port] {
        self.members.as_ref().map_or(&[], |members| &members.ports)
    }

    /// What the bond makes of its `member`th member.
    pub fn member_state(&self, member: usize) -> MemberState {
        let Some(members) = &self.members else { return MemberState::default() };
        let Some(port) = members.ports.get(member) else { return MemberState::default() };
        let mut raw = MaybeUninit::<sys::fulcrum_lacp>::uninit();
        // SAFETY: reads the driver's own record of the bond, which exists; the shim fills the struct on success.
        let (up, active, lacp) = unsafe {
            let status = sys::fulcrum_bond_lacp(self.id(), port.id(), raw.as_mut_ptr());
            (
                sys::fulcrum_bond_has_up(self.id(), port.id()),
                sys::fulcrum_bond_active(self.id()),
                (status == 0).then(|| raw.assume_init()),
            )
        };
        let up = (up >= 0).then_some(up > 0);
        match members.mode {
            BondMode::ActiveBackup(_) => {
                let active = up.map(|up| up && active == i32::from(port.id()));
                MemberState { up, active, lacp: None }
            }
            BondMode::Lacp(_) => {
                let lacp = lacp.map(|raw| Lacp {
                    collecting: u32::from(raw.actor) & sys::FULCRUM_LACP_COLLECTING != 0,
                    distributing: u32::from(raw.actor) & sys::FULCRUM_LACP_DISTRIBUTING != 0,
                    partner: raw.partner_system,
                });
                let active = up.map(|_| lacp.is_some_and(|lacp| lacp.collecting && lacp.distributing));
                MemberState { up, active, lacp }
            }
        }
    }

    /// Tells the bond that the link of its `member`th member, whose driver does not know, has gone up or down. Its
    /// queues stand still meanwhile, for ten milliseconds or so until the bond asks its members again; false when one of them is in nobody's hands, or its
    /// user does not answer, and nothing was done.
    pub fn tell_link(&mut self, member: usize, up: bool) -> bool {
        let bond = self.id();
        let Some(Members { ports, gate: Some(gate), .. }) = &mut self.members else { return false };
        let Some(port) = ports.get_mut(member) else { return false };
        if !gate.close() {
            return false;
        }
        let id = port.id();
        // SAFETY: the member exists, and nobody uses a queue of it: that is only done through the bond's queues, all of
        // whose users have seen the gate closed.
        let done = unsafe {
            if up {
                let done = sys::rte_eth_dev_start(id) == 0;
                (0..gate.receiving).filter(|_| done).for_each(|queue| discard(id, queue));
                done
            } else {
                sys::rte_eth_dev_stop(id) == 0
            }
        };
        if done {
            gate.spares
                .iter()
                .filter(|(member, _)| *member == id)
                .for_each(|(_, started)| started.store(up, Ordering::Relaxed));
            // A member that was stopped must not be asked for frames: the bond has to know first.
            // SAFETY: reads the driver's own record of the bond.
            wait_until(|| unsafe { sys::fulcrum_bond_has_up(bond, id) } == i32::from(up));
        }
        gate.open();
        done
    }
}

impl Members {
    /// Makes the gate, and a seat for each queue of the bond, receiving ones first.
    pub(crate) fn seats(&mut self, bond: u16, receiving: u16, sending: u16) -> Vec<Seat> {
        let gate = Arc::new(Gate::new(bond, self, receiving, sending));
        self.gate = Some(Arc::clone(&gate));
        (0..gate.seen.len()).map(|number| Seat { gate: Arc::clone(&gate), number }).collect()
    }
}

/// The driver's string for a bond.
fn arguments(number: usize, mode: BondMode, mac: [u8; 6], ports: &[Port]) -> String {
    let names: Vec<&str> = ports.iter().map(Port::name).collect();
    written(number, mode, mac, &names, is_since(&version(), 23, 11))
}

fn written(number: usize, mode: BondMode, mac: [u8; 6], names: &[&str], renamed: bool) -> String {
    let word = if renamed { "member" } else { "slave" };
    let [a, b, c, d, e, f] = mac;
    let mut text = format!(
        "net_bonding{number},mode={},mac={a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}",
        if matches!(mode, BondMode::Lacp(_)) { 4 } else { 1 },
    );
    for name in names {
        text.push_str(&format!(",{word}={name}"));
    }
    match mode {
        BondMode::ActiveBackup(primary) => {
            let primary = primary.and_then(|number| names.get(number));
            primary.into_iter().for_each(|name| text.push_str(&format!(",primary={name}")));
        }
        BondMode::Lacp(hash) => text.push_str(&format!(",xmit_policy={hash}")),
    }
    text
}

/// Whether DPDK's word on its version names this one or a later one.
fn is_since(version: &str, major: u32, minor: u32) -> bool {
    let numbers = version.rsplit(' ').next().unwrap_or_default();
    let mut numbers = numbers.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(major), Some(minor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bond_is_written_as_its_driver_reads_it() {
        let mac = [2, 0, 0, 0, 0, 0x1f];
        assert_eq!(
            written(3, BondMode::ActiveBackup(Some(1)), mac, &["net_af_packet3_0", "0000:03:00.0"], false),
            "net_bonding3,mode=1,mac=02:00:00:00:00:1f,slave=net_af_packet3_0,\
             slave=0000:03:00.0,primary=0000:03:00.0"
        );
        assert_eq!(
            written(0, BondMode::Lacp("l23"), mac, &["a"], true),
            "net_bonding0,mode=4,mac=02:00:00:00:00:1f,member=a,xmit_policy=l23"
        );
    }

    #[test]
    fn versions_are_compared_by_number() {
        for (version, since) in [
            ("DPDK 22.11.11", false),
            ("DPDK 23.07.0", false),
            ("DPDK 23.11.0-rc1", true),
            ("DPDK 24.3.0", true),
        ] {
            assert_eq!(is_since(version, 23, 11), since, "{version}");
        }
    }

    #[test]
    fn a_closed_gate_is_seen_by_each_queue() {
        let members = Members { ports: Vec::new(), mode: BondMode::Lacp("l34"), gate: None };
        let gate = Arc::new(Gate::new(0, &members, 1, 1));
        let seats: Vec<Seat> = (0..2).map(|number| Seat { gate: Arc::clone(&gate), number }).collect();
        assert!(seats.iter().all(|seat| !seat.closed()));
        assert!(!gate.close(), "nobody looks");
        assert!(seats.iter().all(|seat| !seat.closed()));
        let closing = Arc::clone(&gate);
        let closing = std::thread::spawn(move || closing.close());
        while !closing.is_finished() {
            for seat in &seats {
                seat.closed();
            }
        }
        assert!(closing.join().unwrap());
        assert!(seats.iter().all(Seat::closed));
        gate.open();
        assert!(seats.iter().all(|seat| !seat.closed()));
    }
}
