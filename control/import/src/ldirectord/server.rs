//! Real servers and fallbacks.

use fulcrum_model::{AddressRange, Admin, Forward, Server, ServerKey, Service};

use super::check::{Kind, Negotiation};
use super::text::Directive;
use super::{Habits, address_port};
use crate::draft::Draft;
use crate::words::words_of;

/// Servers that one line may stand for.
const MOST: u64 = 65_536;

/// `real = HOST[->HOST][:PORT] gate|masq|ipip [WEIGHT] ["REQUEST", "RECEIVE"] ["<l:N>"] ["<u:N>"]`
pub(super) fn real(
    draft: &mut Draft,
    habits: &Habits,
    negotiation: &Negotiation,
    service: &mut Service,
    directive: &Directive,
) {
    let words = words_of(&directive.value.replace("\",", "\" ").replace(',', " "));
    let mut words = words.iter().map(String::as_str);
    let Some((range, port)) = words.next().and_then(hosts) else {
        let why = "neither an address nor a range of them; names of hosts are not looked up";
        return draft.leave_out(&directive.place, directive.text(), why);
    };
    let Some(forward) = words.next().and_then(method) else {
        return draft.leave_out(
            &directive.place,
            directive.text(),
            "how it gets packets is gate, masq or ipip",
        );
    };
    let mut model = Server::new(ServerKey { address: range.first, port: 0 }, forward);
    let mut asked = Vec::new();
    for word in words {
        let limit = |kind: &str| word.strip_prefix(kind)?.strip_suffix('>')?.parse().ok();
        match (limit("<l:"), limit("<u:"), word.parse()) {
            (Some(lower), ..) => model.lower_threshold = lower,
            (_, Some(upper), _) => model.upper_threshold = upper,
            (.., Ok(weight)) if asked.is_empty() => model.weight = weight,
            _ => asked.push(word.to_owned()),
        }
    }
    let mut negotiation = negotiation.clone();
    let mut asked = asked.into_iter();
    negotiation.request = asked.next().or(negotiation.request);
    negotiation.receive = asked.next().or(negotiation.receive);
    let check = negotiation.check(draft, habits, service.key, port);
    let name = check.and_then(|check| draft.check(&directive.place, &directive.text(), check));
    model.health.checks = Some(name.into_iter().collect());
    if matches!(negotiation.kind, Kind::Off) {
        model.admin = Admin::Disabled;
    }
    for address in range.iter() {
        let key = ServerKey { address, port: port_of(service, forward, port) };
        service.servers.push(Server { key, ..model.clone() });
    }
}

/// `fallback = HOST[:PORT] [gate|masq|ipip]`
pub(super) fn fallback(draft: &mut Draft, service: &Service, directive: &Directive) -> Option<Server> {
    let mut words = directive.value.split_whitespace();
    let Some((address, port)) = words.next().and_then(address_port) else {
        let why = "this is not an address; names of hosts are not looked up";
        draft.leave_out(&directive.place, directive.text(), why);
        return None;
    };
    let forward = words.next().map_or(Some(Forward::Dr), method);
    if forward.is_none() {
        draft.leave_out(&directive.place, directive.text(), "how it gets packets is gate, masq or ipip");
    }
    let forward = forward?;
    Some(Server::new(ServerKey { address, port: port_of(service, forward, port) }, forward))
}

/// The port at a server: where packets go on as they are, the service's.
fn port_of(service: &Service, forward: Forward, own: Option<u16>) -> u16 {
    let asked = service.key.port();
    let port = match forward {
        Forward::Dr | Forward::Tun => asked.or(own),
        _ => own.or(asked),
    };
    port.unwrap_or(0)
}

fn method(word: &str) -> Option<Forward> {
    match word {
        "gate" => Some(Forward::Dr),
        "masq" => Some(Forward::Nat),
        "ipip" => Some(Forward::Tun),
        _ => None,
    }
}

/// `HOST[:PORT]`, or `HOST->HOST[:PORT]` for all between them.
fn hosts(text: &str) -> Option<(AddressRange, Option<u16>)> {
    // Two colons, which ldirectord's own example has.
    let text = if text.contains('[') { text.to_owned() } else { text.replace("::", ":") };
    let (first, last) = text.split_once("->").unwrap_or((&text, &text));
    let ((first, _), (last, port)) = (address_port(first)?, address_port(last)?);
    let range = AddressRange { first, last };
    let good = first.is_ipv4() == last.is_ipv4() && first <= last && range.len() <= MOST;
    good.then_some((range, port))
}
