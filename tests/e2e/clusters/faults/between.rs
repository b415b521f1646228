//! A man in the middle, between the proxy and the server, who answers one of the statements on the application's
//! connection with an error. Where the server would have rolled back with it, it does.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Result, bail, ensure};
use atone_tests::server::APP;
use atone_tests::wire::Greeting;
use atone_wire::caps::{client, status};
use atone_wire::command;
use atone_wire::frame::put_packet;
use atone_wire::reply::{Expect, Next, Patch, ReplyTracker};
use atone_wire::response::ErrPacket;
use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// An error, and what the server does with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) code: u16,
    pub(crate) state: &'static str,
    /// The server has rolled the local transaction back.
    pub(crate) rolls_back: bool,
    /// What the server does with a KILL QUERY just between two statements of a packet: after the first it says
    /// nothing more, although it has announced it. The error is for the first statement of a packet only.
    pub(crate) cuts: bool,
}

/// A statement that has reached the server.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) text: String,
    /// A local transaction was open when it ran, or began with it.
    pub(crate) open: bool,
}

#[derive(Debug, Default)]
struct Plan {
    armed: Option<(usize, Fault)>,
    /// How many statements have come since the watch began.
    count: usize,
    /// What was answered with the error.
    hit: Option<String>,
    /// The server did not come to it.
    missed: bool,
    seen: Vec<Seen>,
}

/// The handle to it. Of the application there is one connection at a time.
#[derive(Clone, Debug)]
pub(crate) struct Between {
    pub(crate) port: u16,
    plan: Arc<Mutex<Plan>>,
}

impl Between {
    /// Listens on a port of its own, in front of the server on this one.
    pub(crate) async fn start(server: u16) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let between = Self { port: listener.local_addr()?.port(), plan: Arc::default() };
        let plan = between.plan.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let plan = plan.clone();
                // An end on either side ends the other
                tokio::spawn(async move { serve(client, server, plan).await });
            }
        });
        Ok(between)
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watches from here on, and answers the statement at this place with the error.
    pub(crate) fn watch(&self, armed: Option<(usize, Fault)>) {
        *self.plan() = Plan { armed, ..Plan::default() };
    }

    /// The statements that have reached the server since, and the one that was answered with the error.
    pub(crate) fn seen(&self) -> (Vec<Seen>, Option<String>) {
        let mut plan = self.plan();
        (std::mem::take(&mut plan.seen), plan.hit.take())
    }

    /// Whether the server did not come to that statement, since one before it in its packet failed by itself.
    pub(crate) fn missed(&self) -> bool {
        self.plan().missed
    }
}

struct Side {
    stream: TcpStream,
    buf: BytesMut,
}

impl Side {
    fn new(stream: TcpStream) -> Result<Side> {
        stream.set_nodelay(true)?;
        Ok(Side { stream, buf: BytesMut::new() })
    }

    async fn fill(&mut self) -> Result<()> {
        ensure!(self.stream.read_buf(&mut self.buf).await? > 0, "closed");
        Ok(())
    }

    /// The next frame with its header.
    async fn frame(&mut self) -> Result<BytesMut> {
        loop {
            if let &[a, b, c, _, ..] = &self.buf[..] {
                let len = 4 + usize::from(a) + (usize::from(b) << 8) + (usize::from(c) << 16);
                if self.buf.len() >= len {
                    return Ok(self.buf.split_to(len));
                }
            }
            self.fill().await?;
        }
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(bytes).await?)
    }
}

async fn serve(client: TcpStream, server: u16, plan: Arc<Mutex<Plan>>) -> Result<()> {
    let (mut client, mut server) =
        (Side::new(client)?, Side::new(TcpStream::connect(("127.0.0.1", server)).await?)?);
    let greeting = server.frame().await?;
    client.send(&greeting).await?;
    let offered = Greeting::parse(&greeting[4..])?.capabilities;
    let answer = client.frame().await?;
    server.send(&answer).await?;
    let (low, high) = (answer.get(4..8), answer.get(32..36));
    let number = |bytes: Option<&[u8]>| -> u64 {
        bytes.and_then(|b| b.try_into().ok()).map_or(0, |b| u64::from(u32::from_le_bytes(b)))
    };
    let user = answer.get(36..).unwrap_or_default();
    if !user.starts_with(&[APP.0.as_bytes(), &[0]].concat()) {
        tokio::io::copy_bidirectional(&mut client.stream, &mut server.stream).await?;
        return Ok(());
    }
    loop {
        tokio::select! {
            frame = server.frame() => {
                let frame = frame?;
                client.send(&frame).await?;
                match frame.get(4) {
                    Some(0x00) => break,
                    Some(0xff) => bail!("refused"),
                    _ => {}
                }
            }
            frame = client.frame() => server.send(&frame?).await?,
        }
    }
    let capabilities = offered & (number(low) | number(high) << 32);
    Relay { client, server, capabilities, status: status::AUTOCOMMIT, plan }.run().await
}

struct Relay {
    client: Side,
    server: Side,
    capabilities: u64,
    status: u16,
    plan: Arc<Mutex<Plan>>,
}

impl Relay {
    async fn run(mut self) -> Result<()> {
        loop {
            let frame = self.client.frame().await?;
            let byte = frame.get(4).copied().unwrap_or_default();
            match byte {
                command::QUERY => self.query(&frame).await?,
                command::STMT_PREPARE => self.other(&frame, Expect::Prepare).await?,
                command::STMT_EXECUTE => self.other(&frame, Expect::Results).await?,
                // Without a reply
                command::STMT_CLOSE | command::STMT_SEND_LONG_DATA => self.server.send(&frame).await?,
                _ => {
                    self.server.send(&frame).await?;
                    self.relay(Expect::Single, false).await?;
                }
            }
        }
    }

    /// A command that is one statement.
    async fn other(&mut self, frame: &[u8], expect: Expect) -> Result<()> {
        if let Some((_, fault)) = self.hit(&["a prepared statement".to_owned()]) {
            return self.fail(fault, 1).await;
        }
        self.server.send(frame).await?;
        self.relay(expect, false).await.map(|_| ())
    }

    /// Where one of these statements is to be answered with an error, its place and the error; else they are noted.
    fn hit(&mut self, texts: &[String]) -> Option<(usize, Fault)> {
        let mut plan = self.plan.lock().unwrap_or_else(PoisonError::into_inner);
        let first = plan.count;
        plan.count += texts.len();
        let hit = plan.armed.and_then(|(at, fault)| Some((at.checked_sub(first)?, fault)));
        let hit = hit.filter(|(at, _)| *at < texts.len());
        if let Some((at, _)) = hit {
            plan.armed = None;
            plan.hit = texts.get(at).cloned();
        }
        let mut open = self.status & status::IN_TRANS != 0 || self.status & status::AUTOCOMMIT == 0;
        for text in &texts[..hit.map_or(texts.len(), |(at, _)| at)] {
            open |= text.starts_with("START TRANSACTION") || text.starts_with("BEGIN");
            plan.seen.push(Seen { text: text.clone(), open });
        }
        hit
    }

    async fn query(&mut self, frame: &[u8]) -> Result<()> {
        // After the header and the command: the numbers of query attributes
        let prefix = if self.capabilities & client::QUERY_ATTRIBUTES != 0 { 7 } else { 5 };
        let (head, sql) = frame.split_at(prefix.min(frame.len()));
        let sql = String::from_utf8_lossy(sql).into_owned();
        let texts: Vec<String> = sql.split(";\n").map(str::to_owned).collect();
        let Some((at, fault)) = self.hit(&texts) else {
            self.server.send(frame).await?;
            return self.relay(Expect::Results, false).await.map(|_| ());
        };
        let mut seq = 1;
        if at > 0 {
            let payload = [&head[4..], texts[..at].join(";\n").as_bytes()].concat();
            let mut before = Vec::new();
            put_packet(&mut before, 0, &payload);
            self.server.send(&before).await?;
            let (last, failed) = self.relay(Expect::Results, true).await?;
            if failed {
                // The server was faster with an error of its own
                self.plan.lock().unwrap_or_else(PoisonError::into_inner).missed = true;
                return Ok(());
            }
            if fault.cuts {
                return Ok(());
            }
            seq = last.wrapping_add(1);
        }
        self.fail(fault, seq).await
    }

    async fn fail(&mut self, fault: Fault, seq: u8) -> Result<()> {
        if fault.rolls_back {
            let mut rollback = Vec::new();
            let none: &[u8] = if self.capabilities & client::QUERY_ATTRIBUTES != 0 { &[0, 1] } else { &[] };
            put_packet(&mut rollback, 0, &[&[command::QUERY], none, b"ROLLBACK"].concat());
            self.server.send(&rollback).await?;
            let frame = self.server.frame().await?;
            ensure!(frame.get(4) == Some(&0), "ROLLBACK failed");
            self.status &= !status::IN_TRANS;
        }
        let sql_state = fault.state.as_bytes().try_into()?;
        let error = ErrPacket { code: fault.code, sql_state, message: b"from between".to_vec() };
        let mut out = Vec::new();
        put_packet(&mut out, seq, &error.encode());
        self.client.send(&out).await
    }

    /// Relays a reply; the number of its last packet, and whether it is an error. With `more`, another one is to
    /// follow it.
    async fn relay(&mut self, expect: Expect, more: bool) -> Result<(u8, bool)> {
        let mut tracker =
            ReplyTracker::new(expect, self.capabilities).with_patch(Patch { renumber: 0, more });
        loop {
            let fed = tracker.feed(&self.server.buf)?;
            if fed.bytes > 0 {
                tracker.apply(&mut self.server.buf[..fed.bytes]);
                let bytes = self.server.buf.split_to(fed.bytes);
                self.client.send(&bytes).await?;
            }
            match fed.next {
                Next::Done => break,
                Next::More => self.server.fill().await?,
                Next::File => {
                    loop {
                        let frame = self.client.frame().await?;
                        self.server.send(&frame).await?;
                        if frame.remaining() == 4 {
                            break;
                        }
                    }
                    tracker.file_sent();
                }
            }
        }
        self.status = tracker.status().unwrap_or(self.status);
        Ok((tracker.last_seq().unwrap_or_default(), tracker.failed().is_some()))
    }
}
