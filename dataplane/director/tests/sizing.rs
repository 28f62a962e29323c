//! The figures of docs/sizing.md that follow from the session table.

use fulcrum_director::session::Sessions;

const PAGE: &str = include_str!("../../../docs/sizing.md");

fn says(text: &str) {
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words(PAGE).contains(&words(text)), "docs/sizing.md does not say `{text}`");
}

/// 1700000 as `1 700 000`.
fn spaced(number: usize) -> String {
    let digits = number.to_string();
    let grouped = digits.as_bytes().rchunks(3).rev().map(|group| String::from_utf8_lossy(group).into_owned());
    if number < 10_000 { digits } else { grouped.collect::<Vec<_>>().join(" ") }
}

fn mib(bytes: usize) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[test]
fn memory_is_what_the_session_table_takes() {
    let wide = |sessions: usize| Sessions::bytes(sessions) + sessions * Sessions::wide_bytes();
    let each = |bytes: usize| bytes as f64 / f64::from(1 << 20);
    says(&format!("| a session between addresses of IPv4 | {:.1} |", each(Sessions::bytes(1 << 20))));
    says(&format!("| a session with an address of IPv6 | {:.1} |", each(wide(1 << 20))));
    for sessions in [65_536, 1 << 20, 1_700_000, 4_000_000, 10_000_000] {
        let default = if sessions == 1 << 20 { " (the default)" } else { "" };
        let (narrow, wide) = (mib(Sessions::bytes(sessions)), mib(wide(sessions)));
        says(&format!("| {}{default} | {narrow:.1} | {wide:.1} |", spaced(sessions)));
    }
}

#[test]
fn the_example_is_worked_out() {
    let (rate, life, time_wait, workers, servers) = (50_000, 2, 120, 4, 10);
    let sessions = rate * (life + time_wait);
    says(&format!("| sessions at a time | {} |", spaced(sessions)));
    says(&format!("With `tcp-time-wait = 20` they would be {}", spaced(rate * (life + 20))));
    let share = sessions * 11 / 10 / workers;
    let each = share.next_multiple_of(100_000);
    says(&format!("÷ {workers} × 1.1 is {}, so {}.", spaced(share), spaced(each)));
    says(&format!("| `sessions` of each worker | {} |", spaced(each)));
    let (one, all) = (mib(Sessions::bytes(each)), mib(workers * Sessions::bytes(each)).ceil());
    says(&format!("{workers} × {one:.1} MiB = {all} MiB"));
    says(&format!("| memory for sessions | {all} MiB |"));
    let (ports, to_one) = (65_535 - 1024 + 1, rate / servers * (life + time_wait));
    let addresses = to_one as f64 / (ports as f64 * 0.75);
    says(&format!(
        "{} sessions, {} ÷ {} = {addresses:.1}",
        spaced(to_one),
        spaced(to_one),
        spaced(ports * 3 / 4)
    ));
    says(&format!("| local addresses | {} |", addresses.ceil()));
    says(&format!("(of {}, with {workers} workers, {})", spaced(ports), spaced(ports / workers)));
}
