//! Stores messages for a person: input, session, receipts, output.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use cluster_key::Keyring;
use service::Shutdown;
use tokio::sync::mpsc;

use crate::addresses::HeadnodeAddresses;
use crate::input::MessageInput;
use crate::message::SessionOptions;
use crate::receipts::{ReceiptCounts, Receipts};
use crate::session::{self, SessionError};
use crate::show::print;
use crate::summary::Summary;

/// The number of groups of outcomes that may wait for their receipts.
const WAITING_GROUPS: usize = 4;

/// Says what to store, through which headnode, and where to keep the receipts.
#[derive(Debug, Clone)]
pub struct PutConfig {
    /// Host and port.
    pub headnode: String,
    /// A client's keys, if the headnode asks for one.
    pub keys: Option<Keyring>,
    /// Folder of `registro_cliente.txt`.
    pub data_dir: PathBuf,
    pub options: SessionOptions,
    pub messages: GivenMessages,
    /// Without it, no table is printed at the end.
    pub summary: Option<SummaryConfig>,
}

/// Says where messages come from.
#[derive(Debug, Clone)]
pub enum GivenMessages {
    Texts(Vec<String>),
    /// Each line of standard input is a message. On a terminal a prompt asks for each, until Ctrl-D.
    StandardInput,
}

/// Asks for a table at the end: which message is where (only totals for messages from standard input).
#[derive(Debug, Clone)]
pub struct SummaryConfig {
    /// The command for checking the receipts that the table names.
    pub check_command: Option<String>,
}

/// Stores messages and keeps a receipt for each.
///
/// # Errors
/// If a message has no receipt.
pub async fn run(config: PutConfig, shutdown: &Shutdown) -> anyhow::Result<()> {
    let PutConfig { headnode, keys, data_dir, options, messages, summary } = config;
    let receipts = Receipts::open(&data_dir)?;
    let is_typed = matches!(messages, GivenMessages::StandardInput) && std::io::stdin().is_terminal();
    let (input, receipts) = match messages {
        GivenMessages::Texts(texts) => (MessageInput::given(&texts, rand::make_rng()), receipts),
        GivenMessages::StandardInput => (
            MessageInput::lines(tokio::io::stdin(), is_typed, rand::make_rng()),
            if is_typed { receipts.prompting() } else { receipts.with_bar() },
        ),
    };
    let summary = summary.map(|summary| Summary::of(input.left(), summary.check_command));
    let done = put(&headnode, keys.as_ref(), options, input, receipts.noting(summary), shutdown).await;
    if is_typed {
        // The prompt stands on the last line; whoever closed stderr does not see it.
        let _ = std::io::stderr().write_all(b"\n");
    }
    done
}

async fn put(
    headnode: &str,
    keys: Option<&Keyring>,
    options: SessionOptions,
    mut input: MessageInput,
    receipts: Receipts,
    shutdown: &Shutdown,
) -> anyhow::Result<()> {
    let (outcomes, told) = mpsc::channel(WAITING_GROUPS);
    // The session limits how long it waits for a connection.
    let connector = HeadnodeAddresses::new(headnode, keys.cloned(), Duration::MAX);
    let session = session::run(connector, &mut input, options, rand::make_rng(), shutdown, outcomes);
    let (ended, kept) = tokio::join!(session, receipts.keep(told));
    let (ReceiptCounts { saved, failed }, summary) = kept?;
    let left = input.left().len() as u64;
    if shutdown.is_requested() {
        tracing::info!(saved, failed, not_tried = left, "stopped reading messages");
    }
    let failed = failed + input.rejected + left;
    if let Some(summary) = summary {
        print(&summary.text(saved, saved + failed)).context("cannot print the summary")?;
    }
    match ended {
        Err(SessionError::Source(error)) => {
            return Err(error).context(format!("cannot read standard input; {saved} messages were saved"));
        }
        // Whoever kept the receipts has told why it ended.
        Err(SessionError::Unheard) | Ok(()) => {}
    }
    ensure!(failed == 0, "{failed} of {} messages were not saved", saved + failed);
    Ok(())
}
