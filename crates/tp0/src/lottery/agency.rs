//! `lottery-agency`: sends its bets, and asks for its winners.
//!
//! When the connection breaks, the agency begins again with its first batch. The server takes what it has already as done
//! (see `store::ledger`), so nothing is stored twice and nothing is left out, whatever became of the
//! acknowledgements on their way.
//!
//! At SIGTERM the agency begins nothing new. It waits for the answers to what is on its way, and closes its file and its
//! connection.

mod bets;
mod config;
mod session;

use std::time::Duration;

use anyhow::bail;
use backon::{BackoffBuilder as _, ExponentialBuilder};
use service::Shutdown;
use tokio::time::{Instant, sleep};

use crate::action_log::{ActionLog, action, closed};
use crate::config::ClientConfig;
use crate::start::ProgramContext;
pub use config::AgencyArguments;
use config::AgencyConfig;
use session::{AgencyProgress, AgencySession, SessionEnd};

/// Sends the bets and asks for the winners; ends early at SIGTERM or SIGINT.
///
/// # Errors
/// If a bet was refused, or the server is away for too long.
pub async fn run(context: ProgramContext<AgencyArguments, ClientConfig>) -> anyhow::Result<()> {
    let ProgramContext { arguments, config, log, shutdown } = context;
    config.tell(&log);
    let config = AgencyConfig::new(arguments, config, &log)?;
    let mut progress = AgencyProgress::default();
    let mut patience = ServerPatience::new(config.wait);
    loop {
        progress.heard = false;
        let error = match attempt(&config, &log, &shutdown, &mut progress).await {
            Ok(()) => break,
            Err(SessionEnd::Stopped) => return Ok(()),
            Err(SessionEnd::Fatal(error)) => {
                let why = format_args!("{error:#}");
                if progress.is_finished {
                    action!(log, ERROR, "consulta_ganadores", "fail", error = %why);
                } else {
                    action!(log, ERROR, "apuesta_enviada", "fail", error = %why);
                }
                return Err(error);
            }
            Err(SessionEnd::Connection(error)) => error,
        };
        if progress.heard {
            patience = ServerPatience::new(config.wait);
        }
        let server = &config.server_address;
        let paused = tokio::select! {
            biased;
            () = shutdown.requested() => return Ok(()),
            paused = patience.pause() => paused,
        };
        if let Err(given_up) = paused {
            let error = format!("{server} is away for {given_up:?}: {error}");
            action!(log, ERROR, "connect", "fail", client_id = config.agency.as_str(), error);
            bail!("{error}");
        }
        tracing::info!(%server, %error, "connecting again");
    }
    if progress.refused > 0 {
        bail!("{} bets were refused", progress.refused);
    }
    Ok(())
}

/// Goes as far as one connection takes the agency.
async fn attempt(
    config: &AgencyConfig,
    log: &ActionLog,
    shutdown: &Shutdown,
    progress: &mut AgencyProgress,
) -> Result<(), SessionEnd> {
    let mut session = tokio::select! {
        biased;
        () = shutdown.requested() => return Err(SessionEnd::Stopped),
        session = AgencySession::connect(config, log, shutdown, progress) => session?,
    };
    let held = shutdown.hold("connection");
    let end = session.converse().await;
    drop((session, held));
    closed!(log, shutdown, "close_connection", client_id = config.agency.as_str());
    end
}

/// Pauses that grow, until the server was away for too long.
struct ServerPatience {
    away_since: Instant,
    wait: Duration,
    pauses: backon::ExponentialBackoff,
}

impl ServerPatience {
    fn new(wait: Duration) -> Self {
        let pauses = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(20))
            .with_max_delay(Duration::from_secs(1))
            .with_jitter()
            .without_max_times();
        Self { away_since: Instant::now(), wait, pauses: pauses.build() }
    }

    /// Waits a while, or fails with the time for which the server was away.
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
