//! How many round trips to PostgreSQL, and how many statements, a claim and a completion take: a
//! limit adds none to them, whatever the number of runs.

use super::fixture::{Fixture, PROJECT, at, new_run, new_schedule, new_worker, succeeded, text};
use super::server::Server;
use polos::model::{
    Admission, ClaimRules, ClaimedRun, DeclaredLimit, LimitSpec, NewRun, WorkerEntry, WorkflowEntry,
};
use polos::store::{Answer, Command, PostgresOptions, PostgresStore, StoreReads, StoreWrites, Suspects};

/// Round trips and statements.
type Cost = (u64, u64);

struct Subject<'s> {
    store: &'s PostgresStore,
    fixture: Fixture<'s>,
    workflows: &'s [&'s str],
}

impl Subject<'_> {
    fn cost<T>(&self, work: impl FnOnce() -> T) -> (Cost, T) {
        let before = self.store.round_trips();
        let done = work();
        let after = self.store.round_trips();
        ((after.0 - before.0, after.1 - before.1), done)
    }

    /// Queues runs of the first workflow.
    fn queue(&self, name: &str, count: usize) {
        let new = |number| NewRun {
            workflow: text(self.workflows[0]),
            ..new_run(&format!("run_{name}_{number:03}"))
        };
        let commands: Vec<_> = (0..count).map(|number| Command::CreateRun(Box::new(new(number)))).collect();
        assert!(self.store.commit(&commands, at(0)).unwrap().iter().all(Result::is_ok));
    }

    /// Queues the runs of as many slots.
    fn fire(&self, name: &str, count: usize) {
        let key = |number| format!("{name}-{number:03}");
        let schedules = (0..count).map(|number| new_schedule(&key(number), Some(at(60)))).collect();
        for id in self.fixture.upsert_ids(at(0), schedules) {
            let schedule = self.fixture.schedule(&id);
            self.fixture.fire(at(60), &schedule, at(60), Admission::Queue);
        }
    }

    fn claim(&self, count: usize) -> (Cost, Vec<ClaimedRun>) {
        let claim = Command::ClaimRuns {
            project: text(PROJECT),
            worker: self.fixture.worker.clone(),
            workflows: self.workflows.iter().map(|id| text(id)).collect(),
            limit: 100,
            until: at(60),
            suspects: Suspects::Never,
            codes: None,
        };
        let (cost, answer) = self.cost(|| self.fixture.ok(at(60), claim));
        match answer {
            Answer::Claimed(runs) if runs.len() == count => (cost, runs),
            other => panic!("{other:?}"),
        }
    }

    fn complete(&self, runs: &[ClaimedRun]) -> Cost {
        let complete = |ClaimedRun { run, .. }: &ClaimedRun| Command::CompleteRun {
            run: run.id.clone(),
            token: run.token,
            ending: Box::new(succeeded()),
            stands_alone: run.schedule_id.is_none(),
            tells: false,
        };
        let commands: Vec<_> = runs.iter().map(complete).collect();
        let (cost, outcomes) = self.cost(|| self.store.commit(&commands, at(61)).unwrap());
        let limited = |outcome| matches!(outcome, &Ok(Answer::Ended { released: true, .. }));
        let is_limited = runs[0].run.limit.is_some();
        assert!(outcomes.iter().all(|outcome| limited(outcome) == is_limited), "{outcomes:?}");
        cost
    }

    fn look(&self) -> Cost {
        let workflows: Vec<_> = self.workflows.iter().map(|id| text(id)).collect();
        self.cost(|| self.store.next_work(PROJECT, &workflows, at(0)).unwrap()).0
    }
}

/// The workflow `w` has the limit, `free` has none.
fn worker(limit: Option<u32>) -> WorkerEntry {
    let name = text("limit");
    let rules = ClaimRules { limit: Some(name.clone()), ..ClaimRules::default() };
    WorkerEntry {
        workflows: ["w", "free"].map(|id| WorkflowEntry { id: text(id), schedulable: true }).to_vec(),
        limits: limit
            .map(|max| DeclaredLimit { name, spec: LimitSpec { max: Some(max), ..LimitSpec::default() } })
            .into_iter()
            .collect(),
        rules: limit.map(|_| (text("w"), rules)).into_iter().collect(),
        ..new_worker("wkr_1")
    }
}

/// What each work costs, in this order: a look for work, a claim, a completion of runs without
/// slots, a completion of slots' runs.
fn costs(limit: Option<u32>, workflows: &[&str], count: usize) -> [Cost; 4] {
    let url = Server::shared().new_schema();
    let store = PostgresStore::open(&url, PostgresOptions::default()).unwrap();
    let fixture = Fixture::on(&store);
    fixture.ok(at(0), Command::RegisterWorker(Box::new(worker(limit))));
    let subject = Subject { store: &store, fixture, workflows };
    let mut found = [(0, 0); 4];
    // The first time, the store does not know yet that there is a limit.
    for round in ["first", "second"] {
        subject.queue(round, count);
        let look = subject.look();
        let (claim, runs) = subject.claim(count);
        let completion = subject.complete(&runs);
        subject.fire(round, count);
        let (of_slots, runs) = subject.claim(count);
        assert_eq!(of_slots, claim);
        found = [look, claim, completion, subject.complete(&runs)];
    }
    found
}

#[test]
fn a_limit_adds_no_round_trip_and_no_statement_to_a_claim_and_a_completion() {
    for count in [1, 100] {
        let [look, claim, completion, of_slots] = costs(None, &["w"], count);
        assert_eq!(look, (1, 1));
        assert_eq!(claim, (2, 8));
        assert_eq!(completion, (1, 1));
        assert_eq!(of_slots, (2, 5));
        assert_eq!(costs(Some(1_000), &["w"], count), [(1, 2), claim, completion, of_slots], "{count} runs");
        // The runs without a limit are looked for by a statement of their own.
        let both = costs(Some(1_000), &["w", "free"], count);
        assert_eq!(both, [(1, 2), (2, 9), completion, of_slots], "{count} runs");
    }
}

#[test]
fn a_claim_under_a_full_limit_reads_once_and_commits_nothing() {
    let url = Server::shared().new_schema();
    let store = PostgresStore::open(&url, PostgresOptions::default()).unwrap();
    let fixture = Fixture::on(&store);
    fixture.ok(at(0), Command::RegisterWorker(Box::new(worker(Some(3)))));
    let subject = Subject { store: &store, fixture, workflows: &["w"] };
    subject.queue("some", 5);
    subject.claim(3);
    // The first read opens a connection.
    subject.look();
    // It begins and reads, and ends without a commit.
    assert_eq!(subject.claim(0).0, (2, 5));
    assert_eq!(subject.look(), (1, 2));
    assert_eq!(subject.store.next_work(PROJECT, &[text("w")], at(0)).unwrap().run, None);
}
