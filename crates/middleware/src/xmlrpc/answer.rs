//! What `call` and `more` give: a part of a reply. Large results pass here, so that answers have a writer and a reader of their
//! own, which copy each piece once. Other values go through the general parser.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use dxr::Value;
use memchr::memchr;

/// A part of a reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Where `more` finds the rest; empty if there is none.
    pub(crate) id: String,
    /// The pieces that follow those which were given before. None if the time of the call was over first.
    pub(crate) pieces: Vec<Bytes>,
    /// Whether the reply is whole.
    pub(crate) last: bool,
}

const HEAD: &str = "<methodResponse><params><param><value><struct><member><name>id</name><value><string>";
const LAST: &str = "</string></value></member><member><name>last</name><value><boolean>";
const PIECES: &str = "</boolean></value></member><member><name>pieces</name><value><array><data>";
const PIECE: &str = "<value><base64>";
const PIECE_END: &str = "</base64></value>";
const END: &str = "</data></array></value></member></struct></value></param></params></methodResponse>";

impl Answer {
    /// How long the pieces are.
    pub(crate) fn bytes(&self) -> usize {
        self.pieces.iter().map(Bytes::len).sum()
    }

    /// Writes the whole response: the struct `{id, last, pieces}`.
    pub(crate) fn to_xml(&self) -> String {
        let frame = HEAD.len() + LAST.len() + PIECES.len() + END.len() + self.id.len() + 1;
        let piece = |piece: &Bytes| piece.len().div_ceil(3) * 4 + PIECE.len() + PIECE_END.len();
        let mut xml = String::with_capacity(frame + self.pieces.iter().map(piece).sum::<usize>());
        // The id is one of this crate, and has no letter that XML reads as its own.
        for part in [HEAD, &self.id, LAST, if self.last { "1" } else { "0" }, PIECES] {
            xml.push_str(part);
        }
        for piece in &self.pieces {
            xml.push_str(PIECE);
            STANDARD.encode_string(piece, &mut xml);
            xml.push_str(PIECE_END);
        }
        xml.push_str(END);
        xml
    }

    /// Reads a response that [`Answer::to_xml`] has written. None if it is written otherwise.
    pub(crate) fn from_xml(body: &[u8]) -> Option<Answer> {
        let (id, rest) = text(body.strip_prefix(HEAD.as_bytes())?)?;
        let (last, rest) = text(rest.strip_prefix(LAST.as_bytes())?)?;
        let mut rest = rest.strip_prefix(PIECES.as_bytes())?;
        let mut pieces = Vec::new();
        while let Some(piece) = rest.strip_prefix(PIECE.as_bytes()) {
            let (encoded, after) = text(piece)?;
            pieces.push(STANDARD.decode(encoded).ok()?.into());
            rest = after.strip_prefix(PIECE_END.as_bytes())?;
        }
        let id = std::str::from_utf8(id).ok().filter(|id| !id.contains('&'))?.to_owned();
        (rest == END.as_bytes()).then_some(Answer { id, pieces, last: last == b"1" })
    }

    /// Reads an answer that another implementation may have written. None if the value is none.
    pub(crate) fn from_value(value: Value) -> Option<Answer> {
        let Value::Struct(mut members) = value else { return None };
        let (Value::String(id), Value::Boolean(last), Value::Array(pieces)) =
            (members.remove("id")?, members.remove("last")?, members.remove("pieces")?)
        else {
            return None;
        };
        let bytes = |piece| match piece {
            Value::Base64(bytes) => Some(Bytes::from(bytes)),
            _ => None,
        };
        Some(Answer { id, pieces: pieces.into_iter().map(bytes).collect::<Option<_>>()?, last })
    }
}

/// The text up to the next tag, and the rest with the tag.
fn text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    Some(bytes.split_at(memchr(b'<', bytes)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    use dxr::MethodResponse;

    fn value(answer: Answer) -> Value {
        let pieces = answer.pieces.into_iter().map(|piece| Value::Base64(piece.into())).collect();
        Value::Struct(BTreeMap::from([
            ("id".to_owned(), Value::String(answer.id)),
            ("last".to_owned(), Value::Boolean(answer.last)),
            ("pieces".to_owned(), Value::Array(pieces)),
        ]))
    }

    fn answers() -> Vec<Answer> {
        let pieces =
            [vec![], vec![Bytes::new()], vec![Bytes::from_static(b"a"), Bytes::from_static(&[0, 255, 7])]];
        let make = |pieces| Answer { id: "01ABC".to_owned(), pieces, last: false };
        let whole = |pieces| Answer { id: String::new(), pieces, last: true };
        pieces.iter().cloned().map(make).chain(pieces.iter().cloned().map(whole)).collect()
    }

    #[test]
    fn an_answer_is_read_as_it_is_written() {
        for answer in answers() {
            let xml = answer.to_xml();
            assert_eq!(Answer::from_xml(xml.as_bytes()), Some(answer.clone()));
            for length in 0..xml.len() {
                assert_eq!(Answer::from_xml(&xml.as_bytes()[..length]), None);
            }
        }
    }

    #[test]
    fn the_writer_of_answers_writes_what_the_general_one_does() {
        for answer in answers() {
            let value = value(answer.clone());
            assert_eq!(MethodResponse { value }.to_xml().unwrap(), answer.to_xml());
            let read = MethodResponse::from_xml(&answer.to_xml()).unwrap().value;
            assert_eq!(Answer::from_value(read), Some(answer));
        }
        assert_eq!(Answer::from_value(Value::Nil), None);
    }
}
