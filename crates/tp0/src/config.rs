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
use std::path::Path;
use std::str::FromStr;

use config::FileFormat;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};

use crate::action_log::{ActionLevel, ActionLog, action};
use crate::go_duration::GoDuration;
pub use sources::ConfigError;
use sources::{Setting, Variables};

const MAX_ID_BYTES: usize = 64;

const fn setting(variables: &'static [&'static str], keys: &'static [&'static str]) -> Setting {
    Setting { variables, keys, last_variables: &[] }
}

const SERVER_SETTINGS: [Setting; 6] = [
    setting(&["SERVER_PORT"], &["DEFAULT.SERVER_PORT"]),
    setting(&["SERVER_IP"], &["DEFAULT.SERVER_IP"]),
    setting(&["SERVER_LISTEN_BACKLOG"], &["DEFAULT.SERVER_LISTEN_BACKLOG"]),
    setting(&["LOGGING_LEVEL"], &["DEFAULT.LOGGING_LEVEL"]),
    setting(&["CONNECTION_TIMEOUT"], &["DEFAULT.CONNECTION_TIMEOUT"]),
    setting(&["NUMBER_OF_CLIENTS"], &["DEFAULT.NUMBER_OF_CLIENTS"]),
];

const CLIENT_SETTINGS: [Setting; 7] = [
    Setting { variables: &["CLI_ID"], keys: &["id"], last_variables: &["CLI_DEFAULT_ID"] },
    setting(&["CLI_SERVER_ADDRESS"], &["server.address"]),
    setting(&["CLI_LOOP_AMOUNT"], &["loop.amount"]),
    setting(&["CLI_LOOP_LAPSE"], &["loop.lapse"]),
    setting(&["CLI_LOOP_PERIOD"], &["loop.period"]),
    setting(&["CLI_LOG_LEVEL"], &["log.level"]),
    setting(&["CLI_BATCH_MAXAMOUNT", "CLI_BATCH_BATCH_SIZE"], &["batch.maxAmount", "batch.batch_size"]),
];

/// The configuration of a program.
pub trait ProgramConfig: DeserializeOwned {
    /// The file in the current folder that is read where no other one is named.
    const FILE: &'static str;
    const FORMAT: FileFormat;
    const SETTINGS: &'static [Setting];

    /// Reads the configuration from `environment` and from `file`, or else from [`FILE`](Self::FILE) if that is there.
    fn read(file: Option<&Path>, environment: Variables<'_>) -> Result<Self, ConfigError> {
        sources::read(Self::SETTINGS, file, Self::FILE, Self::FORMAT, environment)
    }

    /// Returns the level of the action log.
    fn log_level(&self) -> ActionLevel;

    /// Returns the client's name in the last action lines; `None` for servers.
    fn client_id(&self) -> Option<&str> {
        None
    }
}

impl ProgramConfig for ServerConfig {
    const FILE: &'static str = "config.ini";
    const FORMAT: FileFormat = FileFormat::Ini;
    const SETTINGS: &'static [Setting] = &SERVER_SETTINGS;

    fn log_level(&self) -> ActionLevel {
        self.logging_level
    }
}

impl ProgramConfig for ClientConfig {
    const FILE: &'static str = "config.yaml";
    const FORMAT: FileFormat = FileFormat::Yaml;
    const SETTINGS: &'static [Setting] = &CLIENT_SETTINGS;

    fn log_level(&self) -> ActionLevel {
        self.log_level
    }

    fn client_id(&self) -> Option<&str> {
        Some(&self.id)
    }
}

/// Configuration of `echo-server` and `lottery-server`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ServerConfig {
    /// TCP port to listen on; 0 takes a free one.
    #[serde(rename = "DEFAULT.SERVER_PORT", deserialize_with = "port")]
    pub port: u16,
    /// The server's address or name, as it was given.
    #[serde(rename = "DEFAULT.SERVER_IP")]
    pub ip: String,
    /// The most connections that wait in the kernel to be accepted.
    #[serde(rename = "DEFAULT.SERVER_LISTEN_BACKLOG", deserialize_with = "listen_backlog")]
    pub listen_backlog: u16,
    /// The least severe action lines to write.
    #[serde(rename = "DEFAULT.LOGGING_LEVEL", deserialize_with = "level")]
    pub logging_level: ActionLevel,
    /// How long a connection may go without completing a message, or without taking its replies.
    #[serde(rename = "DEFAULT.CONNECTION_TIMEOUT", deserialize_with = "connection_timeout")]
    pub connection_timeout: GoDuration,
    /// How many agencies the draw waits for.
    #[serde(rename = "DEFAULT.NUMBER_OF_CLIENTS", deserialize_with = "between_1_and_a_million")]
    pub number_of_clients: usize,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            port: 12345,
            ip: String::new(),
            listen_backlog: 4096,
            logging_level: ActionLevel::Info,
            connection_timeout: GoDuration::from_seconds(60),
            number_of_clients: 5,
        }
    }
}

impl ServerConfig {
    /// Returns the address to listen on. A name, by which the clients know the server, stands for all addresses, as in the
    /// original.
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
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ClientConfig {
    /// Name of this client, or of this agency.
    #[serde(deserialize_with = "id")]
    pub id: String,
    /// Host and port of the server.
    #[serde(rename = "server.address", deserialize_with = "server_address")]
    pub server_address: String,
    /// How many messages to send.
    #[serde(rename = "loop.amount", deserialize_with = "loop_amount")]
    pub loop_amount: u64,
    /// After this time no further message is begun; 0 for no limit.
    #[serde(rename = "loop.lapse", deserialize_with = "duration")]
    pub loop_lapse: GoDuration,
    /// The pause after each message, and before asking again whether the draw was held.
    #[serde(rename = "loop.period", deserialize_with = "duration")]
    pub loop_period: GoDuration,
    /// The least severe action lines to write.
    #[serde(rename = "log.level", deserialize_with = "level")]
    pub log_level: ActionLevel,
    /// The most bets in one batch.
    #[serde(rename = "batch.maxAmount", deserialize_with = "between_1_and_a_million")]
    pub batch_max_amount: usize,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            id: host_name(),
            server_address: "server:12345".to_owned(),
            loop_amount: 5,
            loop_lapse: GoDuration::default(),
            loop_period: GoDuration::from_seconds(5),
            log_level: ActionLevel::Info,
            batch_max_amount: 150,
        }
    }
}

impl ClientConfig {
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

/// Returns the value of a variable in the process's environment.
pub fn environment_variable(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

fn host_name() -> String {
    nix::unistd::gethostname()
        .map(|name| name.to_string_lossy().into_owned())
        .ok()
        .filter(|name| is_id(name))
        .unwrap_or_else(|| format!("pid-{}", std::process::id()))
}

fn is_id(text: &str) -> bool {
    let allowed = |c: char| !c.is_control() && !matches!(c, ',' | ':' | '|' | '/' | '"');
    !text.is_empty() && text.len() <= MAX_ID_BYTES && text.chars().all(allowed)
}

/// Reads a setting, or fails with the text `allowed`, which [`sources::read`] puts into its error.
fn checked<'de, D, T>(from: D, allowed: &str, is_allowed: impl Fn(&T) -> bool) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr,
{
    let text = String::deserialize(from)?;
    text.parse().ok().filter(is_allowed).ok_or_else(|| D::Error::custom(allowed))
}

fn port<'de, D: Deserializer<'de>>(from: D) -> Result<u16, D::Error> {
    checked(from, "a port, 0 to 65535", |_| true)
}

fn listen_backlog<'de, D: Deserializer<'de>>(from: D) -> Result<u16, D::Error> {
    checked(from, "0 to 65535", |_| true)
}

fn level<'de, D: Deserializer<'de>>(from: D) -> Result<ActionLevel, D::Error> {
    checked(from, "DEBUG, INFO, WARNING, ERROR, CRITICAL", |_| true)
}

/// Reads a Go duration, or a plain number of seconds.
fn connection_timeout<'de, D: Deserializer<'de>>(from: D) -> Result<GoDuration, D::Error> {
    let text = String::deserialize(from)?;
    let duration: Option<GoDuration> = text.parse().or_else(|_| format!("{text}s").parse()).ok();
    duration.filter(|duration| *duration > GoDuration::default()).ok_or_else(|| {
        D::Error::custom("a duration of more than 0, like 5s or 1m30s, or a number of seconds")
    })
}

fn between_1_and_a_million<'de, D: Deserializer<'de>>(from: D) -> Result<usize, D::Error> {
    checked(from, "1 to 1000000", |number| (1..=1_000_000).contains(number))
}

fn id<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    checked(from, "1 to 64 bytes, none of , : | / \" and control characters", |id: &String| is_id(id))
}

fn server_address<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let is_address = |text: &String| service::cli::host_and_port(text).is_ok();
    checked(from, "HOST:PORT, for example server:12345", is_address)
}

fn loop_amount<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    checked(from, "a number of messages, at least 0", |_| true)
}

fn duration<'de, D: Deserializer<'de>>(from: D) -> Result<GoDuration, D::Error> {
    let allowed = "a duration of at least 0, like 5s, 0m20s or 150ms";
    checked(from, allowed, |duration| *duration >= GoDuration::default())
}

#[cfg(test)]
mod tests;
