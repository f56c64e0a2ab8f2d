//! PostgreSQL serves every statement by the indexes that the comment above it names, and reads no
//! large table or index from end to end.

use super::fixture::{Fixture, PROJECT, at, tags, text};
use super::locking::{CASES, register_again};
use super::rows_read::{Administrator, rows};
use super::server::Server;
use polos::calendar::Timestamp;
use polos::model::{RunState, ScheduleStatus};
use polos::store::internals::QueryPlan;
use polos::store::{
    Command, Page, PostgresOptions, PostgresStore, RunFilter, ScheduleFilter, StoreReads, StoreWrites,
    TransferOptions, transfer_projects,
};
use std::collections::{BTreeMap, BTreeSet};

/// The files that have all statements.
const SOURCES: [&str; 8] = [
    include_str!("../../../src/store/postgres/queries/calendars.rs"),
    include_str!("../../../src/store/postgres/queries/reads.rs"),
    include_str!("../../../src/store/postgres/queries/commits.rs"),
    include_str!("../../../src/store/postgres/queries/events.rs"),
    include_str!("../../../src/store/postgres/queries/hook_calls.rs"),
    include_str!("../../../src/store/postgres/queries/limits.rs"),
    include_str!("../../../src/store/postgres/queries/transfer.rs"),
    include_str!("../../../src/store/postgres/queries/transaction.rs"),
];

/// Tables that stay small, so that a statement may read all of their rows.
const SMALL: [&str; 5] = ["worker", "commits", "version", "moving", "database"];

/// Indexes that find few rows for each key, so that a statement may sort them before it takes the
/// first ones.
const FEW: [&str; 1] = ["run_held"];

/// What the comment above a statement promises.
struct Promise {
    /// The text in parentheses.
    text: String,
    /// The indexes that serve the statement. Of each group, the server uses one.
    indexes: Vec<BTreeSet<String>>,
    /// Those of them that the server may read from the start.
    scans: BTreeSet<String>,
    /// Whether the statement is put together at run time, so that it has several plans.
    is_composed: bool,
}

impl Promise {
    fn of(comment: &str, is_composed: bool) -> Self {
        let text = comment.trim().strip_suffix(')').and_then(|rest| rest.rsplit_once('('));
        let text = text.map_or("", |(_, text)| text).to_owned();
        let names = |group: &str| -> BTreeSet<String> {
            group.split('`').skip(1).step_by(2).map(str::to_owned).collect()
        };
        let scans = text.split(", ").filter(|group| group.starts_with("scan of ")).flat_map(names).collect();
        let indexes = text.split(", ").map(names).filter(|group| !group.is_empty()).collect();
        Self { text, indexes, scans, is_composed }
    }

    /// Whether a plan of the statement reads something else.
    fn is_broken_by(&self, reads: &Reads) -> bool {
        if self.text.is_empty() || !reads.sorted.iter().all(|index| FEW.contains(&&**index)) {
            return true;
        }
        if self.text.starts_with("an index ") {
            return reads.indexes.is_empty() || !reads.scanned.is_subset(&self.scans);
        }
        let is_known = |index: &String| self.indexes.iter().any(|group| group.contains(index));
        !(reads.indexes.iter().all(is_known) || self.text == "catalog")
            || !reads.scanned.is_subset(&self.scans)
            || !self.is_composed && !self.is_kept_by(&reads.all())
    }

    /// Whether every promised index is among those that were used.
    fn is_kept_by(&self, used: &BTreeSet<String>) -> bool {
        self.text == "catalog" || self.indexes.iter().all(|group| !group.is_disjoint(used))
    }
}

/// The promise of each statement by its name.
fn promises() -> BTreeMap<String, Promise> {
    let mut promises = BTreeMap::new();
    for source in SOURCES {
        let mut comment = String::new();
        for line in source.lines().map(str::trim) {
            if let Some(text) = line.strip_prefix("///") {
                comment.push_str(text);
                continue;
            }
            let composed = line.strip_suffix(';').filter(|name| !name.contains(' '));
            let name = composed.or_else(|| line.split_once(" =").map(|(name, _)| name));
            if let Some(name) = name
                && name.starts_with(|letter: char| letter.is_ascii_uppercase())
                && name.chars().all(|letter| letter.is_ascii_uppercase() || letter == '_')
            {
                promises.insert(name.to_owned(), Promise::of(&comment, composed.is_some()));
            }
            comment.clear();
        }
    }
    promises
}

/// What a plan reads.
#[derive(Default, Debug)]
struct Reads {
    /// The indexes in which it looks rows up.
    indexes: BTreeSet<String>,
    /// Indexes that it reads from the start, and tables that it reads without an index.
    scanned: BTreeSet<String>,
    /// Indexes of which it sorts all rows before it takes the first ones.
    sorted: BTreeSet<String>,
}

impl Reads {
    fn of(plan: &QueryPlan) -> Self {
        let mut reads = Self::default();
        // Without their properties, which have no arrow.
        let is_node = |line: &&String| line.contains("->") || !line.starts_with(' ');
        let nodes: Vec<&String> = plan.lines.iter().filter(is_node).collect();
        let node = |line: &str| line.trim().trim_start_matches("->").trim().to_owned();
        for (place, line) in nodes.iter().enumerate() {
            let Some((index, table)) = source(&node(line)) else { continue };
            let is_of = |small: &&str| {
                table == *small || index.as_ref().is_some_and(|index| index.starts_with(&format!("{small}_")))
            };
            let is_small = SMALL.iter().any(is_of) || table.starts_with("pg_");
            let below = plan.lines.iter().skip_while(|other| *other != *line).nth(1);
            let is_bounded = below.is_some_and(|next| next.trim().starts_with("Index Cond: "));
            if let [limit, sort] = nodes[place.saturating_sub(2)..place]
                && node(limit) == "Limit"
                && node(sort) == "Sort"
            {
                reads.sorted.insert(index.clone().unwrap_or_else(|| table.clone()));
            }
            match index {
                Some(index) if is_bounded => _ = reads.indexes.insert(index),
                _ if is_small => {}
                Some(index) => _ = reads.scanned.insert(index),
                None => _ = reads.scanned.insert(table),
            }
        }
        reads
    }

    fn all(&self) -> BTreeSet<String> {
        self.indexes.union(&self.scanned).cloned().collect()
    }
}

/// The index and the table that a node of a plan reads.
fn source(node: &str) -> Option<(Option<String>, String)> {
    let words: Vec<&str> = node.split_whitespace().collect();
    let after = |word: &str| {
        let place = words.iter().position(|each| *each == word)?;
        words.get(place + 1).map(|word| (*word).to_owned())
    };
    let on = after("on").unwrap_or_default();
    match words[..] {
        ["Bitmap", "Index", "Scan", ..] => Some((Some(on), String::new())),
        ["Index", ..] if words.contains(&"using") => Some((after("using"), on)),
        ["Seq", "Scan", ..] => Some((None, on)),
        _ => None,
    }
}

/// A new database that has been the target of a transfer, which creates the last table.
fn new_database() -> String {
    let url = Server::shared().new_schema();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("polos.db");
    let source = polos::store::SqliteStore::open(&file, super::quick()).unwrap();
    Fixture::on(&source).ok(at(0), Command::DeregisterWorker { worker: "wkr_1".into() });
    drop(source);
    transfer_projects(&file, &url, &TransferOptions::default(), &mut |_| true).unwrap();
    url
}

/// The same with many rows, and statistics of them.
fn new_large_database() -> String {
    let url = new_database();
    let schema = url.rsplit_once("schema=").unwrap().1;
    let administrator = Administrator::new(&Server::shared().url);
    administrator.fill(schema);
    administrator.execute(&format!(
        "SET search_path = {schema}; {rows};
         UPDATE run SET worker = 'wkr_other_' || no % 500 WHERE state = 'running';
         UPDATE run SET key = 'user-' || no % 1000 WHERE id LIKE 'run_1_____';
         UPDATE run SET error = '{{\"type\": \"builtins:ValueError\"}}' WHERE state = 'failed';
         UPDATE run SET parent = 'run_100001' WHERE id LIKE 'run_1____1';
         UPDATE run SET idempotency_key = id WHERE id LIKE 'run_1____3';
         INSERT INTO ledger (project, schedule_id, from_slot, until_slot, slot_count, fate, reason)
         SELECT '{PROJECT}', 'sch_' || lpad((n / 4)::text, 9, '0'), n, n, 1, 'missed', '' FROM generate_series(1, 20000) n;
         INSERT INTO worker SELECT 'wkr_other_' || n, 'another', 'a', 'h', 1, 'm', '{{}}', 1, 0, 0, '{{w}}'
         FROM generate_series(1, 500) n;
         INSERT INTO event (run, name, payload, received_at, idempotency_key)
         SELECT no, 'event-' || n, '1', n, 'evt-' || no FROM run, generate_series(1, 3) n WHERE id LIKE 'run_1____3';
         UPDATE schedule SET tags = '{{\"env\":\"test\",\"team\":\"' || CASE WHEN id LIKE '%7' THEN 'a' ELSE 'b' END
         || '\"}}';
         ANALYZE schedule, schedule_tag, run, step, event, ledger, worker",
        rows = rows(100_001, 104_000)
    ));
    url
}

fn open(url: &str) -> PostgresStore {
    PostgresStore::open(url, PostgresOptions { readers: 1, ..PostgresOptions::default() }).unwrap()
}

/// Two pages of schedules for each kind of filter.
fn list_schedules(store: &PostgresStore) {
    let all = ScheduleFilter::default;
    let filters = [
        all(),
        ScheduleFilter { workflow: Some(text("w")), ..all() },
        ScheduleFilter { status: Some(ScheduleStatus::Paused), ..all() },
        ScheduleFilter { status: Some(ScheduleStatus::Paused), workflow: Some(text("w")), ..all() },
        ScheduleFilter { status: Some(ScheduleStatus::Active), ..all() },
        ScheduleFilter { status: Some(ScheduleStatus::Active), workflow: Some(text("w")), ..all() },
        ScheduleFilter { owner: Some(text("app.py")), ..all() },
        ScheduleFilter { owner: Some(text("app.py")), workflow: Some(text("w")), ..all() },
        ScheduleFilter { key: Some(text("user-000000001")), ..all() },
        ScheduleFilter { key: Some(text("user-000000001")), workflow: Some(text("w")), ..all() },
        ScheduleFilter { key_prefix: Some(text("user-")), ..all() },
        ScheduleFilter { key_prefix: Some(text("user-")), workflow: Some(text("w")), ..all() },
        ScheduleFilter { tags: tags(&[("team", "a")]), ..all() },
        ScheduleFilter { tags: tags(&[("env", "test"), ("team", "a")]), ..all() },
    ];
    for filter in filters {
        let after = match filter.key_prefix {
            Some(_) => ScheduleFilter::cursor("user-000000001", "w"),
            None => "sch_000000001".to_owned(),
        };
        for after in [None, Some(after)] {
            store.schedules(PROJECT, &filter, &Page { limit: 10, after }).unwrap();
        }
    }
}

/// Two pages of runs for each kind of filter.
fn list_runs(store: &PostgresStore) {
    let all = RunFilter::default;
    let (few, many) = (Some("sch_100002".into()), Some("sch_000000001".into()));
    let rare = vec![RunState::Failed, RunState::Queued, RunState::Running];
    let mut filters = vec![all(), RunFilter { states: vec![RunState::Succeeded], ..all() }];
    for schedule in [None, few, many] {
        filters.push(RunFilter { schedule: schedule.clone(), ..all() });
        filters.push(RunFilter { schedule: schedule.clone(), states: rare.clone(), ..all() });
        filters.push(RunFilter { schedule, error: Some(text("ValueError")), ..all() });
    }
    for key in ["few", "global"] {
        filters.push(RunFilter { key: Some(text(key)), ..all() });
        filters.push(RunFilter { key: Some(text(key)), states: rare.clone(), ..all() });
    }
    let since = Some(Timestamp::from_micros(1));
    filters.extend(filters.clone().into_iter().map(|filter| RunFilter { since, ..filter }));
    let workflow = Some(text("w"));
    filters
        .extend(filters.clone().into_iter().map(|filter| RunFilter { workflow: workflow.clone(), ..filter }));
    for filter in filters {
        for after in [None, Some("run_000000001".to_owned())] {
            store.runs(PROJECT, &filter, &Page { limit: 10, after }).unwrap();
        }
    }
}

/// Adds the plans of the statements that were sent, each once.
fn collect(store: &PostgresStore, plans: &mut BTreeMap<String, QueryPlan>) {
    for plan in store.sent_plans().unwrap() {
        plans.insert(plan.sql.clone(), plan);
    }
}

#[test]
fn statements_are_served_by_the_indexes_that_they_name() {
    let url = new_large_database();
    let store = open(&url);
    let fixture = Fixture::on(&store);
    let mut plans = BTreeMap::new();
    for list in [list_schedules, list_runs] {
        list(&store);
        collect(&store, &mut plans);
    }
    // Pruning is left out: it would delete the rows, and its statements are constant.
    for (n, case) in (1..).zip(CASES.iter().filter(|case| !case.name.contains("retention"))) {
        (case.prepare)(&fixture, n);
        let commands = (case.commands)(&fixture, n);
        store.commit(&commands, at(n * 10_000 + 100)).unwrap();
        register_again(&fixture);
        if n % 8 == 0 || n + 1 == CASES.len() as i64 {
            collect(&store, &mut plans);
        }
    }
    for command in [
        Command::Heartbeat { worker: "wkr_unknown".into() },
        Command::DeleteSchedule { project: text(PROJECT), id: "sch_unknown".into() },
        Command::CancelRun { project: text(PROJECT), run: "run_unknown".into() },
    ] {
        fixture.no(at(0), command);
    }
    collect(&store, &mut plans);
    let promises = promises();
    let plans: Vec<QueryPlan> = store.query_plans().unwrap().into_iter().chain(plans.into_values()).collect();
    let mut wrong = Vec::new();
    let mut used: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for plan in &plans {
        let reads = Reads::of(plan);
        if promises.get(plan.name).is_none_or(|promise| promise.is_broken_by(&reads)) {
            wrong.push(format!("{}: {reads:?}\n{}\n{}", plan.name, plan.sql, plan.lines.join("\n")));
        }
        used.entry(plan.name).or_default().extend(reads.all());
    }
    for (name, promise) in &promises {
        match used.get(&**name) {
            None => wrong.push(format!("{name}: this test does not execute it")),
            Some(used) if !promise.is_kept_by(used) => wrong.push(format!("{name}: only {used:?}")),
            Some(_) => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
