//! What operations mean, on rows that a person can check.

use crate::data::Data;

const PEOPLE: &str = "name,x,y,team\nAda,3,0.5,red\nBob,,1.5,\nCyd,1,,red\nAda,2,2.5,blue\nEve,1,NaN,blue\n";

fn people() -> Data {
    Data::new(&[("people.csv", PEOPLE)])
}

async fn check(rest: &str, expected: &str) {
    let text = people().csv(rest).await.unwrap_or_else(|error| panic!("{rest}: {error}"));
    assert_eq!(text, expected, "{rest}");
}

async fn refused(rest: &str, parts: &[&str]) {
    let error = people().csv(rest).await.unwrap_err().to_string();
    for part in parts {
        assert!(error.contains(part), "{rest}: {error}");
    }
}

#[tokio::test]
async fn rows_are_read_in_order() {
    check("", "name,x,y,team\nAda,3,0.5,red\nBob,,1.5,\nCyd,1,,red\nAda,2,2.5,blue\nEve,1,,blue\n").await;
    check(r#"{"head": {"n": 2}}"#, "name,x,y,team\nAda,3,0.5,red\nBob,,1.5,\n").await;
    check(r#"{"head": {"n": 2, "partitions": -1}}"#, "name,x,y,team\nAda,3,0.5,red\nBob,,1.5,\n").await;
    check(r#"{"query": {"predicate": "x = 1"}}, {"head": {"n": 1, "partitions": -1}}, {"select": {"columns": ["name"]}}"#, "name\nCyd\n").await;
    check(r#"{"tail": {"n": 2}}"#, "name,x,y,team\nAda,2,2.5,blue\nEve,1,,blue\n").await;
}

#[tokio::test]
async fn columns_are_chosen() {
    check(r#"{"select": {"columns": ["y", "name"]}}, {"head": {"n": 1}}"#, "y,name\n0.5,Ada\n").await;
    check(r#"{"drop": {"columns": ["y", "name"]}}, {"head": {"n": 1}}"#, "x,team\n3,red\n").await;
    check(
        r#"{"rename": {"columns": {"x": "X"}}}, {"query": {"predicate": "X > 2"}}"#,
        "name,X,y,team\nAda,3,0.5,red\n",
    )
    .await;
    check(r#"{"columns": {}}"#, "column\nname\nx\ny\nteam\n").await;
    check(r#"{"dtypes": {}}"#, "column,dtype\nname,string\nx,int64\ny,float64\nteam,string\n").await;
    check(r#"{"items": {}}, {"head": {"n": 1}}"#, "name,x,y,team\nAda,3,0.5,red\n").await;
}

#[tokio::test]
async fn expressions_are_computed() {
    check(r#"{"apply": {"expression": "x * 2 + length(name)"}}"#, "apply\n9\n\"\"\n5\n7\n5\n").await;
    check(r#"{"apply": {"function": "upper", "column": "team", "as": "t"}}, {"head": {"n": 1}}"#, "t\nRED\n")
        .await;
    check(
        r#"{"assign": {"columns": [["z", "x + 1"], ["x", "z * 10"]]}}, {"head": {"n": 1}}"#,
        "name,x,y,team,z\nAda,40,0.5,red,4\n",
    )
    .await;
    // 0/0 is no number: it is missing, and the mean does not see it.
    check(
        r#"{"assign": {"columns": [["q", "(y - 0.5) / (y - 0.5)"]]}}, {"mean": {"columns": ["q"]}}"#,
        "q\n1.0\n",
    )
    .await;
    check(r#"{"apply": {"function": "sqrt", "column": "y"}}, {"count": {}}"#, "apply\n3\n").await;
}

#[tokio::test]
async fn isin_compares_as_pandas() {
    check(r#"{"isin": {"values": [1.0, "a", null], "column": "x"}}"#, "x\nfalse\ntrue\ntrue\nfalse\ntrue\n")
        .await;
    check(
        r#"{"isin": {"values": ["red", 1]}}, {"head": {"n": 3}}"#,
        "name,x,y,team\nfalse,false,false,true\nfalse,false,false,false\nfalse,true,false,true\n",
    )
    .await;
    check(r#"{"isin": {"values": [], "column": "x"}}, {"head": {"n": 1}}"#, "x\nfalse\n").await;
}

#[tokio::test]
async fn groups_are_ordered_and_without_null_keys() {
    check(
        r#"{"groupby": {"by": ["team"], "agg": ["mean(y)", "sum(x) as total", "size", "count(y)", "first(name)", "last(name)", "nunique(x)"]}}"#,
        "team,mean(y),total,size,count(y),first(name),last(name),nunique(x)\nblue,2.5,3,2,1,Ada,Eve,2\nred,0.5,4,2,1,Ada,Cyd,2\n",
    )
    .await;
    check(r#"{"groupby": {"by": ["name"], "agg": ["sum(x)", "std(y)", "var(x)", "max(y)", "min(team)"]}}"#,
        "name,sum(x),std(y),var(x),max(y),min(team)\nAda,5,1.4142135623730951,0.5,2.5,blue\nBob,0,,,1.5,\nCyd,1,,,,red\nEve,1,,,,blue\n").await;
    check(
        r#"{"groupby": {"by": ["team", "name"], "agg": ["max(x)"]}}, {"head": {"n": 2}}"#,
        "team,name,max(x)\nblue,Ada,2\nblue,Eve,1\n",
    )
    .await;
}

#[tokio::test]
async fn columns_are_reduced() {
    check(r#"{"max": {}}"#, "name,x,y,team\nEve,3,2.5,red\n").await;
    check(r#"{"min": {}}"#, "name,x,y,team\nAda,1,0.5,blue\n").await;
    check(r#"{"sum": {}}"#, "x,y\n7,4.5\n").await;
    check(r#"{"mean": {}}"#, "x,y\n1.75,1.5\n").await;
    check(r#"{"count": {}}"#, "name,x,y,team\n5,4,3,4\n").await;
    check(r#"{"nunique": {}}"#, "name,x,y,team\n4,3,3,2\n").await;
    check(r#"{"std": {}}"#, "x,y\n0.9574271077563381,1.0\n").await;
    check(r#"{"var": {"columns": ["x"]}}"#, "x\n0.9166666666666666\n").await;
    check(r#"{"len": {}}"#, "len\n5\n").await;
    check(r#"{"query": {"predicate": "x > 100"}}, {"sum": {"columns": ["x", "y"]}}"#, "x,y\n0,0.0\n").await;
    check(
        r#"{"describe": {}}"#,
        "statistic,x,y\ncount,4.0,3.0\nmean,1.75,1.5\nstd,0.9574271077563381,1.0\nmin,1.0,0.5\n25%,1.0,1.0\n50%,1.5,1.5\n75%,2.25,2.0\nmax,3.0,2.5\n",
    )
    .await;
}

#[tokio::test]
async fn values_are_counted_and_sorted() {
    check(r#"{"value_counts": {"column": "name"}}"#, "name,count\nAda,2\nBob,1\nCyd,1\nEve,1\n").await;
    check(r#"{"unique": {"column": "x"}}"#, "x\n3\n\"\"\n1\n2\n").await;
    check(
        r#"{"sort_values": {"by": ["x"]}}, {"select": {"columns": ["name", "x"]}}"#,
        "name,x\nCyd,1\nEve,1\nAda,2\nAda,3\nBob,\n",
    )
    .await;
    check(
        r#"{"sort_values": {"by": ["team", "x"], "ascending": [true, false]}}, {"drop": {"columns": ["team"]}}"#,
        "name,x,y\nAda,2,2.5\nEve,1,\nAda,3,0.5\nCyd,1,\nBob,,1.5\n",
    )
    .await;
    check(r#"{"sort_values": {"by": ["x"], "ascending": [false]}}, {"tail": {"n": 2}}, {"select": {"columns": ["name"]}}"#, "name\nEve\nBob\n").await;
    check(r#"{"sort_values": {"by": ["y"]}}, {"unique": {"column": "team"}}"#, "team\nred\n\"\"\nblue\n")
        .await;
}

#[tokio::test]
async fn missing_values_are_filled_and_dropped() {
    check(
        r#"{"fillna": {"value": 0}}"#,
        "name,x,y,team\nAda,3,0.5,red\nBob,0,1.5,\nCyd,1,0.0,red\nAda,2,2.5,blue\nEve,1,0.0,blue\n",
    )
    .await;
    check(
        r#"{"fillna": {"value": "?"}}, {"select": {"columns": ["x", "team"]}}, {"head": {"n": 2}}"#,
        "x,team\n3,red\n,?\n",
    )
    .await;
    check(
        r#"{"fillna": {"value": 0.5, "columns": ["x"]}}, {"select": {"columns": ["x"]}}, {"head": {"n": 2}}"#,
        "x\n3.0\n0.5\n",
    )
    .await;
    check(r#"{"dropna": {}}, {"select": {"columns": ["name"]}}"#, "name\nAda\nAda\n").await;
    check(r#"{"dropna": {"how": "all", "subset": ["x", "y"]}}, {"len": {}}"#, "len\n5\n").await;
    refused(r#"{"fillna": {"value": "a", "columns": ["x"]}}"#, &["fillna", "\"x\"", "int64"]).await;
}

#[tokio::test]
async fn frames_are_merged() {
    let data = Data::new(&[
        ("people.csv", PEOPLE),
        ("teams.txt", "team,x,color\nblue,1,#00f\n,2,none\ngreen,3,#0f0\n"),
    ]);
    let merge = |how: &str| {
        format!(
            r#"{{"select": {{"columns": ["name", "team", "x"]}}}}, {{"merge": {{"right": [{{"read_csv": {{"paths": ["FOLDER/teams.txt"]}}}}], "how": "{how}", "left_on": ["team"], "right_on": ["team"]}}}}"#
        )
    };
    let inner = data.csv(&merge("inner")).await.unwrap();
    assert_eq!(inner, "name,team,x_x,x_y,color\nBob,,,2,none\nAda,blue,2,1,#00f\nEve,blue,1,1,#00f\n");
    let left = data.csv(&merge("left")).await.unwrap();
    assert_eq!(
        left,
        "name,team,x_x,x_y,color\nAda,red,3,,\nBob,,,2,none\nCyd,red,1,,\nAda,blue,2,1,#00f\nEve,blue,1,1,#00f\n"
    );
    let right = data.csv(&merge("right")).await.unwrap();
    assert_eq!(
        right,
        "name,team,x_x,x_y,color\nAda,blue,2,1,#00f\nEve,blue,1,1,#00f\nBob,,,2,none\n,green,,3,#0f0\n"
    );
    let outer = data.csv(&merge("outer")).await.unwrap();
    assert_eq!(
        outer,
        "name,team,x_x,x_y,color\nAda,blue,2,1,#00f\nEve,blue,1,1,#00f\n,green,,3,#0f0\nAda,red,3,,\nCyd,red,1,,\nBob,,,2,none\n"
    );
}

#[tokio::test]
async fn queries_in_sql_are_run() {
    check(
        r#"{"sql": {"query": "select team, sum(y) as s from df where team is not null group by team"}}"#,
        "team,s\nblue,2.5\nred,0.5\n",
    )
    .await;
    check(
        r#"{"sql": {"query": "SELECT name, x FROM df ORDER BY x DESC NULLS LAST, name LIMIT 2"}}"#,
        "name,x\nAda,3\nAda,2\n",
    )
    .await;
    check(
        r#"{"sql": {"query": "select UPPER(name) as n from df where x = 1"}}, {"head": {"n": 1}}"#,
        "n\nCYD\n",
    )
    .await;
    for query in [
        "drop table df",
        "create table a as select 1",
        "copy df to 'a.csv'",
        "insert into df values (1)",
        "set a = 1",
        "explain select 1",
        "select * from 'people.csv'",
        "select",
    ] {
        let error = people().csv(&format!(r#"{{"sql": {{"query": "{query}"}}}}"#)).await.unwrap_err();
        assert!(matches!(error, dataframe_engine::FrameError::BadJob(_)), "{query}: {error:?}");
    }
}

#[tokio::test]
async fn a_query_joins_tables_that_have_names() {
    check(
        r#"{"sql": {"query": "select a.name, max(b.x) from \"a.csv\" a join \"b/*.csv\" b on a.name = b.name group by a.name", "name": "a.csv",
            "tables": {"b/*.csv": [{"read_csv": {"paths": ["FOLDER/people.csv"]}}, {"query": {"predicate": "x < 3"}}]}}}"#,
        "name,max(b.x)\nAda,2\nCyd,1\nEve,1\n",
    )
    .await;
    check(
        r#"{"sql": {"query": "select max(x), max(\"a.csv\".y) from \"a.csv\"", "name": "a.csv"}}"#,
        "max(x),max(y)\n3,2.5\n",
    )
    .await;
    refused(r#"{"sql": {"query": "select * from df", "name": "a.csv"}}"#, &["sql", "df"]).await;
}

#[tokio::test]
async fn errors_name_what_is_wrong() {
    refused(
        r#"{"select": {"columns": ["nam"]}}"#,
        &["select", "\"nam\"", "\"team\"", "did you mean \"name\""],
    )
    .await;
    refused(r#"{"query": {"predicate": "z > 1"}}"#, &["query", "z > 1", "z"]).await;
    refused(r#"{"query": {"predicate": "x + 1"}}"#, &["query", "x + 1", "neither true nor false"]).await;
    refused(r#"{"apply": {"expression": "x +"}}"#, &["apply", "x +"]).await;
    refused(r#"{"apply": {"expression": "lambda v: v * 2"}}"#, &["apply", "lambda"]).await;
    refused(r#"{"apply": {"function": "uper", "column": "name"}}"#, &["uper", "upper"]).await;
    refused(r#"{"apply": {"expression": "x / (x - 1)"}}"#, &["division by zero", "x / (x - 1)"]).await;
    refused(r#"{"groupby": {"by": ["team"], "agg": ["median(x)"]}}"#, &["median(x)", "mean"]).await;
    refused(r#"{"mean": {"columns": ["name"]}}"#, &["mean", "\"name\"", "string"]).await;
    refused(r#"{"merge": {"right": [{"read_csv": {"paths": ["FOLDER/people.csv"]}}], "left_on": ["x"], "right_on": ["name"]}}"#, &["merge", "int64", "string"]).await;
    refused(r#"{"rename": {"columns": {"x": "y"}}}"#, &["\"y\"", "two columns"]).await;
}

#[tokio::test]
async fn a_list_of_operations_has_an_end() {
    let step = r#"{"query": {"predicate": "x >= 0"}}, {"assign": {"columns": [["x", "x + 1"]]}}"#;
    let steps = |count: usize| vec![step; count].join(",");
    check(&format!(r#"{}, {{"sum": {{"columns": ["x"]}}}}"#, steps(49)), "x\n203\n").await;
    refused(&steps(60), &["at most 100 operations"]).await;
}
