//! A transfer between two servers: one row changed on each, in one of several ways.

use anyhow::{Context as _, Result, ensure};
use atone_tests::sql;
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, OptsBuilder, Statement};

use super::by_hand;
use super::load::Work;

/// How many accounts each server has.
pub(crate) const ACCOUNTS: u64 = 10_000;
/// How often a transfer may begin anew.
const MAX_RETRIES: u64 = 1_000;
/// The servers' errors after which an application begins a transaction anew: a lock that was not to be had, a deadlock.
const TRY_AGAIN: [u16; 2] = [1205, 1213];

/// How a transfer is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Two local transactions, and nothing that ties them together.
    Direct,
    /// The servers' own two-phase commit.
    Xa,
    /// What Atone does, done by the client: a round trip for each statement.
    ByHand,
    /// The same, with the statements of a step in one packet.
    ByHandPipelined,
    /// Through the proxy, in a global transaction that commits.
    AtoneText,
    /// The same with prepared statements.
    AtonePrepared,
    /// The same with one autocommitted statement for each branch.
    AtoneAutocommit,
    /// Through the proxy, in a global transaction that is rolled back.
    AtoneRollback,
}

impl Mode {
    /// All of them.
    pub(crate) const ALL: [Mode; 8] = [
        Mode::Direct,
        Mode::Xa,
        Mode::ByHand,
        Mode::ByHandPipelined,
        Mode::AtoneText,
        Mode::AtonePrepared,
        Mode::AtoneAutocommit,
        Mode::AtoneRollback,
    ];

    /// Its name on the command line, in tables and in JSON.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Mode::Direct => "direct",
            Mode::Xa => "xa",
            Mode::ByHand => "by-hand",
            Mode::ByHandPipelined => "by-hand-pipelined",
            Mode::AtoneText => "atone-text",
            Mode::AtonePrepared => "atone-prepared",
            Mode::AtoneAutocommit => "atone-autocommit",
            Mode::AtoneRollback => "atone-rollback",
        }
    }

    /// Whether it goes through the proxy.
    pub(crate) fn is_atone(self) -> bool {
        match self {
            Mode::AtoneText | Mode::AtonePrepared | Mode::AtoneAutocommit | Mode::AtoneRollback => true,
            Mode::Direct | Mode::Xa | Mode::ByHand | Mode::ByHandPipelined => false,
        }
    }
}

/// A small generator of numbers (xorshift), from a seed of its own for each client: every run and every way of running
/// takes the same accounts in the same order.
#[derive(Debug)]
pub(crate) struct Numbers(u64);

impl Numbers {
    /// Those of this client.
    pub(crate) fn of_client(number: usize) -> Self {
        // Neighbouring seeds would begin with neighbouring numbers
        Self((number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// The next account.
    pub(crate) fn account(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % ACCOUNTS + 1
    }
}

/// One change of one account.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change {
    /// The row.
    pub(crate) account: u64,
    /// What is added to its balance.
    pub(crate) amount: i64,
}

impl Change {
    /// Its statement.
    pub(crate) fn update(self) -> String {
        let Change { account, amount } = self;
        format!("UPDATE account SET balance = balance + {amount} WHERE id = {account}")
    }
}

/// A client of the bank, with a connection to each server.
#[derive(Debug)]
pub(crate) struct Client {
    mode: Mode,
    /// Whether every transfer takes from the same account.
    hot: bool,
    conns: [Conn; 2],
    prepared: Option<[Statement; 2]>,
    numbers: Numbers,
    /// Tells its transactions from those of others, where they need names.
    name: String,
    serial: u64,
}

impl Client {
    /// Logs in to both servers, or to the proxy in front of them.
    pub(crate) async fn connect(
        mode: Mode,
        hot: bool,
        options: [OptsBuilder; 2],
        number: usize,
        name: String,
    ) -> Result<Self> {
        let [one, two] = options;
        let mut conns = [sql::connect_with(one).await?, sql::connect_with(two).await?];
        let prepared = if mode == Mode::AtonePrepared {
            let update = "UPDATE account SET balance = balance + ? WHERE id = ?";
            let [one, two] = &mut conns;
            Some([one.prep(update).await?, two.prep(update).await?])
        } else {
            None
        };
        let numbers = Numbers::of_client(number);
        Ok(Self { mode, hot, conns, prepared, numbers, name, serial: 0 })
    }

    async fn transfer(&mut self, changes: [Change; 2]) -> Result<()> {
        let name = format!("{}-{}", self.name, self.serial);
        match self.mode {
            Mode::Direct => self.direct(changes).await,
            Mode::Xa => self.xa(changes, &name).await,
            Mode::ByHand => by_hand::transfer(&mut self.conns, changes, &name).await,
            Mode::ByHandPipelined => by_hand::pipelined(&mut self.conns, changes, &name).await,
            Mode::AtoneText | Mode::AtonePrepared | Mode::AtoneAutocommit | Mode::AtoneRollback => {
                self.global(changes).await
            }
        }
    }

    async fn direct(&mut self, changes: [Change; 2]) -> Result<()> {
        for (conn, change) in self.conns.iter_mut().zip(changes) {
            sql::run(conn, "BEGIN").await?;
            update(conn, change).await?;
            sql::run(conn, "COMMIT").await?;
        }
        Ok(())
    }

    async fn xa(&mut self, changes: [Change; 2], name: &str) -> Result<()> {
        for (conn, change) in self.conns.iter_mut().zip(changes) {
            sql::run(conn, format!("XA START '{name}'")).await?;
            update(conn, change).await?;
            sql::run(conn, format!("XA END '{name}'")).await?;
            sql::run(conn, format!("XA PREPARE '{name}'")).await?;
        }
        for conn in &mut self.conns {
            sql::run(conn, format!("XA COMMIT '{name}'")).await?;
        }
        Ok(())
    }

    async fn global(&mut self, changes: [Change; 2]) -> Result<()> {
        let Self { mode, conns, prepared, .. } = self;
        let [first, second] = &mut *conns;
        let xid = sql::start_global(first).await?;
        sql::run(second, format!("SET @atone_xid = '{xid}'")).await?;
        for (n, (conn, change)) in conns.iter_mut().zip(changes).enumerate() {
            if *mode != Mode::AtoneAutocommit {
                sql::run(conn, "BEGIN").await?;
            }
            match prepared {
                Some(prepared) => {
                    conn.exec_drop(&prepared[n], (change.amount, change.account)).await?;
                    one_row(conn)?;
                }
                None => update(conn, change).await?,
            }
            if *mode != Mode::AtoneAutocommit {
                sql::run(conn, "COMMIT").await?;
            }
        }
        let [first, _] = conns;
        let end = match mode {
            Mode::AtoneRollback => "ROLLBACK GLOBAL TRANSACTION",
            _ => "COMMIT GLOBAL TRANSACTION",
        };
        sql::run(first, end).await?;
        ensure!(first.get_warnings() == 0, "{end} was not done when it was answered");
        Ok(())
    }

    /// Gives up what a failed transfer has left, as an application does.
    async fn give_up(&mut self) -> Result<()> {
        let [first, second] = &mut self.conns;
        sql::run(second, "ROLLBACK").await?;
        sql::run(first, "ROLLBACK GLOBAL TRANSACTION").await?;
        sql::run(second, "SET @atone_xid = NULL").await
    }
}

impl Work for Client {
    async fn once(&mut self) -> Result<u64> {
        let from = if self.hot { 1 } else { self.numbers.account() };
        let changes =
            [Change { account: from, amount: -1 }, Change { account: self.numbers.account(), amount: 1 }];
        let mut retries = 0;
        loop {
            self.serial += 1;
            let Err(error) = self.transfer(changes).await else { return Ok(retries) };
            if !(self.mode.is_atone() && retries < MAX_RETRIES && may_try_again(&error)) {
                return Err(error).with_context(|| format!("{}, {changes:?}", self.mode.name()));
            }
            self.give_up().await.with_context(|| format!("giving up behind: {error:#}"))?;
            retries += 1;
        }
    }
}

fn may_try_again(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| match cause.downcast_ref::<mysql_async::Error>() {
        Some(mysql_async::Error::Server(server)) => TRY_AGAIN.contains(&server.code),
        _ => false,
    })
}

async fn update(conn: &mut Conn, change: Change) -> Result<()> {
    sql::run(conn, change.update()).await?;
    one_row(conn)
}

fn one_row(conn: &Conn) -> Result<()> {
    let rows = conn.affected_rows();
    ensure!(rows == 1, "{rows} rows were changed, not 1");
    Ok(())
}
