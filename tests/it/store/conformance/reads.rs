//! Questions.

use super::super::stage::{
    PROJECT, Stage, at, everything, failed, missed, new_run, new_schedule, succeeded, text,
};
use super::cases;
use _polos::calendar::Timestamp;
use _polos::model::{Admission, Fate, NewRun, NewSchedule, Origin, RunId, RunState, ScheduleStatus};
use _polos::store::{Command, Page, Patch, RunFilter, ScheduleFilter, Share, Wake};

cases! {
    due_ones_come_earliest_first,
    what_is_due_comes_in_shares_that_nobody_else_gets,
    only_active_ones_of_these_workflows_are_due,
    the_next_wake_is_the_earliest_of_these_workflows,
    nothing_to_do_is_no_wake,
    schedules_are_listed_by_id_page_by_page,
    schedules_are_filtered,
    runs_are_listed_newest_first_page_by_page,
    runs_are_filtered,
    a_page_behind_a_forgotten_run_is_empty,
    history_merges_runs_and_ledger,
    history_shows_who_ran_late,
    history_comes_page_by_page,
    equal_slots_stay_on_one_page,
    what_never_was_has_no_history,
    the_previous_result_is_of_the_run_before,
    the_mark_changes_with_every_commit,
}

fn due_ones_come_earliest_first(stage: &Stage<'_>) {
    for (key, slot) in [("d", 2), ("c", 1), ("b", 2), ("a", 3), ("e", 4)] {
        stage.put(at(0), new_schedule(key, Some(at(slot))));
    }
    let due = |limit| -> Vec<String> {
        let due = stage.store.due(PROJECT, &[text("w"), text("w")], at(3), limit).unwrap();
        due.into_iter().map(|due| due.schedule.key.to_string()).collect()
    };
    assert_eq!(due(10), ["c", "b", "d", "a"]);
    assert_eq!(due(2), ["c", "b"]);
    assert_eq!(due(0), Vec::<String>::new());
}

fn what_is_due_comes_in_shares_that_nobody_else_gets(stage: &Stage<'_>) {
    let keys: Vec<String> = (0..40).map(|number| format!("key-{number:02}-é{number}")).collect();
    for (key, slot) in keys.iter().zip(1..) {
        stage.put(at(0), new_schedule(key, Some(at(slot))));
    }
    let due = |share, limit| -> Vec<String> {
        let due = stage.store.due_in_share(PROJECT, &[text("w")], at(99), share, limit).unwrap();
        assert!(due.iter().all(|due| share.holds(&due.schedule.id)));
        due.into_iter().map(|due| due.schedule.key.to_string()).collect()
    };
    assert_eq!(due(Share::WHOLE, 100), keys);
    for of in [2, 3, 8] {
        let mut all = Vec::new();
        for part in 0..of {
            let found = due(Share { part, of }, 100);
            assert!(found.is_sorted(), "earliest first: {found:?}");
            let fewer = due(Share { part, of }, 2);
            assert!(found.starts_with(&fewer), "{fewer:?}, and {found:?}");
            all.extend(found);
        }
        all.sort();
        assert_eq!(all, keys);
    }
}

fn only_active_ones_of_these_workflows_are_due(stage: &Stage<'_>) {
    stage.put(at(0), NewSchedule { workflow: text("v"), ..new_schedule("v", Some(at(1))) });
    let paused = stage.put(at(0), new_schedule("paused", Some(at(1))));
    stage.patch(at(0), &paused.id, Patch { status: Some(ScheduleStatus::Paused), ..Patch::default() });
    stage.put(at(0), new_schedule("none", None));
    let due = |workflows: &[&str]| {
        let workflows: Vec<_> = workflows.iter().map(|id| text(id)).collect();
        stage.store.due(PROJECT, &workflows, at(9), 10).unwrap().len()
    };
    assert_eq!((due(&["w"]), due(&["w", "v"]), due(&["x"]), due(&[])), (0, 1, 0, 0));
}

fn the_next_wake_is_the_earliest_of_these_workflows(stage: &Stage<'_>) {
    for (workflow, slot) in [("w", 30), ("v", 20), ("x", 10)] {
        let key = format!("key-{workflow}");
        stage.put(at(0), NewSchedule { workflow: text(workflow), ..new_schedule(&key, Some(at(slot))) });
        let id = format!("run_{workflow}");
        stage.create(at(0), NewRun { workflow: text(workflow), available_at: at(slot + 1), ..new_run(&id) });
    }
    let wake = stage.store.next_wake(PROJECT, &[text("w"), text("v")]).unwrap();
    assert_eq!(wake, Wake { slot: Some(at(20)), run: Some(at(21)) });
}

fn nothing_to_do_is_no_wake(stage: &Stage<'_>) {
    assert_eq!(stage.store.next_wake(PROJECT, &[text("w")]).unwrap(), Wake::default());
    stage.running(at(0), "run_1");
    assert_eq!(stage.store.next_wake(PROJECT, &[text("w")]).unwrap(), Wake::default());
    assert_eq!(stage.store.next_wake(PROJECT, &[]).unwrap(), Wake::default());
}

fn schedules_are_listed_by_id_page_by_page(stage: &Stage<'_>) {
    for key in ["c", "a", "e", "b", "d"] {
        stage.put(at(0), new_schedule(key, None));
    }
    let mut page = Page { limit: 2, after: None };
    let mut pages = Vec::new();
    loop {
        let keys = stage.store.schedules(PROJECT, &ScheduleFilter::default(), &page).unwrap();
        let Some(last) = keys.last() else { break };
        page.after = Some(last.id.to_string());
        pages.push(keys.iter().map(|schedule| schedule.key.to_string()).collect::<String>());
    }
    assert_eq!(pages, ["ab", "cd", "e"]);
    assert!(stage.store.schedules("other", &ScheduleFilter::default(), &everything()).unwrap().is_empty());
}

fn schedules_are_filtered(stage: &Stage<'_>) {
    let owned = |key: &str| NewSchedule { owner: Some(text("app.py")), ..new_schedule(key, Some(at(9))) };
    stage.put(at(0), owned("a"));
    stage.put(at(0), NewSchedule { workflow: text("v"), ..owned("b") });
    stage.put(at(0), new_schedule("c", None));
    let filters: [(ScheduleFilter, &str); 7] = [
        (ScheduleFilter { workflow: Some(text("w")), ..Default::default() }, "ac"),
        (ScheduleFilter { key: Some(text("b")), ..Default::default() }, "b"),
        (ScheduleFilter { key: Some(text("b")), workflow: Some(text("w")), ..Default::default() }, ""),
        (ScheduleFilter { status: Some(ScheduleStatus::Active), ..Default::default() }, "ab"),
        (ScheduleFilter { status: Some(ScheduleStatus::Finished), ..Default::default() }, "c"),
        (ScheduleFilter { owner: Some(text("app.py")), ..Default::default() }, "ab"),
        (
            ScheduleFilter { owner: Some(text("app.py")), workflow: Some(text("v")), ..Default::default() },
            "b",
        ),
    ];
    for (filter, expected) in filters {
        let found = stage.store.schedules(PROJECT, &filter, &everything()).unwrap();
        let keys: String = found.iter().map(|schedule| &*schedule.key).collect();
        assert_eq!(keys, expected, "{filter:?}");
    }
}

fn runs(stage: &Stage<'_>, filter: &RunFilter, page: &Page) -> Vec<String> {
    let runs = stage.store.runs(PROJECT, filter, page).unwrap();
    runs.into_iter().map(|run| run.id.to_string()).collect()
}

fn runs_are_listed_newest_first_page_by_page(stage: &Stage<'_>) {
    for (id, created, workflow) in
        [("run_a", 1, "w"), ("run_b", 3, "v"), ("run_d", 2, "w"), ("run_c", 2, "v"), ("run_e", 0, "x")]
    {
        stage.create(at(created), NewRun { workflow: text(workflow), ..new_run(id) });
    }
    let mut page = Page { limit: 2, after: None };
    let mut pages = Vec::new();
    loop {
        let ids = runs(stage, &RunFilter::default(), &page);
        let Some(last) = ids.last() else { break };
        page.after = Some(last.clone());
        pages.push(ids);
    }
    assert_eq!(pages, [vec!["run_b", "run_d"], vec!["run_c", "run_a"], vec!["run_e"]]);
    assert!(stage.store.runs("other", &RunFilter::default(), &everything()).unwrap().is_empty());
}

fn runs_are_filtered(stage: &Stage<'_>) {
    let schedule = stage.put(at(0), new_schedule("a", Some(at(60))));
    let slot = stage.fire(at(60), &schedule, at(60), Admission::Claim);
    stage.create(at(70), new_run("run_1"));
    stage.create(at(80), NewRun { workflow: text("v"), key: text("k"), ..new_run("run_2") });
    let slot = slot.as_str();
    let filters: [(RunFilter, &[&str]); 8] = [
        (RunFilter { workflow: Some(text("w")), ..Default::default() }, &["run_1", slot]),
        (RunFilter { key: Some(text("k")), ..Default::default() }, &["run_2"]),
        (RunFilter { schedule: Some(schedule.id.clone()), ..Default::default() }, &[slot]),
        (RunFilter { states: vec![RunState::Running], ..Default::default() }, &[slot]),
        (
            RunFilter { states: vec![RunState::Running, RunState::Queued], ..Default::default() },
            &["run_2", "run_1", slot],
        ),
        (RunFilter { states: vec![RunState::Failed], ..Default::default() }, &[]),
        (RunFilter { since: Some(at(70)), ..Default::default() }, &["run_2", "run_1"]),
        (RunFilter { since: Some(at(70)), workflow: Some(text("w")), ..Default::default() }, &["run_1"]),
    ];
    for (filter, expected) in filters {
        assert_eq!(runs(stage, &filter, &everything()), expected, "{filter:?}");
    }
}

fn a_page_behind_a_forgotten_run_is_empty(stage: &Stage<'_>) {
    stage.create(at(0), new_run("run_1"));
    let page = Page { limit: 9, after: Some("run_none".to_owned()) };
    assert_eq!(runs(stage, &RunFilter::default(), &page), Vec::<String>::new());
}

fn history_merges_runs_and_ledger(stage: &Stage<'_>) {
    let schedule = stage.put(at(0), new_schedule("a", Some(at(60))));
    let slots = [(at(60), Admission::Claim), (at(180), Admission::Behind)];
    let mut plan = stage.plan(&schedule, &slots);
    plan.ledger = vec![missed(at(120))];
    stage.commit_plan(at(180), plan);
    let id = RunId::of_slot(&schedule.id, at(30));
    let backfill = |origin, id: &str, slot| {
        let schedule_id = Some(schedule.id.clone());
        stage.create(at(190), NewRun { schedule_id, slot: Some(at(slot)), origin, ..new_run(id) })
    };
    backfill(Origin::Backfill, id.as_str(), 30);
    backfill(Origin::Trigger, "run_by_hand", 45);
    stage.end(at(200), &RunId::of_slot(&schedule.id, at(60)), failed());
    let expected = [(180, "queued"), (120, "late"), (60, "failed"), (30, "queued")];
    let expected = expected.map(|(slot, reason)| (at(slot), reason.to_owned()));
    assert_eq!(stage.history(&schedule.id), expected, "a trigger is no slot");
    let entries = stage.store.history(PROJECT, &schedule.id, &everything()).unwrap().unwrap();
    assert_eq!((entries[1].fate, entries[1].count, &entries[1].run), (Fate::Missed, 1, &None));
    assert_eq!(entries[2].fate, Fate::Ran);
}

fn history_shows_who_ran_late(stage: &Stage<'_>) {
    let schedule = stage.put(at(0), new_schedule("a", Some(at(60))));
    let run = stage.fire(at(75), &schedule, at(60), Admission::Claim);
    let entry = stage.store.history(PROJECT, &schedule.id, &everything()).unwrap().unwrap().remove(0);
    assert_eq!((entry.from, entry.until, entry.count), (at(60), at(60), 1));
    assert_eq!(
        (entry.run, entry.started_at, entry.worker),
        (Some(run), Some(at(75)), Some(stage.worker.clone()))
    );
}

fn history_comes_page_by_page(stage: &Stage<'_>) {
    let schedule = stage.put(at(0), new_schedule("a", Some(at(60))));
    let slots = [(at(60), Admission::Claim), (at(180), Admission::Queue), (at(300), Admission::Behind)];
    let mut plan = stage.plan(&schedule, &slots);
    plan.ledger = vec![missed(at(120)), missed(at(240))];
    stage.commit_plan(at(300), plan);
    let mut page = Page { limit: 2, after: None };
    let mut pages: Vec<Vec<Timestamp>> = Vec::new();
    loop {
        let entries = stage.store.history(PROJECT, &schedule.id, &page).unwrap().expect("there is a history");
        let Some(last) = entries.last() else { break };
        page.after = Some(last.from.as_micros().to_string());
        pages.push(entries.iter().map(|entry| entry.from).collect());
    }
    assert_eq!(pages, [vec![at(300), at(240)], vec![at(180), at(120)], vec![at(60)]]);
}

fn equal_slots_stay_on_one_page(stage: &Stage<'_>) {
    let schedule = stage.put(at(0), new_schedule("a", Some(at(60))));
    let mut plan = stage.plan(&schedule, &[]);
    plan.ledger = vec![missed(at(60)), missed(at(120)), missed(at(120)), missed(at(180))];
    stage.commit_plan(at(300), plan);
    let page = |limit, after: Option<i64>| -> Vec<Timestamp> {
        let after = after.map(|after| at(after).as_micros().to_string());
        let entries = stage.store.history(PROJECT, &schedule.id, &Page { limit, after }).unwrap().unwrap();
        entries.iter().map(|entry| entry.from).collect()
    };
    assert_eq!(page(2, None), [at(180)], "the page ends before them");
    assert_eq!(page(1, Some(180)), [at(120), at(120)], "or holds all of them");
    assert_eq!(page(1, Some(120)), [at(60)]);
}

fn what_never_was_has_no_history(stage: &Stage<'_>) {
    let id = new_schedule("a", None).id;
    assert_eq!(stage.store.history(PROJECT, &id, &everything()).unwrap(), None);
    stage.put(at(0), new_schedule("a", None));
    assert_eq!(stage.store.history(PROJECT, &id, &everything()).unwrap(), Some(Vec::new()));
    assert_eq!(stage.store.history("other", &id, &everything()).unwrap(), None);
}

fn the_previous_result_is_of_the_run_before(stage: &Stage<'_>) {
    let schedule = stage.put(at(0), new_schedule("a", Some(at(60))));
    let run = |slot: i64, ending| {
        let run = stage.fire(at(slot), &schedule, at(slot), Admission::Claim);
        stage.end(at(slot + 10), &run, ending);
        run
    };
    let first = run(60, succeeded());
    let second = run(120, failed());
    let third = run(180, succeeded());
    let previous = |before: &RunId| {
        let found = stage.store.previous_result(&schedule.id, before).unwrap();
        found.map(|run| run.id)
    };
    assert_eq!(previous(&first), None);
    assert_eq!(previous(&second), Some(first.clone()));
    assert_eq!(previous(&third), Some(first), "the second failed");
    assert_eq!(previous(&RunId::from("run_none")), None);
    let fourth = stage.fire(at(185), &schedule, at(240), Admission::Claim);
    assert_ne!(previous(&fourth), Some(third), "it had not finished by then");
}

fn the_mark_changes_with_every_commit(stage: &Stage<'_>) {
    let mark = || stage.store.change_mark().unwrap();
    let before = mark();
    assert_eq!(mark(), before, "not by itself");
    stage.ok(at(1), Command::Beat { worker: stage.worker.clone() });
    let after = mark();
    assert_ne!(after, before);
    stage.no(at(2), Command::CancelRun { project: text(PROJECT), run: RunId::from("run_none") });
    assert_eq!(mark(), after, "nothing was written");
}
