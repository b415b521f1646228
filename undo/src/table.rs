//! What is known of a table, and the SQL that reads its rows exactly.

use std::collections::HashMap;

use crate::charset;
use crate::document::{self, Document};
use crate::image::{ImageError, Key, Row, Value};
use crate::kind::Kind;
use crate::literal::{self, Session};
use crate::lock_key;
use crate::temporal;

/// A table whose rows can be imaged and restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// The schema's name, as the server spells it.
    pub schema: String,
    /// The table's name, as the server spells it.
    pub name: String,
    /// All columns in the table's order, invisible and generated ones too.
    pub columns: Vec<Column>,
    /// `keys[0]` identifies rows: PRIMARY, or a unique key without nullable columns. The others are further unique
    /// keys.
    pub keys: Vec<UniqueKey>,
}

/// A unique key.
#[derive(Clone, Debug)]
pub struct UniqueKey {
    /// `PRIMARY` or the index's name.
    pub name: String,
    /// Indices into [`Table::columns`], in the order of the index.
    pub columns: Vec<usize>,
    /// For each part the length that is indexed (`information_schema.STATISTICS.SUB_PART`: characters, bytes for
    /// binary types), `None` for the whole column. May be shorter than `columns`: the rest is whole.
    pub prefixes: Vec<Option<u32>>,
}

impl PartialEq for UniqueKey {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
            && self.columns == other.columns
            && (0..self.columns.len()).all(|part| self.prefix(part) == other.prefix(part))
    }
}

impl Eq for UniqueKey {}

impl UniqueKey {
    /// The index hint that makes a server find rows by this key: `` FORCE INDEX (`PRIMARY`)``, with a blank before it.
    pub fn force(&self) -> String {
        format!(" FORCE INDEX ({})", quote_identifier(&self.name))
    }

    pub(crate) fn prefix(&self, part: usize) -> Option<u32> {
        self.prefixes.get(part).copied().flatten()
    }
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name, as the server spells it.
    pub name: String,
    /// How its values are read and written.
    pub kind: Kind,
    /// `information_schema.COLUMNS.COLUMN_TYPE`.
    pub column_type: String,
    /// `CHARACTER_SET_NAME`, for strings.
    pub charset: Option<String>,
    /// `COLLATION_NAME`, for strings.
    pub collation: Option<String>,
    /// Whether it may be NULL.
    pub nullable: bool,
    /// Computed by the server: imaged, never assigned.
    pub generated: bool,
    /// Whether the server fills it with rising numbers.
    pub auto_increment: bool,
}

/// The name as an SQL identifier: `` `a``b` ``.
pub fn quote_identifier(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

impl Column {
    /// An ENUM or SET with an empty member: '' would be ambiguous (the error value, the empty set), so it is read and
    /// written by number.
    pub(crate) fn by_number(&self) -> bool {
        matches!(self.kind, Kind::Enum | Kind::Set) && has_empty_member(&self.column_type)
    }

    /// Whether the column may hold a value that was computed for it: bytes that are no text in its charset it never
    /// does.
    pub fn may_hold(&self, value: &Value) -> bool {
        let known = || self.charset.as_deref().is_some_and(|charset| charset::decodable(charset).is_some());
        !(self.kind.has_charset() && matches!(value, Value::Bytes(_)) && known())
    }

    /// The condition under which this column, of the qualified name, has the same value as another of its type, as a
    /// foreign key compares them. A server that looks up the error value of an ENUM by its text finds the empty member.
    pub fn same(&self, name: &str, other: &str) -> String {
        if self.by_number() { format!("{name}+0 = {other}+0") } else { format!("{name} = {other}") }
    }

    /// Whether it may be NULL: a generated one whatever it was declared.
    fn may_be_null(&self) -> bool {
        self.nullable || self.generated
    }

    /// Whether it is read by its name alone: a NULL is then the column's, and not that of a function that gives up.
    fn is_read_by_name(&self) -> bool {
        self.image_function("").is_none()
    }

    /// The expression that reads this column, of the qualified name, so that no session setting bends it.
    fn image_expression(&self, qualifier: &str) -> String {
        let name = format!("{qualifier}.{}", quote_identifier(&self.name));
        self.image_function(&name).unwrap_or(name)
    }

    /// The same where it is not the name alone.
    fn image_function(&self, name: &str) -> Option<String> {
        Some(match self.kind {
            Kind::Enum | Kind::Set if self.by_number() => format!("{name}+0"),
            // CAST AS BINARY gives NULL on MariaDB where the value is above max_allowed_packet
            Kind::Char | Kind::Text | Kind::Enum | Kind::Set => format!("CONVERT({name} USING binary)"),
            // FLOAT would be shown with six digits; FLOAT(m,d) and DOUBLE(m,d) with d decimals.
            Kind::Float | Kind::Double => format!("{name}*1e0"),
            Kind::Bit => format!("{name}+0"),
            // The stored instant: the session's time zone repeats an hour in autumn.
            Kind::Timestamp => format!("UNIX_TIMESTAMP({name})"),
            Kind::Document | Kind::Json => {
                format!("CONVERT(CAST({name} AS CHAR CHARACTER SET utf8mb4) USING binary)")
            }
            Kind::Int
            | Kind::Decimal
            | Kind::Year
            | Kind::Date
            | Kind::Time
            | Kind::DateTime
            | Kind::Binary
            | Kind::Geometry
            | Kind::Vector
            | Kind::Other => return None,
        })
    }

    fn lost(&self) -> ImageError {
        ImageError::Lost { column: self.name.clone() }
    }

    /// The document with the types of its members, as [`document::types_expression`] gives them.
    fn with_types(&self, value: Value, types: Option<&[u8]>) -> Result<Value, ImageError> {
        match (value, types) {
            (value, None) => Ok(value),
            (_, Some([])) => Err(self.lost()),
            (Value::Text(text), Some(types)) => {
                let read = std::str::from_utf8(types).ok().and_then(|types| Document::read(&text, types));
                read.map(Value::Document).ok_or_else(|| self.bad_value(types))
            }
            (_, Some(types)) => Err(self.bad_value(types)),
        }
    }

    fn bad_value(&self, cell: &[u8]) -> ImageError {
        let head = &cell[..cell.len().min(32)];
        ImageError::BadValue {
            column: self.name.clone(),
            column_type: self.column_type.clone(),
            head: String::from_utf8_lossy(head).into_owned(),
        }
    }

    /// Whether the column holds a value again when it is assigned it. A FLOAT or DOUBLE with digits after the point
    /// rounds what it is assigned; where MySQL moves values between tables it does not, so that such a column may hold
    /// -0, or more digits.
    pub fn takes_back(&self, value: &Value) -> bool {
        match (value, self.digits()) {
            (Value::Text(text), Some((all, behind))) => {
                text.parse().is_ok_and(|number| self.is_rounded(number, all, behind))
            }
            _ => true,
        }
    }

    /// How many digits a FLOAT or DOUBLE has, and how many of them after the point, where it says so.
    fn digits(&self) -> Option<(u16, u16)> {
        let of = matches!(self.kind, Kind::Float | Kind::Double).then_some(&self.column_type)?;
        let (all, behind) = of.split_once('(')?.1.split_once(')')?.0.split_once(',')?;
        Some((all.trim().parse().ok()?, behind.trim().parse().ok()?))
    }

    /// Whether a number is what the servers make of it (`Field_real::truncate`, MariaDB's `truncate_double`).
    fn is_rounded(&self, number: f64, all: u16, behind: u16) -> bool {
        let power = |n: u16| format!("1e{n}").parse().unwrap_or(f64::INFINITY);
        let unit: f64 = power(behind);
        let largest = power(all.saturating_sub(behind)) - 1.0 / unit;
        let whole = number.floor();
        let rounded = whole + ((number - whole) * unit).round_ties_even() / unit;
        #[allow(clippy::cast_possible_truncation, reason = "that is what a FLOAT holds")]
        let same = match self.kind {
            Kind::Float => (rounded as f32).to_bits() == (number as f32).to_bits(),
            _ => rounded.to_bits() == number.to_bits(),
        };
        // The largest FLOAT may be above it as it is stored
        same && rounded.abs() <= largest
    }

    /// Decodes one value of that expression, as the text protocol brings it (`None`: NULL).
    ///
    /// # Errors
    /// It is no value of this column.
    pub fn decode_cell(&self, cell: Option<&[u8]>) -> Result<Value, ImageError> {
        let Some(bytes) = cell else {
            return if self.may_be_null() {
                Ok(Value::Null)
            } else if self.is_read_by_name() {
                Err(ImageError::UnexpectedNull { column: self.name.clone() })
            } else {
                Err(self.lost())
            };
        };
        let bad = || self.bad_value(bytes);
        let ascii = || std::str::from_utf8(bytes).map_err(|_| bad());
        let int = || ascii()?.parse::<i128>().map(Value::Int).map_err(|_| bad());
        match self.kind {
            Kind::Int | Kind::Bit | Kind::Year => int(),
            Kind::Enum | Kind::Set if self.by_number() => int(),
            Kind::Decimal | Kind::Float | Kind::Double => {
                let text = ascii()?;
                let exponent = self.kind != Kind::Decimal;
                literal::is_number(text, exponent).then(|| Value::Text(text.to_owned())).ok_or_else(bad)
            }
            Kind::Date | Kind::Time | Kind::DateTime => {
                let text = ascii()?;
                temporal::is_temporal_text(text).then(|| Value::Text(text.to_owned())).ok_or_else(bad)
            }
            Kind::Timestamp => temporal::unix_to_utc(ascii()?).map(Value::Text).ok_or_else(bad),
            Kind::Char | Kind::Text | Kind::Enum | Kind::Set => {
                let charset = self.charset.as_deref().unwrap_or("");
                // PAD_CHAR_TO_FULL_LENGTH adds spaces that are no part of the value.
                let bytes = if self.kind == Kind::Char { charset::strip_pad(charset, bytes) } else { bytes };
                Ok(match charset::decode(charset, bytes) {
                    Some(text) => Value::Text(text),
                    None => Value::Bytes(bytes.to_vec()),
                })
            }
            // No document has an empty text: MySQL gives it for one above max_allowed_packet
            Kind::Document | Kind::Json if bytes.is_empty() => Err(self.lost()),
            Kind::Document | Kind::Json => ascii().map(|text| Value::Text(text.to_owned())),
            Kind::Other => {
                let text = ascii()?;
                literal::is_address(text).then(|| Value::Text(text.to_owned())).ok_or_else(bad)
            }
            Kind::Binary | Kind::Geometry | Kind::Vector => Ok(Value::Bytes(bytes.to_vec())),
        }
    }
}

/// How many columns a number says of whether they are NULL.
const NULLS_PER_NUMBER: usize = 32;

/// Whether `enum('','a')` has the empty member.
fn has_empty_member(column_type: &str) -> bool {
    let Some((_, list)) = column_type.split_once('(') else { return false };
    let mut rest = list.as_bytes();
    while let Some(start) = rest.iter().position(|b| *b == b'\'') {
        rest = &rest[start + 1..];
        let mut length = 0;
        loop {
            match (rest.first(), rest.get(1)) {
                (Some(b'\''), Some(b'\'')) => {
                    length += 1;
                    rest = &rest[2..];
                }
                (Some(b'\''), _) => {
                    rest = &rest[1..];
                    break;
                }
                (Some(_), _) => {
                    length += 1;
                    rest = &rest[1..];
                }
                (None, _) => return false,
            }
        }
        if length == 0 {
            return true;
        }
    }
    false
}

impl Table {
    /// Whether a key has a column of a charset of which MySQL warns that it is going out of use.
    pub fn has_deprecated_charset(&self) -> bool {
        let charset = |&c: &usize| self.columns.get(c)?.charset.as_deref();
        let mut charsets = self.keys.iter().flat_map(|key| &key.columns).filter_map(charset);
        charsets.any(|charset| {
            matches!(charset, "utf8mb3" | "utf8" | "ucs2" | "macroman" | "macce" | "dec8" | "hp8")
        })
    }

    /// `` `schema`.`name` ``.
    pub fn quoted(&self) -> String {
        format!("{}.{}", quote_identifier(&self.schema), quote_identifier(&self.name))
    }

    /// [`UniqueKey::force`] of the key that identifies rows. Nothing where there is no key.
    pub fn force_key(&self) -> String {
        self.keys.first().map_or_else(String::new, UniqueKey::force)
    }

    /// The select list that reads a full row so that no session setting bends it: the columns; for each document the
    /// types that its text does not tell; numbers whose bits say which columns are NULL that are read by a function;
    /// and one expression for each collated key part. Column references are qualified with `qualifier`, an alias or a
    /// quoted table, as it is.
    pub fn image_select_list(&self, qualifier: &str) -> String {
        let name = |column: &Column| format!("{qualifier}.{}", quote_identifier(&column.name));
        let columns = self.columns.iter().map(|c| c.image_expression(qualifier));
        let types = self.documents().map(|(_, column)| document::types_expression(&name(column)));
        let flagged: Vec<&Column> = self.flagged_columns().map(|(_, column)| column).collect();
        let bits = |group: &[&Column]| {
            let bit = |(at, column): (usize, &&Column)| format!("(({} IS NULL)<<{at})", name(column));
            group.iter().enumerate().map(bit).collect::<Vec<_>>().join("|")
        };
        let nulls: Vec<String> = flagged.chunks(NULLS_PER_NUMBER).map(bits).collect();
        let weights = self.weighted_parts().map(|(column, prefix)| {
            column.weight_expression(&format!("{qualifier}.{}", quote_identifier(&column.name)), prefix)
        });
        columns.chain(types).chain(nulls).chain(weights).collect::<Vec<_>>().join(",")
    }

    /// How many columns that list has.
    pub fn image_width(&self) -> usize {
        self.columns.len()
            + self.documents().count()
            + self.flagged_columns().count().div_ceil(NULLS_PER_NUMBER)
            + self.weighted_parts().count()
    }

    fn documents(&self) -> impl Iterator<Item = (usize, &Column)> {
        self.columns.iter().enumerate().filter(|(_, column)| column.kind == Kind::Document)
    }

    /// The columns for which a flag beside the value says whether they are NULL.
    fn flagged_columns(&self) -> impl Iterator<Item = (usize, &Column)> {
        let columns = self.columns.iter().enumerate();
        columns.filter(|(_, column)| column.may_be_null() && !column.is_read_by_name())
    }

    /// Which of the flagged columns are NULL.
    fn nulls(&self, numbers: &[Option<&[u8]>]) -> Result<HashMap<usize, bool>, ImageError> {
        let numbers: Vec<Option<u64>> =
            numbers.iter().map(|cell| std::str::from_utf8((*cell)?).ok()?.parse().ok()).collect();
        let flags = self.flagged_columns().enumerate().map(|(nth, (at, column))| {
            let number = numbers.get(nth / NULLS_PER_NUMBER).copied().flatten();
            let number = number.ok_or_else(|| ImageError::NoNulls { column: column.name.clone() })?;
            Ok((at, number >> (nth % NULLS_PER_NUMBER) & 1 == 1))
        });
        flags.collect()
    }

    fn weighted_parts(&self) -> impl Iterator<Item = (&Column, Option<u32>)> {
        self.keys.iter().flat_map(move |key| {
            key.columns.iter().enumerate().filter_map(move |(part, &index)| {
                let column = self.columns.get(index)?;
                column.needs_weight().then_some((column, key.prefix(part)))
            })
        })
    }

    /// Decodes one row of that list, as the text protocol brings it (`None`: NULL).
    pub fn decode_row(&self, cells: &[Option<&[u8]>]) -> Result<Row, ImageError> {
        let expected = self.image_width();
        if cells.len() != expected {
            return Err(ImageError::Width { expected, got: cells.len() });
        }
        let (columns, rest) = cells.split_at(self.columns.len());
        let (types, rest) = rest.split_at(self.documents().count());
        let (nulls, weights) = rest.split_at(rest.len() - self.weighted_parts().count());
        let nulls = self.nulls(nulls)?;
        let mut types = types.iter();
        let mut values = Vec::with_capacity(self.columns.len());
        for (at, (column, cell)) in self.columns.iter().zip(columns).enumerate() {
            let mut value = match (nulls.get(&at), cell) {
                (Some(false), None) => return Err(column.lost()),
                (Some(true), Some(cell)) => return Err(column.bad_value(cell)),
                _ => column.decode_cell(*cell)?,
            };
            if column.kind == Kind::Document {
                value = column.with_types(value, types.next().copied().flatten())?;
            }
            values.push(value);
        }
        let lock_keys = lock_key::lock_keys(self, &values, weights.iter().copied())?;
        Ok(Row::of(&values, lock_keys))
    }

    /// The key of a full row of values; a column that is not there counts as NULL.
    pub fn key_of(&self, values: &[Value]) -> Key {
        let columns = self.keys.first().map(|key| key.columns.as_slice()).unwrap_or_default();
        Key(columns.iter().map(|&c| values.get(c).cloned().unwrap_or(Value::Null)).collect())
    }

    /// Whether two images of a row differ in a column of a unique key; one over a generated column changes with it.
    pub fn changes_key(&self, before: &[Value], after: &[Value]) -> bool {
        self.keys.iter().flat_map(|key| &key.columns).any(|&c| before.get(c) != after.get(c))
    }

    /// A condition, in parentheses, that holds for exactly the rows with these keys: `(q.a IN (1,2))`,
    /// `((q.a,q.b) IN ((1,2),(3,4)))` or `((q.a = 1 AND q.b = 2) OR …)`. It means the same under every SQL mode,
    /// charset and time zone. Without keys it holds for no row.
    pub fn keys_predicate(&self, qualifier: &str, keys: &[Key]) -> String {
        self.predicate(&format!("{qualifier}."), keys, Session::Any)
    }

    /// The same for the session of [`crate::session_setup`].
    pub(crate) fn predicate(&self, prefix: &str, keys: &[Key], session: Session) -> String {
        let columns = self.keys.first().map(|key| key.columns.as_slice()).unwrap_or_default();
        if keys.is_empty() || columns.is_empty() {
            return "(1 = 0)".to_owned();
        }
        if let [only] = columns
            && let Some(column) = self.columns.get(*only)
        {
            let plain: Option<Vec<String>> =
                keys.iter().map(|key| literal::plain_operand(column, key.0.first()?, session)).collect();
            if let Some(plain) = plain {
                let name = format!("{prefix}{}", quote_identifier(&column.name));
                return match plain.as_slice() {
                    [one] => format!("({name} = {one})"),
                    many => format!("({name} IN ({}))", many.join(",")),
                };
            }
        }
        if keys.len() > 1
            && let Some(rows) = self.rows_predicate(prefix, keys, session)
        {
            return rows;
        }
        let terms: Vec<String> = keys
            .iter()
            .map(|key| {
                let parts: Vec<String> = columns
                    .iter()
                    .zip(&key.0)
                    .filter_map(|(&index, value)| {
                        let column = self.columns.get(index)?;
                        let name = format!("{prefix}{}", quote_identifier(&column.name));
                        Some(literal::equals(column, &name, value, session))
                    })
                    .collect();
                // A key that is too short must not match more rows.
                if parts.len() == columns.len() {
                    format!("({})", parts.join(" AND "))
                } else {
                    "(1 = 0)".into()
                }
            })
            .collect();
        format!("({})", terms.join(" OR "))
    }

    /// That of keys of several columns as rows, which servers find in time proportional to their number; `None` where a
    /// value cannot stand in a row.
    fn rows_predicate(&self, prefix: &str, keys: &[Key], session: Session) -> Option<String> {
        let columns: Vec<&Column> =
            self.keys.first()?.columns.iter().map(|&c| self.columns.get(c)).collect::<Option<_>>()?;
        if columns.len() < 2 {
            return None;
        }
        let names: Vec<String> =
            columns.iter().map(|column| format!("{prefix}{}", quote_identifier(&column.name))).collect();
        let mut out = format!("(({}) IN (", names.join(","));
        for (nth, key) in keys.iter().enumerate() {
            if key.0.len() != columns.len() {
                return None;
            }
            out.push_str(if nth == 0 { "(" } else { ",(" });
            for (part, (column, value)) in columns.iter().zip(&key.0).enumerate() {
                if part > 0 {
                    out.push(',');
                }
                out.push_str(&literal::row_operand(column, value, session)?);
            }
            out.push(')');
        }
        out.push_str("))");
        Some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_a_column_rounds() {
        let column = |kind, column_type: &str| Column {
            name: "v".into(),
            kind,
            column_type: column_type.into(),
            nullable: true,
            generated: false,
            auto_increment: false,
            charset: None,
            collation: None,
        };
        let takes = |column: &Column, text: &str| column.takes_back(&Value::Text(text.into()));
        let money = column(Kind::Double, "double(12,3) unsigned");
        for text in ["0", "0.1", "123456789.123", "999999999.999", "-7.125", "16777217"] {
            assert!(takes(&money, text), "{text}");
        }
        for text in ["-0", "-0.0001", "0.12345", "1e9", "1e300"] {
            assert!(!takes(&money, text), "{text}");
        }
        let short = column(Kind::Float, "float(7,2)");
        for text in ["12345.669921875", "0.10000000149011612", "99999.9921875", "-99999.9921875"] {
            assert!(takes(&short, text), "{text}");
        }
        assert!(!takes(&short, "100000"));
        assert!(!takes(&short, "-0") && !takes(&short, "0.0010000000474974513"));
        for (kind, of) in
            [(Kind::Double, "double"), (Kind::Float, "float unsigned"), (Kind::Decimal, "decimal(12,3)")]
        {
            assert!(takes(&column(kind, of), "-0") && takes(&column(kind, of), "0.00001"), "{of}");
        }
        assert!(money.takes_back(&Value::Null));
    }
}
