//! The harness itself: servers start, end with their owner, keep their data over a kill.

use std::time::Instant;

use anyhow::Result;
use atone_tests::server::APP;
use atone_tests::{Flavor, Server, run, sql};

async fn survives_a_kill(flavor: Flavor) -> Result<()> {
    let begun = Instant::now();
    let mut server = Server::start(flavor).await?;
    eprintln!("{flavor} started in {:?}", begun.elapsed());
    let mut admin = server.admin().await?;
    sql::run_all(&mut admin, &["CREATE DATABASE x", "CREATE TABLE x.t (id INT PRIMARY KEY)"]).await?;
    let mut app = server.connect(APP, Some("x")).await?;
    sql::run(&mut app, "INSERT INTO t VALUES (7)").await?;
    server.kill9()?;
    assert!(sql::rows(&mut app, "SELECT id FROM t").await.is_err(), "the server was to be gone");
    let begun = Instant::now();
    server.restart().await?;
    eprintln!("{flavor} recovered in {:?}", begun.elapsed());
    let mut app = server.connect(APP, Some("x")).await?;
    assert_eq!(sql::rows(&mut app, "SELECT id FROM t").await?, ["7"]);
    server.stop().await
}

mod server_survives_a_kill {
    use super::*;

    #[test]
    fn mariadb() {
        run::run_alone(Flavor::MariaDb, survives_a_kill(Flavor::MariaDb));
    }

    #[test]
    fn mysql() {
        run::run_alone(Flavor::MySql, survives_a_kill(Flavor::MySql));
    }
}
