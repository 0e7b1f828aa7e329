//! Functions of WebAssembly modules as functions of DataFusion.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::DataType;
use dataframe_jobs::failure::{Failure, FailureCode};
use dataframe_jobs::message::FileRange;
use dataframe_jobs::operation::{Dtype, WasmFunction};
use dataframe_wasm::{ModuleStore, TaskBudget, WasmCall, WasmError, WasmModule, arrow_type};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, exec_err};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::physical_expr::ScalarFunctionExpr;
use datafusion::physical_plan::ExecutionPlan;
use serde::{Deserialize, Serialize};

use crate::error::FrameError;

/// The name of all functions of modules in plans. What they call is in their bytes.
const NAME: &str = "wasm";

/// What the calls of modules in one plan need.
#[derive(Debug, Clone)]
pub(crate) struct WasmHost {
    /// The modules that this process has.
    pub(crate) modules: ModuleStore,
    /// What the calls may use; none where this process runs no modules.
    pub(crate) budget: Option<TaskBudget>,
    /// Where the rows come from, for errors: empty, or words that begin with a comma.
    pub(crate) at: String,
}

/// A function of a module in a plan's bytes.
#[derive(Debug, Serialize, Deserialize)]
struct EncodedCall {
    module: String,
    function: String,
    columns: Vec<Dtype>,
    returns: Dtype,
}

impl WasmHost {
    /// The function that an `apply` names, for columns of these types.
    ///
    /// # Errors
    /// Fails if the module is not here, or the function does not fit.
    pub(crate) fn function(&self, wasm: &WasmFunction, columns: Vec<Dtype>) -> Result<ScalarUDF, FrameError> {
        self.bound(EncodedCall {
            module: wasm.module.clone(),
            function: wasm.function.clone(),
            columns,
            returns: wasm.returns,
        })
    }

    /// The function that the bytes of a plan name.
    pub(crate) fn decode(&self, bytes: &[u8]) -> Result<ScalarUDF> {
        let call =
            serde_json::from_slice(bytes).map_err(|error| DataFusionError::External(Box::new(error)))?;
        Ok(self.bound(call)?)
    }

    fn bound(&self, call: EncodedCall) -> Result<ScalarUDF, FrameError> {
        let module = self.modules.get(&call.module).ok_or_else(|| {
            FrameError::BadJob(format!(
                "apply: the module {} is not here; give its file with --wasm",
                call.module
            ))
        })?;
        let types = call.columns.iter().map(|dtype| arrow_type(*dtype)).collect();
        let bound = WasmCall::new(module, &call.function, call.columns, call.returns)
            .map_err(|error| FrameError::BadJob(format!("apply: {error}")))?;
        Ok(ScalarUDF::from(ModuleFunction {
            // Volatile: it is not computed while a plan is made, and no rule of the optimizer moves or repeats it.
            signature: Signature::exact(types, Volatility::Volatile),
            call: bound,
            host: self.clone(),
        }))
    }
}

/// Where the rows of a task come from, in words that begin with a comma.
pub(crate) fn place_of(files: &[FileRange]) -> String {
    match files {
        [] => String::new(),
        [only] => format!(", in {} from byte {} to {}", only.path, only.start, only.end),
        [first, others @ ..] => {
            format!(", in {} from byte {} on and {} other files", first.path, first.start, others.len())
        }
    }
}

/// The bytes of a function, if it is one of a module.
pub(crate) fn encoded(function: &ScalarUDF) -> Option<Vec<u8>> {
    let function = function.inner().downcast_ref::<ModuleFunction>()?;
    let call = EncodedCall {
        module: function.call.module().hash().to_owned(),
        function: function.call.function().to_owned(),
        columns: function.call.columns().to_vec(),
        returns: function.call.returns(),
    };
    Some(serde_json::to_vec(&call).expect("a call has string keys only"))
}

/// The modules that a plan calls.
pub(crate) fn modules_of(plan: &Arc<dyn ExecutionPlan>) -> Result<BTreeMap<String, Arc<WasmModule>>> {
    let mut modules = BTreeMap::new();
    plan.apply(|node| {
        node.apply_expressions(&mut |expression| {
            expression.apply(|part| {
                let function = part.downcast_ref::<ScalarFunctionExpr>().map(ScalarFunctionExpr::fun);
                if let Some(function) = function.and_then(|fun| fun.inner().downcast_ref::<ModuleFunction>())
                {
                    let module = function.call.module();
                    modules.insert(module.hash().to_owned(), Arc::clone(module));
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(modules)
}

/// A function of a module, as DataFusion calls it.
#[derive(Debug)]
struct ModuleFunction {
    signature: Signature,
    call: WasmCall,
    host: WasmHost,
}

impl PartialEq for ModuleFunction {
    fn eq(&self, other: &Self) -> bool {
        self.call == other.call
    }
}

impl Eq for ModuleFunction {}

impl Hash for ModuleFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.call.module().hash().hash(state);
        self.call.function().hash(state);
    }
}

impl ScalarUDFImpl for ModuleFunction {
    fn name(&self) -> &'static str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(arrow_type(self.call.returns()))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some(budget) = &self.host.budget else {
            return exec_err!("this process runs no WebAssembly modules: start it with --allow-wasm");
        };
        let columns = ColumnarValue::values_to_arrays(&args.args)?;
        // Arguments that are all constants come as one row for all.
        let columns: Vec<_> = columns
            .into_iter()
            .map(|column| match column.len() == args.number_rows {
                true => Ok(column),
                false => datafusion::common::ScalarValue::try_from_array(&column, 0)?
                    .to_array_of_size(args.number_rows),
            })
            .collect::<Result<_>>()?;
        let computed = self.call.run(&columns, budget, &self.host.at).map_err(|error| match error {
            WasmError::Stopped => FrameError::Cluster(Failure {
                code: FailureCode::Cancelled,
                message: error.to_string(),
                worker: None,
            }),
            other => FrameError::BadJob(format!("apply: {other}")),
        })?;
        Ok(ColumnarValue::Array(computed))
    }
}
