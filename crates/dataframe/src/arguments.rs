//! The command line.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use dataframe_cluster::{MiddlewareArguments, WasmLimitArguments, parse_bytes};
use dataframe_engine::{MAX_MODULE_BYTES, WasmModule};
use service::Common;
use service::cli::{self, AtAnyPosition};

pub mod operations;
pub mod reading;

pub use operations::OperationCommand;

/// The first argument that makes this program a worker, with the arguments of `dataframe-worker` behind it. So the workers
/// of `--workers` need no other file.
pub const WORKER: &str = "worker";

/// Computes with CSV files as Dask does: in this process, in several, or on a cluster.
///
/// PATH is a file, a folder or a pattern in quotes ('data/*.csv'), also in a bucket of S3 ('s3://BUCKET/data/*.csv'). `worker://NAME/PATH` is
/// a file that only this worker has.
///
/// Exit code 0: the result was given; 1: something failed, and the log says why; 2: wrong arguments.
#[derive(Debug, Clone, clap::Parser)]
#[command(
    name = "dataframe",
    version,
    // The result is what a person waits for. Every job of a cluster has its lines at `info`.
    mut_arg("log_level", |flag| flag.default_value("warn")),
    after_help = "Examples:\n  \
        dataframe groupby 'tasca1/data/*.csv' --by name --agg 'mean(x)'\n  \
        dataframe head big.csv.gz -n 3 --output json\n  \
        dataframe eval 'read_csv(\"tasca1/data/*.csv\").groupby(\"name\").agg(\"mean(x)\")'\n  \
        dataframe sql 'tasca1/data/*.csv' 'select name, max(x) from df group by name' --workers 4\n  \
        dataframe len 'data/*.csv' --master localhost:9000 --middleware grpc\n  \
        dataframe shell\n\n\
        Each flag can also be set in the environment: --master as DATAFRAME_MASTER."
)]
pub struct DataframeArguments {
    #[command(flatten)]
    pub settings: AtAnyPosition<DataframeSettings>,
    #[command(subcommand)]
    pub action: DataframeCommand,
}

/// The flags of every subcommand.
#[derive(Debug, Clone, Args)]
pub struct DataframeSettings {
    #[command(flatten)]
    pub place: PlaceArguments,
    #[command(flatten)]
    pub middleware: MiddlewareArguments,
    #[command(flatten)]
    pub result: ResultArguments,
    #[command(flatten)]
    pub modules: ModuleArguments,
    #[command(flatten)]
    pub common: Common,
}

/// Where the work is done.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Where to compute (in this process unless told otherwise)")]
pub struct PlaceArguments {
    /// Start this many worker processes and compute in them, 1 to 64
    #[arg(long, value_name = "N", value_parser = cli::count(1..=64))]
    pub workers: Option<usize>,
    /// Compute on the cluster of this master: HOST:PORT, HOST:PORT,HOST:PORT for a pair of which one stands by, or the broker's URL where --middleware has a broker
    #[arg(long, value_name = "ADDRESS")]
    pub master: Option<String>,
    /// Put the CSV files of this computer that are read into this bucket or folder first, each content once, and read them there: s3://BUCKET/PREFIX with the settings of AWS_ACCESS_KEY_ID, AWS_ENDPOINT and so on, or file:///FOLDER. Whoever computes must reach it. They stay there, in its folder `uploads`
    #[arg(long, value_name = "URL")]
    pub upload: Option<String>,
    /// Compute on the cluster of another engine: `ballista df://HOST:50050`, or `ballista standalone` inside this process. Only in a program that is built with `--features ballista`
    #[arg(long, num_args = 2, value_names = ["ENGINE", "ADDRESS"], value_delimiter = ' ')]
    pub engine: Option<Vec<String>>,
    /// Longest time to wait for a master and for workers, or for the scheduler of --engine
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = cli::duration_or_zero)]
    pub wait: Duration,
    /// Threads to compute with, 1 to 1024, in this process or in each of --workers; by default as many as there are processors, shared among --workers. With --engine: the partitions of an exchange of rows, 16 by default
    #[arg(long, value_name = "COUNT", value_parser = cli::count(1..=1024))]
    pub threads: Option<usize>,
    /// Memory to sort, join and group with, such as 2GB, in this process or in each of --workers; more is spilled to disk, or fails with a reason. The rows of the result are not counted
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub memory: Option<u64>,
}

/// Functions that travel with the job.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "WebAssembly")]
pub struct ModuleArguments {
    /// WebAssembly module whose functions `apply`, lines of the prompt by the name of the file (`help apply_wasm`), and lists in JSON by the module's SHA-256, may call; can be given several times. It runs in this process and in --workers within the following limits, and on a cluster within those of the workers
    #[arg(long, value_name = "FILE", value_parser = wasm_module)]
    pub wasm: Vec<GivenModule>,
    #[command(flatten)]
    pub limits: WasmLimitArguments,
}

/// A module of `--wasm`.
#[derive(Debug, Clone)]
pub struct GivenModule {
    /// The name of its file, by which lines of the prompt call it.
    pub name: String,
    pub module: Arc<WasmModule>,
}

impl ModuleArguments {
    /// The hashes of the modules by the names of their files.
    ///
    /// # Errors
    /// Fails if two of them have one name.
    pub fn by_name(&self) -> Result<BTreeMap<String, String>, String> {
        let mut all = BTreeMap::new();
        for GivenModule { name, module } in &self.wasm {
            let hash = module.hash().to_owned();
            if all.insert(name.clone(), hash.clone()).is_some_and(|other| other != hash) {
                return Err(format!(
                    "--wasm: two different files have the name {name:?}, by which lines call them: rename one"
                ));
            }
        }
        Ok(all)
    }
}

/// The module in a file.
fn wasm_module(path: &str) -> Result<GivenModule, String> {
    // A byte more than a module may have is enough to find it too long.
    let limit = MAX_MODULE_BYTES as u64 + 1;
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| format!("it cannot be read: {error}"))?;
    file.take(limit).read_to_end(&mut bytes).map_err(|error| format!("it cannot be read: {error}"))?;
    let module = WasmModule::new(bytes.into()).map(Arc::new).map_err(|error| error.to_string())?;
    let name = Path::new(path).file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(GivenModule { name, module })
}

/// What is shown, and how.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Result")]
pub struct ResultArguments {
    /// Format of the result: table on a terminal, else csv, unless told otherwise
    #[arg(long, value_name = "FORMAT")]
    pub output: Option<ResultFormat>,
    /// Show the plan, its tasks and where they run, in place of the result
    #[arg(long)]
    pub explain: bool,
}

/// A format of `--output`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ResultFormat {
    /// Aligned columns for people; the first rows only.
    Table,
    /// Comma-separated values with a header.
    Csv,
    /// One JSON object a line.
    Json,
    /// Parquet, into a file or a pipe.
    Parquet,
    /// A stream of Arrow IPC, into a file or a pipe.
    Arrow,
}

/// The subcommands.
#[derive(Debug, Clone, Subcommand)]
pub enum DataframeCommand {
    #[command(flatten)]
    Operation(OperationCommand),
    /// Computes a line of the prompt's language
    #[command(after_help = "Examples:\n  \
        dataframe eval 'read_csv(\"data/*.csv\").groupby(\"name\").agg(\"mean(x)\")'\n  \
        dataframe eval 'df = read_csv(\"data/*.csv\")' 'df[df.x > 3].head()'\n\n`help` in `dataframe shell` shows the language.")]
    Eval {
        /// Lines, such as read_csv("data.csv").x.max(); a later one sees the names of the earlier ones
        #[arg(value_name = "LINE", required = true)]
        lines: Vec<String>,
    },
    /// Computes a list of operations in JSON, the language of clients of the cluster
    #[command(
        after_help = "Example:\n  dataframe run --json '[{\"read_csv\": {\"paths\": [\"data.csv\"]}}, {\"max\": {}}]'"
    )]
    Run {
        #[command(flatten)]
        list: JsonArguments,
        /// With --lines: answer with the time, the number of rows and the sums of the columns of numbers: {"summary": …}
        #[arg(long, requires = "lines")]
        summary: bool,
    },
    /// Shows how a line of the prompt's language, or a list in JSON, would be computed: plan, tasks, places
    #[command(
        after_help = "Example:\n  dataframe explain 'read_csv(\"data/*.csv\").x.max()' --master localhost:9000"
    )]
    Explain {
        /// A line, such as read_csv("data.csv").x.max()
        #[arg(value_name = "LINE", required_unless_present_any = ["json", "file"])]
        line: Option<String>,
        #[command(flatten)]
        list: OptionalJsonArguments,
    },
    /// Reads lines like Dask's from the terminal or from standard input: `df = read_csv("data.csv")`, `df.x.max()`
    Shell,
    /// Shows the workers of a cluster, or changes them
    #[command(after_help = "Example:\n  dataframe nodes drain worker2 --master localhost:9000")]
    Nodes {
        #[command(subcommand)]
        action: NodesAction,
    },
    /// Makes the certificates of a cluster, for --tls
    Certificates {
        #[command(subcommand)]
        action: CertificatesAction,
    },
    /// Runs the nine operations of the assignment on sample files, and writes each result into a file
    #[command(after_help = "Example:\n  dataframe demo --data tasca1/data --output-dir tasca1/client")]
    Demo {
        /// Folder of the CSV files, or a file or a pattern; they have the columns `name` and `x`
        #[arg(long, value_name = "PATH", default_value = "tasca1/data")]
        data: String,
        /// Folder of the results, created if missing
        #[arg(long, value_name = "DIR", default_value = "tasca1/client")]
        output_dir: PathBuf,
    },
    /// Prints a completion script
    #[command(
        after_help = "Example:\n  dataframe completions bash > ~/.local/share/bash-completion/completions/dataframe"
    )]
    Completions {
        /// Shell that the script is for
        shell: clap_complete::Shell,
    },
}

/// A list of operations in JSON.
#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = false)]
pub struct JsonArguments {
    /// The list itself
    #[arg(long, value_name = "LIST")]
    pub json: Option<String>,
    /// File with the list; `-` is standard input
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Read one list a line from standard input, and answer each with one line of JSON: {"frame": …} or {"error": …}
    #[arg(long)]
    pub lines: bool,
}

/// A list of operations in JSON, or none.
#[derive(Debug, Clone, Args)]
#[group(multiple = false)]
pub struct OptionalJsonArguments {
    /// The list itself
    #[arg(long, value_name = "LIST", conflicts_with = "line")]
    pub json: Option<String>,
    /// File with the list; `-` is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "line")]
    pub file: Option<PathBuf>,
}

/// Which certificates to make. Keys that were made before are never written over.
#[derive(Debug, Clone, Subcommand)]
pub enum CertificatesAction {
    /// Makes an authority, the certificate of master and workers, and that of clients
    #[command(after_help = "Example:
  dataframe certificates new tls --host master

\
            Master and workers need ca.pem, node.pem and node.key, and clients need ca.pem, client.pem and client.key. With ca.key, \
            further certificates are made: keep it to yourself.")]
    New {
        /// Folder to make them in, made if missing
        #[arg(value_name = "DIR")]
        folder: PathBuf,
        /// Name or address by which clients of Arrow Flight and Python call the master, besides localhost; can be given several times
        #[arg(long, value_name = "HOST")]
        host: Vec<String>,
    },
    /// Makes another certificate for nodes, such as one for further names
    #[command(after_help = "Example:\n  dataframe certificates node --from tls --host other tls-other")]
    Node {
        /// Folder of the authority
        #[arg(long, value_name = "DIR")]
        from: PathBuf,
        /// Folder to make it in, made if missing
        #[arg(value_name = "DIR")]
        folder: PathBuf,
        /// Name or address by which clients of Arrow Flight and Python call the node, besides localhost; can be given several times
        #[arg(long, value_name = "HOST")]
        host: Vec<String>,
    },
    /// Makes another certificate for clients: whoever holds it can compute, and is no part of the cluster
    #[command(after_help = "Example:\n  dataframe certificates client --from tls tls-ana")]
    Client {
        /// Folder of the authority
        #[arg(long, value_name = "DIR")]
        from: PathBuf,
        /// Folder to make it in, made if missing
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
}

/// What to do with the workers of a cluster.
#[derive(Debug, Clone, Subcommand)]
pub enum NodesAction {
    /// Shows all workers
    List,
    /// Takes in the worker at an address
    Add {
        /// HOST:PORT, or a worker's name where a broker stands between
        #[arg(value_name = "ADDRESS")]
        address: String,
    },
    /// Removes a worker at once; its tasks start elsewhere
    Remove {
        /// Name or address
        #[arg(value_name = "WORKER")]
        worker: String,
    },
    /// Removes a worker when it has finished its tasks
    Drain {
        /// Name or address
        #[arg(value_name = "WORKER")]
        worker: String,
    },
    /// Runs tasks that do nothing, and shows how long their way takes and how many there are a second
    Probe {
        /// Jobs of one task each, one after the other
        #[arg(long, value_name = "N", default_value = "1000", value_parser = cli::count(1..=1_000_000))]
        jobs: usize,
        /// Tasks of one job that are on their way at the same time as far as workers have slots
        #[arg(long, value_name = "N", default_value = "10000", value_parser = cli::count(1..=100_000))]
        tasks: usize,
    },
    /// Shows all workers, and shows them again whenever one comes, goes or changes its state, until Ctrl-C
    Watch,
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        DataframeArguments::command().debug_assert();
    }

    #[test]
    fn flags_may_stand_before_or_after_the_subcommand() {
        let before = ["dataframe", "--master", "h:1", "--log-level", "debug", "head", "a.csv", "-n", "3"];
        let after = ["dataframe", "head", "a.csv", "-n", "3", "--master", "h:1", "--log-level", "debug"];
        for words in [before, after] {
            let settings = DataframeArguments::parse_from(words).settings.0;
            assert_eq!(settings.place.master.as_deref(), Some("h:1"), "{words:?}");
            assert_eq!(settings.common.log_level, cli::LogLevel::Debug, "{words:?}");
        }
        let settings = DataframeArguments::parse_from(["dataframe", "len", "a.csv"]).settings.0;
        assert_eq!(settings.common.log_level, cli::LogLevel::Warn);
    }
}
