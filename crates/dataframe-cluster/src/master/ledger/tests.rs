use super::*;

const RUN: &str = "01RUN";

fn ledger(is_watched: bool) -> ClusterLedger {
    ClusterLedger::new(MasterMetrics::new(), Arc::new(AtomicBool::new(is_watched)), DateTime::UNIX_EPOCH)
}

fn id(round: u32, task: u32) -> TaskId {
    TaskId { job: "job".to_owned(), round, task, attempt: 1 }
}

fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn loss(task: u32, worker: Option<&str>, cause: LossCause) -> AttemptLoss {
    AttemptLoss { task: id(0, task), worker: worker.map(str::to_owned), cause }
}

const ALL: SnapshotWanted = SnapshotWanted { events_since: 0, events: 256, bars_since: 0, bars: 256 };

fn told(ledger: &mut ClusterLedger) -> Vec<(&'static str, Option<&'static str>, Option<u64>)> {
    let events = ledger.snapshot(ALL, at(1)).events;
    events.iter().map(|(_, timed)| (timed.news.word(), timed.news.cause(), timed.news.count())).collect()
}

#[test]
fn each_change_of_a_worker_is_one_event_with_its_cause() {
    let mut ledger = ledger(false);
    ledger.worker_joined("a", RUN, at(1));
    ledger.worker_memory("a", 7);
    assert_eq!(ledger.worker("a").unwrap().resident_bytes, Some(7));
    ledger.worker_memory("unknown", 7);
    assert!(ledger.worker("unknown").is_none(), "somebody else's name costs no memory");
    ledger.worker_gone("a", GoneCause::Silent, 2, at(2));
    let lost = ledger.worker("a").unwrap();
    assert_eq!((lost.cause, lost.resident_bytes), (Some(GoneCause::Silent), None));
    ledger.worker_joined("a", RUN, at(3));
    ledger.worker_joined("a", "01NEXT", at(4));
    assert_eq!(ledger.worker("a").unwrap().cause, None);
    ledger.worker_gone("a", GoneCause::Left, 0, at(5));
    assert!(ledger.worker("a").is_none());
    let expected = [
        ("joined", None, None),
        ("lost", Some("silent"), Some(2)),
        ("back", None, None),
        ("restarted", None, None),
        ("gone", Some("left"), Some(0)),
    ];
    assert_eq!(told(&mut ledger), expected);
}

#[test]
fn a_job_is_told_with_its_stages_and_its_end() {
    let mut ledger = ledger(true);
    ledger.worker_joined("a", RUN, at(0));
    ledger.job_submitted("job", vec!["read_csv", "len"], at(10));
    ledger.stage_planned("job", 3, 2);
    ledger.task_ended(&id(3, 0), Some("a"), (at(20), at(50)), TaskOutcome::Done);
    ledger.task_ended(&id(3, 1), Some("a"), (at(20), at(60)), TaskOutcome::Done);
    ledger.stage_planned("job", 4, 1);
    ledger.task_ended(&id(4, 0), Some("a"), (at(60), at(61)), TaskOutcome::Discarded);
    let (_, running) = ledger.running(at(70)).next().unwrap();
    assert_eq!((running.number, running.stages, running.took), (1, vec![(2, 2), (0, 1)], at(60)));
    let failure = Failure { code: FailureCode::File, message: String::new(), worker: None };
    ledger.job_ended("job", &Err(failure), at(80));
    ledger.job_ended("job", &Ok(finished(9)), at(90));
    let snapshot = ledger.snapshot(ALL, at(100));
    assert_eq!(snapshot.ended.len(), 1, "a job ends once");
    assert_eq!(snapshot.ended[0].end, Some(JobEnd::Failed(FailureCode::File)));
    assert_eq!((snapshot.totals.tasks_done, snapshot.totals.jobs_failed), (2, 1));
    let bars: Vec<_> = snapshot.bars.iter().map(|(_, bar)| (bar.stage, bar.start, bar.outcome)).collect();
    let done = TaskOutcome::Done;
    assert_eq!(bars, [(1, at(20), done), (1, at(20), done), (2, at(60), TaskOutcome::Discarded)]);
}

fn finished(rows: u64) -> Finished {
    Finished { rows, pieces: 0, micros: 0, worker: String::new(), places: Vec::new() }
}

#[test]
fn bars_are_noted_while_somebody_looks_and_a_gap_is_told() {
    let mut ledger = ledger(true);
    let watched = Arc::clone(&ledger.watched);
    ledger.worker_joined("a", RUN, at(0));
    ledger.job_submitted("job", Vec::new(), at(0));
    ledger.stage_planned("job", 0, 9);
    let mut end = |ms: u64| {
        ledger.task_ended(&id(0, 0), Some("a"), (at(ms), at(ms + 5)), TaskOutcome::Done);
        let snapshot = ledger.snapshot(ALL, at(ms + 6));
        (snapshot.last_bar, snapshot.recording_since)
    };
    assert_eq!(end(10), (1, Some(at(15))));
    assert_eq!(end(20), (2, Some(at(15))));
    watched.store(false, Ordering::Relaxed);
    assert_eq!(end(30), (2, None));
    watched.store(true, Ordering::Relaxed);
    assert_eq!(end(40), (3, Some(at(45))));
    assert_eq!(ledger.totals.tasks_done, 4, "all are counted");
}

#[test]
fn losses_are_counted_where_they_happened() {
    let mut ledger = ledger(false);
    ledger.worker_joined("a", RUN, at(0));
    ledger.job_submitted("job", Vec::new(), at(0));
    ledger.stage_planned("job", 0, 9);
    ledger.task_lost(&loss(0, Some("a"), LossCause::LeaseEnded), at(1), at(2));
    ledger.task_lost(&loss(1, None, LossCause::NotTaken), at(1), at(3));
    // The worker's own event counts these.
    ledger.task_lost(&loss(2, Some("a"), LossCause::WorkerGone), at(1), at(4));
    let worker = ledger.worker("a").unwrap();
    assert_eq!((worker.lost, worker.lost_recently(at(5))), (2, 2));
    assert_eq!(worker.lost_recently(RECENT + at(3)), 1, "the older one is forgotten");
    assert_eq!(ledger.totals.tasks_lost, 3);
    let events = told(&mut ledger);
    assert_eq!(
        events[2..],
        [("task-lost", Some("lease-ended"), None), ("task-lost", Some("not-taken"), None)]
    );
}
