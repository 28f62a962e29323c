//! The one writer: buffered, and deaf once its reader has gone.

use std::io::{self, ErrorKind, Write};

use serde::Serialize;

/// Where a command's output goes. After the reader closed the pipe (`| head`), writing goes on without effect
/// and without error; long listings look at [`Output::closed`] to stop early.
pub struct Output<'a> {
    writer: io::BufWriter<Box<dyn Write + 'a>>,
    closed: bool,
}

impl std::fmt::Debug for Output<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Output").field("closed", &self.closed).finish_non_exhaustive()
    }
}

impl<'a> Output<'a> {
    /// Standard output.
    pub fn stdout() -> Output<'static> {
        Output::new(io::stdout().lock())
    }

    /// Output to any writer.
    pub fn new(writer: impl Write + 'a) -> Output<'a> {
        Output { writer: io::BufWriter::new(Box::new(writer)), closed: false }
    }

    /// Whether nobody reads any more.
    pub fn closed(&self) -> bool {
        self.closed
    }

    /// One value as indented JSON.
    pub fn json(&mut self, value: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *self, value)?;
        self.write_all(b"\n")
    }

    fn unless_closed<T>(&mut self, result: io::Result<T>, instead: T) -> io::Result<T> {
        match result {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.closed = true;
                Ok(instead)
            }
            other => other,
        }
    }
}

impl Write for Output<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.closed {
            return Ok(bytes.len());
        }
        let written = self.writer.write(bytes);
        self.unless_closed(written, bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.closed {
            return Ok(());
        }
        let flushed = self.writer.flush();
        self.unless_closed(flushed, ())
    }
}

impl Drop for Output<'_> {
    fn drop(&mut self) {
        // What is buffered after an error is of no use to anybody; without one it was flushed by the caller.
        let _ = self.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Gone;

    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_closed_pipe_is_no_error() {
        let mut out = Output::new(Gone);
        for _ in 0..10_000 {
            writeln!(out, "a line that nobody reads").unwrap();
        }
        out.flush().unwrap();
        assert!(out.closed());
    }
}
