//! The server against plain clients, written from the grammar.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::process::Command;

use crate::support::{LineClient, LotteryServer, PATIENCE, Signal, message};

const LORCA: &str = "Santiago Lionel,Lorca,30904465,1999-03-17,2201";
const NUNEZ: &str = "Ana \"Tin\",Núñez,21689196,2000-02-29,7574";

/// Sends, and compares the reply.
fn ask(client: &mut LineClient, request: &str, reply: &str) {
    client.send(request);
    assert_eq!(client.reply(), format!("{reply}\r"), "to {request:?}");
}

/// Returns the winners that the server sends, or its reply that the client has to wait.
fn winners(client: &mut LineClient, agency: &str) -> Vec<String> {
    client.send(format!("{agency}:6\r\n"));
    let mut lines = vec![client.reply()];
    while lines.last().is_some_and(|line| !line.ends_with('\r')) {
        lines.push(client.reply());
    }
    if lines == ["server:2\r"] {
        return lines;
    }
    lines[0] = lines[0].strip_prefix("server:3:").unwrap().to_owned();
    lines.pop();
    lines
}

/// A client in Python, from the grammar alone, that sends one byte at a time and answers for its own messages only.
const PYTHON: &str = r#"
import socket, sys
stream = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
def ask(message):
    for byte in message.encode():
        stream.sendall(bytes([byte]))
    reply = b""
    while not reply.endswith(b"\r\n"):
        reply += stream.recv(1)
    return reply.decode()
bets = ["Santiago Lionel,Lorca,30904465,1999-03-17,2201", 'Ana "Tin",Núñez,21689196,2000-02-29,7574']
assert ask("7:4:" + "".join(bet + "\n" for bet in bets) + "\r\n") == "server:0\r\n"
assert ask("7:6\r\n") == "server:2\r\n"
assert ask("7:5\r\n") == "server:0\r\n"
reply = ask("7:6\r\n")
while reply == "server:2\r\n":
    reply = ask("7:6\r\n")
assert reply == "server:3:7," + bets[1] + "\n\r\n", reply
"#;

#[test]
fn a_python_client_that_sends_one_byte_at_a_time_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = LotteryServer::start(folder.path(), 1);
    let port = server.address.port().to_string();
    let output = Command::new("python3").args(["-c", PYTHON, &port]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let quoted = "7,\"Ana \"\"Tin\"\"\",Núñez,21689196,2000-02-29,7574";
    assert_eq!(server.bets(), format!("7,{LORCA}\r\n{quoted}\r\n"));
    server.stop();
    let expected = [
        "action: apuesta_recibida | result: success | cantidad: 2",
        "action: sorteo | result: success",
        "action: close_listener | result: success",
        "action: close_file | result: success | file: bets.csv",
        "action: close_file | result: success | file: lottery.journal",
        "action: join_thread | result: success | thread: store",
        "action: join_thread | result: success | thread: runtime",
        "action: shutdown | result: success",
    ];
    assert_eq!(server.actions(), expected);
}

#[test]
fn what_breaks_the_grammar_is_refused_with_its_reason_and_the_connection_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let server = LotteryServer::start(folder.path(), 1);
    let mut client = server.connect();
    let bad_day = LORCA.replace("03-17", "02-30");
    let refused = [
        (
            message("1", &[LORCA, &format!("{LORCA},x")]),
            2,
            "bet 2 of the message: 6 fields separated by commas, not the 5 of first_name,last_name,document,birthdate,number",
        ),
        (
            message("1", &[&LORCA.replace("Lorca", "Lor:ca")]),
            1,
            "bet 1 of the message: last_name holds ':', which cannot travel: commas, colons, line ends and control characters are refused",
        ),
        (
            message("1", &[&bad_day]),
            1,
            "bet 1 of the message: birthdate \"1999-02-30\" is not a day written YYYY-MM-DD",
        ),
        ("1:4:\r\n".to_owned(), 0, "the message holds no bets"),
        ("hola\r\n".to_owned(), 0, "the message is not <sender>:4:<bets>, <sender>:5 or <sender>:6"),
        (format!("{}\r\n", "x".repeat(100_000)), 0, "the message is longer than 16384 bytes"),
        (message("2", &[LORCA]), 1, "this connection is of agency 1, not of 2"),
    ];
    let mut expected = Vec::new();
    for (request, count, reason) in &refused {
        ask(&mut client, request, "server:1");
        expected
            .push(format!("action: apuesta_recibida | result: fail | cantidad: {count} | error: {reason}"));
    }
    ask(&mut client, &message("1", &[LORCA]), "server:0");
    expected.push("action: apuesta_almacenada | result: success | dni: 30904465 | numero: 2201".to_owned());
    expected.push("action: apuesta_recibida | result: success | cantidad: 1".to_owned());
    // Many at once, without waiting.
    client.send(
        message("1", &[LORCA, NUNEZ])
            + &message("1", &[NUNEZ])
            + "1:4:x\r\n1:5\r\n"
            + &message("1", &[LORCA]),
    );
    let replies: Vec<_> = (0..5).map(|_| client.reply()).collect();
    assert_eq!(replies, ["server:0\r", "server:0\r", "server:1\r", "server:0\r", "server:1\r"]);
    client.send("1:4:half");
    assert_eq!(client.finish(), "server:1\r\n");
    expected.extend(
        [
            "apuesta_recibida | result: success | cantidad: 2",
            "apuesta_almacenada | result: success | dni: 21689196 | numero: 7574",
            "apuesta_recibida | result: success | cantidad: 1",
            "apuesta_recibida | result: fail | cantidad: 1 | error: bet 1 of the message: 1 fields separated by commas, not the 5 of first_name,last_name,document,birthdate,number",
            "sorteo | result: success",
            "apuesta_recibida | result: fail | cantidad: 1 | error: the draw has been held",
            "apuesta_recibida | result: fail | cantidad: 0 | error: the stream ended in the middle of a message, after 8 bytes of it",
        ]
        .map(|line| format!("action: {line}")),
    );
    // Whether the draw is over when the last batch comes is not decided here.
    let told = server
        .first_actions(expected.len())
        .iter()
        .map(|line| {
            line.replace("the agency has already said that all its bets are sent", "the draw has been held")
        })
        .collect::<Vec<_>>();
    let without_draw =
        |lines: &[String]| lines.iter().filter(|line| !line.contains("sorteo")).cloned().collect::<Vec<_>>();
    assert_eq!(without_draw(&told), without_draw(&expected));
    assert_eq!(server.bets().lines().count(), 4);
}

#[test]
fn a_batch_that_comes_again_is_acknowledged_and_not_stored_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = LotteryServer::start(folder.path(), 2);
    let (one, two) = (message("1", &[LORCA, LORCA]), message("1", &[NUNEZ]));
    for pass in 0..4 {
        let mut client = server.connect();
        // The same batch twice in one pass is meant twice.
        for request in [&one, &one, &two, &"1:5\r\n".to_owned()] {
            ask(&mut client, request, "server:0");
        }
        assert_eq!(server.bets().lines().count(), 5, "pass {pass}");
        if pass == 1 {
            server.stop();
            server = LotteryServer::start(folder.path(), 2);
        }
    }
    let mut client = server.connect();
    ask(&mut client, &message("2", &[LORCA, LORCA]), "server:0");
    assert_eq!(server.bets().lines().count(), 7);
}

#[test]
fn before_the_draw_nobody_learns_anything_and_after_it_each_learns_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = LotteryServer::start(folder.path(), 2);
    let mut clients: Vec<_> = (0..3).map(|_| server.connect()).collect();
    for (id, client) in clients.iter_mut().enumerate() {
        let winner = format!("W{id},x,{id},1999-03-17,7574");
        ask(client, &message(&id.to_string(), &[LORCA, &winner, NUNEZ]), "server:0");
        ask(client, &format!("{id}:6\r\n"), "server:2");
    }
    // Saying it twice is saying it once.
    for request in ["0:5\r\n", "0:5\r\n"] {
        ask(&mut clients[0], request, "server:0");
    }
    let mut again = server.connect();
    ask(&mut again, "0:5\r\n", "server:0");
    ask(&mut again, "0:6\r\n", "server:2");
    server.signal(Signal::SIGKILL);
    server.ended();
    server = LotteryServer::start(folder.path(), 2);
    let mut clients: Vec<_> = (0..3).map(|_| server.connect()).collect();
    ask(&mut clients[0], "0:6\r\n", "server:2");
    ask(&mut clients[2], "2:5\r\n", "server:0");
    server.told("action: sorteo | result: success");
    for restart in [true, false] {
        for (id, client) in clients.iter_mut().enumerate() {
            let expected = [format!("{id},W{id},x,{id},1999-03-17,7574"), format!("{id},{NUNEZ}")];
            while expected != *winners(client, &id.to_string()) {
                // The line stands in the log a moment before the winners can be asked for.
                assert!(restart, "after a restart they can be asked for at once");
            }
            ask(client, &message(&id.to_string(), &["new,x,1,1999-03-17,7574"]), "server:1");
        }
        assert_eq!(winners(&mut server.connect(), "9"), [""; 0]);
        if restart {
            server.stop();
            server = LotteryServer::start(folder.path(), 2);
            clients = (0..3).map(|_| server.connect()).collect();
        }
    }
    let draws = server.actions().iter().filter(|line| line.contains("sorteo")).count();
    assert_eq!(draws, 1, "in all three runs together");
}

#[test]
fn thousands_of_agencies_are_served_while_others_are_silent_or_half_way() {
    const AGENCIES: usize = 1500;
    service::net::make_room_for(2 * AGENCIES).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let server = LotteryServer::start(folder.path(), AGENCIES);
    let silent: Vec<_> = (0..AGENCIES)
        .map(|number| {
            let mut stream = TcpStream::connect(server.address).unwrap();
            stream.write_all(&b"x:4:Santiago"[..number % 12]).unwrap();
            stream
        })
        .collect();
    let mut streams: Vec<_> = (0..AGENCIES).map(|_| TcpStream::connect(server.address).unwrap()).collect();
    for (id, stream) in streams.iter_mut().enumerate() {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = message(&id.to_string(), &[LORCA, NUNEZ]) + &format!("{id}:5\r\n");
        stream.write_all(request.as_bytes()).unwrap();
    }
    let mut reply = [0; 20];
    for stream in &mut streams {
        stream.read_exact(&mut reply).unwrap();
        assert_eq!(reply, *b"server:0\r\nserver:0\r\n");
    }
    server.told("action: sorteo | result: success");
    for (id, stream) in streams.iter_mut().enumerate() {
        let mut text = "server:2\r\n".to_owned();
        while text == "server:2\r\n" {
            stream.write_all(format!("{id}:6\r\n").as_bytes()).unwrap();
            text.clear();
            let mut byte = [0];
            while !text.ends_with("\r\n") {
                stream.read_exact(&mut byte).unwrap();
                text.push(char::from(byte[0]));
            }
        }
        // Not decoded as UTF-8 above; the lengths tell whether it is whole.
        assert!(
            text.starts_with(&format!("server:3:{id},Ana \"Tin\",N")) && text.ends_with(",7574\n\r\n"),
            "{text}"
        );
        assert_eq!(text.matches('\n').count(), 2, "{text}");
        stream.shutdown(Shutdown::Both).unwrap();
    }
    assert_eq!(server.bets().lines().count(), 2 * AGENCIES);
    drop(silent);
}

#[test]
fn a_silent_connection_is_closed_after_the_timeout() {
    let folder = tempfile::tempdir().unwrap();
    let server = LotteryServer::start_with(folder.path(), 1, "", &[("CONNECTION_TIMEOUT", "150ms")]);
    let mut client = server.connect();
    client.send("1:4:San");
    assert_eq!(client.reply(), "", "closed");
    ask(&mut server.connect(), &message("1", &[LORCA]), "server:0");
}

#[test]
fn on_a_full_disk_a_batch_is_refused_as_a_whole_and_taken_later() {
    let folder = tempfile::tempdir().unwrap();
    // A limit on the size of files that can be lifted; ignoring the signal makes writes fail as on a full disk.
    let server = LotteryServer::start_with(folder.path(), 1, "trap '' XFSZ; ulimit -S -f 16;", &[]);
    let mut client = server.connect();
    let mut stored = String::new();
    let mut number = 0;
    let refused = loop {
        let bets: Vec<_> =
            (0..20).map(|bet| format!("{},x,{bet},1999-03-17,{number}", "n".repeat(50))).collect();
        let bets: Vec<_> = bets.iter().map(String::as_str).collect();
        client.send(message("1", &bets));
        if client.reply() == "server:1\r" {
            break message("1", &bets);
        }
        bets.iter().for_each(|bet| stored.push_str(&format!("1,{bet}\r\n")));
        number += 1;
        assert!(number < 1000, "the disk never filled up");
    };
    assert_eq!(server.bets(), stored);
    let told = server.first_actions(number + 1).pop().unwrap();
    assert!(
        told.starts_with("action: apuesta_recibida | result: fail | cantidad: 20 | error: no space left"),
        "{told}"
    );
    let id = server.child.id().to_string();
    let lifted = Command::new("prlimit").args(["--pid", &id, "--fsize=unlimited"]).status().unwrap();
    assert!(lifted.success());
    ask(&mut client, &refused, "server:0");
    ask(&mut client, "1:5\r\n", "server:0");
    server.told("action: sorteo | result: success");
    assert_eq!(server.bets().lines().count(), stored.lines().count() + 20);
    let journal = fs::read_to_string(folder.path().join("lottery.journal")).unwrap();
    assert_eq!(journal.lines().filter(|line| line.starts_with("batch ")).count(), number + 1);
}
