//! Usage, exit statuses, and the REST commands against a coordinator that answers from a script.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;

use atone_tests::cli::{self, Output};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

async fn atone(args: &[&str]) -> Output {
    cli::run(Path::new(env!("CARGO_BIN_EXE_atone")), args, &[("NO_COLOR", "1")], b"").await.unwrap()
}

#[tokio::test]
async fn usage() {
    assert_eq!(atone(&["--help"]).await.code, 0);
    let version = atone(&["--version"]).await;
    assert_eq!(
        (version.code, version.stdout.as_str()),
        (0, concat!("atone ", env!("CARGO_PKG_VERSION"), "\n"))
    );
    for bad in [
        &[][..],
        &["tx"],
        &["tx", "show"],
        &["tx", "ls", "--limit", "0"],
        &["undo", "ls"],
        &["undo", "show", "x:1", "one", "--dsn", "mysql://h/"],
        &["undo", "ls", "--dsn", "mysql://h/", "--config", "x"],
        &["undo", "ls", "--dsn", "postgres://h/"],
        &["undo", "ls", "--config", "/nonexistent/proxy.toml"],
        &["tx", "ls", "--coordinator", "nonsense"],
        &["tx", "show", ".."],
    ] {
        let output = atone(bad).await;
        assert_eq!(output.code, 2, "{bad:?}: {output:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{bad:?}: {output:?}");
    }
}

/// Answers one request after the other and returns their request lines.
async fn script(answers: Vec<(u16, String)>) -> (String, tokio::task::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let task = tokio::spawn(async move {
        let mut lines = Vec::new();
        for (status, body) in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.windows(4).any(|w| w == b"\r\n\r\n") {
                let mut buffer = [0; 1024];
                let n = stream.read(&mut buffer).await.unwrap();
                assert_ne!(n, 0, "the request ends early");
                request.extend_from_slice(&buffer[..n]);
            }
            lines.push(String::from_utf8_lossy(&request).lines().next().unwrap().to_owned());
            let answer = format!(
                "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
        lines
    });
    (url, task)
}

#[tokio::test]
async fn lists_follow_their_pages() {
    let page = |from: u32, next: &str| {
        let locks: Vec<String> = (from..from + 2)
            .map(|n| format!(r#"{{"resource":"r","table":"s.t","key":"{n}","xid":"x:1","branch_id":1}}"#))
            .collect();
        (200, format!(r#"{{"locks":[{}]{next}}}"#, locks.join(",")))
    };
    let answers = vec![page(1, r#","next":"a&b""#), page(3, r#","next":"c""#)];
    let (url, asked) = script(answers).await;
    let output = atone(&["lock", "ls", "--limit", "4", "--table", "s.t", "--coordinator", &url]).await;
    assert_eq!(output.code, 0, "{output:?}");
    assert_eq!(output.stdout.lines().count(), 6, "{}", output.stdout);
    assert!(output.stdout.ends_with("raise --limit\n"));
    assert_eq!(
        asked.await.unwrap(),
        ["GET /v1/locks?table=s.t&limit=4 HTTP/1.1", "GET /v1/locks?table=s.t&limit=2&after=a%26b HTTP/1.1"]
    );
}

#[tokio::test]
async fn problems_are_one_line_and_fail() {
    let body = r#"{"title":"Conflict","status":409,"detail":"x:1 was rolled back","code":"rolled_back"}"#;
    let (url, asked) = script(vec![(409, body.to_owned())]).await;
    let output = atone(&["tx", "commit", "x:1", "--coordinator", &url]).await;
    assert_eq!(output.code, 1);
    assert_eq!(output.stderr, "atone: Conflict: x:1 was rolled back (HTTP 409, rolled_back)\n");
    assert_eq!(asked.await.unwrap(), ["POST /v1/transactions/x:1/commit HTTP/1.1"]);

    let (url, _asked) =
        script(vec![(200, r#"{"xid":"x:1","status":"rolled_back","reason":"timeout"}"#.to_owned())]).await;
    let output = atone(&["tx", "rollback", "x:1", "--coordinator", &url]).await;
    assert_eq!((output.code, output.stdout.as_str()), (0, "x:1 rolled_back (timeout)\n"));

    let (url, _asked) = script(vec![(200, "<html>".to_owned())]).await;
    assert_eq!(atone(&["tx", "show", "x:1", "--coordinator", &url]).await.code, 1);

    // Nobody listens there any more.
    let output = atone(&["tx", "ls", "--coordinator", &url]).await;
    assert_eq!(output.code, 1);
    assert!(output.stderr.contains("does not answer"), "{}", output.stderr);
    assert_eq!(output.stderr.lines().count(), 1);
}
