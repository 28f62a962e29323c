//! Other machines at the door: who is let in, as what, and what is written down about it.

mod support;

use std::io::Read as _;
use std::net::TcpListener;

use fulcrum_api::control::control_client::ControlClient;
use fulcrum_api::control::{
    ApplyRequest, EditRequest, EndRequest, GetStateRequest, GetStatusRequest, Process, ReloadRequest,
    State as WireState,
};
use fulcrum_model::{Admin, Edit, Forward, Protocol, Server, ServerKey, Service, ServiceKey};
use support::certificates::Authority;
use support::{ControlProcess, Room, until};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Status};

/// A control process with a door at this port, and those who vouch for both ends.
struct House {
    room: Room,
    port: u16,
    authority: Authority,
}

impl House {
    fn new() -> House {
        let room = Room::new();
        let authority = Authority::new(&room.path(""), "ours");
        authority.sign("server", "DNS:director.test,IP:127.0.0.1");
        for name in ["watcher", "operator", "boss", "nobody"] {
            authority.sign(name, &format!("DNS:{name}.test"));
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let house = House { room, port, authority };
        house.write(&house.path("ca.pem"), &house.path("server.key"));
        house
    }

    fn path(&self, name: &str) -> String {
        self.authority.path(name).display().to_string()
    }

    fn write(&self, ca: &str, key: &str) {
        let client =
            |name, role| format!("[[control.remote.client]]\nname = \"{name}.test\"\nrole = \"{role}\"\n");
        let clients =
            [client("Watcher", "read"), client("operator", "operate"), client("boss", "admin")].concat();
        let text = format!(
            "[control.remote]\nlisten = \"127.0.0.1:{}\"\ncertificate = \"{}\"\nkey = \"{key}\"\nclient-ca = \"{ca}\"\n{clients}",
            self.port,
            self.path("server.pem"),
        );
        std::fs::write(self.room.path("fulcrum.toml"), text).unwrap();
    }

    /// Connects with a certificate of an authority, or with none.
    async fn connect(&self, by: &Authority, name: Option<&str>) -> Result<ControlClient<Channel>, String> {
        let read = |authority: &Authority, name: String| std::fs::read(authority.path(&name)).unwrap();
        let mut tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(read(&self.authority, "ca.pem".to_owned())))
            .domain_name("director.test");
        if let Some(name) = name {
            let (certificate, key) = (read(by, format!("{name}.pem")), read(by, format!("{name}.key")));
            tls = tls.identity(Identity::from_pem(certificate, key));
        }
        let endpoint = Endpoint::from_shared(format!("https://127.0.0.1:{}", self.port)).unwrap();
        let channel =
            endpoint.tls_config(tls).unwrap().connect().await.map_err(|error| format!("{error:?}"))?;
        Ok(ControlClient::new(channel))
    }

    async fn client(&self, name: &str) -> ControlClient<Channel> {
        until("the door", || self.connect(&self.authority, Some(name))).await
    }
}

fn service() -> ServiceKey {
    ServiceKey::new(Protocol::Tcp, [10, 0, 0, 1].into(), 80)
}

fn server() -> ServerKey {
    ServerKey { address: [10, 0, 1, 1].into(), port: 80 }
}

fn drain() -> Edit {
    let ServerKey { address, port } = server();
    let admin = Admin::Drain { until: None };
    Edit::SetServerAdmin { service: Some(service()), address, port: Some(port), admin }
}

fn delete() -> Edit {
    Edit::DeleteServer(service(), server())
}

async fn edit(client: &mut ControlClient<Channel>, edits: &[Edit]) -> Result<(), Status> {
    let edits = edits.iter().map(Into::into).collect();
    client.edit(EditRequest { edits }).await.map(drop)
}

fn denied(done: Result<(), Status>, words: &str) {
    let status = done.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied, "{status}");
    assert!(status.message().contains(words), "{status}");
}

/// What the process has logged, its end awaited.
fn log(mut control: ControlProcess) -> String {
    let mut errors = control.child.stderr.take().unwrap();
    drop(control);
    let mut log = String::new();
    errors.read_to_string(&mut log).unwrap();
    log
}

#[tokio::test(flavor = "multi_thread")]
async fn each_may_what_its_role_says_and_no_more() {
    let house = House::new();
    let mut control = house.room.control().await;
    let add = [
        Edit::AddService(Service::new(service(), "rr")),
        Edit::AddServer(service(), Server::new(server(), Forward::Nat)),
    ];
    control.edit(&add).await.unwrap();

    let mut watcher = house.client("watcher").await;
    watcher.get_status(GetStatusRequest {}).await.unwrap();
    assert_eq!(watcher.get_state(GetStateRequest::default()).await.unwrap().into_inner().changes.len(), 2);
    denied(edit(&mut watcher, &[drain()]).await, "watcher.test has the role `read`; Edit needs `operate`");

    let mut operator = house.client("operator").await;
    edit(&mut operator, &[drain()]).await.unwrap();
    denied(
        edit(&mut operator, &[drain(), delete()]).await,
        "operator.test has the role `operate`; delete server",
    );
    let whole = ApplyRequest { state: Some(WireState::default()), dry_run: true };
    denied(operator.apply(whole.clone()).await.map(drop), "Apply needs `admin`");
    let end = EndRequest { process: Process::Control.into(), rehearse: true };
    denied(operator.end(end).await.map(drop), "End needs `admin`");
    assert_eq!(control.state().await.services[0].servers.len(), 1);

    let mut boss = house.client("boss").await;
    edit(&mut boss, &[delete()]).await.unwrap();
    boss.end(end).await.unwrap();
    boss.apply(ApplyRequest { dry_run: false, ..whole }).await.unwrap();
    assert!(control.state().await.services.is_empty());

    let log = log(control);
    let line = |words: &[&str]| log.lines().any(|line| words.iter().all(|word| line.contains(word)));
    assert!(line(&["changed", "uid", "from=socket", "add service tcp 10.0.0.1:80 rr"]), "{log}");
    assert!(
        line(&[
            "changed",
            "operator.test",
            "from=127.0.0.1:",
            "drain server 10.0.1.1 port 80 of tcp 10.0.0.1:80"
        ]),
        "{log}"
    );
    assert!(line(&["refused", "operator.test", "delete server 10.0.1.1:80"]), "{log}");
    assert!(line(&["changed", "boss.test", "- service tcp 10.0.0.1:80"]), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_gets_in() {
    let house = House::new();
    let _control = house.room.control().await;
    let mut nobody = house.client("nobody").await;
    let status = nobody.get_status(GetStatusRequest {}).await.map(drop);
    denied(status, "nobody.test) is of no [[control.remote.client]]");

    let others = Authority::new(&house.room.path(""), "others");
    others.sign("boss", "DNS:boss.test");
    // In TLS 1.3 a server says no after the client has gone on: the first request tells.
    for (by, name) in [(&others, Some("boss")), (&house.authority, None)] {
        let got_in = match house.connect(by, name).await {
            Ok(mut client) => client.get_status(GetStatusRequest {}).await.is_ok(),
            Err(_) => false,
        };
        assert!(!got_in, "{name:?}");
    }
    // Words of no protocol do no harm.
    use std::io::Write as _;
    let mut stranger = std::net::TcpStream::connect(("127.0.0.1", house.port)).unwrap();
    stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    house.client("boss").await.get_status(GetStatusRequest {}).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_that_change_are_for_those_who_come_then() {
    let house = House::new();
    let mut control = house.room.control().await;
    let mut before = house.client("boss").await;
    before.get_status(GetStatusRequest {}).await.unwrap();
    let gets_in = async |by: &Authority, name: &str| match house.connect(by, Some(name)).await {
        Ok(mut client) => client.get_status(GetStatusRequest {}).await.map_err(drop),
        Err(_) => Err(()),
    };

    // What makes no server leaves what was read before in use, and is told.
    std::fs::write(house.path("server.pem"), "rubbish").unwrap();
    let refused = control.client.reload(ReloadRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("certificate: there is no certificate in it"), "{refused}");
    gets_in(&house.authority, "boss").await.unwrap();

    // Files that change are read without a word from anybody: of another authority, at both ends.
    let others = Authority::new(&house.room.path(""), "others");
    others.sign("server", "DNS:director.test,IP:127.0.0.1");
    others.sign("boss", "DNS:boss.test");
    for name in ["server.pem", "server.key", "ca.pem"] {
        std::fs::copy(others.path(name), house.path(name)).unwrap();
    }
    until("the new certificates", || gets_in(&others, "boss")).await;
    assert!(gets_in(&house.authority, "boss").await.is_err());
    before.get_status(GetStatusRequest {}).await.unwrap();

    // Clients are those of the file as it was read last, on connections that are there, too.
    let file = house.room.path("fulcrum.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("boss.test", "chief.test")).unwrap();
    control.client.reload(ReloadRequest {}).await.unwrap();
    denied(before.get_status(GetStatusRequest {}).await.map(drop), "is of no [[control.remote.client]]");
    std::fs::write(&file, &text).unwrap();
    control.signal("HUP");
    until("the boss again", || gets_in(&others, "boss")).await;
    std::fs::write(&file, "nonsense").unwrap();
    let refused = control.client.reload(ReloadRequest {}).await.unwrap_err();
    assert!(refused.message().contains("fulcrum.toml:1: not TOML"), "{refused}");
    before.get_status(GetStatusRequest {}).await.unwrap();

    let log = log(control);
    assert!(log.contains("the certificates that were read before stay in use"), "{log}");
    assert!(log.contains("certificates of [control.remote] read again"), "{log}");
    assert!(log.contains("asked to read files again"), "{log}");
}

#[test]
fn what_makes_no_door_is_said_at_the_start() {
    let house = House::new();
    let fails = |words: &str| {
        let child = house.room.spawn();
        let done = child.wait_with_output().unwrap();
        let log = String::from_utf8(done.stderr).unwrap();
        assert!(!done.status.success() && log.contains(words), "{log}");
    };
    house.write("/nowhere/ca.pem", &house.path("server.key"));
    fails("[control.remote] client-ca: cannot read /nowhere/ca.pem");
    house.write(&house.path("ca.pem"), &house.path("boss.key"));
    fails("do not make a server");
    let open = house.path("open.key");
    std::fs::copy(house.path("server.key"), &open).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(&open, mode).unwrap();
    house.write(&house.path("ca.pem"), &open);
    fails("may be read by everybody");
    let _taken = TcpListener::bind(("127.0.0.1", house.port)).unwrap();
    house.write(&house.path("ca.pem"), &house.path("server.key"));
    fails("a port that is free");
}
