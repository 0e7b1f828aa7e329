//! What the page and monitors read of a real lottery server, and what the README tells about that.

use testkit::{Value, exposed_metrics, http_get, listed_metrics, metric, wait_for};

use crate::support::{LineClient, LotteryServer, message};

const README: &str = include_str!("../../../../tp0/README.md");
const LORCA: &str = "Santiago Lionel,Lorca,30904465,1999-03-17,2201";
const NUNEZ: &str = "Ana,Núñez,21689196,2000-02-29,7574";
const PAGE: (&str, &str) = ("LOTTERY_SERVER_PAGE", "127.0.0.1:0");

fn json(server: &LotteryServer, path: &str) -> Value {
    let (status, body) = http_get(server.page(), path);
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap()
}

fn ask(client: &mut LineClient, request: &str, reply: &str) {
    client.send(request);
    assert_eq!(client.reply(), format!("{reply}\r"), "to {request:?}");
}

/// The first frame that has `value` at `pointer`. The server makes a new frame a few times a second.
fn frame_with(server: &LotteryServer, pointer: &str, value: impl Into<Value>) -> Value {
    let (value, mut frame) = (value.into(), Value::Null);
    wait_for(&format!("a frame with {value} at {pointer}"), || {
        frame = json(server, "/api/frame");
        frame.pointer(pointer) == Some(&value)
    });
    frame
}

/// What has happened so far: the agency, what, and the cause.
fn happened(server: &LotteryServer) -> Vec<(String, String, String)> {
    let events = json(server, "/api/events?since=0");
    let word = |event: &Value, name: &str| event[name].as_str().unwrap_or_default().to_owned();
    let events = events["events"].as_array().unwrap().iter();
    events.map(|event| (word(event, "agency"), word(event, "what"), word(event, "cause"))).collect()
}

fn expected(events: &[[&str; 3]]) -> Vec<(String, String, String)> {
    events.iter().map(|[agency, what, cause]| ((*agency).into(), (*what).into(), (*cause).into())).collect()
}

#[test]
fn a_lottery_is_seen_from_its_first_bet_to_its_winners() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = LotteryServer::start_with(folder.path(), 2, "", &[PAGE]);
    assert_eq!(json(&server, "/api/frame")["verdict"]["code"], "nobody");
    let (mut first, mut second) = (server.connect(), server.connect());
    ask(&mut first, &message("1", &[LORCA, NUNEZ]), "server:0");
    ask(&mut first, &message("1", &["no bet"]), "server:1");
    ask(&mut first, &message("2", &[LORCA]), "server:1");
    ask(&mut first, "1:5\r\n", "server:0");
    ask(&mut first, &message("1", &[LORCA, LORCA]), "server:1");
    ask(&mut first, "1:6\r\n", "server:2");
    let frame = frame_with(&server, "/counts/refused", 1);
    assert_eq!((&frame["verdict"]["code"], &frame["finished"]), (&"receiving".into(), &1.into()));
    let agency = &frame["agencies"][0];
    assert_eq!((&agency["name"], &agency["state"]), (&"1".into(), &"finished".into()));
    assert_eq!(
        (&agency["bets"], &frame["bets"], &frame["counts"]["bets"]),
        (&2.into(), &2.into(), &2.into())
    );

    ask(&mut second, &message("2", &[LORCA]), "server:0");
    ask(&mut second, "2:5\r\n", "server:0");
    server.told("action: sorteo | result: success");
    first.send("1:6\r\n");
    assert_eq!((first.reply(), first.reply()), (format!("server:3:1,{NUNEZ}"), "\r".to_owned()));
    let frame = frame_with(&server, "/counts/told", 1);
    assert_eq!((&frame["verdict"]["code"], &frame["draw"]["winners"]), (&"drawn".into(), &1.into()));
    assert!(frame["draw"]["time"].is_string(), "{frame}");
    assert_eq!(frame["agencies"][0]["state"], "told");
    assert!(!frame.to_string().contains("21689196"), "who has won is told to the agency only");
    assert_eq!(
        happened(&server),
        expected(&[
            ["1", "connected", ""],
            ["1", "refused", "malformed"],
            ["1", "refused", "other-agency"],
            ["1", "finished", ""],
            ["1", "refused", "done"],
            ["2", "connected", ""],
            ["2", "finished", ""],
            ["", "drawn", ""],
            ["1", "winners-told", ""],
        ])
    );

    let answer = http_get(server.page(), "/metrics").1;
    assert_eq!(exposed_metrics(&answer), listed_metrics(README, "lottery_"));
    let batches = |result: &str| metric(&answer, &format!("lottery_batches_total{{result=\"{result}\"}}"));
    assert_eq!((batches("stored"), batches("invalid"), batches("refused")), (2.0, 2.0, 1.0));
    assert_eq!(metric(&answer, "lottery_agency_bets_total{agency=\"1\"}"), 2.0);
    assert_eq!((metric(&answer, "lottery_bets_total"), metric(&answer, "lottery_winners")), (3.0, 1.0));
    assert_eq!(metric(&answer, "lottery_draws_total{result=\"held\"}"), 1.0);
    assert!(metric(&answer, "lottery_sync_duration_seconds_count") >= 2.0);
    let ready = http_get(server.page(), "/readyz?verbose");
    assert_eq!(ready, (200, "[+]store: ok\n[+]connections: ok\n[+]disk: ok\n[+]draw: held\nok\n".to_owned()));
    server.stop();

    let mut server = LotteryServer::start_with(folder.path(), 2, "", &[PAGE]);
    let frame = json(&server, "/api/frame");
    assert_eq!(
        (&frame["bets"], &frame["counts"]["bets"], &frame["finished"]),
        (&3.into(), &0.into(), &2.into())
    );
    assert_eq!(frame["draw"], serde_json::json!({ "winners": 1 }), "it was drawn in an earlier run");
    let mut bets: Vec<_> =
        frame["agencies"].as_array().unwrap().iter().map(|agency| &agency["bets"]).collect();
    bets.sort_by_key(|bets| bets.as_u64());
    assert_eq!(bets, [&Value::from(1), &Value::from(2)]);
    server.stop();
}

#[test]
fn the_page_gives_its_own_files_and_the_journal_and_not_who_has_bet() {
    let folder = tempfile::tempdir().unwrap();
    let server = LotteryServer::start_with(folder.path(), 1, "", &[PAGE]);
    let mut client = server.connect();
    ask(&mut client, &message("1", &[NUNEZ]), "server:0");
    let page = server.page();
    assert_eq!(json(&server, "/api/frame")["files"], serde_json::json!(["lottery.journal"]));
    let (status, journal) = http_get(page, "/files/lottery.journal");
    assert!(status == 200 && journal.contains("batch 1 \"1\""), "{status} {journal}");
    for path in ["/files/bets.csv", "/files/winners.csv", "/files/..%2fbets.csv"] {
        assert_eq!(http_get(page, path).0, 404, "{path}");
    }
    assert!(http_get(page, "/").1.contains("<!doctype html>"));
    assert!(http_get(page, "/lottery.js").1.contains("mount"));
    wait_for("a first sample", || json(&server, "/api/history")["time"].is_string());
}
