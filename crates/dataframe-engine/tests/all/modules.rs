//! Functions of WebAssembly modules: the same in one process and in tasks, and refused where nobody allows them.

use dataframe_engine::csv::FileCut;
use dataframe_engine::{Engine, EngineConfig, FrameError, Widenings};

use crate::data::Data;
use crate::same::numbers;

/// The example of the documentation: `score`, by row, and `bytes`, by batch.
const SCORES: &str = include_str!("../../../../tasca1/wasm/wat/scores.wat");

/// A function that gives up at the number 4.
const FOUR: &str = r#"(module (func (export "f") (param i64) (result i64)
  (if (i64.eq (local.get 0) (i64.const 4)) (then unreachable)) (local.get 0)))"#;

/// Gives the engine a module. Returns its hash.
fn give(engine: &Engine, text: &str) -> String {
    engine.modules().insert(wat::parse_str(text).unwrap().into()).unwrap().hash().to_owned()
}

/// An `apply` of a function.
fn apply(module: &str, function: &str, columns: &[&str], returns: &str) -> String {
    let columns = serde_json::to_string(columns).unwrap();
    format!(
        r#"{{"apply": {{"wasm": {{"module": "{module}", "function": "{function}", "columns": {columns}, "returns": "{returns}"}}}}}}"#
    )
}

fn cut() -> FileCut {
    FileCut::Even { partitions: 4, min_bytes: 1, max_bytes: u64::MAX }
}

#[tokio::test]
async fn a_function_gives_what_the_same_expression_gives() {
    let data = numbers();
    let module = give(&data.engine, SCORES);
    let score = apply(&module, "score", &["v3", "v1"], "float64");
    let bytes = apply(&module, "bytes", &["id1"], "int64");
    for (function, expression) in [
        (&score, r#"{"apply": {"expression": "v3 * 2 + v1"}}"#),
        (&bytes, r#"{"apply": {"expression": "coalesce(octet_length(id1), 0)"}}"#),
    ] {
        let computed = data.csv(function).await.unwrap();
        assert_eq!(computed.lines().count(), 6001);
        assert_eq!(computed, data.csv(expression).await.unwrap(), "{expression}");
    }
    let sum = data.csv(&format!(r#"{bytes}, {{"sum": {{}}}}"#)).await.unwrap();
    assert_eq!(
        sum,
        data.csv(r#"{"apply": {"expression": "octet_length(id1)"}}, {"sum": {}}"#).await.unwrap()
    );
    let head = data.csv(&format!(r#"{score}, {{"head": {{"n": 3}}}}"#)).await.unwrap();
    assert_eq!(head.lines().count(), 4);
    // Where several tasks have been put together, and where the arguments are constants.
    let groups = r#"{"groupby": {"by": ["id1"], "agg": ["sum(v1) as n"]}}"#;
    let computed =
        data.csv(&format!("{groups}, {}", apply(&module, "bytes", &["id1"], "int64"))).await.unwrap();
    assert_eq!(computed, format!("apply\n{}", "5\n".repeat(15)));
    let constant = r#"{"assign": {"columns": [["k", "2"], ["w", "0.5"]]}}"#;
    let computed =
        data.csv(&format!("{constant}, {}", apply(&module, "score", &["w", "k"], "float64"))).await.unwrap();
    assert_eq!(computed, format!("apply\n{}", "3.0\n".repeat(6000)));
}

#[tokio::test]
async fn a_failure_names_the_row_and_where_it_comes_from() {
    let data = Data::new(&[("a.csv", "x\n1\n2\n4\n")]);
    let module = give(&data.engine, FOUR);
    let operations = data.after_read(&apply(&module, "f", &["x"], "int64"));
    let error = data.engine.compute(&operations).await.unwrap_err();
    let FrameError::BadJob(message) = &error else { panic!("{error:?}") };
    let at_row = |row: usize| {
        format!("apply: the function \"f\" of the module {} failed at row {row} of a batch", &module[..12])
    };
    assert!(message.starts_with(&at_row(3)) && message.ends_with("its arguments were 4"), "{message}");
    // The last task has the last row alone.
    let error = crate::data::compute_in_tasks(&data.engine, &operations, cut()).await.unwrap_err();
    let FrameError::BadJob(message) = &error else { panic!("{error:?}") };
    assert!(message.starts_with(&at_row(1)), "{message}");
    assert!(message.contains("a.csv from byte 6 to 8: it gave up"), "{message}");
}

#[tokio::test]
async fn a_module_that_is_not_here_and_a_function_that_does_not_fit_are_named() {
    let data = Data::new(&[("a.csv", "x,name\n1,a\n")]);
    let module = give(&data.engine, SCORES);
    let unknown = module.replace(['0', '1', '2'], "f");
    for (rest, why) in [
        (
            apply(&unknown, "f", &["x"], "int64"),
            format!("the module {unknown} is not here; give its file with --wasm"),
        ),
        (apply(&module, "f", &["x"], "int64"), "there is no such function; there are \"alloc\"".to_owned()),
        (apply(&module, "score", &["x"], "float64"), "its type is (f64, i64) -> (f64)".to_owned()),
        (apply(&module, "bytes", &["nme"], "int64"), "did you mean \"name\"?".to_owned()),
    ] {
        let error = data.engine.compute(&data.after_read(&rest)).await.unwrap_err();
        let FrameError::BadJob(message) = &error else { panic!("{error:?}") };
        assert!(message.starts_with("apply: ") && message.contains(&why), "{message}");
    }
}

#[tokio::test]
async fn a_master_that_allows_no_modules_plans_them_for_workers_and_runs_none_itself() {
    let data = numbers();
    let master = Engine::new(EngineConfig::default()).unwrap();
    let module = give(&master, SCORES);
    let score = apply(&module, "score", &["v3", "v1"], "float64");
    let constant = r#"{"assign": {"columns": [["v1", "2"], ["v3", "0.5"]]}}"#;
    for rest in [score.clone(), format!("{constant}, {score}")] {
        let operations = data.after_read(&rest);
        let plan = master.plan_cut(&operations, &master, &Widenings::default(), cut()).await.unwrap();
        assert!(plan.tasks().iter().all(|task| task.modules.len() == 1), "{}", plan.explain());
        let other = Engine::new(EngineConfig::default()).unwrap();
        let task = &plan.tasks()[0];
        let error = other.run_task(&task.plan, &task.files, None).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("is not here"), "{error}");
        let error = master.compute(&operations).await.unwrap_err();
        assert!(error.to_string().contains("this process runs no WebAssembly modules"), "{error}");
    }
    let groups = r#"{"groupby": {"by": ["id1"], "agg": ["sum(v1) as v1", "max(v3) as v3"]}}"#;
    let operations = data.after_read(&format!("{groups}, {score}"));
    let planned = master.plan_cut(&operations, &master, &Widenings::default(), cut()).await;
    let error = planned.map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("runs modules only if it is started with --allow-wasm"), "{error}");
}
