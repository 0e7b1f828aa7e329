//! The command line of `datanode`, and the settings that it is turned into.

use std::net::{SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use cluster_key::{KeyHolder, Keyring};
use page::{MetricsArguments, PageConfig};
use protocol::store::heartbeat::DEFAULT_GROUP;
use protocol::store::types::NodeName;
use service::Common;
use service::net::Interface;

/// Answers the headnode's heartbeat and stores messages in data.txt.
///
/// It needs no list of other programs: it joins the multicast group, and the headnode finds it.
#[derive(Debug, Clone, clap::Parser)]
#[command(
    name = "datanode",
    version,
    after_help = "Each flag can also be set in the environment: --data-dir as DATANODE_DATA_DIR."
)]
pub struct DatanodeArguments {
    /// Name of this datanode; each datanode needs its own [default: the host's name]
    #[arg(long, value_name = "NAME")]
    name: Option<NodeName>,
    /// Address and port to listen on for the headnode; port 0 chooses a free port
    #[arg(long, value_name = "IP:PORT", default_value = "0.0.0.0:5001")]
    listen: SocketAddr,
    /// Address that the headnode connects to [default: --listen, or this host's address if that is 0.0.0.0]
    #[arg(long, value_name = "IP:PORT")]
    advertise: Option<SocketAddr>,
    /// Multicast group and port of the heartbeat
    #[arg(long, value_name = "IP:PORT", default_value = DEFAULT_GROUP, value_parser = service::cli::multicast_group)]
    group: SocketAddrV4,
    /// Network interface of the heartbeat: all, an IPv4 address or a name
    #[arg(long, value_name = "INTERFACE", default_value = "all")]
    interface: Interface,
    /// Folder of data.txt, created if missing
    #[arg(long, value_name = "DIR", default_value = ".")]
    data_dir: PathBuf,
    /// Time between two passes that read data.txt, at 1 MiB/s, to find damage
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = service::cli::duration)]
    scrub_interval: Duration,
    /// File of the cluster's keys, which store-client key new makes; whoever shows none of them is refused
    #[arg(long, value_name = "FILE", value_parser = keyring)]
    key_file: Option<Keyring>,
    #[command(flatten)]
    metrics: MetricsArguments,
    /// Flags that every program has
    #[command(flatten)]
    pub common: Common,
}

fn keyring(path: &str) -> Result<Keyring, String> {
    Keyring::open(path.as_ref(), KeyHolder::Cluster).map_err(|error| error.to_string())
}

/// The settings of a datanode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatanodeConfig {
    pub name: NodeName,
    /// Address to listen on for the headnode. Port 0 chooses a free port.
    pub listen: SocketAddr,
    /// Address that the headnode connects to. `None` stands for `listen`, with this host's address towards
    /// the headnode if the address of `listen` is 0.0.0.0.
    pub advertise: Option<SocketAddr>,
    pub group: SocketAddrV4,
    pub interface: Interface,
    /// Folder of `data.txt`. It is created if missing.
    pub data_dir: PathBuf,
    /// Time between two passes that read `data.txt` to find damage.
    pub scrub_interval: Duration,
    /// The keys of the cluster. Without any, every headnode is served.
    pub keys: Option<Keyring>,
    /// Where metrics and health are served.
    pub metrics: PageConfig,
}

impl TryFrom<DatanodeArguments> for DatanodeConfig {
    type Error = anyhow::Error;

    /// Uses the host's name for a datanode without a name.
    ///
    /// # Errors
    /// Fails if the host's name cannot be found out, or is not allowed as the name of a datanode.
    fn try_from(arguments: DatanodeArguments) -> anyhow::Result<Self> {
        let DatanodeArguments {
            name,
            listen,
            advertise,
            group,
            interface,
            data_dir,
            scrub_interval,
            key_file,
            metrics,
            common: _,
        } = arguments;
        let name = name.map_or_else(host_name, Ok)?;
        Ok(Self {
            name,
            listen,
            advertise,
            group,
            interface,
            data_dir,
            scrub_interval,
            keys: key_file,
            metrics: metrics.into(),
        })
    }
}

fn host_name() -> anyhow::Result<NodeName> {
    let name = nix::unistd::gethostname().context("cannot find out the host's name: set --name")?;
    let name = name.to_string_lossy().into_owned();
    name.parse().context("the host's name cannot be used as the datanode's name: set --name")
}
