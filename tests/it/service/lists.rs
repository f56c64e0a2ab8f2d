//! Lists and their pages.

use super::*;

/// `k1` to `k5`, created in reverse, so that the order of ids differs from that of keys; and
/// others.
fn with_keys(status: &str) -> Project {
    let project = Project::new();
    for key in ["other", "k5", "k4", "k3", "k2", "k1", "a"] {
        let id = project.create(key, &hourly());
        if status == "paused" {
            project.ask(json!({"pause": {"id": id}}));
        }
    }
    project
}

fn keys(answer: &Value) -> Vec<&str> {
    answer.as_array().unwrap().iter().map(|schedule| schedule["key"].as_str().unwrap()).collect()
}

/// Lists `filter` in pages of two; `next` makes the cursor from the last schedule of a page.
fn pages(project: &Project, filter: &Value, next: fn(&Value) -> (&'static str, Value)) -> Vec<Vec<String>> {
    let mut pages = Vec::new();
    let mut request = filter.clone();
    request["limit"] = json!(2);
    loop {
        let page = project.ask(json!({"list_schedules": request}));
        let Some(last) = page.as_array().unwrap().last() else { return pages };
        assert!(pages.len() < 10, "it never ends: {pages:?}");
        pages.push(keys(&page).into_iter().map(str::to_owned).collect());
        let (name, value) = next(last);
        request[name] = value;
    }
}

const PAGES: [&[&str]; 3] = [&["k1", "k2"], &["k3", "k4"], &["k5"]];

#[test]
fn schedules_by_prefix_come_in_the_order_of_keys_page_by_page() {
    let by_key = |last: &Value| ("after_key", json!([last["key"], last["workflow"]]));
    let by_id = |last: &Value| ("after", last["id"].clone());
    let active = with_keys("active");
    let paused = with_keys("paused");
    let prefix = json!({"key_prefix": "k"});
    assert_eq!(pages(&active, &prefix, by_key), PAGES);
    assert_eq!(pages(&active, &prefix, by_id), PAGES);
    for filter in
        [json!({"workflow": "wf", "key_prefix": "k"}), json!({"status": "paused", "key_prefix": "k"})]
    {
        assert_eq!(pages(&paused, &filter, by_key), PAGES, "{filter}");
        assert_eq!(pages(&paused, &filter, by_id), PAGES, "{filter}");
    }
}

#[test]
fn many_schedules_of_a_workflow_are_listed_by_prefix_in_the_same_order() {
    let project = with_keys("active");
    for number in 0..600 {
        project.create(&format!("x{number}"), &hourly());
    }
    let filter = json!({"workflow": "wf", "key_prefix": "k"});
    let by_key = |last: &Value| ("after_key", json!([last["key"], last["workflow"]]));
    assert_eq!(pages(&project, &filter, by_key), PAGES);
}

#[test]
fn a_page_is_no_longer_than_ten_thousand() {
    let project = Project::new();
    let draft =
        |number: i32| json!({"workflow": "wf", "key": format!("k{number}"), "spec": 0, "local": true});
    let drafts: Vec<_> = (0..10_001).map(draft).collect();
    project.ask(json!({"create": {"drafts": {"specs": [hourly().to_string()], "schedules": drafts}}}));
    let listed = project.ask(json!({"list_schedules": {"limit": 1_000_000}}));
    assert_eq!(listed.as_array().unwrap().len(), 10_000);
}

#[test]
fn buffered_runs_are_listed_as_queued() {
    let project = Project::new();
    let id = project.create("k", &hourly());
    for second in ["12:00:01", "12:00:02"] {
        project.clock.advance_to(at(second));
        project.ask(json!({"trigger": {"id": id, "applies_overlap": true}}));
    }
    assert_eq!(project.states(), [RunState::Queued, RunState::Buffered]);
    let listed = project.ask(json!({"list_runs": {"states": ["queued"]}}));
    let states: Vec<_> = listed.as_array().unwrap().iter().map(|run| run["status"].clone()).collect();
    assert_eq!(states, ["queued", "queued"]);
    assert_eq!(project.ask(json!({"list_runs": {"states": ["running"]}})), json!([]));
}
