//! Stages of tasks whose rows are shuffled, as a master and its workers would run them.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use dataframe_engine::csv::FileCut;
use dataframe_engine::{
    DistributedPlan, Engine, EngineConfig, Frame, FrameError, SendableRecordBatchStream, ShuffleSettings,
    ShuffleSource, TaskRun, Widenings,
};
use dataframe_jobs::operation::Operation;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures_util::{TryStreamExt, stream};

use crate::data::{Data, engine, text};

/// The rows of shuffles by shuffle and partition.
#[derive(Default, Clone)]
struct Shuffles(BTreeMap<(u32, u32), Vec<RecordBatch>>);

impl ShuffleSource for Shuffles {
    fn rows(&self, shuffle: u32, partition: u32, schema: SchemaRef) -> SendableRecordBatchStream {
        let rows = self.0.get(&(shuffle, partition)).cloned().unwrap_or_default();
        rows_of(schema, rows)
    }
}

fn rows_of(schema: SchemaRef, rows: Vec<RecordBatch>) -> SendableRecordBatchStream {
    Box::pin(RecordBatchStreamAdapter::new(schema, stream::iter(rows.into_iter().map(Ok))))
}

/// What happened on the way.
#[derive(Debug, Default)]
pub struct Told {
    pub stages: usize,
    pub explained: String,
    /// The bytes that tasks have spilled.
    pub spilled: usize,
    /// The rows of each partition of each shuffle.
    pub partitions: BTreeMap<(u32, u32), usize>,
}

pub async fn compute(
    master: &Engine,
    operations: &[Operation],
    cut: FileCut,
) -> Result<(Frame, Told), FrameError> {
    compute_on(master, &engine(), operations, cut).await
}

/// Computes at a master with tasks at a worker. Each result that may be split is split.
pub async fn compute_on(
    master: &Engine,
    worker: &Engine,
    operations: &[Operation],
    cut: FileCut,
) -> Result<(Frame, Told), FrameError> {
    let mut widenings = Widenings::default();
    loop {
        let plan = master.plan_cut(operations, master, &widenings, cut).await?;
        match run(master, worker, plan).await {
            Err(FrameError::Widen(widening)) => assert!(widenings.add(widening), "widened twice"),
            computed => return computed,
        }
    }
}

async fn run(
    master: &Engine,
    worker: &Engine,
    mut plan: DistributedPlan,
) -> Result<(Frame, Told), FrameError> {
    let (schema, mut told) = (plan.schema(), Told::default());
    let (mut results, mut shuffles) = (Vec::new(), Shuffles::default());
    loop {
        told.stages += 1;
        assert_eq!(plan.earlier_tasks(), results.len());
        let before = shuffles.clone();
        for (index, task) in plan.tasks().iter().enumerate() {
            let source = Arc::new(before.clone());
            for module in &task.modules {
                worker.modules().insert_as(module.hash(), module.bytes().clone()).unwrap();
            }
            let TaskRun { rows, exchange, spilling } =
                worker.run_shuffling_task(&task.plan, &task.files, source, worker.task_budget().as_ref())?;
            let mut rows: Vec<_> =
                rows.try_collect().await.map_err(|error| worker.explain_error(&error, &task.files))?;
            told.spilled += spilling.bytes();
            if let Some((exchange, above)) = exchange {
                assert_eq!(above, 0);
                let mut splitter = exchange.splitter().unwrap();
                let mut split = Vec::new();
                for batch in rows.drain(..) {
                    split.extend(splitter.push(batch).unwrap());
                }
                split.extend(splitter.finish().unwrap());
                let number = plan.earlier_tasks() + index;
                let place = plan.exchanges().iter().position(|exchange| exchange.tasks.contains(&number));
                let shuffle = plan.first_shuffle() + u32::try_from(place.unwrap()).unwrap();
                for (partition, batch) in split {
                    *told.partitions.entry((shuffle, partition)).or_default() += batch.num_rows();
                    shuffles.0.entry((shuffle, partition)).or_default().push(batch);
                }
            }
            results.push(rows_of(task.schema.clone(), rows));
        }
        if plan.exchanges().is_empty() {
            break;
        }
        let largest = vec![1; plan.exchanges().len()];
        plan = plan.next_stage(&largest)?;
    }
    told.explained = plan.explain();
    plan.later_shuffles()?;
    let rows = plan.finish_shuffled(results, Arc::new(shuffles)).await?;
    let batches = rows.try_collect().await.map_err(|error| master.explain_error(&error, &[]))?;
    Ok((Frame { schema, batches }, told))
}

/// What stands in an explained plan between the tasks and the rest.
const REST: &str = "The master, with the results of the tasks:";

const CUT: FileCut = FileCut::Even { partitions: 6, min_bytes: 1, max_bytes: u64::MAX };

fn keys(rows: usize, distinct: usize) -> Data {
    let mut text = String::from("k,x,name\n");
    for row in 0..rows {
        text.push_str(&format!("{},{}.25,n{}\n", row * 7919 % distinct, row % 97, row % distinct));
    }
    Data::new(&[("a.csv", &text), ("b.csv", &text)])
}

async fn shuffled(data: &Data, operations: &[Operation], hashed_side: u64) -> Told {
    let master = data.engine.clone().with_shuffles(ShuffleSettings { above: 0, hashed_side });
    let (frame, told) = compute(&master, operations, CUT).await.unwrap();
    assert_eq!(text(&frame), text(&data.engine.compute(operations).await.unwrap()));
    told
}

#[tokio::test]
async fn groups_are_finished_in_tasks_that_read_one_partition_each() {
    let data = keys(4_000, 1_000);
    let operations = data.after_read(r#"{"groupby": {"by": ["k"], "agg": ["sum(x)", "size"]}}"#);
    let told = shuffled(&data, &operations, 0).await;
    assert_eq!(told.stages, 2, "{}", told.explained);
    let (tasks, rest) = told.explained.split_once(REST).unwrap();
    assert!(!rest.contains("Aggregate") && rest.contains("SortPreservingMerge"), "{}", told.explained);
    assert!(tasks.contains("mode=Final") && tasks.contains("ShuffleExec"), "{}", told.explained);
    let lines: Vec<_> = tasks.lines().filter(|line| line.contains("task")).collect();
    assert_eq!(lines, ["22 tasks", "Stage 1, 6 tasks, whose rows are shuffled:", "Stage 2, 16 tasks:"]);
    assert!(told.partitions.len() > 10, "{:?}", told.partitions);
    assert!(told.partitions.values().all(|rows| *rows < 1_500), "{:?}", told.partitions);
}

#[tokio::test]
async fn one_column_is_counted_distinct_in_tasks() {
    let data = keys(4_000, 1_000);
    let operations = data.after_read(r#"{"nunique": {"columns": ["name"]}}"#);
    let told = shuffled(&data, &operations, 0).await;
    assert_eq!(told.stages, 2, "{}", told.explained);
    assert!(told.explained.split_once(REST).unwrap().0.contains("ShuffleExec"), "{}", told.explained);
}

const MERGED: &str = r#"{"merge": {"right": [{"read_csv": {"paths": ["FOLDER/b.csv"]}}], "how": "HOW", "left_on": ["k"], "right_on": ["k"]}}"#;

#[tokio::test]
async fn both_sides_of_a_join_meet_in_tasks_and_large_sides_are_sorted() {
    let data = keys(1_000, 500);
    for how in ["inner", "left", "right", "outer"] {
        let operations = data.after_read(&MERGED.replace("HOW", how));
        let hashed = shuffled(&data, &operations, u64::MAX).await;
        assert!(hashed.explained.contains("HashJoinExec"), "{}", hashed.explained);
        let sorted = shuffled(&data, &operations, 0).await;
        assert!(sorted.explained.contains("SortMergeJoin"), "{}", sorted.explained);
        let (_, rest) = sorted.explained.split_once(REST).unwrap();
        assert!(!rest.contains("Join"), "{}", sorted.explained);
    }
}

#[tokio::test]
async fn a_join_and_its_groups_are_three_stages() {
    let data = keys(1_000, 500);
    let groups = r#", {"groupby": {"by": ["name_x"], "agg": ["sum(x_y)"]}}"#;
    let operations = data.after_read(&(MERGED.replace("HOW", "inner") + groups));
    let told = shuffled(&data, &operations, 0).await;
    assert_eq!(told.stages, 3, "{}", told.explained);
}

#[tokio::test]
async fn the_distinct_values_of_groups_are_groups() {
    let data = keys(2_000, 300);
    let operations = data.after_read(r#"{"groupby": {"by": ["x"], "agg": ["nunique(name)"]}}"#);
    let told = shuffled(&data, &operations, 0).await;
    assert_eq!(told.stages, 3, "{}", told.explained);
}

/// In any combination, also beside aggregates of all rows and of the same column.
#[tokio::test]
async fn distinct_values_of_several_columns_are_counted_in_tasks() {
    let data = keys(2_000, 300);
    for list in [
        r#"{"nunique": {}}"#,
        r#"{"groupby": {"by": ["x"], "agg": ["nunique(name)", "nunique(k)"]}}"#,
        r#"{"groupby": {"by": ["x"], "agg": ["nunique(name)", "sum(k)", "first(name)", "max(name)", "nunique(k) as n", "nunique(name) as m", "std(k)", "size", "nunique(x)"]}}"#,
    ] {
        let operations = data.after_read(list);
        let told = shuffled(&data, &operations, 0).await;
        assert_eq!(told.stages, 3 - usize::from(list.contains("{}")), "{list}: {}", told.explained);
        assert!(!told.explained.contains("DISTINCT") || list.contains("nunique(x)"), "{}", told.explained);
    }
}

#[tokio::test]
async fn a_key_that_all_rows_share_is_one_partition() {
    let data = keys(100, 1);
    let operations = data.after_read(&MERGED.replace("HOW", "inner"));
    let told = shuffled(&data, &operations, 0).await;
    assert_eq!(told.partitions.values().max(), Some(&200), "{:?}\n{}", told.partitions, told.explained);
}

/// With each amount of memory a job ends, or says that it needs more.
#[tokio::test]
async fn what_does_not_fit_in_the_memory_of_a_worker_is_spilled_or_fails_with_a_reason() {
    let data = keys(60_000, 60_000);
    let master = data.engine.clone().with_shuffles(ShuffleSettings { above: 0, hashed_side: 0 });
    let join = MERGED.replace("HOW", "outer");
    for list in [
        r#"{"groupby": {"by": ["name", "k"], "agg": ["sum(x)", "mean(x)", "std(x)", "size"]}}"#,
        r#"{"sort_values": {"by": ["name", "k"], "ascending": [false, true]}}"#,
        &join,
    ] {
        let operations = data.after_read(list);
        let expected = text(&data.engine.compute(&operations).await.unwrap());
        let (mut spilled, mut refused) = (0, 0);
        for memory in [4_000_000, 1_000_000, 500_000, 30_000] {
            let spill_folder = Some(data.folder.path().join("spill"));
            let tight = EngineConfig { threads: 1, memory_bytes: Some(memory), spill_folder, wasm: None };
            match compute_on(&master, &Engine::new(tight).unwrap(), &operations, CUT).await {
                Ok((frame, told)) => {
                    assert!(text(&frame) == expected, "{list} with {memory} bytes gives something else");
                    spilled += told.spilled;
                }
                Err(FrameError::Resources(reason)) => {
                    assert!(reason.contains("--memory"), "{reason}");
                    refused += 1;
                }
                Err(other) => panic!("{list} with {memory} bytes: {other:?}"),
            }
        }
        assert!(spilled > 0 && refused > 0, "{list}: {spilled} bytes spilled, {refused} times refused");
    }
}

/// A set of the distinct values of each group could not be spilled.
#[tokio::test]
async fn distinct_values_of_several_columns_are_spilled() {
    let data = keys(10_000, 10_000);
    let master = data.engine.clone().with_shuffles(ShuffleSettings { above: 0, hashed_side: 0 });
    let list = r#"{"groupby": {"by": ["x"], "agg": ["nunique(name)", "nunique(k)", "sum(k)"]}}"#;
    let operations = data.after_read(list);
    let expected = text(&data.engine.compute(&operations).await.unwrap());
    let mut spilled = 0;
    for memory in [800_000, 400_000, 250_000] {
        let spill_folder = Some(data.folder.path().join("spill"));
        let tight = EngineConfig { threads: 1, memory_bytes: Some(memory), spill_folder, wasm: None };
        match compute_on(&master, &Engine::new(tight).unwrap(), &operations, CUT).await {
            Ok((frame, told)) => {
                assert!(text(&frame) == expected, "{memory} bytes give something else");
                spilled += told.spilled;
            }
            Err(FrameError::Resources(reason)) => assert!(reason.contains("--memory"), "{reason}"),
            Err(other) => panic!("{memory} bytes: {other:?}"),
        }
    }
    assert!(spilled > 0, "nothing was spilled");
}
