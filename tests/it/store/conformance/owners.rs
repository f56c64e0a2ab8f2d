//! Which declared schedules are retired, with several workers and owners.

use super::super::fixture::{PROJECT, Stage, at, new_schedule, new_worker, text};
use super::cases;
use polos::model::{
    NewSchedule, Reconciliation, Schedule, ScheduleLabel, ScheduleStatus, WorkerEntry, WorkerId,
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
    what_code_declares_is_not_deleted,
    an_old_process_among_new_ones_does_not_restore_its_declaration,
    the_version_decides_which_declaration_is_newer,
    when_all_newer_workers_have_left_the_older_declaration_counts,
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

pub fn enter(stage: &Stage<'_>, now: i64, entry: WorkerEntry) -> Reconciliation {
    report(stage.ok(at(now), Command::EnterWorker(Box::new(entry))))
}

pub fn report(answer: Answer) -> Reconciliation {
    match answer {
        Answer::Reconciled(report) => *report,
        other => panic!("{other:?}"),
    }
}

pub fn leave(stage: &Stage<'_>, now: i64, id: &str) {
    stage.ok(at(now), Command::LeaveWorker { worker: WorkerId::from(id) });
}

pub fn found(stage: &Stage<'_>, key: &str) -> Schedule {
    stage.schedule(&new_schedule(key, None).id)
}

fn status(stage: &Stage<'_>, key: &str) -> ScheduleStatus {
    found(stage, key).status
}

fn labels(stage: &Stage<'_>, keys: &[&str]) -> Vec<ScheduleLabel> {
    keys.iter().map(|key| ScheduleLabel::of(&found(stage, key))).collect()
}

pub fn retired(stage: &Stage<'_>, keys: &[&str]) -> Reconciliation {
    Reconciliation { retired: labels(stage, keys), ..Reconciliation::default() }
}

pub fn protected(stage: &Stage<'_>, keys: &[&str]) -> Reconciliation {
    Reconciliation { protected: labels(stage, keys), ..Reconciliation::default() }
}

fn what_nobody_declares_any_more_is_retired(stage: &Stage<'_>) {
    assert_eq!(enter(stage, 1, worker("old", &["a", "b"])), Reconciliation::default());
    leave(stage, 2, "old");
    assert_eq!(enter(stage, 3, worker("new", &["a"])), retired(stage, &["b"]));
    assert_eq!((status(stage, "a"), status(stage, "b")), (ScheduleStatus::Active, ScheduleStatus::Retired));
    assert_eq!(enter(stage, 4, worker("next", &["a"])), Reconciliation::default(), "once is enough");
}

fn what_a_live_worker_declares_is_never_retired(stage: &Stage<'_>) {
    enter(stage, 1, worker("old", &["a", "b"]));
    let before = found(stage, "b");
    assert_eq!(enter(stage, 2, worker("new", &["a"])), protected(stage, &["b"]));
    assert_eq!(found(stage, "b"), before);
}

fn a_live_worker_of_another_application_protects_too(stage: &Stage<'_>) {
    enter(stage, 1, worker("old", &["a"]));
    leave(stage, 2, "old");
    // A third program imports the same module; the owner is who declared it last.
    let web = WorkerEntry { app: text("web/app.py"), declared: vec![schedule("a")], ..new_worker("web") };
    enter(stage, 3, web);
    assert_eq!(enter(stage, 4, worker("new", &[])), protected(stage, &["a"]));
    assert_eq!(status(stage, "a"), ScheduleStatus::Active);
}

fn what_has_left_or_expired_protects_nothing(stage: &Stage<'_>) {
    enter(stage, 1, worker("old", &["a"]));
    let beat =
        stage.store.peers(PROJECT).unwrap().iter().find(|peer| peer.id.as_str() == "old").unwrap().beat;
    stage.ok(at(2), Command::BuryWorker { worker: WorkerId::from("old"), beat, shares_process: false });
    assert_eq!(enter(stage, 3, worker("new", &[])), retired(stage, &["a"]));
}

fn a_worker_with_a_selection_of_workflows_retires_nothing(stage: &Stage<'_>) {
    enter(stage, 1, worker("old", &["a", "b"]));
    leave(stage, 2, "old");
    let part = WorkerEntry { is_whole: false, ..worker("part", &["a"]) };
    assert_eq!(enter(stage, 3, part), Reconciliation::default());
    assert_eq!(status(stage, "b"), ScheduleStatus::Active);
}

fn another_applications_schedules_are_left_alone(stage: &Stage<'_>) {
    enter(stage, 1, worker("old", &["a"]));
    leave(stage, 2, "old");
    let other = WorkerEntry { app: text("shop/main.py"), ..new_worker("other") };
    assert_eq!(enter(stage, 3, other), Reconciliation::default());
    assert_eq!(status(stage, "a"), ScheduleStatus::Active);
}

fn schedules_declared_under_an_alias_are_the_applications(stage: &Stage<'_>) {
    enter(stage, 1, worker("old", &["a", "b"]));
    leave(stage, 2, "old");
    let renamed = || WorkerEntry {
        app: text("billing/jobs.py"),
        aliases: vec![text(OWNER)],
        declared: vec![NewSchedule { owner: Some(text("billing/jobs.py")), ..schedule("a") }],
        ..new_worker("new")
    };
    assert_eq!(enter(stage, 3, renamed()), retired(stage, &["b"]));
    assert_eq!(found(stage, "a").owner.as_deref(), Some("billing/jobs.py"));
}

fn reconciling_retires_what_has_lost_its_protection(stage: &Stage<'_>) {
    enter(stage, 1, worker("old", &["a", "b"]));
    enter(stage, 2, worker("new", &["a"]));
    let reconcile = || Command::Reconcile { entry: Box::new(worker("new", &["a"])), silent: Vec::new() };
    assert_eq!(report(stage.ok(at(3), reconcile())), protected(stage, &["b"]));
    leave(stage, 4, "old");
    assert_eq!(report(stage.ok(at(5), reconcile())), retired(stage, &["b"]));
    assert_eq!(status(stage, "b"), ScheduleStatus::Retired);
    assert_eq!(report(stage.ok(at(6), reconcile())), Reconciliation::default());
}

fn reconciling_needs_a_registered_worker(stage: &Stage<'_>) {
    enter(stage, 1, worker("old", &["a"]));
    let reconcile = Command::Reconcile { entry: Box::new(worker("nobody", &[])), silent: Vec::new() };
    assert_eq!(stage.no(at(2), reconcile), Rejection::WorkerGone);
    assert_eq!(status(stage, "a"), ScheduleStatus::Active);
}

fn a_silent_worker_protects_nothing_unless_it_beats_again(stage: &Stage<'_>) {
    enter(stage, 1, worker("old", &["a"]));
    enter(stage, 2, worker("new", &[]));
    let silent = vec![(WorkerId::from("old"), 1)];
    let reconcile = || Command::Reconcile { entry: Box::new(worker("new", &[])), silent: silent.clone() };
    stage.ok(at(3), Command::Beat { worker: WorkerId::from("old") });
    assert_eq!(report(stage.ok(at(4), reconcile())), protected(stage, &["a"]), "it has beaten since");
    let silent = vec![(WorkerId::from("old"), 2)];
    let reconcile = Command::Reconcile { entry: Box::new(worker("new", &[])), silent };
    assert_eq!(report(stage.ok(at(5), reconcile)), retired(stage, &["a"]));
}

/// First slot, last slot, how many, and why, newest first.
fn lines(stage: &Stage<'_>, key: &str) -> Vec<(i64, i64, u64, String)> {
    let id = new_schedule(key, None).id;
    let entries = stage.store.history(PROJECT, &id, &super::super::fixture::everything()).unwrap();
    let seconds = |time: polos::calendar::Timestamp| (time.as_micros() - at(0).as_micros()) / 1_000_000;
    entries
        .unwrap_or_default()
        .into_iter()
        .map(|line| (seconds(line.from), seconds(line.until), line.count, line.reason.to_string()))
        .collect()
}

fn retire(stage: &Stage<'_>, declared_at: i64, retired_at: i64) {
    enter(stage, declared_at, worker("old", &["a"]));
    leave(stage, declared_at, "old");
    assert_eq!(enter(stage, retired_at, worker("new", &[])), retired(stage, &["a"]));
}

const RETIRED_LINE: &str = "retired: `billing/main.py` no longer declares it";

fn a_retirement_is_in_the_history_even_without_a_due_slot(stage: &Stage<'_>) {
    retire(stage, 1, 30);
    assert_eq!(lines(stage, "a"), [(30, 30, 0, RETIRED_LINE.to_owned())]);
    assert_eq!(found(stage, "a").note.as_deref(), Some("`billing/main.py` no longer declares it"));
}

fn a_retirement_does_not_overlap_the_slots_that_it_forgets(stage: &Stage<'_>) {
    retire(stage, 1, 120);
    let entries = stage.store.history(PROJECT, &found(stage, "a").id, &super::super::fixture::everything());
    let entries = entries.unwrap().unwrap();
    assert_eq!((entries[1].from, entries[1].until, entries[1].count), (at(60), at(120), 2));
    assert_eq!(entries[0].count, 0);
    assert!(entries[0].from > entries[1].until, "{entries:?}");
}

fn slots_of_a_retired_time_are_skipped(stage: &Stage<'_>) {
    retire(stage, 1, 30);
    let back = NewSchedule { next_slot: Some(at(240)), ..schedule("a") };
    enter(stage, 200, WorkerEntry { declared: vec![back], ..worker("back", &[]) });
    let expected =
        [(60, 180, 3, "the schedule was retired".to_owned()), (30, 30, 0, RETIRED_LINE.to_owned())];
    assert_eq!(lines(stage, "a"), expected);
    let back = found(stage, "a");
    assert_eq!((back.status, back.next_slot), (ScheduleStatus::Active, Some(at(240))));
}

fn a_pause_and_its_note_survive_a_retirement(stage: &Stage<'_>) {
    enter(stage, 1, worker("old", &["a", "b"]));
    let pause = Patch {
        status: Some(ScheduleStatus::Paused),
        note: Some(Some(text("the bank is down"))),
        ..Patch::default()
    };
    stage.patch(at(2), &found(stage, "a").id, pause);
    leave(stage, 3, "old");
    assert_eq!(enter(stage, 4, worker("new", &[])), retired(stage, &["a", "b"]));
    leave(stage, 5, "new");
    enter(stage, 6, worker("back", &["a", "b"]));
    let (paused, active) = (found(stage, "a"), found(stage, "b"));
    assert_eq!((paused.status, paused.note.as_deref()), (ScheduleStatus::Paused, Some("the bank is down")));
    assert_eq!((active.status, active.note), (ScheduleStatus::Active, None));
    // The next retirement has nothing to remember.
    stage.patch(at(7), &paused.id, Patch { status: Some(ScheduleStatus::Active), ..Patch::default() });
    leave(stage, 8, "back");
    enter(stage, 9, worker("new", &[]));
    leave(stage, 10, "new");
    enter(stage, 11, worker("back", &["a"]));
    assert_eq!(status(stage, "a"), ScheduleStatus::Active);
}

fn with_cron(id: &str, cron: &str, version: Option<&str>) -> WorkerEntry {
    let new = NewSchedule {
        spec: super::super::fixture::spec(cron),
        cadence: text(cron),
        version: version.map(text),
        ..schedule("a")
    };
    WorkerEntry { declared: vec![new], version: version.map(text), ..worker(id, &[]) }
}

fn is_overridden(schedule: &Schedule) -> bool {
    polos::model::Declaration::parse(schedule.declaration.as_deref()).unwrap().is_overridden
}

fn a_change_through_the_api_stays_until_the_declaration_changes(stage: &Stage<'_>) {
    enter(stage, 1, with_cron("w1", "* * * * *", None));
    let ours = NewSchedule {
        owner: None,
        spec: super::super::fixture::spec("0 9 * * *"),
        cadence: text("0 9 * * *"),
        ..schedule("a")
    };
    let changed = stage.put(at(2), ours.clone());
    assert!(is_overridden(&changed));
    assert_eq!(changed.owner.as_deref(), Some(OWNER));
    for now in 3..6 {
        let report = enter(stage, now, with_cron(&format!("w{now}"), "* * * * *", None));
        assert_eq!(report.overridden, labels(stage, &["a"]));
        assert_eq!(found(stage, "a").spec, ours.spec);
    }
    enter(stage, 7, with_cron("w7", "0 10 * * *", None));
    assert!(!is_overridden(&found(stage, "a")));
    assert_eq!(found(stage, "a").spec, super::super::fixture::spec("0 10 * * *"));
    // What it declares anyway is no override.
    let same = NewSchedule { owner: None, ..with_cron("w8", "0 10 * * *", None).declared.remove(0) };
    assert!(!is_overridden(&stage.put(at(8), same)));
}

fn what_code_declares_is_not_deleted(stage: &Stage<'_>) {
    enter(stage, 1, worker("w1", &["a"]));
    let id = found(stage, "a").id;
    let delete = || Command::DeleteSchedule { project: text(PROJECT), id: id.clone() };
    let refused = stage.no(at(2), delete()).to_string();
    assert!(refused.contains(OWNER) && refused.contains("pause"), "{refused}");
    leave(stage, 3, "w1");
    enter(stage, 4, worker("w2", &[]));
    stage.ok(at(5), delete());
}

fn an_old_process_among_new_ones_does_not_restore_its_declaration(stage: &Stage<'_>) {
    let (old, new) = ("* * * * *", "0 9 * * *");
    enter(stage, 1, with_cron("old0", old, None));
    enter(stage, 2, with_cron("new", new, None));
    let current = found(stage, "a");
    assert_eq!(current.spec, super::super::fixture::spec(new));
    for round in 1..=5 {
        leave(stage, 2 + round, &format!("old{}", round - 1));
        let report = enter(stage, 2 + round, with_cron(&format!("old{round}"), old, None));
        assert_eq!(report.outdated, labels(stage, &["a"]));
        assert_eq!(found(stage, "a"), current, "nothing of it is touched");
    }
    assert_eq!(stage.history(&current.id), []);
}

fn the_version_decides_which_declaration_is_newer(stage: &Stage<'_>) {
    enter(stage, 1, with_cron("new", "0 9 * * *", Some("1.10")));
    let report = enter(stage, 2, with_cron("old", "* * * * *", Some("1.9")));
    assert_eq!(report.outdated, labels(stage, &["a"]), "although it was seen later");
    enter(stage, 3, with_cron("newest", "0 10 * * *", Some("1.11")));
    assert_eq!(found(stage, "a").spec, super::super::fixture::spec("0 10 * * *"));
}

fn when_all_newer_workers_have_left_the_older_declaration_counts(stage: &Stage<'_>) {
    enter(stage, 1, with_cron("old", "* * * * *", None));
    enter(stage, 2, with_cron("new", "0 9 * * *", None));
    leave(stage, 3, "old");
    assert_eq!(enter(stage, 4, with_cron("back", "* * * * *", None)).outdated.len(), 1);
    leave(stage, 5, "new");
    let entry = Box::new(with_cron("back", "* * * * *", None));
    let rolled_back = report(stage.ok(at(6), Command::Reconcile { entry, silent: Vec::new() }));
    assert_eq!(rolled_back, Reconciliation::default());
    assert_eq!(found(stage, "a").spec, super::super::fixture::spec("* * * * *"));
}
