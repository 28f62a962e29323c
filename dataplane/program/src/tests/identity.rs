//! Services and servers over edits, deletion and return: ids, counters, shared objects, steering.

use fulcrum_director::SECOND;
use fulcrum_director::schedule::Request;
use fulcrum_director::snapshot::{Forward as Way, Persistence, Steering};

use super::*;

fn http() -> ServiceKey {
    key("10.0.0.100", 80)
}

fn with(services: Vec<model::Service>) -> State {
    State { services, ..two_arms() }
}

/// Servers 10.1.0.11, .12, … of the service.
fn http_with(servers: u8) -> model::Service {
    service(http(), (0..servers).map(|n| server(&format!("10.1.0.{}", 11 + n), 8000)).collect())
}

/// A session of worker 1 that names the destination.
fn open_session(destination: &Destination) {
    destination.counters.of(1).active.add(1);
}

fn close_session(destination: &Destination) {
    destination.counters.of(1).active.sub_one();
}

#[test]
fn a_service_is_compiled_field_by_field() {
    let mut model = http_with(2);
    model.scheduler = "wrr".to_owned();
    model.persistent = Some(600);
    model.prefix = 24;
    model.timeouts.insert(model::TimeoutState::TcpClose, 4);
    model.servers[0].weight = 3;
    model.servers[1].forward = Forward::Tun;
    let mut state = with(vec![model]);
    state.timeouts = model::Timeouts { tcp: 1, tcp_fin: 2, udp: 3, ..model::Timeouts::default() };
    state.settings.sloppy_tcp = true;
    let snapshot = compiled(&state);

    let service = found(&snapshot, http());
    assert_eq!((service.protocol, service.address, service.port), (6, ip("10.0.0.100"), 80));
    assert_eq!(service.scheduler.name(), "wrr");
    assert_eq!(service.persistence, Some(Persistence { timeout: 600 * SECOND, prefix: 24, sip: false }));
    // Newest first.
    let seen: Vec<_> = service
        .destinations
        .iter()
        .map(|d| (d.address, d.port, d.forward, d.weight, d.available, d.protocol, d.service))
        .collect();
    let id = service.id;
    assert_eq!(
        seen,
        [
            (ip("10.1.0.12"), 8000, Way::Tun, 1, true, 6, id),
            (ip("10.1.0.11"), 8000, Way::Nat, 3, true, 6, id)
        ]
    );
    for d in &service.destinations {
        assert!(Arc::ptr_eq(snapshot.destination(d.id).unwrap(), d));
        assert!(Arc::ptr_eq(&d.profile, &service.profile));
        assert_eq!(d.counters.iter().count(), WORKERS);
    }
    let timeouts = service.profile.timeouts;
    assert_eq!(timeouts.tcp[..7], [2, 1, 120, 60, 2, 120, 4].map(|seconds| seconds * SECOND));
    assert_eq!(timeouts.udp, 3 * SECOND);
    assert!(snapshot.settings.sloppy_tcp);
    assert!(!snapshot.any_port_services);
}

#[test]
fn a_change_leaves_other_services_alone() {
    let other = key("10.0.0.100", 443);
    let mut state = with(vec![http_with(3), service(other, vec![server("10.1.0.11", 8443)])]);
    let mut bench = Bench::new();
    let first = bench.apply(&state);
    let again = bench.apply(&state);
    assert!(Arc::ptr_eq(found(&first, http()), found(&again, http())));
    let traffic = |bench: &Bench| bench.program.counters().remove(0).traffic;
    let counted = traffic(&bench);

    state.services[0].servers[1].weight = 5;
    let edited = bench.apply(&state);
    assert!(Arc::ptr_eq(found(&first, other), found(&edited, other)));
    let (before, after) = (found(&first, http()), found(&edited, http()));
    assert!(!Arc::ptr_eq(before, after) && traffic(&bench).continues(&counted));
    let kept = |i: usize| Arc::ptr_eq(&before.destinations[i], &after.destinations[i]);
    assert_eq!([kept(0), kept(1), kept(2)], [true, false, true]);
    assert_eq!(before.destinations[1].id, after.destinations[1].id);
    assert!(before.destinations[1].counters.same(&after.destinations[1].counters));
    assert_eq!(after.destinations[1].weight, 5);
}

#[test]
fn the_schedulers_place_survives_edits() {
    let mut state = with(vec![http_with(3)]);
    let mut bench = Bench::new();
    let snapshot = bench.apply(&state);
    let pick = |snapshot: &Snapshot| {
        let service = found(snapshot, http());
        let (client, vip) = (ip("10.0.0.2"), service.address);
        let request = Request {
            client,
            client_port: 40000,
            vip,
            vip_port: 80,
            now: 0,
            chance: 0,
            lblc_expiration: 0,
            lblcr_expiration: 0,
        };
        service.destinations[service.scheduler.choose(&service.destinations, &request).unwrap()].address
    };
    assert_eq!([pick(&snapshot), pick(&snapshot)], [ip("10.1.0.13"), ip("10.1.0.12")]);
    state.services[0].servers.push(server("10.1.0.14", 8000));
    let snapshot = bench.apply(&state);
    assert_eq!([pick(&snapshot), pick(&snapshot)], [ip("10.1.0.11"), ip("10.1.0.14")]);

    // New servers of wrr are taken one at a time, a scheduler set later sees them all.
    let weights = |scheduler: &str| {
        let mut model = http_with(3);
        model.scheduler = scheduler.to_owned();
        for (server, weight) in model.servers.iter_mut().zip([3, 2, 1]) {
            server.weight = weight;
        }
        with(vec![model])
    };
    let fresh = Bench::new().apply(&weights("wrr"));
    assert_eq!(pick(&fresh), ip("10.1.0.13"));
    let mut bench = Bench::new();
    bench.apply(&weights("rr"));
    assert_eq!(pick(&bench.apply(&weights("wrr"))), ip("10.1.0.11"));
}

#[test]
fn a_deleted_server_stays_for_its_sessions() {
    let mut bench = Bench::new();
    let first = bench.apply(&with(vec![http_with(2)]));
    let old = found(&first, http()).destinations[0].clone();
    assert_eq!(old.address, ip("10.1.0.12"));
    open_session(&old);

    let one = with(vec![http_with(1)]);
    for _ in 0..3 {
        let snapshot = bench.apply(&one);
        assert_eq!(found(&snapshot, http()).destinations.len(), 1);
        let kept = destination(&snapshot, old.id);
        assert!(!kept.available);
        assert_eq!((kept.address, kept.port, kept.forward), (old.address, old.port, old.forward));
        assert!(kept.counters.same(&old.counters));
        // Its answers are still steered.
        assert!(snapshot.servers.contains_key(&(6, old.address, 8000)));
        assert_eq!(bench.program.server_key(old.id).unwrap().1, server("10.1.0.12", 8000).key);
    }

    // It comes back as itself.
    let snapshot = bench.apply(&with(vec![http_with(2)]));
    let back = &found(&snapshot, http()).destinations[0];
    assert_eq!((back.id, back.available), (old.id, true));
    assert!(back.counters.same(&old.counters));

    // And goes with its last session.
    bench.apply(&one);
    close_session(&old);
    let snapshot = bench.apply(&one);
    assert!(snapshot.destination(old.id).is_none());
    assert!(!snapshot.servers.contains_key(&(6, old.address, 8000)));
}

#[test]
fn an_id_is_given_again_when_no_worker_can_hold_it() {
    let mut bench = Bench::new();
    let first = bench.apply(&with(vec![http_with(2)]));
    let old = found(&first, http()).destinations[0].id;
    let newcomer = |n: u8| {
        let mut model = http_with(1);
        model.servers.extend((0..n).map(|n| server(&format!("10.1.0.{}", 50 + n), 8000)));
        with(vec![model])
    };
    let ids = |snapshot: &Snapshot| -> Vec<u32> {
        found(snapshot, http()).destinations.iter().map(|d| d.id).collect()
    };
    // Deleted, but workers still run the snapshot that has it: it stays, unavailable.
    let snapshot = bench.compile(&newcomer(1));
    assert!(!destination(&snapshot, old).available);
    let snapshot = bench.compile(&newcomer(2));
    assert!(!destination(&snapshot, old).available);
    bench.program.acknowledged(bench.generation);
    // Forgotten from this snapshot on, but workers have not got it yet.
    let snapshot = bench.compile(&newcomer(3));
    assert!(snapshot.destination(old).is_none());
    assert!(!ids(&snapshot).contains(&old));
    let snapshot = bench.compile(&newcomer(4));
    assert!(!ids(&snapshot).contains(&old));
    bench.program.acknowledged(bench.generation);
    assert!(ids(&bench.compile(&newcomer(5))).contains(&old));
}

#[test]
fn a_deleted_service_made_again_counts_anew_and_finds_its_servers() {
    let mut bench = Bench::new();
    let first = bench.apply(&with(vec![http_with(1)]));
    let (old, server) = (found(&first, http()).clone(), found(&first, http()).destinations[0].clone());
    open_session(&server);
    server.counters.of(0).traffic.connections.add(1);
    let before = bench.program.counters().remove(0).traffic;
    assert_eq!(before.totals(), [1, 0, 0, 0, 0]);

    let empty = bench.apply(&with(vec![]));
    assert!(empty.services.is_empty());
    assert!(!destination(&empty, server.id).available);
    assert_eq!(bench.program.service_key(old.id), Some(http()));
    assert!(bench.program.counters().is_empty());

    let again = bench.apply(&with(vec![http_with(1)]));
    let new = found(&again, http());
    assert_eq!(new.id, old.id);
    let traffic = bench.program.counters().remove(0).traffic;
    assert_eq!((traffic.totals(), traffic.continues(&before)), ([0; 5], false));
    server.counters.of(1).traffic.connections.add(1);
    assert_eq!(traffic.totals(), [1, 0, 0, 0, 0]);
    let back = &new.destinations[0];
    assert_eq!((back.id, back.available), (server.id, true));
    assert!(back.counters.same(&server.counters));
}

#[test]
fn a_service_keeps_what_deleted_and_forgotten_servers_carried() {
    let mut bench = Bench::new();
    let first = bench.apply(&with(vec![http_with(2)]));
    let servers = &found(&first, http()).destinations;
    for (server, count) in servers.iter().zip([3, 4]) {
        server.counters.of(0).traffic.in_packets.add(count);
    }
    open_session(&servers[0]);
    let totals = |bench: &Bench| bench.program.counters().remove(0).traffic.totals();
    assert_eq!(totals(&bench), [0, 7, 0, 0, 0]);
    // A packet comes before its worker knows that the server is deleted.
    bench.apply(&with(vec![http_with(1)]));
    servers[0].counters.of(1).traffic.in_packets.add(1);
    assert_eq!(totals(&bench), [0, 8, 0, 0, 0]);
    bench.apply(&with(vec![http_with(2)]));
    assert_eq!(totals(&bench), [0, 8, 0, 0, 0], "it came back");
    bench.apply(&with(vec![http_with(1)]));
    close_session(&servers[0]);
    for _ in 0..3 {
        bench.apply(&with(vec![http_with(1)]));
        assert_eq!(totals(&bench), [0, 8, 0, 0, 0], "it is forgotten");
    }
    // Another one under its number begins with nothing.
    let last = bench.apply(&with(vec![http_with(2)]));
    assert_eq!((destination(&last, servers[0].id).available, totals(&bench)), (true, [0, 8, 0, 0, 0]));
}

#[test]
fn counters_are_listed_in_the_states_order() {
    let other = key("10.0.0.100", 443);
    let mut bench = Bench::new();
    let snapshot = bench.apply(&with(vec![service(other, vec![]), http_with(2)]));
    let list = bench.program.counters();
    assert_eq!(list.iter().map(|s| s.key).collect::<Vec<_>>(), [other, http()]);
    let newest_first = &found(&snapshot, http()).destinations;
    assert!(list[1].servers[0].cells.same(&newest_first[1].counters));
    assert_eq!(list[1].servers[1].key, server("10.1.0.12", 8000).key);
}

#[test]
fn services_that_share_a_nat_server_steer_alike() {
    let mut persistent = service(key("10.0.0.100", 443), vec![server("10.1.0.11", 8000)]);
    persistent.persistent = Some(300);
    persistent.prefix = 24;
    let state =
        with(vec![http_with(1), persistent, service(key("10.0.0.100", 25), vec![server("10.1.0.11", 25)])]);
    let snapshot = compiled(&state);
    let wide = Steering::Address(24);
    assert_eq!(found(&snapshot, http()).steering, wide);
    assert_eq!(found(&snapshot, key("10.0.0.100", 443)).steering, wide);
    assert_eq!(found(&snapshot, key("10.0.0.100", 25)).steering, Steering::AddressPort);
    assert_eq!(snapshot.servers[&(6, ip("10.1.0.11"), 8000)], wide);
    assert_eq!(snapshot.servers[&(6, ip("10.1.0.11"), 25)], Steering::AddressPort);

    // By direct routing nothing is shared: answers do not come this way.
    let mut direct = state;
    direct.services[1].servers[0].forward = Forward::Dr;
    let snapshot = compiled(&direct);
    assert_eq!(found(&snapshot, http()).steering, Steering::AddressPort);
    assert_eq!(found(&snapshot, key("10.0.0.100", 443)).steering, wide);
}

#[test]
fn steering_does_not_narrow_under_running_sessions() {
    let mut persistent = http_with(1);
    persistent.persistent = Some(300);
    let mut bench = Bench::new();
    let first = bench.apply(&with(vec![persistent]));
    let server = found(&first, http()).destinations[0].clone();
    let wide = Steering::Address(32);
    assert_eq!(found(&first, http()).steering, wide);
    open_session(&server);

    let plain = with(vec![http_with(1)]);
    let snapshot = bench.apply(&plain);
    assert_eq!(found(&snapshot, http()).steering, wide);
    assert_eq!(found(&snapshot, http()).persistence, None);
    // Also its deleted service's sessions keep theirs.
    let snapshot = bench.apply(&with(vec![]));
    assert_eq!(snapshot.servers[&(6, server.address, 8000)], wide);
    assert_eq!(snapshot.deleted_services, [((6, ip("10.0.0.100"), 80), wide)].into_iter().collect());
    close_session(&server);
    assert!(bench.apply(&with(vec![])).deleted_services.is_empty());
    let snapshot = bench.apply(&plain);
    assert_eq!(found(&snapshot, http()).steering, Steering::AddressPort);
}

#[test]
fn a_server_edited_away_from_nat_is_recognised_while_it_has_sessions() {
    let mut bench = Bench::new();
    let first = bench.apply(&with(vec![http_with(1)]));
    let server = found(&first, http()).destinations[0].clone();
    open_session(&server);
    let mut direct = with(vec![http_with(1)]);
    direct.services[0].servers[0].forward = Forward::FullNat;
    let snapshot = bench.apply(&direct);
    assert_eq!(found(&snapshot, http()).destinations[0].forward, Way::FullNat);
    assert!(snapshot.servers.contains_key(&(6, server.address, 8000)));
    close_session(&server);
    assert!(bench.apply(&direct).servers.is_empty());
}

#[test]
fn a_service_of_every_port_is_told() {
    let mut every = service(key("10.0.0.100", 0), vec![server("10.1.0.11", 0)]);
    every.persistent = Some(300);
    let snapshot = compiled(&with(vec![every]));
    assert!(snapshot.any_port_services);
    assert_eq!(snapshot.servers[&(6, ip("10.1.0.11"), 0)], Steering::Address(32));
}

#[test]
fn weights_and_thresholds_are_remembered_over_edits() {
    let mut bench = Bench::new();
    let mut with_server = |weight: u32, upper: u32| {
        let mut state = with(vec![http_with(1)]);
        let server = &mut state.services[0].servers[0];
        (server.weight, server.upper_threshold) = (weight, upper);
        found(&bench.apply(&state), http()).destinations[0].clone()
    };
    let first = with_server(5, 1);
    assert_eq!((first.last_weight, first.thresholds.limits()), (5, (1, 0)));
    open_session(&first);
    first.thresholds.begun(&first.counters);
    let quiesced = with_server(0, 1);
    assert_eq!((quiesced.weight, quiesced.last_weight, quiesced.overloaded()), (0, 5, true));
    assert_eq!(with_server(0, 2).last_weight, 5);
    let raised = with_server(7, 2);
    assert_eq!((raised.last_weight, raised.overloaded()), (7, false));

    // A server that comes back quiesced has no weight to remember.
    let server = {
        bench.apply(&with(vec![http_with(0)]));
        let mut state = with(vec![http_with(1)]);
        state.services[0].servers[0].weight = 0;
        found(&bench.apply(&state), http()).destinations[0].clone()
    };
    assert_eq!((server.id, server.last_weight), (first.id, 0));
}

#[test]
fn flags_of_a_scheduler_are_taken_and_changed() {
    let mut state = with(vec![http_with(2)]);
    let service = &mut state.services[0];
    service.scheduler = "sh".to_owned();
    for server in &mut service.servers {
        server.weight = 0;
    }
    service.servers[1].weight = 1;
    let mut bench = Bench::new();
    let taken = |snapshot: &Snapshot| {
        let service = found(snapshot, http());
        let choice = |n: u8| {
            let request = Request {
                client: ip(&format!("10.0.0.{n}")),
                client_port: 40000,
                vip: service.address,
                vip_port: 80,
                now: 0,
                chance: 0,
                lblc_expiration: 0,
                lblcr_expiration: 0,
            };
            service.scheduler.choose(&service.destinations, &request).is_some()
        };
        (2..12).filter(|&n| choice(n)).count()
    };
    let some = taken(&bench.apply(&state));
    assert!((1..10).contains(&some), "{some}");
    // sh-fallback
    state.services[0].scheduler_flags = 1;
    assert_eq!(taken(&bench.apply(&state)), 10);
    state.services[0].scheduler_flags = 0;
    assert_eq!(taken(&bench.apply(&state)), some);
}
