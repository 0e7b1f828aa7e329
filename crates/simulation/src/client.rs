//! The clients of a simulation: they put, get and list while there is trouble, and check everything afterwards.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use cluster_key::{KeyPurpose, KeyedStream, Keyring};
use protocol::store::client_api::{ClientRequest, ErrorCode, HeadnodeReply, LIST_PAGE, NodeState};
use protocol::store::types::{Id, StoredRecord, ulid};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use service::Shutdown;
use store_client::request::{RequestError, request};
use store_client::session::{OutgoingMessage, PutOutcome, SessionOptions, put_all};
use tokio::time::{Instant, sleep, timeout};
use turmoil::net::TcpStream;

use crate::faults::FaultPlan;
use crate::history::History;
use crate::layout::{DATANODES, HEADNODE};

/// The messages that each client puts.
const MESSAGES: u64 = 20;
/// The time after the last fault in which the store has to work again.
pub const RECOVERS_WITHIN: Duration = Duration::from_secs(60);
const REPLY: Duration = Duration::from_secs(3);
pub const PAUSE: Duration = Duration::from_millis(200);

/// A client of the simulated store.
pub struct SimulatedClient {
    pub number: usize,
    pub address: IpAddr,
    /// The headnodes, in the order in which they are tried: one that was tried goes to the end.
    pub headnodes: Rc<RefCell<Vec<SocketAddr>>>,
    pub plan: FaultPlan,
    pub keys: Option<Keyring>,
    pub rng: StdRng,
    pub history: Rc<RefCell<History>>,
}

impl SimulatedClient {
    /// Puts, gets and lists at random until all messages are acknowledged.
    pub async fn run(&mut self) {
        let mut remaining = MESSAGES;
        while remaining > 0 {
            let burst = self.rng.random_range(1..=5).min(remaining);
            remaining -= burst;
            let messages: Vec<_> = (0..burst).map(|i| self.message(remaining + i)).collect();
            for message in &messages {
                self.history.borrow_mut().sends(message.id, message.text.clone(), self.address);
            }
            self.put(messages).await;
            for _ in 0..self.rng.random_range(0..3) {
                if let Some(id) = self.any_id() {
                    // Whatever the answer is, the history has checked it.
                    let _ = self.get(id).await;
                }
            }
            if self.rng.random_bool(0.3) {
                self.operate().await;
            }
            if self.rng.random_bool(0.2) {
                let last = self.rng.random_range(1..=20);
                self.list(last, None).await;
            }
            sleep(Duration::from_millis(self.rng.random_range(0..700))).await;
        }
    }

    fn message(&mut self, number: u64) -> OutgoingMessage {
        let nasty = ["", "\n", "\"", "\0", "ñ", "\u{2028}"][self.rng.random_range(0..6)];
        let filler = "x".repeat(if self.rng.random_bool(0.1) { self.rng.random_range(0..2_000) } else { 0 });
        let text = format!("{nasty}{}-{number}{filler}{nasty}", self.number);
        OutgoingMessage { id: ulid(number, self.rng.random()), text }
    }

    /// Returns the id of a message that any client has sent, or one that nobody has sent.
    fn any_id(&mut self) -> Option<Id> {
        if self.rng.random_bool(0.1) {
            return Some(ulid(7, self.rng.random()));
        }
        let history = self.history.borrow();
        let at = self.rng.random_range(0..history.messages.len().max(1));
        history.messages.keys().nth(at).copied()
    }

    /// Puts messages until they are acknowledged.
    async fn put(&mut self, mut messages: Vec<OutgoingMessage>) {
        for _attempt in 0..5 {
            let options = SessionOptions { wait: RECOVERS_WITHIN, reply_timeout: REPLY, window: 16 };
            let (headnodes, keys) = (self.headnodes.clone(), self.keys.clone());
            let connect = move || connect(headnodes.clone(), keys.clone());
            let rng = StdRng::seed_from_u64(self.rng.random());
            let mut failed = Vec::new();
            let outcome = |outcome| match outcome {
                PutOutcome::Saved(saved) => {
                    self.history.borrow_mut().saved(saved.id, saved.places, saved.message_crc32c);
                }
                PutOutcome::Failed(unsaved) => failed.push(unsaved),
            };
            let mut source = messages.clone().into_iter();
            let put = put_all(connect, &mut source, options, rng, &Shutdown::new(), outcome).await;
            put.expect("an iterator is a source that cannot fail");
            if failed.is_empty() {
                return;
            }
            tracing::info!(?failed, "not saved");
            messages.retain(|message| failed.iter().any(|unsaved| unsaved.id == message.id));
            sleep(PAUSE).await;
        }
        assert!(
            !self.plan.recovers(),
            "{} messages are not saved although the trouble has passed",
            messages.len()
        );
    }

    pub async fn ask(&self, ask: ClientRequest) -> Result<HeadnodeReply, RequestError> {
        let connecting = timeout(REPLY, connect(self.headnodes.clone(), self.keys.clone())).await;
        let connected = connecting.map_err(|_| RequestError::Late(REPLY))?;
        let mut stream = connected.map_err(|error| RequestError::Broken(error.to_string()))?;
        request(&mut stream, ask, REPLY).await
    }

    /// Reads a message, and returns whether it was found. Fails with the reason if that is not known.
    async fn get(&self, id: Id) -> Result<bool, RequestError> {
        let begun = self.history.borrow_mut().begin();
        match self.ask(ClientRequest::Get { id }).await {
            Ok(HeadnodeReply::Record { id: read, time, client, message, from }) => {
                assert_eq!(read, id, "another message was read");
                let record = StoredRecord { seq: from.seq, time, id, client, message };
                self.history.borrow_mut().read(&from.datanode, record);
                Ok(true)
            }
            Ok(other) => panic!("a reply to another request than get: {other:?}"),
            Err(RequestError::Refused { code: ErrorCode::NotFound, .. }) => {
                self.history.borrow_mut().not_found(id, begun);
                Ok(false)
            }
            Err(error) => {
                if let RequestError::Refused { code, .. } = &error {
                    self.history.borrow_mut().mark(match code {
                        ErrorCode::Damaged => "client: a message was called damaged",
                        ErrorCode::Unavailable => "client: a message was called unavailable",
                        _ => "client: a read was refused for another reason",
                    });
                }
                Err(error)
            }
        }
    }

    /// Lists messages, and returns their identifiers and the mark for older ones.
    async fn list(&self, last: usize, before: Option<u64>) -> Option<(Vec<Id>, Option<u64>)> {
        match self.ask(ClientRequest::List { last, before }).await {
            Ok(HeadnodeReply::Messages { entries, before }) => {
                let mut history = self.history.borrow_mut();
                entries.iter().for_each(|entry| history.listed(entry));
                history.mark("client: messages were listed");
                Some((entries.iter().map(|entry| entry.id).collect(), before))
            }
            Ok(other) => panic!("a reply to another request than list: {other:?}"),
            Err(_) => None,
        }
    }

    /// Checks, when the trouble has passed, that the store works and holds what was acknowledged.
    pub async fn audit(&mut self) {
        self.history.borrow_mut().is_calm = true;
        if !self.wait_until_available().await {
            return;
        }
        self.drain().await;
        let messages = self.history.borrow().messages.clone();
        for (id, message) in &messages {
            self.audit_message(*id, message.is_saved).await;
        }
        if self.plan.recovers() {
            let again = messages.iter().filter(|(_, message)| message.is_saved).take(5);
            let again: Vec<_> =
                again.map(|(id, message)| OutgoingMessage { id: *id, text: message.text.clone() }).collect();
            self.put(again).await;
        }
        if self.plan.recovers() && !self.plan.is_bad(HEADNODE) {
            self.settle().await;
        }
        if self.plan.tells_losses() {
            let listed = self.list_all().await;
            for (id, _) in messages.iter().filter(|(_, message)| message.is_saved) {
                assert!(listed.contains(id), "{id} is acknowledged and not listed");
            }
        }
    }

    /// Waits until all datanodes with a good disk are available. Returns whether they are: only a store whose disks are
    /// all bad may fail to recover.
    async fn wait_until_available(&self) -> bool {
        let started = Instant::now();
        loop {
            if let Ok(HeadnodeReply::Status(status)) = self.ask(ClientRequest::Status).await {
                let is_available = |name: &&str| {
                    let is_it = |node: &&protocol::store::client_api::NodeStatus| node.name.as_str() == *name;
                    status.datanodes.iter().find(is_it).is_some_and(|node| node.state == NodeState::Available)
                };
                if DATANODES.iter().filter(|name| !self.plan.is_bad(name)).all(is_available) {
                    return true;
                }
            }
            if started.elapsed() > RECOVERS_WITHIN {
                assert!(
                    !self.plan.recovers(),
                    "the store is not available within {RECOVERS_WITHIN:?} of calm"
                );
                return false;
            }
            sleep(PAUSE).await;
        }
    }

    async fn audit_message(&self, id: Id, is_saved: bool) {
        let started = Instant::now();
        loop {
            match self.get(id).await {
                Ok(true) => return,
                Ok(false) => return,
                Err(_) if !is_saved || !self.plan.loses_nothing() => return,
                Err(error) => {
                    assert!(
                        started.elapsed() < RECOVERS_WITHIN,
                        "{id} is acknowledged and not read: {error}"
                    );
                    sleep(PAUSE).await;
                }
            }
        }
    }

    async fn list_all(&self) -> Vec<Id> {
        let (mut listed, mut before) = (Vec::new(), None);
        loop {
            match self.list(LIST_PAGE, before).await {
                Some((ids, older)) => {
                    listed.extend(ids);
                    before = older;
                    if before.is_none() {
                        return listed;
                    }
                }
                None => sleep(PAUSE).await,
            }
        }
    }
}

/// Connects to the first headnode that accepts, as a client does whose name stands for several addresses.
async fn connect(
    headnodes: Rc<RefCell<Vec<SocketAddr>>>,
    keys: Option<Keyring>,
) -> io::Result<KeyedStream<TcpStream>> {
    let mut failure = io::Error::other("there is no headnode");
    let all = headnodes.borrow().len();
    for _ in 0..all {
        let tried = headnodes.borrow()[0];
        headnodes.borrow_mut().rotate_left(1);
        match cluster_key::connect(TcpStream::connect(tried), keys.as_ref(), KeyPurpose::Client).await {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}
