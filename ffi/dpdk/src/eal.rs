//! DPDK's environment: started once a process, with huge pages when there are some.

use std::ffi::{CStr, CString, c_char, c_int};
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use fulcrum_dpdk_sys as sys;

use crate::mempool::bytes_needed;
use crate::{allowed_cpus, log};

/// Whether to use huge pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hugepages {
    /// When enough of them are free.
    #[default]
    Auto,
    /// Never.
    Off,
}

/// What EAL is started with.
#[derive(Clone, Debug, Default)]
pub struct EalConfig {
    /// Processors of the workers, one worker each.
    pub workers: Vec<usize>,
    /// Keeps instances on one machine apart; must differ between them.
    pub file_prefix: String,
    /// Huge pages.
    pub hugepages: Hugepages,
    /// Frames that pools will hold.
    pub frames: usize,
    /// Room in each of them, in bytes.
    pub room: usize,
    /// Memory that drivers take beside frames, in MiB.
    pub drivers_mb: usize,
    /// Addresses of the PCI devices to take; no others are touched.
    pub pci: Vec<String>,
    /// Folder or file of drivers to load beside the distribution's.
    pub drivers: Option<PathBuf>,
}

/// Why EAL did not start.
#[derive(Debug, thiserror::Error)]
pub enum EalError {
    /// It can only be started once.
    #[error("DPDK's environment was already started in this process")]
    AlreadyStarted,
    /// No worker.
    #[error("no worker processor was given")]
    NoWorkers,
    /// More workers than DPDK was built for.
    #[error("{0} workers are more than this DPDK was built for ({max})", max = sys::RTE_MAX_LCORE - 1)]
    TooManyWorkers(usize),
    /// A processor that is not there.
    #[error("processor {cpu} cannot be used: this process may run on {allowed}")]
    NoSuchCpu {
        /// The processor asked for.
        cpu: usize,
        /// Those that exist and are allowed.
        allowed: String,
    },
    /// An argument with a zero byte.
    #[error("`{0}` holds a zero byte")]
    BadArgument(String),
    /// `rte_eal_init` said no.
    #[error("DPDK's environment did not start: {reason}{complaints}")]
    Init {
        /// Its error code in words.
        reason: String,
        /// What its log said.
        complaints: String,
    },
}

/// Memory for DPDK's own tables and rings, in MiB.
const OWN_MEMORY: usize = 32;

impl EalConfig {
    /// Memory that all of it takes, in MiB.
    pub fn memory_mb(&self) -> usize {
        (bytes_needed(self.frames, self.room) >> 20) + OWN_MEMORY + self.drivers_mb
    }
}

/// DPDK's environment. There is one a process and it stays until the process ends.
#[derive(Debug)]
pub struct Eal {
    workers: Vec<usize>,
    hugepages: bool,
    memory_mb: usize,
}

static STARTED: AtomicBool = AtomicBool::new(false);

impl Eal {
    /// Starts the environment; the calling thread becomes its main thread and may run on every allowed processor.
    /// A second call in a process is refused, also after a failure: DPDK cannot be started twice.
    pub fn start(config: &EalConfig) -> Result<&'static Eal, EalError> {
        let allowed = allowed_cpus();
        if config.workers.is_empty() {
            return Err(EalError::NoWorkers);
        }
        if config.workers.len() >= sys::RTE_MAX_LCORE as usize {
            return Err(EalError::TooManyWorkers(config.workers.len()));
        }
        if let Some(&cpu) = config.workers.iter().find(|cpu| !allowed.contains(cpu)) {
            return Err(EalError::NoSuchCpu { cpu, allowed: join(&allowed) });
        }
        let hugepages = config.hugepages == Hugepages::Auto && free_hugepages_mb() >= config.memory_mb();
        let arguments = arguments(config, &allowed, hugepages)
            .into_iter()
            .map(|argument| CString::new(argument.clone()).map_err(|_| EalError::BadArgument(argument)))
            .collect::<Result<Vec<_>, _>>()?;

        if STARTED.swap(true, Ordering::SeqCst) {
            return Err(EalError::AlreadyStarted);
        }
        log::capture();
        init(arguments)?;
        Ok(Box::leak(Box::new(Eal {
            workers: config.workers.clone(),
            hugepages,
            memory_mb: config.memory_mb(),
        })))
    }

    /// Whether memory comes from huge pages.
    pub fn hugepages(&self) -> bool {
        self.hugepages
    }

    /// Memory that was asked for, in MiB.
    pub fn memory_mb(&self) -> usize {
        self.memory_mb
    }

    /// Processors of the workers; a worker's number is its place here.
    pub fn workers(&self) -> &[usize] {
        &self.workers
    }

    /// Gives huge pages and run-time files back, at the very end: nothing of DPDK may be used afterwards.
    ///
    /// Ports must be closed and lcores joined; the caller leaves the process next.
    pub fn cleanup(&'static self) {
        // SAFETY: returns a pointer to a static string, set when EAL started.
        let folder = unsafe { CStr::from_ptr(sys::rte_eal_get_runtime_dir()) }.to_string_lossy().into_owned();
        // SAFETY: called once at the end of the process by contract; DPDK itself refuses a second call.
        unsafe { sys::rte_eal_cleanup() };
        // Ours alone by its file prefix; EAL leaves it behind. Only when it is empty.
        let _ = fs::remove_dir(folder);
    }
}

/// DPDK's version as it names itself, e.g. `DPDK 22.11.11`.
pub fn version() -> String {
    // SAFETY: returns a pointer to a static string.
    unsafe { CStr::from_ptr(sys::rte_version()) }.to_string_lossy().into_owned()
}

/// An error code of DPDK (either sign) in words.
pub(crate) fn words(code: c_int) -> String {
    // SAFETY: returns a static or thread-local string for every code.
    unsafe { CStr::from_ptr(sys::rte_strerror(code.abs())) }.to_string_lossy().into_owned()
}

/// The code of the last error of this thread.
pub(crate) fn last_error() -> c_int {
    // SAFETY: reads a thread-local.
    unsafe { sys::fulcrum_errno() }
}

fn arguments(config: &EalConfig, allowed: &[usize], hugepages: bool) -> Vec<String> {
    // Lcore 0 is the main thread, which floats; worker n is lcore n + 1, pinned.
    let mut lcores = format!("0@({})", join(allowed));
    for (worker, cpu) in config.workers.iter().enumerate() {
        lcores.push_str(&format!(",{}@{cpu}", worker + 1));
    }
    let mut arguments: Vec<String> = [
        "fulcrum",
        "--lcores",
        &lcores,
        "--main-lcore",
        "0",
        "--file-prefix",
        &config.file_prefix,
        "--no-telemetry",
    ]
    .map(str::to_owned)
    .into();
    if hugepages {
        arguments.push("--in-memory".to_owned());
    } else {
        let memory = config.memory_mb().max(64).to_string();
        arguments.extend(["--no-huge", "--no-shconf", "-m", &memory].map(str::to_owned));
    }
    if config.pci.is_empty() {
        // No device reads memory by itself, so that physical addresses are nobody's concern.
        arguments.extend(["--no-pci", "--iova-mode", "va"].map(str::to_owned));
    }
    for address in &config.pci {
        arguments.extend(["-a".to_owned(), address.clone()]);
    }
    if let Some(drivers) = &config.drivers {
        arguments.extend(["-d".to_owned(), drivers.display().to_string()]);
    }
    arguments
}

fn init(arguments: Vec<CString>) -> Result<(), EalError> {
    // EAL keeps pointers into its arguments and permutes the array: both live for ever.
    let argv: Vec<*mut c_char> = arguments.into_iter().map(CString::into_raw).collect();
    let argv = argv.leak();
    // SAFETY: argc strings, writable and never freed; STARTED lets only one thread come here, once.
    let status = unsafe { sys::rte_eal_init(c_int::try_from(argv.len()).unwrap_or(0), argv.as_mut_ptr()) };
    if status < 0 {
        return Err(EalError::Init { reason: words(last_error()), complaints: log::complaints() });
    }
    // SAFETY: looks up already loaded libraries only.
    unsafe { sys::fulcrum_quiet_libbpf() };
    Ok(())
}

/// Huge pages that nobody uses, of all sizes, in MiB.
fn free_hugepages_mb() -> usize {
    let Ok(sizes) = fs::read_dir("/sys/kernel/mm/hugepages") else { return 0 };
    sizes
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let kib: usize = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
            let free: usize =
                fs::read_to_string(entry.path().join("free_hugepages")).ok()?.trim().parse().ok()?;
            Some(free * kib / 1024)
        })
        .sum()
}

fn join(cpus: &[usize]) -> String {
    cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> EalConfig {
        EalConfig {
            workers: vec![1, 3],
            file_prefix: "t".into(),
            frames: 20_480,
            room: 2048,
            ..EalConfig::default()
        }
    }

    #[test]
    fn without_huge_pages_memory_is_sized() {
        let line = arguments(&config(), &[0, 1, 2, 3], false).join(" ");
        assert_eq!(
            line,
            "fulcrum --lcores 0@(0,1,2,3),1@1,2@3 --main-lcore 0 --file-prefix t --no-telemetry \
             --no-huge --no-shconf -m 80 --no-pci --iova-mode va"
        );
    }

    #[test]
    fn with_huge_pages_no_file_is_made_and_only_the_named_devices_are_taken() {
        let config = EalConfig { pci: vec!["0000:03:00.0".into()], ..config() };
        let line = arguments(&config, &[0], true).join(" ");
        assert!(line.ends_with("--in-memory -a 0000:03:00.0"), "{line}");
    }

    #[test]
    fn a_processor_that_is_not_there_is_named() {
        let config = EalConfig { workers: vec![4095], ..config() };
        let error = Eal::start(&config).expect_err("no such processor").to_string();
        assert!(error.contains("processor 4095 cannot be used"), "{error}");
    }
}
