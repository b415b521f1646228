//! Views that stand for rows and columns of one table: what a statement writes through them is captured there.

use std::sync::Arc;

use atone_sql::{Insert, Mode, OnConflict, TableRef, single_table_view};
use atone_undo::{Column, Table, UniqueKey, quote_identifier};

use crate::Capture;
use crate::binding::tables::Resolved;
use crate::error::{End, SqlError};
use crate::outcome::Halt;
use crate::outcome::with_context;
use crate::settings::Vars;
use crate::text::same_name;
use atone_facts::TableInfo;
use atone_facts::{ServiceError, ViewDefinition};

/// How many views may lie over one another.
const MAX_DEPTH: usize = 16;

/// A view, and the table behind it.
#[derive(Debug)]
pub(crate) struct View {
    schema: String,
    name: String,
    /// Its columns, each with the one of the table that it is, if it is one.
    columns: Vec<(String, Option<usize>)>,
    pub(crate) info: Arc<TableInfo>,
    /// The column definitions that the session sees of the table.
    pub(crate) probe: Vec<u8>,
    /// Of this and the views that it is over, the definitions that it was read from.
    definitions: Vec<Definition>,
}

/// A view as the service account sees it.
#[derive(Debug, PartialEq, Eq)]
struct Definition {
    schema: String,
    name: String,
    text: String,
    columns: Vec<String>,
}

impl View {
    /// `schema`.`name`
    pub(crate) fn quoted(&self) -> String {
        format!("{}.{}", quote_identifier(&self.schema), quote_identifier(&self.name))
    }

    /// The table's columns of these names, as an UPDATE names them; `None` for one that the view computes.
    pub(crate) fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().find(|(own, _)| same_name(own, name))?.1
    }

    /// The columns of the key that identifies rows, as a table under the view's names.
    ///
    /// # Errors
    /// The view leaves some out.
    pub(crate) fn key_table(&self) -> Result<Table, String> {
        let table = &self.info.table;
        let key = table.keys.first().ok_or("the table has no key")?;
        let mut columns = Vec::with_capacity(key.columns.len());
        for &c in &key.columns {
            let own = self.columns.iter().find(|(_, of)| *of == Some(c));
            let column = table.columns.get(c);
            let (Some((name, _)), Some(column)) = (own, column) else {
                return Err(format!("the view {}.{} leaves out columns of the key", self.schema, self.name));
            };
            columns.push(Column { name: name.clone(), ..column.clone() });
        }
        let key =
            UniqueKey { name: key.name.clone(), columns: (0..columns.len()).collect(), prefixes: Vec::new() };
        Ok(Table { schema: self.schema.clone(), name: self.name.clone(), columns, keys: vec![key] })
    }

    /// The INSERT with the table's columns in place of the view's.
    ///
    /// # Errors
    /// It names a column that the view computes.
    pub(crate) fn mapped(&self, insert: &Insert) -> Result<Insert, String> {
        let name_of = |name: &str| -> Result<String, String> {
            let column = self.column(name).and_then(|c| self.info.table.columns.get(c));
            let column = column.ok_or_else(|| format!("the view's column {name} is none of the table's"))?;
            Ok(column.name.clone())
        };
        let mut mapped = insert.clone();
        let columns = match &insert.columns {
            Some(columns) => columns.iter().map(|name| name_of(name)).collect(),
            None if insert.query.is_none() && insert.rows.iter().all(Vec::is_empty) => Ok(Vec::new()),
            None => self.columns.iter().map(|(name, _)| name_of(name)).collect::<Result<Vec<_>, _>>(),
        };
        mapped.columns = Some(columns?);
        if let OnConflict::Update(assignments) = &mut mapped.on_conflict {
            for assignment in assignments {
                assignment.column = name_of(&assignment.column)?;
            }
        }
        Ok(mapped)
    }
}

impl Capture<'_> {
    /// The table behind a view.
    pub(crate) async fn resolve_view(
        &mut self,
        schema: String,
        name: String,
        vars: &Vars,
    ) -> Result<View, Halt> {
        let mode = Mode { mariadb: self.mariadb, ..Mode::default() };
        let mut definitions: Vec<Definition> = Vec::new();
        // The outermost view's columns, each with the name that the table below has for it
        let mut columns: Vec<(String, Option<String>)> = Vec::new();
        let (mut at_schema, mut at_name) = (schema.clone(), name.clone());
        for _ in 0..MAX_DEPTH {
            let definition = match self.definition(&at_schema, &at_name).await {
                Ok(Some(definition)) => definition,
                Ok(None) => {
                    let why = "the service account cannot see the definition of the view";
                    return Err(Halt::stop(format!("{why} {at_schema}.{at_name}")));
                }
                Err(e) => {
                    let what = "the service account cannot read views";
                    return Err(SqlError::of_service(&self.xid(), what, &e).into());
                }
            };
            let over = single_table_view(definition.text.as_bytes(), mode)
                .filter(|over| over.columns.len() == definition.columns.len());
            let Some(over) = over else {
                let why = "is more than rows and columns of one table";
                return Err(Halt::stop(format!("the view {at_schema}.{at_name} {why}")));
            };
            let below = |name: &str| {
                let at = definition.columns.iter().position(|own| same_name(own, name))?;
                over.columns.get(at).cloned().flatten()
            };
            if definitions.is_empty() {
                columns = definition.columns.iter().map(|name| (name.clone(), below(name))).collect();
            } else {
                for (_, of) in &mut columns {
                    *of = of.as_deref().and_then(below);
                }
            }
            definitions.push(definition);
            let table = TableRef::named(Some(over.schema.clone()), over.table.clone());
            match self.resolve(&table, vars).await? {
                Resolved::Table(info, probe) => {
                    let place = |name: String| info.table.columns.iter().position(|c| c.name == name);
                    let columns = columns.into_iter().map(|(own, of)| (own, of.and_then(place))).collect();
                    return Ok(View { schema, name, columns, info, probe, definitions });
                }
                Resolved::View(schema, name) => (at_schema, at_name) = (schema, name),
                Resolved::Temporary => {
                    return Err(Halt::stop("a temporary table has the name of the table behind the view"));
                }
                Resolved::Answer(e) => {
                    return Err(Halt::stop(with_context("the table behind the view", &e)));
                }
            }
        }
        Err(Halt::stop("too many views lie over one another"))
    }

    /// Whether a view, which the transaction now holds, is what it was.
    pub(crate) async fn still_is(&mut self, view: &View) -> Result<bool, End> {
        for was in &view.definitions {
            match self.definition(&was.schema, &was.name).await {
                Ok(Some(now)) if now == *was => {}
                _ => return Ok(false),
            }
        }
        Ok(true)
    }

    async fn definition(&self, schema: &str, name: &str) -> Result<Option<Definition>, ServiceError> {
        let shown = self.catalog.view(schema, name).await?;
        Ok(shown.map(|ViewDefinition { text, columns }| Definition {
            schema: schema.to_owned(),
            name: name.to_owned(),
            text,
            columns,
        }))
    }
}
