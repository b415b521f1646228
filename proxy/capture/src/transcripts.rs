//! Transcripts: what the capture of a statement sends, what is in the journal then, and what the statement comes to, in text files
//! under `transcripts/`. A fake server answers as the file says; it knows nothing but its own status flags.
//!
//! ```text
//! case UPDATE by key, alone             the name; what follows is up to the next case
//! server mariadb                        default: mysql
//! set safe_updates                      settings of the session: see `Scene::set`
//! table t: id int key, v int            columns: type, then key, unique, null, auto, default
//! open                                  a local transaction is open
//! run UPDATE t SET v = 1 WHERE id = 1   several are run one after the other
//! > SELECT …                            what is sent: each packet begins with >, its further statements with +
//! < rows 1|10                           what that is answered with: ok [affected [id]], rows, error CODE TEXT, lost
//! journal t(1): present, before (1, 10)
//! done 1 affected                       or a Halt
//! ```
//!
//! With `ATONE_WRITE_TRANSCRIPTS=1` the files are written anew: the answers stay, in their order, and what has none gets the plain
//! one. Read what has changed before it is committed.

mod fake;
mod scene;

use std::fs;
use std::path::Path;

use scene::Scene;

/// Plays a file, or writes it anew.
fn check(name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("transcripts").join(format!("{name}.txt"));
    let expected = fs::read_to_string(&path).unwrap();
    let mut played = String::new();
    for case in expected.split("\ncase ") {
        let case = case.strip_prefix("case ").unwrap_or(case);
        if !played.is_empty() {
            played.push('\n');
        }
        played.push_str(&Scene::parse(case).play());
    }
    if std::env::var_os("ATONE_WRITE_TRANSCRIPTS").is_some() {
        fs::write(&path, &played).unwrap();
        return;
    }
    for (at, (played, expected)) in played.lines().zip(expected.lines()).enumerate() {
        assert_eq!(played, expected, "{}:{}", path.display(), at + 1);
    }
    assert_eq!(played.lines().count(), expected.lines().count(), "{}", path.display());
}

#[test]
fn update_and_delete() {
    check("update_delete");
}

#[test]
fn insert() {
    check("insert");
}

#[test]
fn commit() {
    check("commit");
}

#[test]
fn errors_and_lost_connections() {
    check("errors");
}
