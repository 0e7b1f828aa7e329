//! Whatever a crash of the machine leaves of a headnode's files, it leads in no lower epoch than it told, and knows every datanode that
//! it used.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use protocol::store::types::Epoch;
use serde_json::{Value, json};
use service::net::LocalGroup;
use testkit::crash::states::{CrashState, crash_states};
use testkit::crash::trace::{Step, Traced};
use testkit::{LineClient, Process, program, wait_for};

const DATANODES: usize = 3;
const MESSAGES: usize = 6;
/// So many of the states are tried at most, spread over the whole run: lines of the registry are not synced, and make many.
const TRIED: usize = 120;

fn headnode(data: &Path, group: &LocalGroup) -> Command {
    let mut command = Command::new(program("headnode"));
    command.args(["--listen", "127.0.0.1:0", "--interface", "127.0.0.1", "--page", "none"]);
    command.args(["--interval", "300ms", "--group", &group.address.to_string(), "--data-dir"]).arg(data);
    command
}

fn datanode(data: &Path, group: &LocalGroup, number: usize) -> Process {
    let mut command = Command::new(program("datanode"));
    command.args(["--listen", "127.0.0.1:0", "--interface", "127.0.0.1", "--name", &name(number)]);
    command.args(["--group", &group.address.to_string(), "--data-dir"]).arg(data.join(name(number)));
    Process::start(command)
}

fn name(number: usize) -> String {
    format!("datanode{number}")
}

fn status(headnode: std::net::SocketAddr) -> Value {
    LineClient::connect(headnode).ask(&json!({"status": {}}))["status"].clone()
}

/// What the headnode had told each datanode, by its port.
fn told(state: &CrashState, steps: &[Step]) -> BTreeMap<u16, String> {
    let mut told: BTreeMap<u16, String> = BTreeMap::new();
    for step in &steps[..state.after] {
        if let Step::Tell { port, bytes } = step {
            told.entry(*port).or_default().push_str(&String::from_utf8_lossy(bytes));
        }
    }
    told
}

/// The epoch in which the headnode has introduced itself, if it has.
fn epoch_of_hello(told: &str) -> Option<Epoch> {
    let hello: Value = serde_json::from_str(told.lines().next()?).ok()?;
    serde_json::from_value(hello["hello"]["epoch"].clone()).ok()
}

#[test]
fn whatever_a_crash_leaves_the_epoch_is_not_lower_and_no_datanode_is_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("headnode");
    std::fs::create_dir(&data).unwrap();
    let group = LocalGroup::reserve().unwrap();
    let traced = Traced::start(&headnode(&data, &group), &data, &folder.path().join("strace"));
    let Some(traced) = traced else { return };
    let mut datanodes = Vec::new();
    for number in 1..=DATANODES {
        // One after the other, so that there are moments at which some are known.
        datanodes.push(datanode(folder.path(), &group, number));
        wait_for("the datanode", || status(traced.address())["available"] == number);
        let mut client = LineClient::connect(traced.address());
        for message in 0..MESSAGES / DATANODES {
            let reply = client.ask(&json!({"put": {"message": format!("{number}-{message}")}}));
            assert!(reply["saved"].is_object(), "{reply}");
        }
    }
    let ports: Vec<_> = datanodes.iter().map(|datanode| datanode.address.port()).collect();
    let steps = traced.finish();
    drop(datanodes);
    let states = crash_states(&steps);
    let (mut before_hello, mut with_some) = (0, 0);
    for (number, state) in states.iter().enumerate().step_by(states.len().div_ceil(TRIED)) {
        let left = folder.path().join(format!("state{number}"));
        state.write(&data, &left);
        let told = told(state, &steps);
        let used: Vec<_> = (1..)
            .zip(&ports)
            .filter(|(_, port)| told.get(port).is_some_and(|text| text.contains("\"store\"")))
            .map(|(number, _)| name(number))
            .collect();
        let group = LocalGroup::reserve().unwrap();
        let headnode = Process::start(headnode(&left, &group));
        let status = status(headnode.address);
        let epoch: Epoch = serde_json::from_value(status["epoch"].clone()).unwrap();
        let greeted = told.values().filter_map(|text| epoch_of_hello(text)).max();
        assert!(
            greeted.is_none_or(|told| epoch >= told),
            "state {number}: it leads in {epoch} after {greeted:?}"
        );
        before_hello += usize::from(greeted.is_none());
        let known: Vec<_> =
            status["datanodes"].as_array().unwrap().iter().map(|one| one["name"].clone()).collect();
        assert!(
            used.iter().all(|name| known.contains(&json!(name))),
            "state {number}: {used:?} were used: {known:?}"
        );
        with_some += usize::from(!used.is_empty() && used.len() < DATANODES);
        assert!(status["messages"].as_u64().unwrap() <= MESSAGES as u64, "state {number}: {status}");
        drop(headnode);
        std::fs::remove_dir_all(&left).unwrap();
    }
    println!(
        "{} states, {before_hello} before the first hello, {with_some} with some of the datanodes",
        states.len()
    );
    assert!(
        states.len() >= 30 && before_hello > 0 && with_some > 0,
        "{}, {before_hello}, {with_some}",
        states.len()
    );
}
