//! `lottery-server`: stores the agencies' bets, draws, and tells each agency its winners.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use page::{PageArguments, PageConfig};
use service::{cli, net};

use super::archive::{self, ArchiveWhich};
use super::board::LotteryBoard;
use super::connection;
use super::lottery_page::LotteryPage;
use super::store::{self, BETS_FILE, BetStore, JOURNAL_FILE, LotteryFiles};
use crate::action_log::action;
use crate::config::ServerConfig;
use crate::listener::LoggedListener;
use crate::start::{ProgramArguments, ProgramContext};

/// The port of the page, unless a flag says otherwise.
const PAGE_PORT: u16 = 5082;

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
pub struct LotteryServerArguments {
    /// Folder of bets.csv, lottery.journal and winners.csv, created if missing
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub data_dir: PathBuf,
    /// Connections served at the same time, 1 to 1000000; the server closes further ones at once
    #[arg(long, value_name = "COUNT", default_value_t = 4000, value_parser = cli::count(1..=1_000_000))]
    pub max_connections: usize,
    /// Moves the lottery in the data folder to sorteos/TIME/ there, and ends, instead of serving
    #[arg(long, value_name = "WHICH")]
    pub archive: Option<ArchiveWhich>,
    /// Where the page, metrics and health are served
    #[command(flatten)]
    pub page: PageArguments,
    /// Flags that all programs of TP0 have
    #[command(flatten)]
    pub common: ProgramArguments,
}

/// Runs the server until SIGTERM or SIGINT, or until nothing more can be stored.
///
/// # Errors
/// If the server cannot start, or if a file fails so that nothing more can be acknowledged.
pub async fn run(context: ProgramContext<LotteryServerArguments, ServerConfig>) -> anyhow::Result<()> {
    let ProgramContext { arguments, config, log, shutdown } = context;
    if let Some(which) = arguments.archive {
        return archive::run(&arguments.data_dir, which, &log);
    }
    config.tell(&log);
    let page = with_room(arguments.page.config(PAGE_PORT), arguments.max_connections)?;
    let page = page::bind(&page)?;
    let (files, contents) = LotteryFiles::open(&arguments.data_dir)?;
    let agencies = config.number_of_clients;
    let board = Arc::new(LotteryBoard::new(agencies));
    let store = BetStore::start(&arguments.data_dir, files, contents, agencies, log.clone(), board.clone());
    let files_open = [BETS_FILE, JOURNAL_FILE].map(|file| shutdown.hold(file));
    let listener = LoggedListener::open(&config, log.clone())?;
    let timeout = config.connection_timeout.duration();
    let page = page.map(|listener| {
        let source = LotteryPage::new(board.clone(), store.clone(), arguments.data_dir, timeout);
        service::run_beside("page", page::serve(listener, Arc::new(source), shutdown.clone()))
    });
    let page = page.transpose().context("cannot start the page's thread")?;
    let shared = Arc::new(connection::LotteryShared {
        log: log.clone(),
        timeout,
        store: store.clone(),
        board,
        shutdown: shutdown.clone(),
    });
    let failing = store.clone();
    let watcher = shutdown.request_on_failure("the store", async move { failing.failure().wait().await });
    let handle = |stream, peer| connection::serve(stream, peer, shared.clone());
    // A connection over the limit gets no line: that would look like the answer to a message.
    net::serve(listener, arguments.max_connections, String::new(), &shutdown, handle).await;
    drop((watcher, page));
    store.close().await;
    drop(files_open);
    for file in [BETS_FILE, JOURNAL_FILE] {
        action!(log, INFO, "close_file", "success", file);
    }
    action!(log, INFO, "join_thread", "success", thread = store::THREAD);
    store.failure().get().map_or(Ok(()), |failure| Err(failure.into()))
}

/// Makes room for connections and those of the page. A page that nobody asked for is left out where there is no room.
fn with_room(page: PageConfig, connections: usize) -> anyhow::Result<PageConfig> {
    match net::make_room_for(connections + page.connections()) {
        Ok(()) => Ok(page),
        Err(reason) if page.required => Err(anyhow::Error::msg(reason)),
        Err(reason) => {
            net::make_room_for(connections).map_err(anyhow::Error::msg)?;
            tracing::warn!(reason, "there is no page");
            Ok(PageConfig::none())
        }
    }
}
