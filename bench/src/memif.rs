//! Two processes over shared memory: stock testpmd replays a capture, and the device under test is first testpmd with
//! a MAC swap, then ours, in one run.
//!
//! What counts is packets that came back by CPU time of the one thread that forwards, which is the busiest. It counts
//! while more is offered than taken and the generator has its processors to itself: then the device under test is what is
//! measured.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
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
    /// Packets forwarded by CPU time of the forwarding thread: the median window, in millions a second.
    rate: f64,
    /// Taken of what was offered: the median window.
    taken: f64,
    /// Of its two processors, what the generator had of the one that it had less of: the median window.
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
    let generator = [first, others.find(|cpu| *cpu != first).unwrap_or(first)];
    let measured = measure(core, generator).map_err(Failure::Memif)?;
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

fn measure(core: usize, generator: [usize; 2]) -> io::Result<Vec<Measured>> {
    let programs = Programs::find()?;
    let capture = programs.folder().join("flows.pcap");
    let world = plain(Family::V4, Forward::FullNat);
    fs::write(&capture, pcap(&world))?;
    let mut measured = Vec::new();
    let mut add = |device: Measured| {
        println!("{}", device.line());
        measured.push(device);
    };

    let socket = programs.folder().join("macswap.sock");
    let device = macswap(&programs, core, &socket)?;
    add(windows(&programs, "testpmd macswap", &device, &socket, &capture, generator, || None)?);
    drop(device);
    for forward in [Forward::Dr, Forward::Nat, Forward::FullNat] {
        let name = word(forward);
        let socket = programs.folder().join(format!("{name}.sock"));
        let [device, control] = programs.direct(core, &network(&World { forward, ..world }, &socket))?;
        let busy = || programs.status()?["dataplane"]["workers"][0]["busy"].as_f64();
        add(windows(&programs, name, &device, &socket, &capture, generator, busy)?);
        drop(control);
        drop(device);
    }
    Ok(measured)
}

/// testpmd that gives every frame back.
fn macswap(programs: &Programs, core: usize, socket: &Path) -> io::Result<Running> {
    let mut command = testpmd(&[core], "dut", 256);
    command
        .arg("--vdev")
        .arg(format!("net_memif0,role=server,socket-abstract=no,socket={}", socket.display()));
    command.args(["--", "-i", "--total-num-mbufs=16384", "--forward-mode=macswap", "--nb-cores=1"]);
    command.args(["--auto-start", "--no-flush-rx"]).stdin(Stdio::piped());
    let device = Running::start(command, &programs.folder().join("macswap.log"))?;
    wait("testpmd did not open its memif", || socket.exists().then_some(()))?;
    Ok(device)
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
    socket: &Path,
    capture: &Path,
    cores: [usize; 2],
    mut busy: impl FnMut() -> Option<f64>,
) -> io::Result<Measured> {
    let mut command = testpmd(&cores, "generator", 1024);
    command.arg("--vdev").arg(format!("net_pcap0,rx_pcap={},infinite_rx=1", capture.display()));
    command
        .arg("--vdev")
        .arg(format!("net_memif0,role=client,socket-abstract=no,socket={}", socket.display()));
    command.args(["--", "-i", "--total-num-mbufs=100000", "--forward-mode=io", "--nb-cores=2"]);
    command.args(["--auto-start", "--no-flush-rx"]).stdin(Stdio::piped());
    let mut generator = Running::start(command, &programs.folder().join("generator.log"))?;
    wait("testpmd did not start", || generator.said().contains("testpmd>").then_some(()))?;
    sleep(Duration::from_secs(WARM_UP));
    let (mut rates, mut taken, mut shares, mut had) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut last = look(&mut generator, device)?;
    for _ in 0..WINDOWS {
        sleep(Duration::from_secs(1));
        let now = look(&mut generator, device)?;
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
        rate: median(&mut rates),
        taken: median(&mut taken),
        generator: median(&mut had),
        busy,
    })
}

fn tell(process: &mut Running, line: &str) -> io::Result<()> {
    let stdin = process.child.stdin.as_mut().ok_or_else(|| io::Error::other("testpmd's input is closed"))?;
    writeln!(stdin, "{line}")?;
    stdin.flush()
}

/// So far: packets offered, accepted by the memif, come back; in nanoseconds the time of the device's thread, of that of
/// the generator's two that had less, and of the world.
fn look(generator: &mut Running, device: &Running) -> io::Result<[u64; 6]> {
    let before = generator.said().len();
    tell(generator, "show port stats all")?;
    let (offered, accepted, back) = wait("testpmd did not show its counts", || {
        let said = generator.said();
        counts(said.get(before..).unwrap_or_default())
    })?;
    let [thread, _] = device.busiest_threads()?;
    let [_, least] = generator.busiest_threads()?;
    let world = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Ok([offered, accepted, back, thread, least, world.as_nanos() as u64])
}

/// What testpmd shows of its two ports: received by the first, sent and received by the second.
fn counts(said: &str) -> Option<(u64, u64, u64)> {
    let (first, second) = said.split_once("statistics for port 1")?;
    let after = |text: &str, key: &str| {
        text.split_once(key)?.1.split_whitespace().next().and_then(|word| word.parse::<u64>().ok())
    };
    // All of the second one is there.
    second.contains("Tx-pps").then_some(())?;
    Some((after(first, "RX-packets:")?, after(second, "TX-packets:")?, after(second, "RX-packets:")?))
}

/// A capture of one packet of each client.
fn pcap(world: &World) -> Vec<u8> {
    let mut tuples: Vec<_> = (0..TUPLES).map(|number| world.request(number)).collect();
    let mut chance = crate::frames::Chance(8);
    for last in (1..TUPLES).rev() {
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

/// The director on a memif, with a service whose sessions any segment opens.
fn network(world: &World, socket: &Path) -> String {
    let mut text = format!(
        r#"
[[port]]
name = "port"
device = "net_memif0,role=server,socket-abstract=no,socket={socket}"
mac = "02:00:00:00:00:01"

[[interface]]
name = "net"
port = "port"
addresses = ["10.0.0.1/8"]

[ipvs]
sloppy_tcp = 1

[[local-pool]]
name = "locals"
interface = "net"
addresses = ["10.48.0.1-10.48.1.0"]

[[service]]
address = "10.32.0.1:80"
protocol = "tcp"
scheduler = "rr"
"#,
        socket = socket.display()
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
            "\n[[neighbour]]\naddress = \"{address}\"\nmac = \"{mac}\"\ninterface = \"net\"\n"
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_director_is_configured_as_its_file_format_wants_it() {
        for forward in [Forward::Dr, Forward::Nat, Forward::FullNat] {
            let text = network(&plain(Family::V4, forward), Path::new("/tmp/m.sock"));
            let config = fulcrum_model::Config::parse("network", &text).unwrap();
            let servers = &config.state.services[0].servers;
            assert!(servers.len() == 10 && servers.iter().all(|server| server.forward == forward));
        }
    }

    #[test]
    fn the_capture_has_every_client_once() {
        let file = pcap(&plain(Family::V4, Forward::Dr));
        assert_eq!(file.len(), 24 + TUPLES * 76);
        let frames: std::collections::HashSet<&[u8]> =
            file[24..].chunks(76).map(|record| &record[16..]).collect();
        assert_eq!(frames.len(), TUPLES);
        assert!(frames.iter().all(|frame| crate::frames::fault(frame).is_none()));
    }

    #[test]
    fn counts_are_read_when_they_are_all_there() {
        let said = "NIC statistics for port 0\n RX-packets: 7 RX-missed: 0\n TX-packets: 1 \n\
                    NIC statistics for port 1\n RX-packets: 3\n TX-packets: 5 TX-errors: 0\n";
        assert_eq!(counts(said), None);
        assert_eq!(counts(&format!("{said}Tx-pps: 1")), Some((7, 5, 3)));
    }
}
