//! A director that takes the place of one that has ended: servers still have the connections of that one.

mod harness;

use std::collections::BTreeMap;

use fulcrum_director::{InitialNumbers, SECOND};
use fulcrum_packet::tcp::SYN;
use harness::both::*;
use harness::segments::{End, Segment};
use harness::*;

/// Opens connections and gives the initial number of each local end.
fn open(family: &str, ports: &str, numbers: InitialNumbers, count: u16) -> BTreeMap<End, u32> {
    let (client, vip, server, pool) = match family {
        "IPv4" => ("10.0.0.2", "10.0.0.100", "10.1.0.11:80", "inside"),
        _ => ("fd00:1::2", "fd00:1::100", "[fd00:2::11]:80", "inside6"),
    };
    let (vip, colon) = (end(vip, 80), if vip.contains(':') { format!("[{vip}]") } else { vip.to_owned() });
    let more = service(&format!("{colon}:80"), "tcp", server, "fullnat", &format!("local-pool = \"{pool}\""));
    let more = more.replace(
        "addresses = [\"10.1.0.200\"]",
        &format!("addresses = [\"10.1.0.200\"]\nports = \"{ports}\""),
    );
    let more = more.replace(
        "addresses = [\"fd00:2::200\"]",
        &format!("addresses = [\"fd00:2::200\"]\nports = \"{ports}\""),
    );
    let mut director = Director::with(2, &more, |config| config.numbers = numbers);
    let syns = (0..count).map(|nth| {
        let src = end(client, 20_000 + nth);
        let syn = Segment { src, dst: vip, seq: 77, ack: 0, flags: SYN, options: vec![], data: vec![] };
        let seen = director.at_server(&syn);
        (seen.src, seen.seq)
    });
    syns.collect()
}

#[test]
fn its_connections_are_new_ones_to_servers_that_have_those_of_its_predecessor() {
    let first = InitialNumbers { secret: [5, 6], epoch: 1000 * SECOND };
    // It lived for a minute less than servers remember.
    let second = InitialNumbers { epoch: 1059 * SECOND, ..first };
    for family in ["IPv4", "IPv6"] {
        let before = open(family, "5000-5099", first, 50);
        let after = open(family, "5000-5099", second, 80);
        let both: Vec<_> =
            after.iter().filter_map(|(end, number)| Some((*number, *before.get(end)?))).collect();
        assert!(both.len() >= 20, "{family}: {}", both.len());
        for (number, remembered) in both {
            let ahead = number.wrapping_sub(remembered);
            assert!(ahead > 0 && ahead < 1 << 31, "{family}: {number} after {remembered}");
        }
    }
}

#[test]
fn it_begins_at_other_ports_than_its_predecessor() {
    let of_seed = InitialNumbers::of_seed(7);
    for family in ["IPv4", "IPv6"] {
        let before = open(family, "1024-65535", of_seed, 50);
        let after = open(family, "1024-65535", InitialNumbers { epoch: 1000 * SECOND + 1, ..of_seed }, 50);
        assert!(before.keys().all(|end| !after.contains_key(end)), "{family}");
    }
}
