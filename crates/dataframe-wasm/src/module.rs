//! A module that was checked.

use std::fmt::{self, Write as _};

use bytes::Bytes;
use dataframe_jobs::operation::Dtype;
use sha2::{Digest, Sha256};
use wasmi::{Config, EnforcedLimits, Engine, ExternType, FuncType, Module, ValType};

use crate::error::{WasmError, short};
use crate::plain::Kind;

/// The longest module in bytes.
pub const MAX_MODULE_BYTES: usize = 4 << 20;

/// The deepest nesting of calls.
const MAX_CALLS: usize = 1000;

/// The largest stack of values in bytes.
const MAX_STACK_BYTES: usize = 1 << 20;

/// Exports that an error names at most.
const SHOWN_EXPORTS: usize = 20;

/// How a function is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallForm {
    ByRow,
    ByBatch,
}

/// A module that was checked: it is valid, not too long, and imports nothing.
pub struct WasmModule {
    hash: String,
    bytes: Bytes,
    compiled: Module,
}

impl fmt::Debug for WasmModule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WasmModule").field("hash", &self.hash).finish_non_exhaustive()
    }
}

/// The name of a module: the SHA-256 of its bytes, as 64 hexadecimal digits.
#[must_use]
pub fn hash_of(bytes: &[u8]) -> String {
    let mut hash = String::with_capacity(64);
    for byte in Sha256::digest(bytes) {
        // Writing into a string does not fail.
        let _ = write!(hash, "{byte:02x}");
    }
    hash
}

impl WasmModule {
    /// Checks and compiles a module. Nothing of it is run.
    ///
    /// # Errors
    /// Fails if it is no valid module, too long, or imports something.
    pub fn new(bytes: Bytes) -> Result<Self, WasmError> {
        if bytes.len() > MAX_MODULE_BYTES {
            return Err(WasmError::Refused(format!(
                "the module has {} bytes, and may have {MAX_MODULE_BYTES}: build it with optimization and without debug information",
                bytes.len()
            )));
        }
        let hash = hash_of(&bytes);
        let refused = |what: String| WasmError::Refused(format!("the module {}: {what}", short(&hash)));
        let (engine, invalid) =
            (engine(), |error| refused(format!("it is no valid WebAssembly module: {error}")));
        // The compiler of wasmi 2.0.0 relies on what it has not checked yet: where code follows the end of a function, it
        // panics in a build with debug assertions.
        Module::validate(&engine, &bytes).map_err(invalid)?;
        let compiled = Module::new(&engine, &bytes).map_err(invalid)?;
        if let Some(import) = compiled.imports().next() {
            return Err(refused(format!(
                "it imports {:?} from {:?}, and a module may import nothing: build it for wasm32-unknown-unknown, without WASI",
                import.name(),
                import.module()
            )));
        }
        Ok(Self { hash, bytes, compiled })
    }

    /// Its name: the SHA-256 of its bytes.
    #[must_use]
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    pub(crate) fn compiled(&self) -> &Module {
        &self.compiled
    }

    /// How a function is called with columns of these types, if its type fits them.
    pub(crate) fn form(
        &self,
        function: &str,
        columns: &[Dtype],
        returns: Dtype,
    ) -> Result<CallForm, WasmError> {
        let refused = |what: String| {
            WasmError::Refused(format!(
                "the function {function:?} of the module {}: {what}",
                short(&self.hash)
            ))
        };
        if columns.is_empty() {
            return Err(refused("it needs at least one column".to_owned()));
        }
        let Some(ExternType::Func(found)) = self.compiled.get_export(function) else {
            return Err(refused(format!("there is no such function; there are {}", self.functions())));
        };
        let by_row = by_row(columns, returns);
        if by_row.as_ref() == Some(&found) {
            return Ok(CallForm::ByRow);
        }
        let by_batch = FuncType::new([ValType::I32], [ValType::I32]);
        if found != by_batch {
            let by_row =
                by_row.map_or(String::new(), |by_row| format!("{} for each row, or ", text(&by_row)));
            return Err(refused(format!(
                "its type is {}, and for these columns it must be {by_row}{} for a batch",
                text(&found),
                text(&by_batch)
            )));
        }
        if !matches!(self.compiled.get_export("memory"), Some(ExternType::Memory(_))) {
            return Err(refused(
                "a function for a batch needs a module that exports its \"memory\"".to_owned(),
            ));
        }
        match self.compiled.get_export("alloc") {
            Some(ExternType::Func(alloc)) if alloc == by_batch => Ok(CallForm::ByBatch),
            _ => Err(refused(format!(
                "a function for a batch needs a module that exports \"alloc\" with the type {}",
                text(&by_batch)
            ))),
        }
    }

    fn functions(&self) -> String {
        let functions = self.compiled.exports().filter(|export| matches!(export.ty(), ExternType::Func(_)));
        let names: Vec<_> =
            functions.take(SHOWN_EXPORTS).map(|export| format!("{:?}", export.name())).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    }
}

/// The type that a function by row has; none where text is among the columns.
fn by_row(columns: &[Dtype], returns: Dtype) -> Option<FuncType> {
    let value = |dtype: Dtype| match Kind::of(dtype) {
        Kind::Integer => Some(ValType::I64),
        Kind::Float => Some(ValType::F64),
        Kind::Text => None,
    };
    let parameters = columns.iter().map(|dtype| value(*dtype)).collect::<Option<Vec<_>>>()?;
    Some(FuncType::new(parameters, [value(returns)?]))
}

fn text(function: &FuncType) -> String {
    let list = |types: &[ValType]| {
        types.iter().map(|one| format!("{one:?}").to_lowercase()).collect::<Vec<_>>().join(", ")
    };
    format!("({}) -> ({})", list(function.params()), list(function.results()))
}

/// The interpreter. It compiles a module as a whole, so that no call has to, and its limits are for modules that nobody trusts.
fn engine() -> Engine {
    let mut config = Config::default();
    config
        .consume_fuel(true)
        .compilation_mode(wasmi::CompilationMode::Eager)
        .ignore_custom_sections(true)
        .enforced_limits(EnforcedLimits::strict())
        .set_max_recursion_depth(MAX_CALLS)
        .set_max_stack_height(MAX_STACK_BYTES);
    Engine::new(&config)
}
