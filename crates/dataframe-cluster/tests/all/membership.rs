//! Workers that come, go, and are refused.

use dataframe_jobs::failure::FailureCode;
use dataframe_jobs::message::{NodesCommand, WorkerState};
use middleware::connect::Middleware;
use testkit::Process;

use crate::cluster::{Cluster, WAIT, on_each_middleware};

async fn empty_tasks_run(middleware: Middleware) {
    let Some(cluster) = Cluster::start(middleware, 2) else { return };
    let client = cluster.client().await;
    cluster.ready(&client, 2).await;
    let finished = client.probe(200).await.unwrap();
    assert_eq!(finished.places.len(), 200);
    let workers: std::collections::BTreeSet<_> =
        finished.places.iter().map(|(_, worker, _)| worker.as_str()).collect();
    assert_eq!(Vec::from_iter(workers), ["worker1", "worker2"], "both workers take part");
}
on_each_middleware!(empty_tasks_run);

async fn a_killed_worker_is_lost_and_comes_back(middleware: Middleware) {
    let Some(mut cluster) = Cluster::start(middleware, 2) else { return };
    let client = cluster.client().await;
    cluster.ready(&client, 2).await;
    cluster.workers[0].kill();
    let nodes = cluster.ready(&client, 1).await;
    let lost = nodes.iter().find(|node| node.info.name == "worker1");
    assert!(lost.is_none_or(|node| node.state == WorkerState::Lost), "{nodes:?}");
    cluster.workers[0] = cluster.start_worker("worker1", &[]);
    cluster.ready(&client, 2).await;
    client.probe(20).await.unwrap();
}
on_each_middleware!(a_killed_worker_is_lost_and_comes_back);

async fn a_restarted_master_gets_its_workers_back(middleware: Middleware) {
    let Some(mut cluster) = Cluster::start(middleware, 2) else { return };
    let client = cluster.client().await;
    cluster.ready(&client, 2).await;
    cluster.restart_master();
    cluster.ready(&client, 2).await;
    client.probe(20).await.unwrap();
}
on_each_middleware!(a_restarted_master_gets_its_workers_back);

async fn nodes_are_drained_removed_and_added(middleware: Middleware) {
    let Some(cluster) = Cluster::start(middleware, 2) else { return };
    let client = cluster.client().await;
    let nodes = cluster.ready(&client, 2).await;
    let drain = NodesCommand::Drain { worker: "worker1".to_owned() };
    client.nodes(drain).await.unwrap();
    cluster.ready(&client, 1).await;
    // With a broker, the worker takes tasks until it hears of the drain, at its next heartbeat.
    let only_the_other = async {
        while !client.probe(20).await.unwrap().places.iter().all(|(_, worker, _)| worker == "worker2") {}
    };
    tokio::time::timeout(WAIT, only_the_other).await.expect("the drained worker goes on");
    client.nodes(NodesCommand::Remove { worker: "worker2".to_owned() }).await.unwrap();
    cluster.ready(&client, 0).await;
    for node in nodes {
        let address = node.info.address.unwrap_or(node.info.name);
        client.nodes(NodesCommand::Add { address }).await.unwrap();
    }
    cluster.ready(&client, 2).await;
    client.probe(20).await.unwrap();
    let unknown = client.nodes(NodesCommand::Remove { worker: "worker9".to_owned() }).await.unwrap_err();
    assert_eq!(unknown.code, FailureCode::Refused);
    assert!(unknown.message.contains("worker9"), "{unknown}");
}
on_each_middleware!(nodes_are_drained_removed_and_added);

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_taken_is_refused() {
    let cluster = Cluster::start(Middleware::Grpc, 1).unwrap();
    let client = cluster.client().await;
    cluster.ready(&client, 1).await;
    let mut second = Process::start(cluster.worker_command("worker1", &[]));
    assert_eq!(second.ended().code(), Some(1), "{:?}", second.events("listening"));
    cluster.ready(&client, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_masters_own_address_is_no_worker() {
    let cluster = Cluster::start(Middleware::XmlRpc, 1).unwrap();
    let client = cluster.client().await;
    cluster.ready(&client, 1).await;
    let refused =
        client.nodes(NodesCommand::Add { address: cluster.address().to_owned() }).await.unwrap_err();
    assert_eq!(refused.code, FailureCode::Refused, "{refused}");
    assert!(refused.message.contains(cluster.address()), "{refused}");
}
