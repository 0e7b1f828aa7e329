//! The picture as plain lines and as JSON, for programs and for terminals that cannot show more.

use std::collections::BTreeMap;
use std::io;
use std::time::Instant;

use chrono::Utc;
use protocol::store::client_api::StoreStatus;
use protocol::store::types::NodeName;
use serde::Serialize;
use text::timestamp;
use tokio::sync::mpsc;

use super::rows::{datanodes, headings};
use super::view::TopView;
use super::watch::StatusAnswer;
use super::words;
use crate::show::{json_line, print};
use crate::table::aligned;

/// Prints the view after each answer, until whoever reads has gone.
pub async fn run(
    mut view: TopView,
    mut answers: mpsc::Receiver<StatusAnswer>,
    json: bool,
) -> anyhow::Result<()> {
    while let Some(answer) = answers.recv().await {
        view.note(Instant::now(), answer);
        let mut lines = of(&view, json)?;
        if !json {
            lines.push('\n');
        }
        match print(&lines) {
            Err(error) if is_closed(&error) => return Ok(()),
            printed => printed?,
        }
    }
    Ok(())
}

fn is_closed(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Returns the view as lines for people, or as one JSON object.
pub fn of(view: &TopView, json: bool) -> anyhow::Result<String> {
    if json { json_line(&TopJson::of(view)) } else { Ok(plain(view)) }
}

/// The object that `top --json` prints for each answer.
#[derive(Serialize)]
struct TopJson<'a> {
    /// When it was printed: RFC 3339, UTC.
    time: String,
    headnode: &'a str,
    /// Whether messages can be stored now.
    stores_messages: bool,
    /// Why there is no answer now. Everything below is absent then.
    #[serde(skip_serializing_if = "Option::is_none")]
    trouble: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    messages_per_second: Option<f64>,
    /// By name, which part of the records of the last minute each datanode stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    shares: Option<BTreeMap<&'a str, f64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fair_share: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'a StoreStatus>,
}

impl<'a> TopJson<'a> {
    fn of(view: &'a TopView) -> Self {
        let (time, headnode) = (timestamp(Utc::now()), view.headnode.as_str());
        let trouble = view.trouble.as_deref();
        let status = view.newest.as_ref().map(|(_, status)| status).filter(|_| trouble.is_none());
        let with_texts = |shares: BTreeMap<&'a NodeName, f64>| {
            shares.into_iter().map(|(name, share)| (name.as_str(), share)).collect()
        };
        Self {
            time,
            headnode,
            stores_messages: status.is_some_and(StoreStatus::stores_messages),
            trouble,
            messages_per_second: status.and(view.messages_per_second()),
            shares: status.and(view.shares()).map(with_texts),
            fair_share: status.and(view.fair_share()),
            status,
        }
    }
}

fn plain(view: &TopView) -> String {
    let mut lines = vec![words::verdict(view)];
    if let Some(trouble) = &view.trouble {
        lines.push(trouble.clone());
    } else if view.newest.is_some() {
        lines.push(words::totals(view));
    }
    let mut text = lines.join("\n");
    text.push('\n');
    if view.trouble.is_none() {
        let rows: Vec<_> =
            std::iter::once(headings()).chain(datanodes(view).into_iter().map(|(_, cells)| cells)).collect();
        text.push_str(&aligned(&rows));
    }
    text
}
