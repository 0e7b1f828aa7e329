//! The nine operations of the assignment, on the sample files.

use std::collections::BTreeMap;
use std::path::Path;

use crate::support::{command, printed, run};

fn sample_data() -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tasca1/data").canonicalize().unwrap();
    folder.to_str().unwrap().to_owned()
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap()))
        .collect()
}

#[test]
fn each_of_the_nine_has_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let shown = printed(&run(folder.path(), &["demo", "--data", &sample_data(), "--output-dir", "out"]));
    let files = files(&folder.path().join("out"));
    let names: Vec<_> = files.keys().map(String::as_str).collect();
    let expected = [
        "apply.csv",
        "columns.txt",
        "groupby.csv",
        "head.csv",
        "isin.csv",
        "items.txt",
        "max.csv",
        "min.csv",
        "read_csv.csv",
        "resultados.txt",
    ];
    assert_eq!(names, expected);
    assert_eq!(shown.as_bytes(), files["resultados.txt"]);
    assert_eq!(files["columns.txt"], b"name\nday\nx\ny\nsky\n");
    assert_eq!(files["read_csv.csv"].iter().filter(|byte| **byte == b'\n').count(), 901);
    let groups = String::from_utf8(files["groupby.csv"].clone()).unwrap();
    assert_eq!(groups.lines().count(), 10, "{groups}");
    assert!(groups.contains("\"Estación \"\"La Punta\"\", San Luis\","), "{groups}");
    for headline in [
        "1. read_csv: todas las filas",
        "4. groupby: la temperatura x de cada estación",
        "9. min: el valor mínimo",
    ] {
        assert!(shown.contains(headline), "{shown}");
    }
}

#[test]
fn the_result_does_not_depend_on_threads() {
    let results: Vec<_> = ["1", "4"]
        .into_iter()
        .map(|threads| {
            let folder = tempfile::tempdir().unwrap();
            let mut command = command(folder.path());
            command.env("DATAFRAME_OUTPUT_DIR", "out").args([
                "demo",
                "--data",
                &sample_data(),
                "--threads",
                threads,
            ]);
            printed(&command.output().unwrap());
            files(&folder.path().join("out"))
        })
        .collect();
    assert!(results[0] == results[1], "the results differ");
}
