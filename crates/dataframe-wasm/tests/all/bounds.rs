//! What is bounded: modules, their number, and the time until a task that was stopped ends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dataframe_jobs::operation::Dtype;
use dataframe_wasm::store::{MAX_MODULES, MAX_TOTAL_BYTES};
use dataframe_wasm::{
    MAX_MODULE_BYTES, ModuleStore, TaskBudget, WasmCall, WasmError, WasmLimits, WasmModule, hash_of,
};
use proptest::prelude::*;

use crate::support::{SCORES, integers, run_within};

/// A small module of its own.
fn numbered(number: usize) -> Vec<u8> {
    wat::parse_str(format!(r#"(module (func (export "f") (result i64) (i64.const {number})))"#)).unwrap()
}

#[test]
fn a_module_is_named_by_the_sha_256_of_its_bytes() {
    assert_eq!(hash_of(b""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    let bytes = numbered(1);
    let module = WasmModule::new(bytes.clone().into()).unwrap();
    assert_eq!((module.hash(), module.bytes().as_ref()), (hash_of(&bytes).as_str(), bytes.as_slice()));
}

#[test]
fn other_bytes_than_those_of_the_hash_are_refused() {
    let store = ModuleStore::default();
    let error = store.insert_as(&hash_of(&numbered(1)), numbered(2).into()).unwrap_err().to_string();
    assert!(
        error.contains(&hash_of(&numbered(1))[..12]) && error.contains(&hash_of(&numbered(2))[..12]),
        "{error}"
    );
    assert!(store.get(&hash_of(&numbered(1))).is_none() && store.get(&hash_of(&numbered(2))).is_none());
    store.insert_as(&hash_of(&numbered(1)), numbered(1).into()).unwrap();
    assert!(store.get(&hash_of(&numbered(1))).is_some());
}

#[test]
fn modules_that_nobody_uses_make_room() {
    let store = ModuleStore::default();
    let used = store.insert(numbered(0).into()).unwrap();
    for number in 1..=MAX_MODULES {
        drop(store.insert(numbered(number).into()).unwrap());
    }
    assert!(store.get(used.hash()).is_some(), "it is in use");
    assert!(store.get(&hash_of(&numbered(1))).is_none(), "it was the one that nobody had used for longest");
    let all: Vec<_> = (0..MAX_MODULES).map(|number| store.insert(numbered(number).into()).unwrap()).collect();
    let error = store.insert(numbered(MAX_MODULES).into()).unwrap_err().to_string();
    assert!(error.contains("there is no room, because jobs use the 64 modules"), "{error}");
    assert!(Arc::ptr_eq(&all[0], &used), "a module is compiled once");
    drop((all, used));
    store.insert(numbered(MAX_MODULES).into()).unwrap();
}

/// A custom section with so many bytes.
fn long(bytes: usize, mark: u8) -> Vec<u8> {
    let mut module = b"\0asm\x01\0\0\0\0".to_vec();
    // The length of what follows it takes four bytes itself.
    let mut rest = bytes - module.len() - 4;
    while rest >= 0x80 {
        module.push(0x80 | (rest & 0x7f) as u8);
        rest >>= 7;
    }
    module.extend([rest as u8, 1, mark]);
    module.resize(bytes, 0);
    module
}

#[test]
fn long_modules_are_refused_and_all_together_are_bounded() {
    let error = WasmModule::new(vec![0; MAX_MODULE_BYTES + 1].into()).unwrap_err().to_string();
    assert!(error.contains("has 4194305 bytes, and may have 4194304"), "{error}");
    let store = ModuleStore::default();
    let fit = MAX_TOTAL_BYTES / MAX_MODULE_BYTES;
    let all: Vec<_> =
        (0..fit).map(|mark| store.insert(long(MAX_MODULE_BYTES, mark as u8 + 1).into()).unwrap()).collect();
    let error = store.insert(numbered(1).into()).unwrap_err().to_string();
    assert!(error.contains("there is no room"), "{error}");
    drop(all);
    store.insert(numbered(1).into()).unwrap();
}

#[test]
fn a_section_that_claims_more_than_there_is_is_refused() {
    // A data section that says that it has 100 MB, in a module of 20 bytes.
    let claim = b"\0asm\x01\0\0\0\x0b\x80\xc2\xd7\x2f\x01\0\x41\0\x0b\0".to_vec();
    let error = WasmModule::new(claim.into()).unwrap_err().to_string();
    assert!(error.contains("it is no valid WebAssembly module"), "{error}");
    let error = WasmModule::new(b"(module)".to_vec().into()).unwrap_err().to_string();
    assert!(error.contains("it is no valid WebAssembly module"), "{error}");
}

#[test]
fn a_task_that_is_stopped_ends_within_a_slice_of_fuel() {
    let endless = r#"(module (func (export "f") (param i64) (result i64) (loop $l (br $l)) (local.get 0)))"#;
    let limits = WasmLimits { fuel_per_row: u64::MAX, fuel_per_task: u64::MAX, ..WasmLimits::default() };
    let budget = TaskBudget::new(limits);
    let called = {
        let budget = budget.clone();
        std::thread::spawn(move || run_within(endless, "f", &[integers(&[Some(1)])], Dtype::Int64, &budget))
    };
    while !budget.has_begun() {
        std::thread::yield_now();
    }
    assert!(!called.is_finished(), "it loops");
    let begun = Instant::now();
    budget.stop();
    assert_eq!(called.join().unwrap().unwrap_err(), WasmError::Stopped);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let later = run_within(SCORES, "score", &[integers(&[Some(1)])], Dtype::Int64, &budget);
    assert!(matches!(later, Err(WasmError::Refused(_))), "{later:?}");
    let later = run_within(endless, "f", &[integers(&[Some(1)])], Dtype::Int64, &budget);
    assert_eq!(later.unwrap_err(), WasmError::Stopped);
}

#[test]
fn code_behind_the_end_of_a_function_is_refused() {
    let mut bytes = wat::parse_str("(module (func nop nop))").unwrap();
    let body = [0x01, 0x01, 0x0b];
    let at = bytes.windows(body.len()).position(|window| window == body).unwrap();
    bytes[at] = 0x0b;
    let refused = WasmModule::new(bytes.into()).unwrap_err().to_string();
    assert!(refused.contains("no valid WebAssembly module"), "{refused}");
}

proptest! {
    /// Whatever the bytes are, there is an answer.
    #[test]
    fn junk_is_refused(place in 0_usize..400, byte: u8, cut in 0_usize..400) {
        let mut bytes = wat::parse_str(SCORES).unwrap();
        let place = place % bytes.len();
        bytes[place] = byte;
        bytes.truncate(bytes.len() - cut.min(bytes.len()) / 7);
        if let Ok(module) = WasmModule::new(bytes.into()).map(Arc::new) {
            let budget = TaskBudget::new(crate::support::LIMITS);
            let (dtype, column) = integers(&[Some(1), None, Some(3)]);
            if let Ok(call) = WasmCall::new(module, "bytes", vec![dtype], Dtype::Int64) {
                let _ = call.run(&[column], &budget, "");
            }
        }
    }
}
