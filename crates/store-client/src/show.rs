//! Shows what the headnode knows, to people and, as JSON, to programs.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{bail, ensure};
use indicatif::HumanBytes;
use protocol::store::client_api::{
    ClientRequest, HeadnodeReply, LIST_PAGE, NodeState, NodeStatus, RegistryEntry, StoreStatus,
};
use protocol::store::types::{Id, Place, UnavailableCause};
use serde::Serialize;
use text::{Quoted, Shown};

use crate::headnode::{HeadnodeClient, unexpected};
use crate::table::aligned;
use crate::verdict;

/// The object that `get --json` prints.
#[derive(Serialize)]
struct RecordJson<'a> {
    id: Id,
    time: &'a str,
    client: SocketAddr,
    message: &'a str,
    from: &'a Place,
}

/// Prints a message byte for byte, or escaped if standard output is a terminal.
pub async fn get(headnode: &mut HeadnodeClient, id: Id, json: bool) -> anyhow::Result<()> {
    let reply = headnode.ask(ClientRequest::Get { id }).await?;
    let HeadnodeReply::Record { id: found, time, client, message, from } = &reply else {
        return Err(unexpected(&reply));
    };
    if *found != id {
        bail!("the headnode gave message {found} instead: is it a headnode?");
    }
    if json {
        return print(&json_line(&RecordJson { id, time, client: *client, message, from })?);
    }
    if std::io::stdout().is_terminal() {
        return print(&format!("{}\n", Shown(message)));
    }
    print(&format!("{message}\n"))
}

/// Prints the last messages, newest first.
pub async fn list(headnode: &mut HeadnodeClient, last: u64, json: bool) -> anyhow::Result<()> {
    let (mut left, mut mark) = (last, None);
    while left > 0 {
        let page = usize::try_from(left).unwrap_or(LIST_PAGE).min(LIST_PAGE);
        let reply = headnode.ask(ClientRequest::List { last: page, before: mark }).await?;
        let HeadnodeReply::Messages { entries, before } = reply else { return Err(unexpected(&reply)) };
        let mut lines = String::new();
        for entry in &entries {
            lines.push_str(&if json { json_line(entry)? } else { entry_line(entry) });
        }
        print(&lines)?;
        left = left.saturating_sub(entries.len() as u64);
        if before.is_none() || entries.is_empty() {
            break;
        }
        mark = before;
    }
    Ok(())
}

/// Prints the datanodes and totals.
pub async fn status(headnode: &mut HeadnodeClient, json: bool) -> anyhow::Result<()> {
    let status = headnode.status().await?;
    print(&if json { json_line(&status)? } else { table(&status) })
}

/// Prints the verdict if messages can be stored now.
///
/// # Errors
/// Says why they cannot.
pub async fn ready(headnode: &mut HeadnodeClient) -> anyhow::Result<()> {
    let status = headnode.status_now().await?;
    let StoreStatus { available, replicas, .. } = status;
    ensure!(
        status.stores_messages(),
        "messages cannot be stored now: available datanodes: {available}, needed for each message: {replicas}"
    );
    print(&format!("{}\n", verdict::of(&status)))
}

/// Prints `text` to standard output.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    Ok(stdout.flush()?)
}

/// Returns one line of JSON. Characters that a terminal would act on can only stand inside strings, where their escapes
/// mean the same.
pub fn json_line(value: &impl Serialize) -> anyhow::Result<String> {
    Ok(format!("{}\n", Shown(&serde_json::to_string(value)?)))
}

fn entry_line(entry: &RegistryEntry) -> String {
    let RegistryEntry { time, id, client, places, beginning, .. } = entry;
    let places: Vec<_> = places.iter().map(Place::to_string).collect();
    let beginning = beginning.as_deref().map(|text| format!(" {}", Quoted(text))).unwrap_or_default();
    format!("{} {id} {} {client}{beginning}\n", Shown(time), places.join(","))
}

/// The headings of [`node_cells`].
pub const HEADINGS: [&str; 9] = [
    "datanode",
    "estado",
    "dirección",
    "registros",
    "perdidos",
    "libre",
    "última respuesta",
    "ida y vuelta",
    "causa",
];

fn table(status: &StoreStatus) -> String {
    let rows: Vec<_> =
        std::iter::once(HEADINGS.map(str::to_owned)).chain(status.datanodes.iter().map(node_cells)).collect();
    let mut table = aligned(&rows);
    let StoreStatus { operative, available, messages, replicas, round, epoch, .. } = status;
    let expected = verdict::expected(status);
    let epoch = epoch.map(|epoch| format!(", época {}", epoch.number)).unwrap_or_default();
    let totals = format!(
        "{operative} de {expected} operativos, {available} disponibles, {messages} mensajes, réplicas {replicas}, \
         ronda {round}{epoch}"
    );
    writeln!(table, "{totals}").expect("writing to a String cannot fail");
    table
}

/// Returns what `status` knows about a datanode, as a row for people.
pub fn node_cells(node: &NodeStatus) -> [String; HEADINGS.len()] {
    let NodeStatus {
        name,
        state,
        address,
        records,
        lost,
        free_bytes,
        last_answer,
        round_trip_us,
        cause,
        draining,
    } = node;
    // Of a datanode that is away, its absence is more important.
    let is_drained = *draining && *state == NodeState::Available;
    // The headnode knows nothing but the name of a datanode that has not answered since the headnode started.
    let unless_absent = |shown: String| if address.is_some() { shown } else { "-".to_owned() };
    [
        name.to_string(),
        if is_drained { "se retira" } else { state.as_str() }.to_owned(),
        address.map_or("-".to_owned(), |address| address.to_string()),
        records.to_string(),
        lost.to_string(),
        unless_absent(HumanBytes(*free_bytes).to_string()),
        last_answer.as_deref().map_or("-".to_owned(), |time| Shown(time).to_string()),
        unless_absent(format!("{:.1?}", Duration::from_micros(*round_trip_us))),
        cause.map_or("-", UnavailableCause::as_str).to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use protocol::store::types::Epoch;

    use super::*;

    #[test]
    fn the_table_is_aligned_and_ends_in_totals() {
        let node = |name: &str, state, free_bytes| NodeStatus {
            name: name.parse().unwrap(),
            state,
            address: Some("172.20.0.3:5001".parse().unwrap()),
            records: 17,
            lost: 3,
            free_bytes,
            last_answer: Some("2026-11-21T09:30:00.123Z".to_owned()),
            round_trip_us: 1412,
            cause: None,
            draining: false,
        };
        let not_connected =
            NodeStatus { cause: Some(UnavailableCause::Closed), ..node("d2", NodeState::Operative, 999) };
        let absent = NodeStatus {
            cause: Some(UnavailableCause::NoAnswer),
            address: None,
            last_answer: None,
            lost: 0,
            ..node("datanode3", NodeState::NotOperative, 0)
        };
        let drained = NodeStatus { draining: true, ..node("d4", NodeState::Available, 999) };
        let datanodes =
            vec![node("datanode1", NodeState::Available, 3 << 29), not_connected, absent, drained];
        let (operative, available, expected, replicas) = (3, 1, 4, 1);
        let epoch = Some(Epoch::after(None, protocol::store::types::ulid(1, 2)));
        let status = StoreStatus {
            datanodes,
            operative,
            available,
            expected,
            replicas,
            messages: 34,
            round: 7,
            epoch,
        };
        let expected = "\
datanode   estado        dirección        registros  perdidos  libre     última respuesta          ida y vuelta  causa
datanode1  disponible    172.20.0.3:5001  17         3         1.50 GiB  2026-11-21T09:30:00.123Z  1.4ms         -
d2         operativo     172.20.0.3:5001  17         3         999 B     2026-11-21T09:30:00.123Z  1.4ms         se cerró la conexión
datanode3  no operativo  -                17         0         -         -                         -             no responde al latido
d4         se retira     172.20.0.3:5001  17         3         999 B     2026-11-21T09:30:00.123Z  1.4ms         -
3 de 4 operativos, 1 disponibles, 34 mensajes, réplicas 1, ronda 7, época 1
";
        assert_eq!(table(&status), expected);
    }

    #[test]
    fn json_is_safe_for_a_terminal_and_means_the_same() {
        let nasty = "a\u{9b}31m\u{202e}\"\\\n\u{1b}";
        let line = json_line(&nasty).unwrap();
        assert!(!line.trim_end().contains(|c: char| c.is_control() || c == '\u{202e}'), "{line:?}");
        assert_eq!(serde_json::from_str::<String>(&line).unwrap(), nasty);
    }
}
