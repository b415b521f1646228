//! Starting, killing and talking to a coordinator.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use atone_api::proto::{self, BranchOutcome, Register, TableLocks, Work, WorkKind, WorkOutcome, WorkResult};
use atone_api::{Client, ClientError};
use serde_json::Value;
use tokio::sync::mpsc;

/// How long anything may take that should take no time.
pub const SOON: Duration = Duration::from_secs(10);

/// A coordinator in a private directory.
pub struct Coordinator {
    directory: tempfile::TempDir,
    extra: String,
    child: Child,
    pub rpc: String,
    pub http: String,
}

impl Coordinator {
    pub fn start(extra: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (child, rpc, http) = launch(&directory, extra, "127.0.0.1:0", "127.0.0.1:0");
        Self { directory, extra: extra.to_owned(), child, rpc, http }
    }

    pub fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// As by a power cut of this process alone.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again on the same data and ports.
    pub fn restart(&mut self) {
        let (child, rpc, http) = launch(&self.directory, &self.extra, &self.rpc, &self.http);
        (self.child, self.rpc, self.http) = (child, rpc, http);
    }

    pub fn terminate(&mut self) -> ExitStatus {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap()
    }

    pub fn proxy(&self, resources: &[&str]) -> Proxy {
        let (sender, work) = mpsc::channel(64);
        let resources = resources.iter().map(|name| (*name).to_owned()).collect();
        let id = format!("proxy-{}", rand::random::<u32>());
        let client = Client::connect(vec![format!("http://{}", self.rpc)], id, resources, sender).unwrap();
        Proxy { client, work }
    }

    pub async fn send(&self, method: &str, path: &str, body: Option<&str>) -> (u16, String, String) {
        let url = format!("http://{}{path}", self.http);
        let client = reqwest::Client::new();
        let request = client.request(method.to_uppercase().parse().unwrap(), url);
        let request = match body {
            Some(body) => request.body(body.to_owned()),
            None => request,
        };
        let response = request.send().await.unwrap();
        let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
        (response.status().as_u16(), kind, response.text().await.unwrap())
    }

    pub async fn post(&self, path: &str, body: &str) -> (u16, Value) {
        let (status, _, text) = self.send("POST", path, Some(body)).await;
        (status, serde_json::from_str(&text).unwrap())
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        let (status, _, text) = self.send("GET", path, None).await;
        (status, serde_json::from_str(&text).unwrap())
    }

    pub async fn begin(&self) -> String {
        let (status, answer) = self.post("/v1/transactions", "").await;
        assert_eq!(status, 201, "{answer}");
        answer["xid"].as_str().unwrap().to_owned()
    }

    pub async fn transaction(&self, xid: &str) -> Value {
        let (status, answer) = self.get(&format!("/v1/transactions/{xid}")).await;
        assert_eq!(status, 200, "{answer}");
        answer
    }

    /// Waits until the transaction has this status.
    pub async fn until(&self, xid: &str, status: &str) -> Value {
        let began = Instant::now();
        loop {
            let transaction = self.transaction(xid).await;
            if transaction["status"] == status {
                return transaction;
            }
            assert!(began.elapsed() < SOON, "{xid} does not become {status}: {transaction}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub async fn locks(&self) -> usize {
        self.get("/v1/locks").await.1["locks"].as_array().unwrap().len()
    }

    /// Waits until so many registrations wait for locks.
    pub async fn until_waiting(&self, count: usize) {
        let began = Instant::now();
        let line = format!("atone_lock_waiters {count}");
        while !self.send("GET", "/metrics", None).await.2.lines().any(|seen| seen == line) {
            assert!(began.elapsed() < SOON, "there are never {count} waiters");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn launch(directory: &tempfile::TempDir, extra: &str, rpc: &str, http: &str) -> (Child, String, String) {
    let config = directory.path().join("coordinator.toml");
    let data = directory.path().join("data");
    let text = format!(
        "[listen]\nrpc = {rpc:?}\nhttp = {http:?}\n[store]\nkind = \"embedded\"\npath = {data:?}\n{extra}"
    );
    std::fs::write(&config, text).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_atone-coordinator"))
        .arg("--config")
        .arg(&config)
        .env("RUST_LOG", "info")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut seen = String::new();
    let listening = loop {
        let Some(Ok(line)) = lines.next() else { panic!("the coordinator did not start:\n{seen}") };
        if let Some((_, addresses)) = line.split_once("listening ") {
            break addresses.to_owned();
        }
        seen.push_str(&line);
        seen.push('\n');
    };
    // Its logs are read to the end, so that it never waits for a reader.
    std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| eprintln!("{line}")));
    let (rpc, http) = listening.split_once(' ').unwrap();
    let address = |text: &str, name: &str| text.strip_prefix(name).unwrap().to_owned();
    (child, address(rpc, "rpc="), address(http, "http="))
}

/// What a proxy is to the coordinator.
pub struct Proxy {
    pub client: Client,
    pub work: mpsc::Receiver<Work>,
}

impl Proxy {
    /// Waits until the stream works, after the coordinator's restart too: the client may not know yet that the old one
    /// is broken.
    pub async fn connected(self) -> Self {
        let began = Instant::now();
        while let Err(error) = self.client.flush().await {
            assert!(began.elapsed() < SOON, "{error}");
        }
        self
    }

    pub async fn register(&self, xid: &str, resource: &str, keys: &[&str]) -> Result<u64, ClientError> {
        self.client.register(request(xid, resource, keys, 20_000)).await
    }

    /// Registers a branch and reports that it committed locally.
    pub async fn branch(&self, xid: &str, resource: &str, keys: &[&str]) -> u64 {
        let branch = self.register(xid, resource, keys).await.unwrap();
        self.client.report(xid, branch, BranchOutcome::Committed);
        branch
    }

    /// The next piece of work that is not a purge; purges are done.
    pub async fn next_work(&mut self) -> Work {
        loop {
            let work = tokio::time::timeout(SOON, self.work.recv()).await.expect("no work came").unwrap();
            if work.kind() != WorkKind::Purge {
                return work;
            }
            self.answer(&work, WorkOutcome::Done, "");
        }
    }

    pub async fn next_of(&mut self, kind: WorkKind) -> Work {
        let work = tokio::time::timeout(SOON, self.work.recv()).await.expect("no work came").unwrap();
        assert_eq!(work.kind(), kind, "{work:?}");
        work
    }

    pub fn answer(&self, work: &Work, outcome: WorkOutcome, detail: &str) {
        let result = WorkResult { work_id: work.work_id, outcome: outcome.into(), detail: detail.to_owned() };
        self.client.work_result(result);
    }
}

pub fn request(xid: &str, resource: &str, keys: &[&str], wait_timeout_ms: u64) -> Register {
    let keys = keys.iter().map(|key| (*key).to_owned()).collect();
    Register {
        xid: xid.to_owned(),
        resource: resource.to_owned(),
        schema: "shop".to_owned(),
        locks: vec![TableLocks { table: "shop.account".to_owned(), keys }],
        wait_timeout_ms,
    }
}

/// The code of a refusal.
pub fn refused<T: std::fmt::Debug>(result: Result<T, ClientError>) -> proto::ErrorCode {
    match result {
        Err(ClientError::Refused(error)) => error.code(),
        other => panic!("not refused: {other:?}"),
    }
}
