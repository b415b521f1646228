//! SIGKILL and a start on what is durable.

use std::collections::HashSet;

use atone_api::proto::{BranchOutcome, ErrorCode, Status, WorkKind, WorkOutcome};

use crate::support::{Coordinator, refused, request};

#[tokio::test]
async fn everything_is_there_after_a_kill() {
    let mut coordinator = Coordinator::start("");
    let mut proxy = coordinator.proxy(&["bank1", "bank2"]).connected().await;
    let active = proxy.client.begin("active", 0).await.unwrap().xid;
    let first = proxy.branch(&active, "bank1", &["1", "2"]).await;
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
