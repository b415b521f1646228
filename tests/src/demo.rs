//! The demo's story: a shop's order and stock on one server, the customers' accounts on another. One purchase commits,
//! one fails half-way and is rolled back; what a DBA would see is shown at each step, and the outcome is checked.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use mysql_async::Conn;
use mysql_async::prelude::Queryable as _;

use crate::cluster::SOON;
use crate::server::APP;
use crate::{Bank, Cluster, ClusterOptions, Flavor, sql};

/// The two schemas: `shop` on the first server, `bank` on the second.
const SHOP: &str = "shop";
const BANK: &str = "bank";

const SHOP_TABLES: &[&str] = &[
    "CREATE TABLE orders (id INT AUTO_INCREMENT PRIMARY KEY, customer VARCHAR(20) NOT NULL, item VARCHAR(20) NOT NULL, \
     pieces INT NOT NULL, price DECIMAL(10,2) NOT NULL)",
    "CREATE TABLE stock (item VARCHAR(20) PRIMARY KEY, pieces INT NOT NULL, CHECK (pieces >= 0))",
    "INSERT INTO stock VALUES ('lamp', 10), ('chair', 4)",
];
const BANK_TABLES: &[&str] = &[
    "CREATE TABLE account (customer VARCHAR(20) PRIMARY KEY, balance DECIMAL(10,2) NOT NULL, CHECK (balance >= 0))",
    "INSERT INTO account VALUES ('ann', 100.00), ('bob', 25.00)",
];

/// What a purchase came to.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Bought,
    Refused(String),
}

/// Runs the story; fails where the outcome is not as it has to be. Returns the cluster, still running.
pub async fn run(flavor: Flavor, options: ClusterOptions) -> Result<Cluster> {
    let begun = Instant::now();
    heading(&format!("Starting two {flavor} servers, the coordinator and the proxy"));
    let cluster = Cluster::start_with(flavor, options).await?;
    set_up(&cluster).await?;
    println!("  up after {:.1} s", begun.elapsed().as_secs_f64());
    print_addresses(&cluster);
    let before = show_tables(&cluster, "Before").await?;

    heading("ann buys 2 lamps: order and stock on bank1, the account on bank2");
    let (outcome, xid) = purchase(&cluster, "ann", "lamp", 2, 60).await?;
    ensure!(outcome == Outcome::Bought, "the first purchase was refused: {outcome:?}");
    cluster.rest().wait_for_status(&xid, "committed", SOON).await?;
    println!("  COMMIT GLOBAL TRANSACTION: {xid} is committed on both servers");
    let bought = show_tables(&cluster, "After the purchase that committed").await?;
    ensure!(bought != before, "the purchase changed nothing");
    check_rows(&bought, &["1|ann|lamp|2|60.00", "lamp|8", "ann|40.00"])?;

    heading("ann buys 3 more lamps, for 90, of which she has 40");
    let (outcome, xid) = purchase(&cluster, "ann", "lamp", 3, 90).await?;
    let Outcome::Refused(reason) = outcome else { anyhow::bail!("the second purchase was not refused") };
    println!("  the account's server refuses: {reason}");
    let between = show_tables(&cluster, "In between: the order and the stock are committed on bank1").await?;
    check_rows(&between, &["2|ann|lamp|3|90.00", "lamp|5", "ann|40.00"])?;
    show_operators_view(&cluster, &xid).await?;

    heading("The application gives up: ROLLBACK GLOBAL TRANSACTION");
    let decided = Instant::now();
    let mut shop = cluster.app(Bank::One, SHOP).await?;
    sql::run_all(
        &mut shop,
        &[&format!("START GLOBAL TRANSACTION JOIN '{xid}'"), "ROLLBACK GLOBAL TRANSACTION"],
    )
    .await?;
    cluster.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    println!("  {xid} is rolled back on both servers after {} ms", decided.elapsed().as_millis());
    let after = show_tables(&cluster, "After the rollback: as before it, to the byte").await?;
    ensure!(after == bought, "the rollback did not restore the rows:\n{bought:?}\n{after:?}");
    ensure!(cluster.rest().locks(&xid).await?.is_empty(), "the rolled back transaction still holds locks");
    cluster.wait_for_purge(Bank::One, SHOP).await?;
    cluster.wait_for_purge(Bank::Two, BANK).await?;
    println!("\nAll as it has to be, after {:.1} s.", begun.elapsed().as_secs_f64());
    Ok(cluster)
}

async fn set_up(cluster: &Cluster) -> Result<()> {
    for (bank, schema, tables) in [(Bank::One, SHOP, SHOP_TABLES), (Bank::Two, BANK, BANK_TABLES)] {
        let mut admin = cluster.server(bank).admin().await?;
        sql::run(&mut admin, format!("CREATE DATABASE {schema} CHARACTER SET utf8mb4")).await?;
        sql::run_all(&mut cluster.direct(bank, schema).await?, tables).await?;
    }
    Ok(())
}

/// The application: two sessions, one a server, and nothing of Atone but three statements. Where it is refused the
/// global transaction is left as it is, for the story to look at.
async fn purchase(
    cluster: &Cluster,
    customer: &str,
    item: &str,
    pieces: i32,
    price: i32,
) -> Result<(Outcome, String)> {
    let mut shop = cluster.app(Bank::One, SHOP).await?;
    let mut bank = cluster.app(Bank::Two, BANK).await?;
    say("bank1", "START GLOBAL TRANSACTION NAME 'purchase'");
    sql::run(&mut shop, "START GLOBAL TRANSACTION NAME 'purchase'").await?;
    let xid = sql::xid(&mut shop).await?.context("no XID in @atone_xid")?;
    run_shown(
        &mut shop,
        "bank1",
        &[
            "BEGIN".to_owned(),
            format!("INSERT INTO orders (customer, item, pieces, price) VALUES ('{customer}', '{item}', {pieces}, {price})"),
            format!("UPDATE stock SET pieces = pieces - {pieces} WHERE item = '{item}'"),
            "COMMIT".to_owned(),
        ],
    )
    .await?;
    run_shown(&mut bank, "bank2", &[format!("START GLOBAL TRANSACTION JOIN '{xid}'")]).await?;
    let pay = format!("UPDATE account SET balance = balance - {price} WHERE customer = '{customer}'");
    say("bank2", &pay);
    match bank.query_drop(pay).await {
        Ok(()) => {}
        // The CHECK constraint on the balance.
        Err(mysql_async::Error::Server(error)) => return Ok((Outcome::Refused(error.to_string()), xid)),
        Err(other) => return Err(other.into()),
    }
    run_shown(&mut bank, "bank2", &["COMMIT GLOBAL TRANSACTION".to_owned()]).await?;
    Ok((Outcome::Bought, xid))
}

fn say(server: &str, statement: &str) {
    println!("  {server}> {statement}");
}

async fn run_shown(conn: &mut Conn, server: &str, statements: &[String]) -> Result<()> {
    for statement in statements {
        say(server, statement);
        sql::run(conn, statement).await?;
    }
    Ok(())
}

fn heading(text: &str) {
    println!("\n== {text}");
}

/// Prints all rows and returns them.
async fn show_tables(cluster: &Cluster, title: &str) -> Result<Vec<String>> {
    let mut all = Vec::new();
    let mut text = String::new();
    for (bank, schema, table) in
        [(Bank::One, SHOP, "orders"), (Bank::One, SHOP, "stock"), (Bank::Two, BANK, "account")]
    {
        let rows = cluster.rows(bank, schema, &format!("SELECT * FROM {table} ORDER BY 1")).await?;
        let shown = if rows.is_empty() { "(no rows)".to_owned() } else { rows.join("   ").replace('|', " ") };
        writeln!(text, "  {} {:<14} {shown}", bank.resource(), format!("{schema}.{table}"))?;
        all.extend(rows);
    }
    println!("\n-- {title}\n{}", text.trim_end());
    Ok(all)
}

fn check_rows(rows: &[String], expected: &[&str]) -> Result<()> {
    for row in expected {
        ensure!(rows.iter().any(|r| r == row), "there is no row {row} in {rows:?}");
    }
    Ok(())
}

/// The commands of the operator, as they would be typed, and what they print.
async fn show_operators_view(cluster: &Cluster, xid: &str) -> Result<()> {
    let locks = command(cluster, &["lock", "ls", "--xid", xid]).await?;
    ensure!(
        locks.contains("shop.stock") && locks.contains("shop.orders"),
        "the locks are not listed:\n{locks}"
    );
    command(cluster, &["tx", "show", xid]).await?;
    let config = cluster.proxy.config().to_string_lossy().into_owned();
    command(cluster, &["undo", "ls", "--config", &config, "--resource", "bank1"]).await?;
    let undo = command(cluster, &["undo", "show", xid, "--config", &config, "--resource", "bank1"]).await?;
    ensure!(undo.contains("stock") && undo.contains("pieces"), "the undo record is not shown:\n{undo}");
    Ok(())
}

async fn command(cluster: &Cluster, args: &[&str]) -> Result<String> {
    let config = cluster.proxy.config().to_string_lossy().into_owned();
    let shown: Vec<&str> = args.iter().map(|&arg| if arg == config { "proxy.toml" } else { arg }).collect();
    println!("\n$ atone {}", shown.join(" "));
    let output = cluster.atone(args).await?.success()?;
    println!("{}", output.trim_end());
    Ok(output)
}

fn print_addresses(cluster: &Cluster) {
    let (user, password) = APP;
    for (bank, schema) in [(Bank::One, SHOP), (Bank::Two, BANK)] {
        println!(
            "  {} through the proxy  mysql://{user}:{password}@127.0.0.1:{}/{schema}   (straight: port {})",
            bank.resource(),
            cluster.proxy_port(bank),
            cluster.server(bank).port()
        );
    }
    println!("  coordinator's REST API   {}", cluster.rest().base());
    println!("  logs and configs         {}", cluster.dir().display());
}

/// Says how to go on by hand.
pub fn print_invitation(cluster: &Cluster) -> Result<()> {
    let client = cluster.flavor().client_program("mysql")?;
    let (user, password) = APP;
    // The proxy is not set up for TLS
    let tls = cluster.flavor().without_tls();
    let key = if cluster.flavor() == Flavor::MySql { " --get-server-public-key" } else { "" };
    let atone = crate::paths::binary("atone")?;
    let url = cluster.rest().base();
    heading("Everything stays up. Try it by hand:");
    for (bank, schema) in [(Bank::One, SHOP), (Bank::Two, BANK)] {
        println!(
            "  {} -h 127.0.0.1 -P {} -u {user} -p{password} {tls}{key} {schema}",
            client.display(),
            cluster.proxy_port(bank)
        );
    }
    println!("      START GLOBAL TRANSACTION; SELECT @atone_xid;      (in one session)");
    println!("      START GLOBAL TRANSACTION JOIN '…';                (in the other)");
    println!("  curl {url}/v1/transactions");
    println!("  {} tx ls --coordinator {url}", atone.display());
    println!("  {} undo ls --config {} --resource bank1", atone.display(), cluster.proxy.config().display());
    println!("\nCtrl-C, or the end of standard input, ends it and removes everything.");
    Ok(())
}

/// Ends everything in order: the daemons drain, the servers shut down, the folders go.
pub async fn shut_down(mut cluster: Cluster) -> Result<()> {
    const LIMIT: Duration = Duration::from_secs(30);
    heading("Shutting down");
    tokio::time::timeout(LIMIT, async {
        let proxy = cluster.proxy.sigterm().await?;
        ensure!(proxy.success(), "the proxy ended with {proxy}\n{}", cluster.proxy.log_tail(40));
        let coordinator = cluster.coordinator.sigterm().await?;
        ensure!(
            coordinator.success(),
            "the coordinator ended with {coordinator}\n{}",
            cluster.coordinator.log_tail(40)
        );
        Ok(())
    })
    .await
    .context("the daemons did not end")??;
    drop(cluster);
    crate::paths::remove_run_dir()
}
