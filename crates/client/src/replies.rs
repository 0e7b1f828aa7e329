//! Records the replies in `respuestas.txt`, and then prints them.

use std::net::SocketAddr;

use anyhow::Context as _;
use chrono::Utc;
use journal::{Batch, Checksum, Journal, JournalFile};
use text::{Shown, timestamp};
use tokio::io::AsyncWriteExt as _;

/// Records replies in `respuestas.txt`, and then prints them.
pub struct ReplyLog {
    server: SocketAddr,
    journal: Journal,
}

impl ReplyLog {
    /// Returns a log of the replies of `server` that writes to `file`.
    pub fn start(server: SocketAddr, file: JournalFile) -> Self {
        Self { server, journal: Journal::start(file) }
    }

    /// Records `replies`, and prints them once they are on disk.
    ///
    /// # Errors
    /// If they cannot be recorded or printed.
    pub async fn record(&self, replies: &[String]) -> anyhow::Result<()> {
        let now = timestamp(Utc::now());
        let mut batch = Batch::new(Checksum::None);
        let mut shown = String::new();
        for reply in replies {
            batch.push(|record| {
                record.word(&now).word(self.server).text(reply);
            });
            shown.push_str(&format!("{}\n", Shown(reply)));
        }
        self.journal.append(batch).await.context("cannot record the replies")?;
        let mut stdout = tokio::io::stdout();
        stdout.write_all(shown.as_bytes()).await.context("cannot print the replies")?;
        stdout.flush().await.context("cannot print the replies")
    }

    /// Closes the file.
    pub async fn close(self) {
        self.journal.close().await;
    }
}
