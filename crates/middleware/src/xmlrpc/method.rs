//! Methods that a program serves by XML-RPC.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use dxr::Value;

/// A method: an asynchronous function of the parameters, which gives a value or a fault.
pub type Method = Arc<dyn Fn(Vec<Value>) -> MethodResult + Send + Sync>;
/// What a method does.
pub type MethodResult = Pin<Box<dyn Future<Output = Result<Value, MethodFault>> + Send>>;
/// Methods by their names.
pub type Methods = BTreeMap<String, Method>;

/// Why a method has no value. The caller gets it as an XML-RPC fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text} (fault {code})")]
pub struct MethodFault {
    /// A number that callers can look at.
    pub code: i32,
    /// A text for people.
    pub text: String,
}

impl MethodFault {
    /// Makes a fault.
    #[must_use]
    pub fn new(code: i32, text: impl Into<String>) -> MethodFault {
        MethodFault { code, text: text.into() }
    }
}

/// Makes a method of an asynchronous function.
pub fn method<F, Called>(function: F) -> Method
where
    F: Fn(Vec<Value>) -> Called + Send + Sync + 'static,
    Called: Future<Output = Result<Value, MethodFault>> + Send + 'static,
{
    Arc::new(move |parameters| Box::pin(function(parameters)))
}
