//! The rules of the scheduler, one by one.

use std::time::Duration;

use dataframe_jobs::failure::{Failure, FailureCode};
use dataframe_jobs::message::{TaskId, WorkerInfo, WorkerState};
use dataframe_jobs::scheduler::{
    Recipient, Scheduler, SchedulerAction as Action, SchedulerConfig, SchedulerEvent as Event, TaskSpec,
};

pub struct Driver {
    pub scheduler: Scheduler,
    pub now: Duration,
}

pub fn info(name: &str, slots: u32) -> WorkerInfo {
    WorkerInfo {
        name: name.to_owned(),
        incarnation: format!("{name}-1"),
        address: Some(format!("{name}:7000")),
        datafusion: "55".to_owned(),
        release: "1".to_owned(),
        slots,
        functions: Vec::new(),
        wasm: false,
    }
}

pub fn id(task: u32, attempt: u32) -> TaskId {
    TaskId { job: "job".to_owned(), round: 0, task, attempt }
}

impl Driver {
    pub fn new(shared_queue: bool, workers: &[(&str, u32)]) -> Self {
        let config = SchedulerConfig {
            shared_queue,
            datafusion: "55".to_owned(),
            release: "1".to_owned(),
            own_addresses: vec!["master:9000".to_owned()],
            max_jobs: 3,
            max_tasks: 100,
            ..SchedulerConfig::default()
        };
        let mut driver = Self { scheduler: Scheduler::new(config), now: Duration::from_secs(1) };
        for (name, slots) in workers {
            let actions = driver.join(info(name, *slots));
            assert!(matches!(&actions[..], [Action::Admit { .. }]), "{actions:?}");
        }
        driver
    }

    pub fn step(&mut self, event: Event) -> Vec<Action> {
        self.scheduler.step(event, self.now)
    }

    pub fn join(&mut self, worker: WorkerInfo) -> Vec<Action> {
        self.step(Event::WorkerJoined { worker, invited: false })
    }

    pub fn plan(&mut self, job: &str, tasks: Vec<TaskSpec>) -> Vec<Action> {
        self.step(Event::JobPlanned { job: job.to_owned(), round: 0, tasks, wait: Duration::from_secs(30) })
    }

    pub fn start(&mut self, task: TaskId, worker: &str) -> Vec<Action> {
        self.step(Event::Started { task, worker: worker.to_owned() })
    }

    pub fn result(&mut self, task: TaskId, worker: &str) -> Vec<Action> {
        self.step(Event::ResultComplete { task, worker: worker.to_owned() })
    }

    pub fn lose(&mut self, worker: &str) -> Vec<Action> {
        self.step(Event::WorkerLost { worker: worker.to_owned(), incarnation: None, why: "reset".to_owned() })
    }

    pub fn fail(&mut self, task: TaskId, worker: &str, code: FailureCode) -> Vec<Action> {
        let failure = Failure { code, message: "words of the worker".to_owned(), worker: None };
        self.step(Event::TaskFailed { task, worker: worker.to_owned(), failure })
    }

    /// Lets time pass while these workers are well, and run what they are said to.
    pub fn pass(&mut self, seconds: u64, workers: &[(&str, u32, Vec<TaskId>)]) -> Vec<Action> {
        let mut actions = Vec::new();
        for _ in 0..seconds {
            self.now += Duration::from_secs(1);
            for (name, slots, running) in workers {
                let worker = info(name, *slots);
                actions.extend(self.step(Event::WorkerHeartbeat { worker, running: running.clone() }));
            }
            actions.extend(self.step(Event::Tick));
        }
        actions
    }
}

pub fn plain(count: usize) -> Vec<TaskSpec> {
    vec![TaskSpec::default(); count]
}

pub fn sends(actions: &[Action]) -> Vec<(String, u32, u32, String)> {
    let sends = actions.iter().filter_map(|action| match action {
        Action::Send { task, to: Recipient::Worker(to) } => {
            Some((task.job.clone(), task.task, task.attempt, to.clone()))
        }
        Action::Send { task, to: Recipient::AnyWorker } => {
            Some((task.job.clone(), task.task, task.attempt, "any".to_owned()))
        }
        _ => None,
    });
    sends.collect()
}

fn sent(task: u32, attempt: u32, to: &str) -> (String, u32, u32, String) {
    ("job".to_owned(), task, attempt, to.to_owned())
}

pub fn refusal(actions: &[Action]) -> &str {
    match actions {
        [Action::Refuse { failure, .. } | Action::JobRefused { failure, .. }] => {
            assert_eq!(failure.code, FailureCode::Refused);
            &failure.message
        }
        other => panic!("not refused: {other:?}"),
    }
}

fn job_failure(actions: &[Action]) -> &Failure {
    let failure = actions.iter().find_map(|action| match action {
        Action::JobFailed { failure, .. } => Some(failure),
        _ => None,
    });
    failure.unwrap_or_else(|| panic!("the job has not failed: {actions:?}"))
}

#[test]
fn a_worker_gets_as_many_tasks_as_it_has_slots_and_the_next_one_when_one_ends() {
    let mut driver = Driver::new(false, &[("a", 1), ("b", 2)]);
    let actions = driver.plan("job", plain(4));
    assert_eq!(sends(&actions), [sent(0, 1, "b"), sent(1, 1, "a"), sent(2, 1, "b")]);
    let actions = driver.result(id(1, 1), "a");
    assert_eq!(actions[0], Action::UseResult { task: id(1, 1), worker: "a".to_owned() });
    assert_eq!(sends(&actions), [sent(3, 1, "a")]);
    driver.result(id(0, 1), "b");
    driver.result(id(2, 1), "b");
    let done = driver.result(id(3, 1), "a");
    let places =
        [(0, "b"), (1, "a"), (2, "b"), (3, "a")].map(|(task, worker)| (task, worker.to_owned(), 1)).to_vec();
    assert_eq!(done[1], Action::JobDone { job: "job".to_owned(), round: 0, places });
}

#[test]
fn the_shared_queue_holds_two_tasks_for_each_slot() {
    let mut driver = Driver::new(true, &[("a", 1), ("b", 2)]);
    let actions = driver.plan("job", plain(10));
    assert_eq!(sends(&actions).len(), 6);
    assert!(sends(&actions).iter().all(|(.., to)| to == "any"));
    driver.start(id(0, 1), "a");
    assert_eq!(sends(&driver.result(id(0, 1), "a")), [sent(6, 1, "any")]);
}

#[test]
fn a_job_without_tasks_is_done_at_once() {
    let mut driver = Driver::new(false, &[]);
    let done = Action::JobDone { job: "job".to_owned(), round: 0, places: Vec::new() };
    assert_eq!(driver.plan("job", Vec::new()), [done]);
}

#[test]
fn jobs_take_turns() {
    let mut driver = Driver::new(false, &[("a", 1)]);
    driver.plan("job", plain(3));
    driver.plan("other", plain(3));
    let mut order = Vec::new();
    let mut next = id(0, 1);
    for _ in 0..4 {
        let actions = driver.result(next.clone(), "a");
        let (job, task, attempt, _) = sends(&actions)[0].clone();
        order.push(job.clone());
        next = TaskId { job, round: 0, task, attempt };
    }
    assert_eq!(order, ["job", "other", "job", "other"]);
}

#[test]
fn a_task_goes_to_the_worker_that_it_prefers_and_to_another_one_if_that_is_busy() {
    let near = TaskSpec { prefers: Some("b".to_owned()), ..TaskSpec::default() };
    let mut driver = Driver::new(false, &[("a", 2), ("b", 1)]);
    let actions = driver.plan("job", vec![TaskSpec::default(), near.clone(), near]);
    assert_eq!(sends(&actions), [sent(1, 1, "b"), sent(0, 1, "a"), sent(2, 1, "a")]);
}

#[test]
fn the_tasks_of_a_lost_worker_start_elsewhere_at_once_and_a_late_result_counts_if_it_is_first() {
    let mut driver = Driver::new(false, &[("a", 1), ("b", 1)]);
    driver.plan("job", plain(1));
    driver.start(id(0, 1), "a");
    let actions = driver.lose("a");
    assert_eq!(sends(&actions), [sent(0, 2, "b")]);
    let actions = driver.result(id(0, 1), "a");
    assert_eq!(actions[0], Action::UseResult { task: id(0, 1), worker: "a".to_owned() });
    assert_eq!(actions[1], Action::Stop { task: id(0, 2), worker: "b".to_owned() });
    assert!(matches!(actions[2], Action::JobDone { .. }));
    let late = driver.result(id(0, 2), "b");
    assert_eq!(late, [Action::DiscardResult { task: id(0, 2), worker: "b".to_owned() }]);
}

#[test]
fn a_silent_worker_is_lost_and_a_lease_is_renewed_by_each_sign_of_life() {
    let mut driver = Driver::new(false, &[("a", 1), ("b", 1)]);
    driver.plan("job", plain(1));
    driver.start(id(0, 1), "a");
    let well = |running: Vec<TaskId>| [("b", 1, Vec::new()), ("a", 1, running)];
    assert_eq!(driver.pass(30, &well(vec![id(0, 1)])), []);
    // `a` is well and says nothing of the task.
    driver.pass(8, &well(Vec::new()));
    assert_eq!(driver.step(Event::Alive { task: id(0, 1) }), []);
    assert_eq!(driver.pass(9, &well(Vec::new())), []);
    let actions = driver.pass(2, &well(Vec::new()));
    assert_eq!(actions[0], Action::Stop { task: id(0, 1), worker: "a".to_owned() });
    assert_eq!(sends(&actions), [sent(0, 2, "b")]);
    let actions = driver.pass(5, &[("b", 1, vec![id(0, 2)])]);
    assert!(matches!(&actions[..], [Action::WorkerGone { worker, .. }] if worker == "a"), "{actions:?}");
    assert_eq!(driver.scheduler.nodes(driver.now)[0].state, WorkerState::Lost);
}

#[test]
fn a_task_is_poisonous_when_three_workers_died_on_it_and_not_when_its_stream_broke() {
    let workers = ["a", "b", "c", "d", "e"].map(|name| (name, 1));
    let mut driver = Driver::new(false, &workers);
    let mut next = sends(&driver.plan("job", plain(1)))[0].clone();
    // The stream breaks, and the worker goes on telling that it is well.
    driver.start(id(0, 1), &next.3);
    let why = "reset".to_owned();
    let lost = driver.step(Event::TaskLost { task: id(0, 1), worker: Some(next.3.clone()), why });
    assert_ne!(sends(&lost)[0].3, next.3, "another worker gets it");
    next = sends(&lost)[0].clone();
    driver.pass(4, &workers.map(|(name, slots)| (name, slots, Vec::new())));
    driver.start(id(0, 2), &next.3);
    next = sends(&driver.lose(&next.3))[0].clone();
    driver.start(id(0, 3), &next.3);
    next = sends(&driver.lose(&next.3))[0].clone();
    driver.start(id(0, 4), &next.3);
    let actions = driver.lose(&next.3);
    let failure = job_failure(&actions);
    assert_eq!(failure.code, FailureCode::Poisonous);
    assert!(failure.message.starts_with("task 0 is poisonous: the workers "), "{failure}");
}

#[test]
fn three_processes_that_died_make_a_task_poisonous_although_their_workers_live() {
    let mut driver = Driver::new(true, &[("a", 1), ("b", 1)]);
    driver.plan("job", plain(1));
    for attempt in 1..=3 {
        driver.start(id(0, attempt), "a");
        let why = "signal 9".to_owned();
        let died = driver.step(Event::TaskDied { task: id(0, attempt), worker: "a".to_owned(), why });
        if attempt == 3 {
            let failure = job_failure(&died);
            assert_eq!(failure.code, FailureCode::Poisonous);
            assert!(failure.message.contains("a (a process of it)"), "{failure}");
            return;
        }
        driver.now += Duration::from_millis(200);
        let later = driver.step(Event::Tick);
        let again = sends(&[died, later].concat());
        assert_eq!(again.len(), 1, "the task starts again");
        // The worker itself is well, and a sign of life takes no death back.
        driver.pass(2, &[("a", 1, Vec::new()), ("b", 1, Vec::new())]);
    }
    unreachable!("the job has failed");
}

#[test]
fn a_stream_that_broke_because_its_worker_died_counts_as_a_death() {
    let mut driver = Driver::new(false, &[("a", 1), ("b", 1), ("c", 1)]);
    let mut next = sends(&driver.plan("job", plain(1)))[0].clone();
    for attempt in 1..=3 {
        let worker = next.3.clone();
        driver.start(id(0, attempt), &worker);
        let why = "reset".to_owned();
        let lost = driver.step(Event::TaskLost { task: id(0, attempt), worker: Some(worker.clone()), why });
        driver.now += Duration::from_millis(200);
        let later = driver.step(Event::Tick);
        let then = driver.lose(&worker);
        if attempt == 3 {
            assert_eq!(job_failure(&then).code, FailureCode::Poisonous);
            return;
        }
        next = sends(&[lost, later, then].concat())[0].clone();
    }
}

#[test]
fn a_worker_that_comes_back_takes_its_death_back() {
    let mut driver = Driver::new(false, &[("a", 1)]);
    driver.plan("job", plain(1));
    for attempt in 1..=5 {
        driver.start(id(0, attempt), "a");
        driver.lose("a");
        let actions = driver.join(info("a", 1));
        assert_eq!(sends(&actions), [sent(0, attempt + 1, "a")]);
    }
}

#[test]
fn a_failure_of_the_data_fails_the_job_at_once_and_a_refusal_does_not() {
    let mut driver = Driver::new(false, &[("a", 1), ("b", 1)]);
    driver.plan("job", plain(3));
    assert_eq!(sends(&driver.fail(id(0, 1), "a", FailureCode::Refused)), [sent(2, 1, "a")]);
    assert_eq!(sends(&driver.fail(id(1, 1), "b", FailureCode::Cancelled)), [sent(0, 2, "b")]);
    let actions = driver.fail(id(0, 2), "b", FailureCode::BadJob);
    assert_eq!(actions[0], Action::Stop { task: id(2, 1), worker: "a".to_owned() });
    let failure = job_failure(&actions);
    assert_eq!((failure.message.as_str(), failure.worker.as_deref()), ("words of the worker", Some("b")));
    assert_eq!(driver.scheduler.progress("job"), None);
    assert_eq!(driver.fail(id(2, 1), "a", FailureCode::BadJob), []);
}

#[test]
fn a_straggler_is_started_on_another_worker_and_the_slower_one_is_stopped() {
    for shared_queue in [false, true] {
        let mut driver = Driver::new(shared_queue, &[("a", 1), ("b", 1)]);
        driver.plan("job", plain(2));
        driver.start(id(0, 1), "a");
        driver.start(id(1, 1), "b");
        driver.now += Duration::from_millis(600);
        assert_eq!(driver.result(id(0, 1), "a").len(), 1);
        assert_eq!(driver.scheduler.next_deadline(), Some(Duration::from_millis(2200)));
        driver.now = Duration::from_millis(2200);
        assert_eq!(sends(&driver.step(Event::Tick)), [sent(1, 2, "a")]);
        assert_eq!(driver.pass(3, &[("a", 1, vec![id(1, 2)]), ("b", 1, vec![id(1, 1)])]), []);
        let actions = driver.result(id(1, 2), "a");
        assert_eq!(actions[1], Action::Stop { task: id(1, 1), worker: "b".to_owned() });
        assert!(matches!(actions[2], Action::JobDone { .. }));
    }
}

#[test]
fn a_broker_delivers_again() {
    let mut driver = Driver::new(true, &[("a", 1), ("b", 1)]);
    driver.plan("job", plain(1));
    assert_eq!(driver.start(id(0, 1), "a"), []);
    assert_eq!(driver.start(id(0, 1), "b"), []);
    assert_eq!(sends(&driver.lose("a")), [], "`b` has it still");
    assert_eq!(sends(&driver.lose("b")), []);
    driver.join(info("c", 1));
    driver.join(info("d", 1));
    driver.start(id(0, 2), "c");
    // The broker gives the first attempt away once more, of which nobody knows any more.
    assert_eq!(driver.start(id(0, 1), "d"), [Action::Stop { task: id(0, 1), worker: "d".to_owned() }]);
    assert!(matches!(driver.result(id(0, 2), "c")[1], Action::JobDone { .. }));
}

#[test]
fn a_task_that_the_broker_has_lost_is_put_into_the_queue_again() {
    let mut driver = Driver::new(true, &[("a", 1)]);
    driver.plan("job", plain(1));
    let actions = driver.pass(11, &[("a", 1, Vec::new())]);
    assert_eq!(sends(&actions), [sent(0, 2, "any")]);
    // The first attempt was only late.
    assert_eq!(driver.start(id(0, 1), "a"), []);
    assert!(matches!(driver.result(id(0, 1), "a")[1], Action::JobDone { .. }));
}

#[test]
fn a_job_waits_for_a_worker_tells_so_and_fails() {
    let mut driver = Driver::new(false, &[]);
    driver.plan("job", plain(2));
    let progress = driver.scheduler.progress("job").expect("it runs");
    assert_eq!((progress.done, progress.total, progress.running), (0, 2, 0));
    assert_eq!(progress.waiting_for.as_deref(), Some("a worker: none is in the cluster"));
    assert_eq!(driver.pass(29, &[]), []);
    let actions = driver.pass(1, &[]);
    let failure = job_failure(&actions);
    assert_eq!(failure.code, FailureCode::NoWorkers);
    assert!(failure.message.starts_with("the job waited 30 s for a worker"), "{failure}");
}

#[test]
fn a_pinned_task_waits_for_its_worker_alone() {
    let pinned = TaskSpec { pinned: Some("b".to_owned()), ..TaskSpec::default() };
    let mut driver = Driver::new(false, &[("a", 4)]);
    assert_eq!(sends(&driver.plan("job", vec![pinned])), []);
    let waits_for = driver.scheduler.progress("job").and_then(|progress| progress.waiting_for);
    assert_eq!(waits_for.as_deref(), Some("the worker b, which alone can read the files of its tasks"));
    driver.pass(20, &[("a", 4, Vec::new())]);
    assert_eq!(sends(&driver.join(info("b", 1))), [sent(0, 1, "b")]);
    driver.start(id(0, 1), "b");
    driver.lose("b");
    let actions = driver.pass(30, &[("a", 4, Vec::new())]);
    assert_eq!(job_failure(&actions).code, FailureCode::NoWorkers);
}

#[test]
fn a_drained_worker_finishes_what_it_has_and_goes() {
    let mut driver = Driver::new(false, &[("a", 1), ("b", 1)]);
    driver.plan("job", plain(3));
    assert_eq!(driver.step(Event::Drain { worker: "a:7000".to_owned() }), []);
    let told = driver.pass(1, &[("a", 1, vec![id(0, 1)])]);
    assert_eq!(told, [Action::TellDraining { worker: "a".to_owned() }]);
    let actions = driver.result(id(0, 1), "a");
    assert!(matches!(&actions[1], Action::WorkerGone { why, .. } if why == "it is drained"), "{actions:?}");
    assert_eq!(sends(&actions), []);
    assert!(refusal(&driver.join(info("a", 1))).contains("was removed"));
    let worker = info("a", 1);
    assert_eq!(sends(&driver.step(Event::WorkerJoined { worker, invited: true })), [sent(2, 1, "a")]);
}

#[test]
fn the_address_by_which_a_worker_was_added_lasts_as_long_as_its_run() {
    let mut driver = Driver::new(false, &[]);
    let mut worker = info("a", 1);
    worker.address = Some("a.example:7000".to_owned());
    driver.step(Event::WorkerJoined { worker, invited: true });
    let address = |driver: &Driver| driver.scheduler.nodes(driver.now)[0].info.address.clone();
    // Its signs of life name the address that it thinks it has.
    driver.step(Event::WorkerHeartbeat { worker: info("a", 1), running: Vec::new() });
    assert_eq!(address(&driver).as_deref(), Some("a.example:7000"));
    driver.step(Event::Remove { worker: "a.example:7000".to_owned() });
    let mut next_run = info("a", 1);
    next_run.incarnation = "a-2".to_owned();
    driver.join(next_run);
    assert_eq!(address(&driver).as_deref(), Some("a:7000"));
}

#[test]
fn the_tasks_of_a_removed_worker_start_elsewhere() {
    let mut driver = Driver::new(false, &[("a", 1), ("b", 1)]);
    driver.plan("job", plain(1));
    let actions = driver.step(Event::Remove { worker: "a".to_owned() });
    assert_eq!(actions[0], Action::Stop { task: id(0, 1), worker: "a".to_owned() });
    assert_eq!(sends(&actions), [sent(0, 2, "b")]);
    let unknown = driver.step(Event::Remove { worker: "a".to_owned() });
    assert!(refusal(&unknown).starts_with("no worker is called a"));
}

#[test]
fn results_of_unknown_tasks_are_discarded_and_unknown_tasks_are_stopped() {
    let mut driver = Driver::new(false, &[("a", 1)]);
    driver.plan("job", plain(1));
    let unknown = [
        id(7, 1),
        id(0, 9),
        id(0, 0),
        TaskId { round: 1, ..id(0, 1) },
        TaskId { job: "other".to_owned(), ..id(0, 1) },
    ];
    for task in unknown {
        let worker = "a".to_owned();
        let discard = Action::DiscardResult { task: task.clone(), worker: worker.clone() };
        assert_eq!(driver.result(task.clone(), "a"), [discard]);
        assert_eq!(driver.start(task.clone(), "a"), [Action::Stop { task: task.clone(), worker }]);
        assert_eq!(driver.step(Event::Alive { task: task.clone() }), []);
        assert_eq!(driver.fail(task, "a", FailureCode::BadJob), []);
    }
}

#[test]
fn a_cancelled_job_stops() {
    let mut driver = Driver::new(false, &[("a", 1)]);
    driver.plan("job", plain(2));
    let actions = driver.step(Event::JobCancelled { job: "job".to_owned() });
    assert_eq!(actions[0], Action::Stop { task: id(0, 1), worker: "a".to_owned() });
    assert_eq!(job_failure(&actions).code, FailureCode::Cancelled);
    assert_eq!(driver.step(Event::JobCancelled { job: "job".to_owned() }), []);
}
