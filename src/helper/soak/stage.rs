//! What is soaked: all ways of forwarding in both families, by HTTP and UDP, each on ports that tell it from the others.

use fulcrum_e2e::Lab;
use fulcrum_e2e::director::{Director, Setup};
use fulcrum_e2e::net::Family;
use fulcrum_e2e::topology::{self, Topology};

/// The servers' names, their addresses, and their addresses on the management network.
pub(super) const SERVERS: [(&str, &str, &str); 3] = [
    ("web1", "192.168.20.7", "10.99.0.7"),
    ("web2", "192.168.20.8", "10.99.0.8"),
    ("web3", "192.168.30.9", "10.99.0.9"),
];

/// A way of forwarding, its VIP, its ports by HTTP and UDP, those of its servers, and these.
type Way = (&'static str, &'static str, [u16; 2], [u16; 2], [usize; 2], [&'static str; 2]);

const WAYS: [Way; 4] = [
    ("nat", "172.16.100.9", [81, 5000], [8081, 5001], [0, 1], ["wrr", "rr"]),
    ("dr", "172.16.100.10", [82, 5000], [82, 5000], [0, 1], ["wlc", "wrr"]),
    ("tun", "172.16.100.11", [83, 5000], [83, 5000], [0, 1], ["rr", "sed"]),
    ("fullnat", "172.16.100.12", [84, 5000], [8084, 5001], [1, 2], ["lc", "rr"]),
];

/// How sessions end, in seconds: soon, so that the end of a run does not wait for them.
pub(super) const LONGEST: u64 = 15;
const TIMEOUTS: &str = "
[timeouts]
tcp-established = 15
tcp-syn-sent = 5
tcp-syn-recv = 5
tcp-fin-wait = 5
tcp-time-wait = 5
tcp-close = 2
tcp-close-wait = 5
tcp-last-ack = 5
udp = 5
";

/// When a check has found out that a server is down: `fall` times the interval, the last time-out, and the state on its
/// way to the workers, on a busy machine.
pub(super) const NOTICED: u64 = 8_000;
const CHECK: &str = "
[[check]]
name = \"web\"
type = \"tcp\"
interval = 1
timeout = 1
rise = 2
fall = 3
[[local-pool]]
name = \"inside\"
interface = \"lan\"
addresses = [\"192.168.20.200-192.168.20.201\", \"fd00:20::200/127\"]
";

/// A service, and who answers for it.
#[derive(Clone, Debug)]
pub(super) struct Service {
    pub(super) way: &'static str,
    pub(super) family: Family,
    pub(super) http: bool,
    vip: &'static str,
    port: u16,
    /// Port of its servers.
    pub(super) server_port: u16,
    /// Numbers of its servers.
    pub(super) servers: [usize; 2],
    scheduler: &'static str,
}

impl Service {
    /// All of them.
    pub(super) fn all() -> Vec<Service> {
        let families = [Family::V4, Family::V6];
        let each = families.into_iter().flat_map(|family| WAYS.map(|way| (family, way)));
        let both = each.flat_map(|(family, (way, vip, ports, server_ports, servers, schedulers))| {
            [0, 1].map(|at| Service {
                way,
                family,
                http: at == 0,
                vip,
                port: ports[at],
                server_port: server_ports[at],
                servers,
                scheduler: schedulers[at],
            })
        });
        both.collect()
    }

    /// Whether its servers are checked: HTTP in IPv4 is, so that both kinds are there.
    pub(super) fn is_checked(&self) -> bool {
        self.http && self.family == Family::V4
    }

    fn protocol(&self) -> &'static str {
        if self.http { "tcp" } else { "udp" }
    }

    fn address(&self) -> String {
        format!("{}:{}", self.family.host(self.vip), self.port)
    }

    /// What commands call it.
    pub(super) fn name(&self) -> String {
        format!("{} {}", self.protocol(), self.address())
    }

    /// What the clients call it.
    pub(super) fn asked(&self) -> String {
        format!("{}={}", if self.http { "http" } else { "udp" }, self.address())
    }

    /// What commands call one of its servers.
    pub(super) fn server(&self, server: usize) -> String {
        format!("{}:{}", self.family.host(SERVERS[server].1), self.server_port)
    }

    fn table(&self) -> String {
        let (address, protocol, scheduler, way) = (self.address(), self.protocol(), self.scheduler, self.way);
        let mut text = format!(
            "[[service]]\naddress = \"{address}\"\nprotocol = \"{protocol}\"\nscheduler = \"{scheduler}\"\n"
        );
        if way == "fullnat" {
            text += "local-pool = \"inside\"\n";
        }
        if self.is_checked() {
            text += "checks = [\"web\"]\n";
        }
        for server in self.servers {
            text += &format!(
                "[[service.server]]\naddress = \"{}\"\nforward = \"{way}\"\ncheck-address = \"{}\"\n",
                self.server(server),
                SERVERS[server].2
            );
        }
        text
    }

    /// Whether an answer is one that this service may give, and whose it is.
    pub(super) fn answerer(&self, answer: &str) -> Option<usize> {
        let mut words = answer.split(' ');
        let name = words.next()?;
        let server = *self.servers.iter().find(|server| SERVERS[**server].0 == name)?;
        let rest = words.next();
        let right = match rest {
            None => !self.http,
            Some(end) => {
                let (address, port) = end.rsplit_once(':')?;
                self.http
                    && port == self.server_port.to_string()
                    && address.contains('.') == (self.family == Family::V4)
            }
        };
        (right && words.next().is_none()).then_some(server)
    }
}

/// The network, its servers and the director.
pub(super) struct Stage {
    pub(super) director: Director,
    pub(super) net: Topology,
    pub(super) lab: Lab,
}

impl Stage {
    pub(super) fn build(tag: &str, services: &[Service]) -> Stage {
        let lab = Lab::named(tag.to_owned());
        let mut net = topology::stage(&lab);
        net.manage(&lab);
        for server in 0..net.servers.len() {
            serve(&mut net, server);
        }
        let services: String = services.iter().map(Service::table).collect();
        let network = format!("{}{CHECK}{TIMEOUTS}{services}", net.network);
        let setup = Setup { hugepages: "auto", ..Setup::TWO };
        let director = Director::start(&net.director, lab.directory(), &setup, &network);
        Stage { director, net, lab }
    }
}

/// What a server's HTTP process is called.
pub(super) const HTTP: &str = "soak";

/// Starts a server's HTTP process, which tells who it is, where it was reached and what it was asked for.
pub(super) fn serve(net: &mut Topology, server: usize) {
    let ports: Vec<u16> =
        Service::all().iter().filter(|service| service.http).map(|service| service.server_port).collect();
    let mut ports = ports;
    ports.sort_unstable();
    ports.dedup();
    let listen: String =
        ports.iter().map(|port| format!("listen [::]:{port} ipv6only=off backlog=4096; ")).collect();
    let server = &mut net.servers[server];
    let answer = format!("return 200 '{} $server_addr:$server_port $request_uri';", server.name);
    let body = format!(
        "access_log off; keepalive_timeout 600; keepalive_requests 1000000;
         server {{ {listen} location / {{ {answer} }} }}"
    );
    server.serve_http_like(HTTP, &body, &ports);
}

#[cfg(test)]
mod tests {
    use super::Service;

    #[test]
    fn answers_of_others_are_told_from_those_of_a_service() {
        let services = Service::all();
        assert_eq!(services.len(), 16);
        let nat = &services[0];
        assert_eq!((nat.name().as_str(), nat.is_checked()), ("tcp 172.16.100.9:81", true));
        assert_eq!(nat.answerer("web2 192.168.20.8:8081"), Some(1));
        let wrong = ["web3 192.168.30.9:8081", "web1 192.168.20.7:8084", "web1 fd00:20::7:8081", "web1", ""];
        for answer in wrong {
            assert_eq!(nat.answerer(answer), None, "{answer}");
        }
        assert_eq!(nat.answerer("web1 192.168.20.7:8081 /1-2 instead of /3-4"), None);
        assert_eq!(services[1].answerer("web1"), Some(0));
        assert_eq!(services[1].answerer("web3"), None);
    }
}
