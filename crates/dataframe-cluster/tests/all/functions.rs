//! A process for each task: what becomes of a job whose processes are killed or frozen.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use brokers::RedisServer;
use dataframe_cluster::ClusterClient;
use dataframe_jobs::failure::FailureCode;
use dataframe_jobs::message::NodesCommand;
use dataframe_jobs::operation::Operation;
use middleware::connect::{Middleware, TransportSettings, connect};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cluster::{Cluster, WAIT};
use crate::faults::{rounds, submit};
use crate::work::{csv, long_work, on_one_machine};

/// The processes that run tasks of this cluster. Its bucket tells them from those of other clusters.
fn functions(cluster: &Cluster) -> BTreeSet<i32> {
    let bucket = cluster.broker_url().unwrap();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let ids = processes.filter_map(|process| process.file_name().to_str()?.parse::<i32>().ok());
    let is_function = |id: &i32| {
        let words = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        let words: Vec<_> = words.split(|byte| *byte == 0).collect();
        words.contains(&b"--function".as_slice()) && words.contains(&bucket.as_bytes())
    };
    ids.filter(is_function).collect()
}

/// Waits until a process runs a task that is not among those of `but`.
async fn next_function(cluster: &Cluster, but: &BTreeSet<i32>) -> i32 {
    let look = async {
        loop {
            if let Some(function) = functions(cluster).difference(but).next() {
                return *function;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(WAIT, look).await.expect("no process runs a task")
}

async fn cluster_with(workers: usize) -> (Cluster, ClusterClient, Vec<Operation>, String) {
    let cluster = Cluster::start(Middleware::ObjectStore, workers).expect("a folder is always there");
    let client = cluster.client().await;
    cluster.ready(&client, workers).await;
    let operations = long_work(cluster.folder.path());
    let expected = on_one_machine(&operations).await;
    (cluster, client, operations, expected)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_takes_nothing_with_it() {
    let (cluster, client, operations, expected) = cluster_with(2).await;
    for _ in 0..rounds() {
        let job = submit(&client, &operations);
        let victim = next_function(&cluster, &BTreeSet::new()).await;
        kill(Pid::from_raw(victim), Signal::SIGKILL).unwrap();
        let result = job.await.unwrap().unwrap();
        assert_eq!(csv(&result.frame), expected);
        assert!(result.finished.places.iter().any(|(_, _, attempt)| *attempt > 1), "{:?}", result.finished);
        cluster.ready(&client, 2).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_process_is_killed_after_its_lease() {
    let (cluster, client, operations, expected) = cluster_with(1).await;
    let job = submit(&client, &operations);
    let victim = next_function(&cluster, &BTreeSet::new()).await;
    kill(Pid::from_raw(victim), Signal::SIGSTOP).unwrap();
    let result = job.await.unwrap().unwrap();
    assert_eq!(csv(&result.frame), expected);
    let gone = async {
        while functions(&cluster).contains(&victim) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(WAIT, gone).await.expect("the frozen process is still there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_kills_its_processes_fails_its_job_and_no_worker() {
    let (cluster, client, operations, _) = cluster_with(1).await;
    let job = submit(&client, &operations);
    let mut killed = BTreeSet::new();
    while !job.is_finished() {
        let Some(victim) = functions(&cluster).difference(&killed).next().copied() else {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        // One that has not told that it has begun does not count.
        while !job.is_finished() && client.nodes(NodesCommand::List).await.unwrap()[0].running == 0 {}
        // It may have ended by itself, with the job.
        let _ = kill(Pid::from_raw(victim), Signal::SIGKILL);
        killed.insert(victim);
        assert!(killed.len() < 20, "the job survives its processes");
    }
    let failure = job.await.unwrap().unwrap_err();
    assert_eq!(failure.code, FailureCode::Poisonous, "{failure}");
    assert!(failure.message.contains("worker1 (a process of it)"), "{failure}");
    cluster.ready(&client, 1).await;
    client.probe(3).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_end_with_the_worker_that_started_them() {
    let (mut cluster, client, operations, expected) = cluster_with(1).await;
    let job = submit(&client, &operations);
    let orphan = next_function(&cluster, &BTreeSet::new()).await;
    cluster.workers[0].kill();
    let gone = async {
        while functions(&cluster).contains(&orphan) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(WAIT, gone).await.expect("the process outlives its worker");
    cluster.add_worker(&[]);
    assert_eq!(csv(&job.await.unwrap().unwrap().frame), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_in_the_bucket_after_a_job() {
    let (cluster, client, operations, expected) = cluster_with(2).await;
    assert_eq!(csv(&client.submit(&operations).await.unwrap().frame), expected);
    let crate::cluster::Broker::Bucket(bucket) = &cluster.broker else { panic!("the broker is a bucket") };
    let left = |place: &str| files(&bucket.path().join("dataframe").join(place));
    let gone = async {
        // Heartbeats come and go, and are of the folders of the master and of the inboxes.
        while left("requests/tasks") + left("requests/worker-worker1") + left("requests/worker-worker2") > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(WAIT, gone).await.expect("tasks are left in the bucket");
}

fn files(folder: &Path) -> usize {
    std::fs::read_dir(folder).map_or(0, Iterator::count)
}

#[tokio::test(flavor = "multi_thread")]
async fn stages_meet_in_a_fast_store() {
    let Some(redis) = RedisServer::start() else { return };
    let mut cluster = Cluster::start(Middleware::ObjectStore, 0).expect("a folder is always there");
    let url = redis.url();
    // The master of the cluster posts to inboxes of workers, and reads its own, by the fast store as well.
    cluster.fast_store = Some(url.clone());
    cluster.restart_master();
    for _ in 0..2 {
        cluster.add_worker(&[]);
    }
    let broker_url = cluster.broker_url();
    let settings =
        TransportSettings { broker_url, fast_store_url: Some(url), ..TransportSettings::default() };
    let transport = connect(Middleware::ObjectStore, settings).await.unwrap();
    let client = ClusterClient::new(transport, String::new(), WAIT);
    cluster.ready(&client, 2).await;
    let operations = long_work(cluster.folder.path());
    let expected = on_one_machine(&operations).await;
    assert_eq!(csv(&client.submit(&operations).await.unwrap().frame), expected);
    assert!(redis.ask("INFO commandstats").contains("cmdstat_xadd"), "Redis has carried letters");
}
