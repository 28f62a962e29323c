//! The journal of translations: what begins and ends is written down once, whoever opens and ends it.

mod harness;

use std::net::IpAddr;

use fulcrum_director::{SECOND, Translation};
use fulcrum_packet::tcp::{ACK, FIN, SYN};
use harness::*;

const SERVICE: &str = r#"
[[local-pool]]
name = "inside"
interface = "lan"
addresses = ["10.1.0.200"]
ports = "5000-5999"
[[service]]
address = "10.0.0.100:80"
protocol = "tcp"
scheduler = "rr"
local-pool = "inside"
[[service.server]]
address = "10.1.0.11:8000"
forward = "FORWARD"
"#;

fn journal(director: &mut Director) -> Vec<Translation> {
    let mut all = Vec::new();
    for engine in &mut director.engines {
        all.append(&mut engine.journal().unwrap().kept);
    }
    all
}

#[test]
fn a_fullnat_session_is_written_down_when_it_begins_and_when_it_ends() {
    for (workers, short_way) in [(1, true), (1, false), (3, true)] {
        let service = SERVICE.replace("FORWARD", "fullnat");
        let mut director = Director::with(workers, &service, |config| config.short_way = short_way);
        director.engines.iter_mut().for_each(|engine| engine.keep_journal(64));
        director.now = 5 * SECOND;
        let send = |director: &mut Director, flags| {
            director.send(0, &tcp_frame(WAN, (CLIENT, 4000), (VIP, 80), flags, b"")).remove(0)
        };
        let syn = send(&mut director, SYN);
        let begun = journal(&mut director);
        let (local, port, server, server_port) = syn.ends();
        let end = |address: std::net::Ipv4Addr, port: u16| (IpAddr::V4(address), port);
        let expected = Translation {
            at: begun[0].at,
            begins: true,
            protocol: 6,
            client: end(CLIENT, 4000),
            asked: end(VIP, 80),
            local: end(local, port),
            server: end(server, server_port),
        };
        assert_eq!(begun, [expected]);
        assert!((5 * SECOND..6 * SECOND).contains(&begun[0].at));
        send(&mut director, ACK);
        send(&mut director, FIN | ACK);
        assert_eq!(journal(&mut director), []);
        director.wait(3600 * SECOND);
        let ended = journal(&mut director);
        assert_eq!(ended, [Translation { begins: false, at: ended[0].at, ..expected }]);
    }
}

#[test]
fn what_hides_no_client_is_not_written_down() {
    let mut director = Director::new(1, &SERVICE.replace("FORWARD", "nat"));
    director.engines[0].keep_journal(64);
    director.send(0, &tcp_frame(WAN, (CLIENT, 4000), (VIP, 80), SYN, b""));
    director.wait(3600 * SECOND);
    assert_eq!(journal(&mut director), []);
}

#[test]
fn a_journal_that_nobody_empties_counts_what_it_has_no_room_for() {
    let mut director = Director::new(1, &SERVICE.replace("FORWARD", "fullnat"));
    director.engines[0].keep_journal(3);
    for port in 4000..4010 {
        director.send(0, &tcp_frame(WAN, (CLIENT, port), (VIP, 80), SYN, b""));
    }
    let journal = director.engines[0].journal().unwrap();
    assert_eq!((journal.kept.len(), journal.lost), (3, 7));
}
