//! Stores messages for a person: input, session, receipts, output.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;

use anyhow::{Context as _, ensure};
use service::Shutdown;
use tokio::sync::mpsc;

use crate::headnode::connect;
use crate::input::Input;
use crate::receipts::{Receipts, Tally};
use crate::session::{self, Error, Options};

/// Groups of outcomes that may wait for their receipts.
const WAITING_GROUPS: usize = 4;

/// Stores `messages` through the headnode at `headnode` (host and port) and keeps their
/// receipts in `registro_cliente.txt` in `data_dir`.
///
/// # Errors
/// Unless every message has its receipt.
pub async fn messages(
    headnode: &str,
    data_dir: &Path,
    options: Options,
    messages: &[String],
    shutdown: &Shutdown,
) -> anyhow::Result<()> {
    let receipts = Receipts::open(data_dir)?;
    put(headnode, options, Input::given(messages, rand::make_rng()), receipts, shutdown).await
}

/// Stores the lines of standard input, a message each, as [`messages`] does. On a terminal it asks for each with a prompt,
/// until Ctrl-D.
///
/// # Errors
/// Unless every message has its receipt.
pub async fn interactive(
    headnode: &str,
    data_dir: &Path,
    options: Options,
    shutdown: &Shutdown,
) -> anyhow::Result<()> {
    let typed = std::io::stdin().is_terminal();
    let receipts = Receipts::open(data_dir)?;
    let receipts = if typed { receipts.prompting() } else { receipts.with_bar() };
    let input = Input::lines(tokio::io::stdin(), typed, rand::make_rng());
    let done = put(headnode, options, input, receipts, shutdown).await;
    if typed {
        // The prompt stands on the last line; whoever closed stderr does not see it.
        let _ = std::io::stderr().write_all(b"\n");
    }
    done
}

async fn put(
    headnode: &str,
    options: Options,
    mut input: Input,
    receipts: Receipts,
    shutdown: &Shutdown,
) -> anyhow::Result<()> {
    let (outcomes, told) = mpsc::channel(WAITING_GROUPS);
    let session =
        session::run(|| connect(headnode), &mut input, options, rand::make_rng(), shutdown, outcomes);
    let (ended, kept) = tokio::join!(session, receipts.keep(told));
    let Tally { saved, failed } = kept?;
    if shutdown.is_requested() {
        tracing::info!(saved, failed, not_tried = input.left(), "stopped reading messages");
    }
    match ended {
        Err(Error::Source(error)) => {
            return Err(error).context(format!("cannot read standard input; {saved} messages were saved"));
        }
        // Whoever kept the receipts has told why it ended.
        Err(Error::Unheard) | Ok(()) => {}
    }
    let failed = failed + input.rejected + input.left() as u64;
    ensure!(failed == 0, "{failed} of {} messages were not saved", saved + failed);
    Ok(())
}
