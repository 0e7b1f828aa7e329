//! A cluster whose parts show each other certificates: it computes, and nobody else gets in.

use std::path::Path;
use std::time::Duration;

use dataframe_cluster::ClusterClient;
use dataframe_jobs::failure::FailureCode;
use dataframe_jobs::message::{NodesCommand, Reply, Request};
use dataframe_jobs::packet;
use futures_util::StreamExt as _;
use middleware::connect::{Middleware, TransportSettings, connect};
use middleware::{Endpoint, MutualTls, SharedTransport, TlsHolder};
use mutual_tls::certificates::make;

use crate::cluster::{Cluster, WAIT, master_command};
use crate::work::{csv, on_one_machine, operations, write_csv};

/// How long those wait who will not get in.
const IN_VAIN: Duration = Duration::from_secs(1);

fn certificates() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    make(folder.path(), &[]).unwrap();
    folder
}

/// A cluster whose master and workers show the certificates of a folder. Returns `None` if the broker is not installed.
fn start(middleware: Middleware, workers: usize, folder: &Path) -> Option<Cluster> {
    let arguments: &'static [&'static str] = vec!["--tls", folder.display().to_string().leak()].leak();
    let mut cluster = Cluster::start_with(middleware, 0, arguments)?;
    for _ in 0..workers {
        cluster.add_worker(arguments);
    }
    Some(cluster)
}

async fn transport(cluster: &Cluster, tls: Option<MutualTls>) -> SharedTransport {
    let settings =
        TransportSettings { broker_url: cluster.broker_url(), tls, ..TransportSettings::default() };
    connect(cluster.middleware, settings).await.unwrap()
}

async fn client(cluster: &Cluster, tls: Option<MutualTls>, wait: Duration) -> ClusterClient {
    ClusterClient::new(transport(cluster, tls).await, cluster.address().to_owned(), wait)
}

fn tls(folder: &Path, holder: TlsHolder) -> Option<MutualTls> {
    Some(MutualTls::open(folder, holder).unwrap())
}

async fn computes_with_certificates(middleware: Middleware) {
    let folder = certificates();
    let Some(cluster) = start(middleware, 2, folder.path()) else { return };
    // Over a hybrid, clients call the broker alone.
    let shown = if middleware.has_broker() { None } else { tls(folder.path(), TlsHolder::Client) };
    let client = client(&cluster, shown, WAIT).await;
    cluster.ready(&client, 2).await;
    let paths: Vec<_> =
        (0..3).map(|file| write_csv(cluster.folder.path(), &format!("part{file}.csv"), 300 + file)).collect();
    let list = operations(&paths, r#"{"groupby": {"by": ["name"], "agg": ["mean(x)", "sum(y)"]}}"#);
    let result = client.submit(&list).await.unwrap();
    assert_eq!(csv(&result.frame), on_one_machine(&list).await);
}

async fn a_worker_without_certificate_does_not_join(middleware: Middleware) {
    let (ours, theirs) = (certificates(), certificates());
    let Some(mut cluster) = start(middleware, 1, ours.path()) else { return };
    cluster.add_worker(&[]);
    cluster.add_worker(&["--tls", &theirs.path().display().to_string()]);
    let shown = if middleware.has_broker() { None } else { tls(ours.path(), TlsHolder::Client) };
    let client = client(&cluster, shown, WAIT).await;
    cluster.ready(&client, 1).await;
    let path = write_csv(cluster.folder.path(), "data.csv", 100);
    let list = operations(&[path], r#"{"len": {}}"#);
    for _ in 0..20 {
        client.submit(&list).await.unwrap();
    }
    if !middleware.has_broker() {
        let seen = client.nodes(NodesCommand::List).await.unwrap();
        assert_eq!(seen.len(), 1, "{seen:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_computes_with_certificates() {
    computes_with_certificates(Middleware::Grpc).await;
}
#[tokio::test(flavor = "multi_thread")]
async fn xmlrpc_computes_with_certificates() {
    computes_with_certificates(Middleware::XmlRpc).await;
}
#[tokio::test(flavor = "multi_thread")]
async fn hybrid_computes_with_certificates() {
    computes_with_certificates(Middleware::HybridGrpc).await;
}
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_certificate_does_not_join_over_grpc() {
    a_worker_without_certificate_does_not_join(Middleware::Grpc).await;
}
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_certificate_does_not_join_over_xmlrpc() {
    a_worker_without_certificate_does_not_join(Middleware::XmlRpc).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_without_a_certificate_of_the_cluster_get_nothing() {
    let (ours, theirs) = (certificates(), certificates());
    let cluster = start(Middleware::Grpc, 0, ours.path()).unwrap();
    for shown in [None, tls(theirs.path(), TlsHolder::Client), tls(theirs.path(), TlsHolder::Node)] {
        let failure = client(&cluster, shown, IN_VAIN).await.nodes(NodesCommand::List).await.unwrap_err();
        assert_eq!(failure.code, FailureCode::NoWorkers, "{failure}");
    }
    let known = client(&cluster, tls(ours.path(), TlsHolder::Client), WAIT).await;
    assert!(known.nodes(NodesCommand::List).await.unwrap().is_empty());
}

/// A request, as somebody who knows the protocol and holds a client's certificate sends it.
async fn answer(cluster: &Cluster, tls: Option<MutualTls>, request: &Request) -> Reply {
    let master = Endpoint::Master(cluster.address().to_owned());
    let request = packet::encode(request, &[]);
    let mut reply = transport(cluster, tls).await.request(&master, request).await.unwrap();
    packet::decode::<Reply>(&reply.next().await.unwrap().unwrap()).unwrap().0
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_no_worker_whatever_it_says() {
    let folder = certificates();
    let cluster = start(Middleware::Grpc, 0, folder.path()).unwrap();
    let worker = r#"{"join":{"name":"mallory","incarnation":"01","address":"127.0.0.1:1","datafusion":"55","release":"0","slots":9,"functions":[]}}"#;
    let leave = r#"{"leave":{"worker":"worker1","incarnation":"01"}}"#;
    let module = r#"{"fetch_module":{"module":"00"}}"#;
    for request in [worker, leave, module] {
        let request: Request = serde_json::from_str(request).unwrap();
        let refused = answer(&cluster, tls(folder.path(), TlsHolder::Client), &request).await;
        assert!(
            matches!(&refused, Reply::Failed(failure) if failure.code == FailureCode::Refused && failure.message.contains("only the nodes")),
            "{refused:?}"
        );
        // A node may ask it, whatever comes of it.
        let heard = answer(&cluster, tls(folder.path(), TlsHolder::Node), &request).await;
        assert!(!format!("{heard:?}").contains("only the nodes"), "{heard:?}");
    }
}

#[test]
fn certificates_that_protect_nothing_are_refused() {
    let folder = certificates();
    let refused = |middleware, word: &str| {
        let mut command = master_command(middleware, Some("redis://127.0.0.1:1"), "127.0.0.1:0", &folder);
        command.arg("--tls").arg(folder.path());
        let output = command.output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && told.contains(word), "{output:?}");
    };
    refused(Middleware::Redis, "leave --tls out");
    std::fs::remove_file(folder.path().join("node.key")).unwrap();
    refused(Middleware::Grpc, "node.key: No such file");
}
