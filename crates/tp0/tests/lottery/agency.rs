//! The agency against the real server, and against none.

use std::fs;
use std::net::TcpListener;

use crate::support::{Agency, Server, Signal, wait_for};

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
    let server = Server::start(folder.path(), 1);
    let sent = "action: apuesta_enviada | result: success | dni: 30904465 | numero: 7574".to_owned();
    for _ in 0..2 {
        let agency = Agency::start(folder.path(), 1, server.address, &[], &BET);
        assert_eq!(agency.finish(), (Some(0), vec![sent.clone()]));
    }
    assert_eq!(server.bets(), "1,Santiago Lionel,Lorca,30904465,1999-03-17,7574\r\n");
    let stored = [
        "action: apuesta_almacenada | result: success | dni: 30904465 | numero: 7574",
        "action: apuesta_recibida | result: success | cantidad: 1",
    ];
    assert_eq!(server.first_actions(stored.len()), stored);
    let agency = Agency::start(folder.path(), 1, server.address, &["--await-draw"], &BET);
    let won = "action: consulta_ganadores | result: success | cant_ganadores: 1".to_owned();
    assert_eq!(agency.finish(), (Some(0), vec![sent, won]));
    server.told("action: sorteo | result: success");
}

#[test]
fn a_single_bet_that_cannot_travel_is_told_with_its_cause() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), 1);
    let mut bet = BET;
    bet[0].1 = "Santi:ago";
    let told = Agency::start(folder.path(), 1, server.address, &[], &bet).finish();
    let expected = "action: apuesta_enviada | result: fail | error: the bet in the environment: first_name holds ':', which cannot travel: commas, colons, line ends and control characters are refused";
    assert_eq!(told, (Some(1), vec![expected.to_owned()]));
    assert_eq!(server.bets(), "");
}

#[test]
fn what_is_no_bet_is_told_before_sending_and_the_rest_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), 1);
    let bets = "a,b,1,2000-01-01,1\n\"c,d\",x,2,2000-01-01,2\ne,f,3,2000-01-01,7574\ng,h:i,4,2000-01-01,4\n";
    fs::write(folder.path().join("agency-1.csv"), bets).unwrap();
    let (code, told) = Agency::start(folder.path(), 1, server.address, &[], &[]).finish();
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
    let server = Server::start(folder.path(), 1);
    fs::write(folder.path().join("agency-1.csv"), "a,b,1,2000-01-01,1\n").unwrap();
    assert_eq!(Agency::start(folder.path(), 1, server.address, &[], &[]).finish().0, Some(0));
    server.told("action: sorteo | result: success");
    fs::write(folder.path().join("agency-1.csv"), "a,b,1,2000-01-01,1\na,b,2,2000-01-01,2\n").unwrap();
    let (code, told) = Agency::start(folder.path(), 1, server.address, &[], &[]).finish();
    let expected = [
        "action: apuesta_enviada | result: fail | cantidad: 2 | error: the server refused the batch: its log tells why",
        "action: consulta_ganadores | result: success | cant_ganadores: 0",
    ];
    assert_eq!((code, told), (Some(1), expected.map(str::to_owned).to_vec()));
}

#[test]
fn sigterm_ends_an_agency_that_waits_for_the_draw_or_for_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), 2);
    fs::write(folder.path().join("agency-1.csv"), "a,b,1,2000-01-01,1\n").unwrap();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for address in [server.address, nobody] {
        let agency = Agency::start(folder.path(), 1, address, &[], &[]);
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
            "action: shutdown | result: success | client_id: 1",
        ];
        assert_eq!((code, told), (Some(0), expected.map(str::to_owned).to_vec()));
    }
}

#[test]
fn without_a_server_the_agency_gives_up_after_a_while() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("agency-1.csv"), "").unwrap();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (code, told) = Agency::start(folder.path(), 1, nobody, &["--wait", "100ms"], &[]).finish();
    assert_eq!(code, Some(1));
    let line = format!("action: connect | result: fail | client_id: 1 | error: {nobody} is away for 100ms: ");
    assert!(told.len() == 1 && told[0].starts_with(&line), "{told:?}");
}

#[test]
fn a_file_that_is_missing_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), 1);
    let (code, told) = Agency::start(folder.path(), 1, server.address, &[], &[]).finish();
    assert_eq!(code, Some(1));
    let line = "action: apuesta_enviada | result: fail | error: cannot read the bets of ./agency-1.csv: No such file";
    assert!(told[0].starts_with(line), "{told:?}");
}
