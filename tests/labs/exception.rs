//! The exception path: the director's own host behind the ports that the director drives.

use std::time::Duration;

use fulcrum_api::dataplane as wire;
use fulcrum_api::dataplane::dataplane_client::DataplaneClient;
use fulcrum_api::state::{Forward, Protocol, Server, ServerKey, ServiceKey};
use fulcrum_e2e::Lab;
use fulcrum_e2e::client::{ask_udp, assert_answered, expected, get};
use fulcrum_e2e::director::{Director, Setup};
use fulcrum_e2e::net::Namespace;
use fulcrum_e2e::process::{Process, program, wait_for};
use fulcrum_e2e::topology::{self, Topology};

const SERVICE: &str = "
    -A -t 172.16.100.9:80 -s rr
    -a -t 172.16.100.9:80 -r 192.168.20.7:8080 -m
    -a -t 172.16.100.9:80 -r 192.168.20.8:8080 -m";
/// What the host has on its only way out.
const HOST: &str = "172.16.100.1";

/// The lab for NAT with a twin of wan in Linux, and `more` of the file.
pub(crate) fn network(net: &Topology, more: &str) -> String {
    network_of(net) + more
}

fn network_of(net: &Topology) -> String {
    net.network.replacen("name = \"wan\"\nport", "name = \"wan\"\nexception = \"fc-wan\"\nport", 1)
}

/// A host whose only way out is wan, which the director is going to drive.
fn only_way_out(net: &Topology) {
    net.director.sh("ip addr add 172.16.100.1/24 dev wan
        ip route add default via 172.16.100.50 dev wan
        ip route add 10.77.0.0/16 via 172.16.100.51 dev wan src 172.16.100.1 metric 70");
}

fn ways(net: &Topology) -> (String, String) {
    let routes = net.director.sh("ip route show | grep -v 'proto kernel' | sort");
    (net.director.sh("ip -br -4 addr show | awk '{print $1, $3}' | grep 172.16"), routes)
}

/// A daemon of the director's host.
fn daemon(lab: &Lab, inside: &Namespace, words: &str, name: &str) -> Process {
    let mut command = inside.command(program("fulcrum-lab"));
    command.args(words.split_whitespace());
    let daemon = Process::start(&mut command, lab.directory().join(format!("{name}.log")));
    daemon.wait_said("ready", Duration::from_secs(10));
    daemon
}

/// nginx on the director's host, where it listens: at ports, or at addresses and ports.
pub(crate) fn web(lab: &Lab, inside: &Namespace, at: &[&str], name: &str) -> Process {
    let here = lab.directory().display();
    let listen: String = at.iter().map(|at| format!("listen {at}; ")).collect();
    let configuration = format!(
        "daemon off; pid {here}/{name}.pid; error_log {here}/{name}.nginx.log warn;
         events {{}}
         http {{ access_log off; server {{ {listen} location / {{ return 200 '{name}\\n'; }} }} }}"
    );
    let file = lab.directory().join(format!("{name}.conf"));
    std::fs::write(&file, configuration).expect("the lab's directory is writable");
    let mut command = inside.command("nginx");
    command.arg("-c").arg(&file);
    let process = Process::start(&mut command, lab.directory().join(format!("{name}.out")));
    wait_for("nginx", Duration::from_secs(10), || {
        let port = at[0].rsplit(':').next().unwrap_or_default();
        let asked = inside.try_sh(&format!("curl -s http://localhost:{port}/"));
        asked.status.success().then_some(())
    });
    process
}

#[test]
fn a_host_stays_reachable_by_the_only_way_out_that_it_has() {
    let lab = Lab::new("onlynic");
    let net = topology::nat(&lab);
    only_way_out(&net);
    let before = ways(&net);
    let _echo = daemon(&lab, &net.director, "serve-udp host 0.0.0.0:7000", "echo");
    let mut director = Director::start(&net.director, lab.directory(), &Setup::TWO, &network(&net, ""));
    director.ipvsadm_lines(SERVICE);
    let moved = |text: &str| text.replace("dev wan", "dev fc-wan").replace("wan@", "fc-wan@");
    let during = ways(&net);
    assert_eq!(during.1, moved(&before.1), "routes");
    assert!(during.0.starts_with("fc-wan 172.16.100.1/24"), "{}", during.0);

    // Both ways, beside the director's own work; ping is answered by the director, which has the address too.
    net.client.sh(&format!("ping -q -c 2 -i 0.2 -W 2 {HOST}"));
    assert_eq!(ask_udp(&net.client, &format!("{HOST}:7000"), 20), expected([("host", 20)]));
    net.director.sh("ping -q -c 3 -i 0.2 -W 2 172.16.100.50");
    assert_eq!(get(&net.client, "172.16.100.9", 4), expected([("web7", 2), ("web8", 2)]));
    assert_eq!(get(&net.director, "172.16.100.9", 4), expected([("web7", 2), ("web8", 2)]), "from the host");

    // Killed, it leaves what the next one puts right; ended, it puts everything back itself.
    director.dataplane().kill();
    director.start_dataplane();
    director.wait_programmed(Duration::from_secs(30));
    // It learns of the host's addresses a moment after its services.
    let ask = |count| ask_udp(&net.client, &format!("{HOST}:7000"), count);
    wait_for("an answer of the host", Duration::from_secs(5), || {
        (ask(1) == expected([("host", 1)])).then_some(())
    });
    assert_eq!(ask(4), expected([("host", 4)]));
    assert_eq!(ways(&net), during);
    director.stop();
    assert_eq!(ways(&net), before);
    net.client.sh(&format!("ping -q -c 2 -i 0.2 -W 2 {HOST}"));
}

#[test]
fn addresses_given_to_the_twin_are_the_hosts_and_it_serves_by_itself() {
    let lab = Lab::new("hostaddress");
    let net = topology::nat(&lab);
    let director = Director::start(&net.director, lab.directory(), &Setup::TWO, &network(&net, ""));
    let answers = |address: &str| net.client.try_sh(&format!("ping -q -c 1 -W 1 {address}")).status.success();
    assert!(!answers("172.16.100.33"));
    net.director.sh("ip addr add 172.16.100.33/24 dev fc-wan");
    wait_for("an answer of the new address", Duration::from_secs(5), || {
        answers("172.16.100.33").then_some(())
    });
    net.director.sh("ip addr del 172.16.100.33/24 dev fc-wan");
    wait_for("no answer of it any more", Duration::from_secs(5), || {
        (!answers("172.16.100.33")).then_some(())
    });

    // A VIP on the loopback interface, with a daemon behind it and a server elsewhere.
    let _web = web(&lab, &net.director, &["80"], "local");
    net.director.sh("ip addr add 172.16.100.9/32 dev lo
        ip addr add 172.16.100.34/24 dev fc-wan");
    director.fulcrum("service add tcp 172.16.100.9:80 --scheduler rr");
    director.fulcrum("server add tcp 172.16.100.9:80 127.0.0.1:80 --forward local");
    director.fulcrum("server add tcp 172.16.100.9:80 192.168.20.7:8080 --forward nat");
    wait_for("nginx", Duration::from_secs(10), || {
        (get(&net.client, "172.16.100.9", 2) == expected([("local", 1), ("web7", 1)])).then_some(())
    });
    assert_eq!(get(&net.client, "172.16.100.9", 10), expected([("local", 5), ("web7", 5)]));
    assert!(
        director.ipvsadm("-Ln").contains("127.0.0.1:80                 Local   1"),
        "{}",
        director.ipvsadm("-Ln")
    );
}

/// Says which source ports of the host lead to which servers of the service at port 80 of a VIP.
fn register(director: &Director, vip: [u8; 4], servers: &[(u32, [u8; 4], u32, Forward)]) {
    let probe = |&(port, address, server_port, forward): &(u32, [u8; 4], u32, Forward)| wire::Probe {
        port,
        service: Some(ServiceKey {
            protocol: Protocol::Tcp.into(),
            address: vip.to_vec(),
            port: 80,
            ..ServiceKey::default()
        }),
        server: Some(Server {
            key: Some(ServerKey { address: address.to_vec(), port: server_port }),
            forward: forward.into(),
            weight: 1,
            ..Server::default()
        }),
        from_local_address: forward == Forward::Fullnat,
    };
    let probes = servers.iter().map(probe).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let reply = runtime.block_on(async {
        let channel = fulcrum_api::socket::connect(&director.dataplane_socket()).await.expect("it listens");
        let request = wire::RegisterProbesRequest { probes };
        DataplaneClient::new(channel).register_probes(request).await.expect("an answer").into_inner()
    });
    assert_eq!((reply.known as usize, reply.exceptions), (servers.len(), true));
}

/// What a probe from a port hears of a VIP.
fn probe(host: &Namespace, port: u16, vip: &str) -> String {
    let said = host.try_sh(&format!("curl -s --max-time 3 --local-port {port} http://{vip}/"));
    String::from_utf8_lossy(&said.stdout).trim().to_owned()
}

#[test]
fn a_probe_goes_the_way_of_clients_to_the_server_that_it_is_for() {
    let lab = Lab::new("probedr");
    let net = topology::dr(&lab);
    let network =
        net.network.replacen("name = \"eth0\"\nport", "name = \"eth0\"\nexception = \"fc-eth0\"\nport", 1);
    let service = "[[service]]\naddress = \"192.168.0.210:80\"\nprotocol = \"tcp\"\nscheduler = \"rr\"\n\
        [[service.server]]\naddress = \"192.168.0.221\"\nforward = \"dr\"\n\
        [[service.server]]\naddress = \"192.168.0.222\"\nforward = \"dr\"\n";
    net.director.sh("ip addr add 192.168.0.1/24 dev eth0");
    let director = Director::start(&net.director, lab.directory(), &Setup::TWO, &(network + service));
    // A port is free again only after a minute when curl has used it.
    let dr = |port, last| (port, [192, 168, 0, last], 80, Forward::Dr);
    let ways = [dr(21001, 221), dr(21002, 222), dr(21003, 221), dr(21004, 222)];
    register(&director, [192, 168, 0, 210], &ways);
    // Out of the service, a server is asked all the same.
    for ports in [[21001, 21002], [21003, 21004]] {
        for (port, name) in ports.into_iter().zip(["web221", "web222"]) {
            assert_eq!(probe(&net.director, port, "192.168.0.210"), name, "from {port}");
        }
        director.try_fulcrum("server delete tcp 192.168.0.210:80 192.168.0.222:80");
    }
    assert_eq!(get(&net.client, "192.168.0.210", 4), expected([("web221", 4)]));
    drop((director, net));

    let net = topology::fullnat(&lab, "addresses = [\"192.168.20.200\"]");
    let service = "[[service]]\naddress = \"172.16.100.9:80\"\nprotocol = \"tcp\"\nlocal-pool = \"inside\"\n\
        [[service.server]]\naddress = \"192.168.30.7:8080\"\nforward = \"fullnat\"\n\
        [[service.server]]\naddress = \"192.168.40.8:8080\"\nforward = \"fullnat\"\n";
    net.director.sh("ip addr add 172.16.100.1/24 dev wan");
    let director =
        Director::start(&net.director, lab.directory(), &Setup::TWO, &(network_of(&net) + service));
    let fullnat = |port, server| (port, server, 8080, Forward::Fullnat);
    let servers = [fullnat(21001, [192, 168, 30, 7]), fullnat(21002, [192, 168, 40, 8])];
    register(&director, [172, 16, 100, 9], &servers);
    assert_eq!(probe(&net.director, 21002, "172.16.100.9"), "web8");
    assert_eq!(probe(&net.director, 21001, "172.16.100.9"), "web7");
}

#[test]
fn a_flood_at_the_host_starves_neither_bgp_nor_bfd_nor_ssh() {
    let lab = Lab::new("hostflood");
    let net = topology::nat(&lab);
    only_way_out(&net);
    let limits = "[exception]\nrest = 200\nmanagement-ports = [8022]\n";
    let _bfd = daemon(&lab, &net.director, "serve-udp bfd 0.0.0.0:4784", "bfd");
    let _other = daemon(&lab, &net.director, "serve-udp other 0.0.0.0:7000", "other");
    let director = Director::start(&net.director, lab.directory(), &Setup::ONE, &network(&net, limits));
    let _web = web(&lab, &net.director, &["179", "8022"], "host");
    let mut flood = net.client.command(program("fulcrum-lab"));
    flood.args(["load-udp", &format!("{HOST}:7000"), "20", "1", "6"]);
    let mut flood = Process::start(&mut flood, lab.directory().join("flood.log"));
    wait_for("the flood to be too much", Duration::from_secs(5), || {
        (director.drops("exception-policed-rest") > 500).then_some(())
    });
    assert_eq!(ask_udp(&net.client, &format!("{HOST}:4784"), 20), expected([("bfd", 20)]));
    for port in [179, 8022] {
        assert_eq!(get(&net.client, &format!("{HOST}:{port}"), 5), expected([("host", 5)]), "port {port}");
    }
    flood.wait(Duration::from_secs(20));
    for class in ["routing", "policed-management", "policed-routing"] {
        let counted = match class {
            "routing" => director.events("exception.routing") > 20,
            policed => director.drops(&format!("exception-{policed}")) == 0,
        };
        assert!(counted, "{class}");
    }
    assert_answered(&ask_udp(&net.client, &format!("{HOST}:7000"), 5), 5);
}
