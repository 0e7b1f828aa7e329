//! The server recognises repeats bet by bet: however an agency cuts its bets into batches, each is stored as often as the
//! agency has it.

use std::fs;

use crate::support::{LineClient, LotteryServer, Signal, message};

/// The bets of an agency; the ones whose numbers `twin` names are there twice.
fn bets(count: usize, twin: &[usize]) -> Vec<String> {
    let bet = |number: usize| format!("Ana \"Tin\",Núñez,{number},1999-03-17,{}", 1000 + number);
    (0..count).chain(twin.iter().copied()).map(bet).collect()
}

/// Sends the bets in batches of `size`, and takes each reply before the next batch.
fn send(client: &mut LineClient, bets: &[String], size: usize) {
    for batch in bets.chunks(size) {
        client.send(message("1", &batch.iter().map(String::as_str).collect::<Vec<_>>()));
        assert_eq!(client.reply(), "server:0\r");
    }
}

/// What `bets.csv` holds, sorted, as the agency has it.
fn stored(server: &LotteryServer) -> Vec<String> {
    let line = |line: &str| line.strip_prefix("1,").unwrap().replace("\"Ana \"\"Tin\"\"\"", "Ana \"Tin\"");
    let mut lines: Vec<_> = server.bets().split_terminator("\r\n").map(line).collect();
    lines.sort();
    lines
}

/// Asserts that each bet is stored as often as it is in `bets`.
fn all_stored(server: &LotteryServer, bets: &[String], how: &str) {
    let mut bets = bets.to_vec();
    bets.sort();
    let stored = stored(server);
    assert!(stored == bets, "{} of {} bets are stored, {how}", stored.len(), bets.len());
}

#[test]
fn a_changed_batch_size_after_a_kill_stores_nothing_twice() {
    let folder = tempfile::tempdir().unwrap();
    let all = bets(400, &[]);
    let mut server = LotteryServer::start(folder.path(), 1);
    send(&mut server.connect(), &all[..300], 150);
    server.signal(Signal::SIGKILL);
    server.ended();
    for size in [50, 150, 7, 1] {
        server = LotteryServer::start(folder.path(), 1);
        send(&mut server.connect(), &all, size);
        all_stored(&server, &all, &format!("in batches of {size}"));
        server.signal(Signal::SIGKILL);
        server.ended();
    }
}

#[test]
fn a_bet_alone_is_found_again_in_the_whole_file() {
    let folder = tempfile::tempdir().unwrap();
    let all = bets(400, &[3, 399]);
    let server = LotteryServer::start(folder.path(), 1);
    send(&mut server.connect(), &all[200..201], 1);
    send(&mut server.connect(), &all, 150);
    all_stored(&server, &all, "after one of them alone");
    assert_eq!(server.bets().lines().filter(|line| line.contains(",3,1999")).count(), 2);
    let mut client = server.connect();
    client.send("1:5\r\n");
    assert_eq!(client.reply(), "server:0\r");
    server.told("action: sorteo | result: success");
    // Also after the draw, when nothing new is taken any more.
    send(&mut server.connect(), &all, 33);
    let mut late = server.connect();
    late.send(message("1", &[&all[0], "otra,apuesta,1,1999-03-17,1"]));
    assert_eq!(late.reply(), "server:1\r");
    all_stored(&server, &all, "after the draw");
    server.told("action: apuesta_recibida | result: fail | cantidad: 2 | error: the draw has been held");
}

#[test]
fn connections_of_one_agency_at_the_same_time_store_each_bet_once() {
    let folder = tempfile::tempdir().unwrap();
    let all = bets(600, &[5, 5, 77]);
    let server = LotteryServer::start(folder.path(), 1);
    std::thread::scope(|scope| {
        for size in [1, 10, 64, 150, 151] {
            let (server, all) = (&server, &all);
            scope.spawn(move || {
                let mut all = all.clone();
                all.rotate_left(size);
                send(&mut server.connect(), &all, size);
            });
        }
    });
    all_stored(&server, &all, "on five connections at the same time");
}

#[test]
fn a_lottery_of_an_earlier_version_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let all = bets(5, &[]);
    // Written by the version whose records had a digest of each batch.
    fs::write(folder.path().join("lottery.journal"), include_bytes!("earlier/lottery.journal")).unwrap();
    fs::write(folder.path().join("bets.csv"), include_bytes!("earlier/bets.csv")).unwrap();
    for _ in 0..2 {
        let mut server = LotteryServer::start(folder.path(), 1);
        send(&mut server.connect(), &all, 2);
        all_stored(&server, &all, "of which it had 3");
        server.stop();
    }
}
