//! Keeps account of the messages on their way: which are to be sent, which wait for a reply, which for another attempt, and
//! when each is given up.
//!
//! The outbox has no socket and no clock: the caller passes the time and the randomness.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use backon::ExponentialBackoff;
use protocol::store::client_api::{ClientRequest, ErrorCode, HeadnodeReply};
use protocol::store::types::{Id, MAX_MESSAGE_BYTES, MessageCrc, Place};
use rand::rngs::StdRng;
use service::shutdown::OpenGuard;
use tokio::time::Instant;

use crate::backoff::{next_pause, pauses};
use crate::message::{OutgoingMessage, PutFailure, PutOutcome, SavedMessage, SessionOptions, UnsavedMessage};

/// Holds the messages of a session that have no outcome yet.
pub struct Outbox {
    options: SessionOptions,
    rng: StdRng,
    /// The number of the next message. Numbers tell in which order messages came.
    next: u64,
    open: BTreeMap<u64, OpenMessage>,
    /// Messages to send, the oldest first.
    ready: BTreeSet<u64>,
    /// Messages to send again, each at its time.
    waiting: BTreeSet<(Instant, u64)>,
    /// Messages that were sent on the present connection. Replies come in this order. A message that was given up keeps its turn.
    sent: VecDeque<Sent>,
    /// The moment of the last reply on the present connection.
    answered: Option<Instant>,
}

/// A message that has no outcome yet.
struct OpenMessage {
    message: OutgoingMessage,
    admitted: Instant,
    /// The message was sent at least once.
    was_sent: bool,
    /// The message was sent on the present connection and has no reply.
    under_way: bool,
    /// The message was sent on an earlier connection, and nobody knows what became of it there.
    uncertain: bool,
    pauses: Option<ExponentialBackoff>,
    trouble: Option<Arc<str>>,
    /// Counts the message among what is left at a shutdown.
    counted: Option<OpenGuard>,
}

struct Sent {
    number: u64,
    id: Id,
    at: Instant,
}

impl Outbox {
    pub fn new(options: SessionOptions, rng: StdRng) -> Self {
        Self {
            options,
            rng,
            next: 0,
            open: BTreeMap::new(),
            ready: BTreeSet::new(),
            waiting: BTreeSet::new(),
            sent: VecDeque::new(),
            answered: None,
        }
    }

    /// Returns how many more messages may be on their way.
    pub fn room(&self) -> usize {
        self.options.window.saturating_sub(self.open.len())
    }

    /// Returns whether every message has its outcome.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    pub fn rng(&mut self) -> &mut StdRng {
        &mut self.rng
    }

    /// Accepts a message to send, or returns why it cannot be sent.
    pub fn admit(&mut self, now: Instant, message: OutgoingMessage) -> Option<PutOutcome> {
        let bytes = message.text.len();
        if bytes > MAX_MESSAGE_BYTES {
            return Some(PutOutcome::Failed(UnsavedMessage {
                id: message.id,
                failure: PutFailure::TooLong { bytes },
            }));
        }
        let open = OpenMessage {
            message,
            admitted: now,
            was_sent: false,
            under_way: false,
            uncertain: false,
            pauses: None,
            trouble: None,
            counted: None,
        };
        self.open.insert(self.next, open);
        self.ready.insert(self.next);
        self.next += 1;
        None
    }

    /// Returns the next request to send, if there is one.
    pub fn send_next(&mut self, now: Instant) -> Option<ClientRequest> {
        let number = self.ready.pop_first()?;
        let open = self.open.get_mut(&number)?;
        open.under_way = true;
        let id = open.message.id;
        self.sent.push_back(Sent { number, id, at: now });
        let is_new = !std::mem::replace(&mut open.was_sent, true);
        Some(ClientRequest::Put { id: Some(id), is_new, message: open.message.text.clone() })
    }

    /// Notes a reply, and returns the outcome of its message if the reply decides it.
    ///
    /// # Errors
    /// Says why nothing more can be expected from this connection.
    pub fn answer(&mut self, now: Instant, reply: HeadnodeReply) -> Result<Option<PutOutcome>, String> {
        if let HeadnodeReply::Error { code, reason, .. } = &reply
            && code.ends_connection()
        {
            return Err(format!("the headnode ended the connection: {reason} ({code})"));
        }
        let Some(Sent { number, id, .. }) = self.sent.front() else {
            return Err("a reply came that no message waited for: is this a headnode?".to_owned());
        };
        let (number, id) = (*number, *id);
        let answered = match &reply {
            HeadnodeReply::Saved { id, .. } => Some(*id),
            HeadnodeReply::Error { id: named, .. } => Some(named.unwrap_or(id)),
            _ => None,
        };
        if answered != Some(id) {
            return Err(format!("the reply to {id} is about something else: is this a headnode?"));
        }
        self.sent.pop_front();
        self.answered = Some(now);
        let Some(open) = self.open.get_mut(&number) else {
            tracing::warn!(%id, "a reply came after the message was given up");
            return Ok(None);
        };
        if let HeadnodeReply::Error { code, reason, .. } = &reply
            && code.is_temporary()
        {
            open.under_way = false;
            open.trouble = Some(format!("{reason} ({code})").into());
            let rng = &mut self.rng;
            let pause = next_pause(open.pauses.get_or_insert_with(|| pauses(rng)));
            tracing::debug!(%id, %code, reason, ?pause, "not saved for now");
            self.waiting.insert((now + pause, number));
            return Ok(None);
        }
        Ok(self.open.remove(&number).map(|open| open.end(now, reply)))
    }

    /// Notes that the connection broke: what was sent on it and not answered is sent again, in the same order.
    pub fn broken(&mut self, trouble: &str) {
        let trouble: Arc<str> = trouble.into();
        for open in self.open.values_mut() {
            open.trouble = Some(trouble.clone());
        }
        self.forget_connection();
    }

    /// Prepares for a new connection, on which nothing was sent yet.
    pub fn forget_connection(&mut self) {
        for Sent { number, .. } in self.sent.drain(..) {
            // A message that was given up meanwhile is not sent again.
            if let Some(open) = self.open.get_mut(&number) {
                (open.under_way, open.uncertain) = (false, true);
                self.ready.insert(number);
            }
        }
        self.answered = None;
    }

    /// Returns whether a reply to a message came on the present connection.
    pub fn has_answer(&self) -> bool {
        self.answered.is_some()
    }

    /// Returns when the connection counts as dead unless a reply comes, or `None` while no reply is owed.
    pub fn reply_due(&self) -> Option<Instant> {
        let oldest = self.sent.front()?.at;
        // Replies come in order, so the oldest one may have had to wait for its turn.
        Some(self.answered.map_or(oldest, |answered| answered.max(oldest)) + self.options.reply_timeout)
    }

    /// Returns when [`tick`](Self::tick) has something to do.
    pub fn wakes_at(&self) -> Option<Instant> {
        // All messages have the same time, so the oldest one is given up first.
        let give_up = self.open.values().next().map(|open| open.admitted + self.options.wait);
        let again = self.waiting.first().map(|(at, _)| *at);
        give_up.into_iter().chain(again).min()
    }

    /// Makes ready what has waited long enough, and gives up what was tried for too long.
    pub fn tick(&mut self, now: Instant) -> Vec<PutOutcome> {
        while let Some((at, number)) = self.waiting.first().copied().filter(|(at, _)| *at <= now) {
            self.waiting.remove(&(at, number));
            self.ready.insert(number);
        }
        let mut given_up = Vec::new();
        while let Some(entry) = self.open.first_entry()
            && entry.get().admitted + self.options.wait <= now
        {
            let (number, open) = entry.remove_entry();
            self.ready.remove(&number);
            self.waiting.retain(|(_, waiting)| *waiting != number);
            given_up.push(open.give_up(self.options.wait));
        }
        given_up
    }

    /// Returns what was never sent as stopped, because the program is to end. `hold` counts each of the other messages for as
    /// long as it has no outcome.
    pub fn stop(&mut self, hold: impl Fn() -> OpenGuard) -> Vec<PutOutcome> {
        let mut unsent = Vec::new();
        self.open.retain(|_, open| {
            if open.under_way || open.uncertain || open.pauses.is_some() {
                open.counted = Some(hold());
                return true;
            }
            unsent.push(PutOutcome::Failed(UnsavedMessage {
                id: open.message.id,
                failure: PutFailure::Stopped,
            }));
            false
        });
        self.ready.retain(|number| self.open.contains_key(number));
        unsent
    }
}

impl OpenMessage {
    fn give_up(self, after: Duration) -> PutOutcome {
        let trouble = self.trouble.as_deref().unwrap_or("no reply came").to_owned();
        let failure = PutFailure::GivenUp { after, trouble, uncertain: self.uncertain || self.under_way };
        PutOutcome::Failed(UnsavedMessage { id: self.message.id, failure })
    }

    /// Returns what a final reply means.
    fn end(self, now: Instant, reply: HeadnodeReply) -> PutOutcome {
        let id = self.message.id;
        let failure = match reply {
            HeadnodeReply::Saved { places, message_crc32c, .. } => {
                match check(&self.message.text, &places, message_crc32c) {
                    Ok(()) => {
                        let took = now.saturating_duration_since(self.admitted);
                        let text = self.message.text;
                        return PutOutcome::Saved(SavedMessage { id, places, message_crc32c, text, took });
                    }
                    Err(failure) => failure,
                }
            }
            HeadnodeReply::Error { code, reason, .. } => PutFailure::Refused { code, reason },
            _ => PutFailure::Refused { code: ErrorCode::Malformed, reason: "not a reply to put".to_owned() },
        };
        PutOutcome::Failed(UnsavedMessage { id, failure })
    }
}

/// Checks that what was stored is what was sent.
fn check(message: &str, places: &[Place], stored: MessageCrc) -> Result<(), PutFailure> {
    let sent = MessageCrc::of(message);
    if sent != stored {
        return Err(PutFailure::WrongChecksum { sent, stored });
    }
    if places.is_empty() { Err(PutFailure::NoPlace) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    const WAIT: Duration = Duration::from_secs(30);
    const REPLY_TIMEOUT: Duration = Duration::from_secs(10);

    fn outbox(messages: u128) -> (Outbox, Instant) {
        let now = Instant::now();
        let options = SessionOptions { wait: WAIT, reply_timeout: REPLY_TIMEOUT, window: 4 };
        let mut outbox = Outbox::new(options, StdRng::seed_from_u64(1));
        for number in 0..messages {
            assert!(outbox.admit(now, message(number)).is_none());
        }
        (outbox, now)
    }

    fn message(number: u128) -> OutgoingMessage {
        OutgoingMessage { id: Id::from_parts(1, number), text: format!("message {number}") }
    }

    fn send_all(outbox: &mut Outbox, now: Instant) -> Vec<u128> {
        std::iter::from_fn(|| outbox.send_next(now))
            .map(|request| match request {
                ClientRequest::Put { id: Some(id), .. } => id.random(),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    fn saved(number: u128) -> HeadnodeReply {
        let place = Place { datanode: "datanode1".parse().unwrap(), seq: 1 };
        let OutgoingMessage { id, text } = message(number);
        HeadnodeReply::Saved { id, places: vec![place], message_crc32c: MessageCrc::of(&text) }
    }

    fn error(number: Option<u128>, code: ErrorCode) -> HeadnodeReply {
        HeadnodeReply::Error { id: number.map(|number| message(number).id), code, reason: "why".to_owned() }
    }

    fn failure(outcome: Option<PutOutcome>) -> PutFailure {
        match outcome {
            Some(PutOutcome::Failed(failed)) => failed.failure,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_window_is_what_may_be_on_its_way() {
        let (mut outbox, now) = outbox(4);
        assert_eq!(outbox.room(), 0);
        assert_eq!(send_all(&mut outbox, now), [0, 1, 2, 3]);
        assert_eq!(outbox.room(), 0);
        let outcome = outbox.answer(now + REPLY_TIMEOUT, saved(0)).unwrap();
        assert!(
            matches!(outcome, Some(PutOutcome::Saved(SavedMessage { took: REPLY_TIMEOUT, .. }))),
            "{outcome:?}"
        );
        assert_eq!(outbox.room(), 1);
    }

    #[test]
    fn what_is_tried_again_holds_up_no_other_and_goes_in_order() {
        let (mut outbox, now) = outbox(4);
        send_all(&mut outbox, now);
        for number in [0, 1] {
            assert!(
                outbox.answer(now, error(Some(number), ErrorCode::NoAvailableDatanode)).unwrap().is_none()
            );
        }
        assert!(outbox.answer(now, saved(2)).unwrap().is_some());
        assert!(outbox.answer(now, saved(3)).unwrap().is_some());
        assert!(outbox.tick(now + Duration::from_millis(49)).is_empty());
        assert_eq!(send_all(&mut outbox, now), [], "not yet");
        outbox.admit(now, message(4));
        // The first pause is 50 ms and up to as much again.
        assert!(outbox.tick(now + Duration::from_millis(100)).is_empty());
        assert_eq!(send_all(&mut outbox, now), [0, 1, 4]);
    }

    #[test]
    fn after_a_break_all_that_is_not_acknowledged_is_sent_again() {
        let (mut outbox, now) = outbox(4);
        send_all(&mut outbox, now);
        outbox.answer(now, saved(0)).unwrap();
        assert!(outbox.answer(now, error(None, ErrorCode::ShuttingDown)).is_err());
        outbox.broken("cut off");
        assert_eq!(outbox.reply_due(), None);
        assert_eq!(send_all(&mut outbox, now), [1, 2, 3]);
    }

    #[test]
    fn a_message_is_given_up_with_the_last_trouble_and_its_late_reply_is_no_receipt() {
        let (mut outbox, now) = outbox(1);
        outbox.broken("connection refused");
        send_all(&mut outbox, now);
        assert_eq!(outbox.wakes_at(), Some(now + WAIT));
        let given_up = outbox.tick(now + WAIT).pop();
        match failure(given_up) {
            PutFailure::GivenUp { trouble, uncertain: true, .. } => assert_eq!(trouble, "connection refused"),
            other => panic!("{other:?}"),
        }
        assert!(outbox.is_empty());
        assert!(outbox.answer(now, saved(0)).unwrap().is_none());
        outbox.broken("cut off");
        assert_eq!(send_all(&mut outbox, now), []);
    }

    #[test]
    fn a_temporary_error_settles_only_the_try_that_it_answers() {
        for (lost_replies, expected) in [(0, false), (1, true)] {
            let (mut outbox, now) = outbox(1);
            for _ in 0..lost_replies {
                send_all(&mut outbox, now);
                outbox.broken("cut off");
            }
            send_all(&mut outbox, now);
            outbox.answer(now, error(Some(0), ErrorCode::NoAvailableDatanode)).unwrap();
            let PutFailure::GivenUp { uncertain, .. } = failure(outbox.tick(now + WAIT).pop()) else {
                panic!()
            };
            assert_eq!(uncertain, expected);
        }
    }

    #[test]
    fn a_reply_is_due_after_the_last_progress() {
        let (mut outbox, now) = outbox(2);
        assert_eq!(outbox.reply_due(), None);
        send_all(&mut outbox, now);
        assert_eq!(outbox.reply_due(), Some(now + REPLY_TIMEOUT));
        let later = now + Duration::from_secs(9);
        outbox.answer(later, saved(0)).unwrap();
        assert_eq!(outbox.reply_due(), Some(later + REPLY_TIMEOUT));
    }

    #[test]
    fn what_was_stored_must_be_what_was_sent() {
        let (mut outbox, now) = outbox(2);
        send_all(&mut outbox, now);
        let HeadnodeReply::Saved { id, places, .. } = saved(0) else { panic!() };
        let reply = HeadnodeReply::Saved { id, places, message_crc32c: MessageCrc::of("other") };
        let outcome = outbox.answer(now, reply).unwrap();
        assert!(matches!(failure(outcome), PutFailure::WrongChecksum { .. }));
        let HeadnodeReply::Saved { id, message_crc32c, .. } = saved(1) else { panic!() };
        let outcome =
            outbox.answer(now, HeadnodeReply::Saved { id, places: vec![], message_crc32c }).unwrap();
        assert!(matches!(failure(outcome), PutFailure::NoPlace));
    }

    #[test]
    fn replies_out_of_turn_end_the_connection() {
        let (mut outbox, now) = outbox(2);
        assert!(outbox.answer(now, saved(0)).is_err(), "nothing was sent");
        send_all(&mut outbox, now);
        assert!(outbox.answer(now, saved(1)).is_err(), "0 is first");
        assert!(outbox.answer(now, HeadnodeReply::Messages { entries: vec![], before: None }).is_err());
        outbox.broken("nonsense");
        assert_eq!(send_all(&mut outbox, now), [0, 1], "nothing is lost");
    }

    #[test]
    fn refusals_are_final_and_a_stop_gives_back_what_was_not_sent() {
        let (mut outbox, now) = outbox(2);
        let shutdown = service::Shutdown::new();
        outbox.send_next(now);
        let mut unsent = outbox.stop(|| shutdown.hold("messages"));
        assert!(matches!(failure(unsent.pop()), PutFailure::Stopped));
        assert_eq!(shutdown.left(), "1 messages");
        let outcome = outbox.answer(now, error(Some(0), ErrorCode::IdConflict)).unwrap();
        assert!(matches!(failure(outcome), PutFailure::Refused { code: ErrorCode::IdConflict, .. }));
        assert_eq!(shutdown.left(), "nothing");
        let long = OutgoingMessage { id: message(0).id, text: "x".repeat(MAX_MESSAGE_BYTES + 1) };
        assert!(matches!(failure(outbox.admit(now, long)), PutFailure::TooLong { .. }));
    }
}
