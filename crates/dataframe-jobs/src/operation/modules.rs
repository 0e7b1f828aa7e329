//! The modules of WebAssembly that a list of operations names.

use std::collections::BTreeSet;

use super::steps::Operation;

/// The hashes of all modules that a list names, those of its merges included.
#[must_use]
pub fn modules(operations: &[Operation]) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for operation in operations {
        match operation {
            Operation::Apply(apply) => all.extend(apply.wasm.iter().map(|wasm| wasm.module.clone())),
            Operation::Merge { right, .. } => all.append(&mut modules(right)),
            _ => {}
        }
    }
    all
}
