//! Command line arguments: flags take precedence over the environment, and the environment over defaults. Wrong
//! arguments are reported in one line.

use std::ffi::OsString;
use std::io::Write;
use std::net::SocketAddrV4;
use std::ops::RangeInclusive;
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::{RangedU64ValueParser, TypedValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgMatches, Command, FromArgMatches, Parser, ValueEnum};

/// The exit code for wrong arguments or configuration.
pub const USAGE: u8 = 2;

/// The flags that every program has.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Running")]
pub struct Common {
    /// Lowest severity of the events to log
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub log_level: LogLevel,
    /// Format of events on stderr
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
    /// Time to finish open work after SIGTERM or SIGINT, before the program exits anyway
    #[arg(long, value_name = "DURATION", default_value = "8s", value_parser = duration)]
    pub shutdown_deadline: Duration,
}

/// The severity of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[expect(missing_docs, reason = "the names say it")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// The format of events on stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One line per event, for people.
    Text,
    /// One JSON object per event, for programs.
    Json,
}

/// Parses a duration such as `5s`, `200ms` or `1m 30s`. Zero is refused.
///
/// # Errors
/// Fails with a text for people that says what is wrong with `text`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let duration = duration_or_zero(text)?;
    if duration.is_zero() { Err("must be more than 0, for example 200ms".to_owned()) } else { Ok(duration) }
}

/// Parses a duration such as `5s`, `200ms` or `1m 30s`, or `0`.
///
/// # Errors
/// Fails with a text for people that says what is wrong with `text`.
pub fn duration_or_zero(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{error}; allowed: durations like 5s, 200ms, 1m"))
}

/// Returns a parser of whole numbers within `range`, for clap.
pub fn count(range: RangeInclusive<usize>) -> impl TypedValueParser<Value = usize> {
    RangedU64ValueParser::<usize>::new().range(*range.start() as u64..=*range.end() as u64)
}

/// Checks that `text` is a host and a port, such as `localhost:5000`.
///
/// # Errors
/// Fails with a text for people that says what is wrong with `text`.
pub fn host_and_port(text: &str) -> Result<String, String> {
    let valid =
        text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    if valid { Ok(text.to_owned()) } else { Err("allowed: HOST:PORT, for example localhost:5000".to_owned()) }
}

/// Parses a multicast group and its port, such as `239.255.50.10:5003`.
///
/// # Errors
/// Fails with a text for people that says what is wrong with `text`.
pub fn multicast_group(text: &str) -> Result<SocketAddrV4, String> {
    let group: Option<SocketAddrV4> = text.parse().ok();
    group
        .filter(|group| group.ip().is_multicast() && group.port() != 0)
        .ok_or_else(|| "allowed: an IPv4 multicast address (224.0.0.0 to 239.255.255.255) and a port, for example 239.255.50.10:5003".to_owned())
}

/// Parses `arguments`, of which the first is the program's name. A flag `--some-name` that is not given, also one of a
/// subcommand, is read from the environment variable `PREFIX_SOME_NAME`.
///
/// # Errors
/// Fails with the exit code of the process. The reason, or the help that was asked for, has been printed by then.
pub fn parse<A: Parser>(prefix: &str, arguments: impl IntoIterator<Item = OsString>) -> Result<A, ExitCode> {
    let arguments: Vec<_> = arguments.into_iter().collect();
    let command = with_environment(A::command(), prefix);
    let parsed = command.clone().try_get_matches_from(&arguments);
    parsed.and_then(|matches| A::from_arg_matches(&matches)).map_err(|error| {
        if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
            // If stdout is closed, there is no way to report that.
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        let _ = writeln!(std::io::stderr(), "{}", one_line(&error, &command, &arguments));
        ExitCode::from(USAGE)
    })
}

fn with_environment(command: Command, prefix: &str) -> Command {
    let flags: Vec<_> = command
        .get_arguments()
        .filter_map(|flag| Some((flag.get_id().clone(), flag.get_long()?.to_owned())))
        .collect();
    let subcommands: Vec<_> =
        command.get_subcommands().map(|command| command.get_name().to_owned()).collect();
    let command = flags.into_iter().fold(command, |command, (id, long)| {
        let variable = format!("{prefix}_{}", long.to_uppercase().replace('-', "_"));
        command.mut_arg(id, |flag| flag.env(variable))
    });
    subcommands.into_iter().fold(command, |command, name| {
        command.mut_subcommand(name, |subcommand| with_environment(subcommand, prefix))
    })
}

/// Returns the flags of a command and of its subcommands.
fn flags(command: &Command) -> Vec<&Arg> {
    command.get_arguments().chain(command.get_subcommands().flat_map(flags)).collect()
}

/// Returns the first paragraph of clap's report in one line. If the value came from the environment, the line names the
/// variable.
fn one_line(error: &clap::Error, command: &Command, arguments: &[OsString]) -> String {
    let report = error.render().to_string();
    let first = report
        .lines()
        .take_while(|line| !line.trim().is_empty())
        .map(str::trim)
        .collect::<Vec<_>>()
        .join(" ");
    let origin = environment_origin(error, command, arguments).map(|name| format!(" (from {name})"));
    format!("{first}{}; try --help", origin.unwrap_or_default())
}

fn environment_origin(error: &clap::Error, command: &Command, arguments: &[OsString]) -> Option<String> {
    let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg) else { return None };
    let flag = flags(command).into_iter().find(|flag| {
        flag.get_long().is_some_and(|long| argument.split_whitespace().next() == Some(&format!("--{long}")))
    })?;
    let given = format!("--{}", flag.get_long()?);
    let on_command_line = arguments.iter().any(|word| {
        word.to_str().is_some_and(|word| word == given || word.starts_with(&format!("{given}=")))
    });
    let variable = flag.get_env()?;
    (!on_command_line && std::env::var_os(variable).is_some())
        .then(|| variable.to_string_lossy().into_owned())
}

/// Lets the flags of `T` stand before or after the subcommand.
#[derive(Debug, Clone)]
pub struct AtAnyPosition<T>(pub T);

impl<T: clap::Args> clap::Args for AtAnyPosition<T> {
    fn augment_args(command: Command) -> Command {
        everywhere(command, T::augment_args)
    }

    fn augment_args_for_update(command: Command) -> Command {
        everywhere(command, T::augment_args_for_update)
    }
}

fn everywhere(command: Command, augment: fn(Command) -> Command) -> Command {
    let before: Vec<_> = command.get_arguments().map(|flag| flag.get_id().clone()).collect();
    let command = augment(command);
    let all: Vec<_> = command.get_arguments().map(|flag| flag.get_id().clone()).collect();
    let added = all.into_iter().filter(|id| !before.contains(id));
    added.fold(command, |command, id| command.mut_arg(id, |flag| flag.global(true)))
}

impl<T: FromArgMatches> FromArgMatches for AtAnyPosition<T> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        T::from_arg_matches(matches).map(Self)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0.update_from_arg_matches(matches)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[derive(Debug, Parser)]
    struct Example {
        #[command(flatten)]
        common: Common,
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=9))]
        some_number: u16,
        #[command(subcommand)]
        action: Option<Action>,
    }

    #[derive(Debug, clap::Subcommand)]
    enum Action {
        Act {
            #[arg(long)]
            how_often: Option<u8>,
        },
    }

    fn report(words: &[&str]) -> String {
        let arguments: Vec<_> =
            std::iter::once("example").chain(words.iter().copied()).map(OsString::from).collect();
        let command = with_environment(Example::command(), "EXAMPLE_OF_TEST");
        let error = command.clone().try_get_matches_from(&arguments).unwrap_err();
        one_line(&error, &command, &arguments)
    }

    #[test]
    fn every_flag_has_its_variable() {
        let command = with_environment(Example::command(), "EXAMPLE");
        let variables: Vec<_> =
            flags(&command).iter().filter_map(|flag| flag.get_env()?.to_str().map(str::to_owned)).collect();
        let expected = [
            "EXAMPLE_LOG_LEVEL",
            "EXAMPLE_LOG_FORMAT",
            "EXAMPLE_SHUTDOWN_DEADLINE",
            "EXAMPLE_SOME_NUMBER",
            "EXAMPLE_HOW_OFTEN",
        ];
        assert_eq!(variables, expected);
    }

    #[test]
    fn a_wrong_value_is_one_line_with_key_value_and_what_is_allowed() {
        let number = report(&["--some-number", "12"]);
        assert_eq!(
            number,
            "error: invalid value '12' for '--some-number <SOME_NUMBER>': 12 is not in 1..=9; try --help"
        );
        let format = report(&["--log-format=xml"]);
        assert!(
            format.contains("'xml' for '--log-format <FORMAT>' [possible values: text, json]"),
            "{format}"
        );
        let deadline = report(&["--shutdown-deadline", "soon"]);
        assert!(deadline.contains("'soon'") && deadline.contains("5s, 200ms"), "{deadline}");
        assert!(report(&["--shutdown-deadline", "0s"]).contains("must be more than 0"));
        assert_eq!(duration_or_zero("0"), Ok(Duration::ZERO));
        assert_eq!(report(&["--nothing"]), "error: unexpected argument '--nothing' found; try --help");
    }
}
