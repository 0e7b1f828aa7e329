//! Whatever the bytes and however they are cut: no panic, no more memory than the limit, the same messages; and what is
//! taken as a bet or a winner is written as something that is read back the same.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use protocol::lottery::{
    AgencyRequest, Bet, MAX_REQUEST_BYTES, MAX_WINNER_BYTES, ReplyDecoder, RequestDecoder, Winner,
};
use tokio_util::codec::Decoder;

fn read<D: Decoder>(mut decoder: D, most: usize, bytes: &[u8], segment: usize) -> Option<Vec<D::Item>> {
    let (mut buffer, mut items) = (BytesMut::new(), Vec::new());
    for part in bytes.chunks(segment) {
        buffer.extend_from_slice(part);
        while let Some(item) = decoder.decode(&mut buffer).ok()? {
            items.push(item);
        }
        assert!(buffer.len() <= most + 2);
    }
    while let Some(item) = decoder.decode_eof(&mut buffer).ok()? {
        items.push(item);
    }
    Some(items)
}

fn again(bet: Bet<'_>) {
    let mut out = Vec::new();
    bet.write(&mut out);
    assert_eq!(out.len(), bet.wire_bytes());
    let text = std::str::from_utf8(&out).expect("made of text");
    assert_eq!(Bet::parse(text).expect("it was a bet").fields(), bet.fields());
}

fuzz_target!(|input: (u16, &[u8])| {
    let (segment, bytes) = input;
    let (segment, all) = (usize::from(segment).max(1), bytes.len().max(1));
    let whole = read(RequestDecoder::default(), MAX_REQUEST_BYTES, bytes, all).expect("no I/O error");
    assert_eq!(read(RequestDecoder::default(), MAX_REQUEST_BYTES, bytes, segment), Some(whole.clone()));
    for frame in whole.iter().flatten() {
        let Ok(text) = frame.text() else { continue };
        if let Ok(AgencyRequest::Bets { bets, .. }) = AgencyRequest::parse(text) {
            bets.flatten().for_each(again);
        }
    }
    let whole = read(ReplyDecoder::default(), MAX_WINNER_BYTES, bytes, all);
    assert_eq!(read(ReplyDecoder::default(), MAX_WINNER_BYTES, bytes, segment), whole);
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = Bet::parse(text).map(again);
        let _ = Winner::parse(text).map(|winner| again(winner.bet));
    }
});
