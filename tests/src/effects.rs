//! What a statement did, as a client can see it, so that two ways to run it can be compared.

use anyhow::{Context as _, Result, bail};
use futures::StreamExt as _;
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Params, Row, Value};

use crate::sql::{ServerError, text};

/// A statement to run.
#[derive(Clone, Debug)]
pub enum Step {
    /// In the text protocol.
    Query(String),
    /// Prepared, with parameters.
    Exec(String, Vec<Value>),
    /// Several in one packet of the text protocol.
    Many(Vec<String>),
    /// A LOAD DATA LOCAL, and the file.
    Load(String, Vec<u8>),
}

/// A statement in the text protocol.
pub fn q(sql: &str) -> Step {
    Step::Query(sql.to_owned())
}

/// A prepared statement with parameters.
pub fn e(sql: &str, params: &[&dyn ToValue]) -> Step {
    Step::Exec(sql.to_owned(), params.iter().map(|p| p.to_value()).collect())
}

/// A parameter of a prepared statement.
pub trait ToValue {
    /// The value as the driver sends it.
    fn to_value(&self) -> Value;
}

impl<T: Clone + Into<Value>> ToValue for T {
    fn to_value(&self) -> Value {
        self.clone().into()
    }
}

/// All that a client sees of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    /// Affected rows.
    pub affected: u64,
    /// The generated key of the OK packet.
    pub last_insert_id: Option<u64>,
    /// How many warnings.
    pub warnings: u16,
    /// The info text, such as `Rows matched: 1  Changed: 1  Warnings: 0`.
    pub info: String,
    /// The result's columns: name, table, original table.
    pub columns: Vec<String>,
    /// The result's rows.
    pub rows: Vec<String>,
    /// The error, where it gave one.
    pub error: Option<ServerError>,
}

impl Step {
    /// The statement's text; of several the first one's.
    pub fn sql(&self) -> &str {
        match self {
            Step::Query(sql) | Step::Exec(sql, _) | Step::Load(sql, _) => sql,
            Step::Many(all) => all.first().map_or("", String::as_str),
        }
    }

    /// Runs it. An error packet is an effect; anything else that goes wrong is an error.
    ///
    /// Of several statements the effect has a row for each that ran.
    pub async fn run(&self, conn: &mut Conn) -> Result<Effect> {
        let mut before = Vec::new();
        match self.try_run(conn, &mut before).await {
            Ok(effect) => Ok(effect),
            Err(mysql_async::Error::Server(error)) => Ok(Effect {
                affected: 0,
                last_insert_id: None,
                warnings: 0,
                info: String::new(),
                columns: Vec::new(),
                rows: before,
                error: Some(ServerError { code: error.code, state: error.state, message: error.message }),
            }),
            Err(other) => Err(other).with_context(|| self.sql().to_owned()),
        }
    }

    async fn try_run(&self, conn: &mut Conn, before: &mut Vec<String>) -> mysql_async::Result<Effect> {
        match self {
            Step::Many(all) => {
                let mut result = conn.query_iter(all.join("; ")).await?;
                for _ in all {
                    // The figures of a result with rows come after them
                    before.push(if result.columns_ref().is_empty() {
                        let (affected, id) = (result.affected_rows(), result.last_insert_id());
                        format!("{affected} {id:?} {} {}", result.warnings(), result.info())
                    } else {
                        "rows".to_owned()
                    });
                    match result.collect::<Row>().await {
                        Ok(rows) => {
                            if let (false, Some(last)) = (rows.is_empty(), before.last_mut()) {
                                *last = format!("{:?}", effect(&rows, 0, None, 0, "").rows);
                            }
                        }
                        Err(error) => {
                            // It was its own error, and there are no figures
                            before.pop();
                            return Err(error);
                        }
                    }
                }
                result.drop_result().await?;
                let rows = std::mem::take(before);
                Ok(Effect { rows, ..effect(&[], 0, None, 0, "") })
            }
            Step::Query(sql) | Step::Load(sql, _) => {
                if let Step::Load(_, file) = self {
                    let file = file.clone();
                    conn.set_infile_handler(async move {
                        Ok(futures::stream::once(async move { Ok(file.into()) }).boxed())
                    });
                }
                let mut result = conn.query_iter(sql.as_str()).await?;
                let rows: Vec<Row> = result.collect().await?;
                let effect = effect(
                    &rows,
                    result.affected_rows(),
                    result.last_insert_id(),
                    result.warnings(),
                    &result.info(),
                );
                result.drop_result().await?;
                Ok(effect)
            }
            Step::Exec(sql, params) => {
                let params =
                    if params.is_empty() { Params::Empty } else { Params::Positional(params.clone()) };
                let mut result = conn.exec_iter(sql.as_str(), params).await?;
                let rows: Vec<Row> = result.collect().await?;
                let effect = effect(
                    &rows,
                    result.affected_rows(),
                    result.last_insert_id(),
                    result.warnings(),
                    &result.info(),
                );
                result.drop_result().await?;
                Ok(effect)
            }
        }
    }
}

fn effect(rows: &[Row], affected: u64, last_insert_id: Option<u64>, warnings: u16, info: &str) -> Effect {
    let columns = rows.first().map(Row::columns_ref).unwrap_or_default();
    let columns =
        columns.iter().map(|c| format!("{}|{}|{}", c.name_str(), c.table_str(), c.org_table_str())).collect();
    let rows =
        rows.iter().map(|row| row.clone().unwrap().iter().map(text).collect::<Vec<_>>().join("|")).collect();
    Effect { affected, last_insert_id, warnings, info: info.to_owned(), columns, rows, error: None }
}

/// Runs the steps on both connections and fails at the first one whose effects differ.
pub async fn same_effects(one: &mut Conn, other: &mut Conn, steps: &[Step]) -> Result<()> {
    for step in steps {
        let (a, b) = (step.run(one).await?, step.run(other).await?);
        if a != b {
            bail!("{}\nthrough the proxy: {a:?}\nstraight:          {b:?}", step.sql());
        }
    }
    Ok(())
}
