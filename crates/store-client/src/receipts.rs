//! Where outcomes go: receipts to `registro_cliente.txt`, and only then to standard output; failures to the log.

use std::io::IsTerminal as _;
use std::path::Path;

use anyhow::Context as _;
use chrono::Utc;
use indicatif::{ProgressBar, ProgressStyle};
use journal::{Batch, Checksum, Journal, JournalFile, timestamp};
use protocol::types::Place;
use records::{RECEIPTS_FILE, Receipt, push_receipt};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;

use crate::input::ask;
use crate::session::{Outcome, Saved};

/// Fewer messages than this are done before a bar is of use.
const WORTH_A_BAR: u64 = 256;

/// How many messages there were of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// With a receipt on disk.
    pub saved: u64,
    /// Without.
    pub failed: u64,
}

/// The open `registro_cliente.txt`.
pub struct Receipts {
    journal: Journal,
    tally: Tally,
    /// Somebody types messages: ask for the next one.
    prompt: bool,
    bar: Option<ProgressBar>,
}

impl Receipts {
    /// Opens or creates the file in `data_dir`.
    ///
    /// # Errors
    /// If that cannot be done.
    pub fn open(data_dir: &Path) -> anyhow::Result<Self> {
        let (file, recovery) = JournalFile::open(&data_dir.join(RECEIPTS_FILE))?;
        if recovery.torn_bytes > 0 {
            let cut_bytes = recovery.torn_bytes;
            tracing::warn!(cut_bytes, "{RECEIPTS_FILE} ended in half a record: cut it off");
        }
        Ok(Self { journal: Journal::start(file), tally: Tally::default(), prompt: false, bar: None })
    }

    /// Asks a person for the next message whenever one is done.
    pub fn prompting(self) -> Self {
        ask();
        Self { prompt: true, ..self }
    }

    /// Shows a bar on stderr where nothing else shows that it goes on.
    pub fn with_bar(self) -> Self {
        let shown = std::io::stderr().is_terminal() && !std::io::stdout().is_terminal();
        let style = ProgressStyle::with_template("{spinner} {pos} guardados, {per_sec}, {elapsed}");
        let bar = || {
            ProgressBar::no_length().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
        };
        Self { bar: shown.then(bar), ..self }
    }

    /// Keeps all that `outcomes` brings, and closes the file.
    ///
    /// # Errors
    /// If a receipt cannot be recorded or printed; the messages of that group are named.
    pub async fn keep(mut self, mut outcomes: mpsc::Receiver<Vec<Outcome>>) -> anyhow::Result<Tally> {
        let mut kept = Ok(());
        while let Some(mut group) = outcomes.recv().await {
            // What came during the last sync shares the next one.
            while let Ok(further) = outcomes.try_recv() {
                group.extend(further);
            }
            kept = self.keep_group(group).await;
            if kept.is_err() {
                break;
            }
        }
        // From here on the session gives up: nobody hears it.
        drop(outcomes);
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
        self.journal.close().await;
        kept.map(|()| self.tally)
    }

    async fn keep_group(&mut self, group: Vec<Outcome>) -> anyhow::Result<()> {
        let mut saved = Vec::new();
        for outcome in group {
            match outcome {
                Outcome::Saved(message) => saved.push(message),
                Outcome::Failed(failed) => {
                    tracing::error!(id = %failed.id, "not saved: {}", failed.failure);
                    self.tally.failed += 1;
                }
            }
        }
        self.record(&saved).await?;
        if self.prompt {
            ask();
        }
        Ok(())
    }

    async fn record(&mut self, saved: &[Saved]) -> anyhow::Result<()> {
        if saved.is_empty() {
            return Ok(());
        }
        let time = timestamp(Utc::now());
        let mut batch = Batch::new(Checksum::None);
        let mut shown = String::new();
        for message in saved {
            let Saved { id, places, message_crc32c, .. } = message.clone();
            push_receipt(&mut batch, &Receipt { time: time.clone(), id, places, message_crc32c });
            shown.push_str(&shown_receipt(message));
        }
        let ids = || saved.iter().map(|saved| saved.id.to_string()).collect::<Vec<_>>().join(" ");
        let recorded = self.journal.append(&batch).await;
        recorded.with_context(|| format!("these are saved but have no receipt: {}", ids()))?;
        self.tally.saved += saved.len() as u64;
        if let Some(bar) = self.bar.as_ref().filter(|_| self.tally.saved >= WORTH_A_BAR) {
            bar.set_position(self.tally.saved);
        }
        let mut stdout = tokio::io::stdout();
        stdout.write_all(shown.as_bytes()).await.context("cannot print the receipts")?;
        stdout.flush().await.context("cannot print the receipts")
    }
}

/// A receipt as a person reads it, with its line end.
fn shown_receipt(saved: &Saved) -> String {
    let shown = |Place { datanode, seq }: &Place| format!("{datanode} (registro {seq})");
    let places: Vec<_> = saved.places.iter().map(shown).collect();
    format!("guardado en {}: {}\n", places.join(", "), saved.id)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use protocol::types::{Id, MessageCrc};

    use super::*;

    #[test]
    fn every_place_is_shown() {
        let places = vec!["datanode2:17".parse().unwrap(), "datanode3:4".parse().unwrap()];
        let message_crc32c = MessageCrc::of("Hola");
        let saved = Saved { id: Id::from_parts(1, 2), places, message_crc32c, took: Duration::ZERO };
        assert_eq!(
            shown_receipt(&saved),
            "guardado en datanode2 (registro 17), datanode3 (registro 4): 00000000010000000000000002\n"
        );
    }
}
