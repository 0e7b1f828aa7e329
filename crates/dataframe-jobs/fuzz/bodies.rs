//! What must hold for any bytes. The fuzz targets and a test of the crate run this.

use bytes::Bytes;
use dataframe_jobs::message::{Reply, Request};
use dataframe_jobs::operation::{Operation, check, parse};
use dataframe_jobs::packet;

/// A list that is accepted is written as JSON that is read back the same, and it passes the check of lists that come in messages.
pub fn operations(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let Ok(list) = parse(text) else { return false };
    let json = serde_json::to_string(&list).expect("operations have string keys only");
    assert_eq!(parse(&json).expect("it was accepted before"), list);
    assert_eq!(serde_json::from_str::<Vec<Operation>>(&json).expect("it was accepted before"), list);
    check(&list).expect("it was accepted before");
    true
}

/// A packet that is accepted is encoded as one that is read back the same.
pub fn packets(bytes: &[u8]) -> bool {
    let packet = Bytes::copy_from_slice(bytes);
    let request = packet::decode::<Request>(&packet);
    if let Ok((request, body)) = &request {
        let again =
            packet::decode::<Request>(&packet::encode(request, body)).expect("it was accepted before");
        assert_eq!((&again.0, &again.1), (request, body));
    }
    let reply = packet::decode::<Reply>(&packet);
    if let Ok((reply, body)) = &reply {
        let again = packet::decode::<Reply>(&packet::encode(reply, body)).expect("it was accepted before");
        assert_eq!((&again.0, &again.1), (reply, body));
    }
    request.is_ok() || reply.is_ok()
}
