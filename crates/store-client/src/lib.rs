//! Actividad 2, the client: stores messages through the headnode and keeps a receipt for each in `registro_cliente.txt`.
//!
//! It knows nothing but the headnode's address. A receipt is written, and on disk, before anything is called saved, and
//! only if the checksum of what was stored is that of what was sent; [`verify`] checks receipts later against the files
//! of the datanodes, without any server.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`session`] | puts messages until each is saved or failed; on any transport, with any clock of tokio's |
//! | [`request`](mod@request) | single requests: get, list, status |
//! | [`headnode`] | the headnode over TCP, with patience |
//! | [`put`](mod@put) | what a person does with a session: input, receipts, output |
//! | [`verify`](mod@verify) | receipts against the files of the datanodes |

mod arguments;
mod backoff;
pub mod headnode;
mod input;
mod message;
mod outbox;
pub mod put;
mod receipts;
pub mod request;
pub mod session;
mod show;
mod summary;
mod table;
pub mod verify;

use std::io::Write as _;

use anyhow::ensure;
use clap::CommandFactory as _;
use service::Shutdown;

pub use arguments::{Action, Arguments, Everywhere, Put, Settings};
use headnode::Headnode;

/// Does what the command line asks for.
///
/// # Errors
/// If it could not be done, or only in part.
pub async fn run(arguments: Arguments, shutdown: Shutdown) -> anyhow::Result<()> {
    let settings = arguments.everywhere.0;
    let options = settings.options();
    let Settings { headnode, data_dir, .. } = &settings;
    let reading = match arguments.action {
        Action::Put(put) => return put::run(headnode, data_dir, options, put, &shutdown).await,
        Action::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "store-client", &mut script);
            return Ok(std::io::stdout().write_all(&script)?);
        }
        reading => reading,
    };
    // What only reads can be left at any point.
    tokio::select! {
        () = shutdown.requested() => anyhow::bail!("stopped before the end"),
        read = read(reading, Headnode::new(headnode, options)) => read,
    }
}

async fn read(action: Action, mut headnode: Headnode) -> anyhow::Result<()> {
    match action {
        Action::Get { id, json } => show::get(&mut headnode, id, json).await,
        Action::List { last, json } => show::list(&mut headnode, last, json).await,
        Action::Status { json } => show::status(&mut headnode, json).await,
        Action::Verify { files } => {
            let report = tokio::task::spawn_blocking(move || verify::print(&files)).await??;
            ensure!(report.problems == 0, "{} problems were found", report.problems);
            Ok(())
        }
        Action::Put(_) | Action::Completions { .. } => Ok(()),
    }
}
