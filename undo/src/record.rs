//! The undo record: what one branch changed, as JSON that a DBA can read with the server's own functions. Specified in
//! `docs/undo-format.md`; decoding accepts exactly what that page describes and nothing else.

use std::collections::HashSet;

use thiserror::Error;

use crate::charset;
use crate::image::Value;
use crate::kind::Kind;
use crate::packed::{Image, Values};
use crate::table::{Column, Table};
use crate::undo_log;

mod cells;
mod context;
mod json;
mod stored;
use json::{RecordIn, RecordOut, TablesOut, table_in};
use stored::{RowWriter, Text};

/// The value of `"format"`.
pub const FORMAT: &str = "atone-undo";
/// The version of the record's structure that is written, and the only one there is.
pub const VERSION: u32 = 1;
/// The longest record that is written or read, in bytes of JSON. The servers' `UNCOMPRESS()` knows no more.
pub const MAX_RECORD_BYTES: usize = (1 << 30) - 1;
/// The most bytes of `rollback_info` that one record has in all its parts: what does not compress grows a little.
pub const MAX_STORED_BYTES: usize = MAX_RECORD_BYTES + (16 << 20);
/// The most rows of `undo_log` that one record is cut into.
pub const MAX_PARTS: usize = 9999;

/// All changes of one branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UndoRecord<I = Vec<Value>> {
    /// The global transaction.
    pub xid: String,
    /// The branch's number, as the coordinator gave it.
    pub branch_id: u64,
    /// The resource (server) that the branch ran on.
    pub resource: String,
    /// The changed tables; each table once.
    pub tables: Vec<TableChanges<I>>,
}

/// The changes of one table, with all of its definition that is needed to undo them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableChanges<I = Vec<Value>> {
    /// The table as it was when the branch ran.
    pub table: Table,
    /// The changed rows; each row once.
    pub rows: Vec<RowChange<I>>,
}

/// One changed row: its values before the branch's first change and as of its COMMIT. `None`: there was no row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowChange<I = Vec<Value>> {
    /// Before the branch.
    pub before: Option<I>,
    /// After the branch.
    pub after: Option<I>,
}

/// How a record is laid out in `undo_log`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Records above this many bytes of JSON are compressed; 0: none is.
    pub compress_bytes: usize,
    /// The most bytes of `rollback_info` in one row; what is longer is cut into parts.
    pub part_bytes: usize,
}

impl Layout {
    /// One row, not compressed, whatever the record's length.
    pub const ONE_ROW: Layout = Layout { compress_bytes: 0, part_bytes: usize::MAX };
}

/// A row of `undo_log` that holds a record or one of its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// The column `context`: format, encoding, checksum and lengths; at most 128 characters.
    pub context: String,
    /// The column `rollback_info`.
    pub rollback_info: Vec<u8>,
}

/// A record cannot be written, or what was read is not a whole record. Never ignored: a branch whose record does not
/// decode needs an operator.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RecordError {
    /// The context is not understood: another version or encoding, or damage.
    #[error("the context {context:?} is not understood: {reason}")]
    Context {
        /// What was read, cut to 128 characters.
        context: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The record has another length than its context says.
    #[error("the record has {got} bytes, its context says {expected}")]
    Length {
        /// Bytes by the context.
        expected: usize,
        /// Bytes that are there.
        got: usize,
    },
    /// The record's bytes are not those that were written.
    #[error("the record's CRC-32 is {got:08x}, its context says {expected:08x}")]
    Checksum {
        /// By the context.
        expected: u32,
        /// Of the bytes.
        got: u32,
    },
    /// The record is not of the documented structure.
    #[error("the record is malformed: {0}")]
    Malformed(String),
    /// Parts are missing, too many, or those of another record.
    #[error("the parts of the record are not whole: {0}")]
    Parts(String),
    /// The record would need more than [`MAX_PARTS`] rows, or than the column `xid` can number after a long XID.
    #[error("the record needs {got} rows of {part_bytes} bytes, the limit is {limit}")]
    TooManyParts {
        /// Rows needed.
        got: usize,
        /// The limit.
        limit: usize,
        /// What one row may hold, in bytes.
        part_bytes: usize,
    },
    /// The record would be longer than [`MAX_RECORD_BYTES`].
    #[error("the record has {got} bytes, the limit is {limit}")]
    TooLarge {
        /// Its length in bytes.
        got: usize,
        /// The limit in bytes.
        limit: usize,
    },
}

fn malformed(reason: impl Into<String>) -> RecordError {
    RecordError::Malformed(reason.into())
}

impl<I: Values> UndoRecord<I> {
    /// The record in one row, as it is. Fails where the record is inconsistent or over [`MAX_RECORD_BYTES`].
    pub fn encode(&self) -> Result<Encoded, RecordError> {
        let row = self.encode_rows(Layout::ONE_ROW)?.pop();
        row.ok_or_else(|| RecordError::Parts("there is no first part".into()))
    }

    /// The rows that hold the record, in the order of its parts: format 1 where it is one row that is not compressed,
    /// else format 2. The text is compressed while it is made, and never as a whole in memory.
    ///
    /// # Errors
    /// The record is inconsistent, over [`MAX_RECORD_BYTES`], or would need more than [`MAX_PARTS`] rows.
    pub fn encode_rows(&self, layout: Layout) -> Result<Vec<Encoded>, RecordError> {
        self.check()?;
        let out = RecordOut {
            format: FORMAT,
            version: VERSION,
            xid: &self.xid,
            branch_id: self.branch_id,
            resource: &self.resource,
            tables: TablesOut(&self.tables),
        };
        let mut writer = RowWriter::new(layout);
        if let Err(error) = serde_json::to_writer(&mut writer, &out) {
            return Err(match writer.excess() {
                Some(got) => RecordError::TooLarge { got, limit: MAX_RECORD_BYTES },
                None => malformed(error.to_string()),
            });
        }
        writer.finish(undo_log::parts_for(&self.xid))
    }

    /// What must hold of every record, written or read.
    fn check(&self) -> Result<(), RecordError> {
        if self.xid.is_empty() || self.xid.len() > 128 {
            return Err(malformed("the XID must have 1 to 128 characters"));
        }
        if i64::try_from(self.branch_id).is_err() {
            return Err(malformed("the branch id is beyond BIGINT"));
        }
        let mut names = HashSet::new();
        for changes in &self.tables {
            if !names.insert((&changes.table.schema, &changes.table.name)) {
                return Err(malformed(format!("table {} is there twice", changes.table.quoted())));
            }
            check_table(changes)?;
        }
        Ok(())
    }
}

impl UndoRecord {
    /// How many rows hold the record whose first row has this context.
    ///
    /// # Errors
    /// The context is not understood.
    pub fn parts(context: &str) -> Result<usize, RecordError> {
        stored::parts_of(context)
    }

    /// The length of the JSON text of the record whose first row has this context, in bytes.
    ///
    /// # Errors
    /// The context is not understood.
    pub fn json_bytes(context: &str) -> Result<usize, RecordError> {
        stored::json_bytes_of(context)
    }

    /// Reads a record of one row back from the columns `context` and `rollback_info`.
    pub fn decode(context: &str, rollback_info: &[u8]) -> Result<UndoRecord, RecordError> {
        let row = Encoded { context: context.to_owned(), rollback_info: rollback_info.to_vec() };
        UndoRecord::decode_rows(vec![row])
    }

    /// Reads a record back from its rows, which must be all of them, in the order of the parts.
    pub fn decode_rows(rows: Vec<Encoded>) -> Result<UndoRecord, RecordError> {
        let UndoRecord { xid, branch_id, resource, tables } = UndoRecord::decode_images(rows)?;
        let unpacked = |image: Option<Image>| image.map(|image| image.to_values());
        let row =
            |row: RowChange<Image>| RowChange { before: unpacked(row.before), after: unpacked(row.after) };
        let table = |changes: TableChanges<Image>| TableChanges {
            table: changes.table,
            rows: changes.rows.into_iter().map(row).collect(),
        };
        Ok(UndoRecord { xid, branch_id, resource, tables: tables.into_iter().map(table).collect() })
    }
}

impl UndoRecord<Image> {
    /// The same, with its images packed.
    pub fn decode_images(rows: Vec<Encoded>) -> Result<UndoRecord<Image>, RecordError> {
        let read: RecordIn = stored::read_rows(rows, |text| {
            match text {
                Text::Slice(slice) => serde_json::from_slice(slice),
                Text::Reader(reader) => serde_json::from_reader(reader),
            }
            .map_err(|e| malformed(e.to_string()))
        })?;
        if read.format != FORMAT || read.version != VERSION {
            return Err(malformed(format!("format {:?} version {}", read.format, read.version)));
        }
        let tables = read.tables.into_iter().map(table_in).collect::<Result<Vec<_>, _>>()?;
        let record = UndoRecord { xid: read.xid, branch_id: read.branch_id, resource: read.resource, tables };
        record.check()?;
        Ok(record)
    }
}

fn check_table<I: Values>(changes: &TableChanges<I>) -> Result<(), RecordError> {
    let table = &changes.table;
    let wrong = |what: &str| Err(malformed(format!("table {}: {what}", table.quoted())));
    let mut columns = HashSet::new();
    if !table.columns.iter().all(|c| columns.insert(c.name.as_str())) {
        return wrong("a column is there twice");
    }
    if table.columns.iter().any(|c| c.charset.as_deref().is_some_and(|n| !charset::is_charset_name(n))) {
        return wrong("a charset's name is malformed");
    }
    let Some(primary) = table.keys.first() else {
        return wrong("there is no key");
    };
    if table.keys.iter().any(|k| k.columns.is_empty() || k.columns.iter().any(|&c| c >= table.columns.len()))
    {
        return wrong("a key has no columns, or one that is not there");
    }
    let mut keys = HashSet::new();
    for row in &changes.rows {
        if row.before.is_none() && row.after.is_none() {
            return wrong("a row has no image");
        }
        let [before, after] = [&row.before, &row.after].map(|image| image.as_ref().map(Values::values));
        for values in before.iter().chain(&after) {
            if values.len() != table.columns.len() {
                return wrong("an image has another number of values than there are columns");
            }
            if primary.columns.iter().any(|&c| values.get(c).is_none_or(|v| *v == Value::Null)) {
                return wrong("a key value is NULL");
            }
            if let Some((column, _)) =
                table.columns.iter().zip(values.iter()).find(|(column, value)| !fits(column, value))
            {
                return wrong(&format!("a value of column `{}` is not of its kind", column.name));
            }
        }
        if before.or(after).is_some_and(|values| !keys.insert(table.key_of(&values))) {
            return wrong("a row is there twice");
        }
    }
    Ok(())
}

/// Whether a value is of the variant that its column's kind uses.
fn fits(column: &Column, value: &Value) -> bool {
    match (value, column.kind) {
        (Value::Null, _) => column.nullable || column.generated,
        (Value::Int(n), Kind::Int | Kind::Bit | Kind::Year) => fits_json(*n),
        (Value::Int(n), Kind::Enum | Kind::Set) => column.by_number() && fits_json(*n),
        (Value::Int(_), _) => false,
        (Value::Document(_), kind) => kind == Kind::Document,
        (Value::Bytes(_), Kind::Binary | Kind::Geometry | Kind::Vector) => true,
        (Value::Bytes(_), kind) => kind.has_charset(),
        (Value::Text(_), Kind::Enum | Kind::Set) => !column.by_number(),
        (
            Value::Text(_),
            Kind::Int | Kind::Bit | Kind::Year | Kind::Binary | Kind::Geometry | Kind::Vector,
        ) => false,
        (Value::Text(_), _) => true,
    }
}

/// Integers of any column fit 64 bits, signed or unsigned; so JSON numbers hold them.
fn fits_json(n: i128) -> bool {
    i64::try_from(n).is_ok() || u64::try_from(n).is_ok()
}

/// A value as the record shows it; for reports.
pub(crate) fn cell_json(value: &Value) -> serde_json::Value {
    serde_json::to_value(cells::Cell(value)).unwrap_or(serde_json::Value::Null)
}
