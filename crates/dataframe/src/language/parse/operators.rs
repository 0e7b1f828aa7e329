//! The operators, and how strongly each of them binds.

use winnow::combinator::{Infix, Prefix};
use winnow::error::{ErrMode, ParserError as _};

use super::cursor::{Cursor, Parsed, blank, count_sign, grown, take, take_keyword};
use crate::language::fault::LineFault;
use crate::language::syntax::{Operator, Sign, Syntax, SyntaxKind};

/// How strongly an operator binds.
pub(super) mod binds {
    pub const OR: i64 = 10;
    pub const AND: i64 = 20;
    pub const NOT: i64 = 30;
    pub const COMPARISON: i64 = 40;
    pub const SUM: i64 = 50;
    pub const PRODUCT: i64 = 60;
    pub const SIGN: i64 = 70;
    pub const POWER: i64 = 80;
    pub const INVERSE: i64 = 90;
    pub const POSTFIX: i64 = 100;
}

pub(super) fn prefix<'a>(cursor: &mut Cursor<'a>) -> Parsed<Prefix<Cursor<'a>, Syntax, ErrMode<LineFault>>> {
    blank(cursor);
    let found = if take(cursor, "-") {
        Prefix(binds::SIGN, |cursor: &mut Cursor<'a>, of| signed(cursor, Sign::Minus, of))
    } else if take(cursor, "+") {
        Prefix(binds::SIGN, |cursor: &mut Cursor<'a>, of| signed(cursor, Sign::Plus, of))
    } else if take(cursor, "~") {
        Prefix(binds::INVERSE, |cursor: &mut Cursor<'a>, of| signed(cursor, Sign::Not, of))
    } else if take_keyword(cursor, "not") {
        Prefix(binds::NOT, |cursor: &mut Cursor<'a>, of| signed(cursor, Sign::Not, of))
    } else {
        return Err(ErrMode::from_input(cursor));
    };
    count_sign(cursor)?;
    Ok(found)
}

pub(super) fn signed(_cursor: &mut Cursor<'_>, sign: Sign, of: Syntax) -> Parsed<Syntax> {
    let at = of.at.start.saturating_sub(1)..of.at.end;
    grown(SyntaxKind::Unary(sign, Box::new(of)), at)
}

macro_rules! join {
    ($operator:ident) => {
        |_, left, right| joined(Operator::$operator, left, right)
    };
}

pub(super) fn infix<'a>(cursor: &mut Cursor<'a>) -> Parsed<Infix<Cursor<'a>, Syntax, ErrMode<LineFault>>> {
    blank(cursor);
    // Longer operators stand before those that they begin with.
    Ok(if take(cursor, "==") {
        Infix::Neither(binds::COMPARISON, join!(Equal))
    } else if take(cursor, "!=") || take(cursor, "<>") {
        Infix::Neither(binds::COMPARISON, join!(Unequal))
    } else if take(cursor, "<=") {
        Infix::Neither(binds::COMPARISON, join!(LessOrEqual))
    } else if take(cursor, ">=") {
        Infix::Neither(binds::COMPARISON, join!(GreaterOrEqual))
    } else if take(cursor, "<") {
        Infix::Neither(binds::COMPARISON, join!(Less))
    } else if take(cursor, ">") {
        Infix::Neither(binds::COMPARISON, join!(Greater))
    } else if take(cursor, "|") || take_keyword(cursor, "or") {
        Infix::Left(binds::OR, join!(Or))
    } else if take(cursor, "&") || take_keyword(cursor, "and") {
        Infix::Left(binds::AND, join!(And))
    } else if take(cursor, "+") {
        Infix::Left(binds::SUM, join!(Plus))
    } else if take(cursor, "-") {
        Infix::Left(binds::SUM, join!(Minus))
    } else if take(cursor, "**") {
        count_sign(cursor)?;
        Infix::Right(binds::POWER, join!(Power))
    } else if take(cursor, "*") {
        Infix::Left(binds::PRODUCT, join!(Times))
    } else if take(cursor, "//") {
        Infix::Left(binds::PRODUCT, join!(FloorDivided))
    } else if take(cursor, "/") {
        Infix::Left(binds::PRODUCT, join!(Divided))
    } else if take(cursor, "%") {
        Infix::Left(binds::PRODUCT, join!(Modulo))
    } else {
        return Err(ErrMode::from_input(cursor));
    })
}

pub(super) fn joined(operator: Operator, left: Syntax, right: Syntax) -> Parsed<Syntax> {
    let at = left.at.start..right.at.end;
    grown(SyntaxKind::Binary(operator, Box::new(left), Box::new(right)), at)
}
