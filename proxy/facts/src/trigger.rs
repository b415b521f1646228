//! The triggers of a table: what they do to a statement, and to the rollback that undoes it.
//!
//! A trigger fires for the compensation as well. So a statement is captured only if two things hold:
//!
//! - Its own triggers change no rows but those that they add and that can be found, and those that follow from the
//!   statement's.
//! - The triggers of its inverse do nothing beyond that.
//!
//! The inverse of INSERT is DELETE, and the inverse of DELETE is INSERT. The inverse of UPDATE is UPDATE. Where a
//! trigger for UPDATE interferes, or a key changes, it is a DELETE and an INSERT.

use atone_sql::{Mode, TriggerBody, trigger_action, trigger_body};
use atone_undo::Table;

use crate::audit::AuditTable;
use crate::mirror::{self, Mirror};

/// A trigger, as `information_schema.TRIGGERS` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trigger {
    /// Its name, which is unique in the table's schema.
    pub name: String,
    /// `INSERT`, `UPDATE` or `DELETE`.
    pub event: String,
    /// `BEFORE` or `AFTER`.
    pub timing: String,
    /// What it runs.
    pub body: String,
    /// The SQL mode under which it is read and run.
    pub sql_mode: String,
    /// What it does, if that is understood and the rows that it adds to tables can be found; else why not.
    pub effect: Result<TriggerBody, String>,
    /// The tables to which it adds rows, without a log of changes that a tool applies elsewhere.
    pub audit_tables: Vec<AuditTable>,
    /// The table in which it keeps a row equal to its own.
    pub mirror: Option<Mirror>,
}

/// A row of `information_schema.TRIGGERS`.
#[derive(Clone, Debug)]
pub struct TriggerRow {
    /// `TRIGGER_NAME`
    pub name: String,
    /// `EVENT_MANIPULATION`
    pub event: String,
    /// `ACTION_TIMING`
    pub timing: String,
    /// `ACTION_STATEMENT`
    pub body: Option<String>,
    /// `SQL_MODE`
    pub sql_mode: String,
}

impl Trigger {
    /// Reads a trigger. The tables that it writes are resolved by [`Trigger::resolve_mirror`] and
    /// [`Trigger::add_audit_table`].
    pub fn parse(row: TriggerRow, mariadb: bool) -> Trigger {
        let TriggerRow { name, event, timing, body, sql_mode } = row;
        let body = body.unwrap_or_default();
        let effect = Mode::from_sql_mode(&sql_mode, mariadb)
            .map_err(|e| e.to_string())
            .and_then(|mode| trigger_body(body.as_bytes(), mode));
        Trigger { name, event, timing, body, sql_mode, effect, audit_tables: Vec::new(), mirror: None }
    }

    /// Reads the body again, from a CREATE TRIGGER statement under its `sql_mode`.
    pub fn parse_create(&mut self, create: &str, sql_mode: &str, mariadb: bool) {
        let mode = Mode::from_sql_mode(sql_mode, mariadb).map_err(|e| e.to_string());
        self.effect = mode.and_then(|mode| {
            let action =
                trigger_action(create.as_bytes(), mode).ok_or("its CREATE TRIGGER is not understood")?;
            self.body = String::from_utf8_lossy(action).into_owned();
            trigger_body(action, mode)
        });
    }

    /// Notes the table that the triggers of this table keep equal to it, as [`mirror`](crate::mirror) has found it.
    pub fn resolve_mirror(&mut self, mirror: &Result<Option<Mirror>, String>) {
        if self.effect.as_ref().is_ok_and(|body| body.mirror.is_some()) {
            match mirror {
                Ok(mirror) => self.mirror.clone_from(mirror),
                Err(why) => self.effect = Err(why.clone()),
            }
        }
    }

    /// Notes a table to which the trigger adds rows; or why these rows cannot be found, after which its effect counts
    /// as unknown.
    pub fn add_audit_table(&mut self, log: Result<AuditTable, String>) {
        match log {
            Ok(log) if mirror::is_change_log(&log.name) => {}
            Ok(log) => self.audit_tables.push(log),
            Err(why) => self.effect = Err(why),
        }
    }

    /// It has no effect outside of its own run.
    pub(crate) fn has_no_effect(&self) -> bool {
        !self.interferes()
            && self.effect.as_ref().is_ok_and(|body| body.inserts.is_empty() && body.mirror.is_none())
    }

    /// It may change what is written, or stop it; or what it does is unknown.
    fn interferes(&self) -> bool {
        self.effect.as_ref().map_or(true, |body| !body.sets.is_empty() || body.signals)
    }
}

/// How a statement, or a foreign key that acts on it, changes rows of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// Rows are inserted.
    Insert,
    /// Rows are updated.
    Update {
        /// Columns of a unique key may change.
        keys: bool,
    },
    /// Rows are deleted.
    Delete,
}

impl Write {
    /// The event for which triggers fire.
    pub fn event(self) -> &'static str {
        match self {
            Write::Insert => "INSERT",
            Write::Update { .. } => "UPDATE",
            Write::Delete => "DELETE",
        }
    }
}

/// The first trigger for one of these events that interferes with what is written.
fn interfering<'a>(triggers: &'a [Trigger], events: &[&str]) -> Option<&'a Trigger> {
    triggers.iter().find(|t| events.contains(&t.event.as_str()) && t.interferes())
}

/// The tables to which triggers for these events add rows, each once.
pub fn audit_tables_of<'a>(triggers: &'a [Trigger], events: &[&str]) -> Vec<&'a AuditTable> {
    let mut out: Vec<&AuditTable> = Vec::new();
    for log in triggers.iter().filter(|t| events.contains(&t.event.as_str())).flat_map(|t| &t.audit_tables) {
        if !out.contains(&log) {
            out.push(log);
        }
    }
    out
}

/// The table in which triggers for these events keep rows equal to those of their own.
pub fn mirror_of<'a>(triggers: &'a [Trigger], events: &[&str]) -> Option<&'a Mirror> {
    triggers.iter().filter(|t| events.contains(&t.event.as_str())).find_map(|t| t.mirror.as_ref())
}

/// Whether no trigger has an effect outside of its own run.
pub fn have_no_effect(triggers: &[Trigger]) -> bool {
    triggers.iter().all(Trigger::has_no_effect)
}

/// The first trigger that fires for this write and has an effect outside of its own run.
pub fn first_with_effect(triggers: &[Trigger], write: Write) -> Option<&Trigger> {
    triggers.iter().find(|trigger| trigger.event == write.event() && !trigger.has_no_effect())
}

/// Whether the compensation of an UPDATE is a DELETE and an INSERT, because only triggers for UPDATE interfere.
pub fn compensates_by_replacing(triggers: &[Trigger]) -> bool {
    interfering(triggers, &["UPDATE"]).is_some() && interfering(triggers, &["INSERT", "DELETE"]).is_none()
}

/// Why a statement that writes the table like this cannot be captured.
pub fn capture_refusal(table: &Table, triggers: &[Trigger], write: Write) -> Option<String> {
    let named = |t: &Trigger, why: &str| {
        Some(format!("{}.{} has the trigger {}: {why}", table.schema, table.name, t.name))
    };
    let unique = || table.keys.iter().flat_map(|key| &key.columns).filter_map(|&c| table.columns.get(c));
    for trigger in triggers.iter().filter(|t| t.event == write.event()) {
        match &trigger.effect {
            Err(why) => return named(trigger, why),
            Ok(body) => {
                let keyed = body
                    .sets
                    .iter()
                    .find(|set| unique().any(|c| c.generated || c.name.eq_ignore_ascii_case(set)));
                if let Some(column) = keyed {
                    return named(trigger, &format!("it sets {column}, which may be a part of a unique key"));
                }
                if let Some(mirror) = trigger.mirror.as_ref().filter(|mirror| !mirror.moves)
                    && write == (Write::Update { keys: true })
                {
                    let copy = &mirror.name;
                    return named(
                        trigger,
                        &format!("it leaves the row of {copy} behind where a key is updated"),
                    );
                }
            }
        }
    }
    undo_refusal(table, triggers, write)
}

/// Why the rollback of such a write is not exact.
pub fn undo_refusal(table: &Table, triggers: &[Trigger], write: Write) -> Option<String> {
    let trigger = match write {
        Write::Insert => interfering(triggers, &["DELETE"]),
        Write::Delete => interfering(triggers, &["INSERT"]),
        Write::Update { keys: true } => interfering(triggers, &["INSERT", "DELETE"]),
        Write::Update { keys: false } => {
            interfering(triggers, &["UPDATE"]).and_then(|_| interfering(triggers, &["INSERT", "DELETE"]))
        }
    };
    trigger.map(|t| {
        format!(
            "{}.{} has the trigger {}, which the rollback of the statement would fire",
            table.schema, table.name, t.name
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    fn trigger(event: &str, body: &str) -> Trigger {
        Trigger {
            name: "x".into(),
            event: event.into(),
            timing: "BEFORE".into(),
            body: body.into(),
            sql_mode: String::new(),
            effect: trigger_body(body.as_bytes(), Mode::default()),
            audit_tables: Vec::new(),
            mirror: None,
        }
    }

    const UPDATE: Write = Write::Update { keys: false };

    #[test]
    fn what_may_be_captured_depends_on_the_triggers_of_the_inverse() {
        let table = samples::table(&["id", "v", "at"]);
        let may = |triggers: &[Trigger], write| capture_refusal(&table, triggers, write).is_none();
        let stamp = |event| trigger(event, "SET NEW.at = 5");
        let writes = |event| trigger(event, "UPDATE log SET n = 1");
        let adds = |event| trigger(event, "INSERT INTO log (what) VALUES (1)");
        let checks = |event| trigger(event, "IF NEW.v < 0 THEN SIGNAL SQLSTATE '45000'; END IF");
        assert!(may(&[stamp("INSERT")], Write::Insert) && may(&[stamp("INSERT")], UPDATE));
        assert!(!may(&[stamp("INSERT")], Write::Delete));
        assert!(may(&[stamp("UPDATE")], UPDATE) && may(&[stamp("UPDATE")], Write::Delete));
        assert!(!may(&[stamp("UPDATE"), stamp("INSERT")], UPDATE));
        assert!(may(&[stamp("UPDATE"), stamp("INSERT")], Write::Insert));
        assert!(!may(&[writes("INSERT")], Write::Insert) && !may(&[writes("INSERT")], Write::Delete));
        assert!(may(&[writes("INSERT")], UPDATE) && !may(&[writes("UPDATE")], UPDATE));
        assert!(!may(&[writes("INSERT")], Write::Update { keys: true }));
        assert!(may(&[checks("UPDATE"), checks("INSERT")], Write::Insert));
        assert!(!may(&[checks("UPDATE"), checks("INSERT")], UPDATE));
        let audit = [adds("INSERT"), adds("UPDATE"), adds("DELETE")];
        assert!(
            [Write::Insert, UPDATE, Write::Update { keys: true }, Write::Delete]
                .into_iter()
                .all(|w| may(&audit, w))
        );
        assert!(
            !compensates_by_replacing(&audit)
                && compensates_by_replacing(&[adds("INSERT"), stamp("UPDATE")])
                && !have_no_effect(&[adds("INSERT")])
        );
        assert!(!may(&[trigger("INSERT", "SET NEW.id = 5")], Write::Insert));
        assert!(may(&[trigger("DELETE", "SET @n = 1"), writes("UPDATE")], Write::Insert));
    }
}
