//! A control process that checks real listeners, and what it gives the data plane then.

mod support;

use std::net::TcpListener;
use std::time::{Duration, Instant};

use fulcrum_api::control as wire;
use fulcrum_model::{Admin, Edit, Service, ServiceHealth};
use support::{ControlProcess, DataplaneProcess, Room, until};

/// Servers that are all asked at one port of this machine.
const SERVERS: usize = 300;

fn config(port: u16) -> String {
    let mut text = "[[check]]\nname = \"alive\"\ntype = \"tcp\"\ninterval = \"100ms\"\nrise = 1\nfall = 1\n\
        [[service]]\naddress = \"10.0.0.1:80\"\nprotocol = \"tcp\"\nchecks = [\"alive\"]\n"
        .to_owned();
    for at in 0..SERVERS {
        let (a, b) = (at / 250, at % 250 + 1);
        text += &format!(
            "[[service.server]]\naddress = \"10.1.{a}.{b}:80\"\nforward = \"nat\"\n\
             check-address = \"127.0.0.1\"\ncheck-port = {port}\n"
        );
    }
    text
}

async fn listener(port: u16) -> TcpListener {
    until("the port again", || async { TcpListener::bind(("127.0.0.1", port)) }).await
}

/// Waits until so many servers are in a state.
async fn counted(control: &mut ControlProcess, what: &str, count: impl Fn(&wire::ControlStatus) -> bool) {
    let start = Instant::now();
    loop {
        let status = control.status().await.control.unwrap();
        if count(&status) {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "{what}: {status:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn events(control: &mut ControlProcess) -> Vec<wire::Event> {
    let asked = wire::WatchEventsRequest::default();
    let mut stream = control.client.watch_events(asked).await.unwrap().into_inner();
    let mut all = Vec::new();
    while let Some(event) = stream.message().await.unwrap() {
        all.push(event);
    }
    all
}

/// Waits until the data plane has so many servers.
async fn has(dataplane: &DataplaneProcess, servers: usize) {
    let there = || async { if held(dataplane).0.servers.len() == servers { Ok(()) } else { Err(()) } };
    until(&format!("{servers} servers in the data plane"), there).await;
}

fn held(dataplane: &DataplaneProcess) -> (Service, u64) {
    let held = dataplane.held.lock().unwrap();
    (held.state.services[0].clone(), held.full + held.increments)
}

#[tokio::test]
async fn servers_that_fail_at_once_are_one_change_and_so_for_the_next_process() {
    let room = Room::new();
    let open = listener(0).await;
    let port = open.local_addr().unwrap().port();
    std::fs::write(room.path("fulcrum.toml"), config(port)).unwrap();
    let dataplane = DataplaneProcess::start(&room.dataplane(), "one").await;
    let mut control = room.control().await;
    counted(&mut control, "all up", |status| status.servers_unknown == 0).await;
    control.in_sync().await;
    let (all, pushes) = held(&dataplane);
    assert_eq!((all.servers.len(), &all.health), (SERVERS, &ServiceHealth::default()));
    assert!(dataplane.held.lock().unwrap().state.checks.is_empty());

    drop(open);
    counted(&mut control, "all down", |status| status.servers_down == SERVERS as u64).await;
    has(&dataplane, 0).await;
    let (none, after) = held(&dataplane);
    assert_eq!((none.servers.len(), after - pushes), (0, 1));
    let told = events(&mut control).await;
    assert_eq!(told.len(), SERVERS + 1);
    assert!(
        told.iter()
            .take(SERVERS)
            .all(|event| event.kind == "server-down" && event.why == "check alive: connection refused"),
        "{:?}",
        told[0]
    );
    assert_eq!(told[SERVERS].kind, "quorum-lost");
    assert_eq!(told[SERVERS].number, SERVERS as u64 + 1);
    // What is configured is not touched by it.
    assert_eq!(control.state().await.services[0].servers.len(), SERVERS);

    control.end("KILL");
    let mut control = room.control().await;
    control.in_sync().await;
    counted(&mut control, "still down", |status| status.servers_down == SERVERS as u64).await;
    assert_eq!(held(&dataplane), (none, after));

    let _open = listener(port).await;
    counted(&mut control, "all up again", |status| status.servers_down == 0).await;
    has(&dataplane, SERVERS).await;
    assert_eq!(held(&dataplane), (all, after + 1));
}

#[tokio::test]
async fn admin_states_and_their_deadlines_survive_the_process() {
    let room = Room::new();
    std::fs::write(
        room.path("fulcrum.toml"),
        "[[service]]\naddress = \"10.0.0.1:80\"\nprotocol = \"tcp\"\n\
         [[service.server]]\naddress = \"10.1.0.1:80\"\nforward = \"nat\"\n\
         [[service.server]]\naddress = \"10.1.0.2:80\"\nforward = \"nat\"\n",
    )
    .unwrap();
    let dataplane = DataplaneProcess::start(&room.dataplane(), "one").await;
    let mut control = room.control().await;
    control.in_sync().await;
    let weights = |dataplane: &DataplaneProcess| -> Vec<u32> {
        held(dataplane).0.servers.iter().map(|server| server.weight).collect()
    };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let drain = |last: u8, until| Edit::SetServerAdmin {
        service: None,
        address: [10, 1, 0, last].into(),
        port: None,
        admin: Admin::Drain { until },
    };
    assert!(control.edit(&[drain(1, None)]).await.unwrap().delivered);
    assert_eq!(weights(&dataplane), [0, 1], "it is in effect when it is answered");
    control.end("KILL");
    let mut control = room.control().await;
    control.in_sync().await;
    assert_eq!(weights(&dataplane), [0, 1]);

    let asked = wire::WatchEventsRequest { follow: true, after: 0 };
    let mut follow = control.client.watch_events(asked).await.unwrap().into_inner();
    assert!(control.edit(&[drain(2, Some(now + 1))]).await.unwrap().delivered);
    let mut kinds = Vec::new();
    while kinds.last().is_none_or(|kind| kind != "server-disabled") {
        let next = tokio::time::timeout(Duration::from_secs(20), follow.message()).await;
        kinds.push(next.expect("it is told in time").unwrap().expect("a stream without end").kind);
    }
    // Before it was drained, or had to be: the second that was given may have been over by then.
    assert!(kinds.len() <= 2 && kinds.iter().all(|kind| kind.starts_with("server-d")), "{kinds:?}");
    has(&dataplane, 1).await;
    assert_eq!(weights(&dataplane), [0]);
}
