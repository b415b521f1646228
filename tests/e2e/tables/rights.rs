//! What the service account may not see is not taken for what is not there: with any rights, a statement is undone
//! exactly or refused.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use atone_tests::cluster::SOON;
use atone_tests::run::Harmable;
use atone_tests::{Bank, Cluster, ClusterOptions, Flavor, Server, paths, sql};
use mysql_async::Conn;

atone_tests::shared_tests!(levels_and_roles, views);
atone_tests::owned_tests!(ClusterOptions::believing() => partial_revokes, granted_and_revoked_meanwhile);

/// What else the service account needs.
const BASE: &str = "SELECT, INSERT, UPDATE, DELETE, CREATE, SHOW VIEW";
const PASSWORD: &str = "svc-pw";

/// A service account and what it can prove.
struct Account {
    name: String,
    /// It sees the triggers of the tables.
    sees: bool,
}

/// Makes accounts with these grants, in which `ACCOUNT`, `%R` (a role), `SCHEMA` and so on stand for names; whether
/// each sees all.
async fn accounts(server: &Server, schema: &str, all: &[(&[&str], bool)]) -> Result<Vec<Account>> {
    let mut admin = server.admin().await?;
    let mut out = Vec::new();
    for (n, (grants, sees)) in all.iter().enumerate() {
        let name = format!("{schema}_{n}");
        sql::run(&mut admin, format!("CREATE USER '{name}'@'%' IDENTIFIED BY '{PASSWORD}'")).await?;
        for grant in *grants {
            let grant = grant.replace("BASE", BASE).replace("ACCOUNT", &format!("'{name}'@'%'"));
            let grant =
                grant.replace("%R", &format!("r{name}")).replace("ESCAPED", &schema.replace('_', "\\_"));
            sql::run(&mut admin, grant.replace("SCHEMA", schema)).await?;
        }
        out.push(Account { name, sees: *sees });
    }
    Ok(out)
}

/// A table with a trigger that writes elsewhere, and one without; the trigger's table counts what nothing undoes.
async fn tables(server: &Server, schema: &str) -> Result<()> {
    let mut admin = server.admin().await?;
    sql::run_all(
        &mut admin,
        &[
            &format!("USE {schema}"),
            "CREATE TABLE plain (id INT PRIMARY KEY, v INT, w INT)",
            "INSERT INTO plain VALUES (1, 1, 1)",
            "CREATE TABLE watched (id INT PRIMARY KEY)",
            "CREATE TABLE counted (n INT)",
            "INSERT INTO counted VALUES (0)",
            "CREATE TRIGGER counts AFTER INSERT ON watched FOR EACH ROW UPDATE counted SET n = n + 1",
        ],
    )
    .await
}

/// A proxy whose backends have these accounts; the application's session through each.
async fn sessions(
    c: &Cluster,
    dir: &std::path::Path,
    schema: &str,
    accounts: &[Account],
) -> Result<(atone_tests::daemon::Daemon, Vec<Conn>)> {
    let backends: Vec<String> = accounts
        .iter()
        .map(|account| format!("user = \"{}\"\npassword = \"{PASSWORD}\"\n", account.name))
        .collect();
    let (proxy, ports) = c.proxy_with(dir, &backends).await?;
    let mut conns = Vec::new();
    for port in ports {
        conns.push(sql::connect(port, atone_tests::server::APP, Some(schema)).await?);
    }
    Ok((proxy, conns))
}

/// Writes both tables bound, and rolls back: all is undone or was refused, the table without triggers only where the
/// account is not proven to see it.
async fn write(c: &Cluster, app: &mut Conn, schema: &str, sees: bool) -> Result<()> {
    let xid = sql::start_global(app).await?;
    let error = sql::refused(app, "INSERT INTO watched VALUES (7)").await?;
    error.expect(1235, "42000")?;
    ensure!(error.message.contains("trigger counts") == sees, "{error:?}");
    let plain = sql::run(app, "UPDATE plain SET v = v + 1, w = 0 WHERE id = 1").await;
    ensure!(plain.is_ok() == sees, "{plain:?}");
    sql::run(app, "ROLLBACK GLOBAL TRANSACTION").await?;
    c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    ensure!(c.rows(Bank::One, schema, "SELECT n FROM counted").await? == ["0"]);
    ensure!(c.rows(Bank::One, schema, "SELECT * FROM plain").await? == ["1|1|1"]);
    Ok(())
}

async fn levels_and_roles(c: Arc<Cluster>) -> Result<()> {
    let schema = c.schema("rights").await?;
    tables(&c.bank1, &schema).await?;
    let active = match c.flavor() {
        Flavor::MariaDb => "SET DEFAULT ROLE %R FOR ACCOUNT",
        Flavor::MySql => "SET DEFAULT ROLE %R TO ACCOUNT",
    };
    let all: &[(&[&str], bool)] = &[
        (&["GRANT BASE, TRIGGER ON *.* TO ACCOUNT"], true),
        (&["GRANT BASE ON *.* TO ACCOUNT"], false),
        (&["GRANT BASE, TRIGGER ON `ESCAPED`.* TO ACCOUNT"], true),
        (&["GRANT BASE, TRIGGER ON `rights%`.* TO ACCOUNT"], true),
        (&["GRANT BASE, TRIGGER ON `SCHEMA`.* TO ACCOUNT"], true),
        (&["GRANT BASE ON `ESCAPED`.* TO ACCOUNT"], false),
        // The server goes by one of them
        (&["GRANT BASE, TRIGGER ON `rights%`.* TO ACCOUNT", "GRANT BASE ON `ESCAPED`.* TO ACCOUNT"], false),
        // A right on other tables and schemas
        (&["GRANT BASE ON `ESCAPED`.* TO ACCOUNT", "GRANT TRIGGER ON `other%`.* TO ACCOUNT"], false),
        (
            &[
                "GRANT BASE ON `ESCAPED`.* TO ACCOUNT",
                "GRANT TRIGGER ON SCHEMA.plain TO ACCOUNT",
                "GRANT TRIGGER ON SCHEMA.watched TO ACCOUNT",
            ],
            true,
        ),
        (&["GRANT BASE ON `ESCAPED`.* TO ACCOUNT", "GRANT TRIGGER ON SCHEMA.counted TO ACCOUNT"], false),
        // Some columns only
        (
            &[
                "GRANT INSERT, UPDATE, DELETE, CREATE, TRIGGER ON `ESCAPED`.* TO ACCOUNT",
                "GRANT SELECT (id, v) ON SCHEMA.plain TO ACCOUNT",
                "GRANT SELECT (id) ON SCHEMA.watched TO ACCOUNT",
            ],
            false,
        ),
        (
            &["CREATE ROLE %R", "GRANT BASE, TRIGGER ON `ESCAPED`.* TO %R", "GRANT %R TO ACCOUNT", active],
            true,
        ),
        // A role that is not active
        (
            &[
                "CREATE ROLE %R",
                "GRANT TRIGGER ON *.* TO %R",
                "GRANT %R TO ACCOUNT",
                "GRANT BASE ON *.* TO ACCOUNT",
            ],
            false,
        ),
    ];
    let accounts = accounts(&c.bank1, &schema, all).await?;
    let dir = paths::fresh_dir("rights-")?;
    let (_proxy, mut apps) = sessions(&c, dir.path(), &schema, &accounts).await?;
    for ((account, app), (grants, _)) in accounts.iter().zip(&mut apps).zip(all) {
        write(&c, app, &schema, account.sees).await.with_context(|| format!("{grants:?}"))?;
    }
    Ok(())
}

/// MySQL takes rights on all schemas back for some, and then has no wildcards in their names.
async fn partial_revokes(c: Harmable) -> Result<()> {
    let c = c.lock().await;
    if c.flavor() == Flavor::MariaDb {
        return Ok(());
    }
    sql::run(&mut c.bank1.admin().await?, "SET GLOBAL partial_revokes = 1").await?;
    let schema = c.schema("rights").await?;
    tables(&c.bank1, &schema).await?;
    let all: &[(&[&str], bool)] = &[
        (&["GRANT BASE, TRIGGER ON *.* TO ACCOUNT"], true),
        (&["GRANT BASE, TRIGGER ON *.* TO ACCOUNT", "REVOKE TRIGGER ON `SCHEMA`.* FROM ACCOUNT"], false),
        (&["GRANT BASE, TRIGGER ON *.* TO ACCOUNT", "REVOKE TRIGGER ON other.* FROM ACCOUNT"], true),
        (&["GRANT BASE ON *.* TO ACCOUNT", "GRANT TRIGGER ON `rights%`.* TO ACCOUNT"], false),
        (&["GRANT BASE ON *.* TO ACCOUNT", "GRANT TRIGGER ON `SCHEMA`.* TO ACCOUNT"], true),
    ];
    let accounts = accounts(&c.bank1, &schema, all).await?;
    let dir = paths::fresh_dir("rights-")?;
    let (_proxy, mut apps) = sessions(&c, dir.path(), &schema, &accounts).await?;
    for ((account, app), (grants, _)) in accounts.iter().zip(&mut apps).zip(all) {
        write(&c, app, &schema, account.sees).await.with_context(|| format!("{grants:?}"))?;
    }
    // A child of a schema that is hidden from it may refer to any row
    for (app, sees) in apps.iter_mut().take(2).zip([true, false]) {
        sql::start_global(app).await?;
        let deleted = sql::run(app, "DELETE FROM plain WHERE id = 1").await;
        ensure!(deleted.is_ok() == sees, "{deleted:?}");
        sql::run(app, "ROLLBACK GLOBAL TRANSACTION").await?;
    }
    Ok(())
}

/// What is known of a table is believed for an hour, and sessions of the account go on with the rights that they
/// began with.
async fn granted_and_revoked_meanwhile(c: Harmable) -> Result<()> {
    let c = c.lock().await;
    let schema = c.schema("rights").await?;
    tables(&c.bank1, &schema).await?;
    let accounts = accounts(&c.bank1, &schema, &[(&["GRANT BASE ON *.* TO ACCOUNT"], false)]).await?;
    let dir = paths::fresh_dir("rights-")?;
    let (_proxy, mut apps) = sessions(&c, dir.path(), &schema, &accounts).await?;
    let [app] = apps.as_mut_slice() else { anyhow::bail!("one session") };
    let mut admin = c.bank1.admin().await?;
    write(&c, app, &schema, false).await?;
    let account = &accounts[0].name;
    for sees in [true, false, true] {
        let change = if sees { "GRANT TRIGGER ON *.* TO" } else { "REVOKE TRIGGER ON *.* FROM" };
        sql::run(&mut admin, format!("{change} '{account}'@'%'")).await?;
        write(&c, app, &schema, sees).await.with_context(|| change.to_owned())?;
    }
    // A trigger that comes where it cannot be seen any more
    sql::run(&mut admin, format!("REVOKE TRIGGER ON *.* FROM '{account}'@'%'")).await?;
    sql::run(&mut admin, format!("USE {schema}")).await?;
    sql::run(
        &mut admin,
        "CREATE TRIGGER later AFTER UPDATE ON plain FOR EACH ROW UPDATE counted SET n = n + 1",
    )
    .await?;
    sql::start_global(app).await?;
    sql::refused(app, "UPDATE plain SET v = 5 WHERE id = 1").await?.expect(1235, "42000")?;
    sql::run(app, "ROLLBACK GLOBAL TRANSACTION").await?;
    ensure!(c.rows(Bank::One, &schema, "SELECT n FROM counted").await? == ["0"]);
    Ok(())
}

/// A view of a schema of which the account sees nothing may call a function that writes.
async fn views(c: Arc<Cluster>) -> Result<()> {
    let (schema, hidden) = (c.schema("rights").await?, c.schema("hidden").await?);
    tables(&c.bank1, &schema).await?;
    let mut admin = c.bank1.admin().await?;
    sql::run_all(
        &mut admin,
        &[
            &format!("USE {hidden}"),
            "CREATE TABLE t (n INT)",
            "INSERT INTO t VALUES (0)",
            "CREATE FUNCTION writes() RETURNS INT MODIFIES SQL DATA BEGIN UPDATE t SET n = n + 1; RETURN 1; END",
            "CREATE VIEW v AS SELECT writes() AS n",
        ],
    )
    .await?;
    let all: &[(&[&str], bool)] = &[
        (&["GRANT BASE, TRIGGER ON `ESCAPED`.* TO ACCOUNT"], false),
        (&["GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, TRIGGER ON *.* TO ACCOUNT"], true),
        (&["GRANT BASE, TRIGGER ON *.* TO ACCOUNT"], true),
    ];
    let accounts = accounts(&c.bank1, &schema, all).await?;
    let dir = paths::fresh_dir("rights-")?;
    let (_proxy, mut apps) = sessions(&c, dir.path(), &schema, &accounts).await?;
    for ((account, app), (grants, _)) in accounts.iter().zip(&mut apps).zip(all) {
        let what = || format!("{grants:?}");
        sql::start_global(app).await?;
        let view = sql::refused(app, format!("SELECT * FROM {hidden}.v")).await.with_context(what)?;
        view.expect(1235, "42000").with_context(what)?;
        let table = sql::run(app, format!("SELECT * FROM {hidden}.t")).await;
        ensure!(table.is_ok() == account.sees, "{}: {table:?}", what());
        sql::run(app, "ROLLBACK GLOBAL TRANSACTION").await?;
    }
    ensure!(c.rows(Bank::One, &hidden, "SELECT n FROM t").await? == ["0"]);
    Ok(())
}
