//! Makes a failing case smaller while it still fails in the same way.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::play::{Failure, Outcome, Player};
use crate::script::{Case, Role, shown};

/// How long shrinking may take.
const LIMIT: Duration = Duration::from_secs(90);

/// The smallest case found that fails alike, and its failure.
pub(crate) async fn shrink(
    player: &mut Player<'_>,
    case: &Case,
    failure: &Failure,
) -> Result<(Case, Failure)> {
    let deadline = Instant::now() + LIMIT;
    let (mut best, mut best_failure) = (case.clone(), failure.clone());
    let mut chunk = best.ops.len().div_ceil(2).max(1);
    loop {
        let mut progress = false;
        let mut at = 0;
        while at < best.ops.len() && Instant::now() < deadline {
            let mut candidate = best.clone();
            let end = (at + chunk).min(candidate.ops.len());
            let mut position = 0;
            candidate.ops.retain(|op| {
                let dropped = (at..end).contains(&position) && op.role != Role::Frame;
                position += 1;
                !dropped
            });
            if candidate.ops.len() < best.ops.len()
                && let Some(failure) = fails_alike(player, &candidate, &best_failure).await?
            {
                (best, best_failure) = (candidate, failure);
                progress = true;
            } else {
                at += chunk;
            }
        }
        if chunk == 1 && !progress || Instant::now() >= deadline {
            break;
        }
        chunk = (chunk / 2).max(1);
    }
    for table in (0..best.tables.len()).rev() {
        let mut candidate = best.clone();
        let removed = candidate.tables.remove(table);
        // Without a table that is named the statement fails for another reason.
        let named = |sql: &str| sql.contains(&removed.name);
        if candidate.ops.iter().any(|op| named(&shown(&op.step)))
            || candidate.tables.iter().flat_map(|t| &t.setup).any(|sql| named(sql))
        {
            continue;
        }
        if Instant::now() < deadline
            && let Some(failure) = fails_alike(player, &candidate, &best_failure).await?
        {
            (best, best_failure) = (candidate, failure);
        }
    }
    for table in 0..best.tables.len() {
        for row in (1..best.tables[table].setup.len()).rev() {
            if Instant::now() >= deadline {
                break;
            }
            let mut candidate = best.clone();
            candidate.tables[table].setup.remove(row);
            if let Some(failure) = fails_alike(player, &candidate, &best_failure).await? {
                (best, best_failure) = (candidate, failure);
            }
        }
    }
    Ok((best, best_failure))
}

async fn fails_alike(player: &mut Player<'_>, case: &Case, wanted: &Failure) -> Result<Option<Failure>> {
    // A case whose tables can't be made any more is no smaller case.
    Ok(match player.play(case).await {
        Ok(Outcome::Failed(failure)) if failure.kind == wanted.kind => Some(failure),
        Ok(_) => None,
        Err(error) if error.chain().any(|cause| cause.is::<mysql_async::Error>()) => None,
        Err(error) => return Err(error),
    })
}
