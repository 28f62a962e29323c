//! Schedulers and their models live the same random lives, and choose alike.

use std::net::{IpAddr, Ipv4Addr};

use super::super::{NAMES, Request};
use super::bench::{Bench, Kind, REQUEST, Setting};
use super::model::Model;
use crate::snapshot::DestinationId;

/// A small generator: the tests need variety, not quality.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % sides
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.roll(choices.len() as u64) as usize]
    }

    fn request(&mut self) -> Request {
        let v6 = |n: u64| IpAddr::V6(((0x2001_0db8 << 96) | (u128::from(n) * 0x1_0001_0001)).into());
        let v4 = |n: u64| Ipv4Addr::from_bits(0x0a00_0000 + n as u32).into();
        let client = self.roll(1 << 20);
        Request {
            client: if self.roll(4) == 0 { v6(client) } else { v4(client) },
            client_port: self.roll(65536) as u16,
            vip: v4(0x10_0000 + self.roll(5)),
            chance: (0..4).fold(0, |bits, _| bits << 16 | self.roll(1 << 16)),
            ..REQUEST
        }
    }

    fn setting(&mut self, id: DestinationId) -> Setting {
        let upper = self.of(&[0, 0, 0, 3, 5, 8]);
        let lower = if upper > 0 && self.roll(2) == 0 { 1 + self.roll(upper.into()) as u32 } else { 0 };
        Setting { id, weight: self.of(&[0, 1, 1, 2, 3, 4, 6, 100]), upper, lower }
    }
}

/// A bench and a model that live the same life.
struct Twins {
    bench: Bench,
    model: Model,
    udp: Vec<DestinationId>,
}

impl Twins {
    fn new(name: &str, flags: u8) -> Twins {
        Twins { bench: Bench::new(name, flags), model: Model::new(name, flags), udp: Vec::new() }
    }

    fn add(&mut self, setting: Setting) {
        self.bench.add(setting);
        self.model.add(setting, self.bench.server(setting.id));
    }

    /// An edit that changes nothing cannot be seen in lists.
    fn edit(&mut self, setting: Setting) {
        let before = self.model.server(setting.id).unwrap();
        let now = (setting.weight.into(), setting.upper.into(), setting.lower.into());
        if (before.weight, before.upper, before.lower) == now {
            return;
        }
        self.bench.edit(setting);
        self.model.edit(setting);
    }

    fn delete(&mut self, id: DestinationId) {
        self.bench.delete(id);
        self.model.delete(id);
        self.udp.retain(|&server| server != id);
    }

    fn end_udp(&mut self) {
        self.bench.end_udp(None);
        for id in std::mem::take(&mut self.udp) {
            let place = self.model.place(id);
            self.model.list[place].inactive -= 1;
            self.model.list[place].ended();
        }
    }

    /// A connection: the choice of the bench, and what the model says of it.
    fn open(&mut self, kind: Kind, request: &Request) -> (Option<DestinationId>, Option<DestinationId>) {
        let got = self.bench.open(kind, request);
        let expected = self.model.choose(request);
        if let Some(id) = got.filter(|_| got == expected) {
            let place = self.model.place(id);
            let server = &mut self.model.list[place];
            server.inactive += 1;
            server.begun();
            match kind {
                Kind::Active => {
                    server.inactive -= 1;
                    server.active += 1;
                }
                Kind::Closed => {}
                Kind::Udp => self.udp.push(id),
            }
        }
        (got, expected)
    }
}

#[test]
fn random_histories_agree_with_the_models() {
    for name in NAMES {
        let seeds = if *name == "mh" { 12 } else { 150 };
        for seed in 0..seeds {
            let mut dice = Dice(seed);
            let flags = dice.roll(4) as u8;
            let mut twins = Twins::new(name, flags);
            let mut next_id = 1;
            for step in 0..150 {
                let living: Vec<DestinationId> = twins.bench.list.iter().map(|d| d.id).collect();
                match dice.roll(10) {
                    0 if living.len() < 8 => {
                        twins.add(dice.setting(next_id));
                        next_id += 1;
                    }
                    1 if !living.is_empty() && dice.roll(2) == 0 => twins.delete(dice.of(&living)),
                    2 if !living.is_empty() => {
                        let id = dice.of(&living);
                        let setting = dice.setting(id);
                        twins.edit(setting);
                    }
                    3 if dice.roll(3) == 0 => twins.end_udp(),
                    _ => {
                        let kind = dice.of(&[Kind::Active, Kind::Closed, Kind::Udp, Kind::Udp]);
                        let (got, expected) = twins.open(kind, &dice.request());
                        assert_eq!(
                            got, expected,
                            "{name} {flags}, seed {seed}, step {step}, {:?} {}",
                            twins.model.list, twins.model.bar
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn a_thousand_connections_are_distributed_as_the_models_say() {
    for name in NAMES {
        for (weights, kind) in [
            (&[1, 1, 1][..], Kind::Active),
            (&[5, 3, 2, 0], Kind::Closed),
            (&[100, 50, 10, 1, 7], Kind::Active),
            (&[600, 300, 100], Kind::Udp),
        ] {
            let mut dice = Dice(1000);
            let mut twins = Twins::new(name, 0);
            for (id, &weight) in (1..).zip(weights) {
                twins.add(Setting { id, weight, upper: 0, lower: 0 });
            }
            let mut counts = vec![0u32; weights.len()];
            for n in 0..1000 {
                let (got, expected) = twins.open(kind, &dice.request());
                assert_eq!(got, expected, "{name} {weights:?} {kind:?}, connection {n}");
                if let Some(id) = got {
                    counts[id as usize - 1] += 1;
                }
            }
            let total: u32 = weights.iter().sum();
            let share = |weight: &u32| weight * 1000 / total;
            match *name {
                // In proportion, to one round or to half a server.
                "wrr" => {
                    let rounds = total;
                    for (count, weight) in counts.iter().zip(weights) {
                        assert!(count.abs_diff(share(weight)) <= rounds, "wrr {weights:?}: {counts:?}");
                    }
                }
                "wlc" => {
                    for (count, weight) in counts.iter().zip(weights) {
                        assert!(count.abs_diff(share(weight)) <= 2, "wlc {weights:?}: {counts:?}");
                    }
                }
                "rr" | "lc" => {
                    let chosen: Vec<u32> = counts.iter().copied().filter(|&n| n > 0).collect();
                    let even = chosen.iter().max().unwrap() - chosen.iter().min().unwrap();
                    assert!(even <= 1, "{name} {weights:?}: {counts:?}");
                }
                "mh" | "twos" => {
                    for (count, weight) in counts.iter().zip(weights) {
                        let off = count.abs_diff(share(weight));
                        assert!(off <= 80, "{name} {weights:?}: {counts:?}");
                    }
                }
                _ => {}
            }
        }
    }
}
