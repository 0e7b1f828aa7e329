//! Tests clients of other people, which send lines of text.

use protocol::store::types::Id;
use records::parse_data;
use serde_json::{Value, json};

use crate::processes::{StoreProcesses, StoreSettings};

/// Returns the datanode, the record's number and the identifier in a reply to a plain line.
fn parts(reply: &str) -> (String, u64, Id) {
    let saved = || {
        let (datanode, rest) = reply.strip_prefix("guardado en ")?.split_once(" (registro ")?;
        let (seq, id) = rest.split_once("): ")?;
        Some((datanode.to_owned(), seq.parse().ok()?, Id::from_string(id).ok()?))
    };
    saved().unwrap_or_else(|| panic!("not saved: {reply:?}"))
}

#[test]
fn plain_lines_are_stored_and_told_where() {
    let folder = tempfile::tempdir().unwrap();
    let store = StoreProcesses::start(folder.path(), StoreSettings::default());
    let mut client = store.connect();
    let texts = ["Hola", "  dos \"palabras\" \\", "[1]", "ñ🦀", "Hola"];
    // All at once, with a request in JSON among them; the last one without its end.
    let lines = texts.map(|text| format!("{text}\r\n")).concat();
    client.send(format!("{lines}{}\nsin fin", json!({"list": {}})));
    let replies: Vec<_> = texts.iter().map(|_| client.reply()).collect();
    let listed: Value = serde_json::from_str(&client.reply()).unwrap();
    assert_eq!(listed["messages"]["entries"].as_array().unwrap().len(), texts.len(), "{listed}");
    let last = client.finish();
    let replies = replies.iter().map(String::as_str).chain([last.trim_end()]);
    let mut ids = std::collections::BTreeSet::new();
    for (text, reply) in texts.iter().chain(&["sin fin"]).zip(replies) {
        let (datanode, seq, id) = parts(reply);
        assert!(ids.insert(id), "each line is a message of its own");
        let data = std::fs::read_to_string(folder.path().join(datanode).join("data.txt")).unwrap();
        let line = data.lines().find(|line| line.starts_with(&format!("{seq} "))).unwrap();
        let record = parse_data(line.rsplit_once(" crc32c=").unwrap().0).unwrap();
        assert_eq!((record.id, record.message.as_str()), (id, *text));
        let got = store.connect().ask(&json!({"get": {"id": id}}));
        assert_eq!(got["record"]["message"], *text, "{got}");
    }
}
