//! What a kernel was seen to do, done by the director: byte for byte where bytes are not left to chance.
//!
//! Every case runs with one worker, with three, and with three whose devices hash. When one does not hold, the test
//! prints what was expected and what came, decoded, and leaves both as captures.

mod case;
mod datagram;
mod decode;
mod run;

/// Three tests for each file of cases, and one that no file is missing here.
macro_rules! recorded {
    ($($module:ident, $file:literal;)*) => {
        $(mod $module {
            #[test]
            fn one_worker() {
                crate::holds($file, 1, false);
            }

            #[test]
            fn three_workers() {
                crate::holds($file, 3, false);
            }

            #[test]
            fn three_workers_by_hash() {
                crate::holds($file, 3, true);
            }
        })*

        #[test]
        fn every_file_is_tested() {
            let mut files = crate::case::files();
            files.sort();
            let mut tested = vec![$($file),*];
            tested.sort();
            assert_eq!(files, tested);
        }
    };
}

/// Runs the cases of a file and shows what does not hold of any of them.
fn holds(file: &str, workers: u16, by_hash: bool) {
    let cases = case::load(file);
    assert!(!cases.is_empty());
    let faults: Vec<String> = cases.iter().map(|case| run::run(case, workers, by_hash)).collect();
    let failed = faults.iter().filter(|faults| !faults.is_empty()).count();
    assert_eq!(failed, 0, "{failed} of {} cases:\n{}", cases.len(), faults.concat());
}

recorded! {
    associations, "associations";
    choice, "choice";
    dr4, "dr4";
    dr6, "dr6";
    edits, "edits";
    fragments, "fragments";
    ftp, "ftp";
    host, "host";
    ipsec, "ipsec";
    lifetimes, "lifetimes";
    marks, "marks";
    mtu, "mtu";
    nat4_frag, "nat4-frag";
    nat4_icmp, "nat4-icmp";
    nat4_tcp, "nat4-tcp";
    nat4_udp, "nat4-udp";
    nat6_headers, "nat6-headers";
    nat6_icmp, "nat6-icmp";
    nat6_tcp, "nat6-tcp";
    nat6_udp, "nat6-udp";
    odd, "odd";
    odd_marks, "odd-marks";
    odd_services, "odd-services";
    odd6, "odd6";
    odd6_icmp, "odd6-icmp";
    odd6_tunnels, "odd6-tunnels";
    sctp, "sctp";
    sctp_odd, "sctp-odd";
    settings, "settings";
    states, "states";
    tun44_ipip, "tun44-ipip";
    tun44_other, "tun44-other";
    tun46, "tun46";
    tun64, "tun64";
    tun66, "tun66";
}
