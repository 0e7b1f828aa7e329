//! Subcommands and their exit codes.

use crate::support::{failed, folder, printed, run, run_with_input};

#[test]
fn operations_print_csv_into_a_pipe() {
    let folder = folder();
    let line = |words: &[&str]| printed(&run(folder.path(), words));
    assert_eq!(line(&["head", "people.csv", "-n", "1"]), "name,x,y\nAda,1,0.5\n");
    assert_eq!(line(&["tail", "people.csv", "-n", "1"]), "name,x,y\nAda,5,1.5\n");
    assert_eq!(line(&["columns", "people.csv"]), "column\nname\nx\ny\n");
    assert_eq!(line(&["len", "people.csv"]), "len\n4\n");
    let groups = line(&["groupby", "people.csv", "--by", "name", "--agg", "mean(x)", "max(y) as top"]);
    assert_eq!(groups, "name,mean(x),top\nAda,3.0,1.5\n\"O'Hara, Scarlett\",2.0,\nÑandú,3.0,2.5\n");
    assert_eq!(
        line(&["isin", "people.csv", "--values", "1", "5", "--column", "x"]),
        "x\ntrue\nfalse\nfalse\ntrue\n"
    );
    assert_eq!(line(&["apply", "people.csv", "x * 2"]), "apply\n2\n4\n6\n10\n");
    assert_eq!(line(&["max", "people.csv", "--columns", "x"]), "x\n5\n");
    assert_eq!(line(&["query", "people.csv", "x > 3"]), "name,x,y\nAda,5,1.5\n");
    assert_eq!(line(&["sql", "people.csv", "select sum(x) as s from df"]), "s\n11\n");
}

#[test]
fn items_come_one_after_the_other() {
    let folder = folder();
    let items = printed(&run(folder.path(), &["items", "people.csv"]));
    assert_eq!(
        items,
        "name\nAda\n\"O'Hara, Scarlett\"\nÑandú\nAda\n\nx\n1\n2\n3\n5\n\ny\n0.5\n\"\"\n2.5\n1.5\n"
    );
}

#[test]
fn formats_and_files() {
    let folder = folder();
    let json = printed(&run(folder.path(), &["head", "people.csv", "-n", "1", "--output", "json"]));
    assert_eq!(json, "{\"name\":\"Ada\",\"x\":1,\"y\":0.5}\n");
    let table = printed(&run(folder.path(), &["head", "people.csv", "--output", "table"]));
    assert!(table.contains("Ñandú             3   2.5"), "{table}");
    assert_eq!(printed(&run(folder.path(), &["to-csv", "people.csv", "--to", "copy.csv"])), "");
    let copy = std::fs::read_to_string(folder.path().join("copy.csv")).unwrap();
    assert!(copy.starts_with("name,x,y\nAda,1,0.5\n"), "{copy}");
    printed(&run(folder.path(), &["to-parquet", "people.csv", "--to", "copy.parquet"]));
    assert!(std::fs::read(folder.path().join("copy.parquet")).unwrap().starts_with(b"PAR1"));
    let error = failed(&run(folder.path(), &["to-csv", "people.csv", "--to", "no/such/folder.csv"]), 1);
    assert!(error.contains("no/such/folder.csv cannot be written"), "{error}");
    let left: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().ends_with(".part")), "{left:?}");
}

#[test]
fn lists_in_json_and_lines_of_the_prompt() {
    let folder = folder();
    let list = r#"[{"read_csv": {"paths": ["people.csv"]}}, {"sum": {"columns": ["x"]}}]"#;
    assert_eq!(printed(&run(folder.path(), &["run", "--json", list])), "x\n11\n");
    assert_eq!(printed(&run_with_input(folder.path(), &["run", "--file", "-"], list)), "x\n11\n");
    let lines = ["eval", "df = read_csv(\"people.csv\")", "df[df.x > 2].x.sum()", "len(df)"];
    assert_eq!(printed(&run(folder.path(), &lines)), "x\n8\nlen\n4\n");
    let plan = printed(&run(folder.path(), &["explain", "read_csv(\"people.csv\").x.max()"]));
    assert!(plan.to_lowercase().contains("csv"), "{plan}");
    let plan = printed(&run(folder.path(), &["len", "people.csv", "--explain"]));
    assert!(plan.to_lowercase().contains("csv"), "{plan}");
}

#[test]
fn lists_line_by_line_are_answered_by_frames_or_by_summaries() {
    let folder = folder();
    let lists = "[{\"read_csv\": {\"paths\": [\"people.csv\"]}}, {\"dropna\": {}}]\n[{\"dance\": {}}]\n";
    let answers = |words: &[&str]| -> Vec<serde_json::Value> {
        let printed = printed(&run_with_input(folder.path(), words, lists));
        printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let frames = answers(&["run", "--lines"]);
    assert_eq!(frames[0]["frame"]["rows"][0], serde_json::json!(["Ada", 1, 0.5]));
    assert_eq!(frames[1]["error"]["code"], "bad-job");
    let summaries = answers(&["run", "--lines", "--summary"]);
    assert_eq!(summaries[0]["summary"]["rows"], 3);
    assert_eq!(summaries[0]["summary"]["sums"], serde_json::json!({ "x": 9.0, "y": 4.5 }));
    assert!(summaries[0]["summary"]["seconds"].as_f64().unwrap() > 0.0);
    assert_eq!(summaries[1]["error"]["code"], "bad-job");
}

#[test]
fn a_probe_tells_how_long_the_way_of_a_task_takes() {
    let folder = folder();
    let words = ["nodes", "probe", "--jobs", "3", "--tasks", "20", "--workers", "1"];
    let told = printed(&run(folder.path(), &words));
    assert!(told.starts_with("3 jobs of one empty task: p50 "), "{told}");
    let json = printed(&run(folder.path(), &[&words[..], &["--output", "json"]].concat()));
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(report["p50_ms"].as_f64() <= report["p99_ms"].as_f64(), "{report}");
    assert_eq!(report["tasks"], 20);
}

#[test]
fn a_cluster_that_has_ended_leaves_nothing_in_its_bucket() {
    let folder = folder();
    let bucket = folder.path().join("bucket");
    let url = format!("file://{}", bucket.display());
    let words =
        ["sum", "people.csv", "--columns", "x", "--workers", "2", "--middleware", "objectstore", "--broker"];
    assert_eq!(printed(&run(folder.path(), &[&words[..], &[url.as_str()]].concat())), "x\n11\n");
    let left: Vec<_> = std::fs::read_dir(&bucket).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_function_of_a_module_runs_here_and_in_worker_processes() {
    let folder = folder();
    let text = include_str!("../../../../tasca1/wasm/wat/scores.wat");
    std::fs::write(folder.path().join("scores.wasm"), wat::parse_str(text).unwrap()).unwrap();
    let words =
        ["apply", "people.csv", "--wasm", "scores.wasm", "--function", "score", "--columns", "y", "x"];
    let words = [&words[..], &["--returns", "float64"]].concat();
    let scores = "apply\n2.0\n\"\"\n8.0\n8.0\n";
    assert_eq!(printed(&run(folder.path(), &words)), scores);
    assert_eq!(printed(&run(folder.path(), &[&words[..], &["--workers", "2"]].concat())), scores);
    let line = "read_csv(\"people.csv\").apply_wasm(\"scores.wasm\", \"score\", [\"y\", \"x\"], \"float64\", as=\"apply\")";
    let eval = ["eval", line, "--wasm", "scores.wasm"];
    assert_eq!(printed(&run(folder.path(), &eval)), scores);
    assert_eq!(printed(&run(folder.path(), &[&eval[..], &["--workers", "1"]].concat())), scores);
    let told = failed(&run(folder.path(), &["eval", line]), 2);
    assert!(told.contains("there is no module") && told.contains("--wasm FILE"), "{told}");
    let loops = r#"(module (func (export "f") (param i64) (result i64) (loop $l (br $l)) (local.get 0)))"#;
    std::fs::write(folder.path().join("loops.wasm"), wat::parse_str(loops).unwrap()).unwrap();
    let words = [
        "apply",
        "people.csv",
        "--wasm",
        "loops.wasm",
        "--function",
        "f",
        "--columns",
        "x",
        "--returns",
        "int64",
    ];
    let error = failed(&run(folder.path(), &words), 1);
    assert!(error.contains("used up its 1000000 units of fuel"), "{error}");
}

#[test]
fn wrong_arguments_end_with_2_and_failures_with_1() {
    let folder = folder();
    let cases: &[(&[&str], i32, &str)] = &[
        (&["head"], 2, "PATH"),
        (&["head", "people.csv", "--rows", "x"], 2, "--rows"),
        (&["apply", "people.csv"], 2, "needs a PATH and an EXPRESSION"),
        (&["run", "--json", "[{\"dance\": {}}]"], 2, "dance"),
        (
            &["apply", "people.csv", "--function", "f", "--columns", "x", "--returns", "int64"],
            2,
            "--wasm FILE",
        ),
        (&["apply", "people.csv", "--function", "upper"], 2, "--function needs --column"),
        (&["len", "people.csv", "--wasm", "people.csv"], 2, "no valid WebAssembly module"),
        (&["len", "people.csv", "--wasm", "missing.wasm"], 2, "cannot be read"),
        (&["eval", "df.max()"], 2, "^^\n`df` is not known"),
        (&["nodes", "list"], 2, "--master ADDRESS"),
        (&["len", "people.csv", "--master", "nowhere"], 2, "HOST:PORT"),
        (&["len", "people.csv", "--master", "h:1", "--workers", "2"], 2, "one of the two"),
        (&["len", "people.csv", "--workers", "2", "--middleware", "redis"], 2, "--broker redis://"),
        (&["len", "people.csv", "--workers", "2", "--middleware", "objectstore"], 2, "--broker file:///"),
        (&["len", "people.csv", "--master", "redis://h"], 2, "grpc has no broker"),
        (&["len", "missing.csv"], 1, "missing.csv"),
        (&["query", "people.csv", "nothing > 3"], 1, "nothing"),
    ];
    for (words, code, message) in cases {
        let output = run(folder.path(), words);
        let error = failed(&output, *code);
        assert!(error.contains(message), "{words:?}: {error}");
        assert!(output.stdout.is_empty(), "{words:?}");
    }
}

#[test]
fn help_has_examples_for_what_is_not_obvious() {
    let folder = folder();
    let help = printed(&run(folder.path(), &["--help"]));
    assert!(help.contains("groupby 'tasca1/data/*.csv' --by name --agg 'mean(x)'"), "{help}");
    let help = printed(&run(folder.path(), &["isin", "--help"]));
    assert!(help.contains("--values 1 2 --column x") && help.contains("DATAFRAME_MASTER"), "{help}");
    let script = printed(&run(folder.path(), &["completions", "bash"]));
    assert!(script.contains("value-counts") && !script.contains("worker)"), "{script}");
}
