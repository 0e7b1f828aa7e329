//! A store of real programs, which tests kill, stop and start again one by one.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rand::RngExt as _;
use service::net::LocalGroup;
use testkit::{LineClient, Process, Signal, program, wait_for};

/// The names of the files of keys. A store whose folder has them when it starts is one with a key.
pub const CLUSTER_KEY: &str = "cluster.key";
pub const CLIENT_KEY: &str = "client.key";

/// A headnode and its datanodes.
pub struct StoreProcesses {
    pub folder: PathBuf,
    pub group: LocalGroup,
    pub headnode: Process,
    pub datanodes: Vec<Process>,
    settings: StoreSettings,
}

/// The settings that differ from test to test.
#[derive(Clone)]
pub struct StoreSettings {
    pub datanodes: usize,
    pub interval: &'static str,
    pub store_timeout: &'static str,
    pub headnode: Vec<&'static str>,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self { datanodes: 3, interval: "300ms", store_timeout: "300ms", headnode: Vec::new() }
    }
}

impl StoreProcesses {
    /// Starts the programs and waits until all datanodes are operative.
    pub fn start(folder: &Path, settings: StoreSettings) -> Self {
        let group = LocalGroup::reserve().unwrap();
        let datanodes =
            (1..=settings.datanodes).map(|number| start_datanode(folder, &group, number)).collect();
        let headnode = start_headnode(folder, &group, free_port(), &settings);
        let store = Self { folder: folder.to_owned(), group, headnode, datanodes, settings };
        store.wait_until_available(store.settings.datanodes);
        store
    }

    pub fn connect(&self) -> LineClient {
        LineClient::connect(self.headnode.address)
    }

    pub fn available(&self) -> u64 {
        if !self.folder.join(CLUSTER_KEY).exists() {
            return self.connect().ask(&serde_json::json!({"status": {}}))["status"]["available"]
                .as_u64()
                .unwrap();
        }
        let status = self.client("status", &["status", "--json"]).output().unwrap().stdout;
        serde_json::from_slice::<serde_json::Value>(&status)
            .map_or(0, |status| status["available"].as_u64().unwrap())
    }

    pub fn wait_until_available(&self, count: usize) {
        wait_for(&format!("{count} available datanodes"), || self.available() == count as u64);
    }

    /// Starts datanode `number` again, with the files that it left.
    pub fn restart_datanode(&mut self, number: usize) {
        self.datanodes[number - 1].kill();
        self.datanodes[number - 1] = start_datanode(&self.folder, &self.group, number);
    }

    /// Starts the headnode again, at the same address.
    pub fn restart_headnode(&mut self) {
        self.headnode.kill();
        let port = self.headnode.address.port();
        self.headnode = start_headnode(&self.folder, &self.group, port, &self.settings);
    }

    /// Returns the command of a client with a folder of its own.
    pub fn client(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program("store-client"));
        command.arg("--headnode").arg(self.headnode.address.to_string());
        command.arg("--data-dir").arg(self.folder.join(name)).args(arguments);
        let key = self.folder.join(CLIENT_KEY);
        if key.exists() {
            command.arg("--key-file").arg(key);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Ends everything as an operator does. The files are then complete.
    pub fn stop(mut self) {
        for process in std::iter::once(&mut self.headnode).chain(&mut self.datanodes) {
            process.signal(Signal::SIGTERM);
            let status = process.ended();
            assert!(status.success(), "{status}");
        }
    }
}

fn start_headnode(folder: &Path, group: &LocalGroup, port: u16, settings: &StoreSettings) -> Process {
    let mut port = port;
    loop {
        let mut command = Command::new(program("headnode"));
        // Only tests of the page have one, by a flag.
        command.env("HEADNODE_PAGE", "none");
        command.args(["--interface", "127.0.0.1", "--group", &group.address.to_string()]);
        command.args(["--listen", &SocketAddr::from((Ipv4Addr::LOCALHOST, port)).to_string()]);
        command.args(["--interval", settings.interval, "--store-timeout", settings.store_timeout]);
        command.args(["--expected", &settings.datanodes.to_string()]);
        command.arg("--data-dir").arg(folder.join("headnode")).args(&settings.headnode);
        add_key(&mut command, folder);
        match Process::try_start(command) {
            Ok(process) => return process,
            Err(events) => {
                // Another test took the port between the look and the start.
                assert!(format!("{events:?}").contains("cannot listen"), "{events:?}");
                port = free_port();
            }
        }
    }
}

pub fn start_datanode(folder: &Path, group: &LocalGroup, number: usize) -> Process {
    let name = format!("datanode{number}");
    let mut command = datanode(&folder.join(&name), group, &name);
    add_key(&mut command, folder);
    Process::start(command)
}

/// Gives a program the key of the cluster, if the store has one.
fn add_key(command: &mut Command, folder: &Path) {
    let key = folder.join(CLUSTER_KEY);
    if key.exists() {
        command.arg("--key-file").arg(key);
    }
}

pub fn datanode(data: &Path, group: &LocalGroup, name: &str) -> Command {
    let mut command = Command::new(program("datanode"));
    // Damage is found soon.
    command.env("DATANODE_SCRUB_INTERVAL", "200ms");
    add_datanode_flags(&mut command, data, group, name);
    command
}

pub fn add_datanode_flags(command: &mut Command, data: &Path, group: &LocalGroup, name: &str) {
    command.args(["--name", name, "--listen", "127.0.0.1:0", "--interface", "127.0.0.1"]);
    command.args(["--group", &group.address.to_string(), "--data-dir"]).arg(data);
}

/// Returns a port below those that the system gives to connections, so that it stays free while the headnode is down.
pub fn free_port() -> u16 {
    loop {
        let port = rand::rng().random_range(12_000..32_000);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// Waits for a client's program. Returns whether it ended well, and what it printed and logged.
pub fn outcome(child: Child) -> (bool, String, String) {
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}
