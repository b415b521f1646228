//! `atone lock`.

use serde_json::{Value, json};

use crate::args::Lock;
use crate::render::{Grid, Palette, field};
use crate::rest::Coordinator;
use crate::{Failure, Report};

pub(crate) async fn run(coordinator: &Coordinator, command: Lock, json: bool) -> Result<Report, Failure> {
    let Lock::Ls { xid, resource, table, limit } = command;
    let filters = [("xid", xid.as_deref()), ("resource", resource.as_deref()), ("table", table.as_deref())];
    let (locks, more) = coordinator.list("locks", &filters, limit).await?;
    if json {
        return Report::json(&json!({ "locks": locks, "more": more }));
    }
    Ok(Report { text: list(&locks, more), failure: None })
}

fn list(locks: &[Value], more: bool) -> String {
    let mut grid = Grid::new(&["RESOURCE", "TABLE", "KEY", "XID", "BRANCH"]);
    for lock in locks {
        grid.row(
            ["resource", "table", "key", "xid", "branch_id"].iter().map(|name| field(lock, name)).collect(),
        );
    }
    let mut text = grid.render(Palette::Plain, "");
    if more {
        text.push_str("… and more: raise --limit\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_are_listed() {
        let locks =
            [json!({"resource": "bank1", "table": "bank.account", "key": "1", "xid": "x:1", "branch_id": 7})];
        assert_eq!(
            list(&locks, true),
            "RESOURCE  TABLE         KEY  XID  BRANCH\n\
             bank1     bank.account  1    x:1  7\n\
             … and more: raise --limit\n"
        );
    }
}
