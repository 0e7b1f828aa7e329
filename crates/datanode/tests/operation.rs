//! The real `datanode`, with clients that speak the headnode's protocol and with others.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::VecDeque;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use service::net::LocalGroup;
use testkit::{LineClient, Process, Signal};

const ID: &str = "01JD6Q3B4V0000000000000000";
/// How many connections may wait for their hello at the same time.
const PLACES: usize = 32;

struct Datanode {
    process: Process,
    _group: LocalGroup,
}

fn command(folder: &Path, group: &LocalGroup, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_datanode"));
    command.args(["--listen", "127.0.0.1:0", "--interface", "127.0.0.1", "--name", "datanode1"]);
    command.args(["--group", &group.address.to_string(), "--data-dir"]).arg(folder).args(arguments);
    command
}

fn start(folder: &Path) -> Datanode {
    let group = LocalGroup::reserve().unwrap();
    Datanode { process: Process::start(command(folder, &group, &[])), _group: group }
}

impl Datanode {
    fn connect(&self) -> LineClient {
        LineClient::connect(self.process.address)
    }

    /// Returns the run of the datanode, as the datanode reports it to a headnode that expects another one.
    fn incarnation(&self) -> String {
        let refused = self.connect().ask(&hello("datanode1", ID));
        let reason = refused["failed"]["reason"].as_str().unwrap().to_owned();
        reason.rsplit_once(' ').unwrap().1.to_owned()
    }

    fn hello(&self) -> Value {
        hello("datanode1", &self.incarnation())
    }

    fn greeted(&self) -> LineClient {
        let incarnation = self.incarnation();
        let mut client = self.connect();
        let welcome = client.ask(&hello("datanode1", &incarnation));
        assert_eq!(welcome["welcome"]["v"], 1, "{welcome}");
        client
    }
}

fn hello(name: &str, incarnation: &str) -> Value {
    json!({"hello": {"v": 1, "headnode": ID, "datanode": name, "incarnation": incarnation}})
}

fn in_epoch(mut hello: Value, epoch: &str) -> Value {
    hello["hello"]["epoch"] = epoch.into();
    hello
}

fn store(message: &str) -> Value {
    json!({"store": {"id": ID, "client": "127.0.0.1:40522", "message": message}})
}

#[test]
fn a_wrong_name_is_one_line_and_exit_code_2() {
    let output = Command::new(env!("CARGO_BIN_EXE_datanode")).args(["--name", "a b"]).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.lines().count() == 1 && text.contains("1 to 63 letters"), "{text}");
}

#[test]
fn nothing_is_stored_before_a_hello_that_is_meant_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let datanode = start(folder.path());
    for wrong in [
        store("early"),
        json!({"fetch": {"id": ID}}),
        json!({"inventory": {"from": 1}}),
        json!({"gaps": {"from": 1}}),
        json!({"peers": {"names": ["datanode2"]}}),
        hello("datanode2", ID),
        hello("datanode1", ID),
        json!({"hello": {"v": 2}}),
    ] {
        let mut client = datanode.connect();
        let reply = client.ask(&wrong);
        assert!(reply["failed"]["reason"].is_string(), "{reply}");
        assert_eq!(client.finish(), "", "it is closed");
    }
    for junk in [&b"hola\n"[..], b"\xff\n", b"{\"store\":"] {
        let mut client = datanode.connect();
        client.send(junk);
        assert!(client.finish().contains("\"malformed\""));
    }
    assert_eq!(std::fs::read_to_string(folder.path().join("data.txt")).unwrap(), "");
}

#[test]
fn what_is_confirmed_is_there_after_a_kill_and_a_torn_tail_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.txt");
    let mut datanode = start(folder.path());
    let stored = datanode.greeted().ask(&store("Hola"));
    assert_eq!(stored["stored"]["seq"], 1, "{stored}");
    datanode.process.kill();
    let whole = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{whole}2 2026-11-21T09:30:00.123Z 01JD")).unwrap();
    let datanode = start(folder.path());
    datanode.process.logged(
        "data.txt ended in half a record, which was cut off; if the record was confirmed, the headnode's registry shows that",
    );
    assert_eq!(std::fs::read_to_string(&path).unwrap(), whole);
    let mut client = datanode.greeted();
    assert_eq!(client.ask(&store("Hola"))["stored"]["seq"], 1, "the same id is the same record");
    assert_eq!(client.ask(&store("otra cosa"))["failed"]["code"], "id-conflict");
    assert_eq!(client.ask(&json!({"fetch": {"id": ID}}))["record"]["message"], "Hola");
    let holdings = client.ask(&json!({"inventory": {"from": 1}}));
    assert_eq!(holdings["holdings"]["records"][0][0], 1);
    assert_eq!(holdings["holdings"]["records"][0][5], "Hola", "{holdings}");
}

#[test]
fn silent_connections_lock_no_headnode_out() {
    let folder = tempfile::tempdir().unwrap();
    let datanode = start(folder.path());
    let mut serving = datanode.greeted();
    let mut silent = VecDeque::new();
    for _ in 0..500 {
        let mut client = datanode.connect();
        // Half a hello counts as none.
        client.send("{\"hello\":");
        silent.push_back(client);
        if silent.len() > PLACES {
            silent.pop_front().unwrap().cut_off();
        }
    }
    assert_eq!(
        serving.ask(&store("Hola"))["stored"]["seq"],
        1,
        "a connection that has said hello is not affected"
    );
    let mut newcomer = datanode.greeted();
    assert_eq!(newcomer.ask(&store("Hola"))["stored"]["seq"], 1);
    let mut last = silent.pop_back().unwrap();
    assert!(last.reply().contains("hello-timeout"), "nobody may be silent for long");
}

#[test]
fn a_first_line_that_is_too_long_for_a_hello_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let datanode = start(folder.path());
    let mut client = datanode.connect();
    client.send(vec![b'x'; 2000]);
    let reply = client.reply();
    assert!(reply.contains("malformed") && reply.contains("1024"), "{reply}");
    let mut greeted = datanode.greeted();
    assert_eq!(greeted.ask(&store(&"x".repeat(60_000)))["stored"]["seq"], 1);
}

#[test]
fn a_newer_headnode_takes_over() {
    let folder = tempfile::tempdir().unwrap();
    let datanode = start(folder.path());
    let mut old = datanode.greeted();
    let mut new = datanode.greeted();
    assert_eq!(old.reply(), "", "it is closed without being asked");
    assert_eq!(new.ask(&store("Hola"))["stored"]["seq"], 1);
}

#[test]
fn a_headnode_with_a_lower_epoch_is_refused_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut datanode = start(folder.path());
    let high = "2:01JD6Q3B4V0000000000000001";
    let mut leader = datanode.connect();
    let greeted = leader.ask(&in_epoch(datanode.hello(), high));
    assert!(greeted["welcome"].is_object(), "{greeted}");
    let kept = std::fs::read_to_string(folder.path().join("datanode.epoch")).unwrap();
    assert!(kept.starts_with(&format!("epoch {high} ")), "{kept}");
    for restarted in [false, true] {
        if restarted {
            datanode.process.kill();
            datanode = start(folder.path());
        }
        let lower = ["1:01JD6Q3B4V0000000000000009", "2:01JD6Q3B4V0000000000000000"];
        let lower = lower.map(|epoch| in_epoch(datanode.hello(), epoch));
        for hello in lower.into_iter().chain([datanode.hello()]) {
            let mut stale = datanode.connect();
            assert_eq!(stale.ask(&hello), json!({"superseded": {"epoch": high}}));
            assert_eq!(stale.reply(), "", "the connection is closed");
        }
        if !restarted {
            assert_eq!(leader.ask(&store("Hola"))["stored"]["seq"], 1, "the leader is not disturbed");
        }
    }
}

#[test]
fn sigterm_ends_it_well_and_one_folder_has_one_datanode() {
    let folder = tempfile::tempdir().unwrap();
    let mut datanode = start(folder.path());
    let group = LocalGroup::reserve().unwrap();
    let refused = Process::try_start(command(folder.path(), &group, &[])).unwrap_err();
    assert!(format!("{refused:?}").contains("data.txt is in use by another process"), "{refused:?}");
    let _idle = datanode.greeted();
    datanode.process.signal(Signal::SIGTERM);
    assert!(datanode.process.ended().success());
    datanode.process.logged("data.txt closed");
}
