//! SQLite serves every statement by the indexes that the comment above it names, and reads no table
//! from end to end. `postgres_plans.rs` checks PostgreSQL.

use polos::store::SqliteStore;
use std::collections::BTreeMap;

/// Statements that sort the rows that they find, and why these are few.
const SORTS: [&str; 7] = [
    // The runs that one worker holds.
    "RUN_HEADS_HELD",
    "HELD",
    "CANCEL_REQUESTS",
    // The steps of one run.
    "STEPS",
    "STEPS_OF_RUN",
    // One for each workflow.
    "SCHEDULES_BY_KEY",
    // The runs of one schedule, of which a prune leaves few.
    "RUNS_OF_SCHEDULE",
];

/// What serves each statement, according to the comment above it.
fn promises() -> BTreeMap<&'static str, &'static str> {
    let mut promises = BTreeMap::new();
    let mut comment = "";
    for line in include_str!("../../../src/store/sqlite/queries.rs").lines() {
        let line = line.trim();
        if line.starts_with("///") {
            comment = line;
        } else if let Some((name, _)) = line.split_once(" = ")
            && name.chars().all(|letter| letter.is_ascii_uppercase() || letter == '_')
        {
            let served = comment.rsplit_once('(').map_or("", |(_, served)| served.trim_end_matches(')'));
            promises.insert(name, served);
        }
    }
    promises
}

#[test]
fn statements_are_served_by_what_they_say() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path().join("polos.db"), super::quick()).unwrap();
    let promises = promises();
    let plans = store.query_plans().unwrap();
    assert_eq!(promises.len(), plans.len());
    let mut wrong = Vec::new();
    for (name, plan) in plans {
        let served = promises[name];
        // The tags that are wanted and the numbers of runs are a parameter.
        let plan = plan.join("; ");
        let plan = plan.replace("SCAN w VIRTUAL TABLE", "READ w VIRTUAL TABLE");
        let plan = plan.replace("SCAN json_each VIRTUAL TABLE", "READ json_each VIRTUAL TABLE");
        let mut expected: Vec<String> =
            served.split('`').skip(1).step_by(2).map(|index| format!("INDEX {index} ")).collect();
        if served.contains("primary key") && !plan.is_empty() {
            expected.push("PRIMARY KEY".to_owned());
        }
        if served.contains("unique id") {
            expected.push("INDEX sqlite_autoindex_run_1 ".to_owned());
        }
        let is_served = expected.iter().all(|part| plan.contains(part)) || plan.is_empty();
        let scans = plan.contains("SCAN") && !plan.contains("SCAN (subquery") && !served.contains("scan");
        let sorts = plan.contains("TEMP B-TREE FOR ORDER BY") && !SORTS.contains(&name);
        if !is_served || scans || sorts {
            wrong.push(format!("{name} ({served}): {plan}"));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}
