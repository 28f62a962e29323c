//! VIPs as a whole: who released them, what is told of that, and processes that are asked to end.

mod support;

use fulcrum_api::apply_changes;
use fulcrum_api::control::{
    EndRequest, GetStateRequest, ListVipsReply, ListVipsRequest, Process, SetVipsRequest, WithdrawVipsRequest,
};
use fulcrum_api::dataplane::DataplaneStatus;
use fulcrum_model::{Edit, Protocol, Service, ServiceKey, State};
use support::{ControlProcess, DataplaneProcess, Room};
use tonic::Code;

const VIP: [u8; 4] = [10, 0, 0, 9];

async fn running(room: &Room) -> (ControlProcess, DataplaneProcess) {
    let dataplane = DataplaneProcess::start(&room.dataplane(), "a").await;
    dataplane.held.lock().unwrap().status = DataplaneStatus { version: "0.1.0".into(), ..Default::default() };
    let mut control = room.control().await;
    let add = |port| Edit::AddService(Service::new(ServiceKey::new(Protocol::Tcp, VIP.into(), port), "rr"));
    control.edit(&[add(80), add(443)]).await.unwrap();
    control.in_sync().await;
    (control, dataplane)
}

async fn list(control: &mut ControlProcess) -> ListVipsReply {
    control.client.list_vips(ListVipsRequest {}).await.unwrap().into_inner()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_released_a_vip_is_told_and_what_the_data_plane_is_given() {
    let room = Room::new();
    let (mut control, dataplane) = running(&room).await;
    let listed = list(&mut control).await;
    assert_eq!((listed.vips.len(), listed.vips[0].taken, listed.vips[0].services), (1, true, 2));
    assert_eq!((listed.vips[0].by.as_str(), listed.withdrawal, listed.manual), ("", None, false));

    let release = SetVipsRequest { addresses: vec![VIP.to_vec()], taken: false };
    control.client.set_vips(release.clone()).await.unwrap();
    assert!(dataplane.held.lock().unwrap().state.services.iter().all(|service| service.withheld));
    let first = list(&mut control).await.vips.remove(0);
    assert!(!first.taken && first.since_ms.is_some(), "{first:?}");
    assert!(first.by.starts_with("uid ") && first.by.contains(" from socket"), "{}", first.by);
    // Who says it again changes nothing.
    control.client.set_vips(release).await.unwrap();
    assert_eq!(list(&mut control).await.vips[0], first);

    let told = control.status().await.control.unwrap();
    assert_eq!((told.vips, told.vips_released, told.vips_announced), (1, 1, 0));
    let effective = GetStateRequest { effective: true };
    let mut state = State::default();
    apply_changes(&mut state, control.client.get_state(effective).await.unwrap().into_inner().changes)
        .unwrap();
    assert!(state.services.iter().all(|service| service.withheld));
    assert!(control.state().await.services.iter().all(|service| !service.withheld), "it is not desired");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_withdrawal_says_why_and_how_long_and_ends() {
    let room = Room::new();
    let (mut control, _dataplane) = running(&room).await;
    let ask = |milliseconds, why: &str| WithdrawVipsRequest { milliseconds, why: why.to_owned() };
    control.client.withdraw_vips(ask(60_000, "upgrade\n")).await.unwrap();
    let withdrawal = list(&mut control).await.withdrawal.unwrap();
    assert!(withdrawal.why.starts_with("upgrade, by uid "), "{withdrawal:?}");
    assert!((50_000..=60_000).contains(&withdrawal.left_ms), "{withdrawal:?}");
    let told = control.status().await.control.unwrap();
    assert!(told.withdrawn_ms > 0 && told.withdrawn_why == withdrawal.why, "{told:?}");
    control.client.withdraw_vips(ask(0, "")).await.unwrap();
    assert_eq!(list(&mut control).await.withdrawal, None);
    assert_eq!(control.status().await.control.unwrap().withdrawn_ms, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_end_when_they_are_asked_to() {
    let room = Room::new();
    let (mut control, dataplane) = running(&room).await;
    let ask = |process: Process, rehearse| EndRequest { process: process.into(), rehearse };
    let asked = || dataplane.held.lock().unwrap().asked_to_end;
    control.client.end(ask(Process::Dataplane, true)).await.unwrap();
    assert_eq!(asked(), 0);
    control.client.end(ask(Process::Dataplane, false)).await.unwrap();
    assert_eq!(asked(), 1);
    let refused = control.client.end(ask(Process::Unspecified, false)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);

    control.client.end(ask(Process::Control, true)).await.unwrap();
    assert!(control.child.try_wait().unwrap().is_none());
    control.client.end(ask(Process::Control, false)).await.unwrap();
    assert!(control.child.wait().unwrap().success());

    let mut control = room.control().await;
    dataplane.kill();
    let gone = support::until("the data plane to be missed", || {
        let mut client = control.client.clone();
        async move {
            match client.end(ask(Process::Dataplane, true)).await {
                Err(status) => Ok(status),
                Ok(_) => Err(()),
            }
        }
    });
    assert_eq!(gone.await.code(), Code::Unavailable);
    assert!(control.child.try_wait().unwrap().is_none());
}
