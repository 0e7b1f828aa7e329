//! What the line editor asks for: completions, hints, and whether a line is complete.

use std::borrow::Cow;

use rustyline::completion::{Completer, FilenameCompleter, Pair};
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::hint::{Hinter, HistoryHinter};
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Context, Helper};

use super::completion::{Completion, KnownFrames, complete, is_open, usage_hint};
use crate::language::value::ShellNames;

/// Helps to edit a line.
#[derive(Default)]
pub(super) struct LineHelper {
    known: KnownFrames,
    files: FilenameCompleter,
    history: HistoryHinter,
}

impl LineHelper {
    /// Takes over the names that lines have assigned.
    pub(super) fn learn(&mut self, names: &ShellNames) {
        self.known = names
            .iter()
            .map(|(name, known)| (name.to_owned(), known.columns.clone().unwrap_or_default()))
            .collect();
    }
}

impl Helper for LineHelper {}

impl Completer for LineHelper {
    type Candidate = Pair;

    fn complete(&self, line: &str, pos: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        match complete(line, pos, &self.known) {
            Completion::Words { start, words } => {
                let pairs = words.into_iter().map(|word| Pair { display: word.clone(), replacement: word });
                Ok((start, pairs.collect()))
            }
            Completion::FileName => self.files.complete_path(line, pos),
        }
    }
}

impl Hinter for LineHelper {
    type Hint = String;

    fn hint(&self, line: &str, pos: usize, context: &Context<'_>) -> Option<String> {
        usage_hint(line, pos).or_else(|| self.history.hint(line, pos, context))
    }
}

impl Highlighter for LineHelper {
    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        Cow::Owned(format!("\x1b[2m{hint}\x1b[m"))
    }

    fn highlight_char(&self, _: &str, _: usize, _: CmdKind) -> bool {
        false
    }
}

impl Validator for LineHelper {
    /// A line with an open bracket goes on in the next one.
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let open = is_open(context.input());
        Ok(if open { ValidationResult::Incomplete } else { ValidationResult::Valid(None) })
    }
}
