//! Drives membership: datagrams and time in, datagrams, connections and `hearbeat_server.txt` out.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::net::{SocketAddr, SocketAddrV4};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use journal::{Failure, JournalFile};
use protocol::store::heartbeat::{Datagram, MAX_DATAGRAM_BYTES, Probe};
use protocol::store::types::NodeName;
use service::net::{Datagrams, Network};
use text::timestamp;
use tokio::time::{Instant, sleep_until};

use crate::directory::Directory;
use crate::link::{self, Link};
use crate::membership::{Action, Membership, Round, SILENT_ROUNDS};

/// Begins the word of a round's last line that tells how many have answered.
const TOTAL_KEY: &str = "operativos=";
/// What a round takes in `hearbeat_server.txt`, at most: 100,000 datanodes with the longest names.
const MAX_ROUND_BYTES: u64 = 20 * 1024 * 1024;
/// For how long nothing is received after the network refused to.
const PAUSE: Duration = Duration::from_millis(100);

/// The heartbeat's driver.
pub struct Heartbeat<N: Network> {
    pub datagrams: Arc<N::Datagrams>,
    pub group: SocketAddrV4,
    pub peers: Vec<String>,
    pub directory: Arc<Directory>,
    pub links: Arc<link::Context<N>>,
    pub file: JournalFile,
}

impl<N: Network> Heartbeat<N> {
    /// Goes on for ever, or until `hearbeat_server.txt` fails.
    pub async fn run(mut self) -> Failure {
        // One byte more than allowed, to notice what is too long.
        let mut buffer = [0; MAX_DATAGRAM_BYTES + 1];
        let mut junk = 0u64;
        let mut due = self.next_tick();
        // Moved only when it has to: setting a timer for each datagram costs a system call.
        let timer = sleep_until(due);
        tokio::pin!(timer);
        loop {
            let actions = tokio::select! {
                // Before receiving: a flood of datagrams must not hold up the rounds.
                biased;
                () = &mut timer => {
                    let (now, token) = (self.now(), self.directory.random());
                    self.directory.change(|state| state.membership.tick(now, token))
                }
                received = self.datagrams.receive(&mut buffer) => match received {
                    Ok((length, from)) => self.take(&buffer[..length], from, &mut junk),
                    Err(error) => {
                        tracing::debug!(%error, "cannot receive");
                        tokio::time::sleep(PAUSE).await;
                        Vec::new()
                    }
                }
            };
            for action in actions {
                if let Err(failure) = self.act(action).await {
                    return failure;
                }
            }
            let next = self.next_tick();
            if next != due {
                due = next;
                timer.as_mut().reset(due);
            }
        }
    }

    fn now(&self) -> Duration {
        Instant::now().duration_since(self.directory.start())
    }

    fn next_tick(&self) -> Instant {
        self.directory.start() + self.directory.look(Membership::next_tick)
    }

    fn take(&self, bytes: &[u8], from: SocketAddr, junk: &mut u64) -> Vec<Action> {
        let now = self.now();
        let outcome = match Datagram::decode(bytes) {
            Ok(Datagram::Answer(answer)) => {
                self.directory.change(|state| state.membership.answered(now, from, &answer)).ok()
            }
            _ => None,
        };
        outcome.unwrap_or_else(|| {
            *junk += 1;
            if junk.is_power_of_two() {
                tracing::warn!(%from, junk = *junk, "datagrams that are no answer, or to no probe of this round: dropped");
            }
            Vec::new()
        })
    }

    async fn act(&mut self, action: Action) -> Result<(), Failure> {
        match action {
            Action::ProbeAll(probe) => self.probe_all(probe).await,
            Action::ProbeOne(address, probe) => self.send(Datagram::Probe(probe), address).await,
            Action::Refuse(address, refused) => {
                tracing::error!(%address, reason = refused.reason, "datanode refused");
                self.send(Datagram::Refused(refused), address).await;
            }
            Action::Connect(name, incarnation, address) => {
                self.links.registry.expect(&name);
                let link = Arc::new(Link::new(name.clone(), incarnation, address));
                let old = self.directory.change(|state| state.links.insert(name, link.clone()));
                if let Some(old) = old {
                    old.give_up();
                }
                tokio::spawn(link.run(self.links.clone()));
            }
            Action::Disconnect(name) => {
                if let Some(link) = self.directory.change(|state| state.links.remove(&name)) {
                    link.give_up();
                }
            }
            Action::Report(round) => {
                self.report(&round)?;
                self.links.registry.note_completeness();
                let names = self.directory.look(|membership| membership.names().to_vec());
                for link in self.directory.available().iter() {
                    link.tell_peers(&names);
                }
            }
        }
        Ok(())
    }

    async fn send(&mut self, datagram: Datagram, to: SocketAddr) {
        // The next probe tries again.
        if let Err(error) = self.datagrams.send(&datagram.encode(), to).await {
            tracing::debug!(%to, %error, "cannot send");
        }
    }

    async fn probe_all(&mut self, probe: Probe) {
        self.datagrams.refresh();
        let datagram = Datagram::Probe(probe).encode();
        if let Err(error) = self.datagrams.multicast(&datagram, self.group).await {
            tracing::warn!(group = %self.group, %error, "cannot send the multicast probe: check --interface");
        }
        // A name that takes long to resolve must hold up nobody.
        for peer in self.peers.clone() {
            let (datagrams, datagram) = (self.datagrams.clone(), datagram.clone());
            tokio::spawn(async move {
                if let Err(error) = send_to_all(&*datagrams, &datagram, &peer).await {
                    tracing::debug!(peer, %error, "cannot probe a peer");
                }
            });
        }
    }

    fn report(&mut self, round: &Round) -> Result<(), Failure> {
        for node in round.nodes.iter().filter(|node| node.changed) {
            let state = word(node.round_trip.is_some());
            let address = node.address.map(tracing::field::display);
            tracing::info!(datanode = %node.name, address, round = round.number, "{state}");
        }
        if round.silent == SILENT_ROUNDS {
            tracing::warn!(
                group = %self.group,
                "no datanode has answered in {SILENT_ROUNDS} rounds: check that datanodes run, that --group is the same everywhere, \
                 and that the network carries multicast (--interface); where it does not, list the datanodes with --peers"
            );
        }
        let lines = lines(round, Utc::now());
        match self.file.write(lines.as_bytes()) {
            Err(error @ Failure::NoSpace(_)) => {
                tracing::error!(%error, "this round is not in hearbeat_server.txt");
                Ok(())
            }
            outcome => outcome.map(|_| ()),
        }
    }
}

/// Sends `datagram` to each IPv4 address of `peer`: one name may stand for many datanodes.
///
/// # Errors
/// If it has no such address; otherwise the last one of the network.
async fn send_to_all(datagrams: &impl Datagrams, datagram: &[u8], peer: &str) -> io::Result<()> {
    let addresses: Vec<_> = tokio::net::lookup_host(peer).await?.filter(SocketAddr::is_ipv4).collect();
    if addresses.is_empty() {
        return Err(io::Error::other("it has no IPv4 address"));
    }
    let mut sent = Ok(());
    for address in addresses {
        if let Err(error) = datagrams.send(datagram, address).await {
            sent = Err(error);
        }
    }
    sent
}

fn word(operative: bool) -> &'static str {
    if operative { "operativo" } else { "no operativo" }
}

/// What `hearbeat_server.txt` says of a round.
fn lines(round: &Round, now: DateTime<Utc>) -> String {
    let Round { number, nodes, answered, expected, .. } = round;
    let time = timestamp(now);
    let mut lines = String::new();
    for node in nodes {
        let round_trip = node
            .round_trip
            .map_or("-".to_owned(), |round_trip| format!("{:.3}ms", round_trip.as_secs_f64() * 1000.0));
        let change = if node.changed { " CAMBIO" } else { "" };
        let state = word(node.round_trip.is_some());
        let address = node.address.map_or("-".to_owned(), |address| address.to_string());
        // Writing to a String cannot fail.
        let _ =
            writeln!(lines, "{time} ronda={number} {} {address} {state} rtt={round_trip}{change}", node.name);
    }
    let missing = expected.saturating_sub(*answered);
    let _ =
        writeln!(lines, "{time} ronda={number} {TOTAL_KEY}{answered} esperados={expected} faltan={missing}");
    lines
}

/// The datanodes that the last whole round in `hearbeat_server.txt` names: all that earlier runs have known.
///
/// # Errors
/// The system's.
pub fn names_in_last_round(path: &Path) -> io::Result<Vec<NodeName>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(MAX_ROUND_BYTES)))?;
    let mut tail = Vec::new();
    file.take(MAX_ROUND_BYTES).read_to_end(&mut tail)?;
    let tail = String::from_utf8_lossy(&tail);
    let third_words = tail.lines().rev().map(|line| line.split(' ').nth(2).unwrap_or_default());
    let is_total = |word: &&str| word.starts_with(TOTAL_KEY);
    let last_round =
        third_words.skip_while(|word| !is_total(word)).skip(1).take_while(|word| !is_total(word));
    let mut names: Vec<NodeName> = last_round.filter_map(|word| word.parse().ok()).collect();
    names.reverse();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::membership::Sighting;

    #[test]
    fn golden_lines() {
        let node = |name: &str, round_trip, changed| Sighting {
            name: name.parse().unwrap(),
            address: Some("172.20.0.3:5001".parse().unwrap()),
            round_trip,
            changed,
        };
        let absent = Sighting { address: None, ..node("datanode3", None, true) };
        let round = Round {
            number: 7,
            nodes: vec![
                node("datanode1", Some(Duration::from_micros(412)), false),
                node("datanode2", None, true),
                absent,
            ],
            answered: 1,
            expected: 3,
            silent: 0,
        };
        let now = DateTime::from_timestamp_millis(1_795_253_400_123).unwrap();
        let time = "2026-11-21T09:30:00.123Z";
        let expected = format!(
            "{time} ronda=7 datanode1 172.20.0.3:5001 operativo rtt=0.412ms\n\
             {time} ronda=7 datanode2 172.20.0.3:5001 no operativo rtt=- CAMBIO\n\
             {time} ronda=7 datanode3 - no operativo rtt=- CAMBIO\n\
             {time} ronda=7 operativos=1 esperados=3 faltan=2\n"
        );
        assert_eq!(lines(&round, now), expected);
    }

    #[test]
    fn the_names_of_the_last_whole_round_are_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hearbeat_server.txt");
        let names = |text: &str| {
            std::fs::write(&path, text).unwrap();
            let names = names_in_last_round(&path).unwrap();
            names.iter().map(NodeName::to_string).collect::<Vec<_>>().join(",")
        };
        assert_eq!(names(""), "");
        let first = "t ronda=1 a 1.1.1.1:1 operativo rtt=1ms\nt ronda=1 operativos=1 esperados=3 faltan=2\n";
        assert_eq!(names(first), "a");
        let second = "t ronda=1 b - no operativo rtt=-\nt ronda=1 c - no operativo rtt=-\n";
        assert_eq!(names(&format!("{first}{second}")), "a", "the second round is not whole");
        let whole = format!("{first}{second}t ronda=1 operativos=0 esperados=3 faltan=3\nt ron");
        assert_eq!(names(&whole), "b,c");
        assert_eq!(names("hola\n\n x\n"), "", "somebody's own text");
    }
}
