//! Writes events to stderr through `tracing`, one line each.
//!
//! A paused terminal (Ctrl-S) or a stalled log collector delays no message: events wait in a bounded buffer. When the
//! buffer is full, further events are dropped and counted.

use std::io::IsTerminal;
use std::sync::mpsc;
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::fmt::time::ChronoUtc;

use crate::cli::{Common, LogFormat, LogLevel};

/// Events that may wait for stderr.
const BUFFERED_EVENTS: usize = 16 * 1024;
/// Time for the last line to reach stderr.
const LAST_LINE_TIME: Duration = Duration::from_millis(100);
const TIME_FORMAT: &str = "%Y-%m-%dT%H:%M:%S%.3fZ";

/// Writes the waiting events to stderr when it is dropped.
#[derive(Debug)]
pub struct LogFlushGuard {
    worker: Option<WorkerGuard>,
    dropped: ErrorCounter,
}

impl Drop for LogFlushGuard {
    fn drop(&mut self) {
        self.worker.take();
        let dropped = self.dropped.dropped_lines();
        if dropped == 0 {
            return;
        }
        // Another thread writes the line, because stderr may still be blocked and must not delay the end of the
        // process.
        let (written, last_line) = mpsc::channel();
        std::thread::spawn(move || {
            eprintln!("{dropped} log lines were dropped because stderr did not keep up");
            written.send(())
        });
        let _ = last_line.recv_timeout(LAST_LINE_TIME);
    }
}

/// Starts logging for the whole process. A second call changes nothing.
pub fn start(settings: &Common) -> LogFlushGuard {
    let (writer, worker) = NonBlockingBuilder::default()
        .buffered_lines_limit(BUFFERED_EVENTS)
        .lossy(true)
        .thread_name("logging")
        .finish(std::io::stderr());
    let flush = LogFlushGuard { worker: Some(worker), dropped: writer.error_counter() };
    let events = tracing_subscriber::fmt()
        .with_writer(writer)
        .with_max_level(level(settings.log_level))
        .with_timer(ChronoUtc::new(TIME_FORMAT.to_owned()))
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal());
    // An error means that a subscriber exists already, which happens in tests.
    let _ = match settings.log_format {
        LogFormat::Text => events.try_init(),
        LogFormat::Json => events.json().flatten_event(true).try_init(),
    };
    flush
}

fn level(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}
