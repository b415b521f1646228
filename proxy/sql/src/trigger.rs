//! What a trigger does, from its body as the servers tell it.

use std::ops::Range;

use crate::{
    analysis::analyze,
    condition::split_commas,
    functions::{check_calls, is_subquery, shorten},
    lexer::{self, Executable, Kind},
    mirror::MirrorBody,
    mode::Mode,
    text::Text,
    types::{Insert, InsertValue, OnConflict, Statement},
    variables::is_xid_variable,
};

/// A trigger that changes no row but its own: it may set columns of that and variables, add rows to tables, and end its
/// statement with an error. Or it does nothing but keep the row of another table that stands for its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TriggerBody {
    /// The columns that it sets in the row to be written: `SET NEW.c = …`.
    pub sets: Vec<String>,
    /// It may end the statement by SIGNAL.
    pub signals: bool,
    /// The rows that it may add to tables.
    pub inserts: Vec<TriggerInsert>,
    /// The row of another table that it keeps equal to its own.
    pub mirror: Option<MirrorBody>,
}

/// `INSERT INTO log …` of a trigger, which meets no other rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TriggerInsert {
    /// The schema, where it is named; else it is the trigger's own.
    pub schema: Option<String>,
    /// The table's name.
    pub table: String,
    /// The columns that it names, where it does.
    columns: Option<Vec<String>>,
    /// What it gives to each of these columns, or to the table's visible columns in their order.
    given: Vec<Given>,
}

/// What a column of a row that is inserted is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Given {
    /// Nothing, or NULL.
    Nothing,
    /// DEFAULT.
    Default,
    /// A value.
    Value,
}

impl TriggerInsert {
    fn new(insert: &Insert) -> Option<TriggerInsert> {
        let meets_others = insert.on_conflict != OnConflict::Fail || insert.ignore;
        if meets_others || insert.query.is_some() || insert.returning || insert.has_side_effects {
            return None;
        }
        let width = insert.rows.first().map_or(0, Vec::len);
        let mut given = vec![Given::Nothing; width];
        for row in &insert.rows {
            for (given, value) in given.iter_mut().zip(row) {
                *given = (*given).max(match value {
                    InsertValue::Null => Given::Nothing,
                    InsertValue::Default => Given::Default,
                    _ => Given::Value,
                });
            }
        }
        Some(TriggerInsert {
            schema: insert.table.schema.clone(),
            table: insert.table.name.clone(),
            columns: insert.columns.clone(),
            given,
        })
    }

    /// What it gives at most to the column of this name, which is at this place among the table's visible ones; `None` there
    /// for an invisible column.
    pub fn gives(&self, column: &str, place: Option<usize>) -> Given {
        let at = match &self.columns {
            Some(columns) if columns.is_empty() && !self.given.is_empty() => return Given::Value,
            Some(columns) => columns.iter().position(|named| named.to_lowercase() == column.to_lowercase()),
            None => place,
        };
        match at {
            // `VALUES ()`
            _ if self.given.is_empty() => Given::Nothing,
            Some(at) => self.given.get(at).copied().unwrap_or(Given::Value),
            None => Given::Nothing,
        }
    }
}

/// How deep statements may be nested.
const MAX_NESTING: usize = 32;

/// Reads `ACTION_STATEMENT` of `information_schema.TRIGGERS`, under the trigger's own SQL mode. It may hold SET, IF, SIGNAL,
/// DECLARE of variables, BEGIN … END, and INSERT of rows that meet no others; or what keeps a mirror.
///
/// # Errors
/// Why it cannot be told what the trigger does.
pub fn trigger_body(body: &[u8], mode: Mode) -> Result<TriggerBody, String> {
    let lexed = lexer::lex(body, mode, Executable::Skip).map_err(|why| format!("its body {why}"))?;
    if lexed.has_executable_comments() {
        return Err("its body has an executable comment".into());
    }
    let text = Text { sql: body, mode, tokens: &lexed.tokens };
    for at in 0..text.len() {
        if is_subquery(&text, at) {
            return Err("it reads a table".into());
        }
        if is_xid_variable(&text, at) {
            return Err("it uses @atone_xid".into());
        }
    }
    let mut reader = Reader {
        text: &text,
        body: TriggerBody::default(),
        locals: Vec::new(),
        heads: Vec::new(),
        handles: false,
    };
    let end = reader.statement(0, 0)?;
    reader.check_mirror()?;
    let end = if text.punct(end, b';') { end + 1 } else { end };
    // A table's name in front of its list of columns calls nothing
    let mut at = 0;
    for head in reader.heads.iter().cloned().chain(std::iter::once(text.len()..text.len())) {
        check_calls(&text, at..head.start).map_err(|_| "it calls a function that may write".to_owned())?;
        at = head.end;
    }
    if end == text.len() { Ok(reader.body) } else { Err(reader.unknown(end)) }
}

/// What a trigger runs, out of its CREATE TRIGGER under its own SQL mode. `None` where that is not understood.
pub fn trigger_action(create: &[u8], mode: Mode) -> Option<&[u8]> {
    let lexed = lexer::lex(create, mode, Executable::Skip).ok()?;
    let text = Text { sql: create, mode, tokens: &lexed.tokens };
    let each = (0..text.len()).find(|&at| text.are(at, &["FOR", "EACH", "ROW"]))?;
    let mut at = each + 3;
    if text.is_any(at, &["FOLLOWS", "PRECEDES"]) {
        at += if text.punct(at + 2, b'.') { 4 } else { 2 };
    }
    create.get(text.span(at..at + 1).start..).filter(|_| at < text.len())
}

struct Reader<'a> {
    text: &'a Text<'a>,
    body: TriggerBody,
    /// The variables that it declares.
    locals: Vec<String>,
    /// Where the tables of its INSERTs are named.
    heads: Vec<Range<usize>>,
    /// It goes on where a table is missing.
    handles: bool,
}

impl Reader<'_> {
    fn unknown(&self, at: usize) -> String {
        match self.text.name(at) {
            Some(word) => format!("{} is not understood", shorten(&word)),
            None => "its body is not understood".to_owned(),
        }
    }

    /// Reads one statement; the index behind it, where a `;` or what closes its block stands.
    fn statement(&mut self, at: usize, nesting: usize) -> Result<usize, String> {
        let text = self.text;
        if nesting > MAX_NESTING {
            return Err("its statements are nested too deep".into());
        }
        if text.is(at, "BEGIN") {
            let end = self.statements(at + 1, nesting + 1, &["END"])?;
            return Ok(end + 1);
        }
        if text.is(at, "IF") {
            return self.conditional(at, nesting);
        }
        let end = (at..text.len()).find(|&at| text.punct(at, b';')).unwrap_or(text.len());
        if text.is(at, "SET") {
            self.assignments(at + 1..end)?;
        } else if text.is(at, "SIGNAL") {
            self.body.signals = true;
            self.signal(at + 1..end)?;
        } else if text.is(at, "DECLARE") {
            self.declaration(at + 1..end)?;
        } else if text.is(at, "INSERT") {
            self.insertion(at..end)?;
        } else if text.is_any(at, &["REPLACE", "DELETE"]) {
            let mirror = self.body.mirror.get_or_insert_default();
            if mirror.read(text, at..end).is_none() {
                return Err(self.unknown(at));
            }
            self.heads.push(at..end);
        } else {
            return Err(self.unknown(at));
        }
        Ok(end)
    }

    /// Reads statements, each with its `;`, up to one of these words.
    fn statements(&mut self, mut at: usize, nesting: usize, until: &[&str]) -> Result<usize, String> {
        while !self.text.is_any(at, until) {
            if at >= self.text.len() {
                return Err("its body ends too early".into());
            }
            at = self.statement(at, nesting)?;
            if !self.text.punct(at, b';') {
                return Err(self.unknown(at));
            }
            at += 1;
        }
        Ok(at)
    }

    /// `IF … THEN … [ELSEIF … THEN …] [ELSE …] END IF`
    fn conditional(&mut self, at: usize, nesting: usize) -> Result<usize, String> {
        let mut at = at;
        let mirror = self.body.mirror.clone();
        loop {
            let then = self.condition_end(at + 1)?;
            at = self.statements(then + 1, nesting + 1, &["ELSEIF", "ELSE", "END"])?;
            if !self.text.is(at, "ELSEIF") {
                break;
            }
        }
        if self.text.is(at, "ELSE") {
            at = self.statements(at + 1, nesting + 1, &["END"])?;
        }
        if self.body.mirror != mirror {
            return Err("it writes another row under a condition".into());
        }
        if self.text.are(at, &["END", "IF"]) { Ok(at + 2) } else { Err(self.unknown(at)) }
    }

    /// A mirror is kept by a trigger that does nothing else, since all of it is to follow from the row.
    fn check_mirror(&self) -> Result<(), String> {
        let body = &self.body;
        let does_more =
            body.signals || !body.sets.is_empty() || !body.inserts.is_empty() || !self.locals.is_empty();
        match &body.mirror {
            None if self.handles => Err("it declares other than variables".into()),
            Some(_) if does_more => Err("it does more than to keep rows of another table".into()),
            _ => Ok(()),
        }
    }

    /// The THEN behind a condition: not one of a CASE in it.
    fn condition_end(&self, start: usize) -> Result<usize, String> {
        let mut depth = 0usize;
        for at in start..self.text.len() {
            if self.text.punct(at, b';') {
                break;
            } else if self.text.is(at, "CASE") {
                depth += 1;
            } else if self.text.is(at, "END") {
                depth = depth.saturating_sub(1);
            } else if depth == 0 && self.text.is(at, "THEN") {
                return Ok(at);
            }
        }
        Err(self.unknown(start))
    }

    /// `NEW.c = …, @x = …, local = …`
    fn assignments(&mut self, range: Range<usize>) -> Result<(), String> {
        for item in split_commas(self.text, range) {
            let text = self.text;
            let at = item.start;
            let is_new = text.name(at).is_some_and(|name| name.eq_ignore_ascii_case("NEW"));
            let operator = if is_new && text.punct(at + 1, b'.') {
                let column = text.name(at + 2).ok_or_else(|| self.unknown(at))?;
                self.body.sets.push(column);
                at + 3
            } else if text.kind(at) == Some(Kind::UserVar) {
                at + 1
            } else {
                let name = text.name(at).ok_or_else(|| self.unknown(at))?;
                if !self.locals.iter().any(|local| local.eq_ignore_ascii_case(&name)) {
                    return Err(format!("it sets {}", shorten(&name)));
                }
                at + 1
            };
            let assigns = text.punct(operator, b'=') || text.kind(operator) == Some(Kind::Assign);
            if !assigns || operator + 1 >= item.end {
                return Err(self.unknown(operator));
            }
        }
        Ok(())
    }

    /// `INSERT INTO log …`
    fn insertion(&mut self, range: Range<usize>) -> Result<(), String> {
        let sql = self.text.sql.get(self.text.span(range.clone())).unwrap_or_default();
        let insert = match analyze(sql, self.text.mode).statement {
            Statement::Insert(insert) => insert,
            Statement::Refused(why) => return Err(format!("its INSERT is not understood: {}", why.reason)),
            _ => return Err(self.unknown(range.start)),
        };
        let inserted = TriggerInsert::new(&insert)
            .ok_or("its INSERT has IGNORE, ON DUPLICATE KEY UPDATE, a SELECT, or values with effects")?;
        self.body.inserts.push(inserted);
        let body = self.text.span(range.clone()).start + insert.body.start;
        let behind = |&at: &usize| self.text.span(at..at + 1).start >= body;
        let end = range.clone().find(behind).unwrap_or(range.end);
        self.heads.push(range.start..end);
        Ok(())
    }

    /// `SQLSTATE [VALUE] '45000' [SET MESSAGE_TEXT = …]`
    fn signal(&self, range: Range<usize>) -> Result<(), String> {
        let state = range.start + 1 + usize::from(self.text.is(range.start + 1, "VALUE"));
        if !self.text.is(range.start, "SQLSTATE") || self.text.kind(state) != Some(Kind::Str) {
            return Err(self.unknown(range.start));
        }
        // '00…', '01…' and '02…' are no errors
        let class = self.text.bytes(state).get(1..3).unwrap_or_default();
        if matches!(class, b"00" | b"01" | b"02") {
            return Err("it signals a warning".into());
        }
        if state + 1 < range.end && !self.text.is(state + 1, "SET") {
            return Err(self.unknown(state + 1));
        }
        Ok(())
    }

    /// `a, b INT [DEFAULT …]`, or a handler that does nothing where a table is missing: not of a cursor, another handler or a
    /// condition.
    fn declaration(&mut self, range: Range<usize>) -> Result<(), String> {
        if self.is_for_missing_tables(range.clone()) {
            self.handles = true;
            return Ok(());
        }
        let other = ["CURSOR", "HANDLER", "CONDITION"];
        if range.clone().any(|at| self.text.is_any(at, &other)) {
            return Err("it declares other than variables".into());
        }
        let mut at = range.start;
        loop {
            self.locals.push(self.text.name(at).ok_or_else(|| self.unknown(at))?);
            at += 1;
            if !self.text.punct(at, b',') {
                break;
            }
            at += 1;
        }
        if at < range.end { Ok(()) } else { Err(self.unknown(at)) }
    }

    /// `{CONTINUE | EXIT} HANDLER FOR 1146 BEGIN END`
    fn is_for_missing_tables(&self, range: Range<usize>) -> bool {
        let (text, at) = (self.text, range.start);
        text.is_any(at, &["CONTINUE", "EXIT"])
            && text.are(at + 1, &["HANDLER", "FOR"])
            && text.bytes(at + 3) == b"1146"
            && text.are(at + 4, &["BEGIN", "END"])
            && at + 6 == range.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mirror::Take;

    fn sets(body: &str) -> Result<(Vec<String>, bool), String> {
        trigger_body(body.as_bytes(), Mode::default()).map(|body| (body.sets, body.signals))
    }

    #[test]
    fn what_writes_no_table() {
        let ok = |columns: &[&str], signals| Ok((columns.iter().map(|c| (*c).to_owned()).collect(), signals));
        assert_eq!(sets("SET NEW.a = NOW()"), ok(&["a"], false));
        assert_eq!(
            sets("set new.`a b` := UPPER(NEW.c), @x = 1, NEW.c = IF(1, 2, 3)"),
            ok(&["a b", "c"], false)
        );
        assert_eq!(sets("BEGIN SET NEW.a = 1; SET @n = @n + 1; END"), ok(&["a"], false));
        assert_eq!(sets("BEGIN END;"), ok(&[], false));
        assert_eq!(
            sets(
                "BEGIN DECLARE n, m INT DEFAULT CASE WHEN 1 THEN 2 END; IF NEW.a < 0 AND CASE NEW.b WHEN 1 THEN 1 ELSE 0 END \
                 THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no'; ELSEIF OLD.a THEN SET n = 1; \
                 ELSE BEGIN SET NEW.b = n; END; END IF; END"
            ),
            ok(&["b"], true)
        );
        assert_eq!(sets("IF NEW.a THEN SET NEW.b = REPLACE(NEW.b, 'x', 'y'); END IF"), ok(&["b"], false));
    }

    #[test]
    fn what_a_trigger_runs() {
        let action = |create: &str| {
            let action = trigger_action(create.as_bytes(), Mode::default());
            action.map(|action| String::from_utf8_lossy(action).into_owned())
        };
        let head =
            "CREATE DEFINER=`for each`@`row` TRIGGER `FOR EACH ROW` BEFORE UPDATE ON `t``x` FOR EACH ROW ";
        for order in ["", "FOLLOWS `a` ", "PRECEDES s.b "] {
            let body = "SET NEW.`a``b` = 'FOR EACH ROW'";
            assert_eq!(action(&format!("{head}{order}{body}")).as_deref(), Some(body));
        }
        assert_eq!(action(head), None);
        assert_eq!(action("CREATE TABLE t (id INT)"), None);
        assert_eq!(
            sets("SET NEW.`a``b` = 1, NEW.`ab` = NEW.`a``b`"),
            Ok((vec!["a`b".into(), "ab".into()], false))
        );
    }

    #[test]
    fn what_may_write_or_is_not_understood() {
        for body in [
            "REPLACE INTO log VALUES (NEW.id)",
            "INSERT IGNORE INTO log VALUES (NEW.id)",
            "INSERT INTO log VALUES (NEW.id) ON DUPLICATE KEY UPDATE n = 1",
            "INSERT INTO log SELECT NEW.id",
            "INSERT INTO log (what) VALUES ((SELECT MAX(a) FROM t))",
            "INSERT INTO log (what) VALUES (f(NEW.a))",
            "INSERT INTO log (what) VALUES (@n := 1)",
            "INSERT INTO log (what) VALUES (LAST_INSERT_ID(NEW.a))",
            "INSERT INTO log (what) VALUES (@atone_xid)",
            "INSERT INTO log (what) VALUES (1) RETURNING id",
            "INSERT INTO log (what) VALUES (1), (1, 2)",
            "BEGIN INSERT INTO log (what) VALUES (1); DELETE FROM t; END",
            "BEGIN SET NEW.a = 1; UPDATE t SET a = 1; END",
            "BEGIN IF NEW.a THEN DELETE FROM t; END IF; END",
            "IF NEW.a THEN SET NEW.a = 1; ELSE CALL p(); END IF",
            "CALL p()",
            "SET NEW.a = f(1)",
            "SET NEW.a = s.f(1)",
            "SET NEW.a = (SELECT MAX(a) FROM t)",
            "SET NEW.a = NEXT VALUE FOR s",
            "SET sql_log_bin = 0",
            "SET GLOBAL x = 1",
            "SET @@session.foreign_key_checks = 0",
            "SET @atone_xid = NULL",
            "SET NEW.a",
            "BEGIN DECLARE c CURSOR FOR SELECT 1; END",
            "BEGIN DECLARE CONTINUE HANDLER FOR SQLEXCEPTION SET @x = 1; END",
            "SIGNAL SQLSTATE '01000'",
            "SIGNAL oops",
            "BEGIN SET NEW.a = 1 END",
            "BEGIN SET NEW.a = 1;",
            "SET NEW.a = 1; DELETE FROM t",
            "WHILE 1 DO SET NEW.a = 1; END WHILE",
            "/*!50000 DELETE FROM t */",
            "",
        ] {
            assert!(sets(body).is_err(), "{body}: {:?}", sets(body));
        }
    }

    #[test]
    fn rows_that_are_added_to_a_table() {
        let read = |body: &str| trigger_body(body.as_bytes(), Mode::default()).map(|body| body.inserts);
        let one = |body: &str| match read(body).as_deref() {
            Ok([one]) => one.clone(),
            other => panic!("{body}: {other:?}"),
        };
        let named = one("INSERT INTO audit (what, at, who) VALUES (CONCAT('x', NEW.a), NOW(6), USER())");
        assert_eq!((named.schema.as_deref(), named.table.as_str()), (None, "audit"));
        assert_eq!(named.gives("id", Some(0)), Given::Nothing);
        assert_eq!(named.gives("WHAT", Some(1)), Given::Value);
        let set = one("insert into `s`.`au dit` set what = OLD.a, id = DEFAULT, n = NULL");
        assert_eq!((set.schema.as_deref(), set.table.as_str()), (Some("s"), "au dit"));
        assert_eq!(set.gives("id", Some(0)), Given::Default);
        assert_eq!(set.gives("n", Some(1)), Given::Nothing);
        let rows = one("INSERT INTO log VALUES (NULL, 1), (NEW.id, 2)");
        assert_eq!((rows.gives("id", Some(0)), rows.gives("x", None)), (Given::Value, Given::Nothing));
        assert_eq!(one("INSERT INTO log VALUES (NULL, NEW.a)").gives("id", Some(0)), Given::Nothing);
        assert_eq!(one("INSERT INTO log VALUES ()").gives("id", Some(0)), Given::Nothing);
        assert_eq!(one("INSERT INTO log () VALUES ()").gives("id", Some(0)), Given::Nothing);
        let both = "BEGIN IF NOT (NEW.a <=> OLD.a) THEN INSERT INTO changes (was, is_now) VALUES (OLD.a, NEW.a); \
                    ELSE INSERT INTO other (doc) VALUES (JSON_OBJECT('id', NEW.id, 'a', IF(NEW.a > 1, @x, NULL))); END IF; END";
        assert_eq!(
            read(both).unwrap().iter().map(|i| i.table.as_str()).collect::<Vec<_>>(),
            ["changes", "other"]
        );
    }

    const PUT: &str = "REPLACE INTO `s`.`_t_new` (`id`, `n``ew`, `b`) VALUES (NEW.`id`, NEW.`a`, NEW.`b`)";
    const HANDLER: &str = "DECLARE CONTINUE HANDLER FOR 1146 begin end;";

    fn mirror(body: &str) -> Option<MirrorBody> {
        trigger_body(body.as_bytes(), Mode::default()).ok().and_then(|body| body.mirror)
    }

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    }

    #[test]
    fn rows_of_a_mirror() {
        let put = Some(pairs(&[("id", "id"), ("n`ew", "a"), ("b", "b")]));
        let (schema, table) = (Some("s".to_owned()), "_t_new".to_owned());
        let puts = MirrorBody { schema: schema.clone(), table: table.clone(), take: None, put: put.clone() };
        assert_eq!(mirror(PUT), Some(puts.clone()));
        assert_eq!(mirror(&format!("BEGIN {HANDLER} {PUT};END ")), Some(puts.clone()));
        assert_eq!(mirror(&format!("BEGIN DECLARE EXIT HANDLER FOR 1146 begin end; {PUT}; END")), Some(puts));
        let delete = "DELETE IGNORE FROM `s`.`_t_new` WHERE `s`.`_t_new`.`id` <=> OLD.`id` AND `s`.`_t_new`.`c` <=> OLD.`d`";
        let by = pairs(&[("id", "id"), ("c", "d")]);
        let take = |unless_kept: &[&str]| {
            let unless_kept = unless_kept.iter().map(|&c| c.to_owned()).collect();
            Some(Take { by: by.clone(), unless_kept })
        };
        let takes = MirrorBody { take: take(&[]), put: None, schema, table };
        assert_eq!(mirror(delete), Some(takes.clone()));
        assert_eq!(mirror(&format!("BEGIN {HANDLER} {delete}; END ")), Some(takes.clone()));
        let update = format!(
            "BEGIN {HANDLER} {}; {PUT}; END ",
            delete.replace("WHERE", "WHERE !(OLD.`id` <=> NEW.`id` AND OLD.`d` <=> NEW.`d`) AND")
        );
        assert_eq!(mirror(&update), Some(MirrorBody { take: take(&["id", "d"]), put, ..takes }));
        let lhm = "delete ignore from `lhmn_t` /* large hadron migration */ where `lhmn_t`.`id` = OLD.`id`";
        assert_eq!(mirror(lhm).unwrap().take.unwrap().by, pairs(&[("id", "id")]));
        assert!(mirror("replace into `lhmn_t` (`id`) /* large */ values (`NEW`.`id`)").is_some());
    }

    #[test]
    fn rows_of_no_mirror() {
        for body in [
            &format!("BEGIN {PUT}; {PUT}; END"),
            &format!("BEGIN {PUT}; DELETE FROM `s`.`_t_new` WHERE id = OLD.id; END"),
            &format!("BEGIN DELETE FROM other WHERE id = OLD.id; {PUT}; END"),
            &format!("IF NEW.a THEN {PUT}; END IF"),
            &format!("BEGIN {PUT}; INSERT INTO log (what) VALUES (1); END"),
            &format!("BEGIN SET NEW.a = 1; {PUT}; END"),
            &format!("BEGIN {HANDLER} INSERT INTO log (what) VALUES (1); END"),
            &format!("BEGIN {HANDLER} END"),
            "BEGIN DECLARE CONTINUE HANDLER FOR 1062 begin end; REPLACE INTO c (id) VALUES (NEW.id); END",
            "BEGIN DECLARE CONTINUE HANDLER FOR 1146 SET @x = 1; REPLACE INTO c (id) VALUES (NEW.id); END",
            "REPLACE INTO c (id) VALUES (OLD.id)",
            "REPLACE INTO c (id) VALUES (NEW.id + 1)",
            "REPLACE INTO c (id, a) VALUES (NEW.id)",
            "REPLACE INTO c (id) VALUES (NEW.id, NEW.a)",
            "REPLACE INTO c (id) VALUES (NEW.id), (NEW.a)",
            "REPLACE INTO c VALUES (NEW.id)",
            "REPLACE INTO c (id) VALUES (f(NEW.id))",
            "REPLACE DELAYED INTO c (id) VALUES (NEW.id)",
            "DELETE FROM c",
            "DELETE FROM c WHERE !(OLD.id <=> NEW.id)",
            "DELETE FROM c WHERE id = NEW.id",
            "DELETE FROM c WHERE d.id = OLD.id",
            "DELETE FROM c WHERE id = OLD.id OR id = 1",
            "DELETE FROM c WHERE id < OLD.id",
            "DELETE FROM c WHERE id = OLD.id LIMIT 1",
            "DELETE FROM c WHERE !(OLD.id <=> NEW.a) AND id = OLD.id",
            "DELETE FROM c WHERE !(OLD.id = NEW.id) AND id = OLD.id",
            "DELETE c FROM c WHERE id = OLD.id",
        ] {
            assert!(trigger_body(body.as_bytes(), Mode::default()).is_err(), "{body}");
        }
    }

    #[test]
    fn the_mode_is_the_triggers_own() {
        let body = b"SET NEW.a = \"b; DELETE FROM t\"";
        assert!(trigger_body(body, Mode::default()).is_ok());
        assert!(trigger_body(b"SET NEW.a = '\\'; DELETE FROM t; -- '", Mode::default()).is_ok());
        let plain = Mode { no_backslash_escapes: true, ..Mode::default() };
        assert!(trigger_body(b"SET NEW.a = '\\'; DELETE FROM t; -- '", plain).is_err());
    }
}
