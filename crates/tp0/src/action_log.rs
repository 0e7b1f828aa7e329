//! The log that graders read: `action: … | result: …` lines on standard output.
//!
//! ```text
//! 2024-08-21 22:11:15 INFO     action: receive_message | result: success | ip: 172.25.125.3 | msg: [CLIENT 1] Message N°1
//! ```
//!
//! The time is UTC; the level takes eight columns, as Python's `%(levelname)-8s`. Nothing else goes to standard output,
//! and no value can make a line of its own: line ends and what a terminal would act on are written as `\u000a`.
//!
//! The log is a subscriber of `tracing` beside the one that writes diagnostics to stderr. Lines leave in the order in
//! which they were written, whole. A thread of `tracing-appender` writes them, many at once where many come. No line is
//! dropped: while [`MAX_WAITING_LINES`] wait for a slow reader, a thread that writes another line waits too.

use std::cell::RefCell;
use std::fmt::{self, Debug, Display, Write as _};
use std::io::{self, BufWriter, Write};
use std::mem;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use chrono::Utc;
use text::Shown;
use tracing::field::{Field, Visit};
use tracing::{Dispatch, Event, Level, Subscriber, dispatcher};
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;

/// The target of action lines.
pub const ACTION: &str = "action";
/// The target of critical ones, for which `tracing` has no level.
pub const CRITICAL_ACTION: &str = "action::critical";
/// The most lines, and the most bytes of them, that may wait for a slow standard output before a thread that writes another
/// one has to wait.
const MAX_WAITING_LINES: usize = 4096;
const MAX_WAITING_BYTES: usize = 4 * 1024 * 1024;
/// How long the last lines may take to leave at the end of the program, unless the program sets another time.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How long lines gather after others were written: a busy server then wakes the thread, and enters the system, a thousand
/// times a second at most. A line that comes after a pause leaves at once.
const GATHER: Duration = Duration::from_millis(1);
const BUFFER_BYTES: usize = 64 * 1024;
const TIME_FORMAT: &str = "%Y-%m-%d %H:%M:%S";
/// A line without text, which no event makes: all lines before it are to leave.
const FLUSH: &[u8] = b"";

/// Writes an action line: `action!(log, INFO, "receive_message", "success", ip = %ip, msg = text)`. The fields are those
/// of `tracing::event!`; the level `CRITICAL` is allowed too.
macro_rules! action {
    (@$target:expr, $log:expr, $level:ident, $action:literal, $result:literal $($fields:tt)*) => {
        $log.subscribed(tracing::Level::$level, || {
            tracing::event!(
                target: $target,
                tracing::Level::$level,
                action = $action,
                result = $result
                $($fields)*
            )
        })
    };
    ($log:expr, CRITICAL, $($line:tt)*) => {
        $crate::action_log::action!(@$crate::action_log::CRITICAL_ACTION, $log, ERROR, $($line)*)
    };
    ($log:expr, $level:ident, $($line:tt)*) => {
        $crate::action_log::action!(@$crate::action_log::ACTION, $log, $level, $($line)*)
    };
}

/// Writes that something was closed. The line has the level `INFO` where the program was asked to end, and `DEBUG` where
/// closing is a matter of course.
macro_rules! closed {
    ($log:expr, $shutdown:expr, $action:literal $($fields:tt)*) => {
        if $shutdown.is_requested() {
            $crate::action_log::action!($log, INFO, $action, "success" $($fields)*)
        } else {
            $crate::action_log::action!($log, DEBUG, $action, "success" $($fields)*)
        }
    };
}

pub(crate) use {action, closed};

/// Severity of a line; lines below the configured one are not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ActionLevel {
    Debug,
    Info,
    Warning,
    Error,
    Critical,
}

impl ActionLevel {
    /// Each level, with its name in Python's `logging`, and the target and the level of its events.
    const ALL: [(Self, &'static str, &'static str, Level); 5] = [
        (Self::Debug, "DEBUG", ACTION, Level::DEBUG),
        (Self::Info, "INFO", ACTION, Level::INFO),
        (Self::Warning, "WARNING", ACTION, Level::WARN),
        (Self::Error, "ERROR", ACTION, Level::ERROR),
        (Self::Critical, "CRITICAL", CRITICAL_ACTION, Level::ERROR),
    ];

    /// Returns the name of an event's level.
    fn name_of(event: &Event<'_>) -> &'static str {
        let of_event =
            |target, level| *event.metadata().level() == level && event.metadata().target() == target;
        Self::ALL
            .into_iter()
            .find_map(|(_, name, target, level)| of_event(target, level).then_some(name))
            .unwrap_or("")
    }

    /// Returns a filter that lets action lines of this level and of higher ones pass, and nothing else.
    fn filter(self) -> Targets {
        let (_, _, target, level) = Self::ALL[self as usize];
        Targets::new().with_target(target, level)
    }
}

impl Display for ActionLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(Self::ALL[*self as usize].1)
    }
}

impl FromStr for ActionLevel {
    type Err = ();

    /// Reads a level in upper or lower case; `WARN` and `NOTICE` are known to the clients' original library.
    fn from_str(text: &str) -> Result<Self, ()> {
        match text.to_ascii_uppercase().as_str() {
            "WARN" => Ok(Self::Warning),
            "NOTICE" => Ok(Self::Info),
            name => {
                Self::ALL.into_iter().find(|(_, known, ..)| *known == name).map(|(level, ..)| level).ok_or(())
            }
        }
    }
}

/// Takes action lines; see [`action!`]. Clones write to the same place.
#[derive(Debug, Clone)]
pub struct ActionLog {
    subscriber: Dispatch,
    /// The least severe level of the lines that are written. Lines below it end here: to enter the subscriber costs as much
    /// as to echo a message.
    least_severe: Level,
    /// `None` where a test reads the lines.
    queue: Option<LineQueue>,
}

impl ActionLog {
    /// Returns a log on standard output, and a guard that waits for its last lines when dropped.
    pub fn stdout(level: ActionLevel) -> (Self, ActionLogFlush) {
        Self::to(io::stdout(), level)
    }

    fn to(output: impl Write + Send + 'static, level: ActionLevel) -> (Self, ActionLogFlush) {
        let (flushes, flushed) = channel();
        let output = BufWriter::with_capacity(BUFFER_BYTES, output);
        let room = Arc::<WaitingBytes>::default();
        let (writer, guard) = NonBlockingBuilder::default()
            .lossy(false)
            .buffered_lines_limit(MAX_WAITING_LINES)
            .thread_name("action log")
            .finish(ActionOutput { output, is_broken: false, flushes, room: room.clone() });
        // The guard would wait for a second at most, and print to standard output if that takes nothing.
        mem::forget(guard);
        let flush = ActionLogFlush { writer: writer.clone(), flushed, patience: LAST_WORDS };
        let queue = LineQueue { writer, room };
        (Self { queue: Some(queue.clone()), ..Self::with_writer(queue, level) }, flush)
    }

    fn with_writer(writer: impl for<'a> MakeWriter<'a> + Send + Sync + 'static, level: ActionLevel) -> Self {
        let lines = tracing_subscriber::fmt::layer().event_format(ActionFormat).with_writer(writer);
        let subscriber = Dispatch::new(tracing_subscriber::registry().with(level.filter()).with(lines));
        let (_, _, _, least_severe) = ActionLevel::ALL[level as usize];
        Self { subscriber, least_severe, queue: None }
    }

    /// Runs `event`, whose events have this `level` and go to this log; called by [`action!`].
    pub fn subscribed(&self, level: Level, event: impl FnOnce()) {
        if level > self.least_severe {
            return;
        }
        if TOGETHER.with_borrow(Option::is_some) {
            return event();
        }
        dispatcher::with_default(&self.subscriber, event);
    }

    /// Runs `work`, and hands all lines that it writes to the log at once: with many messages in flight, handing over each
    /// line costs as much as the message.
    pub fn together(&self, work: impl FnOnce()) {
        let Some(queue) = self.queue.as_ref().filter(|_| Level::INFO <= self.least_severe) else {
            return work();
        };
        TOGETHER.set(Some(Vec::new()));
        let _hand_over = HandOver(queue);
        dispatcher::with_default(&self.subscriber, work);
    }
}

/// Formats an event as an action line.
struct ActionFormat;

impl<S, N> FormatEvent<S, N> for ActionFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut line: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        write_time(&mut line)?;
        write!(line, " {:<8}", ActionLevel::name_of(event))?;
        let mut fields = ActionFields { line, separator: " ", result: Ok(()) };
        event.record(&mut fields);
        fields.result?;
        fields.line.write_char('\n')
    }
}

/// Writes the present second, which each thread formats once.
fn write_time(line: &mut Writer<'_>) -> fmt::Result {
    thread_local!(static SECOND: RefCell<(i64, String)> = const { RefCell::new((i64::MIN, String::new())) });
    let now = Utc::now();
    SECOND.with_borrow_mut(|(second, text)| {
        if *second != now.timestamp() {
            (*second, *text) = (now.timestamp(), now.format(TIME_FORMAT).to_string());
        }
        line.write_str(text)
    })
}

/// Writes `name: value` for each field, with ` | ` between them.
struct ActionFields<'a> {
    line: Writer<'a>,
    separator: &'static str,
    result: fmt::Result,
}

impl ActionFields<'_> {
    fn write(&mut self, field: &Field, value: impl FnOnce(Escaped<'_>) -> fmt::Result) {
        let separator = mem::replace(&mut self.separator, " | ");
        for part in [separator, field.name(), ": "] {
            self.result = self.result.and_then(|()| self.line.write_str(part));
        }
        self.result = self.result.and_then(|()| value(Escaped(self.line.by_ref())));
    }
}

impl Visit for ActionFields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.write(field, |mut line| write!(line, "{value:?}"));
    }

    /// Writes a string without the quotes that `Debug` would put around it.
    fn record_str(&mut self, field: &Field, value: &str) {
        self.write(field, |mut line| line.write_str(value));
    }
}

/// Escapes what is written through it.
struct Escaped<'a>(Writer<'a>);

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        write!(self.0, "{}", Shown(text))
    }
}

/// Counts the bytes of the lines that wait: the appender counts lines only, and a line may be long.
#[derive(Debug, Default)]
struct WaitingBytes(AtomicUsize);

impl WaitingBytes {
    /// Waits until a line of `length` bytes fits, and counts it. A line that is longer than the limit fits alone.
    fn add(&self, length: usize) {
        let fits = |bytes| (bytes == 0 || bytes + length <= MAX_WAITING_BYTES).then_some(bytes + length);
        // The thread that writes takes many lines at once, about as often as this one looks again.
        while self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_err() {
            thread::sleep(GATHER);
        }
    }

    fn remove(&self, length: usize) {
        self.0.fetch_sub(length, Ordering::Relaxed);
    }
}

thread_local! {
    /// The lines of this thread that are handed over together, while [`ActionLog::together`] runs.
    static TOGETHER: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// Hands lines to the thread that writes them, once there is room for them.
#[derive(Debug, Clone)]
struct LineQueue {
    writer: NonBlocking,
    room: Arc<WaitingBytes>,
}

impl LineQueue {
    fn push(&self, lines: &[u8]) {
        self.room.add(lines.len());
        // It cannot fail: the queue is not lossy, and its thread lives as long as the process.
        let _ = self.writer.clone().write_all(lines);
    }
}

impl<'a> MakeWriter<'a> for LineQueue {
    type Writer = QueuedLine<'a>;

    fn make_writer(&'a self) -> QueuedLine<'a> {
        QueuedLine(self)
    }
}

/// Takes one line.
struct QueuedLine<'a>(&'a LineQueue);

impl Write for QueuedLine<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let is_kept = TOGETHER.with_borrow_mut(|together| {
            together.as_mut().map(|together| together.extend_from_slice(line)).is_some()
        });
        if !is_kept {
            self.0.push(line);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Hands the lines that were kept to the queue, however the work on them ends.
struct HandOver<'a>(&'a LineQueue);

impl Drop for HandOver<'_> {
    fn drop(&mut self) {
        if let Some(lines) = TOGETHER.take().filter(|lines| !lines.is_empty()) {
            self.0.push(&lines);
        }
    }
}

/// Standard output, as the thread sees it that writes.
struct ActionOutput<W: Write> {
    room: Arc<WaitingBytes>,
    output: BufWriter<W>,
    /// Nobody reads the lines any more.
    is_broken: bool,
    /// Tells that a [`FLUSH`] has come, and that all lines before it have left.
    flushes: Sender<()>,
}

impl<W: Write> ActionOutput<W> {
    /// Goes on after an error: a closed pipe must not stop the service. What the reader would have read is lost.
    fn attempt(&mut self, write: impl FnOnce(&mut BufWriter<W>) -> io::Result<()>) {
        if self.is_broken {
            return;
        }
        if let Err(error) = write(&mut self.output) {
            tracing::warn!(%error, "standard output is closed: the action log ends here");
            self.is_broken = true;
        }
    }
}

impl<W: Write> Write for ActionOutput<W> {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        self.write_all(lines)?;
        Ok(lines.len())
    }

    fn write_all(&mut self, lines: &[u8]) -> io::Result<()> {
        if lines == FLUSH {
            self.attempt(BufWriter::flush);
            // At the end of the process nobody may wait any more.
            let _ = self.flushes.send(());
        } else {
            self.attempt(|output| output.write_all(lines));
            self.room.remove(lines.len());
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.attempt(BufWriter::flush);
        thread::sleep(GATHER);
        Ok(())
    }
}

/// Waits, when dropped, until the last lines have left.
#[derive(Debug)]
pub struct ActionLogFlush {
    writer: NonBlocking,
    flushed: Receiver<()>,
    patience: Duration,
}

impl ActionLogFlush {
    /// Waits for at most `patience` in place of a second.
    pub fn wait_for(&mut self, patience: Duration) {
        self.patience = patience;
    }
}

impl Drop for ActionLogFlush {
    fn drop(&mut self) {
        let mut writer = self.writer.clone();
        // On a thread of its own: while nobody reads standard output, there may be no room for it.
        thread::spawn(move || writer.write_all(FLUSH));
        let _ = self.flushed.recv_timeout(self.patience);
    }
}

#[cfg(test)]
pub mod tests;
