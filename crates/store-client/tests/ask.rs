//! Tests `store-client get`, `list`, `status` and `completions` as a process, against a headnode that does what the test
//! says.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::net::{Ipv4Addr, SocketAddr};

use protocol::store::client_api::{
    CheckedMessage, ClientRequest, ErrorCode, FsckPage, FsckVerdict, HeadnodeReply, NodeState, NodeStatus,
    RegistryEntry, StoreStatus,
};
use protocol::store::types::{Id, MessageCrc};
use serde_json::Value;
use socket2::{Domain, Socket, Type};

use support::{Do, ScriptedHeadnode, client, ends_with, error, line, text};

const TIME: &str = "2026-11-21T09:30:00.123Z";

fn id(number: u64) -> Id {
    Id::from_parts(number, 1)
}

fn record(message: &str) -> HeadnodeReply {
    HeadnodeReply::Record {
        id: id(7),
        time: TIME.to_owned(),
        client: "172.21.0.3:40522".parse().unwrap(),
        message: message.to_owned(),
        from: "datanode2:17".parse().unwrap(),
    }
}

fn entry(number: u64) -> RegistryEntry {
    RegistryEntry {
        time: TIME.to_owned(),
        id: id(number),
        client: "172.21.0.3:40522".parse().unwrap(),
        places: vec!["datanode2:17".parse().unwrap(), "datanode3:4".parse().unwrap()],
        message_crc32c: MessageCrc::of("Hola"),
        // An older headnode wrote every second line.
        beginning: (!number.is_multiple_of(2)).then(|| "Hola\u{1b}".to_owned()),
    }
}

fn json_lines(output: &std::process::Output) -> Vec<Value> {
    text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn get_prints_the_message_byte_for_byte_or_its_record() {
    let message = "Hola\n\u{1b}[31m\0 \"ñ\"";
    let headnode = ScriptedHeadnode::start(move |asked| {
        assert_eq!(asked.request, ClientRequest::Get { id: id(7) });
        Do::Say(record(message))
    });
    let folder = tempfile::tempdir().unwrap();
    let wanted = id(7).to_string();
    let output = headnode.run(folder.path(), &["get", &wanted]);
    ends_with(&output, 0, &[]);
    assert_eq!(text(&output.stdout), format!("{message}\n"));

    let output = headnode.run(folder.path(), &["get", &wanted, "--json"]);
    ends_with(&output, 0, &[]);
    let found = &json_lines(&output)[0];
    assert_eq!(found["message"], message);
    assert_eq!(found["id"], wanted);
    assert_eq!(found["from"]["datanode"], "datanode2");
    assert!(!folder.path().join("registro_cliente.txt").exists(), "reading needs no receipts");
}

#[test]
fn the_longest_message_comes_back() {
    let message = "\u{1}".repeat(64 * 1024);
    let reply = record(&message);
    let headnode = ScriptedHeadnode::start(move |_| Do::Say(reply.clone()));
    let folder = tempfile::tempdir().unwrap();
    let output = headnode.run(folder.path(), &["get", &id(7).to_string()]);
    ends_with(&output, 0, &[]);
    assert!(text(&output.stdout) == format!("{message}\n"));
}

#[test]
fn what_the_headnode_refuses_is_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    for (code, name) in [
        (ErrorCode::NotFound, "not-found"),
        (ErrorCode::Damaged, "damaged"),
        (ErrorCode::Unavailable, "unavailable"),
        (ErrorCode::Lost, "lost"),
    ] {
        let headnode = ScriptedHeadnode::start(move |_| Do::Say(error(Some(id(7)), code)));
        let output = headnode.run(folder.path(), &["get", &id(7).to_string()]);
        ends_with(&output, 1, &[&format!("the reason why ({name})")]);
        assert_eq!(headnode.asked().len(), 1);
        assert_eq!(text(&output.stdout), "");
    }
}

#[test]
fn a_broken_connection_is_made_again_until_the_wait_is_over() {
    let folder = tempfile::tempdir().unwrap();
    let headnode = ScriptedHeadnode::start(|asked| match asked.connection {
        0 => Do::Close,
        1 => Do::SayAndClose(line(&error(None, ErrorCode::TooManyConnections))),
        2 => Do::Nothing,
        _ => Do::Say(record("Hola")),
    });
    let output = headnode.run(folder.path(), &["get", &id(7).to_string(), "--reply-timeout", "100ms"]);
    ends_with(&output, 0, &[]);
    assert_eq!(text(&output.stdout), "Hola\n");
    assert_eq!(headnode.asked().len(), 4);

    let closed = ScriptedHeadnode::start(|_| Do::Close);
    let output = closed.run(folder.path(), &["status", "--wait", "150ms"]);
    ends_with(&output, 1, &["within 150ms", "closed", "set --headnode"]);
}

#[test]
fn something_else_than_a_headnode_is_recognized() {
    let folder = tempfile::tempdir().unwrap();
    let headnode = ScriptedHeadnode::start(|_| Do::SayAndClose(b"HTTP/1.1 400 Bad Request\r\n".to_vec()));
    ends_with(&headnode.run(folder.path(), &["status"]), 1, &["what answers is no headnode"]);
    let headnode = ScriptedHeadnode::start(|_| Do::Say(record("Hola")));
    ends_with(&headnode.run(folder.path(), &["status"]), 1, &["the headnode answered something else"]);
}

#[test]
fn list_asks_for_page_after_page() {
    // 1203 messages, the newest first; the mark is the number of the last one shown.
    let headnode = ScriptedHeadnode::start(|asked| {
        let ClientRequest::List { last, before } = &asked.request else { panic!("{asked:?}") };
        assert!(*last <= 500, "{last}");
        let newest = before.unwrap_or(1204) - 1;
        let oldest = newest.saturating_sub(*last as u64);
        let entries = (oldest + 1..=newest).rev().map(entry).collect();
        Do::Say(HeadnodeReply::Messages { entries, before: (oldest > 0).then_some(oldest + 1) })
    });
    let folder = tempfile::tempdir().unwrap();
    let output = headnode.run(folder.path(), &["list", "--last", "2000", "--json"]);
    ends_with(&output, 0, &[]);
    let listed: Vec<_> = json_lines(&output).iter().map(|entry| entry["id"].clone()).collect();
    let expected: Vec<_> = (1..=1203).rev().map(|number| Value::from(id(number).to_string())).collect();
    assert_eq!(listed, expected);
    assert_eq!(headnode.asked().len(), 3);

    let output = headnode.run(folder.path(), &["list"]);
    ends_with(&output, 0, &[]);
    let lines = text(&output.stdout);
    assert_eq!(lines.lines().count(), 10);
    let line = |number| format!("{TIME} {} datanode2:17,datanode3:4 172.21.0.3:40522", id(number));
    let newest = format!("{} \"Hola\\u001b\"", line(1203));
    assert_eq!(lines.lines().take(2).collect::<Vec<_>>(), [newest, line(1202)]);
    let output = headnode.run(folder.path(), &["list", "--last", "0"]);
    ends_with(&output, 0, &[]);
    assert_eq!(text(&output.stdout), "");
}

#[test]
fn status_is_a_table_or_json() {
    let node = NodeStatus {
        name: "datanode2".parse().unwrap(),
        state: NodeState::Operative,
        address: Some("172.20.0.3:5001".parse().unwrap()),
        lost: 0,
        records: 17,
        free_bytes: 1 << 30,
        last_answer: Some(TIME.to_owned()),
        round_trip_us: 412,
        cause: None,
        draining: false,
    };
    let status = StoreStatus {
        datanodes: vec![node],
        operative: 1,
        available: 0,
        expected: 3,
        replicas: 2,
        messages: 9,
        round: 7,
        epoch: None,
    };
    let headnode = ScriptedHeadnode::start(move |_| Do::Say(HeadnodeReply::Status(status.clone())));
    let folder = tempfile::tempdir().unwrap();
    let output = headnode.run(folder.path(), &["status"]);
    ends_with(&output, 0, &[]);
    let table = text(&output.stdout);
    for part in ["datanode2", "operativo", "172.20.0.3:5001", "1.00 GiB", TIME, "412.0µs"] {
        assert!(table.contains(part), "{part} is not in: {table}");
    }
    assert!(
        table.ends_with("\n1 de 3 operativos, 0 disponibles, 9 mensajes, réplicas 2, ronda 7\n"),
        "{table}"
    );
    let output = headnode.run(folder.path(), &["status", "--json"]);
    ends_with(&output, 0, &[]);
    assert_eq!(json_lines(&output)[0]["datanodes"][0]["state"], "operative");
}

#[test]
fn ready_is_a_matter_of_available_datanodes_and_replicas() {
    let folder = tempfile::tempdir().unwrap();
    let with_replicas = |replicas| {
        let (datanodes, operative, available, expected) = (Vec::new(), 2, 1, 3);
        let status = StoreStatus {
            datanodes,
            operative,
            available,
            expected,
            replicas,
            messages: 9,
            round: 7,
            epoch: None,
        };
        ScriptedHeadnode::start(move |_| Do::Say(HeadnodeReply::Status(status.clone())))
    };
    let output = with_replicas(1).run(folder.path(), &["status", "--ready"]);
    ends_with(&output, 0, &[]);
    assert_eq!(text(&output.stdout), "2 de 3 operativos; se guardan mensajes\n");

    let output = with_replicas(2).run(folder.path(), &["status", "--ready"]);
    let why = "messages cannot be stored now: available datanodes: 1, needed for each message: 2";
    ends_with(&output, 1, &[why]);
    assert_eq!((text(&output.stdout).as_str(), text(&output.stderr).lines().count()), ("", 1));
}

#[test]
fn ready_does_not_wait_for_a_headnode() {
    let folder = tempfile::tempdir().unwrap();
    let closed = ScriptedHeadnode::start(|_| Do::Close);
    let silent = ScriptedHeadnode::start(|_| Do::Nothing);
    // A port at which nobody listens, and that nobody else gets while the test has it.
    let bound = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    bound.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    let nobody = bound.local_addr().unwrap().as_socket().unwrap();
    for (address, told) in
        [(closed.address, "closed"), (silent.address, "no reply for 200ms"), (nobody, "refused")]
    {
        let mut ready = client(folder.path());
        ready.args(["--headnode", &address.to_string(), "status", "--ready", "--reply-timeout", "200ms"]);
        let output = ready.output().unwrap();
        ends_with(&output, 1, &[&format!("no answer from {address}: "), told]);
        assert_eq!((text(&output.stdout).as_str(), text(&output.stderr).lines().count()), ("", 1));
    }
    assert_eq!((closed.asked().len(), silent.asked().len()), (1, 1));
}

#[test]
fn completions_name_the_subcommands() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let output = client(folder.path()).args(["completions", shell]).output().unwrap();
        ends_with(&output, 0, &[]);
        assert!(text(&output.stdout).contains("verify"), "{shell}");
    }
}

#[test]
fn fsck_asks_for_page_after_page_and_tells_all_that_is_not_healthy() {
    let message = |number, verdict| CheckedMessage {
        id: id(number),
        verdict,
        places: vec!["datanode1:7".parse().unwrap()],
        damaged: if verdict == FsckVerdict::Damaged {
            vec!["datanode2:9".parse().unwrap()]
        } else {
            Vec::new()
        },
    };
    let pages = move |from| match from {
        0 => FsckPage {
            healthy: 98,
            others: vec![message(1, FsckVerdict::Extra)],
            messages: 101,
            next: Some(50),
        },
        _ => {
            FsckPage { healthy: 1, others: vec![message(2, FsckVerdict::Damaged)], messages: 102, next: None }
        }
    };
    let headnode = ScriptedHeadnode::start(move |asked| match asked.request {
        ClientRequest::Fsck { deep: true, from } => Do::Say(HeadnodeReply::Fsck(pages(from))),
        _ => Do::Close,
    });
    let folder = tempfile::tempdir().unwrap();
    let output = headnode.run(folder.path(), &["fsck", "--deep"]);
    ends_with(&output, 1, &["messages with problems: 1"]);
    let printed = text(&output.stdout);
    let lines: Vec<_> = printed.lines().collect();
    assert_eq!(lines[0], format!("extra {} datanode1:7", id(1)));
    assert_eq!(lines[1], format!("damaged {} datanode1:7 damaged=datanode2:9", id(2)));
    assert!(lines[2].starts_with("99 sanos, 1 con copias de más, 0 sin comparar, 0 con"), "{}", lines[2]);
    let output = headnode.run(folder.path(), &["fsck", "--deep", "--json"]);
    ends_with(&output, 1, &[]);
    assert_eq!(json_lines(&output)[1]["verdict"], "damaged");
    assert_eq!(json_lines(&output)[2]["under-replicated"], 0);

    // More messages are registered than the pages have.
    let headnode = ScriptedHeadnode::start(|_| {
        Do::Say(HeadnodeReply::Fsck(FsckPage { healthy: 5, messages: 7, ..FsckPage::default() }))
    });
    let output = headnode.run(folder.path(), &["fsck", "--json"]);
    ends_with(&output, 1, &["messages with problems: 2"]);
    assert_eq!(json_lines(&output)[0]["unreadable"], 2);
    let headnode = ScriptedHeadnode::start(|_| {
        Do::Say(HeadnodeReply::Fsck(FsckPage { healthy: 5, messages: 5, ..FsckPage::default() }))
    });
    ends_with(&headnode.run(folder.path(), &["fsck"]), 0, &[]);
}

#[test]
fn drain_asks_until_the_messages_are_elsewhere() {
    let datanode = || "datanode2".parse().unwrap();
    let headnode = ScriptedHeadnode::start(move |asked| {
        Do::Say(match asked.number {
            0 => HeadnodeReply::Draining { datanode: datanode(), left: None },
            1 => HeadnodeReply::Draining { datanode: datanode(), left: Some(12) },
            _ => HeadnodeReply::Drained { datanode: datanode() },
        })
    });
    let folder = tempfile::tempdir().unwrap();
    let output = headnode.run(folder.path(), &["datanode", "drain", "datanode2"]);
    ends_with(&output, 0, &[]);
    let printed = text(&output.stdout);
    assert_eq!(
        printed,
        "datanode2: faltan 12 mensajes\ndatanode2: drained, sus mensajes están en otros datanodes\n"
    );
    assert_eq!(headnode.asked()[0].request, ClientRequest::Drain { datanode: datanode(), undo: false });

    let headnode = ScriptedHeadnode::start(|_| Do::Say(error(None, ErrorCode::WouldLose)));
    let output = headnode.run(folder.path(), &["datanode", "forget", "datanode2"]);
    ends_with(&output, 1, &["the reason why (would-lose)"]);
    let headnode =
        ScriptedHeadnode::start(move |_| Do::Say(HeadnodeReply::Forgotten { datanode: datanode(), lost: 3 }));
    let output = headnode.run(folder.path(), &["datanode", "forget", "datanode2", "--accept-loss"]);
    ends_with(&output, 0, &[]);
    assert!(text(&output.stdout).contains("mensajes perdidos: 3"));
    assert_eq!(
        headnode.asked()[0].request,
        ClientRequest::Forget { datanode: datanode(), accept_loss: true }
    );
}
