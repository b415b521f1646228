//! Plays a script against one port and records each packet of the server.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use atone_tests::wire::{Compression, Decoded, Login, Session, Shape, payload};
use atone_tests::{Flavor, Server, sql, wait};

use atone_tests::wire::payload::Execute;

use crate::script::{Act, LAST, May, Payload, Script, Setting};

/// How long [`Act::Dawdle`] reads nothing. Long enough to fill the buffers from a server on the same machine; what is
/// compared afterwards does not depend on it.
const DAWDLE: Duration = Duration::from_millis(300);
const SOON: Duration = Duration::from_secs(20);

/// Session variables that each connection, or each server, has for itself, as session tracking reports them.
const EACH_OWN: &[&str] =
    &["variable 'statement_id'", "variable 'timestamp'", "variable 'last_gtid'", "variable 'rand_seed1'"];

/// What a step was answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Recorded {
    /// The step's name.
    pub(crate) step: String,
    /// The packets, with their numbers where those may not differ.
    pub(crate) packets: Vec<(Option<u8>, Decoded)>,
    /// Where this client found what no server sends.
    pub(crate) failure: Option<String>,
}

/// Where a script is played.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    /// The server's or the proxy's port.
    pub(crate) port: u16,
    /// The server, for what is asked around everything.
    pub(crate) server: &'a Server,
    /// The schema of the first session.
    pub(crate) schema: &'a str,
    /// The capabilities that both places offer.
    pub(crate) offered: u64,
    /// Whether the port is the proxy's.
    pub(crate) proxied: bool,
    /// Set once a reply came that was really compressed.
    pub(crate) seen_compressed: &'a AtomicBool,
}

/// A script while it is played.
pub(crate) struct Player<'a> {
    place: Place<'a>,
    login: Login,
    compressed: bool,
    sessions: BTreeMap<char, Session>,
    ids: BTreeMap<char, u32>,
    /// The servers' ids of the statements that were prepared, in order: MariaDB counts them for all connections.
    statements: BTreeMap<char, Vec<u32>>,
    unanswered: BTreeMap<char, VecDeque<Vec<u8>>>,
    xid: Option<String>,
}

/// Plays the script, to its end or to the step at which this client can't go on.
pub(crate) async fn play(script: &Script, setting: &Setting, place: Place<'_>) -> Vec<Recorded> {
    start(script, setting, place).play(script).await
}

/// Prepares to play a script.
pub(crate) fn start<'a>(script: &Script, setting: &Setting, place: Place<'a>) -> Player<'a> {
    let mut login = Login::new(place.port, script.account).schema(place.schema);
    login.capabilities = setting.capabilities & place.offered;
    login.compression = setting.compression;
    login.tls = setting.tls;
    Player {
        place,
        login,
        compressed: setting.compression != Compression::None,
        sessions: BTreeMap::new(),
        ids: BTreeMap::new(),
        statements: BTreeMap::new(),
        unanswered: BTreeMap::new(),
        xid: None,
    }
}

impl Player<'_> {
    /// Plays the script, to its end or to the step at which this client can't go on.
    pub(crate) async fn play(&mut self, script: &Script) -> Vec<Recorded> {
        let mut recorded = Vec::new();
        for step in &script.steps {
            let (packets, failure) = match self.act(step.session, &step.act).await {
                Ok(mut packets) => {
                    self.note_statements(step.session, &mut packets);
                    (packets, None)
                }
                Err(error) => (Vec::new(), Some(format!("{error:#}"))),
            };
            if self.sessions.values().any(Session::seen_compressed) {
                self.place.seen_compressed.store(true, Ordering::Relaxed);
            }
            let failed = failure.is_some();
            let packets = self.normal(packets, &step.may);
            recorded.push(Recorded { step: format!("{}: {}", step.session, step.name), packets, failure });
            if failed {
                break;
            }
        }
        recorded
    }

    /// The global transaction that a session was bound to last.
    pub(crate) fn xid(&self) -> Option<&str> {
        self.xid.as_deref()
    }

    /// Runs a statement of Atone's own.
    pub(crate) async fn global(&mut self, name: char, words: &str) -> Result<()> {
        let session = self.sessions.get_mut(&name).context("the session is closed")?;
        let mut last = None;
        for sql in [words, "SELECT @atone_xid"] {
            let command = payload::query(session.capabilities, sql.as_bytes(), &[]);
            session.send(&command).await?;
            let reply = session.receive(&command, None).await?;
            ensure!(reply.iter().all(|(_, packet)| packet.kind != "ERR"), "{sql}: {reply:?}");
            last = reply.into_iter().find(|(_, packet)| packet.kind == "row").or(last);
        }
        let row = last.context("no answer to SELECT @atone_xid")?.1;
        let xid = row.get("0").map(|xid| xid.trim_matches('\'').to_owned());
        self.xid = xid.filter(|xid| xid != "NULL").or(self.xid.take());
        Ok(())
    }

    async fn act(&mut self, name: char, act: &Act) -> Result<Vec<(u8, Decoded)>> {
        match act {
            Act::Open(change) => {
                let mut login = self.login.clone();
                change(&mut login);
                return self.open(name, &login).await;
            }
            Act::Await(sql) => {
                self.wait_for(&self.with_ids(sql)?).await?;
                return Ok(Vec::new());
            }
            Act::Dawdle => {
                tokio::time::sleep(DAWDLE).await;
                return Ok(Vec::new());
            }
            _ => {}
        }
        let mut seen = Vec::new();
        if !self.sessions.contains_key(&name) {
            let login = self.login.clone();
            seen = self.open(name, &login).await?;
        }
        let waiting = self.unanswered.entry(name).or_default().len();
        let Some(capabilities) = self.sessions.get(&name).map(|session| session.capabilities) else {
            return Ok(seen);
        };
        let command = match act {
            Act::Command(command, _) | Act::Send(command) => {
                self.payload(name, command, capabilities).await?
            }
            _ => Vec::new(),
        };
        let queue = self.unanswered.entry(name).or_default();
        let session = self.sessions.get_mut(&name).context("the session is closed")?;
        match act {
            Act::Command(_, file) => {
                ensure!(waiting == 0, "a reply to another command is still to come");
                ensure!(session.conn().unread() == 0, "something came unasked");
                // A connection that is closed shows when it is read
                let _ = session.send(&command).await;
                let file = file.map(|make| make());
                seen.extend(session.receive(&command, file.as_deref()).await?);
            }
            Act::Send(_) => {
                session.send(&command).await?;
                if Shape::of(&command) != Shape::Nothing {
                    queue.push_back(command);
                }
            }
            Act::Receive => {
                let command = queue.pop_front().context("no command was sent")?;
                seen.extend(session.receive(&command, None).await?);
            }
            Act::Bytes(bytes) => {
                // What is answered, and how often, is what the script is to find out
                session.conn().restart(u32::MAX);
                // Where the other side has closed, that shows when it is read
                let _ = session.conn().send_bytes(bytes).await;
            }
            Act::Packet => seen.extend(session.receive_as(Shape::Single, &[], None).await?),
            Act::End => {
                // What a server says unasked has a number of its own
                session.conn().restart(u32::MAX);
                while self.last_packet(name, &mut seen).await? {}
            }
            Act::Global(words) => {
                if self.place.proxied {
                    self.global(name, words).await?;
                }
            }
            Act::ChangeUser(change) => {
                let mut login = self.login.clone();
                change(&mut login);
                seen.extend(session.change_user(&login).await?);
            }
            Act::Close => {
                self.sessions.remove(&name);
            }
            Act::Open(_) | Act::Await(_) | Act::Dawdle => bail!("these were seen to above"),
        }
        Ok(seen)
    }

    async fn last_packet(&mut self, name: char, seen: &mut Vec<(u8, Decoded)>) -> Result<bool> {
        let session = self.sessions.get_mut(&name).context("the session is closed")?;
        let more = session.receive_as(Shape::Single, &[], None).await?;
        let closed = more.iter().any(|(_, packet)| packet.kind == "closed");
        seen.extend(more);
        Ok(!closed)
    }

    async fn open(&mut self, name: char, login: &Login) -> Result<Vec<(u8, Decoded)>> {
        let (session, seen) = Session::attempt(login).await?;
        if let Some(session) = session {
            self.ids.insert(name, session.greeting.id);
            self.sessions.insert(name, session);
        }
        Ok(seen)
    }

    /// The server's id of a script's statement; one that no server gave where there is no such statement.
    fn statement(&self, session: char, n: u32) -> u32 {
        let known = usize::try_from(n).ok().and_then(|n| n.checked_sub(1));
        let known = known.and_then(|at| self.statements.get(&session)?.get(at));
        known.copied().unwrap_or(if n == LAST { LAST } else { n | 0x4000_0000 })
    }

    /// Replaces the servers' ids of statements by their places in the script.
    fn note_statements(&mut self, session: char, packets: &mut [(u8, Decoded)]) {
        for (_, packet) in packets.iter_mut().filter(|(_, packet)| packet.kind == "ERR") {
            for (_, value) in packet.fields.iter_mut().filter(|(name, _)| name == "message") {
                for (n, id) in (1..).zip(self.statements.get(&session).into_iter().flatten()) {
                    *value = value.replace(&format!("({id})"), &format!("(<{n}>)"));
                }
            }
        }
        for (_, packet) in packets.iter_mut().filter(|(_, packet)| packet.kind == "prepared") {
            for (_, value) in packet.fields.iter_mut().filter(|(name, _)| name == "statement") {
                let all = self.statements.entry(session).or_default();
                all.extend(value.parse::<u32>());
                *value = all.len().to_string();
            }
        }
    }

    async fn payload(&self, session: char, payload: &Payload, capabilities: u64) -> Result<Vec<u8>> {
        Ok(match payload {
            Payload::Bytes(bytes) => bytes.clone(),
            Payload::Made(make) => make(capabilities, self.statement(session, 1)),
            Payload::Query(sql, attributes) => payload::query(capabilities, sql, attributes),
            Payload::Execute(execute) => {
                let id = self.statement(session, execute.id);
                Execute { id, ..execute.clone() }.payload(capabilities)
            }
            Payload::Statement(command, n, rest) => {
                payload::statement(*command, self.statement(session, *n), rest)
            }
            Payload::About(sql) => payload::query(capabilities, self.with_ids(sql)?.as_bytes(), &[]),
            Payload::Dump => {
                let (file, position) = self.binlog().await?;
                let mut dump = vec![0x12];
                dump.extend_from_slice(&position.to_le_bytes());
                // Up to the end, without waiting for more; as the replica 99
                dump.extend_from_slice(&[1, 0, 99, 0, 0, 0]);
                dump.extend_from_slice(file.as_bytes());
                dump
            }
            Payload::Kill(session) => {
                let id = self.ids.get(session).context("no such session")?;
                [&[0x0c], &id.to_le_bytes()[..]].concat()
            }
        })
    }

    /// The server's binary log and its end.
    async fn binlog(&self) -> Result<(String, u32)> {
        let show = match self.place.server.flavor() {
            Flavor::MariaDb => "SHOW MASTER STATUS",
            Flavor::MySql => "SHOW BINARY LOG STATUS",
        };
        let mut admin = self.place.server.admin().await?;
        let rows = sql::rows(&mut admin, show).await?;
        admin.disconnect().await?;
        let row = rows.first().context("there is no binary log")?;
        let mut columns = row.split('|');
        let file = columns.next().context("no file")?.to_owned();
        Ok((file, columns.next().context("no position")?.parse()?))
    }

    fn with_ids(&self, sql: &str) -> Result<String> {
        let mut sql = sql.to_owned();
        for (name, id) in &self.ids {
            sql = sql.replace(&format!("{{{name}}}"), &id.to_string());
        }
        ensure!(!sql.contains("{a}") && !sql.contains("{b}"), "no such session: {sql}");
        Ok(sql)
    }

    async fn wait_for(&self, query: &str) -> Result<()> {
        let admin = tokio::sync::Mutex::new(self.place.server.admin().await?);
        wait::until(query, SOON, || async {
            let rows = sql::rows(&mut *admin.lock().await, query).await?;
            Ok(rows.iter().any(|row| row != "0").then_some(()))
        })
        .await?;
        Ok(admin.into_inner().disconnect().await?)
    }

    /// Without what each connection has for itself, and what this step may have.
    fn normal(&self, packets: Vec<(u8, Decoded)>, may: &[May]) -> Vec<(Option<u8>, Decoded)> {
        let progress = may.contains(&May::Progress);
        let rows = may.contains(&May::Rows);
        let mut normal = Vec::new();
        for (number, mut packet) in packets {
            if rows && matches!(packet.kind, "row" | "event") {
                continue;
            }
            if progress && packet.kind == "progress" {
                // Whether there are any is compared, not how many
                packet.fields.clear();
            }
            if packet.kind == "greeting" {
                // Compared by a test of its own, once for a port
                packet.fields.retain(|(name, _)| name != "capabilities");
            }
            for (_, value) in packet.fields.iter_mut().filter(|(name, _)| EACH_OWN.contains(&name.as_str())) {
                "…".clone_into(value);
            }
            for may in may {
                match may {
                    May::IndexFlags => without_index_flags(&mut packet),
                    May::Ids if matches!(packet.kind, "row" | "ERR") => self.without_ids(&mut packet),
                    May::Fields(names) => {
                        for (_, value) in
                            packet.fields.iter_mut().filter(|(n, _)| names.contains(&n.as_str()))
                        {
                            "…".clone_into(value);
                        }
                    }
                    May::Ids | May::Rows | May::Progress | May::Length | May::LastWord | May::AllButLast => {}
                }
            }
            // The servers number a packet inside of compressed frames by where they flushed; no client looks at it
            let numbered = !self.compressed && !progress && !rows && packet.kind != "closed";
            normal.push((numbered.then_some(number), packet));
        }
        if may.contains(&May::AllButLast) {
            normal.drain(..normal.len().saturating_sub(1));
            normal.iter_mut().for_each(|(number, _)| *number = None);
        }
        if progress {
            normal.dedup_by(|one, other| one.1.kind == "progress" && other.1.kind == "progress");
        }
        if may.contains(&May::LastWord) && normal.last().is_some_and(|(_, last)| last.kind == "closed") {
            normal.retain(|(_, packet)| packet.kind != "ERR");
        }
        if may.contains(&May::Length) {
            normal.dedup_by(|one, other| one.1.kind == "row" && other.1.kind == "row");
            for (number, packet) in &mut normal {
                *number = None;
                if packet.kind == "row" {
                    packet.fields.clear();
                    packet.long.clear();
                }
            }
        }
        normal
    }

    fn without_ids(&self, packet: &mut Decoded) {
        for (_, value) in &mut packet.fields {
            for (name, id) in &self.ids {
                *value = replace_number(value, &id.to_string(), &format!("<{name}>"));
                *value = replace_number(value, &format!("0x{id:08x}"), &format!("<{name}>"));
                *value = replace_number(value, &format!("0x{id:016x}"), &format!("<{name}>"));
            }
        }
    }
}

/// Without SERVER_QUERY_NO_GOOD_INDEX_USED and SERVER_QUERY_NO_INDEX_USED.
fn without_index_flags(packet: &mut Decoded) {
    for (_, value) in packet.fields.iter_mut().filter(|(name, _)| name == "status") {
        if let Some(Ok(status)) = value.strip_prefix("0x").map(|digits| u16::from_str_radix(digits, 16)) {
            *value = format!("{:#06x}", status & !0x30);
        }
    }
}

/// Replaces a number where it stands by itself.
fn replace_number(text: &str, number: &str, by: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(number) {
        let (front, behind) = (&rest[..at], &rest[at + number.len()..]);
        let alone = !front.ends_with(|c: char| c.is_ascii_alphanumeric())
            && !behind.starts_with(|c: char| c.is_ascii_alphanumeric());
        out.push_str(front);
        out.push_str(if alone { by } else { number });
        rest = behind;
    }
    out + rest
}
