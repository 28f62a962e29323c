//! The schedulers against plain models of what IPVS keeps: lists, cursors and tables of servers by id, edited one
//! step at a time, slow and obvious.

use std::collections::HashMap;
use std::net::IpAddr;

use super::super::Request;
use super::bench::Setting;
use crate::snapshot::DestinationId;

#[derive(Clone, Debug)]
pub(super) struct Server {
    id: DestinationId,
    address: IpAddr,
    port: u16,
    pub(super) weight: i64,
    last_weight: i64,
    pub(super) upper: i64,
    pub(super) lower: i64,
    overloaded: bool,
    pub(super) active: i64,
    pub(super) inactive: i64,
}

impl Server {
    fn may(&self) -> bool {
        self.weight > 0 && !self.overloaded
    }

    fn load(&self) -> i64 {
        self.active * 256 + self.active + self.inactive
    }

    pub(super) fn begun(&mut self) {
        if self.upper > 0 && self.active + self.inactive >= self.upper {
            self.overloaded = true;
        }
    }

    pub(super) fn ended(&mut self) {
        let lower = if self.lower > 0 { self.lower } else { self.upper - self.upper / 4 };
        if self.active + self.inactive < lower {
            self.overloaded = false;
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Model {
    name: String,
    fallback: bool,
    port: bool,
    /// Newest first.
    pub(super) list: Vec<Server>,
    /// Server that a round robin stands on; `None`: the list's head.
    at: Option<DestinationId>,
    pub(super) bar: i64,
    /// Buckets or slots of dh, sh, mh.
    table: Vec<DestinationId>,
    /// What lblc and lblcr remember: servers, newest first.
    sets: HashMap<IpAddr, Vec<DestinationId>>,
}

impl Model {
    pub(super) fn new(name: &str, flags: u8) -> Model {
        Model {
            name: name.into(),
            fallback: flags & 1 != 0,
            port: flags & 2 != 0,
            list: Vec::new(),
            at: None,
            bar: 0,
            table: Vec::new(),
            sets: HashMap::new(),
        }
    }

    pub(super) fn place(&self, id: DestinationId) -> usize {
        self.list.iter().position(|d| d.id == id).unwrap()
    }

    pub(super) fn server(&self, id: DestinationId) -> Option<&Server> {
        self.list.iter().find(|d| d.id == id)
    }

    pub(super) fn add(&mut self, setting: Setting, (address, port): (IpAddr, u16)) {
        let Setting { id, weight, upper, lower } = setting;
        let (weight, upper, lower) = (weight.into(), upper.into(), lower.into());
        let server = Server {
            id,
            address,
            port,
            weight,
            last_weight: weight,
            upper,
            lower,
            overloaded: false,
            active: 0,
            inactive: 0,
        };
        self.list.insert(0, server);
        self.changed();
    }

    pub(super) fn edit(&mut self, setting: Setting) {
        let place = self.place(setting.id);
        let server = &mut self.list[place];
        server.weight = setting.weight.into();
        if server.weight > 0 {
            server.last_weight = server.weight;
        }
        if setting.upper == 0 || i64::from(setting.upper) > server.upper {
            server.overloaded = false;
        }
        (server.upper, server.lower) = (setting.upper.into(), setting.lower.into());
        self.changed();
    }

    pub(super) fn delete(&mut self, id: DestinationId) {
        let place = self.place(id);
        if self.at == Some(id) {
            self.at = place.checked_sub(1).map(|before| self.list[before].id);
        }
        self.list.remove(place);
        self.changed();
    }

    fn changed(&mut self) {
        match &*self.name {
            "wrr" => {
                self.at = None;
                if self.bar > self.top() || self.bar == 0 {
                    self.bar = self.top();
                } else if self.step() > 1 {
                    self.bar = self.bar / self.step() * self.step() + 1;
                }
            }
            "dh" => self.table = self.list.iter().map(|d| d.id).cycle().take(256).collect(),
            "sh" => {
                let turns = self.list.iter().flat_map(|d| vec![d.id; d.weight.max(1) as usize]);
                self.table = turns.collect::<Vec<_>>().into_iter().cycle().take(256).collect();
            }
            "mh" => self.maglev(),
            _ => {}
        }
    }

    /// The table as the paper draws it: every server's whole permutation, then turns.
    fn maglev(&mut self) {
        self.table.clear();
        let weighted: Vec<&Server> = self.list.iter().filter(|d| d.last_weight > 0).collect();
        if weighted.is_empty() {
            return;
        }
        let divisor = (1..=100_000).rev().find(|n| weighted.iter().all(|d| d.last_weight % n == 0)).unwrap();
        let largest = weighted.iter().map(|d| d.last_weight / divisor).max().unwrap();
        let bits = 64 - largest.leading_zeros() as i32;
        let shift = (bits - 6).max(0);
        let permutation = |server: &Server| {
            let key = fold(server.address).wrapping_add(server.port.into());
            let offset = siphash(key, 2_654_435_761) % 4093;
            let skip = siphash(key, 2_654_446_892) % 4092 + 1;
            (0..4093u64).map(move |n| ((u64::from(offset) + n * u64::from(skip)) % 4093) as usize)
        };
        let mut table = vec![None; 4093];
        let mut walks: Vec<_> = weighted.iter().map(|d| permutation(d)).collect();
        while table.contains(&None) {
            for (server, walk) in weighted.iter().zip(&mut walks) {
                for _ in 0..((server.last_weight / divisor) >> shift).max(1) {
                    if let Some(slot) = walk.find(|&slot| table[slot].is_none()) {
                        table[slot] = Some(server.id);
                    }
                }
            }
        }
        self.table = table.into_iter().flatten().collect();
    }

    pub(super) fn choose(&mut self, request: &Request) -> Option<DestinationId> {
        match &*self.name {
            "rr" => self.rr(),
            "wrr" => self.wrr(),
            "lc" => self.least(|_| true, |d| (d.load(), 1)),
            "wlc" => self.wlc(),
            "sed" => self.least(|_| true, |d| (d.active + 1, d.weight)),
            "nq" => {
                let idle = self.list.iter().find(|d| d.may() && d.active == 0).map(|d| d.id);
                idle.or_else(|| self.least(|_| true, |d| (d.active + 1, d.weight)))
            }
            "fo" => self.heaviest(|_| true),
            "ovf" => self.heaviest(|d| d.active <= d.weight),
            "dh" | "sh" | "mh" => self.hashed(request),
            "lblc" => self.lblc(request.vip),
            "lblcr" => self.lblcr(request.vip),
            "twos" => self.twos(request.chance),
            other => panic!("{other}"),
        }
    }

    fn rr(&mut self) -> Option<DestinationId> {
        let start = self.at.map_or(0, |id| self.place(id) + 1);
        let order = self.list[start..].iter().chain(&self.list[..start]);
        self.at = Some(order.into_iter().find(|d| d.may())?.id);
        self.at
    }

    fn step(&self) -> i64 {
        let largest = self.list.iter().map(|d| d.weight).max().unwrap_or(0);
        (1..=largest).rev().find(|n| self.list.iter().all(|d| d.weight % n == 0)).unwrap_or(1)
    }

    fn top(&self) -> i64 {
        self.list.iter().map(|d| d.weight).max().unwrap_or(0) - (self.step() - 1)
    }

    /// Walks over the list in rounds; gives up when a whole round at the lowest bar has seen everybody.
    fn wrr(&mut self) -> Option<DestinationId> {
        if self.top() <= 0 {
            return None;
        }
        let began = self.at;
        let mut seen_top = false;
        loop {
            let lowest = self.bar <= self.step();
            let start = self.at.map_or(0, |id| self.place(id) + 1);
            for server in &self.list[start..] {
                if server.weight >= self.bar && !server.overloaded {
                    self.at = Some(server.id);
                    return self.at;
                }
                if lowest && seen_top && began == Some(server.id) {
                    self.at = began;
                    return None;
                }
            }
            let whole = start == 0;
            self.at = None;
            self.bar -= self.step();
            if self.bar <= 0 {
                self.bar = self.top();
                if (lowest && whole) || began.is_none() {
                    return None;
                }
                seen_top = true;
            }
        }
    }

    fn least(
        &self,
        among: impl Fn(&Server) -> bool,
        measure: impl Fn(&Server) -> (i64, i64),
    ) -> Option<DestinationId> {
        let may = self.list.iter().filter(|d| d.may() && among(d));
        // Fractions over a common denominator; `min_by` gives the first of equals.
        let fraction = |a: &&Server, b: &&Server| {
            let ((x, v), (y, w)) = (measure(a), measure(b));
            (x * w).cmp(&(y * v))
        };
        may.min_by(fraction).map(|d| d.id)
    }

    fn wlc(&self) -> Option<DestinationId> {
        self.least(|_| true, |d| (d.load(), d.weight))
    }

    fn heaviest(&self, among: impl Fn(&Server) -> bool) -> Option<DestinationId> {
        // `max_by_key` gives the last of equals: from the list's end.
        let may = self.list.iter().rev().filter(|d| d.may() && among(d));
        may.max_by_key(|d| d.weight).map(|d| d.id)
    }

    fn hashed(&self, request: &Request) -> Option<DestinationId> {
        let size = self.table.len() as u32;
        if size == 0 {
            return None;
        }
        let with_port = self.port && self.name != "dh";
        let port = if with_port { u32::from(request.client_port) } else { 0 };
        let address = if self.name == "dh" { request.vip } else { request.client };
        let key = fold(address).wrapping_add(port);
        let bucket = |offset: u32| {
            if self.name == "mh" {
                siphash(key.wrapping_add(offset), 2_654_435_761) % 4093
            } else {
                // The golden ratio's way: the upper eight of 32 bits.
                let product = u64::from(key) * 0x61c8_8647 % (1 << 32);
                (offset + (product / (1 << 24)) as u32) % 256
            }
        };
        let server = |bucket: u32| self.server(self.table[bucket as usize]).filter(|d| d.may());
        let found = server(bucket(0));
        if found.is_some() || !self.fallback || self.name == "dh" {
            return found.map(|d| d.id);
        }
        (0..size).find_map(|i| server(bucket((i + bucket(0)) % size))).map(|d| d.id)
    }

    fn crowded(&self, server: &Server) -> bool {
        server.active > server.weight && self.list.iter().any(|d| 2 * d.active < d.weight)
    }

    fn lblc(&mut self, vip: IpAddr) -> Option<DestinationId> {
        let known = self.sets.get(&vip).and_then(|set| self.server(set[0]));
        if let Some(server) = known.filter(|d| d.weight > 0 && !self.crowded(d)) {
            return Some(server.id);
        }
        let chosen = self.wlc()?;
        self.sets.insert(vip, vec![chosen]);
        Some(chosen)
    }

    fn lblcr(&mut self, vip: IpAddr) -> Option<DestinationId> {
        if let Some(set) = self.sets.get(&vip) {
            // The set's own order decides between equals.
            let mut least: Option<&Server> = None;
            for server in set.iter().filter_map(|&id| self.server(id)).filter(|d| d.may()) {
                if least.is_none_or(|l| l.load() * server.weight > server.load() * l.weight) {
                    least = Some(server);
                }
            }
            if let Some(server) = least.filter(|d| !self.crowded(d)) {
                return Some(server.id);
            }
        }
        let chosen = self.wlc()?;
        let set = self.sets.entry(vip).or_default();
        if !set.contains(&chosen) {
            set.insert(0, chosen);
        }
        Some(chosen)
    }

    fn twos(&self, chance: u64) -> Option<DestinationId> {
        // A ticket for every unit of weight, and one more for the first.
        let may: Vec<&Server> = self.list.iter().filter(|d| d.may()).collect();
        let mut tickets: Vec<&Server> = may.iter().flat_map(|d| vec![*d; d.weight as usize]).collect();
        tickets.insert(0, *may.first()?);
        let draw = |half: u64| tickets[(half as usize * tickets.len()) >> 32];
        let (one, two) = (draw(chance >> 32), draw(chance & 0xffff_ffff));
        Some(if two.weight * one.load() > one.weight * two.load() { two.id } else { one.id })
    }
}

fn fold(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(address) => u32::from(address),
        IpAddr::V6(address) => {
            address.octets().chunks(4).fold(0, |all, c| all ^ u32::from_be_bytes(c.try_into().unwrap()))
        }
    }
}

/// SipHash-1-3 (Aumasson, Bernstein: "SipHash") of one word, cut to 32 bits.
fn siphash(word: u32, key: u64) -> u32 {
    fn round([a, b, c, d]: [u64; 4]) -> [u64; 4] {
        let (a, b, c, d) = (a.wrapping_add(b), b.rotate_left(13), c.wrapping_add(d), d.rotate_left(16));
        let (b, d, a) = (b ^ a, d ^ c, a.rotate_left(32));
        let (c, b, a, d) = (c.wrapping_add(b), b.rotate_left(17), a.wrapping_add(d), d.rotate_left(21));
        [a, b ^ c, c.rotate_left(32), d ^ a]
    }
    let mut v = [
        key ^ 0x736f_6d65_7073_6575,
        key ^ 0x646f_7261_6e64_6f6d,
        key ^ 0x6c79_6765_6e65_7261,
        key ^ 0x7465_6462_7974_6573,
    ];
    let block = 4 << 56 | u64::from(word);
    v[3] ^= block;
    v = round(v);
    v[0] ^= block;
    v[2] ^= 0xff;
    v = round(round(round(v)));
    (v[0] ^ v[1] ^ v[2] ^ v[3]) as u32
}
