//! Whatever a crash of the machine leaves of `log.txt`, every acknowledged message is in it once.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::process::Command;

use support::{Greets as _, LineClient, PROGRAM, Server};
use testkit::crash::states::crash_states;
use testkit::crash::trace::{Step, Traced};

/// Whether the same run would lose something acknowledged if the server had synced nothing.
fn would_lose_without_syncs(steps: &[Step], sent: &[String]) -> bool {
    let steps: Vec<_> = steps.iter().filter(|step| !matches!(step, Step::Sync { .. })).cloned().collect();
    crash_states(&steps).iter().any(|state| {
        let told = state.told(&steps);
        let log = state.files.values().map(|bytes| String::from_utf8_lossy(bytes)).collect::<String>();
        sent.iter().any(|message| told.contains(message) && !log.contains(message))
    })
}

#[test]
fn whatever_a_crash_leaves_every_acknowledged_message_is_logged_once() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let mut command = Command::new(PROGRAM);
    command.env("SERVER_QUIET", "0").args(["--listen", "127.0.0.1:0", "--data-dir"]).arg(&data);
    let Some(traced) = Traced::start(&command, &data, &folder.path().join("strace")) else { return };
    let mut sent = Vec::new();
    for round in 0..6 {
        let mut client = LineClient::connect(traced.address());
        // More than a sector, and several at once.
        for message in [format!("hola {round}"), format!("{round} {}", "ñ".repeat(400))] {
            client.send(format!("{message}\n"));
            sent.push(message);
        }
        client.expect_received(&sent[sent.len() - 2]);
        client.expect_received(&sent[sent.len() - 1]);
    }
    let steps = traced.finish();
    let states = crash_states(&steps);
    let (mut torn, mut fewest) = (0, usize::MAX);
    for (number, state) in states.iter().enumerate() {
        let left = folder.path().join(format!("state{number}"));
        state.write(&data, &left);
        let told = state.told(&steps);
        let acknowledged: Vec<_> = told
            .lines()
            .filter_map(|line| line.strip_prefix("OK mensaje recibido correctamente: "))
            .collect();
        let mut server = Server::start(&left, &[]);
        server.connect().say("después");
        server.kill();
        let log = server.log();
        acknowledged.iter().for_each(|message| log.holds_once(message));
        let invented = log.in_order.iter().find(|logged| *logged != "después" && !sent.contains(logged));
        assert!(invented.is_none(), "state {number}: nobody sent {invented:?}");
        torn +=
            usize::from(state.files.values().any(|bytes| bytes.last().is_some_and(|last| *last != b'\n')));
        fewest = fewest.min(acknowledged.len());
        std::fs::remove_dir_all(&left).unwrap();
    }
    println!("{} states", states.len());
    assert!(would_lose_without_syncs(&steps, &sent), "the states show no loss, whatever the server does");
    // The crashes came at all moments, and in the middle of lines, too.
    assert!(states.len() >= 30 && fewest == 0 && torn >= 10, "{} states, {fewest}, {torn}", states.len());
}
