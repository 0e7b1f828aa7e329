//! The command line of `datanode`, and the settings that it stands for.

use std::net::{SocketAddr, SocketAddrV4};
use std::path::PathBuf;

use anyhow::Context as _;
use protocol::store::heartbeat::DEFAULT_GROUP;
use protocol::store::types::NodeName;
use service::Common;
use service::net::Interface;

/// Answers the headnode's heartbeat and stores messages in data.txt.
///
/// Needs no list of anything: it joins the multicast group, and the headnode finds it.
#[derive(Debug, Clone, clap::Parser)]
#[command(
    name = "datanode",
    version,
    after_help = "Each flag can also be set in the environment: --data-dir as DATANODE_DATA_DIR."
)]
pub struct DatanodeArguments {
    /// Name of this datanode, unlike all others [default: the host's name]
    #[arg(long, value_name = "NAME")]
    name: Option<NodeName>,
    /// Address and port to listen on for the headnode; port 0 takes a free one
    #[arg(long, value_name = "IP:PORT", default_value = "0.0.0.0:5001")]
    listen: SocketAddr,
    /// Address that the headnode is to connect to [default: the address it sees, and the port of --listen]
    #[arg(long, value_name = "IP:PORT")]
    advertise: Option<SocketAddr>,
    /// Multicast group and port of the heartbeat
    #[arg(long, value_name = "IP:PORT", default_value = DEFAULT_GROUP, value_parser = service::cli::multicast_group)]
    group: SocketAddrV4,
    /// Interface of the heartbeat: all, an IPv4 address or a name
    #[arg(long, value_name = "INTERFACE", default_value = "all")]
    interface: Interface,
    /// Folder of data.txt, created if missing
    #[arg(long, value_name = "DIR", default_value = ".")]
    data_dir: PathBuf,
    /// Flags that every program has
    #[command(flatten)]
    pub common: Common,
}

/// The settings of a datanode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatanodeConfig {
    /// Name of the datanode.
    pub name: NodeName,
    /// Address to listen on for the headnode; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Address that the headnode is to connect to; `None` for the address it sees and the port of `listen`.
    pub advertise: Option<SocketAddr>,
    /// Multicast group of the heartbeat and its port.
    pub group: SocketAddrV4,
    /// Interface that carries the heartbeat.
    pub interface: Interface,
    /// Folder of `data.txt`, created if missing.
    pub data_dir: PathBuf,
}

impl TryFrom<DatanodeArguments> for DatanodeConfig {
    type Error = anyhow::Error;

    /// Takes the host's name for a datanode without one.
    ///
    /// # Errors
    /// If the host's name cannot be told, or cannot be the name of a datanode.
    fn try_from(arguments: DatanodeArguments) -> anyhow::Result<Self> {
        let DatanodeArguments { name, listen, advertise, group, interface, data_dir, common: _ } = arguments;
        Ok(Self { name: name.map_or_else(host_name, Ok)?, listen, advertise, group, interface, data_dir })
    }
}

fn host_name() -> anyhow::Result<NodeName> {
    let name = nix::unistd::gethostname().context("cannot tell the host's name: set --name")?;
    let name = name.to_string_lossy().into_owned();
    name.parse().context("the host's name cannot be the datanode's: set --name")
}
