//! `[[snat]]`: read, written, and what is wrong with one.

use super::*;
use crate::{Edit, EditError, Snat, SnatProtocol};

const GROUND: &str = r#"
[[port]]
name = "wan"
device = "eth1"
[[interface]]
name = "wan"
port = "wan"
addresses = ["10.0.0.1/24"]
[[local-pool]]
name = "outside"
interface = "wan"
addresses = ["10.0.0.200"]
"#;

fn rule(body: &str) -> String {
    format!("{GROUND}[[snat]]\nname = \"servers\"\n{body}\n")
}

#[test]
fn a_rule_is_read_and_written() {
    let text = rule(
        "source = \"10.1.0.0/24\"\ndestination = \"0.0.0.0/0\"\nprotocol = \"tcp\"\n\
         destination-ports = \"80,8000-8080\"\npool = \"outside\"\n\
         [[snat]]\nname = \"rest\"\nsource = \"10.1.0.0/16\"\nprotocol = \"icmp\"\nexempt = true",
    );
    let config = Config::parse("f", &text).unwrap();
    let [first, second] = &config.state.snat[..] else { panic!("two rules") };
    assert_eq!((first.pool.as_deref(), first.destination_ports.len()), (Some("outside"), 2));
    assert_eq!((&second.pool, second.protocol), (&None, Some(SnatProtocol::Icmp)));
    assert_eq!(Config::parse("g", &to_toml(&config)).unwrap().state, config.state);
}

#[test]
fn mistakes_are_named() {
    for (body, message) in [
        ("source = \"10.1.0.0/24\"", "[[snat]] has neither; give `pool = NAME`, or `exempt = true`"),
        ("source = \"10.1.0.0/24\"\npool = \"outside\"\nexempt = true", "has both `pool` and `exempt`"),
        ("pool = \"outside\"", "[[snat]] needs `source`"),
        ("source = \"10.1.0.1/24\"\npool = \"outside\"", "10.1.0.0/24 would be right"),
        ("source = \"10.1.0.0/24\"\npool = \"inside\"", "there is no local pool `inside`"),
        ("source = \"fd00:1::/64\"\npool = \"outside\"", "local pool `outside` has no address of ipv6"),
        ("source = \"10.1.0.0/24\"\ndestination = \"::/0\"\nexempt = true", "are of two families"),
        (
            "source = \"10.1.0.0/24\"\nprotocol = \"icmp\"\ndestination-ports = \"80\"\nexempt = true",
            "destination-ports need a protocol",
        ),
    ] {
        let errors = Config::parse("f", &rule(body)).unwrap_err().to_string();
        assert!(errors.contains(message), "{body}: {errors}");
    }
}

#[test]
fn rules_keep_their_order_and_their_pool() {
    let mut state = Config::parse("f", GROUND).unwrap().state;
    let rule = |name: &str| Snat {
        name: name.into(),
        source: "10.1.0.0/24".parse().unwrap(),
        destination: None,
        protocol: None,
        destination_ports: Vec::new(),
        pool: Some("outside".into()),
    };
    state.apply(&Edit::AddSnat(rule("b"), None)).unwrap();
    state.apply(&Edit::AddSnat(rule("a"), Some(0))).unwrap();
    let names: Vec<&str> = state.snat.iter().map(|rule| rule.name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    let exists = state.apply(&Edit::AddSnat(rule("a"), None)).unwrap_err();
    assert_eq!(exists, EditError::Exists("snat rule `a`".into()));
    assert!(state.apply(&Edit::AddSnat(rule("c"), Some(3))).is_err());
    let used = state.apply(&Edit::DeleteLocalPool("outside".into())).unwrap_err();
    assert_eq!(used.to_string(), "local pool `outside` is used by snat rule `a`; take it away there first");
    state.apply(&Edit::DeleteSnat("a".into())).unwrap();
    assert_eq!(
        state.apply(&Edit::DeleteSnat("a".into())).unwrap_err().to_string(),
        "there is no snat rule `a`"
    );
    state.apply(&Edit::DeleteSnat("b".into())).unwrap();
    state.apply(&Edit::DeleteLocalPool("outside".into())).unwrap();
}
