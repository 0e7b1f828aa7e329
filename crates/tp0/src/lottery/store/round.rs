//! One round: judge, write, sync, answer.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;

use journal::WriteFailure;
use page::latency::Latency;

use super::bets::{NewLines, TakenBatch};
use super::claims::Claims;
use super::files::LotteryFiles;
use super::job::{JobOutcome, NewBatch, StoreJob};
use super::ledger::{BatchVerdict, Ledger};
use super::record::Draw;

/// The files and what is in them.
#[derive(Debug)]
pub struct StoreRound {
    files: LotteryFiles,
    ledger: Ledger,
}

/// A decision about a job, to be confirmed by the disk.
enum DecidedJob {
    Taken {
        batch: NewBatch,
        taken: TakenBatch,
    },
    Finished {
        agency: Arc<str>,
    },
    /// Nothing depends on the disk.
    Settled(JobOutcome),
}

impl StoreRound {
    pub fn new(files: LotteryFiles, ledger: Ledger) -> Self {
        Self { files, ledger }
    }

    /// Does `jobs` together and pushes their outcomes, in their order.
    ///
    /// # Errors
    /// If nothing more can be done. Nobody can say which of the jobs without an outcome are on disk.
    pub fn run(&mut self, jobs: Vec<StoreJob>, outcomes: &mut Vec<JobOutcome>) -> Result<(), WriteFailure> {
        let mut decided = Vec::with_capacity(jobs.len());
        for job in jobs {
            let decision = match job {
                StoreJob::Finish { agency } => self.finish(agency),
                StoreJob::Batch(batch) => self.decide(batch, &mut decided, outcomes)?,
            };
            decided.push(decision);
        }
        self.write(&mut decided, outcomes)
    }

    fn finish(&mut self, agency: Arc<str>) -> DecidedJob {
        if !self.ledger.finish(&agency) {
            return DecidedJob::Settled(JobOutcome::Repeated);
        }
        self.files.push_done(&agency);
        DecidedJob::Finished { agency }
    }

    /// Decides about a batch, after the jobs before it are written if it depends on them.
    fn decide(
        &mut self,
        batch: NewBatch,
        decided: &mut Vec<DecidedJob>,
        outcomes: &mut Vec<JobOutcome>,
    ) -> Result<DecidedJob, WriteFailure> {
        let mut verdict = self.judge(&batch)?;
        if matches!(verdict, BatchVerdict::WriteFirst) {
            self.write(decided, outcomes)?;
            verdict = self.judge(&batch)?;
        }
        match verdict {
            BatchVerdict::Taken(taken) => {
                Ok(DecidedJob::Taken { batch: NewBatch { lines: Vec::new(), ..batch }, taken })
            }
            BatchVerdict::Refuse(refusal) => Ok(DecidedJob::Settled(JobOutcome::Refused(refusal))),
            BatchVerdict::WriteFirst => {
                Err(self.files.failed_to_read(io::Error::other("lines that were written are not there")))
            }
        }
    }

    /// Judges a batch, and adds what is new of it to the round.
    fn judge(&mut self, batch: &NewBatch) -> Result<BatchVerdict, WriteFailure> {
        let Self { files, ledger } = self;
        let NewBatch { agency, lines, bets, claims } = batch;
        if !ledger.remembers() && ledger.knows(agency) {
            let read = files.read_again();
            let read = read.map_err(|error| files.failed_to_read(io::Error::other(format!("{error:#}"))))?;
            ledger.remember(read);
        }
        let verdict = ledger.judge(agency, (lines, *bets), claims, files);
        let verdict = verdict.map_err(|cause| files.failed_to_read(cause))?;
        match &verdict {
            BatchVerdict::Taken(TakenBatch { new: NewLines::All, .. }) => {
                files.push_bets(agency, lines, *bets);
            }
            BatchVerdict::Taken(TakenBatch { new: NewLines::Some(new), lines, .. }) if !new.is_empty() => {
                files.push_bets(agency, new, lines.len() as u32);
            }
            _ => {}
        }
        Ok(verdict)
    }

    /// Writes the round, and settles the jobs that wait for that.
    fn write(
        &mut self,
        decided: &mut Vec<DecidedJob>,
        outcomes: &mut Vec<JobOutcome>,
    ) -> Result<(), WriteFailure> {
        match self.files.commit() {
            Ok(()) => {
                self.ledger.written();
                outcomes.extend(decided.drain(..).map(DecidedJob::confirmed));
                Ok(())
            }
            Err(failure @ WriteFailure::NoSpace(_)) => {
                let outcome = JobOutcome::NoSpace(Arc::new(failure));
                let mut failed_on = HashSet::new();
                for decided in decided.drain(..) {
                    outcomes.push(self.take_back(decided, &outcome, &mut failed_on));
                }
                self.ledger.roll_back();
                Ok(())
            }
            Err(failure) => Err(failure),
        }
    }

    /// Takes back what was decided about a job, and returns its outcome. A repeat of what an earlier round has stored still
    /// is one. Where a batch fails, the later ones of its connection fail too: what is claimed stays in order.
    fn take_back(
        &mut self,
        decided: DecidedJob,
        no_space: &JobOutcome,
        failed_on: &mut HashSet<*const Claims>,
    ) -> JobOutcome {
        match decided {
            DecidedJob::Settled(outcome) => outcome,
            DecidedJob::Finished { agency } => {
                self.ledger.unfinish(&agency);
                no_space.clone()
            }
            DecidedJob::Taken { batch, taken } => {
                let connection = Arc::as_ptr(&batch.claims);
                if taken.lines.is_empty() && !failed_on.contains(&connection) {
                    return JobOutcome::Repeated;
                }
                failed_on.insert(connection);
                self.ledger.take_back(&taken, &batch.claims);
                no_space.clone()
            }
        }
    }

    /// Returns what is known of the agencies.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Records how long each sync takes in `syncs` from now on.
    pub fn time_syncs(&mut self, syncs: Latency) {
        self.files.time_syncs(syncs);
    }

    /// Whether the draw is due, if it waits for `agencies`.
    pub fn is_draw_due(&self, agencies: usize) -> bool {
        self.ledger.is_due(agencies)
    }

    /// Holds the draw.
    pub fn draw(&mut self) -> anyhow::Result<Draw> {
        let draw = self.files.draw()?;
        self.ledger.draw();
        self.ledger.forget();
        Ok(draw)
    }

    /// Whether bets are in memory although the draw is over.
    pub fn remembers_after_draw(&self) -> bool {
        self.ledger.is_drawn() && self.ledger.remembers()
    }

    /// Gives the memory for the bets back; see [`Ledger::forget`].
    pub fn forget(&mut self) {
        self.ledger.forget();
    }
}

impl DecidedJob {
    /// Returns the outcome once the round is on disk.
    fn confirmed(self) -> JobOutcome {
        match self {
            Self::Taken { taken, .. } if taken.lines.is_empty() => JobOutcome::Repeated,
            Self::Taken { taken, .. } => JobOutcome::Stored(taken.lines.len() as u32),
            Self::Finished { .. } => JobOutcome::Finished,
            Self::Settled(outcome) => outcome,
        }
    }
}
