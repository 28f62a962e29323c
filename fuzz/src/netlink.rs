//! Datagrams of tools that take the director for a kernel.

use std::net::IpAddr;

use fulcrum_ipvs::{Question, Record, Request, messages, proc};
use fulcrum_model::ipvsadm::list::ListedService;
use fulcrum_model::{Edit, Forward, Protocol, Server, ServerKey, Service, ServiceKey, State, validate};

/// Whatever comes, what is asked leaves a valid state, and every answer is a row of messages that fill their datagram.
pub fn run(data: &[u8]) {
    let mut state = base();
    for message in messages(data) {
        let answers = match message.question(true) {
            Ok(Question::Ipvs(request)) if request.changes() => {
                let edits = request.edits(&state);
                let done = edits.map(|edits| state.apply_all(&edits));
                assert_eq!(validate::state(&state), []);
                vec![match done {
                    Ok(Ok(())) => message.ack(),
                    Ok(Err((_, error))) => message.refusal((&error).into()),
                    Err(why) => message.refusal(why),
                }]
            }
            Ok(Question::Ipvs(request)) => {
                let listed: Vec<_> = state.services.iter().cloned().map(ListedService::idle).collect();
                let wanted = match request {
                    Request::Servers(name) => name.flatten(),
                    _ => None,
                };
                let records = proc::in_order(&listed).flat_map(|service| {
                    let servers = service.servers.iter().filter(|_| Some(service.service.key) == wanted);
                    std::iter::once(Record::Service(service)).chain(servers.map(Record::Server))
                });
                message.dump(records.collect()).collect()
            }
            Ok(Question::Family(known)) => vec![message.reply(&Record::Family(known))],
            Ok(_) => vec![message.ack()],
            Err(why) => vec![message.refusal(why)],
        };
        for answer in answers {
            let whole: usize = messages(&answer).map(|part| part.bytes().len().next_multiple_of(4)).sum();
            assert_eq!(whole, answer.len());
        }
    }
}

/// A service with a server, so that there is something to change.
fn base() -> State {
    let key = ServiceKey::new(Protocol::Tcp, IpAddr::from([10, 0, 0, 1]), 80);
    let server = ServerKey { address: IpAddr::from([10, 1, 0, 1]), port: 8080 };
    let mut state = State::default();
    let edits =
        [Edit::AddService(Service::new(key, "rr")), Edit::AddServer(key, Server::new(server, Forward::Nat))];
    match state.apply_all(&edits) {
        Ok(()) => state,
        Err((_, error)) => panic!("{error}"),
    }
}
