//! Tests the real `client` against a real server in this process, or against one that misbehaves.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;

use clap::Parser as _;
use journal::JournalFile;
use service::{Shutdown, net};

/// A server in a thread; it ends with the test.
struct ServerThread {
    address: SocketAddr,
    shutdown: Shutdown,
    folder: tempfile::TempDir,
}

impl ServerThread {
    fn start(address: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let shutdown = Shutdown::new();
        let (listening, listens) = mpsc::channel();
        let (ends, log, address) =
            (shutdown.clone(), folder.path().join("log.txt"), address.parse().unwrap());
        let limits =
            server::ServerArguments::parse_from(["server", "--max-message-bytes", "1000", "--quiet", "0"])
                .limits;
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = net::listen(address).unwrap();
                listening.send(listener.local_addr().unwrap()).unwrap();
                server::serve(listener, JournalFile::open(&log).unwrap().0, limits, ends).await.unwrap();
            });
        });
        Self { address: listens.recv().unwrap(), shutdown, folder }
    }

    fn messages(&self) -> Vec<String> {
        records(&self.folder.path().join("log.txt"))
    }
}

impl Drop for ServerThread {
    fn drop(&mut self) {
        self.shutdown.request();
    }
}

/// Returns the last field of each record of a file.
fn records(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| journal::record::fields(line).unwrap().pop().unwrap()).collect()
}

fn client(server: SocketAddr, folder: &Path, arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_client"))
        .args(["--server", &server.to_string(), "--data-dir"])
        .arg(folder)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn run(server: SocketAddr, folder: &Path, arguments: &[&str], input: &str) -> Output {
    let mut client = client(server, folder, arguments);
    let mut stdin = client.stdin.take().unwrap();
    let input = input.to_owned();
    // A client that fails early does not read all of it.
    let writing = thread::spawn(move || stdin.write_all(input.as_bytes()).is_ok());
    let output = client.wait_with_output().unwrap();
    writing.join().unwrap();
    output
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn ends_with(output: &Output, code: i32, parts: &[&str]) {
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{told}");
    for part in parts {
        assert!(told.contains(part), "{part:?} is not in: {told}");
    }
}

#[test]
fn greets_prints_the_reply_and_records_it() {
    let server = ServerThread::start("127.0.0.1:0");
    let folder = tempfile::tempdir().unwrap();
    for round in 1..=2 {
        let output = run(server.address, folder.path(), &[], "");
        ends_with(&output, 0, &[]);
        let reply = "OK mensaje recibido correctamente: Hola, servidor";
        assert_eq!(text(&output.stdout), format!("{reply}\n"));
        assert_eq!(
            records(&folder.path().join("respuestas.txt")),
            vec![reply; round],
            "a second run appends"
        );
    }
    let line = std::fs::read_to_string(folder.path().join("respuestas.txt")).unwrap();
    assert_eq!(journal::record::fields(line.lines().next().unwrap()).unwrap()[1], server.address.to_string());
    assert_eq!(server.messages(), ["Hola, servidor"; 2]);
}

#[test]
fn sends_each_argument_as_a_message_and_shows_no_terminal_escape() {
    let server = ServerThread::start("127.0.0.1:0");
    let folder = tempfile::tempdir().unwrap();
    let output = run(server.address, folder.path(), &["uno", "\u{1b}[31mdos", ""], "");
    ends_with(&output, 0, &[]);
    assert_eq!(
        text(&output.stdout),
        "OK mensaje recibido correctamente: uno\nOK mensaje recibido correctamente: \\u001b[31mdos\n\
         OK mensaje recibido correctamente: \n"
    );
    assert_eq!(server.messages(), ["uno", "\u{1b}[31mdos", ""]);
}

#[test]
fn reads_thousands_of_lines_from_standard_input() {
    let server = ServerThread::start("127.0.0.1:0");
    let folder = tempfile::tempdir().unwrap();
    let lines: Vec<_> = (0..5000).map(|number| format!("línea {number}")).collect();
    // Without a line end after the last one.
    let output = run(server.address, folder.path(), &["-"], &lines.join("\n"));
    ends_with(&output, 0, &[]);
    assert_eq!(server.messages(), lines);
    assert_eq!(records(&folder.path().join("respuestas.txt")).len(), lines.len());
}

#[test]
fn answers_each_line_as_it_is_typed() {
    let server = ServerThread::start("127.0.0.1:0");
    let folder = tempfile::tempdir().unwrap();
    let mut client = client(server.address, folder.path(), &["-"]);
    let mut stdin = client.stdin.take().unwrap();
    let mut stdout = BufReader::new(client.stdout.take().unwrap()).lines();
    for line in ["primera", "segunda"] {
        writeln!(stdin, "{line}").unwrap();
        assert_eq!(stdout.next().unwrap().unwrap(), format!("OK mensaje recibido correctamente: {line}"));
    }
    drop(stdin);
    assert!(client.wait().unwrap().success());
}

#[test]
fn waits_for_a_server_that_is_not_up_yet() {
    let folder = tempfile::tempdir().unwrap();
    // A port that is free for the moment.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut waiting = client(address, folder.path(), &["--log-level", "debug"]);
    let mut events = BufReader::new(waiting.stderr.take().unwrap()).lines();
    let refused = events.find(|line| line.as_ref().unwrap().contains("no connection yet"));
    assert!(refused.is_some(), "it was never refused");
    let server = ServerThread::start(&address.to_string());
    assert!(waiting.wait().unwrap().success());
    assert_eq!(server.messages(), ["Hola, servidor"]);
}

#[test]
fn a_server_that_never_comes_is_named_with_the_cause() {
    let folder = tempfile::tempdir().unwrap();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = run(address, folder.path(), &["--wait", "150ms"], "");
    ends_with(&output, 1, &[&format!("cannot connect to {address} within 150ms"), "refused"]);
}

#[test]
fn a_refused_message_is_exit_code_1() {
    let server = ServerThread::start("127.0.0.1:0");
    let folder = tempfile::tempdir().unwrap();
    let output = run(server.address, folder.path(), &["corto", &"x".repeat(1001)], "");
    ends_with(&output, 1, &["1 messages were acknowledged, 1 were refused"]);
    let replies = records(&folder.path().join("respuestas.txt"));
    assert!(replies[1].starts_with("ERROR message-too-long: "), "{replies:?}");
}

#[test]
fn a_line_that_is_no_message_is_told_and_the_others_are_sent() {
    let server = ServerThread::start("127.0.0.1:0");
    let folder = tempfile::tempdir().unwrap();
    let mut client = client(server.address, folder.path(), &["-"]);
    client.stdin.take().unwrap().write_all(b"uno\n\xff\ndos\n").unwrap();
    let output = client.wait_with_output().unwrap();
    ends_with(&output, 1, &["not UTF-8", "2 messages were acknowledged, 1 were refused"]);
    assert_eq!(server.messages(), ["uno", "dos"]);
}

#[test]
fn a_connection_that_breaks_is_told_with_what_was_acknowledged() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let broken = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        // All of the input, so that closing resets nothing.
        stream.read_exact(&mut [0; 13]).unwrap();
        stream.write_all(b"OK mensaje recibido correctamente: uno\nOK mensa").unwrap();
    });
    let output = run(address, folder.path(), &["uno", "dos", "tres"], "");
    broken.join().unwrap();
    ends_with(&output, 1, &["1 of 3 messages sent were acknowledged", "ended in the middle of a line"]);
    assert_eq!(records(&folder.path().join("respuestas.txt")), ["OK mensaje recibido correctamente: uno"]);
}

#[test]
fn a_server_that_never_answers_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let output = run(listener.local_addr().unwrap(), folder.path(), &["--reply-timeout", "100ms"], "");
    ends_with(&output, 1, &["0 of 1 messages sent were acknowledged", "no reply for 100ms"]);
}

#[test]
fn something_else_than_the_server_is_recognized() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n").unwrap();
        let _ = stream.read(&mut [0; 100]);
    });
    let output = run(address, folder.path(), &[], "");
    ends_with(&output, 1, &["not a reply of this protocol"]);
    assert_eq!(records(&folder.path().join("respuestas.txt")), ["HTTP/1.1 400 Bad Request"]);
}

/// Answers as most servers of this assignment do: in its own words and without a line end.
#[test]
fn the_reply_of_a_server_by_others_is_printed_and_recorded() {
    for closes in [false, true] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let answering = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut message = [0; 100];
            let length = stream.read(&mut message).unwrap();
            stream.write_all("Petición recibida".as_bytes()).unwrap();
            if !closes {
                // Until the client has ended.
                let _ = stream.read_to_end(&mut Vec::new());
            }
            message[..length].to_vec()
        });
        let output = run(address, folder.path(), &[], "");
        assert_eq!(answering.join().unwrap(), b"Hola, servidor\n");
        assert_eq!(text(&output.stdout), "Petición recibida\n");
        assert_eq!(records(&folder.path().join("respuestas.txt")), ["Petición recibida"]);
        ends_with(&output, 1, &["0 of 1 messages sent were acknowledged", "not a reply of this protocol"]);
    }
}

#[test]
fn wrong_arguments_are_exit_code_2() {
    let folder = tempfile::tempdir().unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    ends_with(&run(address, folder.path(), &["a\nb"], ""), 2, &["a message is one line"]);
    ends_with(&run(address, folder.path(), &["--wait", "0s"], ""), 2, &["--wait", "must be more than 0"]);
    let mut wrong = Command::new(env!("CARGO_BIN_EXE_client"));
    ends_with(
        &wrong.env("CLIENT_SERVER", "host").output().unwrap(),
        2,
        &["HOST:PORT", "(from CLIENT_SERVER)"],
    );
}

#[test]
fn the_file_of_replies_has_one_owner() {
    let server = ServerThread::start("127.0.0.1:0");
    let folder = tempfile::tempdir().unwrap();
    let _owner = JournalFile::open(&folder.path().join("respuestas.txt")).unwrap();
    let output = run(server.address, folder.path(), &[], "");
    ends_with(&output, 1, &["respuestas.txt is in use by another process"]);
    assert_eq!(server.messages(), [""; 0], "nothing is sent whose reply could not be recorded");
}
