//! Tests two real headnodes of one group: at any time one leads, and when it is gone the other one goes on.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../processes/mod.rs"]
mod processes;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use processes::{free_port, start_datanode};
use protocol::store::types::Id;
use serde_json::{Value, json};
use service::net::LocalGroup;
use testkit::{LineClient, Process, Signal, http_get, program, wait_for};

const LISTENING: &str = "listening";
const STANDS_BY: &str = "stands by: serves no clients while the headnode of this epoch leads";
const SUPERSEDED: &str = "superseded: another headnode has taken over, and this one stands by";
const TAKES_OVER: &str = "takes over: a majority of the datanodes say that no headnode leads";
/// A headnode that has not answered within this time hangs.
const REPLY: Duration = Duration::from_secs(1);
/// The pause between two looks.
const POLL: Duration = Duration::from_millis(10);

/// Three datanodes, and what two headnodes need.
struct PairedStore {
    folder: PathBuf,
    group: LocalGroup,
    addresses: [SocketAddr; 2],
    interval: &'static str,
    _datanodes: Vec<Process>,
}

impl PairedStore {
    fn start(folder: &Path, interval: &'static str) -> Self {
        let group = LocalGroup::reserve().unwrap();
        let addresses = [(); 2].map(|()| SocketAddr::from((Ipv4Addr::LOCALHOST, free_port())));
        let _datanodes = (1..=3).map(|number| start_datanode(folder, &group, number)).collect();
        Self { folder: folder.to_owned(), group, addresses, interval, _datanodes }
    }

    /// Starts a headnode, and waits until it logs `message`.
    fn headnode(&self, number: usize, flags: &[&str], message: &str) -> Process {
        let mut command = Command::new(program("headnode"));
        command.args(["--interface", "127.0.0.1", "--group", &self.group.address.to_string()]);
        command.args(["--listen", &self.addresses[number].to_string(), "--interval", self.interval]);
        command
            .args(["--page", "127.0.0.1:0", "--data-dir"])
            .arg(self.folder.join(format!("headnode{number}")));
        command.args(flags);
        Process::start_until(message, command)
    }

    /// Starts two headnodes that stand by for each other. The first one leads.
    fn pair(&self) -> [Process; 2] {
        let first = self.headnode(0, &["--standby"], LISTENING);
        let second = self.headnode(1, &["--standby"], STANDS_BY);
        [first, second]
    }

    /// Sends a message to whichever headnode answers until it is saved, and returns how long that took.
    fn put_until_saved(&self, number: u128) -> Duration {
        let started = Instant::now();
        for address in self.addresses.iter().cycle() {
            let reply = ask(*address, &put(number));
            if reply.is_some_and(|reply| reply["saved"].is_object()) {
                break;
            }
            assert!(started.elapsed() < Duration::from_secs(60), "message {number} is not saved");
            std::thread::sleep(POLL);
        }
        started.elapsed()
    }

    fn get(&self, number: u128) -> Value {
        let mut replies = self.addresses.iter().filter_map(|address| ask(*address, &get(number)));
        replies.next_back().unwrap()
    }

    /// Returns whether any datanode holds the message.
    fn is_held(&self, number: u128) -> bool {
        let id = id(number).to_string();
        (1..=3).any(|datanode| {
            let data = self.folder.join(format!("datanode{datanode}/data.txt"));
            std::fs::read_to_string(data).unwrap().contains(&id)
        })
    }
}

fn id(number: u128) -> Id {
    Id::from_parts(1, number)
}

fn put(number: u128) -> Value {
    json!({"put": {"id": id(number), "message": format!("message {number}")}})
}

fn get(number: u128) -> Value {
    json!({"get": {"id": id(number)}})
}

/// Returns the reply of the headnode at `address`, if there is one in time.
fn ask(address: SocketAddr, request: &Value) -> Option<Value> {
    let mut stream = TcpStream::connect_timeout(&address, REPLY).ok()?;
    stream.set_read_timeout(Some(REPLY)).unwrap();
    writeln!(stream, "{request}").ok()?;
    let mut reply = String::new();
    BufReader::new(stream).read_line(&mut reply).ok()?;
    serde_json::from_str(&reply).ok()
}

fn epoch(reply: &Value) -> u64 {
    let epoch = reply["status"]["epoch"].as_str().unwrap_or_else(|| panic!("no epoch: {reply}"));
    epoch.split(':').next().unwrap().parse().unwrap()
}

#[test]
fn of_two_headnodes_the_newer_one_leads_and_they_never_fight() {
    let folder = tempfile::tempdir().unwrap();
    let store = PairedStore::start(folder.path(), "200ms");
    let first = store.headnode(0, &[], LISTENING);
    store.put_until_saved(1);
    let second = store.headnode(1, &[], LISTENING);
    first.logged(SUPERSEDED);
    first.logged(STANDS_BY);
    wait_for("the second one to lead", || {
        ask(store.addresses[1], &json!({"status": {}})).is_some_and(|reply| reply["status"]["available"] == 3)
    });
    assert_eq!(ask(store.addresses[0], &get(1)), None, "it serves no clients");
    store.put_until_saved(2);
    for number in [1, 2] {
        assert_eq!(store.get(number)["record"]["message"], format!("message {number}"));
    }
    // Health and page of the first one say so, and metrics too.
    let (status, text) = http_get(first.page(), "/readyz?verbose");
    assert!(status == 503 && text.contains("[-]leads: stands by: epoch "), "{status} {text}");
    assert_eq!(http_get(first.page(), "/livez").0, 200);
    assert!(http_get(first.page(), "/api/frame").1.contains(r#""code":"stands-by""#));
    assert!(http_get(first.page(), "/metrics").1.contains("headnode_leads 0"));
    assert_eq!(http_get(second.page(), "/readyz").0, 200);
    // Ten rounds later nothing has changed.
    let rounds = || {
        let reply = ask(store.addresses[1], &json!({"status": {}})).unwrap();
        reply["status"]["round"].as_u64().unwrap()
    };
    let now = rounds();
    wait_for("ten rounds", || rounds() >= now + 10);
    assert_eq!(first.events(SUPERSEDED).len(), 1);
    assert_eq!((first.events(TAKES_OVER).len(), second.events(SUPERSEDED).len()), (0, 0));
}

#[test]
fn a_headnode_that_was_superseded_stands_by_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let store = PairedStore::start(folder.path(), "200ms");
    let mut first = store.headnode(0, &[], LISTENING);
    store.put_until_saved(1);
    let second = store.headnode(1, &[], LISTENING);
    first.logged(STANDS_BY);
    first.kill();
    let _first = store.headnode(0, &[], STANDS_BY);
    store.put_until_saved(2);
    assert!(second.events(SUPERSEDED).is_empty());
}

#[test]
fn when_the_leader_is_killed_puts_go_on_within_two_seconds() {
    let folder = tempfile::tempdir().unwrap();
    let store = PairedStore::start(folder.path(), "5s");
    let [mut leader, mut standby] = store.pair();
    for round in 0..3 {
        store.put_until_saved(round * 10);
        let before = epoch(&ask(leader_of(&store, &leader), &json!({"status": {}})).unwrap());
        leader.kill();
        let took = store.put_until_saved(round * 10 + 1);
        assert!(took < Duration::from_secs(2), "{took:?}");
        standby.logged(TAKES_OVER);
        for number in [round * 10, round * 10 + 1] {
            assert_eq!(store.get(number)["record"]["message"], format!("message {number}"));
        }
        let address = store.addresses.into_iter().find(|at| TcpStream::connect(at).is_ok()).unwrap();
        assert!(epoch(&ask(address, &json!({"status": {}})).unwrap()) > before);
        let killed = store.addresses.iter().position(|at| *at != address).unwrap();
        leader = std::mem::replace(&mut standby, store.headnode(killed, &["--standby"], STANDS_BY));
    }
}

/// Returns the address of the headnode that serves clients; `leader` has logged it when it began to lead.
fn leader_of(store: &PairedStore, leader: &Process) -> SocketAddr {
    let listening = leader.events(LISTENING).pop().unwrap();
    let address = listening["address"].as_str().unwrap().parse().unwrap();
    assert!(store.addresses.contains(&address));
    address
}

#[test]
fn when_the_leader_hangs_puts_go_on_within_20_s_and_it_stores_nothing_when_it_wakes_up() {
    let folder = tempfile::tempdir().unwrap();
    let store = PairedStore::start(folder.path(), "5s");
    let [leader, standby] = store.pair();
    store.put_until_saved(1);
    let mut client = LineClient::connect(store.addresses[0]);
    client.ask(&get(1));
    leader.signal(Signal::SIGSTOP);
    // The headnode reads this when it wakes up.
    client.send(format!("{}\n", put(2)));
    let took = store.put_until_saved(3);
    assert!(took > REPLY && took < Duration::from_secs(20), "{took:?}");
    standby.logged(TAKES_OVER);
    leader.signal(Signal::SIGCONT);
    leader.logged(SUPERSEDED);
    leader.logged(STANDS_BY);
    let reply = client.finish();
    assert!(!reply.contains("saved"), "{reply}");
    assert!(!store.is_held(2));
    assert_eq!(store.get(1)["record"]["message"], "message 1");
    wait_for("all datanodes to be asked", || store.get(2)["error"]["code"] == "not-found");
    assert!(standby.events(SUPERSEDED).is_empty());
}
