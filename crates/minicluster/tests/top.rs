//! Watches a store of real programs with `store-client top`, and asks it whether it is ready.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod processes;

use std::io::{BufRead as _, BufReader};
use std::process::Output;

use processes::{StoreProcesses, StoreSettings};
use serde_json::{Value, json};

fn run(store: &StoreProcesses, arguments: &[&str]) -> Output {
    store.client("client", arguments).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn top_sees_messages_and_a_datanode_that_dies() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = StoreProcesses::start(folder.path(), StoreSettings::default());
    let mut top = store.client("client", &["top", "--json", "--interval", "100ms"]).spawn().unwrap();
    let lines = BufReader::new(top.stdout.take().unwrap()).lines();
    let mut pictures = lines.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    let first = pictures.next().unwrap();
    assert_eq!(
        (&first["stores_messages"], &first["status"]["available"]),
        (&json!(true), &json!(3)),
        "{first}"
    );
    let fair = first["fair_share"].as_f64().unwrap();
    assert!((fair - 1.0 / 3.0).abs() < 1e-9, "{first}");

    let mut client = store.connect();
    for number in 0..60 {
        client.ask(&json!({"put": {"message": format!("message {number}")}}));
    }
    let all = pictures.find(|picture| picture["status"]["messages"] == 60).unwrap();
    assert!(all["messages_per_second"].as_f64().unwrap() > 0.0, "{all}");
    let shares: Vec<_> =
        all["shares"].as_object().unwrap().values().map(|share| share.as_f64().unwrap()).collect();
    assert_eq!(shares.len(), 3, "{all}");
    assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{all}");
    assert!(shares.iter().all(|share| *share > 0.0), "60 messages went to each at random: {all}");

    store.datanodes[2].kill();
    let down = pictures.find(|picture| picture["status"]["operative"] == 2).unwrap();
    assert_eq!(down["status"]["datanodes"][2]["state"], "not-operative", "{down}");
    drop(pictures);
    assert!(top.wait().unwrap().success(), "nobody reads any more");

    let once = run(&store, &["top", "--once", "--interval", "100ms"]);
    let shown = stdout(&once);
    assert!(
        once.status.success() && shown.starts_with("2 de 3 operativos; se guardan mensajes\n60 mensajes, "),
        "{shown}"
    );
    let states: Vec<_> = shown.lines().skip(3).map(|line| line.split("  ").nth(1).unwrap()).collect();
    assert_eq!(states, ["● disponible", "● disponible", "○ no operativo"], "{shown}");
    assert!(!shown.contains('\u{1b}'), "{shown:?}");
}

#[test]
fn top_goes_on_when_the_headnode_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = StoreProcesses::start(folder.path(), StoreSettings::default());
    let mut top = store.client("client", &["top", "--interval", "100ms"]).spawn().unwrap();
    let mut lines = BufReader::new(top.stdout.take().unwrap()).lines().map(Result::unwrap);
    let verdict = "3 de 3 operativos; se guardan mensajes";
    assert_eq!(lines.next().unwrap(), verdict);
    store.headnode.kill();
    let lost = format!("sin conexión con {}; reintenta", store.headnode.address);
    assert!(lines.any(|line| line == lost));
    store.restart_headnode();
    assert!(lines.any(|line| line == verdict));
    drop(lines);
    assert!(top.wait().unwrap().success(), "nobody reads any more");
}

#[test]
fn ready_means_that_messages_can_be_stored() {
    let folder = tempfile::tempdir().unwrap();
    let settings =
        StoreSettings { datanodes: 2, headnode: vec!["--replicas", "2"], ..StoreSettings::default() };
    let mut store = StoreProcesses::start(folder.path(), settings);
    let ready = run(&store, &["status", "--ready"]);
    assert!(ready.status.success(), "{ready:?}");
    assert_eq!(stdout(&ready), "2 de 2 operativos; se guardan mensajes\n");

    store.datanodes[0].kill();
    store.wait_until_available(1);
    not_ready(&store, "messages cannot be stored now: available datanodes: 1, needed for each message: 2");
    store.restart_datanode(1);
    store.wait_until_available(2);
    assert!(run(&store, &["status", "--ready"]).status.success());
    store.headnode.kill();
    not_ready(&store, &format!("no answer from {}: ", store.headnode.address));
}

fn not_ready(store: &StoreProcesses, why: &str) {
    let output = run(store, &["status", "--ready"]);
    let told = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(
        (output.status.code(), told.lines().count(), output.stdout.len()),
        (Some(1), 1, 0),
        "{output:?}"
    );
    assert!(told.contains(why), "{told}");
}
