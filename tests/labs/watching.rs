//! What Prometheus gets of a director at work.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use fulcrum_e2e::Lab;
use fulcrum_e2e::client::{assert_answered, get};
use fulcrum_e2e::director::{Director, Setup};
use fulcrum_e2e::net::{Namespace, run};
use fulcrum_e2e::process::wait_for;
use fulcrum_e2e::topology;

/// For what a busy machine may need.
const SOON: Duration = Duration::from_secs(20);

/// By FULLNAT. The check asks at a port that is open on the director itself.
const SERVICE: &str = r#"
[[check]]
name = "alive"
type = "tcp"
interval = "200ms"
[[service]]
address = "172.16.100.9:80"
protocol = "tcp"
scheduler = "rr"
checks = ["alive"]
announce = "healthy"
local-addresses = ["192.168.20.210"]
[[service.server]]
address = "192.168.30.7:8080"
forward = "fullnat"
check-address = "127.0.0.1"
check-port = 9559
[[service.server]]
address = "192.168.40.8:8080"
forward = "fullnat"
check-address = "127.0.0.1"
check-port = 9559
"#;

/// For the gateway and the exception path, whose rest may hold ten frames a second.
const BESIDE: &str = r#"
[[local-pool]]
name = "outside"
interface = "wan"
addresses = ["172.16.100.200-172.16.100.201"]
ports = "5000-5999"
[[snat]]
name = "routers"
source = "192.168.20.0/24"
pool = "outside"
[[route]]
to = "198.51.100.0/24"
via = ["172.16.100.253", "172.16.100.254"]
[exception]
rest = 10
"#;

/// The page, as Prometheus' own tool finds nothing to complain about.
fn scrape(inside: &Namespace, lab: &Lab) -> String {
    let file = lab.directory().join("metrics.txt");
    inside.sh(&format!("curl -sf --max-time 20 http://127.0.0.1:9559/metrics > {}", file.display()));
    let mut promtool = std::process::Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(fs::File::open(&file).expect("it was written"));
    assert_eq!(run(&mut promtool), "");
    fs::read_to_string(&file).expect("it was written")
}

/// The value of a series.
#[track_caller]
fn value(page: &str, series: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in\n{page}")).parse().expect("a number")
}

/// Words that begin so in the files for Prometheus and Grafana.
fn named(begin: &str) -> BTreeSet<String> {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy");
    let text = ["prometheus/alerts.yml", "grafana/fulcrum.json"]
        .map(|file| fs::read_to_string(deploy.join(file)).expect("it is there"))
        .concat();
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with(begin)).map(str::to_owned).collect()
}

#[test]
fn metrics_are_of_the_traffic_that_was() {
    let lab = Lab::new("metrics");
    let net = topology::fullnat(&lab, "addresses = [\"192.168.20.210\"]");
    let network =
        net.network.replacen("name = \"wan\"\nport", "name = \"wan\"\nexception = \"fc-wan\"\nport", 1);
    let network = format!("metrics = \"127.0.0.1:9559\"\n{network}{SERVICE}{BESIDE}");
    let mut director = Director::start(&net.director, lab.directory(), &Setup::TWO, &network);
    let probed = "fulcrum_check_probes_total{service=\"tcp 172.16.100.9:80\",server=\"192.168.30.7:8080\",\
                  check=\"alive\",result=\"good\"}";
    let before = wait_for("a good probe", SOON, || {
        let page = scrape(&net.director, &lab);
        (value(&page, probed) > 0.0).then_some(page)
    });
    assert_eq!(value(&before, "fulcrum_servers_in_state{state=\"up\"}"), 2.0);
    assert_answered(&get(&net.client, "172.16.100.9", 10), 10);
    net.client.sh("curl -s --max-time 5 http://172.16.100.9:81/ || true");
    // What is no service's: a flow of a host behind the director, and pings to an address of the director's host.
    let router = &net.others[0];
    router.route("172.16.100.0/24", "192.168.20.1", "");
    router.sh("ping -q -c 3 -i 0.2 -W 2 172.16.100.50");
    net.director.sh("ip addr add 172.16.100.33/24 dev fc-wan");
    wait_for("an answer of the host", SOON, || {
        net.client.try_sh("ping -q -c 1 -W 1 172.16.100.33").status.success().then_some(())
    });
    let pinged = scrape(&net.director, &lab);
    net.client.try_sh("ping -q -c 60 -i 0.002 -W 1 172.16.100.33");
    let page = scrape(&net.director, &lab);

    let rule = "{rule=\"routers\"}";
    for (series, is) in [
        ("snat_sessions", 1.0),
        ("snat_connections_total", 1.0),
        ("snat_out_packets_total", 3.0),
        ("snat_in_bytes_total", 252.0),
        ("snat_refused_packets_total", 0.0),
        ("snat_local_ports", 2000.0),
        ("snat_local_port_sessions", 1.0),
    ] {
        assert_eq!(value(&page, &format!("fulcrum_{series}{rule}")), is, "{series}");
    }
    let rest = |what: &str| {
        let series = format!("fulcrum_exception_{what}_packets_total{{port=\"wan\",class=\"rest\"}}");
        value(&page, &series) - value(&pinged, &series)
    };
    assert!(rest("up") > 0.0 && rest("policed") > 0.0, "{page}");
    assert_eq!(rest("up") + rest("policed"), 60.0);
    let down = "fulcrum_exception_down_packets_total{port=\"wan\"}";
    assert!(value(&page, down) - value(&pinged, down) >= rest("up"), "{page}");

    let service = "service=\"tcp 172.16.100.9:80\"";
    let grown = |series: &str| value(&page, series) - value(&before, series);
    assert_eq!(grown(&format!("fulcrum_service_connections_total{{{service}}}")), 10.0);
    assert_eq!(grown("fulcrum_connections_total"), 10.0);
    for server in ["192.168.30.7:8080", "192.168.40.8:8080"] {
        let labels = format!("{{{service},server=\"{server}\"}}");
        assert_eq!(grown(&format!("fulcrum_server_connections_total{labels}")), 5.0);
        assert!(grown(&format!("fulcrum_server_out_bytes_total{labels}")) > 0.0);
    }
    assert_eq!(grown("fulcrum_dropped_packets_total{reason=\"no-service\"}"), 1.0);
    assert!(value(&page, &format!("fulcrum_service_local_port_sessions{{{service}}}")) > 0.0);
    assert_eq!(value(&page, "fulcrum_port_up{port=\"wan\"}"), 1.0);
    assert!(value(&page, "fulcrum_process_resident_memory_bytes{process=\"dataplane\"}") > 0.0);

    // Whatever the dashboard and the alerts ask for has samples here, but for a bond's (`bond`), and the reasons that they
    // name exist.
    let sampled: BTreeSet<&str> = page
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split(['{', ' ']).next())
        .collect();
    let missing: Vec<String> =
        named("fulcrum_").into_iter().filter(|name| !sampled.contains(name.as_str())).collect();
    assert_eq!(missing, ["fulcrum_port_member_up"]);
    let alerts =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/prometheus/alerts.yml"))
            .expect("it is there");
    let mut reasons = 0;
    for reasons_of_one in alerts.split("{reason").skip(1).filter_map(|rest| rest.split('"').nth(1)) {
        for reason in reasons_of_one.split('|') {
            value(&page, &format!("fulcrum_dropped_packets_total{{reason=\"{reason}\"}}"));
            reasons += 1;
        }
    }
    assert!(reasons > 5);

    // A data plane that is gone is seen by both pages, and a table of top is what the counters say.
    assert!(director.fulcrum("top --interval 0.2").contains("tcp 172.16.100.9:80"));
    let health = || net.director.sh("curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:9559/healthz");
    assert_eq!(health(), "200");
    director.dataplane().stop();
    wait_for("an unhealthy director", SOON, || (health() == "503").then_some(()));
    assert_eq!(value(&scrape(&net.director, &lab), "fulcrum_dataplane_up"), 0.0);
}
