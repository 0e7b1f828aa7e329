//! The prompt.

use std::io::{BufRead as _, IsTerminal as _, Read as _};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{CompletionType, Config, Editor};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tokio::runtime::Runtime;
use tokio::sync::Notify;

use crate::language::parse::MAX_LINE_BYTES;
use crate::place::give_up_jobs;
use crate::session::{AfterLine, LineError, ShellSession};
use editing::LineHelper;

pub mod completion;
mod editing;

const PROMPT: &str = "dataframe> ";
const GREETING: &str =
    "DataFrame: df = read_csv(\"data/*.csv\"); `help` shows what can be written, Ctrl-D ends.";
const HISTORY_LINES: usize = 1000;

/// Signals, which end a computation and not the prompt.
struct Interrupts {
    interrupted: Arc<Notify>,
}

impl Interrupts {
    fn watch() -> anyhow::Result<Self> {
        let interrupted = Arc::new(Notify::new());
        let mut signals = Signals::new([SIGINT, SIGTERM]).context("signals cannot be watched")?;
        let seen = interrupted.clone();
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for signal in signals.forever() {
                if signal == SIGTERM {
                    // There is nothing to save: the history is written after each line.
                    std::process::exit(0);
                }
                seen.notify_waiters();
            }
        })?;
        Ok(Self { interrupted })
    }
}

/// Reads lines until the end of the input. From a terminal it goes on after an error; a script ends at its first error.
///
/// # Errors
/// Fails if a line of a script fails, or if the terminal cannot be used.
pub fn run(runtime: &Runtime, mut session: ShellSession) -> anyhow::Result<()> {
    let interrupts = Interrupts::watch()?;
    if std::io::stdin().is_terminal() {
        at_terminal(runtime, &mut session, &interrupts)
    } else {
        from_script(runtime, &mut session, &interrupts)
    }
}

fn do_line(
    runtime: &Runtime,
    session: &mut ShellSession,
    interrupts: &Interrupts,
    line: &str,
) -> Result<AfterLine, LineError> {
    runtime.block_on(async {
        tokio::select! {
            outcome = session.run_line(line) => outcome,
            () = interrupts.interrupted.notified() => {
                give_up_jobs().await;
                Err(LineError::Failed(anyhow::anyhow!("interrupted")))
            }
        }
    })
}

fn from_script(runtime: &Runtime, session: &mut ShellSession, interrupts: &Interrupts) -> anyhow::Result<()> {
    let mut input = std::io::stdin().lock();
    let mut number = 0_u64;
    loop {
        let mut line = String::new();
        number += 1;
        let read = input.by_ref().take(MAX_LINE_BYTES as u64 + 1).read_line(&mut line);
        if read.with_context(|| format!("line {number} cannot be read"))? == 0 {
            return Ok(());
        }
        let line = line.trim_end_matches(['\n', '\r']);
        match do_line(runtime, session, interrupts, line) {
            Ok(AfterLine::Continue) => {}
            Ok(AfterLine::Leave) => return Ok(()),
            Err(error) => {
                eprintln!("{}", error.shown_for(line));
                anyhow::bail!("line {number} failed");
            }
        }
    }
}

fn at_terminal(runtime: &Runtime, session: &mut ShellSession, interrupts: &Interrupts) -> anyhow::Result<()> {
    let config = Config::builder().completion_type(CompletionType::List).max_history_size(HISTORY_LINES)?;
    let config = config.history_ignore_space(true).build();
    let mut editor: Editor<LineHelper, FileHistory> = Editor::with_config(config)?;
    editor.set_helper(Some(LineHelper::default()));
    let history = history_file();
    if let Some(file) = &history {
        // There is none at the first time.
        let _ = editor.load_history(file);
    }
    println!("{GREETING}");
    loop {
        if let Some(helper) = editor.helper_mut() {
            helper.learn(session.names());
        }
        let line = match editor.readline(PROMPT) {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => return Ok(()),
            Err(error) => return Err(error).context("the terminal cannot be read"),
        };
        remember(&mut editor, &line, history.as_ref());
        match do_line(runtime, session, interrupts, &line) {
            Ok(AfterLine::Continue) => {}
            Ok(AfterLine::Leave) => return Ok(()),
            Err(error) => eprintln!("{}", error.shown_for(&line)),
        }
    }
}

/// A history that cannot be written is no reason to stop.
fn remember(editor: &mut Editor<LineHelper, FileHistory>, line: &str, file: Option<&PathBuf>) {
    let remembered = editor.add_history_entry(line).unwrap_or(false);
    if let Some(file) = file.filter(|_| remembered)
        && let Err(error) = editor.append_history(file)
    {
        tracing::debug!(%error, file = %file.display(), "the history is not written");
    }
}

/// Returns the file of the history in the user's folder for such things, which is made if it is missing.
fn history_file() -> Option<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|folder| folder.is_absolute());
    let state = state.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/state")))?;
    let folder = state.join("dataframe");
    std::fs::create_dir_all(&folder).ok()?;
    Some(folder.join("history"))
}
