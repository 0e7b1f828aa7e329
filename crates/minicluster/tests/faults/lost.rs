//! Tests what a disk or an operator may lose: sectors of `data.txt`, and the registry.

use std::path::PathBuf;

use serde_json::{Value, json};
use testkit::{LineClient, wait_for};

use crate::processes::{StoreProcesses, StoreSettings, outcome};
use crate::{heartbeat_file, put};

/// Returns settings with which each message is on one datanode, however slow that is.
fn patient() -> StoreSettings {
    StoreSettings { store_timeout: "10s", ..StoreSettings::default() }
}

fn put_as(id: &str, message: &str) -> Value {
    json!({"put": {"id": id, "message": message}})
}

fn get(id: &str) -> Value {
    json!({"get": {"id": id}})
}

fn data_file(store: &StoreProcesses, number: usize) -> PathBuf {
    store.folder.join(format!("datanode{number}/data.txt"))
}

/// Stores `count` messages. Returns the id of each and its place: the number of the datanode and of the record.
fn saved(client: &mut LineClient, count: usize) -> Vec<(String, usize, u64)> {
    let saved = |number| {
        let reply = client.ask(&put(&format!("mensaje {number}")));
        let place = &reply["saved"]["places"][0];
        let datanode = place["datanode"].as_str().unwrap_or_else(|| panic!("not saved: {reply}"));
        let id = reply["saved"]["id"].as_str().unwrap().to_owned();
        (id, datanode["datanode".len()..].parse().unwrap(), place["seq"].as_u64().unwrap())
    };
    (0..count).map(saved).collect()
}

fn lost(client: &mut LineClient, number: usize) -> u64 {
    let status = client.ask(&json!({"status": {}}));
    let datanodes = status["status"]["datanodes"].as_array().unwrap();
    let name = format!("datanode{number}");
    let node = datanodes.iter().find(|node| node["name"] == name.as_str()).unwrap();
    node["lost"].as_u64().unwrap()
}

#[test]
fn a_lost_last_sector_is_no_torn_tail_where_the_registry_knows_better() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = StoreProcesses::start(folder.path(), StoreSettings { datanodes: 1, ..patient() });
    let receipts = store.client("client", &["put", "a", "b", "c", "d", "e", "f", "g"]).spawn().unwrap();
    assert!(outcome(receipts).0);
    let before = store.connect().ask(&json!({"list": {"last": 1}}));
    let id = before["messages"]["entries"][0]["id"].as_str().unwrap().to_owned();
    store.datanodes[0].kill();
    let path = data_file(&store, 1);
    let mut bytes = std::fs::read(&path).unwrap();
    let length = bytes.len();
    bytes[length - 10..].fill(0);
    std::fs::write(&path, bytes).unwrap();
    store.restart_datanode(1);
    store.wait_until_available(1);

    let mut client = store.connect();
    assert_eq!(lost(&mut client, 1), 1);
    let message = "registered, but not held: the datanode has lost acknowledged records; restore its data.txt from a copy";
    store.headnode.logged(message);
    assert_eq!(store.headnode.events(message)[0]["ids"], id.as_str());
    let reply = client.ask(&get(&id));
    assert_eq!(reply["error"]["code"], "damaged", "{reply}");
    assert!(reply["error"]["reason"].as_str().unwrap().contains("datanode1:7"), "{reply}");
    let next = saved(&mut client, 1).remove(0);
    assert!(next.2 > 7, "number {} was given before", next.2);
    // Its client can make it good; a stranger to the message cannot.
    assert_eq!(client.ask(&put_as(&id, "something else"))["error"]["code"], "id-conflict");
    assert_eq!(client.ask(&put_as(&id, "g"))["saved"]["id"], id.as_str());
    assert_eq!(client.ask(&get(&id))["record"]["message"], "g");

    let files = ["client/registro_cliente.txt", "headnode/registro_server.txt", "datanode1/data.txt"];
    let files = files.map(|file| folder.path().join(file).display().to_string());
    let [receipts, registry, data] = files.each_ref().map(String::as_str);
    for witness in [receipts, registry] {
        let (well, printed, _) = outcome(store.client("x", &["verify", witness, data]).spawn().unwrap());
        assert!(well && printed.contains(&format!("{id}: ahora está en datanode1:")), "{printed}");
    }
}

#[test]
fn zeroed_sectors_in_the_middle_are_reported_and_everything_else_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = StoreProcesses::start(folder.path(), StoreSettings { datanodes: 1, ..patient() });
    let saved = saved(&mut store.connect(), 300);
    store.datanodes[0].kill();
    let path = data_file(&store, 1);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[1024..2048].fill(0);
    std::fs::write(&path, bytes).unwrap();
    store.restart_datanode(1);
    store.wait_until_available(1);
    let mut client = store.connect();
    let mut damaged = 0;
    for (id, _, seq) in &saved {
        let reply = client.ask(&get(id));
        match reply["error"]["code"].as_str() {
            Some(code) => {
                assert_eq!(code, "damaged", "record {seq}: {reply}");
                damaged += 1;
            }
            None => assert_eq!(reply["record"]["from"]["seq"], *seq),
        }
    }
    assert!((5..50).contains(&damaged), "{damaged} records are in two sectors");
    assert_eq!(lost(&mut client, 1), damaged);
}

#[test]
fn without_the_registry_a_miss_needs_the_word_of_every_datanode() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = StoreProcesses::start(folder.path(), patient());
    let saved = saved(&mut store.connect(), 60);
    let (id, away, _) = saved.iter().find(|(_, datanode, _)| *datanode == 2).unwrap().clone();
    // The others are told of it at the end of a round at the latest.
    let told = |number| {
        let remembered = store.folder.join(format!("datanode{number}/datanode.journal"));
        std::fs::read_to_string(remembered).is_ok_and(|text| text.contains("peer datanode2 "))
    };
    wait_for("the names to be told", || told(1) && told(3));
    store.headnode.kill();
    store.datanodes[away - 1].kill();
    // Everything that the headnode knew is gone.
    std::fs::remove_dir_all(store.folder.join("headnode")).unwrap();
    store.restart_headnode();
    store.wait_until_available(2);

    let mut client = store.connect();
    for request in [get(&id), put_as(&id, "another text")] {
        let reply = client.ask(&request);
        assert_eq!(reply["error"]["code"], "unavailable", "{reply}");
        assert!(reply["error"]["reason"].as_str().unwrap().contains("datanode2"), "{reply}");
    }
    let new = json!({"put": {"id": "01JD6Q3B4V0000000000000000", "new": true, "message": "new"}});
    assert_eq!(client.ask(&new)["saved"]["id"], "01JD6Q3B4V0000000000000000", "a new id need not wait");
    assert!(client.ask(&put("without an id"))["saved"].is_object());
    wait_for("a round that names the absent", || {
        heartbeat_file(&store).contains(" datanode2 - no operativo rtt=-")
    });

    store.restart_datanode(away);
    store.wait_until_available(3);
    assert_eq!(client.ask(&get(&id))["record"]["id"], id.as_str());
    assert_eq!(client.ask(&put_as(&id, "another text"))["error"]["code"], "id-conflict");
    assert_eq!(client.ask(&get("01JD6Q3B4V0000000000000001"))["error"]["code"], "not-found");
}

#[test]
fn with_its_registry_a_headnode_needs_nobody_for_a_miss() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = StoreProcesses::start(folder.path(), patient());
    saved(&mut store.connect(), 20);
    // By the end of a round it is noted that the registry lacks nothing.
    let state = store.folder.join("headnode/registro_server.state");
    wait_for("the note", || {
        std::fs::read_to_string(&state).is_ok_and(|text| text.contains("\"complete\":true"))
    });
    store.headnode.kill();
    store.datanodes[1].kill();
    store.restart_headnode();
    store.wait_until_available(2);
    let mut client = store.connect();
    assert_eq!(client.ask(&get("01JD6Q3B4V0000000000000001"))["error"]["code"], "not-found");
    assert!(client.ask(&put_as("01JD6Q3B4V0000000000000001", "x"))["saved"].is_object());
    // A datanode that has not answered since the start is in each round all the same.
    wait_for("a round", || {
        let file = heartbeat_file(&store);
        file.lines().last().is_some_and(|line| line.contains("operativos=2"))
            && file.contains(" datanode2 - no operativo rtt=- CAMBIO")
    });
}
