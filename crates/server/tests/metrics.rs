//! What monitors read of a real server, and what its README tells about that.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use support::Server;
use testkit::{exposed_metrics, http_get, listed_metrics, metric, wait_for};

const README: &str = include_str!("../../../actividad1/README.md");

#[test]
fn messages_are_counted_by_what_came_of_them_and_the_readme_lists_all_metrics() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["--metrics", "127.0.0.1:0", "--max-message-bytes", "8", "--log-level", "info"];
    let server = Server::start(folder.path(), &arguments);
    let monitor = server.page();
    let mut client = server.connect();
    client.send(b"Hola\nadios\n\xff\nmuy largo de verdad\n");
    for beginning in ["OK ", "OK ", "ERROR invalid-utf8", "ERROR message-too-long"] {
        let reply = client.reply();
        assert!(reply.starts_with(beginning), "{reply}");
    }
    let (status, answer) = http_get(monitor, "/metrics");
    assert_eq!(status, 200);
    let count = |result: &str| metric(&answer, &format!("server_messages_total{{result=\"{result}\"}}"));
    assert_eq!((count("ok"), count("invalid-utf8"), count("message-too-long")), (2.0, 1.0, 1.0));
    assert_eq!((count("disk-full"), count("storage-failed"), count("idle-timeout")), (0.0, 0.0, 0.0));
    assert_eq!(metric(&answer, "server_logged_bytes_total"), 9.0);
    assert!(metric(&answer, "server_append_duration_seconds_count") >= 1.0);
    assert_eq!(metric(&answer, "server_connections"), 1.0);
    assert_eq!(exposed_metrics(&answer), listed_metrics(README, "server_"));

    drop(client);
    wait_for("the connection to be counted as closed", || {
        metric(&http_get(monitor, "/metrics").1, "server_connections") == 0.0
    });
    assert_eq!(http_get(monitor, "/readyz?verbose"), (200, "[+]log.txt: ok\nok\n".to_owned()));
    assert_eq!(http_get(monitor, "/livez"), (200, "ok\n".to_owned()));
    assert_eq!(http_get(monitor, "/").0, 404, "the server has no page");
}

#[test]
fn without_the_flag_nothing_listens() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &["--log-level", "info"]);
    let listening = std::fs::read_to_string(format!("/proc/{}/net/tcp", server.child.id())).unwrap();
    let sockets = open_sockets(server.child.id());
    // State 0A is LISTEN; the tenth field is the inode.
    let own = listening.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let own = own.filter(|fields| fields[3] == "0A" && sockets.contains(&fields[9].to_owned()));
    assert_eq!(own.count(), 1);
}

/// The inodes of the sockets that a process has open.
fn open_sockets(process: u32) -> Vec<String> {
    let files = std::fs::read_dir(format!("/proc/{process}/fd")).unwrap();
    let links = files.filter_map(|file| std::fs::read_link(file.unwrap().path()).ok());
    let inode = |link: std::path::PathBuf| {
        let inode = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
        Some(inode.to_owned())
    };
    links.filter_map(inode).collect()
}
