//! The language of the prompt: lines that look like Dask's, which become the operations of [`dataframe_jobs::operation`].
//!
//! A line is read into a [`syntax`] tree and then [evaluated](evaluate). Nothing is computed here and nothing but these
//! operations can come out, so that no line can do more than the JSON list can.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`syntax`] | what a line is made of |
//! | [`parse`] | text → syntax |
//! | [`evaluate`] | syntax and the known names → what is to be done |
//! | [`fault`] | what is wrong with a line, and where |
//! | [`help`] | what can be written |

pub mod call;
pub mod evaluate;
pub mod expression;
pub mod fault;
pub mod frames;
pub mod help;
pub mod parse;
pub mod series;
pub mod statement;
pub mod syntax;
pub mod value;

#[cfg(test)]
mod tests;
