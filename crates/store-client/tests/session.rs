//! Tests a session on streams in memory, under a clock that only moves when everything waits.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use protocol::store::client_api::{ClientRequest, ErrorCode, HeadnodeReply};
use protocol::store::json;
use protocol::store::types::{Id, MessageCrc};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use service::Shutdown;
use store_client::session::{
    MessageSource, OutgoingMessage, PutFailure, PutOutcome, SessionError, SessionOptions, put_all,
};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream};
use tokio::sync::mpsc;
use tokio::time::Instant;

fn rng() -> StdRng {
    StdRng::seed_from_u64(7)
}

fn message(number: u64, text: &str) -> OutgoingMessage {
    OutgoingMessage { id: Id::from_parts(1, u128::from(number)), text: text.to_owned() }
}

fn saved(request: &ClientRequest) -> HeadnodeReply {
    let ClientRequest::Put { id: Some(id), message, .. } = request else { panic!("{request:?}") };
    let places = vec!["datanode1:1".parse().unwrap()];
    HeadnodeReply::Saved { id: *id, places, message_crc32c: MessageCrc::of(message) }
}

fn temporary(request: &ClientRequest) -> HeadnodeReply {
    let ClientRequest::Put { id, .. } = request else { panic!("{request:?}") };
    HeadnodeReply::Error { id: *id, code: ErrorCode::NoAvailableDatanode, reason: "why".to_owned() }
}

type AnswerRule = dyn Fn(usize, &ClientRequest) -> Option<HeadnodeReply> + Send + Sync;

/// A headnode in memory. `answer` gets the number of the connection, and closes it by returning `None`.
#[derive(Clone)]
struct MemoryHeadnode {
    answer: Arc<AnswerRule>,
    asked: Arc<Mutex<Vec<(usize, Duration, ClientRequest)>>>,
    connections: Arc<Mutex<usize>>,
    started: Instant,
}

impl MemoryHeadnode {
    fn new(answer: impl Fn(usize, &ClientRequest) -> Option<HeadnodeReply> + Send + Sync + 'static) -> Self {
        let (asked, connections) = Default::default();
        Self { answer: Arc::new(answer), asked, connections, started: Instant::now() }
    }

    fn connect(&self) -> DuplexStream {
        // Small, so that requests come in pieces.
        let (ours, theirs) = tokio::io::duplex(1000);
        let headnode = self.clone();
        let number = {
            let mut connections = self.connections.lock().unwrap();
            *connections += 1;
            *connections - 1
        };
        tokio::spawn(async move { headnode.serve(number, theirs).await });
        ours
    }

    async fn serve(self, number: usize, stream: DuplexStream) {
        let (reader, mut writer) = tokio::io::split(stream);
        let mut lines = BufReader::new(reader).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let request = ClientRequest::decode(&line).unwrap();
            self.asked.lock().unwrap().push((number, self.started.elapsed(), request.clone()));
            let Some(reply) = (self.answer)(number, &request) else { return };
            let mut line = Vec::new();
            json::encode(&reply, &mut line);
            let _ = writer.write_all(&line).await;
        }
    }

    fn asked(&self) -> Vec<(usize, Duration, ClientRequest)> {
        self.asked.lock().unwrap().clone()
    }

    async fn put(&self, messages: Vec<OutgoingMessage>, options: SessionOptions) -> Vec<PutOutcome> {
        let mut outcomes = Vec::new();
        let connect = || std::future::ready(Ok(self.connect()));
        let (mut source, shutdown) = (messages.into_iter(), Shutdown::new());
        put_all(connect, &mut source, options, rng(), &shutdown, |outcome| outcomes.push(outcome))
            .await
            .unwrap();
        outcomes
    }
}

fn ids(outcomes: &[PutOutcome]) -> Vec<Id> {
    let id = |outcome: &PutOutcome| match outcome {
        PutOutcome::Saved(saved) => saved.id,
        PutOutcome::Failed(failed) => panic!("{failed:?}"),
    };
    outcomes.iter().map(id).collect()
}

#[tokio::test(start_paused = true)]
async fn any_message_travels_whole_over_streams_in_small_pieces() {
    let headnode = MemoryHeadnode::new(|_, request| Some(saved(request)));
    let texts = ["\0", "\r\n\"\\", &"\0".repeat(64 * 1024), "", "🦀"];
    let messages: Vec<_> = (1..).zip(texts).map(|(number, text)| message(number, text)).collect();
    let outcomes = headnode.put(messages.clone(), SessionOptions::default()).await;
    assert_eq!(ids(&outcomes), messages.iter().map(|message| message.id).collect::<Vec<_>>());
    for ((_, _, request), message) in headnode.asked().iter().zip(messages) {
        assert!(*request == ClientRequest::Put { id: Some(message.id), is_new: true, message: message.text });
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_headnode_is_left_after_the_reply_timeout_and_given_up_after_the_wait() {
    let silent = || async {
        let (ours, theirs) = tokio::io::duplex(1000);
        // Held open for longer than the test.
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(3600)).await;
            drop(theirs);
        });
        io::Result::Ok(ours)
    };
    let started = Instant::now();
    let mut outcomes = Vec::new();
    let mut source = (0..300).map(|number| message(number, "Hola"));
    put_all(silent, &mut source, SessionOptions::default(), rng(), &Shutdown::new(), |outcome| {
        outcomes.push(outcome);
    })
    .await
    .unwrap();
    // 256 at a time: the others are taken when the first ones are given up.
    assert_eq!(started.elapsed().as_secs(), 60);
    assert_eq!(outcomes.len(), 300);
    for outcome in outcomes {
        let PutOutcome::Failed(failed) = outcome else { panic!("{outcome:?}") };
        let PutFailure::GivenUp { after, trouble, uncertain } = failed.failure else { panic!("{failed:?}") };
        assert_eq!((after.as_secs(), trouble.as_str(), uncertain), (30, "no reply came in time", true));
    }
}

#[tokio::test(start_paused = true)]
async fn tries_come_at_pauses_that_double_and_the_same_seed_gives_the_same_ones() {
    let mut runs = Vec::new();
    for _ in 0..2 {
        let headnode = MemoryHeadnode::new(|_, request| Some(temporary(request)));
        let outcomes = headnode.put(vec![message(1, "Hola")], SessionOptions::default()).await;
        assert!(
            matches!(&outcomes[0], PutOutcome::Failed(failed)
            if matches!(failed.failure, PutFailure::GivenUp { uncertain: false, .. })),
            "{outcomes:?}"
        );
        let times: Vec<_> = headnode.asked().iter().map(|(_, time, _)| *time).collect();
        runs.push(times);
    }
    assert_eq!(runs[0], runs[1]);
    let pauses: Vec<_> = runs[0].windows(2).map(|pair| (pair[1] - pair[0]).as_millis()).collect();
    for (pause, least) in pauses.iter().zip([50, 100, 200, 400, 800, 1600, 2000, 2000]) {
        // A timer may be a millisecond late.
        assert!((least..=2 * least + 2).contains(pause), "{pauses:?}");
    }
    assert!(pauses.len() >= 12, "{pauses:?}");
}

#[tokio::test(start_paused = true)]
async fn a_refused_connection_is_tried_again_and_a_hanging_one_left() {
    let headnode = MemoryHeadnode::new(|_, request| Some(saved(request)));
    let mut tries = VecDeque::from([Some(io::ErrorKind::ConnectionRefused), None]);
    let connect = || {
        let (next, stream) = (tries.pop_front(), headnode.connect());
        async move {
            match next {
                Some(Some(error)) => Err(error.into()),
                Some(None) => std::future::pending().await,
                None => Ok(stream),
            }
        }
    };
    let started = Instant::now();
    let mut outcomes = Vec::new();
    let mut source = [message(1, "Hola")].into_iter();
    put_all(connect, &mut source, SessionOptions::default(), rng(), &Shutdown::new(), |outcome| {
        outcomes.push(outcome);
    })
    .await
    .unwrap();
    assert_eq!(ids(&outcomes).len(), 1);
    assert_eq!(started.elapsed().as_secs(), 10, "the reply timeout and two short pauses");
}

/// Supplies messages now and then, as a person does.
struct TypedMessages(mpsc::Receiver<OutgoingMessage>);

impl MessageSource for TypedMessages {
    async fn next_messages(&mut self, _most: usize) -> io::Result<Vec<OutgoingMessage>> {
        Ok(self.0.recv().await.into_iter().collect())
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_may_end_and_the_next_message_makes_another() {
    // It closes after each reply, as a headnode does after its idle timeout.
    let headnode = MemoryHeadnode::new(|_, request| Some(saved(request)));
    let (typing, typed) = mpsc::channel(1);
    let person = async move {
        for number in 0..3 {
            typing.send(message(number, "Hola")).await.unwrap();
            tokio::time::sleep(Duration::from_secs(100)).await;
        }
    };
    let connect = || {
        let stream = headnode.connect();
        // Cut off while it is idle.
        let (ours, mut theirs) = tokio::io::duplex(1000);
        tokio::spawn(async move {
            let mut stream = stream;
            let copied = tokio::io::copy_bidirectional(&mut theirs, &mut stream);
            let _ = tokio::time::timeout(Duration::from_secs(50), copied).await;
        });
        std::future::ready(io::Result::Ok(ours))
    };
    let (mut outcomes, mut source, shutdown) = (Vec::new(), TypedMessages(typed), Shutdown::new());
    let session = put_all(connect, &mut source, SessionOptions::default(), rng(), &shutdown, |outcome| {
        outcomes.push(outcome);
    });
    let (ended, ()) = tokio::join!(session, person);
    ended.unwrap();
    assert_eq!(ids(&outcomes).len(), 3);
    let connections: Vec<_> = headnode.asked().iter().map(|(connection, ..)| *connection).collect();
    assert_eq!(connections, [0, 1, 2], "each message came just once");
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_gives_back_what_was_not_sent_and_ends_with_what_was() {
    let headnode = MemoryHeadnode::new(|_, request| Some(saved(request)));
    let shutdown = Shutdown::new();
    let requested = shutdown.clone();
    let connect = || {
        // The request comes while there is no connection, with the window full.
        requested.request();
        std::future::ready(io::Result::Ok(headnode.connect()))
    };
    let mut outcomes = Vec::new();
    let mut source = (0..300).map(|number| message(number, "Hola"));
    put_all(connect, &mut source, SessionOptions::default(), rng(), &shutdown, |outcome| {
        outcomes.push(outcome);
    })
    .await
    .unwrap();
    let stopped = |outcome: &&PutOutcome| matches!(outcome, PutOutcome::Failed(failed) if failed.failure == PutFailure::Stopped);
    let sent = headnode.asked().len();
    assert_eq!(outcomes.iter().filter(stopped).count() + sent, 256);
    assert_eq!(source.count(), 44, "nothing more is taken from the source");
}

/// Supplies one message, and then an error.
struct FailingSource(bool);

impl MessageSource for FailingSource {
    async fn next_messages(&mut self, _most: usize) -> io::Result<Vec<OutgoingMessage>> {
        if std::mem::replace(&mut self.0, true) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(vec![message(1, "Hola")])
    }
}

#[tokio::test(start_paused = true)]
async fn when_the_source_fails_what_it_gave_has_its_outcome() {
    let headnode = MemoryHeadnode::new(|_, request| Some(saved(request)));
    let connect = || std::future::ready(io::Result::Ok(headnode.connect()));
    let (mut outcomes, mut source, shutdown) = (Vec::new(), FailingSource(false), Shutdown::new());
    let ended = put_all(connect, &mut source, SessionOptions::default(), rng(), &shutdown, |outcome| {
        outcomes.push(outcome);
    })
    .await;
    assert!(matches!(ended, Err(SessionError::Source(_))), "{ended:?}");
    assert_eq!(ids(&outcomes).len(), 1);
}

#[tokio::test]
async fn a_session_can_be_a_task_of_its_own() {
    let headnode = MemoryHeadnode::new(|_, request| Some(saved(request)));
    let task =
        tokio::spawn(async move { headnode.put(vec![message(1, "Hola")], SessionOptions::default()).await });
    assert_eq!(ids(&task.await.unwrap()).len(), 1);
}
