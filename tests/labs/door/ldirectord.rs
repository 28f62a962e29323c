//! ldirectord, which operates the director by calling ipvsadm.

use std::fs;
use std::time::Duration;

use fulcrum_e2e::Lab;
use fulcrum_e2e::client::{expected, get};
use fulcrum_e2e::director::{Director, Setup};
use fulcrum_e2e::process::{Process, wait_for};
use fulcrum_e2e::topology;

use super::{SORRY, all, checking, ipvsadm, join, serve_sorry, servers, through};

const SOON: Duration = Duration::from_secs(15);

#[test]
fn ldirectord_checks_servers_of_the_director() {
    let lab = Lab::new("doorldirectord");
    let mut net = topology::nat(&lab);
    serve_sorry(&mut net);
    let director = Director::start(&net.director, lab.directory(), &Setup::ONE, &checking(&net));
    join(&net.director);
    net.client.sh("ip route add 10.77.0.0/24 via 172.16.100.1");
    director.fulcrum("mark add 7 --protocol tcp --to 10.77.0.7 --ports 8080");
    let configuration = format!(
        "checktimeout=2
checkinterval=1
autoreload=no
quiescent=no
logfile=\"{}\"
virtual=172.16.100.9:80
\treal=192.168.20.7:8080 masq
\treal=192.168.20.8:8080 masq
\tfallback={SORRY} masq
\tservice=http
\tscheduler=rr
\tprotocol=tcp
\tchecktype=negotiate
\trequest=\"/\"
\treceive=\"web[78]\"
virtual=7
\treal=192.168.20.7:8080 masq 2
\tquiescent=yes
\tservice=none
\tscheduler=wlc
\tprotocol=fwm
\tchecktype=connect
",
        lab.directory().join("ldirectord.log").display()
    );
    let file = lab.directory().join("ldirectord.cf");
    fs::write(&file, configuration).expect("the lab's directory is writable");
    let mut command = through(&director, &net.director, "ldirectord -d");
    command.arg(&file).arg("start");
    let mut daemon = Process::start(&mut command, lab.directory().join("ldirectord.out.log"));
    let wait_of = |service: &str, expected: Vec<(String, u64)>| {
        wait_for(&format!("{expected:?} of {service}"), SOON, || {
            (servers(&director, service) == expected).then_some(())
        });
    };
    let wait = |expected| wait_of("TCP 172.16.100.9:80", expected);
    let marked = |weight| wait_of("FWM 7", vec![("192.168.20.7:8080".to_owned(), weight)]);
    let (first, second) = ("192.168.20.7:8080", "192.168.20.8:8080");
    wait(all([first, second]));
    marked(2);
    assert_eq!(get(&net.client, "172.16.100.9", 4), expected([("web7", 2), ("web8", 2)]));
    assert_eq!(get(&net.client, "10.77.0.7:8080", 1), expected([("web7", 1)]));
    net.servers[0].kill("http");
    wait(all([second]));
    marked(0);
    net.servers[1].kill("http");
    wait(all([SORRY]));
    assert_eq!(get(&net.client, "172.16.100.9", 2), expected([("sorry", 2)]));
    net.servers.iter_mut().for_each(|server| server.serve_http(&[8080]));
    wait(all([first, second]));
    marked(2);
    daemon.signal("TERM");
    assert!(daemon.wait(SOON).success(), "{}", daemon.log());
    assert_eq!(ipvsadm(&director, &net.director, "-Sn"), "", "a clean stop leaves nothing");
}
