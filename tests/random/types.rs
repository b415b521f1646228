//! Column types: how they are declared, what values they get, and how their values are shown to the bit.

use atone_tests::Flavor;
use mysql_async::Value;

use crate::known;
use crate::rng::Rng;

/// What decides over a type's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    Int,
    Float,
    Decimal,
    Bit,
    Year,
    Date,
    Time,
    DateTime,
    Timestamp,
    Text,
    Binary,
    Enum,
    Set,
    Json,
    Geometry,
    Inet6,
    Inet4,
    Uuid,
    Vector,
}

/// A column's type.
#[derive(Clone, Debug)]
pub(crate) struct Type {
    pub(crate) sql: String,
    pub(crate) class: Class,
    /// A TEXT or BLOB: needs a length in an index, and takes no default.
    pub(crate) large: bool,
}

/// How a session reads literals.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mode {
    pub(crate) no_backslash_escapes: bool,
    pub(crate) ansi_quotes: bool,
    /// Texts have `;` in them.
    pub(crate) semicolons: bool,
    /// `max_allowed_packet`, where texts are to come near it, in bytes.
    pub(crate) packet: Option<usize>,
}

const INTS: &[&str] = &[
    "TINYINT",
    "TINYINT(1)",
    "TINYINT UNSIGNED",
    "SMALLINT",
    "SMALLINT UNSIGNED",
    "MEDIUMINT",
    "INT",
    "INT UNSIGNED",
    "BIGINT",
    "BIGINT UNSIGNED",
    "INT(7) UNSIGNED ZEROFILL",
    "MEDIUMINT UNSIGNED",
];
const FLOATS: &[&str] = &["FLOAT", "DOUBLE", "FLOAT(7,2)", "DOUBLE(12,3)", "FLOAT UNSIGNED"];
const DECIMALS: &[&str] = &["DECIMAL(10,2)", "DECIMAL(65,30)", "DECIMAL(5,0)", "DECIMAL(8,3) UNSIGNED"];
const BITS: &[&str] = &["BIT(1)", "BIT(13)", "BIT(64)"];
const TIMES: &[&str] = &["TIME", "TIME(3)", "TIME(6)"];
const DATETIMES: &[&str] = &["DATETIME", "DATETIME(2)", "DATETIME(6)"];
const TIMESTAMPS: &[&str] = &["TIMESTAMP", "TIMESTAMP(3)", "TIMESTAMP(6)"];
const BINARIES: &[&str] = &["BINARY(4)", "VARBINARY(12)", "BINARY(1)", "VARBINARY(300)"];
const BLOBS: &[&str] = &["TINYBLOB", "BLOB", "MEDIUMBLOB", "LONGBLOB"];
const TEXTS: &[&str] = &["TINYTEXT", "TEXT", "MEDIUMTEXT", "LONGTEXT"];
const ENUMS: &[&str] = &["ENUM('a','B','it''s','')", "ENUM('x','y','z')", "ENUM('1','2','0')"];
const SETS: &[&str] = &["SET('x','y','z')", "SET('a','')"];

const CHARSETS: &[&str] = &[
    "",
    "",
    "CHARACTER SET utf8mb4",
    "CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
    "CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci",
    "CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci",
    "CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_520_ci",
    "CHARACTER SET latin1",
    "CHARACTER SET latin1 COLLATE latin1_bin",
    "CHARACTER SET latin1 COLLATE latin1_german2_ci",
    "CHARACTER SET ascii",
    "CHARACTER SET utf8mb3",
    "CHARACTER SET utf16",
    "CHARACTER SET utf32",
    "CHARACTER SET ucs2",
    "CHARACTER SET utf16le",
    "CHARACTER SET sjis",
    "CHARACTER SET cp932",
    "CHARACTER SET gbk",
    "CHARACTER SET big5",
    "CHARACTER SET ujis",
    "CHARACTER SET euckr",
    "CHARACTER SET cp1251",
    "CHARACTER SET koi8r",
    "CHARACTER SET latin2",
    "CHARACTER SET tis620",
    "CHARACTER SET binary",
];
const MYSQL_CHARSETS: &[&str] = &[
    "CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_ai_ci",
    "CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_as_cs",
    "CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin",
    "CHARACTER SET gb18030",
];
const MARIADB_CHARSETS: &[&str] = &[
    "CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin",
    "CHARACTER SET latin1 COLLATE latin1_swedish_nopad_ci",
    "CHARACTER SET utf8mb4 COLLATE utf8mb4_uca1400_ai_ci",
];

impl Type {
    fn new(sql: impl Into<String>, class: Class) -> Self {
        let sql = sql.into();
        let large = sql.contains("BLOB") || sql.contains("TEXT");
        Self { sql, class, large }
    }

    fn charset(flavor: Flavor, rng: &mut Rng) -> &'static str {
        let own = if flavor == Flavor::MySql { MYSQL_CHARSETS } else { MARIADB_CHARSETS };
        if rng.percent(25) { rng.pick::<&str>(own) } else { rng.pick::<&str>(CHARSETS) }
    }

    /// CHAR or VARCHAR of this length.
    pub(crate) fn string(flavor: Flavor, rng: &mut Rng, word: &str, length: usize) -> Self {
        Self::new(format!("{word}({length}) {}", Self::charset(flavor, rng)), Class::Text)
    }

    /// Any type.
    pub(crate) fn any(flavor: Flavor, rng: &mut Rng) -> Self {
        match rng.below(if flavor == Flavor::MariaDb { 23 } else { 22 }) {
            0..=3 => Self::new(*rng.pick(INTS), Class::Int),
            4 => Self::new(*rng.pick(FLOATS), Class::Float),
            5 => Self::new(*rng.pick(DECIMALS), Class::Decimal),
            6 => Self::new(*rng.pick(BITS), Class::Bit),
            7 => Self::new("YEAR", Class::Year),
            8 => Self::new("DATE", Class::Date),
            9 => Self::new(*rng.pick(TIMES), Class::Time),
            10 => Self::new(*rng.pick(DATETIMES), Class::DateTime),
            11 | 12 => Self::new(*rng.pick(TIMESTAMPS), Class::Timestamp),
            13 => Self::string(flavor, rng, "CHAR", 6),
            14 | 15 => Self::string(flavor, rng, "VARCHAR", 20),
            16 => {
                let text = *rng.pick(TEXTS);
                let charset = Self::charset(flavor, rng);
                Self::new(format!("{text} {charset}"), Class::Text)
            }
            17 => Self::new(*rng.pick(BINARIES), Class::Binary),
            18 => Self::new(*rng.pick(BLOBS), Class::Binary),
            19 => Self::new(*rng.pick(ENUMS), Class::Enum),
            20 => Self::new(*rng.pick(SETS), Class::Set),
            21 => match (flavor, rng.below(3)) {
                (_, 0) => Self::new("JSON", Class::Json),
                (Flavor::MySql, 1) => Self::new("VECTOR(3)", Class::Vector),
                _ => Self::new(*rng.pick(&["GEOMETRY", "POINT"]), Class::Geometry),
            },
            _ => match rng.below(3) {
                0 => Self::new("INET6", Class::Inet6),
                1 => Self::new("INET4", Class::Inet4),
                _ => Self::new("UUID", Class::Uuid),
            },
        }
    }

    /// A type that can be a part of a key as a whole.
    pub(crate) fn for_key(flavor: Flavor, rng: &mut Rng) -> Self {
        loop {
            let candidate = match rng.below(5) {
                0 => Self::new("INT", Class::Int),
                1 => Self::string(flavor, rng, "VARCHAR", 12),
                _ => Self::any(flavor, rng),
            };
            let fits = !candidate.large
                && !matches!(candidate.class, Class::Json | Class::Geometry | Class::Vector)
                && !candidate.sql.contains("(300)");
            if fits {
                return candidate;
            }
        }
    }

    /// An expression that shows the column to the bit, whatever the session's settings are.
    pub(crate) fn exact(&self, quoted: &str) -> String {
        match self.class {
            Class::Float => format!("CAST({quoted} * 1e0 AS CHAR)"),
            Class::Timestamp => format!("UNIX_TIMESTAMP({quoted})"),
            Class::Int | Class::Decimal | Class::Bit | Class::Year => format!("{quoted} + 0"),
            Class::Enum | Class::Set => format!("CONCAT({quoted} + 0, ':', HEX({quoted}))"),
            Class::Json => format!("HEX(CAST({quoted} AS CHAR CHARACTER SET utf8mb4))"),
            _ => format!("HEX({quoted})"),
        }
    }

    /// Whether a number can be added to it.
    pub(crate) fn counts(&self) -> bool {
        matches!(self.class, Class::Int | Class::Float | Class::Decimal | Class::Year)
    }

    /// A literal that the column can hold, most of the time.
    pub(crate) fn literal(&self, rng: &mut Rng, mode: Mode) -> String {
        if rng.percent(2) {
            return wild(rng, mode);
        }
        match self.class {
            Class::Text => text_literal(rng, mode, rng_word),
            Class::Binary => match rng.below(3) {
                0 => quote(rng, mode, "b'\\ "),
                1 => format!("0x{}", hex(&bytes(rng))),
                _ => format!("X'{}'", hex(&bytes(rng))),
            },
            Class::Json => {
                let text = *rng.pick(JSON);
                quote(rng, mode, text)
            }
            Class::Geometry => (*rng.pick(GEOMETRY)).to_owned(),
            Class::Vector => {
                (*rng.pick(&["STRING_TO_VECTOR('[1,2,3]')", "STRING_TO_VECTOR('[0.1,-2,3e5]')"])).to_owned()
            }
            _ => (*rng.pick(self.samples())).to_owned(),
        }
    }

    /// A literal for a key column: from few values, in several spellings, so that keys meet.
    pub(crate) fn key_literal(&self, rng: &mut Rng, mode: Mode) -> String {
        match self.class {
            Class::Text => text_literal(rng, mode, rng_key_word),
            Class::Int => {
                if rng.percent(10) {
                    (*rng.pick(self.samples())).to_owned()
                } else {
                    let n = rng.between(1, 12);
                    if rng.percent(5) { format!("'{n}'") } else { n.to_string() }
                }
            }
            _ => self.literal(rng, mode),
        }
    }

    /// A literal of the column's own kind: comparing it converts nothing that could fail.
    pub(crate) fn plain_literal(&self, rng: &mut Rng, mode: Mode, key: bool) -> String {
        match self.class {
            Class::Text => {
                let text = if key { rng_key_word(rng) } else { rng_word(rng) };
                quote(rng, mode, text)
            }
            Class::Int if key => rng.between(1, 12).to_string(),
            // 100 is no year
            Class::Year => (*rng.pick(&["0", "1", "24", "1901", "2024", "2155"])).to_owned(),
            Class::Int | Class::Bit | Class::Enum | Class::Set => {
                (*rng.pick(&["0", "1", "2", "3", "5", "100"])).to_owned()
            }
            Class::Float | Class::Decimal => (*rng.pick(&["0", "1.5", "0.25", "-1", "99"])).to_owned(),
            Class::Json | Class::Vector | Class::Geometry => "NULL".to_owned(),
            Class::Binary => format!("X'{}'", hex(&bytes(rng))),
            _ => {
                // Dates as texts only: MySQL reads a list of texts and numbers otherwise in a SELECT than in an UPDATE
                let number = |s: &&str| s.bytes().all(|b| b.is_ascii_digit());
                let texts: Vec<&str> = self.samples().iter().copied().filter(|s| !number(s)).collect();
                (*rng.pick(&texts)).to_owned()
            }
        }
    }

    /// Whether a parameter compares with the column as a literal of its own kind would.
    pub(crate) fn compares_as_parameter(&self) -> bool {
        !matches!(self.class, Class::Json | Class::Vector | Class::Geometry | Class::Decimal)
    }

    fn samples(&self) -> &'static [&'static str] {
        match self.class {
            Class::Int if self.sql.contains("UNSIGNED") => {
                &["0", "1", "2", "3", "5", "100", "127", "200", "'4'"]
            }
            Class::Int => &["0", "1", "2", "3", "-1", "-5", "100", "127", "-128", "'4'", "2.0"],
            Class::Float => &["0", "1.5", "0.1", "16777217", "-0e0", "3.25e3", "1e-3", "-7.125"],
            Class::Decimal => &["0", "1.5", "0.25", "-1", "99", "12.345", "7", "0.01"],
            Class::Bit => &["0", "1", "b'1'", "b'0'"],
            Class::Year => &["0000", "1901", "2155", "2024", "'70'"],
            Class::Date => {
                &["'1000-01-01'", "'9999-12-31'", "'2024-02-29'", "20240310", "'2024-1-5'", "CURRENT_DATE"]
            }
            Class::Time => &[
                "'838:59:59'",
                "'-838:59:59'",
                "'-00:00:00.001'",
                "'12:30:00.123456'",
                "'00:00:00'",
                "101112",
                "'1 10:00:00'",
            ],
            Class::DateTime => &[
                "'2024-03-31 02:30:00.000001'",
                "'1000-01-01 00:00:00'",
                "'2024-12-31 23:59:59.999999'",
                "'2024-03-31 02:30:00'",
                "20240102030405",
                "NOW(6)",
                "'2024-06-01'",
            ],
            Class::Timestamp => &[
                "'2024-10-27 02:30:00.123456'",
                "'1971-01-01 00:00:01'",
                "'2024-03-31 12:30:00'",
                "'2037-12-31 23:59:59.5'",
                "NOW(3)",
                "CURRENT_TIMESTAMP",
            ],
            Class::Enum => &["1", "2", "'x'", "'a'", "'B'", "'1'", "3"],
            Class::Set => &["''", "0", "1", "'x,z'", "'a'", "3"],
            Class::Inet6 => &["'2001:db8::1'", "'::ffff:1.2.3.4'", "'::'"],
            Class::Inet4 => &["'1.2.3.4'", "'0.0.0.0'", "'255.255.255.255'"],
            Class::Uuid => {
                &["'123e4567-e89b-12d3-a456-426655440000'", "'00000000-0000-0000-0000-000000000001'"]
            }
            Class::Text | Class::Binary | Class::Json | Class::Geometry | Class::Vector => &["''"],
        }
    }

    /// A parameter of a prepared statement.
    pub(crate) fn param(&self, rng: &mut Rng, key: bool) -> Value {
        if !key && rng.percent(8) {
            return Value::NULL;
        }
        match self.class {
            Class::Int if key => Value::Int(rng.between(1, 12) as i64),
            Class::Year => Value::Int(*rng.pick(&[1, 24, 1901, 2024, 2155])),
            Class::Int => Value::Int(*rng.pick(&[0, 1, 2, 3, 5, 100, -1])),
            Class::Float => Value::Double(*rng.pick(&[0.0, 1.5, 0.1, -7.125, 3250.0])),
            Class::Decimal => Value::Bytes(rng.pick(&["0", "1.5", "-0.25", "99"]).as_bytes().to_vec()),
            Class::Bit => Value::Int(rng.below(2) as i64),
            Class::Date => Value::Date(2024, 2, *rng.pick(&[1, 2, 29]), 0, 0, 0, 0),
            Class::DateTime | Class::Timestamp => {
                Value::Date(2024, 3, *rng.pick(&[1, 31]), 2, 30, 0, *rng.pick(&[0, 1, 500_000]))
            }
            Class::Time => {
                let fraction = if rng.percent(25) { 1000 } else { 0 };
                Value::Time(rng.percent(30), rng.below(3) as u32, 10, 11, 12, fraction)
            }
            Class::Text => {
                let text = if key { rng_key_word(rng) } else { rng_word(rng) };
                let fits =
                    known::PARAMETERS_THAT_DO_NOT_FIT || text.is_ascii() || self.sql.contains("utf8mb4");
                Value::Bytes(if fits { text } else { "plain" }.as_bytes().to_vec())
            }
            Class::Binary if !known::BINARY_STRING_PARAMETERS => {
                Value::Bytes(b"\0'\\\x1a"[..rng.below(5)].to_vec())
            }
            Class::Binary => Value::Bytes(bytes(rng)),
            Class::Enum => Value::Int(1 + rng.below(3) as i64),
            Class::Set => Value::Int(rng.below(4) as i64),
            Class::Json => Value::Bytes(rng.pick(JSON).as_bytes().to_vec()),
            Class::Geometry | Class::Vector => Value::NULL,
            Class::Inet6 => Value::Bytes(b"2001:db8::2".to_vec()),
            Class::Inet4 => Value::Bytes(b"1.2.3.5".to_vec()),
            Class::Uuid => Value::Bytes(b"123e4567-e89b-12d3-a456-426655440001".to_vec()),
        }
    }
}

const WORDS: &[&str] = &[
    "",
    "a",
    "A",
    "one",
    "two ",
    "  ",
    "it's",
    "say \"x\"",
    "back\\slash",
    "\\",
    "100%",
    "\u{e9}t\u{e9}",
    "\u{df}",
    "\u{1F600}",
    "x\u{1F600}y",
    "\u{8868}\u{4e88}",
    "\u{43f}\u{440}",
    "line\nfeed",
    "tab\t",
    "\u{20ac}",
    "?",
    "--",
    "/*x*/",
    "much longer than a column of a few characters",
    ":p",
    "NULL",
    "0",
    "12",
    "1e3",
];
const SEMICOLONS: &[&str] =
    &["a;b", ";", "Tom &amp; Jerry", "x'; DELETE FROM t0; --", "; SET @atone_xid = NULL", "\";`;'"];
const KEY_WORDS: &[&str] = &[
    "",
    "a",
    "A",
    "a ",
    "b",
    "Anna",
    "ANNA",
    "anna",
    "\u{fc}ber",
    "uber",
    "UBER",
    "trail",
    "trail ",
    "\u{df}",
    "ss",
    "\u{e9}",
    "e",
    "x1",
    "x2",
    "x3",
    "X3",
    "q'",
    "\u{8868}",
    "\u{1F600}",
    "\u{1F601}",
    "tab\t",
];
const JSON: &[&str] = &[
    "{\"b\": 1.0, \"a\": [1, \"x\", null], \"big\": 18446744073709551615}",
    "null",
    "[]",
    "{\"k\": \"it's \\\\ \\\" \u{1F600}\"}",
    "1.10",
    "-0.0",
    "1e100",
    "\"text\"",
];
const GEOMETRY: &[&str] = &[
    "ST_GeomFromText('POINT(1.5 -2)')",
    "ST_GeomFromText('POINT(0 0)', 4326)",
    "ST_GeomFromText('POINT(1 2)', 0)",
];

fn rng_word(rng: &mut Rng) -> &'static str {
    rng.pick::<&str>(WORDS)
}

fn rng_key_word(rng: &mut Rng) -> &'static str {
    rng.pick::<&str>(KEY_WORDS)
}

fn bytes(rng: &mut Rng) -> Vec<u8> {
    const BYTES: &[u8] = &[0, 0xff, 0x27, 0x5c, b'a', b'b', b' ', 0x0a, 0x1a, 0xc3, 0x22];
    (0..rng.below(5)).map(|_| *rng.pick(BYTES)).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect::<String>()
        + if bytes.is_empty() { "00" } else { "" }
}

/// A long text, by an expression: the statement stays short.
pub(crate) fn near(rng: &mut Rng, packet: usize) -> String {
    let part = *rng.pick(&[20, 35, 50, 60, 90, 100, 110]);
    format!("REPEAT('{}', {})", rng.pick(&["x", "a'", "\u{e9}"]).replace('\'', "''"), packet * part / 100)
}

fn text_literal(rng: &mut Rng, mode: Mode, word: fn(&mut Rng) -> &'static str) -> String {
    let text = if mode.semicolons && rng.percent(30) { rng.pick::<&str>(SEMICOLONS) } else { word(rng) };
    match rng.below(20) {
        0 => format!("_utf8mb4 0x{}", hex(text.as_bytes())),
        1 if text.is_ascii() => format!("_latin1'{}'", text.replace(['\'', '\\'], "")),
        3 => rng.below(15).to_string(),
        _ => quote(rng, mode, text),
    }
}

/// A string literal that this session reads as `text`.
pub(crate) fn quote(rng: &mut Rng, mode: Mode, text: &str) -> String {
    let text = if mode.no_backslash_escapes { text.to_owned() } else { text.replace('\\', "\\\\") };
    if !mode.ansi_quotes && rng.percent(15) {
        return format!("\"{}\"", text.replace('"', "\"\""));
    }
    if !mode.no_backslash_escapes && rng.percent(20) {
        return format!("'{}'", text.replace('\'', "\\'").replace('\n', "\\n"));
    }
    format!("'{}'", text.replace('\'', "''"))
}

/// A literal that most columns can't hold as it is.
fn wild(rng: &mut Rng, mode: Mode) -> String {
    const WILD: &[&str] = &[
        "99999999999999999999",
        "-99999999999",
        "'abc'",
        "1e308",
        "''",
        "'0000-00-00'",
        "'2024-02-30'",
        "'2024-00-00 00:00:00'",
        "1/0",
        "'1.5x'",
        "0x00FF",
        "b'101'",
        "TRUE",
        "'99:99:99'",
        "REPEAT('x', 300)",
        "DEFAULT",
        "NULL",
        "@unset",
        "-1",
    ];
    if rng.percent(20) {
        let text = rng_word(rng);
        quote(rng, mode, text)
    } else {
        (*rng.pick(WILD)).to_owned()
    }
}
