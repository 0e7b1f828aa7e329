//! The nine operations of the assignment, on sample files.
//!
//! What is printed and written depends on the files alone: there are no times and no places in it, so that it is the same
//! whatever middleware carries the tasks.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context as _;
use dataframe_engine::{Frame, OutputFormat};
use dataframe_jobs::operation::{Apply, CsvOptions, Operation, ReadCsv, Reduction};

use crate::output::{self, write_items};
use crate::place::ComputePlace;
use crate::progress::TaskProgress;

/// The rows of each result that are printed.
const PRINTED_ROWS: usize = 10;
/// The file with all that is printed.
const ALL_RESULTS: &str = "resultados.txt";

/// One of the nine operations.
struct DemoStep {
    /// The name of its file, without the ending.
    name: &'static str,
    headline: &'static str,
    operations: Vec<Operation>,
}

/// Runs the nine operations, prints the results, and writes each into a file of `folder`.
///
/// # Errors
/// Fails if an operation fails, or a file cannot be written.
pub async fn run(
    place: &ComputePlace,
    progress: &TaskProgress,
    data: &str,
    folder: &Path,
) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("{}: the folder cannot be made", folder.display()))?;
    let mut all = Vec::new();
    for (number, step) in steps(data).into_iter().enumerate() {
        let computed = progress.during(place.compute(&step.operations)).await;
        let frame = computed.with_context(|| format!("`{}` failed", step.name))?;
        let is_items = step.operations.ends_with(&[Operation::Items {}]);
        let mut shown = headline(number + 1, &step).into_bytes();
        let table = OutputFormat::Table { rows: PRINTED_ROWS };
        if is_items {
            write_items(&frame, table, &mut shown)?;
        } else {
            frame.write(table, &mut shown)?;
        }
        while shown.last() == Some(&b'\n') {
            shown.pop();
        }
        shown.extend(b"\n\n");
        output::print(&shown)?;
        all.extend(shown);
        let (ending, content) = file_of(&step, is_items, &frame)?;
        write(&folder.join(format!("{}.{ending}", step.name)), &content)?;
    }
    write(&folder.join(ALL_RESULTS), &all)
}

fn headline(number: usize, step: &DemoStep) -> String {
    let mut text = String::new();
    let headline = format!("{number}. {}: {}", step.name, step.headline);
    let _ = writeln!(text, "{headline}\n{}", "-".repeat(headline.chars().count()));
    text
}

/// A list of names is text with a name a line; columns are text too; everything else is CSV.
fn file_of(step: &DemoStep, is_items: bool, frame: &Frame) -> anyhow::Result<(&'static str, Vec<u8>)> {
    let mut content = Vec::new();
    if is_items {
        write_items(frame, OutputFormat::Csv, &mut content)?;
        return Ok(("txt", content));
    }
    frame.write(OutputFormat::Csv, &mut content)?;
    if step.name != "columns" {
        return Ok(("csv", content));
    }
    let headline_end = content.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    Ok(("txt", content.split_off(headline_end)))
}

fn write(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    std::fs::write(path, content).with_context(|| format!("{} cannot be written", path.display()))
}

fn steps(data: &str) -> Vec<DemoStep> {
    let step = |name, headline, operation: Option<Operation>| {
        let read =
            Operation::ReadCsv(ReadCsv { paths: vec![data.to_owned()], options: CsvOptions::default() });
        DemoStep { name, headline, operations: std::iter::once(read).chain(operation).collect() }
    };
    let fahrenheit = Apply {
        expression: Some("x * 1.8 + 32".to_owned()),
        alias: Some("fahrenheit".to_owned()),
        ..Apply::default()
    };
    let by_name = Operation::Groupby {
        by: vec!["name".to_owned()],
        agg: ["count(x)", "mean(x)", "min(x)", "max(x)"].map(str::to_owned).to_vec(),
    };
    let names =
        Operation::Isin { values: vec!["Rosario".into(), "Ushuaia".into()], column: Some("name".to_owned()) };
    vec![
        step("read_csv", "todas las filas de los archivos", None),
        step("apply", "la temperatura x en grados Fahrenheit", Some(Operation::Apply(fahrenheit))),
        step("columns", "los nombres de las columnas", Some(Operation::Columns {})),
        step("groupby", "la temperatura x de cada estación", Some(by_name)),
        step("head", "las primeras cinco filas", Some(Operation::Head { n: 5, partitions: 1 })),
        step("isin", "si la estación es Rosario o Ushuaia", Some(names)),
        step("items", "cada columna con su nombre", Some(Operation::Items {})),
        step("max", "el valor máximo de cada columna", Some(Operation::Max(Reduction::default()))),
        step("min", "el valor mínimo de cada columna", Some(Operation::Min(Reduction::default()))),
    ]
}
