//! Plans for a cluster of somebody else's: they go as bytes to a DataFusion that has nothing of this crate, and give the same rows.

use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use dataframe_engine::{Compute, FrameError, StockCluster, StockCompute};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion_proto::bytes::{logical_plan_from_bytes, logical_plan_to_bytes};

use crate::data::{Data, text};
use crate::same::{ALL, numbers};

/// DataFusion in this process, which sees a plan's bytes alone.
struct StockDataFusion;

#[async_trait]
impl StockCluster for StockDataFusion {
    async fn run(&self, plan: LogicalPlan) -> Result<Vec<RecordBatch>, DataFusionError> {
        let bytes = logical_plan_to_bytes(&SessionContext::new().state().optimize(&plan)?)?;
        let cluster = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(3));
        let plan = logical_plan_from_bytes(&bytes, &cluster.task_ctx())?;
        cluster.execute_logical_plan(plan).await?.collect().await
    }
}

impl Data {
    async fn csv_elsewhere(&self, rest: &str) -> Result<String, FrameError> {
        let elsewhere = StockCompute::new(StockDataFusion).unwrap();
        elsewhere.compute(&self.after_read(rest)).await.map(|frame| text(&frame))
    }
}

/// Whether two results are equal, but for the last digits of sums: DataFusion's own sums depend on the order of the rows.
fn are_alike(one: &str, other: &str) -> bool {
    let (ones, others): (Vec<_>, Vec<_>) =
        (one.split([',', '\n']).collect(), other.split([',', '\n']).collect());
    let alike = |(one, other): (&&str, &&str)| match (one.parse::<f64>(), other.parse::<f64>()) {
        (Ok(one), Ok(other)) => one == other || (one - other).abs() <= 1e-9 * one.abs().max(other.abs()),
        _ => one == other,
    };
    ones.len() == others.len() && ones.iter().zip(&others).all(alike)
}

#[tokio::test]
async fn every_operation_gives_the_same_rows() {
    let data = numbers();
    // A query that only selects has the order of the files here, and of its columns elsewhere.
    for (rest, _) in ALL.iter().filter(|(rest, _)| !rest.contains("limit 1000")) {
        let here = text(&data.engine.compute(&data.after_read(rest)).await.unwrap());
        let there = data.csv_elsewhere(rest).await.unwrap_or_else(|error| panic!("{rest}: {error}"));
        assert!(are_alike(&here, &there), "{rest}\nhere:\n{here}\nthere:\n{there}");
    }
}

async fn check(files: &[(&str, &str)], rest: &str, expected: &str) {
    let text = Data::new(files).csv_elsewhere(rest).await.unwrap_or_else(|error| panic!("{rest}: {error}"));
    assert_eq!(text, expected, "{rest}");
}

#[tokio::test]
async fn fields_have_the_values_that_pandas_gives_them() {
    let written = "n,f,b,t\n1,NaN,TRUE,NA\n NA,nan,False,\"a,\nb\"\nNA, 1.5 ,,\n";
    // ` NA` is a text, so that the column is one.
    check(&[("a.csv", written)], "", "n,f,b,t\n1,,true,\n NA,,false,\"a,\nb\"\n,1.5,,\n").await;
    // One of the files has its columns in another order, and one has no rows.
    let files =
        [("a.csv", "x,y\n1,a\n"), ("b.csv", "y,x\nb,2\n"), ("c.csv", ""), ("d * [e].csv", "x,y\n3,c\n")];
    check(&files, "", "x,y\n1,a\n2,b\n3,c\n").await;
}

#[tokio::test]
async fn types_are_widened_by_what_the_cluster_finds() {
    let many = "1\n".repeat(600_000);
    for (last, ones) in [("0.5", "1.0"), ("many", "1"), ("9223372036854775808", "1")] {
        let data = Data::new(&[("a.csv", &format!("x\n{many}{last}\n"))]);
        let tail = data.csv_elsewhere(r#"{"tail": {"n": 2}}"#).await.unwrap();
        assert_eq!(tail, format!("x\n{ones}\n{last}\n"));
    }
}

#[tokio::test]
async fn a_value_that_does_not_fit_a_told_type_is_named() {
    let data = Data::new(&[("a.csv", "x\n1\nmany\n")]);
    let read = r#"[{"read_csv": {"paths": ["FOLDER/a.csv"], "dtypes": {"x": "int64"}}}, {"max": {}}]"#;
    let elsewhere = StockCompute::new(StockDataFusion).unwrap();
    let error = elsewhere.compute(&data.operations(read)).await.unwrap_err();
    assert!(matches!(error, FrameError::BadJob(_)), "{error:?}");
    assert!(
        error.to_string().contains("column \"x\": the value \"many\" is not of the type int64"),
        "{error}"
    );
}

#[tokio::test]
async fn head_and_tail_look_at_the_same_blocks() {
    let rows: String = (0..1000).map(|row| format!("{row},\"a\nb\"\n")).collect();
    let data = Data::new(&[("a.csv", &format!("x,t\n{rows}")), ("b.csv", "x,t\n5,c\n")]);
    for rest in [
        r#"{"query": {"predicate": "x > 90"}}, {"head": {"n": 500}}"#,
        r#"{"head": {"n": 5000, "partitions": 3}}"#,
        r#"{"tail": {"n": 500}}"#,
    ] {
        let read =
            r#"{"read_csv": {"paths": ["FOLDER/a.csv", "FOLDER/b.csv", "FOLDER/a.csv"], "blocksize": 1000}}"#;
        let operations = data.operations(&format!("[{read}, {rest}]"));
        let here = text(&data.engine.compute(&operations).await.unwrap());
        let elsewhere = StockCompute::new(StockDataFusion).unwrap();
        assert_eq!(text(&elsewhere.compute(&operations).await.unwrap()), here, "{rest}");
        assert!(here.lines().count() > 10, "{here}");
    }
}

#[tokio::test]
async fn what_only_this_crate_can_do_is_refused() {
    let data = Data::new(&[("a.csv", "x\n1\n")]);
    let wasm =
        r#"{"apply": {"wasm": {"module": "3f2a", "function": "f", "columns": ["x"], "returns": "int64"}}}"#;
    let refused = data.csv_elsewhere(wasm).await.unwrap_err();
    assert!(matches!(&refused, FrameError::BadJob(why) if why.contains("WebAssembly")), "{refused:?}");
    let elsewhere = StockCompute::new(StockDataFusion).unwrap();
    let worker = data.operations(r#"[{"read_csv": {"paths": ["worker://w1/a.csv"]}}]"#);
    let refused = elsewhere.compute(&worker).await.unwrap_err();
    assert!(refused.to_string().contains("worker://w1/a.csv"), "{refused}");
    let often =
        format!(r#"[{{"read_csv": {{"paths": [{}"FOLDER/a.csv"]}}}}]"#, r#""FOLDER/a.csv", "#.repeat(100));
    let refused = elsewhere.compute(&data.operations(&often)).await.unwrap_err();
    assert!(refused.to_string().contains("there are 101 files"), "{refused}");
    let read = r#"[{"read_csv": {"paths": ["FOLDER/a.csv"], "compression": "gzip"}}]"#;
    let compressed = Data::new(&[]);
    // The file of `x` and 1, by gzip.
    let bytes = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\xab\xe02\xe4\x02\x00\x15<\xd0\xa4\x04\x00\x00\x00";
    std::fs::write(compressed.folder.path().join("a.csv"), bytes).unwrap();
    let refused = elsewhere.compute(&compressed.operations(read)).await.unwrap_err();
    assert!(refused.to_string().contains("a.csv is compressed"), "{refused}");
}

#[tokio::test]
async fn a_plan_shows_what_travels() {
    let data = Data::new(&[("a.csv", "x\n1\n")]);
    let elsewhere = StockCompute::new(StockDataFusion).unwrap();
    let plan = elsewhere.explain(&data.after_read(r#"{"max": {}}"#)).await.unwrap();
    assert!(plan.contains("TableScan: csv") && !plan.contains("Window"), "{plan}");
}
