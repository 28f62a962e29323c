//! The kernel's door of a control process: two doors at once, clients that go away, noise, and what outlives a service.

use std::net::IpAddr;
use std::time::Duration;

use fulcrum_ipvs::{FAMILY_ID, messages};
use fulcrum_model::{
    Edit, Forward, LocalAddress, Override, Protocol, Server, ServerKey, Service, ServiceKey,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;
use tokio_seqpacket::UnixSeqpacket;

mod support;
use support::{DataplaneProcess, Room, until};

const NEW_SERVICE: u8 = 1;
const SET_SERVICE: u8 = 2;
const DEL_SERVICE: u8 = 3;
const GET_SERVICE: u8 = 4;
const NEW_DEST: u8 = 5;
const SET_DEST: u8 = 6;
const DEL_DEST: u8 = 7;
const GET_DEST: u8 = 8;
const GET_INFO: u8 = 15;
const FLUSH: u8 = 17;

/// NLM_F_REQUEST with NLM_F_ACK, and with NLM_F_DUMP.
const ASK: u16 = 0x5;
const ALL: u16 = 0x301;

fn attribute(number: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap();
    let mut out = [length.to_ne_bytes(), number.to_ne_bytes()].concat();
    out.extend_from_slice(value);
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

fn message(command: u8, flags: u16, attributes: &[Vec<u8>]) -> Vec<u8> {
    let body = attributes.concat();
    let length = u32::try_from(20 + body.len()).unwrap();
    let mut out = length.to_ne_bytes().to_vec();
    for half in [FAMILY_ID, flags, 7, 0, 9, 0] {
        out.extend_from_slice(&half.to_ne_bytes());
    }
    out.extend_from_slice(&[command, 1, 0, 0]);
    out.extend_from_slice(&body);
    out
}

fn name(port: u16) -> Vec<u8> {
    let mut address = [0; 16];
    address[..4].copy_from_slice(&[10, 9, 0, 1]);
    [
        attribute(1, &2u16.to_ne_bytes()),
        attribute(2, &6u16.to_ne_bytes()),
        attribute(3, &address),
        attribute(4, &port.to_be_bytes()),
    ]
    .concat()
}

fn service(port: u16, scheduler: &str) -> Vec<u8> {
    let rest = [
        attribute(6, format!("{scheduler}\0").as_bytes()),
        attribute(7, &[0, 0, 0, 0, 255, 255, 255, 255]),
        attribute(8, &[0; 4]),
        attribute(9, &[255; 4]),
    ];
    attribute(1, &[name(port), rest.concat()].concat())
}

fn server(last: u8, weight: u32) -> Vec<u8> {
    let mut address = [0; 16];
    address[..4].copy_from_slice(&[10, 1, 0, last]);
    let parts = [
        attribute(1, &address),
        attribute(2, &80u16.to_be_bytes()),
        attribute(3, &[0; 4]),
        attribute(4, &weight.to_ne_bytes()),
        attribute(5, &[0; 4]),
        attribute(6, &[0; 4]),
    ];
    attribute(2, &parts.concat())
}

/// A tool.
struct Tool(UnixSeqpacket);

impl Tool {
    async fn enter(room: &Room) -> Tool {
        let path = room.path("ipvs.sock");
        Tool(until("the IPVS socket", || UnixSeqpacket::connect(&path)).await)
    }

    async fn send(&self, packet: &[u8]) {
        assert_eq!(self.0.send(packet).await.unwrap(), packet.len());
    }

    async fn receive(&self) -> Vec<u8> {
        let mut buffer = vec![0; 64 << 10];
        let read =
            timeout(Duration::from_secs(10), self.0.recv(&mut buffer)).await.expect("an answer").unwrap();
        buffer.truncate(read.bytes_read());
        buffer
    }

    /// The error number that a request is answered with.
    async fn ask(&self, command: u8, attributes: &[Vec<u8>]) -> i32 {
        self.send(&message(command, ASK, attributes)).await;
        let answer = self.receive().await;
        assert_eq!(&answer[4..6], &2u16.to_ne_bytes(), "no verdict: {answer:?}");
        i32::from_ne_bytes(answer[16..20].try_into().unwrap())
    }

    /// The records of a dump, without headers.
    async fn all(&self, command: u8, attributes: &[Vec<u8>]) -> Vec<Vec<u8>> {
        self.send(&message(command, ALL, attributes)).await;
        let mut records = Vec::new();
        loop {
            let packet = self.receive().await;
            assert!(packet.len() <= fulcrum_ipvs::PACKET);
            for part in messages(&packet) {
                match part.bytes()[4] {
                    3 => return records,
                    _ => records.push(part.bytes()[20..].to_vec()),
                }
            }
        }
    }
}

fn key(port: u16) -> ServiceKey {
    ServiceKey::new(Protocol::Tcp, [10, 9, 0, 1].into(), port)
}

#[tokio::test]
async fn both_doors_lead_to_the_same_state() {
    let room = Room::new();
    std::fs::write(room.path("fulcrum.toml"), "").unwrap();
    let dataplane = DataplaneProcess::start(&room.dataplane(), "one").await;
    let mut control = room.control().await;
    control.in_sync().await;
    let tool = Tool::enter(&room).await;
    // One adds services and weights by netlink while the other adds some, and servers to the first one's, by gRPC.
    let by_netlink = async {
        for port in 1..=40 {
            assert_eq!(tool.ask(NEW_SERVICE, &[service(port, "rr")]).await, 0);
            assert_eq!(tool.ask(NEW_DEST, &[attribute(1, &name(port)), server(1, 5)]).await, 0);
            assert_eq!(tool.ask(SET_DEST, &[attribute(1, &name(port)), server(1, 6)]).await, 0);
        }
    };
    let by_grpc = async {
        for port in 101..=140 {
            control.edit(&[Edit::AddService(Service::new(key(port), "wlc"))]).await.unwrap();
            // It may not be there yet; then the answer says so.
            let server = Server::new(ServerKey { address: [10, 1, 0, 9].into(), port: 80 }, Forward::Nat);
            let _ = control.edit(&[Edit::AddServer(key(port - 100), server)]).await;
        }
    };
    tokio::join!(by_netlink, by_grpc);
    let state = control.state().await;
    assert_eq!(state.services.len(), 80);
    for port in 1..=40 {
        let servers = &state.service(key(port)).unwrap().servers;
        let first = servers.iter().find(|server| server.key.address == IpAddr::from([10, 1, 0, 1])).unwrap();
        assert_eq!(first.weight, 6);
    }
    assert_eq!(tool.all(GET_SERVICE, &[]).await.len(), 80);
    let both = state.services.iter().find(|service| service.servers.len() == 2).map(|service| service.key);
    if let Some(ServiceKey::Address { port, .. }) = both {
        assert_eq!(tool.all(GET_DEST, &[attribute(1, &name(port))]).await.len(), 2);
    }
    assert_eq!(
        dataplane.held.lock().unwrap().state.services.len(),
        80,
        "an answer means that it is in effect"
    );

    // What one has changed the other cannot add, and the reverse.
    assert_eq!(tool.ask(NEW_SERVICE, &[service(101, "rr")]).await, -17);
    assert!(control.edit(&[Edit::AddService(Service::new(key(1), "rr"))]).await.is_err());
    // A flush by one is a flush for both, also in between.
    let flush = async { assert_eq!(tool.ask(FLUSH, &[]).await, 0) };
    let other = async {
        let _ = control.edit(&[Edit::DeleteService(key(101))]).await;
    };
    tokio::join!(flush, other);
    assert_eq!(control.state().await.services, []);
    assert!(tool.all(GET_SERVICE, &[]).await.is_empty());
}

#[tokio::test]
async fn keys_that_netlink_has_no_words_for_stay_when_a_service_is_set() {
    let room = Room::new();
    let file = "[[port]]\nname = \"p\"\ndevice = \"net_null0\"\n[[interface]]\nname = \"i\"\nport = \"p\"\n\
        [[local-pool]]\nname = \"l\"\ninterface = \"i\"\naddresses = [\"10.0.0.200\"]\n\
        [[check]]\nname = \"c\"\ntype = \"tcp\"\n\
        [[service]]\naddress = \"10.9.0.1:80\"\nprotocol = \"tcp\"\nscheduler = \"rr\"\nlocal-pool = \"l\"\nmss = 1400\n\
        interface = \"i\"\nclient-address = \"toa\"\nchecks = [\"c\"]\nquorum = 2\nannounce = \"always\"\n\
        [service.timeouts]\ntcp-established = 77\n\
        [service.sorry-server]\naddress = \"10.1.0.7:80\"\nforward = \"nat\"\n\
        [[service.server]]\naddress = \"10.1.0.1:80\"\nforward = \"fullnat\"\n";
    std::fs::write(room.path("fulcrum.toml"), file).unwrap();
    let mut control = room.control().await;
    let before = control.state().await.services[0].clone();
    let tool = Tool::enter(&room).await;
    assert_eq!(tool.ask(SET_SERVICE, &[service(80, "wlc")]).await, 0);
    assert_eq!(tool.ask(SET_DEST, &[attribute(1, &name(80)), server(1, 9)]).await, 0);
    let mut wanted = Service { scheduler: "wlc".into(), ..before };
    // Called masqueraded there, and no less FULLNAT for it.
    wanted.servers[0].weight = 9;
    assert_eq!(control.state().await.services, [wanted]);
    assert_eq!(tool.ask(DEL_DEST, &[attribute(1, &name(80)), server(1, 9)]).await, 0);
    assert_eq!(tool.ask(DEL_DEST, &[attribute(1, &name(80)), server(1, 9)]).await, -2);
}

#[tokio::test]
async fn an_override_holds_for_whatever_a_tool_adds_anew() {
    let room = Room::new();
    let file = "[[port]]\nname = \"p\"\ndevice = \"net_null0\"\n[[interface]]\nname = \"i\"\nport = \"p\"\n\
        [[local-pool]]\nname = \"l\"\ninterface = \"i\"\naddresses = [\"10.0.0.200\"]\n\
        [[override]]\naddress = \"10.9.0.1:80\"\nprotocol = \"tcp\"\nforward = \"fullnat\"\nlocal-pool = \"l\"\n\
        client-address = \"proxy-v2\"\n";
    std::fs::write(room.path("fulcrum.toml"), file).unwrap();
    let dataplane = DataplaneProcess::start(&room.dataplane(), "one").await;
    let mut control = room.control().await;
    control.in_sync().await;
    let tool = Tool::enter(&room).await;
    for _ in 0..2 {
        assert_eq!(tool.ask(NEW_SERVICE, &[service(80, "rr")]).await, 0);
        assert_eq!(tool.ask(NEW_DEST, &[attribute(1, &name(80)), server(1, 1)]).await, 0);
        assert_eq!(tool.ask(SET_SERVICE, &[service(80, "wlc")]).await, 0);
        {
            let held = dataplane.held.lock().unwrap();
            let given = &held.state.services[0];
            assert_eq!(given.servers[0].forward, Forward::FullNat);
            assert_eq!(given.local_pool.as_deref(), Some("l"));
            assert_eq!(given.client_address.name(), "proxy-v2");
            assert!(held.state.overrides.is_empty(), "it is no matter of the data plane");
        }
        let listed = tool.all(GET_DEST, &[attribute(1, &name(80))]).await;
        // The third attribute behind address and port: masquerading.
        assert_eq!(&listed[0][4 + 20 + 8..][..8], &[8, 0, 3, 0, 0, 0, 0, 0]);
        assert_eq!(tool.ask(DEL_SERVICE, &[attribute(1, &name(80))]).await, 0);
    }
    let over = control.state().await.overrides;
    let wanted = Override { full_nat: true, local_pool: Some("l".into()), ..Override::new(key(80)) };
    assert_eq!(over, [Override { client_address: over[0].client_address, ..wanted }]);
    // One with local addresses of the service's own could not be deleted and added again.
    assert_eq!(control.state().await.services, []);
    control.edit(&[Edit::DeleteOverride(key(80))]).await.unwrap();
    let service =
        Service { local_addresses: vec![LocalAddress([10, 0, 0, 9].into())], ..Service::new(key(80), "rr") };
    control.edit(&[Edit::AddService(service)]).await.unwrap();
    assert_eq!(tool.ask(NEW_DEST, &[attribute(1, &name(80)), server(1, 1)]).await, 0);
    assert_eq!(dataplane.held.lock().unwrap().state.services[0].servers[0].forward, Forward::Nat);
}

#[tokio::test]
async fn odd_clients_disturb_nobody() {
    let room = Room::new();
    std::fs::write(room.path("fulcrum.toml"), "").unwrap();
    let mut control = room.control().await;
    let many: Vec<_> = (1..=2000).map(|port| Edit::AddService(Service::new(key(port), "rr"))).collect();
    control.edit(&many).await.unwrap();
    let tool = Tool::enter(&room).await;
    // Clients that ask for everything, read one packet of many, and hang up.
    for _ in 0..20 {
        let rude = Tool::enter(&room).await;
        rude.send(&message(GET_SERVICE, ALL, &[])).await;
        rude.receive().await;
    }
    // One that reads nothing, and asks on.
    let deaf = Tool::enter(&room).await;
    deaf.send(&message(GET_SERVICE, ALL, &[])).await;
    // Noise, lengths that lie, half a message behind a whole one.
    for noise in [&b"x"[..], &[0; 4000], &[255; 4000]] {
        tool.send(noise).await;
    }
    let mut lying = message(GET_INFO, 1, &[]);
    lying[0] = 200;
    tool.send(&lying).await;
    tool.send(&[message(GET_INFO, 1, &[]), vec![7; 9]].concat()).await;
    assert_eq!(tool.receive().await[16], 14, "what is whole is answered");
    // A datagram that nobody reads to its end is answered by its first message, and one without any ends it.
    let long = message(GET_INFO, 1, &[]).repeat(5000);
    tool.send(&long).await;
    let answer = tool.receive().await;
    assert_eq!(i32::from_ne_bytes(answer[16..20].try_into().unwrap()), -90);
    assert_eq!(tool.all(GET_SERVICE, &[]).await.len(), 2000);
    tool.send(&[0; 100_000]).await;
    assert!(tool.receive().await.is_empty(), "closed");
    let tool = Tool::enter(&room).await;
    assert_eq!(tool.ask(FLUSH, &[]).await, 0);
    assert_eq!(control.state().await.services, []);
}

/// A file of `/proc`.
async fn read(room: &Room, name: &str) -> String {
    let mut stream = UnixStream::connect(room.path("ipvs-proc.sock")).await.unwrap();
    stream.write_all(name.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn files_are_told_to_whoever_says_their_name() {
    let room = Room::new();
    std::fs::write(room.path("fulcrum.toml"), "").unwrap();
    let mut control = room.control().await;
    let server = Server::new(ServerKey { address: [10, 1, 0, 1].into(), port: 80 }, Forward::Nat);
    control
        .edit(&[Edit::AddService(Service::new(key(80), "rr")), Edit::AddServer(key(80), server)])
        .await
        .unwrap();
    let services = read(&room, "ip_vs\n").await;
    let wanted = "\nTCP  0A090001:0050 rr  \n  -> 0A010001:0050      Masq    1      0          0         \n";
    assert!(services.ends_with(wanted), "{services}");
    assert!(read(&room, "ip_vs_conn\n").await.starts_with("Pro FromIP"));
    assert!(read(&room, "ip_vs_conn_sync\n").await.contains("Origin"));
    assert!(read(&room, "ip_vs_stats\n").await.starts_with("   Total"));
    assert!(read(&room, "ip_vs_stats_percpu\n").await.contains("CPU"));
    for nonsense in ["\n", "ip_vs_app\n", "../../etc/passwd\n", &"x".repeat(64)] {
        assert_eq!(read(&room, nonsense).await, "", "{nonsense}");
    }
}
