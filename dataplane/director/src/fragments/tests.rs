use std::net::{Ipv4Addr, Ipv6Addr};
use std::rc::Rc;

use proptest::prelude::*;

use super::*;

const NOW: Nanos = 1000 * SECOND;

type Table = Fragments<u16, u32>;

fn v4(host: u8, id: u32) -> Key {
    let (src, dst) = (Ipv4Addr::new(10, 0, 0, host), Ipv4Addr::new(10, 0, 0, 100));
    Key { src: src.into(), dst: dst.into(), id, protocol: 17 }
}

fn v6(host: u16, id: u32) -> Key {
    let address = |last| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last);
    Key { src: address(host).into(), dst: address(0x100).into(), id, protocol: 0 }
}

/// A datagram of `length` bytes in fragments of `size`.
fn pieces(length: u32, size: u32) -> Vec<Piece> {
    (0..length.div_ceil(size))
        .map(|n| Piece { start: n * size, end: length.min((n + 1) * size), more: (n + 1) * size < length })
        .collect()
}

/// Gives a fragment, named by its offset, to the table; tells which go on now.
fn give(table: &mut Table, key: &Key, piece: Piece, now: Nanos) -> Result<Vec<u32>, Refusal> {
    let mut out = Vec::new();
    if piece.start == 0 {
        table.first(key, piece, 5001, now, &mut out)?;
        out.insert(0, 0);
        return Ok(out);
    }
    match table.later(key, piece, piece.start, now) {
        Later::Ready(info, buf) => {
            assert_eq!(info, 5001);
            out.push(buf);
            Ok(out)
        }
        Later::Held => Ok(out),
        Later::Refused(refusal, _) => Err(refusal),
    }
}

/// Nothing is left, every place is free again.
fn assert_clean<B>(table: &mut Fragments<u16, B>) {
    while table.discarded(u64::MAX, &mut 1000).is_some() {}
    assert!(table.is_empty() && (table.oldest, table.newest) == (NONE, NONE));
    assert!(table.buckets.iter().all(|&bucket| bucket == NONE));
    assert!(table.shares.iter().all(|share| share.datagrams == 0 && share.held == 0));
    let mut list = List::default();
    for n in 0..8 {
        assert!(table.held.discarded().is_none() && !table.held.is_full(), "place {n}");
    }
    assert_eq!(table.held.discard(&mut list, Refusal::TimedOut), 0);
}

#[test]
fn in_order_each_goes_on_at_once_and_the_whole_is_forgotten() {
    let mut table = Table::new(Limits::default(), 7);
    for key in [v4(2, 0x7777), v6(2, 0x7777)] {
        for piece in pieces(3008, 1480) {
            assert_eq!(give(&mut table, &key, piece, NOW), Ok(vec![piece.start]));
        }
        assert!(table.is_empty());
        // So the same identification can be used again at once.
        assert_eq!(give(&mut table, &key, pieces(3008, 1480)[0], NOW), Ok(vec![0]));
        table.forget(table.oldest, Refusal::TimedOut);
    }
    assert_clean(&mut table);
}

#[test]
fn reversed_they_wait_for_the_first_and_go_on_in_order() {
    let mut table = Table::new(Limits::default(), 7);
    let mut reversed = pieces(108, 40);
    reversed.reverse();
    assert_eq!(give(&mut table, &v4(2, 1), reversed[0], NOW), Ok(vec![]));
    assert_eq!(give(&mut table, &v4(2, 1), reversed[1], NOW + 1), Ok(vec![]));
    // Another datagram in between, from the same sender.
    assert_eq!(give(&mut table, &v4(2, 2), reversed[0], NOW + 1), Ok(vec![]));
    assert_eq!(give(&mut table, &v4(2, 1), reversed[2], NOW + 2), Ok(vec![0, 40, 80]));
    assert_eq!(table.len(), 1);
    assert_clean(&mut table);
}

#[test]
fn a_duplicate_is_harmless() {
    for key in [v4(2, 1), v6(2, 1)] {
        let mut table = Table::new(Limits::default(), 7);
        let all = pieces(108, 40);
        for piece in [all[2], all[0]] {
            assert!(give(&mut table, &key, piece, NOW).is_ok());
            assert_eq!(give(&mut table, &key, piece, NOW), Err(Refusal::Duplicate));
        }
        assert_eq!(give(&mut table, &key, all[1], NOW), Ok(vec![40]));
        assert_clean(&mut table);
    }
}

#[test]
fn an_overlap_ends_a_datagram() {
    let all = pieces(168, 40);
    let piece = |start, end, more| Piece { start, end, more };
    for bad in [
        piece(32, 80, true),
        piece(48, 72, true),
        piece(40, 88, true),
        piece(40, 80, false),
        piece(120, 152, false),
        piece(160, 176, false),
        piece(168, 176, true),
        piece(160, 168, true),
    ] {
        let mut table = Table::new(Limits::default(), 7);
        for key in [v4(2, 1), v6(2, 1)] {
            for seen in [all[4], all[1], all[0]] {
                assert!(give(&mut table, &key, seen, NOW).is_ok());
            }
            assert_eq!(give(&mut table, &key, bad, NOW), Err(Refusal::Overlap), "{bad:?}");
        }
        // IPv4 has forgotten it: what comes now waits for another first one.
        assert_eq!(give(&mut table, &v4(2, 1), all[2], NOW), Ok(vec![]));
        assert_eq!(give(&mut table, &v4(2, 1), all[0], NOW), Ok(vec![0, 80]));
        // IPv6 lets nothing through, until its time is over.
        assert_eq!(give(&mut table, &v6(2, 1), all[2], NOW), Err(Refusal::Overlap));
        assert_eq!(give(&mut table, &v6(2, 1), all[0], NOW), Err(Refusal::Overlap));
        assert_eq!(give(&mut table, &v6(2, 1), all[0], NOW + LIFETIME), Ok(vec![0]));
        assert_clean(&mut table);
    }
}

#[test]
fn an_overlap_discards_those_that_wait() {
    for key in [v4(2, 1), v6(2, 1)] {
        let mut table = Table::new(Limits::default(), 7);
        let all = pieces(168, 40);
        assert_eq!(give(&mut table, &key, all[1], NOW), Ok(vec![]));
        assert_eq!(give(&mut table, &key, all[3], NOW), Ok(vec![]));
        let over = Piece { start: 72, end: 128, more: true };
        assert_eq!(give(&mut table, &key, over, NOW), Err(Refusal::Overlap));
        let mut discarded = std::iter::from_fn(|| table.discarded(NOW, &mut 9)).collect::<Vec<_>>();
        discarded.sort_by_key(|&(buf, _)| buf);
        assert_eq!(discarded, [(40, Refusal::Overlap), (120, Refusal::Overlap)]);
        assert_clean(&mut table);
    }
}

#[test]
fn contradictory_fragments_are_refused_alone() {
    let mut table = Table::new(Limits::default(), 7);
    let refused = |table: &mut Table, start, end, more| {
        give(table, &v4(2, 1), Piece { start, end, more }, NOW).unwrap_err()
    };
    assert_eq!(refused(&mut table, 0, 0, true), Refusal::Tiny);
    assert_eq!(refused(&mut table, 0, 4, true), Refusal::Tiny);
    assert_eq!(refused(&mut table, 0, 12, true), Refusal::Malformed);
    assert_eq!(refused(&mut table, 8, 8, false), Refusal::Malformed);
    assert_eq!(refused(&mut table, 12, 20, false), Refusal::Malformed);
    assert_eq!(refused(&mut table, 65_528, 65_536, false), Refusal::Malformed);
    assert!(table.is_empty());
    let mut table = Table::new(Limits::default(), 7);
    for piece in pieces(65 * 8, 8).into_iter().take(MAX_PIECES) {
        assert!(give(&mut table, &v4(2, 1), piece, NOW).is_ok());
    }
    assert_eq!(refused(&mut table, 512, 520, false), Refusal::TooManyPieces);
    assert_clean(&mut table);
}

#[test]
fn what_waits_in_vain_is_given_back_in_time() {
    let mut table = Table::new(Limits::default(), 7);
    let all = pieces(108, 40);
    give(&mut table, &v4(2, 1), all[1], NOW).unwrap();
    give(&mut table, &v4(3, 1), all[2], NOW + SECOND).unwrap();
    assert_eq!(table.discarded(NOW + LIFETIME - 1, &mut 9), None);
    assert_eq!(table.discarded(NOW + LIFETIME, &mut 9), Some((40, Refusal::TimedOut)));
    assert_eq!(table.discarded(NOW + LIFETIME, &mut 9), None);
    // A first fragment that comes too late opens a new datagram, whether or not somebody has cleaned up.
    assert_eq!(give(&mut table, &v4(3, 1), all[0], NOW + SECOND + LIFETIME), Ok(vec![0]));
    assert_eq!(table.discarded(NOW + SECOND + LIFETIME, &mut 9), Some((80, Refusal::TimedOut)));
    assert_clean(&mut table);
}

#[test]
fn a_flood_of_one_source_leaves_room_for_others() {
    let mut table = Table::new(Limits { datagrams: 64, held: 64 }, 7);
    let all = pieces(108, 40);
    let flood = |table: &mut Table, piece| {
        (0..1000).filter(|&id| give(table, &v4(2, id), piece, NOW).is_ok()).count()
    };
    assert_eq!(flood(&mut table, all[1]), 8);
    for piece in [all[2], all[1]] {
        assert_eq!(give(&mut table, &v6(9, 1), piece, NOW), Ok(vec![]));
    }
    assert_eq!(give(&mut table, &v6(9, 1), all[0], NOW), Ok(vec![0, 40, 80]));
    assert_eq!(give(&mut table, &v4(2, 5000), all[0], NOW), Err(Refusal::SourceLimit));
    assert_eq!(give(&mut table, &v4(2, 5000), all[0], NOW + LIFETIME), Err(Refusal::SourceLimit));
    while table.discarded(NOW + LIFETIME, &mut 9).is_some() {}
    assert_eq!(flood(&mut table, all[0]), 8);
    assert_clean(&mut table);
}

#[test]
fn a_flood_of_many_sources_forgets_the_oldest_first() {
    let mut table = Table::new(Limits { datagrams: 64, held: 64 }, 7);
    let all = pieces(108, 40);
    // A first fragment whose others never come, from ever new senders; in between an honest one.
    for n in 0..10_000u32 {
        let address = Ipv4Addr::from_bits(0x0b00_0000 + n);
        let key = Key { src: address.into(), ..v4(0, n) };
        let _ = give(&mut table, &key, all[0], NOW);
        for (piece, out) in [(all[2], vec![]), (all[0], vec![0, 80]), (all[1], vec![40])] {
            assert_eq!(give(&mut table, &v4(2, n), piece, NOW), Ok(out));
        }
        assert!(table.len() <= 64);
    }
    // Later ones whose first one never comes may only take the places to wait.
    for n in 0..10_000u32 {
        let address = Ipv4Addr::from_bits(0x0c00_0000 + n);
        let key = Key { src: address.into(), ..v4(0, n) };
        let _ = give(&mut table, &key, all[1], NOW);
        while table.discarded(NOW, &mut 9).is_some() {}
        assert_eq!(give(&mut table, &v4(2, n), all[0], NOW), Ok(vec![0]));
        assert_eq!(give(&mut table, &v4(2, n), all[1], NOW), Ok(vec![40]));
        assert_eq!(give(&mut table, &v4(2, n), all[2], NOW), Ok(vec![80]));
    }
    assert_clean(&mut table);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the order of however many interleaved datagrams, and with duplicates: every fragment goes on
    /// exactly once, not before its first one.
    #[test]
    fn every_fragment_goes_on_once(
        lengths in prop::collection::vec((1500u32..20_000, 0usize..2), 1..6),
        size in prop::sample::select(vec![552u32, 1232, 1480]),
        order in prop::collection::vec(any::<prop::sample::Index>(), 400),
    ) {
        let mut table = Table::new(Limits { held: 4096, ..Limits::default() }, 7);
        let mut left = Vec::new();
        for (n, &(length, family)) in lengths.iter().enumerate() {
            let key = if family == 0 { v4(2, n as u32) } else { v6(2, n as u32) };
            left.extend(pieces(length, size).into_iter().map(|piece| (key, piece)));
        }
        let total = left.len();
        let mut passed = Vec::new();
        let mut order = order.into_iter();
        while !left.is_empty() {
            let at = order.next().map_or(0, |index| index.index(left.len()));
            let (key, piece) = left.swap_remove(at);
            let out = give(&mut table, &key, piece, NOW).unwrap();
            prop_assert!(out.is_empty() || piece.start == 0 || passed.contains(&(key.id, 0)));
            passed.extend(out.into_iter().map(|start| (key.id, start)));
            if left.iter().any(|(other, _)| *other == key) {
                prop_assert_eq!(give(&mut table, &key, piece, NOW), Err(Refusal::Duplicate));
            }
        }
        passed.sort_unstable();
        passed.dedup();
        prop_assert_eq!(passed.len(), total);
        prop_assert!(table.is_empty());
        assert_clean(&mut table);
    }

    /// Whatever comes, no buffer is lost or doubled, limits hold, and all places come back.
    #[test]
    fn nothing_leaks(
        steps in prop::collection::vec(
            (0u32..12, 0u32..6, 0u32..10, 1u32..40, any::<bool>(), 0u64..SECOND / 4), 1..400
        ),
    ) {
        let mut table: Fragments<u16, Rc<()>> = Fragments::new(Limits { datagrams: 16, held: 16 }, 3);
        let buffer = Rc::new(());
        let mut now = NOW;
        let (mut held, mut came_back) = (0u32, 0u32);
        for (host, id, unit, length, more, pause) in steps {
            now += pause;
            let key = if host % 2 == 0 { v4(host as u8, id) } else { v6(host as u16, id) };
            let piece = Piece { start: unit * 8, end: unit * 8 + length, more };
            let mut ready = Vec::new();
            if unit == 0 {
                let _ = table.first(&key, piece, 1, now, &mut ready);
                came_back += ready.len() as u32;
            } else if table.later(&key, piece, Rc::clone(&buffer), now) == Later::Held {
                held += 1;
            }
            drop(ready);
            if pause % 2 == 0 {
                while table.discarded(now, &mut 3).is_some() {
                    came_back += 1;
                }
            }
            prop_assert!(table.len() <= 16 && held - came_back <= 16);
            prop_assert_eq!(Rc::strong_count(&buffer) as u32, 1 + held - came_back);
        }
        assert_clean(&mut table);
        prop_assert_eq!(Rc::strong_count(&buffer), 1);
    }
}
