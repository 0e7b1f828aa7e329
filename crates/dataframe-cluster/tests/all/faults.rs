//! Workers, masters and brokers that are killed in the middle of a job. Each test sees that the job was running then.

use std::collections::BTreeSet;
use std::time::Duration;

use dataframe_cluster::{ClusterClient, JobResult};
use dataframe_jobs::failure::{Failure, FailureCode};
use dataframe_jobs::message::NodesCommand;
use dataframe_jobs::operation::Operation;
use middleware::connect::Middleware;
use tokio::task::JoinHandle;

use crate::cluster::{Broker, Cluster, WAIT, on_each_middleware};
use crate::work::{csv, long_work, on_one_machine};

/// How often each fault is tried. `FAULT_ROUNDS=20` is the long run.
pub fn rounds() -> usize {
    std::env::var("FAULT_ROUNDS").map_or(1, |rounds| rounds.parse().unwrap())
}

pub fn submit(client: &ClusterClient, operations: &[Operation]) -> JoinHandle<Result<JobResult, Failure>> {
    let (client, operations) = (client.clone(), operations.to_vec());
    tokio::spawn(async move { client.submit(&operations).await })
}

/// The place of a worker that has a task, among the workers that are not in `but`.
async fn busy_worker_of(client: &ClusterClient, but: &BTreeSet<usize>) -> Option<usize> {
    let nodes = client.nodes(NodesCommand::List).await.unwrap_or_default();
    let place = |name: &str| name.trim_start_matches("worker").parse::<usize>().unwrap() - 1;
    let busy = nodes.iter().filter(|node| node.running > 0).map(|node| place(&node.info.name));
    let busy = busy.into_iter().find(|place| !but.contains(place));
    if busy.is_none() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    busy
}

/// Waits until a worker has a task, and returns its place among the workers.
pub async fn busy_worker(client: &ClusterClient) -> usize {
    let busy = async {
        loop {
            if let Some(worker) = busy_worker_of(client, &BTreeSet::new()).await {
                return worker;
            }
        }
    };
    tokio::time::timeout(WAIT, busy).await.expect("no worker has a task")
}

async fn a_worker_killed_in_the_middle_costs_no_result(middleware: Middleware) {
    let Some(mut cluster) = Cluster::start(middleware, 2) else { return };
    let client = cluster.client().await;
    let operations = long_work(cluster.folder.path());
    let expected = on_one_machine(&operations).await;
    for _ in 0..rounds() {
        cluster.ready(&client, 2).await;
        let job = submit(&client, &operations);
        let victim = busy_worker(&client).await;
        cluster.workers[victim].kill();
        assert!(!job.is_finished(), "the worker was to be killed in the middle");
        let result = job.await.unwrap().unwrap();
        assert_eq!(csv(&result.frame), expected);
        assert!(
            result.finished.places.iter().any(|(_, _, attempt)| *attempt > 1)
                || middleware_redelivers(middleware)
        );
        cluster.workers[victim] = cluster.start_worker(&format!("worker{}", victim + 1), &[]);
    }
}
on_each_middleware!(a_worker_killed_in_the_middle_costs_no_result);

/// A broker may give the same attempt to another worker.
fn middleware_redelivers(middleware: Middleware) -> bool {
    matches!(middleware, Middleware::Redis | Middleware::RabbitMq | Middleware::ObjectStore)
}

async fn a_master_killed_in_the_middle_is_asked_again(middleware: Middleware) {
    let Some(mut cluster) = Cluster::start(middleware, 2) else { return };
    let client = cluster.client().await;
    let operations = long_work(cluster.folder.path());
    let expected = on_one_machine(&operations).await;
    for _ in 0..rounds() {
        cluster.ready(&client, 2).await;
        let job = submit(&client, &operations);
        busy_worker(&client).await;
        cluster.restart_master();
        assert!(!job.is_finished(), "the master was to be killed in the middle");
        let result = job.await.unwrap().unwrap();
        assert_eq!(csv(&result.frame), expected);
    }
}
on_each_middleware!(a_master_killed_in_the_middle_is_asked_again);

async fn a_broker_killed_in_the_middle_is_waited_for(middleware: Middleware) {
    let Some(mut cluster) = Cluster::start(middleware, 2) else { return };
    let client = cluster.client().await;
    let operations = long_work(cluster.folder.path());
    let expected = on_one_machine(&operations).await;
    for _ in 0..rounds() {
        cluster.ready(&client, 2).await;
        let job = submit(&client, &operations);
        busy_worker(&client).await;
        match &mut cluster.broker {
            Broker::None => panic!("{middleware} has no broker"),
            Broker::Redis(server) => server.restart(),
            Broker::Rabbit(server) => server.restart(),
            Broker::Bucket(folder) => {
                let elsewhere = folder.path().with_extension("away");
                std::fs::rename(folder.path(), &elsewhere).unwrap();
                cluster.master.logged("the bucket fails, and is tried again");
                // Something may have been put while the folder went away, and has made another one.
                while std::fs::rename(&elsewhere, folder.path()).is_err() {
                    std::fs::remove_dir_all(folder.path()).unwrap();
                }
            }
        }
        assert!(!job.is_finished(), "the broker was to be killed in the middle");
        let result = job.await.unwrap().unwrap();
        assert_eq!(csv(&result.frame), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_killed_in_the_middle_is_waited_for() {
    a_broker_killed_in_the_middle_is_waited_for(Middleware::Redis).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_killed_in_the_middle_is_waited_for() {
    a_broker_killed_in_the_middle_is_waited_for(Middleware::RabbitMq).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_of_a_hybrid_killed_in_the_middle_is_waited_for() {
    a_broker_killed_in_the_middle_is_waited_for(Middleware::HybridGrpc).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_away_in_the_middle_is_waited_for() {
    a_broker_killed_in_the_middle_is_waited_for(Middleware::ObjectStore).await;
}

/// Kills each worker that has the task, and starts another one in its place. A worker that has not begun the task when it is
/// killed does not count.
async fn a_poisonous_task_fails_its_job_and_not_the_cluster(middleware: Middleware) {
    let Some(mut cluster) = Cluster::start(middleware, 2) else { return };
    let client = cluster.client().await;
    cluster.ready(&client, 2).await;
    let operations = long_work(cluster.folder.path());
    let job = submit(&client, &operations);
    let mut killed = BTreeSet::new();
    while !job.is_finished() {
        // Behind a broker, a dead worker is noticed after a while only.
        let Some(victim) = busy_worker_of(&client, &killed).await else { continue };
        cluster.workers[victim].kill();
        killed.insert(victim);
        assert!(killed.len() < 20, "the job survives its workers");
        cluster.add_worker(&[]);
    }
    let killed = killed.len();
    let failure = job.await.unwrap().unwrap_err();
    assert_eq!(failure.code, FailureCode::Poisonous, "{failure}");
    assert!(killed >= 3, "{killed} workers were killed: {failure}");
    client.probe(10).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poisonous_task_over_grpc() {
    a_poisonous_task_fails_its_job_and_not_the_cluster(Middleware::Grpc).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poisonous_task_over_redis() {
    a_poisonous_task_fails_its_job_and_not_the_cluster(Middleware::Redis).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_without_workers_says_what_it_waits_for() {
    let mut cluster = Cluster::start(Middleware::Grpc, 0).unwrap();
    let waited: std::sync::Arc<std::sync::Mutex<Option<String>>> = Default::default();
    let seen = std::sync::Arc::clone(&waited);
    let client = cluster.client().await.with_progress(std::sync::Arc::new(move |progress| {
        if let Some(what) = &progress.waiting_for {
            *seen.lock().unwrap() = Some(what.clone());
        }
    }));
    let operations = long_work(cluster.folder.path());
    let job = submit(&client, &operations);
    let told = async {
        while waited.lock().unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(WAIT, told).await.unwrap();
    cluster.add_worker(&[]);
    let result = job.await.unwrap().unwrap();
    assert_eq!(csv(&result.frame), on_one_machine(&operations).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finished_job_is_not_run_again_by_the_next_master() {
    let mut cluster = Cluster::start(Middleware::Grpc, 1).unwrap();
    let client = cluster.client().await;
    cluster.ready(&client, 1).await;
    let operations = long_work(cluster.folder.path());
    let (job, first) = client.submit_as(None, &operations).await;
    let first = first.unwrap();
    cluster.restart_master();
    // There is no worker any more: only a stored result can answer.
    cluster.workers[0].kill();
    let (_, again) = client.submit_as(Some(job), &operations).await;
    let again = again.unwrap();
    assert_eq!(csv(&again.frame), csv(&first.frame));
    assert_eq!(again.finished, first.finished);
}
