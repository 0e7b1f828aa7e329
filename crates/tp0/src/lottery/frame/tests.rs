use super::*;

use crate::lottery::event::{BrokenCause, RefusedCause};

const STAMP: FrameStamp = FrameStamp { number: 9, period: Duration::from_millis(500) };

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp_millis(1_795_253_400_123).unwrap()
}

fn agency(name: &str, state: AgencyState, age: Option<Duration>) -> AgencyStatus {
    AgencyStatus { name: name.into(), state, bets: 300, batches: 2, last_batch: age.map(|age| now() - age) }
}

fn event(agency: Option<&str>, happening: LotteryHappening) -> LotteryEvent {
    LotteryEvent { time: now(), agency: agency.map(Into::into), happening }
}

fn state(agencies: Vec<AgencyStatus>) -> LotteryState {
    let finished = agencies.iter().filter(|agency| agency.state != AgencyState::Sending).count();
    LotteryState {
        run: "RUN".to_owned(),
        now: now(),
        up: Duration::from_secs(61),
        timeout: Duration::from_secs(60),
        expected: 5,
        known: agencies.len() as u64,
        finished: finished as u64,
        bets: 900,
        connections: 3,
        counts: LotteryCounts { bets: 600, stored: 4, repeated: 1, refused: 2, ..LotteryCounts::default() },
        rounds: LatencySnapshot::default(),
        syncs: LatencySnapshot::default(),
        draw: DrawStatus::Waiting,
        is_disk_full: false,
        agencies,
        last_event: 0,
        events: Vec::new(),
        files: vec!["lottery.journal".to_owned()],
    }
}

fn text(state: &LotteryState) -> String {
    String::from_utf8(frame(state, STAMP).unwrap()).unwrap()
}

#[test]
fn golden_frame() {
    let agencies = vec![
        agency("1", AgencyState::Sending, Some(Duration::from_millis(40))),
        agency("2", AgencyState::Finished, None),
        agency("3", AgencyState::Told, Some(Duration::from_secs(2))),
    ];
    let refused = event(Some("1"), LotteryHappening::Refused(RefusedCause::OtherAgency));
    let broken = event(Some("2"), LotteryHappening::Broken(BrokenCause::NotReading));
    let seen = LotteryState { last_event: 57, events: vec![(56, refused), (57, broken)], ..state(agencies) };
    assert_eq!(
        text(&seen),
        concat!(
            r#"{"kind":"lottery","run":"RUN","n":9,"time":"2026-11-21T09:30:00.123Z","up_s":61,"period_ms":500,"#,
            r#""verdict":{"level":"ok","code":"receiving"},"expected":5,"known":3,"finished":2,"bets":900,"#,
            r#""connections":3,"counts":{"bets":600,"stored":4,"repeated":1,"refused":2,"disk_full":0,"#,
            r#""invalid":0,"told":0},"agencies":["#,
            r#"{"name":"1","state":"sending","bets":300,"batches":2,"age_ms":40},"#,
            r#"{"name":"2","state":"finished","bets":300,"batches":2},"#,
            r#"{"name":"3","state":"told","bets":300,"batches":2,"age_ms":2000}],"events":{"last":57,"new":["#,
            r#"{"n":56,"time":"2026-11-21T09:30:00.123Z","agency":"1","what":"refused","cause":"other-agency"},"#,
            r#"{"n":57,"time":"2026-11-21T09:30:00.123Z","agency":"2","what":"broken","cause":"not-reading"}]},"#,
            r#""warnings":[],"files":["lottery.journal"]}"#
        )
    );
}

#[test]
fn the_draw_is_told_with_its_time_unless_it_was_in_an_earlier_run() {
    let drawn = |time| LotteryState { draw: DrawStatus::Held { winners: 8, time }, ..state(Vec::new()) };
    assert!(text(&drawn(Some(now()))).contains(r#""draw":{"winners":8,"time":"2026-11-21T09:30:00.123Z"}"#));
    assert!(text(&drawn(None)).contains(r#""draw":{"winners":8},"#));
    let event = event(None, LotteryHappening::Drawn(8));
    let shown = serde_json::to_string(&shown_event(1, &event)).unwrap();
    assert_eq!(shown, r#"{"n":1,"time":"2026-11-21T09:30:00.123Z","what":"drawn","count":8}"#);
}

#[test]
fn the_verdict_is_the_most_important_thing() {
    let sending = || state(vec![agency("1", AgencyState::Sending, None)]);
    let code = |state: &LotteryState| verdict(state).code;
    assert_eq!(code(&state(Vec::new())), "nobody");
    assert_eq!(code(&sending()), "receiving");
    assert_eq!(code(&LotteryState { finished: 5, ..sending() }), "drawing");
    let draw = DrawStatus::Held { winners: 0, time: None };
    assert_eq!(code(&LotteryState { draw, ..sending() }), "drawn");
    let failed = LotteryState { draw: DrawStatus::Failed, ..sending() };
    assert_eq!(code(&failed), "draw-failed");
    let full = LotteryState { is_disk_full: true, ..failed };
    assert_eq!(verdict(&full), LotteryVerdict { level: "bad", code: "disk-full" });
}

#[test]
fn warnings_are_of_what_needs_somebody() {
    let age = |seconds| Some(Duration::from_secs(seconds));
    let mut agencies: Vec<_> = (1..=9)
        .map(|number| agency(&number.to_string(), AgencyState::Sending, age(60 + number - 1)))
        .collect();
    agencies.push(agency("10", AgencyState::Finished, age(900)));
    agencies.push(agency("11", AgencyState::Sending, None));
    let busy = state(agencies);
    let rules: Vec<_> = warnings(&busy).iter().map(|w| (w.rule, w.agency, w.value)).collect();
    assert_eq!(
        rules,
        [
            ("more-than-expected", None, 11),
            ("silent", Some("9"), 68),
            ("silent", Some("8"), 67),
            ("silent", Some("7"), 66),
            ("silent", Some("6"), 65)
        ]
    );
    let late = LotteryState { draw: DrawStatus::Held { winners: 1, time: None }, ..busy };
    assert_eq!(warnings(&late).len(), 1, "after the draw nobody waits for an agency");
    let stuck = LotteryState { is_disk_full: true, draw: DrawStatus::Failed, ..state(Vec::new()) };
    let rules: Vec<_> = warnings(&stuck).iter().map(|warning| warning.rule).collect();
    assert_eq!(rules, ["disk-full", "draw-failed"]);
}

#[test]
fn of_many_agencies_the_latest_are_listed_and_the_others_are_counted() {
    let name = |number: u64| format!("{number:0>64}");
    let agencies = (0..1000).map(|number| {
        let state = if number % 2 == 0 { AgencyState::Sending } else { AgencyState::Told };
        agency(&name(number), state, Some(Duration::from_millis(number)))
    });
    let mut many = LotteryState { known: 5000, finished: 4000, ..state(agencies.collect()) };
    let happening = LotteryHappening::Refused(RefusedCause::OtherAgency);
    many.events = (1..=NEW_EVENTS as u64).map(|n| (n, event(Some(&name(n)), happening))).collect();
    let (shown, more) = listed(&many);
    assert_eq!((shown.len(), shown[0].name, shown[63].name), (LISTED, &*name(0), &*name(63)));
    let more = more.unwrap();
    assert_eq!((more.sending, more.finished), (1000 - 32, 4000 - 32));
    let bytes = frame(&many, STAMP).unwrap().len();
    assert!(bytes <= 16 * 1024, "{bytes} bytes");
    let few = state((0..3).map(|n| agency(&name(n), AgencyState::Sending, None)).collect());
    assert!(listed(&few).1.is_none() && frame(&few, STAMP).unwrap().len() <= 4 * 1024);
}
