//! Real echo servers and clients for a test, and their action lines.

use std::fs::File;
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use testkit::{Process, wait_for};

/// Checks the form of each line and takes off its time.
pub fn actions(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(without_time).collect()
}

fn without_time(line: &str) -> String {
    let (time, rest) = line.split_at_checked(20).unwrap_or_else(|| panic!("too short: {line}"));
    let form: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(form, "0000-00-00 00:00:00 ", "{line}");
    rest.to_owned()
}

/// A program's environment without the tests' own settings.
pub fn command(program: &str, folder: &Path, variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder).envs(variables.iter().copied());
    command
}

pub struct EchoServer {
    process: Process,
    folder: TempDir,
}

impl EchoServer {
    pub fn start(variables: &[(&str, &str)], arguments: &[&str]) -> Self {
        Self::configured("", variables, arguments)
    }

    pub fn configured(config: &str, variables: &[(&str, &str)], arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.ini"), config).unwrap();
        let mut command = command(env!("CARGO_BIN_EXE_echo-server"), folder.path(), &[]);
        command.env("SERVER_PORT", "0").env("SERVER_IP", "127.0.0.1").envs(variables.iter().copied());
        command.args(["--log-level", "info"]).args(arguments);
        let stdout = File::create(folder.path().join("stdout")).unwrap();
        Self { process: Process::start_writing_to(stdout, command), folder }
    }

    /// Its action lines so far, from the level on.
    pub fn actions(&self) -> Vec<String> {
        actions(&self.folder.path().join("stdout"))
    }

    /// Waits until this many of its lines hold `part`: they are written a moment after the fact.
    pub fn wait_for_actions(&self, count: usize, part: &str) {
        wait_for(&format!("{count} times the action {part:?}"), || {
            self.actions().iter().filter(|action| action.contains(part)).count() == count
        });
    }

    /// SIGTERM: it ends soon, with code 0.
    pub fn stop(&mut self) -> Vec<String> {
        let asked = std::time::Instant::now();
        self.signal(Signal::SIGTERM);
        assert_eq!(self.ended().code(), Some(0));
        assert!(asked.elapsed() < Duration::from_secs(1), "took {:?}", asked.elapsed());
        self.actions()
    }
}

impl Deref for EchoServer {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl DerefMut for EchoServer {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// An echo client that runs, or has run.
pub struct EchoClient {
    child: Child,
    folder: TempDir,
}

impl EchoClient {
    pub fn start(config: &str, variables: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.yaml"), config).unwrap();
        let mut command = command(env!("CARGO_BIN_EXE_echo-client"), folder.path(), variables);
        let stdout = File::create(folder.path().join("stdout")).unwrap();
        let stderr = File::create(folder.path().join("stderr")).unwrap();
        let child = command.stdin(Stdio::null()).stdout(stdout).stderr(stderr).spawn().unwrap();
        Self { child, folder }
    }

    pub fn actions(&self) -> Vec<String> {
        actions(&self.folder.path().join("stdout"))
    }

    pub fn stderr(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("stderr")).unwrap()
    }

    pub fn wait_for_action(&self, line: &str) {
        wait_for(&format!("the action {line:?}"), || {
            self.actions().iter().any(|action| action.contains(line))
        });
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    pub fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        wait_for("the client to end", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for EchoClient {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
