//! What is wrong, and where.

use dataframe_jobs::operation::Dtype;

use super::*;

fn fixed(name: &str, dtype: Dtype) -> CsvOptions {
    CsvOptions { dtypes: [(name.to_owned(), dtype)].into(), ..CsvOptions::default() }
}

async fn error(files: &Files, options: CsvOptions, cut: FileCut) -> FrameError {
    match read_widening(&files.read(options), cut).await {
        Err(error) => error,
        Ok(outcome) => panic!("no error, but {} rows of {:?}", outcome.rows.len(), outcome.types),
    }
}

/// 4,000 records, some of two lines, behind the sample of the other files; then one more record.
fn long_file(last: &str) -> (Files, usize) {
    let mut text = "x,y\n".to_owned();
    for number in 0..4_000 {
        text.push_str(if number % 5 == 0 { "1,\"two\nlines\"\n" } else { "2,one\n" });
        if number % 100 == 0 {
            text.push('\n');
        }
    }
    let line = text.matches('\n').count() + 1;
    text.push_str(last);
    let first = b"x,y\n1,a\n";
    (Files::new(&[("a.csv", first), ("b.csv", text.as_bytes())]), line)
}

#[tokio::test]
async fn a_value_that_does_not_fit_a_fixed_type_is_named_with_its_line() {
    for (dtype, value) in
        [(Dtype::Int64, "1.5"), (Dtype::Bool, "7"), (Dtype::Float64, "x"), (Dtype::Date, "soon")]
    {
        let (files, line) = long_file(&format!("3,ok\n{value},bad\n"));
        let files = if dtype == Dtype::Date || dtype == Dtype::Bool {
            Files::one(format!("x,y\nNA,\"a\nb\"\n\n{value},c\n"))
        } else {
            files
        };
        let line = if files.file("b.csv").exists() { line + 1 } else { 5 };
        for cut in [WHOLE, pieces(7)] {
            let error = error(&files, fixed("x", dtype), cut).await;
            let text = error.to_string();
            assert!(matches!(error, FrameError::BadJob(_)), "{text}");
            assert!(
                text.contains(&format!("line {line}, column \"x\": the value {value:?} is not of the type")),
                "{text}"
            );
        }
    }
}

#[tokio::test]
async fn a_fixed_integer_column_may_miss_values() {
    let (files, _) = long_file("NA,ok\n");
    let outcome = read_widening(&files.read(fixed("x", Dtype::Int64)), pieces(3)).await.unwrap();
    assert_eq!(outcome.rows.last().unwrap(), &row(&["null", "ok"]));
    assert!(matches!(outcome.widenings[..], [Widening::Spelling { .. }]));
}

#[tokio::test]
async fn too_many_fields_are_named_with_their_line() {
    let (files, line) = long_file("3,4,5\n");
    for cut in [WHOLE, pieces(7)] {
        let text = error(&files, CsvOptions::default(), cut).await.to_string();
        assert!(
            text.contains(&format!("b.csv: line {line} has 3 fields, and the file has 2 columns")),
            "{text}"
        );
    }
    let text = error(&Files::one("x,y\n1,2\n\n1,2,3\n"), CsvOptions::default(), WHOLE).await.to_string();
    assert!(text.contains("a.csv: line 4 has 3 fields, and the file has 2 columns"), "{text}");
}

#[tokio::test]
async fn bytes_that_are_not_utf8_are_named_with_their_line() {
    let text = error(&Files::one(b"x,y\n1,\xff\n"), CsvOptions::default(), WHOLE).await.to_string();
    assert!(text.contains("a.csv: line 2, field 2 is not UTF-8"), "{text}");
    let (files, line) = long_file("");
    let mut bytes = std::fs::read(files.file("b.csv")).unwrap();
    bytes.extend_from_slice(b"3,\xff\n");
    std::fs::write(files.file("b.csv"), bytes).unwrap();
    let text = error(&files, CsvOptions::default(), WHOLE).await.to_string();
    assert!(text.contains(&format!("b.csv: line {line}, field 2 is not UTF-8")), "{text}");
}

#[tokio::test]
async fn files_that_cannot_be_read_say_why() {
    let text = error(&Files::one(""), CsvOptions::default(), WHOLE).await.to_string();
    assert!(text.contains("no columns to read: the file is empty"), "{text}");
    let text = error(&Files::one("\n\n"), CsvOptions::default(), WHOLE).await.to_string();
    assert!(text.contains("the file is empty"), "{text}");
    let files = Files::new(&[("a.csv", b"x,y\n1,2\n"), ("b.csv", b"x,z\n1,2\n")]);
    let text = error(&files, CsvOptions::default(), WHOLE).await.to_string();
    assert!(text.contains(r#"b.csv: the file has the columns ["x", "z"], and "#), "{text}");
    assert!(text.contains(r#"a.csv has ["x", "y"]"#), "{text}");
    let text = error(&Files::one("x,y\n1,\"a\n2,b\n"), CsvOptions::default(), WHOLE).await.to_string();
    assert!(text.contains("line 2: a quoted field begins here and does not end"), "{text}");
    let text = error(&Files::one("x,y\n1,2\n"), fixed("z", Dtype::Int64), WHOLE).await.to_string();
    assert!(text.contains(r#"a type is given for the column "z""#), "{text}");
    let options = CsvOptions { separator: '→', ..CsvOptions::default() };
    let text = error(&Files::one("x,y\n1,2\n"), options, WHOLE).await.to_string();
    assert!(text.contains("the separator '→' is not one ASCII character"), "{text}");
}

#[tokio::test]
async fn a_file_that_changes_or_goes_is_an_error_of_the_file() {
    let files = Files::one("x\n1\n2\n");
    let inspection = files.inspect().await;
    std::fs::write(files.file("a.csv"), "x\n1\nabc\n").unwrap();
    let changed = scan(&inspection, &Widenings::default(), WHOLE, None).await.unwrap_err();
    assert!(matches!(&changed, FrameError::File(text) if text.contains("has changed since")), "{changed}");
    std::fs::remove_file(files.file("a.csv")).unwrap();
    let gone = scan(&inspection, &Widenings::default(), WHOLE, None).await.unwrap_err();
    assert!(
        matches!(&gone, FrameError::File(text) if text.contains("a.csv: the file cannot be read")),
        "{gone}"
    );
}

#[tokio::test]
async fn a_value_that_imitates_the_parsers_words_does_no_harm() {
    let (files, _) = long_file("\"5' as type 'Int64' for column 0 at line 1. Row data: '[\",x\n");
    let outcome = read_widening(&files.read(CsvOptions::default()), WHOLE).await.unwrap();
    assert_eq!(outcome.types, ["Utf8View", "Utf8View"]);
}

#[tokio::test]
async fn a_quoted_field_without_an_end_is_an_error_wherever_it_stands() {
    let rows = |count: usize| "1,one\n2,two\n".repeat(count / 2);
    // Behind the sample of a second file, and behind the larger one of a first file; cut in parts and not.
    let second = format!("x,y\n{}3,\"open\n{}", rows(10_000), rows(10_000));
    let long = format!("x,y\n4,\"quoted\"\n{}3,\"open\n{}", rows(400_000), rows(400_000));
    let cases = [
        (Files::new(&[("a.csv", b"x,y\n1,a\n"), ("b.csv", second.as_bytes())]), "b.csv: line 10002:"),
        (Files::one(&long), "a.csv: line 400003:"),
    ];
    for (files, place) in &cases {
        for cut in [WHOLE, pieces(2), pieces(7)] {
            let error = error(files, CsvOptions::default(), cut).await.to_string();
            assert!(error.contains(place) && error.contains("a quoted field begins here"), "{error}");
        }
    }
    let files = Files::new(&[("a.csv", b"x,y\n1,a\n"), ("b.csv.gz", &gzip(second.as_bytes()))]);
    let error = error(&files, CsvOptions::default(), WHOLE).await.to_string();
    assert!(error.contains("b.csv.gz: line 10002:"), "{error}");
}

/// A file in the format of gzip (RFC 1952) that is not compressed: blocks of bytes as they are (RFC 1951, 3.2.4).
fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut file = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let blocks: Vec<_> = bytes.chunks(0xffff).collect();
    for (number, block) in blocks.iter().enumerate() {
        let length = u16::try_from(block.len()).unwrap();
        file.push(u8::from(number + 1 == blocks.len()));
        file.extend(length.to_le_bytes());
        file.extend((!length).to_le_bytes());
        file.extend(*block);
    }
    let crc = bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    });
    file.extend((!crc).to_le_bytes());
    file.extend(u32::try_from(bytes.len()).unwrap().to_le_bytes());
    file
}
