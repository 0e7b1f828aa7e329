//! The reader of this crate gives what DataFusion's gives: the same batches to the bit, or the same error.

use arrow::datatypes::{DataType, Field, Schema};
use dataframe_jobs::message::FileRange;
use dataframe_jobs::operation::Dtype;
use proptest::prelude::*;

use super::*;
use crate as engine;
use crate::csv::dialect::Dialect;
use crate::csv::file_bytes::FileState;
use crate::csv::plain_reader::{NotPlain, PlainRead, PlainReader};

#[path = "../../../fuzz/bodies.rs"]
mod bodies;

use bodies::{Case, DTYPES, both_readers_give_the_same};

/// Fields that most columns of the type hold, written as any of many hands writes them.
fn usual_field(dtype: Dtype) -> BoxedStrategy<String> {
    match dtype {
        Dtype::Int64 => prop_oneof![
            4 => "-?[0-9]{1,4}",
            1 => any::<i64>().prop_map(|number| number.to_string()),
            1 => Just(String::new()),
            1 => "[+ ]?0{0,9}[0-9]{1,9} ?",
        ]
        .boxed(),
        Dtype::Float64 => prop_oneof![
            4 => "-?[0-9]{1,4}\\.[0-9]{1,7}",
            1 => any::<f64>().prop_map(|number| number.to_string()),
            1 => "-?[0-9]{1,20}",
            1 => Just(String::new()),
            1 => prop::sample::select(vec!["NaN", "-nan", "inf", "-INF", "1e5", "1E-400", ".5", "5.", " 2.5 ", "-0.0"])
                .prop_map(str::to_owned),
        ]
        .boxed(),
        Dtype::Bool => prop::sample::select(vec!["true", "false", "True", "FALSE", ""]).prop_map(str::to_owned).boxed(),
        Dtype::String => prop_oneof![
            4 => "[a-z]{0,14}",
            1 => prop::sample::select(vec!["NA", "null", "é", "a b", "-", "日本語日本語"]).prop_map(str::to_owned),
            1 => "[a-z]{13,90}",
        ]
        .boxed(),
        Dtype::Date => prop_oneof![Just("2020-02-29".to_owned()), Just(String::new())].boxed(),
        Dtype::Datetime => prop_oneof![Just("2020-02-29 10:00:00.5".to_owned()), Just(String::new())].boxed(),
    }
}

/// What a field may have around it, or instead of it.
fn field(dtype: Dtype, trouble: u32) -> BoxedStrategy<Vec<u8>> {
    let usual = usual_field(dtype).prop_map(String::into_bytes);
    let quoted = usual_field(dtype).prop_map(|field| format!("\"{field}\"").into_bytes());
    let text = "\"([a-z,\r\n]|\"\"){0,9}\"".prop_map(String::into_bytes);
    let trouble_field = prop::sample::select(vec![
        &b"NA"[..],
        b"x",
        b"1.5",
        b"99999999999999999999",
        b"5\" pipe",
        b"\"a\"b",
        b"\"",
        b"\"\"\"\"",
        b"\"a\"\"",
        b"\xff",
        b"\xc3\xa9",
        b"a,b",
        b"\xef\xbb\xbf",
        b"\0",
        b"\"open\n",
    ])
    .prop_map(<[u8]>::to_vec);
    prop_oneof![60 => usual, trouble => quoted, trouble => text, trouble => trouble_field].boxed()
}

fn lines(dtypes: Vec<Dtype>) -> BoxedStrategy<Vec<u8>> {
    let line = move |trouble: u32| {
        let row = dtypes.iter().map(|dtype| field(*dtype, trouble)).collect::<Vec<_>>();
        let newline = prop::sample::select(vec![&b"\n"[..], b"\r\n", b"\n\n", b"\r", b"\r\n\r\n", b"\n"]);
        // Most rows are whole, some are short, and a few lines are empty.
        (row, prop_oneof![20 => Just(9_usize), 1 => 0_usize..5], newline).prop_map(
            |(mut row, length, newline)| {
                row.truncate(length);
                [row.join(&b","[..]), newline.to_vec()].concat()
            },
        )
    };
    let (plain, rough) = (line(0), line(1));
    prop_oneof![prop::collection::vec(plain, 0..60), prop::collection::vec(rough, 0..60)]
        .prop_map(|lines| lines.concat())
        .boxed()
}

fn case() -> impl Strategy<Value = Case> {
    let dtypes = prop::collection::vec(prop::sample::select(DTYPES.to_vec()), 1..5);
    let file = dtypes.prop_flat_map(|dtypes| {
        (lines(dtypes.clone()), Just(dtypes), any::<bool>(), any::<bool>(), prop::bool::weighted(0.1))
    });
    let flags = (any::<u8>(), any::<bool>(), any::<bool>(), any::<u8>());
    let block_bytes = prop_oneof![1_u64..200, Just(u64::MAX)];
    (file, flags, block_bytes, 1_usize..70).prop_map(
        |(
            (mut text, dtypes, header, newline, mark),
            (careful, fixed, quotes, projection),
            block_bytes,
            batch_size,
        )| {
            if header {
                let names: Vec<_> = (0..dtypes.len()).map(|column| format!("c{column}")).collect();
                text.splice(0..0, format!("{}\n", names.join(",")).into_bytes());
            }
            if mark {
                text.splice(0..0, *b"\xef\xbb\xbf");
            }
            if !newline && text.ends_with(b"\n") {
                text.pop();
            }
            Case { text, dtypes, careful, fixed, header, quotes, block_bytes, batch_size, projection }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_file_reads_the_same_by_both_readers(case in case()) {
        let folder = tempfile::tempdir().unwrap();
        both_readers_give_the_same(folder.path(), &case);
    }
}

/// The rows that the reader of this crate gives of a file with a column of integers and one of strings, and why it stops.
fn plain_rows(text: &[u8], start: u64, stops_at_quotes: bool) -> (usize, Option<NotPlain>) {
    let files = Files::one(text);
    let size = text.len() as u64;
    let fields = [("x", DataType::Int64), ("y", DataType::Utf8View)];
    let fields = fields.map(|(name, data_type)| Field::new(name, data_type, true));
    let path = files.file("a.csv").to_str().unwrap().to_owned();
    let read = PlainRead {
        file: FileState { path: path.clone(), size, e_tag: None },
        part: FileRange { path, start, end: size, size, modified_ns: 0 },
        dialect: Dialect { separator: b',', quote: b'"', header: true },
        file_columns: 2,
        columns: vec![0, 1],
        schema: Arc::new(Schema::new(fields.to_vec())),
        batch_size: 3,
        stops_at_quotes,
    };
    let mut reader = match PlainReader::open(read) {
        Ok(reader) => reader,
        Err(reason) => return (0, Some(reason)),
    };
    let mut rows = 0;
    loop {
        match reader.next_batch() {
            Ok(Some(batch)) => rows += batch.num_rows(),
            Ok(None) => return (rows, None),
            Err(reason) => return (rows, Some(reason)),
        }
    }
}

/// Without this, every file might be left to DataFusion's reader, and the comparison would show nothing.
#[test]
fn plain_files_and_quoted_fields_are_read_by_the_reader_of_this_crate() {
    let plain = format!("x,y\n{}", "1,abc\r\n\n2\n,\n-77,a longer text that no view holds\n".repeat(500));
    let quoted = plain.replace("abc", "\"two\nlines, \"\"quoted\"\"\"") + "\"5\",\"\"";
    let with_mark = format!("\u{feff}{plain}");
    for (text, expected) in
        [(plain.as_str(), 2000), (&quoted, 2001), (&with_mark, 2000), ("x,y\n", 0), ("", 0)]
    {
        let (rows, reason) = plain_rows(text.as_bytes(), 0, text == plain);
        assert!(reason.is_none() && rows == expected, "{rows} rows of {expected}, {reason:?}");
    }
}

#[test]
fn what_is_not_plain_is_left_to_datafusion_with_its_reason() {
    let after = |line: &[u8]| {
        let text = [b"x,y\n", "1,a\n".repeat(300).as_bytes(), line].concat();
        let (rows, reason) = plain_rows(&text, 0, false);
        assert!(rows > 200 && rows <= 300, "{rows}");
        reason.unwrap()
    };
    for unusual in [&b"1,5\" pipe\n"[..], b"1,\"a\"b\n", b"1,\"a\" \n", b"1,2,3\n", b"1,2,\n", b"1,a\"\"\n"] {
        assert!(matches!(after(unusual), NotPlain::Unusual), "{unusual:?}");
    }
    assert!(matches!(after(b"x,a\n"), NotPlain::Misfit));
    assert!(matches!(after(b"\"1.5\",a\n"), NotPlain::Misfit));
    assert!(matches!(after(b"1,\xff\n"), NotPlain::Utf8));
    assert!(matches!(after(b"1,\"open\n1,a\n"), NotPlain::Endless));
    let endless = [b"1,", vec![b'a'; 5 << 20].as_slice()].concat();
    assert!(matches!(after(&endless), NotPlain::Endless));
    let quote = b"x,y\n1,a\n2,\"b\"\n";
    assert!(matches!(plain_rows(quote, 0, true), (_, Some(NotPlain::Quote))));
    assert!(matches!(
        plain_rows("x,y\n\u{feff}1,a\n".as_bytes(), 4, false),
        (0, Some(NotPlain::ByteOrderMark))
    ));
}

#[test]
fn the_bytes_of_a_fuzzer_make_a_case() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = [&[1, 0, 1, 2, 3, 0, 0b010, 255, 7, 0b11][..], b"c0,c1\n1,2.5\n3,4.5\n"].concat();
    let case = Case::from_bytes(&bytes).unwrap();
    assert_eq!((case.dtypes.as_slice(), case.batch_size), (&[Dtype::Int64, Dtype::Float64][..], 8));
    assert!(both_readers_give_the_same(folder.path(), &case));
    assert!(Case::from_bytes(b"short").is_none());
}
