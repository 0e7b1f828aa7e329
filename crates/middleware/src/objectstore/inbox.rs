//! Fetches the letters that lie in the inbox.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use ulid::Ulid;

use super::names::{InboxName, REPLIES, end_of_reply};
use super::poll::PollPace;
use super::shared::{MAX_NOTE, OBJECTSTORE_MAX_BYTES, StoreShared};
use crate::TransportError;
use crate::brokered::correspondence::FetchTime;
use crate::brokered::letter::{Letter, LetterKind};
use crate::brokered::pace::Pace;

/// Replies of which letters are fetched at the same time.
const AT_ONCE: usize = 16;

/// Reads for ever, while any request or reply is open.
pub(crate) async fn read_inbox(shared: Arc<StoreShared>) {
    let mut pace = PollPace::default();
    loop {
        if !shared.correspondence.is_busy() {
            shared.correspondence.stirred.notified().await;
            pace.quicken();
            continue;
        }
        match look(&shared).await {
            Ok(0) => {}
            Ok(_) => {
                pace.quicken();
                continue;
            }
            Err(error) => tracing::debug!(%error, "the inbox could not be read"),
        }
        tokio::select! {
            () = pace.pause() => {}
            () = shared.correspondence.stirred.notified() => pace.quicken(),
        }
    }
}

/// Fetches what is due. Returns the number of letters.
async fn look(shared: &Arc<StoreShared>) -> Result<usize, TransportError> {
    let folder = format!("{REPLIES}/{}", shared.inbox);
    let names = shared.bucket.names(&folder, Pace::endless()).await?;
    let mut by_ask: BTreeMap<Ulid, Vec<(String, InboxName)>> = BTreeMap::new();
    for name in names {
        // Whatever else lies there is not ours, and is left alone.
        let Some(read) = InboxName::parse(&name) else { continue };
        let (InboxName::Letter { ask, .. } | InboxName::Result { ask }) = read;
        by_ask.entry(ask).or_default().push((format!("{folder}/{name}"), read));
    }
    let fetched = futures_util::stream::iter(by_ask.into_values().map(|letters| fetch(shared, letters)));
    let mut fetched = fetched.buffer_unordered(AT_ONCE);
    let mut counted = 0;
    while let Some(count) = fetched.next().await {
        counted += count?;
    }
    Ok(counted)
}

/// Fetches the letters about one request in their order, and deletes them. The result has the last name.
async fn fetch(shared: &StoreShared, letters: Vec<(String, InboxName)>) -> Result<usize, TransportError> {
    let mut read = Vec::new();
    for (path, name) in letters {
        if is_early(shared, &name) {
            continue;
        }
        let max_bytes =
            if matches!(name, InboxName::Result { .. }) { MAX_NOTE } else { OBJECTSTORE_MAX_BYTES };
        let body = match shared.bucket.get(&path, max_bytes, shared.patience()).await {
            Ok(Some(body)) => body,
            Ok(None) => continue,
            Err(TransportError::Protocol { cause, .. }) => {
                tracing::warn!(cause, "an object in the inbox is too long, and is dropped");
                read.push(path);
                continue;
            }
            Err(error) => return Err(error),
        };
        let Some(letter) = letter(&name, body) else {
            tracing::warn!(path, "something in the inbox is no letter, and is dropped");
            read.push(path);
            continue;
        };
        let Letter { ask, attempt, number, kind, .. } = letter;
        if kind != LetterKind::End || shared.correspondence.fetch_time(ask, attempt, number) == FetchTime::Now
        {
            shared.correspondence.receive(letter);
            read.push(path);
        }
    }
    if !read.is_empty() {
        shared.bucket.delete(&read, shared.patience()).await?;
    }
    Ok(read.len())
}

fn is_early(shared: &StoreShared, name: &InboxName) -> bool {
    let InboxName::Letter { ask, attempt, number, kind: LetterKind::Piece, .. } = name else { return false };
    shared.correspondence.fetch_time(*ask, *attempt, *number) == FetchTime::Later
}

fn letter(name: &InboxName, body: Bytes) -> Option<Letter> {
    match name {
        InboxName::Result { ask } => end_of_reply(*ask, &body),
        InboxName::Letter { ask, attempt, number, kind, from } => {
            let (ask, attempt, number, kind) = (*ask, *attempt, *number, *kind);
            Some(Letter { kind, ask, attempt, number, from: from.to_string(), body })
        }
    }
}
