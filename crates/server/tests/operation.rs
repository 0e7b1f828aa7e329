//! Starting and stopping the server, wrong arguments, and clients that this project did not write.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::{Greets as _, LineClient, PROGRAM, Server};

fn run(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn fails(output: &Output, code: i32, expected: &[&str]) {
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{told}");
    for part in expected {
        assert!(told.contains(part), "{part:?} is not in: {told}");
    }
}

#[test]
fn wrong_arguments_are_one_line_and_exit_code_2() {
    let output = run(&["--max-connections", "0"]);
    fails(&output, 2, &["'0'", "--max-connections", "1..=1000000"]);
    assert_eq!(String::from_utf8_lossy(&output.stderr).lines().count(), 1);
    let output = Command::new(PROGRAM).env("SERVER_IDLE_TIMEOUT", "never").output().unwrap();
    fails(&output, 2, &["'never'", "--idle-timeout", "(from SERVER_IDLE_TIMEOUT)"]);
}

#[test]
fn flags_win_over_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(PROGRAM);
    command.env("SERVER_MAX_MESSAGE_BYTES", "1").env("SERVER_IDLE_TIMEOUT", "1h");
    let server = Server::start_as(command, folder.path(), &["--max-message-bytes", "4"]);
    server.connect().say("Hola");
}

#[test]
fn a_log_that_cannot_be_used_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let output = run(&["--listen", "127.0.0.1:0", "--data-dir", file.to_str().unwrap()]);
    fails(&output, 1, &["cannot", "file", "--data-dir"]);
    let server = Server::start(folder.path(), &[]);
    let output = run(&["--listen", "127.0.0.1:0", "--data-dir", folder.path().to_str().unwrap()]);
    fails(&output, 1, &["log.txt is in use by another process", "--data-dir"]);
    server.connect().say("sigue");
}

#[test]
fn an_address_in_use_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]);
    let other = tempfile::tempdir().unwrap();
    let address = server.address.to_string();
    let output = run(&["--listen", &address, "--data-dir", other.path().to_str().unwrap()]);
    fails(&output, 1, &["cannot listen on", &address, "--listen"]);
}

#[test]
fn more_connections_than_open_files_are_refused_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let mut limited = Command::new("sh");
    limited.args([
        "-c",
        "ulimit -n 256; exec \"$@\"",
        "sh",
        PROGRAM,
        "--listen",
        "127.0.0.1:0",
        "--data-dir",
    ]);
    let output = limited.arg(folder.path()).output().unwrap();
    fails(
        &output,
        1,
        &["--max-connections 1024 needs 1152 open files, and the system allows 256", "at most 128"],
    );
}

#[test]
fn idle_connections_do_not_delay_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(folder.path(), &["--shutdown-deadline", "20s"]);
    let mut idle = server.connect();
    idle.say("Hola");
    idle.send("medio");
    server.signal(Signal::SIGTERM);
    assert_eq!(idle.reply(), "");
    assert_eq!(server.ended().code(), Some(0));
    assert_eq!(server.log().in_order, ["Hola"], "half a message is none");
}

/// Leaves a client that sends and reads no replies, which delays an orderly end.
fn deaf_client(server: &Server) -> LineClient {
    let mut deaf = server.connect();
    deaf.stream.set_nonblocking(true).unwrap();
    let line = format!("{}\n", "x".repeat(60_000));
    let mut full = 0;
    support::wait_for("the connection to fill up", || {
        full = if deaf.stream.write(line.as_bytes()).is_ok() { 0 } else { full + 1 };
        full > 100
    });
    deaf
}

#[test]
fn a_second_signal_ends_at_once_and_says_what_was_left() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(folder.path(), &["--idle-timeout", "1h", "--shutdown-deadline", "1h"]);
    let _deaf = deaf_client(&server);
    server.signal(Signal::SIGTERM);
    server.logged("listener closed");
    assert_eq!(server.child.try_wait().unwrap(), None, "it waits for the reply to be taken");
    server.signal(Signal::SIGTERM);
    assert_eq!(server.ended().code(), Some(1));
    server.logged("second signal (SIGTERM): exiting without finishing");
}

#[test]
fn the_deadline_ends_what_does_not_end_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(folder.path(), &["--idle-timeout", "1h", "--shutdown-deadline", "200ms"]);
    let _deaf = deaf_client(&server);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.ended().code(), Some(1));
    server.logged("the shutdown deadline of 200ms has passed: exiting without finishing");
}

#[test]
fn a_terminal_that_is_held_holds_up_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(PROGRAM);
    command.args(["--listen", "127.0.0.1:0", "--shutdown-deadline", "1h", "--data-dir"]).arg(folder.path());
    let mut process = command.stderr(Stdio::piped()).spawn().unwrap();
    // The test reads events up to the address, and then no more.
    let mut events = BufReader::new(process.stderr.take().unwrap());
    let mut event = String::new();
    while !event.contains("listening") {
        event.clear();
        assert!(events.read_line(&mut event).unwrap() > 0, "the server ended before it listened");
    }
    let mut client = LineClient::connect(event.trim().rsplit('=').next().unwrap().parse().unwrap());
    // These are more events than a pipe and the server's buffer hold.
    let messages = 30_000;
    let mut sender = client.stream.try_clone().unwrap();
    let sending = std::thread::spawn(move || sender.write_all("hola\n".repeat(messages).as_bytes()).unwrap());
    (0..messages).for_each(|_| client.expect_received("hola"));
    sending.join().unwrap();
    kill(Pid::from_raw(process.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
    let mut status = None;
    support::wait_for("the server to end", || {
        status = process.try_wait().unwrap();
        status.is_some()
    });
    assert_eq!(status.unwrap().code(), Some(0));
    assert_eq!(support::Log::read(folder.path()).in_order.len(), messages);
}

/// Returns a client of another project, or `None` if it is not installed. Where CI runs, a missing client is an error.
fn peer(program: &str) -> Option<Command> {
    let installed =
        Command::new("sh").args(["-c", &format!("command -v {program}")]).stdout(Stdio::null()).status();
    if installed.is_ok_and(|status| status.success()) {
        return Some(Command::new(program));
    }
    assert!(std::env::var_os("CI").is_none(), "{program} is not installed");
    eprintln!("skipped: {program} is not installed");
    None
}

#[test]
fn nc_is_answered_with_and_without_a_line_end() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]);
    let port = server.address.port();
    if peer("nc").is_none() {
        return;
    }
    for message in ["Hola\\n", "Hola"] {
        let script = format!("printf '{message}' | nc -N 127.0.0.1 {port}");
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "OK mensaje recibido correctamente: Hola\n");
    }
    assert_eq!(server.log().in_order, ["Hola", "Hola"]);
}

#[test]
fn a_python_client_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]);
    let Some(mut python) = peer("python3") else { return };
    let script = "
import socket, sys
client = socket.create_connection(('127.0.0.1', int(sys.argv[1])))
client.sendall('¡Hola desde Python!\\n'.encode())
print(client.recv(1024).decode(), end='')
client.sendall(b'sin fin de linea')
client.shutdown(socket.SHUT_WR)
print(client.recv(1024).decode(), end='')
";
    let output = python
        .args(["-c", script, &server.address.port().to_string()])
        .env("PYTHONUTF8", "1")
        .output()
        .unwrap();
    let expected = "OK mensaje recibido correctamente: ¡Hola desde Python!\nOK mensaje recibido correctamente: sin fin de linea\n";
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        expected,
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Checks what most clients of this assignment do: they send without a line end and wait for the reply.
#[test]
fn a_python_client_that_sends_no_line_end_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_as(Command::new(PROGRAM), folder.path(), &[]);
    let Some(mut python) = peer("python3") else { return };
    let script = "
import socket, sys
client = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
client.settimeout(30)
client.connect(('127.0.0.1', int(sys.argv[1])))
client.sendall(b'Hola servidor')
print(client.recv(1024).decode(), end='')
client.sendall('¿Sigues ahí?'.encode())
print(client.recv(1024).decode(), end='')
client.close()
";
    let output = python
        .args(["-c", script, &server.address.port().to_string()])
        .env("PYTHONUTF8", "1")
        .output()
        .unwrap();
    let expected =
        "OK mensaje recibido correctamente: Hola servidor\nOK mensaje recibido correctamente: ¿Sigues ahí?\n";
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        expected,
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(server.log().in_order, ["Hola servidor", "¿Sigues ahí?"]);
}
