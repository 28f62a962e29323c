//! pyroute2, a netlink library of Python's: it makes its messages and keeps its sockets in ways of its own.

use std::path::{Path, PathBuf};
use std::process::Command;

use fulcrum_e2e::Lab;
use fulcrum_e2e::client::{expected, get};
use fulcrum_e2e::director::{Director, Setup};
use fulcrum_e2e::net::run;
use fulcrum_e2e::process::program;
use fulcrum_e2e::topology;

use super::through;

/// What is installed, and the sum of it.
const PACKAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/labs/door/python.txt");

const PROGRAM: &str = "
from socket import IPPROTO_TCP
from pyroute2 import IPVS, IPVSDest, IPVSService
ipvs = IPVS()
service = IPVSService(addr='172.16.100.9', port=80, protocol=IPPROTO_TCP, sched_name='rr')
ipvs.service('add', service=service)
for n in (7, 8):
    ipvs.dest('add', service=service, dest=IPVSDest(addr=f'192.168.20.{n}', port=8080, fwd_method=0))
gone = IPVSService(addr='172.16.100.9', port=81, protocol=IPPROTO_TCP)
ipvs.service('add', service=gone)
ipvs.service('del', service=gone)
try:
    ipvs.service('add', service=service)
except Exception as error:
    print(error.code)
for message in ipvs.service('dump'):
    attributes = dict(message.get('IPVS_CMD_ATTR_SERVICE')['attrs'])
    print(attributes['IPVS_SVC_ATTR_ADDR'], attributes['IPVS_SVC_ATTR_PORT'], attributes['IPVS_SVC_ATTR_SCHED_NAME'])
    for server in ipvs.dest('dump', service=service):
        attributes = dict(server.get('IPVS_CMD_ATTR_DEST')['attrs'])
        print(attributes['IPVS_DEST_ATTR_ADDR'], attributes['IPVS_DEST_ATTR_PORT'], attributes['IPVS_DEST_ATTR_WEIGHT'])
";

/// pyroute2, from PyPI the first time, beside the programs.
fn packages() -> PathBuf {
    let programs = program("fulcrum");
    let folder = programs.parent().unwrap_or(Path::new("/")).join("labs-python");
    if !folder.join("pyroute2").exists() {
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--target"]);
        run(pip.arg(&folder).args(["--requirement", PACKAGES]));
    }
    folder
}

#[test]
fn pyroute2_makes_and_lists_services() {
    let packages = packages();
    let lab = Lab::new("doorpython");
    let net = topology::nat(&lab);
    let director = Director::start(&net.director, lab.directory(), &Setup::ONE, &net.network);
    let mut python = through(&director, &net.director, "python3 -c");
    let said = run(python.arg(PROGRAM).env("PYTHONPATH", packages));
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(
        lines,
        ["17", "172.16.100.9 80 rr", "192.168.20.8 8080 1", "192.168.20.7 8080 1"],
        "EEXIST, and what it has made, the newest first"
    );
    assert_eq!(
        director.ipvsadm("-Sn"),
        "-A -t 172.16.100.9:80 -s rr\n-a -t 172.16.100.9:80 -r 192.168.20.7:8080 -m -w 1\n\
         -a -t 172.16.100.9:80 -r 192.168.20.8:8080 -m -w 1\n"
    );
    assert_eq!(get(&net.client, "172.16.100.9", 4), expected([("web7", 2), ("web8", 2)]));
}
