//! What tables and keys mean, and what a key is when it is left away: as it would be written in the file, or in words
//! where that depends on something. A test compares the former with what the readers do.

/// The head of the page.
pub(super) const PAGE: &str = "\
# Reference of the configuration file

Every table and key of `/etc/fulcrum/fulcrum.toml`, made from the code that reads it: `fulcrum reference --markdown`
prints this page, `fulcrum reference [TABLE]` a part of it, `fulcrum.toml(5)` is the same. What goes with what, and a file
with everything in it, is in [configuration](configuration.md).
";

pub(super) fn of_table(title: &str) -> &'static str {
    TABLES.iter().find(|table| table.title == title).map_or("", |table| table.about)
}

/// Default and meaning of a key.
pub(super) fn of_key(title: &str, key: &str) -> (&'static str, &'static str) {
    let find = |title| {
        let table = TABLES.iter().find(|table| table.title == title)?;
        table.keys.iter().find(|(name, _, _)| *name == key).map(|(_, default, meaning)| (*default, *meaning))
    };
    let found = match title {
        // It is a server, less what health decides.
        "[service.sorry-server]" => find("[[service.server]]"),
        // It is a check without a name.
        "[[service.check]]" => find(title).or_else(|| find("[[check]]")),
        _ => find(title),
    };
    found.unwrap_or_default()
}

/// Every table and key that has a line here.
#[cfg(test)]
pub(super) fn all() -> impl Iterator<Item = (&'static str, &'static str)> {
    TABLES.iter().flat_map(|table| table.keys.iter().map(|(key, _, _)| (table.title, *key)))
}

struct Table {
    title: &'static str,
    about: &'static str,
    /// Name, default, meaning.
    keys: &'static [(&'static str, &'static str, &'static str)],
}

const TABLES: &[Table] = &[
    Table {
        title: "[dataplane]",
        about: "How `fulcrum-dataplane` runs; read at its start.",
        keys: &[
            (
                "lcores",
                "\"1\"",
                "Processors of the workers, one worker each, such as \"1\", \"1-3\" or \"1,3\".",
            ),
            (
                "hugepages",
                "\"auto\"",
                "`auto`: huge pages when the machine has enough of them free; `off`: never.",
            ),
            ("sessions", "1048576", "Sessions and templates that each worker has room for."),
            (
                "idle",
                "\"poll\"",
                "`poll`: a worker asks for packets all the time; `adaptive`: it sleeps when none come, and wakes within 100 µs.",
            ),
            ("misdirect", "false", "For tests: every packet is brought to a wrong worker first."),
            ("socket", "\"/run/fulcrum/dataplane.sock\"", "Where fulcrum-control finds it."),
            (
                "file-prefix",
                "one that follows from the socket",
                "DPDK's file prefix; instances side by side need different ones.",
            ),
            (
                "translation-log",
                "",
                "Collector (IPFIX over UDP) that is told of begins and ends of sessions which hide their clients; nobody by default.",
            ),
            ("observation-domain", "1", "What that collector knows this director by."),
        ],
    },
    Table {
        title: "[control]",
        about: "How `fulcrum-control` runs; read at its start.",
        keys: &[
            (
                "socket",
                "\"/run/fulcrum/control.sock\"",
                "Where the command line finds it; under systemd the socket unit says where.",
            ),
            (
                "metrics",
                "",
                "Where `/metrics` and `/healthz` are served by HTTP, without a password; nowhere by default.",
            ),
            ("metrics-limit", "10000", "Services, and servers, that have series of their own at most."),
            (
                "announce-interface",
                "\"lo\"",
                "Interface of the host on which VIPs are announced (`announce`), such as \"lo\" or \"dummy0\".",
            ),
            (
                "vips",
                "\"always\"",
                "Which VIPs the director has: `always`: all; `manual`: those that `fulcrum vip take` was said of.",
            ),
            (
                "ipvs-socket",
                "\"ipvs.sock\" beside `socket`",
                "Path of the socket for tools written for IPVS; another one, with `-proc` in its name, is beside it.",
            ),
            (
                "state-file",
                "\"/var/lib/fulcrum/state.toml\"",
                "Where changes made at run time survive a restart.",
            ),
        ],
    },
    Table {
        title: "[control.remote]",
        about: "gRPC for other machines, over TCP; both ends show certificates.",
        keys: &[
            ("listen", "", "Address and port."),
            (
                "certificate",
                "",
                "File with the server's certificate and what leads from it to its authority (PEM).",
            ),
            ("key", "", "File with its key (PEM)."),
            ("client-ca", "", "File with the certificates of those who vouch for clients (PEM)."),
        ],
    },
    Table {
        title: "[[control.remote.client]]",
        about: "Somebody who may connect; others are turned away.",
        keys: &[
            ("name", "", "A DNS name among the alternative names of its certificate's subject."),
            (
                "role",
                "",
                "`read`: look at everything; `operate`: also take servers out and back in, and zero counters; `admin`: everything.",
            ),
        ],
    },
    Table {
        title: "[[port]]",
        about: "A device of the data plane; opened at its start.",
        keys: &[
            ("name", "", "What other tables call it."),
            ("device", "none: a bond", "PCI address, DPDK's vdev string, or Linux interface."),
            ("mac", "the device's own", "Its MAC address."),
            ("steering", "\"auto\"", "How packets come to their workers, as the operating guide describes."),
        ],
    },
    Table {
        title: "[port.bond]",
        about: "Devices that are one port, by DPDK's bonding driver: [operating](operating.md#bonds).",
        keys: &[
            (
                "mode",
                "",
                "One member carries everything and another takes over, or all that LACP has agreed on do.",
            ),
            ("members", "", "Its devices, 1 to 8, written as a port's device is."),
            (
                "primary",
                "none: the one in use stays",
                "`active-backup`: the member in use whenever its link is up.",
            ),
            ("hash", "\"layer3+4\"", "`lacp`: what of a packet chooses the member that sends it."),
        ],
    },
    Table {
        title: "[[interface]]",
        about: "Where addresses live: a port, or a VLAN on it.",
        keys: &[
            ("name", "", "What other tables call it."),
            ("port", "", "Name of its port."),
            ("vlan", "0", "VLAN, 0: untagged."),
            ("mtu", "1500", "Largest packet that leaves; at least 1280 with IPv6 addresses."),
            ("mss", "", "Bound on the TCP segment size that SYNs announce by it."),
            (
                "exception",
                "",
                "Name of its twin in Linux, which takes what is not the director's; none by default.",
            ),
            ("addresses", "[]", "Its own addresses with their subnets, such as \"172.16.100.1/24\"."),
        ],
    },
    Table {
        title: "[[route]]",
        about: "A static route. It has one of `via`, `next-hop`, `interface` and `type`.",
        keys: &[
            ("to", "", "Where it leads."),
            (
                "via",
                "",
                "The gateway, in the subnet of an interface; of several, each gets the same share of the flows.",
            ),
            ("interface", "", "The interface on whose link the destinations are."),
            ("type", "", "`unreachable`: refused with ICMP; `blackhole`: dropped in silence."),
            ("mtu", "the interface's", "Largest packet that goes this way."),
        ],
    },
    Table {
        title: "[[route.next-hop]]",
        about: "One of the gateways of a route, with its share of the flows. Written shorter as `next-hop = [{ via = \"…\", weight = 2 }, …]`.",
        keys: &[
            ("via", "", "The gateway, in the subnet of an interface."),
            ("weight", "1", "Its share, measured by the others'."),
        ],
    },
    Table {
        title: "[[neighbour]]",
        about: "A neighbour that is never asked for.",
        keys: &[
            ("address", "", "Its address."),
            ("mac", "", "Its MAC address."),
            ("interface", "", "The interface on whose link it is."),
        ],
    },
    Table {
        title: "[[local-pool]]",
        about: "Local addresses: what FULLNAT servers see as clients.",
        keys: &[
            ("name", "", "What services call it."),
            ("interface", "", "The interface that answers for its addresses."),
            ("addresses", "", "Addresses, ranges and prefixes."),
            ("ports", "\"1024-65535\"", "Ports that are used of each address."),
        ],
    },
    Table {
        title: "[[mark]]",
        about: "A rule that marks packets. All are walked, in order; a condition that is left away fits everything.",
        keys: &[
            ("family", "that of its prefixes, else both", "IPv4 or IPv6 packets."),
            ("protocol", "all", "Packets of this protocol; needed for ports."),
            ("source", "every address", "From whom."),
            ("destination", "every address", "To whom."),
            ("source-ports", "all", "Ports and ranges, such as \"1024-65535\"."),
            ("destination-ports", "all", "Ports and ranges, such as \"80,443,8000-8999\"."),
            ("interface", "all", "By which packets come in."),
            ("mark", "", "The value: mark = (mark & !mask) | value."),
            ("mask", "0xffffffff", "The bits that the rule decides."),
        ],
    },
    Table {
        title: "[[snat]]",
        about: "Masquerades what servers start themselves; the first rule that fits decides. gateway.md says how.",
        keys: &[
            ("name", "", "By which it is listed and counted."),
            ("source", "", "Where flows come from."),
            ("destination", "anywhere", "Where they go."),
            ("protocol", "any", "TCP, UDP, SCTP or ICMP echo."),
            ("destination-ports", "all", "Ports and ranges, such as \"80,443,8000-8999\"; with `protocol`."),
            ("pool", "", "The `[[local-pool]]` whose addresses and ports they get. Not with `exempt`."),
            ("exempt", "false", "What fits is routed as it is. Not with `pool`."),
        ],
    },
    Table {
        title: "[[override]]",
        about: "What a service has beside what tools written for IPVS can say; it stays when they delete the service. ipvs-door.md says how.",
        keys: &[
            ("address", "", "VIP and port of the service."),
            ("protocol", "", "Its protocol."),
            ("mark", "", "Its mark, in place of both."),
            ("family", "\"ipv4\"", "Of the service by mark."),
            (
                "forward",
                "as servers say",
                "Its `nat` servers are reached by FULLNAT, and listed as masqueraded.",
            ),
            ("local-pool", "the service's", "Pool of local addresses for FULLNAT."),
            ("interface", "the service's", "Interface on which the VIP answers ARP when no subnet decides."),
            ("mss", "the service's", "Largest TCP segment in bytes that a SYN may announce."),
            ("client-address", "the service's", "How FULLNAT servers learn the client's address."),
        ],
    },
    Table {
        title: "[[check]]",
        about: "Asks servers whether they serve. Services name it; configuration.md says what each type calls good.",
        keys: &[
            ("name", "", "What services call it."),
            ("type", "", "How it asks."),
            ("interval", "5", "Between one probe and the next; 100 ms to a day."),
            ("timeout", "2 seconds, or the interval", "How long an answer may take; at most the interval."),
            ("rise", "2", "Good answers in a row until a server is up."),
            ("fall", "3", "Bad answers in a row until it is down."),
            ("warm-up", "0", "How long a new server's bad answers do not count."),
            ("port", "the server's", "Port that is asked."),
            ("source", "as routes say", "Address that asks."),
            (
                "via",
                "\"direct\"",
                "How probes travel: from the host; through the data plane from a local address; through it as if to the VIP.",
            ),
            ("method", "\"GET\"", "Method of the request."),
            ("path", "\"/\"", "Path, and query, that is asked for."),
            ("host", "the server's address", "Host that is asked for."),
            ("status", "\"200-299\"", "Codes that are good: numbers and ranges."),
            ("body", "", "A text that the body has to have in it."),
            ("digest", "", "What the body's digest has to be: \"sha256:…\" or \"md5:…\"."),
            ("tls-name", "the host, else the server's address", "Name that is asked for and verified."),
            ("tls-ca", "the host's certificates", "File of certificates to trust."),
            ("verify", "true", "Whether the server's certificate has to be right."),
            ("send", "", "What is sent."),
            ("send-hex", "", "What is sent, in hexadecimal digits."),
            ("expect", "", "What the reply has to have in it."),
            ("expect-hex", "", "The same in hexadecimal digits."),
            ("reply", "false", "Whether there has to be a reply; without, only an ICMP error is bad."),
            ("query", "", "Name that is asked for."),
            ("record", "\"A\"", "Type of the records."),
            ("rcode", "\"noerror\"", "The code that is good."),
            ("answer", "[]", "Data that have to be among the answers."),
            ("helo", "the host's name", "What it calls itself."),
            ("starttls", "false", "Whether it goes on under TLS."),
            ("program", "", "Path of the program; exit code 0 is good."),
            ("arguments", "[]", "Its arguments; {address}, {port}, {vip} and {vip-port} are replaced."),
            ("service", "\"\"", "Service of grpc.health.v1 that is asked for."),
            ("tls", "false", "Whether it speaks TLS."),
        ],
    },
    Table {
        title: "[[service]]",
        about: "A virtual service, by `address` and `protocol`, or by `mark`.",
        keys: &[
            ("address", "", "VIP and port; without a port it is for every port. Not with `mark`."),
            ("protocol", "", "Its protocol. Not with `mark`."),
            ("mark", "", "The mark of its packets, whatever their protocol, address and port."),
            ("family", "\"ipv4\"", "Of a service by `mark`: which packets of that mark."),
            (
                "scheduler",
                "\"wlc\"",
                "How servers are chosen: rr, wrr, lc, wlc, lblc, lblcr, dh, sh, sed, nq, fo, ovf, mh, twos.",
            ),
            ("scheduler-flags", "[]", "Of sh: sh-fallback, sh-port; of mh: mh-fallback, mh-port."),
            ("one-packet", "false", "Every datagram is scheduled anew; UDP and marks only."),
            ("persistent", "0", "Seconds for which a client keeps its server, 0: off."),
            (
                "netmask",
                "every address by itself",
                "Clients that are one to persistence: bits, or for IPv4 a dotted mask.",
            ),
            ("persistence-engine", "", "`sip`: the Call-ID takes the client's place."),
            ("local-pool", "", "Pool of local addresses for FULLNAT."),
            ("local-addresses", "[]", "Local addresses of its own."),
            ("interface", "", "Where the VIP is answered for when no address and no subnet decides."),
            ("mss", "", "Bound on the TCP segment size that SYNs announce, in both directions."),
            ("client-address", "\"none\"", "How FULLNAT servers learn who the client is."),
            ("checks", "[]", "Names of the checks that its servers have to pass."),
            ("on-failure", "\"remove\"", "What becomes of a server that fails: gone, or weight 0."),
            ("quorum", "1", "Weight of healthy servers that it needs; without, the sorry server answers."),
            (
                "hysteresis",
                "0",
                "Weight below the quorum at which it is lost, and above it at which it is regained.",
            ),
            ("slow-start", "0", "Seconds in which a server that comes back reaches its weight."),
            (
                "announce",
                "\"never\"",
                "When the VIP is on an interface of the host, for routing daemons: `never`; `healthy`: while the data plane \
                 serves and the service has its quorum; `always`: while the data plane serves.",
            ),
            (
                "announce-on",
                "the `announce-interface` of `[control]`",
                "Interface of the host on which the VIP is announced.",
            ),
            ("announce-after", "5", "Seconds for which all that has to be so before the VIP is announced."),
        ],
    },
    Table {
        title: "[service.timeouts]",
        about: "Seconds that sessions of the service live in each state.",
        keys: &[],
    },
    Table {
        title: "[[service.check]]",
        about: "A check that only this service uses: the keys of `[[check]]`, less the name.",
        keys: &[],
    },
    Table {
        title: "[service.sorry-server]",
        about: "Who answers while fewer servers than the quorum are up.",
        keys: &[],
    },
    Table {
        title: "[[service.server]]",
        about: "A real server of the service above it.",
        keys: &[
            ("address", "", "Its address and port; without a port the service's."),
            ("forward", "", "How packets get there."),
            ("tunnel", "\"ipip\"", "Kind of tunnel."),
            ("tunnel-port", "", "UDP port of a gue tunnel, which needs one."),
            ("tunnel-checksum", "\"none\"", "Checksum of gre and gue tunnels."),
            (
                "tunnel-source",
                "\"interface\"",
                "Outer source address: the interface's, or one of the service's local addresses, by flow.",
            ),
            ("weight", "1", "Its share; 0 quiesces."),
            ("upper-threshold", "0", "Connections from which on it gets no new ones, 0: no limit."),
            (
                "lower-threshold",
                "0",
                "Connections below which it does again, 0: three quarters of the upper one.",
            ),
            ("admin", "\"enabled\"", "What the operator wants of it, whatever checks say."),
            ("drain-until", "", "When draining ends in `disabled`, such as \"2030-01-31T18:00:00Z\"."),
            ("checks", "the service's", "Names of checks instead of the service's."),
            ("on-failure", "the service's", "Instead of the service's."),
            ("check-address", "its own", "Address that checks ask."),
            ("check-port", "the check's, else its own", "Port that checks ask."),
        ],
    },
    Table {
        title: "[exception]",
        about: "How much of what is not the director's goes up to the host, in frames a second of all workers together.",
        keys: &[
            ("routing", "20000", "BGP, BFD, VRRP, OSPF."),
            (
                "link",
                "2000",
                "ARP, neighbour discovery, group membership, LLDP, LACP and whatever is not IP.",
            ),
            ("management", "10000", "TCP to `management-ports`."),
            ("answers", "20000", "TCP segments that open nothing: answers to connections of the host's."),
            ("rest", "5000", "Everything else."),
            ("management-ports", "[22]", "TCP ports by which the host is managed; at most 16."),
        ],
    },
    Table {
        title: "[timeouts]",
        about: "Seconds that sessions live in each state, of services that have none of their own.",
        keys: &[],
    },
    Table {
        title: "[ipvs]",
        about: "Settings of behaviour: `net.ipv4.vs`, same names and defaults.",
        keys: &[],
    },
];
