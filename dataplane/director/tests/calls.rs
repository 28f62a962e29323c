//! Persistence by SIP's Call-ID: a client's messages of one call reach one server; with one worker and with three.

mod harness;

use std::net::Ipv4Addr;

use fulcrum_director::{Event, SECOND};
use harness::*;

fn director(workers: u16, one_packet: bool) -> Director {
    let service = r#"
[[service]]
address = "10.0.0.100:5060"
protocol = "udp"
scheduler = "rr"
persistent = 60
[[service.server]]
address = "10.1.0.11:5060"
forward = "nat"
[[service.server]]
address = "10.1.0.12:5060"
forward = "nat"
"#;
    let mut director = Director::new(workers, service);
    director.change(|state| {
        state.services[0].persistence_engine = Some("sip".to_owned());
        state.services[0].one_packet = one_packet;
    });
    director
}

/// Who gets a message of a call from a port of a client.
fn send(director: &mut Director, client: Ipv4Addr, port: u16, call: &str) -> Option<char> {
    let message = format!("INVITE sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP h\r\n{call}\r\n\r\n");
    let outs = director.send(0, &udp_frame(WAN, (client, port), (VIP, 5060), message.as_bytes()));
    outs.iter().for_each(check_sums);
    outs.first().map(|out| match out.ends().2 {
        SERVER_A => 'A',
        SERVER_B => 'B',
        other => panic!("{other}"),
    })
}

#[test]
fn messages_of_a_call_reach_one_server() {
    for workers in [1, 3] {
        let mut director = director(workers, true);
        let other = Ipv4Addr::new(10, 0, 0, 3);
        assert_eq!(send(&mut director, CLIENT, 1, "Call-ID: one@x"), Some('B'));
        assert_eq!(send(&mut director, CLIENT, 1, "Call-ID: two@x"), Some('A'));
        assert_eq!(send(&mut director, CLIENT, 2, "i:one@x"), Some('B'));
        assert_eq!(send(&mut director, CLIENT, 1, "call-id : two@x"), Some('A'));
        // The same call of another client is another one: so it is in IPVS.
        assert_eq!(send(&mut director, other, 1, "Call-ID: two@x"), Some('B'));
        assert_eq!(director.counts(), [(0, 0, 1), (0, 0, 2)]);
        assert_eq!(director.happened(Event::TemplateCreated), 3);
        let clients: Vec<_> = director.sessions().iter().map(|s| (s.client, s.state, s.template)).collect();
        assert_eq!(clients.iter().filter(|c| **c == ((CLIENT.into(), 0), "NONE", true)).count(), 2);
        assert!(clients.contains(&((other.into(), 0), "NONE", true)), "{clients:?}");
        expect_drops!(director);
        director.wait(61 * SECOND);
        assert_eq!(director.counts(), [(0, 0, 0), (0, 0, 0)]);
        assert_eq!(send(&mut director, CLIENT, 1, "Call-ID: two@x"), Some('A'));
    }
}

#[test]
fn a_message_without_a_call_is_dropped_in_silence() {
    let mut director = director(1, true);
    assert_eq!(send(&mut director, CLIENT, 1, "Subject: lunch"), None);
    assert_eq!(director.send(0, &udp_frame(WAN, (CLIENT, 1), (VIP, 5060), b"")), []);
    expect_drops!(director, "no-call": 2);
    assert_eq!(director.sessions(), []);
}

#[test]
fn without_single_packets_a_clients_port_stays_with_its_server() {
    let mut director = director(1, false);
    assert_eq!(send(&mut director, CLIENT, 1, "Call-ID: one@x"), Some('B'));
    assert_eq!(send(&mut director, CLIENT, 1, "Call-ID: two@x"), Some('B'));
    assert_eq!(send(&mut director, CLIENT, 1, "Subject: lunch"), Some('B'));
    assert_eq!(send(&mut director, CLIENT, 2, "Call-ID: two@x"), Some('A'));
    assert_eq!(send(&mut director, CLIENT, 3, "Call-ID: one@x"), Some('B'));
    assert_eq!(director.counts(), [(0, 1, 1), (0, 2, 1)]);
    expect_drops!(director);
}
