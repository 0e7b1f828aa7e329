//! Two masters, of which one stands by: it takes over when the other one is killed or cut off, and only then.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dataframe_jobs::failure::FailureCode;
use dataframe_jobs::message::{Lead, NodesCommand, Reply, Request, WorkerState, WorkerStatus};
use dataframe_jobs::packet;
use futures_util::StreamExt;
use middleware::Endpoint;
use middleware::connect::{Middleware, TransportSettings, connect};
use nix::sys::signal::Signal;
use testkit::Process;

use crate::cluster::{Cluster, WAIT, on_each_middleware};
use crate::faults::{busy_worker, rounds, submit};
use crate::work::{csv, long_work, on_one_machine};

const TAKING_OVER: &str = "taking over: no master leads";
const STEPPING_DOWN: &str = "stepping down: another master has a newer lead";

async fn a_standby_takes_over_a_job_whose_master_is_killed(middleware: Middleware) {
    let Some((mut cluster, mut standby)) = Cluster::start_pair(middleware, 2) else { return };
    let client = cluster.client().await;
    let operations = long_work(cluster.folder.path());
    let expected = on_one_machine(&operations).await;
    for _ in 0..rounds() {
        cluster.ready(&client, 2).await;
        let job = submit(&client, &operations);
        busy_worker(&client).await;
        assert_eq!(standby.events(TAKING_OVER).len(), 0, "the standby has left the leader alone");
        let killed = Instant::now();
        cluster.master.kill();
        assert!(!job.is_finished(), "the master was to be killed in the middle");
        cluster.ready(&client, 2).await;
        println!("{middleware}: both workers are ready {:?} after the leader was killed", killed.elapsed());
        let result = job.await.unwrap().unwrap();
        assert_eq!(csv(&result.frame), expected);
        assert!(!standby.events(TAKING_OVER).is_empty(), "the standby was to take over");
        // The roles are turned round, and back again for the next round.
        let first = Process::start_until("standing by", cluster.first_master_command());
        standby.kill();
        first.logged(TAKING_OVER);
        cluster.ready(&client, 2).await;
        cluster.master = first;
        standby = Process::start_until("standing by", cluster.second_master_command());
    }
}
on_each_middleware!(a_standby_takes_over_a_job_whose_master_is_killed);

/// A master that was only cut off, as a process that is stopped is, has a lead that has grown old when it is back.
async fn a_leader_that_was_cut_off_steps_down(middleware: Middleware) {
    let Some((cluster, mut standby)) = Cluster::start_pair(middleware, 2) else { return };
    let client = cluster.client().await;
    cluster.ready(&client, 2).await;
    cluster.master.signal(Signal::SIGSTOP);
    standby.logged(TAKING_OVER);
    cluster.master.signal(Signal::SIGCONT);
    cluster.master.logged(STEPPING_DOWN);
    cluster.master.logged("standing by");
    cluster.ready(&client, 2).await;
    client.probe(20).await.unwrap();
    standby.kill();
    cluster.ready(&client, 2).await;
    client.probe(20).await.unwrap();
    assert!(cluster.master.events(TAKING_OVER).len() >= 2, "at its start, and now");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grpc_leader_that_was_cut_off_steps_down() {
    a_leader_that_was_cut_off_steps_down(Middleware::Grpc).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_xmlrpc_leader_that_was_cut_off_steps_down() {
    a_leader_that_was_cut_off_steps_down(Middleware::XmlRpc).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_leader_that_was_cut_off_steps_down() {
    a_leader_that_was_cut_off_steps_down(Middleware::Redis).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rabbitmq_leader_that_was_cut_off_steps_down() {
    a_leader_that_was_cut_off_steps_down(Middleware::RabbitMq).await;
}

/// Waits until what was pushed last is so.
async fn pushed(seen: &Mutex<Vec<WorkerStatus>>, what: &str, is_so: impl Fn(&[WorkerStatus]) -> bool) {
    let so = async {
        while !is_so(&seen.lock().unwrap()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let done = tokio::time::timeout(WAIT, so).await;
    assert!(done.is_ok(), "{what}: {:#?}", seen.lock().unwrap());
}

async fn changes_of_the_workers_are_pushed(middleware: Middleware) {
    let Some((mut cluster, _standby)) = Cluster::start_pair(middleware, 1) else { return };
    let client = cluster.client().await;
    cluster.ready(&client, 1).await;
    let seen: Arc<Mutex<Vec<WorkerStatus>>> = Arc::default();
    let (told, watcher) = (Arc::clone(&seen), client.clone());
    let watching =
        tokio::spawn(async move { watcher.watch(|workers| *told.lock().unwrap() = workers.to_vec()).await });
    let ready =
        |workers: &[WorkerStatus]| workers.iter().filter(|worker| worker.state == WorkerState::Ready).count();
    pushed(&seen, "the worker that is there", |workers| ready(workers) == 1).await;
    cluster.add_worker(&[]);
    pushed(&seen, "a worker that has come", |workers| ready(workers) == 2).await;
    client.nodes(NodesCommand::Remove { worker: "worker1".to_owned() }).await.unwrap();
    pushed(&seen, "a worker that is removed", |workers| ready(workers) == 1).await;
    seen.lock().unwrap().clear();
    cluster.master.kill();
    pushed(&seen, "the workers of the next master", |workers| ready(workers) >= 1).await;
    assert!(!watching.is_finished(), "the watch goes on");
    watching.abort();
}
on_each_middleware!(changes_of_the_workers_are_pushed);

#[tokio::test(flavor = "multi_thread")]
async fn a_single_master_is_not_superseded() {
    let cluster = Cluster::start(Middleware::Grpc, 0).unwrap();
    let transport = connect(Middleware::Grpc, TransportSettings::default()).await.unwrap();
    let master = Endpoint::Master(cluster.address().to_owned());
    let lead = Lead { term: u64::MAX, incarnation: "Z".to_owned() };
    let request = packet::encode(&Request::Supersede(lead), &[]);
    let mut reply = transport.request(&master, request).await.unwrap();
    let piece = reply.next().await.unwrap().unwrap();
    let (reply, _) = packet::decode::<Reply>(&piece).unwrap();
    assert!(
        matches!(&reply, Reply::Failed(failure) if failure.code == FailureCode::Refused && failure.message.contains("--standby")),
        "{reply:?}"
    );
    cluster.client().await.nodes(NodesCommand::List).await.unwrap();
}

#[test]
fn a_pair_without_the_address_of_the_other_master_is_refused() {
    let refused = |arguments: &[&str], word: &str| {
        let mut command = std::process::Command::new(testkit::program("dataframe-master"));
        command.args(["--listen", "127.0.0.1:0", "--standby"]).args(arguments);
        let output = command.output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && told.contains(word), "{output:?}");
    };
    refused(&[], "--peer HOST:PORT");
    refused(
        &["--middleware", "redis", "--broker", "redis://127.0.0.1:1", "--peer", "a:1"],
        "leave --peer out",
    );
}
