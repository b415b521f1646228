//! The REST interface as an application sees it.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use atone_tests::cluster::SOON;
use atone_tests::{Bank, Cluster, sql};
use serde_json::{Value, json};

atone_tests::shared_tests!(begin, bad_bodies, unknown_transactions, ends, lists, branches, described, health);

/// RFC 3339 in UTC, such as `2026-01-02T03:04:05.678Z`.
fn is_time(value: &Value) -> bool {
    value.as_str().is_some_and(|text| {
        let bytes = text.as_bytes();
        bytes.len() >= 20
            && bytes[4] == b'-'
            && bytes[10] == b'T'
            && bytes[13] == b':'
            && (text.ends_with('Z') || text.ends_with("+00:00"))
    })
}

async fn begin(c: Arc<Cluster>) -> Result<()> {
    let answer =
        c.rest().post_text("/v1/transactions", r#"{"name": "a purchase", "timeout_ms": 1234567}"#).await?;
    assert!(answer.content_type.starts_with("application/json"), "{answer:?}");
    let begun = answer.expect(201)?;
    assert_eq!(
        (&begun["name"], &begun["timeout_ms"], &begun["status"]),
        (&json!("a purchase"), &json!(1_234_567), &json!("active"))
    );
    assert!(is_time(&begun["created_at"]), "{begun}");
    let xid = begun["xid"].as_str().context("no xid")?;
    ensure!((1..=128).contains(&xid.len()), "{xid}");
    let got = c.rest().transaction(xid).await?;
    for field in ["xid", "name", "status", "timeout_ms", "created_at"] {
        assert_eq!(got[field], begun[field], "{field}");
    }
    assert_eq!(got["branches"], json!([]));
    // Everything is optional, the body too.
    for body in ["", "{}", r#"{"name": null}"#, r#"{"timeout_ms": 5000}"#] {
        let answer = c.rest().post_text("/v1/transactions", body).await?;
        if body.contains("null") && answer.status == 400 {
            continue;
        }
        let begun = answer.expect(201).with_context(|| format!("body {body:?}"))?;
        c.rest().rollback(begun["xid"].as_str().context("no xid")?).await?.expect(200)?;
    }
    c.rest().post("/v1/transactions").await?.expect(201)?;
    c.rest().rollback(xid).await?.expect(200)?;
    Ok(())
}

async fn bad_bodies(c: Arc<Cluster>) -> Result<()> {
    for body in [
        "{",
        "[]",
        "5",
        r#"{"timeout_ms": 0}"#,
        r#"{"timeout_ms": -1}"#,
        r#"{"timeout_ms": "5"}"#,
        r#"{"timeout_ms": 99999999999999}"#,
        r#"{"name": 5}"#,
        r#"{"nmae": "x"}"#,
        &format!(r#"{{"name": "{}"}}"#, "x".repeat(257)),
    ] {
        let answer = c.rest().post_text("/v1/transactions", body).await?;
        assert!((400..500).contains(&answer.status), "{body}: {answer:?}");
        let problem = answer.clone().expect_problem(answer.status)?;
        assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{problem}");
    }
    let answer =
        c.rest().post_text("/v1/transactions", format!(r#"{{"name": "{}"}}"#, "x".repeat(1 << 20))).await?;
    assert!([400, 413].contains(&answer.status), "{}", answer.status);
    for path in [
        "/v1/transactions?limit=0",
        "/v1/transactions?limit=x",
        "/v1/transactions?status=nonsense",
        "/v1/locks?limit=-1",
        "/v1/nothing",
        "/v1/transactions/bad%20xid",
    ] {
        let answer = c.rest().get(path).await?;
        assert!([400, 404].contains(&answer.status), "{path}: {answer:?}");
        answer.clone().expect_problem(answer.status).with_context(|| path.to_owned())?;
    }
    Ok(())
}

async fn unknown_transactions(c: Arc<Cluster>) -> Result<()> {
    for answer in [
        c.rest().get("/v1/transactions/nobody:1").await?,
        c.rest().commit("nobody:1").await?,
        c.rest().rollback("nobody:1").await?,
    ] {
        let problem = answer.expect_problem(404)?;
        assert!(problem["detail"].to_string().contains("nobody:1"), "{problem}");
    }
    assert_eq!(c.rest().locks("nobody:1").await?, Vec::<Value>::new());
    Ok(())
}

async fn ends(c: Arc<Cluster>) -> Result<()> {
    for (end, other, status) in [("commit", "rollback", "committed"), ("rollback", "commit", "rolled_back")] {
        let xid = c.rest().begin(json!({})).await?;
        for _ in 0..3 {
            let body = c.rest().post(&format!("/v1/transactions/{xid}/{end}")).await?.expect(200)?;
            assert_eq!(body["xid"], json!(xid));
        }
        let ended = c.rest().wait_for_status(&xid, status, SOON).await?;
        assert!(ended["reason"].as_str().is_none_or(|reason| reason != "timeout"), "{ended}");
        let problem = c.rest().post(&format!("/v1/transactions/{xid}/{other}")).await?.expect_problem(409)?;
        assert!(problem["detail"].to_string().contains(&xid), "{problem}");
        assert_eq!(c.rest().transaction(&xid).await?["status"], status);
    }
    // Many at once for one transaction: one decision.
    for _ in 0..5 {
        let xid = c.rest().begin(json!({})).await?;
        let (commit, rollback) = tokio::join!(c.rest().commit(&xid), c.rest().rollback(&xid));
        let mut answers = [commit?.status, rollback?.status];
        let decided = c.rest().transaction(&xid).await?["status"].clone();
        assert_eq!(decided == json!("committed"), answers[0] == 200, "{answers:?} {decided}");
        answers.sort_unstable();
        assert_eq!(answers, [200, 409]);
    }
    Ok(())
}

async fn lists(c: Arc<Cluster>) -> Result<()> {
    let mut xids = Vec::new();
    for _ in 0..5 {
        xids.push(c.rest().begin(json!({"name": "list me"})).await?);
    }
    c.rest().commit(&xids[0]).await?.expect(200)?;
    c.rest().wait_for_status(&xids[0], "committed", SOON).await?;
    let names = |page: &Value| -> Vec<String> {
        page["transactions"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|t| t["xid"].as_str().map(str::to_owned))
            .collect()
    };
    let all = c.rest().get("/v1/transactions?name=list%20me").await?.expect(200)?;
    assert_eq!(names(&all).len(), 5, "{all}");
    let active = c.rest().get("/v1/transactions?name=list%20me&status=active").await?.expect(200)?;
    assert!(names(&active).len() == 4 && !names(&active).contains(&xids[0]), "{active}");
    let mut seen = Vec::new();
    let mut path = "/v1/transactions?name=list%20me&limit=2".to_owned();
    loop {
        let page = c.rest().get(&path).await?.expect(200)?;
        ensure!(names(&page).len() <= 2, "{page}");
        seen.extend(names(&page));
        match page.get("next").and_then(Value::as_str) {
            Some(next) => path = format!("/v1/transactions?name=list%20me&limit=2&after={next}"),
            None => break,
        }
        ensure!(seen.len() <= 5, "the pages go on and on: {seen:?}");
    }
    seen.sort();
    let mut expected = xids.clone();
    expected.sort();
    assert_eq!(seen, expected);
    for xid in &xids[1..] {
        c.rest().rollback(xid).await?.expect(200)?;
    }
    Ok(())
}

async fn branches(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("rest").await?;
    let mut conn = c.app(Bank::Two, &schema).await?;
    let xid = sql::start_global(&mut conn).await?;
    sql::run(&mut conn, "UPDATE account SET balance = 0 WHERE id < 3").await?;
    let transaction = c.rest().transaction(&xid).await?;
    let branch = &transaction["branches"][0];
    assert_eq!((&branch["resource"], &branch["locks"]), (&json!("bank2"), &json!(2)), "{transaction}");
    assert!(branch["branch_id"].is_u64() && branch["status"].is_string(), "{transaction}");
    sql::run(&mut conn, "ROLLBACK GLOBAL TRANSACTION").await?;
    let ended = c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    let times: Vec<_> = ["created_at", "decided_at", "ended_at"].iter().map(|field| &ended[*field]).collect();
    assert!(times.iter().all(|time| is_time(time)), "{ended}");
    assert!(times.windows(2).all(|w| w[0].as_str() <= w[1].as_str()), "{ended}");
    Ok(())
}

async fn described(c: Arc<Cluster>) -> Result<()> {
    let document = c.rest().get("/openapi.json").await?.expect(200)?;
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.")), "no version");
    for (path, method) in [
        ("/v1/transactions", "post"),
        ("/v1/transactions", "get"),
        ("/v1/transactions/{xid}", "get"),
        ("/v1/transactions/{xid}/commit", "post"),
        ("/v1/transactions/{xid}/rollback", "post"),
        ("/v1/locks", "get"),
    ] {
        assert!(document["paths"][path][method]["responses"].is_object(), "{method} {path} is not described");
    }
    Ok(())
}

async fn health(c: Arc<Cluster>) -> Result<()> {
    for rest in [c.coordinator.rest(), c.proxy.rest()] {
        rest.get("/livez").await?.expect(200)?;
        rest.get("/readyz").await?.expect(200)?;
        let metrics = rest.get("/metrics").await?;
        assert_eq!(metrics.status, 200);
        assert!(metrics.text.lines().any(|line| line.starts_with("# TYPE atone")), "{}", metrics.text);
    }
    Ok(())
}
