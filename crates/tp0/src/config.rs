//! Configuration: the environment over the file over the defaults.
//!
//! | servers: `config.ini`, section `[DEFAULT]`, and environment | default | allowed |
//! | --- | --- | --- |
//! | `SERVER_PORT` | 12345 | 0 (a free one) to 65535 |
//! | `SERVER_IP` | empty | an address to listen on; `localhost`; any other name, or nothing: all addresses |
//! | `SERVER_LISTEN_BACKLOG` | 4096 | 0 to 65535 |
//! | `LOGGING_LEVEL` | `INFO` | `DEBUG`, `INFO`, `WARNING`, `ERROR`, `CRITICAL` |
//! | `CONNECTION_TIMEOUT` | `60s` | a Go duration of more than 0, or a number of seconds |
//! | `NUMBER_OF_CLIENTS` | 5 | 1 to 1000000 |
//!
//! | clients: `config.yaml` | environment | default | allowed |
//! | --- | --- | --- | --- |
//! | `id` | `CLI_ID` | see below | 1 to 64 bytes without `,` `:` `\|` `/` `"` and control characters |
//! | `server.address` | `CLI_SERVER_ADDRESS` | `server:12345` | host and port |
//! | `loop.amount` | `CLI_LOOP_AMOUNT` | 5 | 0 to 18446744073709551615 |
//! | `loop.lapse` | `CLI_LOOP_LAPSE` | 0 (no limit) | a Go duration of at least 0 |
//! | `loop.period` | `CLI_LOOP_PERIOD` | `5s` | a Go duration of at least 0 |
//! | `log.level` | `CLI_LOG_LEVEL` | `INFO` | as above |
//! | `batch.maxAmount`, `batch.batch_size` | `CLI_BATCH_MAXAMOUNT`, `CLI_BATCH_BATCH_SIZE` | 150 | 1 to 1000000 |
//!
//! Keys are read in upper or lower case, as Python's and Go's libraries do. A variable that is set to nothing counts as not
//! set. A file in the current folder may be missing; one that was named may not. Keys that nobody reads are warned about.
//!
//! A client without an id (`docker compose up --scale client=N` gives all the same settings) takes `CLI_DEFAULT_ID`, which the
//! image sets to the number that Compose gave the container, and without that the host's name.

mod sources;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use crate::action_log::{ActionLevel, ActionLog, action};
use crate::go_duration::GoDuration;
use sources::Sources;

/// The servers' file.
pub const SERVER_FILE: &str = "config.ini";
/// The clients' file.
pub const CLIENT_FILE: &str = "config.yaml";

const LEVELS: &str = "DEBUG, INFO, WARNING, ERROR, CRITICAL";
const MAX_ID_BYTES: usize = 64;

/// Configuration that cannot be used: exit code 2.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read, or is not what its name says.
    #[error("cannot read the configuration {}: {cause}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// The system's or the parser's word.
        cause: String,
    },
    /// A value that is not allowed.
    #[error("invalid value {value:?} for {key} ({origin}): allowed: {allowed}")]
    Value {
        /// Which key, as the file or the environment calls it.
        key: String,
        /// What was given.
        value: String,
        /// Where it was given.
        origin: String,
        /// What is allowed.
        allowed: String,
    },
}

/// Configuration of `echo-server` and `lottery-server`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// TCP port to listen on; 0 takes a free one.
    pub port: u16,
    /// The server's address or name, as it was given.
    pub ip: String,
    /// Connections that wait in the kernel to be accepted.
    pub listen_backlog: u32,
    /// Least severe action lines to write.
    pub logging_level: ActionLevel,
    /// How long a connection may go without completing a message, or without taking its replies.
    pub connection_timeout: GoDuration,
    /// Agencies that the draw waits for.
    pub number_of_clients: usize,
}

impl ServerConfig {
    /// Reads it from the environment and from `file`, or else from `config.ini` in the current folder if it is there.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        Self::from_sources(file, &variable)
    }

    /// The same with another environment.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn from_sources(
        file: Option<&Path>,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let mut sources = Sources::read(file, SERVER_FILE, config::FileFormat::Ini, environment)?;
        let mut take = |name: &str| sources.take(&[&format!("DEFAULT.{name}")], &[name]);
        let config = Self {
            port: take("SERVER_PORT").parse(12345, "a port, 0 to 65535")?,
            ip: take("SERVER_IP").text().unwrap_or_default(),
            listen_backlog: take("SERVER_LISTEN_BACKLOG")
                .read(4096, "0 to 65535", |text| text.parse::<u16>().ok().map(u32::from))?,
            logging_level: take("LOGGING_LEVEL").parse(ActionLevel::Info, LEVELS)?,
            connection_timeout: take("CONNECTION_TIMEOUT").read(
                GoDuration::from_nanos(60_000_000_000),
                "a duration of more than 0, like 5s or 1m30s, or a number of seconds",
                timeout,
            )?,
            number_of_clients: take("NUMBER_OF_CLIENTS").read(5, "1 to 1000000", between_1_and_a_million)?,
        };
        sources.warn_about_the_rest();
        Ok(config)
    }

    /// Where to listen. A name stands for all addresses, as in the original: it is the one by which clients know the server.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        let ip = match self.ip.as_str() {
            "localhost" => Ipv4Addr::LOCALHOST.into(),
            ip => ip.parse().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        };
        SocketAddr::new(ip, self.port)
    }

    /// Writes the `config` line with which the server begins.
    pub fn tell(&self, log: &ActionLog) {
        action!(
            log,
            INFO,
            "config",
            "success",
            port = self.port,
            listen_backlog = self.listen_backlog,
            logging_level = %self.logging_level
        );
    }
}

/// Configuration of `echo-client` and `lottery-agency`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientConfig {
    /// Who this client, or which agency, is.
    pub id: String,
    /// Host and port of the server.
    pub server_address: String,
    /// Messages to send.
    pub loop_amount: u64,
    /// After this time no further message is begun; 0 for no limit.
    pub loop_lapse: GoDuration,
    /// Time to wait after each message, and before asking again whether the draw was held.
    pub loop_period: GoDuration,
    /// Least severe action lines to write.
    pub log_level: ActionLevel,
    /// Most bets in one batch.
    pub batch_max_amount: usize,
}

impl ClientConfig {
    /// Reads it from the environment and from `file`, or else from `config.yaml` in the current folder if it is there.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        Self::from_sources(file, &variable)
    }

    /// The same with another environment.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn from_sources(
        file: Option<&Path>,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let mut sources = Sources::read(file, CLIENT_FILE, config::FileFormat::Yaml, environment)?;
        let given_id = sources.take(&["id"], &["CLI_ID"]);
        let number = sources.take(&[], &["CLI_DEFAULT_ID"]);
        let duration = "a duration of at least 0, like 5s, 0m20s or 150ms";
        let config = Self {
            id: given_id.or(number).read(
                host_name(),
                "1 to 64 bytes, none of , : | / \" and control characters",
                id,
            )?,
            server_address: sources.take(&["server.address"], &["CLI_SERVER_ADDRESS"]).read(
                "server:12345".to_owned(),
                "HOST:PORT, for example server:12345",
                |text| service::cli::host_and_port(text).ok(),
            )?,
            loop_amount: sources
                .take(&["loop.amount"], &["CLI_LOOP_AMOUNT"])
                .parse(5, "a number of messages, at least 0")?,
            loop_lapse: sources.take(&["loop.lapse"], &["CLI_LOOP_LAPSE"]).read(
                GoDuration::default(),
                duration,
                not_negative,
            )?,
            loop_period: sources.take(&["loop.period"], &["CLI_LOOP_PERIOD"]).read(
                GoDuration::from_nanos(5_000_000_000),
                duration,
                not_negative,
            )?,
            log_level: sources.take(&["log.level"], &["CLI_LOG_LEVEL"]).parse(ActionLevel::Info, LEVELS)?,
            batch_max_amount: sources
                .take(
                    &["batch.maxAmount", "batch.batch_size"],
                    &["CLI_BATCH_MAXAMOUNT", "CLI_BATCH_BATCH_SIZE"],
                )
                .read(150, "1 to 1000000", between_1_and_a_million)?,
        };
        sources.warn_about_the_rest();
        Ok(config)
    }

    /// Writes the `config` line with which the client begins.
    pub fn tell(&self, log: &ActionLog) {
        action!(
            log,
            INFO,
            "config",
            "success",
            client_id = self.id,
            server_address = self.server_address,
            loop_amount = self.loop_amount,
            loop_period = %self.loop_period,
            log_level = %self.log_level
        );
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

fn host_name() -> String {
    nix::unistd::gethostname()
        .ok()
        .and_then(|name| id(&name.to_string_lossy()))
        .unwrap_or_else(|| format!("pid-{}", std::process::id()))
}

fn id(text: &str) -> Option<String> {
    let allowed = |c: char| !c.is_control() && !matches!(c, ',' | ':' | '|' | '/' | '"');
    (!text.is_empty() && text.len() <= MAX_ID_BYTES && text.chars().all(allowed)).then(|| text.to_owned())
}

fn between_1_and_a_million(text: &str) -> Option<usize> {
    text.parse().ok().filter(|number| (1..=1_000_000).contains(number))
}

fn not_negative(text: &str) -> Option<GoDuration> {
    text.parse().ok().filter(|duration: &GoDuration| duration.as_nanos() >= 0)
}

fn timeout(text: &str) -> Option<GoDuration> {
    let duration = text.parse().or_else(|_| format!("{text}s").parse::<GoDuration>());
    duration.ok().filter(|duration| duration.as_nanos() > 0)
}

#[cfg(test)]
mod tests;
