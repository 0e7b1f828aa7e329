//! Whatever a crash of the machine leaves of the lottery's files, every acknowledged bet is there, and the lottery comes to its end
//! with each bet once.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use testkit::crash::states::{CrashState, crash_states};
use testkit::crash::trace::{Step, Traced};

use crate::support::{AgencyProcess, LotteryServer, SERVER};

const AGENCIES: usize = 2;
const BETS: usize = 7;
const BATCH: usize = 3;
const ACKNOWLEDGED: &str = "server:0\r\n";
const WINNERS: &str = "server:3:";

/// Writes the bets of the agencies to a folder. The second one of each wins.
fn write_bets(folder: &Path) {
    for agency in 1..=AGENCIES {
        let bet = |number| {
            format!("Ana,Núñez {agency},{number},1999-03-17,{}\n", if number == 1 { 7574 } else { number })
        };
        let bets: String = (0..BETS).map(bet).collect();
        fs::write(folder.join(format!("agency-{agency}.csv")), bets).unwrap();
    }
}

/// The lines that `bets.csv` has to hold.
fn expected() -> Vec<String> {
    let bet = |agency, number| {
        let chosen = if number == 1 { 7574 } else { number };
        format!("{agency},Ana,Núñez {agency},{number},1999-03-17,{chosen}")
    };
    (1..=AGENCIES).flat_map(|agency| (0..BETS).map(move |number| bet(agency, number))).collect()
}

/// Runs all agencies to their end.
fn run_agencies(folder: &Path, server: std::net::SocketAddr) {
    let batch = BATCH.to_string();
    let start =
        |id| AgencyProcess::start(folder, id, server, &["--wait", "60s"], &[("CLI_BATCH_MAXAMOUNT", &batch)]);
    let agencies: Vec<_> = (1..=AGENCIES).map(start).collect();
    for agency in agencies {
        let told = vec!["action: consulta_ganadores | result: success | cant_ganadores: 1".to_owned()];
        assert_eq!(agency.finish(), (Some(0), told));
    }
}

fn sorted(bets: &str) -> Vec<String> {
    let mut lines: Vec<_> = bets.split_terminator("\r\n").map(str::to_owned).collect();
    lines.sort();
    lines
}

/// How many bets had been acknowledged at least, and whether winners had been told.
fn promised(state: &CrashState, steps: &[Step]) -> (usize, bool) {
    let mut told: BTreeMap<u16, Vec<u8>> = BTreeMap::new();
    for step in &steps[..state.after] {
        if let Step::Tell { port, bytes } = step {
            told.entry(*port).or_default().extend_from_slice(bytes);
        }
    }
    let told: Vec<_> = told.into_values().map(|bytes| String::from_utf8(bytes).unwrap()).collect();
    // Each connection is that of one agency, which sends all its bets, and then that it has no more.
    let bets = told.iter().map(|text| (text.matches(ACKNOWLEDGED).count() * BATCH).min(BETS)).sum();
    (bets, told.iter().any(|text| text.contains(WINNERS)))
}

#[test]
fn whatever_a_crash_leaves_acknowledged_bets_stay_and_the_lottery_ends() {
    let folder = tempfile::tempdir().unwrap();
    let (data, outside) = (folder.path().join("data"), folder.path().join("agencies"));
    fs::create_dir(&data).unwrap();
    fs::create_dir(&outside).unwrap();
    write_bets(&outside);
    let mut command = Command::new(SERVER);
    command.envs([("SERVER_PORT", "0"), ("SERVER_IP", "127.0.0.1"), ("LOTTERY_SERVER_PAGE", "none")]);
    command.env("NUMBER_OF_CLIENTS", AGENCIES.to_string()).args(["--log-level", "info"]);
    let Some(traced) = Traced::start(&command, &data, &folder.path().join("strace")) else { return };
    run_agencies(&outside, traced.address());
    let steps = traced.finish();
    let states = crash_states(&steps);
    let (mut most, mut after_draw) = (0, 0);
    for (number, state) in states.iter().enumerate() {
        let left = folder.path().join(format!("state{number}"));
        state.write(&data, &left);
        let (acknowledged, is_drawn) = promised(state, &steps);
        most = most.max(acknowledged);
        after_draw += usize::from(is_drawn);
        let mut server = LotteryServer::start(&left, AGENCIES);
        let stored = sorted(&server.bets());
        assert!(
            stored.len() >= acknowledged,
            "state {number}: {acknowledged} bets were acknowledged: {stored:?}"
        );
        run_agencies(&outside, server.address);
        assert_eq!(sorted(&server.bets()), expected(), "state {number}");
        server.stop();
        fs::remove_dir_all(&left).unwrap();
    }
    println!("{} states, {after_draw} of them after the draw", states.len());
    assert!(
        states.len() >= 20 && most == AGENCIES * BETS && after_draw > 0,
        "{} states, {most}, {after_draw}",
        states.len()
    );
}
