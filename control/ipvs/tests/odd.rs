//! Datagrams that nobody should send: noise, and good requests with bytes changed.

use std::fs;
use std::path::Path;

use proptest::prelude::*;

// Public for the fuzz package, which this is not.
#[allow(unreachable_pub)]
#[path = "../../../fuzz/src/netlink.rs"]
mod netlink;

/// Every request that there is, one behind the other.
fn good() -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/regressions/netlink/every-request");
    fs::read(path).expect("it is there")
}

proptest! {
    #[test]
    fn noise_does_no_harm(noise in proptest::collection::vec(any::<u8>(), 0..2000)) {
        netlink::run(&noise);
    }

    #[test]
    fn good_requests_with_bytes_changed_do_no_harm(
        from in any::<prop::sample::Index>(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let whole = good();
        // From the beginning of a message on, some of them.
        let starts: Vec<usize> = fulcrum_ipvs::messages(&whole)
            .scan(0, |at, message| {
                let start = *at;
                *at += message.bytes().len().next_multiple_of(4);
                Some(start)
            })
            .collect();
        let start = starts[from.index(starts.len())];
        let mut some = whole[start..whole.len().min(start + 1000)].to_vec();
        for (at, byte) in changes {
            let at = at.index(some.len());
            some[at] = byte;
        }
        netlink::run(&some);
    }
}
