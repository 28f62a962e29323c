//! Thresholds in conversations: who gets new sessions, who keeps old ones; with one worker and with three.

mod harness;

use fulcrum_director::{Reason, SECOND};
use fulcrum_model::State;
use fulcrum_packet::icmp;
use fulcrum_packet::tcp::{ACK, RST, SYN};
use harness::*;

/// A (added first) and B of one service in turn: B is asked first.
fn service(more: &str, a: &str, b: &str) -> String {
    format!(
        r#"
[[service]]
address = "10.0.0.100:80"
protocol = "tcp"
scheduler = "rr"
{more}
[[service.server]]
address = "10.1.0.11:80"
forward = "nat"
{a}
[[service.server]]
address = "10.1.0.12:80"
forward = "nat"
{b}
"#
    )
}

const TWO: &str = "upper-threshold = 2";

/// Sends a segment of the client; gives the server that got it, `None` when the client was refused.
fn send(director: &mut Director, port: u16, flags: u8) -> Option<char> {
    let outs = director.send(0, &tcp_frame(WAN, (CLIENT, port), (VIP, 80), flags, b""));
    assert_eq!(outs.len(), 1, "{:?}", director.drops());
    check_sums(&outs[0]);
    if outs[0].port == 0 {
        assert_eq!(outs[0].body()[..2], [icmp::UNREACHABLE, icmp::PORT_UNREACHABLE]);
        return None;
    }
    Some(match outs[0].ends().2 {
        SERVER_A => 'A',
        SERVER_B => 'B',
        other => panic!("{other}"),
    })
}

/// SYNs from these ports: who gets each, `-` for nobody.
fn open(director: &mut Director, ports: std::ops::Range<u16>) -> String {
    ports.map(|port| send(director, port, SYN).unwrap_or('-')).collect()
}

/// A session goes through CLOSE, which lasts ten seconds.
fn end(director: &mut Director, port: u16, server: std::net::Ipv4Addr) {
    let reply = tcp_frame(LAN, (server, 80), (CLIENT, port), SYN | ACK, b"");
    assert_eq!(director.send(1, &reply).len(), 1);
    send(director, port, ACK);
    send(director, port, RST);
    director.wait(11 * SECOND);
}

fn edit(state: &mut State, server: usize, upper: u32, lower: u32) {
    let server = &mut state.services[0].servers[server];
    (server.upper_threshold, server.lower_threshold) = (upper, lower);
}

#[test]
fn a_full_server_gets_nothing_new_until_it_is_relieved() {
    for workers in [1, 3] {
        let mut director = Director::new(workers, &service("", TWO, TWO));
        assert_eq!(open(&mut director, 1000..1007), "BABA---");
        assert_eq!(director.counts(), [(2, 0, 0), (2, 0, 0)]);
        expect_drops!(director, "no-server": 3);
        // Sessions that are there do not care.
        assert_eq!(send(&mut director, 1001, ACK), Some('A'));
        // One of two is less than three quarters.
        end(&mut director, 1001, SERVER_A);
        assert_eq!(director.counts(), [(1, 0, 0), (2, 0, 0)]);
        assert_eq!(open(&mut director, 1010..1013), "A--");
        assert_eq!(director.counts(), [(2, 0, 0), (2, 0, 0)]);
        assert_eq!(director.dropped(Reason::NoServer), 5);
    }
}

#[test]
fn the_lower_threshold_says_when_it_is_relieved() {
    for workers in [1, 3] {
        let limits = "upper-threshold = 4\nlower-threshold = 2";
        let mut director = Director::new(workers, &service("", limits, "weight = 0"));
        assert_eq!(open(&mut director, 1000..1005), "AAAA-");
        for (port, then) in [(1000, "-"), (1001, "-"), (1002, "A")] {
            end(&mut director, port, SERVER_A);
            assert_eq!(open(&mut director, port + 100..port + 101), then, "{workers} workers, after {port}");
        }
        assert_eq!(director.counts()[0], (2, 0, 0));
    }
}

#[test]
fn an_edit_counts_from_the_next_session_on() {
    for workers in [1, 3] {
        let mut director = Director::new(workers, &service("", TWO, "weight = 0"));
        assert_eq!(open(&mut director, 1000..1003), "AA-");
        director.change(|state| edit(state, 0, 3, 0));
        assert_eq!(open(&mut director, 1010..1012), "A-");
        // A lower threshold changes nothing for a server that is overloaded already.
        director.change(|state| edit(state, 0, 2, 0));
        assert_eq!(open(&mut director, 1020..1021), "-");
        director.change(|state| edit(state, 0, 0, 0));
        assert_eq!(open(&mut director, 1030..1032), "AA");
        // One that is not gets one more. // IPVS: the flag is set when a connection is bound
        director.change(|state| edit(state, 0, 1, 0));
        assert_eq!(open(&mut director, 1040..1042), "A-");
        assert_eq!(director.counts()[0], (6, 0, 0));
    }
}

#[test]
fn a_client_with_a_template_stays_with_its_full_server() {
    for workers in [1, 3] {
        let mut director = Director::new(workers, &service("persistent = 60", TWO, "weight = 0"));
        assert_eq!(open(&mut director, 1000..1005), "AAAAA");
        assert_eq!(director.counts()[0], (5, 0, 1));
        // Templates do not count, and other clients are refused.
        let other = tcp_frame(WAN, ([10, 0, 0, 3].into(), 1000), (VIP, 80), SYN, b"");
        director.send(0, &other);
        expect_drops!(director, "no-server": 1);
    }
}

#[test]
fn a_server_that_comes_back_is_as_full_as_it_was() {
    let mut director = Director::new(1, &service("", TWO, "weight = 0"));
    assert_eq!(open(&mut director, 1000..1003), "AA-");
    let server = director.state.services[0].servers[0].clone();
    director.change(|state| _ = state.services[0].servers.remove(0));
    director.change(|state| state.services[0].servers.insert(0, server));
    assert_eq!(open(&mut director, 1010..1011), "-");
}
