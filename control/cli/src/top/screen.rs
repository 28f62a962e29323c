//! What the keys have chosen: view, order, filter, the row that is marked.

use ratatui::crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::View;
use super::sample::{Sample, Shown};
use super::tables::{Cell, Table};

/// Whether it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    On,
    Quit,
}

/// All that is on the screen.
#[derive(Debug)]
pub(super) struct Screen {
    pub(super) shown: Shown,
    /// Why the last look came to nothing.
    pub(super) trouble: Option<String>,
    pub(super) view: View,
    /// The service whose servers are shown alone.
    pub(super) service: Option<String>,
    pub(super) filter: String,
    /// Keys are the filter's.
    pub(super) typing: bool,
    pub(super) help: bool,
    pub(super) paused: bool,
    /// The column to sort by, when it is not the view's own.
    sort: Option<usize>,
    reverse: bool,
    /// The marked row, by what it is about, and where it was when it was last seen.
    marked: Option<Vec<String>>,
    at: usize,
    /// Rows of the table that fit, as they were drawn last.
    pub(super) page: usize,
}

impl Screen {
    pub(super) fn new(view: View, filter: String) -> Screen {
        Screen {
            shown: Shown::default(),
            trouble: None,
            view,
            service: None,
            filter,
            typing: false,
            help: false,
            paused: false,
            sort: None,
            reverse: false,
            marked: None,
            at: 0,
            page: 10,
        }
    }

    /// A new look, or why there is none: then the last one stays.
    pub(super) fn take(&mut self, sample: Result<Sample, String>) {
        match sample {
            Ok(sample) => {
                self.trouble = None;
                if !self.paused {
                    self.shown = std::mem::take(&mut self.shown).with(sample);
                }
            }
            Err(trouble) => self.trouble = Some(trouble),
        }
    }

    /// The table as chosen.
    pub(super) fn table(&self) -> Table {
        let table = Table::of(self.view, &self.shown, self.service.as_deref()).containing(&self.filter);
        let column = self.column(&table);
        table.sorted(column, self.reverse)
    }

    /// The column that a table is sorted by.
    pub(super) fn column(&self, table: &Table) -> usize {
        self.sort.unwrap_or(table.sorted_by).min(table.columns.len() - 1)
    }

    /// Where the marked row is now.
    pub(super) fn position(&mut self, table: &Table) -> Option<usize> {
        let last = table.rows.len().checked_sub(1)?;
        let known = |marked: &Vec<String>| table.rows.iter().position(|row| self.identity(row) == *marked);
        let at = self.marked.as_ref().and_then(known);
        self.at = at.unwrap_or(self.at.min(last));
        Some(self.at)
    }

    /// Does what a key says.
    pub(super) fn handle(&mut self, event: &Event) -> Flow {
        let Event::Key(KeyEvent {
            code, modifiers, kind: KeyEventKind::Press | KeyEventKind::Repeat, ..
        }) = event
        else {
            // A change of size is drawn by the next turn.
            return Flow::On;
        };
        if modifiers.contains(KeyModifiers::CONTROL) && *code == KeyCode::Char('c') {
            return Flow::Quit;
        }
        if self.help {
            self.help = false;
            return if *code == KeyCode::Char('q') { Flow::Quit } else { Flow::On };
        }
        if self.typing {
            self.type_filter(*code);
            return Flow::On;
        }
        match code {
            KeyCode::Char('q') => return Flow::Quit,
            KeyCode::Char('h' | '?') => self.help = true,
            KeyCode::Char('p' | ' ') => self.paused = !self.paused,
            KeyCode::Char('/') => self.typing = true,
            KeyCode::Char('r') => self.reverse = !self.reverse,
            KeyCode::Char('>') | KeyCode::Right => self.sort_by(1),
            KeyCode::Char('<') | KeyCode::Left => self.sort_by(-1),
            KeyCode::Tab => self.turn(1),
            KeyCode::BackTab => self.turn(View::ALL.len() - 1),
            KeyCode::Char(digit @ '1'..='5') => self.show(View::ALL[*digit as usize - '1' as usize], None),
            KeyCode::Down | KeyCode::Char('j') => self.mark(1),
            KeyCode::Up | KeyCode::Char('k') => self.mark(-1),
            KeyCode::PageDown => self.mark(self.page.max(1) as isize),
            KeyCode::PageUp => self.mark(-(self.page.max(1) as isize)),
            KeyCode::Home => self.mark(isize::MIN),
            KeyCode::End => self.mark(isize::MAX),
            KeyCode::Enter => self.drill_down(),
            KeyCode::Esc | KeyCode::Backspace => self.back(),
            _ => {}
        }
        Flow::On
    }

    fn type_filter(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter => self.typing = false,
            KeyCode::Esc => {
                self.typing = false;
                self.filter.clear();
            }
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char(letter) if self.filter.len() < 100 => self.filter.push(letter),
            _ => {}
        }
    }

    fn show(&mut self, view: View, service: Option<String>) {
        (self.view, self.service) = (view, service);
        (self.sort, self.reverse, self.marked, self.at) = (None, false, None, 0);
    }

    fn turn(&mut self, by: usize) {
        let at = View::ALL.iter().position(|view| *view == self.view).unwrap_or(0);
        self.show(View::ALL[(at + by) % View::ALL.len()], None);
    }

    fn sort_by(&mut self, by: isize) {
        let table = Table::of(self.view, &self.shown, self.service.as_deref());
        let (column, count) = (self.column(&table), table.columns.len());
        self.sort = Some(column.saturating_add_signed(by).min(count - 1));
    }

    fn mark(&mut self, by: isize) {
        let table = self.table();
        let Some(at) = self.position(&table) else { return };
        self.at = at.saturating_add_signed(by).min(table.rows.len() - 1);
        self.marked = Some(self.identity(&table.rows[self.at]));
    }

    /// From a service to its servers.
    fn drill_down(&mut self) {
        let table = self.table();
        if self.view == View::Services
            && let Some(at) = self.position(&table)
        {
            let service = table.rows[at][0].text();
            self.filter.clear();
            self.show(View::Servers, Some(service));
        }
    }

    /// From servers to their service; else the filter is let go.
    fn back(&mut self) {
        match self.service.take() {
            Some(service) => {
                self.show(View::Services, None);
                self.marked = Some(vec![service]);
            }
            None => self.filter.clear(),
        }
    }

    /// What a row is about.
    fn identity(&self, row: &[Cell]) -> Vec<String> {
        let count = if self.view == View::Servers && self.service.is_none() { 2 } else { 1 };
        row.iter().take(count).map(Cell::text).collect()
    }
}
