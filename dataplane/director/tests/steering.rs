//! Owners of flows by the devices' hash: what devices spread stays where it came, and what they do not arrives all the
//! same.

mod harness;

use std::net::Ipv4Addr;
use std::sync::Arc;

use fulcrum_director::rss::{Part, Rss, toeplitz};
use fulcrum_model::{Forward, Server, ServerKey};
use fulcrum_packet::icmp;
use fulcrum_packet::tcp::{ACK, SYN};
use harness::*;

const WORKERS: [u16; 4] = [1, 2, 3, 8];
const CLIENTS: std::ops::Range<u16> = 40_000..40_060;

type End = (Ipv4Addr, u16);
/// Which queue a packet comes by: of a port, from one end to the other.
type Queue = fn(&Site, u16, End, End) -> usize;

/// A director whose devices hash `part`, and what they do with a packet.
struct Site {
    director: Director,
    rss: Arc<Rss>,
    part: Part,
}

impl Site {
    fn new(workers: u16, part: Part, forward: &str, more: &str) -> Site {
        let config = format!(
            r#"
[[local-pool]]
name = "inside"
interface = "lan"
addresses = ["10.1.0.200-10.1.0.201"]
[[service]]
address = "10.0.0.100:80"
protocol = "tcp"
scheduler = "rr"
local-pool = "inside"
{more}
[[service.server]]
address = "10.1.0.11:8000"
forward = "{forward}"
"#
        );
        let mut director = Director::new(workers, &config);
        let rss = director.steer_by(part);
        Site { director, rss, part }
    }

    /// The worker whose queue the device chooses: by the whole flow; or by the source of what comes in by port 0, the
    /// destination of what comes in by port 1.
    fn queue(&self, port: u16, src: End, dst: End) -> usize {
        let ends = |ends: &[End]| {
            let addresses = ends.iter().flat_map(|end| end.0.octets());
            addresses.chain(ends.iter().flat_map(|end| end.1.to_be_bytes())).collect::<Vec<u8>>()
        };
        let input = match (self.part, port) {
            (Part::Both, _) => ends(&[src, dst]),
            (Part::End, 0) => ends(&[src]),
            (Part::End, _) => ends(&[dst]),
        };
        usize::from(self.rss.worker(toeplitz(&self.rss.config().key, &input)))
    }

    /// A request and its answer by the queues that `queue` says; gives the end that the server saw.
    fn exchange(&mut self, port: u16, flags: u8, queue: impl Fn(&Site, u16, End, End) -> usize) -> End {
        let client = (CLIENT, port);
        let by = queue(self, 0, client, (VIP, 80));
        let frame = tcp_frame(WAN, client, (VIP, 80), flags, b"");
        let outs = self.director.send_by(by, 0, &frame);
        assert_eq!(outs.len(), 1, "drops: {:?}", self.director.drops());
        let (local, local_port, server, server_port) = outs[0].ends();
        let (local, server) = ((local, local_port), (server, server_port));
        let by = queue(self, 1, server, local);
        let outs = self.director.send_by(by, 1, &tcp_frame(LAN, server, local, flags | ACK, b""));
        assert_eq!(outs.len(), 1, "drops: {:?}", self.director.drops());
        assert_eq!(outs[0].ends(), (VIP, 80, CLIENT, port));
        check_sums(&outs[0]);
        local
    }

    fn handed_off(&self) -> u64 {
        self.director.counters.iter().map(|counters| counters.handed_off.get()).sum()
    }

    /// Workers that have sessions.
    fn working(&self) -> usize {
        self.director.engines.iter().filter(|engine| engine.session_count() > 0).count()
    }
}

#[test]
fn what_devices_spread_stays_where_it_came() {
    for workers in WORKERS {
        for (part, forward) in [(Part::Both, "fullnat"), (Part::End, "fullnat"), (Part::End, "nat")] {
            let mut site = Site::new(workers, part, forward, "");
            for client in CLIENTS {
                let local = site.exchange(client, SYN, Site::queue);
                assert_eq!(site.exchange(client, ACK, Site::queue), local);
            }
            assert_eq!(site.handed_off(), 0, "{workers} workers, {part:?}, {forward}");
            assert_eq!(site.working(), usize::from(workers));
            expect_drops!(site.director);
        }
    }
}

#[test]
fn whatever_queue_packets_come_by_they_find_their_session() {
    let queues: [Queue; 3] = [
        |_, _, _, _| 0,
        |site, _, _, _| site.director.engines.len() - 1,
        |site, _, src, dst| usize::from(src.1 ^ dst.1) % site.director.engines.len(),
    ];
    for workers in WORKERS {
        for (part, forward) in [(Part::Both, "fullnat"), (Part::Both, "nat"), (Part::End, "nat")] {
            for queue in queues {
                let mut site = Site::new(workers, part, forward, "");
                let locals: Vec<End> = CLIENTS.map(|client| site.exchange(client, SYN, queue)).collect();
                for (client, local) in CLIENTS.zip(locals) {
                    assert_eq!(site.exchange(client, ACK, queue), local);
                }
                assert_eq!(site.working(), usize::from(workers));
                expect_drops!(site.director);
            }
        }
    }
}

#[test]
fn a_persistent_service_has_templates_with_their_sessions_and_answers_by_hash() {
    for workers in WORKERS {
        let mut site = Site::new(workers, Part::Both, "fullnat", "persistent = 300");
        for client in CLIENTS {
            site.exchange(client, SYN, Site::queue);
        }
        let before = site.handed_off();
        assert_eq!(site.working(), 1, "one client");
        // Its answers come to its worker: only requests are brought there.
        CLIENTS.for_each(|client| _ = site.exchange(client, ACK, Site::queue));
        assert!(site.handed_off() - before <= CLIENTS.len() as u64);
        expect_drops!(site.director);
    }
}

#[test]
fn sessions_survive_what_changes_the_steering() {
    for workers in WORKERS {
        for first in [Forward::FullNat, Forward::Nat] {
            let name = if first == Forward::Nat { "nat" } else { "fullnat" };
            let mut site = Site::new(workers, Part::Both, name, "");
            let locals: Vec<End> = CLIENTS.map(|client| site.exchange(client, SYN, Site::queue)).collect();
            let check = |site: &mut Site| {
                for (client, local) in CLIENTS.zip(&locals) {
                    assert_eq!(site.exchange(client, ACK, Site::queue), *local, "{workers} workers, {name}");
                }
            };
            // Both ends count, the client's, both again; and a network when it becomes persistent.
            let second = if first == Forward::Nat { Forward::Dr } else { Forward::Nat };
            site.director.change(|state| {
                let key = ServerKey { address: SERVER_B.into(), port: 80 };
                state.services[0].servers.push(Server::new(key, second));
            });
            check(&mut site);
            site.director.change(|state| _ = state.services[0].servers.pop());
            check(&mut site);
            site.director
                .change(|state| (state.services[0].persistent, state.services[0].prefix) = (Some(60), 24));
            check(&mut site);
            expect_drops!(site.director);
        }
    }
}

#[test]
fn errors_find_the_session_that_they_are_about() {
    for workers in WORKERS {
        let mut site = Site::new(workers, Part::Both, "fullnat", "");
        for client in CLIENTS {
            let frame = tcp_frame(WAN, (CLIENT, client), (VIP, 80), SYN, b"");
            let to_server = site.director.send(0, &frame).remove(0);
            let (local, ..) = to_server.ends();
            let about = [&[0; 14][..], &to_server.frame[14..]].concat();
            let error = error_frame(LAN, SERVER_A, local, icmp::UNREACHABLE, icmp::HOST_UNREACHABLE, &about);
            let outs = site.director.send(1, &error);
            assert_eq!(outs.len(), 1, "drops: {:?}", site.director.drops());
            assert_eq!(outs[0].ip().dst(), CLIENT);
            check_sums(&outs[0]);
        }
    }
}
