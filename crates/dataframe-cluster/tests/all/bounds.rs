//! What is bounded: results that are kept, clients that wait, and the length of what is sent.

use dataframe_cluster::ClusterClient;
use dataframe_jobs::failure::{Failure, FailureCode};
use dataframe_jobs::operation::Operation;
use middleware::connect::Middleware;
use tokio::task::JoinSet;

use crate::cluster::{Cluster, WAIT};
use crate::work::{csv, on_one_machine, operations, write_csv};

/// A master keeps so many results (`KEPT` in `results.rs`).
const KEPT_RESULTS: usize = 64;
/// So many clients may wait for jobs (`MAX_WAITING_CLIENTS` in `desk.rs`).
const WAITING_CLIENTS: usize = 256;

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_result_had_to_make_room_is_run_again() {
    let cluster = Cluster::start(Middleware::Grpc, 1).expect("gRPC needs no broker");
    let client = cluster.client().await;
    cluster.ready(&client, 1).await;
    let path = write_csv(cluster.folder.path(), "data.csv", 100);
    let operations = operations(&[path], r#"{"sum": {"columns": ["x"]}}"#);
    let expected = on_one_machine(&operations).await;
    let (job, first) = client.submit_as(None, &operations).await;
    assert_eq!(csv(&first.unwrap().frame), expected);
    for _ in 0..KEPT_RESULTS {
        client.submit(&operations).await.unwrap();
    }
    let kept = cluster.folder.path().join("master/results").join(format!("{job}.arrows"));
    assert!(!kept.exists(), "the first result was to make room");
    let (_, again) = client.submit_as(Some(job), &operations).await;
    assert_eq!(csv(&again.unwrap().frame), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_wait_do_not_keep_workers_out() {
    let mut cluster = Cluster::start(Middleware::Grpc, 0).expect("gRPC needs no broker");
    let client = cluster.client().await;
    cluster.ready(&client, 0).await;
    let path = write_csv(cluster.folder.path(), "data.csv", 100);
    let operations = operations(&[path], r#"{"sum": {"columns": ["x"]}}"#);
    let mut waiting = JoinSet::new();
    for _ in 0..WAITING_CLIENTS + 20 {
        let (client, operations) = (client.clone(), operations.clone());
        waiting.spawn(async move { client.submit(&operations).await });
    }
    // Those that find no place hear so at once.
    for _ in 0..20 {
        let first = tokio::time::timeout(WAIT, waiting.join_next()).await.expect("an answer in time");
        let failure = first.unwrap().unwrap().unwrap_err();
        assert_eq!(failure.code, FailureCode::Refused);
        assert!(failure.message.contains("256 clients wait"), "{failure}");
    }
    cluster.add_worker(&[]);
    cluster.ready(&client, 1).await;
    let expected = on_one_machine(&operations).await;
    while let Some(result) = waiting.join_next().await {
        assert_eq!(csv(&result.unwrap().unwrap().frame), expected);
    }
}

/// An operation with so many short values. Each takes six bytes in the list, and more in the plan of a task.
fn among(cluster: &Cluster, values: usize) -> Vec<Operation> {
    let path = write_csv(cluster.folder.path(), "data.csv", 100);
    let values: Vec<_> = (0..values).map(|number| format!("{:03}", number % 1000)).collect();
    operations(&[path], &format!(r#"{{"isin": {{"values": {values:?}, "column": "name"}}}}"#))
}

async fn fails_at_once(client: &ClusterClient, operations: &[Operation]) -> Failure {
    let done = tokio::time::timeout(WAIT, client.submit(operations)).await;
    done.expect("nothing is tried again that can never be sent").unwrap_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_long_for_the_middleware_fails_at_once_and_says_so() {
    let Some(cluster) = Cluster::start(Middleware::Redis, 1) else { return };
    let client = cluster.client().await;
    cluster.ready(&client, 1).await;
    let failure = fails_at_once(&client, &among(&cluster, 200_000)).await;
    assert_eq!(failure.code, FailureCode::BadJob);
    assert!(failure.message.contains("the list of operations cannot be sent"), "{failure}");
    let failure = fails_at_once(&client, &among(&cluster, 150_000)).await;
    assert_eq!(failure.code, FailureCode::BadJob);
    assert!(failure.message.contains("a task cannot be sent"), "{failure}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_many_tasks_ends_although_their_places_are_too_long_to_tell() {
    let Some(mut cluster) = Cluster::start(Middleware::Redis, 0) else { return };
    let client = cluster.client().await;
    // The place of a task has the worker's name: 16,000 of them are longer than a message over Redis, which has 1 MiB.
    let name = "w".repeat(64);
    let worker = cluster.start_worker(&name, &[]);
    cluster.workers.push(worker);
    cluster.ready(&client, 1).await;
    let few = client.probe(10).await.unwrap();
    assert_eq!(few.places.len(), 10);
    assert!(serde_json::to_vec(&few.places).unwrap().len() * 1_600 > 1 << 20, "{few:?}");
    let many = client.probe(16_000).await.unwrap();
    assert!(many.places.is_empty(), "{} places", many.places.len());
}
