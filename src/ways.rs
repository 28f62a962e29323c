//! The four ways of forwarding, each with a VIP of its own on one stage ([`crate::topology::stage`]): ipvsadm's lines,
//! and who has to answer how often.

/// Requests by HTTP, and as many by UDP, to which the shares of a [`Way`] add up.
pub const REQUESTS: usize = 6;

/// A way of forwarding.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    /// What it is, in one line.
    pub title: &'static str,
    /// Where its services are: HTTP at port 80, UDP at port 5000.
    pub vip: &'static str,
    /// ipvsadm's lines, in IPv4 ([`crate::net::Family::words`]).
    pub commands: &'static str,
    /// Who answers how many requests by HTTP.
    pub by_http: [(&'static str, usize); 2],
    /// Who answers how many datagrams.
    pub by_udp: [(&'static str, usize); 2],
}

/// Answers come back through the director, servers see the client.
pub const NAT: Way = Way {
    title: "NAT: the director rewrites the destination, answers come back through it",
    vip: "172.16.100.9",
    commands: "
        -A -t 172.16.100.9:80 -s rr
        -a -t 172.16.100.9:80 -r 192.168.20.7:8080 -m
        -a -t 172.16.100.9:80 -r 192.168.20.8:8080 -m
        -A -u 172.16.100.9:5000 -s rr
        -a -u 172.16.100.9:5000 -r 192.168.20.7:5001 -m
        -a -u 172.16.100.9:5000 -r 192.168.20.8:5001 -m",
    by_http: [("web1", 3), ("web2", 3)],
    by_udp: [("web1", 3), ("web2", 3)],
};

/// Servers answer themselves, on a link with the director.
pub const DR: Way = Way {
    title: "DR: only the MAC address changes, servers hold the VIP and answer the client themselves",
    vip: "172.16.100.10",
    commands: "
        -A -t 172.16.100.10:80 -s wlc
        -a -t 172.16.100.10:80 -r 192.168.20.7 -g -w 1
        -a -t 172.16.100.10:80 -r 192.168.20.8 -g -w 2
        -A -u 172.16.100.10:5000 -s rr
        -a -u 172.16.100.10:5000 -r 192.168.20.7 -g
        -a -u 172.16.100.10:5000 -r 192.168.20.8 -g",
    by_http: [("web1", 2), ("web2", 4)],
    by_udp: [("web1", 3), ("web2", 3)],
};

/// Servers answer themselves, wherever they are.
pub const TUN: Way = Way {
    title: "TUN: the packet travels to the server inside another, the server answers the client itself",
    vip: "172.16.100.11",
    commands: "
        -A -t 172.16.100.11:80 -s wrr
        -a -t 172.16.100.11:80 -r 192.168.20.7 -i -w 2
        -a -t 172.16.100.11:80 -r 192.168.20.8 -i -w 1
        -A -u 172.16.100.11:5000 -s rr
        -a -u 172.16.100.11:5000 -r 192.168.20.7 -i
        -a -u 172.16.100.11:5000 -r 192.168.20.8 -i",
    by_http: [("web1", 4), ("web2", 2)],
    by_udp: [("web1", 3), ("web2", 3)],
};

/// Answers come back through the director, servers see only the director.
pub const FULLNAT: Way = Way {
    title: "FULLNAT: both ends are rewritten; servers need no way back to the client, web3 has none",
    vip: "172.16.100.12",
    commands: "
        -A -t 172.16.100.12:80 -s rr
        -P -t 172.16.100.12:80 -z 192.168.20.200
        -P -t 172.16.100.12:80 -z 192.168.20.201
        -a -t 172.16.100.12:80 -r 192.168.20.8:8080 -b
        -a -t 172.16.100.12:80 -r 192.168.30.9:8080 -b
        -A -u 172.16.100.12:5000 -s rr
        -P -u 172.16.100.12:5000 -z 192.168.20.200
        -a -u 172.16.100.12:5000 -r 192.168.20.8:5001 -b
        -a -u 172.16.100.12:5000 -r 192.168.30.9:5001 -b",
    by_http: [("web2", 3), ("web3", 3)],
    by_udp: [("web2", 3), ("web3", 3)],
};

/// All of them.
pub const ALL: [Way; 4] = [NAT, DR, TUN, FULLNAT];
