//! Databases that an older release has used: its rows say less, and its workers may still be there.

use super::conformance::owners::{
    OWNER, enter, found, leave, protected, report, retired, schedule, with_cron, worker,
};
use super::fixture::{Fixture, PROJECT, at, everything, missed, new_schedule, new_worker, tags, text};
use polos::model::schedule::stored_tags;
use polos::model::{
    DeclaredLimit, LedgerLine, LimitSpec, NewSchedule, Reconciliation, ScheduleLabel, ScheduleStatus,
    SlotOutcome, WorkerEntry,
};
use polos::store::{Command, Patch, ScheduleFilter, Store};

/// A store, and a way to write into its tables what an older release would have written.
struct Older<'s> {
    fixture: Fixture<'s>,
    execute: &'s dyn Fn(&str),
}

impl Older<'_> {
    /// A schedule that was declared under a name of that time.
    fn declares(&self, key: &str, workflow: &str) {
        self.fixture.put(at(0), NewSchedule { owner: None, workflow: text(workflow), ..schedule(key) });
        let id = new_schedule(key, None).id;
        (self.execute)(&format!(
            "UPDATE schedule SET owner = 'main.py', declaration = NULL WHERE id = '{id}'"
        ));
    }

    /// A registered worker, which does not say what it declares.
    fn has_worker(&self, id: &str) {
        let entry = WorkerEntry { app: text("main.py"), is_whole: false, ..new_worker(id) };
        enter(&self.fixture, 1, entry);
        (self.execute)(&format!("UPDATE worker SET declares = NULL WHERE id = '{id}'"));
    }
}

fn upgraded(id: &str) -> WorkerEntry {
    WorkerEntry { former: vec![text("main.py")], ..worker(id, &["a"]) }
}

fn an_upgrade_renames_and_retires_nothing(older: &Older<'_>) {
    let fixture = &older.fixture;
    for key in ["a", "b"] {
        older.declares(key, "w");
    }
    let adopted = vec![ScheduleLabel::of(&found(fixture, "b"))];
    assert_eq!(enter(fixture, 1, upgraded("new")), Reconciliation { adopted, ..Reconciliation::default() });
    for key in ["a", "b"] {
        let kept = found(fixture, key);
        assert_eq!(kept.owner.as_deref(), Some(OWNER));
        assert_eq!((kept.status, kept.next_slot), (ScheduleStatus::Active, Some(at(60))));
    }
    assert_eq!(enter(fixture, 2, upgraded("next")), retired(fixture, &["b"]), "at the next start");
}

fn a_name_that_another_program_had_too_takes_nothing_of_it(older: &Older<'_>) {
    let fixture = &older.fixture;
    older.declares("theirs", "of another program");
    for now in 1..4 {
        assert_eq!(enter(fixture, now, upgraded(&format!("new{now}"))), Reconciliation::default());
    }
    let theirs = found(fixture, "theirs");
    assert_eq!((theirs.owner.as_deref(), theirs.status), (Some("main.py"), ScheduleStatus::Active));
}

fn an_application_that_keeps_its_name_retires_nothing_at_once(older: &Older<'_>) {
    let fixture = &older.fixture;
    older.declares("b", "of another program");
    let same = || WorkerEntry { app: text("main.py"), ..new_worker("new") };
    let adopted = vec![ScheduleLabel::of(&found(fixture, "b"))];
    assert_eq!(enter(fixture, 1, same()), Reconciliation { adopted, ..Reconciliation::default() });
    assert_eq!(found(fixture, "b").status, ScheduleStatus::Active);
    assert_eq!(enter(fixture, 2, same()), retired(fixture, &["b"]));
}

fn a_worker_of_an_older_release_protects_its_workflows(older: &Older<'_>) {
    let fixture = &older.fixture;
    enter(fixture, 1, worker("first", &["a"]));
    leave(fixture, 2, "first");
    older.has_worker("older");
    assert_eq!(enter(fixture, 4, worker("new", &[])), protected(fixture, &["a"]));
    leave(fixture, 5, "older");
    let reconcile = Command::Reconcile { entry: Box::new(worker("new", &[])), silent: Vec::new() };
    assert_eq!(report(fixture.ok(at(6), reconcile)), retired(fixture, &["a"]));
}

fn what_an_older_release_declared_is_older_than_what_replaces_it(older: &Older<'_>) {
    let fixture = &older.fixture;
    older.declares("a", "w");
    enter(fixture, 1, with_cron("new", "0 9 * * *", None));
    let replaced = found(fixture, "a");
    // The spec that `declares` stores.
    let report = enter(fixture, 2, with_cron("upgraded", "* * * * *", None));
    assert_eq!((report.outdated.len(), found(fixture, "a").spec), (1, replaced.spec));
}

fn tags_outlive_what_an_older_release_writes(older: &Older<'_>) {
    let fixture = &older.fixture;
    let wanted = ScheduleFilter { tags: tags(&[("team", "a")]), ..ScheduleFilter::default() };
    let found = || fixture.store.schedules(PROJECT, &wanted, &everything()).unwrap().len();
    for key in ["a", "b"] {
        let tags = stored_tags(&wanted.tags);
        fixture.put(at(0), NewSchedule { tags, ..new_schedule(key, Some(at(60))) });
    }
    let id = new_schedule("a", None).id;
    (older.execute)(&format!("UPDATE schedule SET spec = '{{}}', next_slot = 7 WHERE id = '{id}'"));
    assert_eq!(found(), 2);
    (older.execute)(&format!("DELETE FROM schedule WHERE id = '{id}'"));
    assert_eq!(found(), 1);
}

fn outcomes_that_an_older_release_writes_are_counted(older: &Older<'_>) {
    let fixture = &older.fixture;
    let schedule = fixture.put(at(0), new_schedule("a", Some(at(60))));
    let id = &schedule.id;
    let skip = |slot| Patch {
        ledger: vec![LedgerLine { outcome: SlotOutcome::Skipped, ..missed(at(slot)) }],
        ..Patch::default()
    };
    for slot in [120, 180] {
        fixture.patch(at(1), id, skip(slot));
    }
    let micros = |seconds: i64| at(seconds).as_micros();
    (older.execute)(&format!(
        "INSERT INTO ledger (project, schedule_id, from_slot, until_slot, slot_count, fate, reason) VALUES \
         ('{PROJECT}', '{id}', {early}, {slot}, 3, 'missed', ''), ('{PROJECT}', '{id}', {slot}, {slot}, 1, 'skipped', ''); \
         UPDATE schedule SET next_slot = {next}, settled = '[{next}]', run_count = run_count + 2 WHERE id = '{id}'; \
         DELETE FROM ledger WHERE schedule_id = '{id}' AND from_slot = {undone} AND fate = 'skipped'; \
         DELETE FROM ledger WHERE schedule_id = '{id}' AND until_slot < {next}",
        early = micros(-60),
        slot = micros(60),
        next = micros(120),
        undone = micros(180),
    ));
    let counted = fixture.schedule(id);
    assert_eq!((counted.ran_count(), counted.counts.skipped, counted.counts.missed), (2, 2, 3));
}

fn values_that_an_older_release_set_stay(older: &Older<'_>) {
    let fixture = &older.fixture;
    let spec = |max, rate| LimitSpec { max: Some(max), rate, per_us: rate.map(|_| 60), per_key: None };
    let declare = |spec| {
        let limits = vec![DeclaredLimit { name: text("mail"), spec }];
        enter(fixture, 1, WorkerEntry { limits, ..new_worker("wkr_1") });
    };
    declare(spec(9, Some(100)));
    (older.execute)(
        "UPDATE run_limit SET set_values = '{\"max\":5,\"rate\":50,\"per_us\":60}' WHERE name = 'mail'",
    );
    declare(spec(8, Some(10)));
    let shown = || fixture.store.limits(PROJECT, 1, at(2)).unwrap().remove(0).limit;
    assert_eq!((shown().spec(), shown().set), (spec(5, Some(50)), Some(spec(5, Some(50)))));
    let values = Some(spec(3, None));
    fixture.ok(at(3), Command::SetLimit { project: text(PROJECT), name: text("mail"), values });
    assert_eq!(shown().spec(), spec(3, Some(50)));
}

const CASES: [fn(&Older<'_>); 8] = [
    an_upgrade_renames_and_retires_nothing,
    a_name_that_another_program_had_too_takes_nothing_of_it,
    an_application_that_keeps_its_name_retires_nothing_at_once,
    a_worker_of_an_older_release_protects_its_workflows,
    what_an_older_release_declared_is_older_than_what_replaces_it,
    tags_outlive_what_an_older_release_writes,
    outcomes_that_an_older_release_writes_are_counted,
    values_that_an_older_release_set_stay,
];

fn check(store: &dyn Store, case: fn(&Older<'_>), execute: &dyn Fn(&str)) {
    case(&Older { fixture: Fixture::on(store), execute });
}

#[test]
fn a_file_of_an_older_release_is_upgraded() {
    for case in CASES {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("polos.db");
        let store = polos::store::SqliteStore::open(&path, super::quick()).unwrap();
        check(&store, case, &|sql| rusqlite::Connection::open(&path).unwrap().execute_batch(sql).unwrap());
    }
}

#[test]
fn a_server_of_an_older_release_is_upgraded() {
    use super::server::Server;
    use polos::store::{PostgresOptions, PostgresStore};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for case in CASES {
        let url = Server::shared().new_schema();
        let (_, schema) = url.split_once("schema=").unwrap();
        let store = PostgresStore::open(&url, PostgresOptions::default()).unwrap();
        check(&store, case, &|sql| {
            runtime.block_on(async {
                let connected = tokio_postgres::connect(&Server::shared().url, tokio_postgres::NoTls).await;
                let (client, connection) = connected.unwrap();
                tokio::spawn(connection);
                client.batch_execute(&format!("SET search_path = {schema}; {sql}")).await.unwrap();
            });
        });
    }
}
