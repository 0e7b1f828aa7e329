//! Programs as processes: where they are, how they start, what they need.

use std::ffi::OsStr;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use service::net::{LocalGroup, TcpStream};
use tokio::process::{Child, Command};

/// A program that does not listen after this time has failed.
pub const READY_WITHIN: Duration = Duration::from_secs(10);

/// Returns the command of `program`: it reads and prints nothing, and its process is killed when it is dropped.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    command
}

/// Returns the command of a program of this workspace, as `cargo build` left it beside this one.
pub fn sibling(name: &str) -> anyhow::Result<Command> {
    program_in(&std::env::current_exe()?.with_file_name(""), name)
}

/// Returns the command of a program in the folder `programs`.
pub fn program_in(programs: &Path, name: &str) -> anyhow::Result<Command> {
    let path = programs.join(name);
    ensure!(path.exists(), "{} is missing: run `cargo build --release` first", path.display());
    Ok(command(path))
}

/// Returns the command of `headnode` or `datanode`, with the heartbeat on this machine alone.
pub fn store_part(name: &str, group: &LocalGroup, data: &Path) -> anyhow::Result<Command> {
    local_store_part(sibling(name)?, group, data)
}

/// Gives the command of a `headnode` or `datanode` the heartbeat on this machine alone, a folder, and no page.
pub fn local_store_part(mut command: Command, group: &LocalGroup, data: &Path) -> anyhow::Result<Command> {
    command.env("HEADNODE_PAGE", "none");
    command.args(["--interface", "127.0.0.1", "--group", &group.address.to_string(), "--data-dir"]).arg(data);
    Ok(command)
}

/// Waits until `process` accepts connections at `address`.
pub async fn listens(process: &mut Child, address: SocketAddr, within: Duration) -> anyhow::Result<()> {
    let started = Instant::now();
    while TcpStream::connect(address).await.is_err() {
        if let Some(status) = process.try_wait()? {
            bail!("the program for {address} ended at once: {status}");
        }
        ensure!(started.elapsed() < within, "nothing listens at {address} after {within:?}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

/// Returns an address of this machine whose port is free.
pub fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// Returns the resident memory of a program, in bytes.
pub fn resident_bytes(process: &Child) -> anyhow::Result<u64> {
    memory(process, "VmRSS:")
}

/// Returns the most resident memory that a program ever had, in bytes.
pub fn peak_resident_bytes(process: &Child) -> anyhow::Result<u64> {
    memory(process, "VmHWM:")
}

/// Returns the processor time that all threads of a program have used.
pub fn processor_time(process: &Child) -> anyhow::Result<Duration> {
    let id = process.id().context("the program has ended")?;
    let mut sum = Duration::ZERO;
    for thread in std::fs::read_dir(format!("/proc/{id}/task"))? {
        let figures = std::fs::read_to_string(thread?.path().join("schedstat"))?;
        sum += Duration::from_nanos(figures.split(' ').next().context("no schedstat")?.parse()?);
    }
    Ok(sum)
}

fn memory(process: &Child, name: &str) -> anyhow::Result<u64> {
    let id = process.id().context("the program has ended")?;
    let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).context("no such figure")?;
    let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kilobytes * 1024)
}
