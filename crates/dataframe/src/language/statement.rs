//! A line → what it says: a command, an assignment, or an expression.

use std::ops::Range;

use crate::language::fault::LineFault;
use crate::language::parse::{parse_all, parse_expression};
use crate::language::syntax::{ShellStatement, Syntax, SyntaxKind};

/// Words that begin a command, unless they stand in front of `=`, `.` or `[`.
pub const COMMANDS: [&str; 7] = ["explain", "exit", "frames", "help", "nodes", "quit", "sql"];

/// Reads a line.
///
/// # Errors
/// Fails if the line is none of the language. The fault names the place and what would be right.
pub fn parse_line(line: &str) -> Result<ShellStatement, LineFault> {
    let start = line.len() - line.trim_start().len();
    if line[start..].is_empty() || is_comment(&line[start..]) {
        return Ok(ShellStatement::Empty);
    }
    let end = line[start..].find(|character: char| !character.is_alphanumeric() && character != '_');
    let end = end.map_or(line.len(), |end| start + end);
    let next = line[end..].trim_start().chars().next();
    let is_name = matches!(next, Some('=' | '.' | '['));
    match COMMANDS.iter().find(|command| line[start..end] == ***command) {
        Some(command) if !is_name => parse_command(command, line, start, end),
        _ => parse_assignment(line, start),
    }
}

fn is_comment(text: &str) -> bool {
    text.lines().all(|line| line.trim_start().starts_with('#') || line.trim().is_empty())
}

fn parse_command(command: &str, line: &str, start: usize, end: usize) -> Result<ShellStatement, LineFault> {
    let argument = line[end..].trim();
    let argument_start = line.len() - line[end..].trim_start().len();
    // `help(groupby)` and `exit()`, as Python has them.
    let unwrapped =
        argument.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')).unwrap_or(argument).trim();
    Ok(match command {
        "help" => ShellStatement::Help(
            (!unwrapped.is_empty()).then(|| unwrapped.trim_matches(['"', '\'']).to_owned()),
        ),
        "exit" | "quit" if unwrapped.is_empty() => ShellStatement::Leave,
        "frames" if argument.is_empty() => ShellStatement::Frames,
        "sql" if !argument.is_empty() => ShellStatement::Sql {
            query: argument.trim_end_matches(';').to_owned(),
            at: argument_start..argument_start + argument.len(),
        },
        "sql" => {
            return Err(LineFault::new(
                start..end,
                "a query is missing: sql select name, avg(x) from df group by name",
            ));
        }
        "explain" if !argument.is_empty() => ShellStatement::Explain(parse_all(line, end)?),
        "explain" => {
            return Err(LineFault::new(
                start..end,
                "a computation is missing: explain df.groupby(\"name\").x.mean()",
            ));
        }
        "nodes" => {
            let mut words = argument.split_whitespace().map(str::to_owned);
            let nodes = ShellStatement::Nodes {
                command: words.next().unwrap_or_else(|| "list".to_owned()),
                argument: words.next(),
                at: start..argument_start + argument.len(),
            };
            if words.next().is_some() {
                return Err(LineFault::new(
                    argument_start..argument_start + argument.len(),
                    "one node at a time: nodes list, nodes add HOST:PORT, nodes remove NAME, nodes drain NAME",
                ));
            }
            nodes
        }
        _ => {
            return Err(LineFault::new(
                argument_start..argument_start + argument.len(),
                format!("nothing is expected behind `{command}`"),
            ));
        }
    })
}

fn parse_assignment(line: &str, start: usize) -> Result<ShellStatement, LineFault> {
    let (target, end) = parse_expression(line, start)?;
    let assigns = line[end..].starts_with('=') && !line[end..].starts_with("==");
    if !assigns {
        return if end == line.len() {
            Ok(ShellStatement::Show(target))
        } else {
            Ok(ShellStatement::Show(parse_all(line, start)?))
        };
    }
    let value = parse_all(line, end + 1)?;
    match target.kind {
        SyntaxKind::Name(name)
            if COMMANDS.contains(&name.as_str()) || name == "read_csv" || name == "len" =>
        {
            Err(LineFault::new(
                target.at,
                format!("`{name}` has a meaning here already: choose another name"),
            ))
        }
        SyntaxKind::Name(name) => Ok(ShellStatement::Assign { name, value }),
        SyntaxKind::Index(frame, column) => assign_column(*frame, *column, value),
        SyntaxKind::Attribute(_, name, at) => {
            Err(LineFault::new(at, format!("a column is assigned with brackets: df[\"{name}\"] = …")))
        }
        _ => {
            Err(LineFault::new(target.at, "only a name or a column can be assigned: df = … or df[\"y\"] = …"))
        }
    }
}

fn assign_column(frame: Syntax, column: Syntax, value: Syntax) -> Result<ShellStatement, LineFault> {
    let at: Range<usize> = frame.at;
    match frame.kind {
        SyntaxKind::Name(name) => {
            Ok(ShellStatement::AssignColumn { frame: name, frame_at: at, column, value })
        }
        _ => Err(LineFault::new(at, "give the frame a name first: df = …, and then df[\"y\"] = …")),
    }
}
