//! Documents of MySQL's JSON. Their text does not show that a number is a DECIMAL or an unsigned integer. Nor does it
//! show that what looks like a string is a date, a time, a BLOB or a BIT. So the server is asked for the types of
//! those members that would be of another type if the text were read as JSON, and they are kept with it.

/// What a text reads as, and an integer that is too large for a signed one: their types are told by the text.
const PLAIN: &str = "_utf8mb4'OBJECT',_utf8mb4'ARRAY',_utf8mb4'STRING',_utf8mb4'INTEGER',_utf8mb4'DOUBLE',\
                     _utf8mb4'BOOLEAN',_utf8mb4'NULL'";
/// Documents of MySQL are nested no deeper than 100 levels.
const MAX_DEPTH: usize = 128;

/// A document some of whose members are of other types than its text gives them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Document {
    text: String,
    /// Path and type of each such member, by path. Never empty.
    types: Vec<(String, String)>,
}

/// A value within a document.
struct Node<'a> {
    path: String,
    /// Its text.
    token: &'a str,
    is_object: bool,
    children: Vec<Node<'a>>,
}

/// The expression that gives the types of those members of the column, of the qualified name: an array of
/// `[place among all members of objects, place among all elements of arrays, type]`, NULL where there are none. Neither
/// place is that of the document itself.
pub(crate) fn types_expression(name: &str) -> String {
    let told = |value: &str| {
        format!(
            "(JSON_TYPE({value}) IN ({PLAIN}) OR (JSON_TYPE({value}) = _utf8mb4'UNSIGNED INTEGER' \
             AND {value} > 9223372036854775807))"
        )
    };
    let member = "COALESCE(`av`,`bv`)";
    format!(
        "CONVERT(CONVERT(CASE WHEN {name} IS NULL THEN NULL WHEN JSON_TYPE({name}) IN (_utf8mb4'OBJECT',_utf8mb4'ARRAY') THEN \
         (SELECT JSON_ARRAYAGG(JSON_ARRAY(`a`,`b`,JSON_TYPE({member}))) FROM JSON_TABLE({name},'$' \
         COLUMNS (NESTED PATH '$**.*' COLUMNS (`a` FOR ORDINALITY,`av` JSON PATH '$'),\
         NESTED PATH '$**[*]' COLUMNS (`b` FOR ORDINALITY,`bv` JSON PATH '$'))) AS `atone_members` \
         WHERE NOT {}) \
         WHEN {} THEN NULL ELSE JSON_ARRAY(JSON_ARRAY(NULL,NULL,JSON_TYPE({name}))) END \
         USING utf8mb4) USING binary)",
        told(member),
        told(name)
    )
}

impl Document {
    /// A document from its text and what [`types_expression`] gives. `None` where they do not fit.
    pub(crate) fn read(text: &str, types: &str) -> Option<Document> {
        let root = parse(text)?;
        let (mut members, mut elements) = (Vec::new(), Vec::new());
        root.list(true, &mut members);
        root.list(false, &mut elements);
        let listed: Vec<(Option<usize>, Option<usize>, String)> = serde_json::from_str(types).ok()?;
        let mut found = Vec::with_capacity(listed.len());
        for (member, element, kind) in listed {
            let node = match (member, element) {
                (Some(at), None) => members.get(at.checked_sub(1)?)?,
                (None, Some(at)) => elements.get(at.checked_sub(1)?)?,
                (None, None) => &&root,
                (Some(_), Some(_)) => return None,
            };
            found.push((node.path.clone(), kind));
        }
        Document::checked(text.to_owned(), found)
    }

    /// One that was there before, from its parts.
    pub(crate) fn kept(text: String, types: Vec<(String, String)>) -> Document {
        Document { text, types }
    }

    /// A document as an undo record has it. `None` where a path is none of its text, or there twice.
    pub(crate) fn recorded(text: String, types: Vec<(String, String)>) -> Option<Document> {
        let root = parse(&text)?;
        let mut paths = std::collections::HashSet::new();
        root.each(&mut |node| {
            paths.insert(node.path.clone());
        });
        types.iter().all(|(path, _)| paths.contains(path)).then_some(())?;
        drop(root);
        Document::checked(text, types)
    }

    fn checked(text: String, mut types: Vec<(String, String)>) -> Option<Document> {
        types.sort_unstable();
        let named = |kind: &str| {
            (1..=32).contains(&kind.len()) && kind.bytes().all(|b| b.is_ascii_uppercase() || b == b' ')
        };
        let twice = types.windows(2).any(|two| matches!(two, [one, other] if one.0 == other.0));
        (!types.is_empty() && !twice && types.iter().all(|(_, kind)| named(kind)))
            .then_some(Document { text, types })
    }

    /// Its text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Path and type of each member that the text does not tell the type of.
    pub fn types(&self) -> &[(String, String)] {
        &self.types
    }

    /// The type of a member that cannot be put back, if there is one: no text gives it.
    pub fn lost_type(&self) -> Option<&str> {
        let numbers = self.numbers();
        let mut all = self.types.iter().zip(numbers);
        all.find(|(_, number)| number.is_none()).map(|((_, kind), _)| kind.as_str())
    }

    /// For each member of such a type the SQL of its value, where it is a number.
    fn numbers(&self) -> Vec<Option<String>> {
        let mut tokens = std::collections::HashMap::new();
        if let Some(root) = parse(&self.text) {
            root.each(&mut |node| {
                tokens.insert(node.path.clone(), node.token);
            });
        }
        let number = |(path, kind): &(String, String)| number(kind, tokens.get(path.as_str())?);
        self.types.iter().map(number).collect()
    }

    /// The SQL that makes it, where `document` is that of its text.
    pub(crate) fn sql(&self, document: &str, quoted: impl Fn(&str) -> String) -> String {
        let numbers = self.types.iter().zip(self.numbers());
        let changes: Vec<String> = numbers
            .filter_map(|((path, _), number)| Some(format!("{}, {}", quoted(path), number?)))
            .collect();
        if changes.is_empty() {
            return document.to_owned();
        }
        format!("JSON_SET({document}, {})", changes.join(", "))
    }
}

/// The SQL of a number of this type.
fn number(kind: &str, token: &str) -> Option<String> {
    if !crate::literal::is_number(token, false) {
        return None;
    }
    let digits = token.strip_prefix('-').unwrap_or(token);
    match kind {
        "DECIMAL" if digits.contains('.') => Some(token.to_owned()),
        "DECIMAL" if digits.len() <= 65 => Some(format!("CAST({token} AS DECIMAL({},0))", digits.len())),
        "UNSIGNED INTEGER" if token.parse::<u64>().is_ok() => Some(format!("CAST({token} AS UNSIGNED)")),
        _ => None,
    }
}

/// The paths and digits of all numbers whose text a double (or a 64-bit integer) would not show: those that are known
/// to be DECIMALs where types were not kept. Empty also where the text is not JSON.
pub(crate) fn decimals(text: &str) -> Vec<(String, &str)> {
    let mut found = Vec::new();
    if let Some(root) = parse(text) {
        root.each(&mut |node| {
            if needs_decimal(node.token) {
                found.push((node.path.clone(), node.token));
            }
        });
    }
    found
}

fn needs_decimal(number: &str) -> bool {
    if !crate::literal::is_number(number, false) {
        // With an exponent: only doubles are shown so.
        return false;
    }
    if !number.contains('.') {
        return number.parse::<i64>().is_err() && number.parse::<u64>().is_err();
    }
    match number.parse::<f64>() {
        Ok(double) => {
            let shown = double.to_string();
            number != shown && number != format!("{shown}.0")
        }
        Err(_) => true,
    }
}

impl<'a> Node<'a> {
    /// The members of all objects, or the elements of all arrays, in the order in which `$**.*` and `$**[*]` give them:
    /// those of a container, then those within each of its values.
    fn list<'n>(&'n self, of_objects: bool, out: &mut Vec<&'n Node<'a>>) {
        if self.is_object == of_objects {
            out.extend(&self.children);
        }
        for child in &self.children {
            child.list(of_objects, out);
        }
    }

    /// All values, itself first, in the order of the text.
    fn each(&self, look: &mut impl FnMut(&Node<'a>)) {
        look(self);
        for child in &self.children {
            child.each(look);
        }
    }
}

fn parse(text: &str) -> Option<Node<'_>> {
    let mut parser = Parser { text, at: 0 };
    let root = parser.value("$".to_owned(), 0)?;
    parser.blank();
    (parser.at == text.len()).then_some(root)
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn blank(&mut self) {
        while self.peek().is_some_and(|b| b.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    /// Whether the next byte is this one, which is then passed.
    fn take(&mut self, byte: u8) -> bool {
        self.blank();
        let is = self.peek() == Some(byte);
        self.at += usize::from(is);
        is
    }

    fn value(&mut self, path: String, depth: usize) -> Option<Node<'a>> {
        if depth > MAX_DEPTH {
            return None;
        }
        self.blank();
        let start = self.at;
        let mut children = Vec::new();
        let first = self.peek()?;
        match first {
            b'{' => {
                self.at += 1;
                while !self.take(b'}') {
                    if !children.is_empty() && !self.take(b',') {
                        return None;
                    }
                    self.blank();
                    // The key's own text, quotes included, is how a path spells it
                    let key = self.string()?;
                    if !self.take(b':') {
                        return None;
                    }
                    children.push(self.value(format!("{path}.{key}"), depth + 1)?);
                }
            }
            b'[' => {
                self.at += 1;
                while !self.take(b']') {
                    if !children.is_empty() && !self.take(b',') {
                        return None;
                    }
                    children.push(self.value(format!("{path}[{}]", children.len()), depth + 1)?);
                }
            }
            b'"' => {
                self.string()?;
            }
            _ => {
                let word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'+' | b'.');
                while self.peek().is_some_and(word) {
                    self.at += 1;
                }
            }
        }
        let token = self.text.get(start..self.at).filter(|token| !token.is_empty())?;
        Some(Node { path, token, is_object: first == b'{', children })
    }

    /// A string with its quotes.
    fn string(&mut self) -> Option<&'a str> {
        let start = self.at;
        if !self.take(b'"') {
            return None;
        }
        loop {
            match self.peek()? {
                b'\\' => self.at += 2,
                b'"' => break,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        self.text.get(start..self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_double_would_not_show() {
        for same in
            ["1", "-1", "1.5", "1.0", "-0.0", "0.1", "1e308", "18446744073709551615", "-9223372036854775808"]
        {
            assert_eq!(decimals(same), [], "{same}");
        }
        for decimal in ["1.10", "1.00", "-0.50", "0.12345678901234567890", "18446744073709551616"] {
            assert_eq!(decimals(decimal), [("$".to_owned(), decimal)]);
        }
    }

    #[test]
    fn paths() {
        let text =
            r#"{"a": [1.10, {"b\"c": 2.20, "d": "3.30"}, []], "é": {"x": 1.5, "y z": 4.40}, "n": null}"#;
        assert_eq!(
            decimals(text),
            [
                (r#"$."a"[0]"#.to_owned(), "1.10"),
                (r#"$."a"[1]."b\"c""#.to_owned(), "2.20"),
                (r#"$."é"."y z""#.to_owned(), "4.40"),
            ]
        );
    }

    #[test]
    fn what_is_no_json_is_left_alone() {
        for bad in ["[1.10", "\"1.10", "]1.10", "{\"a\\", "1.10 2.20", "[1.10 2.20]", "{1.10}", ""] {
            assert_eq!(decimals(bad), [], "{bad}");
        }
        assert!(parse(&"[".repeat(100_000)).is_none());
    }

    #[test]
    fn members_are_found_by_the_places_that_the_server_tells() {
        // As MySQL 9.7 lists them
        let text = r#"{"a": [5, {"z": 6}], "b": {"a": 2, "x": 1}, "longer": {"q": 1}}"#;
        let root = parse(text).unwrap();
        let listed = |objects| {
            let mut out = Vec::new();
            root.list(objects, &mut out);
            out.into_iter().map(|node| node.token).collect::<Vec<_>>()
        };
        assert_eq!(
            listed(true),
            [r#"[5, {"z": 6}]"#, r#"{"a": 2, "x": 1}"#, r#"{"q": 1}"#, "6", "2", "1", "1"]
        );
        assert_eq!(listed(false), ["5", r#"{"z": 6}"#]);
        let text = r#"[[1, [2, [3]]], {"a": {"b": [{"c": 1}]}}]"#;
        let root = parse(text).unwrap();
        let mut out = Vec::new();
        root.list(false, &mut out);
        let tokens: Vec<&str> = out.into_iter().map(|node| node.token).collect();
        let inner = [r#"{"a": {"b": [{"c": 1}]}}"#, "1", "[2, [3]]", "2", "[3]", "3", r#"{"c": 1}"#];
        assert_eq!(tokens, [&["[1, [2, [3]]]"][..], &inner].concat());
    }

    #[test]
    fn types_are_kept_by_path() {
        let read = |text: &str, types: &str| Document::read(text, types);
        let document = read(
            r#"{"p": 1.10, "q": [5, 7, -3]}"#,
            r#"[[1, null, "DECIMAL"], [null, 1, "UNSIGNED INTEGER"], [null, 3, "DECIMAL"]]"#,
        )
        .unwrap();
        assert_eq!(document.lost_type(), None);
        assert_eq!(
            document.sql("d", |path| format!("<{path}>")),
            r#"JSON_SET(d, <$."p">, 1.10, <$."q"[0]>, CAST(5 AS UNSIGNED), <$."q"[2]>, CAST(-3 AS DECIMAL(1,0)))"#
        );
        let root = read("7.50", r#"[[null, null, "DECIMAL"]]"#).unwrap();
        assert_eq!(root.types(), [("$".to_owned(), "DECIMAL".to_owned())]);
        let date = read(r#"{"d": "2020-01-01", "e": 1.5}"#, r#"[[1, null, "DATE"], [2, null, "DECIMAL"]]"#);
        assert_eq!(date.unwrap().lost_type(), Some("DATE"));
        for (text, types) in [
            ("1", "[]"),
            ("[1]", r#"[[null, 2, "DECIMAL"]]"#),
            ("[1]", r#"[[null, 0, "DECIMAL"]]"#),
            ("[1]", r#"[[1, 1, "DECIMAL"]]"#),
            ("[1]", r#"[[null, 1, "DECIMAL"], [null, 1, "DATE"]]"#),
            ("[1]", r#"[[null, 1, "'); DROP"]]"#),
            ("[1", r#"[[null, 1, "DECIMAL"]]"#),
            ("[1]", ""),
        ] {
            assert_eq!(read(text, types), None, "{text} {types}");
        }
        let recorded =
            |path: &str| Document::recorded("[1]".to_owned(), vec![(path.to_owned(), "DECIMAL".to_owned())]);
        assert!(recorded("$[0]").is_some() && recorded("$[1]").is_none());
    }
}
