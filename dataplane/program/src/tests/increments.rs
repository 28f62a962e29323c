//! What is compiled from one state to the next is what is compiled from nothing, and shares what stays.

use fulcrum_director::snapshot::Arrival;
use fulcrum_director::snapshot::Steering;

use super::*;

/// A snapshot in words that do not depend on ids.
fn meaning(snapshot: &Snapshot) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let services = snapshot.services.values().chain(snapshot.mark_services.values());
    for service in services {
        let name = (service.protocol, service.address, service.port, service.mark);
        lines.push(format!("{name:?} {:?} {:?}", service.steering, service.persistence));
        for (nth, server) in service.destinations.iter().enumerate() {
            assert!(Arc::ptr_eq(snapshot.destination(server.id).unwrap(), server));
            let (address, port) = (server.address, server.port);
            lines.push(format!("{name:?} {nth} {address} {port} {:?} {}", server.forward, server.weight));
        }
    }
    let known = snapshot.destinations.iter().flatten();
    lines.extend(known.map(|server| format!("known {} {}", server.address, server.available)));
    lines.extend(snapshot.servers.iter().map(|server| format!("nat {server:?}")));
    lines.extend(snapshot.server_addresses.iter().map(|address| format!("from {address}")));
    lines.extend(snapshot.tunnels.iter().map(|end| format!("tunnel {end:?}")));
    lines.extend(snapshot.deleted_services.iter().map(|gone| format!("gone {gone:?}")));
    lines.extend(snapshot.former_steerings.iter().map(|former| format!("former {former:?}")));
    lines.sort();
    lines
}

#[test]
fn any_edits_lead_to_what_their_result_is_compiled_to() {
    let mut number = 3u32;
    let mut roll = move |sides: u32| {
        number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (number >> 16) % sides
    };
    let mut bench = Bench::new();
    let mut state = two_arms();
    for round in 0..400 {
        for _ in 0..roll(3) {
            let place = roll(4) as usize;
            let host = format!("10.1.0.{}", 11 + roll(3));
            let Some(service) = state.services.get_mut(place) else {
                let vip = key("10.0.0.100", 80 + roll(200) as u16);
                if state.services.iter().all(|known| known.key != vip) {
                    state.services.push(service(vip, vec![]));
                }
                continue;
            };
            let found = service.servers.iter().position(|known| known.key.address == ip(&host));
            match (roll(8), found) {
                (0, _) => drop(state.services.remove(place)),
                (1, _) => service.persistent = roll(2).checked_sub(1).map(|_| 300),
                (2, _) => service.scheduler = ["rr", "wlc", "sh"][roll(3) as usize].to_owned(),
                (3 | 4, Some(at)) => drop(service.servers.remove(at)),
                (_, Some(at)) => {
                    let server = &mut service.servers[at];
                    server.weight = roll(3);
                    server.forward = [Forward::Nat, Forward::Tun, Forward::FullNat][roll(3) as usize];
                }
                (_, None) => service.servers.push(server(&host, 8000)),
            }
        }
        // What is deleted is forgotten with the second one, and its traces with the third.
        let snapshot = (0..3).map(|_| bench.apply(&state)).last().unwrap();
        assert_eq!(meaning(&snapshot), meaning(&compiled(&state)), "round {round}");
    }
}

#[test]
fn a_weight_copies_pointers() {
    let mut state = two_arms();
    let servers = |n: u8| (0..n).map(|n| server(&format!("10.1.0.{}", 11 + n), 8000)).collect();
    state.services =
        vec![service(key("10.0.0.100", 80), servers(3)), service(key("10.0.0.100", 81), servers(3))];
    let mut bench = Bench::new();
    let before = bench.apply(&state);
    state.services[0].servers[0].weight = 5;
    let after = bench.apply(&state);
    assert!(Arc::ptr_eq(&before.servers, &after.servers));
    assert!(Arc::ptr_eq(&before.server_addresses, &after.server_addresses));
    assert!(Arc::ptr_eq(&before.tunnels, &after.tunnels));
    assert!(Arc::ptr_eq(&before.arrivals, &after.arrivals));
    assert!(Arc::ptr_eq(&before.neighbours, &after.neighbours));

    state.services[0].persistent = Some(300);
    let wide = bench.apply(&state);
    assert_eq!(wide.servers[&(6, ip("10.1.0.11"), 8000)], Steering::Address(32));
    // Both services have these servers.
    assert_eq!(found(&wide, key("10.0.0.100", 81)).steering, Steering::Address(32));
}

#[test]
fn addresses_of_a_port_come_up_again_when_it_is_reached_by_another_way() {
    let mut state = two_arms();
    state.services = vec![service(key("10.0.0.100", 80), vec![server("10.1.0.11", 8000)])];
    let mut bench = Bench::new();
    let before = bench.apply(&state);
    let wan = before.by_vlan.get(0, 0).unwrap();
    bench.program.announce_again(0);
    let after = bench.apply(&state);
    let (again, left): (Vec<Arrival>, Vec<Arrival>) =
        after.arrivals.iter().copied().partition(|arrival| arrival.since == after.generation);
    assert!(!again.is_empty() && again.iter().all(|arrival| arrival.interface == wan));
    assert!(!left.is_empty() && left.iter().all(|arrival| arrival.interface != wan));
    assert!(again.iter().any(|arrival| arrival.address == ip("10.0.0.100")));
    assert!(Arc::ptr_eq(&after.arrivals, &bench.apply(&state).arrivals), "once");
}

#[test]
fn services_share_the_addresses_of_a_pool() {
    let mut state = two_arms();
    state.local_pools.push(pool("pool", "lan", "10.1.0.200", "10.1.0.203"));
    for port in [80, 81] {
        let mut of_pool = service(key("10.0.0.100", port), vec![]);
        of_pool.local_pool = Some("pool".to_owned());
        state.services.push(of_pool);
    }
    let mut bench = Bench::new();
    let snapshot = bench.apply(&state);
    let addresses =
        |snapshot: &Snapshot, port| found(snapshot, key("10.0.0.100", port)).local_addresses.clone();
    assert_eq!(addresses(&snapshot, 80).len(), 4);
    assert!(Arc::ptr_eq(&addresses(&snapshot, 80), &addresses(&snapshot, 81)));
    let again = bench.apply(&state);
    assert!(Arc::ptr_eq(found(&snapshot, key("10.0.0.100", 80)), found(&again, key("10.0.0.100", 80))));
    state.local_pools[0].ports.last = 2500;
    assert_eq!(addresses(&bench.apply(&state), 81)[3].last, 2500);
}
