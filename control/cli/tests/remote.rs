//! `fulcrum` and `ipvsadm` on another machine than the director: TLS, and what they say when it does not work.

#[path = "../../manager/tests/support/certificates.rs"]
mod certificates;
mod support;

use std::net::TcpListener;
use std::process::Command;

use certificates::Authority;
use support::{CONFIG, Room};

#[test]
fn the_command_line_works_from_another_machine() {
    let mut room = Room::new();
    let authority = Authority::new(&room.path(""), "ours");
    authority.sign("server", "DNS:localhost");
    authority.sign("boss", "DNS:boss.test");
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let path = |name: &str| authority.path(name).display().to_string();
    let text = format!(
        "[control.remote]\nlisten = \"127.0.0.1:{port}\"\ncertificate = \"{}\"\nkey = \"{}\"\nclient-ca = \"{}\"\n\
         [[control.remote.client]]\nname = \"boss.test\"\nrole = \"admin\"\n{CONFIG}",
        path("server.pem"),
        path("server.key"),
        path("ca.pem"),
    );
    std::fs::write(room.path("fulcrum.toml"), text).unwrap();
    room.start();

    let door = format!("--director localhost:{port}");
    let files =
        format!("--ca {} --certificate {} --key {}", path("ca.pem"), path("boss.pem"), path("boss.key"));
    let listed = room.fulcrum(&format!("{door} {files} service list"));
    assert!(listed.contains("tcp 172.16.100.9:80"), "{listed}");

    let link = room.path("ipvsadm");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_fulcrum"), &link).unwrap();
    let done = Command::new(link)
        .arg("-Ln")
        .env("FULCRUM_DIRECTOR", format!("localhost:{port}"))
        .env("FULCRUM_CA", path("ca.pem"))
        .env("FULCRUM_CERTIFICATE", path("boss.pem"))
        .env("FULCRUM_KEY", path("boss.key"))
        .output()
        .unwrap();
    let listed = String::from_utf8(done.stdout).unwrap();
    assert!(listed.contains("TCP  172.16.100.9:80 wrr"), "{listed}");

    let said = room.refused(2, &format!("{door} --ca {} status", path("ca.pem")));
    assert!(said.contains("--director needs --certificate FILE"), "{said}");
    let said = room.refused(2, &format!("--director not/a/host {files} status"));
    assert!(said.contains("right is such as lb1.example.org:4433"), "{said}");
    let said = room.refused(1, &format!("--director localhost:1 {files} status"));
    assert!(said.contains("cannot reach fulcrum-control at localhost:1: Connection refused"), "{said}");
    // The certificate is of another name.
    let said = room.refused(1, &format!("--director 127.0.0.1:{port} {files} status"));
    assert!(
        said.contains("cannot reach fulcrum-control at 127.0.0.1") && said.contains("certificate"),
        "{said}"
    );
}
