//! Datagrams that are larger than a packet, in every way of forwarding, with their fragments in any order.

use fulcrum_e2e::Lab;
use fulcrum_e2e::client::{ask_in_pieces, ask_in_pieces_again, assert_answered};
use fulcrum_e2e::director::{Director, Setup};
use fulcrum_e2e::net::Family;
use fulcrum_e2e::{topology, ways};

fn datagrams_arrive_whole(family: Family, setup: &Setup) {
    let lab = Lab::new(&format!("frag{family:?}{}", setup.workers()));
    let net = topology::stage(&lab);
    let director = Director::start(&net.director, lab.directory(), setup, &net.network);
    let captures = net.capture(&lab);
    for way in ways::ALL {
        director.ipvsadm_lines(&family.words(way.commands));
        let service = format!("{}:5000", family.host(way.vip));
        if family == Family::V6 && way.vip == ways::TUN.vip {
            // The client's kernel learns that tunnels take less than its fragments.
            ask_in_pieces(&net.client, &service, 8000, 1, "kernel");
        }
        for order in ["kernel", "forward", "backward", "shuffled"] {
            for size in [4000, 8000] {
                let answers = ask_in_pieces_again(&net.client, &service, size, 4, order);
                println!("{} {order} {size}: {answers:?}", way.vip);
                assert_answered(&answers, 4);
            }
        }
    }
    captures.stop();
    assert_eq!(director.drops("fragment"), 0);
}

#[test]
fn large_datagrams_arrive_whole_in_every_way() {
    datagrams_arrive_whole(Family::V4, &Setup::ONE);
}

#[test]
fn large_datagrams_arrive_whole_over_workers() {
    datagrams_arrive_whole(Family::V4, &Setup::MISDIRECTED);
}

#[test]
fn large_datagrams_of_ipv6_arrive_whole_in_every_way() {
    datagrams_arrive_whole(Family::V6, &Setup::ONE);
}

#[test]
fn large_datagrams_of_ipv6_arrive_whole_over_workers() {
    datagrams_arrive_whole(Family::V6, &Setup::MISDIRECTED);
}
