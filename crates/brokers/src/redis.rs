//! A real `redis-server`.

use std::io::{BufRead, BufReader, Read, Write};

use tempfile::TempDir;

use crate::guarded::{GuardedProcess, connect, find_or_skip, free_port, wait_until};

/// A running `redis-server` on a free port of loopback, with a temporary folder.
#[derive(Debug)]
pub struct RedisServer {
    port: u16,
    process: GuardedProcess,
    folder: TempDir,
    keeps_data: bool,
}

impl RedisServer {
    /// Returns whether Redis is installed. If it is not, a loud line says that a test is skipped, and counts.
    ///
    /// # Panics
    /// If it is not installed while `CI=true` is set.
    #[must_use]
    pub fn is_installed() -> bool {
        find_or_skip("redis-server", &[]).is_some()
    }

    /// Starts a server that keeps its data in memory only, so that it is empty after [`restart`](Self::restart).
    ///
    /// Returns `None` if Redis is not installed.
    ///
    /// # Panics
    /// If the server does not start, or is not installed while `CI=true` is set.
    #[must_use]
    pub fn start() -> Option<Self> {
        Self::start_with(false)
    }

    /// Starts a server that writes each change to disk before it answers, so that nothing is lost in a restart.
    ///
    /// Returns `None` if Redis is not installed.
    ///
    /// # Panics
    /// As [`start`](Self::start) does.
    #[must_use]
    pub fn start_durable() -> Option<Self> {
        Self::start_with(true)
    }

    fn start_with(keeps_data: bool) -> Option<Self> {
        find_or_skip("redis-server", &[])?;
        let mut folder = tempfile::tempdir().unwrap();
        // Another process may take the free port first. The next one is tried then.
        loop {
            let port = free_port();
            let process = spawn(port, &folder, keeps_data);
            let mut server = Self { port, process, folder, keeps_data };
            if server.wait() {
                return Some(server);
            }
            folder = server.folder;
        }
    }

    /// Returns the server's address, such as `redis://127.0.0.1:6379`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Returns the server's port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Kills the server, as `kill -9` does.
    ///
    /// # Panics
    /// If the server is still there afterwards.
    pub fn kill(&mut self) {
        self.process.kill();
        wait_until("the end of redis-server", || connect(self.port).is_none(), || false);
    }

    /// Starts a killed server again on the same port and in the same folder, and waits until it answers.
    ///
    /// # Panics
    /// If the server does not start.
    pub fn restart(&mut self) {
        self.process = spawn(self.port, &self.folder, self.keeps_data);
        assert!(self.wait(), "redis-server did not start again: {}", self.log());
    }

    /// Sends a command of words without spaces, such as `INFO memory`, and returns the reply's text.
    ///
    /// # Panics
    /// If the server does not answer.
    #[must_use]
    pub fn ask(&self, command: &str) -> String {
        ask(self.port, command).unwrap_or_else(|| panic!("redis-server does not answer {command}"))
    }

    /// Returns the number beside a key of `INFO`, such as `used_memory_peak`.
    ///
    /// # Panics
    /// If the server does not tell.
    #[must_use]
    pub fn info(&self, key: &str) -> u64 {
        let info = self.ask("INFO everything");
        let found = info.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        found.unwrap_or_else(|| panic!("INFO has no {key}")).trim().parse().unwrap()
    }

    fn wait(&mut self) -> bool {
        let Self { port, process, .. } = self;
        wait_until(
            "the start of redis-server",
            || ask(*port, "PING").is_some_and(|reply| reply == "PONG"),
            || process.has_ended(),
        )
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

fn spawn(port: u16, folder: &TempDir, keeps_data: bool) -> GuardedProcess {
    let program = find_or_skip("redis-server", &[]).unwrap();
    GuardedProcess::start(&program, &folder.path().join("log"), |command| {
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"]);
        command.arg(folder.path());
        if keeps_data {
            command.args(["--appendonly", "yes", "--appendfsync", "always"]);
        }
    })
}

/// Speaks just enough of the protocol for a line or a text as the reply.
fn ask(port: u16, command: &str) -> Option<String> {
    let mut stream = connect(port)?;
    stream.write_all(format!("{command}\r\n").as_bytes()).ok()?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let line = line.trim_end();
    if let Some(length) = line.strip_prefix('$') {
        let mut text = vec![0; length.parse().ok()?];
        reader.read_exact(&mut text).ok()?;
        return String::from_utf8(text).ok();
    }
    Some(line.trim_start_matches(['+', ':', '-']).to_owned())
}
