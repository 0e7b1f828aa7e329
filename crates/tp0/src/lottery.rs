//! Lotería Nacional: agencies send bets, the server stores them, draws, and tells each agency its winners.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`server`] | `lottery-server`: arguments, start and end |
//! | `connection` | one agency's connection: requests in, replies and action lines out |
//! | `store` | `bets.csv`, `lottery.journal`, `winners.csv`: batches on disk before they are acknowledged, the draw |
//! | `archive` | `lottery-server --archive`: moves the files of a lottery away |
//! | `csv_line` | bets as lines of CSV, and back |
//! | `board`, `event` | what happens, for the page and monitors: counts, agencies, the last events |
//! | `metrics` | what monitors read |
//! | `lottery_page`, `frame`, `history` | what the page shows: sources, one moment, ten minutes |
//! | [`agency`] | `lottery-agency`: bets from a file or the environment, until the winners are known |
//!
//! The grammar is that of [`protocol::lottery`].

pub mod agency;
mod archive;
mod board;
mod connection;
mod csv_line;
mod event;
mod frame;
mod history;
mod lottery_page;
mod metrics;
pub mod server;
mod store;
