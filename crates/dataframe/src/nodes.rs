//! The workers of a cluster, as a table.

use dataframe_jobs::message::{WorkerState, WorkerStatus};
use unicode_width::UnicodeWidthStr as _;

const HEADLINES: [&str; 8] =
    ["name", "state", "address", "slots", "running", "finished", "silent", "release"];

/// Returns the workers as a table for people.
#[must_use]
pub fn table(workers: &[WorkerStatus]) -> String {
    if workers.is_empty() {
        return "no workers\n".to_owned();
    }
    let rows: Vec<_> = workers.iter().map(row).collect();
    let mut widths = HEADLINES.map(str::len);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.width());
        }
    }
    let headline = HEADLINES.map(str::to_owned);
    std::iter::once(&headline).chain(&rows).map(|row| line(row, &widths)).collect()
}

fn row(status: &WorkerStatus) -> [String; 8] {
    let state = match status.state {
        WorkerState::Ready => "ready",
        WorkerState::Draining => "draining",
        WorkerState::Lost => "lost",
    };
    [
        text::Shown(&status.info.name).to_string(),
        state.to_owned(),
        text::Shown(status.info.address.as_deref().unwrap_or("-")).to_string(),
        status.info.slots.to_string(),
        status.running.to_string(),
        status.finished.to_string(),
        format!("{}.{} s", status.silent_ms / 1000, status.silent_ms % 1000 / 100),
        text::Shown(&status.info.release).to_string(),
    ]
}

fn line(cells: &[String; 8], widths: &[usize; 8]) -> String {
    let padded =
        cells.iter().zip(widths).map(|(cell, width)| format!("{cell}{}", " ".repeat(width - cell.width())));
    let line = padded.collect::<Vec<_>>().join("  ");
    format!("{}\n", line.trim_end())
}

#[cfg(test)]
mod tests {
    use dataframe_jobs::message::WorkerInfo;

    use super::*;

    #[test]
    fn the_table_is_aligned_and_safe() {
        let info = WorkerInfo {
            name: "worker1\u{1b}".to_owned(),
            incarnation: String::new(),
            address: Some("127.0.0.1:9001".to_owned()),
            datafusion: "55.2.0".to_owned(),
            release: "0.1.0".to_owned(),
            slots: 2,
            functions: Vec::new(),
            wasm: false,
        };
        let status =
            WorkerStatus { info, state: WorkerState::Ready, running: 1, finished: 12, silent_ms: 250 };
        let expected = "\
name           state  address         slots  running  finished  silent  release
worker1\\u001b  ready  127.0.0.1:9001  2      1        12        0.2 s   0.1.0
";
        assert_eq!(table(&[status]), expected);
        assert_eq!(table(&[]), "no workers\n");
    }
}
