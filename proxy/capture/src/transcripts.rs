//! Transcripts: what the capture of a statement sends, what is in the journal then, and what the statement comes to,
//! in text files under `transcripts/`. A fake server and a fake service account answer as the file says; the server
//! knows nothing but its own status flags.
//!
//! ```text
//! case UPDATE by key, alone             the name; what follows is up to the next case
//! server mariadb                        default: mysql; any: it goes the same way on both
//! set safe_updates                      settings of the session: see `Scene::vars`
//! table t: id int key, v int            columns: type, then key, unique, index, null, auto, default
//! view w(id) select … from `s`.`t`      a view, as the information schema shows it
//! trigger t AFTER INSERT INSERT INTO …  a trigger of a table
//! foreign c(p) t(id) ON DELETE CASCADE  a foreign key that points at a table
//! params 1, 'x'                         the statements are executions with these parameters
//! open                                  a local transaction is open
//! known                                 and it has looked at all tables before, and holds them
//! run UPDATE t SET v = 1 WHERE id = 1   several are run one after the other
//! > SELECT …                            what is sent: each packet begins with >, its further statements with +
//! < rows 1|10                           what that is answered with: ok [affected [id [info]]], rows, error CODE
//! TEXT, lost ? still s.t = ok                      what the service account is asked, and what it answers journal
//! t(1): present, before (1, 10) done 1 affected                       or what else it becomes: a Halt, refused,
//! passed …
//! ```
//!
//! With `ATONE_WRITE_TRANSCRIPTS=1` the files are written anew: the answers stay, in their order, and what has none
//! gets the plain one. Read what has changed before it is committed.

mod account;
mod documented;
mod fake;
mod faults;
mod log;
mod play;
mod scene;
mod tables;

use std::fs;
use std::path::{Path, PathBuf};

use scene::Scene;

/// The files, by their names.
fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("transcripts");
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// The cases of a file.
fn scenes(text: &str) -> Vec<Scene> {
    let cases = text.split("\ncase ").map(|case| case.strip_prefix("case ").unwrap_or(case));
    cases.map(Scene::parse).collect()
}

/// The cases of all files.
fn all_scenes() -> Vec<Scene> {
    files().iter().flat_map(|path| scenes(&fs::read_to_string(path).unwrap())).collect()
}

/// Plays a file, or writes it anew.
fn check(path: &Path) {
    let expected = fs::read_to_string(path).unwrap();
    let played: Vec<String> = scenes(&expected).iter().map(Scene::written).collect();
    let played = played.join("\n");
    if std::env::var_os("ATONE_WRITE_TRANSCRIPTS").is_some() {
        fs::write(path, &played).unwrap();
        return;
    }
    for (at, (played, expected)) in played.lines().zip(expected.lines()).enumerate() {
        assert_eq!(played, expected, "{}:{}", path.display(), at + 1);
    }
    assert_eq!(played.lines().count(), expected.lines().count(), "{}", path.display());
}

#[test]
fn statements_go_as_the_transcripts_say() {
    let files = files();
    assert!(!files.is_empty());
    files.iter().for_each(|path| check(path));
}
