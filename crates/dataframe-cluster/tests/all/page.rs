//! What the page, metrics and health of real masters and workers tell.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use middleware::connect::Middleware;
use nix::sys::signal::Signal;
use serde_json::Value;
use testkit::{Process, exposed_metrics, http_get, listed_metrics, metric, wait_for};

use crate::cluster::{Cluster, WAIT};
use crate::faults::{busy_worker, submit};
use crate::work::{csv, long_work, on_one_machine, operations, write_csv};

const WITH_PAGE: &[&str] = &["--page", "127.0.0.1:0"];
/// Workers put all rows together that go into an exchange, so that a job has several stages.
const SHUFFLING_WITH_PAGE: &[&str] = &["--page", "127.0.0.1:0", "--shuffle-above", "1"];
const README: &str = include_str!("../../../../tasca1/README.md");

fn json(page: SocketAddr, path: &str) -> Value {
    let (status, body) = http_get(page, path);
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap()
}

fn frame(page: SocketAddr) -> Value {
    json(page, "/api/frame")
}

/// Waits until a frame is so.
fn frame_with(page: SocketAddr, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let mut seen = Value::Null;
    wait_for(what, || {
        seen = frame(page);
        is_so(&seen)
    });
    seen
}

fn worker<'a>(frame: &'a Value, name: &str) -> Option<&'a Value> {
    frame["workers"].as_array().unwrap().iter().find(|worker| worker["name"] == name)
}

/// What happened, with its cause, to whom.
fn events(page: SocketAddr) -> Vec<(String, Option<String>, Option<String>)> {
    let text = |event: &Value, key: &str| event[key].as_str().map(str::to_owned);
    let events = json(page, "/api/events?since=0");
    let events = events["events"].as_array().unwrap();
    events
        .iter()
        .map(|event| (text(event, "what").unwrap(), text(event, "cause"), text(event, "worker")))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metrics_are_those_of_the_table() {
    let mut cluster = Cluster::start_with(Middleware::Grpc, 0, WITH_PAGE).unwrap();
    cluster.add_worker(&["--metrics", "127.0.0.1:0"]);
    let client = cluster.client().await;
    cluster.ready(&client, 1).await;
    let path = write_csv(cluster.folder.path(), "few.csv", 30);
    client.submit(&operations(&[path], "")).await.unwrap();
    let (master, worker) = (cluster.master.page(), cluster.workers[0].page());
    for (address, prefix) in [(master, "dataframe_master_"), (worker, "dataframe_worker_")] {
        let (status, answer) = http_get(address, "/metrics");
        assert_eq!(status, 200);
        assert_eq!(exposed_metrics(&answer), listed_metrics(README, prefix));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sums_of_the_counters_are_what_clients_see() {
    let mut cluster = Cluster::start_with(Middleware::Grpc, 0, WITH_PAGE).unwrap();
    for _ in 0..2 {
        cluster.add_worker(&["--metrics", "127.0.0.1:0"]);
    }
    let client = cluster.client().await;
    cluster.ready(&client, 2).await;
    let page = cluster.master.page();
    let mut places: BTreeMap<String, u64> = BTreeMap::new();
    let mut count = |finished: &dataframe_jobs::message::Finished| {
        for (_, worker, _) in &finished.places {
            *places.entry(worker.clone()).or_default() += 1;
        }
    };
    for tasks in [1, 200, 7] {
        count(&client.probe(tasks).await.unwrap());
    }
    let result = client.submit(&long_work(cluster.folder.path())).await.unwrap();
    count(&result.finished);
    let bad = operations(&[cluster.folder.path().join("missing.csv")], "");
    client.submit(&bad).await.unwrap_err();

    let (_, answer) = http_get(page, "/metrics");
    let of_master = |sample: &str| metric(&answer, &format!("dataframe_master_{sample}")) as u64;
    let total: u64 = places.values().sum();
    assert_eq!(of_master("tasks_total{outcome=\"done\"}"), total);
    assert_eq!(of_master("jobs_total{result=\"done\"}"), 4);
    assert_eq!(of_master("jobs_total{result=\"file\"}"), 1);
    assert!(of_master("result_bytes_total") > 0);
    for (place, process) in cluster.workers.iter().enumerate() {
        let name = format!("worker{}", place + 1);
        let seen = places.get(&name).copied().unwrap_or(0);
        assert!(seen > 0, "{name} was to take part");
        assert_eq!(of_master(&format!("worker_tasks_total{{worker=\"{name}\"}}")), seen);
        assert_eq!(of_master(&format!("task_duration_seconds_count{{worker=\"{name}\"}}")), seen);
        let (_, own) = http_get(process.page(), "/metrics");
        assert_eq!(metric(&own, "dataframe_worker_tasks_total{outcome=\"done\"}") as u64, seen);
    }
    let frame = frame(page);
    assert_eq!(
        (&frame["tasks_done"], &frame["jobs_done"], &frame["jobs_failed"]),
        (&total.into(), &4.into(), &1.into())
    );
    let done = |name: &str| worker(&frame, name).unwrap()["done"].as_u64().unwrap();
    assert_eq!(done("worker1") + done("worker2"), total);
    assert!(frame["resident"].as_u64().unwrap() > 2 << 20, "workers tell their memory: {frame}");
    let jobs: Vec<_> = frame["jobs"].as_array().unwrap().iter().map(|job| job["ops"].to_string()).collect();
    let long = r#"["read_csv","query","groupby"]"#;
    assert_eq!(jobs, [r#"["read_csv"]"#, long, r#"["probe"]"#, r#"["probe"]"#, r#"["probe"]"#]);
    assert!(!frame.to_string().contains(".csv"), "a frame tells no path: {frame}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_worker_is_shown_as_lost_with_its_cause() {
    let mut cluster = Cluster::start_with(Middleware::Grpc, 2, WITH_PAGE).unwrap();
    let client = cluster.client().await;
    let operations = long_work(cluster.folder.path());
    let expected = on_one_machine(&operations).await;
    cluster.ready(&client, 2).await;
    let page = cluster.master.page();
    assert_eq!(
        http_get(page, "/readyz?verbose"),
        (200, "[+]coordinator: ok\n[+]workers: 2 of 1\nok\n".to_owned())
    );
    let job = submit(&client, &operations);
    let victim = busy_worker(&client).await;
    cluster.workers[victim].kill();
    assert!(!job.is_finished(), "the worker was to be killed in the middle");
    let name = format!("worker{}", victim + 1);
    let shown = frame_with(page, "the lost worker", |frame| {
        worker(frame, &name).is_some_and(|worker| worker["state"] == "lost")
    });
    assert_eq!(worker(&shown, &name).unwrap()["cause"], "unreachable", "{shown}");
    assert_eq!(
        (&shown["verdict"]["code"], &shown["ready"], &shown["lost"]),
        (&"workers-lost".into(), &1.into(), &1.into())
    );
    assert_eq!(csv(&job.await.unwrap().unwrap().frame), expected);
    let seen = events(page);
    let of =
        |what: &str, cause: Option<&str>| (what.to_owned(), cause.map(str::to_owned), Some(name.clone()));
    assert_eq!(seen.iter().filter(|event| **event == of("lost", Some("unreachable"))).count(), 1, "{seen:?}");
    let (_, answer) = http_get(page, "/metrics");
    assert!(metric(&answer, "dataframe_master_lost_tasks_total{cause=\"worker-gone\"}") >= 1.0, "{answer}");
    assert_eq!(metric(&answer, "dataframe_master_workers_gone_total{cause=\"unreachable\"}"), 1.0);

    cluster.workers[victim] = cluster.start_worker(&name, &[]);
    frame_with(page, "the worker that is back", |frame| {
        worker(frame, &name).is_some_and(|worker| worker["state"] == "ready" && worker["cause"].is_null())
    });
    assert!(events(page).contains(&of("restarted", None)), "{:?}", events(page));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_hangs_is_lost_because_it_is_silent() {
    let mut cluster = Cluster::start_with(Middleware::Grpc, 1, WITH_PAGE).unwrap();
    cluster.add_worker(&["--metrics", "127.0.0.1:0"]);
    let client = cluster.client().await;
    cluster.ready(&client, 2).await;
    let (page, own) = (cluster.master.page(), cluster.workers[1].page());
    assert_eq!(http_get(own, "/readyz").0, 200);
    for worker in &cluster.workers {
        worker.signal(Signal::SIGSTOP);
    }
    let shown = frame_with(page, "no worker", |frame| frame["verdict"]["code"] == "no-workers");
    assert_eq!(worker(&shown, "worker2").unwrap()["cause"], "silent", "{shown}");
    assert_eq!(shown["warnings"][0]["rule"], "no-workers");
    let (status, told) = http_get(page, "/readyz?verbose");
    assert_eq!((status, told.as_str()), (503, "[+]coordinator: ok\n[-]workers: 0 of 1\nfailed\n"));
    assert_eq!(http_get(page, "/livez").0, 200, "starting the master again would not help");
    for worker in &cluster.workers {
        worker.signal(Signal::SIGCONT);
    }
    frame_with(page, "the workers that are back", |frame| frame["ready"] == 2);
    let seen = events(page);
    assert!(seen.contains(&("back".to_owned(), None, Some("worker2".to_owned()))), "{seen:?}");
}

/// Reads the events of a page until a frame has a bar.
fn first_bars(page: SocketAddr, run_job: impl FnOnce()) -> Value {
    use std::io::{BufRead as _, BufReader, Write as _};
    let mut stream = std::net::TcpStream::connect(page).unwrap();
    stream.set_read_timeout(Some(WAIT)).unwrap();
    write!(stream, "GET /events HTTP/1.1\r\nHost: {page}\r\n\r\n").unwrap();
    let lines = BufReader::new(stream).lines();
    let mut frames = lines.filter_map(|line| {
        let line = line.unwrap();
        line.strip_prefix("data: ").map(|frame| serde_json::from_str::<Value>(frame).unwrap())
    });
    let watched = frames.next().unwrap();
    assert!(watched["tasks"]["since_ms"].is_u64(), "the page tells since when it knows all: {watched}");
    run_job();
    frames.find(|frame| frame["tasks"]["last"] != 0).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_stage_has_bars_while_somebody_looks() {
    let mut cluster = Cluster::start_with(Middleware::Grpc, 0, SHUFFLING_WITH_PAGE).unwrap();
    cluster.add_worker(&[]);
    let client = cluster.client().await;
    cluster.ready(&client, 1).await;
    let page = cluster.master.page();
    client.probe(5).await.unwrap();
    let unseen = json(page, "/api/tasks?since=0");
    assert_eq!((&unseen["last"], &unseen["tasks"]), (&0.into(), &Value::Array(Vec::new())), "nobody looked");
    let operations = long_work(cluster.folder.path());
    let mut job = None;
    let shown = tokio::task::block_in_place(|| first_bars(page, || job = Some(submit(&client, &operations))));
    let result = job.unwrap().await.unwrap().unwrap();
    let (numbers, new) =
        (shown["tasks"]["last"].as_u64().unwrap(), shown["tasks"]["new"].as_array().unwrap());
    assert!(!new.is_empty() && numbers >= new.len() as u64, "{shown}");
    let end = frame_with(page, "the end of the job", |frame| frame["jobs_done"] == 2);
    let line = &end["jobs"][0];
    assert!(line["stage"].as_u64().unwrap() >= 2, "the rows were to be shuffled: {line}");
    let stages = line["stages"].as_array().unwrap();
    let done: u64 = stages.iter().map(|stage| stage[0].as_u64().unwrap()).sum();
    assert_eq!(done as usize, result.finished.places.len(), "{line}");
    assert!(stages.iter().all(|stage| stage[0] == stage[1]), "{line}");
}

/// What is told after a takeover is what the new leader knows itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_takeover_is_a_new_run_of_the_page() {
    let (mut cluster, standby) = Cluster::start_pair_with(Middleware::Grpc, 2, WITH_PAGE).unwrap();
    let client = cluster.client().await;
    cluster.ready(&client, 2).await;
    client.probe(20).await.unwrap();
    let (first, second) = (cluster.master.page(), standby.page());
    let (led, stood_by) = (frame(first), frame(second));
    assert_eq!(led["tasks_done"], 20);
    assert_eq!((&stood_by["verdict"]["code"], &stood_by["tasks_done"]), (&"standby".into(), &0.into()));
    assert_ne!(led["run"], stood_by["run"]);
    let (status, told) = http_get(second, "/readyz?verbose");
    assert_eq!(
        (status, told.as_str()),
        (503, "[+]coordinator: ok, another master leads\n[-]workers: 0 of 1\nfailed\n")
    );
    assert_eq!(http_get(second, "/livez").0, 200);
    cluster.master.kill();
    cluster.ready(&client, 2).await;
    client.probe(5).await.unwrap();
    let leads = frame_with(second, "the workers of the new leader", |frame| frame["ready"] == 2);
    assert_eq!((&leads["tasks_done"], &leads["jobs_done"]), (&5.into(), &1.into()), "{leads}");
    assert!(leads["run"] != stood_by["run"] && leads["run"] != led["run"], "{leads}");
    let term = led["term"].as_u64().unwrap();
    assert!(leads["term"].as_u64().unwrap() > term, "{leads}");
    assert_eq!(events(second)[0].0, "took-lead");
    let (_, answer) = http_get(second, "/metrics");
    assert_eq!(metric(&answer, "dataframe_master_leads"), 1.0);
    drop(standby);
}

#[test]
fn a_page_that_was_asked_for_must_have_its_port() {
    let holder = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let taken = holder.local_addr().unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    let mut command = std::process::Command::new(testkit::program("dataframe-master"));
    command.args(["--listen", "127.0.0.1:0", "--page", &taken]).arg("--data-dir").arg(folder.path());
    let events = Process::try_start(command).map(|_| ()).unwrap_err();
    assert!(format!("{events:?}").contains(&taken), "{events:?}");
}
