//! What a machine could do better by its data plane, from what the kernel shows of it in /sys and /proc.
//!
//! Nothing of this is a reason not to run. Every line says what is, what it costs, and what would be right.

use std::collections::BTreeSet;
use std::fs;

use fulcrum_dpdk::parse_cpu_list;

/// What a data plane wants of its machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wants {
    /// The workers' processors, one of each worker.
    pub(crate) cpus: Vec<usize>,
    /// Whether workers poll without end.
    pub(crate) polls: bool,
    /// Memory that is to come from huge pages, in MiB; 0: none.
    pub(crate) huge_mb: usize,
    /// Names of ports with the folders of their devices in /sys, where they have one.
    pub(crate) devices: Vec<(String, String)>,
}

/// Advice for this machine.
pub(crate) fn here(wants: &Wants) -> Vec<String> {
    advice(wants, &|path| fs::read_to_string(path).ok())
}

/// A file's text, by its path; `None` where there is no such file.
type Read<'a> = &'a dyn Fn(&str) -> Option<String>;

fn advice(wants: &Wants, read: Read<'_>) -> Vec<String> {
    let crowded = crowded(&wants.cpus);
    let distinct: BTreeSet<usize> = wants.cpus.iter().copied().collect();
    let wants = &Wants { cpus: distinct.into_iter().collect(), ..wants.clone() };
    let own = isolated(read);
    let shared: Vec<usize> = wants.cpus.iter().copied().filter(|cpu| !own.contains(cpu)).collect();
    let shared = if wants.polls && !has_partition(read) { shared } else { Vec::new() };
    let all = [
        numa(wants, read),
        huge_pages(wants.huge_mb, read).into_iter().collect(),
        transparent_huge_pages(read).into_iter().collect(),
        not_isolated(&shared).into_iter().collect(),
        autogroup(&shared, read).into_iter().collect(),
        governors(&wants.cpus, read),
        crowded.into_iter().collect(),
        cores(wants, read),
    ];
    all.concat().into_iter().map(|line| format!("host: {line}")).collect()
}

/// A list of processors, or of NUMA nodes.
fn list(read: Read<'_>, path: &str) -> Vec<usize> {
    read(path).and_then(|text| parse_cpu_list(&text).ok()).unwrap_or_default()
}

fn text(cpus: &[usize]) -> String {
    cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}

/// `lcore 1` or `lcores 1,2`.
fn lcores(cpus: &[usize]) -> String {
    format!("lcore{} {}", if cpus.len() == 1 { "" } else { "s" }, text(cpus))
}

fn is_are(cpus: &[usize]) -> &'static str {
    if cpus.len() == 1 { "is" } else { "are" }
}

fn numa(wants: &Wants, read: Read<'_>) -> Vec<String> {
    let nodes: Vec<(usize, Vec<usize>)> = list(read, "/sys/devices/system/node/online")
        .into_iter()
        .map(|node| (node, list(read, &format!("/sys/devices/system/node/node{node}/cpulist"))))
        .collect();
    let far_from = |(port, folder): &(String, String)| {
        // -1: the machine does not say.
        let node: usize = read(&format!("{folder}/numa_node"))?.trim().parse().ok()?;
        let (_, near) = nodes.iter().find(|(number, _)| *number == node)?;
        let far: Vec<usize> = wants.cpus.iter().copied().filter(|cpu| !near.contains(cpu)).collect();
        (!far.is_empty()).then(|| {
            format!(
                "port {port} is on NUMA node {node}, {} {} not: every frame crosses between the nodes; take lcores \
                 among {}",
                lcores(&far),
                is_are(&far),
                text(near)
            )
        })
    };
    wants.devices.iter().filter_map(far_from).collect()
}

fn huge_pages(wanted_mb: usize, read: Read<'_>) -> Option<String> {
    let number = |size: &str, what: &str| -> usize {
        let path = format!("/sys/kernel/mm/hugepages/hugepages-{size}kB/{what}");
        read(&path).and_then(|text| text.trim().parse().ok()).unwrap_or(0)
    };
    let free_mb = 2 * number("2048", "free_hugepages") + 1024 * number("1048576", "free_hugepages");
    if free_mb >= wanted_mb {
        return None;
    }
    let pages = number("2048", "nr_hugepages") + (wanted_mb - free_mb).div_ceil(2);
    Some(format!(
        "frames take {wanted_mb} MiB, of huge pages {free_mb} MiB are free: they are on small pages, which costs time, \
         and PCI devices may refuse them; sysctl vm.nr_hugepages={pages}, or say hugepages = \"off\""
    ))
}

fn transparent_huge_pages(read: Read<'_>) -> Option<String> {
    let path = "/sys/kernel/mm/transparent_hugepage/enabled";
    read(path).filter(|text| text.contains("[never]"))?;
    Some(format!(
        "transparent huge pages are switched off: with many sessions most packets wait for address translation; \
         echo madvise > {path}"
    ))
}

/// Processors that the scheduler puts nothing on by itself.
fn isolated(read: Read<'_>) -> BTreeSet<usize> {
    let paths = ["/sys/devices/system/cpu/isolated", "/sys/fs/cgroup/cpuset.cpus.isolated"];
    paths.into_iter().flat_map(|path| list(read, path)).collect()
}

/// Whether the process is in a cpuset whose processors are its own.
fn has_partition(read: Read<'_>) -> bool {
    let groups = read("/proc/self/cgroup").unwrap_or_default();
    let Some(group) = groups.lines().find_map(|line| line.strip_prefix("0::")) else { return false };
    let path = format!("/sys/fs/cgroup{}/cpuset.cpus.partition", group.trim_end_matches('/'));
    // `root invalid (…)` is none.
    read(&path).is_some_and(|kind| matches!(kind.trim(), "root" | "isolated"))
}

fn not_isolated(shared: &[usize]) -> Option<String> {
    let cpus = text(shared);
    (!shared.is_empty()).then(|| {
        format!(
            "{} {} not kept free of other work, which packets then wait for: isolcpus={cpus} nohz_full={cpus} \
             rcu_nocbs={cpus} on the kernel's command line, or a cpuset partition",
            lcores(shared),
            is_are(shared)
        )
    })
}

/// With autogroups, a worker has as much of a processor as all of another session, however many threads that has.
fn autogroup(shared: &[usize], read: Read<'_>) -> Option<String> {
    let enabled = read("/proc/sys/kernel/sched_autogroup_enabled").is_some_and(|text| text.trim() == "1");
    (enabled && !shared.is_empty()).then(|| {
        format!(
            "sched_autogroup_enabled is 1: on {} the data plane as a whole gets no more time than any other session, \
             and its priority counts inside its own only; sysctl kernel.sched_autogroup_enabled=0",
            lcores(shared)
        )
    })
}

fn governors(cpus: &[usize], read: Read<'_>) -> Vec<String> {
    let slow = |&cpu: &usize| {
        let governor = read(&format!("/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor"))?;
        let governor = governor.trim();
        (governor != "performance").then(|| (governor.to_owned(), cpu))
    };
    let mut groups = std::collections::BTreeMap::<String, Vec<usize>>::new();
    for (governor, cpu) in cpus.iter().filter_map(slow) {
        groups.entry(governor).or_default().push(cpu);
    }
    let line = |(governor, cpus): (String, Vec<usize>)| {
        format!(
            "{} {} under the governor `{governor}`, which lowers the clock: cpupower -c {} frequency-set -g performance",
            lcores(&cpus),
            is_are(&cpus),
            text(&cpus)
        )
    };
    groups.into_iter().map(line).collect()
}

/// Processors that are given more than once.
fn crowded(cpus: &[usize]) -> Option<String> {
    let twice = |cpu: &&usize| cpus.iter().filter(|other| other == cpu).count() > 1;
    let list: BTreeSet<usize> = cpus.iter().filter(twice).copied().collect();
    let list: Vec<usize> = list.into_iter().collect();
    (!list.is_empty()).then(|| {
        format!(
            "{} {} given to several workers, which wait for one another: one worker does more there",
            lcores(&list),
            is_are(&list)
        )
    })
}

/// Workers that share a core, or leave none.
fn cores(wants: &Wants, read: Read<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    let mut seen = BTreeSet::new();
    for &cpu in &wants.cpus {
        let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
        let siblings = list(read, &path);
        let together: Vec<usize> = siblings.into_iter().filter(|cpu| wants.cpus.contains(cpu)).collect();
        if together.len() > 1 && seen.insert(together.clone()) {
            lines.push(format!(
                "{} are threads of one core, which workers then share: take lcores of different cores",
                lcores(&together)
            ));
        }
    }
    let online = list(read, "/sys/devices/system/cpu/online");
    if wants.polls && !online.is_empty() && online.iter().all(|cpu| wants.cpus.contains(cpu)) {
        lines.push(format!(
            "workers poll on all {} processors: leave one for the system and for control",
            online.len()
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// A machine of two nodes that is set up well, as its files are; then with some of them changed.
    fn machine(changes: &[(&str, &str)]) -> impl Fn(&str) -> Option<String> {
        let mut files: HashMap<String, String> = [
            ("/sys/devices/system/node/online", "0-1\n"),
            ("/sys/devices/system/node/node0/cpulist", "0-3,8-11\n"),
            ("/sys/devices/system/node/node1/cpulist", "4-7,12-15\n"),
            ("/sys/devices/system/cpu/online", "0-15\n"),
            ("/sys/devices/system/cpu/isolated", "1-3\n"),
            ("/sys/devices/system/cpu/cpu1/topology/thread_siblings_list", "1,9\n"),
            ("/sys/devices/system/cpu/cpu2/topology/thread_siblings_list", "2,10\n"),
            ("/sys/devices/system/cpu/cpu9/topology/thread_siblings_list", "1,9\n"),
            ("/sys/devices/system/cpu/cpu1/cpufreq/scaling_governor", "performance\n"),
            ("/sys/devices/system/cpu/cpu2/cpufreq/scaling_governor", "performance\n"),
            ("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "512\n"),
            ("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "512\n"),
            ("/sys/kernel/mm/hugepages/hugepages-1048576kB/free_hugepages", "0\n"),
            ("/sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n"),
            ("/proc/sys/kernel/sched_autogroup_enabled", "1\n"),
            ("/proc/self/cgroup", "0::/system.slice/fulcrum-dataplane.service\n"),
            ("/sys/bus/pci/devices/0000:03:00.0/numa_node", "0\n"),
        ]
        .into_iter()
        .chain(changes.iter().copied())
        .map(|(path, text)| (path.to_owned(), text.to_owned()))
        .collect();
        files.retain(|_, text| text != "absent");
        move |path| files.get(path).cloned()
    }

    fn wants() -> Wants {
        Wants {
            cpus: vec![1, 2],
            polls: true,
            huge_mb: 700,
            devices: vec![("wan".to_owned(), "/sys/bus/pci/devices/0000:03:00.0".to_owned())],
        }
    }

    fn said(wants: &Wants, changes: &[(&str, &str)]) -> String {
        advice(wants, &machine(changes)).join("\n")
    }

    #[test]
    fn a_machine_that_is_right_is_left_in_peace() {
        assert_eq!(said(&wants(), &[]), "");
    }

    #[test]
    fn of_a_machine_that_says_nothing_only_what_is_certain_is_said() {
        let lines = advice(&wants(), &|_| None);
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].starts_with("host: frames take 700 MiB, of huge pages 0 MiB are free"));
        assert!(lines[1].starts_with("host: lcores 1,2 are not kept free of other work"));
        assert_eq!(advice(&Wants { cpus: vec![1], ..Wants::default() }, &|_| None), Vec::<String>::new());
    }

    #[test]
    fn a_port_on_another_node_than_its_workers() {
        let node = "/sys/bus/pci/devices/0000:03:00.0/numa_node";
        assert_eq!(
            said(&wants(), &[(node, "1\n")]),
            "host: port wan is on NUMA node 1, lcores 1,2 are not: every frame crosses between the nodes; take lcores \
             among 4,5,6,7,12,13,14,15"
        );
        // Virtual machines say -1, and a machine of one node has no other.
        assert_eq!(said(&wants(), &[(node, "-1\n")]), "");
        assert_eq!(said(&wants(), &[(node, "absent")]), "");
    }

    #[test]
    fn huge_pages_that_are_missing() {
        let free = ("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "12\n");
        let told = said(&wants(), &[free]);
        assert!(told.contains("take 700 MiB, of huge pages 24 MiB are free"), "{told}");
        assert!(told.contains("vm.nr_hugepages=850,"), "512 there and 338 more: {told}");
        let large = ("/sys/kernel/mm/hugepages/hugepages-1048576kB/free_hugepages", "1\n");
        assert_eq!(said(&wants(), &[free, large]), "");
        assert_eq!(said(&Wants { huge_mb: 0, ..wants() }, &[free]), "");
        let off = ("/sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]\n");
        assert!(
            said(&wants(), &[off]).contains("echo madvise > /sys/kernel/mm/transparent_hugepage/enabled")
        );
    }

    #[test]
    fn processors_that_others_use_too() {
        let isolated = "/sys/devices/system/cpu/isolated";
        let told = said(&wants(), &[(isolated, "2-3\n")]);
        let lines: Vec<&str> = told.lines().collect();
        assert!(lines[0].starts_with("host: lcore 1 is not kept free of other work"), "{told}");
        assert!(lines[0].contains("isolcpus=1 nohz_full=1 rcu_nocbs=1"), "{told}");
        assert!(lines[1].starts_with("host: sched_autogroup_enabled is 1: on lcore 1 "), "{told}");
        assert_eq!(lines.len(), 2);
        let none = (isolated, "\n");
        let no_groups = ("/proc/sys/kernel/sched_autogroup_enabled", "0\n");
        assert_eq!(said(&wants(), &[none, no_groups]).lines().count(), 1);
        // Who naps leaves the processor to others anyway.
        assert_eq!(said(&Wants { polls: false, ..wants() }, &[none]), "");
        assert_eq!(said(&wants(), &[none, ("/sys/fs/cgroup/cpuset.cpus.isolated", "0-2\n")]), "");
        let partition = "/sys/fs/cgroup/system.slice/fulcrum-dataplane.service/cpuset.cpus.partition";
        assert_eq!(said(&wants(), &[none, (partition, "isolated\n")]), "");
        assert_eq!(said(&wants(), &[none, (partition, "member\n")]).lines().count(), 2);
        assert_eq!(
            said(&wants(), &[none, (partition, "root invalid (Cpu list in cpuset.cpus not exclusive)\n")])
                .lines()
                .count(),
            2
        );
    }

    #[test]
    fn slow_clocks_and_shared_cores() {
        let governor = "/sys/devices/system/cpu/cpu2/cpufreq/scaling_governor";
        assert_eq!(
            said(&wants(), &[(governor, "powersave\n")]),
            "host: lcore 2 is under the governor `powersave`, which lowers the clock: cpupower -c 2 frequency-set -g \
             performance"
        );
        let threads = Wants { cpus: vec![1, 9, 2], ..wants() };
        assert_eq!(
            said(&threads, &[("/sys/devices/system/cpu/isolated", "1-3,9\n")]),
            "host: lcores 1,9 are threads of one core, which workers then share: take lcores of different cores"
        );
        let crowded = Wants { cpus: vec![2, 1, 2, 2], ..wants() };
        assert_eq!(
            said(&crowded, &[]),
            "host: lcore 2 is given to several workers, which wait for one another: one worker does more there"
        );
        let told = said(&wants(), &[("/sys/devices/system/cpu/online", "1-2\n")]);
        assert_eq!(told, "host: workers poll on all 2 processors: leave one for the system and for control");
    }
}
