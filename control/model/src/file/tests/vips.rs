//! Keys about VIPs.

use super::*;

#[test]
fn announcements_are_read_and_written_and_mistakes_named() {
    let text = "[control]\nannounce-interface = \"dummy0\"\nvips = \"manual\"\n\
                [[service]]\naddress = \"10.0.0.1:80\"\nprotocol = \"tcp\"\nannounce = \"healthy\"\n\
                announce-on = \"dummy1\"\nannounce-after = 0\n";
    let config = Config::parse("f", text).unwrap();
    assert_eq!(
        (config.control.announce_interface.as_str(), config.control.vips),
        ("dummy0", VipOwner::Manual)
    );
    let announcement = &config.state.services[0].announcement;
    assert_eq!(
        (announcement.when, announcement.on.as_deref(), announcement.after),
        (Announce::Healthy, Some("dummy1"), 0)
    );
    assert_eq!(Config::parse("f", &to_toml(&config)).unwrap(), config);

    for (right, wrong, said) in [
        (
            "\"dummy1\"",
            "\"a/b\"",
            "f:8: `a/b` is not the name of an interface of the host, such as \"lo\" or \"dummy0\"",
        ),
        (
            "\"dummy0\"",
            "\"\"",
            "f:2: `` is not the name of an interface of the host, such as \"lo\" or \"dummy0\"",
        ),
        ("after = 0", "after = 3601", "f:9: announce-after of 3601 is out of range; 0 to 3600"),
        ("\"healthy\"", "\"sometimes\"", "f:7: announce"),
        (
            "address = \"10.0.0.1:80\"\nprotocol = \"tcp\"",
            "mark = 7\n",
            "f:7: a service by mark has no VIP that could be announced; leave announce away",
        ),
    ] {
        let error = Config::parse("f", &text.replace(right, wrong)).unwrap_err().to_string();
        assert!(error.starts_with(said), "{error}");
    }
}
