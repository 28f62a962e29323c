//! Services and servers.

use fulcrum_api::dataplane::Counters;

use super::{Family, Labels, counter, gauge, info};
use crate::metrics::scrape::Scrape;
use crate::metrics::text::Samples;
use crate::metrics::view::{ServerCounted, ServerView, ServiceView};

const SERVICE: Labels = &["service"];
const SERVER: Labels = &["service", "server"];

/// What is known of services and servers.
pub(super) const FAMILIES: &[Family] = &[
    gauge("services", &[], "Services of the desired state.", |s, out| out.put(&[], s.services.service_count)),
    gauge("servers", &[], "Servers of all services of the desired state.", |s, out| {
        out.put(&[], s.services.server_count)
    }),
    gauge(
        "metrics_services_omitted",
        &[],
        "Services without series of their own, by metrics-limit.",
        |s, out| {
            out.put(&[], s.services.omitted.0);
        },
    ),
    gauge(
        "metrics_servers_omitted",
        &[],
        "Servers without series of their own, by metrics-limit.",
        |s, out| {
            out.put(&[], s.services.omitted.1);
        },
    ),
    counter("connections", &[], "Connections to all services.", |s, out| total(s, out, |c| c.connections)),
    counter("in_packets", &[], "Packets to all services.", |s, out| total(s, out, |c| c.in_packets)),
    counter(
        "out_packets",
        &[],
        "Packets from all services, as far as they come by the director.",
        |s, out| {
            total(s, out, |c| c.out_packets);
        },
    ),
    counter("in", &[], "Bytes to all services.", |s, out| total(s, out, |c| c.in_bytes)).of("bytes"),
    counter("out", &[], "Bytes from all services, as far as they come by the director.", |s, out| {
        total(s, out, |c| c.out_bytes);
    })
    .of("bytes"),
    info(
        "service",
        &["service", "protocol", "scheduler"],
        "A service and how its servers are chosen.",
        |s, out| {
            s.services.services.iter().for_each(|it| out.info(&[&it.name, it.protocol, &it.scheduler]));
        },
    ),
    gauge("service_servers", SERVICE, "Servers of the service.", |s, out| {
        services(s, out, |it| Some(it.server_count as u64));
    }),
    gauge(
        "service_servers_available",
        SERVICE,
        "Of these, servers that take new connections: of a weight above 0 in the data plane.",
        |s, out| {
            services(s, out, |it| Some(it.available as u64));
        },
    ),
    counter("service_connections", SERVICE, "Connections to the service.", |s, out| {
        services(s, out, |it| Some(it.counters.as_ref()?.connections));
    }),
    counter("service_in_packets", SERVICE, "Packets to the service.", |s, out| {
        services(s, out, |it| Some(it.counters.as_ref()?.in_packets));
    }),
    counter("service_out_packets", SERVICE, "Packets from the service.", |s, out| {
        services(s, out, |it| Some(it.counters.as_ref()?.out_packets));
    }),
    counter("service_in", SERVICE, "Bytes to the service.", |s, out| {
        services(s, out, |it| Some(it.counters.as_ref()?.in_bytes));
    })
    .of("bytes"),
    counter("service_out", SERVICE, "Bytes from the service.", |s, out| {
        services(s, out, |it| Some(it.counters.as_ref()?.out_bytes));
    })
    .of("bytes"),
    gauge(
        "service_active_sessions",
        SERVICE,
        "Established sessions of all servers of the service.",
        |s, out| {
            services(s, out, |it| it.counters.as_ref().map(|_| it.sessions.0));
        },
    ),
    gauge("service_inactive_sessions", SERVICE, "Other sessions of all servers of the service.", |s, out| {
        services(s, out, |it| it.counters.as_ref().map(|_| it.sessions.1));
    }),
    gauge(
        "service_local_port_sessions",
        SERVICE,
        "Sessions that hold a local address and port (FULLNAT).",
        |s, out| {
            services(s, out, |it| Some(it.local?.0));
        },
    ),
    counter(
        "service_local_port_conflicts",
        SERVICE,
        "Local ports that were found taken when one was looked for.",
        |s, out| {
            services(s, out, |it| Some(it.local?.1));
        },
    ),
    gauge("server_weight", SERVER, "Weight of the server as configured.", |s, out| {
        servers(s, out, |it| Some(it.weight.into()));
    }),
    counter("server_connections", SERVER, "Connections to the server.", |s, out| {
        counted(s, out, |it| it.counters.connections)
    }),
    counter("server_in_packets", SERVER, "Packets to the server.", |s, out| {
        counted(s, out, |it| it.counters.in_packets)
    }),
    counter("server_out_packets", SERVER, "Packets from the server.", |s, out| {
        counted(s, out, |it| it.counters.out_packets)
    }),
    counter("server_in", SERVER, "Bytes to the server.", |s, out| counted(s, out, |it| it.counters.in_bytes))
        .of("bytes"),
    counter("server_out", SERVER, "Bytes from the server.", |s, out| {
        counted(s, out, |it| it.counters.out_bytes)
    })
    .of("bytes"),
    gauge("server_active_sessions", SERVER, "Established sessions of the server.", |s, out| {
        counted(s, out, |it| it.active)
    }),
    gauge("server_inactive_sessions", SERVER, "Other sessions of the server.", |s, out| {
        counted(s, out, |it| it.inactive)
    }),
];

fn total(scrape: &Scrape, out: &mut Samples<'_>, count: impl Fn(&Counters) -> u64) {
    scrape.total.iter().for_each(|total| out.put(&[], count(total)));
}

fn services(scrape: &Scrape, out: &mut Samples<'_>, value: impl Fn(&ServiceView) -> Option<u64>) {
    for service in &scrape.services.services {
        value(service).into_iter().for_each(|value| out.put(&[&service.name], value));
    }
}

fn servers(scrape: &Scrape, out: &mut Samples<'_>, value: impl Fn(&ServerView) -> Option<u64>) {
    for service in &scrape.services.services {
        for server in &service.servers {
            value(server).into_iter().for_each(|value| out.put(&[&service.name, &server.name], value));
        }
    }
}

fn counted(scrape: &Scrape, out: &mut Samples<'_>, value: impl Fn(&ServerCounted) -> u64) {
    servers(scrape, out, |server| server.counted.as_ref().map(&value));
}
