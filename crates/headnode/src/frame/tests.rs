use super::*;

use std::collections::BTreeSet;

use protocol::store::heartbeat::SyncTimes;
use protocol::store::types::{Epoch, NodeName, ulid};

use crate::cluster_event::ClusterEvent;
use crate::cluster_view::{ClusterStatus, LastAnswer};

const STAMP: FrameStamp = FrameStamp { number: 9, period: Duration::from_millis(500) };

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp_millis(1_795_253_400_123).unwrap()
}

fn name(number: usize) -> NodeName {
    format!("datanode{number}").parse().unwrap()
}

fn datanode(number: usize, state: NodeState, cause: Option<UnavailableCause>) -> DatanodeStatus {
    let answer = LastAnswer {
        time: now() - Duration::from_millis(900),
        round: 7,
        attempt: 1,
        round_trip: Duration::from_micros(412),
        address: "172.20.0.3:5001".parse().unwrap(),
        records: 17,
        free_bytes: 3 << 30,
        unreadable: 0,
        sync: Some(SyncTimes { p50_us: 210, p99_us: 900 }),
    };
    DatanodeStatus { name: name(number), state, cause, last_answer: Some(answer) }
}

fn state(datanodes: Vec<DatanodeStatus>) -> StoreState {
    let count = datanodes.len();
    let event = ClusterEvent { datanode: name(2), happening: Happening::Suspect(UnavailableCause::Closed) };
    let cluster = ClusterStatus {
        round: 7,
        attempts: 2,
        probe_age: Duration::from_millis(1234),
        silent_rounds: 0,
        datanodes,
        last_event: 57,
        events: vec![(57, TimedEvent { time: now(), event })],
    };
    let message = RecentMessage {
        time: timestamp(now()),
        id: ulid(1, 2),
        bytes: Some(4),
        client: "127.0.0.1:4000".parse().unwrap(),
        places: vec!["datanode1:17".to_owned()],
        text: Some("Hola".to_owned()),
    };
    let registered = vec![RegisteredRecords { held: 18, lost: 0 }; count];
    StoreState {
        run: "RUN".to_owned(),
        now: now(),
        up: Duration::from_secs(61),
        interval: Duration::from_secs(5),
        expected: 3,
        registered_at_start: 30,
        overview: StoreOverview {
            cluster,
            drained: BTreeSet::new(),
            registered,
            replicas: 1,
            messages: 36,
            epoch: Some(Epoch { number: 1, taken_by: ulid(1, 2) }),
        },
        saved: 6,
        failed: 1,
        put: LatencySnapshot::default(),
        confirmations: vec![Confirmations::default(); count],
        last_message: 120,
        messages: vec![(120, message)],
        files: vec!["registro_server.txt".to_owned()],
    }
}

fn text(state: &StoreState) -> String {
    String::from_utf8(frame(state, STAMP).unwrap()).unwrap()
}

#[test]
fn golden_frame() {
    let absent = DatanodeStatus {
        last_answer: None,
        ..datanode(3, NodeState::NotOperative, Some(UnavailableCause::NoAnswer))
    };
    let nodes = vec![
        datanode(1, NodeState::Available, None),
        datanode(2, NodeState::Operative, Some(UnavailableCause::Closed)),
        absent,
    ];
    let expected = concat!(
        r#"{"kind":"store","run":"RUN","n":9,"time":"2026-11-21T09:30:00.123Z","up_s":61,"period_ms":500,"#,
        r#""verdict":{"level":"warn","code":"fewer-than-expected"},"expected":3,"replicas":1,"known":3,"#,
        r#""operative":2,"available":1,"interval_ms":5000,"round":{"n":7,"attempts":2,"age_ms":1234},"#,
        r#""messages":36,"registered_at_start":30,"puts":{"ok":6,"failed":1},"nodes":["#,
        r#"{"name":"datanode1","state":"available","address":"172.20.0.3:5001","round":7,"attempt":1,"#,
        r#""rtt_us":412,"age_ms":900,"free":3221225472,"sync_p50_us":210,"sync_p99_us":900,"records":18,"#,
        r#""lost":0,"confirmed":0},"#,
        r#"{"name":"datanode2","state":"suspect","cause":"closed","address":"172.20.0.3:5001","round":7,"#,
        r#""attempt":1,"rtt_us":412,"age_ms":900,"free":3221225472,"sync_p50_us":210,"sync_p99_us":900,"#,
        r#""records":18,"lost":0,"confirmed":0},"#,
        r#"{"name":"datanode3","state":"not-operative","cause":"no-answer","records":18,"lost":0,"confirmed":0}],"#,
        r#""events":{"last":57,"new":[{"n":57,"time":"2026-11-21T09:30:00.123Z","node":"datanode2","#,
        r#""what":"suspect","cause":"closed"}]},"#,
        r#""recent":{"last":120,"new":[{"n":120,"time":"2026-11-21T09:30:00.123Z","#,
        r#""id":"00000000010000000000000002","bytes":4,"client":"127.0.0.1:4000","#,
        r#""places":["datanode1:17"],"text":"Hola"}]},"warnings":[],"files":["registro_server.txt"]}"#,
    );
    assert_eq!(text(&state(nodes)), expected);
}

#[test]
fn a_frame_is_small_whatever_the_cluster() {
    let full = |count: usize, longest: &str| {
        let nodes = (0..count).map(|number| datanode(number, NodeState::Available, None));
        let named = nodes
            .map(|node| DatanodeStatus { name: format!("{longest}{}", node.name).parse().unwrap(), ..node });
        let mut state = state(named.collect());
        let (_, event) = state.overview.cluster.events[0].clone();
        state.overview.cluster.events = (0..NEW_EVENTS as u64).map(|n| (n, event.clone())).collect();
        let (_, message) = state.messages[0].clone();
        state.messages = (0..NEW_MESSAGES as u64).map(|n| (n, message.clone())).collect();
        text(&state).len()
    };
    assert!(full(3, "") <= 4096, "{} bytes", full(3, ""));
    for count in [LISTED, LISTED + 1, 5000] {
        assert!(full(count, "") <= 16 * 1024, "{} bytes for {count}", full(count, ""));
    }
}

#[test]
fn the_worst_datanodes_are_listed_and_the_others_counted() {
    let mut nodes: Vec<_> = (0..100).map(|number| datanode(number, NodeState::Available, None)).collect();
    nodes[97] = datanode(97, NodeState::NotOperative, Some(UnavailableCause::NoAnswer));
    nodes[98] = datanode(98, NodeState::Operative, Some(UnavailableCause::CannotConnect));
    nodes[99] = datanode(99, NodeState::Operative, None);
    let frame: serde_json::Value = serde_json::from_str(&text(&state(nodes))).unwrap();
    let listed: Vec<_> = frame["nodes"].as_array().unwrap().iter().map(|node| &node["name"]).collect();
    assert_eq!(listed.len(), LISTED);
    assert_eq!(listed[..4], ["datanode97", "datanode98", "datanode99", "datanode0"]);
    assert_eq!(frame["more"]["available"], 36);
    assert_eq!(
        (&frame["known"], &frame["operative"], &frame["available"]),
        (&100.into(), &99.into(), &97.into())
    );
}

#[test]
fn the_verdict_follows_what_is_available() {
    let code = |available, expected, replicas, silent| verdict(available, expected, replicas, silent).code;
    assert_eq!(code(3, 3, 1, 0), "saving");
    assert_eq!(code(2, 3, 1, 0), "fewer-than-expected");
    assert_eq!(code(1, 3, 2, 0), "too-few");
    assert_eq!(code(0, 3, 1, SILENT_ROUNDS - 1), "none-available");
    assert_eq!(code(0, 3, 1, SILENT_ROUNDS), "silence");
}

#[test]
fn warnings_are_given_by_rule() {
    let available = (1..=3).map(|number| datanode(number, NodeState::Available, None)).collect();
    let mut state = state(available);
    let latency = |microseconds| {
        let latency = page::latency::Latency::default();
        latency.record_many(Duration::from_micros(microseconds), ENOUGH);
        latency.snapshot()
    };
    for (confirmed, microseconds) in state.confirmations.iter_mut().zip([1000, 1000, 9000]) {
        confirmed.recent = latency(microseconds);
    }
    state.confirmations[0].full_in = Some(Duration::from_secs(1800));
    state.confirmations[1].full_in = Some(Duration::from_secs(7200));
    state.overview.registered[1].lost = 4;
    let told = |state: &StoreState| {
        let listed = nodes(state);
        warnings(state, &listed)
            .iter()
            .map(|warning| (warning.rule, warning.node.map(str::to_owned), warning.value))
            .collect::<Vec<_>>()
    };
    let of = |number: usize| Some(format!("datanode{number}"));
    assert_eq!(told(&state), [("disk-full-soon", of(1), 30), ("not-held", of(2), 4), ("slow", of(3), 9)]);
    let few = page::latency::Latency::default();
    few.record(Duration::from_millis(9));
    let slow = std::mem::replace(&mut state.confirmations[2].recent, few.snapshot());
    assert!(!told(&state).iter().any(|(rule, ..)| *rule == "slow"), "one confirmation says nothing");
    state.confirmations[2].recent = slow;
    state.overview.cluster.silent_rounds = SILENT_ROUNDS;
    state.overview.replicas = 4;
    assert_eq!(told(&state)[..2], [("silence", None, SILENT_ROUNDS), ("fewer-than-replicas", None, 3)]);
}

#[test]
fn a_drained_datanode_gets_no_messages_and_is_not_expected_to() {
    let mut state = state((1..=3).map(|number| datanode(number, NodeState::Available, None)).collect());
    state.overview.drained.insert(name(3));
    let shown = text(&state);
    assert!(shown.contains(r#""name":"datanode3","state":"draining","address""#), "{shown}");
    assert!(
        shown
            .contains(r#""code":"saving"},"expected":3,"replicas":1,"known":3,"operative":3,"available":2,"#),
        "{shown}"
    );
    state.overview.replicas = 3;
    assert!(text(&state).contains(r#""code":"too-few"}"#));
}

#[test]
fn a_headnode_that_stands_by_says_so_and_warns_of_nothing() {
    let mut state = state(Vec::new());
    state.overview.epoch = None;
    let text = text(&state);
    assert!(text.contains(r#""verdict":{"level":"warn","code":"stands-by"}"#), "{text}");
    assert!(text.contains(r#""warnings":[]"#), "{text}");
}
