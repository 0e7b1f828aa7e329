;; Two functions for `apply`, one of each form. The table of the forms is in crates/dataframe-wasm/src/lib.rs.
(module
  (memory (export "memory") 1)
  (global $free (mut i32) (i32.const 1024))

  ;; By row: x * 2 + n.
  (func (export "score") (param $x f64) (param $n i64) (result f64)
    (f64.add
      (f64.mul (local.get $x) (f64.const 2))
      (f64.convert_i64_s (local.get $n))))

  ;; Gives so many bytes at a multiple of 8. An instance lives for one batch, so that nothing is ever given back.
  (func $alloc (export "alloc") (param $bytes i32) (result i32)
    (local $address i32)
    (local $pages i32)
    (local.set $address (global.get $free))
    (global.set $free
      (i32.and (i32.add (i32.add (local.get $address) (local.get $bytes)) (i32.const 7)) (i32.const -8)))
    ;; The pages of 64 KiB that are missing.
    (local.set $pages
      (i32.sub (i32.add (i32.shr_u (global.get $free) (i32.const 16)) (i32.const 1)) (memory.size)))
    (if (i32.gt_s (local.get $pages) (i32.const 0))
      (then (drop (memory.grow (local.get $pages)))))
    (local.get $address))

  ;; By batch: the number of bytes of a text; a missing text has 0.
  (func (export "bytes") (param $batch i32) (result i32)
    (local $rows i32)
    (local $row i32)
    (local $offsets i32)
    (local $values i32)
    (local $result i32)
    (local.set $rows (i32.load (local.get $batch)))
    ;; The first column begins at 8: kind, missing values, offsets, text.
    (local.set $offsets (i32.load offset=16 (local.get $batch)))
    (local.set $values (call $alloc (i32.mul (local.get $rows) (i32.const 8))))
    (local.set $result (call $alloc (i32.const 16)))
    (i32.store (local.get $result) (local.get $rows))
    (i32.store offset=4 (local.get $result) (i32.const 0))
    (i32.store offset=8 (local.get $result) (local.get $values))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $row) (local.get $rows)))
        (i64.store
          (i32.add (local.get $values) (i32.mul (local.get $row) (i32.const 8)))
          (i64.extend_i32_u
            (i32.sub
              (i32.load offset=4 (i32.add (local.get $offsets) (i32.mul (local.get $row) (i32.const 4))))
              (i32.load (i32.add (local.get $offsets) (i32.mul (local.get $row) (i32.const 4)))))))
        (local.set $row (i32.add (local.get $row) (i32.const 1)))
        (br $next)))
    (local.get $result)))
