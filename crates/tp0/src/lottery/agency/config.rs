//! Flags of `lottery-agency`, and all that an agency runs with.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use protocol::lottery::AgencyName;
use service::cli;

use super::bets::BetSource;
use crate::action_log::{ActionLog, action};
use crate::config::{ClientConfig, environment_variable};
use crate::start::ProgramArguments;

/// Sends the bets of an agency to the lottery, and asks for the winners among them.
///
/// One bet comes from the environment (NOMBRE, APELLIDO, DOCUMENTO, NACIMIENTO, NUMERO, also with CLI_ in front), or, if
/// none is given there, all of agency-{id}.csv. Configured by config.yaml in the current folder and by the environment:
/// CLI_ID, CLI_SERVER_ADDRESS, CLI_BATCH_MAXAMOUNT, CLI_LOOP_PERIOD (the pause before asking again whether the draw was
/// held), CLI_LOG_LEVEL.
#[derive(Debug, Clone, clap::Parser)]
#[command(
    name = "lottery-agency",
    version,
    after_help = "Each flag can also be set in the environment: --data-dir as LOTTERY_AGENCY_DATA_DIR."
)]
pub struct AgencyArguments {
    /// Folder of agency-{id}.csv
    #[arg(long, value_name = "DIR", default_value = ".")]
    data_dir: PathBuf,
    /// File of the bets instead of agency-{id}.csv: first_name,last_name,document,birthdate,number
    #[arg(long, value_name = "FILE")]
    bets: Option<PathBuf>,
    /// Says that a single bet from the environment was the last one, and waits for the draw
    #[arg(long)]
    await_draw: bool,
    /// How long the server may be away, at the start or later, before the agency gives up
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = cli::duration)]
    wait: Duration,
    /// Batches that may be on their way without an answer, 1 to 1024
    #[arg(long, value_name = "COUNT", default_value_t = 16, value_parser = cli::count(1..=1024))]
    window: usize,
    /// Flags that all programs of TP0 have
    #[command(flatten)]
    pub common: ProgramArguments,
}

/// What an agency runs with.
#[derive(Debug)]
pub struct AgencyConfig {
    /// Name under which the agency sends its bets.
    pub agency: AgencyName,
    pub source: BetSource,
    /// Whether to say that all bets are sent, and to ask for the winners.
    pub awaits_draw: bool,
    /// The most batches that are on their way without an answer.
    pub window: usize,
    /// How long the server may be away.
    pub wait: Duration,
    pub server_address: String,
    /// The most bets in one batch.
    pub batch_max_amount: usize,
    /// The pause before asking again whether the draw was held.
    pub ask_period: Duration,
}

impl AgencyConfig {
    /// Checks the flags and the configuration, and looks for a single bet in the environment.
    ///
    /// # Errors
    /// If the id cannot be an agency's, or the environment holds something that is no bet.
    pub fn new(arguments: AgencyArguments, config: ClientConfig, log: &ActionLog) -> anyhow::Result<Self> {
        let agency: AgencyName =
            config.id.parse().with_context(|| format!("{:?} cannot be an agency", config.id))?;
        let single = BetSource::from_environment(environment_variable).inspect_err(
            |error| action!(log, ERROR, "apuesta_enviada", "fail", error = %format_args!("{error:#}")),
        )?;
        let usual = || arguments.data_dir.join(format!("agency-{agency}.csv"));
        let source = single.unwrap_or_else(|| BetSource::File(arguments.bets.unwrap_or_else(usual)));
        Ok(Self {
            awaits_draw: arguments.await_draw || !source.is_single(),
            agency,
            source,
            window: arguments.window,
            wait: arguments.wait,
            server_address: config.server_address,
            batch_max_amount: config.batch_max_amount,
            ask_period: config.loop_period.duration(),
        })
    }
}
