//! Events to stderr through `tracing`, one line each.
//!
//! A terminal that is held (Ctrl-S) or a log collector that stalls holds up no message: events wait in a bounded
//! buffer, and beyond it are dropped and counted.

use std::io::IsTerminal;
use std::sync::mpsc;
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::fmt::time::ChronoUtc;

use crate::cli::{Common, LogFormat, LogLevel};

/// Events that may wait for stderr.
const BUFFERED_EVENTS: usize = 16 * 1024;
/// How long the last line may take to leave.
const LAST_WORDS: Duration = Duration::from_millis(100);
const TIME_FORMAT: &str = "%Y-%m-%dT%H:%M:%S%.3fZ";

/// Writes out the waiting events when dropped.
#[derive(Debug)]
pub struct Flush {
    worker: Option<WorkerGuard>,
    dropped: ErrorCounter,
}

impl Drop for Flush {
    fn drop(&mut self) {
        self.worker.take();
        let dropped = self.dropped.dropped_lines();
        if dropped == 0 {
            return;
        }
        // From a thread that the end of the process does not wait for: stderr may still be held.
        let (told, last_words) = mpsc::channel();
        std::thread::spawn(move || {
            eprintln!("{dropped} log lines were dropped because stderr did not keep up");
            told.send(())
        });
        let _ = last_words.recv_timeout(LAST_WORDS);
    }
}

/// Starts logging for the whole process; a second call changes nothing.
pub fn start(settings: &Common) -> Flush {
    let (writer, worker) = NonBlockingBuilder::default()
        .buffered_lines_limit(BUFFERED_EVENTS)
        .lossy(true)
        .thread_name("logging")
        .finish(std::io::stderr());
    let flush = Flush { worker: Some(worker), dropped: writer.error_counter() };
    let events = tracing_subscriber::fmt()
        .with_writer(writer)
        .with_max_level(level(settings.log_level))
        .with_timer(ChronoUtc::new(TIME_FORMAT.to_owned()))
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal());
    // An error means that a subscriber is there already, in tests.
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
