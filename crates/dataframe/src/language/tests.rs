//! Lines of the prompt, and the operations that they become.

use dataframe_jobs::message::NodesCommand;
use dataframe_jobs::operation::Operation;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::evaluate::{ShellAction, evaluate};
use super::fault::LineFault;
use super::statement::parse_line;
use super::value::{ShellNames, ShellValue};

/// `df`, whose columns are known, and `other`, whose columns are not.
fn names() -> ShellNames {
    let mut names = ShellNames::default();
    let columns = ["id1", "name", "x", "y", "v1", "day", "ñandú"].map(str::to_owned).to_vec();
    for (name, path, columns) in [("df", "a.csv", Some(columns)), ("other", "b.csv", None)] {
        let ShellAction::Keep { value, .. } =
            action_with(&format!("z = read_csv(\"{path}\")"), &ShellNames::default()).unwrap()
        else {
            panic!("an assignment keeps a value");
        };
        names.assign(name, value, columns);
    }
    names.modules.insert("names.wasm".to_owned(), "3f2a".to_owned());
    names
}

fn action_with(line: &str, names: &ShellNames) -> Result<ShellAction, LineFault> {
    evaluate(parse_line(line)?, names)
}

fn action(line: &str) -> Result<ShellAction, LineFault> {
    action_with(line, &names())
}

/// The operations behind `read_csv`, as JSON.
fn json_of(operations: &[Operation]) -> Value {
    assert!(matches!(operations.first(), Some(Operation::ReadCsv(_))), "{operations:?}");
    serde_json::to_value(&operations[1..]).unwrap()
}

fn shown(line: &str) -> Value {
    match action(line) {
        Ok(ShellAction::Show(operations)) => json_of(&operations),
        other => panic!("{line}: {other:?}"),
    }
}

fn kept(line: &str) -> Value {
    match action(line) {
        Ok(ShellAction::Keep { value: ShellValue::Frame(operations), .. }) => json_of(&operations),
        other => panic!("{line}: {other:?}"),
    }
}

/// The text that is marked, and the message.
fn fault(line: &str) -> (String, String) {
    match action(line) {
        Err(fault) => (line.get(fault.at.clone()).unwrap_or_default().to_owned(), fault.message),
        Ok(other) => panic!("{line}: {other:?}"),
    }
}

#[test]
fn read_csv_takes_the_arguments_of_dask() {
    let line = r#"t = read_csv("a/*.csv", 'b.csv', sep=";", quotechar="'", header=None, na_values=["-", "?"],
        dtype={"x": "int64", "y": float}, compression="gzip", blocksize=1_000_000)  # a comment"#;
    let Ok(ShellAction::Keep { name, value: ShellValue::Frame(operations) }) = action(line) else {
        panic!("{:?}", action(line));
    };
    assert_eq!(name, "t");
    let expected = json!([{"read_csv": {
        "paths": ["a/*.csv", "b.csv"], "separator": ";", "quote": "'", "header": false, "null_words": ["-", "?"],
        "dtypes": {"x": "int64", "y": "float64"}, "compression": "gzip", "blocksize": 1_000_000,
    }}]);
    assert_eq!(serde_json::to_value(&operations).unwrap(), expected);
    assert_eq!(action("t = dd.read_csv([\"a.csv\"])"), action("t = read_csv('a.csv')"));
    assert_eq!(action("t = dask.dataframe.read_csv(\"a.csv\")"), action("t = read_csv('a.csv')"));
}

#[test]
fn frames_have_the_methods_of_dask() {
    let cases = [
        ("df", json!([])),
        ("df.head(3)", json!([{"head": {"n": 3, "partitions": 1}}])),
        ("df.head(n=3, npartitions=-1)", json!([{"head": {"n": 3, "partitions": -1}}])),
        ("df.tail()", json!([{"tail": {"n": 5}}])),
        ("df.columns", json!([{"columns": {}}])),
        ("df.dtypes", json!([{"dtypes": {}}])),
        ("len(df)", json!([{"len": {}}])),
        ("df.items()", json!([{"items": {}}])),
        ("df.max()", json!([{"max": {}}])),
        ("df[[\"x\", \"y\"]].mean()", json!([{"select": {"columns": ["x", "y"]}}, {"mean": {}}])),
        ("df.describe()", json!([{"describe": {}}])),
        ("df.isin([1, 'a', None, -2.5, True])", json!([{"isin": {"values": [1, "a", null, -2.5, true]}}])),
        ("df.apply(\"x * 2\")", json!([{"apply": {"expression": "x * 2"}}])),
        ("df.apply(\"x * 2\", axis=1, as=\"z\")", json!([{"apply": {"expression": "x * 2", "as": "z"}}])),
        (
            "df.apply(function=\"upper\", column=\"name\")",
            json!([{"apply": {"function": "upper", "column": "name"}}]),
        ),
        (
            "df.apply_wasm(\"names.wasm\", \"score\", [\"x\", \"y\"], \"float64\")",
            json!([{"apply": {"wasm": {"module": "3f2a", "function": "score", "columns": ["x", "y"], "returns": "float64"}}}]),
        ),
        (
            "df.apply_wasm(\"names.wasm\", function=\"f\", columns=df.x, returns=\"int\", as=\"z\")",
            json!([{"apply": {"wasm": {"module": "3f2a", "function": "f", "columns": ["x"], "returns": "int64"}, "as": "z"}}]),
        ),
        (
            "df.sort_values(\"x\", ascending=False)",
            json!([{"sort_values": {"by": ["x"], "ascending": [false]}}]),
        ),
        (
            "df.sort_values([\"x\", \"y\"], ascending=[True, False]).head(1)",
            json!([{"sort_values": {"by": ["x", "y"], "ascending": [true, false]}}, {"head": {"n": 1, "partitions": 1}}]),
        ),
        ("df.drop(columns=[\"x\"])", json!([{"drop": {"columns": ["x"]}}])),
        ("df.drop('x', axis=1)", json!([{"drop": {"columns": ["x"]}}])),
        ("df.rename(columns={\"x\": \"z\"})", json!([{"rename": {"columns": {"x": "z"}}}])),
        ("df.fillna(0)", json!([{"fillna": {"value": 0}}])),
        ("df.fillna({\"x\": 0})", json!([{"fillna": {"value": 0, "columns": ["x"]}}])),
        ("df.dropna(subset=\"x\", how=\"all\")", json!([{"dropna": {"how": "all", "subset": ["x"]}}])),
        ("df.query(\"x > 3\")", json!([{"query": {"predicate": "x > 3"}}])),
        ("df.sql(\"select 1 from df\")", json!([{"sql": {"query": "select 1 from df"}}])),
        ("df.persist().compute()", json!([{"persist": {}}])),
        (
            "df.assign(z=df.x, w=\"y + 1\", c=3)",
            json!([{"assign": {"columns": [["z", "\"x\""], ["w", "y + 1"], ["c", "3"]]}}]),
        ),
    ];
    for (line, expected) in cases {
        assert_eq!(shown(line), expected, "{line}");
    }
}

#[test]
fn groups_are_aggregated_in_every_spelling() {
    let by_id1 = |agg: &[&str]| json!([{"groupby": {"by": ["id1"], "agg": agg}}]);
    let cases = [
        ("df.groupby(\"id1\").agg(\"sum(v1)\")", by_id1(&["sum(v1)"])),
        (
            "df.groupby(by=[\"id1\"]).agg([\"sum(v1)\", \"mean(x) as m\"])",
            by_id1(&["sum(v1)", "mean(x) as m"]),
        ),
        ("df.groupby(\"id1\").v1.sum()", by_id1(&["sum(v1)"])),
        ("df.groupby(df.id1)[\"v1\"].mean()", by_id1(&["mean(v1)"])),
        ("df.groupby(\"id1\")[[\"v1\", \"x\"]].max()", by_id1(&["max(v1)", "max(x)"])),
        ("df.groupby(\"id1\").v1.agg([\"sum\", \"std\"])", by_id1(&["sum(v1)", "std(v1)"])),
        (
            "df.groupby(\"id1\").agg({\"v1\": \"sum\", \"x\": [\"min\", \"max\"]})",
            by_id1(&["sum(v1)", "min(x)", "max(x)"]),
        ),
        (
            "df.groupby(\"id1\").agg(total=(\"v1\", \"sum\"), n=\"count(x)\")",
            by_id1(&["sum(v1) as total", "count(x) as n"]),
        ),
        ("df.groupby(\"id1\").size()", by_id1(&["size()"])),
    ];
    for (line, expected) in cases {
        assert_eq!(shown(line), expected, "{line}");
    }
}

#[test]
fn columns_and_conditions_become_sql() {
    let query = |predicate: &str| json!([{"query": {"predicate": predicate}}]);
    let cases = [
        ("df.x", json!([{"select": {"columns": ["x"]}}])),
        ("df[\"x\"]", json!([{"select": {"columns": ["x"]}}])),
        ("df.x.max()", json!([{"max": {"columns": ["x"]}}])),
        ("df.x.isin([1, \"a\"])", json!([{"isin": {"values": [1, "a"], "column": "x"}}])),
        ("df.x.value_counts()", json!([{"value_counts": {"column": "x"}}])),
        ("df.x.unique()", json!([{"unique": {"column": "x"}}])),
        ("df.x.apply(\"twice\")", json!([{"apply": {"function": "twice", "column": "x"}}])),
        ("df.x * 2", json!([{"apply": {"expression": "(\"x\" * 2)"}}])),
        ("(df.x * 2).max()", json!([{"apply": {"expression": "(\"x\" * 2)"}}, {"max": {}}])),
        ("df.x / df.y", json!([{"apply": {"expression": "(CAST(\"x\" AS DOUBLE) / \"y\")"}}])),
        ("-df.x ** 2", json!([{"apply": {"expression": "(- power(\"x\", 2))"}}])),
        ("df.x % 3", json!([{"apply": {"expression": "((\"x\" % 3 + 3) % 3)"}}])),
        ("df.name.str.lower()", json!([{"apply": {"expression": "lower(\"name\")"}}])),
        ("df.day.dt.year", json!([{"apply": {"expression": "date_part('year', \"day\")"}}])),
        ("df[df.x > 3]", query("((\"x\" > 3) IS TRUE)")),
        (
            "df[df.x > 3].x.head(2)",
            json!([{"query": {"predicate": "((\"x\" > 3) IS TRUE)"}}, {"select": {"columns": ["x"]}}, {"head": {"n": 2, "partitions": 1}}]),
        ),
        (
            "df.x[df.y > 3].max()",
            json!([{"query": {"predicate": "((\"y\" > 3) IS TRUE)"}}, {"max": {"columns": ["x"]}}]),
        ),
        (
            "df[[\"name\"]][df.x > 3]",
            json!([{"query": {"predicate": "((\"x\" > 3) IS TRUE)"}}, {"select": {"columns": ["name"]}}]),
        ),
        (
            "df[df.x > 3][df.y < 1]",
            json!([{"query": {"predicate": "((\"y\" < 1) IS TRUE)"}}, {"query": {"predicate": "((\"x\" > 3) IS TRUE)"}}]),
        ),
        ("df[(df.x > 3) & ~(df.y == 1)]", query("(((\"x\" > 3) IS TRUE) AND (NOT ((\"y\" = 1) IS TRUE)))")),
        (
            "df[df.x * 2 > 3 & df.y != 1 | df.x.isna()]",
            query("(((((\"x\" * 2) > 3) IS TRUE) AND (\"y\" IS DISTINCT FROM 1)) OR (\"x\" IS NULL))"),
        ),
        (
            "df[not df.x > 3 and df.y < 60 * 60]",
            query("((NOT ((\"x\" > 3) IS TRUE)) AND ((\"y\" < 3600) IS TRUE))"),
        ),
        ("df[df.name == \"O'Hara \\\"\\n\"]", query("((\"name\" = 'O''Hara \"\n') IS TRUE)")),
        ("df[df[\"ñandú\"].between(1, df.x)]", query("((\"ñandú\" BETWEEN 1 AND \"x\") IS TRUE)")),
        ("df[df.name.isin([\"a\", None])]", query("(\"name\" IS NULL OR \"name\" IN ('a'))")),
        ("df[~df.x.isin([])]", query("(NOT (\"x\" IS NOT NULL AND false))")),
        (
            "df[df.name.str.contains(\"^A\") | df.name.str.contains(\".\", regex=False)]",
            query("(regexp_like(\"name\", '^A') OR (strpos(\"name\", '.') > 0))"),
        ),
        (
            "other[\"a \\\"b\\\"\"].astype(\"int64\").fillna(0).round(1)",
            json!([{"apply": {"expression": "round(coalesce(CAST(\"a \"\"b\"\"\" AS BIGINT), 0), 1)"}}]),
        ),
    ];
    for (line, expected) in cases {
        assert_eq!(shown(line), expected, "{line}");
    }
}

#[test]
fn columns_are_assigned() {
    let assign = |sql: &str| json!([{"assign": {"columns": [["y", sql]]}}]);
    assert_eq!(kept("df[\"y\"] = df.x * 2"), assign("(\"x\" * 2)"));
    assert_eq!(kept("df[\"y\"] = 'text'"), assign("'text'"));
    assert_eq!(kept("df[\"y\"] = df.apply(\"x + 1\")"), assign("x + 1"));
    assert_eq!(kept("df[\"y\"] = None"), assign("NULL"));
}

#[test]
fn frames_are_merged_and_queried() {
    let other = json!([{"read_csv": {
        "paths": ["b.csv"], "separator": ",", "quote": "\"", "header": true, "compression": "auto", "blocksize": 64 << 20,
    }}]);
    assert_eq!(
        shown("df.merge(other, on=\"id1\", how=\"left\")"),
        json!([{"merge": {"right": other, "how": "left", "left_on": ["id1"], "right_on": ["id1"]}}])
    );
    assert_eq!(
        shown("df.merge(other, left_on=[\"id1\", \"x\"], right_on=[\"a\", \"b\"])"),
        json!([{"merge": {"right": other, "how": "inner", "left_on": ["id1", "x"], "right_on": ["a", "b"]}}])
    );
    assert_eq!(
        shown("sql select x from df where x > 3;"),
        json!([{"sql": {"query": "select x from df where x > 3"}}])
    );
    assert_eq!(
        shown("sql SELECT other.id, 'from other' FROM other WHERE other.x > 1"),
        json!([{"sql": {"query": "SELECT df.id, 'from other' FROM df WHERE df.x > 1"}}])
    );
}

#[test]
fn commands_are_understood() {
    assert_eq!(action("  "), Ok(ShellAction::Nothing));
    assert_eq!(action("# only this"), Ok(ShellAction::Nothing));
    assert_eq!(action("exit()"), Ok(ShellAction::Leave));
    assert_eq!(action("help groupby"), Ok(ShellAction::Help(Some("groupby".to_owned()))));
    assert_eq!(action("frames"), Ok(ShellAction::Frames));
    assert_eq!(action("nodes"), Ok(ShellAction::Nodes(NodesCommand::List)));
    assert_eq!(
        action("nodes drain w1"),
        Ok(ShellAction::Nodes(NodesCommand::Drain { worker: "w1".to_owned() }))
    );
    assert_eq!(action("1 + 2 * 3"), Ok(ShellAction::Print(json!(7))));
    assert!(matches!(action("explain df.x.max()"), Ok(ShellAction::Explain(_))));
    assert_eq!(action("explain df.x.max()"), action("df.x.max().explain()"));
    assert!(
        matches!(action("df.to_parquet(\"a.parquet\")"), Ok(ShellAction::Save(order)) if order.path == "a.parquet")
    );
}

#[test]
fn faults_mark_the_place_and_tell_what_would_be_right() {
    let cases = [
        (
            "df.groupby(\"name\", dropna=False).x.sum()",
            "dropna=False",
            "rows with a null key are always left out",
        ),
        ("df.groupby(\"name\", sort=False).x.sum()", "sort=False", "in the order of their keys"),
        ("df.drop(\"x\", axis=0)", "axis=0", "rows have no names here"),
        ("df.join(df, on=\"x\")", "join", "no `join`"),
        ("df.foo.max()", "foo", "no column and no operation `foo`"),
        ("df[\"foo\"]", "\"foo\"", "columns: id1, name, x"),
        ("df.gruopby(\"x\")", "gruopby", "`groupby` is similar"),
        ("dff.head()", "dff", "`df` is similar; known: df, other"),
        ("df.head", "head", "takes parentheses"),
        ("df.head(-1)", "head", "at least 0"),
        ("df.head(\"a\")", "\"a\"", "a whole number is expected here and not a text"),
        ("df.head(5, 1, 2)", "2", "does not take another argument"),
        ("df.head(rows=5)", "rows=5", "`head` does not take `rows`"),
        ("df.groupby(\"id1\")", "df.groupby(\"id1\")", "an aggregate is missing"),
        ("df.groupby(\"id1\").sum()", "sum", "df.groupby(\"name\")[\"x\"].sum()"),
        ("df[1 < df.x < 5]", "<", "df.x.between(1, 5)"),
        ("df[0:3]", ":", "df.head(3)"),
        ("df.x + other.x", "df.x + other.x", "different frames"),
        ("df[other.x > 1]", "other.x > 1", "about another frame"),
        ("df.head(3)[df.x > 1]", "df.x > 1", "about another frame"),
        ("df.x == None", "df.x == None", "df.x.isna()"),
        ("df.x = 3", "x", "df[\"x\"] = …"),
        ("df.head(3", "(", "`)` is missing"),
        ("read_csv(\"a.csv", "\"", "the closing \" is missing"),
        ("df.x >", "", "a value is missing"),
        ("df.iloc[3]", "iloc", "rows have no index"),
        ("df.x in [1]", "in", "df.x.isin([1, 2])"),
        ("df[df.x is None]", "is", "df.x.isna()"),
        ("print(df)", "print", "no print is needed"),
        ("import os", "import", "not Python"),
        ("__import__('os').system('ls')", "__import__", "no function `__import__`"),
        (
            "df.apply_wasm(\"n.wasm\", \"f\", \"x\", \"int64\")",
            "apply_wasm",
            "those of --wasm FILE, with which the program is started, are names.wasm",
        ),
        (
            "df.apply_wasm(\"names.wasm\", \"f\", \"x\", \"int65\")",
            "\"int65\"",
            "\"float64\", \"int64\" or \"string\"",
        ),
        ("df.apply_wasm(\"names.wasm\", \"f\")", "apply_wasm", "df.apply_wasm(\"names.wasm\""),
        ("df.merge(other)", "merge", "`on`"),
        ("df.merge(3, on=\"x\")", "3", "a frame is expected here and not a number"),
        ("read_csv(\"a\", sep=\"ab\")", "sep=\"ab\"", "one ASCII character"),
        ("read_csv(\"a\", engine=\"c\")", "engine=\"c\"", "does not take `engine`"),
        ("sql select 1 from nothing", "nothing", "frames: df, other"),
        ("sql select 1 from df join other", "select 1 from df join other", "merge"),
        ("nodes kick w1", "nodes kick w1", "nodes remove NAME"),
        ("df.columns.x()", "x", "has no `x`"),
        ("3df", "3df", "a name begins with a letter"),
        ("df.x.max() df", "df", "does not continue"),
        ("len = 3", "len", "another name"),
        ("other[\"y\"] = df.x", "df.x", "another frame"),
    ];
    for (line, marked, message) in cases {
        let (at, text) = fault(line);
        assert!(text.contains(message), "{line}: {text}");
        assert_eq!(at, marked, "{line}: {text}");
    }
}

#[test]
fn a_python_function_is_answered_with_the_expression_to_write() {
    let cases = [
        ("df.x.apply(lambda v: v * 2 + 1)", "df.apply(\"(x * 2) + 1\")"),
        ("df.apply(lambda row: row[\"x\"] + row.y, axis=1)", "df.apply(\"x + y\")"),
        ("df.name.apply(lambda s: len(s))", "df.apply(\"length(name)\")"),
        ("df.x.map(lambda v: v > 3)", "df.apply(\"(x > 3) IS TRUE\")"),
        ("df[\"ñandú\"].apply(lambda v: v * 2)", "df.apply('\"ñandú\" * 2')"),
        ("df.x.apply(lambda v: open(v))", "df.apply(\"x * 2 + length(name)\")"),
        ("f = lambda x: x", "df.apply("),
    ];
    for (line, expected) in cases {
        let (at, text) = fault(line);
        assert!(
            text.contains("Python functions are not run here") && text.contains(expected),
            "{line}: {text}"
        );
        assert!(at.starts_with("lambda"), "{line}: {at}");
    }
}

#[test]
fn lines_without_end_are_refused_and_need_little_stack() {
    for line in [
        "(".repeat(60_000),
        "[".repeat(60_000),
        "~".repeat(60_000),
        format!("{}1", "- ".repeat(30_000)),
        format!("{}1", "1 + ".repeat(15_000)),
        format!("{}1", "2 ** ".repeat(12_000)),
        format!("df{}", ".x".repeat(30_000)),
        format!("df{}", "[0]".repeat(20_000)),
        format!("df{}", "()".repeat(30_000)),
        format!("{}x", "not ".repeat(15_000)),
        format!("df.apply({}x)", "lambda x: ".repeat(6_000)),
        "{\"a\":".repeat(10_000),
        "x".repeat(100_000),
    ] {
        assert!(action(&line).is_err(), "{}", &line[..20]);
    }
    let many: Vec<_> = (0..9_000).map(|number| number.to_string()).collect();
    assert!(action(&format!("df.x.isin([{}])", many.join(", "))).is_ok(), "a long list is no deep tree");
}

/// Pieces of which lines are made.
const PIECES: [&str; 61] = [
    "df",
    "other",
    "read_csv",
    "len",
    ".",
    "x",
    "name",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ",",
    ":",
    "=",
    "==",
    "!=",
    "<",
    ">",
    "<=",
    "+",
    "-",
    "*",
    "**",
    "/",
    "//",
    "%",
    "&",
    "|",
    "~",
    "not ",
    "and ",
    "or ",
    "lambda v: ",
    "\"x\"",
    "'a'",
    "\"",
    "'",
    "\\",
    "1",
    "2.5",
    "1e9",
    "None",
    "True",
    ".head(3)",
    ".groupby(\"x\")",
    ".agg(",
    ".max()",
    ".str",
    ".dt.year",
    ".isin([1])",
    ".merge(",
    "on=",
    "sql select 1 from df",
    "explain ",
    "help ",
    "# ",
    "\n",
    " ",
    "ñ\u{301}日",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn no_text_panics(line in any::<String>()) {
        check(&line);
    }

    #[test]
    fn no_line_of_known_pieces_panics(pieces in prop::collection::vec(prop::sample::select(&PIECES[..]), 0..24)) {
        check(&pieces.concat());
    }

    #[test]
    fn texts_and_names_of_columns_come_out_as_they_went_in(text in "[^\\\\\"\\n\\r]{0,12}") {
        let line = format!("other[other[\"{text}\"] == \"{text}\"]");
        let expected = format!("((\"{text}\" = '{}') IS TRUE)", text.replace('\'', "''"));
        prop_assert_eq!(shown(&line), json!([{"query": {"predicate": expected}}]));
    }
}

fn check(line: &str) {
    if let Err(fault) = action(line) {
        assert!(!fault.message.is_empty());
        assert!(fault.shown_in(line).contains(&fault.message));
    }
}
