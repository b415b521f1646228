//! Text for people: aligned tables, safe cells, colours.

use serde_json::{Map, Value};

/// Longer cells are cut; `--json` shows them whole.
const MAX_CELL_CHARS: usize = 100;

/// Whether colours are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Palette {
    /// No escape sequences.
    Plain,
    /// ANSI colours.
    Terminal,
}

/// How a cell stands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// It does not.
    Normal,
    /// A heading.
    Heading,
    /// What a value was.
    Before,
    /// What a value became.
    After,
    /// What needs attention.
    Alert,
    /// What is well.
    Good,
}

impl Palette {
    /// The text in this style.
    pub(crate) fn paint(self, style: Style, text: &str) -> String {
        let code = match (self, style) {
            (Palette::Plain, _) | (_, Style::Normal) => return text.to_owned(),
            (_, Style::Heading) => "1",
            (_, Style::Before) => "31",
            (_, Style::After | Style::Good) => "32",
            (_, Style::Alert) => "1;33",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// The text on one line, without control characters that a terminal would obey.
pub(crate) fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' => "\\n".to_owned(),
            '\r' => "\\r".to_owned(),
            '\t' => "\\t".to_owned(),
            // Bidirectional controls could show a value as another one.
            c if c.is_control() || matches!(c, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}') => {
                c.escape_unicode().to_string()
            }
            c => c.to_string(),
        })
        .collect()
}

/// The text as a cell: on one line, and cut where it is long.
pub(crate) fn cell(text: &str) -> String {
    let total = text.chars().count();
    if total <= MAX_CELL_CHARS {
        return one_line(text);
    }
    let head: String = text.chars().take(MAX_CELL_CHARS).collect();
    format!("{}… ({total} characters)", one_line(&head))
}

/// A value of an image as a cell: NULL, a number, a text, hex digits.
pub(crate) fn value(value: &Value) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::String(text) if text.is_empty() => "''".to_owned(),
        // Told from NULL.
        Value::String(text) if text == "NULL" => "'NULL'".to_owned(),
        Value::String(text) => cell(text),
        Value::Object(object) => match object.get("hex").and_then(Value::as_str) {
            Some(digits) => cell(&format!("0x{digits}")),
            None => cell(&value_text(value)),
        },
        other => cell(&value_text(other)),
    }
}

fn value_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// `id=1, day=2020-01-01`.
pub(crate) fn key(key: &Map<String, Value>) -> String {
    let parts: Vec<String> = key.iter().map(|(name, v)| format!("{}={}", cell(name), value(v))).collect();
    parts.join(", ")
}

/// The field of a JSON object as a cell; `-` where it is not there.
pub(crate) fn field(object: &Value, name: &str) -> String {
    match object.get(name) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) if text.is_empty() => "-".to_owned(),
        Some(other) => cell(&value_text(other)),
    }
}

/// A table of aligned columns.
#[derive(Debug, Default)]
pub(crate) struct Grid {
    rows: Vec<Vec<(Style, String)>>,
}

impl Grid {
    /// A table with these headings.
    pub(crate) fn new(headings: &[&str]) -> Self {
        Grid { rows: vec![headings.iter().map(|h| (Style::Heading, (*h).to_owned())).collect()] }
    }

    /// Adds a row of plain cells.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.styled(cells.into_iter().map(|c| (Style::Normal, c)).collect());
    }

    /// Adds a row.
    pub(crate) fn styled(&mut self, cells: Vec<(Style, String)>) {
        self.rows.push(cells);
    }

    /// The table's text, each line after `indent`.
    pub(crate) fn render(&self, palette: Palette, indent: &str) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns)
            .map(|c| {
                self.rows.iter().filter_map(|r| r.get(c)).map(|(_, t)| t.chars().count()).max().unwrap_or(0)
            })
            .collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = indent.to_owned();
            for (at, ((style, cell), width)) in row.iter().zip(&widths).enumerate() {
                line.push_str(&palette.paint(*style, cell));
                if at + 1 < row.len() {
                    line.push_str(&" ".repeat(width - cell.chars().count() + 2));
                }
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// One row's images side by side. Changed cells are coloured; with `conflict`, those are marked `*` that are neither as
/// the branch left them nor as they were before it.
pub(crate) fn images(
    columns: &[String],
    before: Option<&Map<String, Value>>,
    after: Option<&Map<String, Value>>,
    current: Option<Option<&Map<String, Value>>>,
    conflict: bool,
    palette: Palette,
) -> String {
    let mut headings = vec![" ", "column", "before", "after"];
    if current.is_some() {
        headings.push("current");
    }
    let mut grid = Grid::new(&headings);
    let show = |image: Option<&Map<String, Value>>, name: &str| match image {
        None => "(no row)".to_owned(),
        Some(image) => image.get(name).map_or_else(|| "?".to_owned(), value),
    };
    let get = |image: Option<&Map<String, Value>>, name: &str| image.and_then(|i| i.get(name)).cloned();
    for name in columns {
        let changed = get(before, name) != get(after, name);
        let outside = conflict && current.is_some_and(|now| get(now, name) != get(after, name));
        let conflicting = outside && current.is_some_and(|now| get(now, name) != get(before, name));
        let mark = if conflicting { "*" } else { "" };
        let style = |wanted: Style| if changed { wanted } else { Style::Normal };
        let mut cells = vec![
            (Style::Alert, mark.to_owned()),
            (Style::Normal, cell(name)),
            (style(Style::Before), show(before, name)),
            (style(Style::After), show(after, name)),
        ];
        if let Some(now) = current {
            cells.push((if conflicting { Style::Alert } else { Style::Normal }, show(now, name)));
        }
        grid.styled(cells);
    }
    grid.render(palette, "  ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn cells_cannot_command_the_terminal() {
        assert_eq!(cell("a\x1b[2Jb\n"), "a\\u{1b}[2Jb\\n");
        assert_eq!(one_line("\u{202E}x"), "\\u{202e}x");
        assert_eq!(cell(&"x".repeat(200)), format!("{}… (200 characters)", "x".repeat(100)));
    }

    #[test]
    fn values() {
        for (json, expected) in [
            (json!(null), "NULL"),
            (json!(-5), "-5"),
            (json!(""), "''"),
            (json!("NULL"), "'NULL'"),
            (json!("é\n"), "é\\n"),
            (json!({"hex": "00ff"}), "0x00ff"),
        ] {
            assert_eq!(value(&json), expected);
        }
    }

    #[test]
    fn grids_are_aligned() {
        let mut grid = Grid::new(&["XID", "STATUS"]);
        grid.row(vec!["é:1".into(), "active".into()]);
        grid.row(vec!["long:2".into(), "x".into()]);
        assert_eq!(grid.render(Palette::Plain, ""), "XID     STATUS\né:1     active\nlong:2  x\n");
        assert!(grid.render(Palette::Terminal, "").starts_with("\x1b[1mXID\x1b[0m     \x1b[1mSTATUS"));
    }

    fn map(value: Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap_or_default()
    }

    #[test]
    fn images_side_by_side() {
        let columns = ["id".to_owned(), "balance".to_owned()];
        let (before, after) =
            (map(json!({"id": 1, "balance": "100.00"})), map(json!({"id": 1, "balance": "90.00"})));
        let now = map(json!({"id": 1, "balance": "95.00"}));
        let text = images(&columns, Some(&before), Some(&after), Some(Some(&now)), true, Palette::Plain);
        assert_eq!(
            text,
            "     column   before  after  current\n\
             \x20    id       1       1      1\n\
             \x20 *  balance  100.00  90.00  95.00\n"
        );
        let gone = images(&columns, Some(&before), None, None, false, Palette::Plain);
        assert!(gone.contains("balance  100.00  (no row)"), "{gone}");
        let coloured =
            images(&columns, Some(&before), Some(&after), Some(Some(&after)), false, Palette::Terminal);
        assert!(coloured.contains("\x1b[31m100.00\x1b[0m"), "{coloured}");
        assert!(coloured.contains("\x1b[32m90.00\x1b[0m"), "{coloured}");
    }
}
