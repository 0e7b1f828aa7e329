//! The work of the thread that owns the files: rounds, the draw, and forgetting bets after it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use batching::Work;
use chrono::{DateTime, Utc};
use journal::WriteFailure;
use tokio::sync::watch;

use super::job::{JobOutcome, StoreJob};
use super::ledger::BatchRefusal;
use super::record::Draw;
use super::round::StoreRound;
use crate::action_log::{ActionLog, action};
use crate::lottery::board::LotteryBoard;
use crate::lottery::event::RefusedCause;

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
    board: Arc<LotteryBoard>,
    drawn: watch::Sender<Option<Draw>>,
    /// When to try a draw again that has failed.
    draw_at: Option<Instant>,
    /// When to forget the bets in memory, after the draw.
    forget_at: Option<Instant>,
    /// Whether bets have come since the last call of [`idle`](Work::idle).
    have_bets_come: bool,
}

/// What the board needs of a job once its outcome is known.
struct NotedJob {
    agency: Arc<str>,
    is_batch: bool,
}

impl NotedJob {
    fn of(job: &StoreJob) -> Self {
        match job {
            StoreJob::Batch(batch) => Self { agency: batch.agency.clone(), is_batch: true },
            StoreJob::Finish { agency } => Self { agency: agency.clone(), is_batch: false },
        }
    }
}

impl StoreWork {
    pub fn new(
        mut round: StoreRound,
        agencies: usize,
        log: ActionLog,
        board: Arc<LotteryBoard>,
        drawn: watch::Sender<Option<Draw>>,
    ) -> Self {
        round.time_syncs(board.metrics.sync_duration.clone());
        for (tally, is_done) in round.ledger().tallies() {
            if is_done {
                tally.finish();
            }
            board.list(tally);
        }
        if let Some(draw) = &*drawn.borrow() {
            board.drawn(draw.winners, false);
        }
        let work = Self {
            round,
            agencies,
            log,
            board,
            drawn,
            draw_at: None,
            forget_at: None,
            have_bets_come: false,
        };
        work.note_totals();
        work
    }

    fn note_totals(&self) {
        let ledger = self.round.ledger();
        self.board.set_totals(ledger.known(), ledger.done(), ledger.bets());
    }

    /// Tells the board what became of a job.
    fn note(&self, job: &NotedJob, outcome: &JobOutcome, now: DateTime<Utc>) {
        let NotedJob { agency, is_batch } = job;
        let tally = self.round.ledger().tally(agency);
        match (outcome, tally) {
            (JobOutcome::Stored(new), Some(tally)) => self.board.stored(tally, *new, now),
            (JobOutcome::Repeated, Some(tally)) if *is_batch => self.board.repeated(tally, now),
            (JobOutcome::Finished, Some(tally)) => self.board.finished(tally),
            (JobOutcome::Refused(refusal), _) => {
                self.board.refused(Some(agency.clone()), (*refusal).into());
            }
            (JobOutcome::NoSpace(_), _) => self.board.disk_full(agency.clone(), *is_batch),
            // An end that comes again is no news, and what is stored is of an agency that the ledger knows.
            (JobOutcome::Stored(_) | JobOutcome::Repeated | JobOutcome::Finished, _) => {}
        }
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
                self.board.drawn(draw.winners, true);
                self.draw_at = None;
                self.drawn.send_replace(Some(draw));
                Ok(())
            }
            Err(error) => {
                if self.draw_at.is_none() {
                    action!(self.log, ERROR, "sorteo", "fail", error = %format_args!("{error:#}"));
                }
                self.board.draw_failed();
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
        let noted: Vec<_> = jobs.iter().map(NotedJob::of).collect();
        let (before, began) = (outcomes.len(), Instant::now());
        let done = self.round.run(jobs, outcomes);
        self.board.metrics.round_duration.record(began.elapsed());
        let now = Utc::now();
        for (job, outcome) in noted.iter().zip(&outcomes[before..]) {
            self.note(job, outcome, now);
        }
        self.note_totals();
        done
    }

    fn idle(&mut self) -> Result<Option<Instant>, WriteFailure> {
        self.draw_if_due()?;
        self.forget_if_due();
        Ok(self.draw_at.into_iter().chain(self.forget_at).min())
    }
}

impl From<BatchRefusal> for RefusedCause {
    fn from(refusal: BatchRefusal) -> Self {
        match refusal {
            BatchRefusal::Done => Self::Done,
            BatchRefusal::Drawn => Self::Drawn,
            BatchRefusal::Full => Self::Full,
        }
    }
}
