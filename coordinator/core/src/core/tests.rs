//! Violations of the core's invariants.

use super::*;
use crate::model::{BranchId, Records};

#[test]
fn a_violation_is_reported_and_counted_and_the_rest_goes_on() {
    let (mut core, step) = Core::recover(Config::default(), "test", Records::default(), 1_000).unwrap();
    assert_eq!(step.violations, []);
    let (seq, branch) = (99, BranchId(1));
    core.timers.set(1_000, Timer::Retry { seq, branch });
    let begin = || Event::Begin { to: ReplyTo::Call(0), name: String::new(), timeout_ms: 0 };
    let step = core.handle(1_000, begin());
    assert_eq!(step.violations, [Violation::new("branch 1 of transaction 0x63 is taken to be live")]);
    assert_eq!(step.violations[0].to_string(), "branch 1 of transaction 0x63 is taken to be live");
    assert!(matches!(&step.effects[..], [Effect::Reply(_, Ok(Reply::Transaction(_)))]), "{:?}", step.effects);
    assert_eq!(core.stats().totals.invariant_violations, 1);

    assert_eq!(core.handle(1_000, begin()).violations, []);
    assert_eq!(core.stats().totals.invariant_violations, 1);
}
