//! What a line of the prompt is made of.

use std::ops::Range;

use serde_json::Number;

/// The deepest tree that is read. Deeper ones are refused, as each level takes a part of the stack.
pub const MAX_DEPTH: usize = 200;

/// An expression, and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Syntax {
    /// What it is.
    pub kind: SyntaxKind,
    /// Its place in the line, in bytes.
    pub at: Range<usize>,
    /// Levels of the tree below and with this one.
    pub depth: usize,
}

/// What an expression is.
#[derive(Debug, Clone, PartialEq)]
pub enum SyntaxKind {
    /// `df`
    Name(String),
    /// `"x"`
    Text(String),
    /// `3.5`
    Number(Number),
    /// `True`
    Truth(bool),
    /// `None`
    Missing,
    /// `[1, 2]` or `(1, 2)`
    List(Vec<Syntax>),
    /// `{"x": 1}`
    Map(Vec<(Syntax, Syntax)>),
    /// `df.x`: the expression, the name behind the dot, and where that stands.
    Attribute(Box<Syntax>, String, Range<usize>),
    /// `f(1, n=2)`
    Call(Box<Syntax>, Vec<SyntaxArgument>),
    /// `df["x"]`
    Index(Box<Syntax>, Box<Syntax>),
    /// `-x`
    Unary(Sign, Box<Syntax>),
    /// `x + 1`
    Binary(Operator, Box<Syntax>, Box<Syntax>),
    /// `lambda x: x * 2`, which is only understood to tell what to write instead.
    Lambda(Vec<String>, Box<Syntax>),
}

/// One argument of a call.
#[derive(Debug, Clone, PartialEq)]
pub struct SyntaxArgument {
    /// `n` in `n=2`, and where it stands.
    pub name: Option<(String, Range<usize>)>,
    /// The value.
    pub value: Syntax,
}

/// An operator in front of an operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Sign {
    Minus,
    Plus,
    Not,
}

/// An operator between two operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Operator {
    Or,
    And,
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Plus,
    Minus,
    Times,
    Divided,
    FloorDivided,
    Modulo,
    Power,
}

/// A whole line.
#[derive(Debug, Clone, PartialEq)]
pub enum ShellStatement {
    /// Nothing, or a comment.
    Empty,
    /// `help`, or `help groupby`.
    Help(Option<String>),
    /// `exit`.
    Leave,
    /// `frames`: the names that are known.
    Frames,
    /// `nodes`, `nodes drain worker2`.
    Nodes {
        /// `list`, `add`, `remove` or `drain`.
        command: String,
        /// A name or an address.
        argument: Option<String>,
        /// Where the command stands.
        at: Range<usize>,
    },
    /// `sql select …`.
    Sql {
        /// The query.
        query: String,
        /// Where it stands.
        at: Range<usize>,
    },
    /// `explain df.max()`.
    Explain(Syntax),
    /// `df = …`.
    Assign {
        /// The name.
        name: String,
        /// What it is to stand for.
        value: Syntax,
    },
    /// `df["y"] = …`.
    AssignColumn {
        /// The name of the frame.
        frame: String,
        /// Where that stands.
        frame_at: Range<usize>,
        /// The column.
        column: Syntax,
        /// Its values.
        value: Syntax,
    },
    /// An expression, whose value is shown.
    Show(Syntax),
}

impl Syntax {
    /// Returns an expression.
    #[must_use]
    pub fn new(kind: SyntaxKind, at: Range<usize>) -> Self {
        let below = match &kind {
            SyntaxKind::List(items) => deepest(items.iter()),
            SyntaxKind::Map(items) => deepest(items.iter().flat_map(|(key, value)| [key, value])),
            SyntaxKind::Attribute(of, ..) | SyntaxKind::Unary(_, of) | SyntaxKind::Lambda(_, of) => of.depth,
            SyntaxKind::Call(of, arguments) => {
                of.depth.max(deepest(arguments.iter().map(|argument| &argument.value)))
            }
            SyntaxKind::Index(left, right) | SyntaxKind::Binary(_, left, right) => {
                left.depth.max(right.depth)
            }
            _ => 0,
        };
        Self { kind, at, depth: below + 1 }
    }

    /// Returns the text of a string; nothing for anything else.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match &self.kind {
            SyntaxKind::Text(text) => Some(text),
            _ => None,
        }
    }
}

fn deepest<'a>(items: impl Iterator<Item = &'a Syntax>) -> usize {
    items.map(|item| item.depth).max().unwrap_or(0)
}

impl Operator {
    /// Returns whether it compares two values.
    #[must_use]
    pub fn compares(self) -> bool {
        matches!(
            self,
            Self::Equal
                | Self::Unequal
                | Self::Less
                | Self::LessOrEqual
                | Self::Greater
                | Self::GreaterOrEqual
        )
    }
}
