//! SIGKILL and a start on what is durable.

use std::collections::HashSet;

use atone_api::proto::{BranchOutcome, ErrorCode, Status, WorkKind, WorkOutcome};

use crate::support::{Coordinator, SOON, refused, request};

#[tokio::test]
async fn everything_is_there_after_a_kill() {
    let mut coordinator = Coordinator::start("");
    let mut proxy = coordinator.proxy(&["bank1", "bank2"]).connected().await;
    let active = proxy.client.begin("active", 0).await.unwrap().xid;
    // Its outcome is not reported.
    let first = proxy.register(&active, "bank1", &["1", "2"]).await.unwrap();
    let committed = coordinator.begin().await;
    proxy.branch(&committed, "bank1", &["3"]).await;
    proxy.client.commit(&committed).await.unwrap();
    let rolling = coordinator.begin().await;
    proxy.branch(&rolling, "bank1", &["4"]).await;
    proxy.branch(&rolling, "bank2", &["4"]).await;
    proxy.client.rollback(&rolling).await.unwrap();
    let failed = coordinator.begin().await;
    proxy.branch(&failed, "bank2", &["5"]).await;
    proxy.client.rollback(&failed).await.unwrap();
    for _ in 0..3 {
        let work = proxy.next_work().await;
        if work.branches[0].xid == failed {
            proxy.answer(&work, WorkOutcome::Conflict, r#"{"row":5}"#);
        }
    }
    coordinator.until(&failed, "rollback_failed").await;

    coordinator.kill();
    drop(proxy);
    coordinator.restart();

    assert_eq!(coordinator.transaction(&active).await["status"], "active");
    assert_eq!(coordinator.transaction(&active).await["name"], "active");
    assert_eq!(coordinator.transaction(&committed).await["status"], "committed");
    assert_eq!(coordinator.transaction(&rolling).await["status"], "rolling_back");
    let stuck = coordinator.transaction(&failed).await;
    assert_eq!(stuck["branches"][0]["detail"]["row"], 5, "{stuck}");
    assert_eq!(coordinator.locks().await, 5);

    let mut proxy = coordinator.proxy(&["bank1", "bank2"]).connected().await;
    // Every lock is known before one is granted.
    let other = coordinator.begin().await;
    let nowait = |keys| proxy.client.register(request(&other, "bank1", keys, 0));
    assert_eq!(refused(nowait(&["2"]).await), ErrorCode::LockTimeout);
    assert_eq!(refused(nowait(&["4"]).await), ErrorCode::LockDeadlock);
    assert!(nowait(&["3"]).await.unwrap() > first);
    for _ in 0..3 {
        let work = proxy.next_work().await;
        assert_eq!(work.kind(), WorkKind::Rollback);
        proxy.answer(&work, WorkOutcome::Done, "");
    }
    coordinator.until(&rolling, "rolled_back").await;
    coordinator.until(&failed, "rolled_back").await;
    // The active one has a branch in doubt; its server knows.
    let commit = tokio::spawn({
        let (client, active) = (proxy.client.clone(), active.clone());
        async move { client.commit(&active).await }
    });
    let work = proxy.next_work().await;
    assert_eq!((work.kind(), work.branches[0].branch_id), (WorkKind::Check, first));
    proxy.answer(&work, WorkOutcome::Committed, "");
    assert_eq!(commit.await.unwrap().unwrap().status(), Status::Committed);
}

/// The client keeps its reports until it knows that they arrived.
#[tokio::test]
async fn reports_survive_a_restart_of_the_coordinator() {
    let mut coordinator = Coordinator::start("[transaction]\nbranch_report_timeout = \"1h\"\n");
    let proxy = coordinator.proxy(&["bank1"]).connected().await;
    let xid = coordinator.begin().await;
    let branch = proxy.register(&xid, "bank1", &["1"]).await.unwrap();
    coordinator.kill();
    proxy.client.report(&xid, branch, BranchOutcome::Committed);
    coordinator.restart();
    let proxy = proxy.connected().await;
    // Without the report this would ask the server, and nobody here would answer.
    assert_eq!(proxy.client.commit(&xid).await.unwrap().status(), Status::Committed);
}

/// What a proxy was told to be durable is: it forgets its reports, and the restarted coordinator knows them.
#[tokio::test]
async fn confirmed_reports_are_durable() {
    let mut coordinator = Coordinator::start("");
    let proxy = coordinator.proxy(&["bank1"]).connected().await;
    let xid = coordinator.begin().await;
    proxy.branch(&xid, "bank1", &["1"]).await;
    proxy.client.flush().await.unwrap();
    coordinator.kill();
    drop(proxy);
    coordinator.restart();
    assert_eq!(coordinator.transaction(&xid).await["branches"][0]["status"], "committed");
    // An undo row that is gone is then a loss, and stays one however often the rollback is asked for.
    let mut proxy = coordinator.proxy(&["bank1"]).connected().await;
    proxy.client.rollback(&xid).await.unwrap();
    for _ in 0..2 {
        let work = proxy.next_of(WorkKind::Rollback).await;
        proxy.answer(&work, WorkOutcome::Absent, "");
        let transaction = coordinator.until(&xid, "rollback_failed").await;
        assert_eq!(transaction["branches"][0]["detail"]["problem"], "undo_missing");
        coordinator.kill();
        coordinator.restart();
        proxy = proxy.connected().await;
    }
}

/// A report is not confirmed before it is durable: a coordinator that is killed before gets it again.
#[tokio::test]
async fn reports_that_are_not_durable_come_again() {
    let mut coordinator = Coordinator::start("[transaction]\nreport_delay = \"1h\"\n");
    let proxy = coordinator.proxy(&["bank1"]).connected().await;
    let xid = coordinator.begin().await;
    proxy.branch(&xid, "bank1", &["1"]).await;
    // The coordinator has read it, and answers what was sent after it.
    proxy.client.get(&xid).await.unwrap();
    assert_eq!(coordinator.transaction(&xid).await["branches"][0]["status"], "committed");
    coordinator.kill();
    coordinator.restart();
    // The client may not know yet that the old stream is broken. What it reports again comes before what it asks.
    let began = std::time::Instant::now();
    while let Err(error) = proxy.client.get(&xid).await {
        assert!(began.elapsed() < SOON, "{error}");
    }
    assert_eq!(proxy.client.commit(&xid).await.unwrap().status(), Status::Committed);
}

#[tokio::test]
async fn calls_fail_while_no_coordinator_is_there() {
    let mut coordinator = Coordinator::start("");
    let proxy = coordinator.proxy(&["bank1"]).connected().await;
    let xid = coordinator.begin().await;
    coordinator.kill();
    let began = std::time::Instant::now();
    let result = proxy.client.commit(&xid).await;
    assert!(matches!(result, Err(atone_api::ClientError::Unavailable(_))), "{result:?}");
    let result = proxy.client.begin("", 0).await;
    assert!(matches!(result, Err(atone_api::ClientError::Unavailable(_))), "{result:?}");
    assert!(began.elapsed().as_secs() < 5, "{:?}", began.elapsed());
    coordinator.restart();
    let proxy = proxy.connected().await;
    assert_eq!(proxy.client.commit(&xid).await.unwrap().status(), Status::Committed);
}

/// Killed at any moment under load: what was answered is true, no id is given twice, no lock is in two hands.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_under_load_again_and_again() {
    let mut coordinator = Coordinator::start("");
    let mut committed: Vec<String> = Vec::new();
    let (mut xids, mut branches) = (HashSet::new(), HashSet::new());
    for round in 0..4 {
        let proxy = coordinator.proxy(&["bank1"]).connected().await;
        let tasks: Vec<_> = (0..8)
            .map(|task| {
                let client = proxy.client.clone();
                tokio::spawn(async move {
                    let (mut xids, mut branches, mut committed) = (vec![], vec![], vec![]);
                    loop {
                        let Ok(begun) = client.begin("", 0).await else { break };
                        let xid = begun.xid;
                        xids.push(xid.clone());
                        // In its own rows: what a kill leaves active stays locked.
                        let key = format!("{round}.{task}.{}", xids.len());
                        let Ok(branch) = client.register(request(&xid, "bank1", &[&key], 1_000)).await else {
                            break;
                        };
                        branches.push(branch);
                        client.report(&xid, branch, BranchOutcome::Committed);
                        if client.commit(&xid).await.is_err() {
                            break;
                        }
                        committed.push(xid);
                    }
                    (xids, branches, committed)
                })
            })
            .collect();
        tokio::time::sleep(std::time::Duration::from_millis(150 + 70 * round)).await;
        coordinator.kill();
        for task in tasks {
            let (new_xids, new_branches, new_committed) = task.await.unwrap();
            for xid in new_xids {
                assert!(xids.insert(xid.clone()), "{xid} was given twice");
            }
            for branch in new_branches {
                assert!(branches.insert(branch), "branch {branch} was given twice");
            }
            committed.extend(new_committed);
        }
        coordinator.restart();
        for xid in &committed {
            assert_eq!(coordinator.transaction(xid).await["status"], "committed");
        }
    }
    assert!(committed.len() > 50, "only {} committed", committed.len());
}
