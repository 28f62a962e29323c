//! The order of services and servers in lists, which is ipvsadm's even where it is odd.

use std::net::IpAddr;

use crate::state::{Server, ServiceKey};

/// Services by mark after those by address (and before them from 2147483648 on, by the same subtraction as
/// addresses'), IPv4 before IPv6.
pub(super) fn compare_services(a: ServiceKey, b: ServiceKey) -> i32 {
    let marks = a.mark().unwrap_or(0).wrapping_sub(b.mark().unwrap_or(0)).cast_signed();
    let families = a.family().cmp(&b.family()) as i32;
    let (ServiceKey::Address { protocol, address, port }, ServiceKey::Address { .. }) = (a, b) else {
        return first_difference([marks, families]);
    };
    let protocols = i32::from(protocol.number()) - b.protocol().map_or(0, |p| i32::from(p.number()));
    let addresses = b.address().map_or(0, |other| compare_addresses(address, other));
    let ports = i32::from(port) - b.port().map_or(0, i32::from);
    first_difference([families, protocols, addresses, ports])
}

fn first_difference<const N: usize>(differences: [i32; N]) -> i32 {
    differences.into_iter().find(|difference| *difference != 0).unwrap_or(0)
}

pub(super) fn compare_servers(a: &Server, b: &Server) -> i32 {
    let address = compare_addresses(a.key.address, b.key.address);
    if address != 0 { address } else { i32::from(a.key.port) - i32::from(b.key.port) }
}

/// ipvsadm subtracts addresses as 32-bit numbers and looks at the sign, so that 192.168.0.1 comes before
/// 10.0.0.1 and fd00::1 before 64:ff9b::1; of addresses of two families the first 32 bits are compared. People
/// compare and parse these lists: the order is kept.
fn compare_addresses(a: IpAddr, b: IpAddr) -> i32 {
    let mut differences = words(a).into_iter().zip(words(b)).map(|(a, b)| a.wrapping_sub(b).cast_signed());
    let most = if a.is_ipv6() && b.is_ipv6() { 4 } else { 1 };
    differences.by_ref().take(most).find(|difference| *difference != 0).unwrap_or(0)
}

/// An address in 32-bit words, the first of them for IPv4.
fn words(address: IpAddr) -> [u32; 4] {
    let bits = match address {
        IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
        IpAddr::V6(address) => address.to_bits(),
    };
    [96, 64, 32, 0].map(|shift| u32::try_from(bits >> shift & 0xffff_ffff).expect("32 bits"))
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
