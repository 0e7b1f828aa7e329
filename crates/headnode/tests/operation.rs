//! The real `headnode` without any datanode: its start and end, and clients that break the rules.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use service::net::LocalGroup;
use testkit::{LineClient, Process, Signal};

struct Headnode {
    process: Process,
    _group: LocalGroup,
}

fn command(folder: &Path, group: &LocalGroup, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_headnode"));
    command.env("HEADNODE_PAGE", "none");
    command.args(["--listen", "127.0.0.1:0", "--interface", "127.0.0.1", "--interval", "200ms"]);
    command.args(["--group", &group.address.to_string(), "--data-dir"]).arg(folder).args(arguments);
    command
}

fn start(folder: &Path, arguments: &[&str]) -> Headnode {
    let group = LocalGroup::reserve().unwrap();
    Headnode { process: Process::start(command(folder, &group, arguments)), _group: group }
}

impl Headnode {
    fn connect(&self) -> LineClient {
        LineClient::connect(self.process.address)
    }
}

fn code(reply: &str) -> String {
    let reply: Value = serde_json::from_str(reply).unwrap_or_else(|_| panic!("not JSON: {reply:?}"));
    reply["error"]["code"].as_str().unwrap_or_else(|| panic!("no error: {reply}")).to_owned()
}

#[test]
fn wrong_arguments_are_one_line_and_exit_code_2() {
    for (flag, value, told) in [
        ("--group", "10.0.0.1:5003", "multicast address"),
        ("--interval", "0s", "more than 0"),
        ("--replicas", "0", "1..=16"),
        ("--peers", "nowhere", "HOST:PORT"),
        ("--listen", "5000", "invalid socket address"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_headnode")).args([flag, value]).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.lines().count() == 1 && text.contains(flag) && text.contains(value), "{text}");
        assert!(text.contains(told), "{text}");
    }
}

#[test]
fn each_flag_is_read_from_the_environment() {
    let mut headnode = Command::new(env!("CARGO_BIN_EXE_headnode"));
    let output = headnode.env("HEADNODE_STORE_TIMEOUT", "soon").stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("'soon'") && text.contains("HEADNODE_STORE_TIMEOUT"), "{text}");
}

#[test]
fn one_data_folder_has_one_headnode() {
    let folder = tempfile::tempdir().unwrap();
    let _first = start(folder.path(), &[]);
    let group = LocalGroup::reserve().unwrap();
    let refused = Process::try_start(command(folder.path(), &group, &[])).unwrap_err();
    assert!(
        format!("{refused:?}").contains("registro_server.txt is in use by another process"),
        "{refused:?}"
    );
}

#[test]
fn sigterm_ends_it_well_and_names_what_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let mut headnode = start(folder.path(), &[]);
    let mut clients = [headnode.connect(), headnode.connect()];
    clients[0].ask(&json!({"status": {}}));
    clients[1].send("Hola\n");
    clients[1].reply();
    headnode.process.signal(Signal::SIGTERM);
    assert!(headnode.process.ended().success());
    let [json, plain] = clients.map(LineClient::finish);
    assert_eq!(code(&json), "shutting-down");
    assert!(plain.starts_with("no guardado (shutting-down): "), "{plain}");
    for closed in ["listener closed", "connections closed", "registro_server.txt closed"] {
        headnode.process.logged(closed);
    }
}

#[test]
fn every_wrong_line_has_its_reply_and_the_next_one_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let headnode = start(folder.path(), &[]);
    let mut client = headnode.connect();
    let too_long = format!("{{{}", "x".repeat(500_000));
    let wrong: [(&[u8], &str); 7] = [
        (b"{hola", "malformed"),
        (b" {\"put\":3}", "malformed"),
        (b"{\"delete\":{}}", "malformed"),
        (b"{\"v\":2,\"status\":{}}", "unsupported-version"),
        (b"{\"put\":{\"message\":\"\xff\"}}", "invalid-utf8"),
        (too_long.as_bytes(), "message-too-long"),
        (b"{\"get\":{\"id\":\"00000000010000000000000002\"}}", "unavailable"),
    ];
    for (line, expected) in wrong {
        client.send(line);
        client.send("\n");
        assert_eq!(code(&client.reply()), expected);
    }
    let deep = "{\"a\":".repeat(50_000);
    client.send(format!("{deep}\n"));
    assert_eq!(code(&client.reply()), "malformed");
    assert_eq!(client.ask(&json!({"status": {}}))["status"]["operative"], 0);
    client.send("{\"put\":");
    assert_eq!(code(client.finish().trim()), "malformed");
}

#[test]
fn a_line_of_plain_text_is_answered_with_one_in_spanish() {
    let folder = tempfile::tempdir().unwrap();
    let headnode = start(folder.path(), &[]);
    let mut client = headnode.connect();
    let none_available =
        "no guardado (no-available-datanode): ningún datanode está disponible: inténtelo de nuevo más tarde";
    let too_long = "no guardado (message-too-long): el mensaje tiene más de 65536 bytes: divídalo";
    let blank = "no guardado (malformed): la línea está en blanco: escriba un mensaje";
    let not_utf8 = "no guardado (invalid-utf8): el mensaje no es UTF-8: envíelo en esa codificación";
    let lines: [(&[u8], &str); 7] = [
        (b"Hola", none_available),
        (b"  [\"tampoco es un objeto\"]\r", none_available),
        (&[b'x'; 64 * 1024 + 1], too_long),
        (&[b'x'; 500_000], too_long),
        (b"", blank),
        (b"\t ", blank),
        (b"Latin-1: \xf1", not_utf8),
    ];
    for (line, expected) in lines {
        client.send(line);
        client.send("\n");
        assert_eq!(client.reply(), expected);
        assert_eq!(client.ask(&json!({"status": {}}))["status"]["operative"], 0, "JSON goes on beside it");
    }
    client.send("sin fin de línea");
    assert_eq!(client.finish(), format!("{none_available}\n"));
}

#[test]
fn a_line_without_its_end_is_told_how_to_end_it() {
    let folder = tempfile::tempdir().unwrap();
    let headnode = start(folder.path(), &["--idle-timeout", "300ms"]);
    let mut client = headnode.connect();
    client.send("Hola");
    assert_eq!(
        format!("{}\n{}", client.reply(), client.reply()),
        "no guardado (idle-timeout): no llegó a tiempo ninguna línea completa: termine cada mensaje con un fin de línea\n"
    );
}

#[test]
fn replies_keep_the_order_of_requests() {
    let folder = tempfile::tempdir().unwrap();
    let headnode = start(folder.path(), &[]);
    let mut client = headnode.connect();
    let requests =
        [r#"{"put":{"message":"a"}}"#, r#"{"status":{}}"#, r#"{"put":{"message":"b"}}"#, r#"{"list":{}}"#];
    client.send(requests.map(|request| format!("{request}\n")).concat());
    let replies = [(); 4].map(|()| client.reply());
    assert_eq!(code(&replies[0]), "no-available-datanode");
    assert!(replies[1].starts_with("{\"status\":"), "{}", replies[1]);
    assert_eq!(code(&replies[2]), "no-available-datanode");
    assert_eq!(replies[3], r#"{"messages":{"entries":[]}}"#);
}

#[test]
fn limits_are_told_and_hold_up_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let headnode = start(folder.path(), &["--max-connections", "1", "--idle-timeout", "300ms"]);
    let mut first = headnode.connect();
    first.ask(&json!({"status": {}}));
    assert_eq!(code(&headnode.connect().reply()), "too-many-connections");
    assert_eq!(code(&first.reply()), "idle-timeout");
    assert_eq!(first.reply(), "", "it is closed");
    testkit::wait_for("a free place", || {
        let mut next = headnode.connect();
        next.send("{\"status\":{}}\n");
        next.reply().starts_with("{\"status\":")
    });
}
