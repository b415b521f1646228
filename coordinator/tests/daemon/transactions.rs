//! Begin, register, commit, rollback; locks between transactions.

use std::time::{Duration, Instant};

use atone_api::proto::{BranchOutcome, ErrorCode, Status, WorkKind, WorkOutcome};

use crate::support::{Coordinator, refused, request};

#[tokio::test]
async fn a_transaction_commits_and_its_undo_rows_are_purged() {
    let coordinator = Coordinator::start("");
    let mut proxy = coordinator.proxy(&["bank1", "bank2"]).connected().await;
    let begun = proxy.client.begin("transfer", 0).await.unwrap();
    assert_eq!((begun.status(), begun.timeout_ms, begun.name.as_str()), (Status::Active, 60_000, "transfer"));
    let xid = begun.xid;
    let first = proxy.branch(&xid, "bank1", &["1", "2"]).await;
    let second = proxy.branch(&xid, "bank2", &["1"]).await;
    assert!(second > first);
    assert_eq!(coordinator.locks().await, 3);
    let committed = proxy.client.commit(&xid).await.unwrap();
    assert_eq!(committed.status(), Status::Committed);
    assert_eq!(coordinator.locks().await, 0);
    // Again: the same answer.
    assert_eq!(proxy.client.commit(&xid).await.unwrap(), committed);
    for _ in 0..2 {
        let work = proxy.next_of(WorkKind::Purge).await;
        assert_eq!((work.schema.as_str(), work.branches.len()), ("shop", 1));
        proxy.answer(&work, WorkOutcome::Done, "");
    }
    proxy.client.flush().await.unwrap();
    let transaction = coordinator.transaction(&xid).await;
    assert_eq!(transaction["branches"][0]["status"], "purged", "{transaction}");
    assert!(transaction["ended_at"].is_string(), "{transaction}");
    assert_eq!(refused(proxy.client.rollback(&xid).await), ErrorCode::Ended);
    assert_eq!(refused(proxy.register(&xid, "bank1", &["1"]).await), ErrorCode::Ended);
}

#[tokio::test]
async fn unknown_and_malformed_xids_are_refused() {
    let coordinator = Coordinator::start("");
    let proxy = coordinator.proxy(&["bank1"]).connected().await;
    for xid in ["", "x", "x:0000010000000001", "' OR 1 --", &"x".repeat(100_000)] {
        assert_eq!(refused(proxy.client.get(xid).await), ErrorCode::UnknownXid);
        assert_eq!(refused(proxy.client.commit(xid).await), ErrorCode::UnknownXid);
        assert_eq!(refused(proxy.client.rollback(xid).await), ErrorCode::UnknownXid);
        assert_eq!(refused(proxy.register(xid, "bank1", &["1"]).await), ErrorCode::UnknownXid);
    }
    // The right number is not enough.
    let xid = coordinator.begin().await;
    let upper = xid.to_uppercase().replace(':', ":0");
    assert_eq!(refused(proxy.client.get(&upper).await), ErrorCode::UnknownXid);
}

#[tokio::test]
async fn limits_are_refused_by_name() {
    let coordinator = Coordinator::start(
        "[limits]\nmax_locks_per_branch = 3\nmax_branches_per_transaction = 2\nmax_transactions = 1\n",
    );
    let proxy = coordinator.proxy(&["bank1"]).connected().await;
    let xid = proxy.client.begin("", 0).await.unwrap().xid;
    let refusal = |result: Result<u64, atone_api::ClientError>, limit: &str| {
        let error = result.unwrap_err().to_string();
        assert!(error.contains(limit), "{error}");
    };
    refusal(proxy.register(&xid, "bank1", &["1", "2", "3", "4"]).await, "max_locks_per_branch");
    // Duplicates count once.
    proxy.branch(&xid, "bank1", &["1", "2", "3", "3", "1"]).await;
    proxy.branch(&xid, "bank1", &["5"]).await;
    refusal(proxy.register(&xid, "bank1", &["6"]).await, "max_branches_per_transaction");
    refusal(proxy.client.begin("", 0).await.map(|_| 0), "max_transactions");
    refusal(proxy.register(&xid, "", &["6"]).await, "resource");
}

#[tokio::test]
async fn the_second_waits_and_goes_on_when_the_first_ends() {
    let coordinator = Coordinator::start("");
    let first = coordinator.proxy(&["bank1"]).connected().await;
    let second = coordinator.proxy(&["bank1"]).connected().await;
    let (a, b) = (coordinator.begin().await, coordinator.begin().await);
    first.branch(&a, "bank1", &["1"]).await;
    // Not at all, a little, until it is there.
    let nowait = second.client.register(request(&b, "bank1", &["1"], 0)).await;
    assert_eq!(refused(nowait), ErrorCode::LockTimeout);
    let began = Instant::now();
    let short = second.client.register(request(&b, "bank1", &["1"], 200)).await;
    assert_eq!(refused(short), ErrorCode::LockTimeout);
    assert!(began.elapsed() >= Duration::from_millis(200), "{:?}", began.elapsed());
    let waiting = tokio::spawn({
        let (client, b) = (second.client.clone(), b.clone());
        async move { client.register(request(&b, "bank1", &["1", "2"], 20_000)).await }
    });
    coordinator.until_waiting(1).await;
    first.client.commit(&a).await.unwrap();
    let branch = waiting.await.unwrap().unwrap();
    second.client.report(&b, branch, BranchOutcome::Committed);
    second.client.commit(&b).await.unwrap();
}

#[tokio::test]
async fn deadlocks_and_rolled_back_holders_fail_at_once() {
    let coordinator = Coordinator::start("");
    let mut proxy = coordinator.proxy(&["bank1", "bank2"]).connected().await;
    let (a, b) = (coordinator.begin().await, coordinator.begin().await);
    proxy.branch(&a, "bank1", &["1"]).await;
    proxy.branch(&b, "bank2", &["1"]).await;
    let waiting = tokio::spawn({
        let (client, a) = (proxy.client.clone(), a.clone());
        async move { client.register(request(&a, "bank2", &["1"], 20_000)).await }
    });
    coordinator.until_waiting(1).await;
    assert_eq!(refused(proxy.register(&b, "bank1", &["1"]).await), ErrorCode::LockDeadlock);
    // The holder is rolled back: who waits for it fails, who comes then as well.
    proxy.client.rollback(&b).await.unwrap();
    assert_eq!(refused(waiting.await.unwrap()), ErrorCode::LockDeadlock);
    assert_eq!(refused(proxy.register(&a, "bank2", &["1"]).await), ErrorCode::LockDeadlock);
    let work = proxy.next_work().await;
    proxy.answer(&work, WorkOutcome::Done, "");
    coordinator.until(&b, "rolled_back").await;
    proxy.branch(&a, "bank2", &["1"]).await;
}

#[tokio::test]
async fn a_registration_is_given_up_with_its_future() {
    let coordinator = Coordinator::start("");
    let proxy = coordinator.proxy(&["bank1"]).connected().await;
    let (a, b) = (coordinator.begin().await, coordinator.begin().await);
    proxy.branch(&a, "bank1", &["1"]).await;
    let waiting = tokio::time::timeout(Duration::from_millis(200), proxy.register(&b, "bank1", &["1"]));
    assert!(waiting.await.is_err());
    coordinator.until_waiting(0).await;
    proxy.client.commit(&a).await.unwrap();
    // One that is dropped at once may be registered by then: it is aborted, and nothing of it is left.
    for _ in 0..50 {
        let register = proxy.register(&b, "bank1", &["1"]);
        tokio::select! {
            biased;
            _ = register => panic!("it was not dropped"),
            () = tokio::task::yield_now() => {}
        }
    }
    proxy.client.flush().await.unwrap();
    assert_eq!(coordinator.locks().await, 0);
    let transaction = coordinator.transaction(&b).await;
    assert_eq!(transaction["branches"], serde_json::json!([]));
    assert_eq!(proxy.client.commit(&b).await.unwrap().status(), Status::Committed);
}

#[tokio::test]
async fn an_aborted_branch_is_no_obstacle_to_the_rest() {
    let coordinator = Coordinator::start("");
    let proxy = coordinator.proxy(&["bank1"]).connected().await;
    let xid = coordinator.begin().await;
    proxy.branch(&xid, "bank1", &["1"]).await;
    let branch = proxy.register(&xid, "bank1", &["2"]).await.unwrap();
    proxy.client.report(&xid, branch, BranchOutcome::Aborted);
    assert_eq!(proxy.client.commit(&xid).await.unwrap().status(), Status::Committed);
    assert_eq!(coordinator.transaction(&xid).await["branches"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_timeout_rolls_back() {
    let coordinator = Coordinator::start("");
    let mut proxy = coordinator.proxy(&["bank1"]).connected().await;
    let begun = Instant::now();
    let xid = proxy.client.begin("", 400).await.unwrap().xid;
    proxy.branch(&xid, "bank1", &["1"]).await;
    let work = proxy.next_of(WorkKind::Rollback).await;
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(400) && took < Duration::from_millis(700), "{took:?}");
    proxy.answer(&work, WorkOutcome::Done, "");
    let transaction = coordinator.until(&xid, "rolled_back").await;
    assert_eq!(transaction["reason"], "timeout");
    assert_eq!(refused(proxy.client.commit(&xid).await), ErrorCode::TimedOut);
    assert_eq!(proxy.client.rollback(&xid).await.unwrap().reason, "timeout");
    assert_eq!(coordinator.post(&format!("/v1/transactions/{xid}/commit"), "").await.1["code"], "timed_out");
}

#[tokio::test]
async fn commit_rollback_and_timeout_race_to_one_decision() {
    let coordinator = Coordinator::start("");
    let one = coordinator.proxy(&[]).connected().await;
    let two = coordinator.proxy(&[]).connected().await;
    let (mut committed, mut rolled_back) = (0, 0);
    for round in 0..200 {
        let timeout_ms = if round % 4 == 0 { 1 } else { 60_000 };
        let xid = one.client.begin("", timeout_ms).await.unwrap().xid;
        let (commit, rollback) = if round % 2 == 0 {
            tokio::join!(one.client.commit(&xid), two.client.rollback(&xid))
        } else {
            let (rollback, commit) = tokio::join!(two.client.rollback(&xid), one.client.commit(&xid));
            (commit, rollback)
        };
        assert!(commit.is_ok() != rollback.is_ok(), "{commit:?} {rollback:?}");
        let status = coordinator.transaction(&xid).await["status"].as_str().unwrap().to_owned();
        assert_eq!(status, if commit.is_ok() { "committed" } else { "rolled_back" });
        committed += usize::from(commit.is_ok());
        rolled_back += usize::from(rollback.is_ok());
    }
    println!("{committed} committed, {rolled_back} rolled back");
    assert!(rolled_back > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_clients_on_few_rows_all_get_through() {
    let coordinator = Coordinator::start("");
    let proxy = coordinator.proxy(&["bank1"]).connected().await;
    let mut tasks = Vec::new();
    for task in 0..16 {
        let client = proxy.client.clone();
        tasks.push(tokio::spawn(async move {
            for round in 0..40 {
                let xid = client.begin("", 0).await.unwrap().xid;
                let key = ((task + round) % 3).to_string();
                let branch = client.register(request(&xid, "bank1", &[&key], 20_000)).await.unwrap();
                client.report(&xid, branch, BranchOutcome::Committed);
                client.commit(&xid).await.unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(coordinator.locks().await, 0);
}

#[tokio::test]
async fn a_hundred_thousand_locks_in_one_branch() {
    let coordinator = Coordinator::start("");
    let proxy = coordinator.proxy(&["bank1"]).connected().await;
    let xid = coordinator.begin().await;
    let keys: Vec<String> = (0..100_000).map(|n| n.to_string()).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    proxy.branch(&xid, "bank1", &keys).await;
    // All of them, page by page.
    let (mut count, mut after) = (0, String::new());
    loop {
        let (_, page) = coordinator.get(&format!("/v1/locks?limit=1000&xid={xid}{after}")).await;
        count += page["locks"].as_array().unwrap().len();
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    assert_eq!(count, 100_000);
    proxy.client.commit(&xid).await.unwrap();
    assert_eq!(coordinator.locks().await, 0);
}
