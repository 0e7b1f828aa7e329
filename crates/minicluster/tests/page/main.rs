//! The page of a real headnode with real datanodes: what it tells is what `status`, the metrics and the files tell.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../processes/mod.rs"]
mod processes;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use processes::{StoreProcesses, StoreSettings};
use service::net::LocalGroup;
use testkit::{Process, Signal, Value, http_get, program, wait_for};

fn start(folder: &Path, flags: &[&'static str]) -> StoreProcesses {
    let headnode = [&["--page", "127.0.0.1:0"], flags].concat();
    StoreProcesses::start(folder, StoreSettings { headnode, ..StoreSettings::default() })
}

fn json(address: SocketAddr, path: &str) -> Value {
    let (status, body) = http_get(address, path);
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap()
}

fn metrics(address: SocketAddr) -> String {
    let (status, text) = http_get(address, "/metrics");
    assert_eq!(status, 200, "{text}");
    text
}

/// Returns the sum of the samples that begin with `name`.
fn metric(address: SocketAddr, name: &str) -> f64 {
    let text = metrics(address);
    let samples = text.lines().filter(|line| line.starts_with(name));
    samples.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).sum()
}

fn sum(nodes: &Value, field: &str) -> u64 {
    nodes.as_array().unwrap().iter().map(|node| node[field].as_u64().unwrap()).sum()
}

fn put(store: &StoreProcesses, count: usize) {
    let mut client = store.connect();
    for number in 0..count {
        let reply = client.ask(&serde_json::json!({"put": {"message": format!("mensaje {number}")}}));
        assert!(reply["saved"].is_object(), "{reply}");
    }
}

/// Returns what happened to a datanode, oldest first: the word, and the cause if there is one.
fn events(page: SocketAddr, node: &str) -> Vec<(String, Option<String>)> {
    let events = json(page, "/api/events?since=0");
    let about = events["events"].as_array().unwrap().iter().filter(|event| event["node"] == node);
    about
        .map(|event| (event["what"].as_str().unwrap().to_owned(), event["cause"].as_str().map(str::to_owned)))
        .collect()
}

fn state(page: SocketAddr, node: &str) -> String {
    json(page, &format!("/api/node?name={node}"))["node"]["state"].as_str().unwrap().to_owned()
}

#[test]
fn flows_counters_registry_and_status_agree() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = start(folder.path(), &["--replicas", "2"]);
    put(&store, 30);
    for run in 0..2 {
        let page = store.headnode.page();
        let frame = json(page, "/api/frame");
        let saved = if run == 0 { 30 } else { 7 };
        assert_eq!((&frame["puts"]["ok"], &frame["puts"]["failed"]), (&saved.into(), &0.into()), "run {run}");
        assert_eq!(frame["messages"], 30 + 7 * run, "run {run}");
        assert_eq!(frame["registered_at_start"], 30 * run, "run {run}");
        assert_eq!(sum(&frame["nodes"], "confirmed"), 2 * saved, "run {run}");
        assert_eq!(sum(&frame["nodes"], "records"), 2 * (30 + 7 * run));
        assert_eq!(metric(page, "headnode_requests_total{request=\"put\",result=\"ok\"}"), saved as f64);
        assert_eq!(metric(page, "headnode_confirmation_duration_seconds_count"), 2.0 * saved as f64);
        assert_eq!(metric(page, "headnode_messages"), frame["messages"].as_f64().unwrap());
        let status = store.connect().ask(&serde_json::json!({"status": {}}));
        assert_eq!(status["status"]["messages"], frame["messages"]);
        assert_eq!(sum(&status["status"]["datanodes"], "records"), sum(&frame["nodes"], "records"));
        if run == 0 {
            let earlier = frame["run"].clone();
            store.restart_headnode();
            store.wait_until_available(3);
            put(&store, 7);
            assert_ne!(
                json(store.headnode.page(), "/api/frame")["run"],
                earlier,
                "the page can tell another run"
            );
        }
    }
}

#[test]
fn a_datanode_that_dies_is_suspect_then_not_operative_then_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = start(folder.path(), &[]);
    let page = store.headnode.page();
    assert_eq!(http_get(page, "/readyz").0, 200);
    let before = [("joined".to_owned(), None), ("connected".to_owned(), None)];
    assert_eq!(events(page, "datanode2"), before);
    store.datanodes[1].kill();
    wait_for("datanode2 is not operative", || state(page, "datanode2") == "not-operative");
    let cause = |what: &str, cause: &str| (what.to_owned(), Some(cause.to_owned()));
    let after = [cause("suspect", "closed"), cause("not-operative", "no-answer")];
    assert_eq!(events(page, "datanode2")[2..], after);
    assert!(metrics(page).contains("headnode_datanode_operative{datanode=\"datanode2\"} 0\n"));
    assert_eq!(json(page, "/api/frame")["verdict"]["code"], "fewer-than-expected");
    store.restart_datanode(2);
    store.wait_until_available(3);
    let back = [("back".to_owned(), None), ("connected".to_owned(), None)];
    assert_eq!(events(page, "datanode2")[4..], back);
    let status = store.connect().ask(&serde_json::json!({"status": {}}));
    assert!(status["status"]["datanodes"][1]["cause"].is_null(), "{status}");
}

#[test]
fn health_tells_whether_messages_are_saved_now() {
    let folder = tempfile::tempdir().unwrap();
    let store = start(folder.path(), &[]);
    let page = store.headnode.page();
    for datanode in &store.datanodes {
        datanode.signal(Signal::SIGSTOP);
    }
    wait_for("nothing can be saved", || http_get(page, "/readyz").0 == 503);
    let (_, report) = http_get(page, "/readyz?verbose");
    assert!(report.contains("[+]heartbeat: ok\n[+]leads: ok\n[-]datanodes: 0 of 1\n"), "{report}");
    assert_eq!(
        http_get(page, "/livez"),
        (200, "ok\n".to_owned()),
        "a restart of the headnode would not help"
    );
    let frame = json(page, "/api/frame");
    assert_eq!(frame["verdict"]["level"], "bad", "{frame}");
    for datanode in &store.datanodes {
        datanode.signal(Signal::SIGCONT);
    }
    wait_for("messages can be saved again", || http_get(page, "/readyz").0 == 200);
}

/// Returns the names of the metrics of `text`, in Prometheus' format.
fn names(text: &str) -> BTreeSet<String> {
    let kinds = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    kinds.map(|kind| kind.split(' ').next().unwrap().to_owned()).collect()
}

/// Returns the words of `text` that begin as the metrics of the store do.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words
        .filter(|word| word.starts_with("headnode_") || word.starts_with("datanode_"))
        .map(str::to_owned)
        .collect()
}

/// Every metric that the README promises is there and no other one, and dashboard and alerts use metrics that exist.
#[test]
fn the_metrics_are_those_of_the_readme() {
    let folder = tempfile::tempdir().unwrap();
    let store = start(folder.path(), &[]);
    put(&store, 3);
    let group = LocalGroup::reserve().unwrap();
    let mut command = Command::new(program("datanode"));
    command.args(["--listen", "127.0.0.1:0", "--interface", "127.0.0.1", "--metrics", "127.0.0.1:0"]);
    command.args(["--group", &group.address.to_string(), "--data-dir"]).arg(folder.path().join("other"));
    let datanode = Process::start(command);
    assert_eq!(http_get(datanode.page(), "/readyz").0, 200);
    assert_eq!(http_get(datanode.page(), "/").0, 404, "a datanode has no page");
    let mut exposed = names(&metrics(store.headnode.page()));
    exposed.extend(names(&metrics(datanode.page())));

    let assignment = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../actividad2");
    let read = |name: &str| std::fs::read_to_string(assignment.join(name)).unwrap();
    let readme = read("README.md");
    let rows =
        readme.lines().filter(|line| line.starts_with("| `headnode_") || line.starts_with("| `datanode_"));
    let promised: BTreeSet<_> =
        rows.map(|row| row[3..].split(['{', '`']).next().unwrap().to_owned()).collect();
    assert_eq!(exposed, promised);
    for file in ["alerts.yml", "grafana/store.json"] {
        for name in named(&read(file)) {
            let family = ["_bucket", "_count", "_sum"].iter().find_map(|part| name.strip_suffix(part));
            assert!(
                exposed.contains(&name) || family.is_some_and(|name| exposed.contains(name)),
                "{file}: {name}"
            );
        }
    }
}
