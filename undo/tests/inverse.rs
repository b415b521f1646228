//! Inverse SQL, checked by an interpreter of the few statements that it consists of, on a table with unique keys.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use atone_undo::{
    Assigned, Column, ConflictReport, Key, MAX_STATEMENT_BYTES, Obstacle, RowChange, Statement, Table, Value,
    Verdict, inverse, judge, obstacle,
};
use common::{all_kinds, column, not_null, table, text, unique};
use proptest::collection::vec;
use proptest::prelude::*;

/// id, a further unique key that may be NULL, a composite one, and a plain value.
fn accounts() -> Table {
    table(
        vec![
            not_null(column("id", "int", "int")),
            column("mail", "int", "int"),
            column("a", "int", "int"),
            column("b", "int", "int"),
            column("v", "int", "int"),
        ],
        vec![unique("PRIMARY", &[0]), unique("mail", &[1]), unique("ab", &[2, 3])],
    )
}

type Rows = BTreeMap<i128, Vec<Value>>;

/// A server in miniature: unique keys are checked after every row, as InnoDB does.
#[derive(Clone, Debug, PartialEq)]
struct Model {
    table: Table,
    rows: Rows,
}

impl Model {
    fn collides(&self, row: &[Value], except: Option<i128>) -> bool {
        self.table.keys.iter().any(|key| {
            let part = |r: &[Value]| key.columns.iter().map(|&c| r[c].clone()).collect::<Vec<_>>();
            let mine = part(row);
            !mine.contains(&Value::Null)
                && self.rows.iter().any(|(id, other)| Some(*id) != except && part(other) == mine)
        })
    }

    fn insert(&mut self, row: Vec<Value>) -> bool {
        if self.collides(&row, None) {
            return false;
        }
        let Value::Int(id) = row[0] else { panic!("no id") };
        self.rows.insert(id, row);
        true
    }

    fn update(&mut self, id: i128, row: Vec<Value>) -> bool {
        if !self.rows.contains_key(&id) || self.collides(&row, Some(id)) {
            return false;
        }
        self.rows.remove(&id);
        self.insert(row)
    }

    /// Runs one generated statement and returns how many rows it changed.
    fn run(&mut self, sql: &str) -> u64 {
        let numbers = |s: &str| -> Vec<i128> {
            s.split(", ").flat_map(|p| p.split(',')).map(|n| n.parse().unwrap()).collect()
        };
        let ids = |condition: &str| -> Vec<i128> {
            let inner = condition.strip_prefix("(`id` ").unwrap().strip_suffix(')').unwrap();
            match inner.strip_prefix("IN (") {
                Some(list) => numbers(list.strip_suffix(')').unwrap()),
                None => numbers(inner.strip_prefix("= ").unwrap()),
            }
        };
        let value = |s: &str| if s == "NULL" { Value::Null } else { Value::Int(s.parse().unwrap()) };
        if let Some(condition) = sql.strip_prefix("DELETE FROM `bank`.`account` WHERE ") {
            return ids(condition).iter().filter(|id| self.rows.remove(id).is_some()).count() as u64;
        }
        if let Some(rest) = sql.strip_prefix("UPDATE `bank`.`account` SET ") {
            let (set, condition) = rest.split_once(" WHERE ").unwrap();
            let ids = ids(condition);
            assert_eq!(ids.len(), 1);
            let mut row = self.rows[&ids[0]].clone();
            for (name, assigned) in set.split(", ").map(|a| a.split_once(" = ").unwrap()) {
                let at = self.table.columns.iter().position(|c| format!("`{}`", c.name) == name).unwrap();
                assert_ne!(row[at], value(assigned), "{sql}: it has that value");
                row[at] = value(assigned);
            }
            assert!(self.update(ids[0], row), "{sql} failed on {:?}", self.rows);
            return 1;
        }
        let list =
            sql.strip_prefix("INSERT INTO `bank`.`account` (`id`, `mail`, `a`, `b`, `v`) VALUES ").unwrap();
        let tuples = list.strip_prefix('(').unwrap().strip_suffix(')').unwrap();
        let mut count = 0;
        for tuple in tuples.split("), (") {
            assert!(self.insert(tuple.split(", ").map(value).collect()), "{sql} collides in {:?}", self.rows);
            count += 1;
        }
        count
    }
}

fn small() -> impl Strategy<Value = Vec<Value>> {
    let cell = || prop_oneof![4 => (0..4i128).prop_map(Value::Int), 1 => Just(Value::Null)];
    ((0..6i128).prop_map(Value::Int), cell(), cell(), cell(), cell())
        .prop_map(|(a, b, c, d, e)| vec![a, b, c, d, e])
}

#[derive(Clone, Debug)]
enum Op {
    Insert(Vec<Value>),
    Update(i128, Vec<Value>),
    Delete(i128),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        small().prop_map(Op::Insert),
        (0..6i128, small()).prop_map(|(id, row)| Op::Update(id, row)),
        (0..6i128).prop_map(Op::Delete),
    ]
}

/// The coalesced changes between two states.
fn changes(before: &Rows, after: &Rows) -> Vec<RowChange> {
    let ids: BTreeSet<i128> = before.keys().chain(after.keys()).copied().collect();
    ids.into_iter()
        .map(|id| RowChange { before: before.get(&id).cloned(), after: after.get(&id).cloned() })
        .filter(|change| change.before != change.after)
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever a branch did, its inverse gives the former rows, without a collision on the way.
    #[test]
    fn inverse_undoes(start in vec(small(), 0..6), ops in vec(op(), 0..12), order in any::<u64>()) {
        let mut model = Model { table: accounts(), rows: Rows::new() };
        for row in start {
            model.insert(row);
        }
        let before = model.rows.clone();
        for op in ops {
            match op {
                Op::Insert(row) => { model.insert(row); }
                // A statement that changes the primary key changes two rows.
                Op::Update(id, row) => { model.update(id, row); }
                Op::Delete(id) => { model.rows.remove(&id); }
            }
        }
        let mut changes = changes(&before, &model.rows);
        let mut seed = order;
        changes.sort_by_cached_key(|_| { seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1); seed });
        for change in &changes {
            let Some(Value::Int(id)) = change.before.as_ref().or(change.after.as_ref()).map(|r| &r[0]) else {
                panic!("no id")
            };
            prop_assert_eq!(judge(&model.table, change, model.rows.get(id).map(Vec::as_slice)), Verdict::Restore);
            prop_assert_eq!(
                judge(&model.table, change, before.get(id).map(Vec::as_slice)), Verdict::AlreadyRestored
            );
        }
        for statement in inverse(&accounts(), &changes.iter().collect::<Vec<_>>()) {
            prop_assert_eq!(model.run(&statement.sql), statement.rows);
        }
        prop_assert_eq!(model.rows, before);
    }

    /// A value can't break out of its literal: outside of quotes and digits there is only what we wrote.
    #[test]
    fn literals_hold_any_text(s in any::<String>(), bytes in vec(any::<u8>(), 0..30)) {
        let t = all_kinds();
        for (at, column) in t.columns.iter().enumerate().skip(1).filter(|(_, c)| !c.generated) {
            for value in [Value::Text(s.clone()), Value::Bytes(bytes.clone())] {
                let mut before = vec![Value::Null; t.columns.len()];
                before[0] = Value::Int(1);
                let after = before.clone();
                before[at] = value;
                let change = RowChange { before: Some(before), after: Some(after) };
                let sql = &inverse(&t, &[&change])[0].sql;
                let literal = sql.split_once(&format!("`{}` = ", column.name)).unwrap().1;
                let literal = literal.split_once(", `").map_or(literal, |(l, _)| l);
                let literal = literal.split_once(" WHERE").map_or(literal, |(l, _)| l);
                let (document, numbers) = match literal.strip_prefix("JSON_SET(").and_then(|l| l.strip_suffix(')')) {
                    Some(parts) => {
                        let (document, numbers) = parts.split_once(" AS JSON), ").unwrap();
                        (document.strip_prefix("CAST(").unwrap(), numbers)
                    }
                    None => {
                        let document = literal.strip_prefix("CAST(").and_then(|l| l.strip_suffix(" AS JSON)"));
                        (document.unwrap_or(literal), "")
                    }
                };
                for literal in [document].into_iter().chain(numbers.split(", ").filter(|n| !n.is_empty())) {
                    prop_assert!(is_literal(literal), "{literal}");
                }
            }
        }
    }
}

/// `NULL`, a number, or `[_charset]'plain'`, `[_charset ]0x…` or `[_charset ]X''`.
fn is_literal(sql: &str) -> bool {
    let rest = match sql.strip_prefix('_') {
        Some(r) => r.trim_start_matches(|c: char| c.is_ascii_alphanumeric()).trim_start_matches(' '),
        None => sql,
    };
    let quoted = rest.strip_prefix('\'').and_then(|r| r.strip_suffix('\''));
    rest == "NULL"
        || rest == "X''"
        || quoted.is_some_and(|q| q.bytes().all(|b| (0x20..0x7F).contains(&b) && b != b'\'' && b != b'\\'))
        || rest.strip_prefix("0x").is_some_and(|h| !h.is_empty() && h.bytes().all(|b| b.is_ascii_hexdigit()))
        || rest.bytes().all(|b| b.is_ascii_digit() || b == b'-' || b == b'.')
}

fn change(before: Option<Vec<Value>>, after: Option<Vec<Value>>) -> RowChange {
    RowChange { before, after }
}

fn ints(values: &[i128]) -> Vec<Value> {
    values.iter().map(|n| Value::Int(*n)).collect()
}

#[test]
fn verdicts() {
    let t = accounts();
    let before = ints(&[1, 1, 1, 1, 10]);
    let after = ints(&[1, 1, 1, 1, 20]);
    let other = ints(&[1, 1, 9, 1, 30]);
    let update = change(Some(before.clone()), Some(after.clone()));
    assert_eq!(judge(&t, &update, Some(&after)), Verdict::Restore);
    assert_eq!(judge(&t, &update, Some(&before)), Verdict::AlreadyRestored);
    assert_eq!(judge(&t, &update, Some(&other)), Verdict::Conflict { columns: vec![2, 4] });
    assert_eq!(judge(&t, &update, None), Verdict::Conflict { columns: vec![] });
    let insert = change(None, Some(after.clone()));
    assert_eq!(judge(&t, &insert, Some(&after)), Verdict::Restore);
    assert_eq!(judge(&t, &insert, None), Verdict::AlreadyRestored);
    assert_eq!(judge(&t, &insert, Some(&other)), Verdict::Conflict { columns: vec![2, 4] });
    let delete = change(Some(before.clone()), None);
    assert_eq!(judge(&t, &delete, None), Verdict::Restore);
    assert_eq!(judge(&t, &delete, Some(&before)), Verdict::AlreadyRestored);
    assert_eq!(judge(&t, &delete, Some(&other)), Verdict::Conflict { columns: vec![] });
}

#[test]
fn swapped_unique_values_do_not_collide() {
    let t = accounts();
    let rows = [
        change(Some(ints(&[1, 10, 0, 0, 0])), Some(ints(&[1, 20, 0, 0, 0]))),
        change(Some(ints(&[2, 20, 1, 0, 0])), Some(ints(&[2, 10, 1, 0, 0]))),
    ];
    let sql: Vec<String> = inverse(&t, &rows.iter().collect::<Vec<_>>()).into_iter().map(|s| s.sql).collect();
    assert_eq!(
        sql,
        [
            "DELETE FROM `bank`.`account` WHERE (`id` IN (1,2))",
            "INSERT INTO `bank`.`account` (`id`, `mail`, `a`, `b`, `v`) VALUES (1, 10, 0, 0, 0), (2, 20, 1, 0, 0)",
        ]
    );
    let alone = inverse(&t, &[&rows[0]]);
    assert_eq!(
        alone,
        [Statement {
            sql: "UPDATE `bank`.`account` SET `mail` = 10 WHERE (`id` = 1)".to_owned(),
            params: Vec::new(),
            rows: 1
        }]
    );
}

#[test]
fn generated_columns_are_never_assigned() {
    let t = all_kinds();
    let mut row = vec![Value::Null; t.columns.len()];
    row[0] = Value::Int(0);
    let gone = change(Some(row.clone()), None);
    let changed = change(
        Some(row.clone()),
        Some({
            row[1] = Value::Int(5);
            row
        }),
    );
    for statement in inverse(&t, &[&gone]).into_iter().chain(inverse(&t, &[&changed])) {
        assert!(!statement.sql.contains("twice"), "{}", statement.sql);
    }
}

/// Else ON UPDATE CURRENT_TIMESTAMP would change them.
#[test]
fn instants_that_are_as_they_were_are_assigned_themselves() {
    let t = all_kinds();
    let mut before = vec![Value::Null; t.columns.len()];
    before[0] = Value::Int(1);
    before[10] = Value::Text("2020-01-01 00:00:00.000000".into());
    let mut after = before.clone();
    after[1] = Value::Int(5);
    let sql = |after: &[Value]| {
        let change = change(Some(before.clone()), Some(after.to_vec()));
        inverse(&t, &[&change]).into_iter().map(|s| s.sql).collect::<Vec<_>>().join(";")
    };
    assert_eq!(
        sql(&after),
        "UPDATE `bank`.`account` SET `n` = NULL, `dt` = `dt`, `ts` = `ts` WHERE (`id` = 1)"
    );
    after[10] = Value::Text("2021-01-01 00:00:00.000000".into());
    assert_eq!(
        sql(&after),
        "UPDATE `bank`.`account` SET `n` = NULL, `ts` = '2020-01-01 00:00:00.000000', `dt` = `dt` WHERE (`id` = 1)"
    );
    // What is generated follows by itself
    let mut after = before.clone();
    *after.last_mut().unwrap() = Value::Int(7);
    assert_eq!(sql(&after), "");
}

#[test]
fn what_stands_in_the_way() {
    let t = table(
        vec![
            not_null(column("id", "int", "int")),
            text("a", "longtext", "utf8mb4", "utf8mb4_bin"),
            column("b", "longblob", "longblob"),
            column("d", "double", "double(5,2)"),
        ],
        vec![unique("PRIMARY", &[0])],
    );
    let before = [
        Value::Int(1),
        Value::Text("x".repeat(60_000)),
        Value::Bytes(vec![0; 50_000]),
        Value::Text("0.125".into()),
    ];
    let of = |columns: &[usize], packet_bytes| {
        let columns = columns.iter().copied().collect();
        obstacle(&t, &before, Assigned::Columns(&columns), packet_bytes)
    };
    assert_eq!(of(&[1], 65_536), None);
    assert_eq!(of(&[2], 65_536), None);
    assert!(matches!(of(&[1, 2], 65_536), Some(Obstacle::Packet { needed_bytes: 110_000..111_000 })));
    assert_eq!(of(&[1, 2], 120_000), None);
    assert!(matches!(of(&[1], 60_000), Some(Obstacle::Packet { .. })));
    assert!(matches!(of(&[3], 65_536), Some(Obstacle::Value { column, .. }) if column == "d"));
    assert!(matches!(obstacle(&t, &before, Assigned::Row, 120_000), Some(Obstacle::Value { .. })));
    assert_eq!(of(&[], 1024), None);
}

#[test]
fn large_batches_are_cut() {
    let t = table(
        vec![not_null(column("id", "int", "int")), text("v", "longtext", "utf8mb4", "utf8mb4_bin")],
        vec![unique("PRIMARY", &[0])],
    );
    let row = |id: i128| vec![Value::Int(id), Value::Text("x".repeat(MAX_STATEMENT_BYTES / 3))];
    let rows: Vec<RowChange> = (0..7).map(|id| change(Some(row(id)), None)).collect();
    let statements = inverse(&t, &rows.iter().collect::<Vec<_>>());
    assert!(statements.len() >= 3);
    assert_eq!(statements.iter().map(|s| s.rows).sum::<u64>(), 7);
    assert!(statements.iter().all(|s| s.sql.len() <= MAX_STATEMENT_BYTES));
    let rows: Vec<RowChange> =
        (0..1200).map(|id| change(None, Some(vec![Value::Int(id), Value::Null]))).collect();
    let statements = inverse(&t, &rows.iter().collect::<Vec<_>>());
    assert_eq!(statements.iter().map(|s| s.rows).collect::<Vec<_>>(), [500, 500, 200]);
}

#[test]
fn conflict_reports_are_bounded() {
    let t = table(
        vec![not_null(column("id", "int", "int")), text("v", "longtext", "utf8mb4", "utf8mb4_bin")],
        vec![unique("PRIMARY", &[0])],
    );
    let mut report = ConflictReport::new("an outsider changed a row");
    let long = "é".repeat(100_000);
    for id in 0..50 {
        let row = |v: &str| vec![Value::Int(id), Value::Text(v.to_owned())];
        let change = change(Some(row("before")), Some(row(&long)));
        let current = row("now");
        let Verdict::Conflict { columns } = judge(&t, &change, Some(&current)) else { panic!() };
        report.add(&t, &change, Some(&current), &columns);
    }
    assert_eq!((report.rows.len(), report.more_rows), (20, 30));
    assert_eq!(report.rows[3].columns, ["v"]);
    let json = report.to_json();
    assert!(json.len() < 20 * 3 * 1024);
    assert!(json.contains("(cut: 200000 bytes)"));
    assert_eq!(serde_json::from_str::<ConflictReport>(&json).unwrap(), report);
}

#[test]
fn a_short_key_matches_nothing() {
    let t = table(
        vec![not_null(column("a", "int", "int")), not_null(column("b", "int", "int"))],
        vec![unique("PRIMARY", &[0, 1])],
    );
    assert_eq!(t.keys_predicate("t", &[]), "(1 = 0)");
    assert_eq!(t.keys_predicate("t", &[Key(ints(&[1]))]), "((1 = 0))");
    assert_eq!(
        t.keys_predicate("t", &[Key(ints(&[1, 2])), Key(ints(&[3, 4]))]),
        "((t.`a`,t.`b`) IN ((1,2),(3,4)))"
    );
    assert_eq!(
        t.keys_predicate("t", &[Key(ints(&[1, 2])), Key(ints(&[3]))]),
        "((t.`a` = 1 AND t.`b` = 2) OR (1 = 0))"
    );
}

#[test]
fn keys_of_several_columns_stand_in_rows_where_those_are_compared_alike() {
    let two = |second: Column, values: [Value; 2]| {
        let columns = vec![not_null(column("a", "int", "int")), not_null(second)];
        let t = table(columns, vec![unique("PRIMARY", &[0, 1])]);
        t.keys_predicate("t", &values.map(|value| Key(vec![Value::Int(1), value])))
    };
    let rows = |second: Column, texts: [&str; 2]| two(second, texts.map(|text| Value::Text(text.to_owned())));
    assert_eq!(
        rows(column("b", "date", "date"), ["2020-01-01", "2020-01-02"]),
        "((t.`a`,t.`b`) IN ((1,_latin1'2020-01-01'),(1,_latin1'2020-01-02')))"
    );
    assert_eq!(
        rows(text("b", "char(9)", "latin1", "latin1_swedish_ci"), ["a", "é"]),
        "((t.`a`,t.`b`) IN ((1,_latin1'a'),(1,_latin1 0xE9)))"
    );
    assert_eq!(
        rows(text("b", "char(9)", "utf8mb3", "utf8mb3_bin"), ["a", "é"]),
        "((t.`a`,t.`b`) IN ((1,_utf8mb4'a'),(1,_utf8mb4 0xC3A9)))"
    );
    // A date that is none, a double, a text that the column's charset does not hold, NULL
    assert!(rows(column("b", "date", "date"), ["2020-01-01", "0000-00-00"]).contains(" OR "));
    assert!(rows(column("b", "double", "double"), ["1.5", "2.5"]).contains(" OR "));
    assert!(rows(text("b", "char(9)", "latin1", "latin1_bin"), ["a", "😀"]).contains(" OR "));
    assert!(two(column("b", "int", "int"), [Value::Int(1), Value::Null]).contains(" OR "));
}
