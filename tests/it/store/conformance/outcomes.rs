//! Every slot has one outcome, whatever is edited, and whatever state its schedule is in.

use super::super::fixture::{Fixture, PROJECT, at, everything, new_run, succeeded, text};
use super::cases;
use polos::calendar::Timestamp;
use polos::model::spec::CompiledSpec;
use polos::model::{
    LedgerEntry, LedgerLine, NewRun, NewSchedule, Origin, RunId, RunState, Schedule, ScheduleId,
    ScheduleSpec, ScheduleStatus, SlotOutcome, StoredSpec,
};
use polos::plan::{Situation, plan_fire};
use polos::store::{Answer, Command, Patch, Shard};
use std::sync::Arc;

cases! {
    every_slot_has_one_outcome_after_every_edit,
    a_skip_of_the_last_slot_survives_an_extension,
    an_extension_keeps_due_slots_due,
    a_one_off_in_the_past_is_due_once,
}

/// A cadence of one minute, of which the tests edit a field.
const SPEC: &str = r#"{"cron":"* * * * *","timezone":"UTC"}"#;
const HOUR: i64 = 3_600;

#[derive(Copy, Clone, PartialEq, Debug)]
enum State {
    Skipped,
    Due,
    Paused,
    Buffered,
    Backfilled,
}

const STATES: [State; 5] = [State::Skipped, State::Due, State::Paused, State::Buffered, State::Backfilled];

fn checked(spec: &str) -> (StoredSpec, Arc<str>, CompiledSpec) {
    let spec: ScheduleSpec = serde_json::from_str(spec).expect("a specification");
    let compiled_spec = CompiledSpec::new(spec.clone()).expect("a cadence");
    let json = serde_json::to_string(&spec).expect("JSON");
    (json.into(), spec.trigger_key().into(), compiled_spec)
}

/// Specifications that differ from [`SPEC`] in a field each.
fn edits() -> Vec<String> {
    let micros = |seconds: i64| at(seconds).as_micros();
    let with = |fields: &str| format!(r#"{{"cron":"* * * * *","timezone":"UTC",{fields}}}"#);
    vec![
        r#"{"cron":"*/2 * * * *","timezone":"UTC"}"#.to_owned(),
        r#"{"cron":"* * * * *","timezone":"Europe/London"}"#.to_owned(),
        r#"{"every_us":30000000,"timezone":"UTC"}"#.to_owned(),
        r#"{"every_us":20000000,"timezone":"UTC"}"#.to_owned(),
        format!(r#"{{"at_us":{},"timezone":"UTC"}}"#, micros(300)),
        format!(r#"{{"at_us":{},"timezone":"UTC"}}"#, micros(60)),
        with(&format!(r#""start_at_us":{}"#, micros(-HOUR))),
        with(&format!(r#""start_at_us":{}"#, micros(100))),
        with(&format!(r#""start_at_us":{}"#, micros(400))),
        with(&format!(r#""end_at_us":{}"#, micros(HOUR))),
        with(&format!(r#""end_at_us":{}"#, micros(150))),
        with(&format!(r#""end_at_us":{}"#, micros(10))),
        with(r#""overlap":"skip""#),
        with(r#""catch_up":"all""#),
        with(r#""catch_up":"none""#),
        with(r#""catch_up_window_us":1000000"#),
        with(r#""jitter_us":1000000"#),
        with(r#""max_runs":2"#),
        with(r#""skip_dates":["2027-01-15"]"#),
    ]
}

fn put(fixture: &Fixture<'_>, now: Timestamp, key: &str, spec: &str) -> Schedule {
    let (spec, trigger_key, compiled_spec) = checked(spec);
    fixture.put(
        now,
        NewSchedule {
            id: ScheduleId::from(format!("sch_{key}")),
            project: text(PROJECT),
            workflow: text("w"),
            key: text(key),
            owner: None,
            spec,
            compiled_spec: trigger_key,
            version: None,
            tags: None,
            input: None,
            next_slot: compiled_spec.first(now),
        },
    )
}

fn update(fixture: &Fixture<'_>, now: Timestamp, id: &ScheduleId, spec: &str) -> Schedule {
    let (spec, trigger_key, compiled_spec) = checked(spec);
    let patch = Patch { spec: Some((spec, trigger_key, compiled_spec.first(now))), ..Patch::default() };
    fixture.patch(now, id, patch)
}

fn skip(fixture: &Fixture<'_>, now: Timestamp, id: &ScheduleId) {
    let schedule = fixture.schedule(id);
    let slot = schedule.next_slot.expect("a slot is to come");
    let next_slot = schedule.compiled_spec().expect("a cadence").next(slot);
    let line =
        LedgerLine { from: slot, until: slot, count: 1, outcome: SlotOutcome::Skipped, reason: text("skip") };
    fixture.patch(
        now,
        id,
        Patch {
            status: next_slot.is_none().then_some(ScheduleStatus::Finished),
            next_slot: Some(next_slot),
            ledger: vec![line],
            ..Patch::default()
        },
    );
}

fn backfill(fixture: &Fixture<'_>, now: Timestamp, id: &ScheduleId, slots: &[Timestamp]) {
    fixture.patch(now, id, Patch { settled: slots.to_vec(), ..Patch::default() });
    for slot in slots {
        fixture.create(
            now,
            NewRun {
                schedule_id: Some(id.clone()),
                slot: Some(*slot),
                origin: Origin::Backfill,
                ..new_run(RunId::of_slot(id, *slot).as_str())
            },
        );
    }
}

/// Decides what is due at `now`, as an engine does that has been watching since the beginning.
fn decide(fixture: &Fixture<'_>, now: Timestamp) {
    let due = fixture.store.due_in_shard(PROJECT, &[text("w")], now, Shard::WHOLE, 1_000);
    for due in due.expect("the store works") {
        let compiled_spec = due.schedule.compiled_spec().expect("a cadence");
        let situation = Situation {
            now,
            horizon: now,
            watching_since: at(0),
            unfinished_count: due.unfinished_count,
            buffered_count: due.buffered_count,
        };
        if let Some(plan) = plan_fire(&due.schedule, &compiled_spec, &situation) {
            fixture.ok(now, Command::Fire { worker: fixture.worker.clone(), plan: Box::new(plan) });
        }
    }
}

/// Brings a new schedule of one minute into the state; gives when the edit comes.
fn bring(fixture: &Fixture<'_>, state: State, id: &ScheduleId) -> Timestamp {
    let pause = Patch { status: Some(ScheduleStatus::Paused), ..Patch::default() };
    match state {
        State::Skipped => {
            skip(fixture, at(20), id);
            at(30)
        }
        State::Due => at(200),
        State::Paused => {
            fixture.patch(at(30), id, pause);
            at(200)
        }
        State::Buffered => {
            decide(fixture, at(60));
            decide(fixture, at(120));
            at(130)
        }
        State::Backfilled => {
            backfill(fixture, at(190), id, &[at(60), at(120)]);
            at(200)
        }
    }
}

fn history(fixture: &Fixture<'_>, id: &ScheduleId) -> Vec<LedgerEntry> {
    let mut entries = fixture.store.history(PROJECT, id, &everything()).expect("the store works");
    let entries = entries.as_mut().expect("the schedule exists");
    entries.reverse();
    std::mem::take(entries)
}

/// Slots of `compiled_spec` in `(after, until]`.
fn slots_of(compiled_spec: &CompiledSpec, after: Timestamp, until: Timestamp) -> Vec<Timestamp> {
    let mut slots = Vec::new();
    let mut slot = compiled_spec.next(after);
    while let Some(at) = slot.filter(|slot| *slot <= until) {
        slots.push(at);
        slot = compiled_spec.next(at);
    }
    slots
}

fn check(fixture: &Fixture<'_>, what: &str, id: &ScheduleId, phases: &[(&str, Timestamp, Timestamp)]) {
    let lines = history(fixture, id);
    for pair in lines.windows(2) {
        assert!(pair[0].until < pair[1].from, "{what}: two outcomes: {pair:#?}");
    }
    for (spec, after, until) in phases {
        for slot in slots_of(&checked(spec).2, *after, *until) {
            let is_covered = lines.iter().any(|line| (line.from..=line.until).contains(&slot));
            assert!(is_covered, "{what}: no outcome of {slot}: {lines:#?}");
        }
    }
}

fn every_slot_has_one_outcome_after_every_edit(fixture: &Fixture<'_>) {
    for (number, edited) in edits().iter().enumerate() {
        for state in STATES {
            for way in ["update", "create", "update and back"] {
                let what = format!("{state:?}, {way}, {edited}");
                let has_run = state == State::Buffered || state == State::Backfilled;
                if has_run && edited.contains(&format!("\"at_us\":{}", at(60).as_micros())) {
                    // A one-off whose slot has run: the engine looks it up before it decides.
                    continue;
                }
                let key = format!("{number}-{state:?}-{}", way.replace(' ', "-"));
                let id = put(fixture, at(0), &key, SPEC).id;
                let changed_at = bring(fixture, state, &id);
                let mut spec = edited.as_str();
                if way == "create" {
                    put(fixture, changed_at, &key, edited);
                } else {
                    update(fixture, changed_at, &id, edited);
                }
                if way == "update and back" {
                    update(fixture, changed_at, &id, SPEC);
                    spec = SPEC;
                }
                if state == State::Paused {
                    let status = fixture
                        .schedule(&id)
                        .next_slot
                        .map_or(ScheduleStatus::Finished, |_| ScheduleStatus::Active);
                    fixture.patch(at(210), &id, Patch { status: Some(status), ..Patch::default() });
                }
                for seconds in (210..=600).step_by(30) {
                    decide(fixture, at(seconds));
                }
                if state == State::Skipped {
                    let run = fixture.find_run(&RunId::of_slot(&id, at(60)));
                    assert_eq!(run, None, "{what}: what was skipped has run");
                }
                let schedule = fixture.schedule(&id);
                let end =
                    schedule.next_slot.map_or(at(600), |next| Timestamp::from_micros(next.as_micros() - 1));
                // A schedule that has made all its runs has no more slots.
                let is_used_up = schedule.next_slot.is_none() && spec.contains("max_runs");
                let end = end.min(at(600));
                let phases = [(SPEC, at(0), changed_at), (spec, changed_at, end)];
                check(fixture, &what, &id, if is_used_up { &[] } else { &phases });
                fixture.delete(at(601), &id);
            }
        }
    }
}

fn a_skip_of_the_last_slot_survives_an_extension(fixture: &Fixture<'_>) {
    let end = |seconds: i64| {
        format!(r#"{{"cron":"* * * * *","timezone":"UTC","end_at_us":{}}}"#, at(seconds).as_micros())
    };
    let id = put(fixture, at(0), "a", &end(90)).id;
    skip(fixture, at(30), &id);
    assert_eq!(fixture.schedule(&id).status, ScheduleStatus::Finished);
    let extended = update(fixture, at(40), &id, &end(HOUR));
    assert_eq!((extended.status, extended.next_slot), (ScheduleStatus::Active, Some(at(120))));
    let put_again = put(fixture, at(41), "a", SPEC);
    assert_eq!((put_again.status, put_again.next_slot), (ScheduleStatus::Active, Some(at(120))));
}

fn an_extension_keeps_due_slots_due(fixture: &Fixture<'_>) {
    let end = |seconds: i64| {
        format!(r#"{{"cron":"* * * * *","timezone":"UTC","end_at_us":{}}}"#, at(seconds).as_micros())
    };
    let id = put(fixture, at(0), "a", &end(150)).id;
    let extended = update(fixture, at(140), &id, &end(HOUR));
    assert_eq!((extended.next_slot, extended.attended_from), (Some(at(60)), at(0)));
    assert_eq!(history(fixture, &id), [], "what is due is not missed");
    let shortened = update(fixture, at(140), &id, &end(100));
    assert_eq!((shortened.status, shortened.next_slot), (ScheduleStatus::Finished, None));
    let lines: Vec<_> = history(fixture, &id).iter().map(|line| (line.from, line.until)).collect();
    assert_eq!(lines, [(at(60), at(120))], "an end that leaves out a due slot forgets what is due");
}

fn a_one_off_in_the_past_is_due_once(fixture: &Fixture<'_>) {
    let one_off = |seconds: i64, more: &str| {
        format!(r#"{{"at_us":{},"timezone":"UTC"{more}}}"#, at(seconds).as_micros())
    };
    let new = put(fixture, at(100), "a", &one_off(60, ""));
    assert_eq!((new.status, new.next_slot), (ScheduleStatus::Active, Some(at(60))));
    decide(fixture, at(101));
    let run = RunId::of_slot(&new.id, at(60));
    assert_eq!(fixture.end(at(102), &run, succeeded()).0, RunState::Succeeded);
    assert_eq!(fixture.schedule(&new.id).status, ScheduleStatus::Finished);
    for more in [r#","overlap":"skip""#, &format!(r#","end_at_us":{}"#, at(HOUR).as_micros())] {
        let again = put(fixture, at(110), "a", &one_off(60, more));
        assert_eq!(again.status, ScheduleStatus::Finished, "a slot that has run doesn't run again");
    }
    let missed = put(fixture, at(100), "b", &one_off(60, r#","catch_up":"none""#));
    decide(fixture, at(101));
    assert_eq!(fixture.find_run(&RunId::of_slot(&missed.id, at(60))), None);
    assert_eq!(history(fixture, &missed.id).len(), 1, "it is on record as missed");
    let moved = update(fixture, at(120), &new.id, &one_off(90, ""));
    assert_eq!((moved.status, moved.next_slot), (ScheduleStatus::Active, Some(at(90))));
    let answer = fixture.ok(at(121), Command::DeleteSchedule { project: text(PROJECT), id: missed.id });
    assert_eq!(answer, Answer::Deleted { is_claimed: false });
}
