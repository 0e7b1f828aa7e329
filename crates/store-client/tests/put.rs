//! Tests `store-client put` as a process, against a headnode that does what the test says.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use protocol::store::client_api::ErrorCode;
use protocol::store::types::MessageCrc;

use support::{Asked, Do, ScriptedHeadnode, client, ends_with, error, line, receipts, saved, text};

fn save_all() -> ScriptedHeadnode {
    ScriptedHeadnode::start(|asked: &Asked| asked.saved(&format!("datanode2:{}", asked.number + 1)))
}

#[test]
fn saves_each_message_and_keeps_a_receipt() {
    let headnode = save_all();
    let folder = tempfile::tempdir().unwrap();
    let output = headnode.run(folder.path(), &["put", "Hola", "¿Qué tal?"]);
    ends_with(&output, 0, &[]);
    let puts: Vec<_> = headnode.asked().iter().map(Asked::put).collect();
    assert_eq!(puts.iter().map(|put| put.1.as_str()).collect::<Vec<_>>(), ["Hola", "¿Qué tal?"]);
    let receipts = receipts(folder.path());
    for (i, ((id, message), receipt)) in puts.iter().zip(&receipts).enumerate() {
        assert_eq!(receipt.id, *id);
        assert_eq!(receipt.places, [format!("datanode2:{}", i + 1).parse().unwrap()]);
        assert_eq!(receipt.message_crc32c, MessageCrc::of(message));
        assert_eq!(receipt.text.as_ref(), Some(message));
        assert!(receipt.time.ends_with('Z') && receipt.time.len() == 24, "{}", receipt.time);
    }
    let expected = format!(
        "guardado en datanode2 (registro 1): {}\nguardado en datanode2 (registro 2): {}\n",
        puts[0].0, puts[1].0
    );
    assert_eq!(text(&output.stdout), expected);
}

#[test]
fn a_summary_tells_which_message_is_where_and_how_to_check_it() {
    let headnode = ScriptedHeadnode::start(|asked| match asked.put().1.as_str() {
        "segundo" => Do::Say(error(Some(asked.put().0), ErrorCode::IdConflict)),
        "tercero\u{1b}[31m" => asked.saved("datanode1:4,datanode3:128"),
        _ => asked.saved("datanode2:17"),
    });
    let folder = tempfile::tempdir().unwrap();
    let command = ["put", "Hola, almacén", "segundo", "tercero\u{1b}[31m", "--summary"];
    let output = headnode.run(folder.path(), &[&command[..], &["--check-command", "make check"]].concat());
    ends_with(&output, 1, &["1 of 3 messages were not saved"]);
    let printed = text(&output.stdout);
    let (lines, summary) = printed.split_once("\n\n").unwrap();
    assert!(
        lines.lines().count() == 2 && lines.starts_with("guardado en datanode2 (registro 17): "),
        "{lines}"
    );
    let expected = "\
mensaje            datanode              registro
Hola, almacén      datanode2             17
segundo            sin confirmar         -
tercero\\u001b[31m  datanode1, datanode3  4, 128
Guardados: 2 de 3
Para comprobarlo: make check
";
    assert_eq!(summary, expected);

    let output = headnode.run_with_input(folder.path(), &["put", "-", "--summary"], "uno\ndos\n");
    ends_with(&output, 0, &[]);
    assert!(text(&output.stdout).ends_with("\n\nGuardados: 2 de 2\n"), "{}", text(&output.stdout));
}

#[test]
fn any_message_travels_whole() {
    let headnode = ScriptedHeadnode::start(|asked| asked.saved("datanode2:17,datanode3:4"));
    let folder = tempfile::tempdir().unwrap();
    let longest = "\"".repeat(64 * 1024);
    // An argument of a program cannot hold a NUL; the session's tests send one.
    let messages = ["a\nb\r\n", "\"'\\{}", "", "\u{1b}[31m\u{202e}", "ñ🦀", "-", &longest];
    let output = headnode.run(folder.path(), &[&["put"], &messages[..]].concat());
    ends_with(&output, 0, &[]);
    assert_eq!(headnode.asked().iter().map(|asked| asked.put().1).collect::<Vec<_>>(), messages);
    assert_eq!(
        receipts(folder.path()).into_iter().filter_map(|receipt| receipt.text).collect::<Vec<_>>(),
        messages
    );
    let first = text(&output.stdout).lines().next().unwrap().to_owned();
    assert!(first.starts_with("guardado en datanode2 (registro 17), datanode3 (registro 4): "), "{first}");
}

#[test]
fn a_message_that_is_too_long_is_refused_here_and_the_others_are_saved() {
    let headnode = save_all();
    let folder = tempfile::tempdir().unwrap();
    let output = headnode.run(folder.path(), &["put", "corto", &"x".repeat(64 * 1024 + 1)]);
    ends_with(&output, 1, &["65537 bytes", "at most 65536", "split it", "1 of 2 messages were not saved"]);
    assert_eq!(headnode.asked().len(), 1);
    assert_eq!(receipts(folder.path()).len(), 1);
}

#[test]
fn reads_thousands_of_lines_and_tells_which_cannot_be_messages() {
    let headnode = save_all();
    let folder = tempfile::tempdir().unwrap();
    let lines: Vec<_> = (0..3000).map(|number| format!("línea {number}")).collect();
    // Without a line end after the last one.
    let output = headnode.run_with_input(folder.path(), &["put", "-"], &lines.join("\n"));
    ends_with(&output, 0, &[]);
    assert_eq!(headnode.asked().iter().map(|asked| asked.put().1).collect::<Vec<_>>(), lines);
    assert_eq!(receipts(folder.path()).len(), lines.len());
    assert_eq!(text(&output.stdout).lines().count(), lines.len());

    let input = format!("uno\n{}\ndos\n", "x".repeat(64 * 1024 + 1));
    let output = headnode.run_with_input(folder.path(), &["put", "-"], &input);
    ends_with(&output, 1, &["longer than 65536 bytes", "1 of 3 messages were not saved"]);
    assert_eq!(receipts(folder.path()).len(), lines.len() + 2);
}

#[test]
fn the_receipt_is_in_the_file_before_the_line_is_printed() {
    let headnode = save_all();
    let folder = tempfile::tempdir().unwrap();
    let mut client = headnode.client(folder.path(), &["put", "-"]);
    let mut stdin = client.stdin.take().unwrap();
    let mut stdout = BufReader::new(client.stdout.take().unwrap()).lines();
    for count in 1..=5 {
        writeln!(stdin, "línea {count}").unwrap();
        let printed = stdout.next().unwrap().unwrap();
        let receipts = receipts(folder.path());
        assert_eq!(receipts.len(), count);
        assert!(printed.ends_with(&receipts[count - 1].id.to_string()), "{printed}");
    }
    drop(stdin);
    assert!(client.wait().unwrap().success());
}

#[test]
fn without_a_receipt_nothing_is_called_saved() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("registro_cliente.txt");
    // A file without a name cannot be appended to any more.
    let headnode = ScriptedHeadnode::start(move |asked| {
        std::fs::remove_file(&file).unwrap();
        asked.saved("datanode1:1")
    });
    // Its input stays open: it must not wait for that.
    let mut client = headnode.client(folder.path(), &["put", "-"]);
    let mut stdin = client.stdin.take().unwrap();
    writeln!(stdin, "Hola").unwrap();
    let output = client.wait_with_output().unwrap();
    let id = headnode.asked()[0].put().0.to_string();
    ends_with(&output, 1, &["saved but have no receipt", &id, "removed or replaced"]);
    assert_eq!(text(&output.stdout), "");
}

#[test]
fn a_temporary_error_is_tried_again_with_the_same_id() {
    let headnode = ScriptedHeadnode::start(|asked| match asked.number {
        0 => Do::Say(error(Some(asked.put().0), ErrorCode::NoAvailableDatanode)),
        1 => Do::Say(error(Some(asked.put().0), ErrorCode::DiskFull)),
        _ => asked.saved("datanode1:1"),
    });
    let folder = tempfile::tempdir().unwrap();
    ends_with(&headnode.run(folder.path(), &["put", "Hola"]), 0, &[]);
    let asked = headnode.asked();
    assert_eq!(asked.len(), 3);
    assert!(asked.iter().all(|one| one.put() == asked[0].put() && one.connection == 0), "{asked:?}");
    assert_eq!(receipts(folder.path()).len(), 1);
}

#[test]
fn a_message_that_waits_holds_up_no_other() {
    // The first message is saved only once the last one is.
    let last_is_saved = AtomicBool::new(false);
    let headnode = ScriptedHeadnode::start(move |asked| {
        let (id, message) = asked.put();
        last_is_saved.fetch_or(message == "600", Ordering::SeqCst);
        if message == "1" && !last_is_saved.load(Ordering::SeqCst) {
            return Do::Say(error(Some(id), ErrorCode::NotEnoughDatanodes));
        }
        asked.saved("datanode1:1")
    });
    let folder = tempfile::tempdir().unwrap();
    let lines: String = (1..=600).map(|number| format!("{number}\n")).collect();
    ends_with(&headnode.run_with_input(folder.path(), &["put", "-"], &lines), 0, &[]);
    let receipts = receipts(folder.path());
    assert_eq!(receipts.len(), 600);
    assert_eq!(receipts[599].id, headnode.asked()[0].put().0, "the first message is the last one saved");
}

#[test]
fn after_a_broken_connection_all_that_is_unacknowledged_is_sent_again() {
    let headnode = ScriptedHeadnode::start(|asked| match (asked.connection, asked.number) {
        // A cut in the middle of the second reply, with all five requests read.
        (0, 0) => asked.saved("datanode1:1"),
        (0, 4) => Do::SayAndClose(b"{\"saved\":{\"id\"".to_vec()),
        (0, _) => Do::Nothing,
        _ => asked.saved("datanode1:2"),
    });
    let folder = tempfile::tempdir().unwrap();
    ends_with(&headnode.run(folder.path(), &["put", "a", "b", "c", "d", "e"]), 0, &[]);
    let puts = |connection| -> Vec<_> {
        headnode.asked().iter().filter(|asked| asked.connection == connection).map(Asked::put).collect()
    };
    assert_eq!(puts(0).len(), 5);
    assert_eq!(puts(1), puts(0)[1..], "the same ids in the same order");
    assert_eq!(receipts(folder.path()).len(), 5);
}

#[test]
fn no_reply_in_time_is_a_broken_connection_and_so_is_an_error_that_ends_it() {
    let headnode = ScriptedHeadnode::start(|asked| match asked.connection {
        0 => Do::Nothing,
        1 => Do::SayAndClose(line(&error(None, ErrorCode::TooManyConnections))),
        2 => Do::SayAndClose(line(&error(Some(asked.put().0), ErrorCode::ShuttingDown))),
        3 => Do::SayAndClose(b"HTTP/1.1 400 Bad Request\r\n".to_vec()),
        4 => Do::Close,
        _ => asked.saved("datanode1:1"),
    });
    let folder = tempfile::tempdir().unwrap();
    let output =
        headnode.run(folder.path(), &["put", "Hola", "--reply-timeout", "100ms", "--log-level", "debug"]);
    let troubles =
        ["no reply came in time", "too-many-connections", "shutting-down", "no headnode", "closed"];
    ends_with(&output, 0, &troubles);
    let asked = headnode.asked();
    assert_eq!(asked.len(), 6);
    assert!(asked.iter().all(|one| one.put() == asked[0].put()), "{asked:?}");
}

#[test]
fn waits_for_a_headnode_that_is_not_up_yet() {
    let folder = tempfile::tempdir().unwrap();
    // A port that is free for the moment.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut command = client(folder.path());
    command.args(["--log-level", "debug", "--headnode", &address.to_string(), "put", "Hola"]);
    let mut waiting = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut events = BufReader::new(waiting.stderr.take().unwrap()).lines();
    let refused = events.find(|line| line.as_ref().unwrap().contains("Connection refused"));
    assert!(refused.is_some(), "it was never refused");
    let _headnode =
        ScriptedHeadnode::on(TcpListener::bind(address).unwrap(), |asked| asked.saved("datanode1:1"));
    assert!(waiting.wait().unwrap().success());
    assert_eq!(receipts(folder.path()).len(), 1);
}

#[test]
fn another_checksum_or_no_place_is_no_receipt() {
    let headnode = ScriptedHeadnode::start(|asked| {
        let (id, message) = asked.put();
        match message.as_str() {
            "otra" => Do::Say(saved(id, "datanode1:1", MessageCrc::of("something else"))),
            "nada" => Do::Say(protocol::store::client_api::HeadnodeReply::Saved {
                id,
                places: vec![],
                message_crc32c: MessageCrc::of(&message),
            }),
            _ => asked.saved("datanode1:3"),
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let output = headnode.run(folder.path(), &["put", "otra", "nada", "bien"]);
    ends_with(&output, 1, &["what was stored is not what was sent", "names no place", "2 of 3 messages"]);
    let receipts = receipts(folder.path());
    assert_eq!(receipts.len(), 1);
    assert_eq!(receipts[0].message_crc32c, MessageCrc::of("bien"));
    assert_eq!(text(&output.stdout).lines().count(), 1);
}

#[test]
fn after_the_wait_it_fails_with_the_cause_and_records_nothing() {
    let headnode =
        ScriptedHeadnode::start(|asked| Do::Say(error(Some(asked.put().0), ErrorCode::NoAvailableDatanode)));
    let folder = tempfile::tempdir().unwrap();
    let output = headnode.run(folder.path(), &["put", "Hola", "--wait", "300ms"]);
    let parts = ["not acknowledged within 300ms", "the reason why (no-available-datanode)", "raise --wait"];
    ends_with(&output, 1, &parts);
    assert!(headnode.asked().len() > 1, "it was tried again");
    assert_eq!(receipts(folder.path()), []);
    assert_eq!(text(&output.stdout), "");

    let refused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let mut command = client(folder.path());
    let output = command.args(["--headnode", &refused, "--wait", "100ms", "put", "a", "b"]).output().unwrap();
    ends_with(&output, 1, &["cannot connect", "refused", "2 of 2 messages were not saved"]);
}

#[test]
fn a_refusal_for_good_is_told_at_once() {
    let headnode = ScriptedHeadnode::start(|asked| match asked.put().1.as_str() {
        "a" => Do::Say(error(Some(asked.put().0), ErrorCode::IdConflict)),
        // A line that could not be read has no id.
        "b" => Do::Say(error(None, ErrorCode::Malformed)),
        _ => asked.saved("datanode1:1"),
    });
    let folder = tempfile::tempdir().unwrap();
    let output = headnode.run(folder.path(), &["put", "a", "b", "c"]);
    ends_with(&output, 1, &["the reason why (id-conflict)", "(malformed)", "2 of 3 messages were not saved"]);
    assert_eq!(headnode.asked().len(), 3);
}

#[test]
fn sigterm_ends_the_input_and_finishes_what_was_sent() {
    let folder = tempfile::tempdir().unwrap();
    let client_pid = std::sync::Arc::new(Mutex::new(None));
    let pid = client_pid.clone();
    // The signal comes between request and reply. Its effect is seen by a second try being made all the same.
    let headnode = ScriptedHeadnode::start(move |asked| {
        if asked.number == 0 {
            let pid: u32 = loop {
                if let Some(pid) = *pid.lock().unwrap() {
                    break pid;
                }
            };
            assert!(Command::new("kill").arg(pid.to_string()).status().unwrap().success());
            return Do::Say(error(Some(asked.put().0), ErrorCode::NoAvailableDatanode));
        }
        asked.saved("datanode1:1")
    });
    let mut client = headnode.client(folder.path(), &["put", "-"]);
    *client_pid.lock().unwrap() = Some(client.id());
    // Its input stays open.
    let mut stdin = client.stdin.take().unwrap();
    writeln!(stdin, "Hola").unwrap();
    let output = client.wait_with_output().unwrap();
    ends_with(&output, 0, &["shutting down", "stopped reading messages"]);
    assert_eq!(receipts(folder.path()).len(), 1);
}

#[test]
fn at_the_shutdown_deadline_it_says_what_was_left() {
    let folder = tempfile::tempdir().unwrap();
    let headnode = ScriptedHeadnode::start(|_| Do::Nothing);
    let mut client = headnode.client(folder.path(), &["put", "a", "b", "--shutdown-deadline", "100ms"]);
    while headnode.asked().len() < 2 {
        assert_eq!(client.try_wait().unwrap(), None);
        std::thread::yield_now();
    }
    assert!(Command::new("kill").arg(client.id().to_string()).status().unwrap().success());
    let output = client.wait_with_output().unwrap();
    ends_with(&output, 1, &["2 messages sent and not acknowledged", "shutdown deadline"]);
    assert_eq!(receipts(folder.path()), []);
}

#[test]
fn the_file_of_receipts_has_one_owner() {
    let headnode = save_all();
    let folder = tempfile::tempdir().unwrap();
    let _owner = journal::JournalFile::open(&folder.path().join("registro_cliente.txt")).unwrap();
    let output = headnode.run(folder.path(), &["put", "Hola"]);
    ends_with(&output, 1, &["registro_cliente.txt is in use by another process"]);
    assert!(headnode.asked().is_empty(), "nothing is sent whose receipt could not be recorded");
}

#[test]
fn every_flag_can_be_set_in_the_environment_and_a_flag_wins() {
    let headnode = save_all();
    let folder = tempfile::tempdir().unwrap();
    let run = |variables: &[(&str, &str)], arguments: &[&str]| {
        let variables: HashMap<_, _> = variables.iter().copied().collect();
        Command::new(env!("CARGO_BIN_EXE_store-client")).envs(variables).args(arguments).output().unwrap()
    };
    let (address, there) = (headnode.address.to_string(), folder.path().to_str().unwrap());
    let good = [("STORE_CLIENT_HEADNODE", address.as_str()), ("STORE_CLIENT_DATA_DIR", there)];
    ends_with(&run(&good, &["put", "Hola"]), 0, &[]);
    let wrong = [("STORE_CLIENT_HEADNODE", "127.0.0.1:1"), ("STORE_CLIENT_DATA_DIR", "/proc/none")];
    let flags = ["--headnode", &address, "--data-dir", there];
    ends_with(&run(&wrong, &[&flags, &["put", "Hola"][..]].concat()), 0, &[]);
    ends_with(&run(&wrong, &[&["put", "Hola"], &flags[..]].concat()), 0, &[]);
    assert_eq!(receipts(folder.path()).len(), 3);

    let wait = [good[0], good[1], ("STORE_CLIENT_WAIT", "soon")];
    ends_with(&run(&wait, &["put", "Hola"]), 2, &["--wait", "'soon'", "(from STORE_CLIENT_WAIT)"]);
    let deadline = [good[0], good[1], ("STORE_CLIENT_SHUTDOWN_DEADLINE", "0s")];
    ends_with(&run(&deadline, &["put", "Hola"]), 2, &["(from STORE_CLIENT_SHUTDOWN_DEADLINE)"]);
    let last = [good[0], good[1], ("STORE_CLIENT_LAST", "many")];
    ends_with(&run(&last, &["list"]), 2, &["--last", "(from STORE_CLIENT_LAST)"]);
}

#[test]
fn wrong_arguments_are_exit_code_2() {
    let run = |arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_store-client")).args(arguments).output().unwrap()
    };
    ends_with(&run(&[]), 2, &["try --help"]);
    ends_with(&run(&["put"]), 2, &["MESSAGE"]);
    ends_with(&run(&["--headnode", "host", "put", "a"]), 2, &["HOST:PORT"]);
    ends_with(&run(&["get", "x"]), 2, &["'x'", "ULID"]);
    for help in [&["--help"][..], &["put", "--help"], &["verify", "--help"]] {
        let output = run(help);
        ends_with(&output, 0, &[]);
        assert!(text(&output.stdout).contains("Example"), "{}", text(&output.stdout));
    }
}
