//! Counters of things that have numbers: where the packet path finds them without asking the thing itself.
//!
//! The cells of one worker lie side by side, a cache line each, in chunks that never move. A snapshot has a
//! [`CellTable`] of them by number; what carries its counters with it has [`Cells`], the same cells of one number
//! for all workers. A [`Slab`] makes both, and grows.

use std::sync::Arc;

use crate::counters::{Counter, DestinationCells, Traffic};

/// Cells of a chunk.
const CHUNK: usize = 1024;

/// One cell on a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Line<T>(T);

const _: () = assert!(size_of::<Line<DestinationCells>>() == 64, "a packet touches one line of its server");

/// The cells of one worker for some numbers in a row.
type Chunk<T> = Arc<[Line<T>; CHUNK]>;

/// The same numbers' chunks of all workers.
type Column<T> = Arc<[Chunk<T>]>;

/// What is counted of one thing.
pub trait Cell: Default {
    /// Makes the counts those of something new. Only while no worker counts.
    fn clear(&self);
}

impl Cell for Traffic {
    fn clear(&self) {
        let Traffic { connections, in_packets, in_bytes, out_packets, out_bytes } = self;
        [connections, in_packets, in_bytes, out_packets, out_bytes].iter().for_each(|counter| counter.set(0));
    }
}

impl Cell for DestinationCells {
    fn clear(&self) {
        let DestinationCells { traffic, active, inactive, persistent } = self;
        traffic.clear();
        [active, inactive, persistent].iter().for_each(|counter| counter.set(0));
    }
}

/// Cells by number, for as many numbers as are asked for.
#[derive(Debug)]
pub struct Slab<T> {
    columns: Vec<Column<T>>,
    table: CellTable<T>,
}

impl<T: Cell> Slab<T> {
    /// For `workers` workers.
    pub fn new(workers: usize) -> Slab<T> {
        Slab { columns: Vec::new(), table: CellTable((0..workers).map(|_| Vec::new()).collect()) }
    }

    /// The cells of a number that is given out anew, all zero. No worker may have it in use.
    pub fn begin(&mut self, number: u32) -> Cells<T> {
        let number = number as usize;
        while self.columns.len() <= number / CHUNK {
            self.grow();
        }
        let cells = Cells { column: self.columns[number / CHUNK].clone(), index: number % CHUNK };
        cells.iter().for_each(T::clear);
        cells
    }

    /// The cells of all numbers given out so far, for a snapshot.
    pub fn table(&self) -> CellTable<T> {
        self.table.clone()
    }

    fn grow(&mut self) {
        let column: Column<T> = self.table.0.iter().map(|_| chunk()).collect();
        let longer = self.table.0.iter().zip(column.iter()).map(|(chunks, new)| {
            let mut chunks = chunks.clone();
            chunks.push(new.clone());
            chunks
        });
        self.table = CellTable(longer.collect());
        self.columns.push(column);
    }
}

fn chunk<T: Default>() -> Chunk<T> {
    let cells: Arc<[Line<T>]> = (0..CHUNK).map(|_| Line::default()).collect();
    cells.try_into().unwrap_or_else(|_| unreachable!("it has as many as it is given"))
}

/// Cells by worker and number.
#[derive(Debug)]
pub struct CellTable<T>(Arc<[Vec<Chunk<T>>]>);

impl<T> CellTable<T> {
    /// The cells of one worker: `None` beyond the workers there are.
    #[inline]
    pub fn of(&self, worker: usize) -> Option<WorkerCells<'_, T>> {
        self.0.get(worker).map(|chunks| WorkerCells {
            first: chunks.first().map(|chunk| chunk.as_slice()).unwrap_or_default(),
            chunks,
        })
    }
}

impl<T> Clone for CellTable<T> {
    fn clone(&self) -> CellTable<T> {
        CellTable(self.0.clone())
    }
}

impl<T> Default for CellTable<T> {
    fn default() -> CellTable<T> {
        CellTable(Arc::new([]))
    }
}

/// The cells of one worker by number.
#[derive(Debug)]
pub struct WorkerCells<'a, T> {
    /// Of the first chunk, where most have all of theirs.
    first: &'a [Line<T>],
    chunks: &'a [Chunk<T>],
}

impl<T> Clone for WorkerCells<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for WorkerCells<'_, T> {}

impl<'a, T> WorkerCells<'a, T> {
    /// The cell of a number; `None` when no such number was given out.
    #[inline(always)]
    pub fn get(self, number: u32) -> Option<&'a T> {
        match self.first.get(number as usize) {
            Some(line) => Some(&line.0),
            None => self.get_behind(number),
        }
    }

    /// The same of another chunk: another load, from a table short enough to stay in the cache.
    #[inline]
    fn get_behind(self, number: u32) -> Option<&'a T> {
        let number = number as usize;
        self.chunks.get(number / CHUNK).map(|chunk| &chunk[number % CHUNK].0)
    }

    /// Asks for the cell of a number ahead of its use.
    #[inline]
    pub fn prefetch(self, number: u32) {
        if let Some(cell) = self.get(number) {
            fulcrum_machine::prefetch(cell);
        }
    }
}

/// The cells of one number, of all workers.
#[derive(Debug)]
pub struct Cells<T> {
    column: Column<T>,
    index: usize,
}

impl<T: Default> Cells<T> {
    /// Cells for `workers` workers that no table has.
    pub fn new(workers: usize) -> Cells<T> {
        Cells { column: (0..workers).map(|_| chunk()).collect(), index: 0 }
    }
}

impl<T> Cells<T> {
    /// The cell of `worker`, which must be one of those they were made for.
    #[inline]
    pub fn of(&self, worker: usize) -> &T {
        &self.column[worker][self.index].0
    }

    /// All cells.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.column.iter().map(|chunk| &chunk[self.index].0)
    }

    /// The sum of one counter over the workers (wrapping, so that a count that moved between workers is right).
    #[inline]
    pub fn sum(&self, counter: impl Fn(&T) -> &Counter) -> u64 {
        self.iter().fold(0u64, |sum, cell| sum.wrapping_add(counter(cell).get()))
    }

    /// Whether these are the same cells, not only equal ones.
    #[inline]
    pub fn same(&self, other: &Cells<T>) -> bool {
        self.index == other.index && Arc::ptr_eq(&self.column, &other.column)
    }
}

impl<T> Clone for Cells<T> {
    fn clone(&self) -> Cells<T> {
        Cells { column: self.column.clone(), index: self.index }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_the_same_cells_in_every_table_and_by_hand() {
        let mut slab = Slab::<Traffic>::new(2);
        let first = slab.begin(3);
        let early = slab.table();
        let far = slab.begin(5_000);
        let late = slab.table();
        first.of(1).in_packets.add(7);
        far.of(0).out_bytes.add(9);
        for table in [&early, &late] {
            assert_eq!(table.of(1).unwrap().get(3).unwrap().in_packets.get(), 7);
            assert_eq!(table.of(0).unwrap().get(3).unwrap().in_packets.get(), 0);
        }
        assert_eq!(late.of(0).unwrap().get(5_000).unwrap().out_bytes.get(), 9);
        assert!(early.of(0).unwrap().get(5_000).is_none());
        assert!(late.of(0).unwrap().get(u32::MAX).is_none());
        assert!(late.of(2).is_none());
        assert_eq!(first.sum(|cell| &cell.in_packets), 7);
    }

    #[test]
    fn a_number_given_out_again_counts_from_nothing() {
        let mut slab = Slab::<DestinationCells>::new(2);
        let before = slab.begin(0);
        before.of(0).traffic.connections.add(1);
        before.of(1).persistent.sub_one();
        before.of(0).persistent.add(1);
        let other = slab.begin(1);
        other.of(0).active.add(1);
        let again = slab.begin(0);
        assert!(again.same(&before) && !again.same(&other) && !again.same(&Cells::new(2)));
        assert!(again.iter().all(|cell| cell.references() == 0 && cell.traffic.connections.get() == 0));
        assert_eq!(other.of(0).active.get(), 1);
    }

    #[test]
    fn neighbours_of_one_worker_are_neighbours_in_memory() {
        let mut slab = Slab::<DestinationCells>::new(1);
        let at = |cells: &Cells<DestinationCells>| std::ptr::from_ref(cells.of(0)).addr();
        let (first, second) = (slab.begin(10), slab.begin(11));
        assert_eq!(at(&first) % 64, 0);
        assert_eq!(at(&second), at(&first) + 64);
    }
}
