//! What all parts of the transport share.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;
use ulid::Ulid;

use super::bucket::Bucket;
use super::claims::HeldClaims;
use super::names::{INBOXES, letter_path, ulid};
use crate::TransportError;
use crate::brokered::BrokerSettings;
use crate::brokered::correspondence::{Correspondence, Note};
use crate::brokered::letter::Letter;
use crate::brokered::pace::Pace;
use crate::brokered::reply::LetterError;
use crate::redis::fast_store::FastStore;

/// The longest piece and the longest request, in bytes.
pub const OBJECTSTORE_MAX_BYTES: usize = 1 << 20;
/// An asker renews the object that says that it is there, this often.
pub(crate) const RENEW_PRESENCE: Duration = Duration::from_secs(5);
/// An asker that has not renewed it for so long is gone.
pub(crate) const ASKER_GONE: Duration = Duration::from_secs(60);
/// The longest object that says that somebody is there, in bytes.
pub(crate) const MAX_NOTE: usize = 256;

/// The bucket, names and open requests of one transport.
pub(crate) struct StoreShared {
    pub(crate) bucket: Bucket,
    pub(crate) settings: BrokerSettings,
    pub(crate) correspondence: Arc<Correspondence>,
    pub(crate) inbox: Ulid,
    pub(crate) fast: Option<FastStore>,
    pub(crate) held: HeldClaims,
    /// What is still to be told to the bucket.
    pub(crate) unsettled: TaskTracker,
    beats: AtomicU64,
    askers: Mutex<HashMap<Ulid, AskerSign>>,
}

/// The last word of an asker's sign of presence, if it reads the letters in the fast store.
const READS_FAST: &str = "fast";

/// What an asker said last to show that it is there.
struct AskerSign {
    said: Bytes,
    since: Instant,
    looked: Instant,
}

impl StoreShared {
    pub(crate) fn new(
        bucket: Bucket,
        settings: BrokerSettings,
        correspondence: Arc<Correspondence>,
        inbox: Ulid,
        fast: Option<FastStore>,
    ) -> Self {
        let (held, unsettled, beats, askers) = Default::default();
        Self { bucket, settings, correspondence, inbox, fast, held, unsettled, beats, askers }
    }

    pub(crate) fn patience(&self) -> Pace {
        Pace::for_at_most(self.settings.patience)
    }

    /// Something that this transport has never said before.
    pub(crate) fn beat(&self) -> Bytes {
        Bytes::from(format!("{} {}", self.inbox, self.beats.fetch_add(1, Ordering::Relaxed)))
    }

    /// Says that this asker is there.
    pub(crate) async fn show_presence(&self) -> Result<(), TransportError> {
        let mut sign = self.beat().to_vec();
        if self.fast.is_some() {
            sign.extend_from_slice(format!(" {READS_FAST}").as_bytes());
        }
        self.bucket.put(&format!("{INBOXES}/{}", self.inbox), &sign.into(), self.patience()).await
    }

    /// Puts a letter into the inbox of an asker, through the fast store if `may_be_fast` and the asker reads it.
    pub(crate) async fn post(&self, to: Ulid, letter: &Letter, may_be_fast: bool) -> Result<(), LetterError> {
        let reads_fast = self.check_asker(to).await?;
        match &self.fast {
            Some(fast) if may_be_fast && reads_fast => fast.post(to, letter).await,
            _ => self.post_slowly(to, letter).await,
        }
    }

    /// Puts a letter into an inbox in the bucket.
    async fn post_slowly(&self, to: Ulid, letter: &Letter) -> Result<(), LetterError> {
        let path = letter_path(to, letter);
        self.bucket.put(&path, &letter.body, self.patience()).await.map_err(LetterError::Failed)
    }

    /// Fails if an asker has taken its inbox away, or has not shown itself for too long. It is looked at now and then. Returns
    /// whether it reads what lies in the fast store.
    async fn check_asker(&self, asker: Ulid) -> Result<bool, LetterError> {
        let known = self.askers().get(&asker).map(|sign| (sign.looked, reads_fast(&sign.said)));
        if let Some((looked, reads_fast)) = known
            && looked.elapsed() < RENEW_PRESENCE
        {
            return Ok(reads_fast);
        }
        let path = format!("{INBOXES}/{asker}");
        let said = self.bucket.get(&path, MAX_NOTE, self.patience()).await.map_err(LetterError::Failed)?;
        let mut askers = self.askers();
        let Some(said) = said else {
            askers.remove(&asker);
            return Err(LetterError::AskerGone);
        };
        let now = Instant::now();
        // Those that nobody has written to for a while are forgotten.
        askers.retain(|_, sign| sign.looked.elapsed() < 2 * ASKER_GONE);
        let new = || AskerSign { said: said.clone(), since: now, looked: now };
        let sign = askers.entry(asker).or_insert_with(new);
        if sign.said != said {
            (sign.said, sign.since) = (said, now);
        }
        sign.looked = now;
        if sign.since.elapsed() < ASKER_GONE {
            Ok(reads_fast(&sign.said))
        } else {
            Err(LetterError::AskerGone)
        }
    }

    fn askers(&self) -> std::sync::MutexGuard<'_, HashMap<Ulid, AskerSign>> {
        self.askers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries out what nobody waits for.
    pub(crate) async fn carry_out(self: Arc<Self>, mut notes: mpsc::UnboundedReceiver<Note>) {
        while let Some(note) = notes.recv().await {
            match note {
                Note::Post { to, letter } => {
                    // A replier need not have the fast store.
                    let Some(to) = ulid(&to) else { continue };
                    if let Err(error) = self.post_slowly(to, &letter).await {
                        tracing::debug!(%to, kind = letter.kind.word(), ?error, "a letter did not get through");
                    }
                }
                Note::Withdraw(request) => {
                    if let Err(error) = self.bucket.delete(&[request], self.patience()).await {
                        tracing::debug!(%error, "a request could not be withdrawn");
                    }
                }
            }
        }
    }

    /// Shows for ever that this asker is there.
    pub(crate) async fn stay_present(self: Arc<Self>) {
        let mut interval = tokio::time::interval(RENEW_PRESENCE);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            // The bucket has complained.
            let _ = self.show_presence().await;
        }
    }
}

fn reads_fast(sign: &[u8]) -> bool {
    sign.rsplit(|byte| *byte == b' ').next() == Some(READS_FAST.as_bytes())
}
