//! What clients may do to the server.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use socket2::SockRef;
use testkit::LineClient;

use crate::support::EchoServer;

const RECEIVED: &str = "INFO     action: receive_message | result: success | ip: 127.0.0.1 | msg: ";
const FAILED: &str = "ERROR    action: receive_message | result: fail | ip: 127.0.0.1 | error: ";

/// Sends `bytes` and reads until the server closes.
fn answer(server: &EchoServer, bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(testkit::PATIENCE)).unwrap();
    stream.write_all(bytes.as_ref()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer
}

#[test]
fn one_line_comes_back_as_it_came_and_the_connection_closes() {
    let mut server = EchoServer::start(&[], &[]);
    for line in ["Hola\n", "\n", "con espacios  \n", "ñandú → 日本\n", "de Windows\r\n", "a\tb\rc\n"] {
        assert_eq!(answer(&server, line), line.as_bytes(), "{line:?}");
    }
    assert_eq!(answer(&server, "uno\ndos\n"), b"uno\n", "one message for each connection");
    let received: Vec<_> =
        server.stop().into_iter().filter_map(|line| line.strip_prefix(RECEIVED).map(str::to_owned)).collect();
    assert_eq!(
        received,
        ["Hola", "", "con espacios", "ñandú → 日本", "de Windows", "a\\u0009b\\u000dc", "uno"]
    );
}

#[test]
fn every_segmentation_is_one_message() {
    let server = EchoServer::start(&[], &[]);
    let mut client = LineClient::connect(server.address);
    for byte in "¿Qué tal?\n".bytes() {
        client.send([byte]);
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(client.reply(), "¿Qué tal?");
    assert_eq!(client.reply(), "", "then it closes");
}

#[test]
fn many_connections_at_once_are_served_in_any_order() {
    const CLIENTS: usize = 1000;
    let mut server = EchoServer::start(&[], &[]);
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| LineClient::connect(server.address)).collect();
    // All are open before the first speaks, and the last to come speaks first.
    server.wait_for_actions(CLIENTS, "accept_connections | result: success");
    for (number, client) in clients.iter_mut().enumerate().rev() {
        client.send(format!("mensaje {number}\n"));
        assert_eq!(client.reply(), format!("mensaje {number}"));
    }
    drop(clients);
    let actions = server.stop();
    let mut received: Vec<_> = actions.iter().filter_map(|line| line.strip_prefix(RECEIVED)).collect();
    received.sort_unstable();
    let mut expected: Vec<_> = (0..CLIENTS).map(|number| format!("mensaje {number}")).collect();
    expected.sort_unstable();
    assert_eq!(received, expected);
}

#[test]
fn no_message_can_forge_a_line() {
    let mut server = EchoServer::start(&[], &[]);
    let forged = "a\r2024-08-21 22:11:15 INFO     action: forged | result: success\u{2028}\u{1b}[2J\n";
    assert_eq!(answer(&server, forged), forged.as_bytes());
    let actions = server.stop();
    let line = actions.iter().find(|line| line.contains("forged")).unwrap();
    let shown = "a\\u000d2024-08-21 22:11:15 INFO     action: forged | result: success";
    assert!(line.starts_with(&format!("{RECEIVED}{shown}")), "{line}");
    assert!(!line.contains(['\r', '\u{1b}']), "{line:?}");
}

#[test]
fn the_longest_line_is_64_kib() {
    let server = EchoServer::start(&[], &[]);
    let longest = format!("{}\n", "x".repeat(64 * 1024));
    assert_eq!(answer(&server, &longest), longest.as_bytes());
    let told = answer(&server, format!("x{longest}"));
    assert_eq!(told, b"ERROR message-too-long: the line is longer than 65536 bytes\n");
    // A line that never ends is refused as well, and the server keeps none of it.
    let told = answer(&server, "y".repeat(1024 * 1024));
    assert!(told.starts_with(b"ERROR message-too-long: "), "{}", String::from_utf8_lossy(&told));
    server.wait_for_actions(2, &format!("{FAILED}the line is longer than 65536 bytes"));
}

#[test]
fn what_is_not_utf8_is_told_so() {
    let server = EchoServer::start(&[], &[]);
    let told = answer(&server, b"ab\xff\n");
    assert_eq!(told, b"ERROR invalid-utf8: the line is not UTF-8: invalid at byte 2\n");
    server.wait_for_actions(1, &format!("{FAILED}the line is not UTF-8: invalid at byte 2"));
}

#[test]
fn clients_that_die_leave_an_error_and_nothing_else() {
    let mut server = EchoServer::start(&[], &[]);
    let mut half = LineClient::connect(server.address);
    half.send("medio mensaje");
    assert_eq!(half.finish(), "", "half a message has no echo");
    server.wait_for_actions(
        1,
        &format!("{FAILED}the stream ended in the middle of a line, after 13 bytes of it"),
    );
    assert_eq!(LineClient::connect(server.address).finish(), "");
    server.wait_for_actions(1, &format!("{FAILED}the client closed the connection without a message"));
    // Reset in the middle of a message.
    let reset = TcpStream::connect(server.address).unwrap();
    (&reset).write_all(b"medio").unwrap();
    SockRef::from(&reset).set_linger(Some(Duration::ZERO)).unwrap();
    drop(reset);
    server.wait_for_actions(1, &format!("{FAILED}Connection reset by peer"));
    assert_eq!(answer(&server, "sigue\n"), b"sigue\n");
    server.stop();
}

#[test]
fn a_connection_that_completes_no_message_is_closed() {
    let server = EchoServer::start(&[("CONNECTION_TIMEOUT", "150ms")], &[]);
    let told = answer(&server, "medio");
    assert_eq!(told, b"ERROR idle-timeout: no whole message for 150ms\n");
    server.wait_for_actions(1, &format!("{FAILED}no whole message for 150ms"));
}

#[test]
fn connections_are_kept_where_asked_for() {
    let mut server = EchoServer::start(&[], &["--keep-connections"]);
    let mut client = LineClient::connect(server.address);
    client.send("uno\ndos\n");
    assert_eq!((client.reply(), client.reply()), ("uno".to_owned(), "dos".to_owned()));
    client.send("tres\nmal \u{7f}\n");
    assert_eq!((client.reply(), client.reply()), ("tres".to_owned(), "mal \u{7f}".to_owned()));
    assert_eq!(client.finish(), "", "ending between messages is no error");
    let mut many = LineClient::connect(server.address);
    let lines: String = (0..10_000).map(|number| format!("línea {number}\n")).collect();
    let mut sender = many.stream.try_clone().unwrap();
    let sent = lines.clone();
    let sending = thread::spawn(move || {
        sender.write_all(sent.as_bytes()).unwrap();
        sender.shutdown(Shutdown::Write).unwrap();
    });
    let mut echoed = String::new();
    many.stream.read_to_string(&mut echoed).unwrap();
    sending.join().unwrap();
    assert!(echoed == lines, "{} of {} bytes came back", echoed.len(), lines.len());
    let actions = server.stop();
    assert_eq!(actions.iter().filter(|line| line.starts_with(RECEIVED)).count(), 10_004);
    assert!(!actions.iter().any(|line| line.contains("fail")), "nothing failed");
}

#[test]
fn sigterm_closes_everything_and_says_so() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        // Between threads, the lines have no order.
        let mut server = EchoServer::start(&[], &["--threads", "1"]);
        let _idle = LineClient::connect(server.address);
        let mut half = LineClient::connect(server.address);
        half.send("medio");
        server.wait_for_actions(2, "accept_connections | result: success");
        if signal == Signal::SIGTERM {
            server.stop();
        } else {
            server.signal(signal);
            assert_eq!(server.ended().code(), Some(0));
        }
        assert_eq!(half.reply(), "");
        let actions = server.actions();
        let closed = "INFO     action: close_connection | result: success | ip: 127.0.0.1";
        let expected = [
            "INFO     action: close_listener | result: success",
            closed,
            closed,
            "INFO     action: join_thread | result: success | thread: runtime",
            "INFO     action: shutdown | result: success",
        ];
        assert_eq!(actions[actions.len() - expected.len()..], expected);
        assert!(!actions.iter().any(|line| line.contains("fail")), "{actions:?}");
    }
}

#[test]
fn the_backlog_is_the_configured_one() {
    let server = EchoServer::start(&[("SERVER_LISTEN_BACKLOG", "2")], &[]);
    server.signal(Signal::SIGSTOP);
    let waiting: Vec<_> = (0..6)
        .filter_map(|_| TcpStream::connect_timeout(&server.address, Duration::from_millis(200)).ok())
        .collect();
    server.signal(Signal::SIGCONT);
    assert_eq!(waiting.len(), 3, "Linux lets one more wait than it was told");
}

#[test]
fn over_the_limit_connections_are_told_so_and_closed() {
    let server = EchoServer::start(&[], &["--max-connections", "1"]);
    let mut one = LineClient::connect(server.address);
    server.wait_for_actions(1, "accept_connections | result: success");
    let mut other = LineClient::connect(server.address);
    other.send("Hola\n");
    let told = "ERROR too-many-connections: the server serves its 1 connections already: try again later";
    assert_eq!(other.reply(), told);
    assert_eq!(other.reply(), "", "then it closes");
    one.send("Hola\n");
    assert_eq!(one.reply(), "Hola");
}

#[test]
fn the_longest_wait_holds_for_each_line_of_a_kept_connection() {
    // Long enough that a client which is held up by a busy machine is not taken for a silent one.
    let server = EchoServer::start(&[("CONNECTION_TIMEOUT", "700ms")], &["--keep-connections"]);
    let told = answer(&server, "uno\nmedio");
    assert_eq!(told, b"uno\nERROR idle-timeout: no whole message for 700ms\n");
    // This client can be sent no error.
    let not_reading = TcpStream::connect(server.address).unwrap();
    not_reading.set_write_timeout(Some(testkit::PATIENCE)).unwrap();
    let line = format!("{}\n", "x".repeat(60 * 1024));
    while (&not_reading).write_all(line.as_bytes()).is_ok() {}
    server.wait_for_actions(1, &format!("{FAILED}the peer takes no replies for 700ms"));
}

#[test]
fn a_port_in_use_is_a_failure() {
    let server = EchoServer::start(&[], &[]);
    let port = server.address.port().to_string();
    let folder = tempfile::tempdir().unwrap();
    let variables = [("SERVER_PORT", port.as_str()), ("SERVER_IP", "127.0.0.1")];
    let output = crate::support::command(env!("CARGO_BIN_EXE_echo-server"), folder.path(), &variables)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stdout = String::from_utf8(output.stdout).unwrap();
    let last = stdout.lines().last().unwrap();
    let expected =
        format!("CRITICAL action: listen | result: fail | error: cannot listen on 127.0.0.1:{port}: ");
    assert!(last[20..].starts_with(&expected), "{last}");
}
