//! The work of the thread that owns the files: rounds, the draw, and forgetting bets after it.

use std::time::{Duration, Instant};

use batching::Work;
use journal::WriteFailure;
use tokio::sync::watch;

use super::job::{JobOutcome, StoreJob};
use super::record::Draw;
use super::round::StoreRound;
use crate::action_log::{ActionLog, action};

/// The pause before a draw that failed is tried again.
const DRAW_AGAIN: Duration = Duration::from_secs(1);
/// How long bets stay in memory after a draw, for agencies that come late.
const REMEMBER: Duration = Duration::from_secs(5);

/// Stores what comes, and holds the draw when it is due.
#[derive(Debug)]
pub struct StoreWork {
    round: StoreRound,
    /// How many agencies the draw waits for.
    agencies: usize,
    log: ActionLog,
    drawn: watch::Sender<Option<Draw>>,
    /// When to try a draw again that has failed.
    draw_at: Option<Instant>,
    /// When to forget the bets in memory, after the draw.
    forget_at: Option<Instant>,
    /// Whether bets have come since the last call of [`idle`](Work::idle).
    have_bets_come: bool,
}

impl StoreWork {
    pub fn new(
        round: StoreRound,
        agencies: usize,
        log: ActionLog,
        drawn: watch::Sender<Option<Draw>>,
    ) -> Self {
        Self { round, agencies, log, drawn, draw_at: None, forget_at: None, have_bets_come: false }
    }

    fn draw_if_due(&mut self) -> Result<(), WriteFailure> {
        let is_too_early = self.draw_at.is_some_and(|at| Instant::now() < at);
        if is_too_early || !self.round.is_draw_due(self.agencies) {
            return Ok(());
        }
        match self.round.draw() {
            // The files know of the draw by now, so the line is written once at most, also after a restart.
            Ok(draw) => {
                action!(self.log, INFO, "sorteo", "success");
                tracing::info!(winners = draw.winners, "draw held");
                self.draw_at = None;
                self.drawn.send_replace(Some(draw));
                Ok(())
            }
            Err(error) => {
                if self.draw_at.is_none() {
                    action!(self.log, ERROR, "sorteo", "fail", error = %format_args!("{error:#}"));
                }
                self.draw_at = Some(Instant::now() + DRAW_AGAIN);
                match error.downcast::<WriteFailure>() {
                    Ok(failure @ WriteFailure::Fatal { .. }) => Err(failure),
                    _ => Ok(()),
                }
            }
        }
    }

    /// Keeps no bets in memory after a draw, except for a while where an agency comes late.
    fn forget_if_due(&mut self) {
        let have_bets_come = std::mem::take(&mut self.have_bets_come);
        if !self.round.remembers_after_draw() {
            self.forget_at = None;
        } else if have_bets_come || self.forget_at.is_none() {
            self.forget_at = Some(Instant::now() + REMEMBER);
        } else if self.forget_at.is_some_and(|at| Instant::now() >= at) {
            self.round.forget();
            self.forget_at = None;
        }
    }
}

impl Work for StoreWork {
    type Job = StoreJob;
    type Outcome = JobOutcome;
    type Failure = WriteFailure;

    const NAME: &'static str = "store";

    fn weight(job: &StoreJob) -> usize {
        match job {
            StoreJob::Batch(batch) => batch.lines.len(),
            StoreJob::Finish { .. } => 0,
        }
    }

    fn run_batch(&mut self, jobs: Vec<StoreJob>, outcomes: &mut Vec<JobOutcome>) -> Result<(), WriteFailure> {
        self.have_bets_come |= jobs.iter().any(|job| matches!(job, StoreJob::Batch(_)));
        self.round.run(jobs, outcomes)
    }

    fn idle(&mut self) -> Result<Option<Instant>, WriteFailure> {
        self.draw_if_due()?;
        self.forget_if_due();
        Ok(self.draw_at.into_iter().chain(self.forget_at).min())
    }
}
