//! What clients have sent, and what they were told: a linear check for messages that are written once.
//!
//! Every message has one value for ever, so an order of all operations exists exactly if two things hold: nothing is read
//! before it was put, and no "not found" begins after the message was acknowledged or read.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use protocol::store::types::{Id, MessageCrc, NodeName, Place, RegistryEntry, StoredRecord, beginning};

use crate::faults::FaultPlan;
use crate::layout::HEADNODE;

/// The order of events. A request that begins at a moment sees everything that ended at an earlier one.
pub type Moment = u64;

/// A message that a client has sent.
#[derive(Debug, Clone)]
pub struct SentMessage {
    pub text: String,
    client: IpAddr,
    /// The first moment at which somebody knew that the message is stored.
    known_since: Option<Moment>,
    /// Whether the message was acknowledged.
    pub is_saved: bool,
}

/// Places that a client was told with an acknowledgement.
#[derive(Debug, Clone)]
pub struct Acknowledgement {
    pub id: Id,
    pub places: Vec<Place>,
    /// Whether no fault came after it.
    pub is_final: bool,
}

/// All that clients have sent and were told.
#[derive(Debug)]
pub struct History {
    plan: FaultPlan,
    now: Moment,
    pub messages: BTreeMap<Id, SentMessage>,
    pub acknowledgements: Vec<Acknowledgement>,
    /// The message of each record number that anybody was told.
    numbers: BTreeMap<Place, Id>,
    /// The records that clients have read, and from which datanodes.
    pub reads: Vec<(NodeName, StoredRecord)>,
    pub marks: BTreeMap<&'static str, u64>,
    pub is_calm: bool,
    /// The datanode that is drained: its copies are needed no more.
    pub drained: Option<NodeName>,
    /// The messages that the store itself calls lost, when it says that all others have enough copies.
    pub called_lost: Option<BTreeSet<Id>>,
}

impl History {
    pub fn new(plan: FaultPlan) -> Self {
        Self {
            plan,
            now: 0,
            messages: BTreeMap::new(),
            acknowledgements: Vec::new(),
            numbers: BTreeMap::new(),
            reads: Vec::new(),
            marks: BTreeMap::new(),
            is_calm: false,
            drained: None,
            called_lost: None,
        }
    }

    pub fn mark(&mut self, mark: &'static str) {
        *self.marks.entry(mark).or_default() += 1;
    }

    /// Returns the moment at which a request begins.
    pub fn begin(&mut self) -> Moment {
        self.now += 1;
        self.now
    }

    /// Notes that a message will be sent.
    pub fn sends(&mut self, id: Id, text: String, client: IpAddr) {
        self.now += 1;
        let message = SentMessage { text, client, known_since: None, is_saved: false };
        self.messages.insert(id, message);
    }

    /// Checks an acknowledgement.
    pub fn saved(&mut self, id: Id, places: Vec<Place>, message_crc32c: MessageCrc) {
        let replicas = self.plan.replicas;
        assert!(places.len() >= replicas, "{id} is acknowledged with {places:?}");
        let message = self.known(id);
        assert_eq!(
            message_crc32c,
            MessageCrc::of(&message.text),
            "{id} is acknowledged with another checksum"
        );
        message.is_saved = true;
        places.iter().for_each(|place| self.names(place, id));
        self.acknowledgements.push(Acknowledgement { id, places, is_final: self.is_calm });
    }

    /// Checks a message that was read.
    pub fn read(&mut self, from: &NodeName, record: StoredRecord) {
        let message = self.known(record.id);
        assert_eq!(message.text, record.message, "{record:?} was read from {from}");
        assert_eq!(message.client, record.client.ip(), "{record:?} was read from {from}");
        self.names(&Place { datanode: from.clone(), seq: record.seq }, record.id);
        self.reads.push((from.clone(), record));
    }

    /// Checks a message that was listed.
    pub fn listed(&mut self, entry: &RegistryEntry) {
        let message = self.known(entry.id);
        assert_eq!(entry.message_crc32c, MessageCrc::of(&message.text), "{entry:?} was listed");
        if let Some(listed) = &entry.beginning {
            assert_eq!(*listed, beginning(&message.text), "{entry:?} was listed");
        }
        entry.places.iter().for_each(|place| self.names(place, entry.id));
    }

    /// Checks that nobody knew the message when a request began that did not find it.
    pub fn not_found(&mut self, id: Id, begun: Moment) {
        self.mark("client: a message was not found");
        let Some(message) = self.messages.get(&id) else { return };
        // A headnode whose disk has lost everything knows only the datanodes that it has met since.
        if self.plan.tells_losses() && (self.is_calm || !self.plan.is_bad(HEADNODE)) {
            let known = message.known_since.filter(|known| *known < begun);
            assert_eq!(known, None, "{id} was not found at {begun}, and known since then");
        }
    }

    /// Returns a message that somebody knows by now.
    fn known(&mut self, id: Id) -> &mut SentMessage {
        self.now += 1;
        let now = self.now;
        let message = self.messages.get_mut(&id).unwrap_or_else(|| panic!("{id} was never sent"));
        message.known_since.get_or_insert(now);
        message
    }

    /// Checks that a record number names one message for ever.
    pub fn names(&mut self, place: &Place, id: Id) {
        if self.plan.keeps_numbers(place.datanode.as_str()) {
            let named = self.numbers.entry(place.clone()).or_insert(id);
            assert_eq!(*named, id, "{place} names two messages");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use protocol::store::types::ulid;
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;
    use crate::faults::BadDisks;

    const CLIENT: &str = "192.168.0.5";

    fn history() -> (History, Id) {
        let plan = FaultPlan::new(&mut StdRng::seed_from_u64(1));
        let plan = FaultPlan { bad: BadDisks::None, replicas: 1, ..plan };
        let mut history = History::new(plan);
        let id = ulid(1, 1);
        history.sends(id, "Hola".to_owned(), CLIENT.parse().unwrap());
        (history, id)
    }

    fn record(id: Id, message: &str) -> StoredRecord {
        let client = format!("{CLIENT}:40522").parse().unwrap();
        StoredRecord { seq: 7, time: String::new(), id, client, message: message.to_owned() }
    }

    fn save(history: &mut History, id: Id, place: &str) {
        history.saved(id, vec![place.parse().unwrap()], MessageCrc::of("Hola"));
    }

    /// Returns whether the store may not do this.
    fn is_forbidden(act: impl FnOnce()) -> bool {
        catch_unwind(AssertUnwindSafe(act)).is_err()
    }

    #[test]
    fn a_message_that_is_known_is_found_by_every_request_that_begins_later() {
        let (mut history, id) = history();
        let before = history.begin();
        save(&mut history, id, "datanode1:7");
        let after = history.begin();
        history.not_found(id, before);
        history.not_found(ulid(2, 2), after);
        assert!(is_forbidden(|| history.not_found(id, after)));
    }

    #[test]
    fn a_message_that_was_read_or_listed_is_known_too() {
        let (mut history, id) = history();
        history.read(&"datanode1".parse().unwrap(), record(id, "Hola"));
        let after = history.begin();
        assert!(is_forbidden(|| history.not_found(id, after)));
    }

    #[test]
    fn only_what_was_sent_is_read() {
        let (mut history, id) = history();
        let datanode = "datanode1".parse().unwrap();
        assert!(is_forbidden(|| history.read(&datanode, record(id, "hola"))));
        assert!(is_forbidden(|| history.read(&datanode, record(ulid(2, 2), "Hola"))));
        let client = "192.168.0.6:40522".parse().unwrap();
        assert!(is_forbidden(|| history.read(&datanode, StoredRecord { client, ..record(id, "Hola") })));
    }

    #[test]
    fn a_number_names_one_message() {
        let (mut history, id) = history();
        let other = ulid(2, 2);
        history.sends(other, "Hola".to_owned(), CLIENT.parse().unwrap());
        save(&mut history, id, "datanode1:7");
        save(&mut history, other, "datanode2:7");
        assert!(is_forbidden(|| save(&mut history, other, "datanode1:7")));
    }

    #[test]
    fn an_acknowledgement_names_enough_places_and_the_right_checksum() {
        let (mut history, id) = history();
        assert!(is_forbidden(|| history.saved(id, vec![], MessageCrc::of("Hola"))));
        let place = vec!["datanode1:7".parse().unwrap()];
        assert!(is_forbidden(|| history.saved(id, place, MessageCrc::of("hola"))));
    }
}
