//! Checks the copies of all messages, as the headnode knows them or as it reads them.

use anyhow::ensure;
use protocol::store::client_api::{CheckedMessage, ClientRequest, FsckPage, FsckVerdict, HeadnodeReply};
use protocol::store::types::{Id, Place};
use serde::Serialize;

use crate::headnode::{HeadnodeClient, unexpected};
use crate::show::{json_line, print};

/// How many messages got each verdict. This is the last object that `--json` prints.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
struct FsckTotals {
    healthy: u64,
    extra: u64,
    not_reconciled: u64,
    under_replicated: u64,
    damaged: u64,
    lost: u64,
    /// Messages whose lines in the registry are damaged.
    unreadable: u64,
}

impl FsckTotals {
    fn count(&mut self, page: &FsckPage) {
        self.healthy += page.healthy;
        for message in &page.others {
            let count = match message.verdict {
                FsckVerdict::Healthy => &mut self.healthy,
                FsckVerdict::Extra => &mut self.extra,
                FsckVerdict::NotReconciled => &mut self.not_reconciled,
                FsckVerdict::UnderReplicated => &mut self.under_replicated,
                FsckVerdict::Damaged => &mut self.damaged,
                FsckVerdict::Lost => &mut self.lost,
            };
            *count += 1;
        }
    }

    fn checked(&self) -> u64 {
        self.healthy + self.extra + self.problems()
    }

    fn problems(&self) -> u64 {
        self.not_reconciled + self.under_replicated + self.damaged + self.lost + self.unreadable
    }

    fn line(&self) -> String {
        let Self { healthy, extra, not_reconciled, under_replicated, damaged, lost, unreadable } = self;
        format!(
            "{healthy} sanos, {extra} con copias de más, {not_reconciled} sin comparar, {under_replicated} con \
             copias de menos, {damaged} con copias dañadas, {lost} perdidos, {unreadable} ilegibles en el registro\n"
        )
    }
}

/// The object that `--json` prints for each message that is not healthy.
#[derive(Serialize)]
struct CheckedJson<'a> {
    id: Id,
    verdict: FsckVerdict,
    places: &'a [Place],
    damaged: &'a [Place],
}

/// Prints each message that is not healthy, and totals.
///
/// # Errors
/// Fails if any message has a problem: too few copies, a damaged one, none, or one that nobody has compared yet.
pub async fn run(headnode: &mut HeadnodeClient, deep: bool, json: bool) -> anyhow::Result<()> {
    let mut totals = FsckTotals::default();
    let (mut next, mut registered) = (Some(0), None);
    while let Some(from) = next {
        let page = match headnode.ask(ClientRequest::Fsck { deep, from }).await? {
            HeadnodeReply::Fsck(page) => page,
            other => return Err(unexpected(&other)),
        };
        let mut lines = String::new();
        for message in &page.others {
            lines.push_str(&if json { json_line(&as_json(message))? } else { line(message)? });
        }
        print(&lines)?;
        totals.count(&page);
        registered.get_or_insert(page.messages);
        next = page.next.filter(|next| *next > from);
    }
    // Messages that are stored meanwhile only add to those that were checked.
    totals.unreadable = registered.unwrap_or(0).saturating_sub(totals.checked());
    print(&if json { json_line(&totals)? } else { totals.line() })?;
    let problems = totals.problems();
    ensure!(problems == 0, "messages with problems: {problems}");
    Ok(())
}

fn as_json(message: &CheckedMessage) -> CheckedJson<'_> {
    let CheckedMessage { id, verdict, places, damaged } = message;
    CheckedJson { id: *id, verdict: *verdict, places, damaged }
}

fn line(message: &CheckedMessage) -> anyhow::Result<String> {
    let CheckedMessage { id, verdict, places, damaged } = message;
    let join = |places: &[Place]| places.iter().map(Place::to_string).collect::<Vec<_>>().join(",");
    let verdict = serde_json::to_value(verdict)?;
    let verdict = verdict.as_str().unwrap_or_default();
    let damaged = if damaged.is_empty() { String::new() } else { format!(" damaged={}", join(damaged)) };
    Ok(format!("{verdict} {id} {}{damaged}\n", join(places)))
}
