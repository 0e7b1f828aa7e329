//! The language: exact bytes, and what is refused with which words.

use dataframe_jobs::operation::{
    Apply, Compression, CsvOptions, Dtype, Join, MAX_MERGES, MAX_OPERATIONS, Missing, Operation, ReadCsv,
    Reduction, WasmFunction, check, modules, names, parse,
};
use serde_json::json;

fn texts<const N: usize>(texts: [&str; N]) -> Vec<String> {
    texts.map(str::to_owned).to_vec()
}

fn read(path: &str) -> Operation {
    Operation::ReadCsv(ReadCsv { paths: texts([path]), options: CsvOptions::default() })
}

/// The SHA-256 of nothing.
const MODULE: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn source() -> Vec<(Operation, &'static str)> {
    let options = CsvOptions {
        separator: ';',
        quote: '\'',
        header: false,
        null_words: Some(texts(["NA", "-"])),
        dtypes: [("x".to_owned(), Dtype::Float64), ("d".to_owned(), Dtype::Date)].into(),
        compression: Compression::Gzip,
        blocksize: 1,
    };
    vec![
        (
            read("data/*.csv"),
            r#"{"read_csv":{"paths":["data/*.csv"],"separator":",","quote":"\"","header":true,"compression":"auto","blocksize":67108864}}"#,
        ),
        (
            Operation::ReadCsv(ReadCsv { paths: texts(["a", "worker://w1/b"]), options }),
            r#"{"read_csv":{"paths":["a","worker://w1/b"],"separator":";","quote":"'","header":false,"null_words":["NA","-"],"dtypes":{"d":"date","x":"float64"},"compression":"gzip","blocksize":1}}"#,
        ),
    ]
}

fn of_rows() -> Vec<(Operation, &'static str)> {
    let expression = Apply { expression: Some("x * 2".to_owned()), ..Apply::default() };
    let function = Apply {
        function: Some("trim".to_owned()),
        column: Some("name".to_owned()),
        alias: Some("short".to_owned()),
        ..Apply::default()
    };
    let wasm = Apply {
        wasm: Some(Box::new(WasmFunction {
            module: MODULE.to_owned(),
            function: "score".to_owned(),
            columns: texts(["x", "name"]),
            returns: Dtype::Float64,
        })),
        alias: Some("s".to_owned()),
        ..Apply::default()
    };
    let right = vec![read("b")];
    vec![
        (
            Operation::Apply(wasm),
            r#"{"apply":{"wasm":{"module":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","function":"score","columns":["x","name"],"returns":"float64"},"as":"s"}}"#,
        ),
        (Operation::Apply(expression), r#"{"apply":{"expression":"x * 2"}}"#),
        (Operation::Apply(function), r#"{"apply":{"function":"trim","column":"name","as":"short"}}"#),
        (
            Operation::Assign { columns: vec![("y".to_owned(), "x + 1".to_owned())] },
            r#"{"assign":{"columns":[["y","x + 1"]]}}"#,
        ),
        (Operation::Query { predicate: "x > 3".to_owned() }, r#"{"query":{"predicate":"x > 3"}}"#),
        (
            Operation::Isin { values: vec![json!(1), json!("a"), json!(0.1), json!(null)], column: None },
            r#"{"isin":{"values":[1,"a",0.1,null]}}"#,
        ),
        (
            Operation::Isin { values: vec![json!(true)], column: Some("x".to_owned()) },
            r#"{"isin":{"values":[true],"column":"x"}}"#,
        ),
        (
            Operation::Groupby { by: texts(["name"]), agg: texts(["mean(x)", "sum(v1) as total"]) },
            r#"{"groupby":{"by":["name"],"agg":["mean(x)","sum(v1) as total"]}}"#,
        ),
        (Operation::Head { n: 5, partitions: 1 }, r#"{"head":{"n":5,"partitions":1}}"#),
        (Operation::Tail { n: 3 }, r#"{"tail":{"n":3}}"#),
        (Operation::Select { columns: texts(["x", "y"]) }, r#"{"select":{"columns":["x","y"]}}"#),
        (
            Operation::SortValues { by: texts(["x"]), ascending: vec![false] },
            r#"{"sort_values":{"by":["x"],"ascending":[false]}}"#,
        ),
        (
            Operation::Merge { right, how: Join::Left, left_on: texts(["x"]), right_on: texts(["y"]) },
            r#"{"merge":{"right":[{"read_csv":{"paths":["b"],"separator":",","quote":"\"","header":true,"compression":"auto","blocksize":67108864}}],"how":"left","left_on":["x"],"right_on":["y"]}}"#,
        ),
        (Operation::Drop { columns: texts(["x"]) }, r#"{"drop":{"columns":["x"]}}"#),
        (
            Operation::Rename { columns: [("x".to_owned(), "y".to_owned())].into() },
            r#"{"rename":{"columns":{"x":"y"}}}"#,
        ),
        (Operation::Fillna { value: json!(0), columns: Vec::new() }, r#"{"fillna":{"value":0}}"#),
        (
            Operation::Dropna { how: Missing::All, subset: texts(["x"]) },
            r#"{"dropna":{"how":"all","subset":["x"]}}"#,
        ),
        (Operation::sql("select 1"), r#"{"sql":{"query":"select 1"}}"#),
        (
            Operation::Sql {
                query: "select 1".to_owned(),
                name: "a.csv".to_owned(),
                tables: [("b.csv".to_owned(), vec![read("b")])].into(),
            },
            r#"{"sql":{"query":"select 1","name":"a.csv","tables":{"b.csv":[{"read_csv":{"paths":["b"],"separator":",","quote":"\"","header":true,"compression":"auto","blocksize":67108864}}]}}}"#,
        ),
        (Operation::Persist {}, r#"{"persist":{}}"#),
    ]
}

fn of_columns() -> Vec<(Operation, &'static str)> {
    let all = Reduction::default;
    vec![
        (Operation::Columns {}, r#"{"columns":{}}"#),
        (Operation::Dtypes {}, r#"{"dtypes":{}}"#),
        (Operation::Items {}, r#"{"items":{}}"#),
        (Operation::Len {}, r#"{"len":{}}"#),
        (Operation::Max(all()), r#"{"max":{}}"#),
        (Operation::Min(Reduction { columns: texts(["x"]) }), r#"{"min":{"columns":["x"]}}"#),
        (Operation::Sum(all()), r#"{"sum":{}}"#),
        (Operation::Mean(all()), r#"{"mean":{}}"#),
        (Operation::Count(all()), r#"{"count":{}}"#),
        (Operation::Std(all()), r#"{"std":{}}"#),
        (Operation::Var(all()), r#"{"var":{}}"#),
        (Operation::Nunique(all()), r#"{"nunique":{}}"#),
        (Operation::Describe(all()), r#"{"describe":{}}"#),
        (Operation::ValueCounts { column: "x".to_owned() }, r#"{"value_counts":{"column":"x"}}"#),
        (Operation::Unique { column: "x".to_owned() }, r#"{"unique":{"column":"x"}}"#),
    ]
}

#[test]
fn each_operation_has_these_bytes() {
    let mut seen = Vec::new();
    for (operation, json) in [source(), of_rows(), of_columns()].concat() {
        assert_eq!(serde_json::to_string(&operation).unwrap(), json);
        assert_eq!(serde_json::from_str::<Operation>(json).unwrap(), operation);
        let list = match &operation {
            Operation::ReadCsv(_) => format!("[{json}]"),
            _ => format!("[{{\"read_csv\":{{\"paths\":[\"a\"]}}}},{json}]"),
        };
        assert_eq!(parse(&list).unwrap().pop(), Some(operation), "{list}");
        let name = json[2..].split('"').next().unwrap().to_owned();
        if !seen.contains(&name) {
            seen.push(name);
        }
    }
    let mut known: Vec<_> = names().collect();
    known.sort_unstable();
    seen.sort_unstable();
    assert_eq!(seen, known);
}

#[test]
fn the_modules_of_a_list_are_those_of_its_merges_too() {
    let apply = |module: &str| {
        format!(
            r#"{{"apply":{{"wasm":{{"module":"{module}","function":"f","columns":["x"],"returns":"int64"}}}}}}"#
        )
    };
    let (one, two) = (MODULE, MODULE.replace('e', "f"));
    let right = format!(r#"[{{"read_csv":{{"paths":["b"]}}}},{}]"#, apply(&two));
    let list = format!(
        r#"[{{"read_csv":{{"paths":["a"]}}}},{},{},{{"merge":{{"right":{right},"left_on":["apply"],"right_on":["apply"]}}}}]"#,
        apply(one),
        apply(one)
    );
    assert_eq!(modules(&parse(&list).unwrap()).into_iter().collect::<Vec<_>>(), [one.to_owned(), two]);
}

#[test]
fn what_is_left_out_has_its_default() {
    let list = parse(r#"[{"read_csv":{"paths":["a"]}},{"merge":{"right":[{"read_csv":{"paths":["b"]}}],"left_on":["x"],"right_on":["x"]}},{"sort_values":{"by":["x","y"]}},{"dropna":{}},{"head":{}}]"#).unwrap();
    let expected = [
        read("a"),
        Operation::Merge {
            right: vec![read("b")],
            how: Join::Inner,
            left_on: texts(["x"]),
            right_on: texts(["x"]),
        },
        Operation::SortValues { by: texts(["x", "y"]), ascending: vec![true] },
        Operation::Dropna { how: Missing::Any, subset: Vec::new() },
        Operation::Head { n: 5, partitions: 1 },
    ];
    assert_eq!(list, expected);
}

/// The error of a list that begins with a `read_csv`.
fn after_read(operation: &str) -> String {
    parse(&format!(r#"[{{"read_csv":{{"paths":["a"]}}}},{operation}]"#)).expect_err("it is wrong").to_string()
}

#[test]
fn an_error_names_the_operation_and_the_key() {
    for (operation, error) in [
        (r#"{"grupby":{}}"#, "operation 2: unknown operation `grupby`; did you mean `groupby`?"),
        (r#"{"head":{"m":3}}"#, "operation 2: `head` has no argument `m`; there are n, partitions"),
        (
            r#"{"select":{"colums":["x"]}}"#,
            "operation 2: `select` has no argument `colums`; did you mean `columns`?",
        ),
        (r#"{"len":{"x":1}}"#, "operation 2: `len` has no argument `x`; it takes none"),
        (r#"{"head":{"n":"x"}}"#, "operation 2: `head`: `n`: invalid type: string \"x\", expected u64"),
        (r#"{"groupby":{"by":["x"]}}"#, "operation 2: `groupby`: missing field `agg`"),
        (r#"{"head":5}"#, "operation 2: `head` needs an object of arguments, such as {\"head\": {}}"),
        (
            r#""head""#,
            "operation 2: an object with one key, the operation's name, is needed, such as {\"len\": {}}",
        ),
        (r#"{"groupby":{"by":[],"agg":["x"]}}"#, "operation 2: `groupby` needs at least one entry in `by`"),
        (
            r#"{"apply":{}}"#,
            "operation 2: `apply` needs `expression` (in SQL, such as \"x * 2\"), `function` or `wasm`",
        ),
        (
            r#"{"apply":{"function":"f"}}"#,
            "operation 2: `apply`: `function` needs `column`, which is given to it",
        ),
        (
            r#"{"apply":{"expression":"x","function":"f"}}"#,
            "operation 2: `apply` takes one of `expression`, `function` and `wasm`, and not several",
        ),
        (
            r#"{"apply":{"wasm":{"module":"E3B0","function":"f","columns":["x"],"returns":"int64"}}}"#,
            "operation 2: `apply`: `module` of `wasm` is the SHA-256 of a module, 64 hexadecimal digits in lower case, and not \"E3B0\"",
        ),
        (
            r#"{"apply":{"wasm":{"module":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","function":"f","columns":[],"returns":"int64"}}}"#,
            "operation 2: `apply`: `wasm` takes 1 to 32 `columns`, and not 0",
        ),
        (
            r#"{"head":{"partitions":0}}"#,
            "operation 2: `head`: `partitions` is at least 1, or -1 for all, and not 0",
        ),
        (
            r#"{"isin":{"values":[[1]]}}"#,
            "operation 2: `isin`: `values` takes numbers, strings, true, false and null, and no lists or objects",
        ),
        (r#"{"fillna":{"value":null}}"#, "operation 2: `fillna`: `value` is null, which replaces nothing"),
        (
            r#"{"merge":{"right":[{"read_csv":{"pats":[]}}],"left_on":["x"],"right_on":["x"]}}"#,
            "operation 2: `right`: operation 1: `read_csv` has no argument `pats`; did you mean `paths`?",
        ),
        (
            r#"{"merge":{"right":[{"read_csv":{"paths":["b"]}}],"left_on":["x"],"right_on":[]}}"#,
            "operation 2: `merge`: `left_on` has 1 keys, and `right_on` has 0",
        ),
        (
            r#"{"merge":{"right":[{"read_csv":{"paths":["b"]}},{"len":{}}],"left_on":["x"],"right_on":["x"]}}"#,
            "operation 2: `right`: operation 2: `len` describes a frame, and a merge or a query needs the frame itself",
        ),
        (
            r#"{"sql":{"query":"select 1","tables":{"b":[{"read_csv":{"paths":["b"]}},{"hed":{}}]}}}"#,
            "operation 2: table \"b\": operation 2: unknown operation `hed`; did you mean `head`?",
        ),
        (
            r#"{"sql":{"query":"select 1","tables":{"b":[{"head":{}}]}}}"#,
            "operation 2: table \"b\": the first operation must be `read_csv`, which says what to read",
        ),
        (
            r#"{"sql":{"query":"select 1","tables":[]}}"#,
            "operation 2: `sql`: `tables` is an object of names and lists of operations",
        ),
        (r#"{"sql":{"tables":{}}}"#, "operation 2: `sql`: missing field `query`"),
        (
            r#"{"sql":{"query":"select 1","tables":{"df":[{"read_csv":{"paths":["b"]}}]}}}"#,
            "operation 2: `sql`: \"df\" is the frame's own name, and a table's, too",
        ),
        (
            r#"{"read_csv":{"paths":["a"]}}"#,
            "operation 2: `read_csv` stands at the beginning only; `merge` reads other files in `right`",
        ),
        (
            r#"{"columns":{}},{"head":{}}"#,
            "operation 2: nothing can follow `columns`, which describes a frame and is the last operation",
        ),
    ] {
        assert_eq!(after_read(operation), error);
    }
}

#[test]
fn a_source_is_checked() {
    for (arguments, error) in [
        (r#""paths":[]"#, "`read_csv` needs at least one entry in `paths`"),
        (
            r#""paths":["a"],"seperator":";""#,
            "`read_csv` has no argument `seperator`; did you mean `separator`?",
        ),
        (
            r#""paths":["a"],"separator":";;""#,
            "`read_csv`: `separator`: invalid value: string \";;\", expected a character",
        ),
        (
            r#""paths":["a"],"separator":"\n""#,
            "`read_csv`: `separator` is one ASCII character and no line end, and not '\\n'",
        ),
        (r#""paths":["a"],"separator":"\"""#, "`read_csv`: `separator` and `quote` are the same character"),
        (r#""paths":["a"],"blocksize":0"#, "`read_csv`: `blocksize` is at least 1 byte"),
    ] {
        let found = parse(&format!(r#"[{{"read_csv":{{{arguments}}}}}]"#)).unwrap_err().to_string();
        assert_eq!(found, format!("operation 1: {error}"));
    }
    assert!(parse("[]").unwrap_err().to_string().starts_with("the first operation must be `read_csv`"));
    assert!(
        parse(r#"[{"len":{}}]"#)
            .unwrap_err()
            .to_string()
            .starts_with("the first operation must be `read_csv`")
    );
    assert!(parse("{}").unwrap_err().to_string().starts_with("a list of operations is needed"));
    assert!(parse("[").unwrap_err().to_string().starts_with("this is not JSON"));
    // In a message, where lists are not parsed by this, unknown keys are errors too.
    let unknown = serde_json::from_str::<Operation>(r#"{"read_csv":{"paths":["a"],"seperator":";"}}"#);
    assert!(unknown.unwrap_err().to_string().starts_with("unknown field `seperator`"));
}

#[test]
fn lists_are_bounded() {
    let long = vec![Operation::Persist {}; MAX_OPERATIONS];
    let error = check(&[vec![read("a")], long].concat()).unwrap_err().to_string();
    assert_eq!(error, "the list and its merges have more than 1000 operations");
    let mut list = vec![read("a")];
    for _ in 0..=MAX_MERGES {
        let merge =
            Operation::Merge { right: list, how: Join::Inner, left_on: texts(["x"]), right_on: texts(["x"]) };
        list = vec![read("a"), merge];
    }
    assert!(check(&list).unwrap_err().to_string().contains("merges stand more than 16 deep"));
    let json = serde_json::to_string(&list).unwrap();
    assert!(parse(&json).unwrap_err().to_string().contains("merges stand more than 16 deep"));
    assert!(parse(&"[".repeat(100_000)).unwrap_err().to_string().starts_with("this is not JSON"));
    assert!(parse(&" ".repeat(5 << 20)).unwrap_err().to_string().starts_with("the list has 5242880 bytes"));
    let values = vec![json!(1); 1_000_001];
    assert!(check(&[read("a"), Operation::Isin { values, column: None }]).is_err());
}
