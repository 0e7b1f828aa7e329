//! Measures lotteries of real programs, from the start of the agencies to the winners of the last one, with bets on disk.

use std::fmt::{self, Write as _};
use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde::Serialize;
use tokio::process::{Child, Command};

use crate::arguments::LotteryArguments;
use crate::programs::{READY_WITHIN, free_address, listens, peak_resident_bytes, sibling};
use crate::stats::Spread;

/// The time between two questions of an agency for its winners. With the default, 5 s, nothing else could be measured.
const LOOP_PERIOD: &str = "100ms";
/// The numbers of bets of the course's five agencies.
const COURSE: [u64; 5] = [26_936, 25_518, 16_014, 9_238, 991];
const SEED: u64 = 7574;
const WRITE_BYTES: usize = 1024 * 1024;

const FIRST_NAMES: [&str; 20] = [
    "Agustín",
    "María José",
    "Joaquín",
    "Sofía",
    "Martín",
    "Ángela",
    "Santiago Lionel",
    "Lucía",
    "Benjamín",
    "Camila Rocío",
    "Tomás",
    "Zoë",
    "Ramiro",
    "Begoña",
    "Iñaki",
    "Valentina",
    "Matías Ezequiel",
    "Juana",
    "Andrés",
    "Pilar",
];
const LAST_NAMES: [&str; 20] = [
    "Núñez",
    "Lorca",
    "Gutiérrez",
    "Fernández",
    "Pérez",
    "O'Higgins",
    "Muñoz",
    "Domínguez",
    "Ibáñez",
    "Zambrano",
    "Castro",
    "Agüero",
    "Peña",
    "De la Cruz",
    "López",
    "Sosa",
    "Benítez",
    "Giménez",
    "Acuña",
    "Müller",
];

/// The result.
#[derive(Debug, Serialize)]
pub struct LotteryReport {
    agencies: usize,
    bets: u64,
    batch: usize,
    interrupted: bool,
    rounds: usize,
    seconds: Spread,
    bets_per_second: Spread,
    raw_bets_per_second: Spread,
    ratio: Spread,
    bets_bytes: u64,
    peak_resident_bytes: u64,
}

impl fmt::Display for LotteryReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { agencies, bets, batch, rounds, .. } = self;
        let again = if self.interrupted { ", after a kill at nine tenths" } else { "" };
        writeln!(
            f,
            "| {agencies} agencies, {bets} bets, batches of {batch}{again}; median (min–max) of {rounds} | |"
        )?;
        writeln!(f, "| --- | --- |")?;
        writeln!(f, "| start of the agencies to the last one's winners, s | {} |", self.seconds)?;
        writeln!(f, "| bets a second | {} |", self.bets_per_second)?;
        let megabytes = |bytes: u64| bytes as f64 / 1e6;
        writeln!(
            f,
            "| bets a second of a plain write of the same {:.1} MB with one sync | {} |",
            megabytes(self.bets_bytes),
            self.raw_bets_per_second
        )?;
        writeln!(f, "| ratio | {} |", self.ratio)?;
        write!(f, "| most resident memory of the server, MB | {:.1} |", megabytes(self.peak_resident_bytes))
    }
}

/// Measures whole lotteries, each beside a plain write of its file, in alternating order.
pub async fn run(arguments: &LotteryArguments) -> anyhow::Result<LotteryReport> {
    let folder = tempfile::Builder::new().prefix("bench-").tempdir_in(&arguments.dir)?;
    let folder = std::path::absolute(folder.path())
        .map(|path| (path, folder))
        .context("the folder for the data has no absolute name")?;
    let (path, _kept) = &folder;
    let bets = write_bets(path, &shares(arguments))?;
    let count = arguments.bets as f64;
    let (mut seconds, mut rates, mut raws, mut ratios) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut peak, mut bets_bytes) = (0, 0);
    for round in 0..arguments.rounds {
        let early = if round % 2 == 1 { Some(raw_write(path, bets)?) } else { None };
        let (took, resident, bytes) = one_lottery(arguments, path, bets).await?;
        ensure!(bytes == bets, "bets.csv has {bytes} bytes, not the {bets} of all bets");
        let raw = match early {
            Some(raw) => raw,
            None => raw_write(path, bets)?,
        };
        let (took, raw) = (took.as_secs_f64(), raw.as_secs_f64());
        seconds.push(took);
        rates.push(count / took);
        raws.push(count / raw);
        ratios.push(raw / took);
        peak = peak.max(resident);
        bets_bytes = bytes;
    }
    Ok(LotteryReport {
        agencies: arguments.agencies,
        bets: arguments.bets,
        batch: arguments.batch,
        interrupted: arguments.interrupted,
        rounds: arguments.rounds,
        seconds: Spread::of(&seconds),
        bets_per_second: Spread::of(&rates),
        raw_bets_per_second: Spread::of(&raws),
        ratio: Spread::of(&ratios),
        bets_bytes,
        peak_resident_bytes: peak,
    })
}

/// Returns the number of bets of each agency: those of the course if they add up, or else equal shares.
fn shares(arguments: &LotteryArguments) -> Vec<u64> {
    let agencies = arguments.agencies as u64;
    if agencies == COURSE.len() as u64 && arguments.bets == COURSE.iter().sum::<u64>() {
        return COURSE.to_vec();
    }
    (0..agencies)
        .map(|agency| arguments.bets / agencies + u64::from(agency < arguments.bets % agencies))
        .collect()
}

/// Writes the files of the agencies, always with the same bets, and returns the length of `bets.csv` with all of them.
fn write_bets(folder: &Path, shares: &[u64]) -> anyhow::Result<u64> {
    let mut rng = StdRng::seed_from_u64(SEED);
    let mut bytes = 0;
    let mut line = String::new();
    for (agency, share) in (1..).zip(shares) {
        let file = File::create(folder.join(format!("agency-{agency}.csv")))?;
        let mut file = BufWriter::with_capacity(WRITE_BYTES, file);
        let prefix = format!("{agency},").len() as u64;
        for _ in 0..*share {
            line.clear();
            let first = FIRST_NAMES[rng.random_range(0..FIRST_NAMES.len())];
            let last = LAST_NAMES[rng.random_range(0..LAST_NAMES.len())];
            let document = rng.random_range(10_000_000..50_000_000);
            let (year, month) = (rng.random_range(1940..2006), rng.random_range(1..13));
            let (day, number) = (rng.random_range(1..29), rng.random_range(0..10_000));
            writeln!(line, "{first},{last},{document},{year}-{month:02}-{day:02},{number}")?;
            file.write_all(line.as_bytes())?;
            bytes += prefix + line.len() as u64 + 1;
        }
        file.flush()?;
    }
    Ok(bytes)
}

/// Holds one lottery. Returns how long it took, the most memory of the server, and the length of `bets.csv`.
async fn one_lottery(
    arguments: &LotteryArguments,
    folder: &Path,
    all_bytes: u64,
) -> anyhow::Result<(Duration, u64, u64)> {
    let data = folder.join("server");
    fs::create_dir_all(&data)?;
    let address = free_address()?;
    let mut batch = arguments.batch;
    if arguments.interrupted {
        let mut server = start_server(arguments, &data, address).await?;
        let agencies = start_agencies(arguments, folder, address, batch)?;
        while fs::metadata(data.join("bets.csv"))?.len() < all_bytes / 10 * 9 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        server.kill().await?;
        for mut agency in agencies {
            agency.kill().await?;
        }
        batch = (batch * 2 / 3).max(1);
    }
    let mut server = start_server(arguments, &data, address).await?;
    let started = Instant::now();
    for mut agency in start_agencies(arguments, folder, address, batch)? {
        let status = agency.wait().await?;
        ensure!(status.success(), "an agency failed: {status}");
    }
    let took = started.elapsed();
    let resident = peak_resident_bytes(&server)?;
    server.kill().await?;
    let bytes = fs::metadata(data.join("bets.csv"))?.len();
    fs::remove_dir_all(&data)?;
    Ok((took, resident, bytes))
}

async fn start_server(
    arguments: &LotteryArguments,
    data: &Path,
    address: SocketAddr,
) -> anyhow::Result<Child> {
    let mut server = program("lottery-server", data)?;
    server.args(["--page", "none"]);
    server.env("SERVER_IP", address.ip().to_string()).env("SERVER_PORT", address.port().to_string());
    server.env("NUMBER_OF_CLIENTS", arguments.agencies.to_string());
    let mut server = server.current_dir(data).spawn()?;
    listens(&mut server, address, READY_WITHIN).await?;
    Ok(server)
}

fn start_agencies(
    arguments: &LotteryArguments,
    folder: &Path,
    address: SocketAddr,
    batch: usize,
) -> anyhow::Result<Vec<Child>> {
    let mut agencies = Vec::new();
    for agency in 1..=arguments.agencies {
        let mut command = program("lottery-agency", folder)?;
        command.env("CLI_ID", agency.to_string()).env("CLI_SERVER_ADDRESS", address.to_string());
        command.env("CLI_BATCH_MAXAMOUNT", batch.to_string()).env("CLI_LOOP_PERIOD", LOOP_PERIOD);
        agencies.push(command.current_dir(folder).spawn()?);
    }
    Ok(agencies)
}

fn program(name: &str, data: &Path) -> anyhow::Result<Command> {
    let mut command = sibling(name)?;
    command.arg("--data-dir").arg(data);
    Ok(command)
}

/// Writes as many bytes as `bets.csv` has, in order, syncs once, and returns how long that took.
fn raw_write(folder: &Path, bytes: u64) -> anyhow::Result<Duration> {
    let path = folder.join("raw");
    let piece = vec![b'x'; WRITE_BYTES];
    let started = Instant::now();
    let mut file = File::create_new(&path)?;
    let mut left = bytes;
    while left > 0 {
        let part = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        file.write_all(&piece[..part])?;
        left -= part as u64;
    }
    file.sync_data()?;
    let took = started.elapsed();
    fs::remove_file(path)?;
    Ok(took)
}
