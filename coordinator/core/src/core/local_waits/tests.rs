//! Cycles of which a part is at servers, on a virtual clock.

use super::*;
use crate::config::Config;
use crate::local_waits::{ASK_AGAIN_MS, REPORT_LIFE_MS};
use crate::model::{LocalWait, LockSet, Records, ReplyTo};
use crate::step::{Event, RegisterRequest, Reply, Step};

const START_MS: u64 = 1_700_000_000_000;
/// Proxies of the resources `a` and `b`.
const ONE: StreamId = StreamId(1);
const TWO: StreamId = StreamId(2);

struct Case {
    core: Core,
    now_ms: u64,
    next_id: u64,
    /// The looks that each proxy was asked for and has not answered.
    looks: BTreeMap<StreamId, Vec<WaitLook>>,
    /// The last number that each was asked with.
    numbers: BTreeMap<StreamId, u64>,
}

/// What a registration was answered, by its id.
type Answers = Vec<(u64, Result<(), RefusalCode>)>;

impl Case {
    fn new() -> Self {
        let (core, _) = Core::recover(Config::default(), "test", Records::default(), START_MS).unwrap();
        let mut case =
            Self { core, now_ms: START_MS, next_id: 0, looks: BTreeMap::new(), numbers: BTreeMap::new() };
        for stream in [ONE, TWO] {
            case.event(Event::StreamUp { stream, resources: vec!["a".into(), "b".into()] });
        }
        case
    }

    fn effects(&mut self, event: Event) -> Vec<Effect> {
        let Step { mut effects, violations, .. } = self.core.handle(self.now_ms, event);
        assert_eq!(violations, []);
        effects.retain(|effect| {
            let Effect::Look(stream, look) = effect else { return true };
            let last = self.numbers.insert(*stream, look.number);
            assert!(last <= Some(look.number), "{last:?} {look:?}");
            self.looks.entry(*stream).or_default().push(look.clone());
            false
        });
        effects
    }

    fn event(&mut self, event: Event) -> Answers {
        let effects = self.effects(event);
        let answer = |effect| match effect {
            Effect::Reply(ReplyTo::Stream(_, id), Ok(Reply::Registered(_))) => Some((id, Ok(()))),
            Effect::Reply(ReplyTo::Stream(_, id), Err(refusal)) => Some((id, Err(refusal.code))),
            _ => None,
        };
        effects.into_iter().filter_map(answer).collect()
    }

    fn begin(&mut self) -> Xid {
        let event = Event::Begin { to: ReplyTo::Call(0), name: String::new(), timeout_ms: 0 };
        match &self.effects(event)[..] {
            [Effect::Reply(_, Ok(Reply::Transaction(view)))] => view.xid.clone(),
            other => panic!("{other:?}"),
        }
    }

    fn register(&mut self, xid: &Xid, resource: &str, keys: &[&str]) -> (u64, Answers) {
        self.next_id += 1;
        let keys = keys.iter().map(|key| (*key).to_owned()).collect();
        let request = RegisterRequest {
            xid: xid.to_string(),
            resource: resource.into(),
            schema: "s".into(),
            locks: Arc::new(LockSet::new([("s.t".to_owned(), keys)])),
            wait_timeout_ms: 50_000,
        };
        (self.next_id, self.event(Event::Register { stream: ONE, id: self.next_id, request }))
    }

    fn holds(&mut self, xid: &Xid, resource: &str, keys: &[&str]) {
        let (id, answers) = self.register(xid, resource, keys);
        assert_eq!(answers, [(id, Ok(()))]);
    }

    fn waits(&mut self, xid: &Xid, resource: &str, keys: &[&str]) -> u64 {
        let (id, answers) = self.register(xid, resource, keys);
        assert_eq!(answers, []);
        id
    }

    /// A proxy tells waits of `a`, after all looks that it was asked for before.
    fn tell(&mut self, stream: StreamId, waits: &[Wait<'_>], bound: &[(u64, &Xid)]) -> Answers {
        let look = self.numbers.get(&stream).copied().unwrap_or(0);
        self.looks.remove(&stream);
        self.tell_of(stream, "a", look, waits, bound)
    }

    fn tell_of(
        &mut self,
        stream: StreamId,
        resource: &str,
        look: u64,
        waits: &[Wait<'_>],
        bound: &[(u64, &Xid)],
    ) -> Answers {
        let waits = waits.iter().map(|(xid, connection_id, blocker_id, wait)| LocalWait {
            xid: xid.to_string(),
            connection_id: *connection_id,
            blocker_id: *blocker_id,
            wait: (*wait).to_owned(),
        });
        let report = LocalWaitReport {
            resource: resource.into(),
            look,
            waits: waits.collect(),
            bound: bound.iter().map(|(id, xid)| (*id, xid.to_string())).collect(),
        };
        self.event(Event::LocalWaits { stream, report })
    }

    /// How many looks a proxy was asked for and has not answered.
    fn asked(&self, stream: StreamId) -> usize {
        self.looks.get(&stream).map_or(0, Vec::len)
    }
}

/// Who waits: its connection, the one it waits for, and the wait's name.
type Wait<'a> = (&'a Xid, u64, u64, &'a str);

const DEADLOCK: Result<(), RefusalCode> = Err(RefusalCode::LockDeadlock);

/// G1 holds r here and waits for G2 at the server; G2 waits here for r.
fn two() -> (Case, Xid, Xid, u64) {
    let mut case = Case::new();
    let (one, two) = (case.begin(), case.begin());
    case.holds(&one, "a", &["r"]);
    let id = case.waits(&two, "a", &["r"]);
    (case, one, two, id)
}

#[test]
fn a_cycle_ends_once_it_was_seen_again() {
    let (mut case, one, two, id) = two();
    let (waits, bound) = ([(&one, 11, 12, "w")], [(12, &two)]);
    assert_eq!(case.tell(ONE, &waits, &bound), [], "it was told once");
    assert_eq!((case.asked(ONE), case.asked(TWO)), (1, 1));
    assert_eq!(case.tell_of(ONE, "a", 0, &waits, &bound), [], "told again, but not behind the question");
    assert_eq!(case.asked(ONE), 1, "one question is enough");
    assert_eq!(case.tell(ONE, &waits, &bound), [(id, DEADLOCK)]);
    assert_eq!(case.tell(ONE, &waits, &bound), []);
    assert_eq!(case.core.stats().waiters, 0);
}

#[test]
fn the_message_names_everybody() {
    let (mut case, one, two, _) = two();
    let (waits, bound) = ([(&one, 11, 12, "w")], [(12, &two)]);
    case.tell(ONE, &waits, &bound);
    let look = case.numbers[&ONE];
    let report = LocalWaitReport {
        resource: "a".into(),
        look,
        waits: vec![LocalWait { xid: one.to_string(), connection_id: 11, blocker_id: 12, wait: "w".into() }],
        bound: vec![(12, two.to_string())],
    };
    let effects = case.effects(Event::LocalWaits { stream: ONE, report });
    let [Effect::Reply(_, Err(refusal))] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(refusal.holder.as_ref(), Some(&one));
    let text = format!("{one} waits for {two} at the server of a, {two} waits for {one}");
    assert!(refusal.message.contains(&text) && refusal.message.contains("deadlock"), "{}", refusal.message);
}

/// The wait that was told is over when it is looked at, or another one has begun: nobody is refused.
#[test]
fn a_wait_that_is_over_ends_nothing() {
    let (mut case, one, two, _) = two();
    let bound = [(12, &two)];
    case.tell(ONE, &[(&one, 11, 12, "w")], &bound);
    assert_eq!(case.tell(ONE, &[], &bound), []);
    case.tell(ONE, &[(&one, 11, 12, "w")], &bound);
    assert_eq!(case.tell(ONE, &[(&one, 11, 12, "another")], &bound), [], "each has to be seen again itself");
    assert_eq!(case.tell(ONE, &[], &bound), []);
    assert_eq!(case.core.stats().waiters, 1);
}

#[test]
fn a_registration_that_came_behind_the_look_is_looked_at_anew() {
    let mut case = Case::new();
    let (one, two) = (case.begin(), case.begin());
    case.holds(&one, "a", &["r"]);
    let (waits, bound) = ([(&one, 11, 12, "w")], [(12, &two)]);
    case.tell(ONE, &waits, &[]);
    case.tell(ONE, &waits, &bound);
    let id = case.waits(&two, "a", &["r"]);
    assert_eq!(case.tell(ONE, &waits, &bound), []);
    assert_eq!(case.asked(ONE), 1);
    assert_eq!(case.tell(ONE, &waits, &bound), [(id, DEADLOCK)]);
}

#[test]
fn the_other_proxy_knows_the_blocker() {
    let (mut case, one, two, id) = two();
    let waits = [(&one, 11, 12, "w")];
    assert_eq!(case.tell(ONE, &waits, &[]), []);
    assert_eq!(case.looks[&TWO][0].connection_ids, [12]);
    assert_eq!(case.tell(TWO, &[], &[(12, &two)]), []);
    assert_eq!(case.tell(ONE, &waits, &[]), [(id, DEADLOCK)], "one question was enough for both");
}

/// Nobody has the blocker bound: it is asked for now and then, not with each report.
#[test]
fn a_blocker_that_is_nobodys_is_asked_for_now_and_then() {
    let (mut case, one, _, _) = two();
    for _ in 0..5 {
        assert_eq!(case.tell(ONE, &[(&one, 11, 12, "w")], &[]), []);
        case.tell(TWO, &[], &[]);
    }
    let before = case.numbers[&ONE];
    case.now_ms += ASK_AGAIN_MS;
    case.tell(ONE, &[(&one, 11, 12, "w")], &[]);
    assert_eq!(case.numbers[&ONE], before + 1);
}

#[test]
fn three_over_two_servers() {
    let mut case = Case::new();
    let (one, two, three) = (case.begin(), case.begin(), case.begin());
    case.holds(&one, "a", &["r"]);
    case.holds(&two, "b", &["q"]);
    // one waits for two at server a, two for three at server b, and three here for one.
    let id = case.waits(&three, "a", &["r"]);
    let at_a = [(&one, 11, 12, "w")];
    let at_b = [(&two, 21, 23, "w")];
    let look = |case: &Case| case.numbers.get(&ONE).copied().unwrap_or(0);
    assert_eq!(case.tell_of(ONE, "a", 0, &at_a, &[(12, &two)]), []);
    assert_eq!(case.numbers.len(), 0, "there is no cycle yet, and nobody unknown");
    assert_eq!(case.tell_of(TWO, "b", 0, &at_b, &[(23, &three)]), []);
    let number = look(&case);
    assert_eq!(
        case.tell_of(ONE, "a", number, &at_a, &[(12, &two)]),
        [],
        "the other is still to be seen again"
    );
    assert_eq!(case.tell_of(TWO, "b", number, &at_b, &[(23, &three)]), [(id, DEADLOCK)]);
}

/// Who only comes after another one in the queue waits for it as well.
#[test]
fn the_queue_is_part_of_the_way() {
    let mut case = Case::new();
    let (one, two, three) = (case.begin(), case.begin(), case.begin());
    case.holds(&one, "a", &["r"]);
    let _third = case.waits(&three, "a", &["q", "r"]);
    let second = case.waits(&two, "a", &["q"]);
    let (waits, bound) = ([(&one, 11, 12, "w")], [(12, &two)]);
    assert_eq!(case.tell(ONE, &waits, &bound), []);
    assert_eq!(case.tell(ONE, &waits, &bound), [(second, DEADLOCK)]);
}

#[test]
fn chains_without_a_cycle_end_nothing() {
    let mut case = Case::new();
    let (one, two, three) = (case.begin(), case.begin(), case.begin());
    case.holds(&one, "a", &["r"]);
    case.waits(&two, "a", &["r"]);
    let bound = [(11, &one), (12, &two), (13, &three)];
    // Both wait at the server: for the holder, and for one that waits for nobody.
    let waits = [(&three, 13, 12, "w"), (&three, 13, 11, "w"), (&one, 11, 13, "w")];
    for _ in 0..3 {
        assert_eq!(case.tell(ONE, &waits[..2], &bound), []);
    }
    assert_eq!(case.asked(ONE), 0);
    // A cycle at servers alone has no registration in it: it is the server's to end, or the timeout's.
    case.tell(ONE, &[waits[1], waits[2]], &[(11, &one), (13, &three)]);
    assert_eq!(case.asked(ONE), 0);
}

#[test]
fn edges_end_with_their_stream_their_transaction_and_their_time() {
    let again = |case: &mut Case, one: &Xid, two: &Xid| case.tell(ONE, &[(one, 11, 12, "w")], &[(12, two)]);
    let (mut case, one, two, id) = two();
    again(&mut case, &one, &two);
    assert_eq!(case.core.local_waits.reports.len(), 1);
    case.event(Event::StreamDown { stream: ONE });
    assert_eq!(case.core.local_waits.reports.len(), 0);
    assert_eq!(again(&mut case, &one, &two), [], "the stream has gone");

    let (mut case, one, two, _) = super::tests::two();
    again(&mut case, &one, &two);
    case.now_ms += REPORT_LIFE_MS;
    assert_eq!(case.tell_of(TWO, "b", 0, &[], &[]), []);
    assert_eq!(case.core.local_waits.reports.len(), 0);

    let (mut case, one, two, other) = super::tests::two();
    again(&mut case, &one, &two);
    case.event(Event::Commit { to: ReplyTo::Call(0), xid: two.to_string() });
    assert_eq!(again(&mut case, &one, &two), []);
    assert_eq!(id, other);
}

#[test]
fn what_no_proxy_of_the_resource_tells_is_not_taken() {
    let (mut case, one, two, _) = two();
    case.event(Event::StreamUp { stream: StreamId(3), resources: vec!["b".into()] });
    assert_eq!(case.tell(StreamId(3), &[(&one, 11, 12, "w")], &[(12, &two)]), []);
    assert!(case.core.local_waits.reports.is_empty());
    // A number that was never asked with proves nothing.
    let bound = [(12, &two)];
    assert_eq!(case.tell_of(ONE, "a", u64::MAX, &[(&one, 11, 12, "w")], &bound), []);
    assert_eq!(case.core.stats().waiters, 1);
}
