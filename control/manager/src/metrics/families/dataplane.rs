//! Workers, ports and what became of packets.

use fulcrum_api::dataplane::{BondMember, FramePool, NamedCount, PortStatus, Worker};

use super::{Family, Labels, counter, gauge, info};
use crate::metrics::scrape::Scrape;
use crate::metrics::text::Samples;

const WORKER: Labels = &["worker"];
const PORT: Labels = &["port"];
const POOL: Labels = &["pool"];
const MEMBER: Labels = &["port", "member"];

/// What the data plane counts beside services.
pub(super) const FAMILIES: &[Family] = &[
    counter(
        "dropped_packets",
        &["reason"],
        "Packets that were not forwarded, each for one reason.",
        |s, out| {
            s.dataplane.iter().for_each(|it| named(&it.drops, |name, count| out.put(&[name], count)));
        },
    ),
    counter(
        "events",
        &["event"],
        "What else happened: packets by way of forwarding, answers of the director's own.",
        |s, out| {
            s.dataplane.iter().for_each(|it| named(&it.events, |name, count| out.put(&[name], count)));
        },
    ),
    info("worker", &["worker", "lcore"], "A worker and its processor.", |s, out| {
        workers(s, out, |out, id, it| out.info(&[id, &it.lcore.to_string()]));
    }),
    gauge("worker_sessions", WORKER, "Sessions and templates in the worker's table.", |s, out| {
        workers(s, out, |out, id, it| out.put(&[id], it.sessions));
    }),
    gauge("worker_session_limit", WORKER, "Sessions that the worker's table has room for.", |s, out| {
        workers(s, out, |out, id, it| out.put(&[id], it.session_limit));
    }),
    counter("worker_received_packets", WORKER, "Packets that the worker took from ports.", |s, out| {
        workers(s, out, |out, id, it| out.put(&[id], it.rx_packets));
    }),
    counter("worker_sent_packets", WORKER, "Packets that the worker gave to ports.", |s, out| {
        workers(s, out, |out, id, it| out.put(&[id], it.tx_packets));
    }),
    counter(
        "worker_short_way_packets",
        WORKER,
        "Of these, packets of established sessions, by what the sessions remembered.",
        |s, out| {
            workers(s, out, |out, id, it| out.put(&[id], it.short_way));
        },
    ),
    counter(
        "worker_handed_off_packets",
        WORKER,
        "Packets that the worker gave to the worker that owns their flow.",
        |s, out| {
            workers(s, out, |out, id, it| out.put(&[id], it.handed_off));
        },
    ),
    counter("worker_dropped_packets", WORKER, "Packets that the worker did not forward.", |s, out| {
        workers(s, out, |out, id, it| out.put(&[id], it.drops.iter().map(|drop| drop.count).sum::<u64>()));
    }),
    gauge("worker_busy", WORKER, "Share of the last second in which the worker had work.", |s, out| {
        workers(s, out, |out, id, it| out.put(&[id], it.busy));
    })
    .of("ratio"),
    gauge("worker_asleep", WORKER, "Share of the last second that the worker slept.", |s, out| {
        workers(s, out, |out, id, it| out.put(&[id], it.asleep));
    })
    .of("ratio"),
    gauge(
        "worker_cycles_per_packet",
        WORKER,
        "Processor cycles for a packet in the last second, 0 without packets.",
        |s, out| {
            workers(s, out, |out, id, it| out.put(&[id], it.cycles_per_packet));
        },
    ),
    gauge(
        "worker_burst_fill",
        WORKER,
        "Packets of a poll that found any in the last second, 64 at most.",
        |s, out| {
            workers(s, out, |out, id, it| out.put(&[id], it.burst_fill));
        },
    )
    .of("packets"),
    gauge("frame_pool", POOL, "Buffers for frames, of each NUMA node with workers.", |s, out| {
        pools(s, out, |it| it.frames);
    })
    .of("frames"),
    gauge("frame_pool_free", POOL, "Of these, buffers that hold no frame.", |s, out| {
        pools(s, out, |it| it.free);
    })
    .of("frames"),
    info("port", &["port", "device", "driver", "mac", "steering"], "A port and its device.", |s, out| {
        ports(s, out, |out, name, it| {
            let steering = it.steering.as_ref().map_or("", |steering| &steering.way);
            out.info(&[name, &it.device, &it.driver, &it.mac, steering]);
        });
    }),
    gauge("port_up", PORT, "1 when the port has a link.", |s, out| {
        ports(s, out, |out, name, it| out.put(&[name], it.link));
    }),
    gauge("port_member_up", MEMBER, "1 when the member of the bond has a link.", |s, out| {
        members(s, out, |out, labels, it| out.put(labels, it.link));
    }),
    gauge("port_member_active", MEMBER, "1 when the member of the bond carries traffic.", |s, out| {
        members(s, out, |out, labels, it| out.put(labels, it.active));
    }),
    gauge(
        "gateway_up",
        &["interface", "address"],
        "1 when a gateway of a route that has several answers.",
        |s, out| {
            for it in s.dataplane.iter().flat_map(|dataplane| &dataplane.gateways) {
                out.put(&[&it.interface, &it.address], it.answers);
            }
        },
    ),
    gauge(
        "port_speed",
        PORT,
        "What the link carries in each direction, 0 when the device does not say.",
        |s, out| {
            ports(s, out, |out, name, it| out.put(&[name], u64::from(it.speed_mbps) * 125_000));
        },
    )
    .of("bytes_per_second"),
    counter("port_received_packets", PORT, "Packets that came in by the port.", |s, out| {
        ports(s, out, |out, name, it| out.put(&[name], it.rx_packets));
    }),
    counter("port_received", PORT, "Bytes that came in by the port.", |s, out| {
        ports(s, out, |out, name, it| out.put(&[name], it.rx_bytes));
    })
    .of("bytes"),
    counter("port_sent_packets", PORT, "Packets that left by the port.", |s, out| {
        ports(s, out, |out, name, it| out.put(&[name], it.tx_packets));
    }),
    counter("port_sent", PORT, "Bytes that left by the port.", |s, out| {
        ports(s, out, |out, name, it| out.put(&[name], it.tx_bytes));
    })
    .of("bytes"),
    counter("port_missed_packets", PORT, "Packets that came in faster than they were taken.", |s, out| {
        ports(s, out, |out, name, it| out.put(&[name], it.rx_missed));
    }),
    counter("port_receive_errors", PORT, "Packets that the device received damaged.", |s, out| {
        ports(s, out, |out, name, it| out.put(&[name], it.rx_errors));
    }),
    counter("port_send_errors", PORT, "Packets that the device did not send.", |s, out| {
        ports(s, out, |out, name, it| out.put(&[name], it.tx_errors));
    }),
    counter(
        "port_dropped_packets",
        &["port", "reason"],
        "Packets that came in by the port and were not forwarded (tx-full: to the port); reasons that occurred.",
        |s, out| {
            ports(s, out, |out, port, it| named(&it.drops, |reason, count| out.put(&[port, reason], count)));
        },
    ),
    counter(
        "port_hash_checked_packets",
        PORT,
        "Packets whose hash by the device was compared with the director's own.",
        |s, out| {
            ports(s, out, |out, name, it| {
                out.put(&[name], it.steering.as_ref().map_or(0, |steering| steering.checked))
            });
        },
    ),
    counter("port_hash_disagreed_packets", PORT, "Of these, packets where they differed.", |s, out| {
        ports(s, out, |out, name, it| {
            out.put(&[name], it.steering.as_ref().map_or(0, |steering| steering.disagreed))
        });
    }),
];

fn workers(scrape: &Scrape, out: &mut Samples<'_>, each: impl Fn(&mut Samples<'_>, &str, &Worker)) {
    for worker in scrape.dataplane.iter().flat_map(|it| &it.workers) {
        each(out, &worker.id.to_string(), worker);
    }
}

fn pools(scrape: &Scrape, out: &mut Samples<'_>, count: impl Fn(&FramePool) -> u32) {
    for (number, pool) in scrape.dataplane.iter().flat_map(|it| &it.frames).enumerate() {
        out.put(&[&number.to_string()], count(pool));
    }
}

fn ports(scrape: &Scrape, out: &mut Samples<'_>, each: impl Fn(&mut Samples<'_>, &str, &PortStatus)) {
    scrape.dataplane.iter().flat_map(|it| &it.ports).for_each(|port| each(out, &port.name, port));
}

fn members(scrape: &Scrape, out: &mut Samples<'_>, each: impl Fn(&mut Samples<'_>, &[&str], &BondMember)) {
    ports(scrape, out, |out, name, port| {
        let members = port.bond.iter().flat_map(|bond| &bond.members);
        members.for_each(|member| each(out, &[name, &member.device], member));
    });
}

fn named(counts: &[NamedCount], mut each: impl FnMut(&str, u64)) {
    counts.iter().for_each(|named| each(&named.name, named.count));
}
