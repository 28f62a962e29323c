//! The director as the servers' gateway: what they start themselves, seen by a host outside.

use std::time::Duration;

use fulcrum_e2e::Lab;
use fulcrum_e2e::client::{expected, get};
use fulcrum_e2e::director::{Director, Setup};
use fulcrum_e2e::net::Family;
use fulcrum_e2e::process::wait_for;
use fulcrum_e2e::server::Server;
use fulcrum_e2e::topology;

const RULES: &str = "
[[local-pool]]
name = \"outside\"
interface = \"wan\"
addresses = [\"172.16.100.200\", \"fd00:100::200\"]
[[snat]]
name = \"servers\"
source = \"192.168.20.0/24\"
pool = \"outside\"
[[snat]]
name = \"servers6\"
source = \"fd00:20::/64\"
pool = \"outside\"
";
/// Tells who asks.
const WHO: &str = "server { listen 8080; listen [::]:8080; location / { return 200 \"$remote_addr\\n\"; } }";

#[test]
fn servers_reach_a_host_outside_under_an_address_of_the_pool() {
    let mut lab = Lab::new("gateway");
    let net = topology::nat(&lab);
    let network = format!("{}{RULES}", net.network);
    let director = Director::start(&net.director, lab.directory(), &Setup::MISDIRECTED, &network);
    director.ipvsadm("-A -t 172.16.100.9:80 -s rr");
    director.ipvsadm("-a -t 172.16.100.9:80 -r 192.168.20.7:8080 -m");
    // The service is theirs, and its answers are no flows of the servers.
    assert_eq!(get(&net.client, "172.16.100.9", 3), expected([("web7", 3)]));

    let mut outside = Server::new(net.client, "outside", lab.directory());
    outside.serve_http_like("who", WHO, &[8080]);
    for (family, pool) in [(Family::V4, "172.16.100.200"), (Family::V6, "fd00:100::200")] {
        let host = family.host("172.16.100.50");
        for server in &net.servers {
            assert_eq!(get(&server.inside, &format!("{host}:8080"), 4), expected([(pool, 4)]));
            let ping = format!("ping -c 2 -i 0.2 -W 2 {}", family.address("172.16.100.50"));
            assert!(server.inside.sh(&ping).contains(" 0% packet loss"), "{family:?}");
            // A datagram in fragments, there and back.
            let ping = format!("ping -c 1 -W 2 -s 3000 {}", family.address("172.16.100.50"));
            assert!(server.inside.sh(&ping).contains(" 0% packet loss"), "{family:?}");
        }
    }
    let listed = director.fulcrum("session list --json");
    let rows: Vec<serde_json::Value> = serde_json::from_str(&listed).expect("a list");
    let of = |rule: &str, protocol: &str| {
        rows.iter().filter(|row| row["snat"] == rule && row["protocol"] == protocol).count()
    };
    for rule in ["servers", "servers6"] {
        assert_eq!((of(rule, "tcp"), of(rule, "icmp")), (8, 4), "{listed}");
    }
    // To IPVS's eyes there are the service's connections alone.
    assert_eq!(director.sessions().len(), 3);
    let rules = || -> Vec<serde_json::Value> {
        serde_json::from_str(&director.fulcrum("snat list --json")).expect("a list")
    };
    let counted = wait_for("counts", Duration::from_secs(10), || {
        Some(rules()).filter(|rules| rules[0]["connections"] == 12 && rules[1]["connections"] == 12)
    });
    assert_eq!((&counted[0]["name"], &counted[0]["sessions"]), (&"servers".into(), &12.into()));
    assert!(counted[0]["out_packets"].as_u64() > Some(40) && counted[0]["in_bytes"].as_u64() > Some(6000));

    // Without the rule they are routed as they are, and with another before it, too.
    director.fulcrum("snat add local --from 192.168.20.7 --to 172.16.100.50 --exempt --before servers");
    outside.inside.route("192.168.20.0/24", "172.16.100.1", "");
    assert_eq!(get(&net.servers[0].inside, "172.16.100.50:8080", 1), expected([("192.168.20.7", 1)]));
    assert_eq!(get(&net.servers[1].inside, "172.16.100.50:8080", 1), expected([("172.16.100.200", 1)]));
    director.fulcrum("snat delete local");
    director.fulcrum("snat delete servers");
    assert_eq!(get(&net.servers[1].inside, "172.16.100.50:8080", 1), expected([("192.168.20.8", 1)]));
    lab.rest();
    director.rest();
}
