//! `lottery-agency`: sends its bets, and asks for its winners.
//!
//! When the connection breaks it begins again with its first batch. The server takes what it has already as done (see
//! [`Ledger`](super::store::Ledger)), so nothing is stored twice and nothing is left out, whatever became of the
//! acknowledgements on their way.
//!
//! At SIGTERM it begins nothing new. What is on its way is answered, and then it closes its file and its connection.

mod bets;
mod session;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use backon::{BackoffBuilder as _, ExponentialBuilder};
use protocol::lottery::Agency;
use service::{Shutdown, cli};
use tokio::time::{Instant, sleep, timeout};

use crate::action_log::{ActionLog, action, closed};
use crate::config::ClientConfig;
use crate::start::{self, Context};
use bets::Source;
use session::{Broken, Session};

/// Sends the bets of an agency to the lottery, and asks for the winners among them.
///
/// One bet from the environment (NOMBRE, APELLIDO, DOCUMENTO, NACIMIENTO, NUMERO, also with CLI_ in front), or, if none is
/// given there, all of agency-{id}.csv. Configured by config.yaml in the current folder and by the environment: CLI_ID,
/// CLI_SERVER_ADDRESS, CLI_BATCH_MAXAMOUNT, CLI_LOOP_PERIOD (the pause before asking again whether the draw was held),
/// CLI_LOG_LEVEL.
#[derive(Debug, Clone, clap::Parser)]
#[command(
    name = "lottery-agency",
    version,
    after_help = "Each flag can also be set in the environment: --data-dir as LOTTERY_AGENCY_DATA_DIR."
)]
pub struct Arguments {
    /// Folder of agency-{id}.csv
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub data_dir: PathBuf,
    /// File of the bets instead of agency-{id}.csv: first_name,last_name,document,birthdate,number
    #[arg(long, value_name = "FILE")]
    pub bets: Option<PathBuf>,
    /// With a single bet from the environment: say that it was the last one, and wait for the draw
    #[arg(long)]
    pub await_draw: bool,
    /// How long the server may be away, at the start or later, before the agency gives up
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = cli::duration)]
    pub wait: Duration,
    /// Batches that may be on their way without an answer, 1 to 1024
    #[arg(long, value_name = "COUNT", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub window: u16,
    /// Flags that all programs of TP0 have
    #[command(flatten)]
    pub common: start::Common,
}

/// Sends the bets and asks for the winners; ends early at SIGTERM or SIGINT.
///
/// # Errors
/// If a bet was refused, or the server is away for too long.
pub async fn run(context: Context<Arguments, ClientConfig>) -> anyhow::Result<()> {
    let Context { arguments, config, log, shutdown } = context;
    config.tell(&log);
    let agency: Agency = config.id.parse().with_context(|| format!("{:?} cannot be an agency", config.id))?;
    let variable = |name: &str| std::env::var(name).ok();
    let source = match Source::from_environment(variable) {
        Ok(Some(bet)) => bet,
        Ok(None) => {
            let usual = arguments.data_dir.join(format!("agency-{agency}.csv"));
            Source::File(arguments.bets.clone().unwrap_or(usual))
        }
        Err(error) => {
            action!(log, ERROR, "apuesta_enviada", "fail", error = %format_args!("{error:#}"));
            return Err(error);
        }
    };
    let client =
        Client { agency, source, arguments: &arguments, config: &config, log: &log, shutdown: &shutdown };
    client.run().await
}

/// What does not change from one connection to the next.
pub(super) struct Client<'a> {
    agency: Agency,
    source: Source,
    arguments: &'a Arguments,
    config: &'a ClientConfig,
    log: &'a ActionLog,
    shutdown: &'a Shutdown,
}

/// How far the agency has come.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The server knows that all is sent: what is left is to ask.
    finished: bool,
    /// Bets that were refused, in the last pass.
    refused: u64,
    /// Lines that are no bets were told of.
    told: bool,
    /// Whether something was heard on this connection.
    heard: bool,
}

impl Client<'_> {
    async fn run(&self) -> anyhow::Result<()> {
        let mut progress = Progress::default();
        let mut patience = Patience::new(self.arguments.wait);
        loop {
            progress.heard = false;
            let error = match self.attempt(&mut progress).await {
                Ok(()) => break,
                Err(Broken::Stopped) => return Ok(()),
                Err(Broken::Fatal(error)) => {
                    let why = format_args!("{error:#}");
                    if progress.finished {
                        action!(self.log, ERROR, "consulta_ganadores", "fail", error = %why);
                    } else {
                        action!(self.log, ERROR, "apuesta_enviada", "fail", error = %why);
                    }
                    return Err(error);
                }
                Err(Broken::Connection(error)) => error,
            };
            if progress.heard {
                patience = Patience::new(self.arguments.wait);
            }
            let server = &self.config.server_address;
            let paused = tokio::select! {
                biased;
                () = self.shutdown.requested() => return Ok(()),
                paused = patience.pause() => paused,
            };
            if let Err(given_up) = paused {
                let error = format!("{server} is away for {given_up:?}: {error:#}");
                action!(self.log, ERROR, "connect", "fail", client_id = %self.agency, error);
                bail!("{error}");
            }
            tracing::info!(%server, error = %format_args!("{error:#}"), "connecting again");
        }
        if progress.refused > 0 {
            bail!("{} bets were refused", progress.refused);
        }
        Ok(())
    }

    /// Goes as far as one connection takes it.
    async fn attempt(&self, progress: &mut Progress) -> Result<(), Broken> {
        let connected = tokio::select! {
            biased;
            () = self.shutdown.requested() => return Err(Broken::Stopped),
            connected = timeout(self.arguments.wait, Session::connect(&self.config.server_address)) => connected,
        };
        let mut session = connected.map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))??;
        let held = self.shutdown.hold("connection");
        let outcome = self.converse(&mut session, progress).await;
        drop((session, held));
        closed!(self.log, self.shutdown, "close_connection", client_id = self.config.id);
        outcome
    }

    async fn converse(&self, session: &mut Session, progress: &mut Progress) -> Result<(), Broken> {
        let goes_on = !self.source.is_single() || self.arguments.await_draw;
        if !progress.finished {
            session.send_bets(self, progress).await?;
            if goes_on {
                session.finish(self, progress).await?;
            }
        }
        if goes_on {
            session.await_winners(self, progress).await?;
        }
        Ok(())
    }

    /// Whether nothing new is to be begun.
    fn goes_on(&self) -> Result<(), Broken> {
        if self.shutdown.is_requested() { Err(Broken::Stopped) } else { Ok(()) }
    }
}

/// Pauses that grow, until the server was away for too long.
struct Patience {
    away_since: Instant,
    wait: Duration,
    pauses: backon::ExponentialBackoff,
}

impl Patience {
    fn new(wait: Duration) -> Self {
        let pauses = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(20))
            .with_max_delay(Duration::from_secs(1))
            .with_jitter()
            .without_max_times();
        Self { away_since: Instant::now(), wait, pauses: pauses.build() }
    }

    async fn pause(&mut self) -> Result<(), Duration> {
        let away = self.away_since.elapsed();
        if away >= self.wait {
            return Err(self.wait);
        }
        let pause = self.pauses.next().unwrap_or(Duration::from_secs(1));
        sleep(pause.min(self.wait - away)).await;
        Ok(())
    }
}
