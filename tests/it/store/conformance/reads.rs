//! Questions.

use super::super::fixture::{
    Fixture, PROJECT, at, end, everything, failed, missed, new_run, new_schedule, succeeded, tags, text,
};
use super::cases;
use polos::calendar::Timestamp;
use polos::model::schedule::stored_tags;
use polos::model::{
    Admission, Completion, NewRun, NewSchedule, Origin, RunId, RunState, ScheduleId, ScheduleStatus,
    SlotOutcome,
};
use polos::store::{Command, NextWork, Page, Patch, RunFilter, ScheduleFilter, Shard};

cases! {
    due_ones_come_earliest_first,
    what_is_due_comes_in_shares_that_nobody_else_gets,
    only_active_ones_of_these_workflows_are_due,
    the_next_wake_is_the_earliest_of_these_workflows,
    nothing_to_do_is_no_wake,
    schedules_are_listed_by_id_page_by_page,
    schedules_are_filtered,
    changed_tags_are_found_and_earlier_ones_are_not,
    filtered_schedules_come_page_by_page,
    schedules_are_found_by_the_beginning_of_their_keys,
    a_page_of_keys_goes_on_behind_one_that_is_gone,
    the_beginning_of_a_key_is_taken_literally,
    what_comes_next_is_earliest_first_whatever_the_workflow,
    the_census_counts_what_there_is,
    the_census_counts_up_to_a_bound,
    schedules_are_behind_from_an_instant_on,
    runs_are_listed_newest_first_page_by_page,
    runs_are_filtered,
    runs_are_filtered_by_the_class_of_their_error,
    rare_states_are_listed_newest_first_page_by_page,
    runs_of_one_time_are_listed_in_the_order_of_their_creation,
    runs_that_are_held_are_listed_among_the_others,
    a_page_behind_a_forgotten_run_is_empty,
    history_merges_runs_and_ledger,
    history_shows_who_ran_late,
    history_comes_page_by_page,
    equal_slots_stay_on_one_page,
    what_never_was_has_no_history,
    the_previous_result_is_of_the_run_before,
    the_mark_changes_with_every_commit,
}

fn due_ones_come_earliest_first(fixture: &Fixture<'_>) {
    for (key, slot) in [("d", 2), ("c", 1), ("b", 2), ("a", 3), ("e", 4)] {
        fixture.put(at(0), new_schedule(key, Some(at(slot))));
    }
    let due = |limit| -> Vec<String> {
        let due = fixture.store.due(PROJECT, &[text("w"), text("w")], at(3), limit).unwrap();
        due.into_iter().map(|due| due.schedule.key.to_string()).collect()
    };
    assert_eq!(due(10), ["c", "b", "d", "a"]);
    assert_eq!(due(2), ["c", "b"]);
    assert_eq!(due(0), Vec::<String>::new());
}

fn what_is_due_comes_in_shares_that_nobody_else_gets(fixture: &Fixture<'_>) {
    let keys: Vec<String> = (0..40).map(|number| format!("key-{number:02}-é{number}")).collect();
    for (key, slot) in keys.iter().zip(1..) {
        fixture.put(at(0), new_schedule(key, Some(at(slot))));
    }
    let due = |share, limit| -> Vec<String> {
        let due = fixture.store.due_in_shard(PROJECT, &[text("w")], at(99), share, limit).unwrap();
        assert!(due.iter().all(|due| share.holds(&due.schedule.id)));
        due.into_iter().map(|due| due.schedule.key.to_string()).collect()
    };
    assert_eq!(due(Shard::WHOLE, 100), keys);
    for of in [2, 3, 8] {
        let mut all = Vec::new();
        for part in 0..of {
            let found = due(Shard { part, of }, 100);
            assert!(found.is_sorted(), "earliest first: {found:?}");
            let fewer = due(Shard { part, of }, 2);
            assert!(found.starts_with(&fewer), "{fewer:?}, and {found:?}");
            all.extend(found);
        }
        all.sort();
        assert_eq!(all, keys);
    }
}

fn only_active_ones_of_these_workflows_are_due(fixture: &Fixture<'_>) {
    fixture.put(at(0), NewSchedule { workflow: text("v"), ..new_schedule("v", Some(at(1))) });
    let paused = fixture.put(at(0), new_schedule("paused", Some(at(1))));
    fixture.patch(at(0), &paused.id, Patch { status: Some(ScheduleStatus::Paused), ..Patch::default() });
    fixture.put(at(0), new_schedule("none", None));
    let due = |workflows: &[&str]| {
        let workflows: Vec<_> = workflows.iter().map(|id| text(id)).collect();
        fixture.store.due(PROJECT, &workflows, at(9), 10).unwrap().len()
    };
    assert_eq!((due(&["w"]), due(&["w", "v"]), due(&["x"]), due(&[])), (0, 1, 0, 0));
}

fn the_next_wake_is_the_earliest_of_these_workflows(fixture: &Fixture<'_>) {
    for (workflow, slot) in [("w", 30), ("v", 20), ("x", 10)] {
        let key = format!("key-{workflow}");
        fixture.put(at(0), NewSchedule { workflow: text(workflow), ..new_schedule(&key, Some(at(slot))) });
        let id = format!("run_{workflow}");
        fixture
            .create(at(0), NewRun { workflow: text(workflow), available_at: at(slot + 1), ..new_run(&id) });
    }
    let wake = fixture.store.next_work(PROJECT, &[text("w"), text("v")], at(0)).unwrap();
    assert_eq!(wake, NextWork { slot: Some(at(20)), run: Some(at(21)), suspect: None, has_held: false });
}

fn nothing_to_do_is_no_wake(fixture: &Fixture<'_>) {
    assert_eq!(fixture.store.next_work(PROJECT, &[text("w")], at(0)).unwrap(), NextWork::default());
    fixture.running(at(0), "run_1");
    assert_eq!(fixture.store.next_work(PROJECT, &[text("w")], at(0)).unwrap(), NextWork::default());
    assert_eq!(fixture.store.next_work(PROJECT, &[], at(0)).unwrap(), NextWork::default());
}

fn schedules_are_listed_by_id_page_by_page(fixture: &Fixture<'_>) {
    for key in ["c", "a", "e", "b", "d"] {
        fixture.put(at(0), new_schedule(key, None));
    }
    let mut page = Page { limit: 2, after: None };
    let mut pages = Vec::new();
    loop {
        let keys = fixture.store.schedules(PROJECT, &ScheduleFilter::default(), &page).unwrap();
        let Some(last) = keys.last() else { break };
        page.after = Some(last.id.to_string());
        assert!(pages.len() < 9, "pages without end: {pages:?}");
        pages.push(keys.iter().map(|schedule| schedule.key.to_string()).collect::<String>());
    }
    assert_eq!(pages, ["ab", "cd", "e"]);
    assert!(fixture.store.schedules("other", &ScheduleFilter::default(), &everything()).unwrap().is_empty());
}

fn filtered_schedules_come_page_by_page(fixture: &Fixture<'_>) {
    let owner = Some(text("app.py"));
    for number in 1..=5 {
        let id = ScheduleId::from(format!("sch_{number}"));
        // Each of the filters below finds five.
        let new = |part: &str| NewSchedule {
            id: ScheduleId::from(format!("{id}_{part}")),
            ..new_schedule(&format!("{part}{number}"), None)
        };
        fixture.put(at(0), NewSchedule { owner: owner.clone(), ..new("owner") });
        fixture.put(at(0), NewSchedule { workflow: text("v"), next_slot: Some(at(60)), ..new("workflow") });
        let workflow = text(&format!("w{number}"));
        fixture.put(at(0), NewSchedule { key: text("key"), workflow, next_slot: Some(at(60)), ..new("key") });
        let paused = NewSchedule { workflow: text("u"), next_slot: Some(at(60)), ..new("paused") };
        let paused = fixture.put(at(0), paused);
        let pause = Patch { status: Some(ScheduleStatus::Paused), ..Patch::default() };
        fixture.patch(at(0), &paused.id, pause);
    }
    let filters = [
        ("owner", ScheduleFilter { owner, ..Default::default() }),
        ("workflow", ScheduleFilter { workflow: Some(text("v")), ..Default::default() }),
        ("key", ScheduleFilter { key: Some(text("key")), ..Default::default() }),
        ("paused", ScheduleFilter { status: Some(ScheduleStatus::Paused), ..Default::default() }),
    ];
    for (part, filter) in filters {
        let mut page = Page { limit: 2, after: None };
        let mut found = Vec::new();
        loop {
            let schedules = fixture.store.schedules(PROJECT, &filter, &page).unwrap();
            let Some(last) = schedules.last() else { break };
            page.after = Some(last.id.to_string());
            found.extend(schedules.iter().map(|schedule| schedule.id.to_string()));
            assert!(found.len() < 9, "pages without end: {found:?}");
        }
        let expected: Vec<_> = (1..=5).map(|number| format!("sch_{number}_{part}")).collect();
        assert_eq!(found, expected);
    }
}

fn schedules_are_filtered(fixture: &Fixture<'_>) {
    let owned = |key: &str| NewSchedule { owner: Some(text("app.py")), ..new_schedule(key, Some(at(9))) };
    let tagged = |given: &[(&str, &str)]| stored_tags(&tags(given));
    let both = tagged(&[("env", "test"), ("team", "a")]);
    fixture.put(at(0), NewSchedule { tags: both, ..owned("a") });
    let quoted = tagged(&[("team", "a\"'%")]);
    fixture.put(at(0), NewSchedule { workflow: text("v"), tags: quoted, ..owned("b") });
    fixture.put(at(0), NewSchedule { tags: tagged(&[("team", "a")]), ..new_schedule("c", None) });
    let of = |given: &[(&str, &str)]| ScheduleFilter { tags: tags(given), ..Default::default() };
    let filters: [(ScheduleFilter, &str); 14] = [
        (of(&[("team", "a")]), "ac"),
        (of(&[("env", "test"), ("team", "a")]), "a"),
        (of(&[("env", "test"), ("team", "b")]), ""),
        (of(&[("team", "a\"'%")]), "b"),
        (of(&[("team", "")]), ""),
        (ScheduleFilter { status: Some(ScheduleStatus::Finished), ..of(&[("team", "a")]) }, "c"),
        (ScheduleFilter { key_prefix: Some(text("")), ..of(&[("team", "a")]) }, "ac"),
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
        let found = fixture.store.schedules(PROJECT, &filter, &everything()).unwrap();
        let keys: String = found.iter().map(|schedule| &*schedule.key).collect();
        assert_eq!(keys, expected, "{filter:?}");
    }
}

fn changed_tags_are_found_and_earlier_ones_are_not(fixture: &Fixture<'_>) {
    let tagged = |team| stored_tags(&tags(&[("team", team)]));
    let found = |team| {
        let filter = ScheduleFilter { tags: tags(&[("team", team)]), ..Default::default() };
        keys(fixture, &filter, &everything()).len()
    };
    let put = |tags| NewSchedule { tags, ..new_schedule("a", Some(at(60))) };
    let id = fixture.put(at(0), put(tagged("a"))).id;
    fixture.put(at(0), NewSchedule { tags: tagged("a"), ..new_schedule("b", Some(at(60))) });
    assert_eq!(fixture.put(at(1), put(tagged("b"))).tags, tagged("b"));
    assert_eq!((found("a"), found("b")), (1, 1));
    let patch = Patch { tags: Some(tagged("c")), ..Patch::default() };
    assert_eq!(fixture.patch(at(2), &id, patch).tags, tagged("c"));
    assert_eq!((found("b"), found("c")), (0, 1));
    // A change of something else keeps them.
    let paused = Patch { status: Some(ScheduleStatus::Paused), ..Patch::default() };
    assert_eq!(fixture.patch(at(3), &id, paused).tags, tagged("c"));
    assert_eq!(found("c"), 1);
    assert_eq!(fixture.put(at(4), put(None)).tags, None);
    assert_eq!(found("c"), 0);
    fixture.put(at(5), put(tagged("a")));
    assert_eq!(found("a"), 2);
    fixture.ok(at(6), Command::DeleteSchedule { project: text(PROJECT), id });
    assert_eq!(found("a"), 1);
}

fn keys(fixture: &Fixture<'_>, filter: &ScheduleFilter, page: &Page) -> Vec<String> {
    let found = fixture.store.schedules(PROJECT, filter, page).unwrap();
    found.into_iter().map(|schedule| format!("{}/{}", schedule.key, schedule.workflow)).collect()
}

fn schedules_are_found_by_the_beginning_of_their_keys(fixture: &Fixture<'_>) {
    for key in ["user-2", "user-10", "user-", "users", "user", "other", "user-1"] {
        fixture.put(at(0), new_schedule(key, Some(at(60))));
    }
    for (workflow, key, owner) in [("v", "user-1", None), ("v", "user-3", Some(text("app.py")))] {
        let new = new_schedule(&format!("{workflow}{key}"), Some(at(60)));
        fixture.put(at(0), NewSchedule { workflow: text(workflow), key: text(key), owner, ..new });
    }
    let by = |prefix| ScheduleFilter { key_prefix: Some(text(prefix)), ..Default::default() };
    let mut page = Page { limit: 3, after: None };
    let mut pages: Vec<Vec<String>> = Vec::new();
    loop {
        let found = fixture.store.schedules(PROJECT, &by("user-"), &page).unwrap();
        let Some(last) = found.last() else { break };
        page.after = Some(ScheduleFilter::cursor(&last.key, &last.workflow));
        assert!(pages.len() < 9, "pages without end: {pages:?}");
        pages.push(found.iter().map(|each| format!("{}/{}", each.key, each.workflow)).collect());
    }
    let expected: [Vec<&str>; 2] =
        [vec!["user-/w", "user-1/v", "user-1/w"], vec!["user-10/w", "user-2/w", "user-3/v"]];
    assert_eq!(pages, expected, "by key and workflow");
    assert_eq!(keys(fixture, &by("user-1"), &everything()), ["user-1/v", "user-1/w", "user-10/w"]);
    assert_eq!(keys(fixture, &by(""), &everything()).len(), 9, "every key begins with nothing");
    assert_eq!(keys(fixture, &by("z"), &everything()), Vec::<String>::new());
    let of = ScheduleFilter { workflow: Some(text("v")), ..by("user-") };
    assert_eq!(keys(fixture, &of, &everything()), ["user-1/v", "user-3/v"]);
    let of = ScheduleFilter { owner: Some(text("app.py")), ..by("user-") };
    assert_eq!(keys(fixture, &of, &everything()), ["user-3/v"]);
    let of = ScheduleFilter { key: Some(text("user-2")), ..by("user-") };
    assert_eq!(keys(fixture, &of, &everything()), ["user-2/w"]);
    let of = ScheduleFilter { status: Some(ScheduleStatus::Paused), ..by("user-") };
    assert_eq!(keys(fixture, &of, &everything()), Vec::<String>::new());
    assert!(fixture.store.schedules("other", &by("user-"), &everything()).unwrap().is_empty());
}

fn a_page_of_keys_goes_on_behind_one_that_is_gone(fixture: &Fixture<'_>) {
    for key in ["a1", "a3"] {
        fixture.put(at(0), new_schedule(key, None));
    }
    let filter = ScheduleFilter { key_prefix: Some(text("a")), ..Default::default() };
    let page = Page { limit: 9, after: Some(ScheduleFilter::cursor("a2", "w")) };
    assert_eq!(keys(fixture, &filter, &page), ["a3/w"]);
}

fn the_beginning_of_a_key_is_taken_literally(fixture: &Fixture<'_>) {
    let last = "\u{10ffff}";
    let odd = ["a%", "a_", "ab", "A", "a", "é", "e", last, "\u{d7ff}x", "\u{e000}", "\\", "a\u{7f}"];
    for (number, key) in odd.iter().enumerate() {
        let new = new_schedule(&number.to_string(), None);
        fixture.put(at(0), NewSchedule { key: text(key), ..new });
    }
    let mut long: Vec<String> = odd.iter().map(|key| (*key).to_owned()).collect();
    long.extend([format!("{last}{last}"), format!("a{last}"), format!("a{last}b"), "b".to_owned()]);
    for prefix in long {
        let mut expected: Vec<String> =
            odd.iter().filter(|key| key.starts_with(&prefix)).map(|key| (*key).to_owned()).collect();
        expected.sort_unstable();
        let expected: Vec<String> = expected.iter().map(|key| format!("{key}/w")).collect();
        let filter = ScheduleFilter { key_prefix: Some(text(&prefix)), ..Default::default() };
        assert_eq!(keys(fixture, &filter, &everything()), expected, "{prefix:?}");
    }
}

fn what_comes_next_is_earliest_first_whatever_the_workflow(fixture: &Fixture<'_>) {
    for (key, workflow, slot) in
        [("d", "v", 20), ("a", "w", 30), ("c", "w", 10), ("b", "x", 20), ("e", "w", 40), ("f", "y", 41)]
    {
        let new = new_schedule(key, Some(at(slot)));
        fixture.put(at(0), NewSchedule { workflow: text(workflow), ..new });
    }
    let paused = fixture.put(at(0), new_schedule("paused", Some(at(1))));
    fixture.patch(at(0), &paused.id, Patch { status: Some(ScheduleStatus::Paused), ..Patch::default() });
    fixture.put(at(0), new_schedule("over", None));
    let coming = |until, limit| -> String {
        let found = fixture.store.coming(PROJECT, at(until), limit).unwrap();
        found.iter().map(|schedule| &*schedule.key).collect()
    };
    assert_eq!(coming(40, 100), "cbdae");
    assert_eq!(coming(40, 3), "cbd");
    assert_eq!((coming(9, 100), coming(40, 0)), (String::new(), String::new()));
    assert!(fixture.store.coming("other", at(40), 100).unwrap().is_empty());
}

/// What was counted, as text, without what there is none of.
fn project_stats(fixture: &Fixture<'_>, due_before: i64, count_to: usize) -> (String, String) {
    let project_stats = fixture.store.project_stats(PROJECT, at(due_before), count_to).unwrap();
    assert_eq!((project_stats.schedules.len(), project_stats.runs.len()), (5, 4), "each is named");
    let schedules = project_stats.schedules.iter().filter(|(_, count)| *count > 0);
    let runs = project_stats.runs.iter().filter(|(_, count)| *count > 0);
    let text = |what: String, count: &usize| format!("{count} {what}");
    (
        schedules.map(|(status, count)| text(format!("{status:?}"), count)).collect::<Vec<_>>().join(", "),
        runs.map(|(state, count)| text(format!("{state:?}"), count)).collect::<Vec<_>>().join(", "),
    )
}

fn the_census_counts_what_there_is(fixture: &Fixture<'_>) {
    assert_eq!(project_stats(fixture, 0, 10), (String::new(), String::new()));
    let first = fixture.put(at(0), new_schedule("a", Some(at(60))));
    fixture.put(at(0), NewSchedule { workflow: text("v"), ..new_schedule("b", Some(at(60))) });
    for status in [ScheduleStatus::Paused, ScheduleStatus::Retired, ScheduleStatus::Broken] {
        let schedule = fixture.put(at(0), new_schedule(&format!("{status:?}"), Some(at(60))));
        fixture.patch(at(0), &schedule.id, Patch { status: Some(status), ..Patch::default() });
    }
    fixture.put(at(0), new_schedule("over", None));
    let mut plan = fixture.plan(&first, &[(at(60), Admission::Claim), (at(120), Admission::Behind)]);
    plan.next_slot = Some(at(180));
    fixture.commit_plan(at(120), plan);
    for (id, ending) in [
        ("run_1", succeeded()),
        ("run_2", failed()),
        ("run_3", polos::model::Completion::Parked { wakes_at: at(900) }),
        ("run_4", polos::model::Completion::Cancelled { error: None }),
    ] {
        let run = fixture.running(at(130), id);
        fixture.end(at(140), &run.id, ending);
    }
    fixture.create(at(200), new_run("run_5"));
    fixture.create(at(200), NewRun { workflow: text("v"), ..new_run("run_6") });
    fixture.create(at(200), NewRun { project: text("other"), ..new_run("run_7") });
    let (schedules, runs) = project_stats(fixture, 0, 10);
    assert_eq!(schedules, "2 Active, 1 Paused, 1 Retired, 1 Finished, 1 Broken");
    assert_eq!(runs, "1 Buffered, 2 Queued, 1 Running, 1 Waiting");
}

fn the_census_counts_up_to_a_bound(fixture: &Fixture<'_>) {
    for key in ["a", "b", "c", "d"] {
        let schedule = fixture.put(at(0), new_schedule(key, Some(at(60))));
        fixture.fire(at(60), &schedule, at(60), Admission::Claim);
        fixture.create(at(60), new_run(&format!("run_{key}")));
    }
    let (schedules, runs) = project_stats(fixture, 0, 3);
    assert_eq!(schedules, "3 Active");
    assert_eq!(runs, "3 Queued, 3 Running");
    assert_eq!(fixture.store.project_stats(PROJECT, at(1_000), 3).unwrap().overdue, 3);
}

fn schedules_are_behind_from_an_instant_on(fixture: &Fixture<'_>) {
    for (key, workflow, slot) in [("a", "w", 30), ("b", "v", 20), ("c", "w", 40)] {
        let new = new_schedule(key, Some(at(slot)));
        fixture.put(at(0), NewSchedule { workflow: text(workflow), ..new });
    }
    let late = |before| {
        let project_stats = fixture.store.project_stats(PROJECT, at(before), 10).unwrap();
        (project_stats.overdue, project_stats.oldest_due)
    };
    assert_eq!(late(20), (0, None), "due at this instant is not before it");
    assert_eq!(late(21), (1, Some(at(20))));
    assert_eq!(late(40), (2, Some(at(20))));
    assert_eq!(fixture.store.project_stats("other", at(40), 10).unwrap().overdue, 0);
}

fn rare_states_are_listed_newest_first_page_by_page(fixture: &Fixture<'_>) {
    for (id, created, workflow, is_failed) in [
        ("run_a", 1, "w", true),
        ("run_b", 2, "w", false),
        ("run_c", 3, "w", true),
        ("run_d", 3, "w", true),
        ("run_e", 4, "v", false),
        ("run_f", 5, "x", false),
    ] {
        let new = NewRun { workflow: text(workflow), available_at: at(created), ..new_run(id) };
        fixture.create(at(created), new);
        if workflow == "w" {
            let run = fixture.claim(at(created)).pop().unwrap().run;
            fixture.end(at(created), &run.id, if is_failed { failed() } else { succeeded() });
        }
    }
    let listed = |states: &[RunState], since: Option<i64>| {
        let filter = RunFilter { states: states.to_vec(), since: since.map(at), ..Default::default() };
        let mut page = Page { limit: 2, after: None };
        let mut all = Vec::new();
        loop {
            let ids = runs(fixture, &filter, &page);
            let Some(last) = ids.last() else { break all };
            page.after = Some(last.clone());
            assert!(all.len() < 99, "pages without end: {all:?}");
            all.extend(ids);
        }
    };
    assert_eq!(listed(&[RunState::Failed], None), ["run_d", "run_c", "run_a"]);
    assert_eq!(listed(&[RunState::Failed], Some(3)), ["run_d", "run_c"]);
    assert_eq!(
        listed(&[RunState::Queued, RunState::Failed, RunState::Queued], None),
        ["run_f", "run_e", "run_d", "run_c", "run_a"]
    );
    assert_eq!(listed(&[RunState::Running, RunState::Cancelled], None), Vec::<String>::new());
}

fn runs(fixture: &Fixture<'_>, filter: &RunFilter, page: &Page) -> Vec<String> {
    let runs = fixture.store.runs(PROJECT, filter, page).unwrap();
    runs.into_iter().map(|run| run.id.to_string()).collect()
}

fn runs_of_one_time_are_listed_in_the_order_of_their_creation(fixture: &Fixture<'_>) {
    let schedule = Some(fixture.put(at(0), new_schedule("k", None)).id);
    let ids = ["run_d", "run_a", "run_f", "run_c", "run_e", "run_b"];
    for (id, workflow) in ids.into_iter().zip(["w", "w", "v", "w", "v", "w"]) {
        let new = NewRun { workflow: text(workflow), key: text("k"), ..new_run(id) };
        // Two are held, two have failed, and two are queued.
        let claim_for = (!["run_a", "run_e"].contains(&id)).then(|| fixture.worker.clone());
        let (origin, schedule_id) = (Origin::Trigger, schedule.clone());
        let run = fixture.create(at(1), NewRun { claim_for, origin, schedule_id, ..new });
        if ["run_c", "run_f"].contains(&id) {
            fixture.end(at(1), &run, failed());
        }
    }
    let filter = RunFilter::default;
    let (workflow, key) = (Some(text("w")), Some(text("k")));
    let error = Some(text("ValueError"));
    let rare = vec![RunState::Failed, RunState::Queued, RunState::Running];
    for (filter, expected) in [
        (filter(), "becfad"),
        (RunFilter { workflow: workflow.clone(), ..filter() }, "bcad"),
        (RunFilter { key: key.clone(), ..filter() }, "becfad"),
        (RunFilter { key, workflow, ..filter() }, "bcad"),
        (RunFilter { schedule, ..filter() }, "becfad"),
        (RunFilter { states: rare, ..filter() }, "becfad"),
        (RunFilter { error, ..filter() }, "cf"),
    ] {
        assert_eq!(letters(fixture, &filter), expected, "{filter:?}");
    }
}

/// The last letters of the ids of all runs, read in pages of two.
fn letters(fixture: &Fixture<'_>, filter: &RunFilter) -> String {
    let mut page = Page { limit: 2, after: None };
    let mut all = Vec::new();
    loop {
        let ids = runs(fixture, filter, &page);
        let Some(last) = ids.last() else { break all.concat() };
        page.after = Some(last.clone());
        assert!(all.len() < 99, "pages without end: {all:?}");
        all.extend(ids.iter().map(|id| id.replace("run_", "")));
    }
}

fn runs_that_are_held_are_listed_among_the_others(fixture: &Fixture<'_>) {
    for (id, created, workflow) in
        [("run_a", 1, "w"), ("run_b", 2, "w"), ("run_c", 3, "w"), ("run_d", 4, "v"), ("run_e", 5, "w")]
    {
        let new = NewRun { workflow: text(workflow), key: text("k"), ..new_run(id) };
        let claim_for = (id != "run_d").then(|| fixture.worker.clone());
        fixture.create(at(created), NewRun { claim_for, ..new });
        if id == "run_b" {
            let token = fixture.run(&RunId::from(id)).token;
            fixture.ok(at(created), end(&RunId::from(id), token, succeeded()));
        }
    }
    let filter = RunFilter::default;
    let (workflow, key) = (Some(text("w")), Some(text("k")));
    let held_or_succeeded = vec![RunState::Running, RunState::Succeeded];
    for (filter, expected) in [
        (filter(), "edcba"),
        (RunFilter { workflow: workflow.clone(), ..filter() }, "ecba"),
        (RunFilter { key: key.clone(), ..filter() }, "edcba"),
        (RunFilter { key, workflow: workflow.clone(), ..filter() }, "ecba"),
        (RunFilter { states: held_or_succeeded.clone(), ..filter() }, "ecba"),
        (RunFilter { states: held_or_succeeded, workflow, since: Some(at(2)), ..filter() }, "ecb"),
        (RunFilter { states: vec![RunState::Succeeded], ..filter() }, "b"),
        (RunFilter { states: vec![RunState::Running], ..filter() }, "eca"),
    ] {
        assert_eq!(letters(fixture, &filter), expected, "{filter:?}");
    }
}

fn runs_are_listed_newest_first_page_by_page(fixture: &Fixture<'_>) {
    for (id, created, workflow) in
        [("run_a", 1, "w"), ("run_b", 3, "v"), ("run_d", 2, "w"), ("run_c", 2, "v"), ("run_e", 0, "x")]
    {
        fixture.create(at(created), NewRun { workflow: text(workflow), ..new_run(id) });
    }
    let mut page = Page { limit: 2, after: None };
    let mut pages = Vec::new();
    loop {
        let ids = runs(fixture, &RunFilter::default(), &page);
        let Some(last) = ids.last() else { break };
        page.after = Some(last.clone());
        assert!(pages.len() < 9, "pages without end: {pages:?}");
        pages.push(ids);
    }
    assert_eq!(pages, [vec!["run_b", "run_c"], vec!["run_d", "run_a"], vec!["run_e"]]);
    assert!(fixture.store.runs("other", &RunFilter::default(), &everything()).unwrap().is_empty());
}

fn runs_are_filtered(fixture: &Fixture<'_>) {
    let schedule = fixture.put(at(0), new_schedule("a", Some(at(60))));
    let slot = fixture.fire(at(60), &schedule, at(60), Admission::Claim);
    fixture.create(at(70), new_run("run_1"));
    fixture.create(at(80), NewRun { workflow: text("v"), key: text("k"), ..new_run("run_2") });
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
        assert_eq!(runs(fixture, &filter, &everything()), expected, "{filter:?}");
    }
}

fn runs_are_filtered_by_the_class_of_their_error(fixture: &Fixture<'_>) {
    let error = |class: &str| text(&format!("{{\"type\": \"{class}\", \"message\": \"shop:Sold\"}}"));
    let failed = |class: &str| Completion::Failed { error: error(class), retry_at: None };
    for (id, workflow, key, ending) in [
        ("run_a", "w", "global", failed("shop:Sold")),
        ("run_b", "w", "k", failed("shop:Sold")),
        ("run_c", "v", "global", failed("builtins:ValueError")),
        ("run_d", "w", "global", succeeded()),
        ("run_e", "v", "global", failed("shop.stock:Sold")),
        ("run_f", "w", "global", failed("shop:Unsold")),
        ("run_g", "w", "global", failed("shop:B\\u00fcro.Closed")),
        ("run_h", "w", "global", Completion::Cancelled { error: Some(error("shop:Sold")) }),
        ("run_i", "w", "global", Completion::Failed { error: error("shop:Sold"), retry_at: Some(at(900)) }),
        ("run_j", "w", "global", Completion::Failed { error: text("{}"), retry_at: None }),
    ] {
        let claim_for = Some(fixture.worker.clone());
        let new = NewRun { workflow: text(workflow), key: text(key), claim_for, ..new_run(id) };
        let run = fixture.create(at(5), new);
        fixture.end(at(6), &run, ending);
    }
    let with = |name: &str| RunFilter { error: Some(text(name)), ..Default::default() };
    let filters: [(RunFilter, &[&str]); 14] = [
        (with("Sold"), &["run_e", "run_b", "run_a"]),
        (with("shop.Sold"), &["run_b", "run_a"]),
        (with("stock.Sold"), &["run_e"]),
        (with("old"), &[]),
        (with("ValueError"), &["run_c"]),
        (with("Closed"), &["run_g"]),
        (with("Büro.Closed"), &["run_g"]),
        (with("type"), &[]),
        (with(""), &[]),
        (RunFilter { workflow: Some(text("v")), ..with("Sold") }, &["run_e"]),
        (RunFilter { key: Some(text("k")), ..with("Sold") }, &["run_b"]),
        (RunFilter { states: vec![RunState::Failed], ..with("Unsold") }, &["run_f"]),
        (RunFilter { states: vec![RunState::Succeeded], ..with("Sold") }, &[]),
        (RunFilter { since: Some(at(6)), ..with("Sold") }, &[]),
    ];
    for (filter, expected) in filters {
        assert_eq!(runs(fixture, &filter, &everything()), expected, "{filter:?}");
    }
    let page = Page { limit: 1, after: Some("run_e".to_owned()) };
    assert_eq!(runs(fixture, &with("Sold"), &page), ["run_b"]);
}

fn a_page_behind_a_forgotten_run_is_empty(fixture: &Fixture<'_>) {
    fixture.create(at(0), new_run("run_1"));
    let page = Page { limit: 9, after: Some("run_none".to_owned()) };
    assert_eq!(runs(fixture, &RunFilter::default(), &page), Vec::<String>::new());
}

fn history_merges_runs_and_ledger(fixture: &Fixture<'_>) {
    let schedule = fixture.put(at(0), new_schedule("a", Some(at(60))));
    let slots = [(at(60), Admission::Claim), (at(180), Admission::Behind)];
    let mut plan = fixture.plan(&schedule, &slots);
    plan.ledger = vec![missed(at(120))];
    fixture.commit_plan(at(180), plan);
    let id = RunId::of_slot(&schedule.id, at(30));
    let backfill = |origin, id: &str, slot| {
        let schedule_id = Some(schedule.id.clone());
        fixture.create(at(190), NewRun { schedule_id, slot: Some(at(slot)), origin, ..new_run(id) })
    };
    backfill(Origin::Backfill, id.as_str(), 30);
    backfill(Origin::Trigger, "run_by_hand", 45);
    fixture.end(at(200), &RunId::of_slot(&schedule.id, at(60)), failed());
    let expected = [(180, "queued"), (120, "late"), (60, "failed"), (30, "queued")];
    let expected = expected.map(|(slot, reason)| (at(slot), reason.to_owned()));
    assert_eq!(fixture.history(&schedule.id), expected, "a trigger is no slot");
    let entries = fixture.store.history(PROJECT, &schedule.id, &everything()).unwrap().unwrap();
    assert_eq!((entries[1].outcome, entries[1].count, &entries[1].run), (SlotOutcome::Missed, 1, &None));
    assert_eq!(entries[2].outcome, SlotOutcome::Ran);
}

fn history_shows_who_ran_late(fixture: &Fixture<'_>) {
    let schedule = fixture.put(at(0), new_schedule("a", Some(at(60))));
    let run = fixture.fire(at(75), &schedule, at(60), Admission::Claim);
    let entry = fixture.store.history(PROJECT, &schedule.id, &everything()).unwrap().unwrap().remove(0);
    assert_eq!((entry.from, entry.until, entry.count), (at(60), at(60), 1));
    assert_eq!(
        (entry.run, entry.started_at, entry.worker),
        (Some(run), Some(at(75)), Some(fixture.worker.clone()))
    );
}

fn history_comes_page_by_page(fixture: &Fixture<'_>) {
    let schedule = fixture.put(at(0), new_schedule("a", Some(at(60))));
    let slots = [(at(60), Admission::Claim), (at(180), Admission::Queue), (at(300), Admission::Behind)];
    let mut plan = fixture.plan(&schedule, &slots);
    plan.ledger = vec![missed(at(120)), missed(at(240))];
    fixture.commit_plan(at(300), plan);
    let mut page = Page { limit: 2, after: None };
    let mut pages: Vec<Vec<Timestamp>> = Vec::new();
    loop {
        let entries =
            fixture.store.history(PROJECT, &schedule.id, &page).unwrap().expect("there is a history");
        let Some(last) = entries.last() else { break };
        page.after = Some(last.from.as_micros().to_string());
        assert!(pages.len() < 9, "pages without end: {pages:?}");
        pages.push(entries.iter().map(|entry| entry.from).collect());
    }
    assert_eq!(pages, [vec![at(300), at(240)], vec![at(180), at(120)], vec![at(60)]]);
}

fn equal_slots_stay_on_one_page(fixture: &Fixture<'_>) {
    let schedule = fixture.put(at(0), new_schedule("a", Some(at(60))));
    let mut plan = fixture.plan(&schedule, &[]);
    plan.ledger = vec![missed(at(60)), missed(at(120)), missed(at(120)), missed(at(180))];
    fixture.commit_plan(at(300), plan);
    let page = |limit, after: Option<i64>| -> Vec<Timestamp> {
        let after = after.map(|after| at(after).as_micros().to_string());
        let entries = fixture.store.history(PROJECT, &schedule.id, &Page { limit, after }).unwrap().unwrap();
        entries.iter().map(|entry| entry.from).collect()
    };
    assert_eq!(page(2, None), [at(180)], "the page ends before them");
    assert_eq!(page(1, Some(180)), [at(120), at(120)], "or holds all of them");
    assert_eq!(page(1, Some(120)), [at(60)]);
}

fn what_never_was_has_no_history(fixture: &Fixture<'_>) {
    let id = new_schedule("a", None).id;
    assert_eq!(fixture.store.history(PROJECT, &id, &everything()).unwrap(), None);
    fixture.put(at(0), new_schedule("a", None));
    assert_eq!(fixture.store.history(PROJECT, &id, &everything()).unwrap(), Some(Vec::new()));
    assert_eq!(fixture.store.history("other", &id, &everything()).unwrap(), None);
}

fn the_previous_result_is_of_the_run_before(fixture: &Fixture<'_>) {
    let schedule = fixture.put(at(0), new_schedule("a", Some(at(60))));
    let run = |slot: i64, ending| {
        let run = fixture.fire(at(slot), &schedule, at(slot), Admission::Claim);
        fixture.end(at(slot + 10), &run, ending);
        run
    };
    let first = run(60, succeeded());
    let second = run(120, failed());
    let third = run(180, succeeded());
    let previous = |before: &RunId| {
        let found = fixture.store.previous_result(&schedule.id, before).unwrap();
        found.map(|run| run.id)
    };
    assert_eq!(previous(&first), None);
    assert_eq!(previous(&second), Some(first.clone()));
    assert_eq!(previous(&third), Some(first), "the second failed");
    assert_eq!(previous(&RunId::from("run_none")), None);
    for (now, slot) in [(185, 240), (190, 300)] {
        let next = fixture.fire(at(now), &schedule, at(slot), Admission::Claim);
        assert_ne!(previous(&next), Some(third.clone()), "it had not finished by then");
    }
}

fn the_mark_changes_with_every_commit(fixture: &Fixture<'_>) {
    let mark = || fixture.store.change_mark().unwrap();
    let before = mark();
    assert_eq!(mark(), before, "not by itself");
    fixture.ok(at(1), Command::Heartbeat { worker: fixture.worker.clone() });
    let after = mark();
    assert_ne!(after, before);
    fixture.no(at(2), Command::CancelRun { project: text(PROJECT), run: RunId::from("run_none") });
    assert_eq!(mark(), after, "nothing was written");
}
