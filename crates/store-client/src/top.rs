//! Watches the store: a picture that is drawn again and again, on a terminal, as plain lines or as JSON.
//!
//! | module | what it does |
//! | --- | --- |
//! | `view` | what the answers of the last minute say; knows neither clock nor terminal |
//! | `rows` | the datanodes as rows of a table, and which columns and rows fit |
//! | `picture` | the picture on a terminal, a function of view, size and time |
//! | `words` | the sentences of the picture |
//! | `lines` | the picture as plain lines and as JSON |
//! | `watch` | asks the headnode again and again |
//! | `terminal` | keys, drawing, and the terminal as it was before |

mod lines;
mod picture;
mod rows;
mod terminal;
#[cfg(test)]
mod tests;
mod view;
mod watch;
mod words;

use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant};

use service::Shutdown;
use tokio::sync::mpsc;

use crate::headnode::HeadnodeClient;
use crate::show::print;
use view::TopView;

/// Says what to watch, and how to show it.
#[derive(Debug, Clone)]
pub struct TopConfig {
    /// The headnode's address, for people.
    pub headnode: String,
    /// Time from one answer to the next request.
    pub interval: Duration,
    /// Whether to show one picture and end.
    pub once: bool,
    /// Whether to print JSON objects in place of pictures.
    pub json: bool,
}

/// Shows the store until the person ends it, or once.
///
/// # Errors
/// If nothing can be shown; with [`TopConfig::once`], also if the headnode does not answer.
pub async fn run(config: TopConfig, mut headnode: HeadnodeClient, shutdown: &Shutdown) -> anyhow::Result<()> {
    let TopConfig { headnode: address, interval, once, json } = config;
    let mut view = TopView::new(&address, interval);
    if once {
        let looked = look_twice(&mut view, &mut headnode, interval);
        tokio::select! {
            () = shutdown.requested() => anyhow::bail!("stopped before the end"),
            looked = looked => looked?,
        }
        return print(&lines::of(&view, json)?);
    }
    let (answers, told) = mpsc::channel(1);
    let shown = async {
        if json || !on_terminal() {
            lines::run(view, told, json).await
        } else {
            terminal::run(view, told).await
        }
    };
    // In one task, so that a panic of either ends the program.
    tokio::select! {
        () = shutdown.requested() => Ok(()),
        () = watch::run(headnode, interval, answers) => Ok(()),
        shown = shown => shown,
    }
}

/// Takes two answers, from which rates can be told.
async fn look_twice(
    view: &mut TopView,
    headnode: &mut HeadnodeClient,
    interval: Duration,
) -> anyhow::Result<()> {
    let first = headnode.status().await?;
    view.note(Instant::now(), Ok(first));
    tokio::time::sleep(interval).await;
    let second = headnode.status().await?;
    view.note(Instant::now(), Ok(second));
    Ok(())
}

/// Returns whether there is a terminal that can show pictures, and a person at it.
fn on_terminal() -> bool {
    let is_dumb = std::env::var_os("TERM").is_none_or(|kind| kind == "dumb");
    io::stdout().is_terminal() && io::stdin().is_terminal() && !is_dumb
}
