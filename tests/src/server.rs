//! Database servers in private folders.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, OptsBuilder};

use crate::flavor::{Flavor, companion, version_of};
use crate::paths;
use crate::ports::free_port;
use crate::process::Process;

/// How long a server may take to start, to recover or to shut down.
const START_LIMIT: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(20);

/// The application's account.
pub const APP: (&str, &str) = ("app", "app-pw");
/// The proxy's service account, with just the rights that it needs.
pub const SERVICE: (&str, &str) = ("atone", "secret");
/// All rights, from anywhere, for what applications may not do.
pub const ADMIN: (&str, &str) = ("admin", "admin-pw");
/// An account without a password, for packets written by hand.
pub const RAW: &str = "raw";

/// Raised when what is in a template changes, so that cached ones are made anew.
const TEMPLATE_VERSION: u32 = 2;

/// A running server. Killed, and its folder removed, when dropped.
#[derive(Debug)]
pub struct Server {
    flavor: Flavor,
    program: PathBuf,
    dir: tempfile::TempDir,
    port: u16,
    options: Vec<String>,
    process: Option<Process>,
}

impl Server {
    /// A MariaDB server.
    pub async fn mariadb() -> Result<Self> {
        Self::start(Flavor::MariaDb).await
    }

    /// A MySQL server.
    pub async fn mysql() -> Result<Self> {
        Self::start(Flavor::MySql).await
    }

    /// A server of this flavor, with the accounts of this module.
    pub async fn start(flavor: Flavor) -> Result<Self> {
        Self::start_with(flavor, &flavor.server_program()?, &[]).await
    }

    /// A server run by `program` with more options, such as `--sql-mode=ANSI`.
    pub async fn start_with(flavor: Flavor, program: &Path, options: &[&str]) -> Result<Self> {
        let dir = paths::fresh_dir("server-")?;
        // MySQL's data are made for one way to store names
        let names =
            options.iter().find(|o| flavor == Flavor::MySql && o.starts_with("--lower-case-table-names"));
        copy_template(&template(flavor, program, names.copied()).await?, &dir.path().join("data"))?;
        let mut server = Self {
            flavor,
            program: program.to_owned(),
            dir,
            port: free_port()?,
            options: options.iter().map(|&o| o.to_owned()).collect(),
            process: None,
        };
        server.restart().await?;
        Ok(server)
    }

    /// The kind of server.
    pub fn flavor(&self) -> Flavor {
        self.flavor
    }

    /// The process id, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// The TCP port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The path of the Unix socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("s")
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    /// The last lines of the server's log.
    pub fn log_tail(&self, lines: usize) -> String {
        crate::process::tail(&format!("{} on {}", self.flavor, self.port), &self.log_path(), lines)
    }

    /// Starts it where it does not run, on the same port and data, and waits until it answers.
    pub async fn restart(&mut self) -> Result<()> {
        self.kill9()?;
        let mut args = server_args(self.flavor, &self.dir.path().join("data"), &self.socket());
        args.push(format!("--port={}", self.port).into());
        args.push("--bind-address=127.0.0.1".into());
        args.extend(self.options.iter().map(OsString::from));
        let name = format!("{} on {}", self.flavor, self.port);
        let mut process = Process::spawn(&name, &self.program, &args, &[], &self.log_path())?;
        wait_until_ready(&mut process, &self.socket(), ADMIN).await?;
        self.process = Some(process);
        Ok(())
    }

    /// SIGKILL; returns when it is gone. Nothing happens where it does not run.
    pub fn kill9(&mut self) -> Result<()> {
        match self.process.take() {
            Some(mut process) => process.kill9(),
            None => Ok(()),
        }
    }

    /// An orderly shutdown.
    pub async fn stop(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.terminate(START_LIMIT).await?;
        }
        Ok(())
    }

    /// SIGSTOP: it holds its connections, but answers nothing until [`Server::resume`].
    pub fn pause(&self) -> Result<()> {
        self.process.as_ref().context("the server does not run")?.pause()
    }

    /// SIGCONT.
    pub fn resume(&self) -> Result<()> {
        self.process.as_ref().context("the server does not run")?.resume()
    }

    /// A connection of this account straight to the server, not through a proxy.
    pub async fn connect(&self, account: (&str, &str), schema: Option<&str>) -> Result<Conn> {
        crate::sql::connect(self.port, account, schema).await
    }

    /// An administrator's connection straight to the server.
    pub async fn admin(&self) -> Result<Conn> {
        self.connect(ADMIN, None).await
    }
}

fn server_args(flavor: Flavor, data: &Path, socket: &Path) -> Vec<OsString> {
    let mut args: Vec<OsString> = vec!["--no-defaults".into()];
    args.push(option("--datadir", data));
    args.push(option("--socket", socket));
    args.push(option("--tmpdir", data));
    args.push(option("--pid-file", &data.join("pid")));
    for fixed in [
        "--skip-log-bin",
        "--skip-name-resolve",
        "--performance-schema=OFF",
        "--innodb-buffer-pool-size=96M",
        "--max-connections=400",
        "--character-set-server=utf8mb4",
        "--local-infile=ON",
        "--secure-file-priv=",
    ] {
        args.push(fixed.into());
    }
    args.extend(
        match flavor {
            Flavor::MariaDb => ["--innodb-log-file-size=16M", "--plugin-maturity=stable"],
            Flavor::MySql => ["--innodb-redo-log-capacity=16M", "--mysqlx=OFF"],
        }
        .map(OsString::from),
    );
    if rustix::process::geteuid().is_root() {
        args.push("--user=root".into());
    }
    args
}

fn option(name: &str, path: &Path) -> OsString {
    let mut text = OsString::from(name);
    text.push("=");
    text.push(path);
    text
}

async fn wait_until_ready(process: &mut Process, socket: &Path, account: (&str, &str)) -> Result<()> {
    let deadline = std::time::Instant::now() + START_LIMIT;
    loop {
        process.check_running()?;
        let opts = OptsBuilder::default()
            .user(Some(account.0))
            .pass(Some(account.1))
            .socket(Some(socket.to_string_lossy().into_owned()));
        let error = match Conn::new(opts).await {
            Ok(conn) => return Ok(conn.disconnect().await?),
            Err(error) => error,
        };
        if std::time::Instant::now() >= deadline {
            bail!("the server did not answer in {START_LIMIT:?}: {error}\n{}", process.log_tail(60));
        }
        tokio::time::sleep(POLL).await;
    }
}

/// The data folder that servers of this program start from, made once and kept in the cache.
async fn template(flavor: Flavor, program: &Path, option: Option<&str>) -> Result<PathBuf> {
    let version = version_of(program)?;
    // Which build made it: data of a later server can't be read by an earlier one.
    let digest = version
        .bytes()
        .chain(program.to_string_lossy().bytes())
        .chain(option.unwrap_or_default().bytes())
        .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3));
    let name = format!(
        "{}-v{TEMPLATE_VERSION}-{digest:016x}",
        if flavor == Flavor::MariaDb { "mariadb" } else { "mysql" }
    );
    let templates = paths::cache_dir().join("templates");
    fs::create_dir_all(&templates).with_context(|| format!("can't make {}", templates.display()))?;
    let dir = templates.join(&name);
    let lock_file = File::create(templates.join(format!("{name}.lock")))?;
    let dir = tokio::task::spawn_blocking(move || lock_file.lock().map(|()| (lock_file, dir))).await??;
    let (_lock, dir) = dir;
    if !dir.is_dir() {
        let building = paths::fresh_dir("template-")?;
        build_template(flavor, program, option, building.path())
            .await
            .context("can't prepare the server's data")?;
        // Only what is complete gets the name; the cache may be on another file system than the temporary folder.
        let partial = templates.join(format!("{name}.partial"));
        if partial.exists() {
            fs::remove_dir_all(&partial)?;
        }
        copy_template(&building.path().join("data"), &partial)?;
        fs::rename(&partial, &dir)?;
    }
    Ok(dir)
}

async fn build_template(flavor: Flavor, program: &Path, made_for: Option<&str>, dir: &Path) -> Result<()> {
    let data = dir.join("data");
    let socket = dir.join("s");
    let log = dir.join("log");
    let as_root = rustix::process::geteuid().is_root();
    let mut initialize = match flavor {
        Flavor::MariaDb => {
            let installer = companion(program, "mariadb-install-db");
            let mut command = Command::new(installer.unwrap_or_else(|| "mariadb-install-db".into()));
            command.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]);
            command.args(["--skip-name-resolve", "--innodb-log-file-size=16M"]);
            command
        }
        Flavor::MySql => {
            let mut command = Command::new(program);
            command.args(["--no-defaults", "--initialize-insecure", "--innodb-redo-log-capacity=16M"]);
            command.args(["--character-set-server=utf8mb4"]);
            command
        }
    };
    initialize.args(made_for);
    initialize.arg(option("--datadir", &data));
    if as_root {
        initialize.arg("--user=root");
    }
    let output = initialize.output().with_context(|| format!("can't run {:?}", initialize.get_program()))?;
    if !output.status.success() {
        bail!(
            "{:?} failed: {}\n{}{}",
            initialize.get_program(),
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let mut args = server_args(flavor, &data, &socket);
    args.extend(made_for.map(OsString::from));
    args.push("--skip-networking".into());
    let mut process = Process::spawn("template server", program, &args, &[], &log)?;
    wait_until_ready(&mut process, &socket, ("root", "")).await?;
    let opts = OptsBuilder::default().user(Some("root")).socket(Some(socket.to_string_lossy().into_owned()));
    let mut conn = Conn::new(opts).await?;
    for statement in accounts(flavor) {
        conn.query_drop(&statement).await.with_context(|| statement.clone())?;
    }
    conn.disconnect().await?;
    let status = process.terminate(START_LIMIT).await?;
    if !status.success() {
        bail!("the template server did not shut down well: {status}\n{}", process.log_tail(60));
    }
    Ok(())
}

/// What the proxy's service account may do: the rights that docs/operations.md lists.
pub const SERVICE_RIGHTS: &str = "SELECT, INSERT, UPDATE, DELETE, CREATE, SHOW VIEW, TRIGGER";

fn accounts(flavor: Flavor) -> Vec<String> {
    // Each flavor's usual way to log in: mysql_native_password on MariaDB, caching_sha2_password on MySQL.
    let identified = |password: &str| match flavor {
        Flavor::MariaDb => format!("IDENTIFIED VIA mysql_native_password USING PASSWORD('{password}')"),
        Flavor::MySql => format!("IDENTIFIED WITH caching_sha2_password BY '{password}'"),
    };
    let app_rights = "SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, ALTER, INDEX, REFERENCES, TRIGGER, CREATE VIEW, \
                      SHOW VIEW, CREATE ROUTINE, ALTER ROUTINE, EXECUTE, LOCK TABLES, EVENT, CREATE TEMPORARY TABLES";
    vec![
        format!("CREATE USER '{}'@'%' {}", ADMIN.0, identified(ADMIN.1)),
        format!("GRANT ALL ON *.* TO '{}'@'%' WITH GRANT OPTION", ADMIN.0),
        format!("CREATE USER '{}'@'%' {}", APP.0, identified(APP.1)),
        format!("GRANT {app_rights} ON *.* TO '{}'@'%'", APP.0),
        format!("CREATE USER '{}'@'%' {}", SERVICE.0, identified(SERVICE.1)),
        format!("GRANT {SERVICE_RIGHTS} ON *.* TO '{}'@'%'", SERVICE.0),
        format!("CREATE USER '{RAW}'@'%' IDENTIFIED BY ''"),
        format!("GRANT {app_rights} ON *.* TO '{RAW}'@'%'"),
    ]
}

/// Copies a folder with all that is in it.
fn copy_template(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("can't make {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("can't read {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy_template(&entry.path(), &target)?;
        } else if kind.is_file() {
            fs::copy(entry.path(), &target)
                .with_context(|| format!("can't copy {}", entry.path().display()))?;
        }
    }
    Ok(())
}
