//! The words that mean a missing value.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, StringViewArray};
use arrow::buffer::BooleanBuffer;
use arrow::compute::nullif;
use arrow::error::ArrowError;

/// pandas' words, besides the empty field.
pub(super) const PANDAS_NULL_WORDS: [&str; 18] = [
    "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A",
    "NA", "NULL", "NaN", "None", "n/a", "nan", "null",
];

/// The longest value whose bytes are part of its view.
const INLINE_BYTES: usize = 12;

/// The words that mean a missing value, ready to be looked for.
#[derive(Debug, Clone)]
pub(super) struct NullWords {
    words: Vec<String>,
    /// Whether a word begins with this byte.
    begins: Box<[bool; 256]>,
    longest: usize,
}

impl NullWords {
    /// The given words, or pandas' words.
    pub(super) fn new(words: Option<&[String]>) -> Self {
        let words: Vec<String> = match words {
            Some(words) => words.iter().filter(|word| !word.is_empty()).cloned().collect(),
            None => PANDAS_NULL_WORDS.iter().map(ToString::to_string).collect(),
        };
        let mut begins = Box::new([false; 256]);
        for word in &words {
            begins[usize::from(word.as_bytes()[0])] = true;
        }
        let longest = words.iter().map(String::len).max().unwrap_or(0);
        Self { words, begins, longest }
    }

    /// Tells whether the value is missing: empty, or one of the words.
    pub(super) fn is_missing(&self, value: &str) -> bool {
        value.is_empty() || self.contains(value)
    }

    /// Tells whether the value is one of the words.
    pub(super) fn contains(&self, value: &str) -> bool {
        value.len() <= self.longest
            && value.bytes().next().is_some_and(|byte| self.begins[usize::from(byte)])
            && self.words.iter().any(|word| word == value)
    }

    /// The words, without the empty one.
    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        self.words.iter().map(String::as_str)
    }

    /// Makes the words null. Returns the same array, at no cost but one look at each value, if there are none.
    pub(super) fn without_words(&self, array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
        let strings = array.as_string_view();
        if !strings.views().iter().any(|view| self.may_contain(*view)) {
            return Ok(ArrayRef::clone(array));
        }
        let found = BooleanBuffer::collect_bool(strings.len(), |row| self.is_word_at(strings, row));
        if found.count_set_bits() == 0 {
            return Ok(ArrayRef::clone(array));
        }
        nullif(array, &BooleanArray::new(found, None))
    }

    fn is_word_at(&self, strings: &StringViewArray, row: usize) -> bool {
        self.may_contain(strings.views()[row]) && self.contains(strings.value(row))
    }

    /// A view has the length in its first four bytes, and the first bytes of the value after them.
    #[inline]
    fn may_contain(&self, view: u128) -> bool {
        let bytes = view.to_le_bytes();
        let length = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize;
        length <= self.longest && self.begins[usize::from(bytes[4])] && self.may_be_word(view, length)
    }

    /// Compares the first four bytes before the value itself is fetched.
    #[inline]
    fn may_be_word(&self, view: u128, length: usize) -> bool {
        let bytes = view.to_le_bytes();
        let known = length.min(if length <= INLINE_BYTES { INLINE_BYTES } else { 4 });
        let start = &bytes[4..4 + known];
        self.words.iter().any(|word| word.len() == length && &word.as_bytes()[..known] == start)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn nulls(words: &NullWords, values: &[Option<&str>]) -> Vec<bool> {
        let array: ArrayRef = Arc::new(values.iter().copied().collect::<StringViewArray>());
        let array = words.without_words(&array).unwrap();
        (0..array.len()).map(|row| array.is_null(row)).collect()
    }

    #[test]
    fn words_become_null_and_other_values_stay() {
        let words = NullWords::new(None);
        let values = [
            Some("NA"),
            Some("Na"),
            None,
            Some("n/a"),
            Some("Nana"),
            Some("a long value that begins"),
            Some("x"),
        ];
        assert_eq!(nulls(&words, &values), [true, false, true, true, false, false, false]);
        assert!(PANDAS_NULL_WORDS.iter().all(|word| words.is_missing(word)));
        assert!(words.is_missing("") && !words.is_missing(" NA"));
    }

    #[test]
    fn own_words_take_the_place_of_pandas_words() {
        let long = "a word of more than twelve bytes";
        let words = NullWords::new(Some(&["-".to_owned(), long.to_owned()]));
        let values = [Some("NA"), Some("-"), Some(long), Some("a word of more than twelve bytez")];
        assert_eq!(nulls(&words, &values), [false, true, true, false]);
        let none = NullWords::new(Some(&[]));
        assert_eq!(nulls(&none, &[Some("NA"), Some("")]), [false, false]);
    }
}
