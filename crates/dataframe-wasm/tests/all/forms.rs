//! Both forms of functions give what they compute.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Date32Array, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Date32Type, Float64Type, Int64Type};
use dataframe_jobs::operation::Dtype;
use dataframe_wasm::{TaskBudget, WasmCall, WasmLimits, WasmModule};
use proptest::prelude::*;

use crate::support::{SCORES, floats, integers, run, texts};

/// Gives its column back as it is, by handing the addresses of the batch back.
const SAME: &str = r#"(module
  (memory (export "memory") 2)
  (func (export "alloc") (param i32) (result i32) (i32.const 1024))
  (func (export "same") (param $batch i32) (result i32)
    (i32.store (i32.const 16) (i32.load (local.get $batch)))
    (i32.store (i32.const 20) (i32.load offset=12 (local.get $batch)))
    (i32.store (i32.const 24) (i32.load offset=16 (local.get $batch)))
    (i32.store (i32.const 28) (i32.load offset=20 (local.get $batch)))
    (i32.const 16)))"#;

#[test]
fn a_function_by_row_is_not_called_for_missing_arguments() {
    let x = floats(&[Some(1.5), None, Some(-2.0), Some(0.0)]);
    let n = integers(&[Some(1), Some(2), None, Some(i64::MIN)]);
    let scores = run(SCORES, "score", &[x, n], Dtype::Float64).unwrap();
    let scores: Vec<_> = scores.as_primitive::<Float64Type>().iter().collect();
    assert_eq!(scores, [Some(4.0), None, None, Some(i64::MIN as f64)]);
}

#[test]
fn a_function_by_batch_sees_texts() {
    let names = texts(&[Some("Ana"), None, Some(""), Some("Ñandú")]);
    let bytes = run(SCORES, "bytes", &[names], Dtype::Int64).unwrap();
    let bytes: Vec<_> = bytes.as_primitive::<Int64Type>().iter().collect();
    assert_eq!(bytes, [Some(3), Some(0), Some(0), Some(7)]);
}

/// The example in Rust, as `tasca1/wasm/Makefile` builds it.
#[test]
fn the_example_in_rust_computes_by_row_and_by_batch() {
    let module = Arc::new(
        WasmModule::new(include_bytes!("../../../../tasca1/wasm/names.wasm").to_vec().into()).unwrap(),
    );
    let budget = TaskBudget::new(WasmLimits::default());
    let call = |function: &str, (dtype, column): (Dtype, ArrayRef), returns| {
        WasmCall::new(Arc::clone(&module), function, vec![dtype], returns).unwrap().run(
            &[column],
            &budget,
            "",
        )
    };
    let celsius = call("celsius", floats(&[Some(212.0), None, Some(32.0)]), Dtype::Float64).unwrap();
    assert_eq!(&celsius, &floats(&[Some(100.0), None, Some(0.0)]).1);
    let names = texts(&[Some("Ada Lovelace"), None, Some("ñandú (grande)"), Some("42")]);
    let initials = call("initials", names, Dtype::String).unwrap();
    assert_eq!(&initials, &texts(&[Some("AL"), None, Some("ÑG"), None]).1);
    let many: Vec<_> =
        (0..20_000).map(|row| if row % 7 == 0 { None } else { Some("Grace Brewster Hopper") }).collect();
    let initials = call("initials", texts(&many), Dtype::String).unwrap();
    assert_eq!(
        initials.as_string::<i32>().iter().flatten().filter(|text| *text == "GBH").count(),
        many.iter().flatten().count()
    );
}

#[test]
fn all_types_go_in_and_come_out() {
    let columns: [(Dtype, ArrayRef); 6] = [
        integers(&[Some(i64::MAX), None, Some(-1)]),
        floats(&[Some(f64::INFINITY), None, Some(-0.5)]),
        texts(&[Some("a"), None, Some("Çelik")]),
        (Dtype::Bool, Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)]))),
        (Dtype::Date, Arc::new(Date32Array::from(vec![Some(19_000), None, Some(-1)]))),
        (Dtype::Datetime, Arc::new(TimestampMicrosecondArray::from(vec![Some(1), None, Some(-1)]))),
    ];
    for (dtype, column) in columns {
        let same = run(SAME, "same", &[(dtype, column.clone())], dtype).unwrap();
        assert_eq!(&same, &column, "{dtype:?}");
        // A part of a longer column begins at an offset.
        let part = column.slice(1, 2);
        let same = run(SAME, "same", &[(dtype, part.clone())], dtype).unwrap();
        assert_eq!(&same, &part, "{dtype:?}");
    }
}

#[test]
fn truth_values_and_dates_are_numbers_by_row() {
    let text = r#"(module
      (func (export "not") (param i64) (result i64) (i64.eqz (local.get 0)) (i64.extend_i32_u))
      (func (export "next") (param i64) (result i64) (i64.add (local.get 0) (i64.const 1))))"#;
    let bools: ArrayRef = Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)]));
    let not = run(text, "not", &[(Dtype::Bool, bools)], Dtype::Bool).unwrap();
    assert_eq!(not.as_boolean().iter().collect::<Vec<_>>(), [Some(false), None, Some(true)]);
    let days: ArrayRef = Arc::new(Date32Array::from(vec![Some(0), None]));
    let next = run(text, "next", &[(Dtype::Date, days)], Dtype::Date).unwrap();
    assert_eq!(next.as_primitive::<Date32Type>().iter().collect::<Vec<_>>(), [Some(1), None]);
}

#[test]
fn a_batch_that_is_larger_than_the_memory_is_given_in_parts() {
    let long = "x".repeat(1000);
    let names: Vec<_> = (0..2000).map(|row| if row % 3 == 0 { None } else { Some(long.as_str()) }).collect();
    let bytes = run(SCORES, "bytes", &[texts(&names)], Dtype::Int64).unwrap();
    let sum: i64 = bytes.as_primitive::<Int64Type>().iter().flatten().sum();
    assert_eq!((bytes.len(), sum), (2000, 1000 * names.iter().flatten().count() as i64));
    let none = run(SCORES, "bytes", &[texts(&[])], Dtype::Int64).unwrap();
    assert_eq!((none.len(), none.data_type()), (0, &DataType::Int64));
}

proptest! {
    #[test]
    fn any_texts_come_back_as_they_were(names in proptest::collection::vec(proptest::option::of(".{0,20}"), 1..50)) {
        let names: Vec<_> = names.iter().map(Option::as_deref).collect();
        let (dtype, column) = texts(&names);
        prop_assert_eq!(&run(SAME, "same", &[(dtype, column.clone())], dtype).unwrap(), &column);
    }
}
