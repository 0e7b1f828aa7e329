//! The modules of WebAssembly that a list of operations names.

use std::collections::BTreeSet;

use super::steps::Operation;

/// The hashes of all modules that a list names, those of its merges and tables included.
#[must_use]
pub fn modules(operations: &[Operation]) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for operation in operations {
        if let Operation::Apply(apply) = operation {
            all.extend(apply.wasm.iter().map(|wasm| wasm.module.clone()));
        }
        all.extend(operation.lists().flat_map(|list| modules(list)));
    }
    all
}
