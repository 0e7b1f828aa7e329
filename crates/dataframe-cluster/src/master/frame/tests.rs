use super::*;

use dataframe_jobs::failure::FailureCode;
use dataframe_jobs::message::{WorkerInfo, WorkerStatus};
use dataframe_jobs::scheduler::GoneCause;
use page::latency::Latency;

use crate::master::snapshot::{ClusterNews, TaskOutcome};

const STAMP: FrameStamp = FrameStamp { number: 9, period: Duration::from_millis(500) };

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp_millis(1_795_253_400_123).unwrap()
}

fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn worker(number: u32, name: &str, state: WorkerState) -> WorkerView {
    let info = WorkerInfo {
        name: name.to_owned(),
        incarnation: "01RUN".to_owned(),
        address: Some("172.20.0.3:9001".to_owned()),
        datafusion: "1".to_owned(),
        release: "1".to_owned(),
        slots: 4,
        functions: Vec::new(),
        wasm: false,
    };
    let is_lost = state == WorkerState::Lost;
    let status = WorkerStatus { info, state, running: 2, finished: 120, silent_ms: 340 };
    WorkerView {
        number,
        status,
        resident_bytes: (!is_lost).then_some(180 << 20),
        cause: is_lost.then_some(GoneCause::Unreachable),
        lost: u64::from(is_lost),
        lost_recently: usize::from(is_lost),
    }
}

fn bar_of(worker: u32, start: u64, end: Option<u64>) -> TaskBar {
    let (start, end) = (at(start), end.map(at));
    TaskBar { worker, job: 12, stage: 2, start, end, outcome: TaskOutcome::Done }
}

fn state(workers: Vec<WorkerView>) -> MasterState {
    let running = JobView {
        number: 12,
        operations: vec!["read_csv", "query", "groupby", "sort_values", "head"],
        stages: vec![(6, 6), (3, 8)],
        lost: 1,
        took: at(2345),
        tasks_running: 4,
        tasks_waiting: 1,
        ..JobView::default()
    };
    let ended = |number, end| JobView { number, end: Some(end), stages: vec![(6, 6)], ..running.clone() };
    let event = TimedNews {
        at: at(61_000),
        worker: Some("worker3".to_owned()),
        job: None,
        news: ClusterNews::Gone { cause: GoneCause::Unreachable, tasks: 2 },
    };
    MasterState {
        run: "01LEAD".to_owned(),
        now: now(),
        up: Duration::from_secs(100),
        term: Some(1),
        hangs: false,
        durations: vec![LatencySnapshot::default(); workers.len()],
        cluster: ClusterSnapshot {
            up: at(90_000),
            begun_at: now() - at(90_000),
            slots: 8,
            workers,
            ended: vec![ended(11, JobEnd::Done(1000)), ended(10, JobEnd::Failed(FailureCode::File))],
            running: vec![running],
            totals: LedgerTotals {
                jobs_done: 10,
                jobs_failed: 1,
                tasks_done: 240,
                tasks_failed: 0,
                tasks_lost: 3,
            },
            last_event: 57,
            events: vec![(57, event)],
            last_bar: 2,
            bars: vec![(1, bar_of(1, 80_000, Some(80_120))), (2, bar_of(2, 80_010, Some(80_130)))],
            open: vec![bar_of(1, 89_000, None)],
            recording_since: Some(at(30_000)),
            commands_waiting: 0,
        },
        spools: SpoolState {
            in_memory: 4096,
            on_disk: 0,
            disk: Some(SpoolDisk { free: 3 << 30, total: 10 << 30 }),
        },
    }
}

fn three() -> Vec<WorkerView> {
    vec![
        worker(1, "worker1", WorkerState::Ready),
        worker(2, "worker2", WorkerState::Ready),
        worker(3, "worker3", WorkerState::Lost),
    ]
}

fn text(state: &MasterState) -> String {
    String::from_utf8(frame(state, STAMP).unwrap()).unwrap()
}

#[test]
fn golden_frame() {
    let expected = concat!(
        r#"{"kind":"dataframe","run":"01LEAD","n":9,"time":"2026-11-21T09:30:00.123Z","up_s":100,"lead_ms":90000,"#,
        r#""period_ms":500,"term":1,"verdict":{"level":"warn","code":"workers-lost"},"ready":2,"draining":0,"#,
        r#""lost":1,"slots":8,"busy":4,"waiting":1,"running":1,"jobs_done":10,"jobs_failed":1,"tasks_done":240,"#,
        r#""tasks_failed":0,"tasks_lost":3,"resident":377487360,"spool_memory":4096,"spool_disk":0,"#,
        r#""spool_free":3221225472,"workers":["#,
        r#"{"w":1,"name":"worker1","state":"ready","threads":4,"busy":2,"done":120,"resident":188743680,"age_ms":340},"#,
        r#"{"w":2,"name":"worker2","state":"ready","threads":4,"busy":2,"done":120,"resident":188743680,"age_ms":340},"#,
        r#"{"w":3,"name":"worker3","state":"lost","cause":"unreachable","threads":4,"busy":2,"done":120,"lost":1,"age_ms":340}],"#,
        r#""jobs":[{"j":12,"ops":["read_csv","query","groupby","sort_values"],"more_ops":1,"state":"running","#,
        r#""stage":2,"stages":[[6,6],[3,8]],"lost":1,"ms":2345},"#,
        r#"{"j":11,"ops":["read_csv","query","groupby","sort_values"],"more_ops":1,"state":"done","#,
        r#""stage":1,"stages":[[6,6]],"lost":1,"rows":1000,"ms":2345},"#,
        r#"{"j":10,"ops":["read_csv","query","groupby","sort_values"],"more_ops":1,"state":"failed","cause":"file","#,
        r#""stage":1,"stages":[[6,6]],"lost":1,"ms":2345}],"#,
        r#""events":{"last":57,"new":[{"n":57,"time":"2026-11-21T09:29:31.123Z","worker":"worker3","#,
        r#""what":"lost","cause":"unreachable","count":2}]},"warnings":[],"#,
        r#""tasks":{"last":2,"since_ms":30000,"new":[[1,12,2,80000,120,0],[2,12,2,80010,120,0]],"open":[[1,12,2,89000]]}}"#,
    );
    assert_eq!(text(&state(three())), expected);
}

/// A state with as much of everything as there can be.
fn full(workers: Vec<WorkerView>) -> MasterState {
    let mut state = state(workers);
    let (_, event) = state.cluster.events[0].clone();
    state.cluster.events = (0..300).map(|n| (n, event.clone())).collect();
    state.cluster.bars = (0..2000).map(|n| (n, bar_of(3, 36_000_000 + n, Some(36_001_234 + n)))).collect();
    state.cluster.last_bar = 1999;
    state.cluster.open = vec![bar_of(3, 36_000_000, None); 64];
    state.cluster.running = vec![state.cluster.running[0].clone(); 256];
    state
}

#[test]
fn a_frame_is_small_whatever_the_cluster() {
    let few = text(&full(three()));
    assert!(few.len() <= 4096, "{} bytes", few.len());
    let frame: serde_json::Value = serde_json::from_str(&few).unwrap();
    assert_eq!(frame["workers"].as_array().unwrap().len(), 3);
    assert!(frame["tasks"]["new"].as_array().unwrap().len() > 10, "{few}");
    for (count, name) in [(4, ""), (LISTED, ""), (1024, ""), (1024, "\u{1}\u{1F600}")] {
        let workers = (0..count as u32)
            .map(|number| worker(number, &format!("{}{number}", name.repeat(100)), WorkerState::Ready));
        let text = text(&full(workers.collect()));
        assert!(text.len() <= 16 * 1024, "{} bytes for {count}", text.len());
        let frame: serde_json::Value = serde_json::from_str(&text).unwrap();
        let listed = frame["workers"].as_array().unwrap().len();
        assert_eq!(listed + frame["more_workers"].as_u64().unwrap_or(0) as usize, count);
        assert_eq!(frame["ready"], count);
    }
}

#[test]
fn the_newest_bars_are_in_a_frame_without_a_gap() {
    let frame: serde_json::Value = serde_json::from_str(&text(&full(three()))).unwrap();
    let bars = frame["tasks"]["new"].as_array().unwrap();
    let starts: Vec<_> = bars.iter().map(|bar| bar[3].as_u64().unwrap()).collect();
    let first = 36_002_000 - starts.len() as u64;
    assert_eq!(starts, (first..36_002_000).collect::<Vec<_>>());
}

#[test]
fn lost_workers_are_listed_first_when_there_are_too_many() {
    let mut workers: Vec<_> =
        (0..100).map(|number| worker(number, &format!("worker{number}"), WorkerState::Ready)).collect();
    workers[98] = worker(98, "worker98", WorkerState::Draining);
    workers[99] = worker(99, "worker99", WorkerState::Lost);
    workers[97].lost = 3;
    let (listed, more) = {
        let state = state(workers);
        let (lines, more) = worst(&state);
        (lines.iter().map(|line| line.name.clone()).collect::<Vec<_>>(), more)
    };
    assert_eq!((listed.len(), more), (LISTED, 100 - LISTED));
    assert_eq!(listed[..4], ["worker99", "worker98", "worker97", "worker0"]);
}

#[test]
fn the_verdict_tells_whether_jobs_are_computed() {
    let code = |state: &MasterState| verdict(state).code;
    assert_eq!(code(&state(three())), "workers-lost");
    assert_eq!(code(&state(three()[..2].to_vec())), "working");
    assert_eq!(code(&state(three()[2..].to_vec())), "no-workers");
    let mut stuck = state(three());
    stuck.cluster.running[0] =
        JobView { is_waiting: true, tasks_running: 0, ..stuck.cluster.running[0].clone() };
    assert_eq!(code(&stuck), "stuck");
    // While others compute, the job gets its turn.
    stuck.cluster.running.push(JobView { tasks_running: 2, ..JobView::default() });
    assert_eq!(code(&stuck), "workers-lost");
    assert_eq!(code(&MasterState { hangs: true, ..state(three()) }), "hangs");
    assert_eq!(code(&MasterState { term: None, ..state(Vec::new()) }), "standby");
}

#[test]
fn warnings_are_given_by_rule() {
    let ready = |number: u32| worker(number, &format!("worker{number}"), WorkerState::Ready);
    let mut state = state((1..=3).map(ready).collect());
    assert_eq!(warnings(&state), []);
    let took = |ms: u64, count: u64| {
        let latency = Latency::default();
        latency.record_many(at(ms), count);
        latency.snapshot()
    };
    state.durations = vec![took(100, 9), took(100, 9), took(900, 9)];
    state.cluster.workers[0].lost_recently = 3;
    state.spools.disk = Some(SpoolDisk { free: 4, total: 100 });
    let told = |state: &MasterState| {
        let all = warnings(state);
        all.into_iter().map(|warning| (warning.rule, warning.worker, warning.value)).collect::<Vec<_>>()
    };
    let of = |number: u32| Some(format!("worker{number}"));
    let expected = [("spool-full", None, 4), ("losses", of(1), 3), ("slow", of(3), 8)];
    assert_eq!(told(&state), expected);
    state.durations[2] = took(900, ENOUGH_TASKS - 1);
    assert_eq!(told(&state).len(), 2, "a few tasks say nothing");
    state.cluster.workers.clear();
    assert_eq!(told(&state)[0], ("no-workers", None, 0));
    state.term = None;
    assert_eq!(told(&state)[0].0, "spool-full", "a standby needs no workers");
}
