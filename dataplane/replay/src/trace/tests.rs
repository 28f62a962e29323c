use fulcrum_director::snapshot;
use fulcrum_model::file::Config;

use super::*;

const TWO_PORTS: &str = include_str!("../../../../tests/networks/two-ports.toml");
const NETWORK: &str = r#"
[[route]]
to = "10.9.0.0/16"
via = "10.1.0.254"
[[local-pool]]
name = "inside"
interface = "lan"
addresses = ["10.1.0.200-10.1.0.201"]
ports = "20000-20999"
"#;

/// A director that runs, with neighbours that it has learned.
fn director(more: &str) -> Bench {
    let mut state =
        Config::parse("t", &format!("{TWO_PORTS}{NETWORK}{more}")).unwrap_or_else(|e| panic!("{e}")).state;
    let neighbour = |interface: &str, address: &str| Neighbour {
        interface: interface.to_owned(),
        address: address.parse().unwrap(),
        mac: Mac([2, 0, 0, 0, 9, 9]),
    };
    state.neighbours = vec![
        neighbour("wan", "10.0.0.2"),
        neighbour("lan", "10.1.0.11"),
        neighbour("lan", "10.1.0.12"),
        neighbour("lan", "10.1.0.13"),
    ];
    Bench::new(BenchConfig { seed: 77, ..config() }, state)
}

/// What may be asked of it: its neighbours as learned ones.
fn facts(director: &Bench) -> Facts {
    let mut state = director.state().clone();
    let neighbours = std::mem::take(&mut state.neighbours);
    let learned = |neighbour: Neighbour| NeighbourFact {
        interface: neighbour.interface,
        address: neighbour.address,
        mac: Some(neighbour.mac),
        state: "reachable".to_owned(),
        parked: 0,
    };
    let loads = director.program().counters().into_iter().flat_map(|service| {
        let key = service.key;
        service.servers.into_iter().map(move |server| LoadFact {
            service: key,
            server: server.key,
            active: server.cells.sum(|cells| &cells.active),
            inactive: server.cells.sum(|cells| &cells.inactive),
        })
    });
    Facts {
        state,
        ports: Vec::new(),
        neighbours: neighbours.into_iter().map(learned).collect(),
        loads: loads.collect(),
        absent: Vec::new(),
        released: Vec::new(),
        pools: Vec::new(),
        silent: Vec::new(),
    }
}

fn fact(view: &fulcrum_director::SessionView) -> SessionFact {
    SessionFact {
        worker: 0,
        state: view.state.to_owned(),
        expires_ms: view.expires_in / 1_000_000,
        client: view.client,
        virtual_: view.vip,
        local: view.local,
        server: view.server,
        forward: match view.forward {
            snapshot::Forward::Nat => Forward::Nat,
            snapshot::Forward::FullNat => Forward::FullNat,
            snapshot::Forward::Dr => Forward::Dr,
            snapshot::Forward::Tun => Forward::Tun,
        },
    }
}

fn flow(protocol: Protocol, client: (&str, u16), virtual_: (&str, u16)) -> Flow {
    Flow {
        protocol,
        client: (client.0.parse().unwrap(), Some(client.1)),
        virtual_: (virtual_.0.parse().unwrap(), virtual_.1),
        interface: None,
    }
}

/// Traces a flow as `fulcrum trace` does: with the session or the template that the director has.
fn traced(director: &Bench, flow: &Flow) -> Report {
    let tracer = Tracer::new(facts(director), flow.clone()).unwrap();
    let sessions = director.sessions();
    let ends = (flow.client.0, flow.client.1.unwrap());
    let number = flow.protocol.number();
    let session = sessions.iter().find(|view| {
        !view.template && view.protocol == number && (view.client, view.vip) == (ends, flow.virtual_)
    });
    let template = tracer.template().and_then(|[client, vip]| {
        sessions.iter().find(|view| view.template && (view.client, view.vip) == (client, vip))
    });
    tracer.trace(session.map(fact).as_ref(), template.map(fact).as_ref())
}

/// Lets the director itself have the packet that was traced.
fn real(director: &mut Bench, flow: &Flow, kind: Kind) -> (Verdict, Option<String>, Vec<Vec<u8>>) {
    let tracer = Tracer::new(facts(director), flow.clone()).unwrap();
    let (verdict, sent) = tracer.send(director, flow.client.1.unwrap(), kind);
    let verdict = verdict.unwrap();
    let server =
        verdict.server.and_then(|id| director.program().server_key(id)).map(|(_, key)| key.to_string());
    (verdict, server, sent.into_iter().map(|sent| sent.bytes).collect())
}

/// The trace's word about a flow is what then happens to it; what was said.
fn assert_true(director: &mut Bench, flow: &Flow, kind: Kind) -> Report {
    let report = traced(director, flow);
    let (verdict, server, frames) = real(director, flow, kind);
    let happened = (word_of(verdict), verdict.reason);
    assert_eq!((report.verdict, report.reason), happened, "{flow:?}: {:#?}", report.steps);
    // A server that is gone is named as its session has it.
    if report.certain && report.reason != "server-deleted" {
        assert_eq!(report.server, server, "{:#?}", report.steps);
    }
    // Local ports of sessions to come are not certain; all other frames are the very ones.
    if report.certain
        && (report.session || server.is_none() || !told(&report, "forwarding").contains("such as"))
    {
        for frame in frames {
            let ethertype = fulcrum_packet::ethernet::Frame::new_checked(&frame[..]).unwrap().ethertype();
            if ethertype == fulcrum_packet::ethernet::IPV4
                && verdict.kind == fulcrum_director::VerdictKind::Forward
            {
                let words = frame::words(&frame);
                let steps = &report.steps;
                let shown = steps.iter().flat_map(|step| &step.details).any(|line| line.contains(&words));
                assert!(shown, "no `{words}` in {steps:#?}");
            }
        }
    }
    report
}

fn word_of(verdict: Verdict) -> &'static str {
    crate::verdict::word(verdict.kind)
}

/// What was said about something.
fn told(report: &Report, about: &str) -> String {
    let step = report.steps.iter().find(|step| step.about == about);
    step.map_or(String::new(), |step| format!("{}\n{}", step.text, step.details.join("\n")))
}

fn service(scheduler: &str, more: &str, forward: &str) -> String {
    let servers = [11, 12, 13].map(|host| {
        format!(
            "[[service.server]]\naddress = \"10.1.0.{host}:80\"\nforward = \"{forward}\"\nweight = {}\n",
            host - 10
        )
    });
    format!(
        "[[service]]\naddress = \"10.0.0.100:80\"\nprotocol = \"tcp\"\nscheduler = \"{scheduler}\"\n{more}\n{}",
        servers.concat()
    )
}

#[test]
fn what_is_said_of_new_flows_and_of_sessions_is_what_happens() {
    for scheduler in fulcrum_director::schedule::NAMES {
        for forward in ["nat", "fullnat", "dr", "tun"] {
            let pool = if forward == "fullnat" { "local-pool = \"inside\"" } else { "" };
            let mut director = director(&service(scheduler, pool, forward));
            let mut certain = 0;
            for port in 0..4u16 {
                let flow = flow(Protocol::Tcp, ("10.0.0.2", 30_000 + port * 7), ("10.0.0.100", 80));
                let new = assert_true(&mut director, &flow, Kind::First);
                certain += u32::from(new.certain);
                assert!(!new.session);
                if new.verdict == "drop" {
                    // ovf: a weight is as many connections as a server takes.
                    assert_eq!((*scheduler, new.reason), ("ovf", "no-server"));
                    continue;
                }
                let session = assert_true(&mut director, &flow, Kind::Later);
                assert!(session.session && session.certain, "{:#?}", session.steps);
            }
            let always = explain::choice(scheduler) == Some(explain::Choice::Packet);
            assert_eq!(certain, if always { 4 } else { 0 }, "{scheduler}");
        }
    }
}

#[test]
fn loads_decide_as_they_are_now() {
    let mut director = director(&service("lc", "", "nat"));
    for port in 0..9 {
        let flow = flow(Protocol::Tcp, ("10.0.0.2", 30_000 + port), ("10.0.0.100", 80));
        let report = traced(&director, &flow);
        let (_, server, _) = real(&mut director, &flow, Kind::First);
        assert_eq!(report.server, server, "{:#?}", report.steps);
    }
    let next = traced(&director, &flow(Protocol::Tcp, ("10.0.0.2", 1), ("10.0.0.100", 80)));
    let scheduler = told(&next, "scheduler");
    assert!(scheduler.contains("10.1.0.11:80 weight 1, 3 active, 0 inactive"), "{scheduler}");
}

#[test]
fn a_template_decides_unless_its_server_is_no_more() {
    let mut director = director(&service("rr", "persistent = 300", "nat"));
    let first = flow(Protocol::Tcp, ("10.0.0.2", 30_000), ("10.0.0.100", 80));
    let (_, server, _) = real(&mut director, &first, Kind::First);
    let other = flow(Protocol::Tcp, ("10.0.0.2", 30_001), ("10.0.0.100", 80));
    let report = traced(&director, &other);
    assert!(report.certain && report.server == server, "{:#?}", report.steps);
    assert!(
        told(&report, "persistence").contains("the template of 10.0.0.2/32 leads to"),
        "{:#?}",
        report.steps
    );
    let mut state = director.state().clone();
    let gone = server.clone().unwrap();
    state.services[0].servers.retain(|server| server.key.to_string() != gone);
    director.replace(state);
    let report = assert_true(&mut director, &other, Kind::First);
    assert!(report.server.is_some() && report.server != server);
    assert!(told(&report, "persistence").contains("the template is left"), "{:#?}", report.steps);
}

#[test]
fn what_stops_a_packet_is_named() {
    let other = "[[service]]\naddress = \"10.0.0.100:443\"\nprotocol = \"tcp\"\n\
                 [[service]]\naddress = \"10.0.0.101:80\"\nprotocol = \"udp\"\n\
                 [[service.server]]\naddress = \"10.8.0.1:80\"\nforward = \"nat\"\n\
                 [[service]]\naddress = \"10.0.0.102:80\"\nprotocol = \"tcp\"\n\
                 [[service.server]]\naddress = \"10.9.0.1:80\"\nforward = \"dr\"\n";
    let mut director = director(&format!("{}{other}", service("wlc", "", "nat")));
    let mut ask = |protocol, client, virtual_| {
        assert_true(&mut director, &flow(protocol, client, virtual_), Kind::First)
    };
    let client = ("10.0.0.2", 30_000);

    let missing = ask(Protocol::Tcp, client, ("10.0.0.100", 81));
    assert_eq!(missing.reason, "no-service");
    let service = told(&missing, "service");
    assert!(service.contains("none: there is no tcp 10.0.0.100:81"), "{service}");
    assert!(service.contains("near: tcp 10.0.0.100:80, of another port"), "{service}");

    let empty = ask(Protocol::Tcp, client, ("10.0.0.100", 443));
    assert_eq!(empty.reason, "no-server");
    assert!(told(&empty, "scheduler").contains("no server may take connections"));

    let nowhere = ask(Protocol::Udp, client, ("10.0.0.101", 80));
    assert_eq!(nowhere.reason, "no-route");
    assert!(told(&nowhere, "route").contains("to 10.8.0.1: none (no-route)"), "{:#?}", nowhere.steps);

    let unknown = ask(Protocol::Tcp, client, ("10.0.0.102", 80));
    assert_eq!(unknown.verdict, "hold");
    assert!(told(&unknown, "route").contains("by lan, gateway 10.1.0.254"));
    assert!(told(&unknown, "next hop").contains("10.1.0.254 is not known yet"));

    assert_eq!(ask(Protocol::Tcp, ("10.0.0.1", 5), ("10.0.0.100", 80)).reason, "martian-source");
    assert_eq!(ask(Protocol::Udp, client, ("10.0.0.100", 80)).reason, "no-udp-service");
}

#[test]
fn marks_and_sessions_of_servers_that_are_gone() {
    let marked = "[[mark]]\nprotocol = \"tcp\"\ndestination-ports = \"80,443\"\nmark = 7\n\
                  [[service]]\nmark = 7\nscheduler = \"sh\"\n\
                  [[service.server]]\naddress = \"10.1.0.11:0\"\nforward = \"dr\"\n";
    let mut director = director(marked);
    let flow = flow(Protocol::Tcp, ("10.0.0.2", 30_000), ("10.0.0.150", 443));
    let report = assert_true(&mut director, &flow, Kind::First);
    assert_eq!(report.service.as_deref(), Some("fwm 7"));
    assert!(told(&report, "mark").starts_with("7\nrule 1: tcp ports 80,443: mark 7"), "{:#?}", report.steps);
    assert!(told(&report, "address").contains("only a service by mark"));
    let mut state = director.state().clone();
    state.services[0].servers.clear();
    director.replace(state);
    let gone = assert_true(&mut director, &flow, Kind::Later);
    assert_eq!((gone.session, gone.reason), (true, "server-deleted"));
}

#[test]
fn a_vip_that_is_released_gets_nothing() {
    let mut director = director(&service("rr", "", "nat"));
    let flow = flow(Protocol::Tcp, ("10.0.0.2", 9), ("10.0.0.100", 80));
    assert_true(&mut director, &flow, Kind::First);
    let mut state = director.state().clone();
    state.services[0].withheld = true;
    director.replace(state);
    let report = assert_true(&mut director, &flow, Kind::Later);
    assert_eq!((report.session, report.verdict, report.reason), (true, "drop", "vip-released"));
    let known = Facts { released: vec![(flow.virtual_.0, "by keepalived".to_owned())], ..facts(&director) };
    let report = Tracer::new(known, flow).unwrap().trace(None, None);
    let address = told(&report, "address");
    assert!(address.contains("does not have (by keepalived)"), "{address}");
    assert!(address.contains("`fulcrum vip take 10.0.0.100`"), "{address}");
    assert!(told(&report, "service").contains("tcp 10.0.0.100:80 would take it"));
    assert!(told(&report, "verdict").contains("vip-released"));
}

#[test]
fn a_tunnel_needs_room() {
    let mut director = director(&service("rr", "", "tun"));
    let report =
        assert_true(&mut director, &flow(Protocol::Tcp, ("10.0.0.2", 9), ("10.0.0.100", 80)), Kind::First);
    let mtu = told(&report, "mtu");
    assert!(
        mtu.contains("packets of 1480 bytes get through, but clients may send 1500")
            && mtu.contains("mss = 1440"),
        "{mtu}"
    );
}

#[test]
fn what_cannot_be_traced_is_refused() {
    let director = director("");
    let mut asked = flow(Protocol::Tcp, ("192.0.2.1", 9), ("10.0.0.100", 80));
    let refused = |flow: &Flow| Tracer::new(facts(&director), flow.clone()).unwrap_err().to_string();
    assert!(refused(&asked).contains("no way leads to 192.0.2.1 (no-route)"));
    asked.interface = Some("dmz".to_owned());
    assert_eq!(refused(&asked), "there is no interface dmz; there are: wan, lan");
    asked.client.0 = "2001:db8::1".parse().unwrap();
    assert!(refused(&asked).contains("two address families"));
}

/// The gateway that is named is the one that the packet goes to, and the others are named with it.
#[test]
fn of_several_gateways_the_one_that_is_taken_is_named() {
    let service = service("rr", "", "nat").replace("10.1.0.1", "172.16.0.1");
    let route = |to: &str, subnet: &str| {
        format!("[[route]]\nto = \"{to}\"\nvia = [\"{subnet}.251\", \"{subnet}.252\", \"{subnet}.253\"]\n")
    };
    let text = format!("{}{}{service}", route("172.16.0.0/12", "10.1.0"), route("0.0.0.0/0", "10.0.0"));
    let mut director = director(&text);
    let mut state = director.state().clone();
    for (interface, subnet) in [("wan", "10.0.0"), ("lan", "10.1.0")] {
        for host in 251..=253u8 {
            let address = format!("{subnet}.{host}").parse().unwrap();
            let mac = Mac([2, 0, 0, 0, 9, host]);
            state.neighbours.push(Neighbour { interface: interface.to_owned(), address, mac });
        }
    }
    director.replace(state);
    let mut seen = std::collections::BTreeSet::new();
    for port in 0..12u16 {
        let flow = flow(Protocol::Tcp, ("198.51.100.2", 30_000 + port), ("10.0.0.100", 80));
        let report = traced(&director, &flow);
        let (_, _, frames) = real(&mut director, &flow, Kind::First);
        let gateway = frames[0][5];
        let said = told(&report, "route");
        assert!(said.contains(&format!("gateway 10.1.0.{gateway}, of 3 gateways: the hash")), "{said}");
        assert!(told(&report, "answers").contains(", of 3 gateways"), "{:#?}", report.steps);
        seen.insert(gateway);

        // The same, where that one does not answer.
        let mut facts = facts(&director);
        facts.silent = vec![("lan".to_owned(), format!("10.1.0.{gateway}").parse().unwrap())];
        let report = Tracer::new(facts, flow.clone()).unwrap().trace(None, None);
        let said = told(&report, "route");
        assert!(said.contains("of the 2 of 3 gateways that answer"), "{said}");
        assert!(!said.contains(&format!("by lan, gateway 10.1.0.{gateway}")), "{said}");
        assert!(
            said.contains(&format!("gateway 10.1.0.{gateway} on lan: weight 1, does not answer")),
            "{said}"
        );
    }
    assert_eq!(seen.len(), 3);
}
