//! `[control.remote]`: who may operate the director from other machines, and as what.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::table::Table;
use super::write::Out;

/// What somebody may do. Each may do what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Look at everything.
    Read,
    /// Take servers out and back in, zero counters.
    Operate,
    /// Change everything.
    Admin,
}

impl Role {
    /// All of them with their words.
    pub const WORDS: [(&'static str, Role); 3] =
        [("read", Role::Read), ("operate", Role::Operate), ("admin", Role::Admin)];

    /// Its word.
    pub const fn name(self) -> &'static str {
        Role::WORDS[self as usize].0
    }
}

/// A client with a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteClient {
    /// A DNS name among the alternative names of its certificate's subject.
    pub name: String,
    /// What it may do.
    pub role: Role,
}

/// How the control process serves other machines: gRPC over TCP, both ends with certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// Address and port.
    pub listen: SocketAddr,
    /// File with the server's certificate and what leads from it to its authority (PEM).
    pub certificate: PathBuf,
    /// File with its key (PEM).
    pub key: PathBuf,
    /// File with the certificates of those who vouch for clients (PEM).
    pub client_ca: PathBuf,
    /// The clients; others are turned away.
    pub clients: Vec<RemoteClient>,
}

pub(super) fn read(control: &mut Table<'_>) -> Option<Remote> {
    let mut table = control.table("remote", "[control.remote]")?;
    let listen = table.parsed("listen", "an address and a port, such as \"192.0.2.1:4433\"");
    let mut file = |key, example: &str| {
        let read = super::read::path(&mut table, key, example);
        table.required(key, &format!("\"{example}\""), read)
    };
    let certificate = file("certificate", "/etc/fulcrum/tls/server.pem");
    let key = file("key", "/etc/fulcrum/tls/server.key");
    let client_ca = file("client-ca", "/etc/fulcrum/tls/clients.pem");
    let mut clients: Vec<RemoteClient> = Vec::new();
    for mut table in table.tables("client", "[[control.remote.client]]") {
        let name = table.text("name").map(|name| name.to_ascii_lowercase());
        let role = table.word("role", &Role::WORDS);
        let name = table.required("name", "\"ops.example.org\"", name);
        let role = table.required("role", "\"read\"", role);
        if let (Some(name), Some(role)) = (name, role) {
            if clients.iter().any(|other| other.name == name) {
                table.complain("name", format!("client `{name}` is listed twice"));
            }
            clients.push(RemoteClient { name, role });
        }
        table.finish();
    }
    if !table.has("client") {
        table.required("client", "[{ name = \"ops.example.org\", role = \"read\" }]", None::<()>);
    }
    let listen = table.required("listen", "\"192.0.2.1:4433\"", listen);
    table.finish();
    Some(Remote { listen: listen?, certificate: certificate?, key: key?, client_ca: client_ca?, clients })
}

pub(super) fn write(out: &mut Out, remote: &Remote) {
    out.table("[control.remote]");
    out.text("listen", remote.listen);
    out.text("certificate", remote.certificate.display());
    out.text("key", remote.key.display());
    out.text("client-ca", remote.client_ca.display());
    for client in &remote.clients {
        out.table("[[control.remote.client]]");
        out.text("name", &client.name);
        out.text("role", client.role.name());
    }
}
