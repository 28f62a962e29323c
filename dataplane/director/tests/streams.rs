//! TCP streams through FULLNAT: whose numbers, which options, what is told of the client; exact bytes, exact counts.

mod harness;

use std::net::IpAddr;

use fulcrum_director::{Event, SECOND};
use fulcrum_model::ClientAddress;
use fulcrum_packet::tcp::{ACK, FIN, PSH, RST, SYN};
use fulcrum_packet::{icmp, ipv4, udp};
use harness::both::SIX;
use harness::segments::*;
use harness::*;

const CLIENT: End = (IpAddr::V4(harness::CLIENT), 40001);
const VIP: End = (IpAddr::V4(harness::VIP), 80);

/// A service with one server, by a method, whose servers are told the client's address in a way.
fn director(workers: u16, forward: &str, how: ClientAddress) -> Director {
    director_of(workers, forward, how, "5000-5999", "tcp")
}

fn director_of(workers: u16, forward: &str, how: ClientAddress, ports: &str, protocol: &str) -> Director {
    let more = format!(
        r#"
[[local-pool]]
name = "inside"
interface = "lan"
addresses = ["10.1.0.200"]
ports = "{ports}"
[[service]]
address = "10.0.0.100:80"
protocol = "{protocol}"
scheduler = "rr"
local-pool = "inside"
[[service.server]]
address = "10.1.0.11:8000"
forward = "{forward}"
"#
    );
    let mut director = Director::with(workers, &more, |config| config.misdirect = workers > 1);
    director.change(|state| state.services[0].client_address = how);
    director
}

fn proxy_v1() -> Vec<u8> {
    b"PROXY TCP4 10.0.0.2 10.0.0.100 40001 80\r\n".to_vec()
}

fn proxy_v2(transport: u8) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21".to_vec();
    header.extend([0x10 | transport, 0, 12, 10, 0, 0, 2, 10, 0, 0, 100, 0x9c, 0x41, 0, 80]);
    header
}

/// What goes between the client's numbers, from 1000, and the server's.
fn offset(syn: &Segment) -> u32 {
    syn.seq.wrapping_sub(1000)
}

const TIMESTAMPS: [u8; 12] = [4, 2, 8, 10, 0, 0, 0, 9, 0, 0, 0, 0];

#[test]
fn a_fullnat_server_sees_the_directors_numbers_and_no_clock() {
    for workers in [1, 3] {
        let mut director = director(workers, "fullnat", ClientAddress::None);
        let options = [&[2, 4, 5, 0xb4][..], &TIMESTAMPS, &[1, 3, 3, 7]].concat();
        let (mut talk, [syn, syn_ack, ack]) = Conversation::open(&mut director, CLIENT, VIP, &options);
        let shift = offset(&syn);
        assert_ne!(shift, 0);
        let blanked = [&[2, 4, 5, 0xb4, 4, 2][..], &[1; 10], &[1, 3, 3, 7]].concat();
        assert_eq!((syn.flags, syn.options, syn.ack), (SYN, blanked, 0));
        assert_eq!((syn_ack.src, syn_ack.dst, syn_ack.seq, syn_ack.ack), (VIP, CLIENT, 5000, 1001));
        assert_eq!(syn_ack.options, options, "the server's own clock is one");
        assert_eq!((ack.seq.wrapping_sub(shift), ack.ack, ack.options), (1001, 5001, vec![]));
        let again = director.at_server(&Segment { seq: 1000, ack: 0, flags: SYN, ..talk.client.clone() });
        assert_eq!(offset(&again), shift, "sent again");
        let asked = director.at_server(&talk.ask(PSH, b"hello"));
        assert_eq!((asked.seq.wrapping_sub(shift), asked.data), (1001, b"hello".to_vec()));
        // The server has the bytes from 1016 on, and those before 1006.
        let edges = [shift.wrapping_add(1016), shift.wrapping_add(1020)].map(u32::to_be_bytes).concat();
        let answer = Segment {
            ack: shift.wrapping_add(1006),
            options: [&[1, 1, 5, 10][..], &edges].concat(),
            ..talk.answer(0, b"hi")
        };
        let seen = director.at_client(&answer);
        let edges = [1016u32, 1020].map(u32::to_be_bytes).concat();
        assert_eq!((seen.seq, seen.ack), (5001, 1006));
        assert_eq!((&seen.options[4..], seen.data), (&edges[..], b"hi".to_vec()));
        expect_drops!(director);
        assert_eq!(director.happened(Event::ForgedAddressRemoved), 0);
    }
}

#[test]
fn a_nat_server_sees_the_clients_own_numbers_and_clock() {
    let mut director = director(1, "nat", ClientAddress::Toa);
    let (_, [syn, _, ack]) = Conversation::open(&mut director, CLIENT, VIP, &TIMESTAMPS);
    assert_eq!((syn.seq, syn.options, ack.options), (1000, TIMESTAMPS.to_vec(), vec![]));
}

#[test]
fn a_local_port_comes_again_with_higher_numbers() {
    let mut director = director_of(1, "fullnat", ClientAddress::None, "5000", "tcp");
    let (mut talk, [first, ..]) = Conversation::open(&mut director, CLIENT, VIP, &[]);
    // While it is in use nobody else gets it.
    let other = Segment { src: (CLIENT.0, 40002), seq: 77, ack: 0, flags: SYN, ..talk.client.clone() };
    assert_eq!(director.tcp(&other, true), (vec![], vec![]));
    expect_drops!(director, "local-ports-exhausted": 1);
    director.at_server(&talk.ask(FIN, b""));
    director.at_client(&talk.answer(FIN, b""));
    let last = director.at_server(&talk.ask(0, b""));
    assert_eq!(director.sessions()[0].state, "TIME_WAIT");
    director.now += SECOND / 100;
    let second = director.at_server(&other);
    assert_eq!((second.src, second.dst), (first.src, first.dst));
    let ahead = second.seq.wrapping_sub(last.seq);
    assert!(ahead > 0 && ahead < 1 << 31, "{} after {}", second.seq, last.seq);
    assert_eq!(director.happened(Event::LocalPortReclaimed), 1);
    assert_eq!(director.sessions().len(), 1);
    assert_eq!(director.counts(), [(1, 0, 0)]);
}

#[test]
fn the_session_that_is_closing_longest_gives_its_port_up_first() {
    let mut director = director_of(1, "fullnat", ClientAddress::None, "5000-5003", "tcp");
    let client = |port| (CLIENT.0, port);
    let mut talks: Vec<_> =
        (1..=4).map(|port| Conversation::open(&mut director, client(port), VIP, &[]).0).collect();
    // The second and the fourth are reset, the fourth first.
    for nth in [3, 1] {
        director.at_server(&talks[nth].ask(RST, b""));
    }
    let syn = Segment { seq: 1000, ack: 0, flags: SYN, ..talks[0].client.clone() };
    let taken = [5, 6].map(|port| Conversation::open(&mut director, client(port), VIP, &[]).1[0].src.1);
    assert_eq!(taken, [5001, 5003]);
    assert_eq!(director.tcp(&Segment { src: client(7), ..syn }, true), (vec![], vec![]));
    expect_drops!(director, "local-ports-exhausted": 1);
}

#[test]
fn a_syn_that_takes_a_finished_session_over_gets_new_numbers() {
    let mut director = director(1, "fullnat", ClientAddress::ProxyV1);
    director.change(|state| state.settings.conn_reuse_mode = 0);
    let (mut talk, [first, ..]) = Conversation::open(&mut director, CLIENT, VIP, &[]);
    director.at_server(&talk.ask(RST, b""));
    director.now += SECOND;
    let (_, [second, syn_ack, ack]) = Conversation::open(&mut director, CLIENT, VIP, &[]);
    assert_eq!(second.src, first.src, "the session stays");
    assert!(second.seq.wrapping_sub(first.seq).wrapping_sub(1) < 1 << 31);
    assert_eq!((syn_ack.ack, ack.data), (1001, proxy_v1()));
}

const TOA: [u8; 8] = [254, 8, 0x9c, 0x41, 10, 0, 0, 2];

#[test]
fn toa_is_on_the_first_segments_until_the_client_has_acknowledged_data() {
    for workers in [1, 3] {
        let mut director = director(workers, "fullnat", ClientAddress::Toa);
        let options = [2, 4, 5, 0xb4, 4, 2, 1, 1];
        let (mut talk, [syn, syn_ack, ack]) = Conversation::open(&mut director, CLIENT, VIP, &options);
        assert_eq!(syn.options, options, "not on the SYN");
        assert_eq!(syn_ack.options, [2, 4, 5, 0xac, 4, 2, 1, 1], "8 bytes less");
        assert_eq!((ack.options, ack.data), (TOA.to_vec(), vec![]));
        let sack = [1, 1, 5, 10, 0, 0, 0x17, 0x70, 0, 0, 0x17, 0x80];
        let asked = director.at_server(&Segment { options: sack.to_vec(), ..talk.ask(PSH, b"GET") });
        assert_eq!((asked.options, asked.data), ([&TOA[..], &sack].concat(), b"GET".to_vec()));
        director.at_client(&talk.answer(0, b"answer"));
        let early = director.at_server(&talk.ask(0, b"more"));
        assert_eq!(early.options, TOA);
        assert_eq!(director.at_server(&talk.ask(RST, b"")).options, [], "not on RST");
        let mut late = talk.ask(0, b"");
        late.ack += 6;
        assert_eq!(director.at_server(&late).options, []);
        expect_drops!(director);
        assert_eq!(director.happened(Event::AddressOptionAdded), 3);
    }
}

#[test]
fn a_clients_own_claims_are_removed() {
    let mut director = director(1, "fullnat", ClientAddress::Toa);
    let forged = [254, 8, 0, 1, 192, 0, 2, 1];
    let (mut talk, [syn, ..]) = Conversation::open(&mut director, CLIENT, VIP, &forged);
    assert_eq!(syn.options, [1; 8]);
    let six = [&[253, 20][..], &[7; 18], &[254, 4, 0, 0]].concat();
    let asked = director.at_server(&Segment { options: six, ..talk.ask(0, b"x") });
    assert_eq!(asked.options, [&TOA[..], &[1; 24]].concat());
    let mut late = Segment { options: forged.to_vec(), ..talk.ask(0, b"y") };
    late.ack += 1;
    assert_eq!(director.at_server(&late).options, [1; 8]);
    assert_eq!(director.happened(Event::ForgedAddressRemoved), 4);
}

#[test]
fn toa_takes_the_place_of_other_options_or_stays_out() {
    let mut director = director(1, "fullnat", ClientAddress::Toa);
    let (mut talk, _) = Conversation::open(&mut director, CLIENT, VIP, &[]);
    // Four blocks and padding leave six bytes.
    let sacks = [&[1, 1, 5, 34][..], &[9; 32]].concat();
    let seen = director.at_server(&Segment { options: sacks.clone(), ..talk.ask(0, b"x") });
    assert_eq!(seen.options, TOA, "no room for both");
    assert_eq!(seen.data, b"x");
    let stamps = [8, 10, 1, 2, 3, 4, 5, 6, 7, 8];
    let stamped = [&[1, 1][..], &stamps, &[5, 26], &[9; 24], &[1, 1]].concat();
    let seen = director.at_server(&Segment { options: stamped, ..talk.ask(0, b"y") });
    assert_eq!(seen.options, [&TOA[..], &stamps, &[0, 0]].concat());
    // 36 bytes that are mostly padding.
    let padded = [&[1; 26][..], &stamps].concat();
    let seen = director.at_server(&Segment { options: padded, ..talk.ask(0, b"z") });
    assert_eq!(seen.options, [&TOA[..], &stamps, &[0, 0]].concat());
    let full = vec![3; 1460];
    let seen = director.at_server(&talk.ask(0, &full));
    assert_eq!((seen.options, seen.data), (vec![], full));
    assert_eq!(director.at_server(&talk.ask(0, &[4; 1452])).options, TOA);
    assert_eq!(
        (director.happened(Event::AddressOptionAdded), director.happened(Event::AddressOptionOmitted)),
        (5, 1)
    );
    expect_drops!(director);
}

#[test]
fn the_proxy_header_goes_with_the_handshake_before_a_server_that_speaks_first() {
    for (how, header) in [(ClientAddress::ProxyV1, proxy_v1()), (ClientAddress::ProxyV2, proxy_v2(1))] {
        for (forward, workers) in [("fullnat", 1), ("fullnat", 3), ("nat", 1), ("nat", 3)] {
            let mut director = director(workers, forward, how);
            let (mut talk, [syn, _, ack]) = Conversation::open(&mut director, CLIENT, VIP, &[]);
            let (shift, length) = (offset(&syn), header.len() as u32);
            assert_eq!((ack.seq.wrapping_sub(shift), ack.data), (1001, header.clone()));
            // It was lost: the server asks again, and gets it again.
            let syn_ack = Segment { seq: 5000, flags: SYN | ACK, ..talk.server.clone() };
            assert_eq!(director.at_client(&syn_ack).ack, 1001);
            assert_eq!(director.at_server(&talk.client).data, header);
            talk.server.ack = talk.server.ack.wrapping_add(length);
            let greeting = director.at_client(&talk.answer(PSH, b"220 ready\r\n"));
            assert_eq!((greeting.seq, greeting.ack, greeting.data), (5001, 1001, b"220 ready\r\n".to_vec()));
            talk.client.ack += 11;
            let ack = director.at_server(&talk.client);
            assert_eq!((ack.seq.wrapping_sub(shift), ack.data), (1001 + length, vec![]));
            let asked = director.at_server(&talk.ask(PSH, b"HELP\r\n"));
            assert_eq!((asked.seq.wrapping_sub(shift), asked.data), (1001 + length, b"HELP\r\n".to_vec()));
            talk.server.ack = talk.server.ack.wrapping_add(6);
            assert_eq!(director.at_client(&talk.answer(0, b"")).ack, 1007);
            let closing = director.at_server(&talk.ask(FIN, b""));
            assert_eq!(closing.seq.wrapping_sub(shift), 1007 + length);
            expect_drops!(director);
            assert_eq!(director.happened(Event::AddressHeaderSent), 2);
        }
    }
}

#[test]
fn the_proxy_header_comes_before_data_until_it_has_arrived() {
    let mut director = director(1, "fullnat", ClientAddress::ProxyV2);
    let (mut talk, [syn, _, ack]) = Conversation::open(&mut director, CLIENT, VIP, &[]);
    let (shift, header) = (offset(&syn), proxy_v2(1));
    assert_eq!(ack.data, header);
    // A header of the client's own is data like any other.
    let own = b"PROXY TCP4 192.0.2.1 10.0.0.100 1 80\r\n";
    let first = talk.ask(PSH, own);
    for _ in 0..2 {
        let asked = director.at_server(&first);
        assert_eq!((asked.seq.wrapping_sub(shift), asked.data), (1001, [&header[..], own].concat()));
    }
    let second = director.at_server(&talk.ask(PSH, b"more"));
    assert_eq!(second.seq.wrapping_sub(shift), 1001 + 28 + own.len() as u32);
    // Only a part arrived, then all of the header, then all.
    for (server, client) in [(1001, 1001), (1010, 1001), (1029, 1001), (1030, 1002), (1067, 1039)] {
        let ack = Segment { ack: shift.wrapping_add(server), ..talk.answer(0, b"") };
        assert_eq!(director.at_client(&ack).ack, client, "{server}");
    }
    let again = director.at_server(&first);
    assert_eq!((again.seq.wrapping_sub(shift), again.data), (1029, own.to_vec()));
    let reset = director.at_server(&talk.ask(RST, b""));
    assert_eq!((reset.seq.wrapping_sub(shift), reset.data), (1071, vec![]));
}

#[test]
fn a_proxy_header_that_does_not_fit_goes_in_a_segment_of_its_own() {
    let mut director = director(3, "fullnat", ClientAddress::ProxyV2);
    let (mut talk, [syn, ..]) = Conversation::open(&mut director, CLIENT, VIP, &[]);
    let (shift, header) = (offset(&syn), proxy_v2(1));
    let data = [7; 1450];
    let (_, seen) = director.tcp(&talk.ask(PSH, &data), true);
    assert_eq!(seen.len(), 2);
    assert_eq!((seen[0].seq.wrapping_sub(shift), seen[0].flags, &seen[0].data), (1001, ACK | PSH, &header));
    assert_eq!((seen[1].seq.wrapping_sub(shift), &seen[1].data[..]), (1029, &data[..]));
    assert_eq!((seen[0].src, seen[0].dst, seen[0].ack), (seen[1].src, seen[1].dst, 5001));
    expect_drops!(director);
}

#[test]
fn a_first_segment_in_fragments_does_not_slip_past_the_header() {
    let mut director = director(1, "fullnat", ClientAddress::ProxyV2);
    let (mut talk, [syn, ..]) = Conversation::open(&mut director, CLIENT, VIP, &[]);
    let shift = offset(&syn);
    let whole = talk.ask(PSH, &[b'x'; 100]).frame(WAN);
    let part = |from: usize, to: usize, field: u16| {
        let mut frame = [&whole[..34], &whole[34 + from..34 + to]].concat();
        let total = (frame.len() - 14) as u16;
        frame[16..18].copy_from_slice(&total.to_be_bytes());
        frame[20..22].copy_from_slice(&field.to_be_bytes());
        with_ip(frame, |_| {})
    };
    let outs = director.send(0, &part(0, 64, ipv4::MF));
    assert_eq!(outs.len(), 2);
    let header = Segment::read(&outs[0]);
    assert_eq!((header.seq.wrapping_sub(shift), header.data), (1001, proxy_v2(1)));
    let second = director.send(0, &part(64, 120, 8));
    let mut segment = outs[1].frame.clone();
    segment.extend_from_slice(second[0].body());
    let total = (segment.len() - 14) as u16;
    segment[16..18].copy_from_slice(&total.to_be_bytes());
    segment[20..22].fill(0);
    let joined = Segment::read(&Out { port: 1, frame: with_ip(segment, |_| {}) });
    assert_eq!((joined.seq.wrapping_sub(shift), joined.data), (1029, vec![b'x'; 100]));
    expect_drops!(director);
}

#[test]
fn a_fast_open_cookie_is_removed_where_a_header_has_to_come_first() {
    let mut director = director(1, "fullnat", ClientAddress::ProxyV1);
    let cookie = [34, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 1];
    let (_, [syn, ..]) = Conversation::open(&mut director, CLIENT, VIP, &cookie);
    assert_eq!(syn.options, [1; 12]);
}

#[test]
fn the_first_datagram_carries_the_header() {
    for (forward, workers) in [("fullnat", 1), ("fullnat", 3), ("nat", 1)] {
        let mut director = director_of(workers, forward, ClientAddress::ProxyV2, "5000-5999", "udp");
        let mut send = |data: &[u8]| {
            let outs = director.send(0, &udp_frame(WAN, (harness::CLIENT, 40001), (harness::VIP, 80), data));
            outs.iter().map(|out| read_ip(out).3[udp::HEADER..].to_vec()).collect::<Vec<_>>()
        };
        assert_eq!(send(b"odd"), [[&proxy_v2(2)[..], b"odd"].concat()]);
        assert_eq!(send(b"more"), [b"more"]);
        expect_drops!(director);
    }
    let mut director = director_of(1, "fullnat", ClientAddress::ProxyV2, "5000-5999", "udp");
    let large = udp_frame(WAN, (harness::CLIENT, 40001), (harness::VIP, 80), &[1; 1460]);
    let seen: Vec<_> =
        director.send(0, &large).iter().map(|out| read_ip(out).3[udp::HEADER..].to_vec()).collect();
    assert_eq!(seen, [proxy_v2(2), vec![1; 1460]]);
}

/// Clients and servers of either family, and what the server is told of a client of IPv6, or of IPv4.
#[test]
fn clients_of_one_family_are_told_to_servers_of_the_other() {
    let ends = |v6| match v6 {
        true => (("fd00:1::2".parse().unwrap(), 40001), ("fd00:1::100".parse().unwrap(), 80)),
        false => (CLIENT, VIP),
    };
    for (client6, server6) in [(true, true), (true, false), (false, true)] {
        for how in [ClientAddress::Toa, ClientAddress::ProxyV1, ClientAddress::ProxyV2] {
            let (client, vip): (End, End) = ends(client6);
            let address = std::net::SocketAddr::from(vip);
            let (server, pool) = match server6 {
                true => ("[fd00:2::11]:8000", "fd00:2::200"),
                false => ("10.1.0.11:8000", "10.1.0.200"),
            };
            let more = format!(
                r#"{SIX}
[[local-pool]]
name = "inside"
interface = "lan{}"
addresses = ["{pool}"]
[[service]]
address = "{address}"
protocol = "tcp"
scheduler = "rr"
local-pool = "inside"
[[service.server]]
address = "{server}"
forward = "fullnat"
"#,
                if server6 { "6" } else { "" }
            );
            let mut director = Director::new(2, &more);
            director.change(|state| state.services[0].client_address = how);
            let (mut talk, [syn, syn_ack, ack]) =
                Conversation::open(&mut director, client, vip, &[2, 4, 5, 0xa0]);
            let shift = offset(&syn);
            let octets = |address: IpAddr| match address {
                IpAddr::V4(address) => address.octets().to_vec(),
                IpAddr::V6(address) => address.octets().to_vec(),
            };
            let option =
                [&[254, 4 + octets(client.0).len() as u8, 0x9c, 0x41][..], &octets(client.0)].concat();
            let kind = if client6 { 0x21 } else { 0x11 };
            let v2 = [
                &b"\r\n\r\n\0\r\nQUIT\n\x21"[..],
                &[kind, 0, if client6 { 36 } else { 12 }],
                &octets(client.0),
                &octets(vip.0),
                &[0x9c, 0x41, 0, 80],
            ];
            let family = if client6 { 6 } else { 4 };
            let v1 = format!("PROXY TCP{family} {} {} 40001 80\r\n", client.0, vip.0).into_bytes();
            let (options, data) = match how {
                ClientAddress::Toa => (option, vec![]),
                ClientAddress::ProxyV1 => (vec![], v1),
                _ => (vec![], v2.concat()),
            };
            let length = data.len() as u32;
            assert_eq!((ack.seq.wrapping_sub(shift), &ack.options, &ack.data), (1001, &options, &data));
            let most = 0x5a0 - if how == ClientAddress::Toa { options.len() as u16 } else { 0 };
            assert_eq!(syn_ack.options, [&[2, 4][..], &most.to_be_bytes()].concat());
            // The largest segment that the client may send still fits, with an option; before it, a header.
            let (_, seen) = director.tcp(&talk.ask(PSH, &vec![7; usize::from(most).min(1420)]), true);
            assert!(seen.iter().all(|segment| segment.dst == talk.server.src));
            assert_eq!(seen[0].data[..data.len()], data);
            talk.server.ack = talk.server.ack.wrapping_add(length);
            assert_eq!(director.at_client(&talk.answer(0, b"hi")).ack, 1001);
            expect_drops!(director);
        }
    }
}

#[test]
fn datagrams_have_no_header_of_version_1() {
    let mut director = director_of(1, "fullnat", ClientAddress::ProxyV1, "5000-5999", "udp");
    let outs = director.send(0, &udp_frame(WAN, (harness::CLIENT, 40001), (harness::VIP, 80), b"x"));
    assert_eq!(&read_ip(&outs[0]).3[udp::HEADER..], b"x");
}

#[test]
fn segment_sizes_are_clamped_in_both_directions_and_only_where_asked() {
    let announces = |size: u16| [&[2, 4][..], &size.to_be_bytes()].concat();
    let sizes = |service: Option<u16>, wan: Option<u16>, lan: Option<u16>, forward: &str| {
        let mut director = director(1, forward, ClientAddress::None);
        director.change(|state| {
            state.services[0].mss = service;
            state.interfaces[0].mss = wan;
            state.interfaces[1].mss = lan;
        });
        let (_, [syn, syn_ack, _]) = Conversation::open(&mut director, CLIENT, VIP, &announces(1460));
        (syn.options, syn_ack.options, director.happened(Event::SegmentSizeLowered))
    };
    for forward in ["nat", "fullnat"] {
        assert_eq!(sizes(None, None, None, forward), (announces(1460), announces(1460), 0));
        assert_eq!(sizes(Some(1400), None, None, forward), (announces(1400), announces(1400), 2));
        assert_eq!(sizes(Some(1400), Some(1300), None, forward), (announces(1300), announces(1300), 2));
        assert_eq!(sizes(None, None, Some(1380), forward), (announces(1380), announces(1380), 2));
        assert_eq!(sizes(Some(9000), None, None, forward), (announces(1460), announces(1460), 0));
    }
    // Direct routing shows one direction; what is merely routed passes interfaces too.
    let mut director = director(1, "dr", ClientAddress::None);
    director.change(|state| state.services[0].mss = Some(1400));
    let (dst, options) = (VIP, announces(1460));
    let syn = Segment { src: CLIENT, dst, seq: 1, ack: 0, flags: SYN, options, data: vec![] };
    assert_eq!(director.at_server(&syn).options, announces(1400));
    director.change(|state| state.interfaces[1].mss = Some(1200));
    let routed = Segment { dst: (IpAddr::V4(SERVER_B), 22), ..syn };
    assert_eq!(director.at_server(&routed).options, announces(1200));
    expect_drops!(director);
}

/// Errors come back with the number that their reader gave the segment: it would not heed them otherwise.
#[test]
fn errors_quote_the_numbers_of_their_reader() {
    for how in [ClientAddress::None, ClientAddress::ProxyV1] {
        let mut director = director(1, "fullnat", how);
        let (mut talk, [_, _, ack]) = Conversation::open(&mut director, CLIENT, VIP, &[]);
        talk.server.ack = talk.server.ack.wrapping_add(ack.data.len() as u32);
        director.at_client(&talk.answer(0, b""));
        let asked = director.at_server(&talk.ask(0, b"hello"));
        let router = [10, 1, 0, 254].into();
        let IpAddr::V4(local) = asked.src.0 else { panic!() };
        let about = asked.frame(PEER);
        let outs = director.send(1, &error_frame(LAN, router, local, icmp::UNREACHABLE, 4, &about));
        check_sums(&outs[0]);
        let quoted = &outs[0].body()[icmp::HEADER + ipv4::HEADER..];
        assert_eq!(quoted[4..8], 1001u32.to_be_bytes(), "{how:?}");
        // One from the client's side, about what the server sent.
        let seen = director.at_client(&talk.answer(0, b"there"));
        let about = seen.frame(PEER);
        let outs =
            director.send(0, &error_frame(WAN, harness::CLIENT, harness::VIP, icmp::UNREACHABLE, 4, &about));
        check_sums(&outs[0]);
        assert_eq!(outs[0].body()[icmp::HEADER + ipv4::HEADER..][4..8], 5001u32.to_be_bytes());
        expect_drops!(director);
    }
}
