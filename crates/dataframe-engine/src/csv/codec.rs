//! Scans of CSV files in DataFusion's plan format.

use std::sync::Arc;

use datafusion::common::{DataFusionError, Result, internal_datafusion_err, not_impl_err};
use datafusion::datasource::physical_plan::{CsvSource, FileScanConfigBuilder};
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;
use datafusion_proto::physical_plan::{
    PhysicalExtensionCodec, PhysicalPlanDecodeContext, PhysicalProtoConverterExtension,
};
use datafusion_proto::protobuf::PhysicalPlanNode;
use prost::Message;

use super::layout::ScanLayout;
use super::objects;
use super::scan::CsvScan;
use super::table::as_csv_scan;

/// What the bytes of a scan begin with.
const MAGIC: &[u8] = b"csv-scan 1\n";

/// Encodes scans of a [`CsvTable`](super::CsvTable), and no other plan of ours.
///
/// ```text
/// csv-scan 1\n  <length of the layout: u32, little-endian>  <layout: JSON>  <DataFusion's node for the same scan>
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct CsvScanCodec;

impl CsvScanCodec {
    /// Whether the bytes are those of a scan.
    pub fn is_scan(bytes: &[u8]) -> bool {
        bytes.starts_with(MAGIC)
    }

    /// Decodes a scan. The functions that its columns are computed with are decoded by `functions`.
    ///
    /// # Errors
    /// Fails if the bytes are not those of a scan.
    pub fn decode(
        bytes: &[u8],
        context: &TaskContext,
        converter: &dyn PhysicalProtoConverterExtension,
        functions: &dyn PhysicalExtensionCodec,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let broken = || internal_datafusion_err!("these bytes are no scan of CSV files");
        let rest = bytes.strip_prefix(MAGIC).ok_or_else(broken)?;
        let (length, rest) = rest.split_first_chunk::<4>().ok_or_else(broken)?;
        let length = u32::from_le_bytes(*length) as usize;
        let (layout, node) = rest.split_at_checked(length).ok_or_else(broken)?;
        let layout: ScanLayout =
            serde_json::from_slice(layout).map_err(|error| DataFusionError::External(Box::new(error)))?;
        let node =
            PhysicalPlanNode::decode(node).map_err(|error| DataFusionError::External(Box::new(error)))?;
        let plan =
            converter.proto_to_execution_plan(&node, &PhysicalPlanDecodeContext::new(context, functions))?;
        let carrier = plan
            .downcast_ref::<DataSourceExec>()
            .and_then(DataSourceExec::downcast_to_file_source::<CsvSource>);
        let (config, _) = carrier.ok_or_else(broken)?;
        objects::register(layout.bucket.as_deref(), &context.runtime_env())?;
        let mut scan = CsvScan::new(Arc::new(layout));
        if let Some(projection) = config.file_source().projection() {
            scan = scan.with_projection(projection);
        }
        let config = FileScanConfigBuilder::from(config.clone())
            .with_source(Arc::new(scan))
            .with_preserve_order(true)
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }

    /// Encodes a scan. The functions that its columns are computed with are encoded by `functions`.
    ///
    /// # Errors
    /// Fails if the plan is no scan.
    pub fn encode(
        plan: &Arc<dyn ExecutionPlan>,
        bytes: &mut Vec<u8>,
        converter: &dyn PhysicalProtoConverterExtension,
        functions: &dyn PhysicalExtensionCodec,
    ) -> Result<()> {
        let Some((config, scan)) = as_csv_scan(plan.as_ref()) else {
            return not_impl_err!("the plan {} does not travel", plan.name());
        };
        let layout = serde_json::to_vec(scan.layout().as_ref())
            .map_err(|error| DataFusionError::External(Box::new(error)))?;
        let length =
            u32::try_from(layout.len()).map_err(|error| DataFusionError::External(Box::new(error)))?;
        let config = FileScanConfigBuilder::from(config.clone()).with_source(scan.carrier()?).build();
        let carrier: Arc<dyn ExecutionPlan> = DataSourceExec::from_data_source(config);
        let node = converter.execution_plan_to_proto(&carrier, functions)?;
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&layout);
        bytes.extend_from_slice(&node.encode_to_vec());
        Ok(())
    }
}

impl PhysicalExtensionCodec for CsvScanCodec {
    fn try_decode(
        &self,
        bytes: &[u8],
        _inputs: &[Arc<dyn ExecutionPlan>],
        context: &TaskContext,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Self::decode(bytes, context, converter, self)
    }

    fn try_encode(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        bytes: &mut Vec<u8>,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<()> {
        Self::encode(&plan, bytes, converter, self)
    }
}
