//! Which workers and jobs are taken in.

use std::time::Duration;

use dataframe_jobs::scheduler::{SchedulerAction as Action, SchedulerEvent as Event};

use crate::rules::{Driver, info, plain, refusal, sends};

#[test]
fn a_worker_of_another_version_is_refused_by_name() {
    let mut driver = Driver::new(false, &[]);
    let mut other = info("a", 1);
    other.datafusion = "54".to_owned();
    assert!(
        refusal(&driver.join(other)).starts_with("the worker a has DataFusion 54, and the master has 55")
    );
    let mut other = info("a", 1);
    other.release = "2".to_owned();
    assert!(
        refusal(&driver.join(other)).starts_with("the worker a is release 2, and the master is release 1")
    );
    assert!(refusal(&driver.join(info("a", 0))).contains("no slots"));
    assert!(refusal(&driver.join(info("", 1))).contains("name"));
}

#[test]
fn an_address_is_that_of_one_worker_and_not_the_masters() {
    let mut driver = Driver::new(false, &[("a", 1)]);
    let mut twice = info("b", 1);
    twice.address = Some("A:7000".to_owned());
    assert_eq!(refusal(&driver.join(twice)), "the worker a is at the address A:7000 already");
    let mut own = info("b", 1);
    own.address = Some("master:9000".to_owned());
    assert_eq!(
        refusal(&driver.join(own)),
        "master:9000 is the master's own address, and not that of the worker b"
    );
}

#[test]
fn a_name_is_taken_while_its_worker_lives_and_free_for_its_next_run() {
    let mut driver = Driver::new(false, &[("a", 1)]);
    driver.plan("job", plain(1));
    let mut other = info("a", 1);
    (other.incarnation, other.address) = ("a-2".to_owned(), Some("elsewhere:7000".to_owned()));
    assert!(refusal(&driver.join(other.clone())).starts_with("the name a is taken by another worker"));
    // The same again is no other worker.
    assert_eq!(driver.join(info("a", 1)), []);
    driver.lose("a");
    let actions = driver.join(other.clone());
    let admitted = Action::Admit { worker: "a".to_owned(), incarnation: "a-2".to_owned() };
    assert!(actions.contains(&admitted), "{actions:?}");
    assert_eq!(sends(&actions).len(), 1);
    // What the first run sent late.
    assert!(refusal(&driver.join(info("a", 1))).starts_with("another run of the worker a"));
    let left = Event::WorkerLeft { worker: "a".to_owned(), incarnation: "a-1".to_owned() };
    assert_eq!(driver.step(left), []);
}

#[test]
fn the_next_run_at_the_same_address_needs_not_wait_until_the_first_one_is_missed() {
    let mut driver = Driver::new(false, &[("a", 1), ("b", 1)]);
    driver.plan("job", plain(2));
    let mut next = info("a", 1);
    next.incarnation = "a-2".to_owned();
    let actions = driver.join(next);
    assert!(
        matches!(&actions[0], Action::WorkerGone { incarnation, .. } if incarnation == "a-1"),
        "{actions:?}"
    );
    assert_eq!(sends(&actions).len(), 1);
}

#[test]
fn a_worker_that_the_master_does_not_know_joins_by_its_heartbeat() {
    let mut driver = Driver::new(false, &[]);
    let heartbeat = Event::WorkerHeartbeat { worker: info("a", 1), running: Vec::new() };
    assert!(matches!(driver.step(heartbeat)[0], Action::Admit { .. }));
    assert_eq!(driver.scheduler.slots(), 1);
}

#[test]
fn jobs_have_bounds_and_rounds() {
    let mut driver = Driver::new(false, &[]);
    assert!(refusal(&driver.plan("job", plain(101))).contains("may have 100"));
    for job in ["a", "b", "c"] {
        assert_eq!(driver.plan(job, plain(1)), []);
    }
    assert!(refusal(&driver.plan("d", plain(1))).starts_with("3 jobs are running"));
    assert_eq!(refusal(&driver.plan("a", plain(1))), "round 0 of the job a is known already");
    assert_eq!((driver.scheduler.next_round("a"), driver.scheduler.next_round("d")), (1, 0));
    driver.step(Event::JobCancelled { job: "a".to_owned() });
    assert_eq!(refusal(&driver.plan("a", plain(1))), "round 0 of the job a is known already");
    let again = Event::JobPlanned { job: "a".to_owned(), round: 1, tasks: plain(1), wait: Duration::ZERO };
    assert!(matches!(&driver.step(again)[..], [Action::JobFailed { round: 1, .. }]));
}
