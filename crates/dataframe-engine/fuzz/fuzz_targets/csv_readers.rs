//! Reads any bytes as a CSV file, in any way. The reader of the crate and DataFusion's must give the same.
#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use dataframe_engine as engine;
use libfuzzer_sys::fuzz_target;

#[path = "../bodies.rs"]
mod bodies;

/// A folder of this process.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("csv-readers-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("the folder is made");
    folder
});

fuzz_target!(|bytes: &[u8]| {
    if let Some(case) = bodies::Case::from_bytes(bytes) {
        bodies::both_readers_give_the_same(&FOLDER, &case);
    }
});
