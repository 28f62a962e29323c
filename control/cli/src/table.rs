//! Listings: the same rows as aligned text or as JSON.

use std::io::{self, Write};

use serde::Serialize;

use crate::output::Output;

/// One row of a listing.
pub trait Row: Serialize {
    /// Column heads.
    const HEAD: &'static [&'static str];

    /// The cells, one for each head.
    fn cells(&self) -> Vec<String>;
}

/// Prints rows as a table, or as a JSON array.
pub fn print<R: Row>(out: &mut Output<'_>, json: bool, rows: &[R]) -> io::Result<()> {
    if json { out.json(&rows) } else { print_indented(out, "", rows) }
}

/// Prints rows as a table that begins at `indent`.
pub fn print_indented<R: Row>(out: &mut Output<'_>, indent: &str, rows: &[R]) -> io::Result<()> {
    let rows: Vec<Vec<String>> = rows.iter().map(Row::cells).collect();
    let width = |at: usize| {
        rows.iter().map(|row| row[at].chars().count()).chain([R::HEAD[at].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..R::HEAD.len()).map(width).collect();
    line(out, indent, R::HEAD.iter().copied(), &widths)?;
    for row in &rows {
        line(out, indent, row.iter().map(String::as_str), &widths)?;
    }
    Ok(())
}

/// One line of cells in columns of these widths, without blanks at its end.
pub fn line<'a>(
    out: &mut Output<'_>,
    indent: &str,
    cells: impl Iterator<Item = &'a str>,
    widths: &[usize],
) -> io::Result<()> {
    let cells: Vec<String> =
        std::iter::zip(cells, widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
    writeln!(out, "{indent}{}", cells.join("  ").trim_end())
}

/// A value, or `-` for none.
pub fn or_dash(value: Option<impl std::fmt::Display>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// Values with blanks between, or `-` for none.
pub fn joined(values: &[impl std::fmt::Display]) -> String {
    if values.is_empty() {
        return "-".to_owned();
    }
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

/// So many of something, such as `1 service` or `3 services`.
pub fn counted(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Pair(String, u32);

    impl Row for Pair {
        const HEAD: &'static [&'static str] = &["NAME", "N"];

        fn cells(&self) -> Vec<String> {
            vec![self.0.clone(), self.1.to_string()]
        }
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut text = Vec::new();
        let rows = [Pair("a".into(), 1), Pair("longer".into(), 22)];
        print(&mut Output::new(&mut text), false, &rows).unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), "NAME    N\na       1\nlonger  22\n");
    }

    #[test]
    fn an_empty_listing_is_its_head_or_an_empty_array() {
        let mut text = Vec::new();
        print::<Pair>(&mut Output::new(&mut text), false, &[]).unwrap();
        print::<Pair>(&mut Output::new(&mut text), true, &[]).unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), "NAME  N\n[]\n");
    }
}
