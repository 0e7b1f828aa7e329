//! Batches and results in the memory of an instance. The table is in the documentation of the crate.

use arrow::array::{Float64Array, Int64Array, StringArray, StringBuilder};
use arrow::buffer::{BooleanBuffer, NullBuffer, ScalarBuffer};

use crate::plain::{Kind, WasmColumn};

/// `rows`, `columns`.
const HEADER_BYTES: usize = 8;
/// `kind`, and three addresses.
const COLUMN_BYTES: usize = 16;
/// `rows`, and three addresses.
const RESULT_BYTES: usize = 16;
/// Numbers begin at multiples of this.
const ALIGNMENT: usize = 8;

/// The length of a batch with all that belongs to it.
pub(crate) fn batch_bytes(columns: &[WasmColumn], rows: usize) -> usize {
    let header = aligned(HEADER_BYTES + COLUMN_BYTES * columns.len());
    header + columns.iter().map(|column| column_bytes(column, rows)).sum::<usize>()
}

fn column_bytes(column: &WasmColumn, rows: usize) -> usize {
    let values = match column {
        WasmColumn::Integer(_) | WasmColumn::Float(_) => rows * 8,
        WasmColumn::Text(values) => aligned((rows + 1) * 4) + aligned(text_of(values).len()),
    };
    aligned(rows) + values
}

fn aligned(bytes: usize) -> usize {
    bytes.next_multiple_of(ALIGNMENT)
}

/// The bytes of the text of all rows.
fn text_of(values: &StringArray) -> &[u8] {
    let offsets = values.value_offsets();
    let (first, last) =
        (offsets[0].unsigned_abs() as usize, offsets[offsets.len() - 1].unsigned_abs() as usize);
    &values.value_data()[first..last]
}

/// Writes a batch to an address that the module chose. Fails if it does not lie in the memory.
pub(crate) fn write(
    memory: &mut [u8],
    address: u32,
    columns: &[WasmColumn],
    rows: usize,
) -> Result<(), String> {
    let (size, bytes) = (memory.len(), batch_bytes(columns, rows));
    let start = address as usize;
    if address == 0 || !start.is_multiple_of(ALIGNMENT) {
        return Err(format!(
            "\"alloc\" gave the address {address} for {bytes} bytes; it must be a multiple of {ALIGNMENT}, and not 0"
        ));
    }
    let place = start.checked_add(bytes).and_then(|end| memory.get_mut(start..end)).ok_or_else(|| {
        format!("\"alloc\" gave the address {address} for {bytes} bytes, and the memory has {size} bytes")
    })?;
    let mut writer =
        GuestBatch { place, address, next: aligned(HEADER_BYTES + COLUMN_BYTES * columns.len()) };
    writer.number(0, rows);
    writer.number(4, columns.len());
    for (index, column) in columns.iter().enumerate() {
        writer.column(HEADER_BYTES + COLUMN_BYTES * index, column, rows);
    }
    Ok(())
}

/// Writes into a place that has room for the batch.
struct GuestBatch<'a> {
    place: &'a mut [u8],
    address: u32,
    next: usize,
}

impl GuestBatch<'_> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the whole batch is shorter than a memory of 32 bits"
    )]
    fn number(&mut self, at: usize, number: usize) {
        self.place[at..at + 4].copy_from_slice(&(number as u32).to_le_bytes());
    }

    fn address_of(&self, place: usize) -> usize {
        self.address as usize + place
    }

    /// Takes room for so many bytes, and writes its address.
    fn take(&mut self, at: usize, bytes: usize) -> usize {
        let place = self.next;
        self.next += aligned(bytes);
        self.number(at, self.address_of(place));
        place
    }

    fn column(&mut self, at: usize, column: &WasmColumn, rows: usize) {
        self.number(at, column.kind().number() as usize);
        let validity = self.take(at + 4, rows);
        for row in 0..rows {
            self.place[validity + row] = u8::from(column.nulls().is_none_or(|nulls| nulls.is_valid(row)));
        }
        match column {
            WasmColumn::Integer(values) => {
                self.values(at, values.values().iter().map(|value| value.to_le_bytes()));
            }
            WasmColumn::Float(values) => {
                self.values(at, values.values().iter().map(|value| value.to_le_bytes()));
            }
            WasmColumn::Text(values) => self.text(at, values, rows),
        }
    }

    fn values(&mut self, at: usize, values: impl ExactSizeIterator<Item = [u8; 8]>) {
        let place = self.take(at + 8, values.len() * 8);
        for (to, value) in self.place[place..].chunks_exact_mut(8).zip(values) {
            to.copy_from_slice(&value);
        }
        self.number(at + 12, 0);
    }

    fn text(&mut self, at: usize, values: &StringArray, rows: usize) {
        let offsets = self.take(at + 8, (rows + 1) * 4);
        let first = values.value_offsets()[0];
        for (index, offset) in values.value_offsets().iter().enumerate() {
            self.number(offsets + index * 4, (offset - first).unsigned_abs() as usize);
        }
        let text = text_of(values);
        let place = self.take(at + 12, text.len());
        self.place[place..place + text.len()].copy_from_slice(text);
    }
}

/// Reads the result at an address that the module chose. Nothing of it is trusted. Fails with the row, where one is to blame.
pub(crate) fn read(
    memory: &[u8],
    address: u32,
    kind: Kind,
    rows: usize,
) -> Result<WasmColumn, (Option<usize>, String)> {
    let whole = |cause: String| (None, cause);
    let bytes = |what: &str, address: u32, length: usize| part(memory, what, address, length).map_err(whole);
    let result = bytes("the result", address, RESULT_BYTES)?;
    let field = |index: usize| number(result, index);
    if field(0) as usize != rows {
        return Err(whole(format!("it gave a result of {} rows for {rows} rows", field(0))));
    }
    let nulls = match field(1) {
        0 => None,
        address => Some(validity(bytes("what is missing in the result", address, rows)?)?),
    };
    let nulls = nulls.filter(|nulls| nulls.null_count() > 0);
    Ok(match kind {
        Kind::Integer => {
            let values = bytes("the values of the result", field(2), rows * 8)?;
            let values: Vec<i64> = eights(values).map(i64::from_le_bytes).collect();
            WasmColumn::Integer(Int64Array::new(ScalarBuffer::from(values), nulls))
        }
        Kind::Float => {
            let values = bytes("the values of the result", field(2), rows * 8)?;
            let values: Vec<f64> = eights(values).map(f64::from_le_bytes).collect();
            WasmColumn::Float(Float64Array::new(ScalarBuffer::from(values), nulls))
        }
        Kind::Text => {
            let offsets = bytes("the offsets of the result", field(2), (rows + 1) * 4)?;
            WasmColumn::Text(texts(memory, offsets, field(3), nulls.as_ref(), rows)?)
        }
    })
}

fn part<'a>(memory: &'a [u8], what: &str, address: u32, length: usize) -> Result<&'a [u8], String> {
    let start = address as usize;
    start.checked_add(length).and_then(|end| memory.get(start..end)).ok_or_else(|| {
        format!(
            "{what} would be {length} bytes at the address {address}, and the memory has {} bytes",
            memory.len()
        )
    })
}

fn number(bytes: &[u8], index: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[index * 4..index * 4 + 4]);
    u32::from_le_bytes(number)
}

fn eights(bytes: &[u8]) -> impl Iterator<Item = [u8; 8]> {
    bytes.as_chunks::<8>().0.iter().copied()
}

fn validity(bytes: &[u8]) -> Result<NullBuffer, (Option<usize>, String)> {
    match bytes.iter().position(|byte| *byte > 1) {
        Some(row) => Err((
            Some(row),
            format!("it says {} about whether the value is there, which is 1 or 0", bytes[row]),
        )),
        None => Ok(NullBuffer::new(BooleanBuffer::collect_bool(bytes.len(), |row| bytes[row] == 1))),
    }
}

fn texts(
    memory: &[u8],
    offsets: &[u8],
    address: u32,
    nulls: Option<&NullBuffer>,
    rows: usize,
) -> Result<StringArray, (Option<usize>, String)> {
    let mut texts = StringBuilder::with_capacity(rows, 0);
    for row in 0..rows {
        let at_row = |cause: String| (Some(row), cause);
        let (start, end) = (number(offsets, row), number(offsets, row + 1));
        if end < start {
            return Err(at_row(format!("its text ends at {end}, before it begins at {start}")));
        }
        if nulls.is_some_and(|nulls| nulls.is_null(row)) {
            texts.append_null();
            continue;
        }
        let place = address.checked_add(start).ok_or_else(|| {
            at_row(format!(
                "its text would begin {start} bytes behind the address {address}, outside of the memory"
            ))
        })?;
        let bytes = part(memory, "the text", place, (end - start) as usize).map_err(at_row)?;
        let text =
            std::str::from_utf8(bytes).map_err(|error| at_row(format!("its text is no UTF-8: {error}")))?;
        texts.append_value(text);
    }
    Ok(texts.finish())
}
