//! Rollback work, checks, conflicts, and proxies that come and go.

use std::time::Duration;

use atone_api::proto::{BranchOutcome, ErrorCode, Status, WorkKind, WorkOutcome};
use serde_json::json;

use crate::support::{Coordinator, refused};

#[tokio::test]
async fn branches_are_undone_in_reverse_on_each_resource() {
    let coordinator = Coordinator::start("");
    let mut proxy = coordinator.proxy(&["bank1", "bank2"]).connected().await;
    let xid = coordinator.begin().await;
    let first = proxy.branch(&xid, "bank1", &["1"]).await;
    let second = proxy.branch(&xid, "bank2", &["1"]).await;
    let third = proxy.branch(&xid, "bank1", &["1", "2"]).await;
    let answer = proxy.client.rollback(&xid).await.unwrap();
    assert_eq!(answer.status(), Status::RollingBack);
    let mut works = [proxy.next_of(WorkKind::Rollback).await, proxy.next_of(WorkKind::Rollback).await];
    works.sort_by_key(|work| work.branches[0].branch_id);
    assert_eq!(works[0].branches[0].branch_id, second);
    assert_eq!(works[1].branches[0].branch_id, third);
    // The first one waits for the third, whatever becomes of the second.
    proxy.answer(&works[0], WorkOutcome::Done, "");
    proxy.client.flush().await.unwrap();
    assert!(proxy.work.try_recv().is_err());
    assert_eq!(coordinator.locks().await, 3);
    proxy.answer(&works[1], WorkOutcome::Done, "");
    let last = proxy.next_of(WorkKind::Rollback).await;
    assert_eq!(last.branches[0].branch_id, first);
    assert_eq!(coordinator.locks().await, 1);
    proxy.answer(&last, WorkOutcome::Done, "");
    let transaction = coordinator.until(&xid, "rolled_back").await;
    assert_eq!(transaction["branches"][0]["status"], "rolled_back");
    assert_eq!(coordinator.locks().await, 0);
    assert_eq!(refused(proxy.client.commit(&xid).await), ErrorCode::RolledBack);
}

#[tokio::test]
async fn a_conflict_stops_there_until_it_is_retried() {
    let coordinator = Coordinator::start("");
    let mut proxy = coordinator.proxy(&["bank1"]).connected().await;
    let xid = coordinator.begin().await;
    proxy.branch(&xid, "bank1", &["1"]).await;
    let second = proxy.branch(&xid, "bank1", &["2"]).await;
    proxy.client.rollback(&xid).await.unwrap();
    let work = proxy.next_of(WorkKind::Rollback).await;
    proxy.answer(&work, WorkOutcome::Conflict, r#"{"table":"shop.account"}"#);
    let transaction = coordinator.until(&xid, "rollback_failed").await;
    assert_eq!(transaction["branches"][1]["branch_id"], second);
    assert_eq!(transaction["branches"][1]["status"], "rollback_failed");
    assert_eq!(transaction["branches"][1]["detail"], json!({"table": "shop.account"}));
    assert_eq!(coordinator.locks().await, 2);
    let (_, failed) = coordinator.get("/v1/transactions?status=rollback_failed").await;
    assert_eq!(failed["transactions"].as_array().unwrap().len(), 1);
    assert!(proxy.work.try_recv().is_err(), "it is retried slowly");
    let (status, answer) = coordinator.post(&format!("/v1/transactions/{xid}/rollback"), "").await;
    assert_eq!((status, answer["status"].as_str()), (200, Some("rollback_failed")));
    let work = proxy.next_of(WorkKind::Rollback).await;
    assert_eq!(work.branches[0].branch_id, second);
    proxy.answer(&work, WorkOutcome::Done, "");
    let work = proxy.next_of(WorkKind::Rollback).await;
    proxy.answer(&work, WorkOutcome::Done, "");
    coordinator.until(&xid, "rolled_back").await;
}

#[tokio::test]
async fn a_conflict_is_retried_by_itself_as_well() {
    let coordinator = Coordinator::start("[transaction]\nrollback_retry_interval = \"300ms\"\n");
    let mut proxy = coordinator.proxy(&["bank1"]).connected().await;
    let xid = coordinator.begin().await;
    proxy.branch(&xid, "bank1", &["1"]).await;
    proxy.client.rollback(&xid).await.unwrap();
    for outcome in [WorkOutcome::Stuck, WorkOutcome::Retry, WorkOutcome::Unspecified, WorkOutcome::Done] {
        let work = proxy.next_of(WorkKind::Rollback).await;
        proxy.answer(&work, outcome, "a sentence");
    }
    coordinator.until(&xid, "rolled_back").await;
}

/// The undo row of a branch that committed can't be gone at the first try.
#[tokio::test]
async fn a_missing_undo_row_is_not_taken_for_undone() {
    let coordinator = Coordinator::start("");
    let mut proxy = coordinator.proxy(&["bank1"]).connected().await;
    let xid = coordinator.begin().await;
    proxy.branch(&xid, "bank1", &["1"]).await;
    proxy.client.rollback(&xid).await.unwrap();
    let work = proxy.next_of(WorkKind::Rollback).await;
    proxy.answer(&work, WorkOutcome::Absent, "");
    let transaction = coordinator.until(&xid, "rollback_failed").await;
    assert_eq!(transaction["branches"][0]["detail"]["problem"], "undo_missing");
    // Asking again is no consent.
    for _ in 0..3 {
        assert_eq!(proxy.client.rollback(&xid).await.unwrap().status(), Status::RollbackFailed);
        let work = proxy.next_of(WorkKind::Rollback).await;
        proxy.answer(&work, WorkOutcome::Absent, "");
        proxy.client.flush().await.unwrap();
        assert_eq!(coordinator.transaction(&xid).await["status"], "rollback_failed");
        assert_eq!(coordinator.locks().await, 1);
    }
    assert_eq!(refused(proxy.client.commit(&xid).await), ErrorCode::Ended);
    assert_eq!(refused(proxy.register(&xid, "bank1", &["2"]).await), ErrorCode::Ended);
}

/// An operator's decision outlives a coordinator that is killed before a proxy has carried it out.
#[tokio::test]
async fn a_decision_survives_a_kill() {
    let mut coordinator = Coordinator::start("");
    let mut proxy = coordinator.proxy(&["bank1"]).connected().await;
    let xid = coordinator.begin().await;
    let branch = proxy.branch(&xid, "bank1", &["1"]).await;
    proxy.client.rollback(&xid).await.unwrap();
    let work = proxy.next_of(WorkKind::Rollback).await;
    proxy.answer(&work, WorkOutcome::Stuck, r#"{"reason":"why"}"#);
    coordinator.until(&xid, "rollback_failed").await;
    let path = format!("/v1/transactions/{xid}/branches/{branch}/resolve");
    let url = format!("http://{}{path}", coordinator.http);
    let asked = tokio::spawn(async move {
        reqwest::Client::new().post(url).body(r#"{"action":"keep_current"}"#).send().await
    });
    proxy.next_of(WorkKind::Keep).await;
    coordinator.kill();
    asked.await.unwrap().unwrap_err();
    coordinator.restart();
    assert_eq!(coordinator.locks().await, 1);
    let mut proxy = proxy.connected().await;
    let work = proxy.next_of(WorkKind::Keep).await;
    proxy.answer(&work, WorkOutcome::Absent, "");
    let transaction = coordinator.until(&xid, "rolled_back").await;
    assert_eq!(transaction["branches"][0]["status"], "resolved");
    assert_eq!(transaction["branches"][0]["resolution"]["given_up"]["reason"], "why");
    let (status, again) = coordinator.post(&path, r#"{"action":"keep_current"}"#).await;
    assert_eq!((status, again["status"].as_str()), (200, Some("resolved")));
}

#[tokio::test]
async fn a_commit_finds_out_about_branches_in_doubt() {
    let coordinator = Coordinator::start("[transaction]\nbranch_report_timeout = \"300ms\"\n");
    let mut proxy = coordinator.proxy(&["bank1"]).connected().await;
    let xid = coordinator.begin().await;
    let branch = proxy.register(&xid, "bank1", &["1"]).await.unwrap();
    let commit = tokio::spawn({
        let (client, xid) = (proxy.client.clone(), xid.clone());
        async move { client.commit(&xid).await }
    });
    let work = proxy.next_of(WorkKind::Check).await;
    assert_eq!(work.branches[0].branch_id, branch);
    assert_eq!(coordinator.transaction(&xid).await["status"], "committing");
    assert_eq!(refused(proxy.register(&xid, "bank1", &["9"]).await), ErrorCode::Ended);
    proxy.answer(&work, WorkOutcome::Committed, "");
    assert_eq!(commit.await.unwrap().unwrap().status(), Status::Committed);
}

#[tokio::test]
async fn a_branch_that_never_committed_fails_the_commit() {
    let coordinator = Coordinator::start("[transaction]\nbranch_report_timeout = \"100ms\"\n");
    let mut proxy = coordinator.proxy(&["bank1", "bank2"]).connected().await;
    let xid = coordinator.begin().await;
    proxy.branch(&xid, "bank1", &["1"]).await;
    proxy.register(&xid, "bank2", &["1"]).await.unwrap();
    let commit = tokio::spawn({
        let (client, xid) = (proxy.client.clone(), xid.clone());
        async move { client.commit(&xid).await }
    });
    let work = proxy.next_of(WorkKind::Check).await;
    proxy.answer(&work, WorkOutcome::Absent, "");
    assert_eq!(refused(commit.await.unwrap()), ErrorCode::RolledBack);
    let work = proxy.next_of(WorkKind::Rollback).await;
    assert_eq!(work.resource, "bank1");
    proxy.answer(&work, WorkOutcome::Done, "");
    let transaction = coordinator.until(&xid, "rolled_back").await;
    assert!(transaction["reason"].as_str().unwrap().contains("bank2"), "{transaction}");
}

#[tokio::test]
async fn a_report_ends_the_wait_of_a_commit() {
    let coordinator = Coordinator::start("[transaction]\nbranch_report_timeout = \"1h\"\n");
    let proxy = coordinator.proxy(&["bank1"]).connected().await;
    let xid = coordinator.begin().await;
    let branch = proxy.register(&xid, "bank1", &["1"]).await.unwrap();
    let commit = tokio::spawn({
        let (client, xid) = (proxy.client.clone(), xid.clone());
        async move { client.commit(&xid).await }
    });
    coordinator.until(&xid, "committing").await;
    proxy.client.report(&xid, branch, BranchOutcome::Committed);
    assert_eq!(commit.await.unwrap().unwrap().status(), Status::Committed);
}

/// The work of a proxy that vanishes goes to another; its branches in doubt are asked about at once.
#[tokio::test]
async fn another_proxy_takes_over() {
    let coordinator = Coordinator::start("[transaction]\nbranch_report_timeout = \"1h\"\n");
    let first = coordinator.proxy(&["bank1"]).connected().await;
    let xid = coordinator.begin().await;
    first.register(&xid, "bank1", &["1"]).await.unwrap();
    drop(first);
    let commit = tokio::spawn({
        let (address, xid) = (coordinator.http.clone(), xid.clone());
        async move {
            let url = format!("http://{address}/v1/transactions/{xid}/commit");
            reqwest::Client::new().post(url).send().await.unwrap().status().as_u16()
        }
    });
    coordinator.until(&xid, "committing").await;
    // Nobody is there to be asked. The one that comes breaks off; the next one answers.
    let mut second = coordinator.proxy(&["bank1"]).connected().await;
    second.next_of(WorkKind::Check).await;
    drop(second);
    let mut third = coordinator.proxy(&["bank1"]).connected().await;
    let work = third.next_of(WorkKind::Check).await;
    third.answer(&work, WorkOutcome::Committed, "");
    assert_eq!(tokio::time::timeout(Duration::from_secs(5), commit).await.unwrap().unwrap(), 200);
    let purge = third.next_of(WorkKind::Purge).await;
    third.answer(&purge, WorkOutcome::Retry, "not now");
    let purge = third.next_of(WorkKind::Purge).await;
    third.answer(&purge, WorkOutcome::Done, "");
}
