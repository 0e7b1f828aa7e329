//! A real `rabbitmq-server`, with an `epmd` of its own, so that nothing of it is shared with other servers on the machine.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use crate::guarded::{GuardedProcess, connect, find_or_skip, free_port, wait_until};

/// The server's own scripts. The ones in `PATH` change the user, which only root may.
const SCRIPTS: [&str; 1] = ["/usr/lib/rabbitmq/bin"];
/// What a client of AMQP 0-9-1 says first. A server that is ready answers with a method frame.
const GREETING: &[u8] = b"AMQP\0\0\x09\x01";
const METHOD_FRAME: u8 = 1;

/// A running `rabbitmq-server` on a free port of loopback, with a temporary folder.
///
/// It takes seconds to start: tests share one, with queues of different prefixes.
#[derive(Debug)]
pub struct RabbitServer {
    port: u16,
    process: GuardedProcess,
    home: RabbitHome,
    /// Tells nodes where other nodes are. It stays while the server is killed and started again.
    _port_mapper: GuardedProcess,
}

#[derive(Debug)]
struct RabbitHome {
    folder: TempDir,
    program: PathBuf,
    mapper_port: u16,
    node_port: u16,
}

impl RabbitServer {
    /// Returns whether RabbitMQ is installed. If it is not, a loud line says that a test is skipped, and counts.
    ///
    /// # Panics
    /// If it is not installed while `CI=true` is set.
    #[must_use]
    pub fn is_installed() -> bool {
        find_or_skip("rabbitmq-server", &SCRIPTS).is_some()
    }

    /// Starts a server and waits until it answers. Returns `None` if RabbitMQ is not installed.
    ///
    /// # Panics
    /// If the server does not start, or is not installed while `CI=true` is set.
    #[must_use]
    pub fn start() -> Option<Self> {
        let program = find_or_skip("rabbitmq-server", &SCRIPTS)?;
        let mapper = find_or_skip("epmd", &[])?;
        let folder = tempfile::tempdir().unwrap();
        let (port, mapper_port, node_port) = (free_port(), free_port(), free_port());
        let port_mapper = GuardedProcess::start(&mapper, &folder.path().join("epmd.log"), |command| {
            command.args(["-address", "127.0.0.1", "-port", &mapper_port.to_string()]);
        });
        std::fs::write(folder.path().join("plugins"), "[].\n").unwrap();
        let settings = format!(
            "listeners.tcp.1 = 127.0.0.1:{port}\nvm_memory_high_watermark.absolute = 512MiB\ndisk_free_limit.absolute = 1MB\n"
        );
        std::fs::write(folder.path().join("rabbitmq.conf"), settings).unwrap();
        let home = RabbitHome { folder, program, mapper_port, node_port };
        let process = home.spawn();
        let mut server = Self { port, process, home, _port_mapper: port_mapper };
        server.wait();
        Some(server)
    }

    /// Returns the server's address with user and password, such as `amqp://guest:guest@127.0.0.1:5672`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}", self.port)
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
        wait_until("the end of rabbitmq-server", || connect(self.port).is_none(), || false);
    }

    /// Starts a killed server again on the same port and in the same folder, and waits until it answers.
    ///
    /// # Panics
    /// If the server does not start.
    pub fn restart(&mut self) {
        self.process = self.home.spawn();
        self.wait();
    }

    /// Runs `rabbitmqctl` with these arguments, such as `["close_all_connections", "a test"]`, and returns what it prints.
    ///
    /// # Panics
    /// If the command fails.
    #[must_use]
    pub fn control(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(self.home.program.with_file_name("rabbitmqctl"));
        self.home.prepare(&mut command);
        let output = command.arg("--quiet").args(arguments).output().unwrap();
        assert!(output.status.success(), "rabbitmqctl {arguments:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn wait(&mut self) {
        let Self { port, process, home, .. } = self;
        let started = wait_until("the start of rabbitmq-server", || answers(*port), || process.has_ended());
        assert!(started, "rabbitmq-server did not start: {}", home.log());
    }
}

impl RabbitHome {
    fn spawn(&self) -> GuardedProcess {
        GuardedProcess::start(&self.program, &self.folder.path().join("log"), |command| self.prepare(command))
    }

    fn prepare(&self, command: &mut Command) {
        let folder = self.folder.path();
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("RABBITMQ_") {
                command.env_remove(name);
            }
        }
        command
            .env("HOME", folder)
            .env("LANG", "C.UTF-8")
            .env("ERL_EPMD_PORT", self.mapper_port.to_string())
            .env("RABBITMQ_NODENAME", format!("test{}@localhost", self.node_port))
            .env("RABBITMQ_DIST_PORT", self.node_port.to_string())
            .env("RABBITMQ_MNESIA_BASE", folder.join("data"))
            .env("RABBITMQ_LOG_BASE", folder.join("logs"))
            .env("RABBITMQ_CONFIG_FILE", folder.join("rabbitmq.conf"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", folder.join("plugins"));
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

fn answers(port: u16) -> bool {
    let Some(mut stream) = connect(port) else { return false };
    let mut kind = [0];
    stream.write_all(GREETING).is_ok() && stream.read_exact(&mut kind).is_ok() && kind[0] == METHOD_FRAME
}
