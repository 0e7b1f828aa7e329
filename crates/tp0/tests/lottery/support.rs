//! Servers, agencies, and a proxy whose address stays while servers come and go.

use std::fs::{self, File};
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

pub use testkit::{LineClient, PATIENCE, Process, Signal, wait_for};

pub const SERVER: &str = env!("CARGO_BIN_EXE_lottery-server");
const AGENCY: &str = env!("CARGO_BIN_EXE_lottery-agency");

/// A server that writes its action lines to `out` in its folder.
pub struct LotteryServer {
    process: Process,
    folder: PathBuf,
}

impl LotteryServer {
    pub fn start(folder: &Path, agencies: usize) -> Self {
        Self::start_with(folder, agencies, "", &[])
    }

    /// Starts it with more variables, after `prepare` in the shell.
    pub fn start_with(folder: &Path, agencies: usize, prepare: &str, variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{prepare} exec \"$@\" >>out"), "sh", SERVER, "--log-level", "info"]);
        command.current_dir(folder).envs([("SERVER_PORT", "0"), ("SERVER_IP", "127.0.0.1")]);
        command
            .env("NUMBER_OF_CLIENTS", agencies.to_string())
            .env("LOTTERY_SERVER_PAGE", "none")
            .envs(variables.iter().copied());
        Self { process: Process::start(command), folder: folder.to_owned() }
    }

    pub fn connect(&self) -> LineClient {
        LineClient::connect(self.address)
    }

    /// The action lines so far, without time and level, without those about connections.
    pub fn actions(&self) -> Vec<String> {
        let lines = actions(&fs::read_to_string(self.folder.join("out")).unwrap());
        lines
            .into_iter()
            .filter(|line| !line.contains("accept_connections") && !line.contains("action: config"))
            .collect()
    }

    /// Waits until there are this many action lines, and returns them. Lines leave a moment after the event.
    pub fn first_actions(&self, count: usize) -> Vec<String> {
        wait_for(&format!("{count} action lines"), || self.actions().len() >= count);
        self.actions()
    }

    pub fn told(&self, line: &str) {
        wait_for(line, || self.actions().iter().any(|told| told == line));
    }

    pub fn bets(&self) -> String {
        fs::read_to_string(self.folder.join("bets.csv")).unwrap()
    }

    pub fn stop(&mut self) {
        self.signal(Signal::SIGTERM);
        assert_eq!(self.ended().code(), Some(0));
    }
}

impl Deref for LotteryServer {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl DerefMut for LotteryServer {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// The action lines in `text`, from `action:` on.
pub fn actions(text: &str) -> Vec<String> {
    text.lines().filter_map(|line| line.find("action: ").map(|at| line[at..].to_owned())).collect()
}

/// An agency that is running in a folder of its own.
pub struct AgencyProcess {
    child: Child,
    out: PathBuf,
}

impl AgencyProcess {
    pub fn start(
        folder: &Path,
        id: usize,
        server: SocketAddr,
        arguments: &[&str],
        variables: &[(&str, &str)],
    ) -> Self {
        let out = folder.join(format!("out-{id}"));
        let mut command = Command::new(AGENCY);
        command.args(arguments).current_dir(folder);
        command.env("CLI_ID", id.to_string()).env("CLI_SERVER_ADDRESS", server.to_string());
        command.env("CLI_LOOP_PERIOD", "50ms").envs(variables.iter().copied());
        command.stdin(Stdio::null()).stdout(File::create(&out).unwrap()).stderr(Stdio::null());
        Self { child: command.spawn().unwrap(), out }
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Its exit code and action lines after the first, which tells the configuration.
    pub fn finish(mut self) -> (Option<i32>, Vec<String>) {
        let mut status: Option<ExitStatus> = None;
        wait_for("the agency to end", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        (status.unwrap().code(), self.actions())
    }

    pub fn actions(&self) -> Vec<String> {
        let lines = actions(&fs::read_to_string(&self.out).unwrap());
        lines.into_iter().filter(|line| !line.starts_with("action: config ")).collect()
    }

    pub fn signal(&self, signal: Signal) {
        let status =
            Command::new("kill").arg("-s").arg(signal.as_str()).arg(self.child.id().to_string()).status();
        assert!(status.unwrap().success());
    }
}

impl Drop for AgencyProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Hands connections on to whatever server there is at the time.
pub struct LotteryProxy {
    pub address: SocketAddr,
    pub target: Arc<Mutex<SocketAddr>>,
}

impl LotteryProxy {
    pub fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let target = Arc::new(Mutex::new(target));
        let current = target.clone();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let address = *current.lock().unwrap();
                // Without a server the connection ends at once.
                if let Ok(server) = TcpStream::connect(address) {
                    pump(client.try_clone().unwrap(), server.try_clone().unwrap());
                    pump(server, client);
                }
            }
        });
        Self { address, target }
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream) {
    thread::spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    });
}

/// A bets message.
pub fn message(agency: &str, bets: &[&str]) -> String {
    format!("{agency}:4:{}\n\r\n", bets.join("\n"))
}
