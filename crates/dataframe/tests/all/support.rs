//! The program, and folders with files for it.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// A small file with a null, quotes and a name that is not ASCII.
pub const PEOPLE: &str = "name,x,y\nAda,1,0.5\n\"O'Hara, Scarlett\",2,\nÑandú,3,2.5\nAda,5,1.5\n";

/// A folder with `people.csv`.
pub fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("people.csv"), PEOPLE).unwrap();
    folder
}

/// The program, with nothing from the environment of whoever runs the test.
pub fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dataframe"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("DATAFRAME")) {
        command.env_remove(name);
    }
    command.current_dir(folder).env("XDG_STATE_HOME", folder).args(["--threads", "2"]);
    command
}

/// Runs the program to its end.
pub fn run(folder: &Path, words: &[&str]) -> Output {
    command(folder).args(words).stdin(Stdio::null()).output().unwrap()
}

/// Runs the program to its end, with lines for its standard input.
pub fn run_with_input(folder: &Path, words: &[&str], input: &str) -> Output {
    let mut command = command(folder);
    command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let written = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    // A program that ends before it has read everything says so below.
    assert!(written.is_ok() || !output.status.success(), "{written:?}");
    output
}

/// What the program printed, if it ended well.
pub fn printed(output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {stderr}", output.status);
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// What the program said when it ended with this code.
#[track_caller]
pub fn failed(output: &Output, code: i32) -> String {
    let stderr = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    stderr
}
