//! Lotería Nacional: agencies send bets, the server stores them, draws, and tells each agency its winners.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`server`] | `lottery-server`: arguments, start and end |
//! | `connection` | one agency's connection: requests in, replies and action lines out |
//! | `store` | `bets.csv`, `lottery.journal`, `winners.csv`: batches on disk before they are acknowledged, the draw |
//! | `archive` | `lottery-server --archive`: moves the files of a lottery away |
//! | `csv_line` | bets as lines of CSV, and back |
//! | [`agency`] | `lottery-agency`: bets from a file or the environment, until the winners are known |
//!
//! The grammar is that of [`protocol::lottery`].

pub mod agency;
mod archive;
mod connection;
mod csv_line;
pub mod server;
mod store;
