//! What is told under which name: one table, which docs/monitoring.md repeats.
//!
//! The processes and the link between them are here; what the data plane's threads and ports count is in `dataplane`,
//! services and servers are in `services`, what checks say of them is in `health`; what is neither of them, the exception
//! path and masqueraded flows, is in `beside`.

mod beside;
mod dataplane;
mod health;
mod services;
mod vips;

use super::scrape::Scrape;
use super::text::Samples;

/// Metrics of one name.
#[derive(Debug)]
pub struct Family {
    /// Its name without the prefix, the unit, `_total` and `_info`.
    pub name: &'static str,
    /// What kind of metric it is.
    pub kind: Kind,
    /// Its unit, the end of its name.
    pub unit: Option<&'static str>,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it is.
    pub help: &'static str,
    /// Gives its samples.
    pub samples: fn(&Scrape, &mut Samples<'_>),
}

/// Kinds of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Grows, until somebody zeroes it or its process ends.
    Counter,
    /// How it is now.
    Gauge,
    /// Words, in labels.
    Info,
}

impl Family {
    /// The name under which its samples are found.
    pub fn full_name(&self) -> String {
        let unit = self.unit.map(|unit| format!("_{unit}")).unwrap_or_default();
        let end = match self.kind {
            Kind::Counter => "_total",
            Kind::Gauge => "",
            Kind::Info => "_info",
        };
        format!("{}_{}{unit}{end}", super::text::PREFIX, self.name)
    }
}

/// All of them, in the order in which they are told.
pub fn families() -> impl Iterator<Item = &'static Family> {
    let dataplane = PROCESSES.iter().chain(dataplane::FAMILIES).chain(beside::FAMILIES);
    dataplane.chain(services::FAMILIES).chain(health::FAMILIES).chain(vips::FAMILIES)
}

type Give = fn(&Scrape, &mut Samples<'_>);
type Labels = &'static [&'static str];

const fn counter(name: &'static str, labels: Labels, help: &'static str, samples: Give) -> Family {
    Family { name, kind: Kind::Counter, unit: None, labels, help, samples }
}

const fn gauge(name: &'static str, labels: Labels, help: &'static str, samples: Give) -> Family {
    Family { name, kind: Kind::Gauge, unit: None, labels, help, samples }
}

const fn info(name: &'static str, labels: Labels, help: &'static str, samples: Give) -> Family {
    Family { name, kind: Kind::Info, unit: None, labels, help, samples }
}

impl Family {
    const fn of(self, unit: &'static str) -> Family {
        Family { unit: Some(unit), ..self }
    }
}

const PROCESS: Labels = &["process"];

const PROCESSES: &[Family] = &[
    info("control", &["version"], "The control process.", |_, out| {
        out.info(&[env!("CARGO_PKG_VERSION")]);
    }),
    info("dataplane", &["version", "dpdk", "idle"], "The data plane.", |s, out| {
        if let Some(it) = &s.dataplane {
            out.info(&[&it.version, &it.dpdk, &it.idle]);
        }
    }),
    gauge(
        "dataplane_up",
        &[],
        "1 when the data plane answers. What it counts is absent while it does not.",
        |s, out| {
            out.put(&[], s.dataplane.is_some());
        },
    ),
    gauge("dataplane_in_sync", &[], "1 when the data plane holds the desired state.", |s, out| {
        out.put(&[], s.link.in_sync);
    }),
    gauge("dataplane_generation", &[], "Number of the state that the data plane holds.", |s, out| {
        s.dataplane.iter().for_each(|it| out.put(&[], it.generation));
    }),
    gauge(
        "dataplane_acknowledged_generation",
        &[],
        "Number of the state that every worker runs.",
        |s, out| {
            s.dataplane.iter().for_each(|it| out.put(&[], it.acknowledged));
        },
    ),
    gauge("dataplane_warnings", &[], "Warnings of the data plane; fulcrum status tells them.", |s, out| {
        s.dataplane.iter().for_each(|it| out.put(&[], it.warnings.len()));
    }),
    gauge("dataplane_huge_pages", &[], "1 when the data plane uses huge pages.", |s, out| {
        s.dataplane.iter().for_each(|it| out.put(&[], it.hugepages));
    }),
    counter("reconcile_full_pushes", &[], "Whole states that were given to the data plane.", |s, out| {
        out.put(&[], s.link.full_pushes);
    }),
    counter("reconcile_increments", &[], "Sets of changes that were given to the data plane.", |s, out| {
        out.put(&[], s.link.increments);
    }),
    counter(
        "reconcile_repairs",
        &[],
        "Times the data plane held something else than it was given.",
        |s, out| {
            out.put(&[], s.link.repairs);
        },
    ),
    gauge("reconcile_last_push", &[], "How long the last push took, until the workers ran it.", |s, out| {
        out.put(&[], s.link.took.as_secs_f64());
    })
    .of("seconds"),
    gauge("config_in_effect", &[], "1 when the configuration file is right and taken in.", |s, out| {
        out.put(&[], s.config_in_effect);
    }),
    gauge("process_uptime", PROCESS, "Time since the process started.", |s, out| {
        out.put(&["control"], s.uptime.as_secs_f64());
        s.dataplane.iter().for_each(|it| out.put(&["dataplane"], it.uptime_ms as f64 / 1000.0));
    })
    .of("seconds"),
    counter("process_cpu", PROCESS, "Processor time that the process took.", |s, out| {
        processes(s, |name, it| out.put(&[name], it.cpu_seconds));
    })
    .of("seconds"),
    gauge("process_resident_memory", PROCESS, "Memory of the process, without huge pages.", |s, out| {
        processes(s, |name, it| out.put(&[name], it.resident_bytes));
    })
    .of("bytes"),
    gauge("process_threads", PROCESS, "Threads of the process.", |s, out| {
        processes(s, |name, it| out.put(&[name], it.threads));
    }),
    gauge("process_open_files", PROCESS, "File descriptors that the process has open.", |s, out| {
        processes(s, |name, it| it.open_files.iter().for_each(|n| out.put(&[name], *n)));
    }),
    gauge("process_max_files", PROCESS, "File descriptors that the process may have.", |s, out| {
        processes(s, |name, it| it.max_files.iter().for_each(|n| out.put(&[name], *n)));
    }),
    gauge("scrape_duration", &[], "How long the data plane was asked for this.", |s, out| {
        out.put(&[], s.took.as_secs_f64());
    })
    .of("seconds"),
];

fn processes(scrape: &Scrape, mut each: impl FnMut(&str, &fulcrum_api::dataplane::ProcessUse)) {
    each("control", &scrape.control);
    if let Some(process) = scrape.dataplane.as_ref().and_then(|it| it.process.as_ref()) {
        each("dataplane", process);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_name_is_there_once_and_says_its_unit_once() {
        let names: Vec<String> = families().map(Family::full_name).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
        for family in families() {
            let name = family.name;
            assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{name}");
            assert!(
                family.help.ends_with('.') && !name.ends_with("_total") && !name.ends_with("_info"),
                "{name}"
            );
            assert!(!family.unit.is_some_and(|unit| name.ends_with(unit)), "{name}");
        }
    }

    #[test]
    fn the_documentation_has_the_same_table() {
        let page = include_str!("../../../../docs/monitoring.md");
        let cell = |text: &str| text.replace('|', "\\|");
        let rows: Vec<String> = families()
            .map(|family| {
                let kind = format!("{:?}", family.kind).to_lowercase();
                let labels = family.labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>();
                format!(
                    "| `{}` | {kind} | {} | {} |",
                    family.full_name(),
                    labels.join(" "),
                    cell(family.help)
                )
            })
            .collect();
        let written: Vec<&str> = page.lines().filter(|line| line.starts_with("| `fulcrum_")).collect();
        assert_eq!(written, rows, "docs/monitoring.md should have\n{}\n", rows.join("\n"));
    }
}
