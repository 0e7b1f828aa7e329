//! All assignments: no code: see `Cargo.toml`.
