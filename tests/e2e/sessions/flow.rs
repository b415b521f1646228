//! Sizes: results of a gigabyte, rows and packets as large as they may be, long files, thousands of idle connections;
//! and what they cost the proxy in memory.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use atone_tests::cluster::SOON;
use atone_tests::run::Harmable;
use atone_tests::server::RAW;
use atone_tests::wait::until;
use atone_tests::wire::payload::{PING, QUERY, text};
use atone_tests::wire::{Login, RawConn, Session, caps};
use atone_tests::{Bank, Cluster, ClusterOptions, proc, sql};
use mysql_async::Conn;
use mysql_async::prelude::Queryable as _;

const MIB: usize = 1 << 20;
/// The longest payload of one frame.
const FRAME: usize = 0xff_ffff;
/// How much more memory than before any of the unbound sizes may take.
const MAX_GROWTH_BYTES: u64 = 64 << 20;
/// As many as servers, test and proxy are sure to have descriptors for.
const IDLE: usize = 3000;

fn roomy() -> ClusterOptions {
    let options = [
        "--max-allowed-packet=256M",
        "--max-connections=3200",
        "--innodb-buffer-pool-size=256M",
        // Each is one server's name for it; blobs have to fit into a tenth of it
        "--loose-innodb-log-file-size=1G",
        "--loose-innodb-redo-log-capacity=1G",
    ];
    ClusterOptions {
        server_options: options.map(str::to_owned).to_vec(),
        default_timeout: "600s".to_owned(),
        ..ClusterOptions::default()
    }
}

atone_tests::owned_tests!(roomy() => unbound_sizes, bound_sizes);

async fn unbound_sizes(c: Harmable) -> Result<()> {
    let c = &*c.lock().await;
    let schema = c.schema("flow").await?;
    sql::run(&mut c.direct(Bank::One, &schema).await?, "CREATE TABLE n (id INT PRIMARY KEY)").await?;
    let rows: Vec<String> = (0..32).map(|n| format!("({n})")).collect();
    let insert = format!("INSERT INTO n VALUES {}", rows.join(","));
    sql::run(&mut c.direct(Bank::One, &schema).await?, insert).await?;
    let pid = c.proxy.id().context("the proxy does not run")?;
    let before = proc::peak_bytes(pid)?;
    a_gigabyte(c, &schema).await.context("a gigabyte")?;
    a_long_file(c, &schema).await.context("a long file")?;
    the_longest_row(c, &schema).await.context("the longest row")?;
    let grown = proc::peak_bytes(pid)?.saturating_sub(before);
    ensure!(grown < MAX_GROWTH_BYTES, "the proxy took {} MiB more for them", grown >> 20);
    idle_connections(c, &schema).await.context("idle connections")
}

async fn raw(c: &Cluster, schema: &str) -> Result<Session> {
    let mut login = Login::new(c.proxy_port(Bank::One), (RAW, "")).schema(schema).minimal();
    login.capabilities |= caps::LOCAL_FILES;
    Session::open(&login).await
}

/// Rows of a megabyte, 1024 of them, of which the client reads one and no more until everything on the way is full.
async fn a_gigabyte(c: &Cluster, schema: &str) -> Result<()> {
    const ROWS: usize = 1024;
    let mut session = raw(c, schema).await?;
    let id = session.greeting.id;
    let query = format!("SELECT REPEAT('x', {MIB}) FROM n a, n b");
    session.send(&text(QUERY, query.as_bytes())).await?;
    let mut conn = session.into_conn();
    // The count, a definition, EOF
    for _ in 0..3 {
        conn.read().await?.context("closed")?;
    }
    let state = format!(
        "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE ID = {id} AND STATE IN ('Writing to net', 'Sending to client')"
    );
    let admin = tokio::sync::Mutex::new(c.server(Bank::One).admin().await?);
    until("the server waits for its reader", SOON, || async {
        Ok((sql::cell(&mut *admin.lock().await, &state).await? == "1").then_some(()))
    })
    .await?;
    // A slow reader is a matter of time
    tokio::time::sleep(Duration::from_millis(500)).await;
    for row in 0..ROWS {
        let (_, packet) = conn.read().await?.context("closed")?;
        let (length, value) = packet.split_at_checked(4).context("a short row")?;
        ensure!(length == [0xfd, 0, 0, 0x10] && value.len() == MIB, "row {row} has {} bytes", packet.len());
        ensure!(value.iter().all(|byte| *byte == b'x'), "row {row} came changed");
    }
    let (_, end) = conn.read().await?.context("closed")?;
    ensure!(end.first() == Some(&0xfe) && end.len() == 5, "{end:?}");
    Ok(())
}

/// 128 MiB, of which the server takes the last line.
async fn a_long_file(c: &Cluster, schema: &str) -> Result<()> {
    let mut session = raw(c, schema).await?;
    let mut file = vec![b'-'; 128 * MIB];
    file.iter_mut().skip(MIB - 1).step_by(MIB).for_each(|byte| *byte = b'\n');
    file.extend_from_slice(b"row 4711\n");
    let command = text(QUERY, b"LOAD DATA LOCAL INFILE 'f' INTO TABLE n LINES STARTING BY 'row '");
    session.send(&command).await?;
    let reply = session.receive(&command, Some(&file)).await?;
    let (_, last) = reply.last().context("no reply")?;
    ensure!(last.get("affected") == Some("1"), "{reply:?}");
    assert_eq!(c.rows(Bank::One, schema, "SELECT MAX(id) FROM n").await?, ["4711"]);
    Ok(())
}

/// One row that is nearly as long as `max_allowed_packet`, and packets at the borders of frames.
async fn the_longest_row(c: &Cluster, schema: &str) -> Result<()> {
    let longest = 256 * MIB - 1024;
    let mut conn = RawConn::login(c.proxy_port(Bank::One), schema).await?;
    // The length before the value takes 4 bytes, above 16 MiB 9
    for row in [longest, FRAME - 1, FRAME, FRAME + 1, 2 * FRAME - 1, 2 * FRAME, 3 * FRAME] {
        let value = if row <= FRAME + 4 { row - 4 } else { row - 9 };
        conn.send(0, &text(QUERY, format!("SELECT REPEAT('y', {value})").as_bytes())).await?;
        for _ in 0..3 {
            conn.read().await?.context("closed")?;
        }
        // Frame by frame: what is to be held here is the proxy's memory, not the test's
        let mut left = row;
        loop {
            let (_, frame) = conn.read().await?.context("closed")?;
            ensure!(
                frame.len() == left.min(FRAME),
                "{row}: a frame of {} bytes, {left} are left",
                frame.len()
            );
            ensure!(frame.iter().rev().take(FRAME - 9).all(|byte| *byte == b'y'), "{row} came changed");
            left -= frame.len();
            if frame.len() < FRAME {
                break;
            }
        }
        ensure!(left == 0, "{row}: {left} bytes are missing");
        let (_, end) = conn.read().await?.context("closed")?;
        ensure!(end.first() == Some(&0xfe) && end.len() == 5, "{end:?}");
    }
    Ok(())
}

/// Thousands of clients that do nothing; each still has its session, and leaves nothing.
async fn idle_connections(c: &Cluster, schema: &str) -> Result<()> {
    let pid = c.proxy.id().context("the proxy does not run")?;
    let (files, memory) = (proc::open_files(pid)?, proc::resident_bytes(pid)?);
    let mut logins = tokio::task::JoinSet::new();
    let port = c.proxy_port(Bank::One);
    for lane in 0..30 {
        let schema = schema.to_owned();
        logins.spawn(async move {
            let mut conns = Vec::new();
            for _ in 0..IDLE / 30 {
                conns.push(RawConn::login(port, &schema).await.with_context(|| format!("lane {lane}"))?);
            }
            anyhow::Ok(conns)
        });
    }
    let mut conns = Vec::new();
    while let Some(lane) = logins.join_next().await {
        conns.extend(lane??);
    }
    let now = proc::open_files(pid)?;
    ensure!(now >= 2 * IDLE, "{now} files are open for {IDLE} clients");
    let each = proc::resident_bytes(pid)?.saturating_sub(memory) / IDLE as u64;
    println!("{IDLE} idle connections: {each} bytes each");
    ensure!(each < 48 << 10, "{each} bytes for an idle connection");
    for conn in &mut conns {
        let reply = conn.command(&[PING]).await?.context("closed")?;
        ensure!(reply.first() == Some(&0), "{reply:?}");
    }
    drop(conns);
    until("the proxy closes what its clients have closed", SOON, || async {
        Ok((proc::open_files(pid)? <= files).then_some(()))
    })
    .await
}

async fn bound_sizes(c: Harmable) -> Result<()> {
    let c = &*c.lock().await;
    let schema = c.schema("large").await?;
    let create = "CREATE TABLE b (id INT PRIMARY KEY, v LONGBLOB)";
    sql::run(&mut c.direct(Bank::One, &schema).await?, create).await?;
    let mut conn = c.app(Bank::One, &schema).await?;
    let large: Vec<u8> = (0..17 * MIB).map(|n| (n % 251) as u8).collect();
    let digest = "SELECT id, LENGTH(v), SHA2(v, 256) FROM b ORDER BY id";
    // What the writes below find there
    conn.exec_drop("INSERT INTO b VALUES (1, ?)", (&large,)).await?;
    let before = c.rows(Bank::One, &schema, digest).await?;

    let xid = sql::start_global(&mut conn).await?;
    // Prepared, in long data
    let mut other = large.clone();
    other.reverse();
    conn.exec_drop("INSERT INTO b VALUES (?, ?)", (3, &other)).await.context("INSERT of long data")?;
    let back: Option<Vec<u8>> = conn.exec_first("SELECT v FROM b WHERE id = ?", (3,)).await?;
    ensure!(back.as_ref() == Some(&other), "17 MiB came back changed");
    sql::run(&mut conn, "DELETE FROM b WHERE id = 1").await.context("DELETE of a large row")?;
    // As a text whose packet ends at the border of a frame
    insert_of(&mut conn, 10, FRAME).await.context("INSERT of a whole frame")?;
    ensure!(c.rows(Bank::One, &schema, digest).await? != before, "nothing was written");
    sql::run(&mut conn, "ROLLBACK GLOBAL TRANSACTION").await?;
    c.rest().wait_for_status(&xid, "rolled_back", 3 * SOON).await?;
    assert_eq!(c.rows(Bank::One, &schema, digest).await?, before);

    // Above the limits: an error that names it, and the session goes on
    sql::start_global(&mut conn).await?;
    let above = format!("INSERT INTO b VALUES (9, '{}')", "x".repeat(64 * MIB));
    let error = sql::refused(&mut conn, above).await?;
    error.expect(1153, "08S01")?;
    ensure!(error.message.contains("max_statement_bytes"), "{error:?}");
    sql::run(&mut conn, "COMMIT GLOBAL TRANSACTION").await
}

/// An INSERT whose packet has exactly so many bytes, command byte included.
async fn insert_of(conn: &mut Conn, id: u32, packet: usize) -> Result<()> {
    let (head, tail) = (format!("INSERT INTO b VALUES ({id}, '"), "')");
    let value = packet - 1 - head.len() - tail.len();
    sql::run(conn, format!("{head}{}{tail}", "w".repeat(value))).await?;
    let found = sql::cell(conn, format!("SELECT LENGTH(v) FROM b WHERE id = {id}")).await?;
    ensure!(found == value.to_string(), "{found} bytes of {value} were written");
    Ok(())
}
