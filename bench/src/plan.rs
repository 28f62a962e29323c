//! Which rows there are: worlds with sessions, and what is offered to each.

use fulcrum_model::{Family, Forward};

use crate::world::World;

/// Whose packets are offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Direction {
    Request,
    Reply,
}

/// Of what size they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Size {
    Smallest,
    Imix,
}

impl Size {
    /// Sizes on the wire, in the order in which they come.
    pub(crate) fn wires(self) -> &'static [usize] {
        match self {
            Size::Smallest => &[64],
            Size::Imix => &[64, 594, 64, 64, 594, 64, 1518, 64, 594, 64, 594, 64],
        }
    }
}

/// A row of established sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Row {
    pub(crate) world: World,
    pub(crate) sessions: usize,
    pub(crate) direction: Direction,
    pub(crate) size: Size,
}

impl Row {
    /// Its words, of which `--only` picks some.
    pub(crate) fn name(&self) -> String {
        let World { family, forward, services, servers } = self.world;
        let direction = match self.direction {
            Direction::Request => "request",
            Direction::Reply => "reply",
        };
        let size = match self.size {
            Size::Smallest => "64b",
            Size::Imix => "imix",
        };
        let family = family.name();
        let mut name = format!("{} {direction} {} {size} {family}", word(forward), count(self.sessions));
        if services > 1 {
            name.push_str(&format!(" {services}-services"));
        }
        if servers != SERVERS {
            name.push_str(&format!(" {servers}-servers"));
        }
        name
    }
}

/// Servers of a service where nothing else is said.
pub(crate) const SERVERS: usize = 10;
pub(crate) const K: usize = 1000;
pub(crate) const M: usize = 1_000_000;

/// The name of a forwarding method.
pub(crate) fn word(forward: Forward) -> &'static str {
    match forward {
        Forward::Nat => "nat",
        Forward::FullNat => "fullnat",
        Forward::Dr => "dr",
        Forward::Tun => "tun",
        Forward::Local => "local",
    }
}

fn count(sessions: usize) -> String {
    if sessions >= M { format!("{}m", sessions / M) } else { format!("{}k", sessions / K) }
}

/// One service with ten servers.
pub(crate) const fn plain(family: Family, forward: Forward) -> World {
    World { family, forward, services: 1, servers: SERVERS }
}

/// All rows, those of one table beside each other.
pub(crate) fn rows() -> Vec<Row> {
    const METHODS: [Forward; 4] = [Forward::FullNat, Forward::Nat, Forward::Dr, Forward::Tun];
    let mut rows = Vec::new();
    let mut add = |world: World, sessions, sizes: &[Size]| {
        for &size in sizes {
            for direction in [Direction::Request, Direction::Reply] {
                // Tables of ten million take their time: one method's answers stand for all.
                let wanted = sessions <= M || world.forward == Forward::FullNat;
                if direction == Direction::Request || (world.answers_return() && wanted) {
                    rows.push(Row { world, sessions, direction, size });
                }
            }
        }
    };
    let small = [Size::Smallest];
    let both = [Size::Smallest, Size::Imix];
    for forward in METHODS {
        for sessions in [K, 64 * K] {
            add(plain(Family::V4, forward), sessions, &small);
        }
        add(plain(Family::V4, forward), M, &both);
        if forward != Forward::Tun {
            add(plain(Family::V4, forward), 10 * M, &small);
        }
        for sessions in [K, M] {
            add(plain(Family::V6, forward), sessions, &small);
        }
    }
    for forward in [Forward::FullNat, Forward::Dr] {
        add(World { services: 1000, ..plain(Family::V4, forward) }, M, &small);
        add(World { servers: 10_000, ..plain(Family::V4, forward) }, M, &small);
    }
    rows
}

/// Whether `filter` picks a row of this name: by all of its words.
pub(crate) fn picks(filter: Option<&str>, name: &str) -> bool {
    let Some(filter) = filter else { return true };
    filter.split_whitespace().all(|wanted| name.split(' ').any(|word| word.eq_ignore_ascii_case(wanted)))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_tell_rows_apart() {
        let names: HashSet<String> = rows().iter().map(Row::name).collect();
        assert_eq!(names.len(), rows().len());
        assert!(names.contains("fullnat request 1m 64b ipv4"));
        assert!(names.contains("dr request 1m 64b ipv4 1000-services"));
    }

    #[test]
    fn a_filter_picks_by_words() {
        assert!(picks(None, "anything"));
        assert!(picks(Some("1M fullnat request"), "fullnat request 1m 64b ipv4"));
        assert!(!picks(Some("nat"), "fullnat request 1m 64b ipv4"));
    }

    #[test]
    fn an_imix_is_seven_to_four_to_one() {
        let count = |wire| Size::Imix.wires().iter().filter(|w| **w == wire).count();
        assert_eq!([64, 594, 1518].map(count), [7, 4, 1]);
    }
}
