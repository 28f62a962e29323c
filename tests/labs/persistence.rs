//! Persistence: a client stays with its server, a template remembers it for as long as it should.

use std::net::IpAddr;
use std::time::Duration;

use fulcrum_e2e::Lab;
use fulcrum_e2e::client::{Tally, download, tally};
use fulcrum_e2e::director::{Director, Setup};
use fulcrum_e2e::net::Namespace;
use fulcrum_e2e::process::wait_for;
use fulcrum_e2e::topology;

/// Six requests from one address.
fn get_from(client: &Namespace, address: &str, host: &str) -> Tally {
    tally(&client.sh(&format!(
        "for i in 1 2 3 4 5 6; do curl -s --max-time 5 --interface {address} http://{host}/ || echo -; done"
    )))
}

fn sticks(setup: &Setup, name: &str) {
    let mut lab = Lab::new(name);
    let net = topology::nat(&lab);
    let clients: Vec<String> = (51..57).map(|host| format!("172.16.100.{host}")).collect();
    for client in &clients {
        net.client.sh(&format!("ip addr add {client}/24 dev eth0"));
    }
    let director = Director::start(&net.director, lab.directory(), setup, &net.network);
    director.ipvsadm_lines(
        "-A -t 172.16.100.9:80 -s rr -p 600
         -a -t 172.16.100.9:80 -r 192.168.20.7:8080 -m
         -a -t 172.16.100.9:80 -r 192.168.20.8:8080 -m
         -A -t 172.16.100.9:81 -s rr -p 5
         -a -t 172.16.100.9:81 -r 192.168.20.7:8080 -m
         -a -t 172.16.100.9:81 -r 192.168.20.8:8080 -m",
    );
    let captures = net.capture(&lab);
    let mut clients_of = Tally::new();
    for client in &clients {
        let answered = get_from(&net.client, client, "172.16.100.9");
        assert_eq!(answered.len(), 1, "{client} was served by {answered:?}");
        let server = answered.into_keys().next().expect("one");
        let address = if server == "web7" { "192.168.20.7:8080" } else { "192.168.20.8:8080" };
        let templates: Vec<_> = director
            .sessions()
            .into_iter()
            .filter(|row| row.source == format!("{client}:0") && row.virtual_ == "172.16.100.9:80")
            .collect();
        assert_eq!(templates.len(), 1, "one template of {client}: {templates:?}");
        assert_eq!(templates[0].destination, address);
        assert!((590..=600).contains(&templates[0].expires), "{:?}", templates[0]);
        *clients_of.entry(server).or_default() += 1;
    }
    // Round robin over clients, within one per worker.
    let slack = if setup.workers() == 1 { 0 } else { setup.workers() };
    for server in ["web7", "web8"] {
        let count = clients_of.get(server).copied().unwrap_or(0);
        assert!(count.abs_diff(3) <= slack, "clients of each server: {clients_of:?}");
    }

    // The client's own address is one more client.
    download(&net.client, "172.16.100.9", lab.directory());
    let seen = captures.stop();
    let stats = director.stats();
    let service = stats.iter().find(|row| row.address == "172.16.100.9:80").expect("it is listed");
    assert_eq!(service.numbers[0], 6 * clients.len() as u64 + 1, "{service:?}");
    if seen.client.lost == 0 {
        let vip = (IpAddr::from([172, 16, 100, 9]), 80);
        let (packets, bytes) = seen.client.count(|p| p.destination == vip);
        assert_eq!((service.numbers[1], service.numbers[3]), (packets, bytes), "{service:?}");
        let (packets, bytes) = seen.client.count(|p| p.source == vip);
        assert_eq!((service.numbers[2], service.numbers[4]), (packets, bytes), "{service:?}");
    }

    // A short persistence ends with the last connection of its client, and not before.
    let before = get_from(&net.client, "172.16.100.51", "172.16.100.9:81");
    assert_eq!(before.len(), 1);
    let short = || director.sessions().into_iter().filter(|row| row.virtual_ == "172.16.100.9:81").count();
    assert_eq!(short(), 7, "a template and six connections");
    lab.rest();
    director.rest();
    std::thread::sleep(Duration::from_secs(60));
    assert!(short() >= 1, "the template lives as long as its connections");
    // TIME_WAIT of the connections; a template that still had connections looks again after 60 s, as in IPVS.
    wait_for("no session of the short service", Duration::from_secs(60 + 60 + 5 + 5), || {
        (short() == 0).then_some(())
    });
}

#[test]
fn a_client_stays_with_its_server() {
    sticks(&Setup::ONE, "persist1");
}

#[test]
fn a_client_stays_with_its_server_with_two_workers() {
    sticks(&Setup::MISDIRECTED, "persist2");
}
