//! `df.apply_wasm(…)`: functions of the WebAssembly modules that the program was started with.

use std::collections::BTreeMap;

use dataframe_jobs::operation::{Apply, Operation, WasmFunction};

use crate::language::call::CallArguments;
use crate::language::fault::LineFault;
use crate::language::frames::reading::dtype;

const USAGE: &str = "df.apply_wasm(\"names.wasm\", \"celsius\", [\"x\"], \"float64\")";

/// The modules of `--wasm`: the hash of each by the name of its file.
pub type NamedModules = BTreeMap<String, String>;

/// Returns the operation that calls a function of a module. A line names no file that the program was not started with, so that no line
/// can bring code in.
///
/// # Errors
/// Fails if the arguments are wrong, or if there is no such module.
pub fn apply_wasm(arguments: &mut CallArguments, modules: &NamedModules) -> Result<Operation, LineFault> {
    let module = arguments.text(&["module"], USAGE)?;
    let Some(module) = modules.get(&module) else {
        let known: Vec<_> = modules.keys().map(String::as_str).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        return Err(arguments.fault(format!(
            "there is no module {module:?}: those of --wasm FILE, with which the program is started, are {known}"
        )));
    };
    let function = arguments.text(&["function"], USAGE)?;
    let given = arguments.take(&["columns"]);
    let columns = arguments.require(given, USAGE)?.texts(USAGE)?;
    let given = arguments.take(&["returns"]);
    let given = arguments.require(given, USAGE)?;
    let types = "\"bool\", \"date\", \"datetime\", \"float64\", \"int64\" or \"string\"";
    let returns = given.text().and_then(dtype).ok_or_else(|| given.wrong(types, USAGE))?;
    let alias = arguments.take_named(&["as", "name"]);
    let alias = alias
        .map(|given| given.text().map(str::to_owned).ok_or_else(|| given.wrong("a text", USAGE)))
        .transpose()?;
    let wasm = WasmFunction { module: module.clone(), function, columns, returns };
    Ok(Operation::Apply(Apply { wasm: Some(Box::new(wasm)), alias, ..Apply::default() }))
}
