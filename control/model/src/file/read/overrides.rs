//! `[[override]]`.

use super::super::table::Table;
use super::service::key;
use crate::state::{ClientAddress, Override};
use crate::validate::MSS;

pub(super) fn over(table: &mut Table<'_>) -> Option<Override> {
    let service = key(table);
    let full_nat = table.word("forward", &[("fullnat", true)]).unwrap_or_default();
    let local_pool = table.text("local-pool");
    let interface = table.text("interface");
    let mss = table.number("mss", MSS);
    let client_address = table.word("client-address", &ClientAddress::ALL.map(|way| (way.name(), way)));
    Some(Override { service: service?, full_nat, local_pool, interface, mss, client_address })
}
