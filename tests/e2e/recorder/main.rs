//! One script of commands, played straight against the server and through the proxy: both packet streams are equal,
//! field by field. The two runs go to two servers of the same kind, with the same schema, at the same time. So what
//! one leaves behind cannot be seen by the other.

mod allowed;
mod bound;
mod compare;
mod document;
mod known;
mod play;
mod script;
mod scripts;
mod setup;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use atone_tests::wire::caps;
use atone_tests::{Bank, Flavor, run};

use play::{Place, Recorded, play};
use script::{Matrix, SETTINGS, Script, Setting};
use setup::{Admin, Setup};

/// The variable that names the scripts to play, by the beginning of their names.
const ONLY: &str = "ATONE_SCRIPTS";
/// The variable that has the server's packets printed.
const PRINT: &str = "ATONE_PRINT";

/// Makes four tests of each setting: unbound and bound, one a flavor.
macro_rules! settings {
    ($($name:ident),+ $(,)?) => { $(
        mod $name {
            use super::*;
            #[test]
            fn mariadb() {
                run::run_alone(Flavor::MariaDb, through_the_proxy(Flavor::MariaDb, stringify!($name)));
            }
            #[test]
            fn mysql() {
                run::run_alone(Flavor::MySql, through_the_proxy(Flavor::MySql, stringify!($name)));
            }
            mod in_a_global_transaction {
                use super::*;
                #[test]
                fn mariadb() {
                    run::run_alone(Flavor::MariaDb, bound(Flavor::MariaDb, stringify!($name)));
                }
                #[test]
                fn mysql() {
                    run::run_alone(Flavor::MySql, bound(Flavor::MySql, stringify!($name)));
                }
            }
        }
    )+ };
}

settings!(plain, eof, minimal, tls, zlib, zlib_minimal, zstd, tls_zlib, tls_zstd);

/// The recorder itself: two servers, without a proxy.
mod straight {
    use super::*;

    #[test]
    fn mariadb() {
        run::run_alone(Flavor::MariaDb, two_servers(Flavor::MariaDb));
    }

    #[test]
    fn mysql() {
        run::run_alone(Flavor::MySql, two_servers(Flavor::MySql));
    }
}

/// What the proxy says first is what the server says, but for what is masked.
mod greetings {
    use super::*;

    #[test]
    fn mariadb() {
        run::run_alone(Flavor::MariaDb, same_greetings(Flavor::MariaDb));
    }

    #[test]
    fn mysql() {
        run::run_alone(Flavor::MySql, same_greetings(Flavor::MySql));
    }
}

async fn same_greetings(flavor: Flavor) -> Result<()> {
    let setup = Setup::shared(flavor).await?;
    let straight = setup::greeting(setup.straight(Bank::One)).await?;
    for port in [setup.plain, setup.tls] {
        let through = setup::greeting(port).await?;
        let masked = straight.capabilities & !through.capabilities;
        let expected = known::masked(flavor);
        ensure!(
            masked == expected,
            "not offered: {}\nexpected:    {}",
            caps::names(masked),
            caps::names(expected)
        );
        let added = through.capabilities & !straight.capabilities;
        ensure!(added == 0, "offered by the proxy only: {}", caps::names(added));
        let (mut one, mut other) = (straight.decoded(), through.decoded());
        for greeting in [&mut one, &mut other] {
            greeting.fields.retain(|(name, _)| name != "capabilities");
        }
        ensure!(one == other, "{one}\n{other}");
    }
    Ok(())
}

use allowed::too_large;

atone_tests::owned_tests!(allowed::options() => too_large);

/// docs/compatibility.md says what the scripts cover.
#[test]
fn documented() {
    let written = document::check();
    assert!(written.is_ok(), "{written:?}");
}

fn named<'a>(scripts: &'a [Script], flavor: Flavor, setting: &Setting, proxied: bool) -> Vec<&'a Script> {
    let runs = |script: &&Script| {
        script.on.contains(&flavor)
            && setting.has(script)
            && (proxied || script.matrix == Matrix::All)
            && wanted(script)
    };
    scripts.iter().filter(runs).collect()
}

/// Whether the script is among those that were asked for.
fn wanted(script: &Script) -> bool {
    let only = std::env::var(ONLY).unwrap_or_default();
    only.split(',').any(|only| script.name.starts_with(only))
}

async fn through_the_proxy(flavor: Flavor, name: &str) -> Result<()> {
    let Some(setting) = SETTINGS.iter().find(|setting| setting.name == name) else {
        bail!("no setting {name}")
    };
    if !setting.on(flavor) {
        return Ok(());
    }
    let setup = Setup::shared(flavor).await?;
    let port = setup.through(setting);
    if setting.compression_bit() & known::masked(flavor) != 0 {
        // Until the proxy offers it; that it does not is seen to by `greetings`
        return Ok(());
    }
    let result = record(&setup, setting, port, setting.name, true).await;
    result.map_err(|error| error.context(setup.proxy.log_tail(30)))
}

async fn bound(flavor: Flavor, name: &str) -> Result<()> {
    let Some(setting) = SETTINGS.iter().find(|setting| setting.name == name) else {
        bail!("no setting {name}")
    };
    if !setting.on(flavor) {
        return Ok(());
    }
    let setup = Setup::shared(flavor).await?;
    bound::check(&setup, setting).await.map_err(|error| error.context(setup.proxy.log_tail(30)))
}

async fn two_servers(flavor: Flavor) -> Result<()> {
    let setup = Setup::shared(flavor).await?;
    for setting in SETTINGS.iter().filter(|setting| setting.few && setting.on(flavor)) {
        let port = setup.straight(Bank::One);
        record(&setup, setting, port, &format!("straight_{}", setting.name), false).await?;
    }
    Ok(())
}

/// Plays each script on the second server and on `port`, which leads to the first.
async fn record(setup: &Arc<Setup>, setting: &Setting, port: u16, schema: &str, proxied: bool) -> Result<()> {
    let flavor = setup.cluster.flavor();
    let offered = setup::greeting(port).await?.capabilities
        & setup::greeting(setup.straight(Bank::Two)).await?.capabilities;
    let schema = format!("r_{schema}");
    let compressed = [AtomicBool::new(false), AtomicBool::new(false)];
    let places = [Bank::Two, Bank::One].map(|bank| Place {
        port: if bank == Bank::One { port } else { setup.straight(bank) },
        server: setup.cluster.server(bank),
        schema: &schema,
        offered,
        proxied: proxied && bank == Bank::One,
        seen_compressed: if bank == Bank::One { &compressed[1] } else { &compressed[0] },
    });
    let mut admins =
        [Admin::open(places[0].server.port()).await?, Admin::open(places[1].server.port()).await?];
    let scripts = scripts::all();
    let mut wrong = Vec::new();
    for script in named(&scripts, flavor, setting, proxied) {
        for admin in &mut admins {
            prepare(admin, &schema, script).await?;
        }
        let began = std::time::Instant::now();
        let (straight, through) =
            tokio::join!(play(script, setting, places[0]), play(script, setting, places[1]));
        print(script, setting, flavor, began.elapsed(), &straight);
        let difference = compare::compare(&straight, &through);
        let known = proxied.then(|| known::known(flavor, setting, script.name)).flatten();
        match (difference, known) {
            (None, None) => {}
            (Some(difference), Some(known)) if difference.step.contains(known.step) => {}
            (None, Some(known)) if known.racy => {}
            (None, Some(known)) => {
                wrong.push(format!(
                    "{}: does not differ any more at {:?}: take it out of known.rs",
                    script.name, known.step
                ));
            }
            (Some(difference), _) => {
                wrong.push(format!("{}, step `{}`\n{}", script.name, difference.step, difference.text));
            }
        }
    }
    if setting.compression_bit() != 0 && std::env::var_os(ONLY).is_none() {
        let really = compressed.iter().all(|seen| seen.load(Ordering::Relaxed));
        ensure!(really, "{flavor}, {}: nothing was compressed", setting.name);
    }
    ensure!(wrong.is_empty(), "{flavor}, {}: {} scripts\n{}", setting.name, wrong.len(), wrong.join("\n"));
    Ok(())
}

/// Shows what the server said, where that is asked for.
fn print(script: &Script, setting: &Setting, flavor: Flavor, took: Duration, straight: &[Recorded]) {
    if std::env::var_os(PRINT).is_none() {
        return;
    }
    println!("== {} ({flavor}, {}, {took:?})", script.name, setting.name);
    for recorded in straight {
        println!("-- {}", recorded.step);
        recorded.packets.iter().for_each(|(_, packet)| println!("   {packet}"));
        if let Some(failure) = &recorded.failure {
            println!("   {failure}");
        }
    }
}

async fn prepare(admin: &mut Admin, schema: &str, script: &Script) -> Result<()> {
    admin.run(&format!("DROP DATABASE IF EXISTS `{schema}`")).await?;
    admin.run(&format!("CREATE DATABASE `{schema}` CHARACTER SET utf8mb4")).await?;
    admin.run(&format!("USE `{schema}`")).await?;
    for statement in &script.setup {
        admin.run(&statement.replace("{s}", schema)).await?;
    }
    Ok(())
}
