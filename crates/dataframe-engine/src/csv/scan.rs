//! A scan of CSV files: this crate's reader or DataFusion's, with pandas' rules for missing values around it, and errors that name
//! their place.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arrow::datatypes::SchemaRef;
use buckets::ObjectUrl;
use dataframe_jobs::message::FileRange;
use dataframe_jobs::operation::Compression;
use datafusion::common::config::CsvOptions as EngineCsvOptions;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result, internal_datafusion_err};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{
    CsvOpener, CsvSource, FileOpenFuture, FileOpener, FileScanConfig, FileSource,
};
use datafusion::datasource::projection::{ProjectionOpener, SplitProjection};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::object_store::ObjectStore;
use datafusion::object_store::local::LocalFileSystem;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_plan::DisplayFormatType;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures_util::{StreamExt, TryStreamExt, stream};

use super::batches::open_batches;
use super::conversion::Conversion;
use super::file_bytes::file_compression_type;
use super::layout::ScanLayout;
use super::null_words::NullWords;
use super::plain_reader::PlainRead;
use super::problem::ScanPlace;
use super::watched_store::{QuoteWatch, WatchedObject, WatchedStore};
use crate::error::FrameError;

/// The source of a scan of CSV files, around DataFusion's `CsvSource`.
#[derive(Debug, Clone)]
pub struct CsvScan {
    layout: Arc<ScanLayout>,
    null_words: Arc<NullWords>,
    table_schema: TableSchema,
    projection: SplitProjection,
    batch_size: Option<usize>,
    metrics: ExecutionPlanMetricsSet,
    /// DataFusion's reader reads everything.
    by_engine: bool,
}

impl CsvScan {
    pub(super) fn new(layout: Arc<ScanLayout>) -> Self {
        let table_schema = TableSchema::from(Arc::new(layout.frame_schema()));
        Self {
            null_words: Arc::new(NullWords::new(layout.null_words.as_deref())),
            projection: SplitProjection::unprojected(&table_schema),
            layout,
            table_schema,
            batch_size: None,
            metrics: ExecutionPlanMetricsSet::new(),
            by_engine: false,
        }
    }

    pub(super) fn layout(&self) -> &Arc<ScanLayout> {
        &self.layout
    }

    /// The same with another layout of the same columns.
    pub(super) fn with_layout(&self, layout: ScanLayout) -> Self {
        Self { layout: Arc::new(layout), ..self.clone() }
    }

    /// The same, read by DataFusion's reader alone.
    pub(super) fn by_engine(&self) -> Self {
        Self { by_engine: true, ..self.clone() }
    }

    pub(super) fn with_projection(&self, projection: &ProjectionExprs) -> Self {
        let projection = SplitProjection::new(self.table_schema.file_schema(), projection);
        Self { projection, ..self.clone() }
    }

    fn engine_options(&self) -> EngineCsvOptions {
        let dialect = self.layout.dialect;
        EngineCsvOptions {
            has_header: Some(dialect.header),
            delimiter: dialect.separator,
            quote: dialect.quote,
            newlines_in_values: Some(true),
            truncated_rows: Some(true),
            ..EngineCsvOptions::default()
        }
    }

    /// The part of a file that a partition reads.
    pub(super) fn file_range(&self, file: &PartitionedFile) -> Result<FileRange> {
        let location = &file.object_meta.location;
        let path = if let Some(bucket) = &self.layout.bucket {
            ObjectUrl { bucket: bucket.clone(), key: location.clone() }.to_string()
        } else {
            let path = LocalFileSystem::new().path_to_filesystem(location)?;
            path.to_str().ok_or_else(|| internal_datafusion_err!("a path that is not UTF-8"))?.to_owned()
        };
        let (start, end) = file.range();
        Ok(FileRange {
            path,
            start,
            end,
            size: file.object_meta.size,
            modified_ns: file.object_meta.last_modified.timestamp_nanos_opt().unwrap_or(i64::MAX),
        })
    }

    /// DataFusion's source, with the same columns and projection. It carries the scan through DataFusion's plan format.
    pub(super) fn carrier(&self) -> Result<Arc<dyn FileSource>> {
        let source = CsvSource::new(self.table_schema.clone()).with_csv_options(self.engine_options());
        source
            .try_pushdown_projection(&self.projection.source)?
            .ok_or_else(|| internal_datafusion_err!("CsvSource takes no projection"))
    }
}

impl FileSource for CsvScan {
    fn create_file_opener(
        &self,
        object_store: Arc<dyn ObjectStore>,
        _base_config: &FileScanConfig,
        _partition: usize,
    ) -> Result<Arc<dyn FileOpener>> {
        let file_schema = self.table_schema.file_schema();
        let columns = self.projection.file_indices.clone();
        let opener = CsvScanOpener {
            schema: Arc::new(file_schema.project(&columns)?),
            columns,
            batch_size: self
                .batch_size
                .ok_or_else(|| internal_datafusion_err!("a scan without a batch size"))?,
            engine_options: self.engine_options(),
            scan: self.clone(),
            store: object_store,
        };
        ProjectionOpener::try_new(self.projection.clone(), Arc::new(opener), file_schema)
    }

    fn table_schema(&self) -> &TableSchema {
        &self.table_schema
    }

    fn with_batch_size(&self, batch_size: usize) -> Arc<dyn FileSource> {
        Arc::new(Self { batch_size: Some(batch_size), ..self.clone() })
    }

    fn projection(&self) -> Option<&ProjectionExprs> {
        Some(&self.projection.source)
    }

    fn metrics(&self) -> &ExecutionPlanMetricsSet {
        &self.metrics
    }

    fn file_type(&self) -> &'static str {
        "csv"
    }

    fn fmt_extra(&self, format: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        if format != DisplayFormatType::TreeRender {
            write!(f, ", has_header={}", self.layout.dialect.header)?;
        }
        Ok(())
    }

    /// The partitions are those of the table: tasks and their places depend on them.
    fn supports_repartitioning(&self) -> bool {
        false
    }

    fn try_pushdown_projection(&self, projection: &ProjectionExprs) -> Result<Option<Arc<dyn FileSource>>> {
        let merged = self.projection.source.try_merge(projection)?;
        Ok(Some(Arc::new(self.with_projection(&merged))))
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        datafusion::physical_plan::apply_expression_roots(self.projection.source.iter(), f)
    }
}

/// Opens one file, or a part of one.
struct CsvScanOpener {
    scan: CsvScan,
    store: Arc<dyn ObjectStore>,
    engine_options: EngineCsvOptions,
    /// The columns of the frame that are read, in ascending order.
    columns: Vec<usize>,
    /// Their types.
    schema: SchemaRef,
    batch_size: usize,
}

impl CsvScanOpener {
    fn place(&self, file: &PartitionedFile) -> Result<ScanPlace> {
        let range = self.scan.file_range(file)?;
        let layout = Arc::clone(&self.scan.layout);
        Ok(ScanPlace {
            compression: layout.compression(&range.path),
            layout,
            null_words: Arc::clone(&self.scan.null_words),
            range,
            quote_seen: Arc::new(AtomicBool::new(false)),
        })
    }

    /// The columns of the file that are read, in ascending order, as the parser gives them.
    fn file_columns(&self, path: &str) -> Vec<usize> {
        let mut columns: Vec<_> =
            self.columns.iter().map(|column| self.scan.layout.file_column(path, *column)).collect();
        columns.sort_unstable();
        columns
    }

    fn parser(&self, place: &ScanPlace, file: &PartitionedFile, file_columns: &[usize]) -> Result<CsvOpener> {
        let path = &place.range.path;
        let schema = Arc::new(self.scan.layout.file_schema(path));
        let projection = ProjectionExprs::from_indices(file_columns, &schema);
        let source = CsvSource::new(schema).with_csv_options(self.engine_options.clone());
        let source = source.with_batch_size(self.batch_size).try_pushdown_projection(&projection)?;
        let source = source.map(|source| source as Arc<dyn Any + Send + Sync>);
        let source = source.and_then(|source| source.downcast::<CsvSource>().ok());
        let source = source.ok_or_else(|| internal_datafusion_err!("CsvSource has become another source"))?;
        let store = WatchedStore {
            inner: Arc::clone(&self.store),
            object: self
                .scan
                .layout
                .bucket
                .as_ref()
                .map(|_| WatchedObject { file: place.state(), meta: file.object_meta.clone() }),
            quotes: QuoteWatch {
                quote: self.scan.layout.dialect.quote,
                stops: place.is_watched(),
                seen: Arc::clone(&place.quote_seen),
            },
        };
        Ok(CsvOpener::new(source, file_compression_type(place.compression), Arc::new(store)))
    }

    /// What this crate's reader reads, where the file is not compressed.
    fn plain_read(&self, place: &ScanPlace, file_columns: &[usize]) -> Result<Option<PlainRead>> {
        if self.scan.by_engine || place.compression != Compression::None {
            return Ok(None);
        }
        let schema = self.scan.layout.file_schema(&place.range.path);
        Ok(Some(PlainRead {
            file: place.state(),
            part: place.range.clone(),
            dialect: self.scan.layout.dialect,
            file_columns: schema.fields().len(),
            schema: Arc::new(schema.project(file_columns)?),
            columns: file_columns.to_vec(),
            batch_size: self.batch_size,
            stops_at_quotes: place.is_watched(),
        }))
    }

    fn conversion(&self, place: &ScanPlace, file_columns: &[usize]) -> Conversion {
        let path = &place.range.path;
        let layout = &self.scan.layout;
        let source = |column: &usize| {
            let file_column = layout.file_column(path, *column);
            file_columns.iter().position(|known| *known == file_column).unwrap_or_default()
        };
        let sources: Vec<_> = self.columns.iter().map(source).collect();
        let records = u64::from(layout.dialect.header && place.range.start == 0);
        let null_words = Arc::clone(&self.scan.null_words);
        Conversion::new(layout, null_words, &self.columns, &sources, Arc::clone(&self.schema), records)
    }
}

impl FileOpener for CsvScanOpener {
    fn open(&self, mut file: PartitionedFile) -> Result<FileOpenFuture> {
        let place = Arc::new(self.place(&file)?);
        if place.compression == Compression::None {
            // A whole file is read in large pieces too.
            if file.range.is_none() {
                let size = i64::try_from(file.object_meta.size).unwrap_or(i64::MAX);
                file = file.with_range(0, size);
            }
        } else {
            file.range = None;
        }
        let file_columns = self.file_columns(&place.range.path);
        let plain = self.plain_read(&place, &file_columns)?;
        let engine = self.parser(&place, &file, &file_columns)?.open(file)?;
        let opening = open_batches(plain, engine);
        let mut conversion = self.conversion(&place, &file_columns);
        Ok(Box::pin(async move {
            let batches = match opening.await {
                Ok(batches) => batches,
                Err(error) => return Err(explained(place, move |place| place.explain(&error)).await),
            };
            let batches = batches.map(move |batch| match batch {
                Ok(batch) => conversion.convert(batch).map_err(ScanFailure::Conversion),
                Err(error) => Err(ScanFailure::Engine(error)),
            });
            let ended = stream::once(end_of(Arc::clone(&place))).filter_map(async |failed| failed.map(Err));
            let batches = batches.or_else(move |failure| {
                let place = Arc::clone(&place);
                async move {
                    Err(explained(place, move |place| match failure {
                        ScanFailure::Conversion(error) => place.explain_conversion(error),
                        ScanFailure::Engine(error) => place.explain(&error),
                    })
                    .await)
                }
            });
            Ok(batches.chain(ended).boxed())
        }))
    }
}

/// What is wrong at the end of a part that has been read as a whole.
async fn end_of(place: Arc<ScanPlace>) -> Option<DataFusionError> {
    if !place.may_end_in_quotes() {
        return None;
    }
    let checked = tokio::task::spawn_blocking(move || place.check_end()).await;
    let checked = checked.unwrap_or_else(|error| {
        Err(FrameError::Internal(format!("the end of a file is not known: {error}")))
    });
    checked.err().map(|error| DataFusionError::External(Box::new(error)))
}

enum ScanFailure {
    Conversion(super::conversion::ConversionError),
    Engine(DataFusionError),
}

/// Explains an error on a thread of its own, because that reads the file.
async fn explained(
    place: Arc<ScanPlace>,
    explain: impl FnOnce(&ScanPlace) -> FrameError + Send + 'static,
) -> DataFusionError {
    let explained = tokio::task::spawn_blocking(move || explain(&place)).await;
    let error = explained.unwrap_or_else(|error| {
        FrameError::Internal(format!("looking for the place of an error ended early: {error}"))
    });
    DataFusionError::External(Box::new(error))
}
