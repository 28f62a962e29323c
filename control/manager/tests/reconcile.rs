//! The control process against a data plane that comes, goes, is tampered with, refuses and hangs.

mod support;

use std::io::Read as _;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use fulcrum_api::socket::Listener;
use fulcrum_api::{changes, control as wire, dataplane, edit};
use fulcrum_model::{Edit, EditError, Protocol, Service, ServiceKey, State};
use support::{ControlProcess, DataplaneProcess, Room, until};
use tonic::Code;

fn service(port: u16) -> Service {
    Service::new(ServiceKey::new(Protocol::Tcp, Ipv4Addr::new(10, 0, 0, 1).into(), port), "rr")
}

fn add(port: u16) -> [Edit; 1] {
    [Edit::AddService(service(port))]
}

fn file(port: u16) -> String {
    format!("[[service]]\naddress = \"10.0.0.1:{port}\"\nprotocol = \"tcp\"\nscheduler = \"rr\"\n")
}

/// How long until the data plane holds these services.
async fn programmed(dataplane: &DataplaneProcess, ports: &[u16]) -> Duration {
    let wanted: Vec<Service> = ports.iter().copied().map(service).collect();
    let start = Instant::now();
    until("programmed", || async {
        let held = dataplane.held.lock().unwrap();
        if held.state.services == wanted { Ok(()) } else { Err(()) }
    })
    .await;
    start.elapsed()
}

/// A control process with services 80 and 81 in a data plane.
async fn running(room: &Room) -> (ControlProcess, DataplaneProcess) {
    std::fs::write(room.path("fulcrum.toml"), file(80)).unwrap();
    let dataplane = DataplaneProcess::start(&room.dataplane(), "first").await;
    let mut control = room.control().await;
    control.in_sync().await;
    assert!(control.edit(&add(81)).await.unwrap().delivered);
    programmed(&dataplane, &[80, 81]).await;
    (control, dataplane)
}

#[tokio::test]
async fn whole_at_connect_and_increments_after() {
    let room = Room::new();
    let (mut control, dataplane) = running(&room).await;
    for port in 82..90 {
        assert!(control.edit(&add(port)).await.unwrap().delivered);
        assert_eq!(dataplane.held.lock().unwrap().state.services.len(), usize::from(port) - 79);
    }
    let held = dataplane.held.lock().unwrap();
    assert_eq!((held.full, held.increments), (1, 9));
    assert_eq!(held.generation, 10);
}

#[tokio::test]
async fn a_change_is_in_effect_when_the_workers_run_it() {
    let room = Room::new();
    let (mut control, dataplane) = running(&room).await;
    dataplane.held.lock().unwrap().lag = 5;
    assert!(control.edit(&add(82)).await.unwrap().delivered);
    let held = dataplane.held.lock().unwrap();
    assert_eq!(held.acknowledged, held.generation);
    assert_eq!(held.state.services.len(), 3);
}

#[tokio::test]
async fn tampering_is_repaired() {
    let room = Room::new();
    let (mut control, dataplane) = running(&room).await;
    {
        let mut held = dataplane.held.lock().unwrap();
        held.state.services.remove(0);
        held.generation += 5;
    }
    assert!(programmed(&dataplane, &[80, 81]).await < Duration::from_secs(2));
    // As does somebody who leaves the generation as it was.
    dataplane.held.lock().unwrap().state.services.clear();
    assert!(programmed(&dataplane, &[80, 81]).await < Duration::from_secs(2));
    {
        let mut held = dataplane.held.lock().unwrap();
        held.state.services.clear();
        held.generation = u64::MAX;
    }
    assert!(programmed(&dataplane, &[80, 81]).await < Duration::from_secs(2));
    control.in_sync().await;
    assert_eq!(control.link().await.repairs, 3);
}

#[tokio::test]
async fn a_data_plane_that_was_killed_is_programmed_when_it_is_back() {
    let room = Room::new();
    let (mut control, dataplane) = running(&room).await;
    dataplane.kill();
    let start = Instant::now();
    while control.link().await.connected {
        assert!(start.elapsed() < Duration::from_secs(2), "the loss was not noticed");
    }
    let delivery = control.edit(&add(82)).await.unwrap();
    assert!(!delivery.delivered && delivery.note.contains("not connected"), "{}", delivery.note);
    let dataplane = DataplaneProcess::start(&room.dataplane(), "second").await;
    assert!(programmed(&dataplane, &[80, 81, 82]).await < Duration::from_secs(2));
    // The same without a pause in which the loss could be noticed.
    dataplane.kill();
    let dataplane = DataplaneProcess::start(&room.dataplane(), "third").await;
    assert!(programmed(&dataplane, &[80, 81, 82]).await < Duration::from_secs(2));
}

#[tokio::test]
async fn a_control_process_that_was_killed_disturbs_nothing_when_it_is_back() {
    let room = Room::new();
    let (control, dataplane) = running(&room).await;
    control.end("KILL");
    let before = dataplane.held.lock().unwrap().generation;
    let mut control = room.control().await;
    control.in_sync().await;
    assert_eq!(control.state().await.services, [service(80), service(81)]);
    {
        let held = dataplane.held.lock().unwrap();
        assert_eq!((held.full, held.increments, held.generation), (1, 1, before));
    }
    // It goes on from there with increments.
    assert!(control.edit(&add(82)).await.unwrap().delivered);
    let held = dataplane.held.lock().unwrap();
    assert_eq!((held.full, held.increments, held.generation), (1, 2, before + 1));
}

#[tokio::test]
async fn a_missing_data_plane_blocks_nobody() {
    let room = Room::new();
    let mut control = room.control().await;
    let start = Instant::now();
    assert!(!control.edit(&add(80)).await.unwrap().delivered);
    assert!(start.elapsed() < Duration::from_secs(1));
    let link = control.link().await;
    assert!(!link.connected && !link.in_sync);
    assert!(link.last_error.contains("dataplane.sock"), "{}", link.last_error);
    let error = control.client.list_neighbours(dataplane::ListNeighboursRequest {}).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert!(error.message().contains("start fulcrum-dataplane"), "{}", error.message());
}

#[tokio::test]
async fn a_data_plane_that_hangs_blocks_nobody_for_long() {
    let room = Room::new();
    let (mut control, dataplane) = running(&room).await;
    dataplane.held.lock().unwrap().hang = true;
    let start = Instant::now();
    assert!(!control.edit(&add(82)).await.unwrap().delivered);
    assert!(start.elapsed() < Duration::from_secs(4));
    dataplane.held.lock().unwrap().hang = false;
    programmed(&dataplane, &[80, 81, 82]).await;
}

#[tokio::test]
async fn what_the_data_plane_refuses_is_told() {
    let room = Room::new();
    let (mut control, dataplane) = running(&room).await;
    dataplane.held.lock().unwrap().refuse = Some("no room for it".into());
    let delivery = control.edit(&add(82)).await.unwrap();
    assert!(delivery.note.contains("no room for it"), "{}", delivery.note);
    let link = control.link().await;
    assert!(link.connected && !link.in_sync && link.last_error.contains("no room for it"));
    dataplane.held.lock().unwrap().refuse = None;
    programmed(&dataplane, &[80, 81, 82]).await;
    control.in_sync().await;
    assert_eq!(control.link().await.last_error, "");
}

#[tokio::test]
async fn a_refused_edit_names_itself_and_changes_nothing() {
    let room = Room::new();
    let (mut control, dataplane) = running(&room).await;
    let status = control.edit(&[add(82), add(80)].concat()).await.unwrap_err();
    assert_eq!(edit::refusal(&status), Some((1, EditError::ServiceExists(service(80).key))));
    assert_eq!(status.code(), Code::AlreadyExists);
    assert_eq!(control.state().await.services.len(), 2);
    assert_eq!(dataplane.held.lock().unwrap().increments, 1);
}

#[tokio::test]
async fn apply_is_all_or_nothing_and_a_dry_run_nothing() {
    let room = Room::new();
    let (mut control, dataplane) = running(&room).await;
    let request = |services: Vec<Service>, dry_run| {
        let state = State { services, ..State::default() };
        wire::ApplyRequest { state: Some(wire::State { changes: changes(&state) }), dry_run }
    };
    let reply =
        control.client.apply(request(vec![service(81), service(90)], true)).await.unwrap().into_inner();
    assert_eq!(reply.differences, ["- service tcp 10.0.0.1:80", "+ service tcp 10.0.0.1:90: scheduler rr"]);
    assert_eq!(control.state().await.services, [service(80), service(81)]);

    let bad = Service { scheduler: "best".into(), ..service(90) };
    for dry_run in [true, false] {
        let error = control.client.apply(request(vec![service(81), bad.clone()], dry_run)).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
    }
    assert_eq!(control.state().await.services, [service(80), service(81)]);

    let reply =
        control.client.apply(request(vec![service(81), service(90)], false)).await.unwrap().into_inner();
    assert_eq!(reply.differences.len(), 2);
    assert!(reply.delivery.unwrap().delivered);
    assert_eq!(dataplane.held.lock().unwrap().state.services, [service(81), service(90)]);
    let toml = control.client.get_config(wire::GetConfigRequest {}).await.unwrap().into_inner().toml;
    let config = fulcrum_model::Config::parse("saved", &toml).unwrap();
    assert_eq!(config.state.services, [service(81), service(90)]);
}

#[tokio::test]
async fn the_file_is_read_again_at_sighup_and_kept_when_it_is_wrong() {
    let room = Room::new();
    let (mut control, dataplane) = running(&room).await;
    std::fs::write(room.path("fulcrum.toml"), file(90)).unwrap();
    control.signal("HUP");
    programmed(&dataplane, &[90, 81]).await;
    let status = control.status().await.control.unwrap();
    assert!(status.runtime_changes && status.config_error.is_empty());

    std::fs::write(room.path("fulcrum.toml"), "[[service]]\naddress = 7\n").unwrap();
    control.signal("HUP");
    let error = until("an error", || {
        let mut client = control.client.clone();
        async move {
            let status = client.get_status(wire::GetStatusRequest {}).await.unwrap().into_inner();
            let error = status.control.unwrap().config_error;
            if error.is_empty() { Err(()) } else { Ok(error) }
        }
    })
    .await;
    assert!(error.contains("fulcrum.toml:2:"), "{error}");
    assert_eq!(control.state().await.services, [service(90), service(81)]);

    // A start with the wrong file goes on with what is stored.
    control.end("KILL");
    let mut control = room.control().await;
    assert_eq!(control.state().await.services, [service(90), service(81)]);
    assert!(control.status().await.control.unwrap().config_error.contains("fulcrum.toml:2:"));
}

#[tokio::test]
async fn a_first_start_with_a_wrong_file_is_refused() {
    let room = Room::new();
    std::fs::write(room.path("fulcrum.toml"), "[[service]]\naddress = 7\n").unwrap();
    let mut child = room.spawn();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("fulcrum.toml:2:"), "{said}");
    assert!(!room.path("control.sock").exists());
}

#[tokio::test]
async fn a_damaged_store_is_set_aside_and_told() {
    let room = Room::new();
    std::fs::write(room.path("fulcrum.toml"), file(80)).unwrap();
    std::fs::write(room.path("state.toml"), "rubbish").unwrap();
    let mut control = room.control().await;
    assert_eq!(control.state().await.services, [service(80)]);
    assert!(room.path("state.toml.damaged").exists());
    control.signal("TERM");
    let mut said = String::new();
    control.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("damaged") && said.contains("state.toml.damaged"), "{said}");
}

#[tokio::test]
async fn a_second_instance_is_refused_and_the_first_goes_on() {
    let room = Room::new();
    let (mut control, _dataplane) = running(&room).await;
    let mut second = room.spawn();
    assert_eq!(second.wait().unwrap().code(), Some(1));
    let mut said = String::new();
    second.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("another fulcrum-control"), "{said}");
    assert!(control.edit(&add(82)).await.unwrap().delivered);
}

#[tokio::test]
async fn a_successor_waits_for_one_that_is_being_killed() {
    let room = Room::new();
    let (control, dataplane) = running(&room).await;
    let mut second = room.spawn();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(second.try_wait().unwrap().is_none(), "it waits");
    control.end("KILL");
    let mut successor = room.adopt(second).await;
    successor.in_sync().await;
    assert_eq!(successor.state().await.services, [service(80), service(81)]);
    assert!(successor.edit(&add(82)).await.unwrap().delivered);
    assert_eq!(dataplane.held.lock().unwrap().state.services.len(), 3);
}

#[tokio::test]
async fn a_socket_that_is_about_to_be_free_is_waited_for() {
    let room = Room::new();
    let other = Listener::bind(&room.path("control.sock")).await.unwrap();
    let mut child = room.spawn();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(child.try_wait().unwrap().is_none(), "it waits");
    drop(other);
    room.adopt(child).await.status().await;
}

#[tokio::test]
async fn sigterm_ends_it_in_order() {
    let room = Room::new();
    let (control, dataplane) = running(&room).await;
    assert_eq!(control.end("TERM").code(), Some(0));
    assert!(!room.path("control.sock").exists());
    assert_eq!(dataplane.held.lock().unwrap().state.services.len(), 2);
}

#[tokio::test]
async fn what_the_data_plane_answers_is_passed_on() {
    let room = Room::new();
    let (mut control, _dataplane) = running(&room).await;
    let mut sessions = control
        .client
        .list_sessions(dataplane::ListSessionsRequest { limit: 3, ..Default::default() })
        .await
        .unwrap()
        .into_inner();
    let mut workers = Vec::new();
    while let Some(chunk) = sessions.message().await.unwrap() {
        workers.extend(chunk.sessions.into_iter().map(|session| session.worker));
    }
    assert_eq!(workers, [0, 1, 2]);
    let error = control.client.zero_counters(dataplane::ZeroCountersRequest::default()).await.unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::NotFound, "no such service here"));
}

#[tokio::test]
async fn a_wrong_file_leaves_the_sockets_where_they_were() {
    let room = Room::new();
    let (control, dataplane) = (room.path("control.sock"), room.dataplane());
    let sockets = format!("[dataplane]\nsocket = {dataplane:?}\n[control]\nsocket = {control:?}\n");
    for text in [sockets, "nonsense".to_owned()] {
        std::fs::write(room.path("fulcrum.toml"), text).unwrap();
        let mut child = room.spawn_with(&[]);
        until("the control socket", || fulcrum_api::socket::connect(&control)).await;
        child.kill().unwrap();
        child.wait().unwrap();
        std::fs::remove_file(&control).unwrap();
    }
}

#[tokio::test]
async fn programs_of_versions_too_far_apart_leave_each_other_alone() {
    let room = Room::new();
    let (mut control, dataplane) = running(&room).await;
    dataplane.held.lock().unwrap().status.version = "0.9.0".to_owned();
    let delivery = control.edit(&add(82)).await.unwrap();
    assert!(!delivery.delivered && delivery.note.contains("at most one minor version"), "{delivery:?}");
    assert_eq!(dataplane.held.lock().unwrap().state.services.len(), 2);
    assert!(control.link().await.last_error.contains("of version 0.9.0"));
    // One that is near enough gets what was changed meanwhile.
    dataplane.held.lock().unwrap().status.version = "0.2.0".to_owned();
    programmed(&dataplane, &[80, 81, 82]).await;
    control.in_sync().await;
}
