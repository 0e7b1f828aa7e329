//! Feeds the codec any bytes, cut in any way. It must not panic, must not use more memory than the limit, and must
//! return the same lines.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use protocol::actividad1::ServerReply;
use protocol::line::{AtEof, LineCodec, Rejection};
use tokio_util::codec::Decoder;

fn read(mut codec: LineCodec, max: usize, bytes: &[u8], segment: usize) -> Vec<Result<String, Rejection>> {
    let (mut buffer, mut lines) = (BytesMut::new(), Vec::new());
    for part in bytes.chunks(segment) {
        buffer.extend_from_slice(part);
        while let Some(line) = codec.decode(&mut buffer).expect("decoding gives no I/O error") {
            lines.push(line);
        }
        assert!(buffer.len() <= max + 1);
    }
    while let Some(line) = codec.decode_eof(&mut buffer).expect("decoding gives no I/O error") {
        lines.push(line);
    }
    lines
}

fuzz_target!(|input: (u8, u8, bool, &[u8])| {
    let (max, segment, accept, bytes) = input;
    let max = usize::from(max);
    let codec = LineCodec::new(max, if accept { AtEof::Accept } else { AtEof::Reject });
    let whole = read(codec.clone(), max, bytes, bytes.len().max(1));
    assert_eq!(read(codec, max, bytes, usize::from(segment).max(1)), whole);
    for line in whole.iter().flatten() {
        assert!(line.len() <= max);
        if let Ok(reply) = ServerReply::parse(line) {
            assert_eq!(reply.to_string(), *line);
        }
    }
});
