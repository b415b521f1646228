//! Flyway, whose connections begin by joining a global transaction. Before and after each migration it sets every
//! user variable that it finds to NULL.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, ensure};
use atone_tests::cluster::SOON;
use atone_tests::server::ADMIN;
use atone_tests::{Bank, Flavor, cli, paths, sql};

use serde_json::json;

use crate::run;
use crate::setup::Setup;

/// What runs unbound, and what runs in the global transaction.
const UNBOUND: &[(&str, &str)] = &[(
    "V1__account.sql",
    "CREATE TABLE account (id INT PRIMARY KEY, owner VARCHAR(20), balance INT);\n\
     INSERT INTO account VALUES (1, 'Ada', 100), (2, 'Bob', 50);",
)];
const BOUND: &[(&str, &str)] = &[
    (
        "V2__interest.sql",
        "SET @rate = 10, @other = 1;\nUPDATE account SET balance = balance + @rate;\n\
         INSERT INTO account VALUES (3, 'Cy', 0);",
    ),
    // The variable is gone
    ("V3__owner.sql", "UPDATE account SET owner = CONCAT(owner, IFNULL(@rate, '!'));"),
];

fn write(folder: &Path, migrations: &[(&str, &str)]) -> Result<()> {
    for (name, text) in migrations {
        std::fs::write(folder.join(name), text)?;
    }
    Ok(())
}

/// Runs the folder's migrations through the proxy; how many ran.
async fn migrate(setup: &Setup, schema: &str, folder: &Path, first: Option<&str>) -> Result<String> {
    let options = match setup.cluster.flavor() {
        Flavor::MariaDb => "mariadb://127.0.0.1:{port}/{schema}",
        Flavor::MySql => "mysql://127.0.0.1:{port}/{schema}?sslMode=DISABLED&allowPublicKeyRetrieval=true",
    };
    let url = options.replace("{port}", &setup.proxy_port(false).to_string()).replace("{schema}", schema);
    let (java, mut args) = run::java("Migrates")?;
    args.extend([
        format!("jdbc:{url}"),
        ADMIN.0.to_owned(),
        ADMIN.1.to_owned(),
        folder.display().to_string(),
    ]);
    args.extend(first.map(str::to_owned));
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let output = cli::run(&java, &args, &[], b"").await?;
    Ok(output.success()?.trim().to_owned())
}

pub(crate) async fn check(setup: Arc<Setup>) -> Result<()> {
    let c = &setup.cluster;
    let schema = c.schema("flyway").await?;
    let folder = paths::fresh_dir("flyway-")?;
    write(folder.path(), UNBOUND)?;
    ensure!(migrate(&setup, &schema, folder.path(), None).await? == "1");
    let before = setup.dump(Bank::One, &schema).await?;
    write(folder.path(), BOUND)?;
    for commits in [false, true] {
        let xid = c.rest().begin(json!({ "name": "flyway" })).await?;
        let join = format!("START GLOBAL TRANSACTION JOIN '{xid}'");
        ensure!(migrate(&setup, &schema, folder.path(), Some(&join)).await? == "2");
        let accounts = c.rows(Bank::One, &schema, "SELECT * FROM account ORDER BY id").await?;
        ensure!(accounts == ["1|Ada!|110", "2|Bob!|60", "3|Cy!|0"], "{accounts:?}");
        let transaction = c.rest().transaction(&xid).await?;
        let branches = transaction["branches"].as_array().map_or(0, Vec::len);
        ensure!(branches == 2, "each migration is a local transaction of its own: {transaction}");
        if commits {
            c.rest().commit(&xid).await?.expect(200)?;
            ensure!(setup.dump(Bank::One, &schema).await? != before);
        } else {
            c.rest().rollback(&xid).await?.expect(200)?;
            c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
            let after = setup.dump(Bank::One, &schema).await?;
            ensure!(after == before, "expected {before:?}\nfound {after:?}");
        }
    }
    sql::run(&mut c.server(Bank::One).admin().await?, format!("DROP DATABASE {schema}")).await
}
