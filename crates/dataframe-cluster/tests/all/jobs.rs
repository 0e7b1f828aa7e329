//! Jobs give on a cluster what they give on one machine.

use dataframe_jobs::failure::FailureCode;
use middleware::connect::Middleware;

use crate::cluster::{Cluster, on_each_middleware};
use crate::work::{csv, on_one_machine, operations, write_csv};

/// The nine operations of the assignment, and others that put results together in different ways.
const LISTS: &[&str] = &[
    "",
    r#"{"apply": {"expression": "x * 2 + length(name)"}}"#,
    r#"{"apply": {"function": "upper", "column": "name"}}"#,
    r#"{"columns": {}}"#,
    r#"{"groupby": {"by": ["name"], "agg": ["mean(x)", "sum(y)", "max(x) as top"]}}"#,
    r#"{"head": {"n": 4}}"#,
    r#"{"isin": {"values": [7, "Ana", 2.5]}}"#,
    r#"{"items": {}}"#,
    r#"{"max": {}}"#,
    r#"{"min": {"columns": ["y"]}}"#,
    r#"{"query": {"predicate": "x > 990"}}"#,
    r#"{"sort_values": {"by": ["x", "y"], "ascending": [false, true]}}, {"head": {"n": 7, "partitions": -1}}"#,
    r#"{"value_counts": {"column": "name"}}"#,
    r#"{"describe": {}}"#,
    r#"{"len": {}}"#,
];

async fn results_are_those_of_one_machine(middleware: Middleware) {
    let Some(cluster) = Cluster::start(middleware, 2) else { return };
    let client = cluster.client().await;
    cluster.ready(&client, 2).await;
    let paths: Vec<_> =
        (0..3).map(|file| write_csv(cluster.folder.path(), &format!("part{file}.csv"), 500 + file)).collect();
    for list in LISTS {
        let operations = operations(&paths, list);
        let result = client.submit(&operations).await.unwrap();
        assert_eq!(csv(&result.frame), on_one_machine(&operations).await, "{list}");
    }
}
on_each_middleware!(results_are_those_of_one_machine);

async fn a_large_result_gets_through(middleware: Middleware) {
    let Some(cluster) = Cluster::start(middleware, 2) else { return };
    let client = cluster.client().await;
    cluster.ready(&client, 2).await;
    let path = write_csv(cluster.folder.path(), "wide.csv", 15_000);
    // 15,000 rows of 10,000 bytes.
    let operations =
        operations(&[path], r#"{"apply": {"expression": "repeat('0123456789', 1000)", "as": "wide"}}"#);
    let result = client.submit(&operations).await.unwrap();
    assert_eq!(result.frame.rows(), 15_000);
    let bytes: usize =
        result.frame.batches.iter().map(arrow::array::RecordBatch::get_array_memory_size).sum();
    assert!(bytes > 128 << 20, "{bytes} bytes came");
}
on_each_middleware!(a_large_result_gets_through);

async fn a_failure_names_cause_and_place(middleware: Middleware) {
    let Some(cluster) = Cluster::start(middleware, 1) else { return };
    let client = cluster.client().await;
    cluster.ready(&client, 1).await;
    let path = write_csv(cluster.folder.path(), "data.csv", 100);
    let no_column = operations(std::slice::from_ref(&path), r#"{"max": {"columns": ["z"]}}"#);
    let failure = client.submit(&no_column).await.unwrap_err();
    assert_eq!(failure.code, FailureCode::BadJob);
    assert!(failure.message.contains('z') && failure.message.contains("name"), "{failure}");
    let division = operations(&[path], r#"{"apply": {"expression": "x / 0"}}"#);
    let failure = client.submit(&division).await.unwrap_err();
    assert_eq!(failure.code, FailureCode::BadJob, "{failure}");
    let missing = operations(&[cluster.folder.path().join("none.csv")], "");
    let failure = client.submit(&missing).await.unwrap_err();
    assert_eq!(failure.code, FailureCode::File, "{failure}");
    assert!(failure.message.contains("none.csv"), "{failure}");
}
on_each_middleware!(a_failure_names_cause_and_place);

async fn a_file_that_only_one_worker_has_is_read_there(middleware: Middleware) {
    let Some(cluster) = Cluster::start(middleware, 2) else { return };
    let client = cluster.client().await;
    cluster.ready(&client, 2).await;
    write_csv(&cluster.folder.path().join("worker2"), "own.csv", 50);
    let operations = operations(&["worker://worker2/own.csv".into()], r#"{"sum": {"columns": ["x"]}}"#);
    let result = client.submit(&operations).await.unwrap();
    assert_eq!(result.frame.rows(), 1);
    assert!(result.finished.places.iter().all(|(_, worker, _)| worker == "worker2"), "{:?}", result.finished);
    let nobody = operations_on("worker://worker9/own.csv");
    let failure = client.submit(&nobody).await.unwrap_err();
    assert!(failure.message.contains("worker9"), "{failure}");
}
on_each_middleware!(a_file_that_only_one_worker_has_is_read_there);

fn operations_on(path: &str) -> Vec<dataframe_jobs::operation::Operation> {
    operations(&[path.into()], r#"{"len": {}}"#)
}

/// Behind the sample of the first file stands a value that is no integer.
async fn a_value_that_does_not_fit_widens_its_type(middleware: Middleware) {
    let Some(cluster) = Cluster::start(middleware, 2) else { return };
    let client = cluster.client().await;
    cluster.ready(&client, 2).await;
    let first = write_csv(cluster.folder.path(), "a.csv", 120_000);
    let mut text = std::fs::read_to_string(&first).unwrap();
    text.push_str("Ana,0.25,1.5\n");
    std::fs::write(&first, text).unwrap();
    let operations =
        operations(&[first], r#"{"min": {"columns": ["x"]}}, {"rename": {"columns": {"x": "least"}}}"#);
    let result = client.submit(&operations).await.unwrap();
    assert_eq!(csv(&result.frame), "least\n0.0\n");
}
on_each_middleware!(a_value_that_does_not_fit_widens_its_type);
