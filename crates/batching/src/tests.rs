use std::sync::mpsc;

use super::*;

const EXECUTORS: [Executor; 3] = [Executor::Thread, Executor::ThreadUnlessAlone, Executor::Inline];

/// Doubles numbers; fails at 13.
struct Doubling {
    batches: mpsc::Sender<usize>,
}

impl Work for Doubling {
    type Job = u64;
    type Outcome = u64;
    type Failure = &'static str;

    const NAME: &'static str = "doubling";

    fn weight(_: &u64) -> usize {
        1
    }

    fn run_batch(&mut self, jobs: Vec<u64>, outcomes: &mut Vec<u64>) -> Result<(), &'static str> {
        // The test may have ended.
        let _ = self.batches.send(jobs.len());
        for job in jobs {
            if job == 13 {
                return Err("unlucky");
            }
            outcomes.push(2 * job);
        }
        Ok(())
    }
}

fn doubling(executor: Executor, capacity: usize) -> (Batcher<Doubling>, mpsc::Receiver<usize>) {
    let (batches, ran) = mpsc::channel();
    (Batcher::start(executor, capacity, Doubling { batches }), ran)
}

#[tokio::test]
async fn jobs_that_are_ready_together_are_run_together_and_each_caller_gets_its_outcome() {
    for executor in EXECUTORS {
        let (batcher, ran) = doubling(executor, 1000);
        let callers: Vec<_> = (20..120u64)
            .map(|job| {
                let batcher = batcher.clone();
                tokio::spawn(async move { batcher.submit(job).await.unwrap() })
            })
            .collect();
        for (job, caller) in (20..).zip(callers) {
            assert_eq!(caller.await.unwrap(), 2 * job);
        }
        assert_eq!(ran.try_iter().next(), Some(100), "{executor:?}");
    }
}

#[tokio::test]
async fn what_does_not_fit_waits_and_is_run_later() {
    for executor in EXECUTORS {
        let (batcher, ran) = doubling(executor, 3);
        let callers: Vec<_> = (20..30u64)
            .map(|job| {
                let batcher = batcher.clone();
                tokio::spawn(async move { batcher.submit(job).await.unwrap() })
            })
            .collect();
        for caller in callers {
            caller.await.unwrap();
        }
        let batches: Vec<_> = ran.try_iter().collect();
        assert!(batches.iter().all(|jobs| *jobs <= 3) && batches.iter().sum::<usize>() == 10, "{batches:?}");
    }
}

#[tokio::test]
async fn after_a_failure_nothing_is_done_and_everyone_is_told() {
    for executor in EXECUTORS {
        let (batcher, ran) = doubling(executor, 1000);
        let (before, failing) = tokio::join!(batcher.submit(1), batcher.submit(13));
        assert_eq!(before.unwrap(), 2);
        assert!(matches!(failing, Err(Stopped::Failed(failure)) if *failure == "unlucky"), "{executor:?}");
        assert_eq!(*batcher.failure().wait().await, "unlucky");
        assert!(matches!(batcher.submit(1).await, Err(Stopped::Failed(_))), "{executor:?}");
        batcher.close().await;
        assert!(ran.try_iter().count() <= 2);
    }
}

#[tokio::test]
async fn closing_runs_what_is_queued_and_refuses_the_rest() {
    for executor in EXECUTORS {
        let (batcher, _ran) = doubling(executor, 1000);
        let queued = batcher.enqueue(4).await.unwrap();
        batcher.close().await;
        assert_eq!(queued.outcome().await.unwrap(), 8, "{executor:?}");
        assert!(matches!(batcher.submit(1).await, Err(Stopped::Closed)));
        assert!(batcher.failure().get().is_none());
    }
}

/// Counts how often it had something to do without a job.
struct Ticking {
    ticks: mpsc::Sender<()>,
    left: u32,
}

impl Work for Ticking {
    type Job = ();
    type Outcome = ();
    type Failure = ();

    const NAME: &'static str = "ticking";

    fn weight((): &()) -> usize {
        0
    }

    fn run_batch(&mut self, jobs: Vec<()>, outcomes: &mut Vec<()>) -> Result<(), ()> {
        outcomes.extend(jobs);
        Ok(())
    }

    fn idle(&mut self) -> Result<Option<Instant>, ()> {
        self.left = self.left.saturating_sub(1);
        // The test may have ended.
        let _ = self.ticks.send(());
        Ok((self.left > 0).then(|| Instant::now() + Duration::from_millis(1)))
    }
}

#[tokio::test]
async fn work_is_done_at_the_start_and_when_it_is_due_without_any_job() {
    for executor in EXECUTORS {
        let (ticks, ticked) = mpsc::channel();
        let _batcher = Batcher::start(executor, 1, Ticking { ticks, left: 3 });
        let mut seen = 0;
        while seen < 3 {
            tokio::time::sleep(Duration::from_millis(1)).await;
            seen += ticked.try_iter().count();
        }
    }
}

/// Panics at its first job.
struct Panicking;

impl Work for Panicking {
    type Job = ();
    type Outcome = ();
    type Failure = ();

    const NAME: &'static str = "panicking";

    fn weight((): &()) -> usize {
        0
    }

    fn run_batch(&mut self, _: Vec<()>, _: &mut Vec<()>) -> Result<(), ()> {
        panic!("on purpose");
    }
}

#[tokio::test]
async fn work_that_panics_keeps_nobody_waiting() {
    for executor in EXECUTORS {
        let batcher = Batcher::start(executor, 1, Panicking);
        assert!(matches!(batcher.submit(()).await, Err(Stopped::Closed)), "{executor:?}");
        batcher.close().await;
    }
}
