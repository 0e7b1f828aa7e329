//! A cluster of real processes.

use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use brokers::{RabbitServer, RedisServer};
use dataframe_cluster::ClusterClient;
use dataframe_jobs::message::{NodesCommand, WorkerState, WorkerStatus};
use middleware::connect::{Middleware, TransportSettings, connect};
use tempfile::TempDir;
use testkit::{Process, program};

/// How long a client waits for a master and for workers.
pub const WAIT: Duration = Duration::from_secs(60);

/// The broker of a cluster.
pub enum Broker {
    None,
    Redis(RedisServer),
    Rabbit(RabbitServer),
    /// The folder that is the bucket.
    Bucket(TempDir),
}

impl Broker {
    /// Starts what the middleware needs. Returns `None` if it is not installed.
    pub fn start(middleware: Middleware) -> Option<Broker> {
        Some(match middleware {
            Middleware::Grpc | Middleware::XmlRpc => Broker::None,
            Middleware::RabbitMq => Broker::Rabbit(RabbitServer::start()?),
            Middleware::ObjectStore => Broker::Bucket(tempfile::tempdir().unwrap()),
            _ => Broker::Redis(RedisServer::start()?),
        })
    }
}

/// A master and workers.
pub struct Cluster {
    pub middleware: Middleware,
    pub broker: Broker,
    pub master: Process,
    pub workers: Vec<Process>,
    pub folder: TempDir,
    /// The URL of a Redis beside a bucket, for what is started from now on.
    pub fast_store: Option<String>,
    /// The address of the master; of both, separated by a comma, in a pair.
    listen: String,
    /// Further arguments of the master.
    master_arguments: &'static [&'static str],
}

/// With this, a master lets workers put all rows together that go into an exchange, however few they are.
pub const SHUFFLE_ALL: &[&str] = &["--shuffle-above", "1"];

impl Cluster {
    /// Starts a master and workers of one thread each. Returns `None` if the broker is not installed.
    pub fn start(middleware: Middleware, workers: usize) -> Option<Cluster> {
        Self::start_with(middleware, workers, &[])
    }

    /// As [`Cluster::start`], with further arguments of the master.
    pub fn start_with(
        middleware: Middleware,
        workers: usize,
        master_arguments: &'static [&'static str],
    ) -> Option<Cluster> {
        Some(Self::with_broker(middleware, Broker::start(middleware)?, workers, master_arguments))
    }

    /// Starts a cluster behind this broker.
    pub fn with_broker(
        middleware: Middleware,
        broker: Broker,
        workers: usize,
        master_arguments: &'static [&'static str],
    ) -> Cluster {
        let folder = tempfile::tempdir().unwrap();
        let listen = free_address();
        let url = broker_url(&broker);
        let mut command = master_command(middleware, url.as_deref(), &listen, &folder);
        command.args(master_arguments);
        let master = Process::start(command);
        let mut cluster = Cluster {
            middleware,
            broker,
            master,
            workers: Vec::new(),
            folder,
            fast_store: None,
            listen,
            master_arguments,
        };
        for _ in 0..workers {
            cluster.add_worker(&[]);
        }
        cluster
    }

    /// Starts two masters, of which the second one stands by, and workers that know both.
    pub fn start_pair(middleware: Middleware, workers: usize) -> Option<(Cluster, Process)> {
        Self::start_pair_with(middleware, workers, &[])
    }

    /// As [`Cluster::start_pair`], with further arguments of both masters.
    pub fn start_pair_with(
        middleware: Middleware,
        workers: usize,
        master_arguments: &'static [&'static str],
    ) -> Option<(Cluster, Process)> {
        let broker = Broker::start(middleware)?;
        let folder = tempfile::tempdir().unwrap();
        let addresses = [free_address(), free_address()];
        let mut command = paired_master_command(middleware, &broker, [&addresses[0], &addresses[1]], &folder);
        command.args(master_arguments);
        let master = Process::start(command);
        let mut command = paired_master_command(middleware, &broker, [&addresses[1], &addresses[0]], &folder);
        command.args(master_arguments);
        let standby = Process::start_until("standing by", command);
        let listen = addresses.join(",");
        let mut cluster = Cluster {
            middleware,
            broker,
            master,
            workers: Vec::new(),
            folder,
            fast_store: None,
            listen,
            master_arguments,
        };
        for _ in 0..workers {
            cluster.add_worker(&[]);
        }
        Some((cluster, standby))
    }

    /// The command line of the first master of a pair, to start it again.
    pub fn first_master_command(&self) -> Command {
        let (first, second) = self.listen.split_once(',').unwrap();
        paired_master_command(self.middleware, &self.broker, [first, second], &self.folder)
    }

    /// The command line of the second master of a pair, to start it again.
    pub fn second_master_command(&self) -> Command {
        let (first, second) = self.listen.split_once(',').unwrap();
        paired_master_command(self.middleware, &self.broker, [second, first], &self.folder)
    }

    /// Starts one more worker, with further arguments.
    pub fn add_worker(&mut self, arguments: &[&str]) {
        let name = format!("worker{}", self.workers.len() + 1);
        let worker = self.start_worker(&name, arguments);
        self.workers.push(worker);
    }

    /// Starts a worker that nobody else keeps.
    pub fn start_worker(&self, name: &str, arguments: &[&str]) -> Process {
        Process::start(self.worker_command(name, arguments))
    }

    /// The command line of a worker.
    pub fn worker_command(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program("dataframe-worker"));
        command.args(["--name", name, "--listen", "127.0.0.1:0", "--master", &self.listen, "--threads", "1"]);
        command.args(["--heartbeat", "200ms", "--middleware", self.middleware.name()]);
        command.arg("--data-dir").arg(self.folder.path().join(name));
        if let Some(url) = self.broker_url() {
            command.args(["--broker", &url]);
        }
        if let Some(url) = &self.fast_store {
            command.args(["--fast-store", url]);
        }
        command.args(arguments);
        command
    }

    /// Starts the master again after it was killed.
    pub fn restart_master(&mut self) {
        self.master.kill();
        let mut command =
            master_command(self.middleware, self.broker_url().as_deref(), &self.listen, &self.folder);
        if let Some(url) = &self.fast_store {
            command.args(["--fast-store", url]);
        }
        command.args(self.master_arguments);
        self.master = Process::start(command);
    }

    /// The broker's URL.
    pub fn broker_url(&self) -> Option<String> {
        broker_url(&self.broker)
    }

    /// The master's address.
    pub fn address(&self) -> &str {
        &self.listen
    }

    /// A client with a transport of its own.
    pub async fn client(&self) -> ClusterClient {
        let settings = TransportSettings { broker_url: self.broker_url(), ..TransportSettings::default() };
        let transport = connect(self.middleware, settings).await.unwrap();
        ClusterClient::new(transport, self.listen.clone(), WAIT)
    }

    /// Waits until so many workers are ready.
    pub async fn ready(&self, client: &ClusterClient, workers: usize) -> Vec<WorkerStatus> {
        let mut seen = Vec::new();
        let ready = async {
            loop {
                seen = client.nodes(NodesCommand::List).await.unwrap_or_default();
                if seen.iter().filter(|node| node.state == WorkerState::Ready).count() == workers {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let done = tokio::time::timeout(WAIT, ready).await;
        assert!(done.is_ok(), "{workers} workers were to be ready: {seen:#?}");
        seen
    }
}

/// The command line of a master at the first address, whose peer is at the second one.
fn paired_master_command(
    middleware: Middleware,
    broker: &Broker,
    [own, peer]: [&str; 2],
    folder: &TempDir,
) -> Command {
    let mut command = master_command(middleware, broker_url(broker).as_deref(), own, folder);
    // Longer than by default: on a busy machine, a leader that is well may be silent for a second.
    command.args(["--standby", "--takeover-after", "2s"]).arg("--data-dir").arg(folder.path().join(own));
    if !middleware.has_broker() {
        command.args(["--peer", peer]);
    }
    command
}

/// The URL of a broker.
pub fn broker_url(broker: &Broker) -> Option<String> {
    match broker {
        Broker::None => None,
        Broker::Redis(server) => Some(server.url()),
        Broker::Rabbit(server) => Some(server.url()),
        Broker::Bucket(folder) => Some(format!("file://{}", folder.path().display())),
    }
}

/// An address that is free now. A master that is killed comes back at the same one.
pub fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// The command line of a master.
pub fn master_command(
    middleware: Middleware,
    broker: Option<&str>,
    listen: &str,
    folder: &TempDir,
) -> Command {
    let mut command = Command::new(program("dataframe-master"));
    command.args([
        "--listen",
        listen,
        "--middleware",
        middleware.name(),
        "--lease",
        "2s",
        "--worker-timeout",
        "1500ms",
    ]);
    // Only tests of the page have one, by a flag.
    command.env("DATAFRAME_MASTER_PAGE", "none");
    command.env("DATAFRAME_MASTER_DATA_DIR", folder.path().join("master"));
    if let Some(url) = broker {
        command.args(["--broker", url]);
    }
    command
}

/// Runs a test on each middleware, one after the other, and says which one failed.
macro_rules! on_each_middleware {
    ($test:ident) => {
        mod $test {
            use middleware::connect::Middleware;

            #[tokio::test(flavor = "multi_thread")]
            async fn grpc() {
                super::$test(Middleware::Grpc).await;
            }
            #[tokio::test(flavor = "multi_thread")]
            async fn xmlrpc() {
                super::$test(Middleware::XmlRpc).await;
            }
            #[tokio::test(flavor = "multi_thread")]
            async fn redis() {
                super::$test(Middleware::Redis).await;
            }
            #[tokio::test(flavor = "multi_thread")]
            async fn rabbitmq() {
                super::$test(Middleware::RabbitMq).await;
            }
            #[tokio::test(flavor = "multi_thread")]
            async fn objectstore() {
                super::$test(Middleware::ObjectStore).await;
            }
            #[tokio::test(flavor = "multi_thread")]
            async fn hybrid_grpc() {
                super::$test(Middleware::HybridGrpc).await;
            }
            #[tokio::test(flavor = "multi_thread")]
            async fn hybrid_xmlrpc() {
                super::$test(Middleware::HybridXmlRpc).await;
            }
        }
    };
}
pub(crate) use on_each_middleware;
