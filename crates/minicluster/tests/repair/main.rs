//! Tests on real programs that messages with too few copies are repaired, and that operators can drain and forget datanodes.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod damage;
#[path = "../processes/mod.rs"]
mod processes;

use std::collections::BTreeMap;
use std::path::Path;

use processes::{StoreProcesses, StoreSettings, outcome};
use serde_json::{Value, json};
use testkit::{LineClient, wait_for};

/// A store whose absent datanodes are made up for after a second.
fn prompt(replicas: &'static str) -> StoreSettings {
    let headnode = vec!["--replicas", replicas, "--repair-after", "1s"];
    StoreSettings { store_timeout: "10s", headnode, ..StoreSettings::default() }
}

/// A store that copies nothing because of an absence.
fn patient(replicas: &'static str) -> StoreSettings {
    let headnode = vec!["--replicas", replicas, "--repair-after", "10m"];
    StoreSettings { store_timeout: "10s", headnode, ..StoreSettings::default() }
}

/// Stores `count` messages with receipts, and returns the text of each by its id.
fn put_many(store: &StoreProcesses, count: usize) -> BTreeMap<String, String> {
    let texts: Vec<_> = (0..count).map(|number| format!("mensaje {number}")).collect();
    let mut arguments = vec!["put"];
    arguments.extend(texts.iter().map(String::as_str));
    let (well, _, log) = outcome(store.client("client", &arguments).spawn().unwrap());
    assert!(well, "{log}");
    let receipts = std::fs::read_to_string(store.folder.join("client/registro_cliente.txt")).unwrap();
    let receipts = receipts.lines().map(|line| records::parse_receipt(line).unwrap());
    receipts.map(|receipt| (receipt.id.to_string(), receipt.text.unwrap())).collect()
}

/// Returns how many messages `fsck` calls healthy, and all others with their verdicts.
fn fsck(client: &mut LineClient) -> (u64, Vec<Value>) {
    let (mut healthy, mut others, mut from) = (0, Vec::new(), json!(0));
    loop {
        let reply = client.ask(&json!({"fsck": {"from": from}}));
        let page = &reply["fsck"];
        healthy += page["healthy"].as_u64().unwrap_or_else(|| panic!("{reply}"));
        others.extend(page["others"].as_array().unwrap().iter().cloned());
        match &page["next"] {
            Value::Null => return (healthy, others),
            next => from = next.clone(),
        }
    }
}

fn wait_until_healthy(store: &StoreProcesses, count: usize) {
    let mut seen = (0, Vec::new());
    let mut client = store.connect();
    wait_for("all messages to be healthy", || {
        seen = fsck(&mut client);
        seen == (count as u64, Vec::new())
    });
}

fn check_all_are_read(store: &StoreProcesses, messages: &BTreeMap<String, String>) {
    let mut client = store.connect();
    for (id, text) in messages {
        let reply = client.ask(&json!({"get": {"id": id}}));
        assert_eq!(reply["record"]["message"], text.as_str(), "{reply}");
    }
}

/// Returns how many messages each datanode holds by its file.
fn records(folder: &Path) -> [usize; 3] {
    [1, 2, 3].map(|number| {
        let file = folder.join(format!("datanode{number}/data.txt"));
        std::fs::read_to_string(file).map_or(0, |text| text.lines().count())
    })
}

/// Waits until the files of the datanodes have so many records. `fsck` calls messages healthy, too, while a datanode has been
/// away for less than `--repair-after`.
fn wait_until_held(store: &StoreProcesses, count: [usize; 3]) {
    wait_for("all copies to be made", || records(&store.folder) == count);
}

fn wait_until_missed(store: &StoreProcesses, name: &str) {
    wait_for("the datanode to be missed", || shown(store, name)["state"] == "not-operative");
}

/// Returns what `status` shows of this datanode, or null.
fn shown(store: &StoreProcesses, name: &str) -> Value {
    let status = store.connect().ask(&json!({"status": {}}));
    let datanodes = status["status"]["datanodes"].as_array().unwrap();
    datanodes.iter().find(|node| node["name"] == name).cloned().unwrap_or_default()
}

fn run(store: &StoreProcesses, arguments: &[&str]) -> (bool, String, String) {
    outcome(store.client("operator", arguments).spawn().unwrap())
}

/// Checks the receipts against the files of these datanodes.
fn verify(store: &StoreProcesses, datanodes: &[usize]) -> (bool, String) {
    let file = |name: String| store.folder.join(name).display().to_string();
    let mut arguments = vec!["verify".to_owned(), file("client/registro_cliente.txt".to_owned())];
    arguments.push(file("headnode/registro_server.txt".to_owned()));
    arguments.extend(datanodes.iter().map(|number| file(format!("datanode{number}/data.txt"))));
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let (well, printed, _) = run(store, &arguments);
    (well, printed)
}

#[test]
fn a_deleted_disk_is_made_up_for_and_then_another_one_may_go() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = StoreProcesses::start(folder.path(), prompt("2"));
    let messages = put_many(&store, 60);
    let held = records(folder.path());
    assert!(held.iter().sum::<usize>() == 120 && held[1] > 0, "{held:?}");
    store.datanodes[1].kill();
    std::fs::remove_dir_all(folder.path().join("datanode2")).unwrap();
    wait_until_missed(&store, "datanode2");
    wait_until_held(&store, [60, 0, 60]);
    wait_until_healthy(&store, 60);
    let (well, printed) = verify(&store, &[1, 3]);
    assert!(well && printed.contains("ahora está en datanode1:"), "{printed}");
    let (well, printed, log) = run(&store, &["fsck", "--deep"]);
    assert!(well && printed.starts_with("60 sanos, 0 con"), "{printed}{log}");

    // It comes back under its old name, with another disk. Then a second disk goes.
    store.restart_datanode(2);
    store.wait_until_available(3);
    wait_until_healthy(&store, 60);
    store.datanodes[0].kill();
    std::fs::remove_dir_all(folder.path().join("datanode1")).unwrap();
    check_all_are_read(&store, &messages);
    wait_until_held(&store, [0, 60, 60]);
    wait_until_healthy(&store, 60);
    store.datanodes[2].kill();
    std::fs::remove_dir_all(folder.path().join("datanode3")).unwrap();
    check_all_are_read(&store, &messages);
}

#[test]
fn another_disk_under_an_old_name_is_filled_again_without_a_wait() {
    let folder = tempfile::tempdir().unwrap();
    let settings = StoreSettings { datanodes: 2, ..patient("2") };
    let mut store = StoreProcesses::start(folder.path(), settings);
    let messages = put_many(&store, 40);
    store.datanodes[1].kill();
    std::fs::remove_dir_all(folder.path().join("datanode2")).unwrap();
    store.restart_datanode(2);
    store.wait_until_available(2);
    wait_until_healthy(&store, 40);
    assert_eq!(records(folder.path()), [40, 40, 0]);
    let (well, printed) = verify(&store, &[1, 2]);
    assert!(well && printed.contains("ahora está en"), "{printed}");
    // No number was given twice, and a restart of the headnode changes nothing.
    let data = std::fs::read_to_string(folder.path().join("datanode2/data.txt")).unwrap();
    let first = data.lines().map(|line| records::parse_data_key(line.as_bytes()).unwrap().0).min();
    assert!(first > Some(40), "{first:?}");
    store.restart_headnode();
    store.wait_until_available(2);
    wait_until_healthy(&store, 40);
    check_all_are_read(&store, &messages);
}

#[test]
fn a_drained_datanode_can_be_deleted_although_each_message_has_one_copy() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = StoreProcesses::start(folder.path(), patient("1"));
    let mut messages = put_many(&store, 60);
    let held = records(folder.path())[1];
    assert!(held > 0);
    let (well, printed, log) = run(&store, &["datanode", "drain", "datanode2"]);
    assert!(well && printed.contains("datanode2: drained"), "{printed}{log}");
    // The datanode remembers it, also if headnode and registry are replaced, and nothing new goes there.
    store.headnode.kill();
    std::fs::remove_dir_all(folder.path().join("headnode")).unwrap();
    store.restart_headnode();
    store.wait_until_available(2);
    wait_for("datanode2 to be connected", || shown(&store, "datanode2")["state"] == "available");
    assert_eq!(shown(&store, "datanode2")["draining"], true);
    let (_, printed, _) = run(&store, &["status"]);
    assert!(printed.contains("datanode2  se retira") && printed.contains("2 disponibles"), "{printed}");
    messages.extend(put_many(&store, 60));
    assert_eq!(records(folder.path())[1], held);
    let (well, _, log) = run(&store, &["datanode", "forget", "datanode2"]);
    assert!(!well && log.contains("datanode-operative") && log.contains("stop it first"), "{log}");
    let (well, _, log) = run(&store, &["datanode", "drain", "datanode7"]);
    assert!(!well && log.contains("unknown-datanode"), "{log}");
    store.datanodes[1].kill();
    std::fs::remove_dir_all(folder.path().join("datanode2")).unwrap();
    wait_until_missed(&store, "datanode2");
    let (well, _, log) = run(&store, &["datanode", "drain", "datanode2", "--undo"]);
    assert!(!well && log.contains("datanode-away") && log.contains("start it first"), "{log}");
    let (well, printed, log) = run(&store, &["datanode", "forget", "datanode2"]);
    assert!(well && printed.contains("ningún mensaje estaba solo allí"), "{printed}{log}");
    assert_eq!(messages.len(), 120);
    check_all_are_read(&store, &messages);
    wait_until_healthy(&store, 120);
    let (well, printed) = verify(&store, &[1, 3]);
    assert!(well, "{printed}");
}

#[test]
fn messages_of_a_forgotten_datanode_are_called_lost_until_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = StoreProcesses::start(folder.path(), patient("1"));
    let messages = put_many(&store, 60);
    let held = records(folder.path())[1];
    assert!(held > 0);
    store.datanodes[1].kill();
    wait_until_missed(&store, "datanode2");
    let (well, _, log) = run(&store, &["datanode", "forget", "datanode2"]);
    assert!(!well && log.contains("would-lose") && log.contains(&format!("{held} messages")), "{log}");
    let (well, printed, log) = run(&store, &["datanode", "forget", "datanode2", "--accept-loss"]);
    assert!(well && printed.contains(&format!("mensajes perdidos: {held}")), "{printed}{log}");
    for restarts in 0..2 {
        let mut client = store.connect();
        let ask = |id: &String| client.ask(&json!({"get": {"id": id}}));
        let codes: Vec<_> = messages.keys().map(ask).filter(|reply| reply["error"].is_object()).collect();
        assert!(
            codes.len() == held && codes.iter().all(|reply| reply["error"]["code"] == "lost"),
            "{codes:?}"
        );
        let (healthy, others) = fsck(&mut client);
        assert_eq!((healthy as usize, others.len()), (60 - held, held), "after {restarts} restarts");
        assert!(others.iter().all(|message| message["verdict"] == "lost"), "{others:?}");
        store.restart_headnode();
        store.wait_until_available(2);
    }
    store.restart_datanode(2);
    store.wait_until_available(3);
    wait_until_healthy(&store, 60);
    check_all_are_read(&store, &messages);
}

#[test]
fn a_short_absence_copies_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = StoreProcesses::start(folder.path(), patient("2"));
    put_many(&store, 60);
    let held = records(folder.path());
    for number in [1, 2, 3, 2] {
        store.datanodes[number - 1].kill();
        wait_until_missed(&store, &format!("datanode{number}"));
        store.restart_datanode(number);
        store.wait_until_available(3);
    }
    wait_until_healthy(&store, 60);
    assert_eq!(records(folder.path()), held);
}
