//! Two directors of which keepalived makes a pair by VRRP, and which it operates at the same time.

use std::time::Duration;

use fulcrum_e2e::Lab;
use fulcrum_e2e::client::{expected, get};
use fulcrum_e2e::process::wait_for;

use super::{all, servers};
use crate::announce::{MOVED, around_a_pair, held, paired};

const SOON: Duration = Duration::from_secs(15);
const SERVICE: &str = "TCP 192.168.0.210:80";

#[test]
fn a_keepalived_that_checks_servers_takes_over_from_another() {
    let lab = Lab::new("doorpair");
    let (client, mut servers_of_both, mut segment) = around_a_pair(&lab);
    let real = |host: &str| {
        format!("real_server 192.168.0.{host} 80 {{\nTCP_CHECK {{\nconnect_timeout 1\nretry 0\n}}\n}}\n")
    };
    let block = format!(
        "virtual_server {MOVED} 80 {{\ndelay_loop 0.3\nlvs_sched rr\nlvs_method DR\nprotocol TCP\n{}{}}}\n",
        real("221"),
        real("222")
    );
    let mut pair = [(1, 150), (2, 100)].map(|one| paired(&lab, &mut segment, one, Some(&block)));
    let (first, second) = ("192.168.0.221:80", "192.168.0.222:80");
    wait_for("the first to be master", SOON, || (held(&pair[0]) && !held(&pair[1])).then_some(()));
    let wait = |n: usize, expected: &[(String, u64)]| {
        wait_for(&format!("{expected:?} of {n}"), SOON, || {
            (servers(&pair[n].director, SERVICE) == expected).then_some(())
        });
    };
    // Both know the servers, whoever has the VIP.
    [0, 1].into_iter().for_each(|n| wait(n, &all([first, second])));
    assert_eq!(get(&client, MOVED, 4), expected([("web221", 2), ("web222", 2)]));
    servers_of_both[0].kill("http");
    [0, 1].into_iter().for_each(|n| wait(n, &all([second])));
    assert_eq!(get(&client, MOVED, 2), expected([("web222", 2)]));

    pair[0].director.dataplane().kill();
    wait_for("the second to be master", SOON, || held(&pair[1]).then_some(()));
    let known = pair[1].inside.sh("cat /sys/class/net/fc-eth0/address");
    wait_for("the client to know it", SOON, || {
        client.sh(&format!("ip neigh show {MOVED}")).contains(known.trim()).then_some(())
    });
    assert_eq!(get(&client, MOVED, 2), expected([("web222", 2)]));
    servers_of_both[0].serve_http(&[80]);
    wait_for("the server that is back", SOON, || {
        (servers(&pair[1].director, SERVICE) == all([first, second])).then_some(())
    });
    assert_eq!(get(&client, MOVED, 4), expected([("web221", 2), ("web222", 2)]));
    assert!(pair.iter_mut().all(|beside| beside.daemon.is_running()));
}
