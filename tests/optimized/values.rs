//! Values that stores and messages have: ids, tokens of a rate, peers, and fingerprints.
#![allow(clippy::unwrap_used, reason = "test helpers")]

use polos::calendar::Timestamp;
use polos::model::worker::BusyProcesses;
use polos::model::{
    ClaimRules, CronTexts, EntryRefusal, HookCall, HookEvent, LedgerLine, Peer, Reconciliation, RunId,
    RunState, ScheduleId, SlotOutcome, StepState, WorkerId, backfill, schedule, stored_calendar,
};
use polos::plan::jitter::delay_us;

mod tokens;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second)
}

const ALPHABET: &str = "0123456789bcdfghjkmnpqrstvwxyz";

/// The number that the characters of an id stand for.
fn number(id: &str) -> u128 {
    let (_, text) = id.split_once('_').unwrap();
    text.chars().fold(0, |all, sign| all * 30 + ALPHABET.find(sign).unwrap() as u128)
}

#[test]
fn an_id_is_the_time_and_random_bits() {
    let millis = 1_805_007_600_123_u128;
    let time = Timestamp::from_micros(1_805_007_600_123_456);
    for random in [0, 1, 0x00aa_bbcc_ddee_ff01, u64::MAX] {
        let expected = (millis << 56) + u128::from(random % (1 << 56));
        let (schedule, run) = (ScheduleId::new(time, random), RunId::new(time, random));
        assert_eq!(number(schedule.as_str()), expected);
        assert_eq!(number(run.as_str()), expected);
        assert_eq!((schedule.as_str().len(), run.as_str().len()), (24, 24));
    }
    // Only 42 bits of the time.
    let late = Timestamp::from_micros((1 << 42) * 1_000 + 5_000);
    assert_eq!(number(ScheduleId::new(late, 7).as_str()), (5 << 56) + 7);
    assert_eq!(number(WorkerId::from_random(123_456_789).as_str()), 123_456_789);
}

#[test]
fn the_id_of_a_slots_run_is_that_of_the_schedule_and_the_slot() {
    let schedule = ScheduleId::new(at(5), 9);
    let run = RunId::of_slot(&schedule, at(60));
    assert!(run.may_be_of_slot());
    assert!(!RunId::new(at(5), 9).may_be_of_slot());
    assert!(!RunId::from("run_60000000").may_be_of_slot());
    assert!(!RunId::of_creation(&schedule).may_be_of_slot());
}

#[test]
fn the_id_of_a_backfill_names_its_schedule() {
    let schedule = ScheduleId::new(at(5), 9);
    let id = backfill::new_id(&schedule, at(7), 11);
    assert_eq!(backfill::schedule_of(&id), Some(schedule));
    assert_eq!(number(&id[id.rfind('_').unwrap()..]), (7_000 << 56) + 11);
    for wrong in ["", "bf_", "bf_a", "bf__b", "bf_a_", "bf_a-_b", "bf_a_b-", "run_a_b"] {
        assert_eq!(backfill::schedule_of(wrong), None, "{wrong}");
    }
}

#[test]
fn a_backfill_without_a_concurrency_does_not_wait() {
    let key = |concurrency| backfill::key("bf_a_b", at(60), concurrency);
    let live = [Some("auto:backfill:bf_a_b:0:2"), Some("auto:backfill:bf_c_d:0:2"), None];
    for (concurrency, waits) in [(0, false), (1, true), (2, false)] {
        assert_eq!(backfill::must_wait(Some(&key(concurrency)), live), waits, "{concurrency}");
    }
    assert!(!backfill::must_wait(Some(&key(0)), []));
}

fn peer(host: &str, pid: i64, mark: &str, held_count: u64) -> Peer {
    Peer {
        id: WorkerId::from("wkr_a"),
        app: "app".into(),
        host: host.into(),
        pid,
        process_mark: mark.into(),
        about: "{}".into(),
        heartbeat: 1,
        held_count,
        workflows: Vec::new(),
        entered_at: at(0),
        beat_at: at(0),
        declares: None,
    }
}

#[test]
fn a_process_is_busy_if_another_of_its_workers_holds_runs() {
    let (idle, busy) = (peer("a", 1, "m", 0), peer("a", 1, "m", 2));
    let others = [peer("b", 1, "m", 1), peer("a", 2, "m", 1), peer("a", 1, "n", 1)];
    let all = |peers: &[&Peer]| peers.iter().copied().chain(&others).cloned().collect::<Vec<_>>();
    for (peers, of_idle, of_busy) in [
        (vec![&idle], false, false),
        (vec![&busy], true, false),
        (vec![&idle, &busy], true, false),
        (vec![&idle, &busy, &busy], true, true),
    ] {
        let peers = all(&peers);
        let processes = BusyProcesses::of(&peers);
        assert_eq!(processes.has_another(&idle), of_idle, "{processes:?}");
        assert_eq!(processes.has_another(&busy), of_busy, "{processes:?}");
    }
}

#[test]
fn a_decision_that_other_workers_had_a_part_in_depends_on_them() {
    let label = || polos::model::ScheduleLabel {
        id: ScheduleId::from("sch_a"),
        workflow: "w".into(),
        key: "k".into(),
    };
    let none = Reconciliation::default;
    let alone = Reconciliation {
        retired: vec![label()],
        adopted: vec![label()],
        overridden: vec![label()],
        ..none()
    };
    assert!(!none().depends_on_peers() && !alone.depends_on_peers());
    for decision in [
        Reconciliation { protected: vec![label()], ..none() },
        Reconciliation { outdated: vec![label()], ..none() },
        Reconciliation { outdated_limits: ["l".into()].into(), ..none() },
        Reconciliation { others_want_calls: true, ..none() },
    ] {
        assert!(decision.depends_on_peers(), "{decision:?}");
    }
}

/// They are compared across processes and releases.
#[test]
fn fingerprints_and_delays_are_the_same_everywhere() {
    assert_eq!(schedule::fingerprint(r#"{"cron":"0 9 * * *"}"#, None, None), "ff6686dea8dc6bde");
    assert_eq!(schedule::fingerprint(r#"{"cron":"0 9 * * *"}"#, Some("1"), None), "f5a3281d56f1d91a");
    assert_eq!(schedule::fingerprint("spec", None, Some("{}")), "adb9c32321b3640f");
    assert_eq!(delay_us("sch_a", 60, 1_000_000), 62_085);
    assert_eq!(delay_us("sch_b", -1, 86_400_000_000), 26_785_506_362);
    assert_eq!(delay_us("sch_0123456789", 1_805_007_600_000_000, 3_600_000_000), 3_414_256_769);
}

#[test]
fn a_line_of_the_ledger_is_an_event_if_it_has_slots() {
    let line = |outcome, count| LedgerLine { from: at(0), until: at(0), count, outcome, reason: "r".into() };
    assert_eq!(HookEvent::of_line(&line(SlotOutcome::Missed, 1)), Some(HookEvent::Missed));
    assert_eq!(HookEvent::of_line(&line(SlotOutcome::Missed, 0)), None);
    assert_eq!(HookEvent::of_line(&line(SlotOutcome::Skipped, 1)), Some(HookEvent::Skipped));
    assert_eq!(HookEvent::of_line(&line(SlotOutcome::Ran, 1)), None);
}

#[test]
fn rules_are_stored_without_what_they_leave_open() {
    let json = |priority| ClaimRules { priority, ..ClaimRules::default() }.to_json().to_string();
    assert_eq!(json(0), "{}");
    assert_eq!(json(5), r#"{"priority":5}"#);
    assert_eq!(CronTexts::from("0 9 * * *").as_slice(), ["0 9 * * *"]);
    assert_eq!(format!("{:?}", polos::model::StoredSpec::from("{}")), "\"{}\"");
}

#[test]
fn calls_about_skipped_and_missed_slots_have_ids_of_their_own() {
    let line = |outcome| LedgerLine { from: at(60), until: at(60), count: 1, outcome, reason: "r".into() };
    let id = |event, outcome| {
        let names = (&"p".into(), &"w".into(), &"k".into());
        HookCall::of_slots(event, names, &ScheduleId::from("sch_a"), &line(outcome), at(61)).id.to_string()
    };
    assert_eq!(id(HookEvent::Missed, SlotOutcome::Missed), "missed:sch_a:60000000");
    assert_eq!(id(HookEvent::Skipped, SlotOutcome::Skipped), "skipped:sch_a:60000000");
}

#[test]
fn words_are_those_that_users_see() {
    assert_eq!(HookEvent::Succeeded.word(), "succeeded");
    assert_eq!(StepState::Sleeping.word(), "sleeping");
    assert_eq!(StepState::of_word("sleeping"), Some(StepState::Sleeping));
    assert_eq!(StepState::of_word("asleep"), None);
    assert_eq!(RunState::Waiting.to_string(), "waiting");
}

#[test]
fn a_run_begins_only_if_its_claim_stands_and_its_schedule_exists() {
    assert_eq!(EntryRefusal::of(Some(true)), Ok(()));
    assert!(EntryRefusal::of(Some(false)).is_err() && EntryRefusal::of(None).is_err());
}

#[test]
fn a_calendar_has_a_name_and_at_most_ten_thousand_dates() {
    for name in ["a", "Holidays-2026_de.v1", &"a".repeat(100)] {
        assert_eq!(stored_calendar::objection_to_name(name), None, "{name}");
    }
    for name in ["", "1a", "-a", "a b", "a/b", "ä", &"a".repeat(101)] {
        let objection = stored_calendar::objection_to_name(name).unwrap();
        assert!(objection.contains("can't be the name of a calendar"), "{objection}");
    }
    let dates = |count: usize| vec!["2026-12-25".to_owned(); count];
    assert_eq!(&*stored_calendar::stored_dates(&dates(10_000)).unwrap(), r#"["2026-12-25"]"#);
    assert!(stored_calendar::stored_dates(&dates(10_001)).unwrap_err().contains("10001 dates"));
    assert!(stored_calendar::missing("holidays").contains("no calendar `holidays`"));
    for note in ["unknown field `on_skip`", "unknown variant `x`", "invalid type: map"] {
        assert!(stored_calendar::is_of_older_release(note), "{note}");
    }
    assert!(!stored_calendar::is_of_older_release("there is no calendar `holidays`"));
}
