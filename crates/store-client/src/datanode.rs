//! Drains datanodes and declares them lost.

use std::time::Duration;

use protocol::store::client_api::{ClientRequest, HeadnodeReply};
use protocol::store::types::NodeName;

use crate::headnode::{HeadnodeClient, unexpected};
use crate::show::print;

/// Time from one question about a drain to the next.
const POLL: Duration = Duration::from_millis(500);

/// What is to be done with a datanode.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum DatanodeCommand {
    /// Moves the messages of a datanode elsewhere, and waits until that is done
    ///
    /// Nothing new is stored on it, and its copies do not count. When it is drained, it can be stopped and removed, and its
    /// folder deleted. Whoever interrupts the command does not interrupt the drain.
    #[command(after_help = "Examples:\n  store-client datanode drain datanode2\n  \
                            store-client datanode drain datanode2 --undo")]
    Drain {
        /// Name of the datanode, as in status
        #[arg(value_name = "NAME")]
        name: NodeName,
        /// Let the datanode store messages again
        #[arg(long)]
        undo: bool,
    },
    /// Declares a datanode lost: its messages are copied from elsewhere at once, and nothing waits for it
    ///
    /// If it comes back with its data, its copies count again.
    #[command(after_help = "Example:\n  store-client datanode forget datanode2 --accept-loss")]
    Forget {
        /// Name of the datanode, as in status
        #[arg(value_name = "NAME")]
        name: NodeName,
        /// Also if messages exist nowhere else
        #[arg(long)]
        accept_loss: bool,
    },
}

/// Does what the command line asks for.
///
/// # Errors
/// Says why the headnode does not do it.
pub async fn run(headnode: &mut HeadnodeClient, command: DatanodeCommand) -> anyhow::Result<()> {
    match command {
        DatanodeCommand::Drain { name, undo: false } => drain(headnode, &name).await,
        DatanodeCommand::Drain { name, undo: true } => {
            match headnode.ask(ClientRequest::Drain { datanode: name, undo: true }).await? {
                HeadnodeReply::Kept { datanode } => {
                    print(&format!("{datanode}: sus copias cuentan de nuevo\n"))
                }
                other => Err(unexpected(&other)),
            }
        }
        DatanodeCommand::Forget { name, accept_loss } => {
            match headnode.ask(ClientRequest::Forget { datanode: name, accept_loss }).await? {
                HeadnodeReply::Forgotten { datanode, lost: 0 } => {
                    print(&format!("{datanode}: dado por perdido; ningún mensaje estaba solo allí\n"))
                }
                HeadnodeReply::Forgotten { datanode, lost } => {
                    print(&format!("{datanode}: dado por perdido; mensajes perdidos: {lost}\n"))
                }
                other => Err(unexpected(&other)),
            }
        }
    }
}

async fn drain(headnode: &mut HeadnodeClient, name: &NodeName) -> anyhow::Result<()> {
    let mut told = None;
    loop {
        match headnode.ask(ClientRequest::Drain { datanode: name.clone(), undo: false }).await? {
            HeadnodeReply::Drained { datanode } => {
                return print(&format!("{datanode}: drained, sus mensajes están en otros datanodes\n"));
            }
            HeadnodeReply::Draining { datanode, left } => {
                if let Some(left) = left.filter(|left| told != Some(*left)) {
                    print(&format!("{datanode}: faltan {left} mensajes\n"))?;
                    told = Some(left);
                }
            }
            other => return Err(unexpected(&other)),
        }
        tokio::time::sleep(POLL).await;
    }
}
