//! Five agencies against one server that is killed again and again, and so are they.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::support::{AgencyProcess, LotteryProxy, LotteryServer, Signal, wait_for};

const KILLS: usize = 8;
const BETS: [usize; 5] = [6000, 4000, 2500, 800, 90];
const NAMES: [&str; 6] = ["Agustín", "José \"\"Pepe\"\"", "María", "Zoë", "Ñancú", "O'Hara"];

/// Writes the files of the agencies; gives back the lines that `bets.csv` has to hold, and each agency's winners.
fn write_bets(folder: &Path, rng: &mut StdRng) -> (Vec<String>, Vec<usize>) {
    let (mut lines, mut winners) = (Vec::new(), Vec::new());
    for (agency, count) in (1..).zip(BETS) {
        let mut file = String::new();
        let mut won = 0;
        for bet in 0..count {
            // All bets of the third agency are the same, and so are its batches: none of them is a repeat.
            let document = if agency == 3 { 7 } else { bet };
            let number = if bet % 50 == 3 { 7574 } else { rng.random_range(0..7574) };
            let number = if agency == 3 { 7574 } else { number };
            won += usize::from(number == 7574);
            let name = NAMES[if agency == 3 { 0 } else { rng.random_range(0..NAMES.len()) }];
            let name = if name.contains('"') { format!("\"{name}\"") } else { name.to_owned() };
            let line = format!("{name},Núñez,{document},1999-03-17,{number}");
            file.push_str(&format!("{line}\n"));
            lines.push(format!("{agency},{line}"));
        }
        fs::write(folder.join(format!("agency-{agency}.csv")), file).unwrap();
        winners.push(won);
    }
    lines.sort();
    (lines, winners)
}

#[test]
fn kill_at_random_moments_loses_nothing_and_stores_nothing_twice() {
    let seed = std::env::var("LOTTERY_SEED").map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    println!("LOTTERY_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let folder = tempfile::tempdir().unwrap();
    let (expected, winners) = write_bets(folder.path(), &mut rng);
    let whole: u64 = expected.iter().map(|line| line.len() as u64 + 2).sum();
    let mut server = LotteryServer::start(folder.path(), BETS.len());
    let proxy = LotteryProxy::to(server.address);
    let start_agency = |id, batch: usize| {
        let batches = [("CLI_BATCH_MAXAMOUNT", &*batch.to_string())];
        AgencyProcess::start(folder.path(), id, proxy.address, &["--wait", "120s"], &batches)
    };
    let mut agencies: Vec<_> = (1..=BETS.len()).map(|id| start_agency(id, 10)).collect();
    let mut moments: Vec<_> = (0..KILLS).map(|_| rng.random_range(0..whole * 9 / 10)).collect();
    moments.sort_unstable();
    let stored = || fs::metadata(folder.path().join("bets.csv")).unwrap().len();
    let mut mid_way = 0;
    for moment in moments {
        wait_for("bets to be stored", || stored() >= moment);
        server.signal(Signal::SIGKILL);
        server.ended();
        mid_way += usize::from(stored() < whole);
        assert!(agencies[0].is_running());
        // One of the agencies begins again, too, with batches of another size.
        let victim = rng.random_range(0..agencies.len());
        agencies[victim] = start_agency(victim + 1, rng.random_range(1..150));
        server = LotteryServer::start(folder.path(), BETS.len());
        *proxy.target.lock().unwrap() = server.address;
    }
    assert!(mid_way > KILLS / 2, "only {mid_way} of {KILLS} kills came while bets were on their way");
    for (agency, won) in agencies.drain(..).zip(winners) {
        let line = format!("action: consulta_ganadores | result: success | cant_ganadores: {won}");
        assert_eq!(agency.finish(), (Some(0), vec![line]));
    }
    let actions = server.actions();
    assert_eq!(actions.iter().filter(|line| *line == "action: sorteo | result: success").count(), 1);
    let bets = server.bets();
    let mut lines: Vec<_> = bets.split_terminator("\r\n").map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines.len(), expected.len());
    assert!(lines == expected, "other bets than were sent");
    assert_eq!(
        python_counts(folder.path()),
        BETS.iter().enumerate().map(|(id, bets)| (id + 1, *bets)).collect()
    );
}

/// How many bets each agency has, as Python's `csv` module reads the file.
fn python_counts(folder: &Path) -> BTreeMap<usize, usize> {
    let script = "import csv, datetime\n\
        for agency, first, last, document, birthdate, number in csv.reader(open('bets.csv', newline='')):\n    \
            datetime.date.fromisoformat(birthdate); int(number)\n    print(agency)";
    let output = Command::new("python3").args(["-c", script]).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut counts = BTreeMap::new();
    for agency in String::from_utf8(output.stdout).unwrap().lines() {
        *counts.entry(agency.parse().unwrap()).or_default() += 1;
    }
    counts
}
