//! Which declared schedules are retired, with several workers and owners.

use super::super::fixture::{Fixture, PROJECT, at, new_schedule, new_worker, tags, text};
use super::cases;
use polos::model::schedule::stored_tags;
use polos::model::{
    NewSchedule, Reconciliation, Schedule, ScheduleLabel, ScheduleStatus, WorkerEntry, WorkerId,
    WorkflowEntry,
};
use polos::store::{Answer, Command, Patch, Rejection};

cases! {
    what_nobody_declares_any_more_is_retired,
    what_a_live_worker_declares_is_never_retired,
    a_live_worker_of_another_application_protects_too,
    what_has_left_or_expired_protects_nothing,
    a_worker_with_a_selection_of_workflows_retires_nothing,
    another_applications_schedules_are_left_alone,
    schedules_declared_under_an_alias_are_the_applications,
    reconciling_retires_what_has_lost_its_protection,
    reconciling_needs_a_registered_worker,
    a_silent_worker_protects_nothing_unless_it_beats_again,
    a_retirement_is_in_the_history_even_without_a_due_slot,
    a_retirement_does_not_overlap_the_slots_that_it_forgets,
    slots_of_a_retired_time_are_skipped,
    a_pause_and_its_note_survive_a_retirement,
    a_change_through_the_api_stays_until_the_declaration_changes,
    tags_that_replace_declared_ones_are_an_override,
    an_input_that_replaces_the_declared_one_is_an_override,
    schedules_of_a_former_name_are_adopted_with_their_workflow,
    what_code_declares_is_not_deleted,
    an_old_process_among_new_ones_does_not_restore_its_declaration,
    the_version_decides_which_declaration_is_newer,
    when_all_newer_workers_have_left_the_older_declaration_counts,
    of_two_declarations_of_one_instant_the_stored_one_stays,
    what_was_set_through_the_api_is_no_older_declaration,
}

pub const OWNER: &str = "billing/main.py";

pub fn schedule(key: &str) -> NewSchedule {
    NewSchedule { owner: Some(text(OWNER)), ..new_schedule(key, Some(at(60))) }
}

pub fn worker(id: &str, keys: &[&str]) -> WorkerEntry {
    WorkerEntry {
        app: text(OWNER),
        declared: keys.iter().map(|key| schedule(key)).collect(),
        ..new_worker(id)
    }
}

pub fn enter(fixture: &Fixture<'_>, now: i64, entry: WorkerEntry) -> Reconciliation {
    report(fixture.ok(at(now), Command::RegisterWorker(Box::new(entry))))
}

pub fn report(answer: Answer) -> Reconciliation {
    match answer {
        Answer::Reconciled(report) => *report,
        other => panic!("{other:?}"),
    }
}

pub fn leave(fixture: &Fixture<'_>, now: i64, id: &str) {
    fixture.ok(at(now), Command::DeregisterWorker { worker: WorkerId::from(id) });
}

pub fn found(fixture: &Fixture<'_>, key: &str) -> Schedule {
    fixture.schedule(&new_schedule(key, None).id)
}

fn status(fixture: &Fixture<'_>, key: &str) -> ScheduleStatus {
    found(fixture, key).status
}

fn labels(fixture: &Fixture<'_>, keys: &[&str]) -> Vec<ScheduleLabel> {
    keys.iter().map(|key| ScheduleLabel::of(&found(fixture, key))).collect()
}

pub fn retired(fixture: &Fixture<'_>, keys: &[&str]) -> Reconciliation {
    Reconciliation { retired: labels(fixture, keys), ..Reconciliation::default() }
}

pub fn protected(fixture: &Fixture<'_>, keys: &[&str]) -> Reconciliation {
    Reconciliation { protected: labels(fixture, keys), ..Reconciliation::default() }
}

fn what_nobody_declares_any_more_is_retired(fixture: &Fixture<'_>) {
    assert_eq!(enter(fixture, 1, worker("old", &["a", "b"])), Reconciliation::default());
    leave(fixture, 2, "old");
    assert_eq!(enter(fixture, 3, worker("new", &["a"])), retired(fixture, &["b"]));
    assert_eq!(
        (status(fixture, "a"), status(fixture, "b")),
        (ScheduleStatus::Active, ScheduleStatus::Retired)
    );
    assert_eq!(enter(fixture, 4, worker("next", &["a"])), Reconciliation::default(), "once is enough");
}

fn what_a_live_worker_declares_is_never_retired(fixture: &Fixture<'_>) {
    enter(fixture, 1, worker("old", &["a", "b"]));
    let before = found(fixture, "b");
    assert_eq!(enter(fixture, 2, worker("new", &["a"])), protected(fixture, &["b"]));
    assert_eq!(found(fixture, "b"), before);
}

fn a_live_worker_of_another_application_protects_too(fixture: &Fixture<'_>) {
    enter(fixture, 1, worker("old", &["a"]));
    leave(fixture, 2, "old");
    // A third program imports the same module; the owner is who declared it last.
    let web = WorkerEntry { app: text("web/app.py"), declared: vec![schedule("a")], ..new_worker("web") };
    enter(fixture, 3, web);
    assert_eq!(enter(fixture, 4, worker("new", &[])), protected(fixture, &["a"]));
    assert_eq!(status(fixture, "a"), ScheduleStatus::Active);
}

fn what_has_left_or_expired_protects_nothing(fixture: &Fixture<'_>) {
    enter(fixture, 1, worker("old", &["a"]));
    let heartbeat = fixture
        .store
        .peers(PROJECT)
        .unwrap()
        .iter()
        .find(|peer| peer.id.as_str() == "old")
        .unwrap()
        .heartbeat;
    fixture
        .ok(at(2), Command::ExpireWorker { worker: WorkerId::from("old"), heartbeat, shares_process: false });
    assert_eq!(enter(fixture, 3, worker("new", &[])), retired(fixture, &["a"]));
}

fn a_worker_with_a_selection_of_workflows_retires_nothing(fixture: &Fixture<'_>) {
    enter(fixture, 1, worker("old", &["a", "b"]));
    leave(fixture, 2, "old");
    let part = WorkerEntry { is_whole: false, ..worker("part", &["a"]) };
    assert_eq!(enter(fixture, 3, part), Reconciliation::default());
    assert_eq!(status(fixture, "b"), ScheduleStatus::Active);
}

fn another_applications_schedules_are_left_alone(fixture: &Fixture<'_>) {
    enter(fixture, 1, worker("old", &["a"]));
    leave(fixture, 2, "old");
    let other = WorkerEntry { app: text("shop/main.py"), ..new_worker("other") };
    assert_eq!(enter(fixture, 3, other), Reconciliation::default());
    assert_eq!(status(fixture, "a"), ScheduleStatus::Active);
}

fn schedules_declared_under_an_alias_are_the_applications(fixture: &Fixture<'_>) {
    enter(fixture, 1, worker("old", &["a", "b"]));
    leave(fixture, 2, "old");
    let renamed = || WorkerEntry {
        app: text("billing/jobs.py"),
        aliases: vec![text(OWNER)],
        declared: vec![NewSchedule { owner: Some(text("billing/jobs.py")), ..schedule("a") }],
        ..new_worker("new")
    };
    assert_eq!(enter(fixture, 3, renamed()), retired(fixture, &["b"]));
    assert_eq!(found(fixture, "a").owner.as_deref(), Some("billing/jobs.py"));
}

fn reconciling_retires_what_has_lost_its_protection(fixture: &Fixture<'_>) {
    enter(fixture, 1, worker("old", &["a", "b"]));
    enter(fixture, 2, worker("new", &["a"]));
    let reconcile = || Command::Reconcile { entry: Box::new(worker("new", &["a"])), silent: Vec::new() };
    assert_eq!(report(fixture.ok(at(3), reconcile())), protected(fixture, &["b"]));
    leave(fixture, 4, "old");
    assert_eq!(report(fixture.ok(at(5), reconcile())), retired(fixture, &["b"]));
    assert_eq!(status(fixture, "b"), ScheduleStatus::Retired);
    assert_eq!(report(fixture.ok(at(6), reconcile())), Reconciliation::default());
}

fn reconciling_needs_a_registered_worker(fixture: &Fixture<'_>) {
    enter(fixture, 1, worker("old", &["a"]));
    let reconcile = Command::Reconcile { entry: Box::new(worker("nobody", &[])), silent: Vec::new() };
    assert_eq!(fixture.no(at(2), reconcile), Rejection::WorkerGone);
    assert_eq!(status(fixture, "a"), ScheduleStatus::Active);
}

fn a_silent_worker_protects_nothing_unless_it_beats_again(fixture: &Fixture<'_>) {
    enter(fixture, 1, worker("old", &["a"]));
    enter(fixture, 2, worker("new", &[]));
    let silent = vec![(WorkerId::from("old"), 1)];
    let reconcile = || Command::Reconcile { entry: Box::new(worker("new", &[])), silent: silent.clone() };
    fixture.ok(at(3), Command::Heartbeat { worker: WorkerId::from("old") });
    assert_eq!(report(fixture.ok(at(4), reconcile())), protected(fixture, &["a"]), "it has beaten since");
    let silent = vec![(WorkerId::from("old"), 2)];
    let reconcile = Command::Reconcile { entry: Box::new(worker("new", &[])), silent };
    assert_eq!(report(fixture.ok(at(5), reconcile)), retired(fixture, &["a"]));
}

/// First slot, last slot, how many, and why, newest first.
fn lines(fixture: &Fixture<'_>, key: &str) -> Vec<(i64, i64, u64, String)> {
    let id = new_schedule(key, None).id;
    let entries = fixture.store.history(PROJECT, &id, &super::super::fixture::everything()).unwrap();
    let seconds = |time: polos::calendar::Timestamp| (time.as_micros() - at(0).as_micros()) / 1_000_000;
    entries
        .unwrap_or_default()
        .into_iter()
        .map(|line| (seconds(line.from), seconds(line.until), line.count, line.reason.to_string()))
        .collect()
}

fn retire(fixture: &Fixture<'_>, declared_at: i64, retired_at: i64) {
    enter(fixture, declared_at, worker("old", &["a"]));
    leave(fixture, declared_at, "old");
    assert_eq!(enter(fixture, retired_at, worker("new", &[])), retired(fixture, &["a"]));
}

const RETIRED_LINE: &str = "retired: `billing/main.py` no longer declares it";

fn a_retirement_is_in_the_history_even_without_a_due_slot(fixture: &Fixture<'_>) {
    retire(fixture, 1, 30);
    assert_eq!(lines(fixture, "a"), [(30, 30, 0, RETIRED_LINE.to_owned())]);
    assert_eq!(found(fixture, "a").note.as_deref(), Some("`billing/main.py` no longer declares it"));
}

fn a_retirement_does_not_overlap_the_slots_that_it_forgets(fixture: &Fixture<'_>) {
    retire(fixture, 1, 120);
    let entries =
        fixture.store.history(PROJECT, &found(fixture, "a").id, &super::super::fixture::everything());
    let entries = entries.unwrap().unwrap();
    assert_eq!((entries[1].from, entries[1].until, entries[1].count), (at(60), at(120), 2));
    assert_eq!(entries[0].count, 0);
    assert!(entries[0].from > entries[1].until, "{entries:?}");
}

fn slots_of_a_retired_time_are_skipped(fixture: &Fixture<'_>) {
    retire(fixture, 1, 30);
    let back = NewSchedule { next_slot: Some(at(240)), ..schedule("a") };
    enter(fixture, 200, WorkerEntry { declared: vec![back], ..worker("back", &[]) });
    let expected =
        [(60, 180, 3, "the schedule was retired".to_owned()), (30, 30, 0, RETIRED_LINE.to_owned())];
    assert_eq!(lines(fixture, "a"), expected);
    let back = found(fixture, "a");
    assert_eq!((back.status, back.next_slot), (ScheduleStatus::Active, Some(at(240))));
}

fn a_pause_and_its_note_survive_a_retirement(fixture: &Fixture<'_>) {
    enter(fixture, 1, worker("old", &["a", "b"]));
    let pause = Patch {
        status: Some(ScheduleStatus::Paused),
        note: Some(Some(text("the bank is down"))),
        ..Patch::default()
    };
    fixture.patch(at(2), &found(fixture, "a").id, pause);
    leave(fixture, 3, "old");
    assert_eq!(enter(fixture, 4, worker("new", &[])), retired(fixture, &["a", "b"]));
    leave(fixture, 5, "new");
    enter(fixture, 6, worker("back", &["a", "b"]));
    let (paused, active) = (found(fixture, "a"), found(fixture, "b"));
    assert_eq!((paused.status, paused.note.as_deref()), (ScheduleStatus::Paused, Some("the bank is down")));
    assert_eq!((active.status, active.note), (ScheduleStatus::Active, None));
    // The next retirement has nothing to remember.
    fixture.patch(at(7), &paused.id, Patch { status: Some(ScheduleStatus::Active), ..Patch::default() });
    leave(fixture, 8, "back");
    enter(fixture, 9, worker("new", &[]));
    leave(fixture, 10, "new");
    enter(fixture, 11, worker("back", &["a"]));
    assert_eq!(status(fixture, "a"), ScheduleStatus::Active);
}

pub fn with_cron(id: &str, cron: &str, version: Option<&str>) -> WorkerEntry {
    let new = NewSchedule {
        spec: super::super::fixture::spec(cron),
        compiled_spec: text(cron),
        version: version.map(text),
        ..schedule("a")
    };
    WorkerEntry { declared: vec![new], version: version.map(text), ..worker(id, &[]) }
}

fn is_overridden(schedule: &Schedule) -> bool {
    polos::model::Declaration::parse(schedule.declaration.as_deref()).unwrap().is_overridden
}

fn a_change_through_the_api_stays_until_the_declaration_changes(fixture: &Fixture<'_>) {
    enter(fixture, 1, with_cron("w1", "* * * * *", None));
    let ours = NewSchedule {
        owner: None,
        spec: super::super::fixture::spec("0 9 * * *"),
        compiled_spec: text("0 9 * * *"),
        ..schedule("a")
    };
    let changed = fixture.put(at(2), ours.clone());
    assert!(is_overridden(&changed));
    assert_eq!(changed.owner.as_deref(), Some(OWNER));
    for now in 3..6 {
        let report = enter(fixture, now, with_cron(&format!("w{now}"), "* * * * *", None));
        assert_eq!(report.overridden, labels(fixture, &["a"]));
        assert_eq!(found(fixture, "a").spec, ours.spec);
    }
    enter(fixture, 7, with_cron("w7", "0 10 * * *", None));
    assert!(!is_overridden(&found(fixture, "a")));
    assert_eq!(found(fixture, "a").spec, super::super::fixture::spec("0 10 * * *"));
    // What it declares anyway is no override.
    let same = NewSchedule { owner: None, ..with_cron("w8", "0 10 * * *", None).declared.remove(0) };
    assert!(!is_overridden(&fixture.put(at(8), same)));
}

fn tags_that_replace_declared_ones_are_an_override(fixture: &Fixture<'_>) {
    let tagged = |team| stored_tags(&tags(&[("team", team)]));
    let entry = |id: &str, team| {
        let declared = vec![NewSchedule { tags: tagged(team), ..schedule("a") }];
        WorkerEntry { declared, ..worker(id, &[]) }
    };
    enter(fixture, 1, entry("w1", "a"));
    let declared = found(fixture, "a");
    assert_eq!((declared.tags.clone(), is_overridden(&declared)), (tagged("a"), false));
    let patch = Patch { tags: Some(tagged("b")), ..Patch::default() };
    assert!(is_overridden(&fixture.patch(at(2), &declared.id, patch)));
    assert_eq!(enter(fixture, 3, entry("w3", "a")).overridden, labels(fixture, &["a"]));
    assert_eq!(found(fixture, "a").tags, tagged("b"));
    let patch = Patch { tags: Some(tagged("a")), ..Patch::default() };
    assert!(!is_overridden(&fixture.patch(at(4), &declared.id, patch)));
    enter(fixture, 5, entry("w5", "c"));
    assert_eq!(found(fixture, "a").tags, tagged("c"));
}

fn an_input_that_replaces_the_declared_one_is_an_override(fixture: &Fixture<'_>) {
    enter(fixture, 1, worker("w1", &["a"]));
    let declared = found(fixture, "a");
    let patch = |input| Patch { input: Some(input), ..Patch::default() };
    assert!(is_overridden(&fixture.patch(at(2), &declared.id, patch(Some(text("1"))))));
    assert_eq!(enter(fixture, 3, worker("w3", &["a"])).overridden, labels(fixture, &["a"]));
    assert!(!is_overridden(&fixture.patch(at(4), &declared.id, patch(None))));
}

fn schedules_of_a_former_name_are_adopted_with_their_workflow(fixture: &Fixture<'_>) {
    enter(fixture, 1, worker("old", &["a"]));
    leave(fixture, 2, "old");
    let renamed = |id: &str, workflow: &str| WorkerEntry {
        app: text("billing/jobs.py"),
        former: vec![text(OWNER)],
        workflows: vec![WorkflowEntry { id: text(workflow), schedulable: true }],
        ..new_worker(id)
    };
    // Another program may have had that name, too.
    assert_eq!(enter(fixture, 3, renamed("other", "v")), Reconciliation::default());
    assert_eq!(found(fixture, "a").owner.as_deref(), Some(OWNER));
    leave(fixture, 4, "other");
    assert_eq!(enter(fixture, 5, renamed("new", "w")).adopted, labels(fixture, &["a"]));
    let adopted = found(fixture, "a");
    assert_eq!(adopted.owner.as_deref(), Some("billing/jobs.py"));
    assert_eq!((adopted.status, is_overridden(&adopted)), (ScheduleStatus::Active, false));
    leave(fixture, 6, "new");
    assert_eq!(enter(fixture, 7, renamed("next", "w")), retired(fixture, &["a"]));
}

fn what_code_declares_is_not_deleted(fixture: &Fixture<'_>) {
    enter(fixture, 1, worker("w1", &["a"]));
    let id = found(fixture, "a").id;
    let delete = || Command::DeleteSchedule { project: text(PROJECT), id: id.clone() };
    let refused = fixture.no(at(2), delete()).to_string();
    assert!(refused.contains(OWNER) && refused.contains("pause"), "{refused}");
    leave(fixture, 3, "w1");
    enter(fixture, 4, worker("w2", &[]));
    fixture.ok(at(5), delete());
}

fn an_old_process_among_new_ones_does_not_restore_its_declaration(fixture: &Fixture<'_>) {
    let (old, new) = ("* * * * *", "0 9 * * *");
    enter(fixture, 1, with_cron("old0", old, None));
    enter(fixture, 2, with_cron("new", new, None));
    let current = found(fixture, "a");
    assert_eq!(current.spec, super::super::fixture::spec(new));
    for round in 1..=5 {
        leave(fixture, 2 + round, &format!("old{}", round - 1));
        let report = enter(fixture, 2 + round, with_cron(&format!("old{round}"), old, None));
        assert_eq!(report.outdated, labels(fixture, &["a"]));
        assert_eq!(found(fixture, "a"), current, "nothing of it is touched");
    }
    assert_eq!(fixture.history(&current.id), []);
}

fn the_version_decides_which_declaration_is_newer(fixture: &Fixture<'_>) {
    enter(fixture, 1, with_cron("new", "0 9 * * *", Some("1.10")));
    let report = enter(fixture, 2, with_cron("old", "* * * * *", Some("1.9")));
    assert_eq!(report.outdated, labels(fixture, &["a"]), "although it was seen later");
    enter(fixture, 3, with_cron("newest", "0 10 * * *", Some("1.11")));
    assert_eq!(found(fixture, "a").spec, super::super::fixture::spec("0 10 * * *"));
}

fn when_all_newer_workers_have_left_the_older_declaration_counts(fixture: &Fixture<'_>) {
    enter(fixture, 1, with_cron("old", "* * * * *", None));
    enter(fixture, 2, with_cron("new", "0 9 * * *", None));
    leave(fixture, 3, "old");
    assert_eq!(enter(fixture, 4, with_cron("back", "* * * * *", None)).outdated.len(), 1);
    leave(fixture, 5, "new");
    let entry = Box::new(with_cron("back", "* * * * *", None));
    let rolled_back = report(fixture.ok(at(6), Command::Reconcile { entry, silent: Vec::new() }));
    assert_eq!(rolled_back, Reconciliation::default());
    assert_eq!(found(fixture, "a").spec, super::super::fixture::spec("* * * * *"));
}

fn of_two_declarations_of_one_instant_the_stored_one_stays(fixture: &Fixture<'_>) {
    enter(fixture, 1, with_cron("w1", "* * * * *", None));
    enter(fixture, 1, with_cron("w2", "0 9 * * *", None));
    let stored = found(fixture, "a");
    assert_eq!(stored.spec, super::super::fixture::spec("0 9 * * *"));
    // Otherwise the two would replace each other's forever.
    let report = enter(fixture, 2, with_cron("w1", "* * * * *", None));
    assert_eq!((report.outdated, found(fixture, "a").spec), (labels(fixture, &["a"]), stored.spec));
}

fn what_was_set_through_the_api_is_no_older_declaration(fixture: &Fixture<'_>) {
    fixture.put(at(0), NewSchedule { owner: None, ..with_cron("w", "* * * * *", None).declared.remove(0) });
    enter(fixture, 1, with_cron("w1", "0 9 * * *", None));
    let report = enter(fixture, 2, with_cron("w2", "* * * * *", None));
    assert_eq!(report, Reconciliation::default(), "no code declared that before");
    assert_eq!(found(fixture, "a").spec, super::super::fixture::spec("* * * * *"));
}
