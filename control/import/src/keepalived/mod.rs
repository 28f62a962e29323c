//! keepalived.conf, its part about virtual servers, with what DPVS added for FULLNAT.
//!
//! Lives here: the blocks at the top. Below: `text` and `tree` read, `group` and `server` are virtual servers, `check`
//! their checkers. VRRP stays with keepalived.

mod check;
mod group;
mod server;
mod text;
mod tree;

use std::path::Path;

use fulcrum_model::{AddressRange, LocalPool, PortRange};

use crate::draft::Draft;
use crate::files::Files;
use crate::keepalived::group::{Groups, addresses};
use crate::keepalived::text::Reader;
use crate::keepalived::tree::Node;
use crate::{Import, ImportError};

/// Reads a configuration. `id` is what `keepalived -i` would be given.
pub fn import(files: &impl Files, path: &Path, text: &str, id: Option<&str>) -> Result<Import, ImportError> {
    let mut reader = Reader::new(files, id);
    reader.read(path, text, 0)?;
    let nodes = tree::nodes(&reader.lines)?;
    let mut draft = Draft::default();
    draft.left_out = reader.left_out;
    let mut groups = Groups::default();
    // What virtual servers name may stand behind them.
    for node in &nodes {
        match node.name() {
            "virtual_server_group" => groups.read(&mut draft, node),
            "local_address_group" => local_pool(&mut draft, node),
            _ => {}
        }
    }
    for node in &nodes {
        match node.name() {
            "virtual_server_group" | "local_address_group" => {}
            "virtual_server" => server::virtual_server(&mut draft, &groups, node),
            "global_defs" => node.block.iter().for_each(|node| global(&mut draft, node)),
            other => {
                let why = match other {
                    _ if other.starts_with("vrrp") || other.starts_with("static") => {
                        "keepalived goes on doing this: leave it in its configuration"
                    }
                    "SSL" => "checks present no certificate of their own",
                    "bfd_instance" | "track_file" => {
                        "there is no such check; an exec check can ask a program"
                    }
                    "net_namespace" => "start fulcrum-control in its namespace",
                    _ => "this says nothing of virtual servers",
                };
                draft.leave_out(&node.place, node.text(), why);
            }
        }
    }
    Ok(draft.finish())
}

/// Words of `global_defs`.
fn global(draft: &mut Draft, node: &Node) {
    let why = match node.name() {
        "lvs_timeouts" => return timeouts(draft, node),
        "lvs_sync_daemon" => "sessions are not synchronised",
        "lvs_flush" | "lvs_flush_on_stop" => "the services are what the file says; nothing else stays",
        "lvs_notify_fifo" | "lvs_notify_fifo_script" => "follow `fulcrum events` instead",
        "script_user" | "enable_script_security" => "programs of exec checks run as fulcrum-control does",
        name if name.starts_with("notification") || name.contains("smtp") => {
            "no mail is sent: alert on the metrics, or follow `fulcrum events`"
        }
        name if name.contains("snmp") => "there is no SNMP; metrics are at /metrics",
        name if name.starts_with("vrrp") => "keepalived goes on doing this: leave it in its configuration",
        _ => "this is about keepalived's own process",
    };
    draft.leave_out(&node.place, node.text(), why);
}

/// `lvs_timeouts tcp 7200 tcpfin 30 udp 300`
fn timeouts(draft: &mut Draft, node: &Node) {
    for pair in node.words[1..].chunks(2) {
        let (name, seconds) = (pair[0].as_str(), pair.get(1).and_then(|text| text.parse::<u32>().ok()));
        let timeouts = &mut draft.state.timeouts;
        match (name, seconds) {
            ("tcp", Some(seconds)) => timeouts.tcp = seconds,
            ("tcpfin", Some(seconds)) => timeouts.tcp_fin = seconds,
            ("udp", Some(seconds)) => timeouts.udp = seconds,
            _ => draft.leave_out(
                &node.place,
                pair.join(" "),
                "neither tcp, tcpfin nor udp with a number of seconds",
            ),
        }
    }
}

/// DPVS's `local_address_group NAME { ADDRESS[-ADDRESS] DEVICE }`.
fn local_pool(draft: &mut Draft, node: &Node) {
    let Some(name) = node.words.get(1) else {
        return draft.leave_out(&node.place, node.text(), "the group has no name");
    };
    let (mut ranges, mut interface) = (Vec::<AddressRange>::new(), None::<String>);
    for entry in &node.block {
        match addresses(entry.name()) {
            Some(range) => ranges.push(range),
            None => {
                draft.leave_out(&entry.place, entry.text(), "neither an address nor a range of addresses")
            }
        }
        let Some(device) = entry.words.get(1) else { continue };
        match &interface {
            None => interface = Some(device.clone()),
            Some(first) if first != device => {
                let why = format!("a pool is on one interface, this one on {first}");
                draft.leave_out(&entry.place, entry.text(), why);
            }
            Some(_) => {}
        }
    }
    let interface = interface.unwrap_or_else(|| "lan".to_owned());
    draft.leave_out(
        &node.place,
        node.text(),
        format!("taken, but an [[interface]] named `{interface}` has to be there"),
    );
    let pool = LocalPool { name: name.clone(), interface, addresses: ranges, ports: PortRange::default() };
    draft.state.local_pools.push(pool);
}
