//! What `-Lc` prints: one row a session, as they come.

use std::net::SocketAddr;

use super::list::{endpoint, put};
use super::values::Names;
use crate::state::Protocol;

/// A session or a persistence template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedSession {
    /// Protocol; `None` of a template of a service by mark, which is listed as `IP`.
    pub protocol: Option<Protocol>,
    /// Seconds until it expires.
    pub expires: u64,
    /// IPVS's name of its state.
    pub state: String,
    /// Client's address and port.
    pub client: SocketAddr,
    /// Virtual address and port.
    pub service: SocketAddr,
    /// Server's address and port.
    pub server: SocketAddr,
    /// Local address and port, FULLNAT only.
    pub local: Option<SocketAddr>,
    /// Persistence engine of a template, and what the engine knows its client by.
    pub persistence: Option<(String, String)>,
}

/// The titles of `-Lc`. A column for local addresses is only there when asked for.
pub fn title(locals: bool, persistence_data: bool) -> String {
    let mut out = String::from("IPVS connection entries\n");
    put(&mut out, format_args!("pro expire {:<11} {:<18} {:<18}", "state", "source", "virtual"));
    cell(&mut out, "destination", !locals && !persistence_data);
    if locals {
        cell(&mut out, "local", !persistence_data);
    }
    out.push_str(if persistence_data { " pe name          pe_data\n" } else { "\n" });
    out
}

/// A row of `-Lc`; `names` is [`Numeric`] for `-n`. There may be millions: they are printed one by one.
pub fn row(session: &ListedSession, persistence_data: bool, names: &dyn Names) -> String {
    let mut out = String::new();
    let expires = format!("{:02}:{:02}", session.expires / 60, session.expires % 60);
    let protocol = session.protocol.map_or("IP".to_owned(), |protocol| protocol.name().to_uppercase());
    put(&mut out, format_args!("{protocol:<3} {expires:<6} {:<11}", session.state));
    let end = |end: SocketAddr| endpoint(end.ip(), end.port(), session.protocol, names);
    put(&mut out, format_args!(" {:<18} {:<18}", end(session.client), end(session.service)));
    let mut ends = vec![end(session.server)];
    ends.extend(session.local.map(end));
    let last = ends.pop().unwrap_or_default();
    ends.iter().for_each(|end| cell(&mut out, end, false));
    match session.persistence.as_ref().filter(|_| persistence_data) {
        // These columns do not stand below their titles; ipvsadm's do not either.
        Some((engine, data)) => put(&mut out, format_args!(" {last:<16} {engine:<18} {data}")),
        None => cell(&mut out, &last, true),
    }
    out.push('\n');
    out
}

fn cell(out: &mut String, text: &str, last: bool) {
    match last {
        true => put(out, format_args!(" {text}")),
        false => put(out, format_args!(" {text:<18}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Numeric;
    use super::*;

    #[test]
    fn sessions_have_a_local_column_when_there_is_one() {
        let session = ListedSession {
            protocol: Some(Protocol::Tcp),
            expires: 899,
            state: "ESTABLISHED".into(),
            client: "172.16.100.50:40000".parse().unwrap(),
            service: "172.16.100.9:80".parse().unwrap(),
            server: "192.168.20.7:8080".parse().unwrap(),
            local: None,
            persistence: None,
        };
        let fullnat =
            ListedSession { local: Some("192.168.20.200:1024".parse().unwrap()), ..session.clone() };
        assert_eq!(
            title(false, false) + &row(&session, false, &Numeric),
            "IPVS connection entries\n\
             pro expire state       source             virtual            destination\n\
             TCP 14:59  ESTABLISHED 172.16.100.50:40000 172.16.100.9:80    192.168.20.7:8080\n"
        );
        assert_eq!(
            title(true, false) + &row(&session, false, &Numeric) + &row(&fullnat, false, &Numeric),
            "IPVS connection entries\n\
             pro expire state       source             virtual            destination        local\n\
             TCP 14:59  ESTABLISHED 172.16.100.50:40000 172.16.100.9:80    192.168.20.7:8080\n\
             TCP 14:59  ESTABLISHED 172.16.100.50:40000 172.16.100.9:80    192.168.20.7:8080  192.168.20.200:1024\n"
        );
    }

    // Recorded from ipvsadm 1.31 on Debian 12.
    #[test]
    fn sessions_of_ipv6_and_of_engines_stand_as_they_do() {
        let session = |protocol, state: &str, ends: [&str; 3]| ListedSession {
            protocol,
            expires: 79,
            state: state.into(),
            client: ends[0].parse().unwrap(),
            service: ends[1].parse().unwrap(),
            server: ends[2].parse().unwrap(),
            local: None,
            persistence: None,
        };
        let six = ["[fd00::1]:40002", "[fd00:1234:5678:9abc:def0:1234:5678:9abc]:80", "[fd00::2]:8080"];
        assert_eq!(
            row(&session(Some(Protocol::Tcp), "ESTABLISHED", six), false, &Numeric),
            "TCP 01:19  ESTABLISHED [fd00::1]:40002    [fd00:1234:5678:9abc:def0:1234:5678:9abc]:80 [fd00::2]:8080\n"
        );
        let mut sip = session(Some(Protocol::Udp), "NONE", ["10.9.0.1:0", "10.9.0.1:5060", "10.9.0.2:5060"]);
        sip.persistence = Some(("sip".into(), "a84b4c76e66710@pc33.atlanta.com".into()));
        assert_eq!(
            row(&sip, true, &Numeric),
            "UDP 01:19  NONE        10.9.0.1:0         10.9.0.1:5060      10.9.0.2:5060    sip                a84b4c76e66710@pc33.atlanta.com\n"
        );
        assert_eq!(
            row(&sip, false, &Numeric),
            "UDP 01:19  NONE        10.9.0.1:0         10.9.0.1:5060      10.9.0.2:5060\n"
        );
        // The mark stands where the virtual address would.
        let mark = session(None, "ASSURED", ["10.9.0.9:0", "0.0.0.7:0", "10.9.0.2:0"]);
        assert_eq!(
            row(&mark, false, &Numeric),
            "IP  01:19  ASSURED     10.9.0.9:0         0.0.0.7:0          10.9.0.2:0\n"
        );
    }
}
