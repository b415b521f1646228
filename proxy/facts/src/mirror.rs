//! Tables that the triggers of another table keep equal to it. Tools for online schema changes fill their new table so.
//!
//! A row of the new table is a function of the row that it stands for, or it is not there yet. The statements of a
//! rollback fire the same triggers, so that the copy follows its original back. Nothing of it is recorded, and the
//! original's lock covers it.
//!
//! This holds under two conditions. Nobody else writes the new table, which is known of tools only. And a REPLACE in it
//! deletes no row but the one that stands for the same original.

use atone_sql::{MirrorBody, MirrorDelete};
use atone_undo::{Column, Kind, Table, UniqueKey, quote_identifier};

use crate::audit::largest;
use crate::column_default::ColumnDefault;
use crate::table::TableInfo;
use crate::trigger::{Trigger, Write, capture_refusal};

/// Prefixes of the names of triggers, by tools whose new tables nobody else writes: pt-online-schema-change and Large
/// Hadron Migrator.
const TOOLS: [&str; 2] = ["pt_osc_", "lhmt_"];
/// Prefixes of the names of OnlineSchemaChange's triggers, which write a log of changes.
const LOGGING_TOOLS: [&str; 3] = ["__osc_ins_", "__osc_upd_", "__osc_del_"];
/// The prefix of the name of that log.
const CHANGE_LOG: &str = "__osc_chg_";

/// A table that the triggers of another one keep equal to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Its columns that are given a value, each with the other table's column that gives it.
    given: Vec<(String, String)>,
    /// Those by which a row is found that has to go.
    key: Vec<(String, String)>,
    /// A row whose key is updated goes.
    pub moves: bool,
}

impl Mirror {
    /// The table's name with its schema, quoted.
    pub fn quoted(&self) -> String {
        format!("{}.{}", quote_identifier(&self.schema), quote_identifier(&self.name))
    }

    /// Why its rows would not follow those of `own` exactly, as both tables are.
    pub fn unfit(&self, own: &TableInfo, copy: &TableInfo) -> Option<String> {
        if let Some(why) = copy.refuse_any.as_ref().or(copy.references.unproven.as_ref()) {
            return Some(why.clone());
        }
        if let Some(key) = copy.references.keys.first() {
            return Some(format!(
                "the foreign key {} of {}.{} points at it",
                key.name, key.schema, key.table
            ));
        }
        if let Some(trigger) = copy.facts.triggers.iter().find(|t| !t.has_no_effect()) {
            return Some(format!("it has the trigger {} itself", trigger.name));
        }
        self.unfit_column(own, copy).or_else(|| self.unfit_key(&own.table, &copy.table))
    }

    /// A column whose value does not follow from the row alone.
    fn unfit_column(&self, own: &TableInfo, copy: &TableInfo) -> Option<String> {
        for (at, column) in copy.table.columns.iter().enumerate().filter(|(_, column)| !column.generated) {
            let follows = match self.source(&own.table, &column.name) {
                // What one of the two becomes in the other depends on the session's time zone, and for a TIME on the
                // day
                Some(source) => [Kind::Timestamp, Kind::Time]
                    .iter()
                    .all(|kind| (source.kind == *kind) == (column.kind == *kind)),
                None if column.auto_increment || column.kind == Kind::Timestamp => true,
                None => matches!(
                    copy.defaults.get(at),
                    Some(ColumnDefault::Null | ColumnDefault::Constant | ColumnDefault::Missing)
                ),
            };
            if !follows {
                return Some(format!(
                    "the value of its column {} does not follow from the row alone",
                    column.name
                ));
            }
        }
        None
    }

    /// A key by which a REPLACE would delete other rows, or none by which it deletes the row's own.
    fn unfit_key(&self, own: &Table, copy: &Table) -> Option<String> {
        let identifies = |key: &&UniqueKey| {
            key.prefixes.iter().all(Option::is_none)
                && columns(own, key).all(|c| {
                    let found = self.key.iter().find(|(_, by)| is(by, &c.name));
                    !c.nullable
                        && found
                            .and_then(|(name, _)| column(copy, name))
                            .is_some_and(|copied| keeps(c, copied))
                })
        };
        let copied = self.key.iter().all(|pair| {
            let (copied, source) = (column(copy, &pair.0), column(own, &pair.1));
            self.given.iter().any(|given| is(&given.0, &pair.0) && is(&given.1, &pair.1))
                && source.zip(copied).is_some_and(|(source, copied)| keeps(source, copied))
        });
        if !copied || !own.keys.iter().any(|key| identifies(&key)) {
            return Some("no unique key tells which of its rows stands for which".into());
        }
        let replaces = |key: &&UniqueKey| {
            key.prefixes.iter().all(Option::is_none)
                && columns(copy, key)
                    .all(|c| !c.nullable && self.key.iter().any(|(name, _)| is(name, &c.name)))
        };
        if !copy.keys.iter().any(|key| replaces(&key)) {
            return Some("it has no unique key by which a REPLACE finds the row".into());
        }
        let other = copy.keys.iter().find(|key| !self.is_covered(own, copy, key))?;
        Some(format!("other rows may hold a value of its unique key {}", other.name))
    }

    /// Two rows that are there at the same time never have equal values in this key of the copy.
    fn is_covered(&self, own: &Table, copy: &Table, key: &UniqueKey) -> bool {
        let numbered = |c: &Column| c.auto_increment && self.source(own, &c.name).is_none();
        columns(copy, key).any(numbered)
            || own.keys.iter().any(|unique| {
                unique.columns.iter().enumerate().all(|(part, &at)| {
                    let Some(source) = own.columns.get(at) else { return false };
                    key.columns.iter().enumerate().any(|(place, &c)| {
                        let same = |column: &&Column| {
                            keeps(source, column)
                                && self.source(own, &column.name).is_some_and(|s| s.name == source.name)
                        };
                        copy.columns.get(c).filter(same).is_some()
                            && prefix(key, place) == prefix(unique, part)
                    })
                })
            })
    }

    /// The column of the other table that gives this one its value.
    fn source<'a>(&self, own: &'a Table, copied: &str) -> Option<&'a Column> {
        let (_, source) = self.given.iter().find(|(name, _)| is(name, copied))?;
        column(own, source)
    }
}

fn is(one: &str, other: &str) -> bool {
    one.to_lowercase() == other.to_lowercase()
}

fn column<'a>(table: &'a Table, name: &str) -> Option<&'a Column> {
    table.columns.iter().find(|column| is(&column.name, name))
}

fn columns<'a>(table: &'a Table, key: &'a UniqueKey) -> impl Iterator<Item = &'a Column> {
    key.columns.iter().filter_map(|&at| table.columns.get(at))
}

fn prefix(key: &UniqueKey, part: usize) -> Option<u32> {
    key.prefixes.get(part).copied().flatten()
}

/// Whether different values stay different, and are found by what they were, where they are copied from one column to
/// the other.
fn keeps(was: &Column, is: &Column) -> bool {
    if is.generated || (was.nullable && !is.nullable) {
        return false;
    }
    if (&was.charset, &was.collation) != (&is.charset, &is.collation) || was.kind != is.kind {
        return false;
    }
    was.column_type == is.column_type
        || match was.kind {
            Kind::Int => {
                let unsigned = |c: &Column| c.column_type.to_ascii_lowercase().contains("unsigned");
                let range = largest(&was.column_type).zip(largest(&is.column_type));
                (unsigned(was) || !unsigned(is)) && range.is_some_and(|(was, is)| is >= was)
            }
            Kind::Char | Kind::Text => length(was).zip(length(is)).is_some_and(|(was, is)| is >= was),
            _ => false,
        }
}

/// How many characters a column of CHAR or VARCHAR holds.
fn length(column: &Column) -> Option<u32> {
    column.column_type.split_once('(')?.1.strip_suffix(')')?.parse().ok()
}

/// The table that these triggers keep equal to their own; nothing where none of them writes rows of a mirror.
///
/// # Errors
/// Why its rows would not follow.
pub fn mirror(schema: &str, triggers: &[Trigger]) -> Result<Option<Mirror>, String> {
    let bodies: Vec<(&Trigger, &MirrorBody)> = triggers
        .iter()
        .filter_map(|trigger| Some((trigger, trigger.effect.as_ref().ok()?.mirror.as_ref()?)))
        .collect();
    let Some((_, first)) = bodies.first() else { return Ok(None) };
    if let Some((other, _)) = bodies.iter().find(|(trigger, _)| !is_of_tool(&trigger.name)) {
        return Err(format!(
            "it writes {}, of which {} is not known to be the only writer",
            first.table, other.name
        ));
    }
    if bodies.iter().any(|(trigger, body)| {
        trigger.timing != "AFTER" || (&body.schema, &body.table) != (&first.schema, &first.table)
    }) {
        return Err("the triggers write several tables, or before their row is written".into());
    }
    let mut of_event = ["INSERT", "UPDATE", "DELETE"].map(|event| {
        let mut bodies = bodies.iter().filter(|(trigger, _)| trigger.event == event).map(|(_, body)| *body);
        (event, bodies.next(), bodies.next())
    });
    if let Some((event, ..)) = of_event.iter().find(|(_, one, other)| one.is_none() || other.is_some()) {
        return Err(format!("it writes {}, and not one trigger for {event} does", first.table));
    }
    let [insert, update, delete] = of_event.each_mut().map(|(_, body, _)| body.take());
    let (Some(insert), Some(update), Some(delete)) = (insert, update, delete) else { return Ok(None) };
    let (Some(given), Some(deleted)) = (&insert.replace, &delete.delete) else {
        return Err(format!("it does not keep the rows of {} as its own", first.table));
    };
    let same_columns = update.replace.as_ref() == Some(given);
    if !same_columns
        || insert.delete.is_some()
        || delete.replace.is_some()
        || !deleted.unless_unchanged.is_empty()
    {
        return Err(format!("the triggers give the columns of {} different values", first.table));
    }
    let moves = match &update.delete {
        None => false,
        Some(moved) if moves_all(moved, deleted) => true,
        Some(_) => return Err(format!("the triggers delete different rows of {}", first.table)),
    };
    Ok(Some(Mirror {
        schema: first.schema.clone().unwrap_or_else(|| schema.to_owned()),
        name: first.table.clone(),
        given: given.clone(),
        key: deleted.by.clone(),
        moves,
    }))
}

/// Whether an UPDATE deletes the row that a DELETE would, where any part of its key changes.
fn moves_all(moved: &MirrorDelete, deleted: &MirrorDelete) -> bool {
    let kept = |column: &str| moved.unless_unchanged.iter().any(|kept| is(kept, column));
    let whole = moved.unless_unchanged.is_empty()
        || (moved.unless_unchanged.len() == deleted.by.len() && deleted.by.iter().all(|(_, own)| kept(own)));
    moved.by == deleted.by && whole
}

/// Whether a trigger of this name is one of a tool that writes the new table by triggers.
fn is_of_tool(name: &str) -> bool {
    TOOLS.iter().any(|tool| begins(name, tool))
}

fn begins(name: &str, with: &str) -> bool {
    name.get(..with.len()).is_some_and(|head| head.eq_ignore_ascii_case(with))
}

/// Whether a table of this name is a log whose rows a tool applies to the new table in their order.
///
/// The rows of a branch stay when it is rolled back, and those of the rollback come after them: the tool may have
/// applied a row before the rollback could delete it.
pub(crate) fn is_change_log(name: &str) -> bool {
    begins(name, CHANGE_LOG)
}

/// Whether nothing but triggers that a tool drops after its schema change keeps such a write from being captured.
pub fn is_refused_by_tools_only(table: &Table, triggers: &[Trigger], write: Write) -> bool {
    capture_refusal(table, &without_tool_triggers(triggers), write).is_none()
}

/// The triggers that stay when tools have finished their schema changes.
pub fn without_tool_triggers(triggers: &[Trigger]) -> Vec<Trigger> {
    let stays =
        |t: &&Trigger| !is_of_tool(&t.name) && !LOGGING_TOOLS.iter().any(|tool| begins(&t.name, tool));
    triggers.iter().filter(stays).cloned().collect()
}

#[cfg(test)]
mod tests {
    use atone_sql::{Mode, trigger_body};

    use super::*;
    use crate::samples;

    const PUT: &str = "REPLACE INTO c (id, a) VALUES (NEW.id, NEW.v)";
    const TAKE: &str = "DELETE FROM c WHERE id <=> OLD.id";
    const MOVE: &str = "BEGIN DELETE FROM c WHERE !(OLD.id <=> NEW.id) AND id <=> OLD.id; \
                        REPLACE INTO c (id, a) VALUES (NEW.id, NEW.v); END";

    fn trigger((event, body): (&str, &str)) -> Trigger {
        Trigger {
            name: format!("pt_osc_s_t_{event}"),
            event: event.into(),
            timing: "AFTER".into(),
            body: body.into(),
            sql_mode: String::new(),
            effect: trigger_body(body.as_bytes(), Mode::default()),
            audit_tables: Vec::new(),
            mirror: None,
        }
    }

    fn of(bodies: &[(&str, &str)]) -> Result<Option<Mirror>, String> {
        mirror("s", &bodies.iter().copied().map(trigger).collect::<Vec<_>>())
    }

    const ALL: [(&str, &str); 3] = [("INSERT", PUT), ("UPDATE", MOVE), ("DELETE", TAKE)];

    #[test]
    fn all_events_keep_one_table() {
        let found = of(&ALL).unwrap().unwrap();
        assert_eq!((found.schema.as_str(), found.name.as_str(), found.moves), ("s", "c", true));
        assert!(!of(&[ALL[0], ("UPDATE", PUT), ALL[2]]).unwrap().unwrap().moves);
        assert_eq!(of(&[("INSERT", "SET NEW.a = 1")]), Ok(None));
        for bodies in [
            &ALL[..2],
            &[ALL[0], ("UPDATE", TAKE), ALL[2]],
            &[ALL[0], ALL[1], ("DELETE", "DELETE FROM c WHERE id <=> OLD.v")],
            &[ALL[0], ALL[1], ("DELETE", "DELETE FROM d WHERE id <=> OLD.id")],
            &[ALL[0], ALL[1], ALL[2], ALL[2]],
            &[("INSERT", "REPLACE INTO c (id, a) VALUES (NEW.id, NEW.id)"), ALL[1], ALL[2]],
        ] {
            assert!(of(bodies).is_err(), "{bodies:?}");
        }
        let mut triggers = ALL.map(trigger);
        triggers[1].name = "mine".into();
        assert!(mirror("s", &triggers).is_err());
        triggers = ALL.map(trigger);
        triggers[1].timing = "BEFORE".into();
        assert!(mirror("s", &triggers).is_err());
    }

    #[test]
    fn a_replace_meets_no_other_row() {
        let own = samples::info(samples::table(&["id", "v"]));
        let found = of(&ALL).unwrap().unwrap();
        let unfit = |change: &dyn Fn(&mut TableInfo, &mut Table)| {
            let mut table = samples::table(&["id", "a", "new"]);
            let mut info = samples::info(table.clone());
            info.defaults = vec![ColumnDefault::Missing; 3];
            change(&mut info, &mut table);
            info.table = table.into();
            found.unfit(&own, &info).is_some()
        };
        let key = |columns: &[usize]| UniqueKey {
            name: "k".into(),
            columns: columns.to_vec(),
            prefixes: vec![None; columns.len()],
        };
        assert!(!unfit(&|_, _| {}));
        assert!(!unfit(&|_, table| table.columns[0].column_type = "bigint".into()));
        assert!(unfit(&|_, table| table.columns[0].column_type = "smallint".into()));
        assert!(unfit(&|_, table| table.columns[0].column_type = "bigint unsigned".into()));
        assert!(unfit(&|_, table| table.columns[1].kind = Kind::Timestamp));
        assert!(unfit(&|_, table| table.columns[1].kind = Kind::Time));
        assert!(!unfit(&|_, table| table.keys.push(key(&[2, 0]))));
        assert!(unfit(&|_, table| table.keys.push(key(&[1]))));
        assert!(unfit(&|_, table| table.keys.push(key(&[2]))));
        assert!(!unfit(&|_, table| {
            table.columns[2].auto_increment = true;
            table.keys.push(key(&[2]));
        }));
        assert!(unfit(&|_, table| table.keys[0] = key(&[1, 0])));
        assert!(unfit(&|info, _| info.defaults[2] = ColumnDefault::Expression("now()".into())));
        assert!(unfit(&|info, _| info.references.unproven = Some("hidden".into())));
        assert!(
            unfit(&|info, _| info.facts.triggers = vec![trigger(("INSERT", "INSERT INTO x VALUES (1)"))])
        );
        assert!(unfit(&|info, _| info.refuse_any = Some("of another engine".into())));
    }

    #[test]
    fn types_that_keep_values_apart() {
        let of = |kind, ty: &str, nullable| Column {
            kind,
            column_type: ty.into(),
            nullable,
            ..samples::column("c")
        };
        let text = |ty: &str| of(Kind::Text, ty, false);
        assert!(
            keeps(&text("varchar(5)"), &text("varchar(9)"))
                && !keeps(&text("varchar(9)"), &text("varchar(5)"))
        );
        assert!(!keeps(&text("varchar(5)"), &text("text")) && keeps(&text("text"), &text("text")));
        let collated = Column { collation: Some("utf8mb4_bin".into()), ..text("varchar(5)") };
        assert!(!keeps(&text("varchar(5)"), &collated));
        assert!(!keeps(&of(Kind::Int, "int", true), &of(Kind::Int, "int", false)));
        assert!(!keeps(&of(Kind::Int, "int", false), &of(Kind::Decimal, "decimal(20,0)", false)));
    }
}
