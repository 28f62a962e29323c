//! What ends before its time: sessions that make room for others, and those of one-packet services.

mod harness;

use fulcrum_director::{Event, SECOND};
use fulcrum_packet::ipv4;
use fulcrum_packet::tcp::{ACK, FIN, RST, SYN};
use harness::*;

fn service(protocol: &str, forward: &str, more: &str) -> String {
    format!(
        r#"
[[local-pool]]
name = "inside"
interface = "lan"
addresses = ["10.1.0.200"]
ports = "5000-5002"
[[service]]
address = "10.0.0.100:80"
protocol = "{protocol}"
scheduler = "rr"
local-pool = "inside"
{more}
[[service.server]]
address = "10.1.0.11:8000"
forward = "{forward}"
"#
    )
}

fn send(director: &mut Director, port: u16, flags: u8) -> Option<Out> {
    let outs = director.send(0, &tcp_frame(WAN, (CLIENT, port), (VIP, 80), flags, b""));
    outs.iter().for_each(check_sums);
    outs.into_iter().next()
}

fn answer(director: &mut Director, to: &Out, flags: u8) {
    let (client, client_port, server, server_port) = to.ends();
    let outs = director.send(1, &tcp_frame(LAN, (server, server_port), (client, client_port), flags, b""));
    assert_eq!(outs.len(), 1, "{:?}", director.drops());
}

fn establish(director: &mut Director, port: u16) -> Out {
    let syn = send(director, port, SYN).expect("room");
    answer(director, &syn, SYN | ACK);
    send(director, port, ACK);
    syn
}

/// Both ends close: TIME_WAIT.
fn close(director: &mut Director, port: u16, syn: &Out) {
    send(director, port, FIN | ACK);
    answer(director, syn, FIN | ACK);
    send(director, port, ACK);
}

/// Client ports of the sessions, with the first letters of their states.
fn sessions(director: &Director) -> Vec<(u16, &'static str)> {
    let mut all: Vec<_> = director.sessions().iter().map(|s| (s.client.1, s.state)).collect();
    all.sort();
    all
}

#[test]
fn the_most_dispensable_session_makes_room_oldest_first() {
    for forward in ["nat", "fullnat"] {
        let mut director =
            Director::with(1, &service("tcp", forward, "").replace("5002", "5999"), |c| c.sessions = 6);
        send(&mut director, 1, SYN);
        let two = establish(&mut director, 2);
        let three = establish(&mut director, 3);
        let four = establish(&mut director, 4);
        establish(&mut director, 5);
        send(&mut director, 6, SYN);
        close(&mut director, 4, &four);
        send(&mut director, 5, FIN | ACK);
        close(&mut director, 2, &two);
        let states = sessions(&director);
        let expected = [
            (1, "SYN_RECV"),
            (2, "TIME_WAIT"),
            (3, "ESTABLISHED"),
            (4, "TIME_WAIT"),
            (5, "CLOSE_WAIT"),
            (6, "SYN_RECV"),
        ];
        assert_eq!(states, expected);
        // Closed ones in the order in which they closed, then closing ones, then those that have not come about.
        for (new, gone) in [(10, 4), (11, 2), (12, 5), (13, 1), (14, 6)] {
            establish(&mut director, new);
            let left = sessions(&director);
            assert!(left.iter().all(|&(port, _)| port != gone), "{new} for {gone}: {left:?}");
            assert_eq!(left.len(), 6);
        }
        assert_eq!(director.happened(Event::SessionReclaimed), 5);
        expect_drops!(director);
        // Established ones stay.
        assert_eq!(send(&mut director, 30, SYN), None);
        expect_drops!(director, "sessions-full": 1);
        assert_eq!(director.counts(), [(6, 0, 0)]);
        // One that is over in between is not asked any more.
        close(&mut director, 3, &three);
        director.wait(121 * SECOND);
        assert_eq!(director.counts(), [(5, 0, 0)]);
        send(&mut director, 31, SYN);
        assert_eq!(director.happened(Event::SessionReclaimed), 5);
    }
}

#[test]
fn a_full_pool_takes_the_port_of_a_session_that_is_closed() {
    let mut director = Director::new(1, &service("tcp", "fullnat", ""));
    let syns: Vec<Out> = (1..=3).map(|port| establish(&mut director, port)).collect();
    assert_eq!(send(&mut director, 4, SYN), None);
    expect_drops!(director, "local-ports-exhausted": 1);
    director.now += SECOND;
    close(&mut director, 3, &syns[2]);
    director.now += SECOND;
    close(&mut director, 1, &syns[0]);
    // Of those that are closed, the one that has its port longest gives it up.
    let port = |out: &Out| out.ends().1;
    let four = establish(&mut director, 4);
    assert_eq!(port(&four), port(&syns[0]));
    let five = establish(&mut director, 5);
    assert_eq!(port(&five), port(&syns[2]));
    assert_eq!(director.happened(Event::LocalPortReclaimed), 2);
    assert_eq!(director.counts(), [(3, 0, 0)]);
    let all: Vec<u16> = sessions(&director).iter().map(|s| s.0).collect();
    assert_eq!(all, [2, 4, 5]);
    // Sessions that broke off are as good.
    send(&mut director, 2, RST);
    assert_eq!(port(&establish(&mut director, 6)), port(&syns[1]));
    expect_drops!(director, "local-ports-exhausted": 1);
}

#[test]
fn a_flood_of_syns_takes_nobody_elses_place() {
    let mut director = Director::with(1, &service("tcp", "nat", ""), |config| config.sessions = 10);
    (1..=5).for_each(|port| drop(establish(&mut director, port)));
    (100..300).for_each(|port| drop(send(&mut director, port, SYN).expect("room")));
    (1..=5).for_each(|port| drop(send(&mut director, port, ACK).expect("a session")));
    assert_eq!(director.counts(), [(10, 0, 0)]);
    assert_eq!(director.happened(Event::SessionReclaimed), 195);
}

fn datagram(director: &mut Director, port: u16, data: &[u8]) -> Vec<Out> {
    let outs = director.send(0, &udp_frame(WAN, (CLIENT, port), (VIP, 80), data));
    outs.iter().for_each(check_sums);
    outs
}

const SECOND_SERVER: &str = r#"
[[service.server]]
address = "10.1.0.12:8000"
forward = "nat"
"#;

#[test]
fn a_one_packet_service_schedules_every_datagram() {
    for workers in [1, 3] {
        let mut director = Director::new(workers, &(service("udp", "nat", "") + SECOND_SERVER));
        director.change(|state| state.services[0].one_packet = true);
        let servers: Vec<_> = (0..4).map(|_| datagram(&mut director, 7, b"question")[0].ends().2).collect();
        assert_eq!(servers, [SERVER_B, SERVER_A, SERVER_B, SERVER_A]);
        assert_eq!((director.sessions().len(), director.counts()), (0, vec![(0, 0, 0); 2]));
        assert_eq!(director.happened(Event::SessionCreated), 4);
        assert_eq!(director.happened(Event::SessionOfOnePacket), 4);
        // Nobody translates answers.
        let answer = udp_frame(LAN, (SERVER_A, 8000), (CLIENT, 7), b"answer");
        assert_eq!(director.send(1, &answer)[0].ends(), (SERVER_A, 8000, CLIENT, 7));
        expect_drops!(director);
        // What it was before goes on, what it is now does not.
        director.change(|state| state.services[0].one_packet = false);
        datagram(&mut director, 7, b"question");
        assert_eq!(director.sessions().len(), 1);
    }
}

#[test]
fn a_one_packet_datagram_in_pieces_stays_together() {
    let mut director = Director::new(1, &(service("udp", "nat", "") + SECOND_SERVER));
    director.change(|state| state.services[0].one_packet = true);
    let whole = udp_frame(WAN, (CLIENT, 7), (VIP, 80), &[7; 40]);
    let piece = |range: std::ops::Range<usize>, id: u8| {
        let body = &whole[34..][range.clone()];
        let more = if range.end < 48 { ipv4::MF } else { 0 };
        with_ip(frame(WAN, CLIENT, VIP, ipv4::UDP, body), |ip| {
            ip[5] = id;
            ip[6..8].copy_from_slice(&((range.start / 8) as u16 | more).to_be_bytes());
        })
    };
    let mut servers = Vec::new();
    for id in [1, 2] {
        for range in [0..24, 24..48] {
            let outs = director.send(0, &piece(range, id));
            servers.extend(outs.iter().map(|out| out.ip().dst()));
        }
    }
    assert_eq!(servers, [SERVER_B, SERVER_B, SERVER_A, SERVER_A]);
    assert_eq!(director.sessions().len(), 1);
    director.wait(4 * SECOND);
    assert_eq!((director.sessions().len(), director.counts()), (0, vec![(0, 0, 0); 2]));
    expect_drops!(director);
}

#[test]
fn a_persistent_one_packet_service_keeps_its_template() {
    let mut director = Director::new(1, &(service("udp", "nat", "persistent = 60") + SECOND_SERVER));
    director.change(|state| state.services[0].one_packet = true);
    for port in 7..10 {
        assert_eq!(datagram(&mut director, port, b"question")[0].ends().2, SERVER_B);
    }
    assert_eq!(director.counts(), [(0, 0, 0), (0, 0, 1)]);
    director.wait(62 * SECOND);
    assert_eq!(director.sessions(), []);
}

#[test]
fn a_fullnat_server_of_a_one_packet_service_can_answer() {
    let mut director = Director::new(1, &service("udp", "fullnat", ""));
    director.change(|state| state.services[0].one_packet = true);
    let (local, local_port, server, server_port) = datagram(&mut director, 7, b"question")[0].ends();
    let answer = udp_frame(LAN, (server, server_port), (local, local_port), b"answer");
    assert_eq!(director.send(1, &answer)[0].ends(), (VIP, 80, CLIENT, 7));
}

#[test]
fn room_is_made_as_often_as_there_is_time() {
    let mut director = Director::with(1, &service("tcp", "nat", ""), |c| c.sessions = 100);
    (101..=120).for_each(|port| _ = establish(&mut director, port));
    let mut next = 1000;
    let mut flood = |director: &mut Director, count: u16| {
        let syns: Vec<_> = (next..next + count)
            .map(|port| (0, tcp_frame(WAN, (CLIENT, port), (VIP, 80), SYN, b"")))
            .collect();
        next += count;
        let sent = director.send_burst(0, &syns).len();
        (sent, director.happened(Event::SessionReclaimed))
    };
    assert_eq!(flood(&mut director, 80), (80, 0));
    // What was saved up, then one for each burst.
    assert_eq!(flood(&mut director, 200), (64, 64));
    for burst in 1..=10 {
        assert_eq!(flood(&mut director, 60), (1, 64 + burst));
    }
    // Behind a full burst more wait: of two one makes room.
    for pair in 1..=5 {
        assert_eq!(flood(&mut director, 64).0 + flood(&mut director, 64).0, 1, "{pair}");
    }
    expect_drops!(director, "sessions-full": 136 + 590 + 635);
    // With time to spare there is room for all.
    (0..64).for_each(|_| _ = send(&mut director, 101, ACK));
    assert_eq!(flood(&mut director, 60), (60, 64 + 10 + 5 + 60));
    let established = sessions(&director).iter().filter(|(_, state)| *state == "ESTABLISHED").count();
    assert_eq!(established, 20);
}
