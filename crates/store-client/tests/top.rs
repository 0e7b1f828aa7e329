//! Tests `store-client top` as a process, on a pseudo-terminal and without one, against a headnode that does what the test
//! says.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/pseudo_terminal.rs"]
mod pseudo_terminal;
mod support;

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use protocol::store::client_api::{ErrorCode, HeadnodeReply, NodeState, NodeStatus, StoreStatus};
use pseudo_terminal::PseudoTerminal;
use pty_process::blocking::Command;
use serde_json::Value;
use service::Shutdown;
use store_client::headnode::HeadnodeClient;
use store_client::session::SessionOptions;
use store_client::top::{self, TopConfig};
use support::{Do, ScriptedHeadnode, ends_with, text};
use testkit::wait_for;

/// The variable that makes a test do the part of the program that panics.
const PANICS: &str = "STORE_CLIENT_TEST_PANICS";

/// Returns the status of a store with two datanodes, one of them available, that stores a message for each question.
fn status(question: usize) -> StoreStatus {
    let node = |number, state, records| NodeStatus {
        name: format!("datanode{number}").parse().unwrap(),
        state,
        address: Some("172.20.0.3:5001".parse().unwrap()),
        lost: 0,
        records,
        free_bytes: 1 << 30,
        last_answer: Some("\u{1b}]0;hostile\u{7}2026".to_owned()),
        round_trip_us: 412,
        cause: None,
        draining: false,
    };
    let messages = 1000 + question as u64;
    StoreStatus {
        datanodes: vec![node(1, NodeState::Available, messages), node(2, NodeState::NotOperative, 7)],
        operative: 1,
        available: 1,
        expected: 2,
        replicas: 1,
        messages,
        round: 7,
        epoch: None,
    }
}

fn headnode() -> ScriptedHeadnode {
    ScriptedHeadnode::start(|asked| Do::Say(HeadnodeReply::Status(status(asked.number))))
}

/// Starts `top` on a terminal.
fn on_terminal(headnode: &ScriptedHeadnode, arguments: &[&str]) -> PseudoTerminal {
    let command = Command::new(env!("CARGO_BIN_EXE_store-client"))
        .args(["--headnode", &headnode.address.to_string(), "top", "--interval", "100ms"])
        .args(arguments)
        .env_remove("NO_COLOR");
    PseudoTerminal::start(command)
}

#[test]
fn each_way_to_end_gives_the_terminal_back() {
    let headnode = headnode();
    for keys in [&b"q"[..], b"\x1b", b"\x03"] {
        let mut terminal = on_terminal(&headnode, &[]);
        terminal.is_taken("1 de 2 operativos; se guardan mensajes");
        terminal.press(keys);
        assert!(terminal.given_back().success(), "{keys:?}");
    }
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut terminal = on_terminal(&headnode, &[]);
        terminal.is_taken("1 de 2 operativos; se guardan mensajes");
        kill(Pid::from_raw(terminal.child.id().try_into().unwrap()), signal).unwrap();
        assert!(terminal.given_back().success(), "{signal}");
    }
}

/// The test starts itself on a terminal, where it panics beside `top` once a file is there.
#[test]
fn a_panic_gives_the_terminal_back() {
    if let Ok(file) = std::env::var(PANICS) {
        panic_beside_top(Path::new(&file), &std::env::var("STORE_CLIENT_HEADNODE").unwrap());
    }
    let headnode = headnode();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("panic");
    let command = Command::new(std::env::current_exe().unwrap())
        .args(["a_panic_gives_the_terminal_back", "--exact", "--nocapture"])
        .env("RUST_BACKTRACE", "0")
        .env("STORE_CLIENT_HEADNODE", headnode.address.to_string())
        .env(PANICS, &file);
    let mut terminal = PseudoTerminal::start(command);
    terminal.is_taken("se guardan mensajes");
    std::fs::write(file, "").unwrap();
    assert!(!terminal.given_back().success());
    terminal.shows("this is the panic");
}

fn panic_beside_top(file: &Path, headnode: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let config = TopConfig {
        headnode: headnode.to_owned(),
        interval: Duration::from_millis(100),
        once: false,
        json: false,
    };
    let headnode = HeadnodeClient::new(headnode, SessionOptions::default());
    let panics = async {
        while !file.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("this is the panic");
    };
    runtime.block_on(async {
        let shutdown = Shutdown::new();
        tokio::select! {
            ended = top::run(config, headnode, &shutdown) => panic!("it ended by itself: {ended:?}"),
            () = panics => {}
        }
    });
}

#[test]
fn keys_work_while_the_headnode_is_away_and_it_goes_on_by_itself() {
    let is_away = Arc::new(AtomicBool::new(false));
    let asked_while_away = is_away.clone();
    let headnode = ScriptedHeadnode::start(move |asked| {
        if asked_while_away.load(SeqCst) {
            Do::Close
        } else {
            Do::Say(HeadnodeReply::Status(status(asked.number)))
        }
    });
    let mut terminal = on_terminal(&headnode, &[]);
    terminal.is_taken("se guardan mensajes");
    is_away.store(true, SeqCst);
    terminal.shows(&format!("○ sin conexión con {}; reintenta", headnode.address));
    terminal.shows("lo último que se supo, hace ");
    terminal.press(b"?");
    terminal.shows("al azar se acerca al reparto justo");
    terminal.press(b"?");
    terminal.shows("datanode2  ○ no operativo");
    let last_known = terminal.screen().contents();
    assert!(last_known.contains("sin conexión"), "{last_known}");
    is_away.store(false, SeqCst);
    terminal.shows("◐ 1 de 2 operativos; se guardan mensajes");
    terminal.press(b"q");
    assert!(terminal.given_back().success());
}

#[test]
fn keys_work_while_the_headnode_says_nothing() {
    let headnode = ScriptedHeadnode::start(|asked| match asked.number {
        0 => Do::Say(HeadnodeReply::Status(status(0))),
        _ => Do::Nothing,
    });
    let mut terminal = on_terminal(&headnode, &[]);
    terminal.is_taken("se guardan mensajes");
    terminal.shows("sin respuesta desde hace");
    terminal.press(b"?");
    terminal.shows("al azar se acerca al reparto justo");
    terminal.press(b"q");
    assert!(terminal.given_back().success());
}

#[test]
fn a_pause_holds_the_picture_while_the_store_goes_on() {
    let headnode = headnode();
    let mut terminal = on_terminal(&headnode, &[]);
    terminal.is_taken("se guardan mensajes");
    terminal.press(b"p");
    terminal.shows("en pausa: p para seguir");
    let further_answers = || {
        let asked = headnode.asked().len();
        wait_for("further answers", || headnode.asked().len() > asked + 3);
        terminal.screen().contents()
    };
    // By the first of them the picture has been drawn to its end.
    let held = further_answers();
    assert_eq!(further_answers(), held);
    terminal.press(b"p");
    terminal.shows_when("a newer picture", |shown| !shown.contains("en pausa") && shown != held);
    terminal.press(b"q");
    assert!(terminal.given_back().success());
}

#[test]
fn the_picture_follows_the_size_of_the_terminal() {
    let headnode = headnode();
    let mut terminal = on_terminal(&headnode, &[]);
    terminal.is_taken("datanode2  ○ no operativo  172.20.0.3:5001");
    terminal.resize(12, 40);
    terminal.shows_when("a narrow table", |shown| shown.contains("\ndatanode2 ○ no operativo 7 "));
    terminal.press(b"q");
    assert!(terminal.given_back().success());
}

#[test]
fn colours_are_shown_unless_nobody_wants_them() {
    let headnode = headnode();
    let coloured = on_terminal(&headnode, &[]);
    coloured.is_taken("se guardan mensajes");
    assert_ne!(coloured.screen().cell(0, 0).unwrap().fgcolor(), vt100::Color::Default);

    let command = Command::new(env!("CARGO_BIN_EXE_store-client"))
        .args(["--headnode", &headnode.address.to_string(), "top"])
        .env("NO_COLOR", "1");
    let plain = PseudoTerminal::start(command);
    plain.is_taken("datanode2");
    let screen = plain.screen();
    for (row, column) in (0..24).flat_map(|row| (0..80).map(move |column| (row, column))) {
        let cell = screen.cell(row, column).unwrap();
        assert_eq!((cell.fgcolor(), cell.bgcolor()), Default::default(), "{row} {column}");
    }
}

#[test]
fn hostile_text_does_nothing_to_the_terminal() {
    let headnode = ScriptedHeadnode::start(|asked| match asked.number {
        0 => Do::Say(HeadnodeReply::Status(status(0))),
        _ => Do::Say(HeadnodeReply::Error {
            id: None,
            code: ErrorCode::Malformed,
            reason: "\u{1b}]0;hostile\u{7}\u{9b}31m".to_owned(),
        }),
    });
    let mut terminal = on_terminal(&headnode, &[]);
    // Wide enough for the column of the last answers.
    terminal.resize(24, 200);
    terminal.is_taken("\\u001b]0;hostile\\u0007\\u009b31m (malformed)");
    terminal.shows("\\u001b]0;hostile\\u00072026");
    terminal.press(b"q");
    assert!(terminal.given_back().success());
    let bytes = terminal.bytes();
    for hostile in [&b"\x1b]"[..], b"\x07", "\u{9b}".as_bytes()] {
        assert!(!bytes.windows(hostile.len()).any(|part| part == hostile), "{hostile:?}");
    }
}

#[test]
fn without_a_terminal_there_are_plain_lines_after_each_answer() {
    let headnode = headnode();
    let folder = tempfile::tempdir().unwrap();
    let mut top = headnode.client(folder.path(), &["top", "--interval", "100ms"]);
    let mut lines = BufReader::new(top.stdout.take().unwrap()).lines().map(Result::unwrap);
    for picture in 0..3 {
        let picture_lines: Vec<_> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
        assert_eq!(picture_lines.len(), 5, "{picture_lines:?}");
        assert_eq!(picture_lines[0], "1 de 2 operativos; se guardan mensajes");
        assert!(picture_lines[1].starts_with(&format!("{} mensajes, ", 1000 + picture)), "{picture_lines:?}");
        assert!(
            picture_lines[3].starts_with("datanode1  ● disponible    172.20.0.3:5001  "),
            "{picture_lines:?}"
        );
        assert!(picture_lines.iter().all(|line| !line.contains(char::is_control)), "{picture_lines:?}");
    }
    // Whoever reads has read enough.
    drop(lines);
    assert!(top.wait().unwrap().success());
}

#[test]
fn json_is_an_object_a_line_also_while_the_headnode_is_away() {
    let headnode = ScriptedHeadnode::start(|asked| match asked.number {
        1 | 2 => Do::Close,
        number => Do::Say(HeadnodeReply::Status(status(number))),
    });
    let folder = tempfile::tempdir().unwrap();
    let mut top = headnode.client(folder.path(), &["top", "--json", "--interval", "100ms"]);
    let lines = BufReader::new(top.stdout.take().unwrap()).lines().map(Result::unwrap);
    let objects: Vec<Value> = lines.take(3).map(|line| serde_json::from_str(&line).unwrap()).collect();
    assert!(top.wait().unwrap().success());
    for answered in [&objects[0], &objects[2]] {
        assert_eq!(answered["stores_messages"], true, "{answered}");
        assert_eq!(answered["status"]["datanodes"][1]["state"], "not-operative", "{answered}");
    }
    assert_eq!(objects[0].get("messages_per_second"), None, "{}", objects[0]);
    assert!(objects[2]["messages_per_second"].as_f64().unwrap() > 0.0, "{}", objects[2]);
    assert_eq!(objects[2]["shares"], serde_json::json!({"datanode1": 1.0, "datanode2": 0.0}));
    assert_eq!(objects[2]["fair_share"], 1.0);
    let lost = &objects[1];
    assert_eq!((&lost["stores_messages"], lost.get("status")), (&Value::Bool(false), None), "{lost}");
    assert!(lost["trouble"].as_str().unwrap().contains("no answer from"), "{lost}");
}

#[test]
fn once_is_one_picture_with_the_rates_of_one_interval() {
    let headnode = headnode();
    let folder = tempfile::tempdir().unwrap();
    let output = headnode.run(folder.path(), &["top", "--once", "--interval", "100ms"]);
    ends_with(&output, 0, &[]);
    let shown = text(&output.stdout);
    assert!(shown.starts_with("1 de 2 operativos; se guardan mensajes\n1001 mensajes, "), "{shown}");
    assert!(shown.contains(" mensajes/s, ") && shown.lines().count() == 5, "{shown}");
    let output = headnode.run(folder.path(), &["top", "--once", "--json", "--interval", "100ms"]);
    let object: Value = serde_json::from_str(&text(&output.stdout)).unwrap();
    assert!(object["messages_per_second"].as_f64().unwrap() > 0.0, "{object}");

    let closed = ScriptedHeadnode::start(|_| Do::Close);
    let output = closed.run(folder.path(), &["top", "--once", "--wait", "150ms"]);
    ends_with(&output, 1, &["within 150ms"]);
    ends_with(&closed.run(folder.path(), &["top", "--interval", "99ms"]), 2, &["at least 100ms"]);
}
