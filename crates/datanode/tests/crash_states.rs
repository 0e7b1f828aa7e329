//! Whatever a crash of the machine leaves of a datanode's files, it holds every record that it confirmed, under the number that it
//! told, and keeps to the epoch that it has promised.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use service::net::LocalGroup;
use testkit::crash::states::crash_states;
use testkit::crash::trace::Traced;
use testkit::{LineClient, Process};

const HEADNODE: &str = "01JD6Q3B4V0000000000000000";
const MESSAGES: u64 = 8;

fn command(folder: &Path, group: &LocalGroup) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_datanode"));
    command.args(["--listen", "127.0.0.1:0", "--interface", "127.0.0.1", "--name", "datanode1"]);
    command.args(["--group", &group.address.to_string(), "--data-dir"]).arg(folder);
    command
}

fn hello(incarnation: &str, epoch: u64) -> Value {
    let epoch = format!("{epoch}:{HEADNODE}");
    json!({"hello": {"v": 1, "headnode": HEADNODE, "datanode": "datanode1", "incarnation": incarnation, "epoch": epoch}})
}

/// Introduces a headnode that leads in this epoch.
fn greeted(address: std::net::SocketAddr, epoch: u64) -> (LineClient, Value) {
    let refused = LineClient::connect(address).ask(&hello(HEADNODE, epoch));
    let reason = refused["failed"]["reason"].as_str().unwrap_or_default();
    let incarnation = reason.rsplit(' ').next().unwrap().to_owned();
    let mut client = LineClient::connect(address);
    let reply = client.ask(&hello(&incarnation, epoch));
    (client, reply)
}

fn id(number: u64) -> String {
    format!("01JD6Q3B4V{number:016}")
}

fn store(number: u64) -> Value {
    json!({"store": {"id": id(number), "client": "127.0.0.1:40522", "message": format!("{number} {}", "ñ".repeat(300))}})
}

/// The records that the datanode has confirmed, and the highest epoch in which it has welcomed a headnode.
fn promised(told: &str) -> (BTreeMap<String, u64>, u64) {
    let replies: Vec<Value> = told.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let stored = replies.iter().filter_map(|reply| {
        let stored = &reply["stored"];
        Some((stored["id"].as_str()?.to_owned(), stored["seq"].as_u64()?))
    });
    let welcomes = replies.iter().filter(|reply| reply["welcome"].is_object()).count();
    (stored.collect(), welcomes as u64)
}

#[test]
fn whatever_a_crash_leaves_what_was_promised_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let group = LocalGroup::reserve().unwrap();
    let traced = Traced::start(&command(&data, &group), &data, &folder.path().join("strace"));
    let Some(traced) = traced else { return };
    // Two headnodes, one after the other, whose epochs are 1 and 2.
    for epoch in 1..=2 {
        let (mut client, welcome) = greeted(traced.address(), epoch);
        assert!(welcome["welcome"].is_object(), "{welcome}");
        for number in 0..MESSAGES {
            let reply = client.ask(&store(epoch * MESSAGES + number));
            assert!(reply["stored"].is_object(), "{reply}");
        }
    }
    let steps = traced.finish();
    let states = crash_states(&steps);
    let (mut fewest, mut epochs) = (usize::MAX, [0_usize; 3]);
    for (number, state) in states.iter().enumerate() {
        let left = folder.path().join(format!("state{number}"));
        state.write(&data, &left);
        let (confirmed, epoch) = promised(&state.told(&steps));
        fewest = fewest.min(confirmed.len());
        epochs[usize::try_from(epoch).unwrap()] += 1;
        let group = LocalGroup::reserve().unwrap();
        let datanode = Process::start(command(&left, &group));
        if epoch == 2 {
            let (_, reply) = greeted(datanode.address, 1);
            assert!(
                reply["superseded"].is_object(),
                "state {number}: epoch 1 is served after epoch 2: {reply}"
            );
        }
        let (mut client, welcome) = greeted(datanode.address, 3);
        assert!(welcome["welcome"].is_object(), "state {number}: {welcome}");
        for (id, seq) in &confirmed {
            let record = client.ask(&json!({"fetch": {"id": id}}));
            assert!(record["record"]["message"].is_string(), "state {number}: {id} was confirmed: {record}");
            assert_eq!(record["record"]["seq"], *seq, "state {number}: {record}");
        }
        // No number that was told before is given to another record.
        let reply = client.ask(&store(99));
        let new = reply["stored"]["seq"].as_u64().unwrap();
        assert!(confirmed.values().all(|seq| *seq != new), "state {number}: {new} is given again");
        drop(datanode);
        std::fs::remove_dir_all(&left).unwrap();
    }
    println!("{} states, by the epoch that was promised: {epochs:?}", states.len());
    assert!(states.len() >= 50 && fewest == 0 && epochs.iter().all(|count| *count > 0), "{epochs:?}");
}
