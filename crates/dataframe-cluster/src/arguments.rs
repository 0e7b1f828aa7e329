//! The command lines of `dataframe-master` and `dataframe-worker`, and the settings that they are turned into.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use dataframe_engine::WasmLimits;
use middleware::connect::{Middleware, TransportSettings};
use middleware::{MutualTls, TlsHolder};
use page::{MetricsArguments, PageArguments};
use service::{Common, cli};

use crate::bytes_text::parse_bytes;
use crate::master::{MasterConfig, PairConfig};
use crate::worker::WorkerConfig;

/// How the parts of a cluster reach each other.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Cluster")]
pub struct MiddlewareArguments {
    /// What carries tasks and results: grpc, xmlrpc, redis, rabbitmq, objectstore, hybrid-grpc (or hybrid) or hybrid-xmlrpc
    #[arg(long, value_name = "NAME", default_value = "grpc")]
    pub middleware: Middleware,
    /// URL of the broker, for redis and hybrids redis://HOST:6379, for rabbitmq amqp://USER:PASSWORD@HOST:5672, for objectstore file:///FOLDER or s3://BUCKET/PREFIX with the settings of AWS_ACCESS_KEY_ID, AWS_ENDPOINT and so on
    #[arg(long, value_name = "URL")]
    pub broker: Option<String>,
    /// With objectstore: a Redis that carries short pieces of results in place of the bucket, redis://HOST:6379
    #[arg(long, value_name = "URL")]
    pub fast_store: Option<String>,
    /// Folder of certificates that `dataframe certificates` has made: whoever is called at an address, or calls there, shows one, and everything is encrypted. All parts of a cluster need it, or none
    #[arg(long, value_name = "DIR")]
    pub tls: Option<PathBuf>,
}

impl MiddlewareArguments {
    /// What the transport of `holder` is made from. `serves_beside` says that it also listens beside the middleware.
    ///
    /// # Errors
    /// Fails if the certificates cannot be used, or would protect nothing.
    pub fn settings(&self, holder: TlsHolder, serves_beside: bool) -> anyhow::Result<TransportSettings> {
        let tls = self.tls.as_ref().map(|folder| MutualTls::open(folder, holder)).transpose();
        let tls = tls.context("--tls")?;
        let middleware = self.middleware;
        let is_of_use = match holder {
            TlsHolder::Node => middleware.calls_directly() || serves_beside,
            TlsHolder::Client => !middleware.has_broker(),
        };
        anyhow::ensure!(
            tls.is_none() || is_of_use,
            "--tls: over {middleware} this program calls the broker alone, which --tls does not protect: leave --tls out"
        );
        Ok(TransportSettings {
            broker_url: self.broker.clone(),
            fast_store_url: self.fast_store.clone(),
            tls,
            ..TransportSettings::default()
        })
    }

    /// `HOST:PORT` of the broker, where there is one.
    pub(crate) fn broker_address(&self) -> Option<String> {
        let url = self.broker.as_deref().filter(|_| self.middleware.has_broker())?;
        let authority = url.split_once("://")?.1.split('/').next()?;
        let host = authority.rsplit('@').next()?;
        let port = match self.middleware {
            // Nobody is called at an address.
            Middleware::ObjectStore => return None,
            Middleware::RabbitMq => 5672,
            _ => 6379,
        };
        Some(if host.contains(':') { host.to_owned() } else { format!("{host}:{port}") })
    }
}

/// Cuts jobs into tasks, gives the tasks to workers, and puts their results together.
///
/// Clients are `dataframe --master`; over XML-RPC, any language: compute(json), listWorkers(), addWorker(address); and over gRPC,
/// those of Arrow Flight and Flight SQL.
#[derive(Debug, Clone, clap::Parser)]
#[command(
    name = "dataframe-master",
    version,
    after_help = "Each flag can also be set in the environment: --data-dir as DATAFRAME_MASTER_DATA_DIR."
)]
pub struct MasterArguments {
    /// Address and port to listen on, where the middleware calls the master directly; port 0 chooses a free port
    #[arg(long, value_name = "IP:PORT", default_value = "0.0.0.0:9000")]
    pub listen: SocketAddr,
    /// What carries tasks and results
    #[command(flatten)]
    pub middleware: MiddlewareArguments,
    /// Address of Arrow Flight and Flight SQL, where the middleware is not grpc; with grpc they are at --listen
    #[arg(long, value_name = "IP:PORT")]
    pub flight_listen: Option<SocketAddr>,
    /// Folder for the results of finished jobs and for spilled data, created if missing
    #[arg(long, value_name = "DIR", default_value = "run/dataframe-master")]
    pub data_dir: PathBuf,
    /// Threads for planning and for putting results together, 1 to 1024; as many as there are processors by default
    #[arg(long, value_name = "COUNT", value_parser = cli::count(1..=1024))]
    pub threads: Option<usize>,
    /// Memory for putting results together, such as 2GB; more is spilled to disk, or fails with a reason
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub memory: Option<u64>,
    /// Size from which on the rows of a task are put together by workers, each of which gets some of the keys, and not by the master
    #[arg(long, value_name = "BYTES", default_value = "8MiB", value_parser = parse_bytes)]
    pub shuffle_above: u64,
    /// Disk in --data-dir for the results of tasks until they are read; a job that needs more fails with a reason. By default half of what is free when the master begins to lead
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub spool_limit: Option<u64>,
    /// Time without a sign of life after which a task is started elsewhere
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = cli::duration)]
    pub lease: Duration,
    /// Time without a sign of life after which a worker counts as lost
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = cli::duration)]
    pub worker_timeout: Duration,
    /// Share the cluster with another master: stand by while it leads, and take over when it is gone
    #[arg(long)]
    pub standby: bool,
    /// With --standby: address of the other master, where the middleware calls it directly
    #[arg(long, value_name = "HOST:PORT", requires = "standby", value_parser = cli::host_and_port)]
    pub peer: Option<String>,
    /// With --standby: silence of the other master after which it counts as gone
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = cli::duration)]
    pub takeover_after: Duration,
    /// Whether modules are run on rows that the master has put together from the results of several tasks
    #[command(flatten)]
    pub wasm: WasmArguments,
    /// Where the page is
    #[command(flatten)]
    pub page: PageArguments,
    /// Flags that every program has
    #[command(flatten)]
    pub common: Common,
}

impl MasterArguments {
    /// What a master of a pair needs to know; nothing for a single master.
    ///
    /// # Errors
    /// Fails if the other master's address is missing, or is of no use.
    pub(crate) fn pair(&self) -> anyhow::Result<Option<PairConfig>> {
        if !self.standby {
            return Ok(None);
        }
        let middleware = self.middleware.middleware;
        match (&self.peer, middleware.has_broker()) {
            (None, false) => anyhow::bail!(
                "--standby: over {middleware} the two masters call each other: give the address of the other one with --peer HOST:PORT"
            ),
            (Some(peer), true) => anyhow::bail!(
                "--peer {peer}: over {middleware} the two masters meet at the broker: leave --peer out"
            ),
            (peer, _) => Ok(Some(PairConfig { peer: peer.clone(), takeover_after: self.takeover_after })),
        }
    }
}

/// Whether WebAssembly modules of clients are run, and within which limits.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "WebAssembly")]
pub struct WasmArguments {
    /// Run functions of WebAssembly modules that clients send, within the following limits
    #[arg(long)]
    pub allow_wasm: bool,
    /// What they may use
    #[command(flatten)]
    pub limits: WasmLimitArguments,
}

/// What WebAssembly modules may use.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "WebAssembly")]
pub struct WasmLimitArguments {
    /// Largest memory of a WebAssembly module, on each thread, 64KiB to 1GiB
    #[arg(long, value_name = "BYTES", default_value = "64MiB", value_parser = wasm_memory)]
    pub wasm_memory: u64,
    /// Instructions of a WebAssembly module for each row, 1 or more; a function that gets many rows at once has those of all of them
    #[arg(long, value_name = "COUNT", default_value = "1000000", value_parser = clap::value_parser!(u64).range(1..))]
    pub wasm_fuel: u64,
}

impl WasmArguments {
    /// The limits, if modules are run.
    #[must_use]
    pub fn allowed(&self) -> Option<WasmLimits> {
        self.allow_wasm.then(|| WasmLimits::from(&self.limits))
    }
}

impl From<&WasmLimitArguments> for WasmLimits {
    fn from(arguments: &WasmLimitArguments) -> Self {
        Self {
            memory_bytes: usize::try_from(arguments.wasm_memory).unwrap_or(usize::MAX),
            fuel_per_row: arguments.wasm_fuel,
            ..Self::default()
        }
    }
}

fn wasm_memory(text: &str) -> Result<u64, String> {
    let bytes = parse_bytes(text)?;
    let is_allowed = (64 << 10..=1 << 30).contains(&bytes);
    if is_allowed { Ok(bytes) } else { Err("allowed: 64KiB to 1GiB".to_owned()) }
}

impl From<&MasterArguments> for MasterConfig {
    fn from(arguments: &MasterArguments) -> MasterConfig {
        MasterConfig {
            listen: arguments.listen.to_string(),
            threads: arguments.threads.unwrap_or_else(processors),
            memory_bytes: arguments.memory,
            data_dir: arguments.data_dir.clone(),
            spool_limit: arguments.spool_limit,
            lease: arguments.lease,
            worker_timeout: arguments.worker_timeout,
            shuffle_above: arguments.shuffle_above,
            wasm: arguments.wasm.allowed(),
        }
    }
}

/// Runs the tasks that a master gives it.
#[derive(Debug, Clone, clap::Parser)]
#[command(
    name = "dataframe-worker",
    version,
    after_help = "Each flag can also be set in the environment: --name as DATAFRAME_WORKER_NAME."
)]
pub struct WorkerArguments {
    /// Name in the cluster; by default the name of the host and the process number
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Address and port to listen on, where the middleware calls workers directly; port 0 chooses a free port
    #[arg(long, value_name = "IP:PORT", default_value = "0.0.0.0:0")]
    pub listen: SocketAddr,
    /// Address that others call; by default the one of this computer that reaches the master
    #[arg(long, value_name = "HOST:PORT", value_parser = cli::host_and_port)]
    pub advertise: Option<String>,
    /// Address of the master, where the middleware calls it directly; HOST:PORT,HOST:PORT for a pair of which one stands by
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9000", value_delimiter = ',', value_parser = cli::host_and_port)]
    pub master: Vec<String>,
    /// What carries tasks and results
    #[command(flatten)]
    pub middleware: MiddlewareArguments,
    /// Tasks at a time, each on a thread, 1 to 1024; as many as there are processors by default
    #[arg(long, value_name = "COUNT", value_parser = cli::count(1..=1024))]
    pub threads: Option<usize>,
    /// Memory for all tasks together, such as 2GB; more is spilled to disk, or fails with a reason
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub memory: Option<u64>,
    /// Folder of the files that only this worker has (worker://NAME/PATH), and of spilled data
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub data_dir: PathBuf,
    /// CSV file for clients that call this worker directly by XML-RPC: columns(), head(n), max(label), …
    #[arg(long, value_name = "FILE")]
    pub csv: Option<String>,
    /// Address of the methods for --csv, where the middleware is not xmlrpc
    #[arg(long, value_name = "IP:PORT")]
    pub csv_listen: Option<SocketAddr>,
    /// Time between two signs of life
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = cli::duration)]
    pub heartbeat: Duration,
    /// Whether modules are run
    #[command(flatten)]
    pub wasm: WasmArguments,
    /// Where metrics are
    #[command(flatten)]
    pub metrics: MetricsArguments,
    /// End when standard input ends, so that a worker does not outlive the program that started it
    #[arg(long, hide = true)]
    pub end_with_stdin: bool,
    /// Run the one task that a line of standard input tells, and end
    #[arg(long, hide = true)]
    pub function: bool,
    /// Flags that every program has
    #[command(flatten)]
    pub common: Common,
}

impl TryFrom<&WorkerArguments> for WorkerConfig {
    type Error = anyhow::Error;

    fn try_from(arguments: &WorkerArguments) -> anyhow::Result<WorkerConfig> {
        let name = match &arguments.name {
            Some(name) => name.clone(),
            None => format!("{}-{}", host_name()?, std::process::id()),
        };
        anyhow::ensure!(
            !name.is_empty()
                && name.len() <= 64
                && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)),
            "--name {name:?}: a name has 1 to 64 letters, digits, '-', '_' and '.'"
        );
        Ok(WorkerConfig {
            name,
            listen: arguments.listen.to_string(),
            advertise: arguments.advertise.clone(),
            masters: arguments.master.clone(),
            threads: arguments.threads.unwrap_or_else(processors),
            memory_bytes: arguments.memory,
            data_dir: arguments.data_dir.clone(),
            heartbeat: arguments.heartbeat,
            wasm: arguments.wasm.allowed(),
            metrics: arguments.metrics.clone().into(),
        })
    }
}

fn host_name() -> anyhow::Result<String> {
    let name = nix::unistd::gethostname().context("cannot find out the host's name: set --name")?;
    name.into_string().map_err(|name| anyhow::anyhow!("the host's name {name:?} is no UTF-8: set --name"))
}

/// The number of processors that this process may use.
pub(crate) fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The address that others call for a worker that listens at `listening`: where it listens at all addresses, the one
/// from which packets to `towards` leave. Nothing is sent.
pub(crate) fn reachable(listening: &str, towards: &str) -> String {
    let Ok(address) = listening.parse::<SocketAddr>() else { return listening.to_owned() };
    if !address.ip().is_unspecified() {
        return listening.to_owned();
    }
    let any: IpAddr = address.ip();
    let local = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect(towards)?;
        socket.local_addr()
    });
    match local {
        Ok(local) => SocketAddr::new(local.ip(), address.port()).to_string(),
        Err(error) => {
            tracing::warn!(%error, towards, "cannot tell which address reaches the master: set --advertise");
            listening.to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_listens_everywhere_is_called_at_the_address_towards_its_master() {
        assert_eq!(reachable("0.0.0.0:9001", "127.0.0.1:9000"), "127.0.0.1:9001");
        assert_eq!(reachable("192.0.2.7:9001", "127.0.0.1:9000"), "192.0.2.7:9001");
    }
}
