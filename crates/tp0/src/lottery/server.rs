//! `lottery-server`: stores the agencies' bets, draws, and tells each agency its winners.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use clap::builder::{RangedU64ValueParser, TypedValueParser as _};
use service::{Shutdown, net};

use super::archive::{self, Which};
use super::connection;
use super::store::{self, BETS_FILE, Files, JOURNAL_FILE, Store};
use crate::action_log::action;
use crate::config::ServerConfig;
use crate::listener::LoggedListener;
use crate::start::{self, Context};

/// Stores the bets of agencies in bets.csv, draws when NUMBER_OF_CLIENTS agencies have sent all theirs, and tells each
/// its winners.
///
/// Configured by config.ini in the current folder and by the environment: SERVER_PORT, SERVER_IP, SERVER_LISTEN_BACKLOG,
/// LOGGING_LEVEL, CONNECTION_TIMEOUT, NUMBER_OF_CLIENTS. A bet is acknowledged once it is on disk.
#[derive(Debug, Clone, clap::Parser)]
#[command(
    name = "lottery-server",
    version,
    after_help = "Each flag can also be set in the environment: --data-dir as LOTTERY_SERVER_DATA_DIR."
)]
pub struct Arguments {
    /// Folder of bets.csv, lottery.journal and winners.csv, created if missing
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub data_dir: PathBuf,
    /// Connections served at the same time, 1 to 1000000; further ones are closed at once
    #[arg(long, value_name = "COUNT", default_value_t = 4000, value_parser = count())]
    pub max_connections: usize,
    /// Instead of serving: move the lottery in the data folder to sorteos/TIME/ there, and end
    #[arg(long, value_name = "WHICH")]
    pub archive: Option<Which>,
    /// Flags that all programs of TP0 have
    #[command(flatten)]
    pub common: start::Common,
}

fn count() -> impl clap::builder::TypedValueParser<Value = usize> {
    RangedU64ValueParser::<u64>::new()
        .range(1..=1_000_000)
        .map(|value| usize::try_from(value).unwrap_or(usize::MAX))
}

/// Runs the server until SIGTERM or SIGINT, or until nothing more can be stored.
///
/// # Errors
/// If it cannot start, or if a file fails so that nothing more can be acknowledged.
pub async fn run(context: Context<Arguments, ServerConfig>) -> anyhow::Result<()> {
    let Context { arguments, config, log, shutdown } = context;
    if let Some(which) = arguments.archive {
        return archive::run(&arguments.data_dir, which, &log);
    }
    config.tell(&log);
    net::make_room_for(arguments.max_connections).map_err(anyhow::Error::msg)?;
    let (files, contents) = Files::open(&arguments.data_dir)?;
    let agencies = config.number_of_clients;
    let store = Store::start(&arguments.data_dir, files, contents, agencies, log.clone())
        .context("cannot start the thread that stores")?;
    let files_open = [BETS_FILE, JOURNAL_FILE].map(|file| shutdown.hold(file));
    let listener = LoggedListener::open(&config, log.clone())?;
    let shared = Arc::new(connection::Shared {
        log: log.clone(),
        timeout: config.connection_timeout.duration(),
        store: store.clone(),
        shutdown: shutdown.clone(),
    });
    let watcher = tokio::spawn(end_with(store.clone(), shutdown.clone()));
    let handle = |stream, peer| connection::serve(stream, peer, shared.clone());
    // Whoever is refused is told nothing: it would look like the answer to a message.
    net::serve(listener, arguments.max_connections, String::new(), &shutdown, handle).await;
    watcher.abort();
    store.close().await;
    drop(files_open);
    for file in [BETS_FILE, JOURNAL_FILE] {
        action!(log, INFO, "close_file", "success", file);
    }
    action!(log, INFO, "join_thread", "success", thread = store::THREAD);
    store.failure().map_or(Ok(()), |failure| Err(failure.into()))
}

/// Files that failed take nothing more: the server ends.
async fn end_with(store: Store, shutdown: Shutdown) {
    let failure = store.failed().await;
    tracing::error!(%failure, "shutting down: nothing more can be stored");
    shutdown.request();
}
