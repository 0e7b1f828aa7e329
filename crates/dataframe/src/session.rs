//! Lines of the prompt's language, one after the other: evaluated, computed and shown.

use std::path::Path;

use dataframe_jobs::operation::Operation;

use crate::language::evaluate::{ShellAction, evaluate};
use crate::language::fault::LineFault;
use crate::language::frames::NamedModules;
use crate::language::help::help;
use crate::language::statement::parse_line;
use crate::language::value::{SaveOrder, ShellNames, ShellValue};
use crate::nodes;
use crate::output::{self, ResultPrinter};
use crate::place::{ComputePlace, column_names};
use crate::progress::TaskProgress;

/// The names that lines have assigned, and where frames are computed.
pub struct ShellSession {
    place: ComputePlace,
    names: ShellNames,
    writer: ResultPrinter,
    progress: TaskProgress,
    explain: bool,
}

/// Whether there is a next line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterLine {
    /// The next line can come.
    Continue,
    /// The line ends the session.
    Leave,
}

/// Why a line was not done.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// The line is wrong.
    #[error("{0}")]
    Wrong(#[from] LineFault),
    /// The line is right, and something failed.
    #[error("{0:#}")]
    Failed(#[from] anyhow::Error),
}

impl ShellSession {
    /// Returns a session that computes at this place. With `explain`, plans are shown in place of results.
    #[must_use]
    pub fn new(place: ComputePlace, writer: ResultPrinter, progress: TaskProgress, explain: bool) -> Self {
        Self { place, names: ShellNames::default(), writer, progress, explain }
    }

    /// The same, whose lines may call these modules.
    #[must_use]
    pub fn with_modules(mut self, modules: NamedModules) -> Self {
        self.names.modules = modules;
        self
    }

    /// Returns the names that lines have assigned.
    #[must_use]
    pub fn names(&self) -> &ShellNames {
        &self.names
    }

    /// Does what a line says.
    ///
    /// # Errors
    /// Fails if the line is wrong, or if what it says fails. Names are then as before.
    pub async fn run_line(&mut self, line: &str) -> Result<AfterLine, LineError> {
        match evaluate(parse_line(line)?, &self.names)? {
            ShellAction::Nothing => {}
            ShellAction::Leave => return Ok(AfterLine::Leave),
            ShellAction::Help(topic) => show_help(topic.as_deref())?,
            ShellAction::Frames => output::print(self.known_names().as_bytes())?,
            ShellAction::Nodes(command) => {
                output::print(nodes::table(&self.place.nodes(command).await?).as_bytes())?;
            }
            ShellAction::Print(value) => output::print(format!("{value}\n").as_bytes())?,
            ShellAction::Explain(operations) => self.explain(&operations).await?,
            ShellAction::Show(operations) => self.show(&operations).await?,
            ShellAction::Save(order) => self.save(&order).await?,
            ShellAction::Keep { name, value } => self.keep(&name, value).await?,
        }
        Ok(AfterLine::Continue)
    }

    /// Computes a frame and shows it.
    ///
    /// # Errors
    /// Fails if it cannot be computed or written.
    pub async fn show(&self, operations: &[Operation]) -> anyhow::Result<()> {
        if self.explain {
            return self.explain(operations).await;
        }
        let rows = self.progress.during(self.place.rows(operations)).await?;
        self.writer.write(operations, rows)
    }

    /// Shows how a frame would be computed.
    ///
    /// # Errors
    /// Fails if the operations are wrong.
    pub async fn explain(&self, operations: &[Operation]) -> anyhow::Result<()> {
        let text = self.progress.during(self.place.explain(operations)).await?;
        output::print(format!("{}\n", text.trim_end()).as_bytes())
    }

    /// Computes a frame and writes it into a file.
    ///
    /// # Errors
    /// Fails if it cannot be computed or written.
    pub async fn save(&self, order: &SaveOrder) -> anyhow::Result<()> {
        if self.explain {
            return self.explain(&order.operations).await;
        }
        let rows = self.progress.during(self.place.rows(&order.operations)).await?;
        output::save(rows, Path::new(&order.path), order.format)
    }

    /// A frame whose files or columns are wrong gets no name, so that the error comes where its cause is.
    async fn keep(&mut self, name: &str, value: ShellValue) -> anyhow::Result<()> {
        let columns = match &value {
            ShellValue::Frame(operations) => {
                Some(self.progress.during(column_names(&self.place, operations)).await?)
            }
            _ => None,
        };
        self.names.assign(name, value, columns);
        Ok(())
    }

    fn known_names(&self) -> String {
        let lines: Vec<_> = self
            .names
            .iter()
            .map(|(name, known)| match &known.columns {
                Some(columns) => format!("{name}: {}\n", text::Shown(&columns.join(", "))),
                None => format!("{name}: {}\n", known.value.kind()),
            })
            .collect();
        if lines.is_empty() {
            "no names yet: df = read_csv(\"data/*.csv\")\n".to_owned()
        } else {
            lines.concat()
        }
    }
}

fn show_help(topic: Option<&str>) -> anyhow::Result<()> {
    let text = help(topic).unwrap_or_else(|| {
        format!(
            "there is no help about {}; `help` shows what there is",
            text::Quoted(topic.unwrap_or_default())
        )
    });
    output::print(format!("{text}\n").as_bytes())
}

impl LineError {
    /// Says what is wrong, below the line itself where a part of it is wrong.
    #[must_use]
    pub fn shown_for(&self, line: &str) -> String {
        match self {
            Self::Wrong(fault) => fault.shown_in(line),
            Self::Failed(error) => format!("{error:#}"),
        }
    }
}
