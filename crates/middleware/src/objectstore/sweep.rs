//! Removes what programs have left that are gone. Only a change is a sign of life, so that no two clocks have to agree.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ulid::Ulid;

use super::names::{CLAIMS, INBOXES, REPLIES, REQUESTS, RequestName, ask_of_claim, ulid};
use super::shared::{MAX_NOTE, StoreShared};
use crate::TransportError;

/// Time between two looks for leftovers.
const SWEEP_EVERY: Duration = Duration::from_secs(30);
/// What belongs to nobody for so long goes away.
const LEFTOVER: Duration = Duration::from_secs(120);

/// What was seen at earlier looks.
#[derive(Default)]
struct SweepMemory {
    /// What each inbox said, and since when.
    signs: HashMap<Ulid, (Bytes, Instant)>,
    /// Since when each path has belonged to nobody.
    orphans: HashMap<String, Instant>,
}

/// Sweeps for ever.
pub(crate) async fn sweep_for_ever(shared: Arc<StoreShared>) {
    let mut memory = SweepMemory::default();
    loop {
        tokio::time::sleep(SWEEP_EVERY).await;
        // After a failure nobody could show that it is there.
        if shared.bucket.since_trouble().is_some_and(|since| since < LEFTOVER) {
            memory = SweepMemory::default();
            continue;
        }
        if let Err(error) = sweep(&shared, &mut memory, LEFTOVER).await {
            tracing::debug!(%error, "leftovers could not be removed");
        }
    }
}

/// Looks once, and removes what has belonged to nobody for `leftover`.
async fn sweep(
    shared: &StoreShared,
    memory: &mut SweepMemory,
    leftover: Duration,
) -> Result<(), TransportError> {
    let mut orphans = Vec::new();
    let alive = alive(shared, memory, leftover, &mut orphans).await?;
    let paths = letters_and_requests(shared).await?;
    let mut open = HashSet::new();
    for (path, inbox, ask) in paths {
        if inbox.is_some_and(|inbox| alive.contains(&inbox)) {
            open.extend(ask);
        } else {
            orphans.push(path);
        }
    }
    for name in shared.bucket.names(CLAIMS, shared.patience()).await? {
        if ask_of_claim(&name).is_some_and(|ask| !open.contains(&ask) && !shared.held.has(ask)) {
            orphans.push(format!("{CLAIMS}/{name}"));
        }
    }
    let now = Instant::now();
    let since = |path: &String| memory.orphans.get(path).copied().unwrap_or(now);
    memory.orphans = orphans.into_iter().map(|path| (path.clone(), since(&path))).collect();
    let is_old = |(path, since): (&String, &Instant)| (since.elapsed() >= leftover).then(|| path.clone());
    let old: Vec<_> = memory.orphans.iter().filter_map(is_old).collect();
    if old.is_empty() {
        return Ok(());
    }
    tracing::info!(objects = old.len(), "what others have left in the bucket is removed");
    shared.bucket.delete(&old, shared.patience()).await
}

/// The inboxes whose owners show that they are there. The signs of the others are orphans.
async fn alive(
    shared: &StoreShared,
    memory: &mut SweepMemory,
    leftover: Duration,
    orphans: &mut Vec<String>,
) -> Result<HashSet<Ulid>, TransportError> {
    let mut signs = HashMap::new();
    for name in shared.bucket.names(INBOXES, shared.patience()).await? {
        let Some(inbox) = ulid(&name) else { continue };
        let path = format!("{INBOXES}/{name}");
        let Some(said) = shared.bucket.get(&path, MAX_NOTE, shared.patience()).await? else { continue };
        let known = memory.signs.get(&inbox).filter(|(known, _)| *known == said);
        let since = known.map_or_else(Instant::now, |(_, since)| *since);
        signs.insert(inbox, (said, since));
    }
    let mut alive = HashSet::new();
    for (inbox, (_, since)) in &signs {
        if since.elapsed() < leftover {
            alive.insert(*inbox);
        } else {
            orphans.push(format!("{INBOXES}/{inbox}"));
        }
    }
    memory.signs = signs;
    Ok(alive)
}

/// The path of each letter and each request, whose inbox it belongs to, and the request's ask.
async fn letters_and_requests(
    shared: &StoreShared,
) -> Result<Vec<(String, Option<Ulid>, Option<Ulid>)>, TransportError> {
    let mut paths = Vec::new();
    for place in [REPLIES, REQUESTS] {
        for folder in shared.bucket.folders(place, shared.patience()).await? {
            for name in shared.bucket.names(&format!("{place}/{folder}"), shared.patience()).await? {
                if !is_ours(&name) {
                    continue;
                }
                let path = format!("{place}/{folder}/{name}");
                if place == REPLIES {
                    paths.push((path, ulid(&folder), None));
                } else if let Some(request) = RequestName::parse(&folder, &name) {
                    paths.push((path, Some(request.inbox), Some(request.ask)));
                }
            }
        }
    }
    Ok(paths)
}

/// Removes all objects of the cluster.
pub(crate) async fn clear(shared: &StoreShared) -> Result<(), TransportError> {
    let mut paths: Vec<_> = letters_and_requests(shared).await?.into_iter().map(|(path, ..)| path).collect();
    for place in [CLAIMS, INBOXES] {
        let names = shared.bucket.names(place, shared.patience()).await?;
        paths.extend(names.into_iter().filter(|name| is_ours(name)).map(|name| format!("{place}/{name}")));
    }
    shared.bucket.delete(&paths, shared.patience()).await
}

/// Whether a name can be that of one of our objects, so that it can be part of a path.
fn is_ours(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use object_store::path::PathPart;

    use super::*;
    use crate::brokered::BrokerSettings;
    use crate::brokered::correspondence::Correspondence;
    use crate::objectstore::bucket::Bucket;

    #[tokio::test]
    async fn what_belongs_to_nobody_goes_away_and_the_rest_stays() {
        let folder = tempfile::tempdir().unwrap();
        let bucket = Bucket::open(folder.path().to_str().unwrap(), PathPart::from("test")).unwrap();
        let (own, dead) = (Ulid::generate(), Ulid::generate());
        let (correspondence, _notes) =
            Correspondence::with_window(own.to_string(), "bucket".to_owned(), 1 << 20);
        let shared = StoreShared::new(bucket, BrokerSettings::default(), correspondence, own, None);
        let of = |inbox: Ulid| {
            let ask = Ulid::generate();
            [
                format!("{REQUESTS}/tasks/{ask}-{inbox}"),
                format!("{CLAIMS}/{ask}-1"),
                format!("{REPLIES}/{inbox}/{ask}-result"),
            ]
        };
        let (stays, goes) = (of(own), of(dead));
        for path in stays.iter().chain(&goes).chain([&format!("{INBOXES}/{dead}")]) {
            shared.bucket.put(path, &Bytes::from_static(b"x"), shared.patience()).await.unwrap();
        }
        let (mut memory, begun) = (SweepMemory::default(), Instant::now());
        let leftover = Duration::from_millis(100);
        loop {
            shared.show_presence().await.unwrap();
            sweep(&shared, &mut memory, leftover).await.unwrap();
            for path in &stays {
                assert!(
                    shared.bucket.has(path, shared.patience()).await.unwrap(),
                    "{path} belongs to somebody"
                );
            }
            let mut left = 0;
            for path in &goes {
                left += usize::from(shared.bucket.has(path, shared.patience()).await.unwrap());
            }
            assert!(left == goes.len() || begun.elapsed() >= leftover, "something went away at once");
            if left == 0 {
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "{left} objects of nobody are left");
        }
        clear(&shared).await.unwrap();
        assert!(!shared.bucket.has(&stays[0], shared.patience()).await.unwrap());
    }
}
