//! Conversations of SCTP, AH and ESP: exact bytes, states, counters.

mod harness;

use std::net::Ipv4Addr;

use fulcrum_director::{Event, SECOND};
use fulcrum_packet::ports::Ports;
use fulcrum_packet::sctp::{self, Chunk, Header, Packet};
use fulcrum_packet::{ethernet, ipv4};
use harness::*;

/// What a server sees of [`CLIENT`] by FULLNAT.
const LOCAL: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 200);

/// A service of 10.0.0.100 and its server 10.1.0.11.
fn service(protocol: &str, port: u16, server: &str, forward: &str) -> String {
    format!(
        r#"
[[local-pool]]
name = "inside"
interface = "lan"
addresses = ["10.1.0.200"]
[[service]]
address = "10.0.0.100:{port}"
protocol = "{protocol}"
scheduler = "rr"
local-pool = "inside"
[[service.server]]
address = "{server}"
forward = "{forward}"
"#
    )
}

fn association(ports: (u16, u16), tag: u32, chunks: &[(u8, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0; sctp::HEADER];
    Header { src_port: ports.0, dst_port: ports.1, tag }.emit(&mut bytes);
    for &(kind, value) in chunks {
        let chunk = Chunk { kind, flags: 0, value };
        let at = bytes.len();
        bytes.resize(at + chunk.emitted_len(), 0);
        chunk.emit(&mut bytes[at..]);
    }
    Packet::new_checked(&mut bytes[..]).unwrap().fill_checksum();
    bytes
}

/// The frame that the director makes of one: to [`PEER`], a hop further.
fn sent(from: [u8; 6], src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, body: &[u8]) -> Vec<u8> {
    let mut frame = with_ip(frame(PEER, src, dst, protocol, body), |ip| ip[8] = 63);
    ethernet::set_addresses(&mut frame, PEER, from);
    frame
}

fn one(outs: Vec<Out>, director: &Director) -> Out {
    assert_eq!(outs.len(), 1, "one frame out for one in; drops: {:?}", director.drops());
    outs.into_iter().next().unwrap()
}

/// Chunks of a whole session, from the client (0) or the server (1), and IPVS's state after each.
const SESSION: [(u16, u8, &[u8], &str); 9] = [
    (0, sctp::INIT, &[0; 16], "INIT1"),
    (1, sctp::INIT_ACK, &[1; 20], "C-SENT"),
    (0, sctp::COOKIE_ECHO, b"cookie", "C-REPLIED"),
    (1, sctp::COOKIE_ACK, b"", "ESTABLISHED"),
    (0, sctp::DATA, b"a message of an odd length!", "ESTABLISHED"),
    (1, sctp::SACK, &[0; 12], "ESTABLISHED"),
    (0, sctp::SHUTDOWN, &[0; 4], "S-RECEIVED"),
    (1, sctp::SHUTDOWN_ACK, b"", "S-ACK-SENT"),
    (0, sctp::SHUTDOWN_COMPLETE, b"", "CLOSED"),
];

#[test]
fn a_whole_association_by_nat_and_fullnat() {
    for (workers, forward) in [(1, "nat"), (3, "nat"), (1, "fullnat"), (3, "fullnat")] {
        let mut director = Director::new(workers, &service("sctp", 2905, "10.1.0.11:2906", forward));
        let mut local = (CLIENT, 3001);
        for (side, kind, value, state) in SESSION {
            let chunks = [(kind, value)];
            let expected = if side == 0 {
                let request = association((3001, 2905), 7, &chunks);
                let out = one(director.send(0, &frame(WAN, CLIENT, VIP, ipv4::SCTP, &request)), &director);
                assert_eq!(out.port, 1);
                if forward == "fullnat" {
                    local = (LOCAL, Ports::new_checked(out.body()).unwrap().src());
                }
                let request = association((local.1, 2906), 7, &chunks);
                (out.frame, sent(LAN, local.0, SERVER_A, ipv4::SCTP, &request))
            } else {
                let answer = association((2906, local.1), 8, &chunks);
                let out =
                    one(director.send(1, &frame(LAN, SERVER_A, local.0, ipv4::SCTP, &answer)), &director);
                assert_eq!(out.port, 0);
                let answer = association((2905, 3001), 8, &chunks);
                (out.frame, sent(WAN, VIP, CLIENT, ipv4::SCTP, &answer))
            };
            assert_eq!(expected.0, expected.1, "{forward}, chunk {kind}");
            assert_eq!(director.sessions()[0].state, state);
            let active = u64::from(state == "ESTABLISHED");
            assert_eq!(director.counts(), [(active, 1 - active, 0)], "after chunk {kind}");
        }
        let event = if forward == "nat" { Event::ForwardedNat } else { Event::ForwardedFullNat };
        assert_eq!((director.happened(event), director.happened(Event::ForwardedReply)), (5, 4));
        director.wait(60 * SECOND);
        assert_eq!(director.sessions().len(), 1);
        director.wait(3 * SECOND);
        assert_eq!((director.sessions().len(), director.counts()), (0, vec![(0, 0, 0)]));
        expect_drops!(director);
    }
}

#[test]
fn by_dr_and_tun_a_packet_stays_as_it_is() {
    for (forward, header) in [("dr", 0), ("tun", ipv4::HEADER)] {
        let mut director = Director::new(3, &service("sctp", 2905, "10.1.0.11:2905", forward));
        for (kind, state) in [
            (sctp::INIT, "INIT1"),
            (sctp::COOKIE_ECHO, "ESTABLISHED"),
            (sctp::SHUTDOWN_ACK, "CLOSED"),
            (sctp::INIT, "INIT1"),
        ] {
            let request = association((3001, 2905), 7, &[(kind, b"data")]);
            let out = one(director.send(0, &frame(WAN, CLIENT, VIP, ipv4::SCTP, &request)), &director);
            let expected = sent(LAN, CLIENT, VIP, ipv4::SCTP, &request);
            assert_eq!(out.frame[ethernet::HEADER + header..], expected[ethernet::HEADER..], "{forward}");
            assert_eq!(director.sessions()[0].state, state);
        }
        // The last INIT met a session that was closed.
        assert_eq!(
            (director.happened(Event::SessionCreated), director.happened(Event::SessionReused)),
            (2, 1)
        );
        expect_drops!(director);
    }
}

#[test]
fn a_service_may_have_time_outs_of_its_own() {
    let text = service("sctp", 2905, "10.1.0.11:2905", "dr")
        .replace("protocol", "timeouts = { sctp-init1 = 30, sctp-established = 5 }\nprotocol");
    let mut director = Director::new(1, &text);
    for (kind, seconds) in [(sctp::INIT, 30), (sctp::COOKIE_ECHO, 5)] {
        let request = association((3001, 2905), 7, &[(kind, b"data")]);
        director.send(0, &frame(WAN, CLIENT, VIP, ipv4::SCTP, &request));
        assert_eq!(director.sessions()[0].expires_in, seconds * SECOND);
    }
}

#[test]
fn a_wrong_checksum_is_right_after_a_change_of_ports_and_stays_without() {
    for (server, mended) in [("10.1.0.11:2906", true), ("10.1.0.11:2905", false)] {
        let mut director = Director::new(1, &service("sctp", 2905, server, "nat"));
        let mut request = association((3001, 2905), 0, &[(sctp::INIT, &[0; 16])]);
        request[8] ^= 0xff;
        let out = one(director.send(0, &frame(WAN, CLIENT, VIP, ipv4::SCTP, &request)), &director);
        assert_eq!(Packet::new_checked(out.body()).unwrap().checksum_ok(), mended);
    }
}

#[test]
fn what_opens_no_session_is_refused() {
    let mut director = Director::new(1, &service("sctp", 2905, "10.1.0.11:2906", "nat"));
    let mut send = |port, chunks: &[(u8, &[u8])], cut| {
        let request = association((3001, port), 0, chunks);
        director.send(0, &frame(WAN, CLIENT, VIP, ipv4::SCTP, &request[..request.len() - cut]))
    };
    // Port, chunks, bytes missing: refused by an ICMP error, or not.
    for (port, kind, cut, refused) in [
        (2905, sctp::DATA, 0, true),
        (2905, sctp::ABORT, 0, true),
        (2999, sctp::INIT, 0, true),
        (2905, sctp::INIT, 1, false),
        (2905, sctp::INIT, 6, false),
    ] {
        let outs = send(port, &[(kind, b"")], cut);
        assert_eq!(outs.len(), usize::from(refused), "port {port}, chunk {kind}");
        for out in outs {
            assert_eq!((out.port, out.body()[0], out.body()[1]), (0, 3, 2), "protocol unreachable");
            check_sums(&out);
        }
    }
    expect_drops!(director, "bad-transport-header": 2, "unknown-protocol": 3);
    director.change(|state| state.settings.sloppy_sctp = true);
    let data = frame(WAN, CLIENT, VIP, ipv4::SCTP, &association((3001, 2905), 1, &[(sctp::DATA, b"")]));
    assert_eq!(director.send(0, &data).len(), 1);
    assert_eq!(director.sessions()[0].state, "ESTABLISHED");
}

#[test]
fn fragments_go_on_unless_their_checksum_would_have_to_change() {
    for (workers, server, passes) in
        [(1, "10.1.0.11:2905", true), (3, "10.1.0.11:2905", true), (3, "10.1.0.11:2906", false)]
    {
        let mut director = Director::new(workers, &service("sctp", 2905, server, "nat"));
        let open = association((3001, 2905), 0, &[(sctp::INIT, &[0; 16])]);
        assert_eq!(director.send(0, &frame(WAN, CLIENT, VIP, ipv4::SCTP, &open)).len(), 1);
        let data = association((3001, 2905), 7, &[(sctp::DATA, &[0x5a; 100])]);
        let piece = |range: std::ops::Range<usize>, field: u16| {
            with_ip(frame(WAN, CLIENT, VIP, ipv4::SCTP, &data[range]), |ip| {
                ip[6..8].copy_from_slice(&field.to_be_bytes());
            })
        };
        let mut outs = director.send(0, &piece(64..data.len(), 8));
        assert_eq!(outs, []);
        outs.extend(director.send(0, &piece(0..64, ipv4::MF)));
        if passes {
            let body: Vec<u8> = outs.iter().flat_map(|out| out.body().to_vec()).collect();
            assert_eq!(body, data);
            expect_drops!(director);
        } else {
            assert_eq!(outs, []);
            expect_drops!(director, "sctp-fragment": 2);
        }
    }
}

#[test]
fn ah_and_esp_follow_their_ike_session() {
    let payload = [0x11; 40];
    for (workers, forward) in [(1, "nat"), (3, "nat"), (3, "dr")] {
        let mut director = Director::new(workers, &service("udp", 500, "10.1.0.11:500", forward));
        let outs = director.send(0, &frame(WAN, CLIENT, VIP, ipv4::ESP, &payload));
        assert_eq!((outs.len(), outs[0].body()[0], outs[0].body()[1]), (1, 3, 2), "protocol unreachable");
        expect_drops!(director, "unknown-protocol": 1);

        assert_eq!(director.send(0, &udp_frame(WAN, (CLIENT, 500), (VIP, 500), b"ike")).len(), 1);
        let server = if forward == "nat" { SERVER_A } else { VIP };
        for protocol in [ipv4::ESP, ipv4::AH] {
            let out = one(director.send(0, &frame(WAN, CLIENT, VIP, protocol, &payload)), &director);
            assert_eq!((out.port, out.frame), (1, sent(LAN, CLIENT, server, protocol, &payload)));
            if forward == "nat" {
                let answer = frame(LAN, SERVER_A, CLIENT, protocol, &payload);
                let out = one(director.send(1, &answer), &director);
                assert_eq!((out.port, out.frame), (0, sent(WAN, VIP, CLIENT, protocol, &payload)));
            }
        }
        // A fragment needs no ports either, first or not.
        let later = with_ip(frame(WAN, CLIENT, VIP, ipv4::ESP, &payload), |ip| (ip[6], ip[7]) = (0, 185));
        let out = one(director.send(0, &later), &director);
        assert_eq!((out.port, out.ip().dst(), out.ip().fragment()), (1, server, 185));
        // They keep the session alive, and nobody else's do.
        director.wait(200 * SECOND);
        director.send(0, &frame(WAN, CLIENT, VIP, ipv4::ESP, &payload));
        director.wait(200 * SECOND);
        assert_eq!(director.sessions().len(), 1);
        let other = Ipv4Addr::new(10, 0, 0, 3);
        director.send(0, &frame(WAN, other, VIP, ipv4::ESP, &payload));
        expect_drops!(director, "unknown-protocol": 2);
        assert_eq!(director.sessions().len(), 1);
    }
}

#[test]
fn an_error_about_esp_is_told_to_the_other_end() {
    let mut director = Director::new(3, &service("udp", 500, "10.1.0.11:500", "nat"));
    director.send(0, &udp_frame(WAN, (CLIENT, 500), (VIP, 500), b"ike"));
    let quoted = frame(LAN, CLIENT, SERVER_A, ipv4::ESP, &[0x11; 8]);
    let out = one(director.send(1, &error_frame(LAN, SERVER_A, CLIENT, 3, 4, &quoted)), &director);
    check_sums(&out);
    let mut expected = frame(WAN, CLIENT, VIP, ipv4::ESP, &[0x11; 8])[ethernet::HEADER..].to_vec();
    ipv4::Packet::new_checked(&mut expected[..]).unwrap().fill_checksum();
    assert_eq!((out.port, out.ip().src(), out.ip().dst()), (0, VIP, CLIENT));
    assert_eq!(out.body()[8..], expected);
}
