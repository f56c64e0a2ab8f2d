//! Creating, editing and deleting schedules.

use super::super::fixture::{
    Fixture, PROJECT, at, everything, missed, new_run, new_schedule, new_worker, patch_command, spec, text,
};
use super::cases;
use polos::calendar::Timestamp;
use polos::model::{
    Admission, Completion, NewRun, NewSchedule, Origin, RunId, RunState, Schedule, ScheduleId,
    ScheduleStatus, StoredSpec, WorkerEntry,
};
use polos::store::{Command, Patch, Rejection, UpsertOutcome, Upserted};

cases! {
    a_new_schedule_is_active,
    a_new_schedule_without_a_slot_is_finished,
    the_same_key_is_the_same_schedule,
    an_upsert_tells_what_it_did,
    many_are_put_in_order_all_or_none,
    hundreds_are_answered_in_order,
    thousands_are_all_written_or_none,
    an_edit_gives_no_slot_to_a_schedule_that_has_had_all_its_runs,
    the_same_key_twice_in_one_command_is_one_schedule,
    many_new_ones_leave_those_that_exist_in_their_places,
    of_two_with_one_key_the_last_counts_however_many_there_are,
    two_new_ones_with_one_id_are_refused,
    an_unchanged_schedule_is_not_touched,
    the_owner_stays_when_none_is_given,
    a_changed_policy_keeps_the_next_slot,
    a_changed_cadence_starts_from_now,
    an_edited_list_fires_no_slot_again,
    a_list_in_another_order_keeps_what_is_due,
    a_changed_cadence_without_a_slot_finishes,
    every_slot_that_was_due_when_the_cadence_changed_is_missed,
    a_one_off_that_stays_due_leaves_what_was_promised_beside_it,
    slots_on_excluded_dates_are_forgotten_as_skipped,
    a_retirement_leaves_no_due_slot_without_a_fate,
    what_a_broken_schedule_left_lying_is_missed,
    a_paused_schedule_stays_paused,
    a_retired_schedule_comes_back,
    a_schedule_that_comes_back_repeats_no_slot,
    a_one_off_that_comes_back_runs_late_only_if_its_time_is_another,
    a_broken_schedule_comes_back,
    a_finished_schedule_with_the_same_spec_stays_finished,
    a_finished_schedule_with_another_spec_comes_back,
    a_change_revokes_claims_what_was_claimed_ahead,
    a_claim_before_a_decided_slot_is_not_taken_back,
    a_slot_taken_back_and_backfilled_has_other_tokens,
    a_change_leaves_a_run_that_recorded_a_step,
    taking_back_undoes_the_last_of_several_slots_first,
    taking_back_revives_what_the_claim_had_finished,
    taking_back_lets_the_next_in_line_run,
    an_edit_lets_the_next_in_line_run,
    a_retirement_lets_the_next_in_line_run,
    a_run_that_is_added_by_hand_revokes_claims_what_was_claimed_early,
    a_run_is_not_added_to_a_schedule_that_has_moved,
    what_is_not_ahead_is_not_taken_back,
    what_was_queued_ahead_is_taken_back_too,
    what_was_tried_again_is_not_taken_back,
    a_pause_after_failures_revokes_claims_too,
    a_patch_changes_what_it_names,
    a_patch_of_another_revision_is_stale,
    a_patch_of_nothing_touches_nothing,
    a_patch_of_what_is_not_there_is_rejected,
    resuming_attends_from_now,
    a_patched_cadence_starts_from_now,
    a_patch_that_allows_more_runs_revives_what_had_finished,
    a_skip_writes_the_ledger_and_leaves_claims_alone,
    a_pause_revokes_claims_what_was_claimed_ahead,
    deleting_cancels_what_waits,
    deleting_keeps_history,
    every_due_slot_of_a_deleted_schedule_is_missed,
    deleting_what_is_not_there_is_rejected,
    another_project_sees_nothing,
    names_are_taken_literally,
}

fn id(key: &str) -> ScheduleId {
    new_schedule(key, None).id
}

fn a_new_schedule_is_active(fixture: &Fixture<'_>) {
    let new = NewSchedule { input: Some(text("{}")), ..new_schedule("a", Some(at(60))) };
    let expected = Schedule {
        id: new.id.clone(),
        project: text(PROJECT),
        workflow: text("w"),
        key: text("a"),
        owner: None,
        spec: new.spec.clone(),
        input: Some(text("{}")),
        status: ScheduleStatus::Active,
        note: None,
        next_slot: Some(at(60)),
        last_slot: None,
        run_count: 0,
        failure_count: 0,
        attended_from: at(3),
        created_at: at(3),
        updated_at: at(3),
        revision: 1,
        declaration: None,
        settled: None,
        counts: polos::model::StoredCounts::default(),
        tags: None,
    };
    assert_eq!(fixture.put(at(3), new), expected);
}

fn a_new_schedule_without_a_slot_is_finished(fixture: &Fixture<'_>) {
    assert_eq!(fixture.put(at(0), new_schedule("a", None)).status, ScheduleStatus::Finished);
}

fn the_same_key_is_the_same_schedule(fixture: &Fixture<'_>) {
    let first = fixture.put(at(0), new_schedule("a", Some(at(60))));
    let second = NewSchedule { id: ScheduleId::from("sch_other"), ..new_schedule("a", Some(at(60))) };
    assert_eq!(fixture.put(at(1), second).id, first.id);
    assert_eq!(fixture.find_schedule(&ScheduleId::from("sch_other")), None);
}

fn many_are_put_in_order_all_or_none(fixture: &Fixture<'_>) {
    let new = vec![new_schedule("b", None), new_schedule("a", None)];
    let ids = fixture.upsert_ids(at(0), new);
    assert_eq!(ids, vec![id("b"), id("a")]);
    let bad = NewSchedule { id: id("a"), ..new_schedule("d", None) };
    let before = fixture.store.change_mark().unwrap();
    let answer = fixture.no(at(1), Command::UpsertSchedules(vec![new_schedule("c", None), bad]));
    assert!(matches!(answer, Rejection::Invalid(_)), "{answer:?}");
    assert_eq!(fixture.find_schedule(&id("c")), None);
    assert_eq!(fixture.store.change_mark().unwrap(), before);
}

fn an_upsert_tells_what_it_did(fixture: &Fixture<'_>) {
    use UpsertOutcome::{Created, Unchanged, Updated};
    let new = |id: &str, input: Option<&str>| NewSchedule {
        id: ScheduleId::from(id),
        input: input.map(text),
        ..new_schedule("a", Some(at(60)))
    };
    let outcomes = |now, new: Vec<NewSchedule>| -> Vec<(String, UpsertOutcome)> {
        let upserted = fixture.upsert(now, new);
        upserted.into_iter().map(|each| (each.id.as_str().to_owned(), each.outcome)).collect()
    };
    let first = || "sch_1".to_owned();
    assert_eq!(outcomes(at(0), vec![new("sch_1", None)]), [(first(), Created)]);
    assert_eq!(outcomes(at(1), vec![new("sch_1", None)]), [(first(), Created)], "its reply was lost");
    assert_eq!(outcomes(at(2), vec![new("sch_2", None)]), [(first(), Unchanged)]);
    assert_eq!(outcomes(at(3), vec![new("sch_3", Some("1"))]), [(first(), Updated)]);
    let twice = vec![new("sch_4", Some("2")), new("sch_5", Some("2"))];
    assert_eq!(outcomes(at(4), twice), [(first(), Updated), (first(), Unchanged)]);
    fixture.delete(at(5), &ScheduleId::from("sch_1"));
    assert_eq!(outcomes(at(6), vec![new("sch_6", None)]), [("sch_6".to_owned(), Created)]);
}

fn hundreds_are_answered_in_order(fixture: &Fixture<'_>) {
    let numbers: Vec<u32> = (0..300).map(|number| number * 7919 % 300).collect();
    let mut new: Vec<_> = numbers.iter().map(|number| new_schedule(&format!("{number:03}"), None)).collect();
    let ids: Vec<_> = new.iter().map(|new| new.id.clone()).collect();
    for round in 0..2 {
        let answer = fixture.upsert_ids(at(round), new.clone());
        assert_eq!(answer, ids, "the second time they exist");
    }
    assert_eq!(fixture.schedule(&ids[299]).updated_at, at(0));
    new.push(NewSchedule { input: Some(text("1")), ..new[0].clone() });
    fixture.ok(at(2), Command::UpsertSchedules(new));
    assert_eq!(fixture.schedule(&ids[0]).input, Some(text("1")), "the last word counts");
}

fn an_edit_gives_no_slot_to_a_schedule_that_has_had_all_its_runs(fixture: &Fixture<'_>) {
    let limited = |minute: u32, max: u32| {
        StoredSpec::from(format!(r#"{{"cron":"{minute} * * * *","max_runs":{max}}}"#))
    };
    let new = NewSchedule { spec: limited(1, 1), ..new_schedule("a", Some(at(60))) };
    let schedule = fixture.put(at(0), new);
    fixture.fire(at(60), &schedule, at(60), Admission::Claim);
    let edit = |now, minute, max| {
        let trigger = text(&format!("{minute} * * * *|UTC"));
        let patch = Patch { spec: Some((limited(minute, max), trigger, Some(at(600)))), ..Patch::default() };
        let schedule = fixture.patch(now, &schedule.id, patch);
        (schedule.status, schedule.next_slot)
    };
    assert_eq!(edit(at(61), 10, 1), (ScheduleStatus::Finished, None));
    assert_eq!(edit(at(62), 11, 2), (ScheduleStatus::Active, Some(at(600))));
}

/// More than a store writes at once.
fn thousands_are_all_written_or_none(fixture: &Fixture<'_>) {
    let key = |number: u32| format!("{number:04}");
    let mut new: Vec<_> = (0..4_500).map(|number| new_schedule(&key(number), None)).collect();
    fixture.put(at(0), NewSchedule { id: id("in use"), ..new_schedule("earlier", None) });
    let numbers = [0, 1_999, 2_000, 3_999, 4_000, 4_499];
    for taken in ["0000", "in use"] {
        new.push(NewSchedule { id: id(taken), ..new_schedule("other", None) });
        let answer = fixture.no(at(0), Command::UpsertSchedules(new.clone()));
        assert!(matches!(answer, Rejection::Invalid(_)), "{answer:?}");
        assert!(numbers.iter().all(|number| fixture.find_schedule(&id(&key(*number))).is_none()));
        new.pop();
    }
    let ids = fixture.upsert_ids(at(1), new);
    assert_eq!(ids.len(), 4_500);
    assert!(numbers.iter().all(|number| fixture.schedule(&id(&key(*number))).key == text(&key(*number))));
}

fn the_same_key_twice_in_one_command_is_one_schedule(fixture: &Fixture<'_>) {
    let again = NewSchedule { id: id("b"), input: Some(text("1")), ..new_schedule("a", None) };
    let ids = fixture.upsert_ids(at(0), vec![new_schedule("a", None), again]);
    assert_eq!(ids, vec![id("a"), id("a")]);
    assert_eq!(fixture.schedule(&id("a")).input, Some(text("1")));
}

fn many_new_ones_leave_those_that_exist_in_their_places(fixture: &Fixture<'_>) {
    let key = |number: usize| format!("{number:04}");
    fixture.put(at(0), new_schedule(&key(0), Some(at(60))));
    let changed = fixture.put(at(0), new_schedule(&key(700), Some(at(60))));
    let early = fixture.fire(at(59), &changed, at(60), Admission::Claim);
    let mut new: Vec<_> = (0..1_400)
        .map(|number| NewSchedule {
            id: ScheduleId::from(format!("sch_again_{number:04}")),
            ..new_schedule(&key(number), Some(at(60)))
        })
        .collect();
    new[700].input = Some(text("1"));
    let upserted = fixture.upsert(at(59), new);
    let of = |outcome| {
        let is_such = |(_, upserted): &(usize, &Upserted)| upserted.outcome == outcome;
        upserted.iter().enumerate().filter(is_such).map(|(place, _)| place).collect::<Vec<_>>()
    };
    assert_eq!((of(UpsertOutcome::Unchanged), of(UpsertOutcome::Updated)), (vec![0], vec![700]));
    for place in [0, 1, 700, 1_399] {
        assert_eq!(fixture.schedule(&upserted[place].id).key, text(&key(place)));
    }
    assert_eq!(fixture.find_run(&early), None, "it is claimed again");
    assert_eq!(fixture.schedule(&changed.id).input, Some(text("1")));
}

fn of_two_with_one_key_the_last_counts_however_many_there_are(fixture: &Fixture<'_>) {
    for (prefix, count, end) in [("few", 40, "0"), ("many", 1_400, "0"), ("more", 1_400, "~")] {
        let key = |number: i32| format!("{prefix}{number:04}");
        let mut new: Vec<_> = (0..count).map(|number| new_schedule(&key(number), None)).collect();
        // Its id sorts before that of the one which it replaces, or after all others.
        let other_id = id(&format!("{prefix}{end}"));
        new.push(NewSchedule {
            id: other_id.clone(),
            input: Some(text("1")),
            ..new_schedule(&key(20), None)
        });
        fixture.ok(at(0), Command::UpsertSchedules(new));
        assert_eq!(fixture.schedule(&id(&key(20))).input, Some(text("1")));
        assert_eq!(fixture.find_schedule(&other_id), None, "the first one gave it its id");
    }
}

fn two_new_ones_with_one_id_are_refused(fixture: &Fixture<'_>) {
    let twin = NewSchedule { key: text("b"), ..new_schedule("a", None) };
    let answer = fixture.no(at(1), Command::UpsertSchedules(vec![new_schedule("a", None), twin]));
    assert!(matches!(answer, Rejection::Invalid(_)), "{answer:?}");
    assert_eq!(fixture.find_schedule(&id("a")), None);
}

fn an_unchanged_schedule_is_not_touched(fixture: &Fixture<'_>) {
    let first = fixture.put(at(0), new_schedule("a", Some(at(60))));
    let run = fixture.fire(at(59), &first, at(60), Admission::Claim);
    let fired = fixture.schedule(&first.id);
    let mark = fixture.store.change_mark().unwrap();
    assert_eq!(fixture.put(at(59), new_schedule("a", Some(at(600)))), fired);
    assert_eq!(fixture.store.change_mark().unwrap(), mark, "nothing at all is written");
    assert_eq!(fixture.state(&run), RunState::Running);
}

fn the_owner_stays_when_none_is_given(fixture: &Fixture<'_>) {
    let owned = NewSchedule { owner: Some(text("app.py")), ..new_schedule("a", Some(at(60))) };
    fixture.put(at(0), owned.clone());
    let put = fixture.put(at(1), NewSchedule { owner: None, input: Some(text("1")), ..owned.clone() });
    assert_eq!(put.owner.as_deref(), Some("app.py"));
    let put = fixture.put(at(2), NewSchedule { owner: Some(text("web")), ..owned });
    assert_eq!(put.owner.as_deref(), Some("web"));
}

fn a_changed_policy_keeps_the_next_slot(fixture: &Fixture<'_>) {
    fixture.put(at(0), new_schedule("a", Some(at(60))));
    let changed = NewSchedule { spec: "{}".into(), ..new_schedule("a", Some(at(600))) };
    let put = fixture.put(at(100), changed);
    assert_eq!((put.next_slot, put.attended_from), (Some(at(60)), at(0)), "it is due, and not lost");
    assert_eq!((put.updated_at, put.revision), (at(100), 2));
    assert_eq!(fixture.history(&put.id), []);
}

fn other_cadence(next: Option<Timestamp>) -> NewSchedule {
    NewSchedule { spec: spec("0 9 * * *"), compiled_spec: text("0 9 * * *|UTC"), ..new_schedule("a", next) }
}

fn a_changed_cadence_starts_from_now(fixture: &Fixture<'_>) {
    fixture.put(at(0), new_schedule("a", Some(at(60))));
    let put = fixture.put(at(30), other_cadence(Some(at(600))));
    assert_eq!((put.next_slot, put.attended_from), (Some(at(600)), at(30)));
    assert_eq!(fixture.history(&put.id), [], "the old slot was not due");
}

/// A schedule with a list of expressions, and what a client computes as its first slot.
fn list(expressions: &str, next: Option<Timestamp>) -> NewSchedule {
    let spec = format!(r#"{{"cron":{expressions}}}"#);
    NewSchedule { spec: spec.into(), compiled_spec: text(expressions), ..new_schedule("a", next) }
}

fn an_edited_list_fires_no_slot_again(fixture: &Fixture<'_>) {
    let schedule = fixture.put(at(0), list(r#"["* * * * *","*/2 * * * *"]"#, Some(at(60))));
    fixture.fire(at(60), &schedule, at(60), Admission::Claim);
    // The new lists have the slot that ran, and the client computed its first slot before that.
    for edited in [r#"["* * * * *","*/3 * * * *"]"#, r#"["* * * * *"]"#] {
        let put = fixture.put(at(61), list(edited, Some(at(60))));
        assert_eq!(put.next_slot, Some(at(120)), "{edited}");
    }
    assert_eq!(lines(fixture, &schedule.id).len(), 1, "the run");
}

fn a_list_in_another_order_keeps_what_is_due(fixture: &Fixture<'_>) {
    let schedule = fixture.put(at(0), list(r#"["* * * * *","*/2 * * * *"]"#, Some(at(60))));
    let put = fixture.put(at(61), list(r#"["*/2 * * * *","* * * * *"]"#, Some(at(120))));
    assert_eq!(put.next_slot, Some(at(60)), "still due");
    let put = fixture.put(at(61), list(r#"["*/2 * * * *"]"#, Some(at(120))));
    assert_eq!(put.next_slot, Some(at(120)));
    let changed = "the schedule was changed".to_owned();
    assert_eq!(lines(fixture, &schedule.id), [(at(60), at(60), 1, changed)]);
}

fn a_changed_cadence_without_a_slot_finishes(fixture: &Fixture<'_>) {
    fixture.put(at(0), new_schedule("a", Some(at(60))));
    assert_eq!(fixture.put(at(30), other_cadence(None)).status, ScheduleStatus::Finished);
}

/// First slot, last slot, how many and why, newest first.
fn lines(fixture: &Fixture<'_>, id: &ScheduleId) -> Vec<(Timestamp, Timestamp, u64, String)> {
    let history = fixture.store.history(PROJECT, id, &everything()).unwrap().unwrap_or_default();
    history.into_iter().map(|line| (line.from, line.until, line.count, line.reason.to_string())).collect()
}

fn every_slot_that_was_due_when_the_cadence_changed_is_missed(fixture: &Fixture<'_>) {
    let why = "the schedule was changed".to_owned();
    for (key, now, expected) in [
        ("a", 59, vec![]),
        ("b", 60, vec![(at(60), at(60), 1, why.clone())]),
        ("c", 260, vec![(at(60), at(240), 4, why.clone())]),
    ] {
        fixture.put(at(0), new_schedule(key, Some(at(60))));
        let put = fixture.put(at(now), NewSchedule { key: text(key), ..other_cadence(Some(at(600))) });
        assert_eq!(lines(fixture, &put.id), expected);
        let put = fixture.put(at(601), NewSchedule { key: text(key), ..new_schedule(key, Some(at(660))) });
        assert_eq!(
            lines(fixture, &put.id).len(),
            expected.len() + 1,
            "a slot that its cadence no longer knows"
        );
    }
    // Those of a paused schedule would have been decided when it was resumed.
    let paused = paused(fixture, "d");
    fixture.put(at(125), NewSchedule { key: text("d"), ..other_cadence(Some(at(600))) });
    assert_eq!(lines(fixture, &paused.id), [(at(60), at(120), 2, why)]);
}

fn a_one_off_that_stays_due_leaves_what_was_promised_beside_it(fixture: &Fixture<'_>) {
    // The slot at 61 was promised by other time zone data.
    fixture.put(at(0), new_schedule("a", Some(at(61))));
    let once = NewSchedule {
        spec: format!(r#"{{"at_us":{},"timezone":"UTC"}}"#, at(120).as_micros()).into(),
        compiled_spec: text("at"),
        ..new_schedule("a", Some(at(120)))
    };
    let put = fixture.put(at(200), once);
    assert_eq!(put.next_slot, Some(at(120)));
    let why = "the schedule was changed".to_owned();
    assert_eq!(lines(fixture, &put.id), [(at(180), at(180), 1, why.clone()), (at(61), at(61), 1, why)]);
}

fn slots_on_excluded_dates_are_forgotten_as_skipped(fixture: &Fixture<'_>) {
    // The test's time begins at nine on the 15th.
    let daily = r#"{"cron":"0 9 * * *","timezone":"Europe/Berlin","skip_dates":["2027-01-17"]}"#;
    let day = |number: i64| at(number * 86_400);
    let schedule = fixture.put(day(0), NewSchedule { spec: daily.into(), ..new_schedule("a", Some(day(1))) });
    fixture.delete(day(4), &schedule.id);
    let why = "the schedule was deleted".to_owned();
    let excluded = "2027-01-17 is excluded".to_owned();
    let expected =
        [(day(3), day(4), 2, why.clone()), (day(2), day(2), 1, excluded), (day(1), day(1), 1, why)];
    assert_eq!(lines(fixture, &schedule.id), expected);
}

fn a_retirement_leaves_no_due_slot_without_a_fate(fixture: &Fixture<'_>) {
    let declared = NewSchedule { owner: Some(text("app.py")), ..new_schedule("a", Some(at(60))) };
    let schedule = fixture.put(at(0), declared.clone());
    fixture.ok(at(130), Command::RegisterWorker(Box::new(new_worker("wkr_2"))));
    let retired = fixture.schedule(&schedule.id);
    assert_eq!((retired.status, retired.next_slot), (ScheduleStatus::Retired, Some(at(180))));
    let noted = (at(130), at(130), 0, "retired: `app.py` no longer declares it".to_owned());
    let expected = [noted, (at(60), at(120), 2, "the schedule was retired".to_owned())];
    assert_eq!(lines(fixture, &schedule.id), expected);
    let declared = NewSchedule { next_slot: Some(at(360)), ..declared };
    let back = WorkerEntry { declared: vec![declared], ..new_worker("wkr_3") };
    fixture.ok(at(300), Command::RegisterWorker(Box::new(back)));
    assert_eq!(fixture.schedule(&schedule.id).status, ScheduleStatus::Active);
    let skipped = (at(180), at(300), 3, "the schedule was retired".to_owned());
    assert_eq!(lines(fixture, &schedule.id)[0], skipped, "what nobody wanted meanwhile");
    assert_eq!(lines(fixture, &schedule.id)[1..], expected, "once");
}

fn what_a_broken_schedule_left_lying_is_missed(fixture: &Fixture<'_>) {
    let schedule = fixture.put(at(0), new_schedule("a", Some(at(60))));
    let patch = Patch { status: Some(ScheduleStatus::Broken), ..Patch::default() };
    fixture.patch(at(61), &schedule.id, patch);
    fixture.put(at(130), new_schedule("a", Some(at(180))));
    assert_eq!(lines(fixture, &schedule.id), [(at(60), at(120), 2, "the schedule was changed".to_owned())]);
    // One that nobody can read.
    let spec = "{".into();
    let unread = fixture.put(at(0), NewSchedule { spec, ..new_schedule("b", Some(at(60))) });
    fixture.delete(at(130), &unread.id);
    assert_eq!(lines(fixture, &unread.id), [(at(60), at(60), 1, "the schedule was deleted".to_owned())]);
}

fn paused(fixture: &Fixture<'_>, key: &str) -> Schedule {
    fixture.put(at(0), new_schedule(key, Some(at(60))));
    let patch = Patch { status: Some(ScheduleStatus::Paused), ..Patch::default() };
    fixture.patch(at(1), &id(key), patch)
}

fn a_paused_schedule_stays_paused(fixture: &Fixture<'_>) {
    paused(fixture, "a");
    let put = fixture.put(at(100), other_cadence(Some(at(600))));
    assert_eq!((put.status, put.next_slot), (ScheduleStatus::Paused, Some(at(600))));
}

fn comes_back(fixture: &Fixture<'_>, status: ScheduleStatus) {
    fixture.put(at(0), new_schedule("a", Some(at(60))));
    let patch = Patch { status: Some(status), note: Some(Some(text("why"))), ..Patch::default() };
    fixture.patch(at(1), &id("a"), patch);
    let put = fixture.put(at(100), new_schedule("a", Some(at(120))));
    assert_eq!(
        (put.status, put.next_slot, put.attended_from),
        (ScheduleStatus::Active, Some(at(120)), at(100))
    );
    assert_eq!((put.note, put.failure_count), (None, 0));
    let patch = Patch { status: Some(status), ..Patch::default() };
    fixture.patch(at(101), &id("a"), patch);
    assert_eq!(fixture.put(at(102), new_schedule("a", None)).status, ScheduleStatus::Finished);
}

fn a_retired_schedule_comes_back(fixture: &Fixture<'_>) {
    comes_back(fixture, ScheduleStatus::Retired);
    let skipped = [(at(60), "the schedule was retired".to_owned())];
    assert_eq!(fixture.history(&id("a")), skipped, "nobody wanted its slots");
}

fn a_broken_schedule_comes_back(fixture: &Fixture<'_>) {
    comes_back(fixture, ScheduleStatus::Broken);
}

fn break_it(fixture: &Fixture<'_>, now: Timestamp, key: &str) {
    let patch = Patch { status: Some(ScheduleStatus::Broken), ..Patch::default() };
    fixture.patch(now, &id(key), patch);
}

fn a_schedule_that_comes_back_repeats_no_slot(fixture: &Fixture<'_>) {
    // Of what a caller has computed, only a slot counts that is still to come.
    for (key, given, next) in [("a", 60, 180), ("b", 120, 180), ("c", 240, 240)] {
        fixture.put(at(0), new_schedule(key, Some(at(60))));
        break_it(fixture, at(50), key);
        assert_eq!(
            fixture.put(at(120), new_schedule(key, Some(at(given)))).next_slot,
            Some(at(next)),
            "{key}"
        );
    }
    // A clock that is ahead has run one of them.
    let schedule = fixture.put(at(0), new_schedule("d", Some(at(60))));
    let run = fixture.fire(at(170), &schedule, at(180), Admission::Claim);
    fixture.ok(at(170), record(&run, "early"));
    break_it(fixture, at(170), "d");
    assert_eq!(fixture.put(at(100), new_schedule("d", Some(at(120)))).next_slot, Some(at(240)));
}

fn a_one_off_that_comes_back_runs_late_only_if_its_time_is_another(fixture: &Fixture<'_>) {
    let one_off = |key: &str, slot: i64| NewSchedule {
        spec: format!(r#"{{"at_us":{},"timezone":"UTC"}}"#, at(slot).as_micros()).into(),
        compiled_spec: text(&format!("at {slot}")),
        ..new_schedule(key, Some(at(slot)))
    };
    for (key, slot, expected) in
        [("a", 60, (ScheduleStatus::Finished, None)), ("b", 70, (ScheduleStatus::Active, Some(at(70))))]
    {
        fixture.put(at(0), one_off(key, 60));
        break_it(fixture, at(50), key);
        let put = fixture.put(at(100), one_off(key, slot));
        assert_eq!((put.status, put.next_slot), expected, "{key}");
    }
}

fn a_finished_schedule_with_the_same_spec_stays_finished(fixture: &Fixture<'_>) {
    let finished = fixture.put(at(0), new_schedule("a", None));
    assert_eq!(fixture.put(at(1), new_schedule("a", Some(at(60)))), finished);
    let put = fixture.put(at(2), NewSchedule { input: Some(text("1")), ..new_schedule("a", Some(at(60))) });
    assert_eq!((put.status, put.next_slot), (ScheduleStatus::Finished, None));
    assert_eq!(put.input, Some(text("1")));
}

fn a_finished_schedule_with_another_spec_comes_back(fixture: &Fixture<'_>) {
    fixture.put(at(0), new_schedule("a", None));
    let put = fixture.put(at(5), other_cadence(Some(at(60))));
    assert_eq!((put.status, put.next_slot, put.attended_from), (ScheduleStatus::Active, Some(at(60)), at(5)));
}

fn a_change_revokes_claims_what_was_claimed_ahead(fixture: &Fixture<'_>) {
    let schedule = fixture.put(at(0), new_schedule("a", Some(at(60))));
    let run = fixture.fire(at(59), &schedule, at(60), Admission::Claim);
    let put = fixture.put(at(59), NewSchedule { input: Some(text("1")), ..new_schedule("a", Some(at(60))) });
    assert_eq!(fixture.find_run(&run), None);
    assert_eq!((put.next_slot, put.last_slot, put.run_count), (Some(at(60)), None, 0));
    let claim = (run.clone(), polos::model::Token(1));
    assert_eq!(fixture.store.claims_stand(&[claim]).unwrap(), [false]);
    fixture.fire(at(60), &put, at(60), Admission::Claim);
    assert_eq!(fixture.run(&run).input, Some(text("1")));
    // Whoever lost the claim still has its token.
    assert_eq!(fixture.store.claims_stand(&[(run, polos::model::Token(1))]).unwrap(), [false]);
}

fn a_claim_before_a_decided_slot_is_not_taken_back(fixture: &Fixture<'_>) {
    // The slot behind it was decided by a clock that was ahead: it was missed, or it has a step.
    for (key, has_line) in [("a", true), ("b", false)] {
        let schedule = fixture.put(at(0), new_schedule(key, Some(at(60))));
        let slots = [at(60), at(120)].map(|slot| (slot, Admission::Claim));
        let mut plan = fixture.plan(&schedule, if has_line { &slots[..1] } else { &slots });
        if has_line {
            plan.ledger = vec![missed(at(120))];
        }
        fixture.commit_plan(at(59), plan);
        if !has_line {
            fixture.ok(at(59), record(&RunId::of_slot(&schedule.id, at(120)), "early"));
        }
        let before = fixture.schedule(&schedule.id);
        let patch = Patch { input: Some(Some(text("1"))), ..Patch::default() };
        let after = fixture.patch(at(59), &schedule.id, patch);
        assert_eq!((after.last_slot, after.run_count), (before.last_slot, before.run_count), "{key}");
        assert_eq!(fixture.state(&RunId::of_slot(&schedule.id, at(60))), RunState::Running, "{key}");
    }
}

fn a_slot_taken_back_and_backfilled_has_other_tokens(fixture: &Fixture<'_>) {
    let schedule = fixture.put(at(0), new_schedule("a", Some(at(60))));
    let run = fixture.fire(at(59), &schedule, at(60), Admission::Claim);
    let given_out = fixture.run(&run).token;
    fixture.put(at(59), other_cadence(Some(at(600))));
    // Its worker sleeps; meanwhile the slot passes, and somebody wants it after all.
    fixture.create(at(70), backfill(&schedule, at(60)));
    fixture.claim(at(70));
    assert_eq!(fixture.state(&run), RunState::Running);
    assert_eq!(fixture.store.claims_stand(&[(run, given_out)]).unwrap(), [false]);
}

fn a_change_leaves_a_run_that_recorded_a_step(fixture: &Fixture<'_>) {
    // By the clock of its worker it has started; ours is behind.
    let schedule = fixture.put(at(0), new_schedule("a", Some(at(60))));
    let run = fixture.fire(at(59), &schedule, at(60), Admission::Claim);
    fixture.ok(at(59), record(&run, "early"));
    let put = fixture.put(at(59), NewSchedule { input: Some(text("1")), ..new_schedule("a", Some(at(60))) });
    assert_eq!(fixture.run(&run).state, RunState::Running);
    assert_eq!((fixture.steps(&run).len(), put.last_slot, put.run_count), (1, Some(at(60)), 1));
}

fn record(run: &RunId, name: &str) -> Command {
    let step = super::super::fixture::done_step(name);
    Command::RecordStep { run: run.clone(), token: polos::model::Token(1), step }
}

fn taking_back_undoes_the_last_of_several_slots_first(fixture: &Fixture<'_>) {
    let schedule = fixture.put(at(0), new_schedule("a", Some(at(10))));
    let slots = [at(10), at(20), at(30)].map(|slot| (slot, Admission::Claim));
    fixture.commit_plan(at(15), fixture.plan(&schedule, &slots));
    let put = fixture.put(at(15), other_cadence(Some(at(600))));
    assert_eq!((put.last_slot, put.run_count), (Some(at(10)), 1));
    let history: Vec<_> = fixture.history(&put.id).into_iter().map(|(slot, _)| slot).collect();
    assert_eq!(history, [at(10)]);
    assert_eq!(put.next_slot, Some(at(600)), "the cadence is another");
}

fn taking_back_revives_what_the_claim_had_finished(fixture: &Fixture<'_>) {
    let schedule = fixture.put(at(0), new_schedule("a", Some(at(60))));
    let mut plan = fixture.plan(&schedule, &[(at(60), Admission::Claim)]);
    plan.next_slot = None;
    plan.status = ScheduleStatus::Finished;
    fixture.commit_plan(at(59), plan);
    assert_eq!(fixture.schedule(&schedule.id).status, ScheduleStatus::Finished);
    let put = fixture.put(at(59), NewSchedule { input: Some(text("1")), ..new_schedule("a", None) });
    assert_eq!((put.status, put.next_slot), (ScheduleStatus::Active, Some(at(60))));
}

fn taking_back_lets_the_next_in_line_run(fixture: &Fixture<'_>) {
    let schedule = fixture.put(at(0), new_schedule("a", Some(at(60))));
    fixture.fire(at(59), &schedule, at(60), Admission::Claim);
    let behind = fixture.create(at(59), backfill(&schedule, at(30)));
    assert_eq!(fixture.state(&behind), RunState::Buffered);
    fixture.put(at(59), NewSchedule { input: Some(text("1")), ..new_schedule("a", Some(at(60))) });
    assert_eq!(fixture.state(&behind), RunState::Queued);
}

fn an_edit_lets_the_next_in_line_run(fixture: &Fixture<'_>) {
    let schedule = fixture.put(at(0), new_schedule("a", Some(at(60))));
    fixture.fire(at(59), &schedule, at(60), Admission::Claim);
    let behind = fixture.create(at(59), backfill(&schedule, at(30)));
    fixture.patch(at(59), &schedule.id, Patch { input: Some(Some(text("1"))), ..Patch::default() });
    assert_eq!(fixture.state(&behind), RunState::Queued, "nothing is left that it could wait for");
}

fn a_retirement_lets_the_next_in_line_run(fixture: &Fixture<'_>) {
    let owner = Some(text("app.py"));
    let declared = NewSchedule { owner, ..new_schedule("a", Some(at(60))) };
    let id = declared.id.clone();
    let enter = |worker: &str, declared: Vec<NewSchedule>| {
        fixture.ok(at(59), Command::RegisterWorker(Box::new(WorkerEntry { declared, ..new_worker(worker) })));
    };
    enter("wkr_2", vec![declared]);
    let schedule = fixture.schedule(&id);
    fixture.fire(at(59), &schedule, at(60), Admission::Claim);
    let behind = fixture.create(at(59), backfill(&schedule, at(30)));
    assert_eq!(fixture.state(&behind), RunState::Buffered);
    fixture.ok(at(59), Command::DeregisterWorker { worker: "wkr_2".into() });
    enter("wkr_3", Vec::new());
    assert_eq!(fixture.schedule(&id).status, ScheduleStatus::Retired);
    assert_eq!(fixture.state(&behind), RunState::Queued, "nothing is left that it could wait for");
}

fn backfill(schedule: &Schedule, slot: Timestamp) -> NewRun {
    let id = RunId::of_slot(&schedule.id, slot);
    NewRun {
        schedule_id: Some(schedule.id.clone()),
        slot: Some(slot),
        origin: Origin::Backfill,
        behind: true,
        ..new_run(id.as_str())
    }
}

fn a_run_that_is_added_by_hand_revokes_claims_what_was_claimed_early(fixture: &Fixture<'_>) {
    for (key, behind) in [("a", false), ("b", true)] {
        let schedule = fixture.put(at(0), new_schedule(key, Some(at(60))));
        let early = fixture.fire(at(59), &schedule, at(60), Admission::Claim);
        let by_hand = backfill(&schedule, at(30));
        let by_hand = fixture.create(at(59), NewRun { behind, revokes_claims: true, ..by_hand });
        assert_eq!(fixture.find_run(&early), None, "its slot is decided again, with the new run in view");
        assert_eq!(fixture.state(&by_hand), RunState::Queued);
        assert_eq!(fixture.schedule(&schedule.id).next_slot, Some(at(60)));
    }
}

fn a_run_is_not_added_to_a_schedule_that_has_moved(fixture: &Fixture<'_>) {
    let schedule = fixture.put(at(0), new_schedule("a", Some(at(60))));
    let guarded = |slot, revision| NewRun { revision: Some(revision), ..backfill(&schedule, at(slot)) };
    fixture.create(at(1), guarded(10, schedule.revision));
    let late = Command::CreateRun(Box::new(guarded(20, schedule.revision)));
    assert_eq!(fixture.no(at(1), late), Rejection::Stale);
    assert_eq!(fixture.find_run(&guarded(20, 0).id), None);
}

fn what_is_not_ahead_is_not_taken_back(fixture: &Fixture<'_>) {
    let schedule = fixture.put(at(0), new_schedule("a", Some(at(60))));
    let run = fixture.fire(at(60), &schedule, at(60), Admission::Claim);
    let by_hand = NewRun { origin: Origin::Trigger, behind: false, ..backfill(&schedule, at(99)) };
    let by_hand = fixture.create(at(60), by_hand);
    fixture.claim(at(60));
    fixture.put(at(60), NewSchedule { input: Some(text("1")), ..new_schedule("a", None) });
    assert_eq!((fixture.state(&run), fixture.state(&by_hand)), (RunState::Running, RunState::Running));
}

fn what_was_queued_ahead_is_taken_back_too(fixture: &Fixture<'_>) {
    let paused = || Patch { status: Some(ScheduleStatus::Paused), ..Patch::default() };
    for (key, admission) in [("a", Admission::Queue), ("b", Admission::Behind)] {
        let schedule = fixture.put(at(0), new_schedule(key, Some(at(60))));
        let before = fixture.create(at(59), backfill(&schedule, at(30)));
        let run = fixture.fire(at(59), &schedule, at(60), admission);
        let patched = fixture.patch(at(59), &schedule.id, paused());
        assert_eq!((patched.next_slot, patched.run_count), (Some(at(60)), 0));
        assert_eq!(fixture.find_run(&run), None, "a paused schedule starts nothing");
        assert_eq!(fixture.state(&before), RunState::Queued);
    }
    let schedule = fixture.put(at(0), new_schedule("c", Some(at(60))));
    let run = fixture.fire(at(59), &schedule, at(60), Admission::Queue);
    fixture.patch(at(60), &schedule.id, paused());
    assert_eq!(fixture.state(&run), RunState::Queued, "its slot has come");
}

fn what_was_tried_again_is_not_taken_back(fixture: &Fixture<'_>) {
    // By a clock that was a minute faster than that of the edit.
    let schedule = fixture.put(at(0), new_schedule("a", Some(at(60))));
    let run = fixture.fire(at(60), &schedule, at(60), Admission::Claim);
    fixture.end(at(61), &run, Completion::Failed { error: text("{}"), retry_at: Some(at(70)) });
    let patch = Patch { status: Some(ScheduleStatus::Paused), ..Patch::default() };
    fixture.patch(at(10), &schedule.id, patch);
    assert_eq!(fixture.state(&run), RunState::Queued);
}

fn a_pause_after_failures_revokes_claims_too(fixture: &Fixture<'_>) {
    let spec = r#"{"cron":"* * * * *","pause_after_failures":1}"#.into();
    let schedule = fixture.put(at(0), NewSchedule { spec, ..new_schedule("a", Some(at(60))) });
    let failing = fixture.fire(at(60), &schedule, at(60), Admission::Claim);
    let ahead = fixture.fire(at(119), &schedule, at(120), Admission::Claim);
    let token = fixture.run(&failing).token;
    let ending = Command::CompleteRun {
        run: failing.clone(),
        token,
        ending: Box::new(super::super::fixture::failed()),
        stands_alone: false,
        tells: false,
    };
    fixture.ok(at(119), ending);
    let schedule = fixture.schedule(&schedule.id);
    assert_eq!((schedule.status, schedule.next_slot), (ScheduleStatus::Paused, Some(at(120))));
    assert_eq!((schedule.run_count, schedule.last_slot), (1, Some(at(60))));
    assert_eq!(fixture.find_run(&ahead), None, "it would start in a paused schedule");
    assert_eq!(fixture.state(&failing), RunState::Failed);
}

fn a_patch_changes_what_it_names(fixture: &Fixture<'_>) {
    let schedule = fixture.put(at(0), new_schedule("a", Some(at(60))));
    let patch = Patch {
        spec: Some(("{}".into(), text("* * * * *|UTC"), Some(at(600)))),
        input: Some(Some(text("1"))),
        status: Some(ScheduleStatus::Broken),
        note: Some(Some(text("why"))),
        ..Patch::default()
    };
    let patched = fixture.patch(at(5), &schedule.id, patch);
    let expected = Schedule {
        spec: "{}".into(),
        input: Some(text("1")),
        status: ScheduleStatus::Broken,
        note: Some(text("why")),
        updated_at: at(5),
        revision: 2,
        ..schedule
    };
    assert_eq!(patched, expected);
    assert_eq!(fixture.schedule(&expected.id), expected);
}

fn a_patch_of_another_revision_is_stale(fixture: &Fixture<'_>) {
    let schedule = fixture.put(at(0), new_schedule("a", Some(at(60))));
    let patch = Patch { note: Some(Some(text("why"))), ..Patch::default() };
    let answer = fixture.no(at(1), patch_command(&schedule.id, Some(2), patch.clone()));
    assert_eq!(answer, Rejection::Stale);
    assert_eq!(fixture.schedule(&schedule.id), schedule);
    fixture.ok(at(1), patch_command(&schedule.id, Some(1), patch.clone()));
    let answer = fixture.no(at(2), patch_command(&schedule.id, Some(1), patch));
    assert_eq!(answer, Rejection::Stale, "it has moved since");
}

fn a_patch_of_nothing_touches_nothing(fixture: &Fixture<'_>) {
    let paused = paused(fixture, "a");
    let mark = fixture.store.change_mark().unwrap();
    let again = Patch { status: Some(ScheduleStatus::Paused), ..Patch::default() };
    assert_eq!(fixture.patch(at(50), &paused.id, again), paused);
    assert_eq!(fixture.store.change_mark().unwrap(), mark);
}

fn a_patch_of_what_is_not_there_is_rejected(fixture: &Fixture<'_>) {
    let answer = fixture.no(at(0), patch_command(&id("a"), None, Patch::default()));
    assert_eq!(answer, Rejection::ScheduleNotFound(id("a")));
}

fn resuming_attends_from_now(fixture: &Fixture<'_>) {
    let schedule = fixture.put(at(0), new_schedule("a", Some(at(60))));
    let run = fixture.fire(at(60), &schedule, at(60), Admission::Claim);
    fixture.end(at(61), &run, super::super::fixture::failed());
    let status = |status| Patch { status: Some(status), ..Patch::default() };
    let patched = fixture.patch(at(70), &schedule.id, status(ScheduleStatus::Paused));
    assert_eq!((patched.attended_from, patched.failure_count), (at(0), 1));
    let patched = fixture.patch(at(500), &schedule.id, status(ScheduleStatus::Active));
    assert_eq!((patched.attended_from, patched.failure_count), (at(500), 0));
    assert_eq!(patched.next_slot, Some(at(120)), "its slots waited");
}

fn a_patch_that_allows_more_runs_revives_what_had_finished(fixture: &Fixture<'_>) {
    let allowing = |runs: u32| format!(r#"{{"cron":"* * * * *","timezone":"UTC","max_runs":{runs}}}"#);
    let once = NewSchedule { spec: allowing(1).into(), ..new_schedule("a", Some(at(60))) };
    let schedule = fixture.put(at(0), once);
    let mut plan = fixture.plan(&schedule, &[(at(60), Admission::Claim)]);
    (plan.next_slot, plan.status) = (None, ScheduleStatus::Finished);
    fixture.commit_plan(at(60), plan);
    let trigger = new_schedule("a", None).compiled_spec;
    let patch = |runs| Patch {
        spec: Some((allowing(runs).into(), trigger.clone(), Some(at(120)))),
        ..Patch::default()
    };
    let patched = fixture.patch(at(70), &schedule.id, patch(2));
    assert_eq!((patched.status, patched.next_slot), (ScheduleStatus::Active, Some(at(120))));
}

fn a_patched_cadence_starts_from_now(fixture: &Fixture<'_>) {
    let schedule = fixture.put(at(0), new_schedule("a", Some(at(60))));
    let patch = Patch { spec: Some(("{}".into(), text("other"), Some(at(600)))), ..Patch::default() };
    let patched = fixture.patch(at(61), &schedule.id, patch);
    assert_eq!((patched.next_slot, patched.attended_from), (Some(at(600)), at(61)));
    assert_eq!(fixture.history(&schedule.id), [(at(60), "the schedule was changed".to_owned())]);
}

fn a_skip_writes_the_ledger_and_leaves_claims_alone(fixture: &Fixture<'_>) {
    let schedule = fixture.put(at(0), new_schedule("a", Some(at(60))));
    let run = fixture.fire(at(59), &schedule, at(60), Admission::Claim);
    let patch = Patch { next_slot: Some(Some(at(180))), ledger: vec![missed(at(120))], ..Patch::default() };
    let patched = fixture.patch(at(59), &schedule.id, patch);
    assert_eq!(patched.next_slot, Some(at(180)));
    assert_eq!(fixture.state(&run), RunState::Running, "no slot between the two is lost");
    let history: Vec<_> = fixture.history(&schedule.id).into_iter().map(|(slot, _)| slot).collect();
    assert_eq!(history, [at(120), at(60)]);
}

fn a_pause_revokes_claims_what_was_claimed_ahead(fixture: &Fixture<'_>) {
    let schedule = fixture.put(at(0), new_schedule("a", Some(at(60))));
    let run = fixture.fire(at(59), &schedule, at(60), Admission::Claim);
    let patch = Patch { status: Some(ScheduleStatus::Paused), ..Patch::default() };
    let patched = fixture.patch(at(59), &schedule.id, patch);
    assert_eq!((patched.next_slot, patched.run_count), (Some(at(60)), 0));
    assert_eq!(fixture.find_run(&run), None);
}

fn deleting_cancels_what_waits(fixture: &Fixture<'_>) {
    let schedule = fixture.put(at(0), new_schedule("a", Some(at(60))));
    let running = fixture.fire(at(60), &schedule, at(60), Admission::Claim);
    let queued = fixture.fire(at(120), &schedule, at(120), Admission::Queue);
    let buffered = fixture.create(at(120), backfill(&schedule, at(30)));
    let by_hand = NewRun { origin: Origin::Trigger, behind: false, ..backfill(&schedule, at(121)) };
    let by_hand = fixture.create(at(121), by_hand);
    fixture.delete(at(122), &schedule.id);
    let states = [&running, &queued, &buffered, &by_hand].map(|run| fixture.state(run));
    let cancelled = RunState::Cancelled;
    assert_eq!(states, [RunState::Running, cancelled, cancelled, RunState::Queued]);
    assert_eq!(fixture.run(&queued).finished_at, Some(at(122)));
    assert_eq!(fixture.find_schedule(&schedule.id), None);
    assert_eq!(fixture.end(at(130), &running, super::super::fixture::succeeded()).0, RunState::Succeeded);
}

fn deleting_keeps_history(fixture: &Fixture<'_>) {
    let schedule = fixture.put(at(0), new_schedule("a", Some(at(60))));
    fixture.fire(at(60), &schedule, at(60), Admission::Claim);
    fixture.delete(at(61), &schedule.id);
    assert_eq!(fixture.history(&schedule.id), [(at(60), "running".to_owned())]);
    let again = NewSchedule { id: ScheduleId::from("sch_again"), ..new_schedule("a", Some(at(120))) };
    assert_eq!(fixture.put(at(62), again).id, ScheduleId::from("sch_again"), "the key is free");
}

fn every_due_slot_of_a_deleted_schedule_is_missed(fixture: &Fixture<'_>) {
    let why = "the schedule was deleted".to_owned();
    for (key, now, expected) in [
        ("a", 59, vec![]),
        ("b", 60, vec![(at(60), at(60), 1, why.clone())]),
        ("c", 3_659, vec![(at(60), at(3_600), 60, why.clone())]),
    ] {
        let schedule = fixture.put(at(0), new_schedule(key, Some(at(60))));
        fixture.delete(at(now), &schedule.id);
        assert_eq!(lines(fixture, &schedule.id), expected);
    }
    let paused = paused(fixture, "d");
    fixture.delete(at(120), &paused.id);
    assert_eq!(lines(fixture, &paused.id), [(at(60), at(120), 2, why)]);
}

fn deleting_what_is_not_there_is_rejected(fixture: &Fixture<'_>) {
    let delete = Command::DeleteSchedule { project: text(PROJECT), id: id("a") };
    assert_eq!(fixture.no(at(0), delete), Rejection::ScheduleNotFound(id("a")));
}

fn another_project_sees_nothing(fixture: &Fixture<'_>) {
    let schedule = fixture.put(at(0), new_schedule("a", Some(at(60))));
    assert_eq!(fixture.store.schedule("other", &schedule.id).unwrap(), None);
    let patch = Command::PatchSchedule {
        project: text("other"),
        id: schedule.id.clone(),
        revision: None,
        patch: Box::default(),
    };
    assert!(matches!(fixture.no(at(1), patch), Rejection::ScheduleNotFound(_)));
    let delete = Command::DeleteSchedule { project: text("other"), id: schedule.id.clone() };
    assert!(matches!(fixture.no(at(1), delete), Rejection::ScheduleNotFound(_)));
    assert_eq!(fixture.store.due("other", &[text("w")], at(100), 10).unwrap(), []);
    assert_eq!(fixture.store.next_work("other", &[text("w")], at(0)).unwrap().slot, None);
    let same_key = NewSchedule { id: id("b"), project: text("other"), ..new_schedule("a", Some(at(60))) };
    let ids = fixture.upsert_ids(at(2), vec![same_key]);
    assert_eq!(ids, vec![id("b")]);
}

fn names_are_taken_literally(fixture: &Fixture<'_>) {
    let long = "x".repeat(10_000);
    let names = [
        "",
        "'; DROP TABLE schedule; --",
        "\"",
        "%",
        "_",
        "a\0b",
        "a\0c",
        "\u{202e}rtl",
        "💥",
        "a\nb",
        &long,
    ];
    for (number, name) in names.iter().enumerate() {
        let new = NewSchedule {
            id: ScheduleId::from(format!("sch_{number}{name}")),
            workflow: text(name),
            key: text(name),
            input: Some(text(name)),
            ..new_schedule("a", Some(at(60)))
        };
        let put = fixture.put(at(0), new.clone());
        assert_eq!(
            (put.id, put.workflow, put.key, put.input),
            (new.id, text(name), text(name), Some(text(name)))
        );
        let due = fixture.store.due(PROJECT, &[text(name)], at(60), 10).unwrap();
        assert_eq!(due.len(), 1, "{name:?}");
    }
    let all = fixture.store.schedules(
        PROJECT,
        &polos::store::ScheduleFilter::default(),
        &super::super::fixture::everything(),
    );
    assert_eq!(all.unwrap().len(), names.len());
}
