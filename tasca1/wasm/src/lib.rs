//! Functions for `apply` that travel to the workers: one by row, one by batch.
//!
//! The table of what a module exports is in `crates/dataframe-wasm/src/lib.rs`. `batch.rs` is good for any module.

mod batch;

use batch::{Batch, TextColumn};

/// Celsius from Fahrenheit, by row: the host calls it with each number that is not missing.
#[no_mangle]
pub extern "C" fn celsius(fahrenheit: f64) -> f64 {
    (fahrenheit - 32.0) / 1.8
}

/// The initials of a name, by batch: `Ada Lovelace` gives `AL`. A name that is missing, or has no letters, gives a missing value.
///
/// # Safety
/// The address must be that of a batch, which the host has written.
#[no_mangle]
pub unsafe extern "C" fn initials(batch: *const u32) -> *const u32 {
    let batch = Batch::at(batch);
    let mut initials = TextColumn::default();
    for row in 0..batch.rows() {
        let name = batch.text(0, row).unwrap_or_default();
        let letters: String = name
            .split(|character: char| !character.is_alphabetic())
            .filter_map(|word| word.chars().next())
            .flat_map(char::to_uppercase)
            .collect();
        initials.push(Some(letters.as_str()).filter(|letters| !letters.is_empty()));
    }
    initials.give()
}
