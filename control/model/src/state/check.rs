//! Checks: what is asked of a server to know whether it serves, how often, and what the answers mean.
//!
//! Lives here: a check and its kinds. What the kinds' own values are (status sets, digests, DNS words) is in
//! `values`. Does not live here: asking (fulcrum-health), what follows from an answer (fulcrum-manager).

mod values;

use std::net::IpAddr;
use std::time::Duration;

pub use values::{BodyDigest, DnsRcode, DnsRecord, HttpMethod, StatusRange, StatusSet, UnknownWord};
pub(crate) use values::{from_hex, hex};

/// A way to find out whether a server serves.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Check {
    /// Name that services refer to; empty when the check stands in a service itself.
    pub name: String,
    /// What is asked and what is a good answer.
    pub kind: CheckKind,
    /// From the beginning of one probe to that of the next.
    pub interval: Duration,
    /// How long a probe may take, at most the interval.
    pub timeout: Duration,
    /// Good answers in a row that make a server up, at least 1.
    pub rise: u32,
    /// Bad answers in a row that make it down, at least 1.
    pub fall: u32,
    /// How long a new server's bad answers do not count.
    pub warm_up: Duration,
    /// Port that is asked, `None` = the server's.
    pub port: Option<u16>,
    /// Address that asks, `None` = the host's choice.
    pub source: Option<IpAddr>,
    /// The way there.
    pub via: Via,
}

impl Check {
    /// From one probe to the next unless told otherwise.
    pub const INTERVAL: Duration = Duration::from_secs(5);
    /// The time-out unless told otherwise; the interval when that is shorter.
    pub const TIMEOUT: Duration = Duration::from_secs(2);
    /// Good answers that make a server up unless told otherwise.
    pub const RISE: u32 = 2;
    /// Bad answers that make a server down unless told otherwise.
    pub const FALL: u32 = 3;

    /// A check with every default.
    pub fn new(name: &str, kind: CheckKind) -> Check {
        Check {
            name: name.to_owned(),
            kind,
            interval: Check::INTERVAL,
            timeout: Check::TIMEOUT,
            rise: Check::RISE,
            fall: Check::FALL,
            warm_up: Duration::ZERO,
            port: None,
            source: None,
            via: Via::Direct,
        }
    }

    /// Whether its probes need to know the virtual service for which they are made.
    pub fn needs_vip(&self) -> bool {
        let told = |argument: &String| EXEC_VIP_WORDS.iter().any(|word| argument.contains(word));
        match &self.kind {
            // Local addresses are the service's, too.
            _ if self.via != Via::Direct => true,
            CheckKind::Exec { arguments, .. } => arguments.iter().any(told),
            _ => false,
        }
    }
}

/// Words in an `exec` check's arguments that stand for the virtual service's address and port.
pub const EXEC_VIP_WORDS: [&str; 2] = ["{vip}", "{vip-port}"];

/// What a check asks, and what is a good answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CheckKind {
    /// A TCP connection can be made.
    Tcp,
    /// An HTTP request has an answer that is as expected. Redirections are not followed.
    Http {
        /// TLS below it (`https`).
        tls: Option<CheckTls>,
        /// Method.
        method: HttpMethod,
        /// Path with its query.
        path: String,
        /// The Host header, `None` = the server's address and port.
        host: Option<String>,
        /// Good status codes.
        status: StatusSet,
        /// A text that the body has in it.
        body: Option<String>,
        /// The body's digest.
        digest: Option<BodyDigest>,
    },
    /// A datagram is not refused, or answered.
    Udp {
        /// The datagram.
        send: Vec<u8>,
        /// What a reply has in it, empty for any reply; no reply is needed when `None`: the server is up as long as no
        /// ICMP error says that the port is unreachable.
        reply: Option<Vec<u8>>,
    },
    /// A name server answers a question, over UDP.
    Dns {
        /// The name that is asked for.
        query: String,
        /// The type of record that is asked for.
        record: DnsRecord,
        /// The response code.
        rcode: DnsRcode,
        /// Data that must all be among the answers.
        answer: Vec<String>,
    },
    /// A mail server greets and takes a greeting.
    Smtp {
        /// The name with which it is greeted, `None` = the host's.
        helo: Option<String>,
        /// STARTTLS after that.
        tls: Option<CheckTls>,
    },
    /// An ICMP echo is answered.
    Ping,
    /// A program exits with 0.
    Exec {
        /// Path of the program.
        program: String,
        /// Its arguments; `{address}`, `{port}`, `{vip}` and `{vip-port}` stand for the server's and the service's.
        arguments: Vec<String>,
    },
    /// The standard health service of gRPC says SERVING.
    Grpc {
        /// Whose health is asked for, empty for the whole server's.
        service: String,
        /// TLS below it.
        tls: Option<CheckTls>,
    },
}

impl CheckKind {
    /// The words of all kinds.
    pub const NAMES: [&str; 9] = ["tcp", "http", "https", "udp", "dns", "smtp", "ping", "exec", "grpc"];

    /// Its word in the configuration.
    pub const fn name(&self) -> &'static str {
        match self {
            CheckKind::Tcp => "tcp",
            CheckKind::Http { tls: None, .. } => "http",
            CheckKind::Http { tls: Some(_), .. } => "https",
            CheckKind::Udp { .. } => "udp",
            CheckKind::Dns { .. } => "dns",
            CheckKind::Smtp { .. } => "smtp",
            CheckKind::Ping => "ping",
            CheckKind::Exec { .. } => "exec",
            CheckKind::Grpc { .. } => "grpc",
        }
    }

    /// What TLS it uses.
    pub const fn tls(&self) -> Option<&CheckTls> {
        match self {
            CheckKind::Http { tls, .. } | CheckKind::Smtp { tls, .. } | CheckKind::Grpc { tls, .. } => {
                tls.as_ref()
            }
            _ => None,
        }
    }

    /// Whether a port is asked.
    pub const fn has_port(&self) -> bool {
        !matches!(self, CheckKind::Ping)
    }
}

/// How a check uses TLS.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CheckTls {
    /// The server's name, asked for and verified; `None` = the Host header's, else its address.
    pub name: Option<String>,
    /// File with the certificates (PEM) of those who may vouch for it, `None` = those the host trusts.
    pub ca: Option<String>,
    /// Whether its certificate is verified.
    pub verify: bool,
}

impl Default for CheckTls {
    fn default() -> CheckTls {
        CheckTls { name: None, ca: None, verify: true }
    }
}

/// The way that a probe takes to its server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Via {
    /// The host's own.
    #[default]
    Direct,
    /// Through the data plane, from a local address, as a FULLNAT session's packets go.
    LocalAddress,
    /// Through the data plane, to the VIP, as packets of a DR or TUN session go.
    Vip,
}

impl Via {
    /// All of them with their names.
    pub const WORDS: [(&'static str, Via); 3] =
        [("direct", Via::Direct), ("local-address", Via::LocalAddress), ("vip", Via::Vip)];

    /// Its word in the configuration.
    pub const fn name(self) -> &'static str {
        Via::WORDS[self as usize].0
    }
}
