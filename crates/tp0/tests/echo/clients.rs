//! What the client says and does, also where the server is not as it should be.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::{EchoClient, EchoServer};

const FAST: &str = "loop:\n  amount: 2\n  period: \"10ms\"\nlog:\n  level: \"INFO\"\n";

/// A server that does this with each connection.
fn other_server(handle: impl Fn(TcpStream) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || listener.incoming().map_while(Result::ok).for_each(handle));
    address
}

#[test]
fn both_logs_are_the_expected_ones() {
    // The lines of accepting and of answering have no order, unless one thread does both.
    let config = "[DEFAULT]\nLOGGING_LEVEL = INFO\nSERVER_LISTEN_BACKLOG = 5\n";
    let mut server = EchoServer::configured(config, &[], &["--threads", "1"]);
    let address = server.address.to_string();
    let mut client = EchoClient::start(FAST, &[("CLI_ID", "1"), ("CLI_SERVER_ADDRESS", &address)]);
    assert_eq!(client.ended().code(), Some(0));
    let config = format!(
        "INFO     action: config | result: success | client_id: 1 | server_address: {address} | loop_amount: 2 | loop_period: 10ms | log_level: INFO"
    );
    let expected = [
        config.as_str(),
        "INFO     action: receive_message | result: success | client_id: 1 | msg: [CLIENT 1] Message N°1",
        "INFO     action: receive_message | result: success | client_id: 1 | msg: [CLIENT 1] Message N°2",
        "INFO     action: loop_finished | result: success | client_id: 1",
    ];
    assert_eq!(client.actions(), expected);
    assert_eq!(client.stderr(), "");
    let expected = [
        "INFO     action: config | result: success | port: 0 | listen_backlog: 5 | logging_level: INFO",
        "INFO     action: accept_connections | result: in_progress",
        "INFO     action: accept_connections | result: success | ip: 127.0.0.1",
        "INFO     action: accept_connections | result: in_progress",
        "INFO     action: receive_message | result: success | ip: 127.0.0.1 | msg: [CLIENT 1] Message N°1",
        "INFO     action: accept_connections | result: success | ip: 127.0.0.1",
        "INFO     action: accept_connections | result: in_progress",
        "INFO     action: receive_message | result: success | ip: 127.0.0.1 | msg: [CLIENT 1] Message N°2",
        "INFO     action: close_listener | result: success",
        "INFO     action: join_thread | result: success | thread: runtime",
        "INFO     action: shutdown | result: success",
    ];
    assert_eq!(server.stop(), expected);
}

#[test]
fn debug_lines_tell_each_closing() {
    let mut server = EchoServer::start(&[("LOGGING_LEVEL", "debug")], &[]);
    let address = server.address.to_string();
    let variables = [
        ("CLI_ID", "1"),
        ("CLI_SERVER_ADDRESS", &address),
        ("CLI_LOG_LEVEL", "DEBUG"),
        ("CLI_LOOP_AMOUNT", "1"),
    ];
    let mut client = EchoClient::start(FAST, &variables);
    assert_eq!(client.ended().code(), Some(0));
    let closed = "DEBUG    action: close_connection | result: success | client_id: 1";
    assert!(client.actions().iter().any(|line| line == closed), "{:?}", client.actions());
    let actions = server.stop();
    let closed = "DEBUG    action: close_connection | result: success | ip: 127.0.0.1";
    assert!(actions.iter().any(|line| line == closed), "{actions:?}");
}

#[test]
fn the_lapse_ends_the_loop() {
    let server = EchoServer::start(&[], &[]);
    let address = server.address.to_string();
    let config = "loop: {amount: 1000000, lapse: 100ms, period: 10ms}";
    let mut client = EchoClient::start(config, &[("CLI_ID", "1"), ("CLI_SERVER_ADDRESS", &address)]);
    assert_eq!(client.ended().code(), Some(0));
    let actions = client.actions();
    let expected = [
        "INFO     action: timeout_detected | result: success | client_id: 1",
        "INFO     action: loop_finished | result: success | client_id: 1",
    ];
    assert_eq!(actions[actions.len() - 2..], expected);
    assert!(actions.len() < 15, "{actions:?}");
}

#[test]
fn sigterm_while_it_waits_between_messages() {
    let server = EchoServer::start(&[], &[]);
    let address = server.address.to_string();
    let config = "loop: {amount: 5, period: 1h}";
    let mut client = EchoClient::start(config, &[("CLI_ID", "1"), ("CLI_SERVER_ADDRESS", &address)]);
    client.wait_for_action("receive_message | result: success");
    let asked = Instant::now();
    client.signal(Signal::SIGTERM);
    assert_eq!(client.ended().code(), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(1), "took {:?}", asked.elapsed());
    let expected = [
        "INFO     action: join_thread | result: success | thread: runtime | client_id: 1",
        "INFO     action: shutdown | result: success | client_id: 1",
    ];
    assert_eq!(client.actions()[2..], expected);
}

#[test]
fn sigterm_while_the_server_does_not_answer() {
    let address = other_server(|stream| {
        thread::sleep(testkit::PATIENCE);
        drop(stream);
    });
    let config = "loop: {amount: 5, period: 1h}";
    let mut client = EchoClient::start(config, &[("CLI_ID", "1"), ("CLI_SERVER_ADDRESS", &address)]);
    client.wait_for_action("action: config");
    thread::sleep(Duration::from_millis(100));
    let asked = Instant::now();
    client.signal(Signal::SIGTERM);
    assert_eq!(client.ended().code(), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(1), "took {:?}", asked.elapsed());
    let expected = [
        "INFO     action: close_connection | result: success | client_id: 1",
        "INFO     action: join_thread | result: success | thread: runtime | client_id: 1",
        "INFO     action: shutdown | result: success | client_id: 1",
    ];
    assert_eq!(client.actions()[1..], expected);
}

fn fails(address: &str, expected: &str) {
    let mut client = EchoClient::start(FAST, &[("CLI_ID", "1"), ("CLI_SERVER_ADDRESS", address)]);
    assert_eq!(client.ended().code(), Some(1));
    let actions = client.actions();
    assert_eq!(actions.len(), 2, "{actions:?}");
    assert!(actions[1].starts_with(expected), "{actions:?}");
}

#[test]
fn a_server_that_is_not_there() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    fails(&free, "ERROR    action: connect | result: fail | client_id: 1 | error: Connection refused");
    fails(
        "no.such.host.invalid:1",
        "ERROR    action: connect | result: fail | client_id: 1 | error: failed to lookup",
    );
}

#[test]
fn servers_that_are_wrong() {
    let failed = "ERROR    action: receive_message | result: fail | client_id: 1 | error: ";
    let answering = |answer: &'static [u8]| {
        other_server(move |mut stream| {
            let _ = stream.read(&mut [0; 100]);
            let _ = stream.write_all(answer);
        })
    };
    fails(&answering(b""), &format!("{failed}the server closed the connection without an answer"));
    fails(&answering(b"otra cosa\n"), &format!("{failed}the answer is another message: otra cosa"));
    fails(&answering(b"[CLIENT 1] Mess"), &format!("{failed}the stream ended in the middle of a line"));
    fails(&answering(b"\xff\n"), &format!("{failed}the line is not UTF-8"));
}

#[test]
fn an_echo_in_pieces_is_one_echo() {
    let address = other_server(|mut stream| {
        let mut bytes = [0; 100];
        let count = stream.read(&mut bytes).unwrap();
        for byte in &bytes[..count] {
            stream.write_all(&[*byte]).unwrap();
            thread::sleep(Duration::from_millis(1));
        }
    });
    let mut client = EchoClient::start(FAST, &[("CLI_ID", "1"), ("CLI_SERVER_ADDRESS", &address)]);
    assert_eq!(client.ended().code(), Some(0));
    assert!(client.actions()[1].ends_with("msg: [CLIENT 1] Message N°1"));
}
