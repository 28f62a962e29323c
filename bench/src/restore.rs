//! `ipvsadm -R` of a large table, through the three programs, until the data plane runs it.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::process::Stdio;
use std::time::Instant;

use crate::programs::Programs;
use crate::table::Lost;

const SERVICES: usize = 10_000;
const SERVERS: usize = 10;

pub(crate) const NAME: &str = "restore 10000-services";

/// How long it took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Restore {
    /// From the start of `ipvsadm -R` to a data plane whose workers run all of it, in seconds of wall time.
    pub(crate) seconds: f64,
}

/// Starts data plane and control on `core` without a device, restores, and waits.
pub(crate) fn measure(core: usize) -> Result<Restore, Lost> {
    restore(core).map_err(|error| Lost(error.to_string()))
}

fn restore(core: usize) -> io::Result<Restore> {
    let programs = Programs::find()?;
    let rules = programs.folder().join("rules");
    fs::write(&rules, table())?;
    let _running = programs.direct(
        core,
        r#"
[[port]]
name = "port"
device = "net_null0"

[[interface]]
name = "net"
port = "port"
addresses = ["10.0.0.1/8"]
"#,
    )?;
    let before = programs.wait_reconciled(0)?;
    let begin = Instant::now();
    let mut command = programs.fulcrum();
    command.args(["ipvsadm", "-R"]).stdin(fs::File::open(&rules)?).stdout(Stdio::null());
    let restored = command.status()?;
    if !restored.success() {
        return Err(io::Error::other(format!("ipvsadm -R: {restored}")));
    }
    programs.wait_reconciled(before)?;
    Ok(Restore { seconds: begin.elapsed().as_secs_f64() })
}

/// What `ipvsadm -S` would have written.
fn table() -> String {
    let mut text = String::new();
    for service in 0..SERVICES {
        let vip = format!("10.2.{}.{}:80", service >> 8, service & 0xff);
        let _ = writeln!(text, "-A -t {vip} -s wlc");
        for server in 0..SERVERS {
            let number = service * SERVERS + server;
            let (a, b, c) = (number >> 16, number >> 8 & 0xff, number & 0xff);
            let _ = writeln!(text, "-a -t {vip} -r 10.{}.{b}.{c}:8080 -m -w 1", 16 + a);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_its_size_and_no_server_twice() {
        let text = table();
        assert_eq!(text.lines().count(), SERVICES * (1 + SERVERS));
        let servers: std::collections::HashSet<_> =
            text.lines().filter_map(|line| line.split_once(" -r ")).map(|(_, server)| server).collect();
        assert_eq!(servers.len(), SERVICES * SERVERS);
    }
}
