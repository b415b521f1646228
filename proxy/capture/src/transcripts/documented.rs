//! Every row of the tables in docs/sql-support.md has a transcript of its statement, on each of its servers.

use std::collections::HashMap;

use atone_sources::documents::statements;

use super::all_scenes;

/// Whether a statement that is documented to become this may end so.
fn fits(becomes: &str, reason: &str, end: &str) -> bool {
    match becomes {
        "captured" => end.ends_with(" affected") && end != "done 0 affected",
        "refused" => end == format!("refused {reason}"),
        "transaction" => matches!(end, "done transaction" | "done committed"),
        other => end == format!("done {other}"),
    }
}

#[test]
fn every_documented_form_has_a_transcript() {
    let mut ends: HashMap<(bool, String), Vec<String>> = HashMap::new();
    for scene in all_scenes() {
        for &mariadb in scene.servers() {
            for played in scene.play(mariadb, None).runs {
                if let Some(sql) = played.run.strip_prefix("run ") {
                    ends.entry((mariadb, sql.to_owned())).or_default().push(played.end);
                }
            }
        }
    }
    let mut wrong = Vec::new();
    let rows = statements();
    assert!(rows.len() > 100, "only {} rows were found", rows.len());
    for row in &rows {
        for &mariadb in row.servers() {
            let name = if mariadb { "MariaDB" } else { "MySQL" };
            match ends.get(&(mariadb, row.sql.clone())) {
                None => wrong.push(format!("no transcript on {name}: {}", row.line)),
                Some(ends) if !ends.iter().any(|end| fits(&row.becomes, &row.reason, end)) => {
                    wrong.push(format!("{name}: {}\n    comes to: {}", row.line, ends.join("; ")));
                }
                Some(_) => {}
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
