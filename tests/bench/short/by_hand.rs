//! What Atone does for a transfer, done by the client itself: images, an undo row in the same local transaction, and
//! its deletion when both servers have committed. Nothing locks the rows between the two phases, and nobody would
//! recover: it is what the same work costs at least.

use anyhow::{Result, ensure};
use atone_tests::sql;
use mysql_async::Conn;
use mysql_async::prelude::Queryable as _;

use super::transfers::Change;

/// The table of undo rows, of the shape of undo_log.
pub(crate) const CREATE_UNDO: &str = "CREATE TABLE undo_by_hand (branch_id BIGINT NOT NULL, xid VARCHAR(128) NOT NULL, \
    context VARCHAR(128) NOT NULL, rollback_info LONGBLOB NOT NULL, log_status INT NOT NULL, \
    log_created DATETIME(6) NOT NULL, log_modified DATETIME(6) NOT NULL, PRIMARY KEY (xid, branch_id)) ENGINE=InnoDB";

/// A round trip for each statement.
pub(crate) async fn transfer(conns: &mut [Conn; 2], changes: [Change; 2], xid: &str) -> Result<()> {
    for (branch, (conn, change)) in conns.iter_mut().zip(changes).enumerate() {
        sql::run(conn, "BEGIN").await?;
        let before = image(conn, &select(change, " FOR UPDATE")).await?;
        sql::run(conn, change.update()).await?;
        let after = image(conn, &select(change, "")).await?;
        sql::run(conn, insert(branch, xid, &before, &after)).await?;
        sql::run(conn, "COMMIT").await?;
    }
    delete(conns, xid).await
}

/// The statements of a step in one packet. The steps are those of the application: BEGIN, UPDATE with both images
/// around it, COMMIT with the undo row before it.
pub(crate) async fn pipelined(conns: &mut [Conn; 2], changes: [Change; 2], xid: &str) -> Result<()> {
    for (branch, (conn, change)) in conns.iter_mut().zip(changes).enumerate() {
        sql::run(conn, "BEGIN").await?;
        let step = format!("{}; {}; {}", select(change, " FOR UPDATE"), change.update(), select(change, ""));
        let mut results = conn.query_iter(step).await?;
        let before = only(results.collect().await?)?;
        let _: Vec<mysql_async::Row> = results.collect().await?;
        let after = only(results.collect().await?)?;
        results.drop_result().await?;
        sql::run(conn, format!("{}; COMMIT", insert(branch, xid, &before, &after))).await?;
    }
    delete(conns, xid).await
}

/// The second phase.
async fn delete(conns: &mut [Conn; 2], xid: &str) -> Result<()> {
    for (branch, conn) in conns.iter_mut().enumerate() {
        sql::run(conn, format!("DELETE FROM undo_by_hand WHERE xid = '{xid}' AND branch_id = {branch}"))
            .await?;
        let rows = conn.affected_rows();
        ensure!(rows == 1, "{rows} undo rows were deleted, not 1");
    }
    Ok(())
}

fn select(change: Change, lock: &str) -> String {
    format!("SELECT id, owner, balance FROM account WHERE id = {}{lock}", change.account)
}

async fn image(conn: &mut Conn, select: &str) -> Result<String> {
    only(conn.query(select).await?)
}

/// The only row of a result, as JSON.
fn only(rows: Vec<mysql_async::Row>) -> Result<String> {
    ensure!(rows.len() == 1, "{} rows instead of one", rows.len());
    let mut image = String::new();
    for value in rows.into_iter().flat_map(mysql_async::Row::unwrap) {
        let comma = if image.is_empty() { "" } else { "," };
        image += &format!("{comma}\"{}\"", sql::text(&value));
    }
    Ok(image)
}

fn insert(branch: usize, xid: &str, before: &str, after: &str) -> String {
    format!(
        "INSERT INTO undo_by_hand VALUES ({branch}, '{xid}', '', '{{\"table\":\"account\",\
         \"columns\":[\"id\",\"owner\",\"balance\"],\"before\":[[{before}]],\"after\":[[{after}]]}}', 0, NOW(6), NOW(6))"
    )
}
