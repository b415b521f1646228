//! Runs a driver's program directly and through the proxy, and compares what it prints.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use atone_tests::server::APP;
use atone_tests::{Bank, Flavor, cli, paths, sql};

use crate::compare::{self, Known};
use crate::list::{Driver, FullLogin, Program};
use crate::setup::{OTHER, Setup};

/// A way to run a program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    pub(crate) name: &'static str,
    pub(crate) tls: bool,
    pub(crate) compress: bool,
    /// Between START GLOBAL TRANSACTION and this end.
    pub(crate) bound: Option<End>,
}

/// How a global transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Commit,
    Rollback,
}

/// In the order in which they run.
pub(crate) const WAYS: [Way; 5] = [
    Way { name: "plain", tls: false, compress: false, bound: None },
    Way { name: "tls", tls: true, compress: false, bound: None },
    Way { name: "compressed", tls: true, compress: true, bound: None },
    Way { name: "committed", tls: false, compress: false, bound: Some(End::Commit) },
    Way { name: "rolled-back", tls: true, compress: false, bound: Some(End::Rollback) },
];

/// A bound run makes at least so many branches; fewer would mean that it was not bound.
const FEWEST_BRANCHES: usize = 8;

/// Runs the driver in every way.
pub(crate) async fn check(setup: Arc<Setup>, driver: &'static Driver) -> Result<()> {
    let only = std::env::var("ATONE_DRIVERS_WAY").ok();
    for way in WAYS.iter().filter(|way| driver.compression || !way.compress) {
        if only.as_deref().is_none_or(|only| only == way.name) {
            check_way(&setup, driver, way).await.with_context(|| format!("{}, {}", driver.name, way.name))?;
        }
    }
    Ok(())
}

async fn check_way(setup: &Setup, driver: &Driver, way: &Way) -> Result<()> {
    let flavor = setup.cluster.flavor();
    let schema = setup.cluster.schema("drivers").await?;
    if flavor == Flavor::MySql {
        setup.forget_passwords().await?;
        if driver.full_login == FullLogin::Refused && !way.tls {
            for bank in [Bank::One, Bank::Two] {
                drop(setup.cluster.server(bank).connect(APP, None).await?);
                drop(setup.cluster.server(bank).connect(OTHER, None).await?);
            }
        }
    }
    let mut before = Vec::new();
    if way.bound.is_some() {
        let statements = std::fs::read_to_string(sources().join("sql/bound.sql"))?;
        for bank in [Bank::One, Bank::Two] {
            let mut conn = setup.cluster.direct(bank, &schema).await?;
            for statement in statements.split(";\n") {
                sql::run(&mut conn, statement).await?;
            }
        }
        before = setup.dump(Bank::One, &schema).await?;
    }
    let name = format!("{}-{}", driver.id, way.name);
    let begin = format!("START GLOBAL TRANSACTION NAME '{name}'");
    let end = match way.bound {
        Some(End::Commit) => "COMMIT GLOBAL TRANSACTION",
        Some(End::Rollback) => "ROLLBACK GLOBAL TRANSACTION",
        None => "",
    };
    let accepted = setup.accepted().await?;
    let straight_port = setup.cluster.server(Bank::Two).port();
    let (straight, through) = tokio::join!(
        start(setup, driver, way, &schema, straight_port, ("", "")),
        start(setup, driver, way, &schema, setup.proxy_port(way.tls), (&begin, end)),
    );
    save(&format!("{flavor}-{name}-straight.txt"), &straight);
    save(&format!("{flavor}-{name}-through.txt"), &through);
    let straight = finished(straight).context("the program fails at the server itself")?;
    compare::same(&straight, through, &Known { flavor, driver: driver.id, way: way.name })?;
    ensure!(setup.accepted().await? > accepted, "no connection came through the proxy");
    compare::sections(&straight, if way.bound.is_some() { "bound" } else { driver.sections })?;
    if let Some(end) = way.bound {
        let status = if end == End::Commit { "committed" } else { "rolled_back" };
        let ended = setup.ended(&name, status).await?;
        let branches = ended["branches"].as_array().map_or(0, Vec::len);
        ensure!(branches >= FEWEST_BRANCHES, "only {branches} branches: {ended}");
        let expected = match end {
            End::Commit => setup.dump(Bank::Two, &schema).await?,
            End::Rollback => before,
        };
        let found = setup.dump(Bank::One, &schema).await?;
        compare::lines(&expected, &found, &|_| None).context("the tables after the end")?;
    }
    Ok(())
}

/// The output of a program that ended well.
fn finished(output: Result<cli::Output>) -> Result<String> {
    let output = output?;
    if output.code != 0 || !output.stdout.ends_with("== end\n") {
        bail!("exit status {}, the output ends with\n{}", output.code, compare::tail(&output));
    }
    Ok(output.stdout)
}

/// Keeps the output where whoever runs the tests asks for it.
fn save(name: &str, output: &Result<cli::Output>) {
    if let (Some(dir), Ok(output)) = (std::env::var_os("ATONE_DRIVERS_OUTPUT"), output) {
        let text = format!("{}{}", output.stdout, output.stderr);
        if let Err(error) = std::fs::write(Path::new(&dir).join(name), text) {
            eprintln!("can't write {name}: {error}");
        }
    }
}

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("drivers")
}

/// Java, and the arguments with which it runs this class of tests/drivers/java.
pub(crate) fn java(class: &str) -> Result<(PathBuf, Vec<String>)> {
    let java = paths::on_path("java").context("there is no java: run scripts/install-drivers")?;
    let own = paths::cache_dir().join("drivers/java");
    let path = format!("{}:{}/*", own.join("classes").display(), own.join("lib").display());
    // A short run: one compiler, one collector.
    let options =
        ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Dfile.encoding=UTF-8", "-cp", &path, class];
    Ok((java, options.map(str::to_owned).to_vec()))
}

/// The program file and its first arguments.
fn command(program: Program) -> Result<(PathBuf, Vec<String>)> {
    let installed = paths::cache_dir().join("drivers");
    let source = |folder: &str, name: &str| vec![sources().join(folder).join(name).display().to_string()];
    let (file, args) = match program {
        Program::Python([name, rest @ ..]) => {
            let mut args = source("python", name);
            args.extend(rest.iter().map(|&arg| arg.to_owned()));
            (installed.join("python/bin/python"), args)
        }
        Program::Python([]) => bail!("no program"),
        Program::Go => (installed.join("go/bin/driver"), Vec::new()),
        Program::Java(name) => {
            let (java, mut args) = java("Jdbc")?;
            args.push(name.to_owned());
            (java, args)
        }
        Program::Client(flavor) => {
            let bash = paths::on_path("bash").context("there is no bash")?;
            let mut args = source("cli", "client.sh");
            args.push(if flavor == Flavor::MySql { "mysql" } else { "mariadb" }.to_owned());
            for name in ["mysql", "mysqldump"] {
                args.push(flavor.client_program(name)?.display().to_string());
            }
            (bash, args)
        }
        Program::Rust(name) => (installed.join("rust/debug").join(name), Vec::new()),
        Program::Php(name) => {
            let php = paths::on_path("php").context("there is no php: run scripts/install-drivers")?;
            let mut args = vec!["-d".to_owned(), "mysqli.allow_local_infile=1".to_owned()];
            args.extend(source("php", name));
            (php, args)
        }
        Program::Node(name) => {
            let node = paths::on_path("node").context("there is no node: run scripts/install-drivers")?;
            (node, source("node", name))
        }
    };
    if !file.is_file() {
        bail!("{} is missing: run scripts/install-drivers, or leave drivers out by {SKIP}=1", file.display());
    }
    Ok((file, args))
}

/// The environment variable that leaves the drivers out.
pub(crate) const SKIP: &str = "ATONE_SKIP_DRIVERS";

async fn start(
    setup: &Setup,
    driver: &Driver,
    way: &Way,
    schema: &str,
    port: u16,
    (begin, end): (&str, &str),
) -> Result<cli::Output> {
    let (file, args) = command(driver.program)?;
    let folder = paths::fresh_dir("driver-")?;
    let (port, ca) = (port.to_string(), setup.certificates.file("ca.pem").display().to_string());
    let (shared, own) = (sources().join("sql").display().to_string(), folder.path().display().to_string());
    let modules = paths::cache_dir().join("drivers/node/node_modules").display().to_string();
    let env = [
        ("DRIVER_HOST", "127.0.0.1"),
        ("DRIVER_PORT", &port),
        ("DRIVER_USER", APP.0),
        ("DRIVER_PASSWORD", APP.1),
        ("DRIVER_OTHER_USER", OTHER.0),
        ("DRIVER_OTHER_PASSWORD", OTHER.1),
        ("DRIVER_SCHEMA", schema),
        ("DRIVER_CA", if way.tls { &ca } else { "" }),
        ("DRIVER_COMPRESS", if way.compress { "1" } else { "0" }),
        ("DRIVER_MODE", if way.bound.is_some() { "bound" } else { "unbound" }),
        ("DRIVER_BEGIN", begin),
        ("DRIVER_END", end),
        ("DRIVER_SQL", &shared),
        ("DRIVER_TMP", &own),
        // What the programs print must not depend on who runs them, nor their folder be written to.
        ("LC_ALL", "C.UTF-8"),
        ("TZ", "UTC"),
        ("PYTHONDONTWRITEBYTECODE", "1"),
        ("PYTHONUNBUFFERED", "1"),
        ("NODE_PATH", &modules),
    ];
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut output = cli::run(&file, &args, &env, &[]).await?;
    output.stdout = output.stdout.replace(&own, "FOLDER");
    Ok(output)
}
