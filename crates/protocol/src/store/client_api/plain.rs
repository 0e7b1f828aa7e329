//! Clients that send plain text: a line that does not begin with `{` is a message.
//!
//! | from | line | meaning |
//! | --- | --- | --- |
//! | client | `Hola` | store the message under an identifier that the headnode makes |
//! | headnode | `guardado en datanode2 (registro 17): 01…` | the message is on disk there |
//! | headnode | `no guardado (no-available-datanode): ningún datanode está disponible: …` | the message is not stored; the [`ErrorCode`] is in parentheses |
//!
//! White space before `{` is ignored, and everything else in a line is part of the message. A blank line is refused.
//! The last line needs no line end if the client closes its side: `printf Hola | nc -N localhost 5000` stores a
//! message. A client may mix JSON and plain lines on one connection. Each is answered in its own form.

use std::fmt::Write as _;
use std::io;

use bytes::BytesMut;
use tokio_util::codec::Decoder;

use super::{ClientRequest, ErrorCode, HeadnodeReply};
use crate::line::{AtEof, LineCodec, Rejection};
use crate::store::json::{self, MAX_FRAME_BYTES, Malformed};
use crate::store::types::{Id, MAX_MESSAGE_BYTES, Place};

/// The form of a request line and of its reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A JSON object.
    Json,
    /// A message in plain text, with a reply in Spanish.
    Plain,
}

impl Form {
    /// Reads a request from a line of this form.
    ///
    /// # Errors
    /// Fails with [`Malformed`] if the line is not a request.
    pub fn decode(self, line: String) -> Result<ClientRequest, Malformed> {
        match self {
            Self::Json => ClientRequest::decode(&line),
            Self::Plain if line.trim().is_empty() => Err(Malformed::Shape("the line is blank".to_owned())),
            Self::Plain => Ok(ClientRequest::Put { id: None, is_new: false, message: line }),
        }
    }

    /// Appends `reply` and a line end to `line`.
    pub fn encode(self, reply: &HeadnodeReply, line: &mut Vec<u8>) {
        match (self, reply) {
            (Self::Plain, HeadnodeReply::Saved { id, places, .. }) => {
                line.extend_from_slice(saved(places, *id).as_bytes());
            }
            (Self::Plain, HeadnodeReply::Error { code, .. }) => {
                line.extend_from_slice(format!("no guardado ({code}): {}", in_spanish(*code)).as_bytes());
            }
            // Plain text has no other requests.
            (Self::Plain | Self::Json, _) => return json::encode(reply, line),
        }
        line.push(b'\n');
    }
}

/// Returns a text in Spanish that says where a message is on disk.
#[must_use]
pub fn saved(places: &[Place], id: Id) -> String {
    let mut text = "guardado en ".to_owned();
    for (i, Place { datanode, seq }) in places.iter().enumerate() {
        let separator = if i == 0 { "" } else { ", " };
        write!(text, "{separator}{datanode} (registro {seq})").expect("writing to a String cannot fail");
    }
    write!(text, ": {id}").expect("writing to a String cannot fail");
    text
}

/// Returns the cause, and what to do about it, for people.
fn in_spanish(code: ErrorCode) -> String {
    let text = match code {
        ErrorCode::Malformed => "la línea está en blanco: escriba un mensaje",
        ErrorCode::UnsupportedVersion => "esta versión del protocolo no está soportada",
        ErrorCode::MessageTooLong => {
            return format!("el mensaje tiene más de {MAX_MESSAGE_BYTES} bytes: divídalo");
        }
        ErrorCode::InvalidUtf8 => "el mensaje no es UTF-8: envíelo en esa codificación",
        ErrorCode::IdConflict => "ese identificador ya es de otro mensaje: elija uno nuevo",
        ErrorCode::NoAvailableDatanode => "ningún datanode está disponible: inténtelo de nuevo más tarde",
        ErrorCode::NotEnoughDatanodes => {
            "lo confirmaron menos datanodes de los necesarios: inténtelo de nuevo más tarde"
        }
        ErrorCode::DiskFull => "no queda espacio en disco: libere espacio o agregue un datanode",
        ErrorCode::NotFound => "ningún mensaje tiene ese identificador",
        ErrorCode::Unavailable => {
            "los datanodes que lo tienen no están disponibles: inténtelo de nuevo más tarde"
        }
        ErrorCode::Damaged => "todas sus copias están dañadas",
        ErrorCode::Lost => "sus copias estaban en datanodes que se dieron por perdidos",
        ErrorCode::UnknownDatanode => "no se conoce ningún datanode con ese nombre",
        ErrorCode::DatanodeOperative => "ese datanode está operativo",
        ErrorCode::DatanodeAway => "ese datanode no está disponible",
        ErrorCode::WouldLose => "hay mensajes que solo tiene ese datanode",
        ErrorCode::TooManyConnections => "el headnode no admite más conexiones: inténtelo de nuevo más tarde",
        ErrorCode::IdleTimeout => {
            "no llegó a tiempo ninguna línea completa: termine cada mensaje con un fin de línea"
        }
        ErrorCode::ShuttingDown => "el headnode se está apagando: inténtelo de nuevo más tarde",
        ErrorCode::RegistryFailed => "el headnode no puede escribir su registro y se detiene",
        ErrorCode::KeyRequired => {
            "el headnode solo atiende a quien muestra la clave: use store-client --key-file"
        }
    };
    text.to_owned()
}

/// A line from a client, or the reason for its rejection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestLine {
    /// The form in which to read the line and to reply. A rejected line has a form too.
    pub form: Form,
    /// The text of the line.
    pub text: Result<String, Rejection>,
}

/// Splits the stream of a client into lines, and finds the form of each.
#[derive(Debug)]
pub struct RequestCodec {
    lines: LineCodec,
    /// The form of the line that is being received, once `decided`. Until then, the form of the line before it.
    form: Form,
    decided: bool,
    /// How many bytes at the beginning of the line are known to be white space.
    blank_bytes: usize,
}

impl Default for RequestCodec {
    fn default() -> Self {
        let lines = LineCodec::new(MAX_FRAME_BYTES, AtEof::Accept);
        Self { lines, form: Form::Json, decided: false, blank_bytes: 0 }
    }
}

impl RequestCodec {
    /// Returns the form of the line that is being received, or of the line before it if nothing of the next one has
    /// arrived.
    #[must_use]
    pub fn form(&self) -> Form {
        self.form
    }

    /// Decides the form of the next line in `received` as soon as its first character has arrived.
    fn look(&mut self, received: &[u8]) {
        if self.decided {
            return;
        }
        // The rest of a line that was rejected before its end does not show the form of the next one.
        let is_skipping = self.lines.is_mid_line(&[]);
        let start = if is_skipping {
            memchr::memchr(b'\n', received).map_or(received.len(), |end| end + 1)
        } else {
            self.blank_bytes
        };
        let line = &received[start..];
        match line.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b'\r')) {
            Some(first) => {
                self.form = if line[first] == b'{' { Form::Json } else { Form::Plain };
                self.decided = true;
            }
            None if !is_skipping => self.blank_bytes = received.len(),
            None => {}
        }
    }

    fn complete(&mut self, text: Result<String, Rejection>) -> RequestLine {
        (self.decided, self.blank_bytes) = (false, 0);
        RequestLine { form: self.form, text }
    }
}

impl Decoder for RequestCodec {
    type Item = RequestLine;
    type Error = io::Error;

    fn decode(&mut self, received: &mut BytesMut) -> io::Result<Option<RequestLine>> {
        self.look(received);
        Ok(self.lines.decode(received)?.map(|text| self.complete(text)))
    }

    fn decode_eof(&mut self, received: &mut BytesMut) -> io::Result<Option<RequestLine>> {
        if let Some(line) = self.decode(received)? {
            return Ok(Some(line));
        }
        let bytes = received.len();
        Ok(self.lines.decode_eof(received)?.map(|text| match self.form {
            // If the JSON object were complete, its line end would have been found: this is half of an object.
            Form::Json => self.complete(Err(Rejection::Unterminated { bytes })),
            Form::Plain => self.complete(text),
        }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::types::MessageCrc;

    /// Returns everything that is read from `bytes` if they arrive in segments of `segment` bytes.
    fn read(bytes: &[u8], segment: usize) -> Vec<RequestLine> {
        let (mut codec, mut received, mut lines) = (RequestCodec::default(), BytesMut::new(), Vec::new());
        for segment in bytes.chunks(segment.max(1)) {
            received.extend_from_slice(segment);
            while let Some(line) = codec.decode(&mut received).unwrap() {
                lines.push(line);
            }
        }
        while let Some(line) = codec.decode_eof(&mut received).unwrap() {
            lines.push(line);
        }
        lines
    }

    fn line(form: Form, text: &str) -> RequestLine {
        RequestLine { form, text: Ok(text.to_owned()) }
    }

    #[test]
    fn what_does_not_begin_with_a_brace_is_a_message() {
        let put = |text: &str| ClientRequest::Put { id: None, is_new: false, message: text.to_owned() };
        for text in ["Hola", "  con espacios ", "[1]", "\"Hola\"", "123", "¿{}?", "}"] {
            assert_eq!(Form::Plain.decode(text.to_owned()), Ok(put(text)), "{text}");
            assert_eq!(read(text.as_bytes(), 1), [line(Form::Plain, text)], "{text}");
        }
        for text in ["", " ", "\t\u{a0}"] {
            let told = Form::Plain.decode(text.to_owned()).unwrap_err().to_string();
            assert_eq!(told, "not a message: the line is blank");
        }
        assert_eq!(Form::Json.decode(" \t{\"status\":{}}".to_owned()), Ok(ClientRequest::Status));
    }

    #[test]
    fn each_line_has_its_own_form_in_any_segmentation() {
        let too_long =
            |form| RequestLine { form, text: Err(Rejection::TooLong { max_bytes: MAX_FRAME_BYTES }) };
        let invalid = |form, at, bytes: &[u8]| RequestLine {
            form,
            text: Err(Rejection::InvalidUtf8 { at, bytes: bytes.to_vec() }),
        };
        let long = "x".repeat(MAX_FRAME_BYTES + 5);
        let mut bytes = format!("uno\r\n \t{{}}\n\n  dos\n{{{long}\ntres\n{long}\n {{}}\n").into_bytes();
        bytes.extend_from_slice(b"\xff\n{\"\xff\"}\ncuatro");
        let expected = [
            line(Form::Plain, "uno"),
            line(Form::Json, " \t{}"),
            line(Form::Plain, ""),
            line(Form::Plain, "  dos"),
            too_long(Form::Json),
            line(Form::Plain, "tres"),
            too_long(Form::Plain),
            line(Form::Json, " {}"),
            invalid(Form::Plain, 0, b"\xff"),
            invalid(Form::Json, 2, b"{\"\xff\"}"),
            line(Form::Plain, "cuatro"),
        ];
        for segment in [1, 2, 7, 4096, bytes.len()] {
            assert_eq!(read(&bytes, segment), expected, "segments of {segment} bytes");
        }
    }

    #[test]
    fn half_an_object_is_no_request() {
        let half = RequestLine { form: Form::Json, text: Err(Rejection::Unterminated { bytes: 7 }) };
        assert_eq!(read(b"Hola\n{\"put\":", 3), [line(Form::Plain, "Hola"), half]);
    }

    #[test]
    fn the_form_is_known_before_the_line_has_ended() {
        let mut codec = RequestCodec::default();
        assert_eq!(codec.form(), Form::Json, "as nobody has said anything");
        let mut received = BytesMut::from("  Ho");
        assert_eq!(codec.decode(&mut received).unwrap(), None);
        assert_eq!(codec.form(), Form::Plain);
    }

    #[test]
    fn golden_replies() {
        let id = Id::from_parts(1, 2);
        let places = vec!["datanode2:17".parse().unwrap(), "datanode3:4".parse().unwrap()];
        let encoded = |form: Form, reply: &HeadnodeReply| {
            let mut line = Vec::new();
            form.encode(reply, &mut line);
            String::from_utf8(line).unwrap()
        };
        let reply = HeadnodeReply::Saved { id, places, message_crc32c: MessageCrc::of("Hola") };
        assert_eq!(
            encoded(Form::Plain, &reply),
            "guardado en datanode2 (registro 17), datanode3 (registro 4): 00000000010000000000000002\n"
        );
        let code = ErrorCode::NoAvailableDatanode;
        let reply = HeadnodeReply::Error { id: Some(id), code, reason: "why".to_owned() };
        assert_eq!(
            encoded(Form::Plain, &reply),
            "no guardado (no-available-datanode): ningún datanode está disponible: inténtelo de nuevo más tarde\n"
        );
        let mut line = Vec::new();
        json::encode(&reply, &mut line);
        assert_eq!(encoded(Form::Json, &reply).into_bytes(), line);
    }

    proptest! {
        #[test]
        fn segmentation_never_changes_what_is_read(
            bytes in prop::collection::vec(
                prop_oneof![Just(b'\n'), Just(b' '), Just(b'\r'), Just(b'{'), Just(b'a'), any::<u8>()], 0..100
            ),
            segment in 1usize..20,
        ) {
            prop_assert_eq!(read(&bytes, segment), read(&bytes, bytes.len()));
        }
    }
}
