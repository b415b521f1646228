//! The REST API against its description.

use atone_api::proto::{ErrorCode, WorkKind, WorkOutcome};
use atone_coordinator::{OPENAPI, ROUTES};
use serde_json::{Value, json};

use crate::support::{Coordinator, refused};

fn description() -> Value {
    serde_json::from_str(OPENAPI).unwrap()
}

/// What is wrong with a value by the part of JSON Schema that the description uses.
fn problems(schema: &Value, value: &Value, path: &str) -> Vec<String> {
    let all = description();
    if let Some(name) = schema["$ref"].as_str() {
        let name = name.strip_prefix("#/components/schemas/").unwrap();
        return problems(&all["components"]["schemas"][name], value, path);
    }
    let mut found = Vec::new();
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(many) => many.iter().filter_map(Value::as_str).collect(),
        _ => vec![],
    };
    let actual = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    if !types.is_empty() && !types.contains(&actual) {
        found.push(format!("{path}: {actual} is none of {types:?}"));
    }
    if let Some(values) = schema["enum"].as_array()
        && !values.contains(value)
    {
        found.push(format!("{path}: {value} is not described"));
    }
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if value.get(name).is_none() {
            found.push(format!("{path}.{name} is missing"));
        }
    }
    for (name, value) in value.as_object().into_iter().flatten() {
        match schema["properties"].get(name) {
            Some(schema) => found.extend(problems(schema, value, &format!("{path}.{name}"))),
            None if schema["additionalProperties"] == false => {
                found.push(format!("{path}.{name} is not described"))
            }
            None => {}
        }
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        found.extend(problems(&schema["items"], item, &format!("{path}[{index}]")));
    }
    found
}

/// Makes a call and compares the answer with the description.
async fn call(
    coordinator: &Coordinator,
    method: &str,
    path: &str,
    url: &str,
    body: Option<&str>,
) -> (u16, Value) {
    let (status, kind, text) = coordinator.send(method, url, body).await;
    let described = &description()["paths"][path][method]["responses"][status.to_string()];
    assert!(described.is_object(), "{method} {path} answers {status}, which is not described: {text}");
    let media = kind.split(';').next().unwrap();
    let schema = &described["content"][media]["schema"];
    assert!(schema.is_object(), "{method} {path} {status} answers {media}, which is not described");
    let value =
        if media == "text/plain" { Value::String(text) } else { serde_json::from_str(&text).unwrap() };
    let found = problems(schema, &value, "");
    assert!(found.is_empty(), "{method} {url} {status}: {found:?}: {value}");
    (status, value)
}

#[test]
fn every_route_is_described_and_nothing_else() {
    let mut described = Vec::new();
    for (path, methods) in description()["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys().filter(|key| *key != "parameters") {
            described.push((method.clone(), path.clone()));
        }
    }
    let mut routes: Vec<_> =
        ROUTES.iter().map(|(method, path)| ((*method).to_owned(), (*path).to_owned())).collect();
    described.sort();
    routes.sort();
    assert_eq!(described, routes);
}

#[tokio::test]
async fn answers_are_as_described() {
    let coordinator = Coordinator::start("");
    let mut proxy = coordinator.proxy(&["bank1"]).connected().await;
    for (method, path) in ROUTES.iter().filter(|(_, path)| !path.contains('{')) {
        let (status, _) = call(&coordinator, method, path, path, None).await;
        assert!(status == 200 || status == 201, "{method} {path}: {status}");
    }
    let transactions = "/v1/transactions";
    let one = "/v1/transactions/{xid}";
    let begin = async |body: &str| call(&coordinator, "post", transactions, transactions, Some(body)).await;
    let (status, begun) = begin(r#"{"name": "order 7", "timeout_ms": 30000}"#).await;
    assert_eq!((status, &begun["name"], &begun["timeout_ms"]), (201, &json!("order 7"), &json!(30_000)));
    assert_eq!(begin("{}").await.1["timeout_ms"], 60_000);
    let xid = begun["xid"].as_str().unwrap();
    for body in [
        "{",
        "[]",
        "7",
        r#"{"nmae": "x"}"#,
        r#"{"timeout_ms": 0}"#,
        r#"{"timeout_ms": -1}"#,
        r#"{"timeout_ms": 86400001}"#,
        r#"{"timeout_ms": "1"}"#,
        "\u{1}",
    ] {
        let (status, problem) = begin(body).await;
        assert_eq!((status, problem["code"].as_str()), (400, Some("invalid")), "{body}");
    }
    assert_eq!(begin(&json!({"name": "x".repeat(257)}).to_string()).await.0, 400);
    assert_eq!(begin(&json!({"name": "x".repeat(256)}).to_string()).await.0, 201);
    assert_eq!(begin(&" ".repeat(65_537)).await.0, 413);

    proxy.branch(xid, "bank1", &["1", "2"]).await;
    // The report may still be on its way; REST is another connection
    proxy.client.flush().await.unwrap();
    let (_, transaction) = call(&coordinator, "get", one, &format!("{transactions}/{xid}"), None).await;
    let branch = &transaction["branches"][0];
    assert_eq!(
        (&branch["status"], &branch["locks"], &branch["schema"]),
        (&json!("committed"), &json!(2), &json!("shop"))
    );
    let (_, locks) =
        call(&coordinator, "get", "/v1/locks", &format!("/v1/locks?xid={xid}&limit=1"), None).await;
    assert_eq!(locks["locks"][0]["key"], "1");
    let next = locks["next"].as_str().unwrap();
    let url = format!("/v1/locks?xid={xid}&limit=1&after={next}");
    let (_, locks) = call(&coordinator, "get", "/v1/locks", &url, None).await;
    assert_eq!((&locks["locks"][0]["key"], &locks["next"]), (&json!("2"), &Value::Null));
    for (filter, count) in [
        ("resource=bank1", 2),
        ("resource=bank2", 0),
        ("table=shop.account", 2),
        ("table=x", 0),
        ("xid=x", 0),
    ] {
        let (_, locks) = call(&coordinator, "get", "/v1/locks", &format!("/v1/locks?{filter}"), None).await;
        assert_eq!(locks["locks"].as_array().unwrap().len(), count, "{filter}");
    }
    for query in ["limit=0", "limit=1001", "limit=x", "after=x", "more=1"] {
        assert_eq!(call(&coordinator, "get", "/v1/locks", &format!("/v1/locks?{query}"), None).await.0, 400);
    }

    let post = async |what: &str, xid: &str, body: Option<&str>| {
        let path = format!("{one}/{what}");
        call(&coordinator, "post", &path, &format!("{transactions}/{xid}/{what}"), body).await
    };
    assert_eq!(post("commit", xid, Some(r#"{"force": true}"#)).await.0, 400);
    assert_eq!(post("commit", xid, Some("{}")).await.1["status"], "committed");
    assert_eq!(post("commit", xid, None).await.1["status"], "committed");
    let (status, problem) = post("rollback", xid, None).await;
    assert_eq!((status, problem["code"].as_str()), (409, Some("ended")));
    let other = coordinator.begin().await;
    proxy.branch(&other, "bank1", &["1"]).await;
    for query in ["wait=x", "wait=301s", "more=1"] {
        let (path, url) = (format!("{one}/rollback"), format!("{transactions}/{other}/rollback?{query}"));
        assert_eq!(call(&coordinator, "post", &path, &url, None).await.0, 400, "{query}");
    }
    let url = format!("{transactions}/{other}/rollback?wait=0s");
    let answer = call(&coordinator, "post", &format!("{one}/rollback"), &url, None).await;
    assert_eq!(answer.1["status"], "rolling_back");
    let work = proxy.next_work().await;
    assert_eq!(work.kind(), WorkKind::Rollback);
    proxy.answer(&work, WorkOutcome::Conflict, "a sentence");
    coordinator.until(&other, "rollback_failed").await;
    let (_, failed) = call(&coordinator, "get", one, &format!("{transactions}/{other}"), None).await;
    assert_eq!(failed["branches"][0]["detail"], "a sentence");
    let (status, problem) = post("commit", &other, None).await;
    assert_eq!((status, problem["code"].as_str()), (409, Some("rollback_failed")));

    let resolve_path = format!("{one}/branches/{{branch_id}}/resolve");
    let resolve = async |xid: &str, branch: &str, body: &str| {
        let url = format!("{transactions}/{xid}/branches/{branch}/resolve");
        call(&coordinator, "post", &resolve_path, &url, Some(body)).await
    };
    let stopped = failed["branches"][0]["branch_id"].to_string();
    let keep = r#"{"action": "keep_current", "by": "ann"}"#;
    for (xid, branch, body, expected) in [
        (other.as_str(), stopped.as_str(), "", (400, "invalid")),
        (&other, &stopped, r#"{"action": "forget"}"#, (400, "invalid")),
        (&other, &stopped, r#"{"action": "keep_current", "more": 1}"#, (400, "invalid")),
        (&other, "x", keep, (400, "invalid")),
        (&other, &stopped, r#"{"action": "force_before"}"#, (501, "not_supported")),
        (&other, &stopped, r#"{"action": "keep_current", "rows": []}"#, (501, "not_supported")),
        (&other, "999", keep, (404, "unknown_branch")),
        ("nobody", &stopped, keep, (404, "unknown_xid")),
        (xid, &transaction["branches"][0]["branch_id"].to_string(), keep, (409, "not_stopped")),
    ] {
        let (status, problem) = resolve(xid, branch, body).await;
        assert_eq!((status, problem["code"].as_str().unwrap()), expected, "{xid} {branch} {body}");
    }
    let (status, dry) = resolve(&other, &stopped, r#"{"action": "keep_current", "dry_run": true}"#).await;
    assert_eq!(
        (status, &dry["status"], &dry["given_up"]),
        (200, &json!("rollback_failed"), &json!("a sentence"))
    );
    let answering = async {
        let work = proxy.next_work().await;
        assert_eq!(work.kind(), WorkKind::Keep);
        assert_eq!(coordinator.transaction(&other).await["branches"][0]["status"], "resolving");
        proxy.answer(&work, WorkOutcome::Absent, "");
    };
    let ((status, done), ()) = tokio::join!(resolve(&other, &stopped, keep), answering);
    assert_eq!((status, &done["status"], &done["given_up"]), (200, &json!("resolved"), &json!("a sentence")));
    let (_, resolved) = call(&coordinator, "get", one, &format!("{transactions}/{other}"), None).await;
    assert_eq!(resolved["status"], "rolled_back");
    assert_eq!(resolved["branches"][0]["resolution"]["by"], "ann", "{resolved}");
    for what in ["commit", "rollback"] {
        let (status, problem) = post(what, "nobody", None).await;
        assert_eq!((status, problem["code"].as_str()), (404, Some("unknown_xid")));
    }
    assert_eq!(call(&coordinator, "get", one, "/v1/transactions/nobody", None).await.0, 404);
}

#[tokio::test]
async fn lists_are_filtered_and_paged() {
    let coordinator = Coordinator::start("");
    let mut xids = Vec::new();
    for index in 0..7 {
        let (_, begun) =
            coordinator.post("/v1/transactions", &format!("{{\"name\": \"n{}\"}}", index % 2)).await;
        xids.push(begun["xid"].as_str().unwrap().to_owned());
    }
    coordinator.post(&format!("/v1/transactions/{}/commit", xids[3]), "").await;
    let list = async |query: &str| {
        let url = format!("/v1/transactions?{query}");
        let (_, page) = call(&coordinator, "get", "/v1/transactions", &url, None).await;
        let listed = page["transactions"].as_array().unwrap().clone();
        let xids: Vec<String> = listed.iter().map(|t| t["xid"].as_str().unwrap().to_owned()).collect();
        (xids, page["next"].as_str().map(str::to_owned))
    };
    let newest_first: Vec<String> = xids.iter().rev().cloned().collect();
    assert_eq!(list("").await, (newest_first.clone(), None));
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let (page, next) = list(&format!("limit=3{after}")).await;
        assert!(page.len() <= 3);
        seen.extend(page);
        let Some(next) = next else { break };
        after = format!("&after={next}");
    }
    assert_eq!(seen, newest_first);
    assert_eq!(list("status=committed").await.0, [xids[3].clone()]);
    assert_eq!(list("status=active&name=n1").await.0, [xids[5].clone(), xids[1].clone()]);
    assert_eq!(list("name=n").await.0, [] as [String; 0]);
    for query in ["status=done", "status=", "limit=0", "limit=1001", "limit=ten", "after=x", "order=up"] {
        let (status, answer) = coordinator.get(&format!("/v1/transactions?{query}")).await;
        assert_eq!((status, answer["code"].as_str()), (400, Some("invalid")), "{query}: {answer}");
    }
}

#[tokio::test]
async fn other_paths_and_methods_are_problems_too() {
    let coordinator = Coordinator::start("");
    let (status, kind, text) = coordinator.send("GET", "/v2/transactions", None).await;
    assert_eq!((status, kind.as_str()), (404, "application/problem+json"), "{text}");
    let (status, kind, text) = coordinator.send("DELETE", "/v1/transactions", None).await;
    assert_eq!((status, kind.as_str()), (405, "application/problem+json"), "{text}");
}

/// A limit is no fault of the request: the same one may do later.
#[tokio::test]
async fn a_limit_says_when_to_try_again() {
    let coordinator = Coordinator::start("[limits]\nmax_transactions = 1\n");
    let xid = coordinator.begin().await;
    let url = format!("http://{}/v1/transactions", coordinator.http);
    let answer = reqwest::Client::new().post(url).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 503);
    assert_eq!(answer.headers()["retry-after"].as_bytes(), b"1");
    let problem: serde_json::Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    assert_eq!(problem["code"], "limit_reached");
    assert!(problem["detail"].as_str().unwrap().contains("max_transactions"), "{problem}");
    let proxy = coordinator.proxy(&["bank1"]);
    assert_eq!(refused(proxy.client.begin("", 0).await), ErrorCode::LimitReached);
    coordinator.post(&format!("/v1/transactions/{xid}/rollback"), "").await;
    proxy.client.begin("", 0).await.unwrap();
}
