//! The log that graders read: `action: … | result: …` lines on standard output.
//!
//! ```text
//! 2024-08-21 22:11:15 INFO     action: receive_message | result: success | ip: 172.25.125.3 | msg: [CLIENT 1] Message N°1
//! ```
//!
//! The time is UTC; the level takes eight columns, as Python's `%(levelname)-8s`. Nothing else goes to standard output,
//! and no value can make a line of its own: line ends and what a terminal would act on are written as `\u000a`.
//!
//! Lines leave in the order in which they were written, whole. A thread writes them, many at once where many come, so that
//! a busy server does not make one system call for each. None is dropped: whoever writes while [`MAX_WAITING_BYTES`]
//! already wait for a slow reader waits too.

use std::fmt::{self, Display, Write as _};
use std::io::{self, Write};
use std::mem;
use std::str::FromStr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use chrono::{DateTime, Utc};
use text::Shown;

/// How much may wait for a slow standard output before who writes more has to wait.
pub const MAX_WAITING_BYTES: usize = 4 * 1024 * 1024;
/// How long the last lines may take to leave at the end of the program, unless it says otherwise.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How long lines gather after others were written: a busy server then wakes the thread, and enters the system, a thousand
/// times a second at most. A line that comes after a pause leaves at once.
const GATHER: Duration = Duration::from_millis(1);
/// Room for a usual line.
const LINE_BYTES: usize = 160;
const TIME_FORMAT: &str = "%Y-%m-%d %H:%M:%S";

/// Severity of a line; those below the configured one are not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Level {
    Debug,
    Info,
    Warning,
    Error,
    Critical,
}

impl Level {
    /// Every level, least severe first.
    pub const ALL: [Self; 5] = [Self::Debug, Self::Info, Self::Warning, Self::Error, Self::Critical];

    /// As Python's `logging` calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warning => "WARNING",
            Self::Error => "ERROR",
            Self::Critical => "CRITICAL",
        }
    }
}

impl Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Level {
    type Err = ();

    /// Reads a level in upper or lower case; `WARN` and `NOTICE` are known to the clients' original library.
    fn from_str(text: &str) -> Result<Self, ()> {
        match text.to_ascii_uppercase().as_str() {
            "WARN" => Ok(Self::Warning),
            "NOTICE" => Ok(Self::Info),
            name => Self::ALL.into_iter().find(|level| level.name() == name).ok_or(()),
        }
    }
}

/// Writes action lines. Clones write to the same place.
///
/// ```
/// use tp0::action_log::{ActionLog, Level};
///
/// let (log, written) = ActionLog::captured(Level::Info);
/// log.info("receive_message").success().field("ip", "172.25.125.3").field("msg", "Hola\n").write();
/// log.debug("too_small").in_progress().write();
/// log.error("receive_message").fail().error("no line").write();
/// let lines = written.lines();
/// assert!(lines[0].ends_with(" INFO     action: receive_message | result: success | ip: 172.25.125.3 | msg: Hola\\u000a"));
/// assert!(lines[1].ends_with(" ERROR    action: receive_message | result: fail | error: no line"));
/// assert_eq!(lines.len(), 2);
/// ```
#[derive(Debug, Clone)]
pub struct ActionLog {
    level: Level,
    waiting: Arc<Waiting>,
}

impl ActionLog {
    /// A log on standard output, and what waits for its last lines when dropped.
    ///
    /// # Errors
    /// If the system refuses the thread.
    pub fn stdout(level: Level) -> io::Result<(Self, Flush)> {
        Self::to(io::stdout(), level)
    }

    /// A log on `output`.
    ///
    /// # Errors
    /// If the system refuses the thread.
    pub fn to(output: impl Write + Send + 'static, level: Level) -> io::Result<(Self, Flush)> {
        let waiting = Arc::new(Waiting::default());
        let source = waiting.clone();
        thread::Builder::new().name("action log".to_owned()).spawn(move || source.write_out(output))?;
        Ok((Self { level, waiting: waiting.clone() }, Flush { waiting, patience: LAST_WORDS }))
    }

    /// A log for tests: its lines stay in memory.
    #[must_use]
    pub fn captured(level: Level) -> (Self, Captured) {
        let waiting = Arc::new(Waiting::default());
        (Self { level, waiting: waiting.clone() }, Captured { waiting })
    }

    /// Begins a line about `action`.
    pub fn debug(&self, action: &'static str) -> Action<'_> {
        self.at(Level::Debug, action)
    }

    /// Begins a line about `action`.
    pub fn info(&self, action: &'static str) -> Action<'_> {
        self.at(Level::Info, action)
    }

    /// Begins a line about `action`.
    pub fn warning(&self, action: &'static str) -> Action<'_> {
        self.at(Level::Warning, action)
    }

    /// Begins a line about `action`.
    pub fn error(&self, action: &'static str) -> Action<'_> {
        self.at(Level::Error, action)
    }

    /// Begins a line about `action`.
    pub fn critical(&self, action: &'static str) -> Action<'_> {
        self.at(Level::Critical, action)
    }

    /// Begins a line about `action`.
    pub fn at(&self, level: Level, action: &'static str) -> Action<'_> {
        Action { log: (level >= self.level).then_some(self), level, action }
    }
}

/// A line that lacks its result.
#[derive(Debug)]
#[must_use = "a line needs a result and `write()`"]
pub struct Action<'a> {
    /// None where the level is not written.
    log: Option<&'a ActionLog>,
    level: Level,
    action: &'static str,
}

impl<'a> Action<'a> {
    /// It succeeded.
    pub fn success(self) -> Line<'a> {
        self.result("success")
    }

    /// It failed; see [`Line::error`].
    pub fn fail(self) -> Line<'a> {
        self.result("fail")
    }

    /// It has begun.
    pub fn in_progress(self) -> Line<'a> {
        self.result("in_progress")
    }

    fn result(self, result: &str) -> Line<'a> {
        let mut text = String::new();
        if self.log.is_some() {
            text.reserve(LINE_BYTES);
            for part in ["action: ", self.action, " | result: ", result] {
                text.push_str(part);
            }
        }
        Line { log: self.log, level: self.level, text }
    }
}

/// A line that takes fields until it is written.
#[derive(Debug)]
#[must_use = "a line is not there before `write()`"]
pub struct Line<'a> {
    log: Option<&'a ActionLog>,
    level: Level,
    text: String,
}

impl Line<'_> {
    /// Adds ` | name: value`.
    pub fn field(mut self, name: &str, value: impl Display) -> Self {
        if self.log.is_some() {
            for part in [" | ", name, ": "] {
                self.text.push_str(part);
            }
            write!(Escaped(&mut self.text), "{value}").expect("writing to a String cannot fail");
        }
        self
    }

    /// Adds why it failed.
    pub fn error(self, error: impl Display) -> Self {
        self.field("error", error)
    }

    /// Writes it.
    pub fn write(self) {
        if let Some(log) = self.log {
            log.waiting.push(self.level, &self.text);
        }
    }
}

/// Escapes what is written through it.
struct Escaped<'a>(&'a mut String);

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        write!(self.0, "{}", Shown(text))
    }
}

/// Lines on their way to the output.
#[derive(Debug, Default)]
struct Waiting {
    lines: Mutex<Lines>,
    /// There is something to write, or nothing will come any more.
    ready: Condvar,
    /// Everything has been written, or there is room again.
    written: Condvar,
}

#[derive(Debug, Default)]
struct Lines {
    bytes: Vec<u8>,
    /// The second that `stamp` tells.
    second: i64,
    stamp: String,
    /// The thread that writes has nothing to do.
    idle: bool,
    closed: bool,
    ended: bool,
}

impl Lines {
    fn push(&mut self, now: DateTime<Utc>, level: Level, text: &str) {
        if self.stamp.is_empty() || self.second != now.timestamp() {
            self.second = now.timestamp();
            self.stamp = now.format(TIME_FORMAT).to_string();
        }
        writeln!(self.bytes, "{} {level:<8} {text}", self.stamp).expect("writing to a Vec cannot fail");
    }
}

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, Lines> {
        // A panic elsewhere leaves whole lines behind.
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, level: Level, text: &str) {
        let mut lines = self.lock();
        while lines.bytes.len() >= MAX_WAITING_BYTES && !lines.ended {
            lines = self.written.wait(lines).unwrap_or_else(PoisonError::into_inner);
        }
        lines.push(Utc::now(), level, text);
        if mem::take(&mut lines.idle) {
            self.ready.notify_one();
        }
    }

    fn write_out(&self, mut output: impl Write) {
        let mut taken = Vec::new();
        let mut broken = false;
        loop {
            let mut lines = self.lock();
            while lines.bytes.is_empty() {
                if lines.closed {
                    lines.ended = true;
                    self.written.notify_all();
                    return;
                }
                lines.idle = true;
                lines = self.ready.wait(lines).unwrap_or_else(PoisonError::into_inner);
            }
            mem::swap(&mut taken, &mut lines.bytes);
            drop(lines);
            self.written.notify_all();
            if let (false, Err(error)) = (broken, output.write_all(&taken).and_then(|()| output.flush())) {
                // A closed pipe must not stop the service: what it would have read is lost.
                tracing::warn!(%error, "standard output is closed: the action log ends here");
                broken = true;
            }
            taken.clear();
            thread::sleep(GATHER);
        }
    }
}

/// Waits, when dropped, until the last lines have left.
#[derive(Debug)]
pub struct Flush {
    waiting: Arc<Waiting>,
    patience: Duration,
}

impl Flush {
    /// Waits so long at most, and not a second.
    pub fn wait_for(&mut self, patience: Duration) {
        self.patience = patience;
    }
}

impl Drop for Flush {
    fn drop(&mut self) {
        let mut lines = self.waiting.lock();
        lines.closed = true;
        self.waiting.ready.notify_one();
        let ended = self.waiting.written.wait_timeout_while(lines, self.patience, |lines| !lines.ended);
        drop(ended);
    }
}

/// What a log for tests has written.
#[derive(Debug)]
pub struct Captured {
    waiting: Arc<Waiting>,
}

impl Captured {
    /// The lines so far, without their ends.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        String::from_utf8_lossy(&self.waiting.lock().bytes).lines().map(str::to_owned).collect()
    }

    /// The same without time and level, from `action:` on.
    #[must_use]
    pub fn actions(&self) -> Vec<String> {
        self.lines().iter().filter_map(|line| line.find("action: ").map(|at| line[at..].to_owned())).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// An output that takes nothing until it is told to, and hands over what it took.
    struct Held {
        go: Receiver<()>,
        taken: Sender<Vec<u8>>,
    }

    impl Write for Held {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.go.recv().map_err(|_| io::ErrorKind::BrokenPipe)?;
            self.taken.send(bytes.to_owned()).map_err(|_| io::ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn held() -> (Held, Sender<()>, Receiver<Vec<u8>>) {
        let (go, gone) = channel();
        let (taken, takes) = channel();
        (Held { go: gone, taken }, go, takes)
    }

    #[test]
    fn levels_below_the_configured_one_are_not_written() {
        for (at, level) in Level::ALL.into_iter().enumerate() {
            let (log, written) = ActionLog::captured(level);
            for level in Level::ALL {
                log.at(level, "a").success().write();
            }
            assert_eq!(written.lines().len(), Level::ALL.len() - at);
            assert_eq!(level.name().to_lowercase().parse(), Ok(level));
        }
        assert_eq!("LOUD".parse::<Level>(), Err(()));
    }

    #[test]
    fn lines_of_many_threads_are_whole_and_none_is_lost() {
        let (log, written) = ActionLog::captured(Level::Info);
        thread::scope(|scope| {
            for writer in 0..8 {
                let log = log.clone();
                scope.spawn(move || {
                    for number in 0..1000 {
                        log.info("count").success().field("writer", writer).field("number", number).write();
                    }
                });
            }
        });
        let mut lines = written.actions();
        assert_eq!(lines.len(), 8000);
        lines.sort_unstable();
        lines.dedup();
        assert_eq!(lines.len(), 8000);
        assert!(lines.iter().all(|line| line.starts_with("action: count | result: success | writer: ")));
    }

    #[test]
    fn who_writes_too_much_for_a_slow_reader_waits() {
        let (output, go, taken) = held();
        let (log, _flush) = ActionLog::to(output, Level::Info).unwrap();
        let (done, finished) = channel();
        let text = "x".repeat(1024 * 1024);
        let writer = thread::spawn(move || {
            for number in 0..12 {
                log.info("long").success().field("number", number).field("text", &text).write();
                done.send(number).unwrap();
            }
        });
        let waited = |finished: &Receiver<i32>| {
            let mut count = 0;
            while finished.recv_timeout(Duration::from_millis(300)).is_ok() {
                count += 1;
            }
            count
        };
        // What the thread took before it was held, and what waits behind it.
        let first = waited(&finished);
        assert!((4..=9).contains(&first), "{first} lines were taken in");
        drop((go, taken));
        writer.join().unwrap();
        let rest = i32::try_from(finished.iter().count()).unwrap();
        assert_eq!(first + rest, 12, "a reader that is gone holds up nobody");
    }

    #[test]
    fn the_last_lines_leave_before_the_end() {
        let (output, go, taken) = held();
        let (log, flush) = ActionLog::to(output, Level::Info).unwrap();
        log.info("a").success().write();
        go.send(()).unwrap();
        assert!(taken.recv().unwrap().ends_with(b" INFO     action: a | result: success\n"));
        log.critical("b").fail().error("it broke").write();
        go.send(()).unwrap();
        drop(flush);
        let last = taken.try_recv().unwrap();
        assert!(last.ends_with(b" CRITICAL action: b | result: fail | error: it broke\n"));
    }
}
