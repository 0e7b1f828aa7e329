//! Functions of WebAssembly modules travel to the workers that allow them, and harm none of them.

use std::time::{Duration, Instant};

use dataframe_cluster::ClusterClient;
use dataframe_engine::{Engine, EngineConfig, WasmLimits};
use dataframe_jobs::failure::FailureCode;
use dataframe_jobs::message::WorkerState;
use dataframe_jobs::operation::Operation;
use middleware::connect::Middleware;

use crate::cluster::{Cluster, on_each_middleware};
use crate::faults::{busy_worker, submit};
use crate::work::{csv, on_one_machine, operations, write_csv};

/// The example of the documentation: `score`, by row, and `bytes`, by batch.
const SCORES: &str = include_str!("../../../../tasca1/wasm/wat/scores.wat");

/// With this, a master lets workers put all rows together that go into an exchange, and runs modules itself.
const SHUFFLE_ALL_WITH_WASM: &[&str] = &["--shuffle-above", "1", "--allow-wasm"];

/// Modules that do harm, the types of their one function, and words of the reason.
const HOSTILE: &[(&str, &str)] = &[
    (
        r#"(module (func (export "f") (param i64) (result i64) (loop $l (br $l)) (local.get 0)))"#,
        "used up its",
    ),
    (r#"(module (func (export "f") (param i64) (result i64) unreachable))"#, "it gave up"),
    (
        r#"(module (func $f (export "f") (param i64) (result i64) (i64.add (call $f (local.get 0)) (i64.const 1))))"#,
        "nest too deeply",
    ),
    (
        r#"(module (memory 1) (func (export "f") (param i64) (result i64) (loop $l (drop (memory.grow (i32.const 1))) (br $l)) (local.get 0)))"#,
        "wants more memory",
    ),
    (
        r#"(module (memory 1600) (func (export "f") (param i64) (result i64) (local.get 0)))"#,
        "wants more memory",
    ),
    (
        r#"(module (func $s (loop $l (br $l))) (start $s) (func (export "f") (param i64) (result i64) (local.get 0)))"#,
        "start function",
    ),
    (
        r#"(module (memory (export "memory") 1) (func (export "alloc") (param i32) (result i32) (i32.const 1024))
        (func (export "f") (param i32) (result i32) (i32.const -1)))"#,
        "the result would be 16 bytes at the address 4294967295",
    ),
    (
        r#"(module (memory (export "memory") 1) (func (export "alloc") (param i32) (result i32) (i32.const 1024))
        (func (export "f") (param i32) (result i32) (i32.store (i32.const 8) (i32.const 1)) (i32.const 8)))"#,
        "it gave a result of 1 rows for",
    ),
];

fn module(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}

/// A module with a section of so many bytes that no program looks at: it is longer than a message of a broker.
fn long_module(text: &str, padding: u32) -> Vec<u8> {
    let mut bytes = module(text);
    bytes.push(0);
    let mut rest = padding;
    for _ in 0..4 {
        bytes.push(0x80 | (rest & 0x7f) as u8);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    bytes.extend([1, b'x']);
    bytes.resize(bytes.len() + padding as usize - 2, 7);
    bytes
}

/// Gives the client a module. Returns its hash.
fn give(client: &ClusterClient, bytes: Vec<u8>) -> String {
    client.modules().insert(bytes.into()).unwrap().hash().to_owned()
}

/// An `apply` of a function.
fn apply(module: &str, function: &str, columns: &str, returns: &str) -> String {
    format!(
        r#"{{"apply": {{"wasm": {{"module": "{module}", "function": "{function}", "columns": {columns}, "returns": "{returns}"}}}}}}"#
    )
}

/// What one process gives that allows modules.
async fn on_one_machine_with(bytes: Vec<u8>, operations: &[Operation]) -> String {
    let wasm = Some(WasmLimits::default());
    let engine = Engine::new(EngineConfig { threads: 2, wasm, ..EngineConfig::default() }).unwrap();
    engine.modules().insert(bytes.into()).unwrap();
    csv(&engine.compute(operations).await.unwrap())
}

async fn functions_travel_to_the_worker_that_allows_them(middleware: Middleware) {
    let Some(mut cluster) = Cluster::start(middleware, 1) else { return };
    let client = cluster.client().await;
    cluster.ready(&client, 1).await;
    let path = write_csv(cluster.folder.path(), "data.csv", 5000);
    let bytes = long_module(SCORES, 2_500_000);
    let hash = give(&client, bytes.clone());
    let score = operations(std::slice::from_ref(&path), &apply(&hash, "score", r#"["y", "x"]"#, "float64"));
    let refused = client.submit(&score).await.unwrap_err();
    assert_eq!(refused.code, FailureCode::Refused, "{refused}");
    assert!(refused.message.contains("start workers with --allow-wasm"), "{refused}");

    cluster.add_worker(&["--allow-wasm", "--wasm-fuel", "10000", "--wasm-memory", "2MiB"]);
    cluster.ready(&client, 2).await;
    let expression = operations(std::slice::from_ref(&path), r#"{"apply": {"expression": "y * 2 + x"}}"#);
    let result = client.submit(&score).await.unwrap();
    assert_eq!(csv(&result.frame), on_one_machine(&expression).await);
    assert_eq!(csv(&result.frame), on_one_machine_with(bytes.clone(), &score).await);
    assert!(result.finished.places.iter().all(|(_, worker, _)| worker == "worker2"), "{:?}", result.finished);
    let names = operations(std::slice::from_ref(&path), &apply(&hash, "bytes", r#"["name"]"#, "int64"));
    let result = client.submit(&names).await.unwrap();
    assert_eq!(csv(&result.frame), on_one_machine_with(bytes, &names).await);

    for (text, why) in HOSTILE {
        let hash = give(&client, module(text));
        let harm = operations(std::slice::from_ref(&path), &apply(&hash, "f", r#"["x"]"#, "int64"));
        let failure = client.submit(&harm).await.unwrap_err();
        assert_eq!(failure.code, FailureCode::BadJob, "{text}: {failure}");
        assert!(failure.message.contains(why), "{text}: {failure}");
        assert!(failure.message.contains(&hash[..12]) && failure.message.contains("\"f\""), "{failure}");
        assert!(failure.message.contains("data.csv from byte 0"), "{failure}");
    }
    assert_eq!(csv(&client.submit(&score).await.unwrap().frame), on_one_machine(&expression).await);
    let nodes = cluster.ready(&client, 2).await;
    assert!(
        nodes
            .iter()
            .all(|node| node.state == WorkerState::Ready && node.info.wasm == (node.info.name == "worker2"))
    );
}
on_each_middleware!(functions_travel_to_the_worker_that_allows_them);

/// What workers put together stays with those that allow modules, also where the master allows them.
async fn tasks_of_later_stages_call_functions(middleware: Middleware) {
    let Some(mut cluster) = Cluster::start_with(middleware, 1, SHUFFLE_ALL_WITH_WASM) else { return };
    cluster.add_worker(&["--allow-wasm"]);
    let client = cluster.client().await;
    cluster.ready(&client, 2).await;
    let path = write_csv(cluster.folder.path(), "data.csv", 3000);
    let hash = give(&client, module(SCORES));
    let grouped = r#"{"groupby": {"by": ["name", "x"], "agg": ["sum(y) as y"]}}"#;
    let call = apply(&hash, "score", r#"["y", "x"]"#, "float64");
    let score = operations(&[path], &format!("{grouped}, {call}, {{\"sum\": {{}}}}"));
    let result = client.submit(&score).await.unwrap();
    assert_eq!(csv(&result.frame), on_one_machine_with(module(SCORES), &score).await);
    // The first stage reads the file in one task.
    let later = result.finished.places.get(1..).unwrap_or_default();
    assert!(later.len() >= 16 && later.iter().all(|(_, worker, _)| worker == "worker2"), "{later:?}");
}
on_each_middleware!(tasks_of_later_stages_call_functions);

#[tokio::test(flavor = "multi_thread")]
async fn a_module_that_is_refused_fails_its_job_before_any_task() {
    let mut cluster = Cluster::start(Middleware::Grpc, 0).unwrap();
    cluster.add_worker(&["--allow-wasm"]);
    let client = cluster.client().await;
    cluster.ready(&client, 1).await;
    let path = write_csv(cluster.folder.path(), "data.csv", 10);
    let nobody = "ab".repeat(32);
    let unknown = operations(std::slice::from_ref(&path), &apply(&nobody, "f", r#"["x"]"#, "int64"));
    let failure = client.submit(&unknown).await.unwrap_err();
    assert!(failure.message.contains(&format!("the module {nobody} is not here")), "{failure}");
    let hash = give(&client, module(SCORES));
    let wrong = operations(std::slice::from_ref(&path), &apply(&hash, "score", r#"["name"]"#, "float64"));
    let failure = client.submit(&wrong).await.unwrap_err();
    assert_eq!((failure.code, failure.worker), (FailureCode::BadJob, None));
    let grouped = r#"{"groupby": {"by": ["name"], "agg": ["sum(x) as x"]}}"#;
    let late = format!("{grouped}, {}", apply(&hash, "bytes", r#"["name"]"#, "int64"));
    let failure = client.submit(&operations(&[path], &late)).await.unwrap_err();
    assert!(failure.message.contains("runs modules only if it is started with --allow-wasm"), "{failure}");
}

/// A master that comes back has no modules, and the client sends them again with the job.
#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_comes_back_is_sent_the_module_again() {
    let mut cluster = Cluster::start(Middleware::Grpc, 0).unwrap();
    cluster.add_worker(&["--allow-wasm"]);
    let client = cluster.client().await;
    cluster.ready(&client, 1).await;
    let path = write_csv(cluster.folder.path(), "data.csv", 100);
    let hash = give(&client, module(SCORES));
    let score = operations(&[path], &apply(&hash, "score", r#"["y", "x"]"#, "float64"));
    let before = csv(&client.submit(&score).await.unwrap().frame);
    cluster.restart_master();
    let stranger = cluster.client().await;
    cluster.ready(&stranger, 1).await;
    let failure = stranger.submit(&score).await.unwrap_err();
    assert_eq!(failure.code, FailureCode::NoModule);
    assert!(failure.message.contains("is not here"), "{failure}");
    assert_eq!(csv(&client.submit(&score).await.unwrap().frame), before);
}

/// The client sends the module to the master that takes over, also where a broker has handed that master the job already.
async fn a_standby_that_takes_over_gets_the_module(middleware: Middleware) {
    let Some((mut cluster, standby)) = Cluster::start_pair(middleware, 0) else { return };
    cluster.add_worker(&["--allow-wasm"]);
    let client = cluster.client().await;
    cluster.ready(&client, 1).await;
    let path = write_csv(cluster.folder.path(), "long.csv", 30_000);
    let hash = give(&client, module(SCORES));
    let work = r#"{"query": {"predicate": "length(repeat(name, 3000)) > 0"}}"#;
    let call = apply(&hash, "score", r#"["y", "x"]"#, "float64");
    let score = operations(&[path], &format!("{work}, {call}, {{\"sum\": {{}}}}"));
    let expected = on_one_machine_with(module(SCORES), &score).await;
    let job = submit(&client, &score);
    busy_worker(&client).await;
    cluster.master.kill();
    assert!(!job.is_finished(), "the master was to be killed in the middle");
    assert_eq!(csv(&job.await.unwrap().unwrap().frame), expected);
    assert!(!standby.events("taking over: no master leads").is_empty(), "the standby was to take over");
}
on_each_middleware!(a_standby_that_takes_over_gets_the_module);

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_given_up_stops_a_function_that_loops() {
    let mut cluster = Cluster::start(Middleware::Grpc, 0).unwrap();
    cluster.add_worker(&["--allow-wasm", "--wasm-fuel", "1000000000000"]);
    let client = cluster.client().await;
    cluster.ready(&client, 1).await;
    let path = write_csv(cluster.folder.path(), "data.csv", 10);
    let hash = give(&client, module(HOSTILE[0].0));
    let endless = operations(std::slice::from_ref(&path), &apply(&hash, "f", r#"["x"]"#, "int64"));
    let looping = tokio::spawn({
        let client = client.clone();
        async move { client.submit(&endless).await }
    });
    let runs = |nodes: &[dataframe_jobs::message::WorkerStatus]| nodes.iter().any(|node| node.running > 0);
    while !runs(&cluster.ready(&client, 1).await) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    client.cancel_open().await;
    assert_eq!(looping.await.unwrap().unwrap_err().code, FailureCode::Cancelled);
    // The worker has one thread, which is free again.
    let begun = Instant::now();
    let sum = operations(&[path], r#"{"sum": {"columns": ["x"]}}"#);
    assert_eq!(csv(&client.submit(&sum).await.unwrap().frame), on_one_machine(&sum).await);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}
