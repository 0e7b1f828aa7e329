//! Tasca 1: the command line and the prompt of the distributed DataFrame.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`arguments`] | the command line |
//! | [`engine_choice`] | which other engine computes, if `--engine` names one |
//! | [`job`] | arguments → operations |
//! | [`language`] | lines of the prompt → operations |
//! | [`lists`] | lists of operations from standard input, answered line by line |
//! | [`place`] | where frames are computed |
//! | [`session`] | does what lines say, one after the other |
//! | [`shell`] | the prompt: history, completion, Ctrl-C |
//! | [`output`] | results on standard output and in files |
//! | [`progress`] | the progress bar of a job's tasks |
//! | [`nodes`] | the table of the workers |
//! | [`probe`] | how long the way of a task takes |
//! | [`upload`] | files that are put where the cluster reads them |
//! | [`demo`] | the nine operations of the assignment |

#![allow(
    missing_docs,
    reason = "a program's own library: its binary, its tests and other programs of this workspace use it"
)]

pub mod arguments;
#[cfg(feature = "ballista")]
mod ballista_cluster;
pub mod demo;
pub mod engine_choice;
pub mod job;
pub mod language;
pub mod lists;
pub mod nodes;
pub mod output;
pub mod place;
pub mod probe;
pub mod progress;
pub mod session;
pub mod shell;
pub mod upload;

use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::CommandFactory as _;
use dataframe_cluster::{WorkerArguments, run_worker};
use dataframe_jobs::message::NodesCommand;
use dataframe_jobs::operation::{self, Operation};
use mutual_tls::{TlsHolder, certificates};
use service::{Common, Shutdown, cli, logging};
use tokio::runtime::{Builder, Runtime};

use arguments::{
    CertificatesAction, DataframeArguments, DataframeCommand, DataframeSettings, NodesAction, ResultFormat,
    WORKER,
};
use job::WrongArguments;
use language::value::SaveOrder;
use output::ResultPrinter;
use place::ComputePlace;
use progress::TaskProgress;
use session::{AfterLine, ShellSession};

/// The longest list of operations that is read from a file.
const MAX_LIST_BYTES: u64 = 4 << 20;

/// Time for background threads to end after the program. Then the process ends without them.
const RUNTIME_END: Duration = Duration::from_millis(500);

/// Runs the program from its arguments to its exit code: 0 for success, 1 if it failed and logged why, or 2 for wrong
/// arguments.
#[must_use]
pub fn run() -> ExitCode {
    let words: Vec<_> = std::env::args_os().collect();
    if words.get(1).is_some_and(|word| word == WORKER) {
        return worker(words);
    }
    let arguments: DataframeArguments = match cli::parse("DATAFRAME", words) {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    let common = arguments.settings.0.common.clone();
    let _flush_at_exit = logging::start(&common);
    // DataFusion computes on several threads.
    let mut runtime = Builder::new_multi_thread();
    if let Some(threads) = arguments.settings.0.place.threads {
        runtime.worker_threads(threads);
    }
    let outcome = runtime.enable_all().build().map_err(anyhow::Error::from).and_then(|runtime| {
        let outcome = match arguments.action {
            DataframeCommand::Shell => prompt(&runtime, &arguments.settings.0),
            action => until_stopped(&runtime, &common, command(arguments.settings.0, action)),
        };
        runtime.block_on(place::clear_up());
        runtime.shutdown_timeout(RUNTIME_END);
        outcome
    });
    ended(outcome)
}

fn ended(outcome: anyhow::Result<()>) -> ExitCode {
    let Err(error) = outcome else { return ExitCode::SUCCESS };
    if let Some(wrong) = error.downcast_ref::<WrongArguments>() {
        eprintln!("error: {wrong}");
        return ExitCode::from(cli::USAGE);
    }
    tracing::error!("{error:#}");
    ExitCode::FAILURE
}

fn worker(words: Vec<OsString>) -> ExitCode {
    // The worker's own arguments begin behind the word that makes this program one.
    let words = words.into_iter().skip(1);
    let arguments: WorkerArguments = match cli::parse("DATAFRAME_WORKER", words) {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    let common = arguments.common.clone();
    let _flush_at_exit = logging::start(&common);
    let outcome = Shutdown::on_signals(common.shutdown_deadline).map_err(Into::into).and_then(|shutdown| {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let outcome = runtime.block_on(run_worker(arguments, shutdown));
        runtime.shutdown_timeout(RUNTIME_END);
        outcome
    });
    ended(outcome)
}

/// A computation only reads, or writes files that appear when they are whole: it can be left at any point.
fn until_stopped(
    runtime: &Runtime,
    common: &Common,
    work: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let shutdown = Shutdown::on_signals(common.shutdown_deadline)?;
    runtime.block_on(async {
        tokio::select! {
            () = shutdown.requested() => {
                place::give_up_jobs().await;
                anyhow::bail!("stopped before the end")
            }
            done = work => done,
        }
    })
}

fn prompt(runtime: &Runtime, settings: &DataframeSettings) -> anyhow::Result<()> {
    let session = runtime.block_on(session(settings))?;
    shell::run(runtime, session)
}

async fn session(settings: &DataframeSettings) -> anyhow::Result<ShellSession> {
    let writer = ResultPrinter::new(settings.result.output)?;
    let progress = TaskProgress::default();
    let modules = settings.modules.by_name().map_err(WrongArguments)?;
    let place = ComputePlace::open(settings, progress.callback()).await?;
    Ok(ShellSession::new(place, writer, progress, settings.result.explain).with_modules(modules))
}

async fn command(settings: DataframeSettings, action: DataframeCommand) -> anyhow::Result<()> {
    match action {
        DataframeCommand::Operation(operation) => {
            let modules: Vec<_> = settings.modules.wasm.iter().map(|given| given.module.hash()).collect();
            let job = job::job(operation, &modules)?;
            let session = session(&settings).await?;
            match job.target {
                None => session.show(&job.operations).await,
                Some((path, format)) => {
                    let path = path.into_os_string().into_string();
                    let path =
                        path.map_err(|path| anyhow::anyhow!("{}: the name is no UTF-8", path.display()))?;
                    session.save(&SaveOrder { operations: job.operations, path, format }).await
                }
            }
        }
        DataframeCommand::Run { list, summary } if list.lines => {
            let place = ComputePlace::open(&settings, TaskProgress::default().callback()).await?;
            lists::answer_lines(&place, summary).await
        }
        DataframeCommand::Run { list, .. } => {
            let operations = list_of(list.json, list.file.as_deref())?;
            session(&settings).await?.show(&operations).await
        }
        DataframeCommand::Explain { line: Some(line), .. } => {
            lines(&settings, &[format!("explain {line}")]).await
        }
        DataframeCommand::Explain { list, .. } => {
            let operations = list_of(list.json, list.file.as_deref())?;
            session(&settings).await?.explain(&operations).await
        }
        DataframeCommand::Eval { lines: all } => lines(&settings, &all).await,
        DataframeCommand::Nodes { action } => nodes(&settings, action).await,
        DataframeCommand::Demo { data, output_dir } => {
            let progress = TaskProgress::default();
            let place = ComputePlace::open(&settings, progress.callback()).await?;
            demo::run(&place, &progress, &data, &output_dir).await
        }
        DataframeCommand::Certificates { action } => Ok(match action {
            CertificatesAction::New { folder, host } => certificates::make(&folder, &host),
            CertificatesAction::Node { from, folder, host } => {
                certificates::issue(&from, &folder, TlsHolder::Node, &host)
            }
            CertificatesAction::Client { from, folder } => {
                certificates::issue(&from, &folder, TlsHolder::Client, &[])
            }
        }?),
        DataframeCommand::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut DataframeArguments::command(), "dataframe", &mut script);
            output::print(&script)
        }
        DataframeCommand::Shell => anyhow::bail!("the prompt is not run as a command"),
    }
}

async fn lines(settings: &DataframeSettings, lines: &[String]) -> anyhow::Result<()> {
    let mut session = session(settings).await?;
    for line in lines {
        match session.run_line(line).await {
            Ok(AfterLine::Continue) => {}
            Ok(AfterLine::Leave) => break,
            Err(session::LineError::Wrong(fault)) => {
                return Err(WrongArguments(format!("wrong line\n{}", fault.shown_in(line))).into());
            }
            Err(session::LineError::Failed(error)) => return Err(error),
        }
    }
    Ok(())
}

async fn nodes(settings: &DataframeSettings, action: NodesAction) -> anyhow::Result<()> {
    if settings.place.master.is_none() && settings.place.workers.is_none() {
        return Err(WrongArguments("`nodes` needs a cluster: --master ADDRESS".to_owned()).into());
    }
    let place = ComputePlace::open(settings, TaskProgress::default().callback()).await?;
    let command = match action {
        NodesAction::Probe { jobs, tasks } => {
            let report = probe::run(&place, jobs, tasks).await?;
            let json = settings.result.output == Some(ResultFormat::Json);
            let text = if json { serde_json::to_string(&report)? } else { report.to_string() };
            return output::print(format!("{text}\n").as_bytes());
        }
        NodesAction::List => NodesCommand::List,
        NodesAction::Add { address } => NodesCommand::Add { address },
        NodesAction::Remove { worker } => NodesCommand::Remove { worker },
        NodesAction::Drain { worker } => NodesCommand::Drain { worker },
        NodesAction::Watch => {
            return place
                .watch(|workers| output::print(format!("{}\n", nodes::table(workers)).as_bytes()))
                .await;
        }
    };
    output::print(nodes::table(&place.nodes(command).await?).as_bytes())
}

/// Returns a list of operations in JSON, from the command line, a file or standard input.
fn list_of(json: Option<String>, file: Option<&Path>) -> anyhow::Result<Vec<Operation>> {
    let json = match (json, file) {
        (Some(json), _) => json,
        (None, Some(file)) => {
            let from_stdin = file == Path::new("-");
            let cannot = || format!("{} cannot be read", file.display());
            let mut json = String::new();
            let read = if from_stdin {
                std::io::stdin().lock().take(MAX_LIST_BYTES).read_to_string(&mut json)
            } else {
                File::open(file).with_context(cannot)?.take(MAX_LIST_BYTES).read_to_string(&mut json)
            };
            read.with_context(cannot)?;
            json
        }
        (None, None) => return Err(WrongArguments("a list is needed: --json or --file".to_owned()).into()),
    };
    operation::parse(&json).map_err(|error| WrongArguments(error.to_string()).into())
}
