//! The end of the server: each resource is closed in order and tells so, and nothing that was begun is left half done.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::support::{LineClient, LotteryServer, Signal, message};

const BET: &str = "Santiago Lionel,Lorca,30904465,1999-03-17,2201";
const CLOSED_LISTENER: &str = "action: close_listener | result: success";
const CLOSED_CONNECTION: &str = "action: close_connection | result: success | ip: 127.0.0.1";
const CLOSED_REST: [&str; 5] = [
    "action: close_file | result: success | file: bets.csv",
    "action: close_file | result: success | file: lottery.journal",
    "action: join_thread | result: success | thread: store",
    "action: join_thread | result: success | thread: runtime",
    "action: shutdown | result: success",
];

/// Asserts that the last action lines are those of an orderly end with this number of connections, in their order. The lines
/// of batches that are being stored come between that of the listener and those of the connections.
fn ended_in_order(server: &LotteryServer, connections: usize) {
    let actions = server.actions();
    let closing = actions.iter().position(|line| line == CLOSED_LISTENER).unwrap();
    let closings: Vec<_> = actions[closing + 1..].iter().filter(|line| !line.contains("apuesta_")).collect();
    let expected: Vec<_> = std::iter::repeat_n(CLOSED_CONNECTION, connections).chain(CLOSED_REST).collect();
    assert_eq!(closings, expected, "{actions:?}");
    assert_eq!(actions.last().map(String::as_str), CLOSED_REST.last().copied());
}

#[test]
fn sigterm_ends_the_server_whoever_is_connected() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let folder = tempfile::tempdir().unwrap();
        let mut server = LotteryServer::start(folder.path(), 1);
        let mut half = server.connect();
        half.send(message("1", &[BET]));
        assert_eq!(half.reply(), "server:0\r");
        half.send("1:4:half");
        let _idle = server.connect();
        let mut served = server.connect();
        served.send("1:6\r\n");
        assert_eq!(served.reply(), "server:2\r", "it was accepted after the others");
        server.signal(signal);
        assert_eq!(server.ended().code(), Some(0));
        ended_in_order(&server, 3);
        assert_eq!(half.reply(), "", "closed");
    }
}

#[test]
fn sigterm_while_batches_stream_in_stores_and_answers_each_that_was_begun() {
    const BETS: usize = 20;
    let folder = tempfile::tempdir().unwrap();
    let mut server = LotteryServer::start(folder.path(), 1);
    let client = server.connect();
    let mut sender = client.stream.try_clone().unwrap();
    let signalled = Arc::new(AtomicBool::new(false));
    let stop = signalled.clone();
    let sending = thread::spawn(move || {
        for number in (0..).step_by(BETS).take_while(|_| !stop.load(Ordering::Relaxed)) {
            let bets: Vec<_> = (number..number + BETS).map(|n| format!("a,b,{n},1999-03-17,1")).collect();
            let batch = message("1", &bets.iter().map(String::as_str).collect::<Vec<_>>());
            sender.write_all(batch.as_bytes()).unwrap();
        }
        let _ = sender.shutdown(Shutdown::Write);
    });
    let answers = thread::spawn(move || answers(client));
    testkit::wait_for("bets to be stored", || server.bets().lines().count() > 50 * BETS);
    server.signal(Signal::SIGTERM);
    signalled.store(true, Ordering::Relaxed);
    assert_eq!(server.ended().code(), Some(0));
    let (answered, others) = answers.join().unwrap();
    sending.join().unwrap();
    assert_eq!(others, "");
    assert_eq!(server.bets().lines().count(), answered * BETS, "each batch in the file was answered");
    ended_in_order(&server, 1);
}

/// How often the server says that a batch is stored, and what else it says, until it closes the connection.
fn answers(mut client: LineClient) -> (usize, String) {
    let (mut answered, mut others) = (0, String::new());
    loop {
        match client.reply().as_str() {
            "" => return (answered, others),
            "server:0\r" => answered += 1,
            other => others.push_str(other),
        }
    }
}

#[test]
fn a_list_of_winners_that_was_begun_is_sent_to_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = LotteryServer::start(folder.path(), 1);
    let mut client = server.connect();
    // More than the system takes in for a client that does not read.
    let winner = |number: usize| format!("{},b,{number},1999-03-17,7574", "n".repeat(5000));
    let mut expected = String::from("server:3:");
    for number in (0..4800).step_by(3) {
        let bets: Vec<_> = (number..number + 3).map(winner).collect();
        client.send(message("1", &bets.iter().map(String::as_str).collect::<Vec<_>>()));
        assert_eq!(client.reply(), "server:0\r");
        bets.iter().for_each(|bet| expected.push_str(&format!("1,{bet}\n")));
    }
    expected.push_str("\r\n");
    client.send("1:5\r\n");
    assert_eq!(client.reply(), "server:0\r");
    server.told("action: sorteo | result: success");
    let mut asking = server.connect();
    let mut told = vec![0; 9];
    while told != b"server:3:" {
        asking.send("1:6\r\n");
        asking.stream.read_exact(&mut told).unwrap();
        if told == b"server:2\r" {
            asking.stream.read_exact(&mut [0]).unwrap();
        }
    }
    server.signal(Signal::SIGTERM);
    server.told(CLOSED_LISTENER);
    asking.stream.read_to_end(&mut told).unwrap();
    assert!(told == expected.as_bytes(), "{} of {} bytes came", told.len(), expected.len());
    assert_eq!(server.ended().code(), Some(0));
    ended_in_order(&server, 2);
}
