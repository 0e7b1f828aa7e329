//! Tests of what letters mean.

use futures_util::FutureExt;
use futures_util::StreamExt;

use super::*;

struct Desk {
    correspondence: Arc<Correspondence>,
    notes: mpsc::UnboundedReceiver<Note>,
}

impl Desk {
    fn new() -> Self {
        let (correspondence, notes) = Correspondence::new("own".to_owned(), "broker".to_owned());
        Self { correspondence, notes }
    }

    fn open(&self) -> ReplyStream {
        self.correspondence.open(Arc::new(()))
    }

    fn receive(&self, kind: LetterKind, ask: Ulid, attempt: u128, number: u64) {
        let (attempt, body) = (Ulid(attempt), Bytes::from(number.to_string()));
        self.correspondence.receive(Letter {
            kind,
            ask,
            attempt,
            number,
            from: format!("peer{attempt}"),
            body,
        });
    }

    fn noted(&mut self) -> Option<(LetterKind, u128, u64)> {
        match self.notes.try_recv().ok()? {
            Note::Post { letter, .. } => Some((letter.kind, letter.attempt.0, letter.number)),
            Note::Withdraw(_) => None,
        }
    }
}

fn now(stream: &mut ReplyStream) -> Option<Result<String, String>> {
    let item = stream.next().now_or_never().expect("the stream has something to say")?;
    Some(item.map(|piece| String::from_utf8(piece.to_vec()).unwrap()).map_err(|error| error.to_string()))
}

#[test]
fn pieces_come_in_order_and_once() {
    let mut desk = Desk::new();
    let mut stream = desk.open();
    let ask = stream.ask();
    for number in [0, 0, 1, 0, 1, 2] {
        desk.receive(LetterKind::Piece, ask, 1, number);
    }
    desk.receive(LetterKind::End, ask, 1, 3);
    for number in 0..3 {
        assert_eq!(now(&mut stream), Some(Ok(number.to_string())));
    }
    assert_eq!(now(&mut stream), None);
    drop(stream);
    assert_eq!(desk.noted(), None);
}

#[test]
fn a_gap_is_an_error() {
    let mut desk = Desk::new();
    let mut stream = desk.open();
    desk.receive(LetterKind::Piece, stream.ask(), 1, 0);
    desk.receive(LetterKind::Piece, stream.ask(), 1, 2);
    assert_eq!(now(&mut stream), Some(Ok("0".to_owned())));
    assert_eq!(now(&mut stream), Some(Err("broker: a piece of the reply was lost".to_owned())));
    assert_eq!(now(&mut stream), None);
    assert_eq!(desk.noted(), Some((LetterKind::Cancel, 1, 0)));
}

#[test]
fn a_lost_first_piece_is_an_error() {
    let desk = Desk::new();
    let mut stream = desk.open();
    desk.receive(LetterKind::End, stream.ask(), 1, 2);
    assert_eq!(now(&mut stream), Some(Err("broker: a piece of the reply was lost".to_owned())));
}

#[test]
fn replies_of_two_attempts_are_not_mixed() {
    let mut desk = Desk::new();
    let mut stream = desk.open();
    desk.receive(LetterKind::Piece, stream.ask(), 2, 0);
    desk.receive(LetterKind::Piece, stream.ask(), 1, 0);
    assert_eq!(desk.noted(), Some((LetterKind::Cancel, 1, 0)), "the earlier attempt is stopped");
    desk.receive(LetterKind::Piece, stream.ask(), 3, 0);
    assert_eq!(now(&mut stream), Some(Ok("0".to_owned())));
    let lost = "broker: the peer was lost in the middle of its reply".to_owned();
    assert_eq!(now(&mut stream), Some(Err(lost)));
}

#[test]
fn a_failure_has_its_words() {
    let desk = Desk::new();
    let mut stream = desk.open();
    desk.receive(LetterKind::Failed, stream.ask(), 1, 0);
    assert_eq!(now(&mut stream), Some(Err("broker: 0".to_owned())));
}

#[test]
fn a_dropped_stream_cancels() {
    let mut desk = Desk::new();
    let stream = desk.open();
    let ask = stream.ask();
    desk.receive(LetterKind::Piece, ask, 1, 0);
    drop(stream);
    assert_eq!(desk.noted(), Some((LetterKind::Cancel, 1, 0)));
    desk.receive(LetterKind::Piece, ask, 1, 1);
    assert_eq!(desk.noted(), Some((LetterKind::Cancel, 1, 0)), "the first word may be lost");
    desk.receive(LetterKind::Probe, ask, 1, 1);
    assert_eq!(desk.noted(), Some((LetterKind::Cancel, 1, 0)));
}

#[test]
fn a_stream_dropped_before_any_piece_withdraws_its_request() {
    let mut desk = Desk::new();
    let mut stream = desk.open();
    stream.lies_at("there".to_owned());
    drop(stream);
    assert!(matches!(desk.notes.try_recv(), Ok(Note::Withdraw(place)) if place == "there"));
}

#[test]
fn consumption_is_told_in_steps_and_on_demand() {
    let mut desk = Desk::new();
    let mut stream = desk.open();
    let ask = stream.ask();
    let body = Bytes::from(vec![0; 1 << 19]);
    for number in 0..2 {
        let letter = Letter {
            kind: LetterKind::Piece,
            ask,
            attempt: Ulid(1),
            number,
            from: "peer".to_owned(),
            body: body.clone(),
        };
        desk.correspondence.receive(letter);
    }
    assert!(stream.next().now_or_never().is_some());
    assert_eq!(desk.noted(), None);
    desk.receive(LetterKind::Probe, ask, 1, 2);
    assert_eq!(desk.noted(), Some((LetterKind::Consumed, 1, weight(&body))));
    assert!(stream.next().now_or_never().is_some());
    assert_eq!(desk.noted(), Some((LetterKind::Consumed, 1, 2 * weight(&body))));
}

#[test]
fn the_asker_s_words_reach_the_reply() {
    let desk = Desk::new();
    let reply = desk.correspondence.begin_reply(Ulid(1));
    desk.receive(LetterKind::Consumed, Ulid(0), 1, 7);
    desk.receive(LetterKind::Consumed, Ulid(0), 1, 5);
    assert_eq!(reply.borrow().consumed, 7);
    desk.receive(LetterKind::Cancel, Ulid(0), 1, 0);
    assert!(reply.borrow().is_cancelled);
}

#[test]
fn lost_data_fails_all() {
    let desk = Desk::new();
    let mut streams = [desk.open(), desk.open()];
    desk.correspondence.fail_all("the broker forgot");
    for stream in &mut streams {
        assert_eq!(now(stream), Some(Err("broker: the broker forgot".to_owned())));
    }
}
