//! One round: judge, write, sync, answer.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;

use journal::WriteFailure;
use tokio::sync::oneshot;

use super::bets::{New, Taken};
use super::ledger::{Ledger, Verdict};
use super::{Claims, Draw, Files, Job, NewBatch, Outcome};

/// Who is told what.
pub type Answer = (oneshot::Sender<Outcome>, Outcome);

/// The files and what is in them.
#[derive(Debug)]
pub struct Round {
    /// None once they are closed.
    files: Option<Files>,
    ledger: Ledger,
}

/// What was decided about a job, to be confirmed by the disk.
enum Decided {
    Taken {
        batch: NewBatch,
        taken: Taken,
    },
    Finished {
        agency: Arc<str>,
    },
    /// Nothing depends on the disk.
    Settled(Outcome),
}

/// Jobs whose outcome the disk has to confirm.
type Waiting = Vec<(oneshot::Sender<Outcome>, Decided)>;

impl Round {
    pub fn new(files: Files, ledger: Ledger) -> Self {
        Self { files: Some(files), ledger }
    }

    /// Does these jobs together; gives back the answers, and the failure after which nothing more can be done.
    pub fn work(
        &mut self,
        jobs: Vec<(Job, oneshot::Sender<Outcome>)>,
    ) -> (Vec<Answer>, Option<WriteFailure>) {
        let mut answers = Vec::with_capacity(jobs.len());
        let mut waiting = Vec::with_capacity(jobs.len());
        let mut failed = None;
        for (job, who) in jobs {
            let decided = match failed {
                None => self.decide(job, &mut waiting, &mut answers),
                Some(_) => Ok(Decided::Settled(Outcome::Unknown)),
            };
            match decided {
                Ok(decided) => waiting.push((who, decided)),
                Err(failure) => {
                    failed = Some(failure);
                    answers.push((who, Outcome::Unknown));
                }
            }
        }
        match failed {
            None => failed = self.write(&mut waiting, &mut answers).err(),
            Some(_) => answers.extend(waiting.into_iter().map(|(who, _)| (who, Outcome::Unknown))),
        }
        (answers, failed)
    }

    /// Decides about a job, after those before it are written if it depends on them.
    fn decide(
        &mut self,
        job: Job,
        waiting: &mut Waiting,
        answers: &mut Vec<Answer>,
    ) -> Result<Decided, WriteFailure> {
        let batch = match job {
            Job::Batch(batch) => batch,
            Job::Done { agency } => {
                let Some(files) = &mut self.files else { return Ok(Decided::Settled(Outcome::Unknown)) };
                if !self.ledger.finish(&agency) {
                    return Ok(Decided::Settled(Outcome::Repeated));
                }
                files.push_done(&agency);
                return Ok(Decided::Finished { agency });
            }
        };
        let mut verdict = self.judge(&batch)?;
        if matches!(verdict, Verdict::WriteFirst) {
            self.write(waiting, answers)?;
            verdict = self.judge(&batch)?;
        }
        Ok(match verdict {
            Verdict::Taken(taken) => Decided::Taken { batch: NewBatch { lines: Vec::new(), ..batch }, taken },
            Verdict::Refuse(refusal) => Decided::Settled(Outcome::Refused(refusal)),
            // Nothing waits to be written any more.
            Verdict::WriteFirst => Decided::Settled(Outcome::Unknown),
        })
    }

    /// Judges a batch, and adds what is new of it to the round.
    fn judge(&mut self, batch: &NewBatch) -> Result<Verdict, WriteFailure> {
        let Some(files) = &mut self.files else { return Ok(Verdict::WriteFirst) };
        let NewBatch { agency, lines, bets, claims } = batch;
        if !self.ledger.remembers() && self.ledger.knows(agency) {
            let read = files.read_again();
            let read = read.map_err(|error| files.failed_to_read(io::Error::other(format!("{error:#}"))))?;
            self.ledger.remember(read);
        }
        let verdict = self.ledger.take(agency, (lines, *bets), claims, files);
        let verdict = verdict.map_err(|cause| files.failed_to_read(cause))?;
        match &verdict {
            Verdict::Taken(Taken { new: New::All, .. }) => files.push_bets(agency, lines, *bets),
            Verdict::Taken(Taken { new: New::Some(new), lines, .. }) if !new.is_empty() => {
                files.push_bets(agency, new, lines.len() as u32);
            }
            _ => {}
        }
        Ok(verdict)
    }

    /// Writes the round, and settles what waits for that.
    fn write(&mut self, waiting: &mut Waiting, answers: &mut Vec<Answer>) -> Result<(), WriteFailure> {
        let committed = self.files.as_mut().map_or(Ok(()), Files::commit);
        let Err(failure) = committed else {
            self.ledger.written();
            answers.extend(waiting.drain(..).map(|(who, decided)| (who, decided.confirmed())));
            return Ok(());
        };
        let no_space = matches!(failure, WriteFailure::NoSpace(_));
        let failure = Arc::new(failure);
        let outcome = if no_space { Outcome::NoSpace(failure.clone()) } else { Outcome::Unknown };
        let mut failed_on = HashSet::new();
        for (who, decided) in waiting.drain(..) {
            answers.push((who, self.after_failure(decided, &outcome, &mut failed_on)));
        }
        self.ledger.roll_back();
        drop(outcome);
        if no_space { Ok(()) } else { Arc::into_inner(failure).map_or(Ok(()), Err) }
    }

    /// What is told when the round is not on disk: a repeat of what an earlier round has stored still is one. Where a
    /// batch fails, the later ones of its connection fail too: what is claimed stays in order.
    fn after_failure(
        &mut self,
        decided: Decided,
        failed: &Outcome,
        failed_on: &mut HashSet<*const Claims>,
    ) -> Outcome {
        match decided {
            Decided::Settled(outcome) => outcome,
            Decided::Finished { agency } => {
                self.ledger.unfinish(&agency);
                failed.clone()
            }
            Decided::Taken { batch, taken } => {
                let connection = Arc::as_ptr(&batch.claims);
                if taken.lines.is_empty() && !failed_on.contains(&connection) {
                    return Outcome::Repeated;
                }
                failed_on.insert(connection);
                self.ledger.take_back(&taken, &batch.claims);
                failed.clone()
            }
        }
    }

    pub fn is_draw_due(&self, agencies: usize) -> bool {
        self.files.is_some() && self.ledger.is_due(agencies)
    }

    /// Holds the draw.
    pub fn draw(&mut self) -> anyhow::Result<Draw> {
        let files = self.files.as_mut().ok_or_else(|| anyhow::anyhow!("the files are closed"))?;
        let draw = files.draw()?;
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

    /// Gives the files back to the system.
    pub fn close(&mut self) {
        self.files.take();
    }
}

impl Decided {
    /// What is told when the round is on disk.
    fn confirmed(self) -> Outcome {
        match self {
            Self::Taken { taken, .. } if taken.lines.is_empty() => Outcome::Repeated,
            Self::Taken { taken, .. } => Outcome::Stored(taken.lines.len() as u32),
            Self::Finished { .. } => Outcome::Done,
            Self::Settled(outcome) => outcome,
        }
    }
}
