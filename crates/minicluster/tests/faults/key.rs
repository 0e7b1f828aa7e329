//! A store with a key: it is replaced under load, those without it get nothing, and their datagrams drown nobody.

use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use cluster_key::{ClusterKey, file};
use service::net::{Datagrams as _, Network as _, Sockets};
use testkit::wait_for;

use crate::heartbeat_file;
use crate::processes::{StoreProcesses, StoreSettings, outcome};

/// Replaces a file of keys, as an administrator does: whoever reads it sees the old keys or the new ones.
fn write(folder: &Path, name: &str, lines: &str) {
    let new = folder.join(format!("{name}.new"));
    file::create(&new, lines).unwrap();
    fs::rename(new, folder.join(name)).unwrap();
}

fn write_cluster(folder: &Path, keys: &[&ClusterKey]) {
    write(folder, "cluster.key", &keys.iter().map(|key| file::cluster_line(key)).collect::<String>());
}

fn write_client(folder: &Path, key: &ClusterKey) {
    write(folder, "client.key", &file::client_lines(std::slice::from_ref(key)));
}

fn start(folder: &Path, settings: StoreSettings) -> (StoreProcesses, ClusterKey) {
    let key = ClusterKey::generate().unwrap();
    write_cluster(folder, &[&key]);
    write_client(folder, &key);
    (StoreProcesses::start(folder, settings), key)
}

#[test]
fn a_key_is_replaced_under_load_without_a_failed_put() {
    let folder = tempfile::tempdir().unwrap();
    let (store, old) = start(folder.path(), StoreSettings::default());
    let new = ClusterKey::generate().unwrap();
    let mut child =
        store.client("load", &["put", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let (ends, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (is_over, count) = (ends.clone(), sent.clone());
    let feeding = thread::spawn(move || {
        while !is_over.load(Ordering::Relaxed) {
            writeln!(input, "mensaje {}", count.fetch_add(1, Ordering::Relaxed)).unwrap();
            thread::sleep(Duration::from_millis(1));
        }
    });
    let receipts = folder.path().join("load/registro_cliente.txt");
    let saved = || fs::read_to_string(&receipts).unwrap_or_default().lines().count();
    // Each step is on all machines before the next one begins, and messages are saved meanwhile.
    let changed = |times: usize| {
        let before = saved();
        wait_for("the changed keys", || {
            let programs = std::iter::once(&store.headnode).chain(&store.datanodes);
            programs.into_iter().all(|program| program.events("the keys have changed").len() >= times)
        });
        wait_for("messages that are saved", || saved() > before + 10);
    };
    wait_for("messages with the old key", || saved() > 10);
    write_cluster(folder.path(), &[&old, &new]);
    changed(1);
    write_cluster(folder.path(), &[&new, &old]);
    changed(2);
    let old_client = fs::read_to_string(folder.path().join("client.key")).unwrap();
    write_client(folder.path(), &new);
    write_cluster(folder.path(), &[&new]);
    changed(3);
    ends.store(true, Ordering::Relaxed);
    feeding.join().unwrap();
    let (is_good, _, log) = outcome(child);
    assert!(is_good, "{log}");
    assert_eq!(saved() as u64, sent.load(Ordering::Relaxed), "each message has a receipt");
    store.wait_until_available(3);
    // Whoever still has the old key learns why it gets nothing, and what to do.
    write(folder.path(), "client.key", &old_client);
    let refused = outcome(store.client("old", &["status"]).spawn().unwrap());
    assert!(!refused.0, "{refused:?}");
    for part in ["does not accept the key", "store-client key client --from"] {
        assert!(refused.2.contains(part), "{}", refused.2);
    }
    store.stop();
}

#[test]
fn without_the_key_nothing_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = start(folder.path(), StoreSettings::default());
    let mut client = store.connect();
    client.send("hola\n");
    let reply = client.reply();
    assert!(
        reply.contains(r#""code":"key-required""#) && reply.contains("store-client --key-file"),
        "{reply}"
    );
    fs::remove_file(folder.path().join("client.key")).unwrap();
    let (is_good, _, log) = outcome(store.client("plain", &["put", "hola"]).spawn().unwrap());
    assert!(!is_good && log.contains("use store-client --key-file"), "{log}");
    store.headnode.logged("connections that show no accepted key: refused");
}

#[test]
fn junk_drowns_no_datanode() {
    let folder = tempfile::tempdir().unwrap();
    // The rounds are long enough for the replies on the links, whatever the flood leaves of the processors.
    let settings = StoreSettings { interval: "2s", store_timeout: "2s", ..StoreSettings::default() };
    let (store, _) = start(folder.path(), settings);
    let group = store.group.address;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // The address of the headnode is no secret: its probes come from there.
    let headnode = runtime.block_on(async {
        let member = Sockets.member(group, &"127.0.0.1".parse().unwrap()).await.unwrap();
        member.receive(&mut [0; 1500]).await.unwrap().1
    });
    let rounds = || heartbeat_file(&store).lines().filter(|line| line.contains(" operativos=")).count();
    let (before, since) = (rounds(), heartbeat_file(&store).len());
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut sent = 0u64;
    while rounds() < before + 4 {
        for _ in 0..100 {
            // A full buffer of the system is what the flood is for.
            sent += u64::from(socket.send_to(&[7; 100], headnode).is_ok());
            sent += u64::from(socket.send_to(&[7; 100], group).is_ok());
        }
        thread::sleep(Duration::from_millis(5));
    }
    let file = heartbeat_file(&store);
    assert!(!file[since..].contains("no operativo"), "{sent} datagrams of others: {}", &file[since..]);
    store.headnode.logged("datagrams that are no answer, or to no probe of this round: dropped");
    assert_eq!(store.available(), 3);
}
