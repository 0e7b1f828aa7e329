//! Tests real programs under one fault at a time.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../common/mod.rs"]
mod common;
mod key;
mod lost;
mod memory;
mod plain;
#[path = "../processes/mod.rs"]
mod processes;
mod proxy;

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use common::StoreFiles;
use processes::{StoreProcesses, StoreSettings, add_datanode_flags, datanode, outcome};
use proxy::{DatanodeProxy, LOSE_CONFIRMATIONS, PASS, SILENT};
use records::parse_receipt;
use serde_json::{Value, json};
use service::net::LocalGroup;
use socket2::{Domain, Socket, Type};
use testkit::{Process, Signal, program, wait_for};

fn put(message: &str) -> Value {
    json!({"put": {"message": message}})
}

fn places(reply: &Value) -> Vec<String> {
    let places = reply["saved"]["places"].as_array().unwrap_or_else(|| panic!("not saved: {reply}"));
    places.iter().map(|place| place["datanode"].as_str().unwrap().to_owned()).collect()
}

fn heartbeat_file(store: &StoreProcesses) -> String {
    std::fs::read_to_string(store.folder.join("headnode/hearbeat_server.txt")).unwrap()
}

/// Starts a store whose last datanode is behind a proxy, with `others` datanodes before it.
fn with_proxy(
    folder: &std::path::Path,
    others: usize,
    settings: StoreSettings,
) -> (StoreProcesses, DatanodeProxy) {
    let proxy = DatanodeProxy::start();
    let mut store = StoreProcesses::start(folder, StoreSettings { datanodes: others, ..settings });
    let name = format!("datanode{}", others + 1);
    let mut command = datanode(&folder.join(&name), &store.group, &name);
    command.args(["--advertise", &proxy.address.to_string()]);
    let process = Process::start(command);
    proxy.point_to(process.address);
    store.datanodes.push(process);
    store.wait_until_available(others + 1);
    (store, proxy)
}

#[test]
fn a_killed_datanode_is_suspect_within_100_ms_and_comes_back_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = StoreProcesses::start(folder.path(), StoreSettings::default());
    let mut client = store.connect();
    client.ask(&put("before"));
    store.datanodes[1].signal(Signal::SIGKILL);
    let killed = Utc::now();
    wait_for("the suspicion", || store.available() == 2);
    store.headnode.logged("connection broken: nothing is sent to this datanode");
    let suspicion = &store.headnode.events("connection broken: nothing is sent to this datanode")[0];
    assert_eq!(suspicion["datanode"], "datanode2", "{suspicion}");
    let time: DateTime<Utc> = suspicion["timestamp"].as_str().unwrap().parse().unwrap();
    assert!((time - killed).num_milliseconds() < 100, "{}", time - killed);
    for number in 0..30 {
        let reply = client.ask(&put(&format!("meanwhile {number}")));
        assert_ne!(places(&reply), ["datanode2"], "{reply}");
    }
    wait_for("the round that it misses", || heartbeat_file(&store).contains("no operativo rtt=- CAMBIO"));
    store.restart_datanode(2);
    store.wait_until_available(3);
    wait_for("messages there again", || places(&client.ask(&put("again"))) == ["datanode2"]);
    wait_for("the change in the file", || {
        heartbeat_file(&store)
            .lines()
            .filter(|line| line.contains("datanode2") && line.ends_with("CAMBIO"))
            .count()
            == 3
    });
}

#[test]
fn messages_are_spread_uniformly() {
    let folder = tempfile::tempdir().unwrap();
    let store = StoreProcesses::start(folder.path(), StoreSettings::default());
    let mut client = store.connect();
    let mut counts = [0.0; 3];
    let total = 3000;
    for number in 0..total {
        client.send(format!("{}\n", put(&number.to_string())));
    }
    for _ in 0..total {
        let reply: Value = serde_json::from_str(&client.reply()).unwrap();
        let name = &places(&reply)[0];
        counts[usize::from(name.as_bytes()[8] - b'1')] += 1.0;
    }
    // Chi-squared with two degrees of freedom: beyond 20.7 in 1 of 30,000 runs.
    let expected = f64::from(total) / 3.0;
    let chi_squared: f64 = counts.iter().map(|count| (count - expected).powi(2) / expected).sum();
    assert!(chi_squared < 20.7, "{counts:?}");
}

#[test]
fn a_lost_confirmation_is_made_up_for_and_told_in_the_registry() {
    let folder = tempfile::tempdir().unwrap();
    let (store, proxy) = with_proxy(folder.path(), 1, StoreSettings::default());
    proxy.set(LOSE_CONFIRMATIONS);
    let mut client = store.connect();
    let mut sent = Vec::new();
    while proxy.faults() == 0 {
        let message = format!("message {}", sent.len());
        assert_eq!(places(&client.ask(&put(&message))), ["datanode1"], "the other one never confirmed");
        sent.push(message);
    }
    proxy.set(PASS);
    store.wait_until_available(2);
    let list = client.ask(&json!({"list": {"last": 1}}));
    let newest = &list["messages"]["entries"][0];
    let mut named: Vec<_> = newest["places"]
        .as_array()
        .unwrap()
        .iter()
        .map(|place| place["datanode"].as_str().unwrap())
        .collect();
    named.sort_unstable();
    assert_eq!(named, ["datanode1", "datanode2"], "{newest}");
    assert_eq!(client.ask(&json!({"get": {"id": newest["id"]}}))["record"]["message"], *sent.last().unwrap());
}

#[test]
fn a_datanode_that_accepts_and_never_answers_is_given_up_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let (store, proxy) = with_proxy(folder.path(), 1, StoreSettings::default());
    proxy.set(SILENT);
    let mut client = store.connect();
    let started = Instant::now();
    while proxy.faults() == 0 {
        assert_eq!(places(&client.ask(&put("message"))), ["datanode1"]);
    }
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    wait_for("the suspicion", || store.available() == 1);
    wait_for("the reason in the log", || {
        let broken = store.headnode.events("connection broken: nothing is sent to this datanode");
        broken.iter().any(|event| event["reason"] == "no reply within 300ms")
    });
    // It goes on answering the heartbeat, and is still not used.
    for _ in 0..20 {
        assert_eq!(places(&client.ask(&put("message"))), ["datanode1"]);
    }
    proxy.set(PASS);
    store.wait_until_available(2);
}

#[test]
fn with_no_operative_datanode_the_client_fails_and_records_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut store =
        StoreProcesses::start(folder.path(), StoreSettings { datanodes: 1, ..StoreSettings::default() });
    store.datanodes[0].kill();
    let client = store.client("client", &["--wait", "1s", "put", "a message"]).spawn().unwrap();
    let (well, printed, logged) = outcome(client);
    assert!(!well && printed.is_empty(), "{printed}");
    assert!(logged.contains("no datanode is available"), "{logged}");
    let receipts = std::fs::read_to_string(folder.path().join("client/registro_cliente.txt")).unwrap();
    assert_eq!(receipts, "");
    // It comes back while a client waits.
    let client = store.client("client", &["put", "another"]).spawn().unwrap();
    store.restart_datanode(1);
    let (well, printed, logged) = outcome(client);
    assert!(well && printed.contains("guardado en datanode1 (registro 1)"), "{printed}{logged}");
}

#[test]
fn a_full_disk_at_one_datanode_is_avoided_and_at_all_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut store =
        StoreProcesses::start(folder.path(), StoreSettings { datanodes: 1, ..StoreSettings::default() });
    store.datanodes.push(Process::start({
        // A limit on the size of files; ignoring the signal makes writes fail as on a full disk.
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' XFSZ; ulimit -f 16; exec \"$@\"", "sh"]).arg(program("datanode"));
        add_datanode_flags(&mut command, &folder.path().join("datanode2"), &store.group, "datanode2");
        command
    }));
    store.wait_until_available(2);
    let mut client = store.connect();
    let text = "x".repeat(1000);
    let mut acknowledged = 0;
    while store.headnode.events("not stored there").is_empty() {
        places(&client.ask(&put(&text)));
        acknowledged += 1;
        assert!(acknowledged < 1000, "the disk never filled up");
    }
    store.datanodes[0].signal(Signal::SIGKILL);
    wait_for("the loss of the other one", || store.available() == 1);
    let error = client.ask(&put(&text));
    assert_eq!(error["error"]["code"], "disk-full", "{error}");
    assert!(error["error"]["reason"].as_str().unwrap().contains("space"), "{error}");
    store.restart_datanode(1);
    store.wait_until_available(2);
    assert_eq!(places(&client.ask(&put(&text))), ["datanode1"]);
}

#[test]
fn of_two_datanodes_with_one_name_the_second_is_refused_at_both_ends() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = StoreProcesses::start(folder.path(), StoreSettings::default());
    let second = Process::start(datanode(&folder.path().join("second"), &store.group, "datanode1"));
    second.logged("the headnode refuses this datanode");
    store.headnode.logged("datanode refused");
    let refused = &store.headnode.events("datanode refused")[0];
    assert!(refused["reason"].as_str().unwrap().contains("another datanode named datanode1"), "{refused}");
    let mut client = store.connect();
    for number in 0..50 {
        places(&client.ask(&put(&number.to_string())));
    }
    assert_eq!(std::fs::read_to_string(folder.path().join("second/data.txt")).unwrap(), "");
    // When the first one is gone, the second one may have the name.
    store.datanodes[0].kill();
    wait_for("the second to be used", || {
        places(&client.ask(&put("more")));
        !std::fs::read_to_string(folder.path().join("second/data.txt")).unwrap().is_empty()
    });
}

#[test]
fn junk_and_forged_datagrams_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = StoreProcesses::start(folder.path(), StoreSettings::default());
    let headnode = headnode_datagrams(&store);
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let forged = json!({"v": 1, "answer": {
        "round": 1, "token": 1, "attempt": 1, "name": "datanode9", "incarnation": "00000000010000000000000002",
        "address": "127.0.0.1:1", "records": 0, "free_bytes": 0,
    }});
    let datagrams = [
        b"junk".to_vec(),
        vec![0xff; 1400],
        vec![b'['; 1200],
        forged.to_string().into_bytes(),
        b"{\"v\":2}".to_vec(),
    ];
    for datagram in datagrams.iter().cycle().take(2000) {
        socket.send_to(datagram, headnode).unwrap();
        let group = SocketAddr::from((Ipv4Addr::LOCALHOST, store.group.address.port()));
        socket.send_to(datagram, group).unwrap();
    }
    wait_for("the junk to be counted", || {
        !store
            .headnode
            .events("datagrams that are no answer, or to no probe of this round: dropped")
            .is_empty()
    });
    let dropped =
        || store.datanodes.iter().any(|node| !node.events("datagrams that are no probe: dropped").is_empty());
    wait_for("a datanode to count it too", dropped);
    let round = |store: &StoreProcesses| {
        store.connect().ask(&json!({"status": {}}))["status"]["round"].as_u64().unwrap()
    };
    let now = round(&store);
    wait_for("further rounds", || round(&store) >= now + 2);
    assert!(!heartbeat_file(&store).contains("datanode9"));
    store.wait_until_available(3);
}

/// Returns the address that the headnode's probes come from.
fn headnode_datagrams(store: &StoreProcesses) -> SocketAddr {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&SocketAddr::from((*store.group.address.ip(), store.group.address.port())).into()).unwrap();
    socket.join_multicast_v4(store.group.address.ip(), &Ipv4Addr::LOCALHOST).unwrap();
    let socket = UdpSocket::from(socket);
    socket.set_read_timeout(Some(testkit::PATIENCE)).unwrap();
    let mut buffer = [0; 1500];
    let (length, from) = socket.recv_from(&mut buffer).unwrap();
    assert!(String::from_utf8_lossy(&buffer[..length]).contains("probe"));
    from
}

#[test]
fn any_text_is_kept_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    let store = StoreProcesses::start(folder.path(), StoreSettings::default());
    let mut client = store.connect();
    let longest = "\0".repeat(64 * 1024);
    let messages = [
        "",
        "two\nlines\r\n",
        "\"quotes\" \\ and {\"put\":1}",
        "\0\u{1b}[31m",
        "ñ 🦀 \u{2028}\u{202e}",
        &"x".repeat(64 * 1024),
        &longest,
    ];
    for message in messages {
        let saved = client.ask(&put(message));
        places(&saved);
        let record = client.ask(&json!({"get": {"id": saved["saved"]["id"]}}));
        assert!(record["record"]["message"] == message, "{} came back as {record}", message.len());
    }
    let refused = client.ask(&put(&"x".repeat(64 * 1024 + 1)));
    assert_eq!(refused["error"]["code"], "message-too-long", "{refused}");
    client.send("{");
    client.send(vec![b'x'; 600_000]);
    client.send("\n");
    assert!(client.reply().contains("\"code\":\"message-too-long\""));
    places(&client.ask(&put("and it goes on")));
    store.stop();
    let stored: BTreeSet<_> = StoreFiles::read(folder.path()).messages().into_keys().collect();
    assert!(messages.iter().all(|message| stored.contains(*message)));
}

#[test]
fn with_two_replicas_any_one_datanode_may_be_lost_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let settings = StoreSettings { headnode: vec!["--replicas", "2"], ..StoreSettings::default() };
    let mut store = StoreProcesses::start(folder.path(), settings);
    let mut client = store.connect();
    let ids: Vec<_> = (0..60)
        .map(|number| {
            let saved = client.ask(&put(&format!("message {number}")));
            let named: BTreeSet<_> = places(&saved).into_iter().collect();
            assert_eq!(named.len(), 2, "{saved}");
            saved["saved"]["id"].clone()
        })
        .collect();
    store.datanodes[0].kill();
    std::fs::remove_dir_all(folder.path().join("datanode1")).unwrap();
    wait_for("the loss", || store.available() == 2);
    for (number, id) in ids.iter().enumerate() {
        let record = client.ask(&json!({"get": {"id": id}}));
        assert_eq!(record["record"]["message"], format!("message {number}"), "{record}");
    }
    // One more, and a message cannot be confirmed twice: it is not acknowledged.
    store.datanodes[1].kill();
    wait_for("the second loss", || store.available() == 1);
    let error = client.ask(&put("too few"));
    assert_eq!(error["error"]["code"], "not-enough-datanodes", "{error}");
    // The first one comes back empty, and that is noticed.
    store.restart_datanode(1);
    store.headnode.logged(
        "it does not hold what is registered of it: if its data.txt was lost, restore it from a copy",
    );
}

#[test]
fn a_registry_that_is_lost_is_made_up_from_the_datanodes() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = StoreProcesses::start(folder.path(), StoreSettings::default());
    let mut client = store.connect();
    let ids: Vec<_> =
        (0..100).map(|number| client.ask(&put(&number.to_string()))["saved"]["id"].clone()).collect();
    store.headnode.kill();
    let registry = folder.path().join("headnode/registro_server.txt");
    let whole = std::fs::read_to_string(&registry).unwrap();
    // Its second half, and a part of the line before.
    std::fs::write(&registry, &whole[..whole.len() / 2]).unwrap();
    store.restart_headnode();
    store.wait_until_available(3);
    let mut client = store.connect();
    for (number, id) in ids.iter().enumerate() {
        assert_eq!(client.ask(&json!({"get": {"id": id}}))["record"]["message"], number.to_string());
    }
    assert_eq!(client.ask(&json!({"status": {}}))["status"]["messages"], 100);
    let listed = client.ask(&json!({"list": {"last": 100}}))["messages"]["entries"].clone();
    let beginnings: BTreeSet<_> =
        listed.as_array().unwrap().iter().map(|entry| entry["beginning"].as_str().unwrap()).collect();
    assert_eq!(beginnings.len(), 100, "{listed}");
}

#[test]
fn datanodes_are_found_by_unicast_where_there_is_no_multicast() {
    let folder = tempfile::tempdir().unwrap();
    let group = LocalGroup::reserve().unwrap();
    let elsewhere = LocalGroup::reserve().unwrap();
    let _datanode = Process::start(datanode(&folder.path().join("datanode1"), &group, "datanode1"));
    let headnode = |peers: &[&str], name: &str| {
        let mut command = Command::new(program("headnode"));
        command.args([
            "--interface",
            "127.0.0.1",
            "--listen",
            "127.0.0.1:0",
            "--interval",
            "200ms",
            "--expected",
            "1",
        ]);
        command
            .args(["--group", &elsewhere.address.to_string(), "--data-dir"])
            .arg(folder.path().join(name))
            .args(peers);
        Process::start(command)
    };
    let deaf = headnode(&[], "deaf");
    wait_for("the advice", || format!("{deaf:?}").contains("list the datanodes with --peers"));
    drop(deaf);
    let peer = format!("localhost:{}", group.address.port());
    let headnode = headnode(&["--peers", &peer], "headnode");
    let mut client = testkit::LineClient::connect(headnode.address);
    wait_for("the datanode", || client.ask(&json!({"status": {}}))["status"]["available"] == 1);
    places(&client.ask(&put("found")));
}

#[test]
fn receipts_can_be_verified_without_the_servers() {
    let folder = tempfile::tempdir().unwrap();
    let store = StoreProcesses::start(folder.path(), StoreSettings::default());
    let messages: Vec<_> = (0..50).map(|number| format!("message {number}")).collect();
    let arguments: Vec<_> = std::iter::once("put").chain(messages.iter().map(String::as_str)).collect();
    let (well, _, logged) = outcome(store.client("client", &arguments).spawn().unwrap());
    assert!(well, "{logged}");
    let verify = |store: &StoreProcesses| {
        let receipts = folder.path().join("client/registro_cliente.txt");
        let mut command = store.client("client", &["verify"]);
        command.arg(receipts);
        (1..=3).for_each(|number| {
            command.arg(folder.path().join(format!("datanode{number}/data.txt")));
        });
        outcome(command.spawn().unwrap())
    };
    let (well, printed, _) = verify(&store);
    assert!(well && printed.contains("50 comprobantes, 50 lugares: todo está"), "{printed}");
    let path = folder.path().join("client/registro_cliente.txt");
    let receipts = std::fs::read_to_string(path).unwrap();
    let receipt = parse_receipt(receipts.lines().next().unwrap()).unwrap();
    let data = folder.path().join(receipt.places[0].datanode.as_str()).join("data.txt");
    let text = std::fs::read_to_string(&data).unwrap();
    std::fs::write(&data, text.replacen("message", "massage", 1)).unwrap();
    let (well, printed, _) = verify(&store);
    assert!(!well && printed.lines().any(|line| line.contains(&receipt.places[0].to_string())), "{printed}");
}
