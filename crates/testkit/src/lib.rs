//! All assignments, what the process tests share: real programs that are killed when dropped, a plain client, and waiting.
//!
//! Everything here panics when something goes wrong: that is how a test fails.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

pub mod crash;

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

pub use nix::sys::signal::Signal;
use nix::sys::signal::kill;
use nix::unistd::Pid;
pub use serde_json::Value;

/// A test that waits this long has failed, on any machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Returns the path of a program of this workspace, as cargo left it beside the running test.
///
/// # Panics
/// If the program is not there.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(|deps| deps.parent()).unwrap().join(name);
    assert!(path.exists(), "{} is missing: run `cargo build --workspace` first", path.display());
    path
}

/// What a program logs when it is ready.
const LISTENING: &str = "listening";

/// Stands for the address of a program that listens at none.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// A running program that logs JSON events to stderr.
#[derive(Debug)]
pub struct Process {
    /// The running process.
    pub child: Child,
    /// The address that the program logged as its own; `0.0.0.0:0` for a program that is reached through a broker.
    pub address: SocketAddr,
    events: Arc<Mutex<Vec<Value>>>,
}

impl Process {
    /// Starts a program with `--log-format json` and waits until it logs that it listens.
    ///
    /// # Panics
    /// If the program ends before it listens.
    pub fn start(command: Command) -> Self {
        Self::start_writing_to(Stdio::null(), command)
    }

    /// Does what [`start`](Self::start) does, with the program's standard output in this file.
    ///
    /// # Panics
    /// If the program ends before it listens.
    pub fn start_writing_to(stdout: impl Into<Stdio>, command: Command) -> Self {
        Self::started(LISTENING, Self::try_start_until(LISTENING, stdout, command))
    }

    /// Does what [`start`](Self::start) does, for a program that is ready when it logs this message.
    ///
    /// # Panics
    /// If the program ends before that.
    pub fn start_until(message: &str, command: Command) -> Self {
        Self::started(message, Self::try_start_until(message, Stdio::null(), command))
    }

    fn started(message: &str, started: Result<Self, Vec<Value>>) -> Self {
        started.unwrap_or_else(|events| panic!("the program ended before it logged {message:?}: {events:?}"))
    }

    /// Does what [`start`](Self::start) does, for a program that may refuse to start.
    ///
    /// # Errors
    /// Returns what the program logged if it ends before it listens.
    ///
    /// # Panics
    /// If the program cannot be started at all.
    pub fn try_start(command: Command) -> Result<Self, Vec<Value>> {
        Self::try_start_until(LISTENING, Stdio::null(), command)
    }

    fn try_start_until(
        message: &str,
        stdout: impl Into<Stdio>,
        mut command: Command,
    ) -> Result<Self, Vec<Value>> {
        command.args(["--log-format", "json"]);
        let mut child = command.stdin(Stdio::null()).stdout(stdout).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut events = Vec::new();
        let address = loop {
            let Some(line) = lines.next() else {
                child.wait().unwrap();
                return Err(events);
            };
            let line = line.unwrap();
            let event: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("not JSON: {line}"));
            let ready = event["message"] == message;
            events.push(event);
            if ready {
                let address = events[events.len() - 1]["address"].as_str();
                break address.map_or(NOWHERE, |address| address.parse().unwrap());
            }
        };
        let events = Arc::new(Mutex::new(events));
        let rest = events.clone();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Ok(event) = serde_json::from_str(&line) {
                    rest.lock().unwrap().push(event);
                }
            }
        });
        Ok(Self { child, address, events })
    }

    /// Sends the program a signal.
    ///
    /// # Panics
    /// If the program is gone.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    /// Waits for the program to end.
    ///
    /// # Panics
    /// If the program does not end.
    pub fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        wait_for("the program to end", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// Kills the program at once, as `kill -9` does.
    ///
    /// # Panics
    /// If the program cannot be waited for.
    pub fn kill(&mut self) {
        // The program may have ended already.
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }

    /// Returns the events with this message so far.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn events(&self, message: &str) -> Vec<Value> {
        let events = self.events.lock().unwrap();
        events.iter().filter(|event| event["message"].as_str() == Some(message)).cloned().collect()
    }

    /// Waits for an event with this message.
    ///
    /// # Panics
    /// If the event does not come.
    pub fn logged(&self, message: &str) {
        wait_for(&format!("the event {message:?}"), || !self.events(message).is_empty());
    }

    /// Returns the resident memory in bytes.
    ///
    /// # Panics
    /// If the program is gone.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// Returns the most resident memory that the program ever had, in bytes.
    ///
    /// # Panics
    /// If the program is gone.
    #[must_use]
    pub fn peak_resident_bytes(&self) -> u64 {
        self.memory("VmHWM:")
    }

    fn memory(&self, key: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A plain client for protocols of lines.
#[derive(Debug)]
pub struct LineClient {
    /// The connection, for tests that set its options or write to it themselves.
    pub stream: TcpStream,
    reader: BufReader<TcpStream>,
}

impl LineClient {
    /// Connects to `address`.
    ///
    /// # Panics
    /// If the connection cannot be made.
    #[must_use]
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { reader: BufReader::new(stream.try_clone().unwrap()), stream }
    }

    /// Sends these bytes.
    ///
    /// # Panics
    /// If the connection is broken.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// Returns the next reply without its line end; an empty one at the end of the stream.
    ///
    /// # Panics
    /// If no reply comes.
    pub fn reply(&mut self) -> String {
        let mut line = String::new();
        self.reader.read_line(&mut line).unwrap();
        line.trim_end_matches('\n').to_owned()
    }

    /// Waits until the other side closes the connection without a reply.
    ///
    /// # Panics
    /// If the other side replies, or keeps the connection.
    pub fn cut_off(&mut self) {
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            Ok(0) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            other => panic!("expected a closed connection, got {other:?} and {line:?}"),
        }
    }

    /// Sends a line of JSON and returns the reply, which is JSON too.
    ///
    /// # Panics
    /// If the reply is not JSON.
    pub fn ask(&mut self, request: &Value) -> Value {
        self.send(format!("{request}\n"));
        let reply = self.reply();
        serde_json::from_str(&reply).unwrap_or_else(|_| panic!("not JSON: {reply:?}"))
    }

    /// Ends the sending side and returns what is left to read.
    ///
    /// # Panics
    /// If the connection is broken.
    #[must_use]
    pub fn finish(mut self) -> String {
        self.stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut rest = String::new();
        self.reader.read_to_string(&mut rest).unwrap();
        rest
    }
}

/// Waits until `done` returns `true`.
///
/// # Panics
/// If that takes longer than [`PATIENCE`].
pub fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

impl Process {
    /// Returns the address of the program's page or metrics, which it has logged.
    ///
    /// # Panics
    /// If it has none.
    #[must_use]
    pub fn page(&self) -> SocketAddr {
        let events = self.events.lock().unwrap();
        let messages = events.iter().filter_map(|event| event["message"].as_str());
        let mut addresses = messages.filter_map(|message| message.strip_prefix("page at http://"));
        addresses.next().expect("the program has logged the address of its page").parse().unwrap()
    }
}

/// Asks for `path` by HTTP, and returns the status and the body of the answer.
///
/// # Panics
/// If there is no answer.
#[must_use]
pub fn http_get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// Returns the metrics in the rows of Markdown tables of which the first cell is a name that begins with `prefix`, and the
/// second one is a type: each as `name{labels} type`, in order.
#[must_use]
pub fn listed_metrics(markdown: &str, prefix: &str) -> Vec<String> {
    let row = |line: &str| {
        let mut cells = line.strip_prefix('|')?.split('|').map(|cell| cell.trim().trim_matches('`'));
        let (name, kind) = (cells.next()?, cells.next()?);
        name.starts_with(prefix).then(|| format!("{name} {kind}"))
    };
    let mut listed: Vec<_> = markdown.lines().filter_map(row).collect();
    listed.sort();
    listed
}

/// Returns the metrics in an answer of `/metrics` in the format of Prometheus, in the form of [`listed_metrics`]. Labels
/// are known only of metrics that have a sample.
///
/// # Panics
/// If the answer is not in that format.
#[must_use]
pub fn exposed_metrics(answer: &str) -> Vec<String> {
    let types = answer.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let labels = |name: &str, kind: &str| {
        let sample = if kind == "histogram" { format!("{name}_count") } else { name.to_owned() };
        let labels = answer.lines().find_map(|line| line.strip_prefix(&sample)?.strip_prefix('{'));
        let labels = labels.map(|labels| labels.split_once('}').unwrap().0.split(','));
        let names: Vec<_> =
            labels.into_iter().flatten().map(|label| label.split('=').next().unwrap()).collect();
        if names.is_empty() { String::new() } else { format!("{{{}}}", names.join(",")) }
    };
    let mut exposed: Vec<_> =
        types.map(|(name, kind)| format!("{name}{} {kind}", labels(name, kind))).collect();
    exposed.sort();
    exposed
}

/// Returns the value of a sample in an answer of `/metrics`, such as `server_messages_total{result="ok"}`.
///
/// # Panics
/// If the sample is not there.
#[must_use]
pub fn metric(answer: &str, sample: &str) -> f64 {
    let value = answer.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' ')?.parse().ok());
    value.unwrap_or_else(|| panic!("no sample {sample} in:\n{answer}"))
}
