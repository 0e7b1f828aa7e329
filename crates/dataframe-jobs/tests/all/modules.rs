//! Tasks that call WebAssembly modules, and workers that run them.

use dataframe_jobs::failure::FailureCode;
use dataframe_jobs::message::WorkerInfo;
use dataframe_jobs::scheduler::{SchedulerAction as Action, TaskSpec};

use crate::rules::{Driver, id, info, sends};

fn able(name: &str, slots: u32) -> WorkerInfo {
    WorkerInfo { wasm: true, ..info(name, slots) }
}

fn wasm(count: usize) -> Vec<TaskSpec> {
    vec![TaskSpec { wasm: true, ..TaskSpec::default() }; count]
}

fn refusal(actions: &[Action]) -> String {
    match actions {
        [Action::JobRefused { failure, .. }] => failure.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn only_a_worker_that_runs_modules_gets_them_with_and_without_a_shared_queue() {
    for shared_queue in [false, true] {
        let mut driver = Driver::new(shared_queue, &[("a", 4), ("c", 4)]);
        driver.join(able("b", 1));
        let mixed = [wasm(3), vec![TaskSpec::default(); 2]].concat();
        let actions = driver.plan("job", mixed);
        let (of_modules, others): (Vec<_>, Vec<_>) =
            sends(&actions).into_iter().partition(|(_, task, ..)| *task < 3);
        assert_eq!(of_modules, [("job".to_owned(), 0, 1, "b".to_owned())], "{shared_queue}");
        assert_eq!(others.len(), 2, "{shared_queue}: {others:?}");
        assert!(others.iter().all(|(.., to)| shared_queue == (to == "any")), "{others:?}");
        // With a broker between them, the next task stands in the worker's own queue already.
        let next = [driver.start(id(0, 1), "b"), driver.result(id(0, 1), "b")].concat();
        let next = sends(&next);
        assert_eq!(next.iter().map(|(_, task, _, to)| (*task, to.as_str())).collect::<Vec<_>>(), [(1, "b")]);
    }
}

#[test]
fn a_job_fails_at_once_where_nobody_runs_modules() {
    let mut driver = Driver::new(true, &[("a", 4)]);
    let error = refusal(&driver.plan("job", wasm(1)));
    assert!(error.contains("no worker of the cluster runs them: start workers with --allow-wasm"), "{error}");
    driver.join(able("b", 1));
    let pinned = TaskSpec { pinned: Some("a".to_owned()), wasm: true, ..TaskSpec::default() };
    let error = refusal(&driver.plan("other", vec![pinned]));
    assert!(error.contains("the worker a, which alone can read its files, does not run them"), "{error}");
}

#[test]
fn a_job_waits_for_a_worker_that_runs_modules_where_there_is_none_at_all() {
    let mut driver = Driver::new(false, &[]);
    assert!(driver.plan("job", wasm(1)).is_empty());
    driver.join(info("a", 1));
    let waiting = driver.scheduler.progress("job").and_then(|progress| progress.waiting_for);
    assert_eq!(
        waiting.as_deref(),
        Some("a worker that runs WebAssembly modules (--allow-wasm): none is in the cluster")
    );
    assert_eq!(sends(&driver.join(able("b", 1))), [("job".to_owned(), 0, 1, "b".to_owned())]);
    let mut driver = Driver::new(false, &[]);
    driver.plan("job", wasm(1));
    driver.join(info("a", 1));
    let actions = driver.pass(31, &[("a", 1, Vec::new())]);
    let failure = actions.iter().find_map(|action| match action {
        Action::JobFailed { failure, .. } => Some(failure),
        _ => None,
    });
    assert_eq!(failure.map(|failure| failure.code), Some(FailureCode::NoWorkers), "{actions:?}");
}

#[test]
fn a_worker_that_comes_back_without_modules_does_not_hold_a_job_up() {
    let mut driver = Driver::new(false, &[("a", 4)]);
    driver.join(able("b", 1));
    let pinned = TaskSpec { pinned: Some("b".to_owned()), wasm: true, ..TaskSpec::default() };
    assert_eq!(sends(&driver.plan("job", vec![pinned])).len(), 1);
    driver.lose("b");
    assert!(sends(&driver.join(WorkerInfo { incarnation: "b-2".to_owned(), ..info("b", 1) })).is_empty());
    let mut actions = Vec::new();
    for _ in 0..31 {
        driver.now += std::time::Duration::from_secs(1);
        actions.extend(driver.step(dataframe_jobs::scheduler::SchedulerEvent::Tick));
    }
    let failed = |action: &Action| matches!(action, Action::JobFailed { failure, .. } if failure.code == FailureCode::NoWorkers);
    assert!(actions.iter().any(failed), "{actions:?}");
}

#[test]
fn a_task_that_was_lost_goes_back_to_the_only_worker_that_runs_modules() {
    for shared_queue in [false, true] {
        let mut driver = Driver::new(shared_queue, &[("a", 4)]);
        driver.join(able("b", 1));
        driver.plan("job", wasm(1));
        driver.start(id(0, 1), "b");
        let actions = driver.fail(id(0, 1), "b", FailureCode::Refused);
        assert_eq!(sends(&actions), [("job".to_owned(), 0, 2, "b".to_owned())], "{shared_queue}");
        driver.join(able("c", 1));
        driver.start(id(0, 2), "b");
        // The second loss gets a pause, and another worker.
        driver.fail(id(0, 2), "b", FailureCode::Refused);
        driver.now += std::time::Duration::from_secs(1);
        let actions = driver.step(dataframe_jobs::scheduler::SchedulerEvent::Tick);
        assert_eq!(sends(&actions), [("job".to_owned(), 0, 3, "c".to_owned())], "{shared_queue}");
    }
}
