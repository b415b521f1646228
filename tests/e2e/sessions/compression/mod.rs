//! Compressed packets on each leg by itself.

mod packets;

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use atone_tests::cluster::SOON;
use atone_tests::own::Own;
use atone_tests::server::{ADMIN, APP};
use atone_tests::{Bank, ClusterOptions, Flavor, cli, sql};
use futures::StreamExt as _;
use mysql_async::prelude::Queryable as _;
use mysql_async::{ChangeUserOpts, Compression, Conn, OptsBuilder};

/// How a client, or the leg to the server, is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    None,
    Zlib,
    Zstd(u8),
}

/// The listeners: what the configuration says of each.
const LISTENERS: [&str; 6] = [
    "",
    "server_compression = 'none'",
    "server_compression = 'zlib'",
    "server_compression = 'zstd'\nzstd_level = 7",
    "listen_compression = []",
    "listen_compression = ['zlib', 'zstd']",
];

/// What the leg to the server is at each listener, for a client of this kind.
fn server_way(listener: usize, client: Way, flavor: Flavor) -> Way {
    let wanted = match listener {
        1 => Way::None,
        2 => Way::Zlib,
        3 => Way::Zstd(7),
        _ => client,
    };
    match wanted {
        Way::Zstd(_) if flavor == Flavor::MariaDb => Way::None,
        way => way,
    }
}

async fn start(flavor: Flavor) -> Result<Own> {
    Own::start(flavor, ClusterOptions::default(), &LISTENERS).await
}

/// Options for a driver's connection.
fn options(s: &Own, listener: usize, client: Way, schema: &str) -> OptsBuilder {
    let compression = (client == Way::Zlib).then(Compression::default);
    sql::options(s.ports[listener], APP, Some(schema)).compression(compression)
}

atone_tests::own_tests!(start =>
    the_server_sees_its_own_leg as views,
    statements_of_every_kind as statements,
    bound_sessions as bound,
    large_packets_both_ways as large,
    files_and_several_results as files,
    command_line_clients as clients,
    packets::pieces_are_cut_anywhere as pieces,
    packets::commands_behind_a_change_of_user as ahead,
    packets::what_is_offered as offers,
    packets::what_cannot_be_read as errors,
    packets::numbers_are_the_servers as numbers,
);

/// What the server says of its own leg.
async fn seen_by_server(conn: &mut Conn, flavor: Flavor) -> Result<Way> {
    let rows = sql::rows(conn, "SHOW SESSION STATUS LIKE 'Compression%'").await?;
    let value = |name: &str| {
        rows.iter().find_map(|row| row.strip_prefix(name)?.strip_prefix('|')).unwrap_or_default().to_owned()
    };
    way(&value("Compression"), &value("Compression_algorithm"), &value("Compression_level"), flavor)
}

fn way(on: &str, algorithm: &str, level: &str, flavor: Flavor) -> Result<Way> {
    Ok(match (on, algorithm) {
        ("OFF", _) => Way::None,
        ("ON", "") if flavor == Flavor::MariaDb => Way::Zlib,
        ("ON", "zlib") => Way::Zlib,
        ("ON", "zstd") => Way::Zstd(level.parse()?),
        other => anyhow::bail!("{other:?}"),
    })
}

async fn the_server_sees_its_own_leg(s: Arc<Own>) -> Result<()> {
    let flavor = s.cluster.flavor();
    let schema = s.cluster.schema("views").await?;
    for listener in 0..LISTENERS.len() {
        for client in [Way::None, Way::Zlib] {
            if listener == 4 && client != Way::None {
                continue;
            }
            let mut conn = sql::connect_with(options(&s, listener, client, &schema)).await?;
            let seen = seen_by_server(&mut conn, flavor).await?;
            ensure!(seen == server_way(listener, client, flavor), "{listener} {client:?}: {seen:?}");
            // The login of another account, and a reset, keep it
            let other = ChangeUserOpts::new()
                .with_user(Some(ADMIN.0.to_owned()))
                .with_pass(Some(ADMIN.1.to_owned()))
                .with_db_name(Some(schema.clone()));
            conn.change_user(other).await?;
            ensure!(sql::cell(&mut conn, "SELECT CURRENT_USER()").await? == format!("{}@%", ADMIN.0));
            ensure!(seen_by_server(&mut conn, flavor).await? == seen);
            conn.reset().await?;
            ensure!(seen_by_server(&mut conn, flavor).await? == seen);
            conn.disconnect().await?;
        }
    }
    Ok(())
}

async fn statements_of_every_kind(s: Arc<Own>) -> Result<()> {
    let schema = s.cluster.bank_schema("kinds").await?;
    for listener in 0..4 {
        for client in [Way::None, Way::Zlib] {
            let mut conn = sql::connect_with(options(&s, listener, client, &schema)).await?;
            let name = "long ".repeat(300);
            conn.exec_drop("REPLACE INTO account VALUES (?, ?, ?)", (9, &name[..40], 5)).await?;
            let row: Option<(i32, String, i32)> =
                conn.exec_first("SELECT * FROM account WHERE id = ?", (9,)).await?;
            ensure!(row == Some((9, name[..40].to_owned(), 5)));
            let error = sql::refused(&mut conn, format!("SELECT nowhere /* {name} */")).await?;
            ensure!(error.code == 1054, "{error:?}");
            let prepared = conn.prep(format!("SELECT ?, '{name}'")).await?;
            for n in 0..5 {
                let row: Option<(i32, String)> = conn.exec_first(&prepared, (n,)).await?;
                ensure!(row == Some((n, name.clone())), "{listener} {client:?}");
            }
            conn.close(prepared).await?;
            conn.ping().await?;
            let rows: Vec<(u64, String)> = conn
                .query(
                    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 900) \
                     SELECT i, REPEAT('ab', i) FROM n",
                )
                .await?;
            ensure!(rows.len() == 900 && rows.iter().all(|(i, text)| text.len() as u64 == 2 * i));
            conn.disconnect().await?;
        }
    }
    Ok(())
}

/// A transfer under each combination of legs: once committed, once rolled back.
async fn bound_sessions(s: Arc<Own>) -> Result<()> {
    for listener in 0..4 {
        for client in [Way::None, Way::Zlib] {
            let schema = s.cluster.bank_schema("bound").await?;
            let before = s.cluster.accounts(Bank::One, &schema).await?;
            for (end, status) in [("ROLLBACK", "rolled_back"), ("COMMIT", "committed")] {
                let mut conn = sql::connect_with(options(&s, listener, client, &schema)).await?;
                let xid = sql::start_global(&mut conn).await?;
                let steps = [
                    "BEGIN",
                    "UPDATE account SET balance = balance - 30 WHERE id = 1",
                    "INSERT INTO account VALUES (9, 'zoe', 0)",
                    "DELETE FROM account WHERE id = 3",
                    "COMMIT",
                ];
                sql::run_all(&mut conn, &steps).await?;
                conn.exec_drop("UPDATE account SET balance = ? WHERE id = ?", (130, 2)).await?;
                sql::run(&mut conn, format!("{end} GLOBAL TRANSACTION")).await?;
                s.cluster.rest().wait_for_status(&xid, status, SOON).await?;
                let rows = s.cluster.accounts(Bank::One, &schema).await?;
                if end == "ROLLBACK" {
                    ensure!(rows == before, "{rows:?}");
                } else {
                    ensure!(rows == ["1|ann|70", "2|bob|130", "9|zoe|0"], "{rows:?}");
                }
                s.cluster.wait_for_purge(Bank::One, &schema).await?;
            }
        }
    }
    Ok(())
}

async fn large_packets_both_ways(s: Arc<Own>) -> Result<()> {
    let schema = s.cluster.schema("large").await?;
    let mut admin = s.cluster.server(Bank::One).admin().await?;
    sql::run(&mut admin, "SET GLOBAL max_allowed_packet = 67108864").await?;
    sql::run(&mut admin, format!("CREATE TABLE `{schema}`.b (id INT PRIMARY KEY, v LONGBLOB)")).await?;
    // Neither of one character nor of noise: numbers
    let text: String = (0..2_500_000).map(|n| format!("{n},")).collect();
    // Around the border at which a packet is split in two
    for (n, (listener, client, length)) in
        [(0, Way::Zlib, text.len()), (1, Way::Zlib, 0xff_ffff), (2, Way::None, text.len())]
            .into_iter()
            .enumerate()
    {
        let mut conn = sql::connect_with(options(&s, listener, client, &schema)).await?;
        conn.exec_drop("REPLACE INTO b VALUES (?, ?)", (n, &text.as_bytes()[..length])).await?;
        let back: Option<Vec<u8>> = conn.exec_first("SELECT v FROM b WHERE id = ?", (n,)).await?;
        ensure!(back.as_deref() == Some(&text.as_bytes()[..length]), "{listener} {client:?} {length}");
        ensure!(sql::cell(&mut conn, "SELECT 42").await? == "42");
        conn.disconnect().await?;
    }
    Ok(())
}

/// A client's file between two results: its packets' numbers go on from those of the results.
async fn files_and_several_results(s: Arc<Own>) -> Result<()> {
    let schema = s.cluster.schema("files").await?;
    let mut direct = s.cluster.direct(Bank::One, &schema).await?;
    sql::run(&mut direct, "CREATE TABLE l (id INT PRIMARY KEY, v VARCHAR(20))").await?;
    // Of more than 256 packets, for their numbers go round
    let lines: Vec<String> = (0..100_000).map(|n| format!("{n},row {n}\n")).collect();
    let content: bytes::Bytes = lines.concat().into();
    for listener in 0..4 {
        for client in [Way::None, Way::Zlib] {
            let mut conn = sql::connect_with(options(&s, listener, client, &schema)).await?;
            let content = content.clone();
            conn.set_infile_handler(async move {
                let pieces: Vec<_> = content
                    .chunks(4000)
                    .map(|piece| Ok::<_, std::io::Error>(bytes::Bytes::copy_from_slice(piece)))
                    .collect();
                Ok(futures::stream::iter(pieces).boxed())
            });
            let mut result = conn
                .query_iter(
                    "SELECT 1, 2; DELETE FROM l; LOAD DATA LOCAL INFILE 'any' INTO TABLE l FIELDS TERMINATED BY ','; \
                     SELECT COUNT(*) FROM l; SELECT MAX(id) FROM l",
                )
                .await?;
            let mut sets: Vec<Vec<mysql_async::Row>> = Vec::new();
            while !result.is_empty() {
                sets.push(result.collect().await?);
            }
            let last = |set: &Vec<mysql_async::Row>| {
                set.first().and_then(|row| row.as_ref(0)).map(sql::text).unwrap_or_default()
            };
            let values: Vec<String> = sets.iter().map(last).collect();
            ensure!(values == ["1", "", "", "100000", "99999"], "{listener} {client:?}: {values:?}");
            drop(result);
            ensure!(sql::cell(&mut conn, "SELECT 42").await? == "42");
            conn.disconnect().await?;
        }
    }
    Ok(())
}

/// The server's own client programs, with each way that they know.
async fn command_line_clients(s: Arc<Own>) -> Result<()> {
    let flavor = s.cluster.flavor();
    let schema = s.cluster.bank_schema("clients").await?;
    let ways: &[(Way, &[&str])] = match flavor {
        Flavor::MariaDb => &[(Way::None, &["--skip-ssl"]), (Way::Zlib, &["--skip-ssl", "--compress"])],
        Flavor::MySql => &[
            (Way::None, &["--compression-algorithms=uncompressed"]),
            (Way::Zlib, &["--compression-algorithms=zlib"]),
            (Way::Zstd(3), &["--compression-algorithms=zstd"]),
            (Way::Zstd(22), &["--compression-algorithms=zstd", "--zstd-compression-level=22"]),
            (Way::Zlib, &["--compression-algorithms=zstd,zlib"]),
        ],
    };
    let file = s.cluster.dir().join(format!("{schema}.csv"));
    std::fs::write(&file, (0..5000).map(|n| format!("{n},row {n}\n")).collect::<String>())?;
    let script = format!(
        "SHOW SESSION STATUS LIKE 'Compression%'; CREATE TABLE l (id INT PRIMARY KEY, v VARCHAR(20)); \
         LOAD DATA LOCAL INFILE '{}' INTO TABLE l FIELDS TERMINATED BY ','; SELECT COUNT(*), MAX(v) FROM l; \
         DROP TABLE l; SELECT LENGTH(REPEAT('abc', 1000000)), SUBSTR(REPEAT('abc', 1000000), 5, 4); \
         START GLOBAL TRANSACTION; UPDATE account SET balance = balance + 1 WHERE id = 1; \
         ROLLBACK GLOBAL TRANSACTION; SELECT balance FROM account WHERE id = 1;",
        file.display()
    );
    let program = flavor.client_program("mysql")?;
    for listener in [0, 1, 2, 3, 5] {
        for (client, options) in ways {
            let port = s.ports[listener].to_string();
            let password = format!("-p{}", APP.1);
            let mut args = vec!["--no-defaults", "-h", "127.0.0.1", "-P", &port, "-u", APP.0, &password];
            args.extend_from_slice(&["--local-infile=1", "-N"]);
            args.extend_from_slice(options);
            args.push(&schema);
            let what = format!("{listener} {client:?}");
            let text =
                cli::run(&program, &args, &[], script.as_bytes()).await?.success().context(what.clone())?;
            let cell = |name: &str| {
                text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix('\t')).unwrap_or_default()
            };
            let seen =
                way(cell("Compression"), cell("Compression_algorithm"), cell("Compression_level"), flavor)?;
            ensure!(seen == server_way(listener, *client, flavor), "{what}: {seen:?}\n{text}");
            ensure!(text.contains("5000\trow 999\n3000000\tbcab\n"), "{what}\n{text}");
            let balance = text.lines().last().unwrap_or_default();
            // The rollback may still be on its way
            ensure!(["100", "101"].contains(&balance), "{what}\n{text}");
            s.cluster.wait_for_purge(Bank::One, &schema).await?;
        }
    }
    Ok(())
}
