//! Tells a person at the end of a run what was saved where.

use std::collections::HashMap;
use std::fmt::Write as _;

use protocol::store::types::{Id, Place};
use text::Shown;

use crate::message::{OutgoingMessage, SavedMessage};
use crate::table::{aligned, cut};

/// The most columns that a message takes; a longer one is cut.
const MESSAGE_COLUMNS: usize = 40;

const HEADINGS: [&str; 3] = ["mensaje", "datanode", "registro"];

/// A table of the messages, if they are known beforehand, and totals.
#[derive(Debug)]
pub struct Summary {
    /// The messages in their order, cut to [`MESSAGE_COLUMNS`].
    messages: Vec<(Id, String)>,
    places: HashMap<Id, Vec<Place>>,
    check_command: Option<String>,
}

impl Summary {
    /// Returns a summary with a table of these messages, or only with totals if there are none.
    pub fn of<'a>(
        messages: impl Iterator<Item = &'a OutgoingMessage>,
        check_command: Option<String>,
    ) -> Self {
        let messages = messages.map(|message| (message.id, cut(&message.text, MESSAGE_COLUMNS))).collect();
        Self { messages, places: HashMap::new(), check_command }
    }

    /// Notes the places of messages that have their receipts.
    pub fn note(&mut self, saved: &[SavedMessage]) {
        // The table does not have messages that are read as they come.
        if !self.messages.is_empty() {
            self.places.extend(saved.iter().map(|saved| (saved.id, saved.places.clone())));
        }
    }

    /// Returns the text of the summary; `saved` of `all` messages have a receipt.
    pub fn text(&self, saved: u64, all: u64) -> String {
        let mut text = String::from("\n");
        if !self.messages.is_empty() {
            let rows = self.messages.iter().map(|(id, message)| self.row(*id, message));
            let rows: Vec<_> = std::iter::once(HEADINGS.map(str::to_owned)).chain(rows).collect();
            text.push_str(&aligned(&rows));
        }
        writeln!(text, "Guardados: {saved} de {all}").expect("writing to a String cannot fail");
        if let Some(command) = &self.check_command {
            writeln!(text, "Para comprobarlo: {}", Shown(command)).expect("writing to a String cannot fail");
        }
        text
    }

    fn row(&self, id: Id, message: &str) -> [String; 3] {
        let Some(places) = self.places.get(&id) else {
            return [message.to_owned(), "sin confirmar".to_owned(), "-".to_owned()];
        };
        let (names, numbers): (Vec<_>, Vec<_>) =
            places.iter().map(|place| (place.datanode.to_string(), place.seq.to_string())).unzip();
        [message.to_owned(), names.join(", "), numbers.join(", ")]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::store::types::MessageCrc;

    fn message(number: u128, text: &str) -> OutgoingMessage {
        OutgoingMessage { id: protocol::store::types::ulid(1, number), text: text.to_owned() }
    }

    fn saved(message: &OutgoingMessage, places: &str) -> SavedMessage {
        SavedMessage {
            id: message.id,
            places: places.split(',').map(|place| place.parse().unwrap()).collect(),
            message_crc32c: MessageCrc::of(&message.text),
            text: message.text.clone(),
            took: std::time::Duration::ZERO,
        }
    }

    #[test]
    fn the_table_has_the_messages_in_order_and_says_which_have_no_receipt() {
        let messages = [message(1, "Hola, almacén"), message(2, "漢字\n"), message(3, "")];
        let mut summary = Summary::of(messages.iter(), Some("store-client verify".to_owned()));
        summary.note(&[saved(&messages[1], "datanode2:17,d3:4")]);
        summary.note(&[saved(&messages[0], "datanode1:1")]);
        let expected = "
mensaje        datanode       registro
Hola, almacén  datanode1      1
漢字\\u000a     datanode2, d3  17, 4
               sin confirmar  -
Guardados: 2 de 3
Para comprobarlo: store-client verify
";
        assert_eq!(summary.text(2, 3), expected);
    }

    #[test]
    fn of_messages_that_are_not_known_beforehand_only_the_totals_are_told_and_kept() {
        let mut summary = Summary::of([].iter(), None);
        summary.note(&[saved(&message(1, "Hola"), "datanode1:1")]);
        assert!(summary.places.is_empty());
        assert_eq!(summary.text(1, 1), "\nGuardados: 1 de 1\n");
    }
}
