//! Two processes over shared memory: stock testpmd replays a capture, and the device under test is first testpmd with
//! a MAC swap, then ours, in one run.
//!
//! What counts is packets that came back by CPU time of the one thread that forwards, which is the busiest, in the
//! better windows of each device: what a host's other guests take makes windows slower, never faster. It counts
//! while more is offered than taken and the generator has its processors to itself: then the device under test is what is
//! measured.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, SystemTime};

use fulcrum_dpdk::allowed_cpus;
use fulcrum_model::{Family, Forward};
use fulcrum_packet::tcp;
use serde_json::{Value, json};

use crate::args::Args;
use crate::frames::{Segment, emit};
use crate::goals::Goal;
use crate::measure::median;
use crate::plan::{plain, word};
use crate::programs::{Programs, Running, wait};
use crate::run::{Failure, write_json};
use crate::{machine, world::World};

/// Different clients' packets, one each.
const TUPLES: usize = 65_536;
/// Seconds of traffic before anything counts, and windows of a second that count.
const WARM_UP: u64 = 3;
const WINDOWS: usize = 9;
/// Of what it is offered, what a device may take at most to be the one that is slow.
const SATURATED: f64 = 0.98;
/// What the generator must have had of its processors at least, and a device that tells have worked of its cycles.
const WHOLE: f64 = 0.95;
const TESTPMD: &str = "dpdk-testpmd";

/// What came of one device under test.
#[derive(Clone, Debug)]
struct Measured {
    name: String,
    /// Packets forwarded by CPU time of the forwarding thread: the window that a quarter of all exceed, in millions a
    /// second.
    rate: f64,
    /// Taken of what was offered: the median window.
    taken: f64,
    /// Of its processors, what the generator had of the one that it had least of: the median window.
    generator: f64,
    /// Share of turns' cycles that found work, where the device tells.
    busy: Option<f64>,
}

impl Measured {
    /// Whether the device was what was slow.
    fn counts(&self) -> bool {
        self.taken <= SATURATED && self.generator >= WHOLE && self.busy.is_none_or(|busy| busy >= WHOLE)
    }

    fn line(&self) -> String {
        let Measured { name, rate, taken, generator, busy } = self;
        let busy = busy.map_or(String::new(), |busy| format!(", busy {:.0} %", busy * 100.0));
        let doubt = if self.counts() { "" } else { "   (the generator was too slow: does not count)" };
        let (taken, generator) = (taken * 100.0, generator * 100.0);
        format!(
            "{name:<24} {rate:>8.3} Mpps/core, took {taken:.0} % of what was offered, generator had {generator:.0} % \
             of its processors{busy}{doubt}"
        )
    }

    fn json(&self) -> Value {
        json!({
            "device": self.name,
            "mpps_per_core_second": self.rate,
            "taken_of_offered": self.taken,
            "generator_had_of_its_processors": self.generator,
            "busy": self.busy,
            "counts": self.counts(),
        })
    }
}

/// Measures; false when a goal was missed and that matters.
pub(crate) fn run(args: &Args) -> Result<bool, Failure> {
    let cpus = allowed_cpus();
    let core = args.core.or(cpus.last().copied()).unwrap_or(0);
    let mut others = cpus.into_iter().rev().filter(|cpu| *cpu != core);
    let first = args.other_core.or(others.next()).unwrap_or(core);
    let mut generator = vec![first];
    generator.extend(others.filter(|cpu| *cpu != first).take(2));
    if generator.len() == 1 {
        generator.push(first);
    }
    let measured = measure(core, &generator).map_err(Failure::Memif)?;
    let [swap, ours @ ..] = measured.as_slice() else { return Ok(false) };
    let aim = |device: &Measured| {
        let what = format!("memif, {TUPLES} flows, {} against testpmd macswap", device.name);
        Goal::at_least(what, 0.6, device.rate / swap.rate, "")
    };
    let goals: Vec<Goal> = ours.iter().filter(|device| device.counts() && swap.counts()).map(aim).collect();
    println!("\n{}", Goal::head());
    goals.iter().for_each(|goal| println!("{}", goal.line()));
    if goals.len() < ours.len() {
        println!(
            "{} of {} goals do not count: the generator was too slow",
            ours.len() - goals.len(),
            ours.len()
        );
    }
    let report = json!({
        "machine": machine::facts(core, false),
        "devices": measured.iter().map(Measured::json).collect::<Vec<_>>(),
        "goals": goals.iter().map(Goal::json).collect::<Vec<_>>(),
    });
    write_json(&args.json, &report)?;
    Ok(!args.strict || (goals.len() == ours.len() && goals.iter().all(Goal::reached)))
}

/// How many memifs a generator on so many processors keeps busy: what a device gives back takes one of them.
fn lanes(processors: usize) -> usize {
    (processors - 1).clamp(1, 2)
}

fn measure(core: usize, generator: &[usize]) -> io::Result<Vec<Measured>> {
    let programs = Programs::find()?;
    let lanes = lanes(generator.len());
    let world = plain(Family::V4, Forward::FullNat);
    let capture = |lane: usize| programs.folder().join(format!("flows{lane}.pcap"));
    let captures: Vec<PathBuf> = (0..lanes).map(capture).collect();
    for (lane, capture) in captures.iter().enumerate() {
        fs::write(capture, pcap(&world, lane, lanes))?;
    }
    let mut measured = Vec::new();
    let mut add = |device: Measured| {
        println!("{}", device.line());
        measured.push(device);
    };

    let sockets = |name: &str| -> Vec<PathBuf> {
        (0..lanes).map(|lane| programs.folder().join(format!("{name}{lane}.sock"))).collect()
    };
    let ends = sockets("macswap");
    let device = macswap(&programs, core, &ends)?;
    add(windows(&programs, "testpmd macswap", &device, &ends, &captures, generator, || None)?);
    drop(device);
    for forward in [Forward::Dr, Forward::Nat, Forward::FullNat] {
        let name = word(forward);
        let ends = sockets(name);
        let [device, control] = programs.direct(core, &network(&World { forward, ..world }, &ends))?;
        let busy = || programs.status()?["dataplane"]["workers"][0]["busy"].as_f64();
        add(windows(&programs, name, &device, &ends, &captures, generator, busy)?);
        drop(control);
        drop(device);
    }
    Ok(measured)
}

/// testpmd that gives every frame back.
fn macswap(programs: &Programs, core: usize, sockets: &[PathBuf]) -> io::Result<Running> {
    let mut command = testpmd(&[core], "dut", 256);
    for (lane, socket) in sockets.iter().enumerate() {
        command.arg("--vdev").arg(memif(lane, "server", socket));
    }
    command.args(["--", "-i", "--total-num-mbufs=16384", "--forward-mode=macswap", "--nb-cores=1"]);
    command.args(["--port-topology=loop", "--auto-start", "--no-flush-rx"]).stdin(Stdio::piped());
    let device = Running::start(command, &programs.folder().join("macswap.log"))?;
    let open = || sockets.iter().all(|socket| socket.exists()).then_some(());
    wait("testpmd did not open its memif", open)?;
    Ok(device)
}

fn memif(number: usize, role: &str, socket: &Path) -> String {
    format!("net_memif{number},role={role},socket-abstract=no,socket={}", socket.display())
}

/// testpmd without huge pages, its forwarding threads on `cores`.
fn testpmd(cores: &[usize], name: &str, megabytes: usize) -> Command {
    let lcores: Vec<String> = (1..).zip(cores).map(|(lcore, core)| format!("{lcore}@{core}")).collect();
    // Into a file it would speak in large pieces only.
    let mut command = Command::new("stdbuf");
    command.args(["-oL", TESTPMD]);
    command.arg("--lcores").arg(format!("0@({}),{}", list(&allowed_cpus()), lcores.join(",")));
    command.args(["--main-lcore", "0", "--no-huge", "--no-shconf", "--no-pci", "--no-telemetry"]);
    command.arg("-m").arg(megabytes.to_string());
    command.arg("--file-prefix").arg(format!("fulcrum-bench-{}-{name}", std::process::id()));
    command
}

fn list(cpus: &[usize]) -> String {
    cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}

/// Runs the generator against a device.
fn windows(
    programs: &Programs,
    name: &str,
    device: &Running,
    sockets: &[PathBuf],
    captures: &[PathBuf],
    cores: &[usize],
    mut busy: impl FnMut() -> Option<f64>,
) -> io::Result<Measured> {
    let mut command = testpmd(cores, "generator", 1024);
    // Each capture with the memif after it.
    for (lane, (socket, capture)) in sockets.iter().zip(captures).enumerate() {
        command.arg("--vdev").arg(format!("net_pcap{lane},rx_pcap={},infinite_rx=1", capture.display()));
        command.arg("--vdev").arg(memif(lane, "client", socket));
    }
    command.args(["--", "-i", "--total-num-mbufs=200000", "--forward-mode=io", "--port-topology=paired"]);
    command.arg(format!("--nb-cores={}", cores.len()));
    command.args(["--auto-start", "--no-flush-rx"]).stdin(Stdio::piped());
    let mut generator = Running::start(command, &programs.folder().join("generator.log"))?;
    wait("testpmd did not start", || generator.said().contains("testpmd>").then_some(()))?;
    sleep(Duration::from_secs(WARM_UP));
    let (mut rates, mut taken, mut shares, mut had) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut look = || look(&mut generator, device, sockets.len(), cores.len());
    let mut last = look()?;
    for _ in 0..WINDOWS {
        sleep(Duration::from_secs(1));
        let now = look()?;
        let [offered, accepted, back, time, generated, wall] =
            std::array::from_fn(|i| now[i].saturating_sub(last[i]) as f64);
        had.push(generated / wall);
        rates.push(back / time * 1e3);
        taken.push(accepted / offered);
        shares.extend(busy());
        last = now;
    }
    // Either end of a memif may only go when nothing moves any more.
    tell(&mut generator, "stop")?;
    sleep(Duration::from_millis(500));
    tell(&mut generator, "quit")?;
    wait("testpmd did not end", || (!matches!(generator.child.try_wait(), Ok(None))).then_some(()))?;
    let busy = (!shares.is_empty()).then(|| median(&mut shares));
    Ok(Measured {
        name: name.to_owned(),
        rate: upper_quartile(&mut rates),
        taken: median(&mut taken),
        generator: median(&mut had),
        busy,
    })
}

/// What a quarter of `values` exceeds.
fn upper_quartile(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() * 3 / 4).copied().unwrap_or(f64::NAN)
}

fn tell(process: &mut Running, line: &str) -> io::Result<()> {
    let stdin = process.child.stdin.as_mut().ok_or_else(|| io::Error::other("testpmd's input is closed"))?;
    writeln!(stdin, "{line}")?;
    stdin.flush()
}

/// So far: packets offered, accepted by the memifs, come back; in nanoseconds the time of the device's thread, of that of
/// the generator's which had least, and of the world.
fn look(generator: &mut Running, device: &Running, lanes: usize, threads: usize) -> io::Result<[u64; 6]> {
    let before = generator.said().len();
    tell(generator, "show port stats all")?;
    let [offered, accepted, back] = wait("testpmd did not show its counts", || {
        let said = generator.said();
        counts(said.get(before..).unwrap_or_default(), lanes)
    })?;
    let (thread, least) = (device.busiest_threads(1)?[0], generator.busiest_threads(threads)?[0]);
    let world = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Ok([offered, accepted, back, thread, least, world.as_nanos() as u64])
}

/// What testpmd shows of its pairs of ports, added up: received by the first ones, sent and received by the second.
fn counts(said: &str, lanes: usize) -> Option<[u64; 3]> {
    let after = |text: &str, key: &str| {
        text.split_once(key)?.1.split_whitespace().next().and_then(|word| word.parse::<u64>().ok())
    };
    let mut sum = [0; 3];
    for lane in 0..lanes {
        let of = |port: usize| {
            let text = said.split_once(&format!("statistics for port {port} "))?.1;
            // All of it is there.
            Some(text.split_once("Tx-pps")?.0)
        };
        let (first, second) = (of(2 * lane)?, of(2 * lane + 1)?);
        sum[0] += after(first, "RX-packets:")?;
        sum[1] += after(second, "TX-packets:")?;
        sum[2] += after(second, "RX-packets:")?;
    }
    Some(sum)
}

/// A capture of one packet of each client that comes by a lane: always by the same, as routers send a flow's.
fn pcap(world: &World, lane: usize, lanes: usize) -> Vec<u8> {
    let mut tuples: Vec<_> = (lane..TUPLES).step_by(lanes).map(|number| world.request(number)).collect();
    let mut chance = crate::frames::Chance(8);
    for last in (1..tuples.len()).rev() {
        tuples.swap(last, chance.below(last as u64 + 1) as usize);
    }
    // https://www.tcpdump.org/manpages/pcap-savefile.5.html: version 2.4, Ethernet.
    let mut file = Vec::with_capacity(24 + TUPLES * 76);
    for word in [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 65_535, 1] {
        file.extend(word.to_ne_bytes());
    }
    for tuple in &tuples {
        let mut frame = [0; 60];
        emit(&mut frame, tuple, Segment::bare(tcp::ACK, 1, 1));
        for word in [0, 0, 60, 60u32] {
            file.extend(word.to_ne_bytes());
        }
        file.extend(frame);
    }
    file
}

/// The director on memifs, with a service whose sessions any segment opens.
fn network(world: &World, sockets: &[PathBuf]) -> String {
    let mut text = String::new();
    for (lane, socket) in sockets.iter().enumerate() {
        let (device, address) = (memif(lane, "server", socket), ["10.0.0.1/8", "172.16.0.1/24"][lane]);
        text.push_str(&format!(
            r#"
[[port]]
name = "port{lane}"
device = "{device}"
mac = "02:00:00:00:00:01"

[[interface]]
name = "net{lane}"
port = "port{lane}"
addresses = ["{address}"]
"#
        ));
    }
    text.push_str(
        r#"
[ipvs]
sloppy_tcp = 1

[[local-pool]]
name = "locals"
interface = "net0"
addresses = ["10.48.0.1-10.48.1.0"]

[[service]]
address = "10.32.0.1:80"
protocol = "tcp"
scheduler = "rr"
"#,
    );
    text = text.replace("10.32.0.1:80", &format!("{}:80", world.request(0).dst));
    if world.forward == Forward::FullNat {
        text.push_str("local-pool = \"locals\"\n");
    }
    for server in world.state().neighbours {
        let (address, mac) = (server.address, server.mac);
        if address != crate::world::gateway(world.family) {
            let port = if world.answers_return() { 8080 } else { 80 };
            let forward = word(world.forward);
            text.push_str(&format!(
                "\n[[service.server]]\naddress = \"{address}:{port}\"\nforward = \"{forward}\"\n"
            ));
        }
        text.push_str(&format!(
            "\n[[neighbour]]\naddress = \"{address}\"\nmac = \"{mac}\"\ninterface = \"net0\"\n"
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_director_is_configured_as_its_file_format_wants_it() {
        let sockets = ["/tmp/m.sock".into(), "/tmp/n.sock".into()];
        for forward in [Forward::Dr, Forward::Nat, Forward::FullNat] {
            for lanes in 1..=2 {
                let text = network(&plain(Family::V4, forward), &sockets[..lanes]);
                let config = fulcrum_model::Config::parse("network", &text).unwrap();
                let servers = &config.state.services[0].servers;
                assert!(servers.len() == 10 && servers.iter().all(|server| server.forward == forward));
            }
        }
    }

    #[test]
    fn a_quarter_exceeds_the_upper_quartile() {
        assert_eq!(upper_quartile(&mut [9.0, 1.0, 3.0, 2.0, 8.0, 7.0, 6.0, 5.0, 4.0]), 7.0);
        assert!(upper_quartile(&mut []).is_nan());
    }

    #[test]
    fn the_capture_has_every_client_once() {
        let file = pcap(&plain(Family::V4, Forward::Dr), 0, 1);
        assert_eq!(file.len(), 24 + TUPLES * 76);
        let frames: std::collections::HashSet<&[u8]> =
            file[24..].chunks(76).map(|record| &record[16..]).collect();
        assert_eq!(frames.len(), TUPLES);
        assert!(frames.iter().all(|frame| crate::frames::fault(frame).is_none()));
    }

    #[test]
    fn counts_are_read_when_they_are_all_there() {
        let of = |port: usize, received: u64, sent: u64| {
            format!(
                "NIC statistics for port {port} ####\n RX-packets: {received} RX-missed: 0\n TX-packets: {sent} \n"
            )
        };
        let said = format!("{}Tx-pps: 1\n{}", of(0, 7, 1), of(1, 3, 5));
        assert_eq!(counts(&said, 1), None);
        assert_eq!(counts(&format!("{said}Tx-pps: 1"), 1), Some([7, 5, 3]));
        let more = format!("{said}Tx-pps: 1\n{}Tx-pps: 1\n{}Tx-pps: 1", of(2, 10, 0), of(3, 20, 30));
        assert_eq!(counts(&more, 2), Some([17, 35, 23]));
    }
}
