//! What monitors read of a real echo server, and what the README tells about that.

use testkit::{LineClient, exposed_metrics, http_get, listed_metrics, metric, wait_for};

use crate::support::EchoServer;

const README: &str = include_str!("../../../../tp0/README.md");

#[test]
fn lines_are_counted_by_what_came_of_them_and_the_readme_lists_all_metrics() {
    let server = EchoServer::start(&[], &["--keep-connections", "--metrics", "127.0.0.1:0"]);
    let monitor = server.page();
    let mut client = LineClient::connect(server.address);
    client.send("uno\ndos\n");
    assert_eq!((client.reply(), client.reply()), ("uno".to_owned(), "dos".to_owned()));
    client.send(b"\xff\n");
    assert!(client.finish().starts_with("ERROR invalid-utf8"));
    let read = || http_get(monitor, "/metrics").1;
    wait_for("the connection to be counted as closed", || metric(&read(), "echo_server_connections") == 0.0);
    let answer = read();
    let count = |result: &str| metric(&answer, &format!("echo_server_lines_total{{result=\"{result}\"}}"));
    assert_eq!((count("ok"), count("invalid-utf8"), count("message-too-long")), (2.0, 1.0, 0.0));
    assert_eq!(metric(&answer, "echo_server_echoed_bytes_total"), 8.0);
    assert_eq!(metric(&answer, "echo_server_accepted_connections_total"), 1.0);
    assert!(metric(&answer, "echo_server_send_duration_seconds_count") >= 1.0);
    assert_eq!(exposed_metrics(&answer), listed_metrics(README, "echo_server_"));
    assert_eq!(http_get(monitor, "/livez?verbose"), (200, "[+]connections: ok\nok\n".to_owned()));
}
