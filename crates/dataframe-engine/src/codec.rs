//! A task's plan as bytes: a line of JSON, and DataFusion's physical plan in protobuf.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use datafusion::common::{DataFusionError, Result, internal_err};
use datafusion::execution::TaskContext;
use datafusion::logical_expr::ScalarUDF;
use datafusion::physical_plan::ExecutionPlan;
use datafusion_proto::bytes::{
    physical_plan_from_bytes_with_extension_codec, physical_plan_to_bytes_with_extension_codec,
};
use datafusion_proto::physical_plan::{PhysicalExtensionCodec, PhysicalProtoConverterExtension};
use serde::{Deserialize, Serialize};

use crate::csv::CsvScanCodec;
use crate::error::FrameError;
use crate::position::{PositionExec, as_position};
use crate::shuffle::{ShuffleExec, as_shuffle};
use crate::wasm::{self, WasmHost};

/// What stands before the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PlanHeader {
    /// The version of DataFusion, to which the format of the plan is tied.
    pub(crate) datafusion: String,
    /// The expressions of the job, for errors to name.
    pub(crate) expressions: Vec<String>,
    /// A task at whose top is an exchange splits its rows if they take more bytes in memory.
    pub(crate) split_above: u64,
}

impl PlanHeader {
    pub(crate) fn new(expressions: Vec<String>, split_above: u64) -> Self {
        Self { datafusion: datafusion::DATAFUSION_VERSION.to_owned(), expressions, split_above }
    }
}

/// Encodes a task's plan.
pub(crate) fn encode(header: &PlanHeader, plan: Arc<dyn ExecutionPlan>) -> Result<Bytes, FrameError> {
    let plan = physical_plan_to_bytes_with_extension_codec(plan, &PlanCodec { host: None })
        .map_err(|error| FrameError::Internal(format!("the plan of a task cannot be encoded: {error}")))?;
    let header = serde_json::to_vec(header).expect("a header has string keys only");
    let mut bytes = BytesMut::with_capacity(header.len() + 1 + plan.len());
    bytes.put_slice(&header);
    bytes.put_u8(b'\n');
    bytes.put_slice(&plan);
    Ok(bytes.freeze())
}

/// Decodes a task's plan. Functions are found by name among those of the context, and those of modules among those of the host.
pub(crate) fn decode(
    bytes: &[u8],
    context: &TaskContext,
    host: &WasmHost,
) -> Result<(PlanHeader, Arc<dyn ExecutionPlan>), FrameError> {
    let wrong = |what: String| FrameError::Internal(format!("the bytes are no plan of this release: {what}"));
    let end = memchr::memchr(b'\n', bytes).ok_or_else(|| wrong("they have no header".into()))?;
    let header: PlanHeader =
        serde_json::from_slice(&bytes[..end]).map_err(|error| wrong(error.to_string()))?;
    if header.datafusion != datafusion::DATAFUSION_VERSION {
        return Err(wrong(format!(
            "they are for DataFusion {}, and this is {}",
            header.datafusion,
            datafusion::DATAFUSION_VERSION
        )));
    }
    let codec = PlanCodec { host: Some(host.clone()) };
    let plan = physical_plan_from_bytes_with_extension_codec(&bytes[end + 1..], context, &codec).map_err(
        |error| match error.find_root() {
            DataFusionError::External(inner) => match inner.downcast_ref::<FrameError>() {
                Some(known) => known.clone(),
                None => wrong(error.strip_backtrace()),
            },
            _ => wrong(error.strip_backtrace()),
        },
    )?;
    Ok((header, plan))
}

/// Encodes the nodes and functions that are not DataFusion's own.
#[derive(Debug)]
struct PlanCodec {
    /// Where the functions of modules are found, for decoding.
    host: Option<WasmHost>,
}

impl PhysicalExtensionCodec for PlanCodec {
    fn try_encode_udf(&self, function: &ScalarUDF, bytes: &mut Vec<u8>) -> Result<()> {
        bytes.extend(wasm::encoded(function).unwrap_or_default());
        Ok(())
    }

    fn try_decode_udf(&self, name: &str, bytes: &[u8]) -> Result<Arc<ScalarUDF>> {
        match &self.host {
            Some(host) if !bytes.is_empty() => host.decode(bytes).map(Arc::new),
            _ => internal_err!("a plan calls the function {name}, which this release does not know"),
        }
    }

    fn try_decode(
        &self,
        bytes: &[u8],
        inputs: &[Arc<dyn ExecutionPlan>],
        context: &TaskContext,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if CsvScanCodec::is_scan(bytes) {
            return CsvScanCodec::decode(bytes, context, converter, self);
        }
        if ShuffleExec::is_encoded(bytes) {
            return Ok(Arc::new(ShuffleExec::decode(bytes)?));
        }
        match (<[u8; 8]>::try_from(bytes), inputs) {
            (Ok(first_partition), [input]) => {
                Ok(Arc::new(PositionExec::new(input.clone(), u64::from_le_bytes(first_partition))))
            }
            _ => internal_err!("a plan has a node that this release does not know"),
        }
    }

    fn try_encode(
        &self,
        node: Arc<dyn ExecutionPlan>,
        bytes: &mut Vec<u8>,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<()> {
        if let Some(shuffle) = as_shuffle(&node) {
            bytes.append(&mut shuffle.encode()?);
            return Ok(());
        }
        match as_position(&node) {
            Some(position) => {
                bytes.extend_from_slice(&position.first_partition().to_le_bytes());
                Ok(())
            }
            None => CsvScanCodec::encode(&node, bytes, converter, self),
        }
    }
}
