//! The thread that writes lines. A full queue drops the line and counts it.

#![forbid(unsafe_code)]

use std::{
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use super::line::Style;

/// Lines that may wait for a slow reader.
const QUEUE: usize = 256;

enum Item {
    Line(String),
    Flush(SyncSender<()>),
}

/// Hands lines over to the thread, which ends when every clone of this is gone.
#[derive(Clone)]
pub(super) struct Writer {
    queue: SyncSender<Item>,
    dropped: Arc<AtomicU64>,
}

impl Writer {
    pub(super) fn start(output: impl Write + Send + 'static, style: Style) -> std::io::Result<Self> {
        let (queue, items) = sync_channel(QUEUE);
        let dropped = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&dropped);
        thread::Builder::new()
            .name("log".into())
            .stack_size(64 * 1024)
            .spawn(move || run(output, &items, &seen, style))?;
        Ok(Self { queue, dropped })
    }

    /// Never waits.
    pub(super) fn send(&self, line: String) {
        if self.queue.try_send(Item::Line(line)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn flush(&self, deadline: Duration) {
        let end = Instant::now() + deadline;
        let (done, wait) = sync_channel(1);
        let mut item = Item::Flush(done);
        while let Err(TrySendError::Full(back)) = self.queue.try_send(item) {
            if Instant::now() >= end {
                return;
            }
            item = back;
            thread::sleep(Duration::from_millis(1));
        }
        // Whoever flushes is about to end: what is not out by then is lost.
        let _ = wait.recv_timeout(end.saturating_duration_since(Instant::now()));
    }
}

fn run(mut output: impl Write, items: &Receiver<Item>, dropped: &AtomicU64, style: Style) {
    for item in items {
        // There is nowhere to report that stdout is gone.
        let _ = match item {
            Item::Line(line) => output.write_all(line.as_bytes()).and_then(|()| output.flush()),
            Item::Flush(done) => done.try_send(()).map_err(std::io::Error::other),
        };
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let _ = match style {
                Style::Json => writeln!(
                    output,
                    r#"{{"level":"warn","msg":"log lines were dropped: the reader is slow","dropped":{lost}}}"#
                ),
                Style::Text => writeln!(
                    output,
                    " WARN log lines were dropped: the reader is slow dropped={lost}"
                ),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Writes nothing until it is opened, as a pipe whose reader sleeps.
    #[derive(Clone)]
    struct Gate {
        open: Arc<Mutex<()>>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let _open = self.open.lock().unwrap();
            self.written.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stalled_reader_costs_lines_and_not_time() {
        let gate = Gate {
            open: Arc::default(),
            written: Arc::default(),
        };
        let writer = Writer::start(gate.clone(), Style::Json).unwrap();
        let closed = gate.open.lock().unwrap();
        for n in 0..1000 {
            writer.send(format!("{n}\n"));
        }
        writer.flush(Duration::from_millis(1));
        drop(closed);
        writer.flush(Duration::from_secs(30));
        let text = String::from_utf8(gate.written.lock().unwrap().clone()).unwrap();
        assert!(text.starts_with("0\n"), "{text}");
        assert!(text.contains("\"dropped\":"), "{text}");
    }
}
