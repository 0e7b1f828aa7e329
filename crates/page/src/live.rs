//! Frames of the page as Server-Sent Events (<https://html.spec.whatwg.org/multipage/server-sent-events.html>). A frame
//! is made once, whatever the number of pages. It holds the whole state, so a page that reads slowly misses nothing by
//! getting only the newest one.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::unfold;
use tokio::sync::{Mutex, Notify, watch};
use tokio::time::{Instant, sleep, sleep_until};

use crate::history::SAMPLE_PERIOD;
use crate::source::{FrameStamp, Source};

/// The highest number of pages that are open at the same time.
pub const MAX_PAGES: usize = 1024;
/// The shortest time from one frame to the next.
const SHORTEST_PERIOD: Duration = Duration::from_millis(500);
/// The time from one frame to the next, per open page: sending a frame to many pages must leave time for the program.
const PERIOD_PER_PAGE: Duration = Duration::from_micros(1200);
/// A page that has read nothing for so long is closed, because its place may be wanted.
const UNREAD: Duration = Duration::from_secs(30);

/// One frame, as it is sent.
#[derive(Debug, Clone)]
pub struct LiveFrame {
    number: u64,
    /// The frame as an event.
    event: Bytes,
    /// The frame alone.
    pub json: Bytes,
}

/// Makes frames while pages are open.
#[derive(Debug)]
pub struct Live<S> {
    source: Arc<S>,
    pages: AtomicUsize,
    /// Wakes [`run`](Self::run) when the first page has been opened.
    opened: Notify,
    newest: watch::Sender<Option<LiveFrame>>,
    /// The number of the last frame, and when it was made.
    making: Mutex<(u64, Option<Instant>)>,
}

impl<S: Source> Live<S> {
    /// Returns a maker of frames that no page has opened yet.
    pub fn new(source: Arc<S>) -> Self {
        Self {
            source,
            pages: AtomicUsize::new(0),
            opened: Notify::new(),
            newest: watch::Sender::default(),
            making: Mutex::default(),
        }
    }

    /// Makes frames while a page is open, and takes samples all the time. Runs for ever.
    pub async fn run(&self) {
        if !S::HAS_PAGE {
            return std::future::pending().await;
        }
        let mut next_sample = Instant::now();
        loop {
            let watched = self.pages.load(Ordering::Relaxed) > 0;
            tokio::select! {
                () = sleep_until(next_sample) => {
                    self.source.sample().await;
                    next_sample = Instant::now() + SAMPLE_PERIOD;
                    continue;
                }
                () = self.opened.notified(), if !watched => self.source.set_watched(true),
                () = sleep(self.period()), if watched => {}
            }
            if self.pages.load(Ordering::Relaxed) == 0 {
                self.source.set_watched(false);
                self.newest.send_replace(None);
            } else {
                self.current().await;
            }
        }
    }

    /// Returns the newest frame, which is at most one period old.
    pub async fn current(&self) -> LiveFrame {
        let mut making = self.making.lock().await;
        let (number, made) = &mut *making;
        let period = self.period();
        // Half a period less, so that a frame that is due is never taken for fresh.
        let is_fresh = made.is_some_and(|made| made.elapsed() < period / 2);
        if let Some(frame) = self.newest.borrow().as_ref().filter(|_| is_fresh) {
            return frame.clone();
        }
        *number += 1;
        let json = self.source.frame(FrameStamp { number: *number, period }).await.unwrap_or_else(|error| {
            tracing::error!(%error, "cannot write a frame of the page");
            b"{}".to_vec()
        });
        let run = self.source.run();
        // A page that has lost its connection tries again after a second.
        let head = format!("retry: 1000\nevent: frame\nid: {run}:{number}\ndata: ");
        let event = [head.as_bytes(), &json, b"\n\n"].concat().into();
        let frame = LiveFrame { number: *number, event, json: json.into() };
        *made = Some(Instant::now());
        self.newest.send_replace(Some(frame.clone()));
        frame
    }

    /// Opens a page, and returns the stream of its frames, or `None` if too many pages are open. The stream notes in
    /// `reading` that it is read.
    pub fn open(
        self: &Arc<Self>,
        reading: ReadingNote,
    ) -> Option<impl Stream<Item = Result<Bytes, Infallible>> + Send + use<S>> {
        let admitted = self.pages.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |pages| {
            (pages < MAX_PAGES).then_some(pages + 1)
        });
        if admitted.ok()? == 0 {
            self.opened.notify_one();
        }
        let page = OpenPage(self.clone());
        let mut frames = self.newest.subscribe();
        // A frame that is there already is news for this page.
        frames.mark_changed();
        Some(unfold((page, frames, reading, 0), next_event))
    }

    fn period(&self) -> Duration {
        let pages = u32::try_from(self.pages.load(Ordering::Relaxed)).unwrap_or(u32::MAX);
        SHORTEST_PERIOD.max(PERIOD_PER_PAGE * pages)
    }
}

/// The state of a page's stream: its place, the channel of frames, the note that it is read, and the last frame's number.
type PageState<S> = (OpenPage<S>, watch::Receiver<Option<LiveFrame>>, ReadingNote, u64);

/// Waits for the next frame of a page.
async fn next_event<S: Source>(
    (page, mut frames, reading, last): PageState<S>,
) -> Option<(Result<Bytes, Infallible>, PageState<S>)> {
    reading.note();
    loop {
        // The sender lives as long as the page.
        frames.changed().await.ok()?;
        let frame = frames.borrow_and_update().clone();
        if let Some(LiveFrame { number, event, json: _ }) = frame.filter(|frame| frame.number > last) {
            return Some((Ok(event), (page, frames, reading, number)));
        }
    }
}

/// The place of an open page, which is free again when this is dropped.
#[derive(Debug)]
struct OpenPage<S>(Arc<Live<S>>);

impl<S> Drop for OpenPage<S> {
    fn drop(&mut self) {
        self.0.pages.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Tells of one connection whether the page at its other end reads what it is sent.
#[derive(Debug, Clone)]
pub struct ReadingNote(Arc<watch::Sender<Option<Instant>>>);

impl ReadingNote {
    /// Returns the note of a connection on which no page is open.
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }

    /// Notes that the page has taken all that it was sent.
    fn note(&self) {
        self.0.send_replace(Some(Instant::now()));
    }

    /// Waits until a page has read nothing for half a minute.
    pub async fn has_stopped(&self) {
        loop {
            let last = *self.0.borrow();
            let due = last.unwrap_or_else(Instant::now) + UNREAD;
            sleep_until(due).await;
            if last.is_some() && *self.0.borrow() == last {
                return;
            }
        }
    }
}
