//! Whether a rollback could put back what a statement is about to change.

use atone_undo::{Assigned, Kind, Obstacle, Row, Table, obstacle};

use crate::Capture;
use crate::effect::Effect;
use crate::error::{End, SqlError};
use crate::flight::Reply;
use crate::outcome::Halt;
use crate::settings::Vars;
use atone_facts::{TableInfo, compensates_by_replacing};

/// Images of fewer bytes fit any packet that a server is reasonably given.
const SMALL_BYTES: usize = 256 << 10;
/// What the columns of a table that are no TEXT or BLOB have together at most, and one of these, in bytes.
const MAX_SHORT_BYTES: usize = 64 << 10;

impl Capture<'_> {
    /// How many bytes a packet of phase two may have, which runs on connections of its own: the server's global
    /// setting as it is now. Asked only where images of so many bytes might not fit.
    pub(crate) async fn restoring_packet_bytes(&mut self, image_bytes: usize) -> Result<usize, End> {
        let vars = self.session_vars().await?;
        if image_bytes < SMALL_BYTES.min(vars.max_allowed_packet / 4) {
            return Ok(vars.max_allowed_packet);
        }
        let Reply::Rows(rows) = self.run_one("SELECT @@GLOBAL.max_allowed_packet LIMIT 1").await? else {
            return Err(End::Broken("max_allowed_packet cannot be read".into()));
        };
        let cells = rows.cells(0)?;
        let text = cells.first().copied().flatten().and_then(|cell| std::str::from_utf8(cell).ok());
        text.and_then(|text| text.parse().ok())
            .ok_or_else(|| End::Broken("max_allowed_packet is no number".into()))
    }

    /// Sees that these rows could be put back, of a statement with this effect.
    pub(crate) async fn check_restorable<'a>(
        &mut self,
        info: &TableInfo,
        rows: impl Iterator<Item = &'a Row> + Clone,
        effect: &Effect,
    ) -> Result<(), Halt> {
        let assigned = assigned(info, effect);
        let bytes = |row: &Row| row.values.packed_bytes();
        let packet_bytes = self.restoring_packet_bytes(rows.clone().map(bytes).max().unwrap_or(0)).await?;
        let mut found =
            rows.filter_map(|row| obstacle(&info.table, &row.values.to_values(), assigned, packet_bytes));
        let obstacle = found.next();
        obstacle.map_or(Ok(()), |found| Err(stops(&self.xid(), &info.table, &found, packet_bytes).into()))
    }
}

/// What a rollback assigns of the rows of a statement with this effect: all of a row that is inserted again, since it
/// went, or since unique values move among several rows, or triggers fire.
fn assigned<'a>(info: &TableInfo, effect: &'a Effect) -> Assigned<'a> {
    match effect {
        Effect::Updated(columns)
            if !effect.touches_a_key(&info.table) && !compensates_by_replacing(&info.facts.triggers) =>
        {
            Assigned::Columns(columns)
        }
        Effect::Updated(_) | Effect::Deleted => Assigned::Row,
    }
}

/// Whether rows could be put back whatever they hold, so that the statement need not wait for its images.
pub(crate) fn always_restorable(info: &TableInfo, effect: &Effect, vars: &Vars) -> bool {
    let assigned = assigned(info, effect);
    let mut most_bytes = MAX_SHORT_BYTES;
    for (at, column) in info.table.columns.iter().enumerate() {
        let is_assigned = match assigned {
            Assigned::Row => true,
            Assigned::Columns(columns) => columns.contains(&at),
        };
        let data_type = column.column_type.split(['(', ' ']).next().unwrap_or_default();
        let bytes = match column.kind {
            // Its text may be above the packet even where it is not written
            Kind::Document => return false,
            Kind::Geometry if is_assigned => return false,
            Kind::Vector if is_assigned => MAX_SHORT_BYTES,
            Kind::Text | Kind::Binary if is_assigned => match data_type {
                "text" | "blob" => MAX_SHORT_BYTES,
                "mediumtext" | "mediumblob" | "longtext" | "longblob" => return false,
                _ => 0,
            },
            _ => 0,
        };
        most_bytes = most_bytes.saturating_add(bytes);
    }
    most_bytes < vars.max_allowed_packet / 4
}

/// What a client is told of a row that could not be put back.
pub(crate) fn stops(xid: &str, table: &Table, obstacle: &Obstacle, packet_bytes: usize) -> SqlError {
    let name = format!("{}.{}", table.schema, table.name);
    match obstacle {
        Obstacle::Value { column, what } => {
            let why =
                format!("the column {column} of {name} holds {what}, which a rollback could not put back");
            SqlError::refused(xid, &why)
        }
        Obstacle::Packet { needed_bytes } => SqlError::not_restorable(
            xid,
            &format!(
                "a row of {name} takes {needed_bytes} bytes to be put back, above max_allowed_packet = {packet_bytes}"
            ),
        ),
    }
}
