//! Arguments, configuration, signals, and a store that can't be read.

use std::process::{Command, Output};
use std::time::{Duration, Instant};

use crate::support::Coordinator;

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_atone-coordinator")).args(arguments).output().unwrap()
}

#[test]
fn help_and_version() {
    let help = run(&["--help"]);
    assert!(help.status.success());
    let text = String::from_utf8(help.stdout).unwrap();
    assert!(text.contains("--config") && text.contains("--log-format"), "{text}");
    let version = run(&["--version"]);
    assert_eq!(
        String::from_utf8(version.stdout).unwrap(),
        format!("atone-coordinator {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn a_bad_config_is_refused_in_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("coordinator.toml");
    let check = |text: &str, key: &str, reason: &str| {
        std::fs::write(&file, text).unwrap();
        let output = run(&["--config", file.to_str().unwrap()]);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        for part in ["coordinator.toml", key, reason] {
            assert!(stderr.contains(part), "{stderr} lacks {part}");
        }
    };
    check("[listen]\nrpc = 1\n", "listen.rpc", "string");
    check("[store]\nknid = 'embedded'\n", "store.knid", "not known");
    check("[transaction]\ndefault_timeout = 'x'\n", "transaction.default_timeout", "duration");
    check("[[[", "line 1", "");
    let output = run(&["--config", "/nowhere/coordinator.toml"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("/nowhere/coordinator.toml: cannot be read"));
    assert_eq!(run(&["--confg", "x"]).status.code(), Some(2));
}

#[tokio::test]
async fn sigterm_ends_in_order_and_soon() {
    let mut coordinator = Coordinator::start("[transaction]\nbranch_report_timeout = \"1h\"\n");
    let proxy = coordinator.proxy(&["bank1"]).connected().await;
    let xid = coordinator.begin().await;
    proxy.register(&xid, "bank1", &["1"]).await.unwrap();
    // Neither an open stream nor a request that waits keeps it.
    let commit = tokio::spawn({
        let (client, xid) = (proxy.client.clone(), xid.clone());
        async move { client.commit(&xid).await }
    });
    let rest = tokio::spawn({
        let url = format!("http://{}/v1/transactions/{xid}/commit", coordinator.http);
        async move { reqwest::Client::new().post(url).send().await.unwrap().status().as_u16() }
    });
    coordinator.until(&xid, "committing").await;
    let began = Instant::now();
    let status = coordinator.terminate();
    assert_eq!(status.code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(matches!(commit.await.unwrap(), Err(atone_api::ClientError::Unavailable(_))));
    assert_eq!(rest.await.unwrap(), 503);
    coordinator.restart();
    assert_eq!(coordinator.transaction(&xid).await["status"], "active");
}

#[tokio::test]
async fn a_damaged_store_is_refused_with_a_reason() {
    let mut coordinator = Coordinator::start("");
    coordinator.begin().await;
    assert!(coordinator.terminate().success());
    std::fs::write(coordinator.data().join("coordinator.redb"), b"no store").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("c.toml");
    let data = coordinator.data();
    std::fs::write(
        &config,
        format!("[listen]\nrpc='127.0.0.1:0'\nhttp='127.0.0.1:0'\n[store]\npath={data:?}\n"),
    )
    .unwrap();
    let output = run(&["--config", config.to_str().unwrap()]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("the store is damaged"), "{stderr}");
}
