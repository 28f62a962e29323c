//! What happens when this process may open no more files; by itself, because all of the process feels it.

use std::sync::Arc;

use fulcrum_health::{Direct, Outcome, Target, Tools, probe};
use fulcrum_model::{Check, CheckKind};
use rustix::process::{Resource, getrlimit, setrlimit};

#[tokio::test]
async fn without_files_nothing_is_known() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let tools = Tools::new(Arc::new(Direct));
    let target = |kind| Target::new(&Check::new("", kind), [127, 0, 0, 1].into(), port, None);
    let program = CheckKind::Exec { program: "/bin/true".into(), arguments: Vec::new() };
    let targets = [target(CheckKind::Tcp), target(CheckKind::Ping), target(program)];
    let mut before = Vec::new();
    for target in &targets {
        before.push(probe(&tools, target).await);
    }
    assert_eq!(before, [Outcome::Good, Outcome::Good, Outcome::Good]);
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, rustix::process::Rlimit { current: Some(3), ..limit }).unwrap();
    let mut after = Vec::new();
    for target in &targets {
        after.push(probe(&tools, target).await);
    }
    setrlimit(Resource::Nofile, limit).unwrap();
    let why = |what: &str| Outcome::Unasked(what.to_owned());
    assert_eq!(
        after,
        [
            why("no socket: too many open files"),
            why("no socket: too many open files"),
            why("/bin/true: too many open files"),
        ]
    );
}
