//! Writes receipts to `registro_cliente.txt`, and only then tells of them on standard output. Failures go to the log.

use std::io::IsTerminal as _;
use std::path::Path;

use anyhow::Context as _;
use chrono::Utc;
use indicatif::{ProgressBar, ProgressStyle};
use journal::{Batch, Checksum, Journal, JournalFile};
use protocol::store::client_api::plain;
use records::{RECEIPTS_FILE, Receipt, push_receipt};
use text::timestamp;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;

use crate::input::ask;
use crate::message::{PutOutcome, SavedMessage};
use crate::summary::Summary;

/// The bar appears after this many messages: fewer are done before it is of use.
const WORTH_A_BAR: u64 = 256;
/// Messages of this many bytes together get their receipts with one sync. Escaped, they take up to six times as much memory.
const TOGETHER_BYTES: usize = 1024 * 1024;

/// Counts the messages with and without a receipt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReceiptCounts {
    /// Messages with a receipt on disk.
    pub saved: u64,
    /// Messages without a receipt.
    pub failed: u64,
}

/// Keeps `registro_cliente.txt` open and writes to it.
pub struct Receipts {
    journal: Journal,
    tally: ReceiptCounts,
    /// A person types the messages and is asked for each.
    prompt: bool,
    bar: Option<ProgressBar>,
    summary: Option<Summary>,
}

impl Receipts {
    /// Opens or creates the file in `data_dir`.
    ///
    /// # Errors
    /// If the file can be neither opened nor created.
    pub fn open(data_dir: &Path) -> anyhow::Result<Self> {
        let (file, recovery) = JournalFile::open(&data_dir.join(RECEIPTS_FILE))?;
        if recovery.torn_bytes > 0 {
            let cut_bytes = recovery.torn_bytes;
            tracing::warn!(cut_bytes, "{RECEIPTS_FILE} ended in half a record: cut it off");
        }
        Ok(Self {
            journal: Journal::start(file),
            tally: ReceiptCounts::default(),
            prompt: false,
            bar: None,
            summary: None,
        })
    }

    /// Asks a person for the next message whenever one is done.
    pub fn prompting(self) -> Self {
        ask();
        Self { prompt: true, ..self }
    }

    /// Shows a bar on stderr if nothing else on the terminal shows that work goes on.
    pub fn with_bar(self) -> Self {
        let shown = std::io::stderr().is_terminal() && !std::io::stdout().is_terminal();
        let style = ProgressStyle::with_template("{spinner} {pos} guardados, {per_sec}, {elapsed}");
        let bar = || {
            ProgressBar::no_length().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
        };
        Self { bar: shown.then(bar), ..self }
    }

    /// Notes in `summary` which messages have their receipt.
    pub fn noting(self, summary: Option<Summary>) -> Self {
        Self { summary, ..self }
    }

    /// Writes a receipt for each saved message of `outcomes`, closes the file, and returns the summary.
    ///
    /// # Errors
    /// If a receipt cannot be recorded or printed. The error names the messages of its group.
    pub async fn keep(
        mut self,
        mut outcomes: mpsc::Receiver<Vec<PutOutcome>>,
    ) -> anyhow::Result<(ReceiptCounts, Option<Summary>)> {
        let mut kept = Ok(());
        while let Some(mut group) = outcomes.recv().await {
            // Outcomes that came during the last sync share the next one.
            while let Ok(further) = outcomes.try_recv() {
                group.extend(further);
            }
            kept = self.keep_group(group).await;
            if kept.is_err() {
                break;
            }
        }
        // Without a receiver the session gives up.
        drop(outcomes);
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
        self.journal.close().await;
        kept.map(|()| (self.tally, self.summary))
    }

    async fn keep_group(&mut self, group: Vec<PutOutcome>) -> anyhow::Result<()> {
        let mut saved = Vec::new();
        for outcome in group {
            match outcome {
                PutOutcome::Saved(message) => saved.push(message),
                PutOutcome::Failed(failed) => {
                    tracing::error!(id = %failed.id, "not saved: {}", failed.failure);
                    self.tally.failed += 1;
                }
            }
        }
        let mut saved = saved.as_slice();
        while !saved.is_empty() {
            let together = fitting(saved);
            self.record(&saved[..together]).await?;
            saved = &saved[together..];
        }
        if self.prompt {
            ask();
        }
        Ok(())
    }

    async fn record(&mut self, saved: &[SavedMessage]) -> anyhow::Result<()> {
        let time = timestamp(Utc::now());
        let mut batch = Batch::new(Checksum::None);
        let mut shown = String::new();
        for message in saved {
            let SavedMessage { id, places, message_crc32c, text, .. } = message.clone();
            push_receipt(
                &mut batch,
                &Receipt { time: time.clone(), id, places, message_crc32c, text: Some(text) },
            );
            shown.push_str(&plain::saved(&message.places, message.id));
            shown.push('\n');
        }
        let ids = || saved.iter().map(|saved| saved.id.to_string()).collect::<Vec<_>>().join(" ");
        let recorded = self.journal.append(batch).await;
        recorded.with_context(|| format!("these are saved but have no receipt: {}", ids()))?;
        self.tally.saved += saved.len() as u64;
        if let Some(summary) = &mut self.summary {
            summary.note(saved);
        }
        if let Some(bar) = self.bar.as_ref().filter(|_| self.tally.saved >= WORTH_A_BAR) {
            bar.set_position(self.tally.saved);
        }
        let mut stdout = tokio::io::stdout();
        stdout.write_all(shown.as_bytes()).await.context("cannot print the receipts")?;
        stdout.flush().await.context("cannot print the receipts")
    }
}

/// Returns how many of `saved` get their receipts together, at least one.
fn fitting(saved: &[SavedMessage]) -> usize {
    let mut bytes = 0;
    let fit = saved.iter().take_while(|saved| {
        bytes += saved.text.len();
        bytes <= TOGETHER_BYTES
    });
    fit.count().max(1)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use protocol::store::types::{Id, MessageCrc};

    use super::*;

    #[test]
    fn receipts_of_long_messages_are_not_all_kept_in_memory_together() {
        let saved = |bytes: usize| SavedMessage {
            id: Id::from_parts(1, 2),
            places: vec!["datanode2:17".parse().unwrap()],
            message_crc32c: MessageCrc::of(""),
            text: "x".repeat(bytes),
            took: Duration::ZERO,
        };
        let half = TOGETHER_BYTES / 2;
        for (bytes, expected) in
            [(&[0][..], 1), (&[1, 2, 3], 3), (&[half, half, 0, 1], 3), (&[2 * half + 1, 1], 1)]
        {
            let group: Vec<_> = bytes.iter().map(|bytes| saved(*bytes)).collect();
            assert_eq!(fitting(&group), expected, "{bytes:?}");
        }
    }
}
