//! The prepared statements of a session: what the proxy knows of each, and which one a client means.

use std::collections::HashMap;
use std::sync::Arc;

use atone_capture::settings::Vars;
use atone_wire::command;
use atone_wire::execute::ParamType;
use bytes::Bytes;

/// The id by which MariaDB's clients name the statement prepared last.
const LAST: u32 = u32::MAX;

/// The prepared statements of a session.
#[derive(Debug, Default)]
pub(super) struct Statements {
    by_id: HashMap<u32, Statement>,
    /// The statement prepared last.
    last: Option<u32>,
    /// Those prepared by SQL while the session was bound, by name.
    pub(super) named: HashMap<String, Named>,
}

/// A statement that the server has prepared for this session.
#[derive(Debug)]
pub(super) struct Statement {
    /// Its text, as the application gave it.
    pub(super) sql: Bytes,
    pub(super) params: usize,
    /// The parameters' types, as an execution brought them last.
    pub(super) types: Vec<ParamType>,
    /// What `COM_STMT_SEND_LONG_DATA` brought for the next execution.
    long_data: HashMap<usize, Vec<u8>>,
    /// Long data was sent that was not kept: in an unbound session, or above `max_statement_bytes`.
    long_data_lost: bool,
    /// The server has long data of an execution for which another statement was run.
    pub(super) stale_data: bool,
    /// It must be looked at in an unbound session too.
    pub(super) may_concern_atone: bool,
    pub(super) reading: Reading,
}

/// A statement that was prepared under a name.
#[derive(Clone, Debug)]
pub(super) struct Named {
    /// Its text, as it was read.
    pub(super) sql: Bytes,
    pub(super) reading: Reading,
}

/// How the text of a statement was read when the server prepared it.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    /// [`super::link::Link::readings`] then.
    pub(super) count: u64,
    /// The session's variables then, where they were known.
    pub(super) vars: Option<Arc<Vars>>,
}

impl Statements {
    /// How many were prepared by the binary protocol.
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty() && self.named.is_empty()
    }

    /// The server has prepared one.
    pub(super) fn insert(&mut self, id: u32, statement: Statement) {
        self.last = Some(id);
        self.by_id.insert(id, statement);
    }

    /// The server could not prepare one: MariaDB's id -1 means none now.
    pub(super) fn none_was_last(&mut self) {
        self.last = None;
    }

    /// The server has closed one.
    pub(super) fn close(&mut self, id: u32) {
        self.by_id.remove(&id);
    }

    /// The statement of this id.
    pub(super) fn get_mut(&mut self, id: u32) -> Option<&mut Statement> {
        self.by_id.get_mut(&id)
    }

    /// The id that a command names.
    pub(super) fn id(&self, named: u32, mariadb: bool) -> u32 {
        if named == LAST && mariadb { self.last.unwrap_or(LAST) } else { named }
    }

    /// A command on MariaDB's statement -1 with the id of the one that is meant, where that is known.
    pub(super) fn with_id(&self, payload: Bytes) -> Bytes {
        let (Some(&byte), Some(last)) = (payload.first(), self.last.filter(|id| self.by_id.contains_key(id)))
        else {
            return payload;
        };
        let names_statement = matches!(
            byte,
            command::STMT_EXECUTE
                | command::STMT_BULK_EXECUTE
                | command::STMT_SEND_LONG_DATA
                | command::STMT_CLOSE
                | command::STMT_RESET
                | command::STMT_FETCH
        );
        if !names_statement || payload.get(1..5) != Some(&LAST.to_le_bytes()) {
            return payload;
        }
        let rest = payload.get(5..).unwrap_or_default();
        [&[byte], &last.to_le_bytes()[..], rest].concat().into()
    }
}

impl Statement {
    /// One that was just prepared.
    pub(super) fn new(sql: Bytes, params: usize, may_concern_atone: bool, reading: Reading) -> Statement {
        Statement {
            sql,
            params,
            types: Vec::new(),
            long_data: HashMap::new(),
            long_data_lost: false,
            stale_data: false,
            may_concern_atone,
            reading,
        }
    }

    /// Keeps a piece of a parameter for the next execution, if no more than `limit` bytes are kept then.
    pub(super) fn add_long_data(&mut self, param: usize, data: &[u8], limit: usize) {
        let kept: usize = self.long_data.values().map(Vec::len).sum();
        if kept + data.len() <= limit {
            self.long_data.entry(param).or_default().extend_from_slice(data);
        } else {
            self.lose_long_data();
        }
    }

    /// Long data came that is not kept: the next execution cannot be written out.
    pub(super) fn lose_long_data(&mut self) {
        self.long_data_lost = true;
    }

    /// The long data for an execution, and whether some of it was lost.
    pub(super) fn take_long_data(&mut self) -> (HashMap<usize, Vec<u8>>, bool) {
        (std::mem::take(&mut self.long_data), std::mem::take(&mut self.long_data_lost))
    }

    /// `COM_STMT_RESET` has forgotten the long data.
    pub(super) fn reset(&mut self) {
        self.take_long_data();
        self.stale_data = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared() -> Statement {
        Statement::new(Bytes::from_static(b"SELECT ?"), 1, false, Reading { count: 0, vars: None })
    }

    fn execute(id: u32) -> Bytes {
        [&[command::STMT_EXECUTE], &id.to_le_bytes()[..], b"rest"].concat().into()
    }

    #[test]
    fn mariadbs_last_statement_is_the_one_prepared_last() {
        let mut statements = Statements::default();
        assert_eq!(statements.id(LAST, true), LAST);
        statements.insert(3, prepared());
        statements.insert(7, prepared());
        assert_eq!(statements.id(LAST, true), 7);
        assert_eq!(statements.id(LAST, false), LAST, "an id of MySQL's");
        assert_eq!(statements.id(3, true), 3);
        statements.none_was_last();
        assert_eq!(statements.id(LAST, true), LAST);
    }

    #[test]
    fn a_command_on_the_last_statement_gets_its_id() {
        let mut statements = Statements::default();
        statements.insert(7, prepared());
        assert_eq!(statements.with_id(execute(LAST)), execute(7));
        assert_eq!(statements.with_id(execute(5)), execute(5));
        let query = Bytes::from_static(b"\x03\xff\xff\xff\xff");
        assert_eq!(statements.with_id(query.clone()), query);
        let short = Bytes::from_static(b"\x17\xff\xff");
        assert_eq!(statements.with_id(short.clone()), short);
        statements.close(7);
        assert_eq!(statements.with_id(execute(LAST)), execute(LAST));
    }

    #[test]
    fn long_data_is_kept_up_to_the_limit() {
        let mut statement = prepared();
        statement.add_long_data(0, b"ab", 4);
        statement.add_long_data(0, b"cd", 4);
        assert_eq!(statement.take_long_data(), (HashMap::from([(0, b"abcd".to_vec())]), false));
        statement.add_long_data(0, b"ab", 1);
        assert_eq!(statement.take_long_data(), (HashMap::new(), true));
        assert_eq!(statement.take_long_data(), (HashMap::new(), false), "the execution has used it up");
        statement.lose_long_data();
        statement.stale_data = true;
        statement.reset();
        assert_eq!((statement.take_long_data().1, statement.stale_data), (false, false));
    }
}
