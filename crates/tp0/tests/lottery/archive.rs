//! `lottery-server --archive`: what is moved away, and what is left alone.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::support::{AgencyProcess, LotteryServer, SERVER, actions};

const FILES: [&str; 3] = ["lottery.journal", "bets.csv", "winners.csv"];

fn archive(folder: &Path, which: &str) -> Output {
    let mut command = Command::new(SERVER);
    command.args(["--archive", which]).current_dir(folder).output().unwrap()
}

/// Where the only line says that the lottery is now.
fn archived(folder: &Path, which: &str) -> String {
    let output = archive(folder, which);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told = actions(&String::from_utf8(output.stdout).unwrap());
    assert_eq!(told.len(), 1, "{told:?}");
    let name = told[0].strip_prefix("action: sorteo_archivado | result: success | carpeta: ");
    name.unwrap_or_else(|| panic!("{told:?}")).to_owned()
}

fn nothing_is_archived(folder: &Path, which: &str) {
    let output = archive(folder, which);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(0), 0), "{output:?}");
}

fn contents(folder: &Path) -> [Option<String>; 3] {
    FILES.map(|name| fs::read_to_string(folder.join(name)).ok())
}

fn send(folder: &Path, server: &LotteryServer, agency: usize) {
    fs::write(folder.join(format!("agency-{agency}.csv")), "a,b,1,2000-01-01,7574\n").unwrap();
    let (code, told) = AgencyProcess::start(folder, agency, server.address, &[], &[]).finish();
    assert_eq!((code, told.len()), (Some(0), 1), "{told:?}");
}

#[test]
fn a_drawn_lottery_is_moved_and_the_next_server_begins_a_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = LotteryServer::start(folder.path(), 1);
    send(folder.path(), &server, 1);
    server.stop();
    let before = contents(folder.path());
    assert!(before.iter().all(Option::is_some));

    let moved = archived(folder.path(), "drawn");
    assert_eq!(contents(&folder.path().join(&moved)), before);
    assert_eq!(contents(folder.path()), [None, None, None]);
    nothing_is_archived(folder.path(), "drawn");
    nothing_is_archived(folder.path(), "any");

    let server = LotteryServer::start(folder.path(), 1);
    send(folder.path(), &server, 1);
    let told = server.first_actions(3);
    let again = told.iter().rev().find(|line| line.contains("sorteo ")).map(String::as_str);
    assert_eq!(again, Some("action: sorteo | result: success"));
    assert_eq!(server.bets(), before[1].clone().unwrap());
}

#[test]
fn a_lottery_without_a_draw_stays_unless_any_is_to_be_moved() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = LotteryServer::start(folder.path(), 2);
    let bet = [
        ("NOMBRE", "a"),
        ("APELLIDO", "b"),
        ("DOCUMENTO", "1"),
        ("NACIMIENTO", "2000-01-01"),
        ("NUMERO", "1"),
    ];
    assert_eq!(AgencyProcess::start(folder.path(), 1, server.address, &[], &bet).finish().0, Some(0));
    server.stop();
    let before = contents(folder.path());
    nothing_is_archived(folder.path(), "drawn");
    assert_eq!(contents(folder.path()), before);
    let moved = archived(folder.path(), "any");
    assert_eq!(contents(&folder.path().join(moved)), before);
}

#[test]
fn what_a_server_uses_is_left_alone_and_said_so() {
    let folder = tempfile::tempdir().unwrap();
    let server = LotteryServer::start(folder.path(), 1);
    send(folder.path(), &server, 1);
    let before = contents(folder.path());
    for which in ["drawn", "any"] {
        let output = archive(folder.path(), which);
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(told.contains("bets.csv is in use by another process: stop that one"), "{told}");
    }
    assert_eq!(contents(folder.path()), before);
}
