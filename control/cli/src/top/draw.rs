//! How it looks: three lines about the whole, the table, a line of keys. Made for 80 columns.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Clear, Paragraph};

use super::View;
use super::number::{percent, short};
use super::sample::sum;
use super::screen::Screen;
use super::tables::{Column, Table};
use crate::status::duration;
use crate::table::counted;

/// Characters of a number.
const NUMBER: usize = 7;
/// Characters of words at least, before columns are left out for them.
const WORDS: usize = 18;

const HELP: &[&str] = &[
    "1 2 3 4 5, Tab   services, servers, workers, ports, drops",
    "Enter, Esc       into a service: its servers; and back",
    "Up Down PgUp PgDn Home End   mark a row",
    "< >, Left Right  sort by another column; r: the other way round",
    "/                filter: rows that contain a text; Esc lets it go",
    "p, Space         pause",
    "q, Ctrl-C        quit",
    "",
    "Rates of services and servers are the data plane's estimates over some",
    "seconds, as ipvsadm -L --rate has them; others are of one interval.",
    "B/s are bytes, p/s packets. Columns that do not fit are left out:",
    "make the terminal wider.",
];

/// Draws it all.
pub(super) fn draw(frame: &mut Frame<'_>, screen: &mut Screen) {
    let [head, tabs, body, foot] = Layout::vertical([
        Constraint::Length(3),
        Constraint::Length(1),
        Constraint::Min(1),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(Paragraph::new(about(screen)), head);
    frame.render_widget(Paragraph::new(views(screen)), tabs);
    table(frame, body, screen);
    frame.render_widget(Paragraph::new(keys(screen)), foot);
    if screen.help {
        help(frame, frame.area());
    }
}

fn bold() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}

fn reversed() -> Style {
    Style::new().add_modifier(Modifier::REVERSED)
}

/// The whole in three lines.
fn about(screen: &Screen) -> Vec<Line<'static>> {
    let alarm = |text: String| Span::styled(text, Style::new().fg(Color::Red).add_modifier(Modifier::BOLD));
    let shown = &screen.shown;
    // What matters most comes first: a narrow terminal cuts the end.
    let mut first = vec![Span::styled("fulcrum top", bold())];
    if screen.paused {
        first.push(Span::styled("  PAUSED", bold()));
    }
    match (&screen.trouble, &shown.now) {
        (Some(_), _) => first.push(alarm("  no control; what follows is old".to_owned())),
        (None, None) => first.push(Span::raw("  …")),
        (None, Some(now)) => {
            let control = now.status.control.clone().unwrap_or_default();
            match shown.dataplane() {
                None => first.push(alarm("  no data plane".to_owned())),
                Some(_) if !shown.is_in_sync() => first.push(alarm("  not in sync".to_owned())),
                Some(_) => {}
            }
            if control.servers_down > 0 {
                first.push(alarm(format!("  {} down", counted(control.servers_down, "server"))));
            }
            first.push(Span::raw(format!("  control up {}", duration(control.uptime_ms))));
            if let Some(dataplane) = shown.dataplane() {
                first.push(Span::raw(format!(", data plane up {}", duration(dataplane.uptime_ms))));
            }
        }
    }
    if let Some(trouble) = &screen.trouble {
        return vec![Line::from(first), Line::from(trouble.clone()), Line::default()];
    }
    let Some(now) = &shown.now else { return vec![Line::from(first)] };
    let total = now.counters.total.unwrap_or_default();
    let rate = |number: u64| short(number as f64);
    let second = format!(
        "{} conn/s   in {} p/s {} B/s   out {} p/s {} B/s",
        rate(total.cps),
        rate(total.in_pps),
        rate(total.in_bps),
        rate(total.out_pps),
        rate(total.out_bps),
    );
    let third = shown.dataplane().map_or_else(String::new, |dataplane| {
        let workers = &dataplane.workers;
        let busiest = workers.iter().map(|worker| worker.busy).fold(0.0, f64::max);
        let sessions: u64 = workers.iter().map(|worker| worker.sessions).sum();
        let limit: u64 = workers.iter().map(|worker| worker.session_limit).sum();
        let drops = short(shown.rate(|dataplane| Some(sum(&dataplane.drops))));
        format!(
            "{} workers, busiest {}   {} of {} sessions   {drops} drops/s",
            workers.len(),
            percent(busiest),
            short(sessions as f64),
            short(limit as f64),
        )
    });
    vec![Line::from(first), Line::from(second), Line::from(third)]
}

fn views(screen: &Screen) -> Line<'static> {
    let mut spans = Vec::new();
    for (at, view) in View::ALL.into_iter().enumerate() {
        let style = if view == screen.view { reversed() } else { Style::new() };
        spans.push(Span::styled(format!(" {} {} ", at + 1, view.name()), style));
    }
    if let Some(service) = &screen.service {
        spans.push(Span::styled(format!("  of {service}"), bold()));
    }
    if screen.typing || !screen.filter.is_empty() {
        let cursor = if screen.typing { "_" } else { "" };
        spans.push(Span::styled(format!("  /{}{cursor}", screen.filter), bold()));
    }
    Line::from(spans)
}

fn keys(screen: &Screen) -> Line<'static> {
    match screen.typing {
        true => Line::from("type a text   Enter keeps it   Esc lets it go"),
        false => {
            Line::from("q quit  h help  1-5 views  Enter servers  < > sort  r reverse  / filter  p pause")
        }
    }
}

fn table(frame: &mut Frame<'_>, area: Rect, screen: &mut Screen) {
    let table = screen.table();
    let sorted = screen.column(&table);
    let room = usize::from(area.height).saturating_sub(1);
    screen.page = room;
    let marked = screen.position(&table);
    // The marked row is always in sight.
    let first = marked.map_or(0, |at| (at + 1).saturating_sub(room));
    let columns = fitting(&table, usize::from(area.width));
    let mut lines = vec![head(&columns, sorted)];
    for (at, row) in table.rows.iter().enumerate().skip(first).take(room) {
        let text = columns.iter().map(|(at, column, width)| cell(column, &row[*at].text(), *width));
        let text = text.collect::<Vec<_>>().join(" ");
        let style = if Some(at) == marked { reversed() } else { Style::new() };
        lines.push(Line::styled(format!("{text:<width$}", width = usize::from(area.width)), style));
    }
    if table.rows.is_empty() {
        lines.push(Line::from("  nothing"));
    }
    frame.render_widget(Paragraph::new(lines), area);
}

fn head(columns: &[(usize, &Column, usize)], sorted: usize) -> Line<'static> {
    let mut spans = Vec::new();
    for (at, column, width) in columns {
        let style = if *at == sorted { bold().add_modifier(Modifier::UNDERLINED) } else { bold() };
        if !spans.is_empty() {
            spans.push(Span::raw(" "));
        }
        spans.push(Span::styled(cell(column, column.head, *width), style));
    }
    Line::from(spans)
}

/// The columns that fit, with their widths: those on the right give way, words share what is left.
fn fitting(table: &Table, width: usize) -> Vec<(usize, &Column, usize)> {
    let longest = |at: usize| {
        let cells = table.rows.iter().map(|row| row[at].text().chars().count());
        cells.max().unwrap_or(0).max(table.columns[at].head.len())
    };
    let wish: Vec<usize> = (0..table.columns.len())
        .map(|at| if table.columns[at].text { longest(at) } else { NUMBER })
        .collect();
    let least = |at: usize| if table.columns[at].text { wish[at].min(WORDS) } else { NUMBER };
    let mut count = table.columns.len();
    while count > 1 && (0..count).map(least).sum::<usize>() + count - 1 > width {
        count -= 1;
    }
    let mut spare = width.saturating_sub((0..count).map(least).sum::<usize>() + count - 1);
    let column = |at: usize| {
        let more = (wish[at] - least(at)).min(spare);
        spare -= more;
        (at, &table.columns[at], least(at) + more)
    };
    (0..count).map(column).collect()
}

/// A text in a column: words to the left, numbers to the right, what is too long cut.
fn cell(column: &Column, text: &str, width: usize) -> String {
    let text = match text.chars().count() > width {
        true => text.chars().take(width.saturating_sub(1)).chain(['…']).collect(),
        false => text.to_owned(),
    };
    if column.text { format!("{text:<width$}") } else { format!("{text:>width$}") }
}

fn help(frame: &mut Frame<'_>, area: Rect) {
    let [area] = Layout::vertical([Constraint::Length(HELP.len() as u16 + 2)]).areas(area);
    frame.render_widget(Clear, area);
    let lines = [Line::styled("Keys (any of them closes this)", bold()), Line::default()];
    let lines: Vec<Line<'_>> = lines.into_iter().chain(HELP.iter().copied().map(Line::from)).collect();
    frame.render_widget(Paragraph::new(lines), area);
}
