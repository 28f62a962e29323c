//! What is known of servers, and by which checks.

use super::{Family, Labels, counter, gauge};
use crate::metrics::scrape::Scrape;
use crate::metrics::view::{CheckView, ServerView, ServiceView};

const SERVICE: Labels = &["service"];
const SERVER: Labels = &["service", "server"];
const CHECK: Labels = &["service", "server", "check"];

/// Health of services and servers.
pub(super) const FAMILIES: &[Family] = &[
    gauge("servers_in_state", &["state"], "Servers of all services by state.", |s, out| {
        s.services.states.iter().for_each(|(state, count)| out.put(&[state], *count));
    }),
    gauge("service_healthy_weight", SERVICE, "Weight of the healthy servers of the service.", |s, out| {
        services(s, |it| out.put(&[&it.name], it.quorum.0));
    }),
    gauge("service_quorum", SERVICE, "Healthy weight that the service needs.", |s, out| {
        services(s, |it| out.put(&[&it.name], it.quorum.1));
    }),
    gauge(
        "service_quorum_lost",
        SERVICE,
        "1 when the service has not the healthy weight that it needs.",
        |s, out| {
            services(s, |it| out.put(&[&it.name], it.quorum_lost));
        },
    ),
    gauge("service_sorry_server", SERVICE, "1 when the sorry server of the service answers.", |s, out| {
        services(s, |it| out.put(&[&it.name], it.sorry));
    }),
    gauge(
        "server_effective_weight",
        SERVER,
        "Weight of the server in the data plane, absent when it is not there.",
        |s, out| {
            servers(s, |service, it| {
                it.effective_weight.iter().for_each(|weight| out.put(&[service, &it.name], *weight));
            });
        },
    ),
    gauge(
        "server_state",
        &["service", "server", "state"],
        "1 for the state that the server is in: up, down, unknown, unchecked, draining or disabled.",
        |s, out| {
            servers(s, |service, it| out.put(&[service, &it.name, &it.state], 1u64));
        },
    ),
    gauge(
        "check_verdict",
        &["service", "server", "check", "verdict"],
        "1 for what the check says of the server: up, down or unknown.",
        |s, out| {
            checks(s, |labels, it| out.put(&[labels[0], labels[1], labels[2], it.verdict], 1u64));
        },
    ),
    counter(
        "check_probes",
        &["service", "server", "check", "result"],
        "Probes of the server by the check: good, bad, and those that this host could not make (unasked).",
        |s, out| {
            checks(s, |labels, it| {
                for (result, count) in std::iter::zip(["good", "bad", "unasked"], it.probes) {
                    out.put(&[labels[0], labels[1], labels[2], result], count);
                }
            });
        },
    ),
    gauge("check_duration", CHECK, "How long the last probe took.", |s, out| {
        checks(s, |labels, it| it.took.iter().for_each(|took| out.put(&labels, took.as_secs_f64())));
    })
    .of("seconds"),
];

fn services(scrape: &Scrape, each: impl FnMut(&ServiceView)) {
    scrape.services.services.iter().for_each(each);
}

fn servers(scrape: &Scrape, mut each: impl FnMut(&str, &ServerView)) {
    services(scrape, |service| service.servers.iter().for_each(|server| each(&service.name, server)));
}

fn checks(scrape: &Scrape, mut each: impl FnMut([&str; 3], &CheckView)) {
    servers(scrape, |service, server| {
        server.checks.iter().for_each(|check| each([service, &server.name, &check.name], check));
    });
}
