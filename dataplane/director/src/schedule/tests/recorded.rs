//! The schedulers against sequences recorded from a kernel.
//!
//! A file has histories of words. The first line of one says the scheduler with its flags and how addresses come
//! about; then, in the order in which things happened, `+1:4` adds server 1 with weight 4 (`+1:4:8:2` with upper
//! threshold 8 and lower 2), `~1:3` edits it, `-1` deletes it, `s:sh,sh-port` edits the service, `t:3` lets seconds
//! pass. `a:132` are connections that stay open and got servers 1, 3, 2; `i:` such that are closed each before the
//! next, `u:` UDP sessions, which last until `w` ends all, `w:2` those of server 2. `-` got none. Servers from 10 on
//! are letters.

use std::net::{IpAddr, Ipv4Addr};

use super::super::Request;
use super::bench::{Bench, Kind, REQUEST, Setting};
use crate::SECOND;
use crate::snapshot::DestinationId;

#[test]
fn another_recording_of_traffic() {
    replay(include_str!("traffic.txt"));
}

#[test]
fn weights_and_edits() {
    replay(include_str!("edits.txt"));
}

#[test]
fn random_edits_and_thresholds() {
    replay(include_str!("random.txt"));
}

#[test]
fn hashes_of_addresses_and_ports() {
    replay(include_str!("hashes.txt"));
}

#[test]
fn sets_of_servers_shrink_with_time() {
    replay(include_str!("sets.txt"));
}

/// Where connections come from and go to.
#[derive(Debug, Default)]
struct Plan {
    v6: bool,
    /// Number of the next connection.
    next: u32,
    /// First VIP and how many there are in turn.
    vips: Option<(IpAddr, u32)>,
    /// Clients in turn, and the first port; otherwise both are spread by number.
    clients: Option<(Ipv4Addr, u32, u16)>,
}

impl Plan {
    fn request(&mut self) -> Request {
        let n = self.next;
        self.next += 1;
        if let Some((first, count, port)) = self.clients {
            let client = Ipv4Addr::from_bits(first.to_bits() + n % count).into();
            let vip = self.vips.map_or(REQUEST.vip, |(first, count)| plus(first, n % count));
            return Request { client, client_port: port + n as u16, vip, ..REQUEST };
        }
        let word = |value: u32| u128::from(value);
        let client = if self.v6 {
            let (second, last) = (n.wrapping_mul(0x9e37_79b1), n.wrapping_mul(40503));
            IpAddr::V6((0x2001_0db8 << 96 | word(second) << 64 | word(n) << 32 | word(last)).into())
        } else {
            Ipv4Addr::from_bits(0xc612_0000 + (n.wrapping_mul(40503) & 0x1_ffff)).into()
        };
        let vip = self.vips.map_or(REQUEST.vip, |(first, count)| plus(first, n * 13 % count));
        Request { client, client_port: (1024 + n * 7 % 64000) as u16, vip, ..REQUEST }
    }
}

fn plus(address: IpAddr, n: u32) -> IpAddr {
    match address {
        IpAddr::V4(address) => Ipv4Addr::from_bits(address.to_bits() + n).into(),
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() + u128::from(n)).into()),
    }
}

/// `sh,sh-port` as name and flags.
fn scheduler(text: &str) -> (&str, u8) {
    let mut words = text.split(',');
    let name = words.next().unwrap();
    let flag = |word: &str| match word.split_once('-').unwrap().1 {
        "fallback" => 1,
        "port" => 2,
        other => panic!("flag {other}"),
    };
    (name, words.map(flag).sum())
}

fn begin(line: &str) -> (Bench, Plan) {
    let mut words = line.split(' ');
    let (name, flags) = scheduler(words.next().unwrap());
    let (mut bench, mut plan) = (Bench::new(name, flags), Plan::default());
    for word in words {
        let (key, value) = word.split_once('=').unwrap();
        let in_turn = || {
            let (first, count) = value.split_once('/').unwrap();
            (first.parse::<IpAddr>().unwrap(), count.parse::<u32>().unwrap())
        };
        match key {
            "first" => plan.next = value.parse().unwrap(),
            "vips" => plan.vips = Some(in_turn()),
            "clients" => {
                let (range, port) = value.split_once(':').unwrap();
                let (first, count) = range.split_once('/').unwrap();
                plan.clients = Some((first.parse().unwrap(), count.parse().unwrap(), port.parse().unwrap()));
            }
            "servers" => {
                let (address, port) = value.rsplit_once(':').unwrap();
                bench.servers = (address.parse().unwrap(), port.parse().unwrap());
            }
            "expiration" => bench.expiration = value.parse::<u64>().unwrap() * SECOND,
            other => panic!("{other} in {line}"),
        }
    }
    plan.v6 = bench.servers.0.is_ipv6();
    (bench, plan)
}

fn id(text: &str) -> DestinationId {
    DestinationId::from_str_radix(text, 36).unwrap()
}

fn setting(text: &str) -> Setting {
    let (server, numbers) = text.split_once(':').unwrap();
    let mut numbers = numbers.split(':').map(|n| n.parse::<u32>().unwrap());
    let mut next = || numbers.next().unwrap_or(0);
    Setting { id: id(server), weight: next(), upper: next(), lower: next() }
}

fn replay(file: &str) {
    let mut histories = 0;
    for history in file.split("\nhistory ").skip(1) {
        let (head, words) = history.split_once('\n').unwrap();
        let (mut bench, mut plan) = begin(head);
        let lines = words.lines().filter(|line| !line.starts_with('#'));
        for (at, word) in lines.flat_map(str::split_whitespace).enumerate() {
            let (kind, rest) = word.split_at(1);
            let rest = rest.strip_prefix(':').unwrap_or(rest);
            match kind {
                "+" => bench.add(setting(rest)),
                "~" => bench.edit(setting(rest)),
                "-" => bench.delete(id(rest)),
                "s" => {
                    let (name, flags) = scheduler(rest);
                    bench.change(name, flags);
                }
                "t" => bench.now += rest.parse::<u64>().unwrap() * SECOND,
                "w" => {
                    bench.now += 3 * SECOND;
                    bench.end_udp((!rest.is_empty()).then(|| id(rest)));
                }
                "a" | "i" | "u" => {
                    let kind = match kind {
                        "a" => Kind::Active,
                        "i" => Kind::Closed,
                        _ => Kind::Udp,
                    };
                    let digit = |id| char::from_digit(id, 36).unwrap();
                    let mut open = |_| bench.open(kind, &plan.request()).map_or('-', digit);
                    let got: String = rest.chars().map(&mut open).collect();
                    assert_eq!(got, rest, "word {at}, {word}, of {head}\n{words}");
                }
                _ => panic!("{word} in {head}"),
            }
        }
        histories += 1;
    }
    assert!(histories > 5, "{histories} histories");
}
