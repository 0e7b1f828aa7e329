//! Rows and types of difficult files.

use dataframe_jobs::operation::{Compression, Dtype};

use super::*;

async fn read(text: impl AsRef<[u8]>) -> Outcome {
    let files = Files::one(text);
    read_widening(&files.read(CsvOptions::default()), WHOLE).await.unwrap()
}

#[tokio::test]
async fn words_for_missing_values_and_nan_become_null_in_every_type() {
    let text = "i,f,b,s\n1,1.5,true,x\nNA,NaN,None,null\n,,,\n 2,inf,FALSE,NAN\n3,-nan,true,\"NA\"\n";
    let outcome = read(text).await;
    assert_eq!(outcome.types, ["Int64", "Float64", "Boolean", "Utf8View"]);
    assert!(outcome.widenings.is_empty(), "the sample shows the words");
    let expected = [
        row(&["1", "1.5", "true", "x"]),
        row(&["null", "null", "null", "null"]),
        row(&["null", "null", "null", "null"]),
        row(&["2", "inf", "false", "NAN"]),
        row(&["3", "null", "true", "null"]),
    ];
    assert_eq!(outcome.rows, expected);
}

#[tokio::test]
async fn own_words_take_the_place_of_pandas_words() {
    let files = Files::one("x,y\n-,NA\n1,-\n");
    let options = CsvOptions { null_words: Some(vec!["-".to_owned()]), ..CsvOptions::default() };
    let outcome = read_widening(&files.read(options), WHOLE).await.unwrap();
    assert_eq!(outcome.types, ["Int64", "Utf8View"]);
    assert_eq!(outcome.rows, [row(&["null", "NA"]), row(&["1", "null"])]);
}

#[tokio::test]
async fn a_number_may_be_a_word_for_a_missing_value() {
    let files = Files::one("x,y\n-999,1.5\n1,-999\n");
    let options = CsvOptions { null_words: Some(vec!["-999".to_owned()]), ..CsvOptions::default() };
    let outcome = read_widening(&files.read(options), WHOLE).await.unwrap();
    assert_eq!(outcome.types, ["Int64", "Float64"]);
    assert_eq!(outcome.rows, [row(&["null", "1.5"]), row(&["1", "null"])]);
}

#[tokio::test]
async fn rows_may_be_short_and_lines_may_be_empty() {
    let outcome = read("\u{feff}x,y,z\r\n1,a,2\r\n\r\n3\r\n4,b\r\n5,\"\",6").await;
    assert_eq!(outcome.types, ["Int64", "Utf8View", "Int64"]);
    let expected = [
        row(&["1", "a", "2"]),
        row(&["3", "null", "null"]),
        row(&["4", "b", "null"]),
        row(&["5", "null", "6"]),
    ];
    assert_eq!(outcome.rows, expected);
    let outcome = read("x\n1\n\n\"\"\n2\n").await;
    assert_eq!(outcome.rows, [row(&["1"]), row(&["null"]), row(&["2"])]);
    let outcome = read("x\r1\r2\r").await;
    assert_eq!(outcome.rows, [row(&["1"]), row(&["2"])]);
}

#[tokio::test]
async fn a_header_alone_gives_no_rows_and_files_without_a_record_add_none() {
    let outcome = read("x,y\n").await;
    assert_eq!((outcome.rows.len(), outcome.types), (0, vec!["Utf8View".to_owned(), "Utf8View".to_owned()]));
    let files = Files::new(&[("a.csv", b""), ("b.csv", b"x\n1\n"), ("c.csv", b"x\n"), ("d.csv", b"x\n2\n")]);
    let outcome = read_widening(&files.read(CsvOptions::default()), WHOLE).await.unwrap();
    assert_eq!(outcome.rows, [row(&["1"]), row(&["2"])]);
    assert_eq!(outcome.types, ["Int64"]);
}

#[tokio::test]
async fn names_without_a_header_are_numbers() {
    let files = Files::one("1,a\n2,b\n");
    let options = CsvOptions { header: false, ..CsvOptions::default() };
    let inspection = inspect(&files.read(options)).await.unwrap();
    let names: Vec<_> = inspection.columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(names, ["0", "1"]);
    let outcome = read_inspected(&inspection, pieces(2)).await.unwrap();
    assert_eq!(outcome.rows, [row(&["1", "a"]), row(&["2", "b"])]);
}

#[tokio::test]
async fn separator_and_quote_can_be_chosen() {
    let files = Files::one("x;y\n'a;b';1\n'it''s';2\n");
    let options = CsvOptions { separator: ';', quote: '\'', ..CsvOptions::default() };
    let outcome = read_widening(&files.read(options), pieces(2)).await.unwrap();
    assert_eq!(outcome.rows, [row(&["a;b", "1"]), row(&["it's", "2"])]);
}

#[tokio::test]
async fn compressed_files_lie_beside_plain_ones() {
    let gzip = "1f8b0800000000000203abd0a9e432d449e432d249e2020079a36e5e0c000000";
    let zstd = "28b52ffd200c610000782c790a332c630a342c640a";
    let bytes = |hex: &str| -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    };
    let files =
        Files::new(&[("a.csv.gz", &bytes(gzip)), ("b.csv.zst", &bytes(zstd)), ("c.csv", b"x,y\n5,e\n")]);
    let inspection = files.inspect().await;
    assert_eq!(inspection.files[0].compression, Compression::Gzip);
    let expected = [row(&["1", "a"]), row(&["2", "b"]), row(&["3", "c"]), row(&["4", "d"]), row(&["5", "e"])];
    for cut in [WHOLE, pieces(3)] {
        assert_eq!(read_inspected(&inspection, cut).await.unwrap().rows, expected);
    }
}

#[tokio::test]
async fn files_may_have_their_columns_in_another_order() {
    let files = Files::new(&[
        ("a.csv", b"x,y,z\n1,a,1.5\n"),
        ("b.csv", b"z,x,y\n2.5,2,b\n"),
        ("c.csv", b"y,z,x\nc,3.5,3\n"),
    ]);
    let inspection = files.inspect().await;
    let expected = [row(&["1", "a", "1.5"]), row(&["2", "b", "2.5"]), row(&["3", "c", "3.5"])];
    assert_eq!(read_inspected(&inspection, WHOLE).await.unwrap().rows, expected);
    assert_eq!(read_inspected(&inspection, pieces(5)).await.unwrap().rows, expected);
    let batches = scan(&inspection, &Widenings::default(), WHOLE, Some(&vec![2, 0])).await.unwrap();
    assert_eq!(to_rows(&batches), [row(&["1.5", "1"]), row(&["2.5", "2"]), row(&["3.5", "3"])]);
    let batches = scan(&inspection, &Widenings::default(), WHOLE, Some(&vec![])).await.unwrap();
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 3);
}

/// A first file whose sample shows integers alone, and files with values behind the samples of 16 KiB.
fn behind_the_sample(values: &[&str]) -> Files {
    let file = |last: &str| {
        let mut text = "x\n".to_owned();
        text.push_str(&"1\n".repeat(9_000));
        text.push_str(last);
        text.push('\n');
        text.into_bytes()
    };
    let files = Files::one("x\n7\n");
    for (number, value) in values.iter().enumerate() {
        std::fs::write(files.file(&format!("b{number}.csv")), file(value)).unwrap();
    }
    files
}

#[tokio::test]
async fn a_value_behind_the_sample_widens_its_column() {
    let cases = [
        (&["1.5"][..], "Float64", 1),
        (&["abc"], "Utf8View", 1),
        (&["true"], "Utf8View", 1),
        (&["18446744073709551615"], "Utf8View", 1),
        (&["NA"], "Int64", 1),
        (&["1.5", "NA"], "Float64", 1),
        (&["1.5", "18446744073709551615"], "Utf8View", 2),
        (&["18446744073709551615", "1.5"], "Utf8View", 1),
        (&["NA", "1.5", "abc"], "Utf8View", 3),
        (&["2020-01-01"], "Utf8View", 1),
    ];
    for (values, dtype, widenings) in cases {
        let files = behind_the_sample(values);
        let outcome = read_widening(&files.read(CsvOptions::default()), pieces(3)).await.unwrap();
        assert_eq!(outcome.types, [dtype], "{values:?}");
        assert_eq!(outcome.widenings.len(), widenings, "{values:?}: {:?}", outcome.widenings);
        assert_eq!(outcome.rows.len(), 1 + 9_001 * values.len());
        let last = if values.last() == Some(&"NA") { "null" } else { values.last().unwrap() };
        assert_eq!(outcome.rows.last().unwrap(), &row(&[last]), "{values:?}");
    }
}

#[tokio::test]
async fn types_can_be_fixed() {
    let files = Files::one("d,t,s,f\n2020-02-29,2020-01-01 10:00:00,007,1\nNA,,NA,2\n");
    let dtypes = [("d", Dtype::Date), ("t", Dtype::Datetime), ("s", Dtype::String), ("f", Dtype::Float64)];
    let dtypes = dtypes.map(|(name, dtype)| (name.to_owned(), dtype)).into();
    let outcome =
        read_widening(&files.read(CsvOptions { dtypes, ..CsvOptions::default() }), WHOLE).await.unwrap();
    assert_eq!(outcome.types, ["Date32", "Timestamp(µs)", "Utf8View", "Float64"]);
    let expected =
        [row(&["2020-02-29", "2020-01-01T10:00:00", "007", "1.0"]), row(&["null", "null", "null", "2.0"])];
    assert_eq!(outcome.rows, expected);
}

#[tokio::test]
async fn paths_may_have_any_character() {
    let files = Files::new(&[("a b%20c#?é*[1].csv", b"x\n1\n")]);
    let outcome = read_widening(&files.read(CsvOptions::default()), WHOLE).await.unwrap();
    assert_eq!(outcome.rows, [row(&["1"])]);
    let path = files.file("a b%20c#?é*[1].csv").to_str().unwrap().to_owned();
    let inspection =
        inspect(&ReadCsv { paths: vec![path.clone()], options: CsvOptions::default() }).await.unwrap();
    assert_eq!(inspection.files[0].path, path);
}

#[tokio::test]
async fn a_query_uses_the_columns_and_rows_that_it_needs() {
    let files = Files::one("x,y,z\n1,a,1.5\n2,b,NaN\n3,NA,2.5\n");
    let table = CsvTable::new(&files.inspect().await, &Widenings::default(), pieces(2)).unwrap();
    let context = SessionContext::new();
    context.register_table("df", Arc::new(table)).unwrap();
    let query = async |sql: &str| to_rows(&context.sql(sql).await.unwrap().collect().await.unwrap());
    assert_eq!(
        query("select count(*), count(y), sum(z), max(x) from df").await,
        [row(&["3", "2", "4.0", "3"])]
    );
    assert_eq!(query("select x * 2 from df where y is null").await, [row(&["6"])]);
    assert_eq!(query("select x from df order by x limit 1").await, [row(&["1"])]);
    assert_eq!(query("select * from df limit 2").await.len(), 2);
}

#[tokio::test]
async fn an_inspection_travels_as_json_and_joins_with_those_of_other_workers() {
    let files = Files::one("x,y\n1,a\n");
    let one = files.inspect().await;
    let text = serde_json::to_string(&one).unwrap();
    assert_eq!(serde_json::from_str::<Inspection>(&text).unwrap(), one);
    let other = Files::one("x,y\n1.5,\"b\"\n");
    let other = other.inspect().await;
    let joined =
        Inspection::join(vec![(Some("w1".into()), one.clone()), (Some("w2".into()), other)]).unwrap();
    assert_eq!(joined.columns[0].dtype, Dtype::Float64);
    assert!(joined.quotes);
    let workers: Vec<_> = joined.files.iter().map(|file| file.worker.as_deref()).collect();
    assert_eq!(workers, [Some("w1"), Some("w2")]);
    // What has no rows, or no values in a column, says nothing of its type.
    for nothing in ["x,y\n", "x,y\n,b\n"] {
        let nothing = Files::one(nothing).inspect().await;
        for parts in [[&one, &nothing], [&nothing, &one]] {
            let joined = Inspection::join(parts.map(|part| (None, part.clone())).into()).unwrap();
            let types: Vec<_> = joined.columns.iter().map(|column| column.dtype).collect();
            assert_eq!(types, [Dtype::Int64, Dtype::String]);
        }
    }
    let differs = Files::one("x,z\n1,a\n");
    let error = Inspection::join(vec![(None, one), (None, differs.inspect().await)]).unwrap_err();
    assert!(error.to_string().contains("has the columns [\"x\", \"z\"]"), "{error}");
}
