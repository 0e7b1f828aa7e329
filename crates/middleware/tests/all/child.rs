//! A server in a process of its own, which can be killed.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use middleware::connect::{Middleware, TransportSettings, connect};
use middleware::{Endpoint, MutualTls, TlsHolder};

use crate::answering::Answering;

const MIDDLEWARE: &str = "MIDDLEWARE_TEST_SERVES";
const BROKER: &str = "MIDDLEWARE_TEST_BROKER";
const TLS: &str = "MIDDLEWARE_TEST_TLS";
const READY: &str = "serves at ";

/// A process that answers requests. It is killed when it is dropped.
pub struct ServerProcess {
    child: Child,
    /// Where it serves.
    pub endpoint: Endpoint,
}

impl ServerProcess {
    /// Starts a server of a middleware, at `worker` (a name, or an address with port 0).
    pub fn start(middleware: Middleware, broker: Option<&str>, worker: &str) -> ServerProcess {
        Self::start_with(middleware, broker, worker, None)
    }

    /// As [`ServerProcess::start`], with the certificates of a folder.
    pub fn start_with(
        middleware: Middleware,
        broker: Option<&str>,
        worker: &str,
        certificates: Option<&Path>,
    ) -> ServerProcess {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["child::serves", "--exact", "--ignored", "--nocapture"]);
        command.env(MIDDLEWARE, format!("{middleware} {worker}"));
        command.env(BROKER, broker.unwrap_or_default());
        command.env(TLS, certificates.unwrap_or(Path::new("")));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let place = lines.map(Result::unwrap).find_map(|line| Some(line.split_once(READY)?.1.to_owned()));
        ServerProcess { child, endpoint: Endpoint::Worker(place.expect("the child says where it serves")) }
    }

    /// Kills the process as `kill -9` does.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// The most memory that the process had, in bytes.
    pub fn peak_memory(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        peak.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        let _dead_already = self.child.kill();
        let _status = self.child.wait();
    }
}

/// The certificates of a node in a folder.
pub fn node(folder: &Path) -> MutualTls {
    MutualTls::open(folder, TlsHolder::Node).unwrap()
}

/// The process itself. It serves until its standard input ends, so that it does not outlive the test.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "other tests start it"]
async fn serves() {
    let Ok(what) = std::env::var(MIDDLEWARE) else { return };
    let (middleware, worker) = what.split_once(' ').unwrap();
    let settings = TransportSettings {
        broker_url: std::env::var(BROKER).ok().filter(|url| !url.is_empty()),
        tls: std::env::var(TLS)
            .ok()
            .filter(|folder| !folder.is_empty())
            .map(|folder| node(Path::new(&folder))),
        ..TransportSettings::default()
    };
    let transport = connect(middleware.parse().unwrap(), settings).await.unwrap();
    let endpoint = Endpoint::Worker(worker.to_owned());
    let server = Answering::start(transport.serve(&endpoint, 256).await.unwrap(), &endpoint);
    let Endpoint::Worker(place) = &server.endpoint else { unreachable!("a worker is served") };
    println!("{READY}{place}");
    let end = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    end.await.unwrap().unwrap();
}
