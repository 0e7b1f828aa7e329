//! All assignments, what the process tests share: real programs that are killed when dropped, a plain client, and waiting.
//!
//! Everything here panics when something goes wrong: that is how a test fails.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

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
