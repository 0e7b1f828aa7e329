//! Tests that clients cannot make the store hold more in memory than its limits.

use serde_json::json;

use crate::processes::{StoreProcesses, StoreSettings};
use crate::put;

const MIB: u64 = 1024 * 1024;

/// Returns the message that takes most memory: each of its bytes travels as six.
fn longest() -> String {
    "\u{1}".repeat(64 * 1024)
}

#[test]
fn replies_to_many_pipelined_requests_do_not_gather() {
    let folder = tempfile::tempdir().unwrap();
    let settings = StoreSettings { datanodes: 1, store_timeout: "10s", ..StoreSettings::default() };
    let store = StoreProcesses::start(folder.path(), settings);
    let mut client = store.connect();
    let saved = client.ask(&put(&longest()));
    let id = saved["saved"]["id"].as_str().unwrap_or_else(|| panic!("not saved: {saved}"));
    let get = format!("{}\n", json!({"get": {"id": id}}));
    let requests = 128;
    let before = store.headnode.peak_resident_bytes();
    client.send(get.repeat(requests));
    for _ in 0..requests {
        let reply = client.reply();
        assert!(reply.len() > 6 * 64 * 1024, "{reply}");
    }
    let more = store.headnode.peak_resident_bytes() - before;
    assert!(more < 24 * MIB, "{more} bytes for replies of {} bytes", requests * 6 * 64 * 1024);
}
