//! Stores messages for a person: input, session, receipts, output.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use service::{Shutdown, net};
use tokio::sync::mpsc;

use crate::arguments::Put;
use crate::input::Input;
use crate::message::Options;
use crate::receipts::{Receipts, Tally};
use crate::session::{self, Error};
use crate::show::print;
use crate::summary::Summary;

/// Groups of outcomes that may wait for their receipts.
const WAITING_GROUPS: usize = 4;

/// Stores what `what` says through the headnode at `headnode` (host and port) and keeps the receipts in
/// `registro_cliente.txt` in `data_dir`.
///
/// A lone `-` stands for the lines of standard input, a message each. On a terminal each is asked for with a prompt, until
/// Ctrl-D.
///
/// # Errors
/// Unless every message has its receipt.
pub async fn run(
    headnode: &str,
    data_dir: &Path,
    options: Options,
    what: Put,
    shutdown: &Shutdown,
) -> anyhow::Result<()> {
    let mut receipts = Receipts::open(data_dir)?;
    let read = what.messages == ["-"];
    let typed = read && std::io::stdin().is_terminal();
    let input = if read {
        receipts = if typed { receipts.prompting() } else { receipts.with_bar() };
        Input::lines(tokio::io::stdin(), typed, rand::make_rng())
    } else {
        Input::given(&what.messages, rand::make_rng())
    };
    let summary = what.summary.then(|| Summary::of(input.left(), what.check_command));
    let receipts = receipts.noting(summary);
    let done = put(headnode, options, input, receipts, shutdown).await;
    if typed {
        // The prompt stands on the last line; whoever closed stderr does not see it.
        let _ = std::io::stderr().write_all(b"\n");
    }
    done
}

/// Stores the lines of standard input, as [`run`] does with a lone `-`.
///
/// # Errors
/// Unless every message has its receipt.
pub async fn interactive(
    headnode: &str,
    data_dir: &Path,
    options: Options,
    shutdown: &Shutdown,
) -> anyhow::Result<()> {
    let lines = Put { messages: vec!["-".to_owned()], summary: false, check_command: None };
    run(headnode, data_dir, options, lines, shutdown).await
}

async fn put(
    headnode: &str,
    options: Options,
    mut input: Input,
    receipts: Receipts,
    shutdown: &Shutdown,
) -> anyhow::Result<()> {
    let (outcomes, told) = mpsc::channel(WAITING_GROUPS);
    // The session limits how long it waits for a connection.
    let connector = || net::connect(headnode, Duration::MAX);
    let session = session::run(connector, &mut input, options, rand::make_rng(), shutdown, outcomes);
    let (ended, kept) = tokio::join!(session, receipts.keep(told));
    let (Tally { saved, failed }, summary) = kept?;
    let left = input.left().len() as u64;
    if shutdown.is_requested() {
        tracing::info!(saved, failed, not_tried = left, "stopped reading messages");
    }
    let failed = failed + input.rejected + left;
    if let Some(summary) = summary {
        print(&summary.text(saved, saved + failed)).context("cannot print the summary")?;
    }
    match ended {
        Err(Error::Source(error)) => {
            return Err(error).context(format!("cannot read standard input; {saved} messages were saved"));
        }
        // Whoever kept the receipts has told why it ended.
        Err(Error::Unheard) | Ok(()) => {}
    }
    ensure!(failed == 0, "{failed} of {} messages were not saved", saved + failed);
    Ok(())
}
