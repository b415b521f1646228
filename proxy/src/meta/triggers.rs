//! The triggers of a table: what they do to a statement, and to the rollback that undoes it.
//!
//! A trigger fires for the compensation as well. So a statement is captured only where its own triggers add rows that can be
//! found, or keep rows that follow from its own, and change no others, and where those of its inverse do nothing beyond: the inverse of INSERT is DELETE, that of
//! DELETE is INSERT, that of UPDATE is UPDATE, or DELETE and INSERT where triggers for UPDATE bend it or where a key changes.

use atone_sql::{Mode, TriggerBody, trigger_action, trigger_body};
use atone_undo::{Table, quote_identifier};
use mysql_async::{Conn, Row};

use super::logs::{LogTable, Logs};
use super::mirror::{self, Mirror};
use crate::rights::Rights;
use crate::typed::{Typed, literal, typed_rows};

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
    /// What it does, where that is known and the rows that it adds to tables can be told; else why not.
    pub effect: Result<TriggerBody, String>,
    /// The tables to which it adds rows, but for a log of changes that is applied elsewhere.
    pub logs: Vec<LogTable>,
    /// The table in which it keeps a row equal to its own.
    pub mirror: Option<Mirror>,
}

impl Trigger {
    /// Reads it anew, by its CREATE TRIGGER.
    fn read_as(&mut self, shown: Option<Shown>, mariadb: bool) {
        let (_, sql_mode, create) = shown.unwrap_or_default();
        let mode = Mode::from_sql_mode(&sql_mode, mariadb).map_err(|e| e.to_string());
        self.effect = mode.and_then(|mode| {
            let action =
                trigger_action(create.as_bytes(), mode).ok_or("its CREATE TRIGGER is not understood")?;
            self.body = String::from_utf8_lossy(action).into_owned();
            trigger_body(action, mode)
        });
    }

    /// It does nothing that could be noticed.
    pub(super) fn is_quiet(&self) -> bool {
        !self.bends()
            && self.effect.as_ref().is_ok_and(|body| body.inserts.is_empty() && body.mirror.is_none())
    }

    /// It may change what is written, or stop it, or nobody knows what it does.
    fn bends(&self) -> bool {
        self.effect.as_ref().map_or(true, |body| !body.sets.is_empty() || body.signals)
    }
}

/// How a statement, or a foreign key behind it, changes rows of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// Rows come.
    Insert,
    /// Rows change, columns of a unique key among them or not.
    Update {
        /// Columns of a unique key may change.
        keys: bool,
    },
    /// Rows go.
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

/// The first trigger that would bend what is written for one of these events.
fn bends<'a>(triggers: &'a [Trigger], events: &[&str]) -> Option<&'a Trigger> {
    triggers.iter().find(|t| events.contains(&t.event.as_str()) && t.bends())
}

/// The tables to which triggers add rows for these events, each once.
pub fn logs_of<'a>(triggers: &'a [Trigger], events: &[&str]) -> Vec<&'a LogTable> {
    let mut out: Vec<&LogTable> = Vec::new();
    for log in triggers.iter().filter(|t| events.contains(&t.event.as_str())).flat_map(|t| &t.logs) {
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

/// Whether no trigger would be noticed.
pub fn are_quiet(triggers: &[Trigger]) -> bool {
    triggers.iter().all(Trigger::is_quiet)
}

/// The first trigger that fires when rows are written like this and would be noticed.
pub fn first_noticed(triggers: &[Trigger], write: Write) -> Option<&Trigger> {
    triggers.iter().find(|trigger| trigger.event == write.event() && !trigger.is_quiet())
}

/// Whether an UPDATE of the compensation has to be a DELETE and an INSERT, since triggers for UPDATE only would bend it.
pub fn replaces(triggers: &[Trigger]) -> bool {
    bends(triggers, &["UPDATE"]).is_some() && bends(triggers, &["INSERT", "DELETE"]).is_none()
}

/// Why a statement that writes the table like this cannot be captured.
pub fn refusal(table: &Table, triggers: &[Trigger], write: Write) -> Option<String> {
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

/// Why it could not be undone.
pub fn undo_refusal(table: &Table, triggers: &[Trigger], write: Write) -> Option<String> {
    let trigger = match write {
        Write::Insert => bends(triggers, &["DELETE"]),
        Write::Delete => bends(triggers, &["INSERT"]),
        Write::Update { keys: true } => bends(triggers, &["INSERT", "DELETE"]),
        Write::Update { keys: false } => {
            bends(triggers, &["UPDATE"]).and_then(|_| bends(triggers, &["INSERT", "DELETE"]))
        }
    };
    trigger.map(|t| {
        format!(
            "{}.{} has the trigger {}, which the rollback of the statement would fire",
            table.schema, table.name, t.name
        )
    })
}

pub(super) type TriggerRow = (String, String, String, Option<String>, String);

/// Looks at the tables to which a table's triggers add rows, and for the one that they keep equal to their own.
pub(super) async fn with_logs(
    conn: &mut Conn,
    schema: &str,
    name: &str,
    mut triggers: Vec<Trigger>,
    rights: &Rights,
    mariadb: bool,
) -> Result<Vec<Trigger>, mysql_async::Error> {
    let mut logs = Logs::new(schema, name, rights, mariadb);
    let mirror = mirror::mirror(schema, &triggers);
    for trigger in &mut triggers {
        if trigger.effect.as_ref().is_ok_and(|body| body.mirror.is_some()) {
            match &mirror {
                Ok(mirror) => trigger.mirror.clone_from(mirror),
                Err(why) => trigger.effect = Err(why.clone()),
            }
        }
        let inserts = trigger.effect.as_ref().map(|body| body.inserts.clone()).unwrap_or_default();
        for insert in &inserts {
            match logs.table(conn, insert, &trigger.sql_mode).await? {
                Ok(log) if mirror::is_change_log(&log.name) => {}
                Ok(log) => trigger.logs.push(log),
                Err(why) => {
                    trigger.effect = Err(why);
                    break;
                }
            }
        }
    }
    Ok(triggers)
}

/// Reads the triggers of a table, without a look at the tables to which they add rows.
pub(super) async fn bodies(
    conn: &mut Conn,
    schema: &str,
    name: &str,
    mariadb: bool,
) -> Result<Vec<Trigger>, mysql_async::Error> {
    let triggers = parse(conn.text_rows(select(schema, name)).await?, mariadb);
    as_written(conn, schema, triggers, mariadb).await
}

/// `ER_TRG_DOES_NOT_EXIST`
const NO_TRIGGER: u16 = 1360;

/// `sql_mode` and the statement of a SHOW CREATE TRIGGER, behind the name.
type Shown = (String, String, String);

/// The triggers with their bodies as they were written. In information_schema MySQL has them with the quotes in a quoted name
/// no more doubled, so that another name, or another statement, may be read there.
pub(super) async fn as_written(
    conn: &mut Conn,
    schema: &str,
    mut triggers: Vec<Trigger>,
    mariadb: bool,
) -> Result<Vec<Trigger>, mysql_async::Error> {
    let quotes = |t: &&mut Trigger| t.body.contains(['`', '"']);
    let mut quoted: Vec<&mut Trigger> = triggers.iter_mut().filter(|_| !mariadb).filter(quotes).collect();
    if quoted.is_empty() {
        return Ok(triggers);
    }
    let schema = quote_identifier(schema);
    let show = |t: &&mut Trigger| format!("SHOW CREATE TRIGGER {schema}.{}", quote_identifier(&t.name));
    let shown: Vec<String> = quoted.iter().map(show).collect();
    let shown: Vec<Vec<Row>> = match conn.all_results(&shown).await {
        // One that was there a moment ago
        Err(mysql_async::Error::Server(e)) if e.code == NO_TRIGGER => Vec::new(),
        shown => shown?,
    };
    let mut shown = shown.into_iter();
    for trigger in &mut quoted {
        let row = shown.next().and_then(|mut rows| rows.pop());
        trigger.read_as(row.map(shown_of).transpose()?, mariadb);
    }
    Ok(triggers)
}

/// The first columns of a SHOW CREATE TRIGGER.
fn shown_of(row: Row) -> Result<Shown, mysql_async::Error> {
    let row: (String, String, String, String, String, String, Option<String>) = typed_rows(vec![row])?
        .pop()
        .ok_or_else(|| mysql_async::Error::Other("a row that is missing".into()))?;
    Ok((row.0, row.1, row.2))
}

/// The query for the triggers of a table, under a `sql_mode` with backslash escapes.
pub(super) fn select(schema: &str, name: &str) -> String {
    format!(
        "SELECT TRIGGER_NAME, EVENT_MANIPULATION, ACTION_TIMING, ACTION_STATEMENT, CAST(SQL_MODE AS CHAR) \
         FROM information_schema.TRIGGERS WHERE EVENT_OBJECT_SCHEMA = {} AND EVENT_OBJECT_TABLE = {} \
         ORDER BY EVENT_MANIPULATION, ACTION_TIMING, ACTION_ORDER, TRIGGER_NAME",
        literal(schema),
        literal(name)
    )
}

/// The triggers in the rows of [`select`].
pub(super) fn parse(rows: Vec<TriggerRow>, mariadb: bool) -> Vec<Trigger> {
    rows.into_iter()
        .map(|(name, event, timing, body, sql_mode)| {
            let body = body.unwrap_or_default();
            let effect = Mode::from_sql_mode(&sql_mode, mariadb)
                .map_err(|e| e.to_string())
                .and_then(|mode| trigger_body(body.as_bytes(), mode));
            Trigger { name, event, timing, body, sql_mode, effect, logs: Vec::new(), mirror: None }
        })
        .collect()
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
            logs: Vec::new(),
            mirror: None,
        }
    }

    const UPDATE: Write = Write::Update { keys: false };

    #[test]
    fn what_may_be_captured_depends_on_the_triggers_of_the_inverse() {
        let table = samples::table(&["id", "v", "at"]);
        let may = |triggers: &[Trigger], write| refusal(&table, triggers, write).is_none();
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
            !replaces(&audit)
                && replaces(&[adds("INSERT"), stamp("UPDATE")])
                && !are_quiet(&[adds("INSERT")])
        );
        assert!(!may(&[trigger("INSERT", "SET NEW.id = 5")], Write::Insert));
        assert!(may(&[trigger("DELETE", "SET @n = 1"), writes("UPDATE")], Write::Insert));
    }
}
