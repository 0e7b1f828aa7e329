//! The bytes of each request and reply, of a task's envelope and of a piece of a result.

use bytes::Bytes;
use dataframe_jobs::failure::{Failure, FailureCode};
use dataframe_jobs::message::{
    FileRange, Finished, Lead, NodesCommand, Progress, Reply, Request, Task, TaskId, WorkerInfo, WorkerState,
    WorkerStatus,
};
use dataframe_jobs::operation::{Operation, parse};
use dataframe_jobs::packet::{self, PacketError};
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

fn task_id() -> TaskId {
    TaskId { job: "01J".to_owned(), round: 0, task: 3, attempt: 1 }
}

fn worker() -> WorkerInfo {
    WorkerInfo {
        name: "w1".to_owned(),
        incarnation: "01K".to_owned(),
        address: Some("w1:9001".to_owned()),
        datafusion: "55.2.0".to_owned(),
        release: "0.1.0".to_owned(),
        slots: 2,
        functions: vec!["trim".to_owned()],
        wasm: false,
    }
}

fn lead() -> Lead {
    Lead { term: 2, incarnation: "01M".to_owned() }
}

const WORKER: &str = r#"{"name":"w1","incarnation":"01K","address":"w1:9001","datafusion":"55.2.0","release":"0.1.0","slots":2,"functions":["trim"]}"#;
const TASK: &str = r#"{"job":"01J","round":0,"task":3,"attempt":1}"#;

fn requests() -> Vec<(Request, String)> {
    let operations: Vec<Operation> =
        parse(r#"[{"read_csv":{"paths":["a"]}},{"len":{}}]"#).expect("it is right");
    let read = r#"{"read_csv":{"paths":["a"],"separator":",","quote":"\"","header":true,"compression":"auto","blocksize":67108864}}"#;
    let file = FileRange { path: "/data/a.csv".to_owned(), start: 0, end: 10, size: 20, modified_ns: 5 };
    let job = || "01J".to_owned();
    let name = || "w1".to_owned();
    vec![
        (Request::Join(worker()), format!(r#"{{"join":{WORKER}}}"#)),
        (
            Request::Heartbeat { worker: worker(), running: vec![task_id()], resident_bytes: None },
            format!(r#"{{"heartbeat":{{"worker":{WORKER},"running":[{TASK}]}}}}"#),
        ),
        (
            Request::Heartbeat { worker: worker(), running: Vec::new(), resident_bytes: Some(7) },
            format!(r#"{{"heartbeat":{{"worker":{WORKER},"running":[],"resident_bytes":7}}}}"#),
        ),
        (
            Request::Leave { worker: name(), incarnation: "01K".to_owned() },
            r#"{"leave":{"worker":"w1","incarnation":"01K"}}"#.to_owned(),
        ),
        (
            Request::Submit { job: job(), operations: operations.clone(), wait_ms: 30_000, explain: false },
            format!(
                r#"{{"submit":{{"job":"01J","operations":[{read},{{"len":{{}}}}],"wait_ms":30000,"explain":false}}}}"#
            ),
        ),
        (
            Request::Module { module: "3f2a".to_owned(), bytes: 90, from: 10 },
            r#"{"module":{"module":"3f2a","bytes":90,"from":10}}"#.to_owned(),
        ),
        (
            Request::FetchModule { module: "3f2a".to_owned() },
            r#"{"fetch_module":{"module":"3f2a"}}"#.to_owned(),
        ),
        (
            Request::Join(WorkerInfo { wasm: true, ..worker() }),
            format!(r#"{{"join":{}}}"#, WORKER.replace('}', r#","wasm":true}"#)),
        ),
        (
            Request::Run(Task {
                id: task_id(),
                lease_ms: 10_000,
                files: Vec::new(),
                modules: vec!["3f2a".to_owned()],
            }),
            format!(r#"{{"run":{{"id":{TASK},"lease_ms":10000,"files":[],"modules":["3f2a"]}}}}"#),
        ),
        (Request::Cancel { job: job() }, r#"{"cancel":{"job":"01J"}}"#.to_owned()),
        (Request::Nodes(NodesCommand::List), r#"{"nodes":"list"}"#.to_owned()),
        (
            Request::Nodes(NodesCommand::Add { address: "w1:9001".to_owned() }),
            r#"{"nodes":{"add":{"address":"w1:9001"}}}"#.to_owned(),
        ),
        (
            Request::Nodes(NodesCommand::Remove { worker: name() }),
            r#"{"nodes":{"remove":{"worker":"w1"}}}"#.to_owned(),
        ),
        (
            Request::Nodes(NodesCommand::Drain { worker: name() }),
            r#"{"nodes":{"drain":{"worker":"w1"}}}"#.to_owned(),
        ),
        (Request::Probe { job: job(), tasks: 10 }, r#"{"probe":{"job":"01J","tasks":10}}"#.to_owned()),
        (
            Request::Run(Task { id: task_id(), lease_ms: 10_000, files: vec![file], modules: Vec::new() }),
            format!(
                r#"{{"run":{{"id":{TASK},"lease_ms":10000,"files":[{{"path":"/data/a.csv","start":0,"end":10,"size":20,"modified_ns":5}}]}}}}"#
            ),
        ),
        (
            Request::Inspect { operation: operations[0].clone() },
            format!(r#"{{"inspect":{{"operation":{read}}}}}"#),
        ),
        (Request::Watch, r#""watch""#.to_owned()),
        (Request::Supersede(lead()), r#"{"supersede":{"term":2,"incarnation":"01M"}}"#.to_owned()),
        (
            Request::Fetch { task: task_id(), shuffle: 1, partition: 5, from: 2 },
            format!(r#"{{"fetch":{{"task":{TASK},"shuffle":1,"partition":5,"from":2}}}}"#),
        ),
        (Request::Stop(task_id()), format!(r#"{{"stop":{TASK}}}"#)),
        (Request::Identify, r#""identify""#.to_owned()),
    ]
}

fn replies() -> Vec<(Reply, String)> {
    let name = || "w1".to_owned();
    let status =
        WorkerStatus { info: worker(), state: WorkerState::Draining, running: 1, finished: 7, silent_ms: 40 };
    let failure = Failure {
        code: FailureCode::BadJob,
        message: "there is no column x".to_owned(),
        worker: Some(name()),
    };
    let progress = Progress { done: 1, total: 4, running: 2, waiting_for: Some("a worker".to_owned()) };
    let of_job =
        Finished { rows: 9, pieces: 2, micros: 1234, worker: String::new(), places: vec![(0, name(), 1)] };
    let of_task = Finished { rows: 9, pieces: 2, micros: 1234, worker: name(), places: Vec::new() };
    vec![
        (Reply::Accepted, r#""accepted""#.to_owned()),
        (Reply::Draining, r#""draining""#.to_owned()),
        (
            Reply::Started { task: task_id(), worker: name() },
            format!(r#"{{"started":{{"task":{TASK},"worker":"w1"}}}}"#),
        ),
        (Reply::Alive { task: task_id() }, format!(r#"{{"alive":{{"task":{TASK}}}}}"#)),
        (Reply::Module { held: 90 }, r#"{"module":{"held":90}}"#.to_owned()),
        (
            Reply::Progress(progress),
            r#"{"progress":{"done":1,"total":4,"running":2,"waiting_for":"a worker"}}"#.to_owned(),
        ),
        (
            Reply::Result { piece: 0, worker: String::new(), stream: None },
            r#"{"result":{"piece":0}}"#.to_owned(),
        ),
        (
            Reply::Result { piece: 1, worker: name(), stream: None },
            r#"{"result":{"piece":1,"worker":"w1"}}"#.to_owned(),
        ),
        (
            Reply::Result { piece: 2, worker: name(), stream: Some(7) },
            r#"{"result":{"piece":2,"worker":"w1","stream":7}}"#.to_owned(),
        ),
        (
            Reply::Finished(of_job),
            r#"{"finished":{"rows":9,"pieces":2,"micros":1234,"places":[[0,"w1",1]]}}"#.to_owned(),
        ),
        (
            Reply::Finished(of_task),
            r#"{"finished":{"rows":9,"pieces":2,"micros":1234,"worker":"w1"}}"#.to_owned(),
        ),
        (
            Reply::Nodes { workers: vec![status] },
            format!(
                r#"{{"nodes":{{"workers":[{{"info":{WORKER},"state":"draining","running":1,"finished":7,"silent_ms":40}}]}}}}"#
            ),
        ),
        (Reply::Leads(lead()), r#"{"leads":{"term":2,"incarnation":"01M"}}"#.to_owned()),
        (Reply::Inspected, r#""inspected""#.to_owned()),
        (Reply::Identity(worker()), format!(r#"{{"identity":{WORKER}}}"#)),
        (
            Reply::Failed(failure),
            r#"{"failed":{"code":"bad-job","message":"there is no column x","worker":"w1"}}"#.to_owned(),
        ),
    ]
}

fn assert_bytes<H>(header: &H, json: &str, body: &[u8])
where
    H: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let packet = packet::encode(header, body);
    let line = format!("{{\"version\":1,\"bytes\":{},\"message\":{json}}}\n", body.len());
    assert_eq!(packet, [line.as_bytes(), body].concat());
    let (decoded, rest) = packet::decode::<H>(&packet).expect("it was encoded");
    assert_eq!((&decoded, &rest[..]), (header, body));
}

#[test]
fn each_request_has_these_bytes() {
    for (request, json) in requests() {
        assert_bytes(&request, &json, b"");
        // A plan is any bytes.
        assert_bytes(&request, &json, b"\n\0{}\xff");
    }
}

#[test]
fn each_reply_has_these_bytes() {
    for (reply, json) in replies() {
        assert_bytes(&reply, &json, b"");
        assert_bytes(&reply, &json, b"ARROW1\n\n\xff");
    }
}

#[test]
fn each_code_of_a_failure_has_this_name() {
    use FailureCode::{
        BadJob, Cancelled, File, Internal, NoModule, NoWorkers, Poisonous, Refused, Resources, WidenType,
    };
    let codes =
        [BadJob, NoModule, WidenType, File, Poisonous, Resources, NoWorkers, Refused, Cancelled, Internal];
    let json = serde_json::to_string(&codes).unwrap();
    let names = r#"["bad-job","no-module","widen-type","file","poisonous","resources","no-workers","refused","cancelled","internal"]"#;
    assert_eq!(json, names);
}

#[test]
fn what_is_no_packet_is_refused_with_the_cause() {
    let decode = |bytes: &[u8]| packet::decode::<Request>(&Bytes::copy_from_slice(bytes)).unwrap_err();
    assert!(matches!(decode(b""), PacketError::NoHeader));
    assert!(matches!(decode(b"GET / HTTP/1.1"), PacketError::NoHeader));
    assert!(matches!(decode(b"GET / HTTP/1.1\r\n\r\n"), PacketError::Header(_)));
    assert!(matches!(decode(&vec![b' '; packet::MAX_HEADER_BYTES + 1]), PacketError::NoHeader));
    let other = decode(b"{\"version\":2,\"words\":\"of another age\"}\n");
    assert_eq!(
        other.to_string(),
        "the message has version 2, and this program speaks version 1: run the same release on both sides"
    );
    assert!(matches!(
        decode(b"{\"version\":1,\"bytes\":0,\"message\":\"accepted\"}\n"),
        PacketError::Header(_)
    ));
    for body in [&b"abc"[..], b"abcde"] {
        let short = [b"{\"version\":1,\"bytes\":4,\"message\":\"identify\"}\n", body].concat();
        assert!(matches!(decode(&short), PacketError::Length { announced: 4, .. }));
    }
    assert!(
        packet::decode::<Request>(&Bytes::from_static(
            b"{\"version\":1,\"bytes\":0,\"message\":\"identify\"}\n"
        ))
        .is_ok()
    );
}

proptest! {
    #[test]
    fn a_message_comes_out_as_it_went_in(
        texts in prop::collection::vec(".*", 4),
        numbers in any::<(u32, u32, u64, i64)>(),
        floats in prop::collection::vec(prop::num::f64::NORMAL, 0..20),
        body in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let id = TaskId { job: texts[0].clone(), round: numbers.0, task: numbers.1, attempt: 1 };
        let file = FileRange { path: texts[1].clone(), start: 0, end: numbers.2, size: numbers.2, modified_ns: numbers.3 };
        let run = Request::Run(Task { id, lease_ms: numbers.2, files: vec![file], modules: Vec::new() });
        let values = floats.iter().map(|float| serde_json::json!(float)).chain([serde_json::json!(texts[2])]);
        let isin = Operation::Isin { values: values.collect(), column: Some(texts[3].clone()) };
        let submit = Request::Submit { job: texts[0].clone(), operations: vec![isin], wait_ms: numbers.2, explain: true };
        for request in [run, submit] {
            let (again, rest) = packet::decode::<Request>(&packet::encode(&request, &body)).unwrap();
            prop_assert_eq!((again, &rest[..]), (request, &body[..]));
        }
    }
}

/// All messages, as seeds for what mutates them.
pub fn all_packets() -> Vec<Vec<u8>> {
    let requests = requests().into_iter().map(|(request, _)| packet::encode(&request, b"plan").to_vec());
    requests.chain(replies().into_iter().map(|(reply, _)| packet::encode(&reply, b"rows").to_vec())).collect()
}
