use std::sync::{Arc, Mutex};

use super::*;

/// The lines that a log for tests has written.
#[derive(Debug, Clone, Default)]
pub struct CapturedActions(Arc<Mutex<Vec<u8>>>);

impl Write for CapturedActions {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl CapturedActions {
    /// Returns a log whose lines stay in memory, and those lines.
    pub fn start(level: ActionLevel) -> (ActionLog, Self) {
        let captured = Self::default();
        let writer = captured.clone();
        (ActionLog::with_writer(move || writer.clone(), level), captured)
    }

    /// Returns the lines so far, without their ends.
    fn lines(&self) -> Vec<String> {
        String::from_utf8_lossy(&self.0.lock().unwrap()).lines().map(str::to_owned).collect()
    }

    /// Returns the lines without time and level, from `action:` on.
    pub fn actions(&self) -> Vec<String> {
        self.lines().iter().filter_map(|line| line.find("action: ").map(|at| line[at..].to_owned())).collect()
    }
}

/// An output that takes one write for each message in a channel, and hands over what it took.
struct HeldOutput {
    go: Receiver<()>,
    taken: Sender<Vec<u8>>,
}

impl Write for HeldOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.go.recv().map_err(|_| io::ErrorKind::BrokenPipe)?;
        self.taken.send(bytes.to_owned()).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn held() -> (HeldOutput, Sender<()>, Receiver<Vec<u8>>) {
    let (go, gone) = channel();
    let (taken, takes) = channel();
    (HeldOutput { go: gone, taken }, go, takes)
}

#[test]
fn golden_lines() {
    let (log, written) = CapturedActions::start(ActionLevel::Info);
    let ip: std::net::IpAddr = "172.25.125.3".parse().unwrap();
    action!(log, INFO, "receive_message", "success", ip = %ip, msg = "Hola\n", none = None::<&str>, count = 7);
    action!(log, DEBUG, "too_small", "in_progress");
    action!(log, ERROR, "receive_message", "fail", error = %"no\rline");
    action!(log, CRITICAL, "listen", "fail", error = "it \"broke\"");
    let lines = written.lines();
    let expected = [
        " INFO     action: receive_message | result: success | ip: 172.25.125.3 | msg: Hola\\u000a | count: 7",
        " ERROR    action: receive_message | result: fail | error: no\\u000dline",
        " CRITICAL action: listen | result: fail | error: it \"broke\"",
    ];
    assert_eq!(lines.iter().map(|line| &line[19..]).collect::<Vec<_>>(), expected);
    assert!(chrono::NaiveDateTime::parse_from_str(&lines[0][..19], "%Y-%m-%d %H:%M:%S").is_ok(), "{lines:?}");
}

#[test]
fn levels_below_the_configured_one_are_not_written() {
    let all = ActionLevel::ALL.map(|(level, name, ..)| (level, name));
    for (at, (level, name)) in all.into_iter().enumerate() {
        let (log, written) = CapturedActions::start(level);
        action!(log, DEBUG, "a", "success");
        action!(log, INFO, "a", "success");
        action!(log, WARN, "a", "success");
        action!(log, ERROR, "a", "success");
        action!(log, CRITICAL, "a", "success");
        log.subscribed(Level::ERROR, || tracing::error!("this is no action"));
        let names: Vec<_> = written.lines().iter().map(|line| line[20..28].trim_end().to_owned()).collect();
        assert_eq!(names, all.map(|(_, name)| name)[at..]);
        assert_eq!(level.to_string(), name);
        assert_eq!(name.to_lowercase().parse(), Ok(level));
    }
    assert_eq!("LOUD".parse::<ActionLevel>(), Err(()));
}

#[test]
fn lines_of_many_threads_are_whole_and_none_is_lost() {
    let captured = CapturedActions::default();
    let (log, flush) = ActionLog::to(captured.clone(), ActionLevel::Info);
    thread::scope(|scope| {
        for writer in 0..8 {
            let log = log.clone();
            scope.spawn(move || {
                for number in 0..1000 {
                    action!(log, INFO, "count", "success", writer, number);
                }
            });
        }
    });
    drop(flush);
    let mut lines = captured.actions();
    assert_eq!(lines.len(), 8000);
    lines.sort_unstable();
    lines.dedup();
    assert_eq!(lines.len(), 8000);
    assert!(lines.iter().all(|line| line.starts_with("action: count | result: success | writer: ")));
}

/// Writes lines with this many bytes of text to a reader that takes nothing, and returns how many are taken in before the
/// writing thread has to wait.
fn lines_taken_in(text_bytes: usize) -> usize {
    const LINES: usize = 2 * MAX_WAITING_LINES;
    let (output, go, taken) = held();
    let (log, _flush) = ActionLog::to(output, ActionLevel::Info);
    let (done, finished) = channel();
    let text = "x".repeat(text_bytes);
    let writer = thread::spawn(move || {
        for number in 0..LINES {
            action!(log, INFO, "long", "success", number, text);
            done.send(number).unwrap();
        }
    });
    let mut first = 0;
    while finished.recv_timeout(Duration::from_millis(300)).is_ok() {
        first += 1;
    }
    drop((go, taken));
    writer.join().unwrap();
    assert_eq!(first + finished.iter().count(), LINES, "a reader that is gone holds up nobody");
    first
}

#[test]
fn a_thread_that_writes_too_many_lines_for_a_slow_reader_waits() {
    let first = lines_taken_in(BUFFER_BYTES / 128);
    // The thread took some lines before it was held.
    assert!((MAX_WAITING_LINES..=MAX_WAITING_LINES + 128).contains(&first), "{first} lines were taken in");
}

#[test]
fn a_thread_that_writes_too_many_bytes_for_a_slow_reader_waits() {
    let first = lines_taken_in(BUFFER_BYTES / 4);
    let fitting = MAX_WAITING_BYTES / (BUFFER_BYTES / 4);
    assert!((fitting - 2..=fitting + 4).contains(&first), "{first} lines were taken in, and {fitting} fit");
}

#[test]
fn the_last_lines_leave_before_the_end() {
    let (output, go, taken) = held();
    let (log, flush) = ActionLog::to(output, ActionLevel::Info);
    action!(log, INFO, "a", "success");
    go.send(()).unwrap();
    assert!(taken.recv().unwrap().ends_with(b" INFO     action: a | result: success\n"));
    action!(log, CRITICAL, "b", "fail", error = "it broke");
    go.send(()).unwrap();
    drop(flush);
    let last = taken.try_recv().unwrap();
    assert!(last.ends_with(b" CRITICAL action: b | result: fail | error: it broke\n"));
}

#[test]
fn a_reader_that_takes_nothing_does_not_hold_up_the_end_for_ever() {
    let (output, _go, _taken) = held();
    let (log, mut flush) = ActionLog::to(output, ActionLevel::Info);
    flush.wait_for(Duration::from_millis(20));
    // It fills the buffer, so that the thread is held at once.
    action!(log, INFO, "a", "success", text = "x".repeat(BUFFER_BYTES));
    for _ in 0..MAX_WAITING_LINES {
        action!(log, INFO, "a", "success");
    }
    let dropped = std::time::Instant::now();
    drop(flush);
    assert!(dropped.elapsed() < LAST_WORDS, "{:?}", dropped.elapsed());
}
