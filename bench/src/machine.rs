//! What the figures were measured on.

use std::fs;

use serde_json::{Value, json};

/// The machine's facts, as far as they bear on figures.
pub(crate) fn facts(core: usize, huge_pages: bool) -> Value {
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    json!({
        "cpu": model.map_or("unknown", |(_, model)| model.trim()),
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "measured_on_core": core,
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "dpdk": fulcrum_dpdk::version(),
        "frames_on_huge_pages": huge_pages,
        "transparent_huge_pages": chosen(&read("/sys/kernel/mm/transparent_hugepage/enabled")),
        "governor": read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").trim(),
        "autogroup": read("/proc/self/autogroup").trim(),
        "isolated": read("/sys/devices/system/cpu/isolated").trim(),
        "memory_mib": meminfo("MemTotal:") >> 10,
        "load": read("/proc/loadavg").trim(),
    })
}

/// Time that the hypervisor gave to others so far, in seconds over all processors.
pub(crate) fn steal() -> f64 {
    let stat = read("/proc/stat");
    let ticks: f64 =
        stat.lines().next().and_then(|line| line.split_whitespace().nth(8)?.parse().ok()).unwrap_or(0.0);
    // Linux shows all times in hundredths of a second.
    ticks / 100.0
}

/// Memory that this process holds, in bytes.
pub(crate) fn resident() -> usize {
    let text = read("/proc/self/status");
    let kib = text.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix("kB"));
    kib.and_then(|kib| kib.trim().parse::<usize>().ok()).unwrap_or(0) << 10
}

/// A line of /proc/meminfo, in KiB.
pub(crate) fn meminfo(key: &str) -> u64 {
    let text = read("/proc/meminfo");
    let kib = text.lines().find_map(|line| line.strip_prefix(key)?.strip_suffix("kB"));
    kib.and_then(|kib| kib.trim().parse().ok()).unwrap_or(0)
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The word in brackets.
fn chosen(text: &str) -> &str {
    text.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map_or("unknown", |(word, _)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_facts() {
        assert!(meminfo("MemTotal:") > 0);
        assert_eq!(chosen("always [madvise] never\n"), "madvise");
    }
}
