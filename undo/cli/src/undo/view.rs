//! How undo rows are shown.

use atone_undo::{RowChange, Table, TableChanges, Value as Cell, Verdict};
use serde_json::{Map, Value, json};

use super::live::Judged;
use super::log::{Content, LogRow};
use crate::render::{self, Grid, Palette, Style, one_line};

/// An undo row without its images.
#[derive(Debug)]
pub(crate) struct Summary {
    pub(crate) branch_id: i64,
    xid: String,
    schema: String,
    status: &'static str,
    resource: Option<String>,
    tables: Vec<(String, usize)>,
    bytes: usize,
    created: String,
    pub(crate) error: Option<String>,
}

impl Summary {
    pub(crate) fn of(row: &LogRow) -> Self {
        let (resource, tables, error) = match &row.content {
            Content::Undo(record) => {
                let tables = record
                    .tables
                    .iter()
                    .map(|c| (format!("{}.{}", c.table.schema, c.table.name), c.rows.len()))
                    .collect();
                (Some(record.resource.clone()), tables, None)
            }
            Content::Marker | Content::Restored => (None, Vec::new(), None),
            Content::Bad { reason, .. } => (None, Vec::new(), Some(reason.clone())),
        };
        Summary {
            branch_id: row.branch_id,
            xid: row.xid.clone(),
            schema: row.schema.clone(),
            status: row.status(),
            resource,
            tables,
            bytes: row.bytes,
            created: row.created.clone(),
            error,
        }
    }

    fn json(&self) -> Value {
        let tables: Vec<Value> =
            self.tables.iter().map(|(table, rows)| json!({ "table": table, "rows": rows })).collect();
        let mut object = json!({
            "xid": self.xid, "branch_id": self.branch_id, "schema": self.schema, "status": self.status,
            "resource": self.resource, "tables": tables, "bytes": self.bytes, "created": self.created,
        });
        if let (Some(error), Some(object)) = (&self.error, object.as_object_mut()) {
            object.insert("error".to_owned(), json!(error));
        }
        object
    }
}

pub(crate) fn list_json(rows: &[Summary], more: bool) -> Value {
    json!({ "undo": rows.iter().map(Summary::json).collect::<Vec<_>>(), "more": more })
}

pub(crate) fn list(rows: &[Summary], more: bool, palette: Palette) -> String {
    let mut grid =
        Grid::new(&["XID", "BRANCH", "RESOURCE", "SCHEMA", "STATUS", "BYTES", "CREATED (UTC)", "ROWS"]);
    for row in rows {
        let (style, what) = match &row.error {
            Some(error) => (Style::Alert, render::cell(error)),
            None => {
                let tables: Vec<String> = row
                    .tables
                    .iter()
                    .map(|(table, rows)| format!("{}: {rows}", render::cell(table)))
                    .collect();
                (Style::Normal, if tables.is_empty() { "-".to_owned() } else { tables.join(", ") })
            }
        };
        let resource = row.resource.as_deref().map_or_else(|| "-".to_owned(), render::cell);
        grid.styled(vec![
            (Style::Normal, render::cell(&row.xid)),
            (Style::Normal, row.branch_id.to_string()),
            (Style::Normal, resource),
            (Style::Normal, render::cell(&row.schema)),
            (style, row.status.to_owned()),
            (Style::Normal, row.bytes.to_string()),
            (Style::Normal, one_line(&row.created)),
            (style, what),
        ]);
    }
    let mut text = grid.render(palette, "");
    if more {
        text.push_str("… and more: raise --limit\n");
    }
    text
}

fn object(table: &Table, values: &[Cell]) -> Map<String, Value> {
    table.columns.iter().zip(values).map(|(column, value)| (column.name.clone(), value.to_json())).collect()
}

pub(crate) fn key_object(table: &Table, change: &RowChange) -> Map<String, Value> {
    let columns = table.keys.first().map(|key| key.columns.as_slice()).unwrap_or_default();
    let image = change.before.as_deref().or(change.after.as_deref()).unwrap_or_default();
    columns
        .iter()
        .filter_map(|&c| Some((table.columns.get(c)?.name.clone(), image.get(c)?.to_json())))
        .collect()
}

fn action(change: &RowChange) -> &'static str {
    match (&change.before, &change.after) {
        (None, _) => "inserted",
        (_, None) => "deleted",
        _ => "updated",
    }
}

pub(crate) fn conflict_columns(table: &Table, verdict: &Verdict) -> Vec<String> {
    match verdict {
        Verdict::Conflict { columns } => {
            columns.iter().filter_map(|&c| table.columns.get(c)).map(|c| c.name.clone()).collect()
        }
        Verdict::Restore | Verdict::AlreadyRestored => Vec::new(),
    }
}

fn word(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Restore => "restorable",
        Verdict::AlreadyRestored => "already restored",
        Verdict::Conflict { .. } => "conflict",
    }
}

/// A table's changes with the current rows, or why those cannot be read.
pub(crate) struct ShownTable<'a> {
    pub(crate) table: &'a Table,
    pub(crate) changes: &'a [RowChange],
    pub(crate) judged: Result<Vec<Judged<'a>>, String>,
    /// How many more rows there are.
    pub(crate) more: usize,
}

impl<'a> ShownTable<'a> {
    /// At most `max_rows` of the table's rows.
    pub(crate) fn of(
        changes: &'a TableChanges,
        judged: Result<Vec<Judged<'a>>, String>,
        max_rows: usize,
    ) -> Self {
        let shown = changes.rows.len().min(max_rows);
        ShownTable {
            table: &changes.table,
            changes: &changes.rows[..shown],
            judged: judged.map(|mut rows| {
                rows.truncate(shown);
                rows
            }),
            more: changes.rows.len() - shown,
        }
    }
}

impl ShownTable<'_> {
    fn title(&self) -> String {
        render::cell(&format!("{}.{}", self.table.schema, self.table.name))
    }

    fn row_text(
        &self,
        change: &RowChange,
        now: Option<(&Option<Vec<Cell>>, &Verdict)>,
        palette: Palette,
    ) -> String {
        let table = self.table;
        let verdict = match now.map(|(_, verdict)| verdict) {
            None => String::new(),
            Some(verdict) => {
                let style = match verdict {
                    Verdict::Conflict { .. } => Style::Alert,
                    Verdict::Restore | Verdict::AlreadyRestored => Style::Good,
                };
                let columns = conflict_columns(table, verdict);
                let which = if columns.is_empty() {
                    String::new()
                } else {
                    format!(": {}", one_line(&columns.join(", ")))
                };
                format!("  {}", palette.paint(style, &format!("{}{which}", word(verdict))))
            }
        };
        let names: Vec<String> = table.columns.iter().map(|c| c.name.clone()).collect();
        let before = change.before.as_deref().map(|values| object(table, values));
        let after = change.after.as_deref().map(|values| object(table, values));
        let current = now.map(|(values, _)| values.as_deref().map(|values| object(table, values)));
        format!(
            "{} {}  {}{verdict}\n{}",
            palette.paint(Style::Heading, &self.title()),
            render::key(&key_object(table, change)),
            action(change),
            render::images(
                &names,
                before.as_ref(),
                after.as_ref(),
                current.as_ref().map(Option::as_ref),
                now.is_some_and(|(_, verdict)| matches!(verdict, Verdict::Conflict { .. })),
                palette
            )
        )
    }

    fn text(&self, palette: Palette) -> String {
        let mut text = String::new();
        match &self.judged {
            Ok(judged) => {
                for row in judged {
                    text.push_str(&self.row_text(row.change, Some((&row.current, &row.verdict)), palette));
                }
            }
            Err(why) => {
                let note = format!("{}: the current rows can't be read: {}", self.title(), one_line(why));
                text.push_str(&format!("{}\n", palette.paint(Style::Alert, &note)));
                for change in self.changes {
                    text.push_str(&self.row_text(change, None, palette));
                }
            }
        }
        if self.more > 0 {
            text.push_str(&format!("{}: … and {} more rows: raise --rows\n", self.title(), self.more));
        }
        text
    }

    fn json(&self) -> Value {
        let table = self.table;
        let image = |values: Option<&[Cell]>| values.map(|values| Value::Object(object(table, values)));
        let row = |change: &RowChange, now: Option<&Judged<'_>>| {
            let mut json = json!({
                "key": key_object(table, change),
                "before": image(change.before.as_deref()),
                "after": image(change.after.as_deref()),
            });
            if let (Some(now), Some(json)) = (now, json.as_object_mut()) {
                json.insert("current".to_owned(), json!(image(now.current.as_deref())));
                json.insert("verdict".to_owned(), json!(word(&now.verdict)));
                json.insert("columns".to_owned(), json!(conflict_columns(table, &now.verdict)));
            }
            json
        };
        let rows: Vec<Value> = match &self.judged {
            Ok(judged) => judged.iter().map(|j| row(j.change, Some(j))).collect(),
            Err(_) => self.changes.iter().map(|change| row(change, None)).collect(),
        };
        json!({
            "schema": table.schema, "table": table.name, "rows": rows, "more_rows": self.more,
            "error": self.judged.as_ref().err(),
        })
    }
}

/// An undo row in full.
pub(crate) struct ShownRow<'a> {
    pub(crate) row: &'a LogRow,
    pub(crate) tables: Vec<ShownTable<'a>>,
}

impl ShownRow<'_> {
    pub(crate) fn text(&self, palette: Palette) -> String {
        let row = self.row;
        let resource = match &row.content {
            Content::Undo(record) => format!(" on {}", render::cell(&record.resource)),
            Content::Marker | Content::Restored | Content::Bad { .. } => String::new(),
        };
        let title = format!("branch {} of {}{resource}", row.branch_id, render::cell(&row.xid));
        let mut text = format!(
            "{}: {} in {}, {} bytes, {} UTC\n",
            palette.paint(Style::Heading, &title),
            row.status(),
            render::cell(&format!("{}.undo_log", row.schema)),
            row.bytes,
            one_line(&row.created)
        );
        match &row.content {
            Content::Undo(_) => {
                for table in &self.tables {
                    text.push_str(&table.text(palette));
                }
            }
            Content::Marker => text.push_str("  this branch was rolled back and can never commit\n"),
            Content::Restored => text.push_str("  the rows of this branch are restored\n"),
            Content::Bad { reason, head } => {
                text.push_str(&format!("  {}\n", palette.paint(Style::Alert, &one_line(reason))));
                text.push_str(&format!("  context        {}\n", one_line(&row.context)));
                let ellipsis = if row.bytes > head.len() { "…" } else { "" };
                text.push_str(&format!("  rollback_info  {}{ellipsis}\n", head.escape_ascii()));
            }
        }
        text
    }

    pub(crate) fn json(&self) -> Value {
        let row = self.row;
        let mut json = json!({
            "xid": row.xid, "branch_id": row.branch_id, "schema": row.schema, "status": row.status(),
            "bytes": row.bytes, "created": row.created,
        });
        let Some(object) = json.as_object_mut() else { return json };
        match &row.content {
            Content::Undo(record) => {
                object.insert("resource".to_owned(), json!(record.resource));
                let tables: Vec<Value> = self.tables.iter().map(ShownTable::json).collect();
                object.insert("tables".to_owned(), json!(tables));
            }
            Content::Marker | Content::Restored => {}
            Content::Bad { reason, head } => {
                object.insert("error".to_owned(), json!(reason));
                object.insert("context".to_owned(), json!(row.context));
                let digits: String = head.iter().map(|b| format!("{b:02x}")).collect();
                object.insert("head".to_owned(), json!({ "hex": digits }));
            }
        }
        json
    }
}
