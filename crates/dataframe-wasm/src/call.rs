//! One function, ready to be called with columns.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Float64Builder, Int64Builder, new_empty_array};
use arrow::buffer::NullBuffer;
use arrow::compute::concat;
use dataframe_jobs::operation::Dtype;
use wasmi::{F64, Func, Val};

use crate::error::WasmError;
use crate::instance::{BatchInstance, CallEnd};
use crate::layout::{self, batch_bytes};
use crate::limits::TaskBudget;
use crate::module::{CallForm, WasmModule};
use crate::plain::{Kind, WasmColumn, arrow_type, typed};

/// A batch fills at most this part of the memory of its instance; a larger one is given in parts.
const MEMORY_SHARE: usize = 4;

/// One function of a module, with the types of its columns and of its result.
#[derive(Debug, Clone)]
pub struct WasmCall {
    module: Arc<WasmModule>,
    function: String,
    columns: Vec<Dtype>,
    returns: Dtype,
    form: CallForm,
}

impl PartialEq for WasmCall {
    fn eq(&self, other: &Self) -> bool {
        (self.module.hash(), &self.function, &self.columns, self.returns)
            == (other.module.hash(), &other.function, &other.columns, other.returns)
    }
}

impl WasmCall {
    /// Checks that a module has this function for such columns. Nothing of the module is run.
    ///
    /// # Errors
    /// Fails if there is no such function, or if its type does not fit.
    pub fn new(
        module: Arc<WasmModule>,
        function: &str,
        columns: Vec<Dtype>,
        returns: Dtype,
    ) -> Result<Self, WasmError> {
        let form = module.form(function, &columns, returns)?;
        Ok(Self { module, function: function.to_owned(), columns, returns, form })
    }

    /// The module.
    #[must_use]
    pub fn module(&self) -> &Arc<WasmModule> {
        &self.module
    }

    /// The name of the function.
    #[must_use]
    pub fn function(&self) -> &str {
        &self.function
    }

    /// The types of its columns.
    #[must_use]
    pub fn columns(&self) -> &[Dtype] {
        &self.columns
    }

    /// The type of its result.
    #[must_use]
    pub fn returns(&self) -> Dtype {
        self.returns
    }

    /// Computes the column of the result, in a new instance. `at` tells where the rows come from: empty, or words that begin with a
    /// comma.
    ///
    /// # Errors
    /// Fails if the function traps, uses up its fuel, or gives no such column, and if the task was stopped.
    pub fn run(&self, columns: &[ArrayRef], budget: &TaskBudget, at: &str) -> Result<ArrayRef, WasmError> {
        let rows = columns.first().map_or(0, Array::len);
        if rows == 0 {
            return Ok(new_empty_array(&arrow_type(self.returns)));
        }
        let fail = |rows: Range<usize>, end: CallEnd| self.failure(rows, end, at);
        let plain = columns
            .iter()
            .zip(&self.columns)
            .map(|(column, dtype)| WasmColumn::new(column, *dtype))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| fail(0..rows, format!("its arguments do not fit: {error}").into()))?;
        match self.form {
            CallForm::ByRow => self.by_row(&plain, rows, budget).map_err(|(rows, end)| fail(rows, end)),
            CallForm::ByBatch => {
                let mut parts = Vec::new();
                for part in parts_of(&plain, rows, budget.limits().memory_bytes / MEMORY_SHARE) {
                    let given: Vec<_> =
                        plain.iter().map(|column| column.slice(part.start, part.len())).collect();
                    parts.push(
                        self.by_batch(&given, part.clone(), budget).map_err(|(rows, end)| fail(rows, end))?,
                    );
                }
                let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
                concat(&parts).map_err(|error| fail(0..rows, error.to_string().into()))
            }
        }
    }

    fn failure(&self, rows: Range<usize>, end: CallEnd, at: &str) -> WasmError {
        match end {
            CallEnd::Stopped => WasmError::Stopped,
            CallEnd::Failed(cause) => WasmError::Failed {
                module: self.module.hash().to_owned(),
                function: self.function.clone(),
                rows,
                at: at.to_owned(),
                cause,
            },
        }
    }

    fn by_row(
        &self,
        columns: &[WasmColumn],
        rows: usize,
        budget: &TaskBudget,
    ) -> Result<ArrayRef, (Range<usize>, CallEnd)> {
        let beginning = |end| (0..0, end);
        let mut instance = BatchInstance::new(&self.module, budget).map_err(beginning)?;
        let function = instance.function(&self.function).map_err(beginning)?;
        let present =
            columns.iter().fold(None, |nulls, column| NullBuffer::union(nulls.as_ref(), column.nulls()));
        let mut results = RowResults::new(self.returns, rows);
        let mut inputs = vec![Val::I64(0); columns.len()];
        let mut output = [results.zero()];
        for row in 0..rows {
            if present.as_ref().is_some_and(|present| present.is_null(row)) {
                results.push_null();
                continue;
            }
            for (input, column) in inputs.iter_mut().zip(columns) {
                *input = argument(column, row);
            }
            instance
                .call(function, &inputs, &mut output, budget.limits().fuel_per_row)
                .map_err(|end| (row..row + 1, with_arguments(end, &inputs)))?;
            results.push(&output[0]);
        }
        typed(results.finish(), self.returns).map_err(|(row, cause)| (row..row + 1, cause.into()))
    }

    fn by_batch(
        &self,
        columns: &[WasmColumn],
        rows: Range<usize>,
        budget: &TaskBudget,
    ) -> Result<ArrayRef, (Range<usize>, CallEnd)> {
        let of_all = |end| (rows.clone(), end);
        let fuel = budget.limits().fuel_per_row.saturating_mul(rows.len() as u64);
        let mut instance = BatchInstance::new(&self.module, budget).map_err(of_all)?;
        let result = self.give_batch(&mut instance, columns, rows.len(), fuel).map_err(of_all)?;
        let memory = instance.memory().map_err(of_all)?;
        let at_row = |(row, cause): (Option<usize>, String)| match row {
            Some(row) => (rows.start + row..rows.start + row + 1, cause.into()),
            None => (rows.clone(), cause.into()),
        };
        let column = layout::read(instance.bytes(memory), result, Kind::of(self.returns), rows.len())
            .map_err(at_row)?;
        typed(column, self.returns).map_err(|(row, cause)| at_row((Some(row), cause)))
    }

    /// Writes a batch into the memory and calls the function. Returns the address that the function returns.
    fn give_batch(
        &self,
        instance: &mut BatchInstance<'_>,
        columns: &[WasmColumn],
        rows: usize,
        fuel: u64,
    ) -> Result<u32, CallEnd> {
        let bytes = batch_bytes(columns, rows);
        let length = u32::try_from(bytes)
            .map_err(|_| format!("a row of {bytes} bytes does not fit into its memory"))?;
        let alloc = instance.function("alloc")?;
        let address = call_with_address(instance, alloc, length, fuel).map_err(|end| match end {
            CallEnd::Failed(cause) => CallEnd::Failed(format!("in \"alloc\": {cause}")),
            CallEnd::Stopped => end,
        })?;
        let memory = instance.memory()?;
        layout::write(instance.bytes_mut(memory), address, columns, rows)?;
        let function = instance.function(&self.function)?;
        call_with_address(instance, function, address, fuel)
    }
}

/// Calls a function of the type `(i32) -> i32`. An address is a number without a sign, which the types of WebAssembly do not tell.
fn call_with_address(
    instance: &mut BatchInstance<'_>,
    function: Func,
    input: u32,
    fuel: u64,
) -> Result<u32, CallEnd> {
    let mut output = [Val::I32(0)];
    instance.call(function, &[Val::I32(input.cast_signed())], &mut output, fuel)?;
    Ok(output[0].i32().unwrap_or(0).cast_unsigned())
}

/// Cuts rows into parts of at most so many bytes, or of one row.
fn parts_of(columns: &[WasmColumn], rows: usize, max_bytes: usize) -> Vec<Range<usize>> {
    let whole = 0..rows;
    let (mut parts, mut waiting) = (Vec::new(), Vec::from([whole]));
    while let Some(part) = waiting.pop() {
        let sliced: Vec<_> = columns.iter().map(|column| column.slice(part.start, part.len())).collect();
        if part.len() == 1 || batch_bytes(&sliced, part.len()) <= max_bytes {
            parts.push(part);
        } else {
            let middle = part.start + part.len() / 2;
            waiting.push(middle..part.end);
            waiting.push(part.start..middle);
        }
    }
    parts
}

fn argument(column: &WasmColumn, row: usize) -> Val {
    match column {
        WasmColumn::Integer(values) => Val::I64(values.value(row)),
        WasmColumn::Float(values) => Val::F64(F64::from(values.value(row))),
        // A function by row has no such parameter, which is checked before.
        WasmColumn::Text(_) => Val::I64(0),
    }
}

fn with_arguments(end: CallEnd, inputs: &[Val]) -> CallEnd {
    let CallEnd::Failed(cause) = end else { return end };
    let shown: Vec<_> = inputs
        .iter()
        .map(|input| match input {
            Val::I64(number) => number.to_string(),
            Val::F64(number) => f64::from(*number).to_string(),
            other => format!("{other:?}"),
        })
        .collect();
    CallEnd::Failed(format!("{cause}; its arguments were {}", shown.join(", ")))
}

/// The results of a function by row.
enum RowResults {
    Integer(Int64Builder),
    Float(Float64Builder),
}

impl RowResults {
    fn new(returns: Dtype, rows: usize) -> Self {
        match Kind::of(returns) {
            Kind::Float => Self::Float(Float64Builder::with_capacity(rows)),
            Kind::Integer | Kind::Text => Self::Integer(Int64Builder::with_capacity(rows)),
        }
    }

    /// A value of the type that the function returns.
    fn zero(&self) -> Val {
        match self {
            Self::Integer(_) => Val::I64(0),
            Self::Float(_) => Val::F64(F64::from(0.0)),
        }
    }

    fn push(&mut self, value: &Val) {
        match self {
            Self::Integer(values) => values.append_option(value.i64()),
            Self::Float(values) => values.append_option(value.f64().map(f64::from)),
        }
    }

    fn push_null(&mut self) {
        match self {
            Self::Integer(values) => values.append_null(),
            Self::Float(values) => values.append_null(),
        }
    }

    fn finish(self) -> WasmColumn {
        match self {
            Self::Integer(mut values) => WasmColumn::Integer(values.finish()),
            Self::Float(mut values) => WasmColumn::Float(values.finish()),
        }
    }
}
