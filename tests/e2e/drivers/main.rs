//! Real drivers, straight to the server and through the proxy: what they see has to be the same.

mod compare;
mod document;
mod flyway;
mod list;
mod run;
mod setup;

use std::sync::{Arc, Mutex};

use anyhow::Context as _;
use atone_tests::Flavor;

use list::DRIVERS;
use setup::Setup;

/// Makes of each driver's id two tests, one a flavor.
macro_rules! driver_tests {
    ($($id:ident),+ $(,)?) => {
        $( mod $id {
            #[test]
            fn mariadb() {
                super::test(stringify!($id), atone_tests::Flavor::MariaDb);
            }
            #[test]
            fn mysql() {
                super::test(stringify!($id), atone_tests::Flavor::MySql);
            }
        } )+
        const TESTED: &[&str] = &[$(stringify!($id)),+];
    };
}

driver_tests!(
    pymysql,
    mysqlclient,
    connector_python_pure,
    connector_python_c,
    asyncmy,
    go_sql_driver,
    mysql2,
    mariadb_js,
    connector_j,
    mariadb_connector_j,
    mysqli,
    pdo,
    sqlx,
    mysql_async,
    mariadb_client,
    mysql_client,
);

mod flyway_migrates_in_a_global_transaction {
    #[test]
    fn mariadb() {
        super::in_turn(atone_tests::Flavor::MariaDb, super::flyway::check);
    }
    #[test]
    fn mysql() {
        super::in_turn(atone_tests::Flavor::MySql, super::flyway::check);
    }
}

#[test]
fn every_driver_is_tested() {
    assert_eq!(TESTED, DRIVERS.iter().map(|driver| driver.id).collect::<Vec<_>>());
}

#[test]
fn documented() {
    document::check().unwrap_or_else(|error| panic!("{error:#}"));
}

fn test(id: &str, flavor: Flavor) {
    let driver = DRIVERS.iter().find(|driver| driver.id == id);
    if let Some(list::Program::Client(own)) = driver.map(|driver| driver.program)
        && own.skipped()
    {
        eprintln!("SKIPPED: {} leaves out {own} and with it its client", own.skip_variable());
        return;
    }
    in_turn(flavor, move |setup| async move {
        run::check(setup, driver.context("no such driver in the list")?).await
    });
}

/// Runs a test that uses what scripts/install-drivers installs.
fn in_turn<F>(flavor: Flavor, check: impl FnOnce(Arc<Setup>) -> F + Send + 'static)
where
    F: Future<Output = anyhow::Result<()>> + Send,
{
    if std::env::var_os(run::SKIP).is_some_and(|v| v == "1") {
        eprintln!("SKIPPED: {} leaves out the drivers", run::SKIP);
        return;
    }
    // One program at a time on a flavor's servers: they share accounts, and some need MySQL's cache of passwords.
    static TURNS: [Mutex<()>; 2] = [Mutex::new(()), Mutex::new(())];
    let turn = &TURNS[usize::from(flavor == Flavor::MySql)];
    let _turn = turn.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    atone_tests::run::run_alone(flavor, async move {
        let setup = Setup::shared(flavor).await?;
        let result = check(setup.clone()).await;
        result.map_err(|error| anyhow::anyhow!("{error:#}\n{}", setup.log_tails()))
    });
}
