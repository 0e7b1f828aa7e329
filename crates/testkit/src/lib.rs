//! All assignments, what the process tests share: real programs on free ports, killed when dropped; a plain client; waiting for things.
//!
//! Everything here panics when something is not as it should be: that is how a test fails.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

pub use nix::sys::signal::Signal;
use nix::sys::signal::kill;
use nix::unistd::Pid;
pub use serde_json::Value;

/// Long enough for any machine: a test that waits this long has failed.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A program of this workspace, as cargo left it beside the test that runs.
///
/// # Panics
/// If it is not there.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(|deps| deps.parent()).unwrap().join(name);
    assert!(path.exists(), "{} is missing: run `cargo build --workspace` first", path.display());
    path
}

/// A running program that logs JSON events to stderr.
#[derive(Debug)]
pub struct Process {
    /// The process itself.
    pub child: Child,
    /// Where it listens, as it logged.
    pub address: SocketAddr,
    events: Arc<Mutex<Vec<Value>>>,
}

impl Process {
    /// Starts it and waits until it logs that it listens. `--log-format json` is added.
    ///
    /// # Panics
    /// If it ends before it listens.
    pub fn start(command: Command) -> Self {
        Self::start_writing_to(Stdio::null(), command)
    }

    /// The same, with its standard output in this file.
    ///
    /// # Panics
    /// If it ends before it listens.
    pub fn start_writing_to(stdout: impl Into<Stdio>, command: Command) -> Self {
        Self::try_start_writing_to(stdout, command)
            .unwrap_or_else(|events| panic!("the program ended before it listened: {events:?}"))
    }

    /// The same, for a program that may refuse to start.
    ///
    /// # Errors
    /// What it logged, if it ends before it listens.
    ///
    /// # Panics
    /// If it cannot be started at all.
    pub fn try_start(command: Command) -> Result<Self, Vec<Value>> {
        Self::try_start_writing_to(Stdio::null(), command)
    }

    fn try_start_writing_to(stdout: impl Into<Stdio>, mut command: Command) -> Result<Self, Vec<Value>> {
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
            let listening = event["message"] == "listening";
            events.push(event);
            if listening {
                break events[events.len() - 1]["address"].as_str().unwrap().parse().unwrap();
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

    /// Sends it a signal.
    ///
    /// # Panics
    /// If it is gone.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    /// Waits for it to end.
    ///
    /// # Panics
    /// If it does not.
    pub fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        wait_for("the program to end", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// Kills it at once, as `kill -9` does.
    ///
    /// # Panics
    /// If it cannot be waited for.
    pub fn kill(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }

    /// The events with this message so far.
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
    /// If it does not come.
    pub fn logged(&self, message: &str) {
        wait_for(&format!("the event {message:?}"), || !self.events(message).is_empty());
    }

    /// Resident memory in bytes.
    ///
    /// # Panics
    /// If it is gone.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// The most resident memory that it ever had, in bytes.
    ///
    /// # Panics
    /// If it is gone.
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

/// A plain client of a protocol of lines.
#[derive(Debug)]
pub struct LineClient {
    /// The connection.
    pub stream: TcpStream,
    reader: BufReader<TcpStream>,
}

impl LineClient {
    /// Connects.
    ///
    /// # Panics
    /// If it cannot.
    #[must_use]
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { reader: BufReader::new(stream.try_clone().unwrap()), stream }
    }

    /// Sends.
    ///
    /// # Panics
    /// If the connection is broken.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// The next reply, without its line end; empty at the end of the stream.
    ///
    /// # Panics
    /// If none comes.
    pub fn reply(&mut self) -> String {
        let mut line = String::new();
        self.reader.read_line(&mut line).unwrap();
        line.trim_end_matches('\n').to_owned()
    }

    /// Waits until the other side closes the connection without a reply.
    ///
    /// # Panics
    /// If it replies, or keeps the connection.
    pub fn cut_off(&mut self) {
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            Ok(0) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            other => panic!("expected a closed connection, got {other:?} and {line:?}"),
        }
    }

    /// Sends a line of JSON and gives back the reply, which is one too.
    ///
    /// # Panics
    /// If it is not.
    pub fn ask(&mut self, request: &Value) -> Value {
        self.send(format!("{request}\n"));
        let reply = self.reply();
        serde_json::from_str(&reply).unwrap_or_else(|_| panic!("not JSON: {reply:?}"))
    }

    /// Ends the sending side and reads what is left.
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

/// Waits until `done`.
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
