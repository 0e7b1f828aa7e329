//! Any cut of a file gives the rows of the whole file.

use proptest::prelude::*;

use super::*;

/// Fields of the kinds that break naive readers. They are written with quotes where they need them, or by chance.
fn field() -> impl Strategy<Value = (String, bool)> {
    let text = prop_oneof![
        4 => "[a-z]{0,6}",
        1 => "[a-z \",\r\n]{0,12}",
        1 => Just("\n\"\n".to_owned()),
        1 => Just("é\r\n".to_owned()),
        1 => Just(String::new()),
    ];
    (text, prop::bool::weighted(0.2))
}

fn write(rows: &[Vec<(String, bool)>], newline: &str, end: bool) -> String {
    let shown = |(text, quoted): &(String, bool)| {
        if *quoted || text.contains(['"', ',', '\r', '\n']) {
            format!("\"{}\"", text.replace('"', "\"\""))
        } else {
            text.clone()
        }
    };
    let lines = rows.iter().map(|row| row.iter().map(shown).collect::<Vec<_>>().join(","));
    let mut text = std::iter::once("a,b,c".to_owned()).chain(lines).collect::<Vec<_>>().join(newline);
    if end {
        text.push_str(newline);
    }
    text
}

fn expected(rows: &[Vec<(String, bool)>]) -> Rows {
    let missing = ["", "null", "nan"];
    let value =
        |text: &String| if missing.contains(&text.as_str()) { "null".to_owned() } else { text.clone() };
    rows.iter().map(|row| row.iter().map(|(text, _)| value(text)).collect()).collect()
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn strings() -> CsvOptions {
    let dtypes = ["a", "b", "c"].map(|name| (name.to_owned(), dataframe_jobs::operation::Dtype::String));
    CsvOptions { dtypes: dtypes.into(), ..CsvOptions::default() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn quoted_files_can_be_cut_anywhere(
        rows in prop::collection::vec(prop::collection::vec(field(), 3), 0..24),
        crlf in any::<bool>(),
        end in any::<bool>(),
        bytes in 1_u64..64,
        partitions in 1_usize..20,
    ) {
        let files = Files::one(write(&rows, if crlf { "\r\n" } else { "\n" }, end));
        let inspection = block_on(inspect(&files.read(strings()))).unwrap();
        let blocks = FileCut::Blocks { bytes, keep: KeptBlocks::All };
        for cut in [WHOLE, pieces(partitions), blocks] {
            let batches = block_on(scan(&inspection, &Widenings::default(), cut, None)).unwrap();
            prop_assert_eq!(to_rows(&batches), expected(&rows), "{:?}", cut);
        }
    }

    #[test]
    fn plain_files_can_be_cut_anywhere(
        rows in prop::collection::vec(prop::collection::vec(("[a-z]{0,9}", Just(false)), 3), 0..24),
        crlf in any::<bool>(),
        end in any::<bool>(),
        bytes in 1_u64..64,
    ) {
        let files = Files::one(write(&rows, if crlf { "\r\n" } else { "\n" }, end));
        let inspection = block_on(inspect(&files.read(strings()))).unwrap();
        prop_assert!(!inspection.quotes);
        let cut = FileCut::Blocks { bytes, keep: KeptBlocks::All };
        let batches = block_on(scan(&inspection, &Widenings::default(), cut, None)).unwrap();
        prop_assert_eq!(to_rows(&batches), expected(&rows));
    }

    #[test]
    fn a_quote_that_the_sample_did_not_show_gives_the_same_rows_in_the_end(
        rows in prop::collection::vec(prop::collection::vec(field(), 3), 2..24),
        bytes in 4_u64..64,
    ) {
        let text = write(&rows, "\n", true);
        let files = Files::one(&text);
        let mut inspection = block_on(inspect(&files.read(strings()))).unwrap();
        inspection.quotes = false;
        let cut = FileCut::Blocks { bytes, keep: KeptBlocks::All };
        let outcome = block_on(read_inspected(&inspection, cut)).unwrap();
        prop_assert_eq!(outcome.rows, expected(&rows));
        let is_cut = text.len() as u64 > bytes;
        prop_assert_eq!(outcome.widenings.len(), usize::from(is_cut && text.contains('"')));
    }
}

#[tokio::test]
async fn a_quote_far_behind_the_sample_is_noticed() {
    let mut text = "x,y\n".to_owned();
    for number in 0..150_000 {
        text.push_str(&format!("{number},abcdefg\n"));
    }
    text.push_str("150000,\"two\nlines\"\n150001,z\n");
    assert!(text.len() > 2 << 20);
    let files = Files::one(&text);
    let inspection = files.inspect().await;
    assert!(!inspection.quotes);
    let outcome = read_inspected(&inspection, pieces(5)).await.unwrap();
    let file = files.file("a.csv").to_str().unwrap().to_owned();
    assert_eq!(outcome.widenings, [Widening::Quotes { file }]);
    assert_eq!(outcome.rows.len(), 150_002);
    assert_eq!(outcome.rows[150_000], row(&["150000", "two\nlines"]));
    // Nothing is cut, so that nothing needs to be known.
    assert!(read_inspected(&inspection, WHOLE).await.unwrap().widenings.is_empty());
}

/// The part has too many fields before its first quote, which is more than one piece of the file away.
#[tokio::test]
async fn a_part_that_begins_inside_quotes_asks_for_their_widening() {
    let text = format!("x,y\n1,\"{}\"\n2,b\n", "a,b,c,d\n".repeat(100_000));
    let files = Files::one(&text);
    let mut inspection = inspect(&files.read(CsvOptions::default())).await.unwrap();
    inspection.quotes = false;
    let table = CsvTable::new(&inspection, &Widenings::default(), pieces(4)).unwrap();
    let plan = table.scan(&SessionContext::new().state(), None, &[], None).await.unwrap();
    let part = scan_of_partition(plan.as_ref(), 1).unwrap();
    let error = run(part.as_ref()).await.unwrap_err();
    assert!(matches!(error, FrameError::Widen(Widening::Quotes { .. })), "{error}");
    let outcome = read_inspected(&inspection, pieces(4)).await.unwrap();
    assert_eq!(outcome.rows.len(), 2);
}

#[tokio::test]
async fn boundaries_that_another_machine_has_found_are_used() {
    let files = Files::one("x,y\n1,\"a\nb\"\n2,c\n3,\"d\n\"\n");
    let mut inspection = files.inspect().await;
    inspection.find_boundaries().unwrap();
    assert!(inspection.files[0].boundaries.is_empty(), "a small file is not looked through");
    inspection.files[0].boundaries = vec![12, 16];
    inspection.files[0].worker = Some("w1".to_owned());
    let table = CsvTable::new(&inspection, &Widenings::default(), pieces(3)).unwrap();
    let parts: Vec<_> =
        table.partitions().iter().map(|part| (part.files[0].start, part.files[0].end)).collect();
    assert_eq!(parts, [(0, 12), (12, 16), (16, 23)]);
    assert!(table.partitions().iter().all(|part| part.worker.as_deref() == Some("w1")));
    let state = SessionContext::new().state();
    let plan = table.scan(&state, None, &[], None).await.unwrap();
    assert_eq!(scan_partitions(plan.as_ref()).unwrap(), table.partitions());
    let last = scan_of_partition(plan.as_ref(), 2).unwrap();
    assert_eq!(scan_partitions(last.as_ref()).unwrap(), table.partitions()[2..]);
    assert_eq!(run(plan.as_ref()).await.unwrap().iter().map(RecordBatch::num_rows).sum::<usize>(), 3);
    // Nobody knows the boundaries, and nobody here can look: one partition.
    inspection.files[0].boundaries.clear();
    let table = CsvTable::new(&inspection, &Widenings::default(), pieces(3)).unwrap();
    assert_eq!(table.partitions().len(), 1);
}
