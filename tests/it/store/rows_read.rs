//! PostgreSQL reads about as many rows as it returns, however many there are. `postgres_plans.rs`
//! checks which indexes it uses for that.

use super::fixture::{
    Fixture, PROJECT, at, done_step, new_run, new_schedule, patch_command, succeeded, text,
};
use super::server::Server;
use polos::model::{Admission, NewRun, RunId, RunState, ScheduleId, ScheduleStatus, Token};
use polos::store::{Command, Page, Patch, PostgresOptions, PostgresStore, RunFilter, ScheduleFilter, Store};
use tokio_postgres::{Client, NoTls};

/// How many schedules and runs there are.
const MANY: i64 = 20_000;
/// How many rows and index entries may be read to return ten rows, without catalogs.
const FEW: i64 = 400;

/// Another client of the same server.
pub(super) struct Administrator {
    runtime: tokio::runtime::Runtime,
    client: Client,
}

impl Administrator {
    pub fn new(url: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let client = runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
            tokio::spawn(connection);
            client
        });
        Self { runtime, client }
    }

    pub fn execute(&self, sql: &str) {
        self.runtime.block_on(self.client.batch_execute(sql)).unwrap();
    }

    pub fn number(&self, sql: &str) -> i64 {
        self.runtime.block_on(self.client.query_one(sql, &[])).unwrap().get(0)
    }

    /// The number of rows and index entries read in a schema, once the connections of this name
    /// have ended and reported.
    pub fn read_by(&self, name: &str, schema: &str) -> i64 {
        let gone = format!("SELECT count(*) FROM pg_stat_activity WHERE application_name = '{name}'");
        while self.number(&gone) > 0 {
            std::thread::yield_now();
        }
        self.number(&format!(
            "SELECT ((SELECT sum(seq_tup_read) FROM pg_stat_user_tables WHERE schemaname = '{schema}') \
             + (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE schemaname = '{schema}'))::bigint"
        ))
    }

    /// Adds rows. One workflow has nearly all of them; what tests ask for is rare in it, or
    /// elsewhere.
    pub fn fill(&self, schema: &str) {
        self.execute(&format!(
            "SET search_path = {schema};
             INSERT INTO schedule (id, revision, status, next_slot, attended_from, created_at, updated_at, project,
                 workflow, key, cadence, spec)
             SELECT 'sch_' || lpad(n::text, 9, '0'), 1,
                 CASE WHEN n % 5000 = 1 THEN 'paused' WHEN n % 2 = 0 THEN 'finished' ELSE 'active' END,
                 CASE WHEN n % 2 = 0 THEN NULL ELSE 1000000::bigint * n END, 0, 0, 0, '{PROJECT}',
                 CASE WHEN n % 5000 = 3 THEN 'v' ELSE 'w' END, 'user-' || lpad(n::text, 9, '0'), '', '{{}}'
             FROM generate_series(1, {MANY}) n;
             INSERT INTO run (id, state, token, attempt, available_at, created_at, finished_at, origin, project,
                 workflow, key, timezone, worker, schedule_id)
             SELECT 'run_' || lpad(n::text, 9, '0'),
                 CASE WHEN n % 5000 = 1 THEN 'failed' WHEN n % 5000 = 2 THEN 'running' WHEN n % 5000 = 3 THEN 'queued'
                 ELSE 'succeeded' END, 1, 1, 0, n, CASE WHEN n % 5000 IN (2, 3) THEN NULL ELSE n END, 'invoke',
                 '{PROJECT}', CASE WHEN n % 5000 = 6 THEN 'v' ELSE 'w' END, 'global', 'UTC', 'wkr_1',
                 'sch_' || lpad((n / 2)::text, 9, '0')
             FROM generate_series(1, {MANY}) n;
             INSERT INTO worker VALUES ('wkr_1', '{PROJECT}', 'a', 'h', 1, 'm', '{{}}', 1, 0, 0, '{{w}}');
             ANALYZE schedule; ANALYZE run"
        ));
    }
}

#[test]
fn reads_read_about_as_many_rows_as_they_return() {
    type Ask = (&'static str, fn(&dyn Store) -> usize);
    fn listed(store: &dyn Store, filter: &ScheduleFilter) -> usize {
        store.schedules(PROJECT, filter, &Page { limit: 10, after: None }).unwrap().len()
    }
    fn ran(store: &dyn Store, states: &[RunState], workflow: Option<&str>) -> usize {
        let workflow = workflow.map(text);
        let filter = RunFilter { workflow, states: states.to_vec(), ..RunFilter::default() };
        store.runs(PROJECT, &filter, &Page { limit: 10, after: None }).unwrap().len()
    }
    let asks: [Ask; 20] = [
        ("all schedules", |store| listed(store, &ScheduleFilter::default()) / 10),
        ("of one workflow", |store| {
            listed(store, &ScheduleFilter { workflow: Some(text("v")), ..ScheduleFilter::default() }) / 4
        }),
        ("paused", |store| {
            listed(
                store,
                &ScheduleFilter { status: Some(ScheduleStatus::Paused), ..ScheduleFilter::default() },
            ) / 4
        }),
        ("paused, of one workflow", |store| {
            let status = Some(ScheduleStatus::Paused);
            listed(store, &ScheduleFilter { workflow: Some(text("w")), status, ..ScheduleFilter::default() })
                / 4
        }),
        ("by the beginning of the key", |store| {
            listed(store, &ScheduleFilter { key_prefix: Some(text("user-")), ..ScheduleFilter::default() })
                / 10
        }),
        ("by the beginning of few keys", |store| {
            let key_prefix = Some(text("user-00000123"));
            listed(store, &ScheduleFilter { key_prefix, ..ScheduleFilter::default() }) / 10
        }),
        ("a page of keys", |store| {
            let filter = ScheduleFilter { key_prefix: Some(text("user-")), ..ScheduleFilter::default() };
            let after = Some(ScheduleFilter::cursor("user-000010000", "w"));
            store.schedules(PROJECT, &filter, &Page { limit: 10, after }).unwrap().len() / 10
        }),
        ("coming", |store| store.coming(PROJECT, at(i64::from(u16::MAX)), 10).unwrap().len() / 10),
        ("project stats", |store| {
            let project_stats = store.project_stats(PROJECT, at(10_000), 10).unwrap();
            assert_eq!(project_stats.schedules[0].1, 10);
            assert_eq!(project_stats.schedules[1].1, 4);
            usize::from(project_stats.overdue == 10)
        }),
        ("failed", |store| ran(store, &[RunState::Failed], None) / 4),
        ("failed, of a workflow", |store| ran(store, &[RunState::Failed], Some("w")) / 4),
        ("none that failed", |store| 1 + ran(store, &[RunState::Failed], Some("v"))),
        ("queued and running", |store| ran(store, &[RunState::Queued, RunState::Running], None) / 8),
        ("all runs", |store| ran(store, &[], None) / 10),
        ("of a workflow with few", |store| ran(store, &[], Some("v")) / 4),
        ("of a workflow with few since", |store| {
            let since = Some(polos::calendar::Timestamp::from_micros(6_000));
            let filter = RunFilter { workflow: Some(text("v")), since, ..RunFilter::default() };
            store.runs(PROJECT, &filter, &Page { limit: 10, after: None }).unwrap().len() / 2
        }),
        ("of a workflow with many, a page", |store| {
            let filter = RunFilter { workflow: Some(text("w")), ..RunFilter::default() };
            let after = Some("run_000010000".to_owned());
            store.runs(PROJECT, &filter, &Page { limit: 10, after }).unwrap().len() / 10
        }),
        ("all runs, a page", |store| {
            let after = Some("run_000010000".to_owned());
            store.runs(PROJECT, &RunFilter::default(), &Page { limit: 10, after }).unwrap().len() / 10
        }),
        ("of a schedule", |store| {
            let filter = RunFilter { schedule: Some("sch_000000003".into()), ..RunFilter::default() };
            store.runs(PROJECT, &filter, &Page { limit: 10, after: None }).unwrap().len() / 2
        }),
        ("with a key", |store| {
            listed(store, &ScheduleFilter { key: Some(text("user-000000777")), ..ScheduleFilter::default() })
        }),
    ];
    let server = Server::shared();
    let url = server.new_schema();
    let schema = url.rsplit_once("schema=").unwrap().1.to_owned();
    PostgresStore::open(&url, PostgresOptions::default()).unwrap().close();
    let administrator = Administrator::new(&server.url);
    administrator.fill(&schema);
    let mut excessive = Vec::new();
    for (number, (what, ask)) in asks.into_iter().enumerate() {
        let name = format!("{schema}_{number}");
        let before = administrator.read_by(&name, &schema);
        let store =
            PostgresStore::open(&format!("{url}&application_name={name}"), PostgresOptions::default())
                .unwrap();
        assert_eq!(ask(&store), 1, "{what}");
        drop(store);
        let read = administrator.read_by(&name, &schema) - before;
        assert!(read > 0, "{what}: the server counts what was read");
        if read > FEW {
            excessive.push(format!("{what}: {read}"));
        }
    }
    assert_eq!(excessive, Vec::<String>::new(), "of {MANY}");
}

/// SQL that adds schedules and runs. Of four runs, one is queued, one belongs to a schedule, and
/// `wkr_1` runs all but the queued one.
pub(super) fn rows(from: i64, until: i64) -> String {
    format!(
        "INSERT INTO schedule (id, revision, status, next_slot, attended_from, created_at, updated_at, project,
             workflow, key, cadence, spec)
         SELECT 'sch_' || n, 1, 'active', 60000000, 0, 0, 0, '{PROJECT}', 'w', 'user-' || n, '', '{{}}'
         FROM generate_series({from}, {until}) n;
         INSERT INTO run (id, state, token, attempt, available_at, created_at, origin, project, workflow, key,
             timezone, worker, schedule_id)
         SELECT 'run_' || n, CASE n % 4 WHEN 0 THEN 'queued' ELSE 'running' END, 1, 1, 0, n, 'invoke', '{PROJECT}',
             'w', 'global', 'UTC', CASE n % 4 WHEN 0 THEN NULL ELSE 'wkr_1' END,
             CASE n % 4 WHEN 2 THEN 'sch_' || n END
         FROM generate_series({from}, {until}) n;
         INSERT INTO step (run, name, state, attempt, run_attempt, started_at, finished_at)
         SELECT no, 'step', 'done', 1, 1, 0, 0 FROM run WHERE created_at BETWEEN {from} AND {until}"
    )
}

/// A name, and a function that works on ten rows after the row with this number.
type Work = (&'static str, fn(&Fixture<'_>, i64));

fn each(fixture: &Fixture<'_>, after: i64, kind: i64, command: impl Fn(i64) -> Command) {
    let numbers = (after..).filter(|number| number % 4 == kind).take(10);
    let commands: Vec<_> = numbers.map(command).collect();
    for outcome in fixture.store.commit(&commands, at(60)).unwrap() {
        outcome.unwrap();
    }
}

fn run(number: i64) -> RunId {
    RunId::from(&*format!("run_{number}"))
}

fn finish(number: i64, stands_alone: bool) -> Command {
    let ending = Box::new(succeeded());
    Command::CompleteRun { run: run(number), token: Token(1), ending, stands_alone, tells: false }
}

fn create(fixture: &Fixture<'_>, after: i64, edit: impl Fn(&str, &mut NewRun)) {
    each(fixture, after, 0, |number| {
        let name = format!("new_{number}");
        let mut new = new_run(&name);
        edit(&name, &mut new);
        Command::CreateRun(Box::new(new))
    });
}

const WORKS: [Work; 20] = [
    ("steps", |fixture, after| {
        each(fixture, after, 1, |number| Command::RecordStep {
            run: run(number),
            token: Token(1),
            step: done_step("next"),
        });
    }),
    ("reports of progress", |fixture, after| {
        each(fixture, after, 1, |number| Command::ReportProgress {
            run: run(number),
            token: Token(1),
            progress: r#"{"fraction": 0.5}"#.into(),
        });
    }),
    ("completions of standalone runs", |fixture, after| {
        each(fixture, after, 1, |number| finish(number, true));
    }),
    ("completions of standalone runs on the general path", |fixture, after| {
        each(fixture, after, 1, |number| finish(number, false));
    }),
    ("completions of schedules' runs", |fixture, after| {
        each(fixture, after, 2, |number| finish(number, false));
    }),
    ("runs", |fixture, after| create(fixture, after, |_, _| {})),
    ("claimed runs", |fixture, after| {
        create(fixture, after, |_, new| new.claim_for = Some(fixture.worker.clone()));
    }),
    ("runs with an idempotency key", |fixture, after| {
        create(fixture, after, |name, new| new.idempotency_key = Some(text(name)));
    }),
    ("claims", |fixture, _| assert_eq!(fixture.claim_up_to(at(60), 10).len(), 10)),
    ("fires", |fixture, after| {
        for number in after..after + 10 {
            let schedule = fixture.schedule(&ScheduleId::from(&*format!("sch_{number}")));
            fixture.fire(at(60), &schedule, at(60), Admission::Claim);
        }
    }),
    ("cancellations", |fixture, after| {
        each(fixture, after, 0, |number| Command::CancelRun { project: text(PROJECT), run: run(number) });
    }),
    ("edits", |fixture, after| {
        each(fixture, after, 1, |number| {
            let patch = Patch { status: Some(ScheduleStatus::Paused), ..Patch::default() };
            patch_command(&ScheduleId::from(&*format!("sch_{number}")), None, patch)
        });
    }),
    ("deletions", |fixture, after| {
        each(fixture, after, 1, |number| {
            let id = ScheduleId::from(&*format!("sch_{number}"));
            Command::DeleteSchedule { project: text(PROJECT), id }
        });
    }),
    ("schedules that are upserted again", |fixture, after| {
        each(fixture, after, 1, |number| {
            Command::UpsertSchedules(vec![new_schedule(&format!("user-{number}"), Some(at(120)))])
        });
    }),
    ("new schedules", |fixture, after| {
        each(fixture, after, 1, |number| {
            Command::UpsertSchedules(vec![new_schedule(&format!("new-{number}"), Some(at(120)))])
        });
    }),
    ("due schedules", |fixture, _| {
        assert_eq!(fixture.store.due(PROJECT, &[text("w")], at(60), 10).unwrap().len(), 10);
    }),
    ("next work", |fixture, _| {
        fixture.store.next_work(PROJECT, &[text("w")], at(0)).unwrap();
    }),
    ("whether claims stand", |fixture, after| {
        let claims: Vec<_> = (after..after + 10).map(|number| (run(number), Token(1))).collect();
        assert_eq!(fixture.store.claims_stand(&claims).unwrap().len(), 10);
    }),
    ("whether runs may be entered", |fixture, after| {
        let claims: Vec<_> = (after..after + 10).map(|number| (run(number), Token(1))).collect();
        assert_eq!(fixture.store.may_enter(&claims).unwrap().len(), 10);
    }),
    ("cancel requests", |fixture, _| {
        assert_eq!(fixture.store.cancel_requests(&fixture.worker).unwrap().len(), 0);
    }),
];

#[test]
fn commands_read_few_rows_after_the_tables_have_grown() {
    let server = Server::shared();
    let administrator = Administrator::new(&server.url);
    let mut excessive = Vec::new();
    for (what, work) in WORKS {
        let url = server.new_schema();
        let schema = url.rsplit_once("schema=").unwrap().1.to_owned();
        let store =
            PostgresStore::open(&format!("{url}&application_name={schema}"), PostgresOptions::default())
                .unwrap();
        let fixture = Fixture::on(&store);
        for table in ["run", "schedule", "step", "worker"] {
            // The server keeps a plan until it analyzes the tables again.
            administrator.execute(&format!("ALTER TABLE {schema}.{table} SET (autovacuum_enabled = false)"));
        }
        administrator.execute(&format!("SET search_path = {schema}; {}", rows(1, 200)));
        // The server prepares and plans a statement when it is sent for the second time.
        for after in [1, 50, 100] {
            work(&fixture, after);
        }
        let filler = format!("{schema}_filler");
        let growing = Administrator::new(&format!("{}?application_name={filler}", server.url));
        growing.execute(&format!("SET search_path = {schema}; {}", rows(201, MANY)));
        drop(growing);
        let before = administrator.read_by(&filler, &schema);
        work(&fixture, 10_000);
        drop(store);
        let read = administrator.read_by(&schema, &schema) - before;
        if read > 2 * FEW {
            excessive.push(format!("{what}: {read}"));
        }
    }
    assert_eq!(excessive, Vec::<String>::new(), "of {MANY}");
}
