//! FULLNAT that tells servers who the client is: PROXY headers, read by nginx and haproxy, and the TCP option.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use fulcrum_e2e::Lab;
use fulcrum_e2e::capture::Packet;
use fulcrum_e2e::client::{download_some, expected, get, upload_some};
use fulcrum_e2e::director::{Director, Setup};
use fulcrum_e2e::net::Family;
use fulcrum_e2e::topology;

/// Ports of the servers: nginx and haproxy that want a PROXY header.
const NGINX: u16 = 8081;
const HAPROXY: u16 = 8082;

fn proxies(name: &str, header: &str, outside: Family, inside: Family, setup: &Setup) {
    let lab = Lab::new(&format!("{name}{}", setup.workers()));
    let mut net = topology::stage(&lab);
    let here = lab.directory().display().to_string();
    for server in &mut net.servers[1..] {
        server.serve_http_like(
            "proxied",
            &format!(
                "log_format client '$proxy_protocol_addr $proxy_protocol_port $proxy_protocol_server_addr';
                 access_log {here}/{0}.client.log client; client_max_body_size 100m;
                 server {{ listen [::]:{NGINX} proxy_protocol ipv6only=off;
                   location = / {{ return 200 '$proxy_protocol_addr $proxy_protocol_port\\n'; }}
                   location = /big {{ alias {here}/big; }}
                   location /up/ {{ root {here}/{0}; dav_methods PUT; }} }}",
                server.name
            ),
            &[NGINX],
        );
        server.serve_by_haproxy(
            &format!(
                "frontend proxied\n  bind :::{HAPROXY} v4v6 accept-proxy\n  log-format \"client %ci %cp\"\n  \
                 http-request return status 200 content-type text/plain lf-string \"%[src] %[src_port]\\n\""
            ),
            HAPROXY,
        );
    }
    let director = Director::start(&net.director, lab.directory(), setup, &net.network);
    let (vip, local) = (outside.host("172.16.100.12"), inside.address("192.168.20.200"));
    for (port, server_port) in [(80, NGINX), (81, HAPROXY)] {
        director.ipvsadm(&format!("-A -t {vip}:{port} -s rr"));
        director.ipvsadm(&format!("-P -t {vip}:{port} -z {local}"));
        for server in ["192.168.20.8", "192.168.30.9"] {
            let server = inside.host(server);
            director.ipvsadm(&format!("-a -t {vip}:{port} -r {server}:{server_port} -b"));
        }
        director.fulcrum(&format!("service edit tcp {vip}:{port} --client-address {header}"));
    }
    let captures = net.capture(&lab);
    for port in [80, 81] {
        for _ in 0..4 {
            let said = net.client.sh(&format!(
                "curl -sS --max-time 5 -w '%{{local_ip}} %{{local_port}}' http://{vip}:{port}/"
            ));
            let (told, own) = said.trim().split_once('\n').unwrap_or_else(|| panic!("two lines: {said}"));
            assert_eq!(told, own, "what the server was told of the client");
        }
    }
    download_some(&net.client, &vip, lab.directory());
    upload_some(&net.client, &vip, lab.directory(), &net.servers);
    captures.stop();
    let client = outside.address("172.16.100.50").to_string();
    for server in &net.servers[1..] {
        let (nginx, haproxy) = (server.log("client"), server.log("haproxy"));
        assert!(nginx.lines().count() >= 2 && nginx.lines().all(|line| line.starts_with(&client)), "{nginx}");
        assert!(nginx.contains(&outside.address("172.16.100.12").to_string()), "{nginx}");
        assert!(haproxy.contains(&format!("client {client} ")), "{haproxy}");
    }
}

#[test]
fn proxy_headers_of_version_1_name_the_client() {
    proxies("pp1", "proxy-v1", Family::V4, Family::V4, &Setup::MISDIRECTED);
}

#[test]
fn proxy_headers_of_version_2_name_the_client() {
    proxies("pp2", "proxy-v2", Family::V4, Family::V4, &Setup::MISDIRECTED);
}

#[test]
fn proxy_headers_of_version_1_name_clients_of_ipv6() {
    proxies("pp16", "proxy-v1", Family::V6, Family::V6, &Setup::ONE);
}

#[test]
fn proxy_headers_of_version_2_name_clients_of_ipv6_to_servers_of_ipv4() {
    proxies("pp264", "proxy-v2", Family::V6, Family::V4, &Setup::ONE);
}

/// Acknowledgment number and flags of a TCP segment.
fn acknowledges(packet: &Packet) -> (u32, u8) {
    let number = packet.payload[8..12].try_into().expect("four bytes");
    (u32::from_be_bytes(number), packet.payload[13])
}

fn options_name_the_client(outside: Family, inside: Family, setup: &Setup) {
    const SYN: u8 = 2;
    const ACK: u8 = 16;
    let lab = Lab::new(&format!("toa{outside:?}{inside:?}"));
    let net = topology::stage(&lab);
    let director = Director::start(&net.director, lab.directory(), setup, &net.network);
    let vip = outside.host("172.16.100.12");
    director.ipvsadm(&format!("-A -t {vip}:80 -s rr"));
    director.ipvsadm(&format!("-P -t {vip}:80 -z {}", inside.address("192.168.20.200")));
    for server in ["192.168.20.8", "192.168.30.9"] {
        director.ipvsadm(&format!("-a -t {vip}:80 -r {}:8080 -b", inside.host(server)));
    }
    director.fulcrum(&format!("service edit tcp {vip}:80 --client-address toa"));
    let captures = net.capture(&lab);
    assert_eq!(get(&net.client, &vip, 4), expected([("web2", 2), ("web3", 2)]));
    download_some(&net.client, &vip, lab.directory());
    // Much goes to the server before it has said anything.
    upload_some(&net.client, &vip, lab.directory(), &net.servers);
    let seen = captures.stop();

    let clients: BTreeSet<(IpAddr, u16)> =
        seen.client.packets().filter(|p| p.is_syn()).map(|p| p.source).collect();
    assert_eq!(clients.len(), 6);
    let mut told = BTreeSet::new();
    for frames in &seen.servers {
        // By the director's end of a connection: what acknowledges the server's SYN and nothing more.
        let mut first = BTreeMap::new();
        for packet in frames.packets().filter(|p| p.protocol == 6) {
            let (ack, flags) = acknowledges(&packet);
            if packet.source.1 == 8080 && flags & (SYN | ACK) == SYN | ACK {
                let seq = packet.payload[4..8].try_into().expect("four bytes");
                first.insert(packet.destination, u32::from_be_bytes(seq).wrapping_add(1));
            }
            if packet.destination.1 != 8080 {
                assert!(packet.tcp_options().iter().all(|(kind, _)| *kind != 254), "{packet:?}");
                continue;
            }
            let named = packet.tcp_options().into_iter().find_map(|(kind, content)| match content {
                [a, b, address @ ..] if kind == 254 => {
                    let address = match <[u8; 4]>::try_from(address) {
                        Ok(v4) => IpAddr::from(v4),
                        Err(_) => IpAddr::from(<[u8; 16]>::try_from(address).expect("an address")),
                    };
                    Some((address, u16::from_be_bytes([*a, *b])))
                }
                _ => None,
            });
            let wanted = flags & SYN == 0 && first.get(&packet.source) == Some(&ack);
            assert_eq!(named.is_some(), wanted, "{packet:?}");
            told.extend(named);
        }
    }
    assert_eq!(told, clients, "the clients that servers were told of");
}

#[test]
fn a_tcp_option_names_the_client_until_it_has_acknowledged_data() {
    options_name_the_client(Family::V4, Family::V4, &Setup::MISDIRECTED);
}

#[test]
fn a_tcp_option_names_clients_of_ipv6() {
    options_name_the_client(Family::V6, Family::V6, &Setup::ONE);
}

#[test]
fn a_tcp_option_names_clients_of_ipv6_to_servers_of_ipv4() {
    options_name_the_client(Family::V6, Family::V4, &Setup::ONE);
}
