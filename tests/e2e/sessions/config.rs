//! Broken config files and command lines: one line that names file, key and reason; exit status 2.

use anyhow::{Context as _, Result, bail};
use atone_tests::daemon::Daemon;
use atone_tests::{cli, paths, run, wait};

const COORDINATOR: &str = "[listen]\nrpc = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:0\"\n[store]\nkind = \"embedded\"\n\
                           path = \"DIR/data\"\n[transaction]\ndefault_timeout = \"60s\"\n";
const PROXY: &str = "coordinator = [\"http://127.0.0.1:1\"]\nhttp = \"127.0.0.1:0\"\n[[backend]]\nname = \"bank1\"\n\
                     listen = \"127.0.0.1:0\"\naddress = \"127.0.0.1:1\"\nuser = \"atone\"\npassword = \"secret\"\n";

/// Starts the daemon with this config and expects it to refuse, naming `key`.
async fn refused(binary: &str, config: &str, key: &str) -> Result<()> {
    let dir = paths::fresh_dir("config-")?;
    let file = dir.path().join("the-config.toml");
    std::fs::write(&file, config.replace("DIR", &dir.path().to_string_lossy()))?;
    expect_refusal(binary, &file.to_string_lossy(), key)
        .await
        .with_context(|| format!("{binary} with\n{config}"))
}

/// All that went wrong at once, to be read in one go.
fn expect_all_refused(failures: &[anyhow::Error]) -> Result<()> {
    if !failures.is_empty() {
        bail!("{}", failures.iter().map(|error| format!("{error:#}\n")).collect::<String>());
    }
    Ok(())
}

async fn expect_refusal(binary: &str, file: &str, key: &str) -> Result<()> {
    let program = paths::binary(binary)?;
    let arguments = ["--config", file];
    let running = cli::run(&program, &arguments, &[("RUST_BACKTRACE", "0")], &[]);
    let limit = std::time::Duration::from_secs(10);
    let output =
        tokio::time::timeout(limit, running).await.context("it was not refused: the daemon runs")??;
    let lines: Vec<&str> = output.stderr.lines().collect();
    let [line] = lines.as_slice() else { bail!("not one line on stderr: {output:?}") };
    if output.code != 2 || !line.contains(file) || !line.contains(key) {
        bail!("exit status {} and `{line}`, expected 2 and a line that names {file} and {key}", output.code);
    }
    Ok(())
}

#[allow(clippy::panic, reason = "a test fails by a panic")]
fn test(future: impl Future<Output = Result<()>>) {
    if let Err(error) = run::block_on(future) {
        panic!("{error:#}");
    }
}

#[test]
fn coordinator() {
    test(async {
        let mut failures = Vec::new();
        for (config, key) in [
            (COORDINATOR.replace("[transaction]", "[transaction]\nnonsense = 1"), "nonsense"),
            (COORDINATOR.replace("default_timeout", "defualt_timeout"), "defualt_timeout"),
            (COORDINATOR.replace("\"60s\"", "\"soon\""), "default_timeout"),
            (COORDINATOR.replace("\"60s\"", "60"), "default_timeout"),
            (COORDINATOR.replace("\"60s\"", "\"0s\""), "default_timeout"),
            (COORDINATOR.replace("rpc = \"127.0.0.1:0\"", "rpc = \"no address\""), "rpc"),
            (COORDINATOR.replace("http = \"127.0.0.1:0\"", "http = 7092"), "http"),
            (COORDINATOR.replace("\"embedded\"", "\"paper\""), "kind"),
            (COORDINATOR.replace("[store]", "[sotre]"), "sotre"),
            (COORDINATOR.replace("[listen]", "[listen"), "line 1"),
        ] {
            failures.extend(refused("atone-coordinator", &config, key).await.err());
        }
        expect_all_refused(&failures)?;
        expect_refusal("atone-coordinator", "/nonexistent/coordinator.toml", "No such file").await
    });
}

#[test]
fn proxy() {
    test(async {
        let mut failures = Vec::new();
        let second =
            PROXY.split_once("[[backend]]").map(|(_, b)| format!("[[backend]]{b}")).unwrap_or_default();
        for (config, key) in [
            (PROXY.replace("user = ", "usr = "), "us"),
            (PROXY.replace("password = \"secret\"", "nonsense = 1\npassword = \"secret\""), "nonsense"),
            (PROXY.replace("[\"http://127.0.0.1:1\"]", "[]"), "coordinator"),
            (PROXY.replace("\"http://127.0.0.1:1\"", "\"not a url\""), "coordinator"),
            (PROXY.replace("[\"http://127.0.0.1:1\"]", "5"), "coordinator"),
            (PROXY.replace("http = \"127.0.0.1:0\"", "http = \"x\""), "http"),
            (PROXY.replace("listen = \"127.0.0.1:0\"", "listen = \"here\""), "listen"),
            (PROXY.replace("address = \"127.0.0.1:1\"", "address = \"127.0.0.1\""), "address"),
            (PROXY.replace("name = \"bank1\"", "name = \"\""), "name"),
            (PROXY.replace("password = \"secret\"\n", ""), "password"),
            (PROXY.replace("password = \"secret\"", "password_file = \"/nonexistent/pw\""), "password_file"),
            (
                PROXY.replace("password = \"secret\"", "password_env = \"ATONE_NO_SUCH_VARIABLE\""),
                "password_env",
            ),
            (PROXY.replace("password = \"secret\"", "password = \"a\"\npassword_env = \"HOME\""), "password"),
            (format!("{PROXY}{second}"), "name"),
            (PROXY.split("[[backend]]").next().unwrap_or_default().to_owned(), "backend"),
            (PROXY.replace("[[backend]]", "[[backend"), "line"),
            (PROXY.replace("http = \"127.0.0.1:0\"\n", ""), ": http: "),
            (PROXY.replace("coordinator = [\"http://127.0.0.1:1\"]\n", ""), ": coordinator: "),
            (format!("{PROXY}[timeouts]\nconnect_timeout = 5000\n"), "timeouts.connect_timeout"),
            (format!("{PROXY}[timeouts]\nconnect_timeout = \"soon\"\n"), "timeouts.connect_timeout"),
            (format!("{PROXY}[limits]\nmax_memory = \"512 parsec\"\n"), "limits.max_memory"),
            (
                format!("{PROXY}[limits]\nidle_timeout_ms = 5\n[timeouts]\nidle_timeout = \"5ms\"\n"),
                "limits.idle_timeout_ms",
            ),
        ] {
            failures.extend(refused("atone-proxy", &config, key).await.err());
        }
        expect_all_refused(&failures)?;
        expect_refusal("atone-proxy", "/nonexistent/proxy.toml", "No such file").await
    });
}

#[test]
fn keys_that_were_renamed() {
    test(async {
        let dir = paths::fresh_dir("config-")?;
        let config = format!("{PROXY}[limits]\nconnect_timeout_ms = 3000\ntcp_keepalive_s = 60\n");
        let mut proxy = Daemon::prepare("atone-proxy", dir.path(), &config, 0)?;
        proxy.launch()?;
        let started = || async { Ok(proxy.log().contains("listening ").then_some(())) };
        wait::until("the proxy listens", std::time::Duration::from_secs(10), started).await?;
        for part in [
            "limits.connect_timeout_ms: this key is deprecated: write timeouts.connect_timeout = \"3s\"",
            "limits.tcp_keepalive_s: this key is deprecated: write timeouts.tcp_keepalive = \"1m\"",
        ] {
            let log = proxy.log();
            assert_eq!(log.lines().filter(|l| l.contains("WARN") && l.contains(part)).count(), 1, "{log}");
        }
        Ok(())
    });
}

#[test]
fn command_lines() {
    test(async {
        for binary in ["atone-coordinator", "atone-proxy", "atone"] {
            let program = paths::binary(binary)?;
            let help = cli::run(&program, &["--help"], &[], &[]).await?.success()?;
            assert!(help.contains("Usage"), "{help}");
            let version = cli::run(&program, &["--version"], &[], &[]).await?.success()?;
            assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
            let bad = cli::run(&program, &["--nonsense"], &[], &[]).await?;
            assert_eq!(bad.code, 2, "{bad:?}");
        }
        Ok(())
    });
}

#[test]
fn a_port_in_use() {
    test(async {
        let taken = std::net::TcpListener::bind(("127.0.0.1", 0))?;
        let port = taken.local_addr()?.port();
        let dir = paths::fresh_dir("config-")?;
        let file = dir.path().join("c.toml");
        let config = COORDINATOR.replace("DIR", &dir.path().to_string_lossy());
        std::fs::write(
            &file,
            config.replace("http = \"127.0.0.1:0\"", &format!("http = \"127.0.0.1:{port}\"")),
        )?;
        let output =
            cli::run(&paths::binary("atone-coordinator")?, &["--config", &file.to_string_lossy()], &[], &[])
                .await?;
        assert_ne!(output.code, 0, "{output:?}");
        assert!(output.stderr.contains(&port.to_string()), "{output:?}");
        Ok(())
    });
}
