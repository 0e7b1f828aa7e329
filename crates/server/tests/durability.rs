//! Acknowledged messages survive load, `kill -9`, SIGTERM and a full disk.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use nix::sys::signal::Signal;
use rand::RngExt as _;
use support::{Greets as _, Log, PROGRAM, Server};

const CONNECTIONS: usize = 50;
const MESSAGES: usize = 1000;

/// Sends messages over many connections, each of which waits for its reply, until all messages are sent or the server
/// has ended.
struct Traffic {
    acknowledged: Arc<Mutex<Vec<String>>>,
    count: Arc<AtomicUsize>,
    clients: Vec<thread::JoinHandle<()>>,
}

impl Traffic {
    fn start(address: SocketAddr, name: &str, messages: usize) -> Self {
        let acknowledged = Arc::new(Mutex::new(Vec::new()));
        let count = Arc::new(AtomicUsize::new(0));
        let clients = (0..CONNECTIONS)
            .map(|client| {
                let (acknowledged, count, name) = (acknowledged.clone(), count.clone(), name.to_owned());
                thread::spawn(move || {
                    let Ok(mut stream) = TcpStream::connect(address) else { return };
                    let mut replies = BufReader::new(stream.try_clone().unwrap()).lines();
                    for number in 0..messages / CONNECTIONS {
                        let message = format!("{name}-{client}-{number} \"ñ\"\t");
                        if stream.write_all(format!("{message}\n").as_bytes()).is_err() {
                            return;
                        }
                        let Some(Ok(reply)) = replies.next() else { return };
                        assert_eq!(reply, format!("OK mensaje recibido correctamente: {message}"));
                        acknowledged.lock().unwrap().push(message);
                        count.fetch_add(1, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        Self { acknowledged, count, clients }
    }

    fn wait_for(&self, count: usize) {
        support::wait_for("acknowledged messages", || self.count.load(Ordering::SeqCst) >= count);
    }

    fn finish(self) -> Vec<String> {
        for client in self.clients {
            client.join().unwrap();
        }
        Arc::into_inner(self.acknowledged).unwrap().into_inner().unwrap()
    }
}

#[test]
fn a_thousand_messages_over_fifty_connections_are_logged_once_each() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]);
    let acknowledged = Traffic::start(server.address, "m", MESSAGES).finish();
    assert_eq!(acknowledged.len(), MESSAGES);
    let log = server.log();
    assert_eq!(log.in_order.len(), MESSAGES);
    acknowledged.iter().for_each(|message| log.holds_once(message));
}

#[test]
fn kill_at_a_random_moment_loses_nothing_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = Vec::new();
    let mut cut_short = 0;
    for round in 0..100 {
        let mut server = Server::start(folder.path(), &[]);
        let kill_after = rand::rng().random_range(0..MESSAGES);
        let traffic = Traffic::start(server.address, &format!("r{round}"), MESSAGES);
        traffic.wait_for(kill_after);
        server.signal(Signal::SIGKILL);
        assert_eq!(server.ended().signal(), Some(9), "round {round}, killed after {kill_after}");
        let told = traffic.finish();
        cut_short += usize::from(told.len() < MESSAGES);
        acknowledged.extend(told);
    }
    assert!(cut_short > 50, "only {cut_short} of 100 kills came while messages were on their way");
    // One more start of the server cuts a torn tail.
    let server = Server::start(folder.path(), &[]);
    let log = server.log();
    acknowledged.iter().for_each(|message| log.holds_once(message));
    assert!(log.messages.values().all(|count| *count == 1), "nothing stands there twice");
}

#[test]
fn sigterm_in_the_middle_of_traffic_loses_nothing_and_ends_well() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let folder = tempfile::tempdir().unwrap();
        let mut server = Server::start(folder.path(), &[]);
        let traffic = Traffic::start(server.address, "m", 100 * MESSAGES);
        traffic.wait_for(MESSAGES);
        server.signal(signal);
        assert_eq!(server.ended().code(), Some(0), "{signal}");
        let acknowledged = traffic.finish();
        assert!(acknowledged.len() < 100 * MESSAGES, "the signal came too late to test anything");
        let log = server.log();
        acknowledged.iter().for_each(|message| log.holds_once(message));
        ["listener closed", "connections closed", "log.txt closed"]
            .iter()
            .for_each(|event| server.logged(event));
    }
}

#[test]
fn pipelined_messages_are_logged_and_answered_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]);
    let mut client = server.connect();
    let messages: Vec<_> = (0..5000).map(|number| format!("message {number}")).collect();
    let mut sender = client.stream.try_clone().unwrap();
    let all = messages.join("\n");
    let sending = thread::spawn(move || sender.write_all(format!("{all}\n").as_bytes()).unwrap());
    messages.iter().for_each(|message| client.expect_received(message));
    sending.join().unwrap();
    assert_eq!(server.log().in_order, messages);
}

#[test]
fn a_second_start_appends() {
    let folder = tempfile::tempdir().unwrap();
    for message in ["uno", "dos"] {
        let mut server = Server::start(folder.path(), &[]);
        server.connect().say(message);
        server.signal(Signal::SIGTERM);
        assert!(server.ended().success());
    }
    assert_eq!(Log::read(folder.path()).in_order, ["uno", "dos"]);
}

#[test]
fn a_full_disk_is_an_error_reply_and_the_server_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    // The test limits the size of files. Because the signal is ignored, writes fail as they do on a full disk.
    let mut limited = Command::new("sh");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 16; exec \"$@\"", "sh", PROGRAM]);
    let server = Server::start_as(limited, folder.path(), &[]);
    let mut client = server.connect();
    let mut acknowledged = Vec::new();
    let refusal = loop {
        let message = format!("message {} {}", acknowledged.len(), "x".repeat(200));
        client.send(format!("{message}\n"));
        let reply = client.reply();
        if !reply.starts_with("OK ") {
            break reply;
        }
        acknowledged.push(message);
        assert!(acknowledged.len() < 1000, "the disk never filled up");
    };
    assert!(refusal.starts_with("ERROR disk-full: the server has no space"), "{refusal}");
    assert_eq!(server.log().in_order, acknowledged, "no part of the refused message is left");
    client.send(b"\xff\n");
    assert!(client.reply().starts_with("ERROR disk-full: "), "a refusal that cannot be logged");
    // There is room again, and the same server goes on with the same connection.
    std::fs::write(folder.path().join("log.txt"), "").unwrap();
    client.say("hay sitio");
    assert_eq!(server.log().in_order, ["hay sitio"]);
}

#[test]
fn a_log_that_is_gone_stops_the_server_before_it_acknowledges_anything() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(folder.path(), &[]);
    let mut client = server.connect();
    client.say("uno");
    std::fs::remove_file(folder.path().join("log.txt")).unwrap();
    client.send("dos\n");
    let reply = client.reply();
    assert!(reply.starts_with("ERROR storage-failed: "), "{reply}");
    assert_eq!(client.reply(), "", "the connection closes");
    assert_eq!(server.ended().code(), Some(1));
    server.logged("shutting down: log.txt failed");
}
