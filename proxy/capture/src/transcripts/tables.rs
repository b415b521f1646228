//! What a case says of its tables and views, as facts.

use std::sync::Arc;

use atone_facts::{
    BASE_TABLE, ColumnRow, Facts, ForeignKey, IndexRow, Rights, Rule, TableInfo, TableRow, Trigger,
    TriggerRow, ViewDefinition, WrittenColumn, WrittenTable, audit_table, mirror,
};

use super::scene::SCHEMA;

/// The tables of these lines, with the triggers and the foreign keys that point at them.
pub(super) fn tables(
    lines: &[String],
    triggers: &[String],
    foreign: &[String],
    mariadb: bool,
) -> Vec<Arc<TableInfo>> {
    let written: Vec<(&str, Vec<ColumnRow>)> =
        lines.iter().map(|line| (name(line), columns(line).0)).collect();
    let mut tables: Vec<TableInfo> =
        lines.iter().map(|line| table(line, &written, triggers, mariadb)).collect();
    for line in foreign {
        let (parent, key) = foreign_key(line, &tables);
        tables[parent].references.keys.push(key);
    }
    tables.into_iter().map(Arc::new).collect()
}

fn name(line: &str) -> &str {
    line.split(": ").next().unwrap()
}

/// `t: id int key, v int null`
fn table(line: &str, written: &[(&str, Vec<ColumnRow>)], triggers: &[String], mariadb: bool) -> TableInfo {
    let (columns, indexes) = columns(line);
    let name = name(line);
    let own = triggers.iter().filter(|trigger| trigger.split(' ').next() == Some(name));
    let mut triggers: Vec<Trigger> = own.map(|line| trigger(line, written, mariadb)).collect();
    let mirror = mirror(SCHEMA, &triggers);
    triggers.iter_mut().for_each(|trigger| trigger.resolve_mirror(&mirror));
    let facts = Facts { triggers, ..Facts::default() };
    TableInfo::assemble(row(name), facts, columns, indexes, mariadb)
}

fn row(name: &str) -> TableRow {
    TableRow {
        schema: SCHEMA.to_owned(),
        name: name.to_owned(),
        engine: Some("InnoDB".to_owned()),
        table_type: BASE_TABLE.to_owned(),
    }
}

fn columns(line: &str) -> (Vec<ColumnRow>, Vec<IndexRow>) {
    let (_, columns) = line.split_once(": ").unwrap();
    let (mut rows, mut indexes) = (Vec::new(), Vec::new());
    for column in columns.split(", ") {
        let words: Vec<&str> = column.split(' ').collect();
        let [column, column_type, rest @ ..] = words.as_slice() else { panic!("{column}: no column") };
        let has = |word: &str| rest.contains(&word);
        let data_type = column_type.split('(').next().unwrap();
        let text = matches!(data_type, "char" | "varchar" | "text");
        rows.push(ColumnRow {
            name: (*column).to_owned(),
            data_type: data_type.to_owned(),
            column_type: (*column_type).to_owned(),
            charset: text.then(|| "utf8mb4".to_owned()),
            collation: text.then(|| "utf8mb4_bin".to_owned()),
            is_nullable: if has("null") { "YES" } else { "NO" }.to_owned(),
            extra: if has("auto") { "auto_increment" } else { "" }.to_owned(),
            default: has("default").then(|| "0".to_owned()),
        });
        for (word, index) in [("key", "PRIMARY"), ("unique", *column), ("index", *column)] {
            if has(word) {
                let (index, column) = (index.to_owned(), Some((*column).to_owned()));
                indexes.push(IndexRow { index, column, prefix: None, non_unique: word == "index" });
            }
        }
    }
    (rows, indexes)
}

/// `t AFTER INSERT INSERT INTO log (what) VALUES (NEW.id)`, with `as pt_osc_s_t_ins` before the body for another name
/// than `t_insert`.
fn trigger(line: &str, written: &[(&str, Vec<ColumnRow>)], mariadb: bool) -> Trigger {
    let mut words = line.splitn(4, ' ');
    let mut word = || words.next().unwrap().to_owned();
    let (owner, timing, event, body) = (word(), word(), word(), word());
    let (name, body) = match body.strip_prefix("as ").and_then(|named| named.split_once(' ')) {
        Some((name, body)) => (name.to_owned(), body.to_owned()),
        None => (format!("{owner}_{}", event.to_lowercase()), body),
    };
    let shown = TriggerRow { name, event, timing, body: Some(body), sql_mode: String::new() };
    let mut trigger = Trigger::parse(shown, mariadb);
    for insert in trigger.effect.as_ref().map(|body| body.inserts.clone()).unwrap_or_default() {
        let (log, columns) = written.iter().find(|(name, _)| *name == insert.table).unwrap();
        let column = |row: &ColumnRow| WrittenColumn {
            name: row.name.clone(),
            column_type: row.column_type.clone(),
            extra: row.extra.clone(),
        };
        let columns: Vec<WrittenColumn> = columns.iter().map(column).collect();
        let rights = Rights::parse(&["GRANT ALL PRIVILEGES ON *.* TO `a`@`%`".to_owned()], false);
        let log = WrittenTable::new(row(log), "id", &columns, &rights);
        trigger.add_audit_table(audit_table(&insert, &log, (SCHEMA, &owner), ""));
    }
    trigger
}

/// `c(p) t(id) ON DELETE CASCADE ON UPDATE SET NULL`: `c` refers to `t`. The rules that are not there are RESTRICT.
fn foreign_key(line: &str, tables: &[TableInfo]) -> (usize, ForeignKey) {
    let mut words = line.splitn(3, ' ');
    let mut reference = || words.next().unwrap().strip_suffix(')').unwrap().split_once('(').unwrap();
    let ((child, column), (parent, referenced)) = (reference(), reference());
    let rules = words.next().unwrap_or_default();
    let rule = |event: &str| match rules.split_once(&format!("ON {event} ")).map(|(_, rule)| rule) {
        Some(rule) if rule.starts_with("CASCADE") => Rule::Cascade,
        Some(rule) if rule.starts_with("SET NULL") => Rule::SetNull,
        Some(rule) => panic!("{rule}: no rule"),
        None => Rule::Restrict,
    };
    let at = tables.iter().position(|info| info.table.name == parent).unwrap();
    let key = ForeignKey {
        name: format!("{child}_{parent}"),
        schema: SCHEMA.to_owned(),
        table: child.to_owned(),
        columns: vec![column.to_owned()],
        referenced: vec![tables[at].table.columns.iter().position(|c| c.name == referenced).unwrap()],
        on_delete: rule("DELETE"),
        on_update: rule("UPDATE"),
    };
    (at, key)
}

/// `w(id, v) select `s`.`t`.`id` AS `id`, … from `s`.`t``
pub(super) fn view(line: &str) -> (String, ViewDefinition) {
    let (head, text) = line.split_once(") ").unwrap();
    let (name, columns) = head.split_once('(').unwrap();
    let columns = columns.split(", ").map(str::to_owned).collect();
    (name.to_owned(), ViewDefinition { text: text.to_owned(), columns })
}
