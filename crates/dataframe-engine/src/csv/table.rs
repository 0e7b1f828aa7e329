//! The table of a `read_csv`, and the partitions of its scans.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use buckets::ObjectUrl;
use chrono::DateTime;
use dataframe_jobs::message::FileRange;
use dataframe_jobs::operation::Compression;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::{Result, Statistics};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfig, FileScanConfigBuilder};
use datafusion::datasource::source::DataSourceExec;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::object_store::ObjectMeta;
use datafusion::object_store::path::Path;
use datafusion::physical_plan::ExecutionPlan;

use super::dialect::Dialect;
use super::files::CsvFile;
use super::inspection::Inspection;
use super::layout::{FileLayout, ScanLayout};
use super::objects;
use super::partitions::{CsvPartition, FileCut, cut_files};
use super::scan::CsvScan;
use crate::error::{FrameError, Widenings};

/// The rows of CSV files, in the order of the files, as a table of DataFusion.
#[derive(Debug)]
pub struct CsvTable {
    schema: SchemaRef,
    layout: Arc<ScanLayout>,
    partitions: Vec<CsvPartition>,
    groups: Vec<FileGroup>,
    bytes: u64,
}

impl CsvTable {
    /// Cuts the files into partitions. Reads files with quotes to find the beginnings of records, so that it may take seconds.
    ///
    /// # Errors
    /// [`FrameError::File`] if a file with quotes cannot be read, [`FrameError::BadJob`] if a quote stays open.
    pub fn new(inspection: &Inspection, widenings: &Widenings, cut: FileCut) -> Result<Self, FrameError> {
        let inspection = inspection.widened(widenings);
        let cut = cut_files(&inspection, cut)?;
        let workers = cut.partitions.iter().map(|partition| partition.worker.clone()).collect::<Vec<_>>();
        let mut layout = ScanLayout {
            dialect: Dialect::new(&inspection.options)?,
            columns: inspection.columns,
            null_words: inspection.options.null_words,
            watch_quotes: cut.watch_quotes,
            bucket: objects::common_bucket(inspection.files.iter().map(|file| file.path.as_str()))?,
            files: BTreeMap::new(),
            workers: if workers.iter().any(Option::is_some) { workers } else { Vec::new() },
        };
        for file in inspection.files {
            let CsvFile { path, compression, order, e_tag, .. } = file;
            if compression != Compression::None || !order.is_empty() || e_tag.is_some() {
                layout.files.insert(path, FileLayout { compression, order, e_tag });
            }
        }
        let schema = Arc::new(layout.frame_schema());
        let groups = cut
            .partitions
            .iter()
            .map(|partition| file_group(&layout, partition))
            .collect::<Result<_, _>>()?;
        let bytes = cut
            .partitions
            .iter()
            .flat_map(|partition| &partition.files)
            .map(|file| file.end - file.start)
            .sum();
        Ok(Self { schema, layout: Arc::new(layout), partitions: cut.partitions, groups, bytes })
    }

    /// What each partition reads.
    pub fn partitions(&self) -> &[CsvPartition] {
        &self.partitions
    }
}

fn file_group(layout: &ScanLayout, partition: &CsvPartition) -> Result<FileGroup, FrameError> {
    let file = |range: &FileRange| {
        let unusable =
            |cause: String| FrameError::BadJob(format!("{}: the path cannot be used: {cause}", range.path));
        let location = match layout.bucket {
            None => Path::from_absolute_path(&range.path).map_err(|error| unusable(error.to_string()))?,
            Some(_) => ObjectUrl::parse(&range.path).map_err(|error| unusable(error.to_string()))?.key,
        };
        let file = PartitionedFile::new_from_meta(ObjectMeta {
            location,
            last_modified: DateTime::from_timestamp_nanos(range.modified_ns),
            size: range.size,
            e_tag: None,
            version: None,
        });
        let offset = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        Ok(match layout.compression(&range.path) {
            Compression::None => file.with_range(offset(range.start), offset(range.end)),
            _ => file,
        })
    };
    Ok(FileGroup::new(partition.files.iter().map(file).collect::<Result<_, FrameError>>()?))
}

#[async_trait]
impl TableProvider for CsvTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mut statistics = Statistics::new_unknown(&self.schema);
        statistics.total_byte_size = Precision::Inexact(usize::try_from(self.bytes).unwrap_or(usize::MAX));
        let source = Arc::new(CsvScan::new(Arc::clone(&self.layout)));
        let url = objects::register(self.layout.bucket.as_deref(), state.runtime_env())?;
        let config = FileScanConfigBuilder::new(url, source)
            .with_file_groups(self.groups.clone())
            .with_statistics(statistics)
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .with_preserve_order(true)
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}

/// The configuration and the source of a scan of a [`CsvTable`], if the plan is one.
pub(super) fn as_csv_scan(plan: &dyn ExecutionPlan) -> Option<(&FileScanConfig, &CsvScan)> {
    plan.downcast_ref::<DataSourceExec>()?.downcast_to_file_source::<CsvScan>()
}

/// What each partition of a scan reads. Nothing if the plan is not a scan of a [`CsvTable`].
pub fn scan_partitions(plan: &dyn ExecutionPlan) -> Option<Vec<CsvPartition>> {
    let (config, scan) = as_csv_scan(plan)?;
    let workers = &scan.layout().workers;
    let partition = |(number, group): (usize, &FileGroup)| CsvPartition {
        files: group.iter().filter_map(|file| scan.file_range(file).ok()).collect(),
        worker: workers.get(number).cloned().flatten(),
    };
    Some(config.file_groups.iter().enumerate().map(partition).collect())
}

/// The same scan with this partition only. Nothing if the plan is not a scan of a [`CsvTable`], or has no such partition.
pub fn scan_of_partition(plan: &dyn ExecutionPlan, partition: usize) -> Option<Arc<dyn ExecutionPlan>> {
    let (config, scan) = as_csv_scan(plan)?;
    let group = config.file_groups.get(partition)?.clone();
    let paths: BTreeSet<String> =
        group.iter().filter_map(|file| scan.file_range(file).ok()).map(|range| range.path).collect();
    let mut layout = ScanLayout::clone(scan.layout());
    layout.files.retain(|path, _| paths.contains(path));
    layout.workers = layout.workers.get(partition).cloned().into_iter().collect();
    let config = FileScanConfigBuilder::from(config.clone())
        .with_source(Arc::new(scan.with_layout(layout)))
        .with_file_groups(vec![group])
        .build();
    Some(DataSourceExec::from_data_source(config))
}

/// The same scan, read by DataFusion's reader alone: what the faster reader is compared with. Nothing if the plan is not a scan of a
/// [`CsvTable`].
pub fn scan_by_engine(plan: &dyn ExecutionPlan) -> Option<Arc<dyn ExecutionPlan>> {
    let (config, scan) = as_csv_scan(plan)?;
    let config = FileScanConfigBuilder::from(config.clone()).with_source(Arc::new(scan.by_engine())).build();
    Some(DataSourceExec::from_data_source(config))
}
