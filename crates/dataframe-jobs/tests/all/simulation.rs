//! The scheduler in a model world, under a seed: workers die, hang, answer twice and come late; brokers deliver again;
//! messages get lost; jobs have several stages. `SCHEDULER_SEEDS=100000` runs more seeds; `SCHEDULER_SEED=7` runs that one alone.

mod checker;
mod scenario;
mod tally;
mod workers;
mod world;

use scenario::Scenario;
use tally::Tally;
use world::World;

const SEEDS: u64 = 600;

fn seeds() -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().map(|value| value.parse().expect("a number of seeds"));
    match number("SCHEDULER_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SCHEDULER_SEEDS").unwrap_or(SEEDS),
    }
}

fn run(kind: &str, make: impl Fn(u64) -> Scenario) -> Tally {
    let mut tally = Tally::default();
    for seed in seeds() {
        let scenario = make(seed);
        let ran = std::panic::catch_unwind(|| World::new(seed, scenario).run());
        match ran {
            Ok(one) => tally.add(&one),
            Err(panic) => {
                eprintln!("{kind}: seed {seed} failed; run it alone with SCHEDULER_SEED={seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    eprintln!("{kind}: {tally:?}");
    tally
}

fn assert_faults_happened(tally: &Tally) {
    if seeds().count() < 500 {
        return;
    }
    let Tally { done, stages, bad, poisonous, no_workers, cancelled, deaths, hangs, lost, discarded, .. } =
        *tally;
    for (name, count) in [
        ("done", done),
        ("a further stage", stages),
        ("bad", bad),
        ("poisonous", poisonous),
        ("no workers", no_workers),
        ("cancelled", cancelled),
        ("deaths", deaths),
        ("hangs", hangs),
        ("lost messages", lost),
        ("discarded results", discarded),
    ] {
        assert!(count > 0, "{name} never happened: {tally:?}");
    }
}

#[test]
fn whatever_happens_to_workers_that_are_called_each_result_counts_once_and_each_job_ends() {
    assert_faults_happened(&run("push", |seed| Scenario::chaos(seed, false)));
}

#[test]
fn whatever_happens_to_workers_and_their_broker_each_result_counts_once_and_each_job_ends() {
    let tally = run("pull", |seed| Scenario::chaos(seed, true));
    assert_faults_happened(&tally);
    assert!(seeds().count() < 500 || tally.delivered_again > 0, "{tally:?}");
}

#[test]
fn a_task_that_kills_its_workers_is_named_and_the_tasks_beside_it_are_not() {
    for pull in [false, true] {
        let tally = run("poison", |seed| Scenario::poison(seed, pull));
        assert!(tally.poisonous > 0 && tally.done > 0, "{tally:?}");
    }
}

#[test]
fn without_faults_every_job_is_done() {
    for pull in [false, true] {
        let tally = run("calm", |seed| Scenario::calm(seed, pull));
        assert_eq!(tally.done, tally.jobs, "{tally:?}");
    }
}
