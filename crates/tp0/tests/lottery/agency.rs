//! The agency against the real server, and against none.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{AgencyProcess, LotteryServer, Signal, wait_for};

const BET: [(&str, &str); 5] = [
    ("NOMBRE", "Santiago Lionel"),
    ("CLI_APELLIDO", "Lorca"),
    ("DOCUMENTO", "30904465"),
    ("NACIMIENTO", "1999-03-17"),
    ("NUMERO", "07574"),
];

#[test]
fn a_single_bet_is_stored_once_however_often_it_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let server = LotteryServer::start(folder.path(), 1);
    let sent = "action: apuesta_enviada | result: success | dni: 30904465 | numero: 7574".to_owned();
    for _ in 0..2 {
        let agency = AgencyProcess::start(folder.path(), 1, server.address, &[], &BET);
        assert_eq!(agency.finish(), (Some(0), vec![sent.clone()]));
    }
    assert_eq!(server.bets(), "1,Santiago Lionel,Lorca,30904465,1999-03-17,7574\r\n");
    let stored = [
        "action: apuesta_almacenada | result: success | dni: 30904465 | numero: 7574",
        "action: apuesta_recibida | result: success | cantidad: 1",
    ];
    assert_eq!(server.first_actions(stored.len()), stored);
    let agency = AgencyProcess::start(folder.path(), 1, server.address, &["--await-draw"], &BET);
    let won = "action: consulta_ganadores | result: success | cant_ganadores: 1".to_owned();
    assert_eq!(agency.finish(), (Some(0), vec![sent, won]));
    server.told("action: sorteo | result: success");
}

#[test]
fn a_single_bet_that_cannot_travel_is_told_with_its_cause() {
    let folder = tempfile::tempdir().unwrap();
    let server = LotteryServer::start(folder.path(), 1);
    let mut bet = BET;
    bet[0].1 = "Santi:ago";
    let told = AgencyProcess::start(folder.path(), 1, server.address, &[], &bet).finish();
    let expected = "action: apuesta_enviada | result: fail | error: the bet in the environment: first_name holds ':', which cannot travel: commas, colons, line ends and control characters are refused";
    assert_eq!(told, (Some(1), vec![expected.to_owned()]));
    assert_eq!(server.bets(), "");
}

#[test]
fn what_is_no_bet_is_told_before_sending_and_the_rest_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let server = LotteryServer::start(folder.path(), 1);
    let bets = "a,b,1,2000-01-01,1\n\"c,d\",x,2,2000-01-01,2\ne,f,3,2000-01-01,7574\ng,h:i,4,2000-01-01,4\n";
    fs::write(folder.path().join("agency-1.csv"), bets).unwrap();
    let (code, told) = AgencyProcess::start(folder.path(), 1, server.address, &[], &[]).finish();
    let refused = "which cannot travel: commas, colons, line ends and control characters are refused";
    let path = "./agency-1.csv";
    let expected = [
        format!(
            "action: apuesta_enviada | result: fail | error: {path} line 2: first_name holds ',', {refused}"
        ),
        format!(
            "action: apuesta_enviada | result: fail | error: {path} line 4: last_name holds ':', {refused}"
        ),
        "action: consulta_ganadores | result: success | cant_ganadores: 1".to_owned(),
    ];
    assert_eq!((code, told), (Some(1), expected.to_vec()));
    assert_eq!(server.bets(), "1,a,b,1,2000-01-01,1\r\n1,e,f,3,2000-01-01,7574\r\n");
}

#[test]
fn a_refused_batch_is_told_and_is_a_failure() {
    let folder = tempfile::tempdir().unwrap();
    let server = LotteryServer::start(folder.path(), 1);
    fs::write(folder.path().join("agency-1.csv"), "a,b,1,2000-01-01,1\n").unwrap();
    assert_eq!(AgencyProcess::start(folder.path(), 1, server.address, &[], &[]).finish().0, Some(0));
    server.told("action: sorteo | result: success");
    fs::write(folder.path().join("agency-1.csv"), "a,b,1,2000-01-01,1\na,b,2,2000-01-01,2\n").unwrap();
    let (code, told) = AgencyProcess::start(folder.path(), 1, server.address, &[], &[]).finish();
    let expected = [
        "action: apuesta_enviada | result: fail | cantidad: 2 | error: the server refused the batch: its log tells why",
        "action: consulta_ganadores | result: success | cant_ganadores: 0",
    ];
    assert_eq!((code, told), (Some(1), expected.map(str::to_owned).to_vec()));
}

#[test]
fn sigterm_ends_an_agency_that_waits_for_the_draw_or_for_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let server = LotteryServer::start(folder.path(), 2);
    fs::write(folder.path().join("agency-1.csv"), "a,b,1,2000-01-01,1\n").unwrap();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for address in [server.address, nobody] {
        let agency = AgencyProcess::start(folder.path(), 1, address, &[], &[]);
        if address == server.address {
            let journal = folder.path().join("lottery.journal");
            wait_for("the end of the bets", || fs::read_to_string(&journal).unwrap().contains("\ndone "));
        } else {
            // Its handlers are there before its first line is.
            let out = folder.path().join("out-1");
            wait_for("the first line", || fs::read_to_string(&out).is_ok_and(|text| text.contains("config")));
        }
        agency.signal(Signal::SIGTERM);
        let (code, told) = agency.finish();
        let expected = [
            "action: close_connection | result: success | client_id: 1",
            "action: join_thread | result: success | thread: runtime | client_id: 1",
            "action: shutdown | result: success | client_id: 1",
        ];
        // Where there is no connection none is closed.
        let expected = &expected[usize::from(address == nobody)..];
        assert_eq!((code, told), (Some(0), expected.iter().map(|line| (*line).to_owned()).collect()));
    }
}

#[test]
fn sigterm_while_a_batch_is_on_its_way_waits_for_its_answer_and_sends_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let bets: String = (0..100).map(|bet| format!("a,b,{bet},2000-01-01,1\n")).collect();
    fs::write(folder.path().join("agency-1.csv"), bets).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let settings = [("CLI_BATCH_MAXAMOUNT", "1")];
    let window = ["--window", "4"];
    let mut agency =
        AgencyProcess::start(folder.path(), 1, listener.local_addr().unwrap(), &window, &settings);
    let (mut stream, _) = listener.accept().unwrap();
    let mut batches = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let mut next_batch = || batches.by_ref().find(|line| line.starts_with("1:4:"));
    for _ in 0..4 {
        assert!(next_batch().is_some(), "the window is filled");
    }
    agency.signal(Signal::SIGTERM);
    // It can only be seen not to end; that it does not take long is seen below.
    thread::sleep(Duration::from_millis(300));
    assert!(agency.is_running(), "four batches have no answer yet");
    stream.write_all(b"server:0\r\nserver:0\r\nserver:0\r\nserver:0\r\n").unwrap();
    assert_eq!(next_batch(), None, "nothing more is sent");
    let (code, told) = agency.finish();
    let expected = [
        "action: close_file | result: success | client_id: 1 | file: ./agency-1.csv",
        "action: close_connection | result: success | client_id: 1",
        "action: join_thread | result: success | thread: runtime | client_id: 1",
        "action: shutdown | result: success | client_id: 1",
    ];
    assert_eq!((code, told), (Some(0), expected.map(str::to_owned).to_vec()));
}

#[test]
fn after_the_deadline_an_agency_ends_without_its_answers_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("agency-1.csv"), "a,b,1,2000-01-01,1\n").unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let deadline = ["--shutdown-deadline", "200ms"];
    let agency = AgencyProcess::start(folder.path(), 1, listener.local_addr().unwrap(), &deadline, &[]);
    let (stream, _) = listener.accept().unwrap();
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.starts_with("1:4:")));
    agency.signal(Signal::SIGTERM);
    let (code, told) = agency.finish();
    assert_eq!(code, Some(1));
    assert!(!told.iter().any(|line| line.contains("shutdown")), "{told:?}");
}

#[test]
fn the_winners_are_asked_for_every_loop_period() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("agency-1.csv"), "a,b,1,2000-01-01,1\n").unwrap();
    fs::write(folder.path().join("config.yaml"), "loop: {period: \"350ms\"}\n").unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // A lottery whose draw is held when it is asked for the third time.
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut asked = Vec::new();
        for line in BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok) {
            let reply = match (line.trim_end(), asked.len()) {
                ("1:6", times) => {
                    asked.push(Instant::now());
                    if times < 2 { "server:2\r\n" } else { "server:3:\r\n" }
                }
                // What ends a batch, or the end of the bets.
                ("" | "1:5", _) => "server:0\r\n",
                _ => continue,
            };
            stream.write_all(reply.as_bytes()).unwrap();
        }
        asked
    });
    let agency = AgencyProcess::start(folder.path(), 1, address, &[], &[("CLI_LOOP_PERIOD", "")]);
    assert_eq!(agency.finish().0, Some(0));
    let asked = server.join().unwrap();
    assert_eq!(asked.len(), 3);
    for times in asked.windows(2) {
        let pause = times[1] - times[0];
        assert!(pause >= Duration::from_millis(340), "asked again after {pause:?}");
    }
}

#[test]
fn a_loop_period_longer_than_the_servers_timeout_does_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let server = LotteryServer::start_with(folder.path(), 2, "", &[("CONNECTION_TIMEOUT", "50ms")]);
    for id in 1..=2 {
        fs::write(folder.path().join(format!("agency-{id}.csv")), "a,b,1,2000-01-01,7574\n").unwrap();
    }
    let slow = AgencyProcess::start(folder.path(), 1, server.address, &[], &[("CLI_LOOP_PERIOD", "200ms")]);
    server.logged("connection broken");
    let other = AgencyProcess::start(folder.path(), 2, server.address, &[], &[]);
    let won = "action: consulta_ganadores | result: success | cant_ganadores: 1".to_owned();
    assert_eq!(slow.finish(), (Some(0), vec![won.clone()]));
    assert_eq!(other.finish(), (Some(0), vec![won]));
}

#[test]
fn without_a_server_the_agency_gives_up_after_a_while() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("agency-1.csv"), "").unwrap();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (code, told) = AgencyProcess::start(folder.path(), 1, nobody, &["--wait", "100ms"], &[]).finish();
    assert_eq!(code, Some(1));
    let line = format!("action: connect | result: fail | client_id: 1 | error: {nobody} is away for 100ms: ");
    assert!(told.len() == 1 && told[0].starts_with(&line), "{told:?}");
}

#[test]
fn a_file_that_is_missing_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let server = LotteryServer::start(folder.path(), 1);
    let (code, told) = AgencyProcess::start(folder.path(), 1, server.address, &[], &[]).finish();
    assert_eq!(code, Some(1));
    let line = "action: apuesta_enviada | result: fail | error: cannot read the bets of ./agency-1.csv: No such file";
    assert!(told[0].starts_with(line), "{told:?}");
}
