//! A real `server` process for a test: on a free port, in a temporary folder, killed when dropped.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Long enough for any machine: a test that waits this long has failed.
pub const PATIENCE: Duration = Duration::from_secs(30);
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_server");

pub struct Server {
    pub process: Child,
    pub address: SocketAddr,
    folder: PathBuf,
    events: Arc<Mutex<Vec<serde_json::Value>>>,
}

impl Server {
    pub fn start(folder: &Path, arguments: &[&str]) -> Self {
        Self::start_as(Command::new(PROGRAM), folder, arguments)
    }

    /// Starts it through `command`, which ends in running the server with the arguments that are added.
    pub fn start_as(mut command: Command, folder: &Path, arguments: &[&str]) -> Self {
        command
            .args(["--listen", "127.0.0.1:0", "--log-format", "json", "--data-dir"])
            .arg(folder)
            .args(arguments);
        let mut process =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let events = Arc::new(Mutex::new(Vec::new()));
        let mut address = None;
        while address.is_none() {
            let line = lines.next().expect("the server ended before it listened").unwrap();
            let event: serde_json::Value =
                serde_json::from_str(&line).unwrap_or_else(|_| panic!("not JSON: {line}"));
            if event["message"] == "listening" {
                address = Some(event["address"].as_str().unwrap().parse().unwrap());
            }
            events.lock().unwrap().push(event);
        }
        let rest = events.clone();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Ok(event) = serde_json::from_str(&line) {
                    rest.lock().unwrap().push(event);
                }
            }
        });
        Self { process, address: address.unwrap(), folder: folder.to_owned(), events }
    }

    pub fn connect(&self) -> Client {
        Client::connect(self.address)
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.process.id()).unwrap()), signal).unwrap();
    }

    /// Waits for the process to end.
    pub fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        wait_for("the server to end", || {
            status = self.process.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// Whether an event with this message was logged; waits for it.
    pub fn logged(&self, message: &str) {
        let seen =
            || self.events.lock().unwrap().iter().any(|event| event["message"].as_str() == Some(message));
        wait_for(&format!("the event {message:?}"), seen);
    }

    /// Resident memory in bytes.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    pub fn log(&self) -> Log {
        Log::read(&self.folder)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What `log.txt` holds: how often each message stands there. Every line must be a record.
pub struct Log {
    pub messages: HashMap<String, usize>,
    pub in_order: Vec<String>,
}

impl Log {
    pub fn read(folder: &Path) -> Self {
        let text = std::fs::read_to_string(folder.join("log.txt")).unwrap();
        let mut log = Self { messages: HashMap::new(), in_order: Vec::new() };
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        for line in whole.lines() {
            let fields = journal::record::fields(line).unwrap_or_else(|| panic!("not a record: {line}"));
            let [time, peer, message] = fields.as_slice() else { panic!("not three fields: {line}") };
            assert!(time.ends_with('Z') && time.len() == 24, "not a time: {line}");
            peer.parse::<SocketAddr>().unwrap_or_else(|_| panic!("not an address: {line}"));
            *log.messages.entry(message.clone()).or_default() += 1;
            log.in_order.push(message.clone());
        }
        log
    }

    pub fn holds_once(&self, message: &str) {
        assert_eq!(self.messages.get(message), Some(&1), "{message:?} was acknowledged");
    }
}

/// A plain client.
pub struct Client {
    pub stream: TcpStream,
    reader: BufReader<TcpStream>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { reader: BufReader::new(stream.try_clone().unwrap()), stream }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// The next reply, without its line end; empty at the end of the stream.
    pub fn reply(&mut self) -> String {
        let mut line = String::new();
        self.reader.read_line(&mut line).unwrap();
        line.trim_end_matches('\n').to_owned()
    }

    pub fn expect_received(&mut self, message: &str) {
        assert_eq!(self.reply(), format!("OK mensaje recibido correctamente: {message}"));
    }

    pub fn say(&mut self, message: &str) {
        self.send(format!("{message}\n"));
        self.expect_received(message);
    }

    /// Ends the sending side and reads what is left.
    pub fn finish(mut self) -> String {
        self.stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut rest = String::new();
        self.reader.read_to_string(&mut rest).unwrap();
        rest
    }
}

pub fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
        thread::sleep(Duration::from_millis(2));
    }
}
