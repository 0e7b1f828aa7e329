//! Every operation on rows of several files: one process and tasks give the same bytes.

use std::fmt::Write;

use crate::data::Data;

pub fn numbers() -> Data {
    let mut files = Vec::new();
    let mut state = 7_u64;
    for _ in 0..3 {
        let mut text = String::from("id1,id3,v1,v3,when\n");
        for _ in 0..2_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (a, b, c) = (state >> 60, (state >> 40) % 500, (state >> 20) % 100_000);
            let id1 = if a == 0 { String::new() } else { format!("id{a:03}") };
            let v3 = if c % 17 == 0 {
                String::new()
            } else {
                format!("{}.{:06}", c % 101, (c * 7919) % 1_000_000)
            };
            writeln!(text, "{id1},k{b},{},{v3},2024-01-{:02}", c % 5, 1 + c % 28).unwrap();
        }
        files.push(text);
    }
    Data::new(&[("a.csv", &files[0]), ("b.csv", &files[1]), ("c.csv", &files[2])])
}

/// The operations, and how many lines their result has.
pub const ALL: &[(&str, usize)] = &[
    ("", 6001),
    (r#"{"apply": {"expression": "v1 * v3"}}"#, 6001),
    (r#"{"apply": {"function": "year", "column": "when"}}"#, 6001),
    (r#"{"assign": {"columns": [["w", "v3 / v1"], ["u", "upper(id1)"]]}}"#, 0),
    (r#"{"assign": {"columns": [["w", "v3 / (v1 + 1)"], ["u", "upper(id1)"]]}}"#, 6001),
    (r#"{"query": {"predicate": "v1 > 3 and id1 = 'id003'"}}"#, 0),
    (r#"{"query": {"predicate": "id1 is not null"}}, {"len": {}}"#, 2),
    (r#"{"isin": {"values": ["id001", 3, "2024-01-05"]}}"#, 6001),
    (r#"{"groupby": {"by": ["id1"], "agg": ["sum(v1)", "mean(v3)", "std(v3)", "var(v1)"]}}"#, 16),
    (
        r#"{"groupby": {"by": ["id3"], "agg": ["sum(v1)", "mean(v3)", "first(v3)", "last(when)", "nunique(id1)", "size"]}}"#,
        501,
    ),
    (r#"{"groupby": {"by": ["id1", "v1"], "agg": ["max(v3)", "min(id3)", "count(v3)"]}}"#, 76),
    (r#"{"head": {"n": 7}}"#, 8),
    (r#"{"head": {"n": 2500, "partitions": -1}}"#, 2501),
    (r#"{"query": {"predicate": "v1 = 2"}}, {"head": {"n": 700, "partitions": -1}}"#, 701),
    (r#"{"tail": {"n": 7}}"#, 8),
    (r#"{"select": {"columns": ["v3", "id1"]}}"#, 6001),
    (r#"{"columns": {}}"#, 6),
    (r#"{"dtypes": {}}"#, 6),
    (r#"{"items": {}}"#, 6001),
    (r#"{"persist": {}}"#, 6001),
    (r#"{"len": {}}"#, 2),
    (r#"{"max": {}}"#, 2),
    (r#"{"min": {}}"#, 2),
    (r#"{"sum": {}}"#, 2),
    (r#"{"mean": {}}"#, 2),
    (r#"{"count": {}}"#, 2),
    (r#"{"std": {}}"#, 2),
    (r#"{"var": {}}"#, 2),
    (r#"{"nunique": {}}"#, 2),
    (r#"{"describe": {}}"#, 9),
    (r#"{"value_counts": {"column": "id1"}}"#, 16),
    (r#"{"unique": {"column": "id3"}}"#, 501),
    (r#"{"sort_values": {"by": ["v1", "id1"], "ascending": [false, true]}}"#, 6001),
    (r#"{"sort_values": {"by": ["v3"]}}, {"head": {"n": 20}}"#, 21),
    (r#"{"sort_values": {"by": ["v1"]}}, {"tail": {"n": 20}}"#, 21),
    (
        r#"{"head": {"n": 50}}, {"merge": {"right": [{"read_csv": {"paths": ["FOLDER/b.csv"]}}], "how": "left", "left_on": ["id3"], "right_on": ["id3"]}}"#,
        0,
    ),
    (
        r#"{"query": {"predicate": "v1 = 1"}}, {"merge": {"right": [{"read_csv": {"paths": ["FOLDER/b.csv"]}}, {"groupby": {"by": ["id3"], "agg": ["mean(v3)"]}}], "how": "outer", "left_on": ["id3"], "right_on": ["id3"]}}, {"groupby": {"by": ["id1"], "agg": ["sum(mean(v3))"]}}"#,
        16,
    ),
    (r#"{"drop": {"columns": ["when"]}}"#, 6001),
    (r#"{"rename": {"columns": {"when": "day"}}}"#, 6001),
    (r#"{"fillna": {"value": 0}}, {"sum": {"columns": ["v3"]}}"#, 2),
    (r#"{"dropna": {}}"#, 0),
    (
        r#"{"sql": {"query": "select id1, avg(v3) as m, stddev(v3) as s from df group by id1 having count(*) > 10"}}"#,
        17,
    ),
    (r#"{"sql": {"query": "select id1, v1 from df where v1 > 3 limit 1000"}}"#, 1001),
    (
        r#"{"sql": {"query": "select distinct v1 from df"}}, {"sort_values": {"by": ["v1"], "ascending": [false]}}"#,
        6,
    ),
];

#[tokio::test]
async fn one_process_and_tasks_give_the_same_bytes() {
    let data = numbers();
    for (rest, lines) in ALL {
        let computed = data.csv(rest).await;
        if rest.contains("v3 / v1") {
            // v3 is a float, so that a division by zero gives infinity.
            assert!(computed.unwrap().contains("inf"), "{rest}");
            continue;
        }
        let text = computed.unwrap_or_else(|error| panic!("{rest}: {error}"));
        if *lines > 0 {
            assert_eq!(text.lines().count(), *lines, "{rest}");
        } else {
            assert!(text.lines().count() > 10, "{rest}: {text}");
        }
    }
}

#[tokio::test]
async fn plans_are_cut_below_the_first_exchange() {
    let data = numbers();
    let operations = data.after_read(r#"{"groupby": {"by": ["id1"], "agg": ["sum(v1)"]}}"#);
    let cut = dataframe_engine::csv::FileCut::Even { partitions: 6, min_bytes: 1, max_bytes: u64::MAX };
    let plan = data.engine.plan_cut(&operations, &data.engine, &Default::default(), cut).await.unwrap();
    assert!(plan.tasks().len() >= 6, "{}", plan.tasks().len());
    let text = plan.explain();
    let (tasks, rest) = text.split_once("The master, with the results of the tasks:").unwrap();
    assert!(tasks.contains("mode=Partial") && !rest.contains("mode=Partial"), "{text}");
    assert!(rest.contains("mode=Final") && rest.contains("ResultsExec"), "{text}");
    assert!(!text.contains("PositionExec"), "the position costs, and is not used: {text}");

    let operations = data.after_read(r#"{"head": {}}"#);
    let plan = data.engine.plan_cut(&operations, &data.engine, &Default::default(), cut).await.unwrap();
    assert_eq!(plan.tasks().len(), 1, "{}", plan.explain());
}

#[tokio::test]
async fn too_little_memory_is_said() {
    let data = numbers();
    let spill = data.folder.path().join("spill/here");
    let engine = |bytes| {
        let limits = dataframe_engine::EngineConfig {
            threads: 2,
            memory_bytes: Some(bytes),
            spill_folder: Some(spill.clone()),
            wasm: None,
        };
        dataframe_engine::Engine::new(limits).unwrap()
    };
    let operations = data.after_read(r#"{"describe": {}}"#);
    let error = engine(2_000).compute(&operations).await.unwrap_err();
    assert!(matches!(error, dataframe_engine::FrameError::Resources(_)), "{error:?}");
    assert!(error.to_string().contains("--memory"), "{error}");
    let operations = data.after_read(r#"{"sort_values": {"by": ["v3", "id3"]}}"#);
    let roomy = data.engine.compute(&operations).await.unwrap();
    let spilled = engine(64 << 20).compute(&operations).await.unwrap();
    assert_eq!(crate::data::text(&spilled), crate::data::text(&roomy));
}

#[test]
fn a_long_frame_is_written_the_same_however_it_is_cut() {
    use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringViewArray};
    use dataframe_engine::{Frame, OutputFormat};
    use std::sync::Arc;

    let numbers: ArrayRef = Arc::new((0..150_000).map(|n| (n % 7 > 0).then_some(n)).collect::<Int64Array>());
    let names = (0..150_000).map(|n| Some(format!("a name that is not inlined {n}")));
    let names: ArrayRef = Arc::new(names.collect::<StringViewArray>());
    let whole =
        RecordBatch::try_from_iter_with_nullable([("n", numbers, true), ("name", names, true)]).unwrap();
    let cut = |rows: usize| {
        let starts = (0..whole.num_rows()).step_by(rows);
        let batches = starts.map(|start| whole.slice(start, rows.min(whole.num_rows() - start))).collect();
        Frame { schema: whole.schema(), batches }
    };
    for format in
        [OutputFormat::Arrow, OutputFormat::Parquet, OutputFormat::Table { rows: 3 }, OutputFormat::Csv]
    {
        let expected = crate::data::written(&cut(150_000), format);
        for rows in [1_000, 65_536, 65_537, 100_000] {
            assert!(
                crate::data::written(&cut(rows), format) == expected,
                "{format:?} in batches of {rows} rows"
            );
        }
    }
}
