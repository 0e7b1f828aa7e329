//! Modules that do harm fail with a reason, and others go on.

use dataframe_jobs::operation::Dtype;
use dataframe_wasm::{TaskBudget, WasmError};

use crate::support::{LIMITS, SCORES, floats, integers, module, run, run_within, texts};

/// Why a function fails that is called with one column of integers, 1 to 3.
fn reason(text: &str, function: &str, returns: Dtype) -> String {
    let column = integers(&[Some(1), Some(2), Some(3)]);
    run(text, function, &[column], returns).expect_err("it does harm").to_string()
}

/// A module whose function by batch has this body, after `alloc` has given 1024.
fn by_batch(body: &str) -> String {
    format!(
        r#"(module (memory (export "memory") 1)
          (func (export "alloc") (param i32) (result i32) (i32.const 1024))
          (func (export "f") (param $batch i32) (result i32) {body}))"#
    )
}

/// A body that gives a result with these fields: rows, missing, values, text.
fn result(fields: [i32; 4]) -> String {
    let stores = fields
        .iter()
        .enumerate()
        .map(|(index, field)| format!("(i32.store (i32.const {}) (i32.const {field}))", 16 + 4 * index));
    format!("{} (i32.const 16)", stores.collect::<String>())
}

#[test]
fn what_traps_names_module_function_and_row() {
    let text = r#"(module (func (export "f") (param i64) (result i64)
      (if (i64.eq (local.get 0) (i64.const 2)) (then unreachable)) (local.get 0)))"#;
    let error = reason(text, "f", Dtype::Int64);
    let hash = module(text).unwrap().hash()[..12].to_owned();
    assert_eq!(
        error,
        format!(
            "the function \"f\" of the module {hash} failed at row 2 of a batch: it gave up (the instruction `unreachable`), \
             as a panic does; its arguments were 2"
        )
    );
    let division = r#"(module (func (export "f") (param i64) (result i64)
      (i64.div_s (i64.const 1) (i64.sub (local.get 0) (i64.const 3)))))"#;
    let error = reason(division, "f", Dtype::Int64);
    assert!(error.contains("at row 3 of a batch: it trapped: integer divide by zero"), "{error}");
    let beyond = r#"(module (memory 1) (func (export "f") (param i64) (result i64)
      (i64.load (i32.const 65536))))"#;
    let error = reason(beyond, "f", Dtype::Int64);
    assert!(error.contains("out of bounds memory access"), "{error}");
    let batch = reason(&by_batch("unreachable"), "f", Dtype::Int64);
    assert!(batch.contains("failed at rows 1 to 3 of a batch: it gave up"), "{batch}");
}

#[test]
fn what_loops_uses_up_its_fuel() {
    let row = r#"(module (func (export "f") (param i64) (result i64) (loop $l (br $l)) (local.get 0)))"#;
    let error = reason(row, "f", Dtype::Int64);
    assert!(error.contains("row 1 of a batch: it used up its 100000 units of fuel"), "{error}");
    let error = reason(&by_batch("(loop $l (br $l)) (i32.const 0)"), "f", Dtype::Int64);
    assert!(error.contains("rows 1 to 3 of a batch: it used up its 300000 units of fuel"), "{error}");
    let alloc = r#"(module (memory (export "memory") 1)
      (func (export "alloc") (param i32) (result i32) (loop $l (br $l)) (i32.const 0))
      (func (export "f") (param i32) (result i32) (i32.const 0)))"#;
    let error = reason(alloc, "f", Dtype::Int64);
    assert!(error.contains("in \"alloc\": it used up"), "{error}");
    let start = r#"(module (func $s (loop $l (br $l))) (start $s)
      (func (export "f") (param i64) (result i64) (local.get 0)))"#;
    let error = reason(start, "f", Dtype::Int64);
    assert!(
        error.contains(
            "failed at the beginning of a batch: its start function used up the 100000 units of fuel"
        ),
        "{error}"
    );
}

#[test]
fn the_fuel_of_a_task_ends_too() {
    let slow = r#"(module (func (export "f") (param i64) (result i64) (local $i i32)
      (loop $l (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $l (i32.lt_u (local.get $i) (i32.const 10000)))) (local.get 0)))"#;
    let limits = dataframe_wasm::WasmLimits { fuel_per_task: 500_000, ..LIMITS };
    let column = integers(&[Some(1); 100]);
    let error = run_within(slow, "f", std::slice::from_ref(&column), Dtype::Int64, &TaskBudget::new(limits));
    let error = error.expect_err("100 rows need more").to_string();
    assert!(error.contains("the task has used up its 500000 units of fuel"), "{error}");
    assert!(run(slow, "f", &[column], Dtype::Int64).is_ok(), "each row alone is within its limit");
}

#[test]
fn what_grows_is_stopped_at_its_limit() {
    let grow = r#"(module (memory 1) (func (export "f") (param i64) (result i64)
      (loop $l (drop (memory.grow (i32.const 1))) (br $l)) (local.get 0)))"#;
    let error = reason(grow, "f", Dtype::Int64);
    assert!(error.contains("it wants more memory or larger tables"), "{error}");
    assert!(error.contains("1048576 bytes (--wasm-memory"), "{error}");
    let begins = r#"(module (memory 17) (func (export "f") (param i64) (result i64) (local.get 0)))"#;
    let error = reason(begins, "f", Dtype::Int64);
    assert!(error.contains("the module does not start: it wants more memory"), "{error}");
    let table =
        r#"(module (table 1000000 funcref) (func (export "f") (param i64) (result i64) (local.get 0)))"#;
    let error = reason(table, "f", Dtype::Int64);
    assert!(error.contains("the module does not start: it wants more memory or larger tables"), "{error}");
    let table = r#"(module (table $t 1 funcref) (func (export "f") (param i64) (result i64)
      (loop $l (drop (table.grow $t (ref.null func) (i32.const 10000))) (br $l)) (local.get 0)))"#;
    let error = reason(table, "f", Dtype::Int64);
    assert!(error.contains("larger tables"), "{error}");
}

#[test]
fn what_calls_itself_for_ever_is_stopped() {
    let deep = r#"(module (func $f (export "f") (param i64) (result i64)
      (i64.add (call $f (local.get 0)) (i64.const 1))))"#;
    let error = reason(deep, "f", Dtype::Int64);
    assert!(error.contains("its calls nest too deeply"), "{error}");
}

#[test]
fn a_result_that_lies_is_found_out() {
    let cases: &[(String, Dtype, &str)] = &[
        (result([2, 0, 0, 0]), Dtype::Int64, "it gave a result of 2 rows for 3 rows"),
        (result([-1, 0, 0, 0]), Dtype::Int64, "it gave a result of 4294967295 rows for 3 rows"),
        (
            "(i32.const 65530)".into(),
            Dtype::Int64,
            "the result would be 16 bytes at the address 65530, and the memory has 65536 bytes",
        ),
        ("(i32.const -8)".into(), Dtype::Int64, "the address 4294967288"),
        (
            result([3, 0, 65520, 0]),
            Dtype::Int64,
            "the values of the result would be 24 bytes at the address 65520",
        ),
        (result([3, 0, -4, 0]), Dtype::Float64, "at the address 4294967292"),
        (result([3, 65534, 0, 0]), Dtype::Int64, "what is missing in the result would be 3 bytes"),
        (result([3, 0, 65532, 0]), Dtype::String, "the offsets of the result would be 16 bytes"),
        // The offsets are the words at 64: 0, 5, 2, …
        (
            format!(
                "(i32.store (i32.const 68) (i32.const 5)) (i32.store (i32.const 72) (i32.const 2)) {}",
                result([3, 0, 64, 0])
            ),
            Dtype::String,
            "row 2 of a batch: its text ends at 2, before it begins at 5",
        ),
        (
            format!("(i32.store (i32.const 68) (i32.const 99999)) {}", result([3, 0, 64, 0])),
            Dtype::String,
            "row 1 of a batch: the text would be 99999 bytes at the address 0",
        ),
        (
            format!(
                "(i32.store (i32.const 64) (i32.const 9)) (i32.store (i32.const 68) (i32.const 10)) {}",
                result([3, 0, 64, -1])
            ),
            Dtype::String,
            "row 1 of a batch: its text would begin 9 bytes behind the address 4294967295",
        ),
        (
            format!(
                "(i32.store8 (i32.const 200) (i32.const 255)) (i32.store (i32.const 68) (i32.const 1))
            (i32.store (i32.const 72) (i32.const 1)) (i32.store (i32.const 76) (i32.const 1)) {}",
                result([3, 0, 64, 200])
            ),
            Dtype::String,
            "row 1 of a batch: its text is no UTF-8",
        ),
        (
            format!("(i32.store8 (i32.const 65) (i32.const 7)) {}", result([3, 64, 128, 0])),
            Dtype::Int64,
            "row 2 of a batch: it says 7 about whether the value is there",
        ),
        (
            format!("(i64.store (i32.const 136) (i64.const 2)) {}", result([3, 0, 128, 0])),
            Dtype::Bool,
            "row 2 of a batch: it gave 2 for a bool, which is 0 or 1",
        ),
        (
            format!("(i64.store (i32.const 144) (i64.const 9999999999)) {}", result([3, 0, 128, 0])),
            Dtype::Date,
            "row 3 of a batch: it gave the day 9999999999, which no date has",
        ),
    ];
    for (body, returns, why) in cases {
        let error = reason(&by_batch(body), "f", *returns);
        assert!(error.contains(why), "{body}: {error}");
    }
}

#[test]
fn an_address_from_alloc_is_not_trusted() {
    for (address, why) in [
        ("0", "must be a multiple of 8, and not 0"),
        ("1028", "must be a multiple of 8"),
        ("65528", "and the memory has 65536 bytes"),
        ("-8", "\"alloc\" gave the address 4294967288"),
    ] {
        let text = by_batch("(i32.const 16)").replace("(i32.const 1024)", &format!("(i32.const {address})"));
        let error = reason(&text, "f", Dtype::Int64);
        assert!(error.contains(why), "{address}: {error}");
    }
}

/// The number of rows that this function gives depends on how often it was called, and each batch has a new instance.
#[test]
fn nothing_is_carried_from_one_batch_to_the_next() {
    let counts = r#"(module (global $n (mut i64) (i64.const 0))
      (func (export "f") (param i64) (result i64)
        (global.set $n (i64.add (global.get $n) (i64.const 1))) (global.get $n)))"#;
    let first = run(counts, "f", &[integers(&[Some(0); 3])], Dtype::Int64).unwrap();
    assert_eq!(&first, &integers(&[Some(1), Some(2), Some(3)]).1);
    let second = run(counts, "f", &[integers(&[Some(0); 3])], Dtype::Int64).unwrap();
    assert_eq!(&first, &second);
}

#[test]
fn a_module_that_imports_is_refused() {
    let text = r#"(module (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
      (func (export "f") (param i64) (result i64) (local.get 0)))"#;
    let error = module(text).expect_err("it imports").to_string();
    assert!(
        error.contains(
            "it imports \"fd_write\" from \"wasi_snapshot_preview1\", and a module may import nothing"
        ),
        "{error}"
    );
    let error = module(r#"(module (import "env" "memory" (memory 1)))"#).expect_err("it imports").to_string();
    assert!(error.contains("it imports \"memory\" from \"env\""), "{error}");
}

#[test]
fn a_function_of_another_type_is_refused() {
    let refused = |function: &str, columns: &[_], returns| {
        let error = run(SCORES, function, columns, returns).expect_err("it does not fit");
        assert!(matches!(error, WasmError::Refused(_)), "{error:?}");
        error.to_string()
    };
    let (x, n, name) = (floats(&[Some(1.0)]), integers(&[Some(1)]), texts(&[Some("a")]));
    let error = refused("scores", std::slice::from_ref(&x), Dtype::Float64);
    assert!(
        error.contains("there is no such function; there are \"alloc\", \"bytes\", \"score\""),
        "{error}"
    );
    let error = refused("score", std::slice::from_ref(&x), Dtype::Float64);
    assert!(
        error.contains("its type is (f64, i64) -> (f64), and for these columns it must be (f64) -> (f64) for each row, or (i32) -> (i32) for a batch"),
        "{error}"
    );
    let error = refused("score", &[x.clone(), n.clone()], Dtype::String);
    assert!(error.contains("it must be (i32) -> (i32) for a batch"), "{error}");
    let error = refused("score", &[x, name], Dtype::Float64);
    assert!(error.contains("it must be (i32) -> (i32) for a batch"), "{error}");
    let error = refused("memory", std::slice::from_ref(&n), Dtype::Float64);
    assert!(error.contains("there is no such function"), "{error}");
    assert!(refused("score", &[], Dtype::Float64).contains("at least one column"));
    let bare = r#"(module (func (export "f") (param i32) (result i32) (local.get 0)))"#;
    assert!(reason(bare, "f", Dtype::Int64).contains("exports its \"memory\""));
    let bare =
        r#"(module (memory (export "memory") 1) (func (export "f") (param i32) (result i32) (local.get 0)))"#;
    assert!(reason(bare, "f", Dtype::Int64).contains("exports \"alloc\" with the type (i32) -> (i32)"));
}
