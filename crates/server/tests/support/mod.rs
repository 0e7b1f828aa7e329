//! A real `server` process for a test: it uses a free port and a temporary folder, and is killed when dropped.

#![allow(dead_code, unused_imports, reason = "each test file uses a part of it")]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::Command;

pub use testkit::{LineClient, PATIENCE, Process, wait_for};

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_server");

pub struct Server {
    process: Process,
    folder: PathBuf,
}

impl Server {
    /// Starts a server for which only a line end ends a message, so that a slow machine does not split the messages of
    /// a test.
    pub fn start(folder: &Path, arguments: &[&str]) -> Self {
        let mut command = Command::new(PROGRAM);
        command.env("SERVER_QUIET", "0");
        Self::start_as(command, folder, arguments)
    }

    /// Starts the server through `command`, which ends in running the server with the arguments that are added.
    pub fn start_as(mut command: Command, folder: &Path, arguments: &[&str]) -> Self {
        command.args(["--listen", "127.0.0.1:0", "--data-dir"]).arg(folder).args(arguments);
        Self { process: Process::start(command), folder: folder.to_owned() }
    }

    pub fn connect(&self) -> LineClient {
        LineClient::connect(self.address)
    }

    pub fn log(&self) -> Log {
        Log::read(&self.folder)
    }
}

impl Deref for Server {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl DerefMut for Server {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// A client that speaks the protocol of Actividad 1.
pub trait Greets {
    fn expect_received(&mut self, message: &str);
    fn say(&mut self, message: &str);
}

impl Greets for LineClient {
    fn expect_received(&mut self, message: &str) {
        assert_eq!(self.reply(), format!("OK mensaje recibido correctamente: {message}"));
    }

    fn say(&mut self, message: &str) {
        self.send(format!("{message}\n"));
        self.expect_received(message);
    }
}

/// The content of `log.txt`: how often each message is logged. Every line must be a record.
pub struct Log {
    pub messages: HashMap<String, usize>,
    pub in_order: Vec<String>,
    /// The refused messages, as the text behind `ERROR`.
    pub refused: Vec<String>,
}

impl Log {
    pub fn read(folder: &Path) -> Self {
        let text = std::fs::read_to_string(folder.join("log.txt")).unwrap();
        let mut log = Self { messages: HashMap::new(), in_order: Vec::new(), refused: Vec::new() };
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        for line in whole.lines() {
            let fields = journal::record::fields(line).unwrap_or_else(|| panic!("not a record: {line}"));
            let [time, peer, message, ..] = fields.as_slice() else { panic!("not three fields: {line}") };
            assert!(time.ends_with('Z') && time.len() == 24, "not a time: {line}");
            peer.parse::<SocketAddr>().unwrap_or_else(|_| panic!("not an address: {line}"));
            // A message with the text `ERROR …` is logged in quotes.
            if let Some((_, refusal)) = line.split_once(&format!(" {peer} ERROR ")) {
                log.refused.push(refusal.to_owned());
                continue;
            }
            assert_eq!(fields.len(), 3, "not three fields: {line}");
            *log.messages.entry(message.clone()).or_default() += 1;
            log.in_order.push(message.clone());
        }
        log
    }

    pub fn holds_once(&self, message: &str) {
        assert_eq!(self.messages.get(message), Some(&1), "{message:?} was acknowledged");
    }
}
