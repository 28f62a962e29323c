//! Scripts as old guides have them: start, stop and status of a director, by ipvsadm alone.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Command;

use fulcrum_e2e::Lab;
use fulcrum_e2e::client::{expected, get};
use fulcrum_e2e::director::{Director, Setup};
use fulcrum_e2e::process::program;
use fulcrum_e2e::topology;

/// Direct routing, persistent, one line a server.
const DR: &str = r#"#!/bin/sh
# chkconfig: 345 95 05
# description: LVS director, direct routing
VIP=172.16.100.10
RIP1=192.168.20.7
RIP2=192.168.20.8
. ./functions

case "$1" in
start)
    echo "start LVS of DirectorServer"
    /sbin/ipvsadm -C
    /sbin/ipvsadm -A -t $VIP:80 -s wlc -p 600
    /sbin/ipvsadm -a -t $VIP:80 -r $RIP1:80 -g -w 1
    /sbin/ipvsadm -a -t $VIP:80 -r $RIP2:80 -g -w 1
    /sbin/ipvsadm
    touch lvs.lock
    ;;
stop)
    echo "close LVS DirectorServer"
    /sbin/ipvsadm -C
    rm -f lvs.lock
    ;;
status)
    if [ ! -e lvs.lock ]; then
        echo "LVS stopped"
        exit 3
    fi
    echo "LVS OK"
    /sbin/ipvsadm -L -n | awk '/^TCP/ { print "service", $2, $3 } /->/ && $3 == "Route" { print "server", $2, $4 }'
    ;;
*)
    echo "Usage: $0 {start|stop|status}"
    exit 1
    ;;
esac
"#;

/// NAT with loops, long options, edits, and a save before the end.
const NAT: &str = r#"#!/bin/bash
set -e
VIP=${VIP:-172.16.100.9}
PORTS="80 8080"
SERVERS="192.168.20.7=1 192.168.20.8=3"
RULES=./ipvsadm.rules
. ./functions

configured() { /sbin/ipvsadm --list --numeric | grep -q "^TCP  *$VIP:$1 "; }

start() {
    if [ -s $RULES ]; then
        /sbin/ipvsadm-restore < $RULES
        return
    fi
    for port in $PORTS; do
        /sbin/ipvsadm --add-service --tcp-service $VIP:$port --scheduler wrr
        for server in $SERVERS; do
            /sbin/ipvsadm --add-server --tcp-service $VIP:$port --real-server ${server%=*}:8080 \
                --masquerading --weight ${server#*=}
        done
    done
    /sbin/ipvsadm --set 900 60 300
}

stop() {
    /sbin/ipvsadm-save -n > $RULES
    /sbin/ipvsadm --clear
}

case $1 in
start|stop) $1 ;;
restart) stop; start ;;
drain)
    for port in $PORTS; do /sbin/ipvsadm -e -t $VIP:$port -r $2:8080 -m -w 0; done ;;
status)
    for port in $PORTS; do configured $port || { echo "$VIP:$port is down"; exit 3; }; done
    echo "director is running"
    /sbin/ipvsadm -Ln --stats | tail -n +4 ;;
*) echo "usage: $0 start|stop|restart|drain SERVER|status" >&2; exit 64 ;;
esac
"#;

/// A guide's script beside a director; `/sbin/` is the lab's own directory of links to the program.
struct Guide<'a> {
    lab: &'a Lab,
    director: &'a Director,
    name: &'static str,
}

impl<'a> Guide<'a> {
    fn new(lab: &'a Lab, director: &'a Director, name: &'static str, script: &str) -> Guide<'a> {
        let here = lab.directory();
        for link in ["ipvsadm", "ipvsadm-save", "ipvsadm-restore"] {
            let _ = symlink(program("fulcrum"), here.join(link));
        }
        fs::write(here.join("functions"), "# as /etc/rc.d/init.d/functions\n").expect("it is writable");
        let text = script.replace("/sbin/", &format!("{}/", here.display()));
        fs::write(here.join(name), text).expect("the lab's directory is writable");
        fs::set_permissions(here.join(name), fs::Permissions::from_mode(0o755)).expect("it is ours");
        Guide { lab, director, name }
    }

    /// Exit code, and what it has printed.
    fn run(&self, arguments: &str) -> (i32, String) {
        let here = self.lab.directory();
        let output = Command::new(here.join(self.name))
            .args(arguments.split(' '))
            .current_dir(here)
            .env("FULCRUM_SOCKET", self.director.socket())
            .output()
            .expect("the script can be run");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let complaints = String::from_utf8_lossy(&output.stderr);
        assert_eq!(complaints, "", "{} {arguments}", self.name);
        (output.status.code().unwrap_or(-1), said)
    }
}

#[test]
fn a_script_of_direct_routing_starts_tells_and_stops() {
    let lab = Lab::new("guidedr");
    let net = topology::stage(&lab);
    let director = Director::start(&net.director, lab.directory(), &Setup::ONE, &net.network);
    let guide = Guide::new(&lab, &director, "lvsdr", DR);
    assert_eq!(guide.run("status"), (3, "LVS stopped\n".to_owned()));
    let (code, said) = guide.run("start");
    assert_eq!(code, 0, "{said}");
    assert!(said.starts_with("start LVS of DirectorServer\nIP Virtual Server version "), "{said}");
    assert_eq!(get(&net.client, "172.16.100.10", 4).len(), 1, "persistent");
    let told = "LVS OK\nservice 172.16.100.10:80 wlc\nserver 192.168.20.7:80 1\nserver 192.168.20.8:80 1\n";
    assert_eq!(guide.run("status"), (0, told.to_owned()));
    assert_eq!(guide.run("start").0, 0, "a second start is as good as the first");
    assert_eq!(guide.run("stop"), (0, "close LVS DirectorServer\n".to_owned()));
    assert_eq!(guide.run("status").0, 3);
    assert_eq!(guide.run("reload").0, 1);
    assert_eq!(get(&net.client, "172.16.100.10", 1), expected([("-", 1)]));
}

#[test]
fn a_script_of_nat_saves_restores_and_drains() {
    let lab = Lab::new("guidenat");
    let net = topology::stage(&lab);
    let director = Director::start(&net.director, lab.directory(), &Setup::ONE, &net.network);
    let guide = Guide::new(&lab, &director, "lvsnat", NAT);
    assert_eq!(guide.run("status"), (3, "172.16.100.9:80 is down\n".to_owned()));
    assert_eq!(guide.run("start").0, 0);
    let shared = expected([("web1", 2), ("web2", 6)]);
    assert_eq!(get(&net.client, "172.16.100.9", 8), shared);
    assert_eq!(get(&net.client, "172.16.100.9:8080", 8), shared);
    let (code, said) = guide.run("status");
    assert_eq!(code, 0);
    assert!(said.starts_with("director is running\nTCP  172.16.100.9:80 "), "{said}");
    let configured = director.fulcrum("ipvsadm -Sn");
    assert_eq!(guide.run("restart").0, 0);
    assert_eq!(director.fulcrum("ipvsadm -Sn"), configured);
    assert_eq!(guide.run("drain 192.168.20.8").0, 0);
    assert_eq!(get(&net.client, "172.16.100.9", 4), expected([("web1", 4)]));
    assert_eq!(guide.run("stop").0, 0);
    assert_eq!(director.fulcrum("ipvsadm -Sn"), "");
    assert_eq!(guide.run("status").0, 3);
}
