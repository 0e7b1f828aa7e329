//! `dataframe`: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    dataframe::run()
}
