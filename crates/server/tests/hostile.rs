//! Clients that are slow, broken or hostile: each gets its own answer, and other clients notice nothing.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use support::{Greets as _, LineClient, Server, wait_for};

const MEGABYTE: u64 = 1_000_000;

fn start(arguments: &[&str]) -> (tempfile::TempDir, Server) {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), arguments);
    (folder, server)
}

#[test]
fn segments_of_one_byte_and_half_lines_are_whole_messages_in_the_end() {
    let (_folder, server) = start(&[]);
    let mut slow = server.connect();
    let mut other = server.connect();
    for byte in "¡Hola, señor!\nadi".as_bytes() {
        slow.send([*byte]);
    }
    slow.expect_received("¡Hola, señor!");
    other.say("mientras tanto");
    slow.send("ós\r\n");
    slow.expect_received("adiós");
    assert_eq!(server.log().in_order, ["¡Hola, señor!", "mientras tanto", "adiós"]);
}

#[test]
fn a_last_line_without_an_end_is_a_message_too() {
    let (_folder, server) = start(&[]);
    let mut client = server.connect();
    client.send("Hola");
    assert_eq!(client.finish(), "OK mensaje recibido correctamente: Hola\n");
    assert_eq!(server.connect().finish(), "", "but nothing is no message");
    assert_eq!(server.log().in_order, ["Hola"]);
}

#[test]
fn a_connection_that_is_reset_in_the_middle_of_a_line_leaves_nothing() {
    let (_folder, server) = start(&["--log-level", "debug"]);
    let mut client = server.connect();
    client.send("uno\nmedio mensaj");
    // The reply is not read, so closing the socket now resets the connection.
    wait_for("the reply", || client.stream.peek(&mut [0; 1]).unwrap() == 1);
    drop(client);
    server.logged("connection closed");
    server.connect().say("dos");
    assert_eq!(server.log().in_order, ["uno", "dos"]);
}

#[test]
fn each_kind_of_bad_line_has_its_error_and_the_connection_goes_on() {
    let (_folder, server) = start(&["--max-message-bytes", "10"]);
    let mut client = server.connect();
    client.send(b"ok\n12345678901\n\xff\xfe\n1234567890\n\n");
    client.expect_received("ok");
    assert_eq!(
        client.reply(),
        "ERROR message-too-long: the line is longer than 10 bytes; send it in shorter lines"
    );
    assert_eq!(
        client.reply(),
        "ERROR invalid-utf8: the line is not UTF-8: invalid at byte 0; send UTF-8 text"
    );
    client.expect_received("1234567890");
    client.expect_received("");
    let log = server.log();
    assert_eq!(log.in_order, ["ok", "1234567890", ""]);
    assert_eq!(
        log.refused,
        [
            r#"message-too-long "the line is longer than 10 bytes""#,
            r#"invalid-utf8 "the line is not UTF-8: invalid at byte 0" \xff\xfe"#
        ]
    );
}

#[test]
fn the_bytes_of_a_refused_message_are_kept_and_forge_nothing() {
    let (_folder, server) = start(&[]);
    let mut client = server.connect();
    client.send(b"2026-01-01T00:00:00.000Z 6.6.6.6:1 \"x\"\\n \x1b[31m\xf1\r\n");
    assert!(client.reply().starts_with("ERROR invalid-utf8: "));
    client.say("ERROR invalid-utf8 \"x\"");
    let log = server.log();
    let bytes = r#"2026-01-01T00:00:00.000Z\x206.6.6.6:1\x20\"x\"\\n\x20\x1b[31m\xf1"#;
    let refusal = format!("invalid-utf8 \"the line is not UTF-8: invalid at byte 46\" {bytes}");
    assert_eq!(log.refused, [refusal], "one record");
    assert_eq!(log.in_order, ["ERROR invalid-utf8 \"x\""], "a message stands between quotes");
}

#[test]
fn no_message_can_forge_a_record_or_reach_a_terminal() {
    let (folder, server) = start(&[]);
    let forged = "2026-01-01T00:00:00.000Z 6.6.6.6:1 \"x\"\\n\"\u{1b}[31m\u{9b}2J\u{7}\r\u{2028}\u{202e}";
    server.connect().say(forged);
    let bytes = std::fs::read(folder.path().join("log.txt")).unwrap();
    assert_eq!(server.log().in_order, [forged], "one record, and the message comes back byte for byte");
    let text = String::from_utf8(bytes).unwrap();
    let acting =
        text.trim_end_matches('\n').chars().find(|c| c.is_control() || ('\u{2028}'..='\u{202e}').contains(c));
    assert_eq!(acting, None, "{text:?}");
}

#[test]
fn a_gigabyte_without_a_line_end_is_refused_once_in_bounded_memory() {
    let (_folder, server) = start(&[]);
    let mut client = server.connect();
    let block = vec![b'x'; 1 << 20];
    for _ in 0..1024 {
        client.send(&block);
    }
    client.send("\nHola\n");
    assert!(client.reply().starts_with("ERROR message-too-long"));
    client.expect_received("Hola");
    let resident = server.resident_bytes();
    assert!(resident < 50 * MEGABYTE, "{resident} bytes resident");
    let log = server.log();
    assert_eq!(log.refused, ["message-too-long \"the line is longer than 65536 bytes\""]);
    assert_eq!(log.in_order, ["Hola"]);
}

#[test]
fn a_flood_of_empty_lines_stays_in_bounded_memory() {
    let (_folder, server) = start(&[]);
    let client = server.connect();
    let mut sender = client.stream.try_clone().unwrap();
    let sending = std::thread::spawn(move || {
        sender.write_all(&[b'\n'; 1 << 17]).unwrap();
        sender.shutdown(std::net::Shutdown::Write).unwrap();
    });
    let mut replies = Vec::new();
    client.stream.try_clone().unwrap().read_to_end(&mut replies).unwrap();
    sending.join().unwrap();
    assert_eq!(replies.iter().filter(|byte| **byte == b'\n').count(), 1 << 17);
    let resident = server.resident_bytes();
    assert!(resident < 50 * MEGABYTE, "{resident} bytes resident");
}

#[test]
fn slow_and_silent_connections_end_after_the_idle_timeout_and_active_ones_do_not() {
    let (_folder, server) = start(&["--idle-timeout", "400ms"]);
    let mut active = server.connect();
    let mut silent = server.connect();
    let mut dripping = server.connect();
    dripping.stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let started = Instant::now();
    // Single bytes complete no message, so they do not keep the connection open.
    let told = loop {
        active.say("aquí sigo");
        let _ = dripping.stream.write_all(b"x");
        let mut told = [0; 200];
        match dripping.stream.read(&mut told) {
            Ok(length) => break String::from_utf8_lossy(&told[..length]).into_owned(),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        assert!(started.elapsed() < support::PATIENCE, "the dripping connection stays open");
    };
    assert!(told.starts_with("ERROR idle-timeout: no whole message for 400ms"), "{told}");
    assert!(silent.reply().starts_with("ERROR idle-timeout"));
    assert_eq!(silent.reply(), "");
    assert!(started.elapsed() >= Duration::from_millis(400));
    active.say("y aún");
    let refused = server.log().refused;
    let [refusal] = refused.as_slice() else { panic!("the silent one sent no message: {refused:?}") };
    let dripped = refusal.strip_prefix("idle-timeout \"no whole message for 400ms\" ");
    assert!(dripped.is_some_and(|bytes| bytes.trim_matches('x').is_empty()), "{refusal}");
}

#[test]
fn an_endless_line_ends_after_the_idle_timeout_however_fast_it_comes() {
    let (_folder, server) = start(&["--idle-timeout", "300ms"]);
    let mut client = server.connect();
    let mut sender = client.stream.try_clone().unwrap();
    let block = vec![b'x'; 1 << 20];
    // The client sends until the server has closed the connection.
    let sending = std::thread::spawn(move || while sender.write_all(&block).is_ok() {});
    assert!(client.reply().starts_with("ERROR message-too-long"));
    assert!(client.reply().starts_with("ERROR idle-timeout"));
    sending.join().unwrap();
}

#[test]
fn a_client_that_takes_no_replies_is_given_up_and_slows_nobody() {
    let (_folder, server) = start(&["--idle-timeout", "300ms"]);
    let mut deaf = TcpStream::connect(server.address).unwrap();
    deaf.set_write_timeout(Some(support::PATIENCE)).unwrap();
    let lines = format!("{}\n", "x".repeat(60_000)).repeat(16);
    let mut other = server.connect();
    // The client sends until the server has closed the connection.
    let sending = std::thread::spawn(move || while deaf.write_all(lines.as_bytes()).is_ok() {});
    while !sending.is_finished() {
        other.say("hola");
    }
    sending.join().unwrap();
    let resident = server.resident_bytes();
    assert!(resident < 60 * MEGABYTE, "{resident} bytes resident");
}

#[test]
fn connections_over_the_limit_are_told_and_a_place_that_gets_free_is_given_away() {
    let (_folder, server) = start(&["--max-connections", "3"]);
    let mut served: Vec<_> = (0..3).map(|_| server.connect()).collect();
    served.iter_mut().for_each(|client| client.say("dentro"));
    let mut refused = server.connect();
    refused.send("Hola\n");
    assert_eq!(
        refused.reply(),
        "ERROR too-many-connections: the server serves its 3 connections already: try again later"
    );
    assert_eq!(refused.reply(), "");
    drop(served.pop());
    wait_for("a free place", || {
        let mut client = server.connect();
        client.send("Hola\n");
        client.reply().starts_with("OK ")
    });
    served[0].say("todavía");
}

#[test]
fn a_flood_of_connections_leaves_the_served_ones_alone() {
    let (_folder, server) = start(&["--max-connections", "20"]);
    let mut served = server.connect();
    served.say("antes");
    let flood: Vec<_> = (0..500).map(|_| TcpStream::connect(server.address)).collect();
    assert!(flood.iter().filter(|stream| stream.is_ok()).count() > 400, "there was no flood");
    served.say("durante");
    drop(flood);
    served.say("después");
    wait_for("a new connection to be served", || {
        let mut client = server.connect();
        // A refusal may reset the connection before the whole message is sent.
        let sent = client.stream.write_all(b"Hola\n").is_ok();
        sent && reply_or_nothing(&mut client).starts_with("OK ")
    });
    let resident = server.resident_bytes();
    assert!(resident < 50 * MEGABYTE, "{resident} bytes resident");
}

fn reply_or_nothing(client: &mut LineClient) -> String {
    let mut told = [0; 200];
    let length = client.stream.read(&mut told).unwrap_or(0);
    String::from_utf8_lossy(&told[..length]).into_owned()
}
