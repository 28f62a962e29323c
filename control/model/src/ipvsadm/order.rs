//! The order of services and servers in lists, which is ipvsadm's even where it is odd.

use std::net::IpAddr;

use crate::state::{Server, ServiceKey};

pub(super) fn compare_services(a: ServiceKey, b: ServiceKey) -> i32 {
    let (ServiceKey::Address { protocol, address, port }, ServiceKey::Address { .. }) = (a, b) else {
        return a.cmp(&b) as i32;
    };
    let protocol = i32::from(protocol.number()) - b.protocol().map_or(0, |p| i32::from(p.number()));
    let address = b.address().map_or(0, |other| compare_addresses(address, other));
    let port = i32::from(port) - b.port().map_or(0, i32::from);
    [protocol, address, port].into_iter().find(|order| *order != 0).unwrap_or(0)
}

pub(super) fn compare_servers(a: &Server, b: &Server) -> i32 {
    let address = compare_addresses(a.key.address, b.key.address);
    if address != 0 { address } else { i32::from(a.key.port) - i32::from(b.key.port) }
}

/// ipvsadm subtracts addresses as 32-bit numbers and looks at the sign, so that 192.168.0.1 comes before
/// 10.0.0.1. People compare and parse these lists: the order is kept.
fn compare_addresses(a: IpAddr, b: IpAddr) -> i32 {
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => u32::from(a).wrapping_sub(u32::from(b)).cast_signed(),
        (a, b) => a.cmp(&b) as i32,
    }
}

/// Top-down merge sort as in the C library's qsort: that comparison is no total order, so how it is sorted
/// shows in the result.
pub(super) fn sort_as_ipvsadm<T: Copy>(items: &mut [T], compare: impl Fn(&T, &T) -> i32 + Copy) {
    if items.len() < 2 {
        return;
    }
    let (left, right) = items.split_at_mut(items.len() / 2);
    sort_as_ipvsadm(left, compare);
    sort_as_ipvsadm(right, compare);
    let mut merged = Vec::with_capacity(left.len() + right.len());
    let (mut left, mut right) = (&left[..], &right[..]);
    while let ([a, ..], [b, ..]) = (left, right) {
        let from = if compare(a, b) <= 0 { &mut left } else { &mut right };
        merged.push(from[0]);
        *from = &from[1..];
    }
    merged.extend_from_slice(left);
    merged.extend_from_slice(right);
    items.copy_from_slice(&merged);
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::state::{Forward, ServerKey};

    fn servers(newest_first: &[&str]) -> Vec<Server> {
        let server = |text: &&str| {
            let end: SocketAddr = text.parse().unwrap();
            Server::new(ServerKey { address: end.ip(), port: end.port() }, Forward::Nat)
        };
        newest_first.iter().map(server).collect()
    }

    // Recorded from ipvsadm 1.31 on Debian 12.
    #[test]
    fn the_order_is_ipvsadms_even_where_it_is_odd() {
        let five = ["100.64.0.9:80", "192.168.0.9:79", "192.168.0.9:8080", "192.168.0.9:80", "10.0.0.9:80"];
        let sorted = ["100.64.0.9:80", "192.168.0.9:79", "192.168.0.9:80", "192.168.0.9:8080", "10.0.0.9:80"];
        let six = ["10.0.0.1:80", five[0], five[1], five[2], five[3], five[4]];
        let sorted_six = [
            "192.168.0.9:80",
            "192.168.0.9:8080",
            "10.0.0.1:80",
            "10.0.0.9:80",
            "100.64.0.9:80",
            "192.168.0.9:79",
        ];
        for (given, wanted) in [(&five[..], &sorted[..]), (&six[..], &sorted_six[..])] {
            let given = servers(given);
            let mut order: Vec<&Server> = given.iter().collect();
            sort_as_ipvsadm(&mut order, |a, b| compare_servers(a, b));
            let names: Vec<String> = order.iter().map(|s| s.key.to_string()).collect();
            assert_eq!(names, wanted);
        }
    }
}
