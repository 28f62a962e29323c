//! FTP behind NAT and FULLNAT, in both families: control connections, the data connections that they announce,
//! numbers on both sides.

mod harness;

use std::net::IpAddr;

use fulcrum_director::{Event, SECOND};
use fulcrum_packet::tcp::{ACK, FIN, PSH, RST, SYN};
use harness::both::SIX;
use harness::segments::*;
use harness::*;

const PASV: &[u8] = b"227 Entering Passive Mode (10,1,0,11,156,64).\r\n";

fn director(workers: u16, v6: bool, forward: &str) -> Director {
    let (vip, server, pool) = match v6 {
        true => ("[fd00:1::100]:21", "[fd00:2::11]:21", "fd00:2::200"),
        false => ("10.0.0.100:21", "10.1.0.11:21", "10.1.0.200"),
    };
    let more = format!(
        r#"{}
[[local-pool]]
name = "inside"
interface = "lan{}"
addresses = ["{pool}"]
ports = "5000-5099"
[[service]]
address = "{vip}"
protocol = "tcp"
scheduler = "rr"
local-pool = "inside"
[[service.server]]
address = "{server}"
forward = "{forward}"
"#,
        if v6 { SIX } else { "" },
        if v6 { "6" } else { "" },
    );
    Director::with(workers, &more, |config| config.misdirect = workers > 1)
}

fn client(v6: bool, port: u16) -> End {
    (if v6 { "fd00:1::2".parse().unwrap() } else { IpAddr::V4(CLIENT) }, port)
}

fn vip(v6: bool, port: u16) -> End {
    (if v6 { "fd00:1::100".parse().unwrap() } else { IpAddr::V4(VIP) }, port)
}

fn server(v6: bool, port: u16) -> End {
    (if v6 { "fd00:2::11".parse().unwrap() } else { IpAddr::V4(SERVER_A) }, port)
}

fn text(segment: &Segment) -> String {
    String::from_utf8(segment.data.clone()).unwrap()
}

fn syn(src: End, dst: End) -> Segment {
    Segment { src, dst, seq: 1000, ack: 0, flags: SYN, options: vec![], data: vec![] }
}

/// What each test is run with: workers, and the method.
fn each(test: impl Fn(u16, &str)) {
    for workers in [1, 3] {
        for forward in ["nat", "fullnat"] {
            test(workers, forward);
        }
    }
}

fn states(director: &Director) -> Vec<String> {
    let mut all: Vec<_> = director
        .sessions()
        .iter()
        .map(|s| format!("{} {}:{} {}:{}", s.state, s.client.0, s.client.1, s.vip.0, s.vip.1))
        .collect();
    all.sort();
    all
}

#[test]
fn a_passive_connection_goes_to_the_vip_and_by_it_to_the_server() {
    each(|workers, forward| {
        let mut director = director(workers, false, forward);
        let (mut talk, _) = Conversation::open(&mut director, client(false, 40021), vip(false, 21), &[]);
        assert_eq!(text(&director.at_server(&talk.ask(PSH, b"PASV\r\n"))), "PASV\r\n");
        talk.server.ack = talk.server.ack.wrapping_add(6);
        let answer = talk.answer(PSH, PASV);
        for _ in 0..2 {
            let seen = director.at_client(&answer);
            assert_eq!(text(&seen), "227 Entering Passive Mode (10,0,0,100,156,64).\r\n");
            assert_eq!((seen.seq, seen.ack), (5001, 1007), "sent once, and again");
        }
        assert_eq!(
            states(&director),
            ["ESTABLISHED 10.0.0.2:40021 10.0.0.100:21", "LISTEN 10.0.0.2:0 10.0.0.100:40000"]
        );
        // One byte more: what comes behind is numbered so, and what is acknowledged.
        let behind = director.at_client(&talk.answer(PSH, b"150 here\r\n"));
        assert_eq!(behind.seq, 5049);
        talk.client.ack = 5059;
        assert_eq!(director.at_server(&talk.ask(0, b"")).ack, 5058);
        let (mut data, [first, answer, _]) =
            Conversation::open(&mut director, client(false, 40022), vip(false, 40000), &[]);
        assert_eq!(first.dst, server(false, 40000));
        assert_eq!(first.src == client(false, 40022), forward == "nat");
        assert_eq!(answer.src, vip(false, 40000));
        assert_eq!(text(&director.at_client(&data.answer(PSH, b"file"))), "file");
        // The place is taken; nobody else was announced.
        let (refused, _) = director.tcp(&syn(client(false, 40023), vip(false, 40000)), true);
        assert_eq!(refused.len(), 1);
        assert_eq!(director.counts(), [(2, 0, 0)]);
        assert_eq!(director.happened(Event::FtpDataExpected), 1);
        // The control session outlives its own time-out with its data.
        for end in [&mut talk, &mut data] {
            director.at_server(&end.ask(RST, b""));
        }
        director.wait(200 * SECOND);
        assert_eq!((director.sessions(), director.counts()), (vec![], vec![(0, 0, 0)]));
    });
}

#[test]
fn an_active_connection_comes_from_the_vip_to_where_the_client_said() {
    each(|workers, forward| {
        let mut director = director(workers, false, forward);
        let (mut talk, _) = Conversation::open(&mut director, client(false, 40021), vip(false, 21), &[]);
        let command = talk.ask(PSH, b"PORT 10,0,0,2,156,65\r\n");
        let told = text(&director.at_server(&command));
        let numbers: Vec<u16> = told[5..told.len() - 2].split(',').map(|n| n.parse().unwrap()).collect();
        let local = (
            IpAddr::from([numbers[0] as u8, numbers[1] as u8, numbers[2] as u8, numbers[3] as u8]),
            numbers[4] * 256 + numbers[5],
        );
        assert_eq!(local == client(false, 40001), forward == "nat", "{told}");
        let growth = told.len() as u32 - 22;
        assert_eq!(text(&director.at_server(&command)), told, "sent again");
        let quit = director.at_server(&talk.ask(PSH, b"QUIT\r\n"));
        assert_eq!(quit.seq.wrapping_sub(talk.server.ack), 22 + growth);
        talk.server.ack = quit.seq.wrapping_add(6);
        assert_eq!(director.at_client(&talk.answer(PSH, b"200 ok\r\n")).ack, 1029);
        let opened = director.at_client(&Segment { seq: 7000, ..syn(server(false, 20), local) });
        assert_eq!((opened.src, opened.dst, opened.seq), (vip(false, 20), client(false, 40001), 7000));
        let answer =
            Segment { seq: 9000, ack: 7001, flags: SYN | ACK, ..syn(client(false, 40001), vip(false, 20)) };
        let seen = director.at_server(&answer);
        assert_eq!((seen.src, seen.dst, seen.seq, seen.ack), (local, server(false, 20), 9000, 7001));
        let data = Segment {
            seq: 7001,
            ack: 9001,
            flags: ACK | FIN,
            data: b"file".to_vec(),
            ..syn(server(false, 20), local)
        };
        assert_eq!(text(&director.at_client(&data)), "file");
        assert_eq!(director.happened(Event::FtpDataExpected), 1);
        // Only what was announced: anybody else's connection is merely routed, or refused.
        let (seen, back) = director.tcp(&syn(server(false, 30000), local), false);
        assert!(seen.iter().all(|seen| seen.src == server(false, 30000)));
        assert_eq!(back.len(), usize::from(forward == "fullnat"), "refused");
    });
}

#[test]
fn extended_commands_are_heard_in_both_families() {
    for v6 in [false, true] {
        each(|workers, forward| {
            let mut director = director(workers, v6, forward);
            let (mut talk, _) = Conversation::open(&mut director, client(v6, 40021), vip(v6, 21), &[]);
            let ask = if v6 { &b"EPSV 2\r\n"[..] } else { b"EPSV\r\n" };
            director.at_server(&talk.ask(PSH, ask));
            let answer = b"229 Entering Extended Passive Mode (|||40000|)\r\n";
            let seen = director.at_client(&talk.answer(PSH, answer));
            assert_eq!(seen.data, answer);
            let (_, [first, ..]) = Conversation::open(&mut director, client(v6, 40022), vip(v6, 40000), &[]);
            assert_eq!(first.dst, server(v6, 40000));
            let named = format!("EPRT |{}|{}|40001|\r\n", if v6 { 2 } else { 1 }, client(v6, 0).0);
            let told = text(&director.at_server(&talk.ask(PSH, named.as_bytes())));
            let fields: Vec<_> = told.trim_end().split('|').collect();
            let local: End = (fields[2].parse().unwrap(), fields[3].parse().unwrap());
            assert_eq!(told == named, forward == "nat", "{told}");
            let opened = director.at_client(&syn(server(v6, 20), local));
            assert_eq!((opened.src, opened.dst), (vip(v6, 20), client(v6, 40001)));
            expect_drops!(director);
        });
    }
}

#[test]
fn a_fullnat_server_is_not_sent_to_third_parties() {
    let mut director = director(1, false, "fullnat");
    let (mut talk, _) = Conversation::open(&mut director, client(false, 40021), vip(false, 21), &[]);
    let bounce = b"PORT 192,0,2,1,0,25\r\n";
    assert_eq!(director.at_server(&talk.ask(PSH, bounce)).data, bounce, "the server will refuse it");
    assert_eq!(director.happened(Event::FtpDataExpected), 0);
}

#[test]
fn what_is_no_command_or_nobodys_business_is_left_alone() {
    let mut director = director(1, false, "nat");
    let (mut talk, _) = Conversation::open(&mut director, client(false, 40021), vip(false, 21), &[]);
    assert_eq!(director.at_client(&talk.answer(PSH, PASV)).data, PASV, "nobody asked");
    director.at_server(&talk.ask(PSH, b"PASV\r\n"));
    let (start, end) = PASV.split_at(30);
    assert_eq!(director.at_client(&talk.answer(PSH, start)).data, start, "cut");
    assert_eq!(director.at_client(&talk.answer(PSH, end)).data, end);
    director.at_server(&talk.ask(PSH, b"NOOP\r\n"));
    assert_ne!(director.at_client(&talk.answer(PSH, PASV)).data, PASV, "asked still");
    assert_eq!(director.at_client(&talk.answer(PSH, PASV)).data, PASV, "answered");
    director.at_server(&talk.ask(FIN, b""));
    director.at_server(&talk.ask(PSH, b"PASV\r\n"));
    assert_eq!(director.at_client(&talk.answer(PSH, PASV)).data, PASV, "closing");
    assert_eq!(director.happened(Event::FtpDataExpected), 1);
}

#[test]
fn several_answers_add_up() {
    let mut director = director(1, false, "nat");
    let (mut talk, _) = Conversation::open(&mut director, client(false, 40021), vip(false, 21), &[]);
    let mut sent = 5001;
    for round in 0..4 {
        director.at_server(&talk.ask(PSH, b"PASV\r\n"));
        let longer: &[u8] = if round == 2 { b"227 (10,1,0,111,156,164)\r\n" } else { PASV };
        let seen = director.at_client(&talk.answer(PSH, longer));
        assert_eq!(seen.seq, sent);
        sent += seen.data.len() as u32;
        talk.client.ack = sent;
        assert_eq!(director.at_server(&talk.ask(0, b"")).ack, talk.server.seq, "round {round}");
    }
    assert_eq!(sent, talk.server.seq + 3, "three bytes in four rounds");
}

#[test]
fn a_data_connection_that_never_comes_is_forgotten() {
    let mut director = director(1, false, "fullnat");
    let (mut talk, _) = Conversation::open(&mut director, client(false, 40021), vip(false, 21), &[]);
    director.at_server(&talk.ask(PSH, b"PASV\r\n"));
    director.at_client(&talk.answer(PSH, PASV));
    director.wait(100 * SECOND);
    assert_eq!(director.sessions().len(), 2);
    director.wait(21 * SECOND);
    assert_eq!(states(&director), ["ESTABLISHED 10.0.0.2:40021 10.0.0.100:21"]);
    let (refused, _) = director.tcp(&syn(client(false, 40022), vip(false, 40000)), true);
    assert_eq!(refused[0].flags & RST, RST);
}

#[test]
fn a_control_connection_that_is_opened_anew_does_not_take_its_data_along() {
    let mut director = director(1, false, "nat");
    let (mut talk, _) = Conversation::open(&mut director, client(false, 40021), vip(false, 21), &[]);
    director.at_server(&talk.ask(PSH, b"PASV\r\n"));
    director.at_client(&talk.answer(PSH, PASV));
    let (mut data, _) = Conversation::open(&mut director, client(false, 40022), vip(false, 40000), &[]);
    director.at_server(&talk.ask(RST, b""));
    let (mut again, _) = Conversation::open(&mut director, client(false, 40021), vip(false, 21), &[]);
    assert_eq!(text(&director.at_client(&data.answer(PSH, b"file"))), "file");
    assert_eq!(text(&director.at_server(&again.ask(PSH, b"NOOP\r\n"))), "NOOP\r\n");
    assert_eq!(director.sessions().len(), 3, "the old one waits for its data");
    director.at_server(&again.ask(RST, b""));
    director.at_server(&data.ask(RST, b""));
    director.wait(200 * SECOND);
    assert_eq!((director.sessions(), director.counts()), (vec![], vec![(0, 0, 0)]));
}
