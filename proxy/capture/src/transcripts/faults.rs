//! Each answer of each transcript once more as an error, and as the end of the connection: what a statement then
//! comes to must fit what stands of it on the server (`FakeServer::check`).

use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{self, available_parallelism};

use super::all_scenes;
use super::log::Step;
use super::scene::Scene;

/// What the server answers instead.
const OF_SERVER: &[&str] = &[
    "lost",
    // A wait has ended, and nothing but the statement
    "error 1205 Lock wait timeout exceeded",
    // The local transaction has ended, as the code says, or the flags only
    "error 1213 Deadlock found [rolled back]",
    "error 1180 Got error during COMMIT [rolled back]",
    // Something is wrong with the text, or with what its user may do
    "error 1054 Unknown column",
    "error 1142 SELECT command denied",
    // The connection ends
    "error 1927 Connection was killed",
];

/// What else it answers instead of rows: more than there is room for.
const OF_ROWS: &[&str] = &["large"];

/// What the service account answers instead.
const OF_ACCOUNT: &[&str] = &["error 2013 Lost connection", "error 1142 SELECT command denied"];

#[test]
fn what_is_said_of_a_statement_fits_what_stands_of_it() {
    let scenes = all_scenes();
    let threads = available_parallelism().map_or(1, NonZero::get);
    let (mut met, mut wrong) = (0, Vec::new());
    thread::scope(|scope| {
        let scenes = &scenes;
        let sweep = |first| scope.spawn(move || swept(scenes.iter().skip(first).step_by(threads)));
        for thread in (0..threads).map(sweep).collect::<Vec<_>>() {
            let (more, failed) = thread.join().unwrap();
            met += more;
            wrong.extend(failed);
        }
    });
    assert!(met > 1000, "only {met} faults were met");
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Plays these cases with each fault at each step: with how many, and what is wrong.
fn swept<'a>(scenes: impl Iterator<Item = &'a Scene>) -> (usize, Vec<String>) {
    let (mut met, mut wrong) = (0, Vec::new());
    for scene in scenes {
        let servers = scene.servers();
        for (at, step) in scene.play(servers[0], None).steps.into_iter().enumerate() {
            // What goes the same way on both servers is played on one and the other in turn
            let mariadb = servers[at % servers.len()];
            let faults = match step {
                Step::Server => [OF_SERVER, &[]],
                Step::Rows => [OF_SERVER, OF_ROWS],
                Step::Account => [OF_ACCOUNT, &[]],
            };
            for fault in faults.into_iter().flatten() {
                met += 1;
                wrong.extend(played(scene, mariadb, at, fault));
            }
        }
    }
    (met, wrong)
}

/// What is wrong where this answer of a case is another one.
fn played(scene: &Scene, mariadb: bool, at: usize, fault: &str) -> Option<String> {
    let played = catch_unwind(AssertUnwindSafe(|| scene.play(mariadb, Some((at, fault)))));
    let name = format!("{}, step {at}, {fault}, MariaDB: {mariadb}", scene.name());
    match played {
        Ok(played) if played.struck => None,
        Ok(_) => Some(format!("{name}: was not met")),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            Some(format!("{name}: {}", text.unwrap_or_default()))
        }
    }
}
