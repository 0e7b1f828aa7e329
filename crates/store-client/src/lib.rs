//! Actividad 2, the client: stores messages through the headnode and keeps a receipt for each in `registro_cliente.txt`.
//!
//! The client knows nothing but the headnode's address, or one name for those of several headnodes. It calls a message saved once its receipt is on disk, and writes a
//! receipt only if the checksum of what was stored is that of what was sent. [`verify`] checks receipts later against the
//! files of the datanodes, without any server.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`session`] | puts messages until each is saved or failed; its transport and tokio's clock can be simulated |
//! | [`addresses`] | connects to that headnode of a name which serves clients |
//! | [`request`](mod@request) | sends single requests: get, list, status |
//! | [`headnode`] | asks the headnode over TCP, with patience |
//! | [`put`](mod@put) | stores messages for a person: input, session, receipts, output |
//! | `datanode`, `fsck` | what operators need: drain, forget, a check of all copies |
//! | [`top`] | watches the store: in a terminal, as plain lines, as JSON |
//! | `keys` | makes the files of keys |
//! | [`verify`](mod@verify) | checks receipts against the files of the datanodes |

#![allow(
    missing_docs,
    reason = "a program's own library: its binary, its tests and other programs of this workspace use it"
)]

pub mod addresses;
mod arguments;
mod backoff;
mod datanode;
mod fsck;
pub mod headnode;
mod input;
mod keys;
mod message;
mod outbox;
pub mod put;
mod receipts;
pub mod request;
pub mod session;
mod show;
mod summary;
mod table;
pub mod top;
mod verdict;
pub mod verify;

use std::io::Write as _;

use anyhow::ensure;
use clap::CommandFactory as _;
use service::Shutdown;

pub use arguments::{
    PutArguments, StoreClientArguments, StoreClientCommand, StoreClientSettings, TopArguments,
};
use headnode::HeadnodeClient;
use verify::NamedFile;

/// Does what the command line asks for.
///
/// # Errors
/// If not all of it could be done.
pub async fn run(arguments: StoreClientArguments, shutdown: Shutdown) -> anyhow::Result<()> {
    let settings = arguments.settings.0;
    let keys = match arguments.action {
        // These ask no headnode, and make the files of keys before there are any.
        StoreClientCommand::Verify { .. }
        | StoreClientCommand::Key(_)
        | StoreClientCommand::Completions { .. } => None,
        _ => settings.keys()?,
    };
    let mut headnode = HeadnodeClient::new(&settings.headnode, settings.options()).with_keys(keys.clone());
    match arguments.action {
        StoreClientCommand::Put(put) => put::run(put.with(settings, keys), &shutdown).await,
        StoreClientCommand::Get { id, json } => {
            unless_stopped(&shutdown, show::get(&mut headnode, id, json)).await
        }
        StoreClientCommand::List { last, json } => {
            unless_stopped(&shutdown, show::list(&mut headnode, last, json)).await
        }
        StoreClientCommand::Status { ready: true, .. } => {
            unless_stopped(&shutdown, show::ready(&mut headnode)).await
        }
        StoreClientCommand::Status { json, .. } => {
            unless_stopped(&shutdown, show::status(&mut headnode, json)).await
        }
        StoreClientCommand::Top(top) => top::run(top.with(settings.headnode), headnode, &shutdown).await,
        StoreClientCommand::Datanode(command) => {
            unless_stopped(&shutdown, datanode::run(&mut headnode, command)).await
        }
        StoreClientCommand::Fsck { deep, json } => {
            unless_stopped(&shutdown, fsck::run(&mut headnode, deep, json)).await
        }
        StoreClientCommand::Verify { files } => unless_stopped(&shutdown, check(files)).await,
        StoreClientCommand::Key(key) => keys::run(&key),
        StoreClientCommand::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut StoreClientArguments::command(), "store-client", &mut script);
            Ok(std::io::stdout().write_all(&script)?)
        }
    }
}

/// Waits for `reading`, which only reads and so can be left at any point.
async fn unless_stopped(
    shutdown: &Shutdown,
    reading: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    tokio::select! {
        () = shutdown.requested() => anyhow::bail!("stopped before the end"),
        read = reading => read,
    }
}

async fn check(files: Vec<NamedFile>) -> anyhow::Result<()> {
    let report = tokio::task::spawn_blocking(move || verify::print(&files)).await??;
    ensure!(report.problems == 0, "{} problems were found", report.problems);
    Ok(())
}
