//! Tests the load generator against a real server in this process: what it counts is what the server has.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::process::{Command, Output};
use std::sync::mpsc;
use std::thread;

use clap::Parser as _;
use journal::JournalFile;
use service::{Shutdown, net};

/// Runs `bench load` with these arguments. Returns its output and the number of messages in `log.txt`.
fn load(arguments: &[&str]) -> (Output, usize) {
    let folder = tempfile::tempdir().unwrap();
    let (shutdown, log) = (Shutdown::new(), folder.path().join("log.txt"));
    let (listening, listens) = mpsc::channel();
    let (ends, path) = (shutdown.clone(), log.clone());
    let serving = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = net::listen("127.0.0.1:0".parse().unwrap()).unwrap();
            listening.send(listener.local_addr().unwrap()).unwrap();
            let limits = server::ServerArguments::parse_from(["server", "--max-message-bytes", "150"]).limits;
            server::serve(listener, JournalFile::open(&path).unwrap().0, limits, ends).await.unwrap();
        });
    });
    let address = listens.recv().unwrap().to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_bench"))
        .args(["load", "--json", "--address", &address])
        .args(arguments)
        .output()
        .unwrap();
    shutdown.request();
    serving.join().unwrap();
    let log = std::fs::read_to_string(log).unwrap();
    // A refused message leaves a line too.
    (output, log.lines().filter(|line| !line.contains(" ERROR ")).count())
}

fn report(output: &Output) -> serde_json::Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_closed_loop_sends_just_the_messages_it_is_asked_for() {
    // Neither the connections nor the pipeline divide the messages.
    let (output, records) = load(&["--connections", "7", "--pipeline", "3", "--messages", "1000"]);
    let report = report(&output);
    assert_eq!(records, 1000);
    assert!(
        report["per_second"].as_f64().unwrap() > 0.0 && report["p50_us"].as_f64().unwrap() > 0.0,
        "{report}"
    );
}

#[test]
fn an_open_loop_keeps_its_rate() {
    let (output, records) = load(&["--connections", "5", "--rate", "1000", "--messages", "300"]);
    let report = report(&output);
    assert_eq!(records, 300);
    // The last message is due after 0.299 s, whatever the machine.
    assert!(report["seconds"].as_f64().unwrap() >= 0.299, "{report}");
}

#[test]
fn a_refused_message_is_no_success() {
    let (output, records) = load(&["--size", "151", "--messages", "10"]);
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("refused: ERROR message-too-long"), "{told}");
    assert_eq!(records, 0);
}
