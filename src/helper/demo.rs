//! `make demo`: real requests through a real director, in all four ways of forwarding and both families, on one machine.

use std::time::Instant;

use fulcrum_e2e::Lab;
use fulcrum_e2e::client::{Tally, ask_udp, expected, get};
use fulcrum_e2e::director::{Director, Setup};
use fulcrum_e2e::net::{self, Family};
use fulcrum_e2e::process::program;
use fulcrum_e2e::topology::{self, Topology};
use fulcrum_e2e::ways::{self, REQUESTS, Way};

const TAG: &str = "demo";

/// Lines of a listing that are enough to see what it is like.
const SHOWN: usize = 12;

/// Everything that lives while the demo does; the director's processes go first.
struct Stage {
    director: Director,
    net: Topology,
    lab: Lab,
}

pub(crate) fn run(keep: bool) -> Result<(), Box<dyn std::error::Error>> {
    ctrlc::set_handler(|| {
        net::remove_tag(TAG);
        std::process::exit(130);
    })?;
    super::complain_in_words();
    let start = Instant::now();
    println!("Setting the stage: client, director, router and three servers in network namespaces");
    let stage = build();
    println!(
        "fulcrum-dataplane and fulcrum-control are up and agree ({:.1} s)",
        start.elapsed().as_secs_f64()
    );

    let mut wrong = 0;
    for way in &ways::ALL {
        println!("\n== {}", way.title);
        for line in way.commands.lines().map(str::trim).filter(|line| !line.is_empty()) {
            println!("  ipvsadm {line}");
            stage.director.ipvsadm(line);
        }
        wrong += play(&stage, way, Family::V4);
    }
    println!("\n== The same four with IPv6 addresses");
    for way in &ways::ALL {
        stage.director.ipvsadm_lines(&Family::V6.words(way.commands));
        wrong += play(&stage, way, Family::V6);
    }

    println!("\n== What the director counted");
    let mut sessions = 0;
    for listing in ["-Ln --stats", "-Lnc"] {
        let text = stage.director.ipvsadm(listing);
        sessions = text.lines().filter(|line| line.starts_with("TCP ") || line.starts_with("UDP ")).count();
        println!("  ipvsadm {listing}");
        text.lines().take(SHOWN).for_each(|line| println!("  {line}"));
        if let Some(more) = text.lines().count().checked_sub(SHOWN).filter(|more| *more > 0) {
            println!("  … and {more} more");
        }
    }
    let connections: u64 =
        stage.director.stats().iter().filter(|row| row.kind != "->").map(|row| row.numbers[0]).sum();
    let wanted = ways::ALL.len() * REQUESTS * 2 * 2;
    if sessions != wanted || connections != wanted as u64 {
        println!("  wrong: {sessions} sessions and {connections} connections, not {wanted} of each");
        wrong += 1;
    }

    println!();
    if keep {
        explain(stage);
    } else {
        drop(stage);
        println!("Everything is removed again ({:.0} s in all).", start.elapsed().as_secs_f64());
    }
    match wrong {
        0 => {
            println!("All {wanted} requests were answered, by the servers that should.");
            Ok(())
        }
        _ => Err(format!("{wrong} of the results above are wrong").into()),
    }
}

/// Removes what `--keep` has left, and what killed runs have.
pub(crate) fn clean() -> Result<(), Box<dyn std::error::Error>> {
    net::remove_tag(TAG);
    net::remove_tag(super::soak::TAG);
    net::sweep();
    Ok(())
}

fn build() -> Stage {
    let lab = Lab::named(TAG.to_owned());
    let net = topology::stage(&lab);
    let setup = Setup { hugepages: "auto", ..Setup::ONE };
    let director = Director::start(&net.director, lab.directory(), &setup, &net.network);
    Stage { director, net, lab }
}

/// Sends the requests of a way; how many of its two results are wrong.
fn play(stage: &Stage, way: &Way, family: Family) -> usize {
    let host = family.host(way.vip);
    let by_http = get(&stage.net.client, &host, REQUESTS);
    let http = report(&format!("{REQUESTS} x curl http://{host}/"), &by_http, way.by_http);
    let by_udp = ask_udp(&stage.net.client, &format!("{host}:5000"), REQUESTS);
    let udp = report(&format!("{REQUESTS} x datagram to {host}:5000"), &by_udp, way.by_udp);
    usize::from(!http) + usize::from(!udp)
}

/// Prints who answered how often, and whether that is right.
fn report(what: &str, got: &Tally, wanted: [(&str, usize); 2]) -> bool {
    let list = |tally: &Tally| {
        tally.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
    };
    let wanted = expected(wanted);
    let right = *got == wanted;
    let verdict = if right { "ok".to_owned() } else { format!("WRONG, should be {}", list(&wanted)) };
    println!("  {what:<40} {:<20} {verdict}", list(got));
    right
}

/// Leaves everything as it is and says what can be done with it.
fn explain(stage: Stage) {
    let socket = stage.director.socket();
    println!(
        "Everything is still there. To play with it, as root:
  export FULCRUM_SOCKET={}
  alias ipvsadm='{} ipvsadm'
  ipvsadm -Ln
  ip netns exec fulcrum-{TAG}-client curl http://172.16.100.9/
  ip netns exec fulcrum-{TAG}-client curl -g 'http://[fd00:100::9]/'
  ipvsadm -e -t 172.16.100.9:80 -r 192.168.20.7:8080 -m -w 0
  {} status
Logs and the configuration file are in {}. To remove it all:
  {} clean",
        socket.display(),
        program("fulcrum").display(),
        program("fulcrum").display(),
        stage.lab.directory().display(),
        program("fulcrum-lab").display(),
    );
    std::mem::forget(stage);
}
