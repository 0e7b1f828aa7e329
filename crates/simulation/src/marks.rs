//! What sometimes happens in a simulation. Thousands of seeds have to show each of it, or the simulation proves less than
//! it seems to.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use protocol::store::types::Epoch;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// How often each mark was set.
pub type Marks = BTreeMap<&'static str, u64>;

/// What the programs log on their ways of recovery, and the mark that it sets.
const LOGGED: &[(&str, &str)] = &[
    ("data.txt ended in half a record", "recovery: a torn tail of data.txt was cut off"),
    ("data.txt has a damaged record", "recovery: a damaged record was found when data.txt was opened"),
    ("a record of data.txt is damaged", "recovery: a damaged record was found when it was read"),
    ("data.txt holds identifiers more than once", "recovery: data.txt held an id twice"),
    (
        "the headnode has records registered that data.txt does not hold",
        "recovery: the headnode knew numbers that a datanode had lost",
    ),
    ("damaged lines were skipped", "recovery: damaged lines of datanode.journal were skipped"),
    ("the registry was damaged", "recovery: the registry was damaged"),
    ("registered places that were missing", "recovery: places were registered that were missing"),
    (
        "it does not hold what is registered of it",
        "recovery: a datanode held another file than was registered",
    ),
    ("registered, but not held", "recovery: lost records were noticed"),
    ("the datanode cannot remember the names", "recovery: a datanode had no room for names"),
    ("cannot write registro_server.state", "recovery: the registry's state could not be written"),
    ("this round is not in hearbeat_server.txt", "recovery: a round was not written"),
    ("messages were repaired", "repair: messages were copied"),
    ("records of data.txt were damaged", "repair: a datanode found damage while it ran"),
    ("registered, and damaged or gone", "repair: the headnode met a damaged copy"),
    ("the datanode has found records damaged", "repair: the headnode was told of damage"),
    ("drained: its messages", "operator: a datanode was drained"),
    ("declared lost", "operator: a datanode was declared lost"),
    ("it was declared lost and has come back", "operator: a datanode that was declared lost came back"),
    ("messages not stored", "store: a datanode refused messages because of its disk"),
    ("stored, but not registered", "store: a message was stored and not registered"),
    ("not stored there", "store: a datanode refused, and another was tried"),
    ("cannot read data.txt", "store: data.txt could not be read"),
    ("cannot read registro_server.txt", "store: the registry could not be read"),
    ("a newer connection of a headnode has taken over", "store: a newer connection took over"),
    ("stands by:", "headnode: it stood by"),
    ("superseded:", "headnode: it was superseded"),
    ("too few datanodes answer", "headnode: it stood by because it reached too few datanodes"),
    (TAKES_OVER, "headnode: it took over"),
    ("headnode refused", "datanode: it refused a lower epoch"),
    ("cannot write datanode.epoch", "datanode: it could not write an epoch"),
    ("connection broken: nothing is sent", "store: the headnode lost a datanode"),
    ("connection broken", "store: a datanode lost the headnode"),
    ("answered no probe, and replies on its link", "heartbeat: a datanode was operative by its link alone"),
    ("datagrams that are no probe", "key: a datanode refused a datagram"),
    ("connections that show no accepted key", "key: a connection was refused"),
    ("the keys have changed", "key: a machine got other keys"),
];

/// The beginning of what a headnode logs when it takes over.
const TAKES_OVER: &str = "takes over:";
/// The module of datanodes that tells whom they serve and for whom they store, each time with the epoch.
const SERVING: &str = "datanode::connection";

/// Marks that the simulation itself sets.
const OWN: &[&str] = &[
    "clock: it jumped",
    "disk: a bit was flipped",
    "disk: it was replaced by an empty one",
    "disk: a file could not be opened",
    "disk: a file could not be renamed",
    "disk: a folder could not be synced",
    "disk: a read failed",
    "disk: a sector was written to another place",
    "disk: a sector was zeroed",
    "disk: a sector went back to what it held before",
    "disk: a sync failed",
    "disk: a sync lied",
    "disk: a write failed",
    "disk: no space was left",
    "disk: sectors were written back before a sync",
    "disk: space was left for a part of a write",
    "machine: it died at an operation of its disk",
    "machine: it died at an operation of its network",
    "machine: its program was killed",
    "machine: the power of all machines was cut at once",
    "machine: the power was cut",
    "machine: the power was cut while something was not synced",
    "network: a link held its messages back",
    "network: a link lost messages",
    "network: a link was cut",
    "network: a link was cut in one direction",
    "network: a link was slow",
    "network: a headnode reached no datanode",
    "network: a headnode was held up",
    "program: a datanode ended because its disk failed",
    "program: it was restarted in order",
    "program: the headnode ended because its disk failed",
    "key: a datagram was changed",
    "key: a datagram was replayed",
    "key: an attacker was refused",
    "client: a message was called damaged",
    "client: a message was called unavailable",
    "client: a message was not found",
    "client: messages were listed",
    "operator: the messages of a drained datanode were elsewhere",
    "repair: all messages had enough copies, or were called lost",
    "store: a message is on more datanodes than were wanted",
    "store: an acknowledged message is lost, and nobody hides it",
];

/// Marks that are set if a seed has set two others.
const COMBINATIONS: &[(&str, &str, &str)] = &[
    ("both: a sync failed, and the power was cut", "disk: a sync failed", "machine: the power was cut"),
    ("both: a sync lied, and the power was cut", "disk: a sync lied", "machine: the power was cut"),
    ("both: a disk was full, and the power was cut", "disk: no space was left", "machine: the power was cut"),
    ("both: a disk was full, and a sync failed", "disk: no space was left", "disk: a sync failed"),
    ("both: a link was cut, and the power was cut", "network: a link was cut", "machine: the power was cut"),
    (
        "both: a link lost messages, and a program was killed",
        "network: a link lost messages",
        "machine: its program was killed",
    ),
    ("both: a clock jumped, and the power was cut", "clock: it jumped", "machine: the power was cut"),
    (
        "both: a torn tail was cut off, and a sync failed",
        "recovery: a torn tail of data.txt was cut off",
        "disk: a sync failed",
    ),
    (
        "both: the registry was damaged, and a datanode was lost",
        "recovery: the registry was damaged",
        "store: the headnode lost a datanode",
    ),
    (
        "both: a headnode took over, and the power was cut",
        "headnode: it took over",
        "machine: the power was cut",
    ),
    (
        "both: a lower epoch was refused, and a headnode was held up",
        "datanode: it refused a lower epoch",
        "network: a headnode was held up",
    ),
    (
        "both: messages were copied, and the power was cut",
        "repair: messages were copied",
        "machine: the power was cut",
    ),
    (
        "both: messages were copied, and a link was cut",
        "repair: messages were copied",
        "network: a link was cut",
    ),
    (
        "both: a datanode was drained, and messages were copied",
        "operator: a datanode was drained",
        "repair: messages were copied",
    ),
    (
        "both: a disk was replaced, and messages were copied",
        "disk: it was replaced by an empty one",
        "repair: messages were copied",
    ),
    (
        "both: a record was damaged, and the power was cut",
        "recovery: a damaged record was found when data.txt was opened",
        "machine: the power was cut",
    ),
];

/// Returns all marks.
pub fn all() -> impl Iterator<Item = &'static str> {
    let combined = COMBINATIONS.iter().map(|(mark, ..)| *mark);
    OWN.iter().copied().chain(LOGGED.iter().map(|(_, mark)| *mark)).chain(combined)
}

/// Adds the marks of combinations.
pub fn combine(marks: &mut Marks) {
    for (both, one, other) in COMBINATIONS {
        if marks.contains_key(one) && marks.contains_key(other) {
            marks.insert(both, 1);
        }
    }
}

thread_local! {
    static SEEN: RefCell<Marks> = const { RefCell::new(BTreeMap::new()) };
    static SERVED: RefCell<BTreeMap<String, Epoch>> = const { RefCell::new(BTreeMap::new()) };
    static LOWERED: RefCell<Vec<LoweredEpoch>> = const { RefCell::new(Vec::new()) };
    static TAKEOVERS: RefCell<Vec<Duration>> = const { RefCell::new(Vec::new()) };
}

/// A datanode has served a headnode after one with a higher epoch.
#[derive(Debug, Clone)]
#[expect(dead_code, reason = "a failed check shows all fields")]
pub struct LoweredEpoch {
    pub datanode: String,
    at: Duration,
    before: Epoch,
    after: Epoch,
}

/// Returns when datanodes did what they must never do.
pub fn lowered_epochs() -> Vec<LoweredEpoch> {
    LOWERED.take()
}

/// Returns when headnodes took over, from the start of the simulation.
pub fn takeovers() -> Vec<Duration> {
    TAKEOVERS.take()
}

/// Notes which epoch a datanode serves.
fn note_served(text: &EventText) {
    let Ok(after) = text.epoch.parse::<Epoch>() else { return };
    let datanode = text.datanode.clone();
    let before = SERVED.with_borrow_mut(|served| served.insert(datanode.clone(), after));
    if let Some(before) = before.filter(|before| *before > after) {
        let at = turmoil::sim_elapsed().unwrap_or_default();
        LOWERED.with_borrow_mut(|lowered| lowered.push(LoweredEpoch { datanode, at, before, after }));
    }
}

/// Returns the marks that the programs' logs have set since the last call.
pub fn take_logged() -> Marks {
    SEEN.take()
}

/// Reads what the programs log, and shows it if it is asked to.
#[derive(Debug)]
pub struct MarkingSubscriber {
    pub shows: bool,
    spans: AtomicU64,
}

impl MarkingSubscriber {
    pub fn new(shows: bool) -> Self {
        Self { shows, spans: AtomicU64::new(1) }
    }
}

/// The fields of an event as text.
#[derive(Default)]
struct EventText {
    message: String,
    fields: String,
    datanode: String,
    epoch: String,
    /// Whether more than the message is wanted.
    shows: bool,
}

impl Visit for EventText {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        use fmt::Write as _;
        // Writing to a String cannot fail.
        match field.name() {
            "datanode" => self.datanode = format!("{value:?}"),
            "epoch" => self.epoch = format!("{value:?}"),
            _ => {}
        }
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name if self.shows => write!(self.fields, " {name}={value:?}"),
            _ => Ok(()),
        };
    }
}

impl Subscriber for MarkingSubscriber {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO || metadata.target() == SERVING
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::TRACE)
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(self.spans.fetch_add(1, Ordering::Relaxed))
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = EventText { shows: self.shows, ..EventText::default() };
        event.record(&mut text);
        if let Some((_, mark)) = LOGGED.iter().find(|(logged, _)| text.message.starts_with(logged)) {
            SEEN.with_borrow_mut(|seen| *seen.entry(mark).or_default() += 1);
        }
        if text.message.starts_with(TAKES_OVER) {
            let at = turmoil::sim_elapsed().unwrap_or_default();
            TAKEOVERS.with_borrow_mut(|takeovers| takeovers.push(at));
        }
        if event.metadata().target() == SERVING {
            note_served(&text);
        }
        if self.shows && *event.metadata().level() <= Level::INFO {
            let time = turmoil::sim_elapsed().unwrap_or_default();
            let target = event.metadata().target();
            println!("{:>9.3} {target}: {}{}", time.as_secs_f64(), text.message, text.fields);
        }
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
