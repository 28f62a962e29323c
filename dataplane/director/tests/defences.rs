//! Defences against floods, each off, on, and on while there is little room for sessions.

mod harness;

use fulcrum_director::{Event, SECOND};
use fulcrum_packet::tcp::{ACK, SYN};
use harness::*;

fn director(workers: u16, more: &str, settings: &str) -> Director {
    let service = format!(
        r#"
[ipvs]
{settings}
[[service]]
address = "10.0.0.100:80"
protocol = "tcp"
scheduler = "rr"
{more}
[[service.server]]
address = "10.1.0.11:8000"
forward = "nat"
"#
    );
    let mut director = Director::with(workers, &service, |config| config.sessions = 32);
    // Settings are looked at once a second.
    director.wait(2 * SECOND);
    director
}

fn send(director: &mut Director, port: u16, flags: u8) -> Option<Out> {
    let outs = director.send(0, &tcp_frame(WAN, (CLIENT, port), (VIP, 80), flags, b""));
    outs.into_iter().find(|out| out.port == 1)
}

fn establish(director: &mut Director, port: u16) {
    let syn = send(director, port, SYN).expect("a session");
    let (client, client_port, server, server_port) = syn.ends();
    director.send(1, &tcp_frame(LAN, (server, server_port), (client, client_port), SYN | ACK, b""));
    send(director, port, ACK);
}

/// Of so many SYNs from these ports on: which were let through.
fn offered(director: &mut Director, first: u16, count: u16) -> String {
    (first..first + count).map(|port| if send(director, port, SYN).is_some() { '+' } else { '-' }).collect()
}

fn states(director: &Director) -> Vec<(u16, &'static str)> {
    let mut all: Vec<_> = director.sessions().iter().map(|s| (s.client.1, s.state)).collect();
    all.sort();
    all
}

#[test]
fn drop_packet_drops_the_first_and_then_one_in_so_many() {
    for workers in [1, 3] {
        let mut director = director(workers, "", "drop_packet = 3\nam_droprate = 3");
        assert_eq!(offered(&mut director, 1000, 8), "-++-++-+", "{workers} workers");
        expect_drops!(director, "drop-packet": 3);
        // Packets of sessions are none of its business.
        assert!(send(&mut director, 1001, ACK).is_some());
        director.change(|state| state.settings.drop_packet = 0);
        director.wait(2 * SECOND);
        assert_eq!(offered(&mut director, 1010, 4), "++++");
    }
}

#[test]
fn drop_packet_drops_the_more_the_less_room_there_is() {
    let mut director = director(1, "", "drop_packet = 1\namemthresh = 20");
    assert_eq!(offered(&mut director, 1000, 13), "+++++++++++++");
    // 19 places are free, one less than 20: one in 20.
    director.wait(SECOND);
    assert_eq!(offered(&mut director, 1020, 3), "-++");
    // 17 are free: one in six, of those that were offered the fourth to the tenth.
    director.wait(SECOND);
    assert_eq!(offered(&mut director, 1030, 7), "+++-+++");
}

#[test]
fn drop_entry_ends_what_nobody_misses() {
    let mut director = director(1, "", "drop_entry = 3");
    establish(&mut director, 1);
    establish(&mut director, 2);
    // More packets than few.
    (0..9).for_each(|_| drop(send(&mut director, 2, ACK)));
    send(&mut director, 3, SYN);
    director.wait(50 * SECOND);
    // A half-open one goes, established ones are not quiet for long enough.
    assert_eq!(states(&director), [(1, "ESTABLISHED"), (2, "ESTABLISHED")]);
    assert_eq!(director.happened(Event::SessionDropped), 1);
    director.wait(300 * SECOND);
    assert_eq!(states(&director), [(2, "ESTABLISHED")]);
    assert_eq!(director.happened(Event::SessionDropped), 2);
    assert_eq!(director.counts(), [(1, 0, 0)]);
}

#[test]
fn drop_entry_ends_templates_that_never_led_to_an_established_session() {
    let mut director = director(1, "persistent = 3000", "drop_entry = 1\namemthresh = 31");
    let other = ([10, 0, 0, 3].into(), 1000);
    establish(&mut director, 1);
    director.send(0, &tcp_frame(WAN, other, (VIP, 80), SYN, b""));
    assert_eq!(director.sessions().len(), 4);
    director.wait(200 * SECOND);
    let left: Vec<_> = director.sessions().iter().map(|s| (s.client.0, s.state)).collect();
    assert!(left.contains(&(CLIENT.into(), "ASSURED")), "{left:?}");
    assert!(left.iter().all(|session| session.0 != other.0), "{left:?}");
}

#[test]
fn memory_that_is_not_short_needs_no_defence() {
    let mut director = director(1, "", "drop_entry = 1\ndrop_packet = 2\nsecure_tcp = 1\namemthresh = 10");
    assert_eq!(offered(&mut director, 1000, 20), "+".repeat(20));
    send(&mut director, 1000, ACK);
    assert_eq!(states(&director)[0].1, "ESTABLISHED");
    director.wait(50 * SECOND);
    assert_eq!(director.sessions().len(), 20);
    expect_drops!(director);
}

#[test]
fn secure_tcp_waits_for_both_ends() {
    for (mode, state) in [(0, "ESTABLISHED"), (3, "SYN_RECV")] {
        let mut director = director(1, "", &format!("secure_tcp = {mode}"));
        send(&mut director, 1, SYN);
        send(&mut director, 1, ACK);
        assert_eq!(states(&director), [(1, state)]);
        establish(&mut director, 2);
        send(&mut director, 2, ACK);
        let expected = if mode == 3 { "SYNACK" } else { "ESTABLISHED" };
        assert_eq!(states(&director)[1], (2, expected));
    }
}

#[test]
fn of_connections_that_errors_open_some_are_dropped_too() {
    let about = tcp_frame(WAN, (VIP, 80), (CLIENT, 40001), ACK, b"");
    let unreachable = error_frame(WAN, CLIENT, VIP, 3, 1, &about);
    let sent = |drop_packet: u8| {
        let settings = format!("schedule_icmp = true\nam_droprate = 1\ndrop_packet = {drop_packet}");
        let mut director = director(1, "", &settings);
        director.send(0, &unreachable);
        director
    };
    let opened = sent(0);
    expect_drops!(opened);
    assert_eq!(opened.sessions().len(), 1);
    let dropped = sent(3);
    expect_drops!(dropped, "drop-packet": 1);
    assert_eq!(dropped.sessions(), []);
}
