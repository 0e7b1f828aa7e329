//! Whole queries in SQL that name their files: from the text of a query to a list of operations.
//!
//! A table is a path in double quotes, such as `select name, max(x) from "data/*.csv" group by name`. The list begins with the
//! `read_csv` of the first table. The others are further tables of its `sql`.

use std::collections::BTreeMap;

use dataframe_jobs::operation::{CsvOptions, Operation, ReadCsv};
use datafusion::common::TableReference;
use datafusion::execution::SessionState;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::Statement as SqlStatement;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use crate::error::FrameError;

/// The longest query, in bytes.
const MAX_QUERY_BYTES: usize = 64 << 10;

/// Operators and keywords of a query. Each may stand inside the next one, and a stack has an end.
const MAX_OPERATORS: usize = 500;

/// Characters that a path has and the name of a frame has not.
const OF_PATHS: [char; 3] = ['/', '.', '*'];

/// The operations of a query whose tables are paths.
///
/// # Errors
/// Fails if the text is not one query, or if a table is no path.
pub(crate) fn operations_of(state: &SessionState, query: &str) -> Result<Vec<Operation>, FrameError> {
    let wrong = |why: &str| Err(FrameError::BadJob(format!("{why}: {}", shown(query))));
    if query.len() > MAX_QUERY_BYTES {
        let bytes = query.len();
        return wrong(&format!("a query has at most {MAX_QUERY_BYTES} bytes, and this one has {bytes}"));
    }
    let operators = tokens(query)?.iter().filter(|token| may_nest(token)).count();
    if operators > MAX_OPERATORS {
        return wrong(&format!(
            "a query has at most {MAX_OPERATORS} operators and keywords, and this one has {operators}"
        ));
    }
    let dialect = state.config().options().sql_parser.dialect;
    let statement = match state.sql_to_statement(query, &dialect) {
        Ok(statement) => statement,
        Err(error) => return wrong(&error.strip_backtrace()),
    };
    if !matches!(&statement, Statement::Statement(inner) if matches!(**inner, SqlStatement::Query(_))) {
        return wrong("only select is possible, which reads and changes nothing");
    }
    let tables = match state.resolve_table_references(&statement) {
        Ok(tables) => tables,
        Err(error) => return wrong(&error.strip_backtrace()),
    };
    let mut paths = Vec::new();
    for table in tables {
        match table {
            TableReference::Bare { table } if table.contains(OF_PATHS) => paths.push(table.to_string()),
            other => {
                return wrong(&format!(
                    "the table {other} is no path: name files in double quotes, such as \"data/*.csv\""
                ));
            }
        }
    }
    let mut paths = paths.into_iter();
    let Some(first) = paths.next() else {
        return wrong("a query reads at least one file: name it in double quotes, such as \"data/*.csv\"");
    };
    let tables: BTreeMap<_, _> = paths.map(|path| (path.clone(), vec![read(path)])).collect();
    let query = Operation::Sql { query: query.to_owned(), name: first.clone(), tables };
    Ok(vec![read(first), query])
}

/// Whether a word of a query can stand for one more level of nesting. The parser itself counts parentheses.
fn may_nest(token: &Token) -> bool {
    match token {
        Token::Word(word) => word.keyword != Keyword::NoKeyword,
        Token::Number(..)
        | Token::SingleQuotedString(_)
        | Token::DoubleQuotedString(_)
        | Token::Placeholder(_)
        | Token::Whitespace(_)
        | Token::Comma
        | Token::Period
        | Token::LParen
        | Token::RParen => false,
        _ => true,
    }
}

fn read(path: String) -> Operation {
    Operation::ReadCsv(ReadCsv { paths: vec![path], options: CsvOptions::default() })
}

/// The beginning of a query, for messages.
fn shown(query: &str) -> String {
    const SHOWN: usize = 200;
    let mut text: String = query.chars().take(SHOWN).collect();
    if text.len() < query.len() {
        text.push('…');
    }
    format!("{text:?}")
}

/// The number of parameters (`?` or `$1`) in a query.
///
/// # Errors
/// Fails if the text cannot be split into words.
pub fn parameters(query: &str) -> Result<usize, FrameError> {
    let mut most = 0;
    let mut unnumbered = 0;
    for token in tokens(query)? {
        if let Token::Placeholder(name) = token {
            most = most.max(place(&name, &mut unnumbered)?);
        }
    }
    Ok(most)
}

/// The query with a literal, such as `1` or `'Ana'`, in the place of each parameter.
///
/// # Errors
/// Fails if the text cannot be split into words, or if there are more parameters than literals.
pub fn with_parameters(query: &str, literals: &[String]) -> Result<String, FrameError> {
    let mut unnumbered = 0;
    let mut text = String::with_capacity(query.len());
    for token in tokens(query)? {
        let Token::Placeholder(name) = &token else {
            text.push_str(&token.to_string());
            continue;
        };
        let place = place(name, &mut unnumbered)?;
        let Some(literal) = literals.get(place - 1) else {
            return Err(FrameError::BadJob(format!(
                "the query has the parameter {name}, number {place}, and {} values were given",
                literals.len()
            )));
        };
        // A literal never grows together with its neighbours: `-1` after `-` would begin a comment.
        text.push_str(&format!(" {literal} "));
    }
    Ok(text)
}

fn tokens(query: &str) -> Result<Vec<Token>, FrameError> {
    // What is inside quotes stays as it is written.
    let words = Tokenizer::new(&GenericDialect {}, query).with_unescape(false).tokenize();
    words.map_err(|error| FrameError::BadJob(format!("{error}: {}", shown(query))))
}

/// The place of a parameter from 1 on: `?` stands for the next one, `$2` for the second.
fn place(name: &str, unnumbered: &mut usize) -> Result<usize, FrameError> {
    if name == "?" {
        *unnumbered += 1;
        return Ok(*unnumbered);
    }
    let number = name.strip_prefix('$').and_then(|number| number.parse().ok()).filter(|number| *number > 0);
    number.ok_or_else(|| {
        FrameError::BadJob(format!("{name} is no parameter: a parameter is written ?, or $1 with its number"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{SessionLimits, session};

    fn list(query: &str) -> Result<Vec<Operation>, String> {
        let limits = SessionLimits { threads: 1, memory_bytes: None, spill_folder: None };
        operations_of(&session(limits).unwrap().state(), query).map_err(|error| error.to_string())
    }

    #[test]
    fn a_path_in_double_quotes_is_a_table() {
        let query = r#"select name, max(x) from "data/*.csv" group by name"#;
        let first = "data/*.csv".to_owned();
        let sql = Operation::Sql { query: query.into(), name: first.clone(), tables: BTreeMap::new() };
        assert_eq!(list(query).unwrap(), [read(first), sql]);
    }

    #[test]
    fn several_paths_are_several_tables_and_names_of_with_are_none() {
        let query = r#"with big as (select * from "B.csv" where x > 1) select * from big join "a.csv" a on a.x = big.x join "a.csv" b on a.x = b.x"#;
        let list = list(query).unwrap();
        assert_eq!(list[0], read("B.csv".into()));
        let Operation::Sql { name, tables, .. } = &list[1] else { panic!("{list:?}") };
        assert_eq!(name, "B.csv");
        assert_eq!(tables.keys().collect::<Vec<_>>(), ["a.csv"]);
    }

    #[test]
    fn what_is_no_query_on_files_is_refused_with_a_hint() {
        for (query, hint) in [
            ("select * from weather", "name files in double quotes"),
            ("select * from data.csv", "name files in double quotes"),
            ("select 1", "reads at least one file"),
            ("", "No SQL statements"),
            ("selec 1", "Expected"),
            ("drop table \"a.csv\"", "only select"),
            ("insert into \"a.csv\" values (1)", "only select"),
            ("explain select * from \"a.csv\"", "only select"),
            ("copy \"a.csv\" to 'b.csv'", "only select"),
            ("create external table t stored as csv location 'a.csv'", "only select"),
            ("select * from \"a.csv\"; select * from \"a.csv\"", "single SQL statement"),
        ] {
            let error = list(query).unwrap_err();
            assert!(error.contains(hint), "{query}: {error}");
        }
        let deep =
            |word: &str| list(&format!("select x{} from \"a.csv\"", word.repeat(MAX_OPERATORS))).unwrap_err();
        assert!(
            deep(" + 1").contains("at most 500 operators")
                && deep(" is null").contains("at most 500 operators")
        );
        assert!(list(&format!("select {}1{} from \"a.csv\"", "(".repeat(9_000), ")".repeat(9_000))).is_err());
        assert!(list(&" ".repeat(MAX_QUERY_BYTES + 1)).unwrap_err().contains("at most 65536 bytes"));
    }

    #[test]
    fn parameters_are_replaced_outside_of_quotes_and_comments_alone() {
        let query = "select '?' as \"a?\", x -- why?\nfrom \"a?.csv\" where x > ? and y < ? or z = 'it''s'";
        assert_eq!(parameters(query).unwrap(), 2);
        let filled = with_parameters(query, &["1".into(), "'O''Hara'".into()]).unwrap();
        let expected = "select '?' as \"a?\", x -- why?\nfrom \"a?.csv\" where x >  1  and y <  'O''Hara'  or z = 'it''s'";
        assert_eq!(filled, expected);
        assert_eq!(with_parameters("$2, $1", &["1".into(), "2".into()]).unwrap(), " 2 ,  1 ");
        assert!(with_parameters("? ?", &["1".into()]).unwrap_err().to_string().contains("number 2"));
        assert!(parameters("$x").unwrap_err().to_string().contains("is no parameter"));
    }
}
