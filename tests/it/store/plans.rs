//! No statement reads more rows than it answers with.

use _polos::store::SqliteStore;

/// Statements that read a whole table, and why that is little.
const SCANS: [&str; 1] = [
    // The workers of one machine.
    "PEERS",
];

/// Statements that sort what they found, and why that is little.
const SORTS: [&str; 6] = [
    // What one worker holds.
    "HELD",
    "CANCEL_REQUESTS",
    // The steps of one run.
    "STEPS",
    "STEPS_OF_RUN",
    // One for each workflow.
    "SCHEDULES_BY_KEY",
    // The runs of one schedule, of which a sweep leaves few.
    "RUNS_OF_SCHEDULE",
];

#[test]
fn statements_are_served_by_indexes() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path().join("polos.db"), super::quick()).unwrap();
    let mut wrong = Vec::new();
    for (name, plan) in store.query_plans().unwrap() {
        for step in plan {
            let scans = step.starts_with("SCAN") && !step.contains("subquery") && !SCANS.contains(&name);
            let sorts = step.contains("TEMP B-TREE FOR ORDER BY") && !SORTS.contains(&name);
            if scans || sorts {
                wrong.push(format!("{name}: {step}"));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}
