//! One round: judge, write, sync, answer.

use std::sync::Arc;

use journal::Failure;
use tokio::sync::oneshot;

use super::ledger::{Ledger, Verdict};
use super::{Digest, Draw, Files, Job, NewBatch, Outcome};

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
    Stored {
        batch: NewBatch,
        digest: Digest,
    },
    Repeated {
        batch: NewBatch,
        digest: Digest,
        sending: u32,
    },
    Finished {
        agency: Arc<str>,
    },
    /// Nothing depends on the disk.
    Settled(Outcome),
}

impl Round {
    pub fn new(files: Files, ledger: Ledger) -> Self {
        Self { files: Some(files), ledger }
    }

    /// Does these jobs together; gives back the answers, and the failure after which nothing more can be done.
    pub fn work(&mut self, jobs: Vec<(Job, oneshot::Sender<Outcome>)>) -> (Vec<Answer>, Option<Failure>) {
        let mut decided = Vec::with_capacity(jobs.len());
        for (job, who) in jobs {
            decided.push((who, self.decide(job)));
        }
        let failure = match &mut self.files {
            Some(files) => files.commit().err(),
            None => return (Vec::new(), None),
        };
        let Some(failure) = failure else {
            return (decided.into_iter().map(|(who, decided)| (who, decided.confirmed())).collect(), None);
        };
        let no_space = matches!(failure, Failure::NoSpace(_));
        let failure = Arc::new(failure);
        let failed = if no_space { Outcome::NoSpace(failure.clone()) } else { Outcome::Unknown };
        for (_, decided) in &decided {
            self.take_back(decided);
        }
        let answers = decided.into_iter().map(|(who, decided)| (who, self.after_failure(decided, &failed)));
        let answers = answers.collect();
        (answers, if no_space { None } else { Arc::into_inner(failure) })
    }

    fn decide(&mut self, job: Job) -> Decided {
        let Some(files) = &mut self.files else { return Decided::Settled(Outcome::Unknown) };
        match job {
            Job::Done { agency } => {
                if !self.ledger.finish(&agency) {
                    return Decided::Settled(Outcome::Repeated);
                }
                files.push_done(&agency);
                Decided::Finished { agency }
            }
            Job::Batch { mut batch, digest } => {
                match self.ledger.take(&batch.agency, digest, batch.bets, &batch.taken) {
                    Verdict::Refuse(refusal) => Decided::Settled(Outcome::Refused(refusal)),
                    Verdict::Repeat(sending) => Decided::Repeated { batch, digest, sending },
                    Verdict::Store => {
                        files.push_batch(&batch.agency, &batch.lines, batch.bets, digest);
                        batch.lines = Vec::new();
                        Decided::Stored { batch, digest }
                    }
                }
            }
        }
    }

    fn take_back(&mut self, decided: &Decided) {
        match decided {
            Decided::Stored { batch, digest } => {
                self.ledger.take_back(&batch.agency, *digest, batch.bets, &batch.taken);
            }
            Decided::Finished { agency } => self.ledger.unfinish(agency),
            Decided::Repeated { .. } | Decided::Settled(_) => {}
        }
    }

    /// What is told when the round is not on disk: a repeat of what an earlier round has stored still is one.
    fn after_failure(&mut self, decided: Decided, failed: &Outcome) -> Outcome {
        match decided {
            Decided::Stored { .. } | Decided::Finished { .. } => failed.clone(),
            Decided::Settled(outcome) => outcome,
            Decided::Repeated { batch, digest, sending } => {
                let still = self.ledger.still_repeat(&batch.agency, digest, sending, &batch.taken);
                if still { Outcome::Repeated } else { failed.clone() }
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
        Ok(draw)
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
            Self::Stored { .. } | Self::Finished { .. } => Outcome::Done,
            Self::Repeated { .. } => Outcome::Repeated,
            Self::Settled(outcome) => outcome,
        }
    }
}
