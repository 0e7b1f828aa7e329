//! Arrow Flight and Flight SQL, by the clients of arrow-flight.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Int64Type};
use arrow_flight::error::FlightError;
use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::sql::{
    Any, Command, CommandGetDbSchemas, CommandGetSqlInfo, CommandGetTables, ProstMessageExt, SqlInfo,
};
use arrow_flight::{
    Action, CancelFlightInfoRequest, CancelStatus, FlightClient, FlightDescriptor, FlightInfo, Ticket,
};
use dataframe_engine::Frame;
use dataframe_jobs::message::WorkerStatus;
use dataframe_jobs::operation::Operation;
use futures_util::TryStreamExt;
use middleware::connect::Middleware;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use prost::Message;
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::cluster::{Cluster, WAIT};
use crate::faults::busy_worker;
use crate::work::{csv, long_work, on_one_machine, operations, write_csv};

async fn channel(address: &str) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
}

async fn ready(workers: usize) -> (Cluster, FlightClient) {
    let cluster = Cluster::start(Middleware::Grpc, workers).expect("gRPC needs no broker");
    cluster.ready(&cluster.client().await, workers).await;
    let client = FlightClient::new(channel(cluster.address()).await);
    (cluster, client)
}

fn descriptor(operations: &[Operation]) -> FlightDescriptor {
    FlightDescriptor::new_cmd(serde_json::to_vec(operations).unwrap())
}

/// The status inside an error of a client.
fn status(error: FlightError) -> Status {
    match error {
        FlightError::Tonic(status) => *status,
        other => panic!("{other:?} is no status"),
    }
}

async fn rows(client: &mut FlightClient, info: FlightInfo) -> RecordBatch {
    let schema = Arc::new(info.clone().try_decode_schema().unwrap());
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    let batches: Vec<_> = client.do_get(ticket).await.unwrap().try_collect().await.unwrap();
    let all = concat_batches(&schema, &batches).unwrap();
    // The number of rows of an answer about the server is not told in advance.
    assert!(info.total_records == -1 || info.total_records == all.num_rows() as i64, "{info:?}");
    all
}

fn as_csv(batch: RecordBatch) -> String {
    csv(&Frame { schema: batch.schema(), batches: vec![batch] })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_operations_gives_what_one_machine_gives() {
    let (cluster, mut client) = ready(2).await;
    let path = write_csv(cluster.folder.path(), "data.csv", 500);
    for list in [
        "",
        r#"{"groupby": {"by": ["name"], "agg": ["mean(x)", "sum(y)"]}}"#,
        r#"{"query": {"predicate": "x > 99999"}}"#,
        r#"{"sort_values": {"by": ["x", "y"]}}"#,
    ] {
        let operations = operations(std::slice::from_ref(&path), list);
        let info = client.get_flight_info(descriptor(&operations)).await.unwrap();
        let schema = client.get_schema(descriptor(&operations)).await.unwrap();
        assert_eq!(schema, info.clone().try_decode_schema().unwrap());
        assert_eq!(as_csv(rows(&mut client, info).await), on_one_machine(&operations).await, "{list}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_under_the_clients_own_id_runs_once() {
    let (cluster, mut client) = ready(1).await;
    let path = write_csv(cluster.folder.path(), "data.csv", 50);
    let list = operations(std::slice::from_ref(&path), r#"{"sum": {"columns": ["x"]}}"#);
    let job = "01K9ZZZZZZ0000000000000000";
    let command = serde_json::json!({"job": job, "operations": list}).to_string();
    let first = client.get_flight_info(FlightDescriptor::new_cmd(command.clone())).await.unwrap();
    // If it ran again, it would find no file.
    std::fs::remove_file(path).unwrap();
    let again = client.get_flight_info(FlightDescriptor::new_cmd(command)).await.unwrap();
    assert_eq!(first.endpoint[0].ticket, again.endpoint[0].ticket);
    let (one, two) = (rows(&mut client, first).await, rows(&mut client, again).await);
    assert_eq!(one, two);
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_arrive_with_their_messages() {
    let (cluster, mut client) = ready(1).await;
    let path = write_csv(cluster.folder.path(), "data.csv", 50);
    let none = cluster.folder.path().join("none.csv");
    let no_column = descriptor(&operations(std::slice::from_ref(&path), r#"{"max": {"columns": ["z"]}}"#));
    let module = "ab".repeat(32);
    let no_module = format!(
        r#"{{"apply": {{"wasm": {{"module": "{module}", "function": "f", "columns": ["x"], "returns": "int64"}}}}}}"#
    );
    let no_module = descriptor(&operations(&[path], &no_module));
    let cases = [
        (no_column.clone(), Code::InvalidArgument, "z"),
        (no_module.clone(), Code::InvalidArgument, "abab is not here"),
        (descriptor(&operations(&[none], "")), Code::NotFound, "none.csv"),
        (FlightDescriptor::new_cmd("[{\"hed\": {}}]"), Code::InvalidArgument, "did you mean `head`?"),
        (FlightDescriptor::new_cmd("{\"operations\": []}"), Code::InvalidArgument, "read_csv"),
        (
            FlightDescriptor::new_cmd(
                "{\"job\": \"../x\", \"operations\": [{\"read_csv\": {\"paths\": [\"a\"]}}]}",
            ),
            Code::InvalidArgument,
            "is no id of a job",
        ),
        (FlightDescriptor::new_path(Vec::new()), Code::InvalidArgument, "at least one path"),
    ];
    for (wanted, code, message) in cases {
        let failure = status(client.get_flight_info(wanted).await.unwrap_err());
        assert_eq!(failure.code(), code, "{failure}");
        assert!(failure.message().contains(message), "{failure}");
    }
    for wanted in [no_column, no_module] {
        assert_eq!(status(client.get_schema(wanted).await.unwrap_err()).code(), Code::InvalidArgument);
    }
}

/// Ids of jobs, paths, messages of Flight SQL that are cut off, and anything else.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let question = Command::CommandGetSqlInfo(CommandGetSqlInfo::default()).into_any().encode_to_vec();
    let unknown = Any { type_url: format!("{}X", CommandGetSqlInfo::type_url()), value: vec![7; 9].into() };
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..300),
        "[0-9A-HJKMNP-TV-Z]{26}".prop_map(String::into_bytes),
        "(\\.\\./){0,3}(etc|results|01K9)/?[a-z0-9./]{0,20}".prop_map(String::into_bytes),
        "[./]{26}".prop_map(String::into_bytes),
        (1..question.len()).prop_map(move |end| question[..end].to_vec()),
        Just(unknown.encode_to_vec()),
        Just(vec![b'x'; 5 << 20]),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_tickets_and_commands_are_refused_with_a_reason() {
    let (cluster, client) = ready(0).await;
    let (runtime, channel) = (tokio::runtime::Handle::current(), client.into_inner());
    let tried = tokio::task::spawn_blocking(move || {
        let mut runner =
            TestRunner::new(Config { cases: 100, failure_persistence: None, ..Config::default() });
        runner.run(&hostile(), |bytes| {
            let mut client = FlightClient::new_from_inner(channel.clone());
            let got = runtime.block_on(client.do_get(Ticket::new(bytes.clone())));
            let failure = status(got.expect_err("no such ticket was given"));
            prop_assert!(
                matches!(failure.code(), Code::NotFound | Code::InvalidArgument | Code::Unimplemented),
                "{failure:?}"
            );
            prop_assert!(!failure.message().is_empty());
            let asked = runtime.block_on(client.get_flight_info(FlightDescriptor::new_cmd(bytes.clone())));
            let failure = status(asked.expect_err("no such command exists"));
            prop_assert!(
                matches!(failure.code(), Code::InvalidArgument | Code::Unimplemented),
                "{failure:?}"
            );
            let action = Action { r#type: "CreatePreparedStatement".to_owned(), body: bytes.into() };
            let acted =
                runtime.block_on(async { client.do_action(action).await?.try_collect::<Vec<_>>().await });
            let failure = status(acted.expect_err("no such message exists"));
            prop_assert_eq!(failure.code(), Code::InvalidArgument, "{:?}", failure);
            Ok(())
        })
    });
    tried.await.unwrap().unwrap();
    cluster.ready(&cluster.client().await, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deep_queries_end_with_a_result_or_a_reason() {
    let (cluster, _) = ready(1).await;
    let path = write_csv(cluster.folder.path(), "data.csv", 3);
    let mut client = FlightSqlServiceClient::new(channel(cluster.address()).await);
    for (before, after, times) in [
        ("", " + 1", 450),
        ("", " + 1", 20_000),
        ("", " is null", 220),
        ("not ", "", 40),
        ("not ", "", 10_000),
        ("(", ")", 20_000),
        ("abs(", ")", 10_000),
        ("- ", "", 10_000),
    ] {
        let value = format!("{}x{}", before.repeat(times), after.repeat(times));
        let asked = client.execute(format!("select {value} as v from \"{}\"", path.display()), None).await;
        if let Err(error) = asked {
            let failure = status(error);
            assert!(!failure.message().is_empty(), "{failure:?}");
            assert_ne!(failure.code(), Code::Unknown, "{failure:?}");
        }
    }
    cluster.ready(&cluster.client().await, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_whose_result_is_gone_is_not_found() {
    let (cluster, mut client) = ready(1).await;
    let path = write_csv(cluster.folder.path(), "data.csv", 50);
    let info = client.get_flight_info(descriptor(&operations(&[path], ""))).await.unwrap();
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    let job = String::from_utf8(ticket.ticket.to_vec()).unwrap();
    let results = cluster.folder.path().join("master/results");
    std::fs::remove_file(results.join(format!("{job}.json"))).unwrap();
    let failure = status(client.do_get(ticket).await.err().unwrap());
    assert_eq!(failure.code(), Code::NotFound);
    assert!(failure.message().contains("Ask again"), "{failure}");
}

async fn workers(client: &mut FlightClient) -> Vec<WorkerStatus> {
    let action = Action { r#type: "workers".to_owned(), body: Default::default() };
    let lines: Vec<_> = client.do_action(action).await.unwrap().try_collect().await.unwrap();
    lines.iter().map(|line| serde_json::from_slice(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_gives_its_job_up() {
    let (cluster, mut client) = ready(1).await;
    let list = endless_work(&cluster);
    let channel = client.inner().clone();
    let mut asked = JoinSet::new();
    asked
        .spawn(async move { FlightClient::new_from_inner(channel).get_flight_info(descriptor(&list)).await });
    let runs = async |client: &mut FlightClient, wanted: bool| {
        let seen = async {
            while workers(client).await.iter().any(|worker| worker.running > 0) != wanted {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(WAIT, seen).await.unwrap_or_else(|_| panic!("a task was to run: {wanted}"));
    };
    runs(&mut client, true).await;
    assert!(asked.try_join_next().is_none(), "the job was to run for longer");
    asked.abort_all();
    runs(&mut client, false).await;
    let results = cluster.folder.path().join("master/results");
    assert_eq!(std::fs::read_dir(results).unwrap().count(), 0, "nothing was to be stored");
}

/// A job of half a minute and more, of which nobody waits for the end.
fn endless_work(cluster: &Cluster) -> Vec<Operation> {
    operations(
        &[write_csv(cluster.folder.path(), "long.csv", 300_000)],
        r#"{"query": {"predicate": "length(repeat(name, 3000)) > 0"}}, {"len": {}}"#,
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_job_is_polled_until_its_rows_are_there() {
    let (cluster, mut client) = ready(2).await;
    let operations = long_work(cluster.folder.path());
    let mut wanted = descriptor(&operations);
    let (mut last, mut told) = (0.0, 0);
    let info = loop {
        let polled = client.poll_flight_info(wanted).await.unwrap();
        let (info, progress) = (polled.info.unwrap(), polled.progress.unwrap());
        assert!((last..=1.0).contains(&progress), "{progress} after {last}");
        last = progress;
        match polled.flight_descriptor {
            None => break info,
            Some(next) => wanted = next,
        }
        assert!(info.endpoint.is_empty() && progress < 1.0, "the job runs: {info:?}");
        told += 1;
    };
    assert!(told >= 2, "the progress was told {told} times");
    assert_eq!(last, 1.0);
    assert_eq!(as_csv(rows(&mut client, info).await), on_one_machine(&operations).await);
    let no_column = r#"{"max": {"columns": ["z"]}}"#;
    let path = cluster.folder.path().join("long.csv");
    let mut wanted = descriptor(&crate::work::operations(&[path], no_column));
    let failure = loop {
        match client.poll_flight_info(wanted).await {
            Ok(polled) => wanted = polled.flight_descriptor.expect("it cannot end well"),
            Err(error) => break status(error),
        }
    };
    assert_eq!(failure.code(), Code::InvalidArgument, "{failure}");
    let question = Command::CommandGetSqlInfo(CommandGetSqlInfo::default()).into_any().encode_to_vec();
    let polled = client.poll_flight_info(FlightDescriptor::new_cmd(question)).await.unwrap();
    assert!(polled.flight_descriptor.is_none() && !polled.info.unwrap().endpoint.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_polled_job_goes_on_until_it_is_cancelled() {
    let (cluster, mut client) = ready(1).await;
    let begun = client.poll_flight_info(descriptor(&endless_work(&cluster))).await.unwrap();
    let seen = async {
        while workers(&mut client).await.iter().all(|worker| worker.running == 0) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(WAIT, seen).await.expect("the job was to run, although nobody waits");
    let request = CancelFlightInfoRequest::new(begun.info.unwrap());
    let cancelled = client.cancel_flight_info(request).await.unwrap();
    assert_eq!(cancelled.status(), CancelStatus::Cancelled);
    let mut wanted = begun.flight_descriptor.unwrap();
    let failure = loop {
        match client.poll_flight_info(wanted).await {
            Ok(polled) => wanted = polled.flight_descriptor.expect("it cannot end well"),
            Err(error) => break status(error),
        }
    };
    assert_eq!(failure.code(), Code::Cancelled, "{failure}");
    let foreign = CancelFlightInfoRequest::new(FlightInfo::new());
    let refused = status(client.cancel_flight_info(foreign).await.unwrap_err());
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
}

/// Asks a master that may not lead yet.
async fn eventually(address: &str, operations: &[Operation]) -> (FlightClient, FlightInfo) {
    let asked = async {
        loop {
            if let Ok(channel) = Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await {
                let mut client = FlightClient::new(channel);
                match client.get_flight_info(descriptor(operations)).await {
                    Ok(info) => return (client, info),
                    Err(error) => assert_eq!(status(error).code(), Code::Unavailable),
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(WAIT, asked).await.expect("the other master was to lead")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_master_is_killed_gets_all_rows_from_the_other_one() {
    let (mut cluster, standby) = Cluster::start_pair(Middleware::Grpc, 2).expect("gRPC needs no broker");
    cluster.ready(&cluster.client().await, 2).await;
    let (leading, other) =
        cluster.address().split_once(',').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    let operations = long_work(cluster.folder.path());
    let expected = on_one_machine(&operations).await;
    let waiting = Endpoint::from_shared(format!("http://{other}")).unwrap().connect().await;
    assert!(waiting.is_err(), "a master that stands by is not called");

    let mut polling = FlightClient::new(channel(&leading).await);
    let begun = polling.poll_flight_info(descriptor(&operations)).await.unwrap();
    let (mut asking, wanted) = (FlightClient::new(channel(&leading).await), descriptor(&operations));
    let asked = tokio::spawn(async move { asking.get_flight_info(wanted).await });
    busy_worker(&cluster.client().await).await;
    assert!(!asked.is_finished(), "the master was to be killed in the middle");
    cluster.master.kill();
    let broken = status(asked.await.unwrap().unwrap_err());
    assert!(matches!(broken.code(), Code::Unavailable | Code::Unknown), "{broken:?}");
    println!("a client of a master that is killed sees: {broken:?}");

    let (mut client, info) = eventually(&other, &operations).await;
    assert_eq!(as_csv(rows(&mut client, info).await), expected);
    // What the killed master gave for the next question holds the whole job.
    let mut next = begun.flight_descriptor.expect("the job had just begun");
    let info = loop {
        let polled = client.poll_flight_info(next).await.unwrap();
        match polled.flight_descriptor {
            Some(descriptor) => next = descriptor,
            None => break polled.info.unwrap(),
        }
    };
    assert_eq!(as_csv(rows(&mut client, info).await), expected);
    assert!(!standby.events("taking over: no master leads").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_run_also_on_several_files_and_with_parameters() {
    let (cluster, client) = ready(2).await;
    let folder = cluster.folder.path();
    let (one, two) = (write_csv(folder, "one.csv", 30), write_csv(folder, "two.csv", 10));
    let mut plain = client;
    let mut client = FlightSqlServiceClient::new(channel(cluster.address()).await);
    client.handshake("anybody", "anything").await.unwrap();
    let query = format!("select name, max(x) from \"{}\" group by name order by name", one.display());
    let info = client.execute(query, None).await.unwrap();
    assert_eq!(as_csv(rows(&mut plain, info).await), "name,max(x)\nAna,189\nBea,196\nÇelik,203\n");
    let query = format!(
        "select count(*) as n from \"{}\" a join \"{}\" b on a.x = b.x where a.x > $1",
        one.display(),
        two.display()
    );
    let mut prepared = client.prepare(query, None).await.unwrap();
    assert_eq!(prepared.parameter_schema().unwrap().fields().len(), 1);
    for (value, count) in [(-1, 10), (50, 2)] {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![value]));
        prepared.set_parameters(RecordBatch::try_from_iter([("$1", column)]).unwrap()).unwrap();
        let info = prepared.execute().await.unwrap();
        let counted = rows(&mut plain, info).await;
        assert_eq!(counted.column(0).as_primitive::<Int64Type>().values(), &[count]);
    }
    prepared.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_has_the_right_schemas_and_names_a_file_that_is_asked_for() {
    let (cluster, client) = ready(1).await;
    let path = write_csv(cluster.folder.path(), "data.csv", 30);
    let mut plain = client;
    let mut client = FlightSqlServiceClient::new(channel(cluster.address()).await);
    let catalogs = client.get_catalogs().await.unwrap();
    assert_eq!(rows(&mut plain, catalogs).await.num_rows(), 0);
    let schemas = client.get_db_schemas(CommandGetDbSchemas::default()).await.unwrap();
    assert_eq!(rows(&mut plain, schemas).await.num_rows(), 0);
    let types = client.get_table_types().await.unwrap();
    assert_eq!(as_csv(rows(&mut plain, types).await), "table_type\nTABLE\n");
    let info = client.get_sql_info(vec![SqlInfo::FlightSqlServerName]).await.unwrap();
    assert_eq!(rows(&mut plain, info).await.num_rows(), 1);
    for (name, found) in [(path.to_str().unwrap(), 1), ("/none.csv", 0), ("%", 0), ("weather", 0)] {
        let question = CommandGetTables {
            table_name_filter_pattern: Some(name.to_owned()),
            include_schema: true,
            ..CommandGetTables::default()
        };
        let tables = client.get_tables(question).await.unwrap();
        let tables = rows(&mut plain, tables).await;
        assert_eq!(tables.num_rows(), found, "{name}");
        assert_eq!(tables.schema().field(4).data_type(), &DataType::Binary);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_over_another_middleware_offers_flight_at_an_address_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let listen = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let mut command = std::process::Command::new(testkit::program("dataframe-master"));
    command.args(["--listen", "127.0.0.1:0", "--middleware", "xmlrpc", "--flight-listen", &listen]);
    command.arg("--data-dir").arg(folder.path());
    let _master = testkit::Process::start(command);
    let there = async {
        loop {
            if let Ok(channel) = Endpoint::from_shared(format!("http://{listen}")).unwrap().connect().await {
                return channel;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let channel = tokio::time::timeout(WAIT, there).await.unwrap();
    let mut client = FlightClient::new(channel);
    assert!(workers(&mut client).await.is_empty());
}
