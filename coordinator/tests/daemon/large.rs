//! Branches of many row locks, among others that have few.

use std::time::Duration;

use atone_api::proto::{BranchOutcome, ErrorCode, Register, Status, WorkKind, WorkOutcome};
use serde_json::json;

use crate::support::{Coordinator, Proxy, refused, request};

const MANY: usize = 50_000;

/// Keys from this number on, `MANY` of them.
fn large(xid: &str, from: usize, wait_timeout_ms: u64) -> Register {
    let mut request = request(xid, "bank1", &[], wait_timeout_ms);
    request.locks[0].keys = (from..from + MANY).map(|n| n.to_string()).collect();
    request
}

async fn commit(proxy: &Proxy, xid: &str, branch: u64) {
    proxy.client.report(xid, branch, BranchOutcome::Committed);
    assert_eq!(proxy.client.commit(xid).await.unwrap().status(), Status::Committed);
}

#[tokio::test]
async fn a_large_one_waits_for_one_key_and_a_small_one_for_it() {
    let coordinator = Coordinator::start("");
    let proxy = coordinator.proxy(&["bank1"]).connected().await;
    let (a, b, c) = (coordinator.begin().await, coordinator.begin().await, coordinator.begin().await);
    let first = proxy.register(&a, "bank1", &["42000"]).await.unwrap();
    // Not at all, then as long as it takes.
    let nowait = proxy.client.register(large(&b, 0, 0)).await;
    assert_eq!(refused(nowait), ErrorCode::LockTimeout);
    assert_eq!(refused(proxy.client.register(large(&b, 0, 50)).await), ErrorCode::LockTimeout);
    let register = |request| {
        let client = proxy.client.clone();
        tokio::spawn(async move { client.register(request).await })
    };
    let second = register(large(&b, 0, 20_000));
    coordinator.until_waiting(1).await;
    // Nothing is held while it waits, but who comes after it does not overtake it.
    let third = register(request(&c, "bank1", &["7"], 20_000));
    coordinator.until_waiting(2).await;
    assert_eq!(coordinator.locks().await, 1);
    commit(&proxy, &a, first).await;
    let second = second.await.unwrap().unwrap();
    assert_eq!(
        refused(proxy.client.register(request(&c, "bank1", &["42000"], 0)).await),
        ErrorCode::LockTimeout
    );
    commit(&proxy, &b, second).await;
    commit(&proxy, &c, third.await.unwrap().unwrap()).await;
    assert_eq!(coordinator.locks().await, 0);
}

#[tokio::test]
async fn large_ones_that_overlap_come_one_after_the_other() {
    let coordinator = Coordinator::start("");
    let proxy = coordinator.proxy(&["bank1"]).connected().await;
    let mut tasks = Vec::new();
    for n in 0..4 {
        let (client, xid) = (proxy.client.clone(), coordinator.begin().await);
        tasks.push(tokio::spawn(async move {
            let branch = client.register(large(&xid, n * (MANY - 1), 20_000)).await.unwrap();
            client.report(&xid, branch, BranchOutcome::Committed);
            assert_eq!(client.commit(&xid).await.unwrap().status(), Status::Committed);
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(coordinator.locks().await, 0);
}

/// Wherever a registration is when it is given up (not sent, being read, being decoded, waiting, granted), nothing is
/// left of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_one_is_given_up_with_its_future() {
    let coordinator = Coordinator::start("");
    let proxy = coordinator.proxy(&["bank1"]).connected().await;
    let xid = coordinator.begin().await;
    for after_ms in [0, 1, 2, 5, 10, 20, 50, 100, 200] {
        let register = proxy.client.register(large(&xid, 0, 20_000));
        if let Ok(branch) = tokio::time::timeout(Duration::from_millis(after_ms), register).await {
            proxy.client.report(&xid, branch.unwrap(), BranchOutcome::Aborted);
        }
    }
    // What comes after is taken in its turn.
    let other = coordinator.begin().await;
    let branch = proxy.client.register(large(&other, 0, 20_000)).await.unwrap();
    commit(&proxy, &other, branch).await;
    proxy.client.flush().await.unwrap();
    let transaction = coordinator.transaction(&xid).await;
    assert_eq!((coordinator.locks().await, &transaction["branches"]), (0, &json!([])));
    assert_eq!(proxy.client.commit(&xid).await.unwrap().status(), Status::Committed);
}

/// The rollback is sent after the registration and may be there first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollback_while_a_large_one_registers() {
    let coordinator = Coordinator::start("");
    let mut proxy = coordinator.proxy(&["bank1"]).connected().await;
    for after_ms in [0, 1, 5, 10, 20, 50] {
        let xid = coordinator.begin().await;
        let registration = tokio::spawn({
            let (client, request) = (proxy.client.clone(), large(&xid, 0, 20_000));
            async move { client.register(request).await }
        });
        tokio::time::sleep(Duration::from_millis(after_ms)).await;
        let status = proxy.client.rollback(&xid).await.unwrap().status();
        match registration.await.unwrap() {
            Ok(branch) => {
                proxy.client.report(&xid, branch, BranchOutcome::Committed);
                let work = proxy.next_work().await;
                assert_eq!((work.kind(), work.branches[0].branch_id), (WorkKind::Rollback, branch));
                proxy.answer(&work, WorkOutcome::Done, "");
                while proxy.client.get(&xid).await.unwrap().status() != Status::RolledBack {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
            refusal => {
                assert_eq!(refused(refusal), ErrorCode::RolledBack);
                assert_eq!(status, Status::RolledBack);
            }
        }
        assert_eq!(coordinator.locks().await, 0);
    }
}

/// Killed at any moment of a large registration and its release, the coordinator comes back with all of its locks or
/// none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_while_a_large_one_registers_or_is_released() {
    let mut coordinator = Coordinator::start("");
    for after_ms in [1, 5, 10, 20, 30, 50, 80, 120] {
        let proxy = coordinator.proxy(&["bank1"]).connected().await;
        let xid = coordinator.begin().await;
        let task = tokio::spawn({
            let (client, xid) = (proxy.client.clone(), xid.clone());
            async move {
                let branch = client.register(large(&xid, 0, 20_000)).await.ok()?;
                client.report(&xid, branch, BranchOutcome::Committed);
                Some((branch, client.commit(&xid).await.is_ok()))
            }
        });
        tokio::time::sleep(Duration::from_millis(after_ms)).await;
        coordinator.kill();
        let told = task.await.unwrap();
        drop(proxy);
        coordinator.restart();
        let transaction = coordinator.transaction(&xid).await;
        let branches = transaction["branches"].as_array().unwrap();
        let stats = coordinator.send("GET", "/metrics", None).await.2;
        let locks = if transaction["status"] == "active" { branches.len() * MANY } else { 0 };
        assert!(stats.lines().any(|line| line == format!("atone_locks {locks}")), "{transaction}");
        match told {
            Some((_, true)) => assert_eq!(transaction["status"], "committed"),
            Some((branch, false)) => assert_eq!(branches[0]["branch_id"], branch, "{transaction}"),
            None => {}
        }
        if transaction["status"] == "active" {
            let mut proxy = coordinator.proxy(&["bank1"]).connected().await;
            proxy.client.rollback(&xid).await.unwrap();
            for _ in branches {
                let work = proxy.next_work().await;
                proxy.answer(&work, WorkOutcome::Done, "");
            }
            coordinator.until(&xid, "rolled_back").await;
        }
    }
}
