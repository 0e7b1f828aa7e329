//! Floods the heartbeat of a store with datagrams of somebody who has not its key, and tells whether anybody was missed.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::Serialize;
use service::net::{Datagrams as _, Network as _, Sockets};

use crate::arguments::{FloodArguments, FloodTarget};
use crate::peers::Peer;
use crate::programs::processor_time;

/// The length of each datagram of the flood, in bytes: about that of a probe.
const DATAGRAM_BYTES: usize = 130;
/// The bytes of an overheard datagram that the flood repeats: the name of the key, which is no secret.
const NAME_BYTES: usize = 8;
/// How often the flood sends what is due.
const STEP: Duration = Duration::from_millis(2);

/// The effects that a flood had on the programs.
#[derive(Debug, Serialize)]
pub struct FloodReport {
    keyed: bool,
    target: FloodTarget,
    sent_per_second: f64,
    seconds: f64,
    rounds: usize,
    /// Lines of the heartbeat's file that call a datanode not operative.
    false_alarms: usize,
    /// Lines that call a datanode operative because of its link alone.
    by_link: usize,
    /// The share of one processor that the headnode used.
    headnode: f64,
    /// That of the busiest datanode.
    datanode: f64,
}

impl fmt::Display for FloodReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = if self.keyed { "a key" } else { "no key" };
        write!(
            f,
            "{:.0} datagrams a second at the {} for {:.0} s, with {key}: {} rounds, {} false alarms, {} times operative by the \
             link alone; of one processor the headnode used {:.2}, the busiest datanode {:.2}",
            self.sent_per_second,
            if self.target == FloodTarget::Headnode { "headnode" } else { "datanodes" },
            self.seconds,
            self.rounds,
            self.false_alarms,
            self.by_link,
            self.headnode,
            self.datanode
        )
    }
}

/// Floods a store of three datanodes, and measures what comes of it.
pub async fn run(arguments: &FloodArguments) -> anyhow::Result<FloodReport> {
    let flags = ["--log-level", "error"];
    let store = if arguments.plain {
        Peer::store(&arguments.dir, &flags).await?
    } else {
        Peer::keyed_store(&arguments.dir, &flags).await?
    };
    let group = store.group().context("a store has a group")?;
    let (headnode, mut datagram) = overheard(group).await?;
    datagram.truncate(NAME_BYTES);
    datagram.resize(DATAGRAM_BYTES, 7);
    let to = if arguments.target == FloodTarget::Headnode { headnode } else { group.into() };
    let file = || std::fs::read_to_string(store.data().join("headnode").join(records::HEARTBEAT_FILE));
    let (begun, before) = (Instant::now(), file()?.len());
    let used = || store.processes().map(processor_time).collect::<anyhow::Result<Vec<_>>>();
    let used_before = used()?;
    let ends = Arc::new(AtomicBool::new(false));
    let (is_over, rate) = (ends.clone(), arguments.rate);
    let flood = std::thread::spawn(move || flood(to, &datagram, rate, &is_over));
    tokio::time::sleep(arguments.length).await;
    ends.store(true, Ordering::Relaxed);
    let sent = flood.join().map_err(|_| anyhow::anyhow!("the flood ended in a panic"))??;
    let seconds = begun.elapsed().as_secs_f64();
    let shares: Vec<_> = used()?
        .iter()
        .zip(&used_before)
        .map(|(after, before)| (*after - *before).as_secs_f64() / seconds)
        .collect();
    let file = file()?.split_off(before);
    let lines = |part: &str| file.lines().filter(|line| line.contains(part)).count();
    Ok(FloodReport {
        keyed: !arguments.plain,
        target: arguments.target,
        sent_per_second: sent as f64 / seconds,
        seconds,
        rounds: lines(" operativos="),
        false_alarms: lines(" no operativo "),
        by_link: lines(" ENLACE"),
        headnode: shares[0],
        datanode: shares[1..].iter().copied().fold(0.0, f64::max),
    })
}

/// Returns the address of the headnode's heartbeat, and a probe as it is sent.
async fn overheard(group: std::net::SocketAddrV4) -> anyhow::Result<(SocketAddr, Vec<u8>)> {
    let member = Sockets.member(group, &"127.0.0.1".parse().map_err(anyhow::Error::msg)?).await?;
    let mut buffer = [0; 1500];
    let (length, from) = member.receive(&mut buffer).await?;
    Ok((from, buffer[..length].to_vec()))
}

/// Sends `rate` datagrams a second until it is over, and returns how many were sent.
fn flood(to: SocketAddr, datagram: &[u8], rate: u64, is_over: &AtomicBool) -> std::io::Result<u64> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let begun = Instant::now();
    let (mut due_until_now, mut sent) = (0, 0);
    while !is_over.load(Ordering::Relaxed) {
        let due = (begun.elapsed().as_secs_f64() * rate as f64) as u64;
        for _ in due_until_now..due {
            sent += u64::from(socket.send_to(datagram, to).is_ok());
        }
        due_until_now = due;
        std::thread::sleep(STEP);
    }
    Ok(sent)
}
