//! Reads the inbox: pieces of the replies to this transport's requests, and what askers say about its own replies.

use std::sync::Arc;

use redis::aio::MultiplexedConnection;
use redis::{RedisResult, Value, cmd, pipe};

use super::entry::{RedisEntry, entries_of_streams};
use super::link::BLOCK;
use super::shared::RedisShared;
use crate::brokered::pace::Pace;

/// The inbox of a program that is gone goes away after so many seconds.
const INBOX_SECONDS: u64 = 60;
/// The most letters that are read at once.
const LETTERS: usize = 16;
const LOST: &str = "the broker was started again, and what it held for this request may be lost";

/// What is known about the inbox from one connection to the next.
#[derive(Default)]
struct InboxState {
    /// The run of the server in which the inbox was made.
    run: Option<String>,
    last: String,
}

/// Reads for ever. Connects again by itself.
pub(crate) async fn read_inbox(shared: Arc<RedisShared>) {
    let mut state = InboxState::default();
    let mut pace = Pace::endless();
    let mut said = String::new();
    loop {
        let result = read_connection(&shared, &mut state, &mut pace).await;
        shared.link.note_break();
        if let Err(error) = result {
            // The same complaint again and again helps nobody.
            let text = error.to_string();
            if said != text {
                tracing::warn!(
                    peer = shared.link.peer(),
                    error = text,
                    "Redis is away, and is connected to again"
                );
                said = text;
            }
        }
        pace.pause().await;
    }
}

/// Reads until the connection breaks, or the inbox vanishes.
async fn read_connection(shared: &RedisShared, state: &mut InboxState, pace: &mut Pace) -> RedisResult<()> {
    let mut connection = shared.link.reader().await?;
    prepare(shared, state, &mut connection).await?;
    *pace = Pace::endless();
    let inbox = &shared.inbox;
    let mut read = Vec::new();
    loop {
        let mut commands = pipe();
        if !read.is_empty() {
            commands.cmd("XDEL").arg(inbox).arg(&read).ignore();
        }
        commands.cmd("EXPIRE").arg(inbox).arg(INBOX_SECONDS);
        commands.cmd("XREAD").arg("COUNT").arg(LETTERS).arg("BLOCK").arg(BLOCK.as_millis() as u64);
        commands.arg("STREAMS").arg(inbox).arg(&state.last);
        let (is_there, letters): (bool, Value) = commands.query_async(&mut connection).await?;
        if !is_there {
            state.run = Some(String::new());
            return Ok(());
        }
        read.clear();
        for entry in entries_of_streams(letters) {
            state.last.clone_from(&entry.id);
            read.push(entry.id.clone());
            deliver(shared, entry);
        }
    }
}

fn deliver(shared: &RedisShared, entry: RedisEntry) {
    let id = entry.id.clone();
    match entry.into_letter() {
        Some(letter) => shared.correspondence.receive(letter),
        None => tracing::warn!(id, "something in the inbox is no letter, and is dropped"),
    }
}

/// Makes the inbox if it is not there. If it was there in an earlier connection, what it held is lost.
async fn prepare(
    shared: &RedisShared,
    state: &mut InboxState,
    connection: &mut MultiplexedConnection,
) -> RedisResult<()> {
    let inbox = &shared.inbox;
    let info: String = cmd("INFO").arg("server").query_async(connection).await?;
    let run = info.lines().find_map(|line| line.strip_prefix("run_id:")).unwrap_or_default().trim();
    let is_there: bool = cmd("EXISTS").arg(inbox).query_async(connection).await?;
    if is_there && state.run.as_deref() == Some(run) {
        return Ok(());
    }
    if state.run.is_some() {
        tracing::info!(peer = shared.link.peer(), "Redis was started again");
        shared.correspondence.fail_all(LOST);
    }
    let mut commands = pipe();
    commands.atomic().cmd("DEL").arg(inbox).ignore();
    commands.cmd("XADD").arg(inbox).arg("*").arg("made").arg("now");
    commands.cmd("EXPIRE").arg(inbox).arg(INBOX_SECONDS).ignore();
    let (made,): (String,) = commands.query_async(connection).await?;
    state.last = made;
    state.run = Some(run.to_owned());
    Ok(())
}
