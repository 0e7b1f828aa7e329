//! A bucket of an S3 in memory.
//!
//! The settings of S3 come from the environment. So the suite runs in a process of its own, which has them.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ::brokers::S3Server;
use async_trait::async_trait;
use middleware::brokered::BrokerSettings;
use middleware::objectstore::ObjectStoreTransport;
use middleware::{Endpoint, SharedTransport};

use super::faults::BrokerSetup;
use crate::answering::Answering;
use crate::conformance::{Setup, ask, eventually, until};

/// Tells the tests of this file that the environment has the settings of an S3.
const HAS_S3: &str = "MIDDLEWARE_TEST_S3";
/// A secret that is not the server's.
const OTHER_SECRET: &str = "another-secret";

/// The tests of this module in a process whose environment has the settings of this S3, and some others.
async fn run_cases(server: &S3Server, others: &[(&str, &str)], cases: &str) -> (bool, String) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([&format!("brokers::s3::{cases}"), "--nocapture", "--test-threads", "4"]);
    command.env(HAS_S3, "yes").envs(server.environment()).envs(others.iter().copied());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_whole_suite_holds_over_s3() {
    let server = S3Server::start();
    let (success, told) = run_cases(&server, &[], "cases::").await;
    assert!(success && told.contains("18 passed"), "{told}");
    let (puts, if_absent) = (server.puts(), server.puts_if_absent());
    assert!(puts > 1000 && if_absent > 300, "{puts} objects were put, {if_absent} of them if absent");
    assert_eq!(server.refused(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_key_and_a_wrong_secret_are_refused() {
    let server = S3Server::start();
    for other in [("AWS_ACCESS_KEY_ID", "another-key"), ("AWS_SECRET_ACCESS_KEY", OTHER_SECRET)] {
        let before = server.refused();
        let (success, told) = run_cases(&server, &[other], "refused::").await;
        assert!(success && told.contains("1 passed"), "{other:?}: {told}");
        assert!(server.refused() > before, "{other:?}: nothing was refused");
    }
    assert_eq!(server.puts(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_s3_that_is_away_is_waited_for() {
    let server = Arc::new(S3Server::start());
    let away = Arc::clone(&server);
    let switching = tokio::spawn(async move {
        until(|| away.puts() >= 50, "requests go on").await;
        away.set_away(true);
        until(|| away.failed() >= 20, "requests fail").await;
        away.set_away(false);
    });
    let (success, told) = run_cases(&server, &[], "away::").await;
    assert!(success && told.contains("1 passed"), "{told}");
    assert!(switching.is_finished(), "the S3 was to be away meanwhile");
}

struct S3Setup(String);

fn setup() -> Option<S3Setup> {
    static CLUSTERS: AtomicUsize = AtomicUsize::new(0);
    std::env::var_os(HAS_S3)?;
    let cluster = CLUSTERS.fetch_add(1, Ordering::SeqCst);
    Some(S3Setup(format!("s3://{}/a/prefix/{}-{cluster}", S3Server::BUCKET, std::process::id())))
}

#[async_trait]
impl Setup for S3Setup {
    async fn transport(&self) -> SharedTransport {
        Arc::new(ObjectStoreTransport::new(&self.0, None, super::quick("test".to_owned())).unwrap())
    }
}

impl BrokerSetup for S3Setup {
    fn words(&self) -> [String; 3] {
        ["objectstore".to_owned(), self.0.clone(), "test".to_owned()]
    }
}

mod cases {
    use super::setup;

    conformance!(setup());
    broker_faults!(setup());
}

mod refused {
    use super::*;

    #[tokio::test]
    async fn a_transport_says_so_at_once() {
        let Some(setup) = setup() else { return };
        let settings = BrokerSettings { patience: Duration::from_secs(600), ..BrokerSettings::default() };
        let transport: SharedTransport =
            Arc::new(ObjectStoreTransport::new(&setup.0, None, settings).unwrap());
        let refused = transport.serve(&Endpoint::AnyWorker, 1).await.err().expect("the key is wrong");
        let told = refused.to_string();
        assert!(![S3Server::SECRET, OTHER_SECRET].iter().any(|secret| told.contains(secret)), "{told}");
        let refused = ask(&transport, &Endpoint::AnyWorker, "echo").await.unwrap_err();
        assert!(refused.to_string().contains("s3://cluster"), "{refused}");
    }
}

mod away {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn requests_go_on() {
        let Some(setup) = setup() else { return };
        let (transport, asker) = (setup.transport().await, setup.transport().await);
        let endpoint = Endpoint::AnyWorker;
        let _server = Answering::start(transport.serve(&endpoint, 4).await.unwrap(), &endpoint);
        for number in 0..100 {
            let text = number.to_string();
            assert_eq!(eventually(&asker, &endpoint, &format!("echo {text}")).await, [text]);
        }
    }
}
