//! Jobs whose rows are shuffled among workers: the same results, also when workers and masters are killed between the stages.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dataframe_cluster::{ClusterClient, JobResult};
use dataframe_jobs::failure::{Failure, FailureCode};
use dataframe_jobs::message::{NodesCommand, Reply, Request, TaskId};
use dataframe_jobs::operation::Operation;
use dataframe_jobs::packet;
use futures_util::StreamExt;
use middleware::Endpoint;
use middleware::connect::{Middleware, TransportSettings, connect};
use tokio::task::JoinHandle;

use crate::cluster::{Cluster, SHUFFLE_ALL, WAIT, on_each_middleware};
use crate::work::{csv, on_one_machine, operations, write_csv};

/// An exchange has at least so many partitions (`PARTITIONS` in the engine's `distributed.rs`), and a stage as many tasks.
const PARTITIONS: usize = 16;

/// Operations whose rows meet by their keys, and how many stages of so many tasks they have at least.
const LISTS: &[(&str, usize)] = &[
    (r#"{"groupby": {"by": ["name"], "agg": ["mean(x)", "sum(y)", "max(x) as top"]}}"#, 1),
    (r#"{"groupby": {"by": ["name", "x"], "agg": ["first(y)", "std(y)", "size"]}}"#, 1),
    (r#"{"value_counts": {"column": "x"}}"#, 1),
    (r#"{"unique": {"column": "x"}}"#, 1),
    (
        r#"{"merge": {"right": [{"read_csv": {"paths": [RIGHT]}}, {"query": {"predicate": "x < 50"}}], "how": "outer", "left_on": ["x"], "right_on": ["x"]}}, {"groupby": {"by": ["name_x"], "agg": ["sum(y_y)", "size"]}}"#,
        1,
    ),
    (r#"{"sort_values": {"by": ["x", "y"], "ascending": [false, true]}}"#, 0),
];

async fn shuffled_rows_give_the_results_of_one_machine(middleware: Middleware) {
    let Some(cluster) = Cluster::start_with(middleware, 2, SHUFFLE_ALL) else { return };
    let client = cluster.client().await;
    cluster.ready(&client, 2).await;
    let paths: Vec<_> =
        (0..3).map(|file| write_csv(cluster.folder.path(), &format!("part{file}.csv"), 500 + file)).collect();
    let right = serde_json::to_string(&paths[0]).unwrap();
    for (list, stages) in LISTS {
        let operations = operations(&paths, &list.replace("RIGHT", &right));
        let result = client.submit(&operations).await.unwrap();
        assert_eq!(csv(&result.frame), on_one_machine(&operations).await, "{list}");
        let places = &result.finished.places;
        assert!(places.len() > stages * PARTITIONS, "{list}: {places:?}");
        assert!((0..).zip(places).all(|(number, (task, ..))| *task == number), "{list}: {places:?}");
    }
}
on_each_middleware!(shuffled_rows_give_the_results_of_one_machine);

/// A job whose second stage keeps workers busy for about a second: each group is worked on when it is complete.
fn long_second_stage(folder: &Path) -> Vec<Operation> {
    let path = write_csv(folder, "long.csv", 30_000);
    operations(
        &[path],
        r#"{"groupby": {"by": ["name", "x", "y"], "agg": ["size as n"]}}, {"query": {"predicate": "length(repeat('abc', n * 1000)) > 0"}}"#,
    )
}

/// A job, and how many tasks its running stage has.
struct WatchedJob {
    job: JoinHandle<Result<JobResult, Failure>>,
    tasks: Arc<AtomicU32>,
}

impl WatchedJob {
    fn submit(client: ClusterClient, operations: &[Operation]) -> Self {
        let (tasks, operations) = (Arc::new(AtomicU32::new(0)), operations.to_vec());
        let seen = Arc::clone(&tasks);
        let client =
            client.with_progress(Arc::new(move |progress| seen.store(progress.total, Ordering::Relaxed)));
        Self { job: tokio::spawn(async move { client.submit(&operations).await }), tasks }
    }

    /// Waits until the second stage runs.
    async fn second_stage(&self) {
        let begun = async {
            while (self.tasks.load(Ordering::Relaxed) as usize) < PARTITIONS {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(WAIT, begun).await.expect("there is no second stage");
        assert!(!self.job.is_finished(), "the second stage is over before anything could happen to it");
    }
}

async fn a_worker_killed_in_the_second_stage_costs_no_result(middleware: Middleware) {
    let Some(mut cluster) = Cluster::start_with(middleware, 2, SHUFFLE_ALL) else { return };
    let client = cluster.client().await;
    cluster.ready(&client, 2).await;
    let operations = long_second_stage(cluster.folder.path());
    let expected = on_one_machine(&operations).await;
    let watched = WatchedJob::submit(client.clone(), &operations);
    watched.second_stage().await;
    cluster.workers[0].kill();
    let result = watched.job.await.unwrap().unwrap();
    assert_eq!(csv(&result.frame), expected);
    let by_the_other = result.finished.places.iter().filter(|(_, worker, _)| worker == "worker2").count();
    assert!(by_the_other > PARTITIONS / 2, "{:?}", result.finished.places);
}
on_each_middleware!(a_worker_killed_in_the_second_stage_costs_no_result);

async fn a_master_killed_after_the_first_stage_is_asked_again(middleware: Middleware) {
    let Some(mut cluster) = Cluster::start_with(middleware, 2, SHUFFLE_ALL) else { return };
    let client = cluster.client().await;
    cluster.ready(&client, 2).await;
    let operations = long_second_stage(cluster.folder.path());
    let expected = on_one_machine(&operations).await;
    let watched = WatchedJob::submit(client.clone(), &operations);
    watched.second_stage().await;
    cluster.restart_master();
    let result = watched.job.await.unwrap().unwrap();
    assert_eq!(csv(&result.frame), expected);
}
on_each_middleware!(a_master_killed_after_the_first_stage_is_asked_again);

#[tokio::test(flavor = "multi_thread")]
async fn what_a_worker_has_no_memory_for_is_spilled_or_fails_with_a_reason() {
    let mut cluster = Cluster::start_with(Middleware::Grpc, 0, SHUFFLE_ALL).expect("gRPC needs no broker");
    let client = cluster.client().await;
    let path = write_csv(cluster.folder.path(), "data.csv", 50_000);
    let paths = std::slice::from_ref(&path);
    let groups = operations(paths, r#"{"groupby": {"by": ["name", "x", "y"], "agg": ["mean(y)", "size"]}}"#);
    cluster.add_worker(&["--memory", "2MB"]);
    cluster.ready(&client, 1).await;
    let result = client.submit(&groups).await.unwrap();
    assert_eq!(csv(&result.frame), on_one_machine(&groups).await);
    let described = operations(paths, r#"{"describe": {}}"#);
    cluster.workers[0].kill();
    cluster.add_worker(&["--memory", "100kB"]);
    let failure = client.submit(&described).await.unwrap_err();
    assert_eq!(failure.code, FailureCode::Resources, "{failure}");
    assert!(failure.message.contains("--memory"), "{failure}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_is_not_there_is_refused() {
    let cluster = Cluster::start(Middleware::Grpc, 0).expect("gRPC needs no broker");
    let client = cluster.client().await;
    cluster.ready(&client, 0).await;
    let transport = connect(Middleware::Grpc, TransportSettings::default()).await.unwrap();
    let task = TaskId { job: "nothing".to_owned(), round: 1, task: 0, attempt: 1 };
    let request = Request::Fetch { task, shuffle: 0, partition: u32::MAX, from: u32::MAX };
    let master = Endpoint::Master(cluster.address().to_owned());
    let mut pieces = transport.request(&master, packet::encode(&request, &[])).await.unwrap();
    let piece = pieces.next().await.unwrap().unwrap();
    let (reply, _) = packet::decode::<Reply>(&piece).unwrap();
    assert!(matches!(&reply, Reply::Failed(failure) if failure.code == FailureCode::Refused), "{reply:?}");
    client.nodes(NodesCommand::List).await.unwrap();
}
