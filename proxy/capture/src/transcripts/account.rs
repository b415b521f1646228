//! A service account that knows the tables of the case, and answers as it is told: where nothing is said, that
//! nothing has changed and nobody else has written.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex};

use atone_facts::{
    AuditTable, NumberedTable, Qualified, ReadError, ServiceError, Stale, TableError, TableInfo,
    UncommittedNumbers, UndoLogError, ViewDefinition, number_list,
};
use atone_undo::{Row, Table};

use super::log::{Shared, Step as Answered};
use crate::journal::Assumption;
use crate::port::{Catalog, Step};

/// The service account.
#[derive(Debug, Default)]
pub(super) struct FakeAccount {
    pub(super) log: Shared,
    pub(super) answers: Mutex<VecDeque<String>>,
    pub(super) tables: HashMap<String, Arc<TableInfo>>,
    pub(super) views: HashMap<String, ViewDefinition>,
    /// Why each table is another than it was.
    pub(super) altered: Option<String>,
}

fn ready<'a, T: Send + 'a>(value: T) -> Step<'a, T> {
    Box::pin(std::future::ready(value))
}

fn names(names: &[Qualified]) -> String {
    let mut names: Vec<String> = names.iter().map(|(schema, name)| format!("{schema}.{name}")).collect();
    names.sort_unstable();
    names.join(", ")
}

fn numbers(answer: &str) -> Vec<i128> {
    answer.split(',').filter(|n| *n != "none").map(|n| n.parse().unwrap()).collect()
}

impl FakeAccount {
    /// Notes a question and its answer.
    ///
    /// # Errors
    /// `error CODE TEXT` is the answer.
    fn ask(&self, question: &str, plain: &str) -> Result<String, ServiceError> {
        let mut log = self.log.lock().unwrap();
        let mut answers = self.answers.lock().unwrap();
        let answer = match log.fault(Answered::Account) {
            Some(fault) => {
                answers.clear();
                fault
            }
            None => answers.pop_front().unwrap_or_else(|| plain.to_owned()),
        };
        log.say(format!("? {question} = {answer}"));
        match answer.strip_prefix("error ").and_then(|error| error.split_once(' ')) {
            Some((code, text)) => {
                Err(ServiceError::of_server(code.parse().unwrap(), text.to_owned(), format!("{code} {text}")))
            }
            None => Ok(answer),
        }
    }

    fn stale(&self, question: &str) -> Result<(), Stale> {
        let plain = self.altered.as_ref().map_or("ok".to_owned(), |why| format!("changed {why}"));
        let answer = self.ask(question, &plain).map_err(Stale::Unread)?;
        answer.strip_prefix("changed ").map_or(Ok(()), |why| Err(Stale::Changed(why.to_owned())))
    }
}

impl Catalog for FakeAccount {
    fn resource(&self) -> &str {
        "bank1"
    }

    fn table<'a>(
        &'a self,
        schema: &'a str,
        name: &'a str,
        _: &'a [u8],
    ) -> Step<'a, Result<Arc<TableInfo>, TableError>> {
        let found = self.tables.get(name).cloned();
        ready(
            match self.ask(&format!("table {schema}.{name}"), if found.is_some() { "ok" } else { "none" }) {
                Ok(_) => found.ok_or_else(|| TableError::NoTable(format!("{schema}.{name}"))),
                Err(e) => Err(TableError::Unread(e)),
            },
        )
    }

    fn verify<'a>(&'a self, info: &'a Arc<TableInfo>, _: bool) -> Step<'a, Result<(), Stale>> {
        ready(self.stale(&format!("still {}.{}", info.table.schema, info.table.name)))
    }

    fn begin_verify(
        &self,
        assumptions: Vec<Assumption>,
        reads: Vec<Qualified>,
    ) -> Step<'static, Result<(), Stale>> {
        if assumptions.is_empty() && reads.is_empty() {
            return ready(Ok(()));
        }
        let shown = |assumed: &Assumption| {
            let parent = if assumed.as_parent { " and who refers to it" } else { "" };
            format!("{}.{}{parent}", assumed.info.table.schema, assumed.info.table.name)
        };
        let mut all: Vec<String> = assumptions.iter().map(shown).collect();
        if !reads.is_empty() {
            all.push(format!("read {}", names(&reads)));
        }
        ready(self.stale(&format!("still {}", all.join("; "))))
    }

    fn read_refusal<'a>(&'a self, read: Vec<Qualified>) -> Step<'a, Result<Option<String>, ServiceError>> {
        if read.is_empty() {
            return ready(Ok(None));
        }
        let answer = self.ask(&format!("calls behind {}", names(&read)), "none");
        ready(answer.map(|answer| (answer != "none").then_some(answer)))
    }

    fn view<'a>(
        &'a self,
        schema: &'a str,
        name: &'a str,
    ) -> Step<'a, Result<Option<ViewDefinition>, ServiceError>> {
        let found = self.views.get(name).cloned();
        let answer = self.ask(&format!("view {schema}.{name}"), if found.is_some() { "ok" } else { "none" });
        ready(answer.map(|answer| found.filter(|_| answer == "ok")))
    }

    fn ensure_undo_log<'a>(&'a self, schema: &'a str) -> Step<'a, Result<(), UndoLogError>> {
        ready(match self.ask(&format!("undo_log of {schema}"), "ok") {
            Ok(answer) => {
                answer.strip_prefix("unfit ").map_or(Ok(()), |why| Err(UndoLogError::Unfit(why.to_owned())))
            }
            Err(e) => Err(UndoLogError::Unread(e)),
        })
    }

    fn has_undo_row<'a>(
        &'a self,
        schema: &'a str,
        _: &'a str,
        branch_id: u64,
    ) -> Step<'a, Result<bool, ServiceError>> {
        let answer = self.ask(&format!("record of branch {branch_id} in {schema}"), "none");
        ready(answer.map(|answer| answer != "none"))
    }

    fn first_number<'a>(&'a self, log: &'a AuditTable) -> Step<'a, Result<i128, ServiceError>> {
        let answer = self.ask(&format!("next number of {}", log.quoted()), "1");
        ready(answer.map(|answer| answer.parse().unwrap()))
    }

    fn uncommitted<'a>(
        &'a self,
        numbered: &'a NumberedTable,
        first: i128,
        _: usize,
    ) -> Step<'a, Result<UncommittedNumbers, ServiceError>> {
        let NumberedTable { table, column } = numbered;
        let answer = self.ask(&format!("uncommitted {table}.{column} from {first} on"), "none");
        ready(answer.map(|answer| UncommittedNumbers { ids: numbers(&answer), next: None }))
    }

    fn committed<'a>(
        &'a self,
        numbered: &'a NumberedTable,
        ids: &'a [i128],
        _: usize,
    ) -> Step<'a, Result<HashSet<i128>, ServiceError>> {
        let NumberedTable { table, column } = numbered;
        let answer = self.ask(&format!("committed {table}.{column} of {}", number_list(ids)), "none");
        ready(answer.map(|answer| numbers(&answer).into_iter().collect()))
    }

    fn committed_rows<'a>(
        &'a self,
        table: &'a Table,
        selects: &'a [String],
    ) -> Step<'a, Result<Vec<Row>, ReadError>> {
        let mut found = Vec::new();
        for select in selects {
            let answer = match self.ask(&format!("committed {select}"), "none") {
                Ok(answer) => answer,
                Err(e) => return ready(Err(e.into())),
            };
            for line in answer.split(';').filter(|line| *line != "none") {
                let cells: Vec<Option<&[u8]>> = line.split('|').map(|cell| Some(cell.as_bytes())).collect();
                found.push(table.decode_row(&cells).unwrap());
            }
        }
        ready(Ok(found))
    }
}
