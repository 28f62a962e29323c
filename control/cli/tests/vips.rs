//! VIPs on the command line: released, withdrawn, and where that shows.

mod support;

use serde_json::json;
use support::Room;

#[test]
fn a_vip_that_is_released_shows_wherever_one_looks() {
    let room = Room::running();
    let listed = room.fulcrum("vip list");
    assert_eq!(
        listed.lines().collect::<Vec<_>>(),
        ["ADDRESS       SERVICES  HELD  ANNOUNCED  NOTE", "172.16.100.9  1         yes   never"]
    );
    room.fulcrum("vip release 172.16.100.9");
    let listed = room.fulcrum("vip list");
    assert!(listed.contains("released  never") && listed.contains(" s ago by uid "), "{listed}");
    let row = &room.json("vip list")[0];
    assert_eq!([&row["taken"], &row["announcements"]], [&json!(false), &json!([])]);
    assert!(row["by"].as_str().is_some_and(|by| by.starts_with("uid ")) && row["since"].is_string(), "{row}");
    assert!(room.fulcrum("status").contains("1 VIP: 1 released\n"));
    // There is no data plane, which is worse.
    let said = room.try_fulcrum("doctor");
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(said.contains("warning  VIP 172.16.100.9: released "), "{said}");
    assert!(said.contains("fulcrum vip take 172.16.100.9"), "{said}");
    room.fulcrum("vip take 172.16.100.9");
    assert!(!room.fulcrum("status").contains("VIP"));

    room.fulcrum("vip withdraw --for 5m --why maintenance");
    assert!(room.fulcrum("vip list").contains("all announcements are withdrawn for "));
    assert!(room.fulcrum("status").contains("more: maintenance, by uid "));
    room.fulcrum("vip withdraw --for 0s");
    assert!(!room.fulcrum("status").contains("withdrawn"));
}
