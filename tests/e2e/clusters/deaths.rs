//! One side dies. A server's death, whatever the session was doing, looks through the proxy as it does straight; a
//! client's takes its connection to the server, its local transaction and its locks with it.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use atone_tests::cluster::SOON;
use atone_tests::run::Harmable;
use atone_tests::server::RAW;
use atone_tests::wait::until;
use atone_tests::wire::payload::{QUERY, text};
use atone_tests::wire::{Ended, Greeting, Login, RawConn, Session, shown};
use atone_tests::{Bank, Cluster, ClusterOptions, sql};
use serde_json::json;

atone_tests::shared_tests!(connections_killed, clients_gone, clients_that_only_end_their_side);
atone_tests::owned_tests!(ClusterOptions::default() => servers_killed, servers_shut_down);

/// What a session is doing when its server dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    /// Logging in: it has the greeting.
    Handshake,
    /// Nothing.
    Idle,
    /// Nothing, in a local transaction that has written.
    Transaction,
    /// A query that has said nothing yet.
    Query,
    /// A result of which the client has read the beginning.
    Result,
    /// Nothing, bound and in a local transaction that has written.
    Bound,
}

const ALL: [Doing; 6] =
    [Doing::Handshake, Doing::Idle, Doing::Transaction, Doing::Query, Doing::Result, Doing::Bound];
/// Rows of a megabyte; more than all buffers on the way can hold.
const ROWS: usize = 200;
const ROW_BYTES: usize = 1 << 20;

/// All that a client sees after its server's death.
#[derive(PartialEq, Eq)]
struct Seen {
    /// The packets, but for rows, which are as many as were on the way.
    packets: Vec<(u8, Vec<u8>)>,
    /// Whether it was in the middle of rows.
    rows: bool,
    ended: Option<Ended>,
}

impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (number, packet) in &self.packets {
            write!(f, "{number}:{} ", shown(packet.get(..120).unwrap_or(packet)))?;
        }
        write!(f, "rows: {}, ended: {:?}", self.rows, self.ended)
    }
}

/// A session in that state: straight on `port`, or through the proxy. Its connection's id.
async fn begin(c: &Cluster, doing: Doing, port: u16, schema: &str, through: bool) -> Result<(RawConn, u32)> {
    if doing == Doing::Handshake {
        let mut conn = RawConn::connect(port).await?;
        let (_, greeting) = conn.read().await?.context("no greeting")?;
        return Ok((conn, Greeting::parse(&greeting)?.id));
    }
    let mut session = Session::open(&Login::new(port, (RAW, "")).schema(schema).minimal()).await?;
    let id = session.greeting.id;
    let statements: &[&str] = match doing {
        Doing::Transaction => &["BEGIN", "UPDATE account SET balance = 7 WHERE id = 1"],
        // The bare server has no such statement
        Doing::Bound if !through => &["BEGIN", "UPDATE account SET balance = 8 WHERE id = 2"],
        Doing::Bound => &["START GLOBAL TRANSACTION", "BEGIN", "UPDATE account SET balance = 8 WHERE id = 2"],
        _ => &[],
    };
    for statement in statements {
        ask(&mut session, statement).await?;
    }
    match doing {
        Doing::Query => {
            session.send(&text(QUERY, b"SELECT SLEEP(100)")).await?;
            until_state(c, id, "INFO LIKE '%SLEEP(100)%'", "1").await?;
        }
        Doing::Result => session.send(&text(QUERY, large_result().as_bytes())).await?,
        _ => {}
    }
    let mut conn = session.into_conn();
    if doing == Doing::Result {
        // Its first row is there: the rest blocks in the server
        for _ in 0..4 {
            conn.read().await?.context("closed before the result")?;
        }
    }
    Ok((conn, id))
}

/// More than all buffers on the way can hold.
fn large_result() -> String {
    let from = "account a, account b, account c, account d, account e";
    format!("SELECT REPEAT('x', {ROW_BYTES}) FROM {from} LIMIT {ROWS}")
}

/// Runs a statement that has to succeed.
async fn ask(session: &mut Session, statement: &str) -> Result<()> {
    let command = text(QUERY, statement.as_bytes());
    session.send(&command).await?;
    let reply = session.receive(&command, None).await?;
    ensure!(reply.iter().all(|(_, packet)| packet.get("code").is_none()), "{statement}: {reply:?}");
    Ok(())
}

/// Waits until as many connections (0 or 1) as `count` says have this id and are in this state.
async fn until_state(c: &Cluster, id: u32, condition: &str, count: &str) -> Result<()> {
    let query =
        format!("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE ID = {id} AND {condition}");
    let admin = tokio::sync::Mutex::new(c.server(Bank::One).admin().await?);
    until(&format!("connection {id}, {condition}: {count}"), SOON, || async {
        Ok((sql::cell(&mut *admin.lock().await, &query).await? == count).then_some(()))
    })
    .await
}

async fn rest(mut conn: RawConn) -> Result<Seen> {
    let mut seen = Seen { packets: Vec::new(), rows: false, ended: None };
    while let Some((number, packet)) = conn.read().await? {
        // A row of one column, whole: its length, and nothing but x
        if packet.len() == ROW_BYTES + 4 {
            ensure!(packet.ends_with(b"xx") && packet[4..].iter().all(|b| *b == b'x'), "a row came changed");
            seen.rows = true;
        } else {
            seen.packets.push((number, packet));
        }
    }
    seen.ended = conn.ended();
    if seen.rows {
        // Whether a server has a word left for a client that did not read is a matter of its own timing
        seen.packets.retain(|(_, packet)| packet.first() != Some(&0xff));
    }
    Ok(seen)
}

/// Sessions of each kind: straight, and the same through the proxy.
struct Pairs(Vec<(Doing, [(RawConn, u32); 2])>);

impl Pairs {
    async fn begin(c: &Cluster, schema: &str) -> Result<Self> {
        // Both write the same rows, so each has a schema of its own
        let mut admin = c.server(Bank::One).admin().await?;
        let other = format!("{schema}_straight");
        sql::run(&mut admin, format!("CREATE DATABASE {other}")).await?;
        for statement in [
            "CREATE TABLE {other}.account LIKE {schema}.account",
            "INSERT INTO {other}.account SELECT * FROM {schema}.account",
        ] {
            let statement = statement.replace("{other}", &other).replace("{schema}", schema);
            sql::run(&mut admin, statement).await?;
        }
        let mut pairs = Vec::new();
        for doing in ALL {
            let straight = begin(c, doing, c.server(Bank::One).port(), &other, false).await?;
            let through = begin(c, doing, c.proxy_port(Bank::One), schema, true).await?;
            pairs.push((doing, [straight, through]));
        }
        Ok(Self(pairs))
    }

    fn ids(&self) -> Vec<u32> {
        self.0.iter().flat_map(|(_, pair)| pair.iter().map(|(_, id)| *id)).collect()
    }

    /// After the deaths: what the two of each pair see is the same.
    async fn compare(self) -> Result<()> {
        for (doing, [straight, through]) in self.0 {
            let seen = async |conn: RawConn| {
                tokio::time::timeout(SOON, rest(conn)).await.with_context(|| format!("{doing:?}"))?
            };
            let (straight, through) = (seen(straight.0).await?, seen(through.0).await?);
            ensure!(
                straight == through,
                "{doing:?}\nthrough the proxy: {through:?}\nstraight:          {straight:?}"
            );
            ensure!(straight.ended.is_some() && straight.rows == (doing == Doing::Result), "{straight:?}");
        }
        Ok(())
    }
}

const BEFORE: [&str; 3] = ["1|ann|100", "2|bob|100", "3|NULL|100"];

async fn connections_killed(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("killed").await?;
    let pairs = Pairs::begin(&c, &schema).await?;
    let mut admin = c.server(Bank::One).admin().await?;
    for id in pairs.ids() {
        sql::run(&mut admin, format!("KILL {id}")).await?;
    }
    pairs.compare().await?;
    assert_eq!(c.accounts(Bank::One, &schema).await?, BEFORE);
    Ok(())
}

async fn servers_killed(c: Harmable) -> Result<()> {
    let mut c = c.lock().await;
    let schema = c.bank_schema("crashed").await?;
    let pairs = Pairs::begin(&c, &schema).await?;
    c.bank1.kill9()?;
    pairs.compare().await?;
    refused_until_it_is_back(&mut c, &schema).await
}

async fn servers_shut_down(c: Harmable) -> Result<()> {
    let mut c = c.lock().await;
    let schema = c.bank_schema("stopped").await?;
    let pairs = Pairs::begin(&c, &schema).await?;
    let (stopped, compared) = tokio::join!(c.bank1.stop(), pairs.compare());
    stopped?;
    compared?;
    refused_until_it_is_back(&mut c, &schema).await
}

/// Without its server a backend refuses clients by an error; once it is back it serves, and nothing of the dead
/// sessions is left.
async fn refused_until_it_is_back(c: &mut Cluster, schema: &str) -> Result<()> {
    let (code, message) = sql::refused_login(c.app_options(Bank::One, schema)).await?;
    ensure!(code == 1429 && message.contains("bank1"), "{code} {message}");
    c.bank1.restart().await?;
    let mut conn = c.app(Bank::One, schema).await?;
    sql::run(&mut conn, "UPDATE account SET balance = 100").await?;
    assert_eq!(c.accounts(Bank::One, schema).await?, BEFORE);
    Ok(())
}

/// How a client goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Going {
    /// It closes its socket.
    Closes,
    /// Its socket is reset.
    Resets,
    /// It says that it will send nothing more, and reads on.
    EndsItsSide,
}

/// What it was doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
enum Leaving {
    Handshake,
    Idle,
    Transaction,
    Query,
    Result,
    /// Bound, after a statement that has committed a branch.
    Bound,
    /// Bound, in a local transaction that has written.
    BoundTransaction,
    /// The same, in a query that only waits.
    BoundQuery,
    /// The same, in a COMMIT that waits for a global row lock.
    BoundLockWait,
}

const LEAVING: [Leaving; 9] = [
    Leaving::Handshake,
    Leaving::Idle,
    Leaving::Transaction,
    Leaving::Query,
    Leaving::Result,
    Leaving::Bound,
    Leaving::BoundTransaction,
    Leaving::BoundQuery,
    Leaving::BoundLockWait,
];

async fn clients_gone(c: Arc<Cluster>) -> Result<()> {
    let mut cases = Vec::new();
    for going in [Going::Closes, Going::Resets, Going::EndsItsSide] {
        for leaving in LEAVING {
            let c = Arc::clone(&c);
            let case = async move {
                client_gone(&c, going, leaving).await.context(format!("{going:?} {leaving:?}"))
            };
            cases.push(tokio::spawn(case));
        }
    }
    for case in cases {
        case.await??;
    }
    Ok(())
}

async fn client_gone(c: &Cluster, going: Going, leaving: Leaving) -> Result<()> {
    let schema = c.bank_schema("gone").await?;
    let xid = c.rest().begin(json!({})).await?;
    // What BoundLockWait waits for
    let holder_xid = c.rest().begin(json!({})).await?;
    let mut holder = c.app(Bank::One, &schema).await?;
    sql::run(&mut holder, format!("SET @atone_xid = '{holder_xid}'")).await?;
    sql::run(&mut holder, "UPDATE account SET balance = 30 WHERE id = 3").await?;

    let (mut conn, id) = leave(c, going, leaving, &schema, &xid).await?;
    match going {
        Going::Closes | Going::Resets => drop(conn),
        Going::EndsItsSide => {
            conn.finish().await?;
            let seen = tokio::time::timeout(SOON, rest(conn)).await.context("the proxy does not close")??;
            ensure!(seen.ended.is_some() && seen.rows == (leaving == Leaving::Result), "{seen:?}");
        }
    }

    until_state(c, id, "1 = 1", "0").await?;
    // No row of its is locked any more on the server
    let mut direct = c.direct(Bank::One, &schema).await?;
    sql::run(&mut direct, "SET SESSION innodb_lock_wait_timeout = 1").await?;
    sql::run(&mut direct, "UPDATE account SET name = name WHERE id < 3").await?;
    let committed = usize::from(leaving == Leaving::Bound);
    let first = if committed == 1 { "1|ann|10" } else { "1|ann|100" };
    assert_eq!(c.accounts(Bank::One, &schema).await?, [first, "2|bob|100", "3|NULL|30"]);
    ensure!(c.rest().locks(&xid).await?.len() == committed, "{:?}", c.rest().locks(&xid).await?);
    ensure!(c.undo_rows(Bank::One, &schema).await? == 1 + committed, "undo rows are left");
    for xid in [&xid, &holder_xid] {
        c.rest().rollback(xid).await?.expect(200)?;
        c.rest().wait_for_status(xid, "rolled_back", SOON).await?;
    }
    assert_eq!(c.accounts(Bank::One, &schema).await?, BEFORE);
    Ok(())
}

/// A client's connection in this state, and its id.
async fn leave(
    c: &Cluster,
    going: Going,
    leaving: Leaving,
    schema: &str,
    xid: &str,
) -> Result<(RawConn, u32)> {
    let port = c.proxy_port(Bank::One);
    if leaving == Leaving::Handshake {
        let mut conn = match going {
            Going::Resets => RawConn::connect_resetting(port).await?,
            Going::Closes | Going::EndsItsSide => RawConn::connect(port).await?,
        };
        let (_, greeting) = conn.read().await?.context("no greeting")?;
        return Ok((conn, Greeting::parse(&greeting)?.id));
    }
    let mut login = Login::new(port, (RAW, "")).schema(schema).minimal();
    login.resetting = going == Going::Resets;
    let mut session = Session::open(&login).await?;
    let id = session.greeting.id;
    if leaving >= Leaving::Bound {
        ask(&mut session, &format!("SET @atone_xid = '{xid}'")).await?;
    }
    match leaving {
        Leaving::Bound => ask(&mut session, "UPDATE account SET balance = 10 WHERE id = 1").await?,
        Leaving::Transaction | Leaving::BoundTransaction | Leaving::BoundQuery | Leaving::BoundLockWait => {
            ask(&mut session, "BEGIN").await?;
            ask(&mut session, "UPDATE account SET balance = 20 WHERE id = 2").await?;
        }
        _ => {}
    }
    let mut say = async |statement: &str| session.send(&text(QUERY, statement.as_bytes())).await;
    match leaving {
        Leaving::Query | Leaving::BoundQuery => {
            say("SELECT SLEEP(300)").await?;
            until_state(c, id, "INFO LIKE '%SLEEP(300)%'", "1").await?;
        }
        Leaving::Result => say(&large_result()).await?,
        Leaving::BoundLockWait => {
            ask(&mut session, "UPDATE account SET balance = 40 WHERE id = 3").await?;
            session.send(&text(QUERY, b"COMMIT")).await?;
            c.until_running(id, "%waits for a global row lock%").await?;
        }
        _ => {}
    }
    let mut conn = session.into_conn();
    if leaving == Leaving::Result {
        // Its first row is there: the rest blocks in the server
        for _ in 0..3 {
            conn.read().await?.context("closed before the result")?;
        }
    }
    Ok((conn, id))
}

/// Commands, and the end of the client's side right after them: all are answered, as straight.
async fn clients_that_only_end_their_side(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("half").await?;
    let scripts: [&[&str]; 4] = [
        &["SELECT * FROM account"],
        &["SELECT 1", "UPDATE account SET balance = balance + 1", "SELECT * FROM account"],
        &["SELECT SLEEP(0.5)", "SELECT balance FROM account"],
        &["BEGIN", "DELETE FROM account", "SELECT REPEAT('y', 3000000)"],
    ];
    for script in scripts {
        let mut seen = Vec::new();
        for port in [c.server(Bank::One).port(), c.proxy_port(Bank::One)] {
            sql::run(&mut c.direct(Bank::One, &schema).await?, "UPDATE account SET balance = 100").await?;
            let mut conn = RawConn::login(port, &schema).await?;
            let mut bytes = Vec::new();
            for statement in script {
                let command = text(QUERY, statement.as_bytes());
                bytes.extend_from_slice(&u32::try_from(command.len())?.to_le_bytes()[..3]);
                bytes.push(0);
                bytes.extend_from_slice(&command);
            }
            conn.send_bytes(&bytes).await?;
            conn.finish().await?;
            seen.push(tokio::time::timeout(SOON, rest(conn)).await.context(format!("{script:?}"))??);
        }
        ensure!(seen[0] == seen[1], "{script:?}\nthrough the proxy: {:?}\nstraight: {:?}", seen[1], seen[0]);
    }
    Ok(())
}
