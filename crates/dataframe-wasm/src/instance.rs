//! One instance of a module: its memory, its fuel, and calls that can be stopped.

use wasmi::errors::{ErrorKind, InstantiationError, MemoryError, TableError};
use wasmi::{
    Error, Func, Instance, Linker, Memory, ResumableCall, Store, StoreLimits, StoreLimitsBuilder, TrapCode,
    Val,
};

use crate::limits::TaskBudget;
use crate::module::WasmModule;

/// A call is looked at after so much fuel, some tens of milliseconds: a task that was stopped ends within it.
const SLICE: u64 = 10_000_000;

/// Tables of an instance, and elements of each: what a compiler makes for indirect calls.
const MAX_TABLES: usize = 4;
const MAX_TABLE_ELEMENTS: usize = 100_000;

/// Why a call gave nothing.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum CallEnd {
    Stopped,
    Failed(String),
}

impl From<String> for CallEnd {
    fn from(cause: String) -> Self {
        Self::Failed(cause)
    }
}

/// One instance, for one batch of rows.
pub(crate) struct BatchInstance<'a> {
    store: Store<StoreLimits>,
    instance: Instance,
    budget: &'a TaskBudget,
}

impl<'a> BatchInstance<'a> {
    /// Makes an instance, and runs the module's start function if it has one, which gets the fuel of one row.
    pub(crate) fn new(module: &WasmModule, budget: &'a TaskBudget) -> Result<Self, CallEnd> {
        let limits = StoreLimitsBuilder::new()
            .memory_size(budget.limits().memory_bytes)
            .table_elements(MAX_TABLE_ELEMENTS)
            .instances(1)
            .tables(MAX_TABLES)
            .memories(1)
            .trap_on_grow_failure(true)
            .build();
        if budget.is_stopped() {
            return Err(CallEnd::Stopped);
        }
        let compiled = module.compiled();
        let mut store = Store::new(compiled.engine(), limits);
        store.limiter(|limits| limits);
        let fuel = budget.limits().fuel_per_row.min(budget.fuel());
        set_fuel(&mut store, fuel)?;
        let instance = Linker::new(compiled.engine()).instantiate_and_start(&mut store, compiled);
        budget.charge(fuel.saturating_sub(store.get_fuel().unwrap_or(0)));
        let instance = instance.map_err(|error| match error.as_trap_code() {
            Some(TrapCode::OutOfFuel) => {
                CallEnd::Failed(format!("its start function used up the {fuel} units of fuel of one row"))
            }
            _ => CallEnd::Failed(format!("the module does not start: {}", words(&error, budget))),
        })?;
        Ok(Self { store, instance, budget })
    }

    /// An exported function. The module was checked, and has it.
    pub(crate) fn function(&self, name: &str) -> Result<Func, CallEnd> {
        let found = self.instance.get_func(&self.store, name);
        found.ok_or_else(|| CallEnd::Failed(format!("there is no function {name:?}")))
    }

    /// The exported memory.
    pub(crate) fn memory(&self) -> Result<Memory, CallEnd> {
        let found = self.instance.get_memory(&self.store, "memory");
        found.ok_or_else(|| CallEnd::Failed("it exports no \"memory\"".to_owned()))
    }

    /// All bytes of a memory.
    pub(crate) fn bytes(&self, memory: Memory) -> &[u8] {
        memory.data(&self.store)
    }

    /// All bytes of a memory, to be written.
    pub(crate) fn bytes_mut(&mut self, memory: Memory) -> &mut [u8] {
        memory.data_mut(&mut self.store)
    }

    /// Calls a function with at most so much fuel. Looks after each slice of it whether the task was stopped.
    pub(crate) fn call(
        &mut self,
        function: Func,
        inputs: &[Val],
        outputs: &mut [Val],
        fuel: u64,
    ) -> Result<(), CallEnd> {
        if self.budget.is_stopped() {
            return Err(CallEnd::Stopped);
        }
        let of_task = self.budget.fuel();
        let mut left = fuel.min(of_task);
        let mut slice = left.min(SLICE);
        set_fuel(&mut self.store, slice)?;
        let mut called = function.call_resumable(&mut self.store, inputs, outputs);
        loop {
            let unused = self.store.get_fuel().unwrap_or(0);
            let used = slice.saturating_sub(unused);
            self.budget.charge(used);
            left = left.saturating_sub(used);
            match called {
                Ok(ResumableCall::Finished) => return Ok(()),
                Ok(ResumableCall::OutOfFuel(rest)) if rest.required_fuel() <= left => {
                    if self.budget.is_stopped() {
                        return Err(CallEnd::Stopped);
                    }
                    slice = left.min(SLICE.max(rest.required_fuel()));
                    set_fuel(&mut self.store, slice)?;
                    called = rest.resume(&mut self.store, outputs);
                }
                Ok(ResumableCall::OutOfFuel(_)) => return Err(self.out_of_fuel(fuel, of_task)),
                // There are no host functions.
                Ok(ResumableCall::HostTrap(_)) => return Err("it called the host".to_owned().into()),
                Err(error) if error.as_trap_code() == Some(TrapCode::OutOfFuel) => {
                    return Err(self.out_of_fuel(fuel, of_task));
                }
                Err(error) => return Err(words(&error, self.budget).into()),
            }
        }
    }

    /// Which fuel has ended: that of the call, or that which the task had left.
    fn out_of_fuel(&self, fuel: u64, of_task: u64) -> CallEnd {
        let limits = self.budget.limits();
        CallEnd::Failed(match of_task < fuel {
            true => format!(
                "the task has used up its {} units of fuel: does the function loop?",
                limits.fuel_per_task
            ),
            false => format!(
                "it used up its {fuel} units of fuel ({} for each row): does it loop? --wasm-fuel of the worker gives more",
                limits.fuel_per_row
            ),
        })
    }
}

fn set_fuel(store: &mut Store<StoreLimits>, fuel: u64) -> Result<(), CallEnd> {
    store.set_fuel(fuel).map_err(|error| CallEnd::Failed(format!("fuel cannot be counted: {error}")))
}

/// What a trap means for whoever wrote the module.
fn words(error: &Error, budget: &TaskBudget) -> String {
    let too_large = || {
        format!(
            "it wants more memory or larger tables than it may have; the memory is limited to {} bytes (--wasm-memory of the worker)",
            budget.limits().memory_bytes
        )
    };
    match (error.as_trap_code(), error.kind()) {
        (Some(TrapCode::UnreachableCodeReached), _) => {
            "it gave up (the instruction `unreachable`), as a panic does".to_owned()
        }
        (Some(TrapCode::StackOverflow), _) => "its calls nest too deeply".to_owned(),
        (Some(TrapCode::GrowthOperationLimited), _)
        | (_, ErrorKind::Memory(MemoryError::ResourceLimiterDeniedAllocation))
        | (_, ErrorKind::Table(TableError::ResourceLimiterDeniedAllocation))
        | (
            _,
            ErrorKind::Instantiation(
                InstantiationError::FailedToInstantiateMemory(MemoryError::ResourceLimiterDeniedAllocation)
                | InstantiationError::FailedToInstantiateTable(TableError::ResourceLimiterDeniedAllocation),
            ),
        ) => too_large(),
        (Some(code), _) => format!("it trapped: {code}"),
        (None, _) => format!("it failed: {error}"),
    }
}
