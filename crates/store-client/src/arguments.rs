//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use cluster_key::{KeyError, KeyHolder, Keyring};
use protocol::store::types::Id;
use service::cli::AtAnyPosition;
use service::{Common, cli};

use crate::datanode::DatanodeCommand;
use crate::keys::KeyCommand;
use crate::message::{DEFAULT_WINDOW, SessionOptions};
use crate::put::{GivenMessages, PutConfig, SummaryConfig};
use crate::top::TopConfig;
use crate::verify::NamedFile;

/// Stores messages through the headnode, keeps receipts for them, and checks that they are still there.
///
/// Exit code 0: everything was done; 1: something was not, and the log says why; 2: wrong arguments.
#[derive(Debug, Clone, clap::Parser)]
#[command(
    name = "store-client",
    version,
    after_help = "Examples:\n  \
        store-client put Hola \"¿Qué tal?\"\n  \
        seq 1000 | store-client --headnode headnode:5000 put -\n  \
        store-client list --last 3\n  \
        store-client top\n  \
        store-client get 01KAJ3YQ5WZ3M3J9Y8Q6T2B7XC\n  \
        store-client verify registro_cliente.txt datanode1/data.txt datanode2=/mnt/copy.txt\n\n\
        Each flag can also be set in the environment: --headnode as STORE_CLIENT_HEADNODE."
)]
pub struct StoreClientArguments {
    #[command(flatten)]
    pub settings: AtAnyPosition<StoreClientSettings>,
    #[command(subcommand)]
    pub action: StoreClientCommand,
}

/// The flags of every subcommand.
#[derive(Debug, Clone, Args)]
pub struct StoreClientSettings {
    /// The headnode's host and port
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:5000", value_parser = cli::host_and_port)]
    pub headnode: String,
    /// Folder of registro_cliente.txt, created if missing
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub data_dir: PathBuf,
    /// Longest time for which a message is tried, and a headnode that is not up is waited for
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = cli::duration)]
    pub wait: Duration,
    /// Longest wait for a reply before the client makes another connection
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = cli::duration)]
    pub reply_timeout: Duration,
    /// File of the client's key, which store-client key client makes, for a headnode that serves only who shows one
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    #[command(flatten)]
    pub common: Common,
}

impl StoreClientSettings {
    /// Reads the client's key, if there is to be one.
    ///
    /// # Errors
    /// Fails if the file cannot be used.
    pub fn keys(&self) -> Result<Option<Keyring>, KeyError> {
        self.key_file.as_ref().map(|path| Keyring::open(path, KeyHolder::Client)).transpose()
    }

    /// Returns the limits of a session.
    #[must_use]
    pub fn options(&self) -> SessionOptions {
        SessionOptions { wait: self.wait, reply_timeout: self.reply_timeout, window: DEFAULT_WINDOW }
    }
}

/// The subcommands.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum StoreClientCommand {
    /// Stores messages and appends a receipt for each to registro_cliente.txt
    ///
    /// A line on stdout says where each message is, once its receipt is on disk. A message that cannot be stored is tried
    /// again until --wait has passed, always with the same id, so nothing is stored twice.
    #[command(
        after_help = "Examples:\n  store-client put Hola \"¿Qué tal?\"\n  seq 1000 | store-client put -\n  \
                      store-client put -    (on a terminal: a message a line, Ctrl-D to end)"
    )]
    Put(PutArguments),
    /// Prints a message
    #[command(after_help = "Example:\n  store-client get 01KAJ3YQ5WZ3M3J9Y8Q6T2B7XC --json")]
    Get {
        /// Identifier of the message, as in registro_cliente.txt
        #[arg(value_name = "ID", value_parser = parse_id)]
        id: Id,
        /// Print the whole record as a JSON object
        #[arg(long)]
        json: bool,
    },
    /// Lists the last messages, newest first: time, id, places, client, beginning of the message
    #[command(after_help = "Example:\n  store-client list --last 1000 --json")]
    List {
        /// Number of messages to list
        #[arg(long, value_name = "N", default_value_t = 10)]
        last: u64,
        /// Print each message as a JSON object
        #[arg(long)]
        json: bool,
    },
    /// Shows the datanodes and totals
    Status {
        /// Print everything as a JSON object
        #[arg(long)]
        json: bool,
        /// Only tell whether messages can be stored now: exit code 0 if so, else 1 and a line that says why not
        ///
        /// The headnode is asked once, without waiting until it is up, as health checks want it.
        #[arg(long, conflicts_with = "json")]
        ready: bool,
    },
    /// Shows the datanodes, totals and rates, again and again
    ///
    /// On a terminal: q ends, p pauses, ? explains. With NO_COLOR set it has no colours. Elsewhere it
    /// prints a table after each answer.
    #[command(after_help = "Examples:\n  store-client top\n  store-client top --once\n  \
                            store-client top --json --interval 5s")]
    Top(TopArguments),
    /// Drains a datanode, or declares it lost
    #[command(subcommand)]
    Datanode(DatanodeCommand),
    /// Checks the copies of all messages
    ///
    /// Stdout names each message that is not healthy: under-replicated, damaged (a copy, and another one is good), lost,
    /// extra (more copies than wanted), not-reconciled (a datanode was not asked yet). Exit code 0: all messages are healthy
    /// or extra; 1: some are not.
    #[command(after_help = "Examples:\n  store-client fsck\n  store-client fsck --deep --json")]
    Fsck {
        /// Read each copy and check its checksum
        #[arg(long)]
        deep: bool,
        /// Print each message, and at the end the totals, as a JSON object
        #[arg(long)]
        json: bool,
    },
    /// Checks receipts against the files of the datanodes, without any server
    ///
    /// Each place of each receipt must hold the message, intact and just once. Stdout names each place that does not.
    #[command(
        after_help = "A datanode has the name of the folder that its data.txt is in, or the one in front of =.\n\n\
                      Example:\n  store-client verify client/registro_cliente.txt datanode1/data.txt \
                      datanode2=/mnt/copy.txt"
    )]
    Verify {
        /// Files with receipts (registro_cliente.txt, registro_server.txt) and with records (data.txt); their contents tell which is which
        #[arg(value_name = "[NAME=]FILE", required = true)]
        files: Vec<NamedFile>,
    },
    /// Makes the files of keys, which --key-file names
    #[command(subcommand)]
    Key(KeyCommand),
    /// Prints a completion script
    #[command(after_help = "Example:\n  store-client completions bash > \
                            ~/.local/share/bash-completion/completions/store-client")]
    Completions {
        /// Shell that the script is for
        shell: clap_complete::Shell,
    },
}

/// The arguments of `top`.
#[derive(Debug, Clone, Args)]
pub struct TopArguments {
    /// Time from one answer of the headnode to the next question, at least 100ms
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = interval)]
    pub interval: Duration,
    /// Print one table, with the rates of one interval, and end
    #[arg(long)]
    pub once: bool,
    /// Print a JSON object on a line of its own after each answer
    #[arg(long)]
    pub json: bool,
}

impl TopArguments {
    pub(crate) fn with(self, headnode: String) -> TopConfig {
        let Self { interval, once, json } = self;
        TopConfig { headnode, interval, once, json }
    }
}

/// The arguments of `put`.
#[derive(Debug, Clone, Args)]
pub struct PutArguments {
    /// Messages of any characters, each at most 64 KiB; a lone `-` reads them from standard input, line by line
    #[arg(value_name = "MESSAGE", required = true)]
    pub messages: Vec<String>,
    /// Print a table at the end: which message is where (only totals for messages from standard input)
    #[arg(long)]
    pub summary: bool,
    /// Command that the summary names for checking the receipts
    #[arg(long, value_name = "COMMAND")]
    pub check_command: Option<String>,
}

impl PutArguments {
    /// Returns what is to be stored and how. A lone `-` stands for standard input.
    pub(crate) fn with(self, settings: StoreClientSettings, keys: Option<Keyring>) -> PutConfig {
        let options = settings.options();
        let messages = match self.messages {
            messages if messages == ["-"] => GivenMessages::StandardInput,
            messages => GivenMessages::Texts(messages),
        };
        let summary = self.summary.then_some(SummaryConfig { check_command: self.check_command });
        let StoreClientSettings { headnode, data_dir, .. } = settings;
        PutConfig { headnode, keys, data_dir, options, messages, summary }
    }
}

/// Parses the time between two questions, which must not keep the headnode busy.
fn interval(text: &str) -> Result<Duration, String> {
    let interval = cli::duration(text)?;
    if interval < Duration::from_millis(100) {
        Err("must be at least 100ms".to_owned())
    } else {
        Ok(interval)
    }
}

fn parse_id(text: &str) -> Result<Id, String> {
    Id::from_string(text).map_err(|error| format!("{error}; allowed: 26 letters and digits, a ULID"))
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        StoreClientArguments::command().debug_assert();
    }

    #[test]
    fn flags_may_stand_before_or_after_the_subcommand() {
        let before = ["store-client", "--wait", "5s", "--log-level", "debug", "put", "Hola"];
        let after = ["store-client", "put", "Hola", "--wait", "5s", "--log-level", "debug"];
        for words in [before, after] {
            let settings = StoreClientArguments::parse_from(words).settings.0;
            assert_eq!(settings.wait, Duration::from_secs(5), "{words:?}");
            assert_eq!(settings.common.log_level, cli::LogLevel::Debug, "{words:?}");
        }
    }
}
