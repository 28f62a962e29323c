//! Programs that were written for the kernel's IPVS, as their packages bring them, operate the director.

mod ipvsadm;
mod keepalived;
mod ldirectord;
mod pair;
mod python;

use std::process::{Command, Output};

use fulcrum_e2e::director::Director;
use fulcrum_e2e::net::{Namespace, run};
use fulcrum_e2e::process::program;
use fulcrum_e2e::topology::Topology;

/// A program on the director's host that finds the director where the kernel's IPVS would be.
pub(crate) fn through(director: &Director, inside: &Namespace, words: &str) -> Command {
    let mut command = inside.command(program("fulcrum"));
    command.env("FULCRUM_SOCKET", director.socket()).args(["run", "--"]).args(words.split_whitespace());
    command
}

/// Debian's ipvsadm, which must succeed; what it printed.
#[track_caller]
fn ipvsadm(director: &Director, inside: &Namespace, words: &str) -> String {
    run(&mut through(director, inside, &format!("/sbin/ipvsadm {words}")))
}

/// Debian's ipvsadm, whatever comes of it.
fn try_ipvsadm(director: &Director, inside: &Namespace, words: &str) -> Output {
    through(director, inside, &format!("/sbin/ipvsadm {words}")).output().expect("ip can be run")
}

/// The network of a lab with a twin of `lan` in Linux, by which the host reaches the servers that it checks.
fn checking(net: &Topology) -> String {
    net.network.replacen("name = \"lan\"\nport", "name = \"lan\"\nexception = \"fc-lan\"\nport", 1)
}

/// Gives the twin its address.
#[track_caller]
fn join(inside: &Namespace) {
    inside.sh("ip addr add 192.168.20.1/24 dev fc-lan");
}

/// A server of the lab for NAT that excuses itself, beside the others.
const SORRY: &str = "192.168.20.8:8081";

#[track_caller]
fn serve_sorry(net: &mut Topology) {
    let body = "server { listen 8081; location / { return 200 'sorry\\n'; } }";
    net.servers[1].serve_http_like("sorry", body, &[8081]);
}

/// The servers of a service as the director has them, with their weights.
fn servers(director: &Director, service: &str) -> Vec<(String, u64)> {
    let rows = director.listing().into_iter();
    let mut servers: Vec<(String, u64)> = rows
        .filter(|row| row.kind == "->" && row.service == service)
        .map(|row| (row.address, row.numbers.first().copied().unwrap_or(0)))
        .collect();
    servers.sort();
    servers
}

/// Servers as they should be, all of weight 1.
fn all<const N: usize>(addresses: [&str; N]) -> Vec<(String, u64)> {
    addresses.map(|address| (address.to_owned(), 1)).into()
}
