//! A server for tests: the request says what the reply is.
//!
//! | request | reply |
//! | --- | --- |
//! | `echo TEXT` | one piece: `TEXT` |
//! | `count N` | the numbers 0 to N − 1, four bytes each (little endian), a piece for each |
//! | `fill N BYTES` | N pieces of so many bytes each |
//! | `empty` | ends without a piece |
//! | `break` | one piece; then the sink is dropped without an end |

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::StreamExt;
use middleware::{Endpoint, Incoming, Pieces, Requests, TransportError};
use tokio::task::JoinHandle;

/// Serves an endpoint until it is dropped.
pub struct Answering {
    /// Whom to ask.
    pub endpoint: Endpoint,
    /// How many pieces the sinks have taken.
    pub sent: Arc<AtomicUsize>,
    /// How many sinks have refused a piece because their asker was gone.
    pub refused: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Answering {
    /// Answers the requests to `endpoint`, each in a task of its own.
    pub fn start(mut requests: Box<dyn Requests>, endpoint: &Endpoint) -> Answering {
        let (sent, refused) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let counters = (Arc::clone(&sent), Arc::clone(&refused));
        let endpoint = reachable(requests.as_ref(), endpoint);
        let task = tokio::spawn(async move {
            loop {
                let incoming = requests.next().await;
                let (sent, refused) = counters.clone();
                tokio::spawn(async move {
                    if answer(incoming, &sent).await.is_err() {
                        refused.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
        });
        Answering { endpoint, sent, refused, task }
    }

    /// Stops to serve, and waits until that has happened.
    pub async fn stop(mut self) {
        self.task.abort();
        let _cancelled = (&mut self.task).await;
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The endpoint to ask: with the address that the system chose, where it is called directly.
pub fn reachable(requests: &dyn Requests, served: &Endpoint) -> Endpoint {
    match (requests.address(), served) {
        (Some(address), Endpoint::Master(_)) => Endpoint::Master(address),
        (Some(address), _) => Endpoint::Worker(address),
        (None, _) => served.clone(),
    }
}

/// Does what a request says.
pub async fn answer(incoming: Incoming, sent: &AtomicUsize) -> Result<(), TransportError> {
    let Incoming { request, peer, mut reply } = incoming;
    if let Some(text) = request.strip_prefix(b"echo ") {
        reply.send(request.slice_ref(text)).await?;
        return reply.finish().await;
    }
    let words = String::from_utf8(request.to_vec()).unwrap();
    let words: Vec<&str> = words.split(' ').collect();
    match words[..] {
        ["count", count] => {
            for number in 0..count.parse::<u32>().unwrap() {
                reply.send(Bytes::copy_from_slice(&number.to_le_bytes())).await?;
                sent.fetch_add(1, Ordering::SeqCst);
            }
        }
        ["fill", count, bytes] => {
            let bytes = bytes.parse().unwrap();
            for number in 0..count.parse::<usize>().unwrap() {
                reply.send(Bytes::from(vec![number as u8; bytes])).await?;
                sent.fetch_add(1, Ordering::SeqCst);
            }
        }
        ["empty"] => {}
        ["peer"] => reply.send(format!("{peer:?}").into()).await?,
        ["break"] => return reply.send(Bytes::from_static(b"half")).await,
        _ => panic!("no such request: {words:?}"),
    }
    reply.finish().await
}

/// All pieces of a reply, or the error that ended it.
pub async fn collect(mut pieces: Pieces) -> Result<Vec<Bytes>, TransportError> {
    let mut all = Vec::new();
    while let Some(piece) = pieces.next().await {
        all.push(piece?);
    }
    Ok(all)
}
