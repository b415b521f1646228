//! Sessions that are not bound: the same statements straight on the server, through the proxy, and through other
//! programs that relay connections.

use anyhow::{Context as _, Result, ensure};
use atone_tests::server::APP;
use atone_tests::{Bank, sql};
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, OptsBuilder, Row};

use super::load::{self, Load, Work};
use super::relay_report::Relayed;
use super::report::Cell;
use super::through::{Program, Relay};
use super::transfers::{ACCOUNTS, Numbers};
use super::{Bench, Build, Options, rounds};
use crate::cpu::Clocks;

/// How many rows a range read of the read-write transaction has.
const RANGE: u64 = 20;

/// What a client does again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Workload {
    /// Reads one row.
    PointSelect,
    /// Reads ten rows one by one and a range of them, and changes two, in a local transaction.
    ReadWrite,
    /// Logs in, reads one row, and logs out.
    Connect,
}

impl Workload {
    const ALL: [Workload; 3] = [Workload::PointSelect, Workload::ReadWrite, Workload::Connect];

    /// Its name in tables and in JSON.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Workload::PointSelect => "point select",
            Workload::ReadWrite => "read-write",
            Workload::Connect => "connection for each query",
        }
    }
}

/// How a client's connection reaches the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// Straight.
    Direct,
    /// Through a build's proxy.
    Proxy(Build),
    /// Through another program.
    Through(Program),
}

/// One thing that is measured in each round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Variant {
    /// What is done.
    pub(crate) workload: Workload,
    /// On which way.
    pub(crate) route: Route,
    /// By how many clients.
    pub(crate) clients: usize,
}

/// A client on one way to the server.
#[derive(Debug)]
struct Client {
    workload: Workload,
    options: OptsBuilder,
    conn: Conn,
    numbers: Numbers,
}

impl Client {
    async fn connect(workload: Workload, options: OptsBuilder, number: usize) -> Result<Self> {
        let conn = sql::connect_with(options.clone()).await?;
        Ok(Self { workload, options, conn, numbers: Numbers::of_client(number) })
    }

    async fn read_write(&mut self) -> Result<()> {
        sql::run(&mut self.conn, "BEGIN").await?;
        for _ in 0..10 {
            read(&mut self.conn, self.numbers.account()).await?;
        }
        let first = self.numbers.account().min(ACCOUNTS - RANGE + 1);
        let last = first + RANGE - 1;
        let range = format!("SELECT owner, balance FROM account WHERE id BETWEEN {first} AND {last}");
        let rows: Vec<Row> = self.conn.query(range).await?;
        ensure!(rows.len() as u64 == RANGE, "{} rows instead of {RANGE}", rows.len());
        // In the order of their keys, so that clients never wait for each other in a circle
        let mut accounts = [self.numbers.account(), self.numbers.account()];
        accounts.sort_unstable();
        for account in accounts {
            sql::run(
                &mut self.conn,
                format!("UPDATE account SET balance = balance + 0 WHERE id = {account}"),
            )
            .await?;
        }
        sql::run(&mut self.conn, "COMMIT").await
    }
}

impl Work for Client {
    async fn once(&mut self) -> Result<u64> {
        match self.workload {
            Workload::PointSelect => read(&mut self.conn, self.numbers.account()).await?,
            Workload::ReadWrite => self.read_write().await?,
            Workload::Connect => {
                let mut conn = sql::connect_with(self.options.clone()).await?;
                read(&mut conn, self.numbers.account()).await?;
                conn.disconnect().await?;
            }
        }
        Ok(0)
    }
}

async fn read(conn: &mut Conn, account: u64) -> Result<()> {
    let rows: Vec<Row> =
        conn.query(format!("SELECT owner, balance FROM account WHERE id = {account}")).await?;
    ensure!(rows.len() == 1, "{} rows instead of one", rows.len());
    Ok(())
}

/// Measures all workloads on all ways that there are.
pub(super) async fn measure(bench: &Bench, options: &Options) -> Result<Relayed> {
    let server = bench.cluster.server(Bank::One);
    let (mut relays, mut missing) = (Vec::new(), Vec::new());
    for program in Program::ALL {
        match Relay::start(program, server.port()).await? {
            Some(relay) => relays.push(relay),
            None => missing.push(program.name()),
        }
    }
    let mut routes = vec![Route::Direct, Route::Proxy(Build::This)];
    if bench.other.is_some() {
        routes.push(Route::Proxy(Build::Other));
    }
    routes.extend(relays.iter().map(|relay| Route::Through(relay.program)));
    let mut variants = Vec::new();
    for workload in Workload::ALL {
        for &clients in &options.clients {
            variants.extend(routes.iter().map(|&route| Variant { workload, route, clients }));
        }
    }
    let sample = async |variant: Variant| sample(bench, &relays, variant, options).await;
    let cells: Vec<Cell<Variant>> = rounds(variants, options.rounds, sample).await?;
    Ok(Relayed { cells, missing })
}

async fn sample(bench: &Bench, relays: &[Relay], variant: Variant, options: &Options) -> Result<Load> {
    let cluster = &bench.cluster;
    let (port, process) = match variant.route {
        Route::Direct => (cluster.bank1.port(), None),
        Route::Proxy(Build::This) => (cluster.proxy_port(Bank::One), Some(cluster.proxy.id())),
        Route::Proxy(Build::Other) => {
            let (other, _) = bench.other.as_ref().context("there is no other build")?;
            (other.proxy_port(Bank::One), Some(other.proxy.id()))
        }
        Route::Through(program) => {
            let relay = relays.iter().find(|relay| relay.program == program);
            let relay = relay.context("the program does not run")?;
            (relay.port, Some(Some(relay.id())))
        }
    };
    let clocks = Clocks::over(&[cluster.bank1.id()], process.as_slice(), &[])?;
    let mut clients = Vec::with_capacity(variant.clients);
    for number in 0..variant.clients {
        let options = sql::options(port, APP, Some(&bench.schema));
        clients.push(Client::connect(variant.workload, options, number).await?);
    }
    load::run(&clocks, clients, options.duration).await
}
