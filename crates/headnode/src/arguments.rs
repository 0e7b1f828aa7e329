//! The command line of `headnode`, and the settings that it is turned into.

use std::net::{SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::time::Duration;

use cluster_key::{KeyHolder, Keyring};
use page::{PageArguments, PageConfig};
use protocol::store::heartbeat::DEFAULT_GROUP;
use protocol::store::types::NodeName;
use service::net::Interface;
use service::{Common, cli};

use crate::membership::DEFAULT_ATTEMPTS;

/// The port of the page, unless a flag says otherwise.
pub const PAGE_PORT: u16 = 5080;

/// Asks datanodes whether they are operative, stores each message on one of them, and keeps the registry.
///
/// Clients send one message or one JSON object per line; try: echo Hola | nc -N localhost 5000
#[derive(Debug, Clone, clap::Parser)]
#[command(
    name = "headnode",
    version,
    after_help = "Each flag can also be set in the environment: --store-timeout as HEADNODE_STORE_TIMEOUT."
)]
pub struct HeadnodeArguments {
    /// Address and port to listen on for clients; port 0 chooses a free port
    #[arg(long, value_name = "IP:PORT", default_value = "0.0.0.0:5000")]
    listen: SocketAddr,
    /// Folder of hearbeat_server.txt and registro_server.txt, created if missing
    #[arg(long, value_name = "DIR", default_value = ".")]
    data_dir: PathBuf,
    #[command(flatten)]
    heartbeat: HeartbeatArguments,
    #[command(flatten)]
    storing: StoringArguments,
    #[command(flatten)]
    key: KeyArguments,
    #[command(flatten)]
    page: PageArguments,
    /// Stand by while another headnode of the group leads, and lead when a majority of --expected datanodes say that it is
    /// gone; for each headnode of a store that has several
    #[arg(long)]
    standby: bool,
    /// Show the beginning of each message on the page
    #[arg(long, help_heading = "Page")]
    page_messages: bool,
    /// Flags that every program has
    #[command(flatten)]
    pub common: Common,
}

#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Heartbeat")]
struct HeartbeatArguments {
    /// Multicast group and port
    #[arg(long, value_name = "IP:PORT", default_value = DEFAULT_GROUP, value_parser = cli::multicast_group)]
    group: SocketAddrV4,
    /// Network interface: all, an IPv4 address or a name
    #[arg(long, value_name = "INTERFACE", default_value = "all")]
    interface: Interface,
    /// Time from the beginning of one round to the next
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = cli::duration)]
    interval: Duration,
    /// Probes per round before a datanode that does not answer counts as not operative, 1 to 10
    #[arg(long, value_name = "COUNT", default_value_t = DEFAULT_ATTEMPTS, value_parser = clap::value_parser!(u32).range(1..=10))]
    attempts: u32,
    /// Datanodes that are expected, 0 to 100000
    #[arg(long, value_name = "COUNT", default_value_t = 3, value_parser = cli::count(0..=100_000))]
    expected: usize,
    /// Datanodes that are gone for ever: the headnode does not wait for what they may hold
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    forget: Vec<NodeName>,
    /// Datanodes to probe by unicast too, where the network carries no multicast: all addresses of each name, at the
    /// port of --group
    #[arg(long, value_name = "HOST:PORT,…", value_delimiter = ',', value_parser = cli::host_and_port)]
    peers: Vec<String>,
}

#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Storing")]
struct StoringArguments {
    /// Datanodes that must confirm a message before it is acknowledged to the client, 1 to 16
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = cli::count(1..=16))]
    replicas: usize,
    /// How long a datanode may take to confirm before the headnode tries another one
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = cli::duration)]
    store_timeout: Duration,
    /// How long a datanode may be away before its messages are copied elsewhere
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = cli::duration)]
    repair_after: Duration,
    /// Clients served at the same time, 1 to 1000000; further ones are refused with a reason
    #[arg(long, value_name = "COUNT", default_value_t = 1024, value_parser = cli::count(1..=1_000_000))]
    max_connections: usize,
    /// How long a client may take to complete a request before it is disconnected
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = cli::duration)]
    idle_timeout: Duration,
}

#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Key")]
struct KeyArguments {
    /// File of the cluster's keys, which store-client key new makes; whoever shows none of them is refused
    #[arg(long, value_name = "FILE", value_parser = keyring)]
    key_file: Option<Keyring>,
    /// Serve clients without a key all the same
    #[arg(long, requires = "key_file")]
    open_clients: bool,
}

fn keyring(path: &str) -> Result<Keyring, String> {
    Keyring::open(path.as_ref(), KeyHolder::Cluster).map_err(|error| error.to_string())
}

/// The settings of a headnode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadnodeConfig {
    /// Address to listen on for clients. Port 0 chooses a free port.
    pub listen: SocketAddr,
    /// Folder of `hearbeat_server.txt` and `registro_server.txt`. It is created if missing.
    pub data_dir: PathBuf,
    /// Whether the store has several headnodes: this one then leads only while a majority of `expected` datanodes serve it.
    pub standby: bool,
    pub group: SocketAddrV4,
    pub interface: Interface,
    /// Time from one probe round to the next.
    pub interval: Duration,
    /// Probes per round before a datanode that does not answer counts as not operative.
    pub attempts: u32,
    /// Number of datanodes that are expected.
    pub expected: usize,
    /// Datanodes that are gone for ever: the headnode does not wait for what they may hold.
    pub forget: Vec<NodeName>,
    /// Hosts and ports that are probed by unicast too.
    pub peers: Vec<String>,
    /// Number of datanodes that must confirm a message before it is acknowledged to the client.
    pub replicas: usize,
    /// How long a datanode may take for one reply.
    pub store_timeout: Duration,
    /// How long a datanode may be away before its messages are copied elsewhere.
    pub repair_after: Duration,
    /// Highest number of clients that are served at the same time.
    pub max_connections: usize,
    /// How long a client may take to complete a request before it is disconnected.
    pub idle_timeout: Duration,
    /// The keys of the cluster. Without any, everybody is served.
    pub keys: Option<Keyring>,
    /// Whether clients are served without a key although the cluster has one.
    pub open_clients: bool,
    /// Where the page, metrics and health are served.
    pub page: PageConfig,
    /// Whether the page shows the beginning of each message.
    pub page_messages: bool,
}

impl Default for HeadnodeConfig {
    /// Returns the settings of a command line without flags.
    fn default() -> Self {
        <HeadnodeArguments as clap::Parser>::parse_from(["headnode"]).into()
    }
}

impl From<HeadnodeArguments> for HeadnodeConfig {
    fn from(arguments: HeadnodeArguments) -> Self {
        let HeadnodeArguments {
            listen,
            data_dir,
            standby,
            heartbeat,
            storing,
            key,
            page,
            page_messages,
            common: _,
        } = arguments;
        let HeartbeatArguments { group, interface, interval, attempts, expected, forget, peers } = heartbeat;
        let StoringArguments { replicas, store_timeout, repair_after, max_connections, idle_timeout } =
            storing;
        Self {
            listen,
            data_dir,
            standby,
            group,
            interface,
            interval,
            attempts,
            expected,
            forget,
            peers,
            replicas,
            store_timeout,
            repair_after,
            max_connections,
            idle_timeout,
            keys: key.key_file,
            open_clients: key.open_clients,
            page: page.config(PAGE_PORT),
            page_messages,
        }
    }
}
