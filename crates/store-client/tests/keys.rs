//! `store-client key` makes files that the programs accept.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use cluster_key::{KeyHolder, KeyPurpose, Keyring};
use testkit::program;

fn key(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(program("store-client")).arg("key").args(arguments).current_dir(folder).output().unwrap()
}

#[test]
fn keys_of_the_cluster_and_of_its_clients_fit_each_other() {
    let folder = tempfile::tempdir().unwrap();
    assert!(key(folder.path(), &["new", "cluster.key"]).status.success());
    assert!(key(folder.path(), &["client", "--from", "cluster.key", "client.key"]).status.success());
    for name in ["cluster.key", "client.key"] {
        let mode = folder.path().join(name).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let keys = |name, holder| Keyring::open(&folder.path().join(name), holder).unwrap().keys();
    let (cluster, client) = (keys("cluster.key", KeyHolder::Cluster), keys("client.key", KeyHolder::Client));
    assert_eq!(cluster.of(KeyPurpose::Client), client.of(KeyPurpose::Client));
    let printed = key(folder.path(), &["client", "--from", "cluster.key"]).stdout;
    assert_eq!(printed, std::fs::read(folder.path().join("client.key")).unwrap());
    let (one, other) = (key(folder.path(), &["new"]).stdout, key(folder.path(), &["new"]).stdout);
    assert!(one.len() == 65 && one != other);
}

#[test]
fn a_key_that_exists_is_not_overwritten_and_a_clients_file_makes_no_further_one() {
    let folder = tempfile::tempdir().unwrap();
    assert!(key(folder.path(), &["new", "cluster.key"]).status.success());
    let again = key(folder.path(), &["new", "cluster.key"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&again.stderr).contains("cannot write cluster.key: File exists"),
        "{again:?}"
    );
    assert!(key(folder.path(), &["client", "--from", "cluster.key", "client.key"]).status.success());
    let wrong = key(folder.path(), &["client", "--from", "client.key"]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&wrong.stderr).contains("give the file of the cluster's keys"),
        "{wrong:?}"
    );
}
