//! What is no service's: packets of the host's, what servers start themselves, and who was behind a local address.

use fulcrum_api::dataplane::{ExceptionClass, SnatUse, TranslationLog};

use super::{Family, Labels, counter, gauge};
use crate::metrics::scrape::Scrape;
use crate::metrics::text::Samples;

const CLASS: Labels = &["port", "class"];
const RULE: Labels = &["rule"];

/// The exception path, rules that masquerade, and the translation log.
pub(super) const FAMILIES: &[Family] = &[
    counter("exception_up_packets", CLASS, "Packets of the port that were let up to the host.", |s, out| {
        classes(s, out, |it| it.up);
    }),
    counter(
        "exception_policed_packets",
        CLASS,
        "Packets for the host, or copies for it, beyond what may go up of their class.",
        |s, out| classes(s, out, |it| it.policed),
    ),
    counter(
        "exception_queue_full_packets",
        CLASS,
        "Of those let up, packets that found the queue of their class full.",
        |s, out| classes(s, out, |it| it.full),
    ),
    counter(
        "exception_down_packets",
        &["port"],
        "Packets that the host sent by the port's twins.",
        |s, out| {
            for port in s.dataplane.iter().flat_map(|it| &it.ports).filter(|port| !port.exceptions.is_empty())
            {
                out.put(&[&port.name], port.exception_down);
            }
        },
    ),
    gauge("snat_sessions", RULE, "Masqueraded sessions.", |s, out| rules(s, out, |it| it.sessions)),
    counter("snat_connections", RULE, "Masqueraded sessions begun.", |s, out| {
        rules(s, out, |it| it.connections);
    }),
    counter("snat_out_packets", RULE, "Packets of masqueraded sessions from who began them.", |s, out| {
        rules(s, out, |it| it.out_packets);
    }),
    counter("snat_in_packets", RULE, "Packets of masqueraded sessions back to who began them.", |s, out| {
        rules(s, out, |it| it.in_packets);
    }),
    counter("snat_out", RULE, "Bytes of masqueraded sessions from who began them.", |s, out| {
        rules(s, out, |it| it.out_bytes);
    })
    .of("bytes"),
    counter("snat_in", RULE, "Bytes of masqueraded sessions back to who began them.", |s, out| {
        rules(s, out, |it| it.in_bytes);
    })
    .of("bytes"),
    counter(
        "snat_refused_packets",
        RULE,
        "First packets of flows for which the rule's pool had no address and port left.",
        |s, out| rules(s, out, |it| it.refused),
    ),
    gauge(
        "snat_local_ports",
        RULE,
        "Addresses of the rule's pool times ports: as many flows to one host and port.",
        |s, out| rules(s, out, |it| it.ports.unwrap_or_default()),
    ),
    gauge(
        "snat_local_port_sessions",
        RULE,
        "Sessions that hold an address and port of the rule's pool, whoever else uses it.",
        |s, out| pools(s, out, |(sessions, _)| sessions),
    ),
    counter(
        "snat_local_port_conflicts",
        RULE,
        "Addresses and ports of that pool that were found taken when one was looked for.",
        |s, out| pools(s, out, |(_, conflicts)| conflicts),
    ),
    counter("translation_log_exported_records", &[], "Records that were sent to the collector.", |s, out| {
        translations(s, out, |it| it.exported);
    }),
    counter(
        "translation_log_lost_records",
        &[],
        "Records that came faster than they were sent.",
        |s, out| {
            translations(s, out, |it| it.lost);
        },
    ),
    counter(
        "translation_log_failed_datagrams",
        &[],
        "Datagrams with records that the collector could not be sent.",
        |s, out| translations(s, out, |it| it.failed),
    ),
];

/// Nothing where no log is kept.
fn translations(scrape: &Scrape, out: &mut Samples<'_>, count: impl Fn(&TranslationLog) -> u64) {
    let log = scrape.dataplane.as_ref().and_then(|it| it.translation_log.as_ref());
    log.iter().for_each(|log| out.put(&[], count(log)));
}

fn classes(scrape: &Scrape, out: &mut Samples<'_>, count: impl Fn(&ExceptionClass) -> u64) {
    for port in scrape.dataplane.iter().flat_map(|it| &it.ports) {
        port.exception_classes.iter().for_each(|it| out.put(&[&port.name, &it.name], count(it)));
    }
}

/// Of rules that masquerade: those that are exempt count nothing.
fn of_rules(scrape: &Scrape) -> impl Iterator<Item = &SnatUse> {
    let rules = scrape.dataplane.iter().flat_map(|it| &it.snat);
    rules.filter(|rule| rule.ports.is_some()).take(scrape.limit)
}

fn rules(scrape: &Scrape, out: &mut Samples<'_>, count: impl Fn(&SnatUse) -> u64) {
    of_rules(scrape).for_each(|rule| out.put(&[&rule.name], count(rule)));
}

fn pools(scrape: &Scrape, out: &mut Samples<'_>, count: impl Fn((u64, u64)) -> u64) {
    for rule in of_rules(scrape) {
        let used = scrape.services.masqueraded.get(&rule.name).copied().unwrap_or_default();
        out.put(&[&rule.name], count(used));
    }
}
