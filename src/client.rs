//! Clients: curl and UDP, and what they got.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::net::Namespace;
use crate::process::{Process, program};
use crate::server::{Server, big_file};

/// Bytes of what is only some of the large file.
const SOME: usize = 1 << 20;

/// How often each name came back; `-` counts requests without an answer.
pub type Tally = BTreeMap<String, usize>;

/// Counts lines.
pub fn tally(lines: &str) -> Tally {
    let mut tally = Tally::new();
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        *tally.entry(line.to_owned()).or_default() += 1;
    }
    tally
}

/// A tally as it should be.
pub fn expected<const N: usize>(counts: [(&str, usize); N]) -> Tally {
    counts.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
}

/// Panics unless every request was answered, by whomever.
#[track_caller]
pub fn assert_answered(tally: &Tally, count: usize) {
    assert!(
        !tally.contains_key("-") && tally.values().sum::<usize>() == count,
        "not {count} answers: {tally:?}"
    );
}

/// Sends `count` HTTP requests one after another, each on a connection of its own.
#[track_caller]
pub fn get(from: &Namespace, host: &str, count: usize) -> Tally {
    tally(
        &from.sh(&format!("for i in $(seq {count}); do curl -s --max-time 5 http://{host}/ || echo -; done")),
    )
}

/// Opens `count` SCTP associations, asks once on each and shuts it down; `from` is the first one's port.
#[track_caller]
pub fn ask_sctp(from: &Namespace, host: &str, count: usize, port: u16) -> Tally {
    let lab = program("fulcrum-lab");
    tally(&from.sh(&format!("{} ask-sctp {host} {count} --from {port}", lab.display())))
}

/// Asks `count` times by UDP, from a new port each time.
#[track_caller]
pub fn ask_udp(from: &Namespace, host: &str, count: usize) -> Tally {
    let lab = program("fulcrum-lab");
    tally(&from.sh(&format!("{} ask-udp {host} {count}", lab.display())))
}

/// Asks `count` times with `size` bytes in fragments that are sent in an order that `fulcrum-lab ask-pieces` knows.
#[track_caller]
pub fn ask_in_pieces(from: &Namespace, host: &str, size: usize, count: usize, order: &str) -> Tally {
    let lab = program("fulcrum-lab");
    tally(&from.sh(&format!("{} ask-pieces {host} {size} {count} {order}", lab.display())))
}

/// The same; what a busy machine loses on its way is asked for again, as a resolver would.
pub fn ask_in_pieces_again(from: &Namespace, host: &str, size: usize, count: usize, order: &str) -> Tally {
    let mut answers = ask_in_pieces(from, host, size, count, order);
    for _ in 0..3 {
        let Some(lost) = answers.remove("-") else { break };
        for (server, count) in ask_in_pieces(from, host, size, lost, order) {
            *answers.entry(server).or_default() += count;
        }
    }
    answers
}

/// Downloads the large file and compares every byte.
#[track_caller]
pub fn download(from: &Namespace, host: &str, lab: &Path) {
    let copy = lab.join("copy");
    from.sh(&format!("curl -sS --fail --max-time 60 -o {} http://{host}/big", copy.display()));
    same_as_big(&copy, lab);
}

/// Downloads the beginning of the large file, a megabyte, and compares every byte.
#[track_caller]
pub fn download_some(from: &Namespace, host: &str, lab: &Path) {
    let copy = lab.join("copy");
    let range = format!("0-{}", SOME - 1);
    from.sh(&format!("curl -sS --fail --max-time 20 -r {range} -o {} http://{host}/big", copy.display()));
    let sent = fs::read(big_file(lab)).expect("it is there");
    assert!(fs::read(copy).is_ok_and(|got| got == sent[..SOME]), "the megabyte is not as it was sent");
}

/// Uploads the beginning of the large file, a megabyte, and compares what a server has.
#[track_caller]
pub fn upload_some(from: &Namespace, host: &str, lab: &Path, servers: &[Server]) {
    let (some, sent) = (lab.join("some"), fs::read(big_file(lab)).expect("it is there"));
    fs::write(&some, &sent[..SOME]).expect("the lab's directory is writable");
    servers.iter().for_each(|server| server.forget_upload("some"));
    let curl = "curl -sS --fail --max-time 20 -H Expect:";
    from.sh(&format!("{curl} -T {} http://{host}/up/some", some.display()));
    let arrived = servers.iter().any(|server| server.uploaded("some").is_some_and(|got| got == sent[..SOME]));
    assert!(arrived, "no server has the megabyte as it was sent");
}

/// Panics unless a downloaded file is the large file.
#[track_caller]
pub fn same_as_big(copy: &Path, lab: &Path) {
    let (got, sent) =
        (fs::read(copy).expect("curl has written it"), fs::read(big_file(lab)).expect("it is there"));
    assert_eq!(got.len(), sent.len(), "bytes downloaded");
    let differing = got.iter().zip(&sent).position(|(a, b)| a != b);
    assert_eq!(differing, None, "first byte of the download that differs");
}

/// Uploads the large file and compares what a server has.
#[track_caller]
pub fn upload(from: &Namespace, host: &str, lab: &Path, servers: &[Server]) {
    let big = big_file(lab);
    from.sh(&format!("curl -sS --fail --max-time 60 -T {} http://{host}/up/copy", big.display()));
    let sent = fs::read(big).expect("it is there");
    let arrived = servers.iter().any(|server| server.uploaded("copy").is_some_and(|got| got == sent));
    assert!(arrived, "no server has the upload as it was sent");
}

/// HTTP requests in the background: as many as fit, until stopped.
#[derive(Debug)]
pub struct Load {
    process: Process,
}

impl Load {
    /// Starts requests one after another, each on a new connection, for `seconds`.
    #[track_caller]
    pub fn start(from: &Namespace, host: &str, seconds: u32, log: &Path) -> Load {
        let script = format!(
            "end=$(($(date +%s) + {seconds}))
             while [ $(date +%s) -lt $end ]; do curl -s --max-time 5 http://{host}/ || echo -; done"
        );
        let mut command = from.command("sh");
        command.args(["-uc", &script]);
        Load { process: Process::start(&mut command, log.to_owned()) }
    }

    /// Who has answered so far.
    pub fn so_far(&self) -> Tally {
        tally(&self.process.log())
    }

    /// Waits for the end and tells who answered.
    #[track_caller]
    pub fn finish(mut self) -> Tally {
        self.process.wait(Duration::from_secs(60));
        tally(&self.process.log())
    }
}
