//! Random commands, applied to two stores: equal answers and equal reads, always. The store in
//! memory is the model.

use super::fixture::{compiled_spec, text};
use polos::calendar::Timestamp;
use polos::model::schedule::{Tags, parse_tags, stored_tags};
use polos::model::*;
use polos::store::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// splitmix64.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.roll() % limit
    }

    pub fn one_in(&mut self, of: u64) -> bool {
        self.below(of) == 0
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        if from.is_empty() { None } else { from.get(self.below(from.len() as u64) as usize) }
    }
}

/// Words for everything, some of them nasty.
pub const LIMITS: [&str; 2] = ["openai", "w"];
pub const PROJECTS: [&str; 2] = ["default", "other"];
const WORKFLOWS: [&str; 4] = ["w", "v", "'; DROP TABLE run; --", "nul\0\u{202e}💥"];
const KEYS: [&str; 3] = ["global", "user%_1", "\""];
const APPS: [&str; 2] = ["app.py", "web"];
pub const WORKERS: [&str; 3] = ["wkr_a", "wkr_b", "wkr_c"];
const CALENDARS: [&str; 3] = ["us", "de", "us-east"];
const SPECS: [&str; 7] = [
    r#"{"cron":"* * * * *","calendars":["de","us"]}"#,
    r#"{"cron":"* * * * *","calendars":["us-east"]}"#,
    r#"{"cron":"* * * * *","timezone":"Europe/Berlin"}"#,
    r#"{"cron":"* * * * *","overlap":"skip"}"#,
    r#"{"cron":"0 9 * * *"}"#,
    r#"{"cron":"* * * * *","pause_after_failures":2}"#,
    "not json",
];

/// A world that random commands are made for, seen through the model.
struct World<'a> {
    model: &'a MemoryStore,
    dice: Dice,
    now: Timestamp,
    made: u64,
    /// Ids of everything that was ever made.
    schedules: Vec<(Arc<str>, ScheduleId)>,
    runs: Vec<(Arc<str>, RunId)>,
    claims: Vec<(RunId, Token)>,
    endings: Vec<Command>,
}

impl World<'_> {
    fn word(&mut self, words: &[&str]) -> Arc<str> {
        text(self.dice.pick(words).expect("there are words"))
    }

    fn near(&mut self) -> Timestamp {
        Timestamp::from_micros(self.now.as_micros() + (self.dice.below(21) as i64 - 10) * 1_000_000)
    }

    fn maybe_near(&mut self) -> Option<Timestamp> {
        if self.dice.one_in(6) { None } else { Some(self.near()) }
    }

    fn worker(&mut self) -> WorkerId {
        WorkerId::from(&*self.word(&WORKERS))
    }

    fn json(&mut self) -> Option<Json> {
        match self.dice.below(3) {
            0 => None,
            n => Some(format!("{{\"n\":{n}}}").into()),
        }
    }

    fn new_schedule(&mut self) -> NewSchedule {
        self.made += 1;
        let spec = self.word(&SPECS);
        let compiled_spec = if self.dice.one_in(8) { text("another") } else { Arc::clone(&spec) };
        NewSchedule {
            version: None,
            id: ScheduleId::from(format!("sch_{:08x}{}", self.dice.roll() as u32, self.made)),
            project: self.word(&PROJECTS),
            workflow: self.word(&WORKFLOWS),
            key: self.word(&KEYS),
            owner: if self.dice.one_in(2) { Some(self.word(&APPS)) } else { None },
            spec: spec.into(),
            compiled_spec,
            input: self.json(),
            tags: self.tags(),
            next_slot: self.maybe_near(),
        }
    }

    fn tags(&mut self) -> Option<Json> {
        let mut tags = Tags::new();
        for name in ["env", "team"] {
            if self.dice.one_in(2) {
                tags.insert(text(name), self.word(&["a", "b\"'%"]));
            }
        }
        stored_tags(&tags)
    }

    fn new_schedules(&mut self) -> Vec<NewSchedule> {
        let mut new: Vec<_> = (0..self.dice.below(4)).map(|_| self.new_schedule()).collect();
        if self.dice.one_in(12)
            && let Some((_, id)) = self.dice.pick(&self.schedules).cloned()
            && let Some(last) = new.last_mut()
            && self.model.schedule(PROJECTS[0], &id).unwrap().is_some()
        {
            last.id = id;
        }
        new
    }

    fn ledger(&mut self) -> Vec<LedgerLine> {
        let mut line = || {
            let from = self.near();
            LedgerLine {
                from,
                until: Timestamp::from_micros(from.as_micros() + self.dice.below(3) as i64 * 1_000_000),
                count: 1 + self.dice.below(3),
                outcome: if self.dice.one_in(2) { SlotOutcome::Missed } else { SlotOutcome::Skipped },
                reason: text("late"),
            }
        };
        if line().count == 3 { vec![line(), line()] } else { Vec::new() }
    }

    fn plan(&mut self) -> Option<FirePlan> {
        let (project, id) = self.dice.pick(&self.schedules)?.clone();
        let found = self.model.schedule(&project, &id).unwrap()?;
        let mut slot = found.next_slot.unwrap_or_else(|| self.near());
        let mut last_slot = found.last_slot;
        let mut runs = Vec::new();
        for _ in 0..self.dice.below(4) {
            let upcoming = Timestamp::from_micros(slot.as_micros() + 2_000_000);
            runs.push(PlannedRun {
                id: RunId::of_slot(&id, slot),
                slot,
                last_slot,
                upcoming: Some(upcoming),
                available_at: Timestamp::from_micros(slot.as_micros() + self.dice.below(3) as i64 * 500_000),
                admission: match self.dice.below(4) {
                    0 => Admission::Queue,
                    1 => Admission::Behind,
                    _ => Admission::Claim,
                },
            });
            last_slot = Some(slot);
            slot = upcoming;
        }
        let is_last = self.dice.one_in(10);
        Some(FirePlan {
            schedule: id,
            revision: found.revision - i64::from(self.dice.one_in(10)),
            spec: compiled_spec(&found),
            next_slot: if is_last { None } else { Some(slot) },
            status: if is_last { ScheduleStatus::Finished } else { ScheduleStatus::Active },
            runs,
            ledger: self.ledger(),
            cancel_unfinished: self.dice.one_in(6),
            settled: None,
        })
    }

    fn ending(&mut self) -> Completion {
        match self.dice.below(9) {
            0..=2 => Completion::Succeeded { result: self.json() },
            3 => Completion::Failed { error: text(r#"{"type": "shop:Sold"}"#), retry_at: None },
            4 => Completion::Failed { error: text("{}"), retry_at: Some(self.near()) },
            5 => Completion::Cancelled { error: self.json() },
            6 if self.dice.one_in(2) => Completion::Parked { wakes_at: Timestamp::MAX },
            6 => Completion::Parked { wakes_at: self.near() },
            7 => Completion::Skipped { reason: text("left out") },
            8 if self.dice.one_in(2) => {
                let code = format!("code_{}", self.dice.below(3)).into();
                Completion::Held { code, note: "held".into() }
            }
            _ => Completion::Released,
        }
    }

    fn step(&mut self) -> StepRecord {
        let state = match self.dice.below(4) {
            0 => StepState::Failed,
            1 => StepState::Retrying,
            2 => StepState::Sleeping,
            _ => StepState::Done,
        };
        StepRecord {
            name: self.word(&["a", "b", "c", "d\0"]),
            state,
            attempt: 1,
            run_attempt: 1,
            result: self.json(),
            error: self.json(),
            wakes_at: self.maybe_near(),
            started_at: self.now,
            finished_at: self.now,
        }
    }

    fn status(&mut self) -> ScheduleStatus {
        use ScheduleStatus::*;
        *self.dice.pick(&[Active, Active, Paused, Paused, Retired, Finished, Broken]).expect("there are some")
    }

    fn patch(&mut self) -> Patch {
        let mut patch = Patch::default();
        if self.dice.one_in(3) {
            let spec = self.word(&SPECS);
            patch.spec = Some((Arc::clone(&spec).into(), spec, self.maybe_near()));
        }
        if self.dice.one_in(4) {
            patch.input = Some(self.json());
        }
        if self.dice.one_in(4) {
            patch.tags = Some(self.tags());
        }
        if self.dice.one_in(2) {
            patch.status = Some(self.status());
        }
        if self.dice.one_in(4) {
            patch.note = Some(Some(text("by hand")));
        }
        if self.dice.one_in(4) {
            patch.next_slot = Some(self.maybe_near());
            patch.ledger = self.ledger();
        }
        if self.dice.one_in(4) {
            let slot = self.near();
            let (outcome, reason) = (SlotOutcome::Skipped, text("skipped"));
            patch.ledger.push(LedgerLine { from: slot, until: slot, count: 1, outcome, reason });
        }
        if self.dice.one_in(4) {
            patch.unskipped = vec![self.near(), self.near()];
        }
        patch
    }

    fn new_run(&mut self) -> NewRun {
        self.made += 1;
        let schedule = if self.dice.one_in(2) { self.dice.pick(&self.schedules).cloned() } else { None };
        let origin = match &schedule {
            Some(_) if self.dice.one_in(2) => Origin::Backfill,
            Some(_) => Origin::Trigger,
            None if self.dice.one_in(2) => Origin::Child,
            None => Origin::Invoke,
        };
        let project =
            schedule.as_ref().map_or_else(|| self.word(&PROJECTS), |(project, _)| Arc::clone(project));
        let id = match self.dice.pick(&self.runs) {
            Some((_, id)) if self.dice.below(10) == 0 => id.clone(),
            _ => RunId::from(format!("run_{:08x}{}", self.dice.roll() as u32, self.made)),
        };
        NewRun {
            id,
            project,
            workflow: self.word(&WORKFLOWS),
            key: self.word(&KEYS),
            slot: schedule.as_ref().map(|_| self.near()),
            schedule_id: schedule.map(|(_, id)| id),
            last_slot: None,
            upcoming: None,
            timezone: text("UTC"),
            origin,
            payload: self.json(),
            input: self.json(),
            available_at: self.near(),
            behind: self.dice.one_in(2),
            revokes_claims: self.dice.one_in(3),
            revision: None,
            parent: if origin == Origin::Child {
                self.dice.pick(&self.runs).map(|(_, id)| id.clone())
            } else {
                None
            },
            idempotency_key: if self.dice.one_in(4) { Some(self.word(&["k1", "k2"])) } else { None },
            together: None,
            claim_for: if self.dice.one_in(3) { Some(self.worker()) } else { None },
            priority: if self.dice.one_in(3) { Some(self.dice.below(10) as u8) } else { None },
        }
    }

    fn limit_spec(&mut self) -> LimitSpec {
        let per_key = self.dice.one_in(2).then(|| 1 + self.dice.below(2) as u32);
        let rate = self.dice.one_in(3).then(|| 1 + self.dice.below(3) as u32);
        let max = self.dice.one_in(2).then(|| self.dice.below(4) as u32);
        LimitSpec { max, per_key, rate, per_us: rate.map(|_| 5_000_000) }
    }

    fn limits(&mut self) -> Vec<DeclaredLimit> {
        let names = LIMITS[..self.dice.below(3) as usize].iter();
        names.map(|name| DeclaredLimit { name: text(name), spec: self.limit_spec() }).collect()
    }

    fn rules(&mut self) -> BTreeMap<Arc<str>, ClaimRules> {
        let mut rules = BTreeMap::new();
        for workflow in WORKFLOWS {
            if self.dice.one_in(3) {
                // Some without a declaration.
                let limit = self.dice.one_in(2).then(|| self.word(&LIMITS));
                let priority = self.dice.below(3) as u8 * 4;
                rules.insert(text(workflow), ClaimRules { limit, priority, ..ClaimRules::default() });
            }
        }
        rules
    }

    fn a_schedule(&mut self) -> (Arc<str>, ScheduleId) {
        let known = self.dice.pick(&self.schedules).cloned();
        known.unwrap_or_else(|| (text(PROJECTS[0]), ScheduleId::from("sch_none")))
    }

    fn a_run(&mut self) -> (Arc<str>, RunId) {
        let known = self.dice.pick(&self.runs).cloned();
        known.unwrap_or_else(|| (text(PROJECTS[0]), RunId::from("run_none")))
    }

    fn a_claim(&mut self) -> (RunId, Token) {
        let recent = self.claims.len().saturating_sub(6);
        let known = self.dice.pick(&self.claims[recent..]).cloned();
        known.unwrap_or_else(|| (RunId::from("run_none"), Token(1)))
    }

    #[expect(clippy::too_many_lines, reason = "one table of all commands")]
    fn command(&mut self) -> Command {
        match self.dice.below(100) {
            0..5 => {
                let app = self.word(&APPS);
                let project = self.word(&PROJECTS);
                let workflows = WORKFLOWS[..=self.dice.below(4) as usize].iter();
                let workflows = workflows
                    .map(|id| WorkflowEntry { id: text(id), schedulable: self.dice.one_in(2) })
                    .collect();
                let mut declared = self.new_schedules();
                for new in &mut declared {
                    new.project = Arc::clone(&project);
                    new.owner = Some(Arc::clone(&app));
                }
                let is_whole = declared.len().is_multiple_of(2);
                Command::RegisterWorker(Box::new(WorkerEntry {
                    id: self.worker(),
                    project,
                    app,
                    aliases: Vec::new(),
                    former: Vec::new(),
                    version: None,
                    is_whole,
                    host: text("host"),
                    pid: 7,
                    process_mark: text("m"),
                    about: text("{}"),
                    workflows,
                    declared,
                    limits: self.limits(),
                    rules: self.rules(),
                }))
            }
            5..6 if self.dice.one_in(2) => Command::SetCalendar {
                project: self.word(&PROJECTS),
                name: self.word(&CALENDARS),
                dates: self.dice.one_in(2).then(|| self.word(&["[]", r#"["2027-01-15"]"#])),
            },
            5..6 if self.dice.one_in(3) => {
                Command::DeleteLimit { project: self.word(&PROJECTS), name: self.word(&LIMITS) }
            }
            5..6 => Command::SetLimit {
                project: self.word(&PROJECTS),
                name: self.word(&LIMITS),
                values: self.dice.one_in(2).then(|| self.limit_spec()),
            },
            6..8 => Command::Heartbeat { worker: self.worker() },
            8..9 => Command::UncountInterruptions { claims: vec![self.a_claim(), self.a_claim()] },
            9..11 => Command::DeregisterWorker { worker: self.worker() },
            11..13 => {
                let worker = self.worker();
                let peers = PROJECTS.iter().flat_map(|project| self.model.peers(project).unwrap());
                let heartbeat =
                    peers.into_iter().find(|peer| peer.id == worker).map_or(3, |peer| peer.heartbeat);
                Command::ExpireWorker {
                    worker,
                    heartbeat: heartbeat - self.dice.below(2) as i64,
                    shares_process: self.dice.one_in(2),
                }
            }
            13..20 => Command::UpsertSchedules(self.new_schedules()),
            20..25 => {
                let (project, id) = self.a_schedule();
                let revision = self.model.schedule(&project, &id).unwrap().map(|schedule| schedule.revision);
                let revision = if self.dice.one_in(2) { revision } else { None };
                Command::PatchSchedule { project, id, revision, patch: Box::new(self.patch()) }
            }
            25..27 => {
                let (project, id) = self.a_schedule();
                Command::DeleteSchedule { project, id }
            }
            27..47 => match self.plan() {
                Some(plan) => Command::Fire { worker: self.worker(), plan: Box::new(plan) },
                None => Command::UpsertSchedules(vec![self.new_schedule()]),
            },
            47..57 => Command::ClaimRuns {
                project: self.word(&PROJECTS),
                worker: self.worker(),
                workflows: (0..=self.dice.below(4)).map(|_| self.word(&WORKFLOWS)).collect(),
                limit: self.dice.below(12) as usize,
                until: self.near(),
                suspects: match self.dice.below(3) {
                    0 => Suspects::Never,
                    1 => Suspects::Alone,
                    _ => Suspects::Since(self.near()),
                },
                codes: self.dice.one_in(2).then(|| {
                    let code = format!("code_{}", self.dice.below(3));
                    Arc::new(WORKFLOWS.iter().map(|id| (Arc::from(*id), Arc::from(&*code))).collect())
                }),
            },
            57..63 => Command::CreateRun(Box::new(self.new_run())),
            63..69 => {
                let (run, token) = self.a_claim();
                if self.dice.one_in(4) {
                    let progress = format!("{{\"message\": \"page {}\"}}", self.dice.below(9)).into();
                    return Command::ReportProgress { run, token, progress };
                }
                Command::RecordStep { run, token, step: self.step() }
            }
            69..71 => {
                let (run, token) = self.a_claim();
                let wakes_at = if self.dice.one_in(2) { Some(self.near()) } else { None };
                let step = StepRecord { state: StepState::Waiting, result: None, wakes_at, ..self.step() };
                Command::AwaitEvent { run, token, step }
            }
            71..73 => {
                let (project, run) = self.a_run();
                Command::SendEvent(Box::new(NewEvent {
                    project,
                    run,
                    name: self.step().name,
                    payload: text("7"),
                    idempotency_key: if self.dice.one_in(2) { Some(self.word(&["k1", "k2"])) } else { None },
                    sent_to: None,
                }))
            }
            73..89 => {
                if self.dice.one_in(5)
                    && let Some(again) = self.dice.pick(&self.endings)
                {
                    return again.clone();
                }
                let (run, token) = self.a_claim();
                let ending = Box::new(self.ending());
                // Wrong now and then, which must not matter.
                let stands_alone = self.dice.one_in(2);
                let tells = self.dice.one_in(2);
                let command = Command::CompleteRun { run, token, ending, stands_alone, tells };
                self.endings.push(command.clone());
                command
            }
            89..93 => {
                let (project, run) = self.a_run();
                Command::CancelRun { project, run }
            }
            93..97 => {
                let (project, run) = self.a_run();
                Command::RetryRun { project, run }
            }
            97..98 => {
                let (project, run) = self.a_run();
                Command::WakeParents { project, runs: vec![run, self.a_run().1] }
            }
            _ => Command::Prune {
                project: self.word(&PROJECTS),
                before: self.near(),
                keep: self.dice.below(4) as u32,
                limit: 1 + self.dice.below(20) as usize,
            },
        }
    }

    /// Remembers what came into being.
    fn learn(&mut self, command: &Command, answer: &Result<Answer, Rejection>) {
        let Ok(answer) = answer else { return };
        match (command, answer) {
            (Command::UpsertSchedules(new), _) => self.learn_schedules(new),
            (Command::RegisterWorker(entry), _) => self.learn_schedules(&entry.declared),
            (Command::CreateRun(new), _) => self.runs.push((Arc::clone(&new.project), new.id.clone())),
            (Command::Fire { plan, .. }, _) => {
                for run in &plan.runs {
                    let project =
                        PROJECTS.iter().find(|project| self.model.run(project, &run.id).unwrap().is_some());
                    if let Some(project) = project {
                        self.runs.push((text(project), run.id.clone()));
                    }
                }
            }
            _ => {}
        }
        if let Answer::Claimed(claimed) = answer {
            self.claims.extend(claimed.iter().map(|claim| (claim.run.id.clone(), claim.run.token)));
        }
    }

    fn learn_schedules(&mut self, new: &[NewSchedule]) {
        for new in new {
            if self.model.schedule(&new.project, &new.id).unwrap().is_some() {
                self.schedules.push((Arc::clone(&new.project), new.id.clone()));
            }
        }
    }
}

const STATES: [RunState; 7] = [
    RunState::Buffered,
    RunState::Queued,
    RunState::Running,
    RunState::Waiting,
    RunState::Succeeded,
    RunState::Failed,
    RunState::Cancelled,
];

/// Everything that can be asked.
fn compare_reads(world: &mut World<'_>, store: &dyn Store) {
    let model = world.model;
    let workflows: Vec<Arc<str>> =
        WORKFLOWS[..=world.dice.below(4) as usize].iter().map(|id| text(id)).collect();
    for project in PROJECTS {
        let until = world.near();
        let limit = 1 + world.dice.below(12) as usize;
        assert_eq!(
            model.due(project, &workflows, until, limit),
            store.due(project, &workflows, until, limit)
        );
        assert_eq!(model.next_work(project, &workflows, until), store.next_work(project, &workflows, until));
        assert_eq!(model.remarkable_runs(project, 50), store.remarkable_runs(project, 50));
        assert_eq!(model.peers(project), store.peers(project));
        assert_eq!(model.workflows(project), store.workflows(project));

        let page = Page { limit, after: None };
        assert_eq!(model.waiting_parents(project, &page), store.waiting_parents(project, &page));
        assert_eq!(model.coming(project, until, limit), store.coming(project, until, limit));
        assert_eq!(model.limits(project, 1_000, world.now), store.limits(project, 1_000, world.now));
        assert_eq!(model.calendars(project, None), store.calendars(project, None));
        assert_eq!(
            model.schedules_with_calendars(project, &page),
            store.schedules_with_calendars(project, &page)
        );
        let count_to = [0, 2, 1_000][world.dice.below(3) as usize];
        assert_eq!(
            model.project_stats(project, until, count_to),
            store.project_stats(project, until, count_to)
        );

        let mut filter = ScheduleFilter {
            workflow: world.dice.one_in(3).then(|| world.word(&WORKFLOWS)),
            key: world.dice.one_in(3).then(|| world.word(&KEYS)),
            status: world.dice.one_in(3).then(|| world.status()),
            owner: world.dice.one_in(3).then(|| world.word(&APPS)),
            key_prefix: None,
            tags: if world.dice.one_in(2) { parse_tags(world.tags().as_deref()) } else { Tags::new() },
        };
        let mut page = Page { limit, after: None };
        loop {
            let expected = model.schedules(project, &filter, &page).unwrap();
            assert_eq!(expected, store.schedules(project, &filter, &page).unwrap());
            let Some(last) = expected.last() else { break };
            page.after = Some(last.id.to_string());
        }
        let key = world.word(&KEYS);
        let length = world.dice.below(1 + key.chars().count() as u64) as usize;
        filter.key_prefix = Some(key.chars().take(length).collect::<String>().into());
        filter.key = filter.key.filter(|_| world.dice.one_in(3));
        page.after = None;
        loop {
            let expected = model.schedules(project, &filter, &page).unwrap();
            assert_eq!(expected, store.schedules(project, &filter, &page).unwrap(), "{filter:?}, {page:?}");
            let Some(last) = expected.last() else { break };
            page.after = Some(ScheduleFilter::cursor(&last.key, &last.workflow));
        }

        let states = STATES;
        let filter = RunFilter {
            workflow: world.dice.one_in(3).then(|| world.word(&WORKFLOWS)),
            key: world.dice.one_in(3).then(|| world.word(&KEYS)),
            schedule: if world.dice.one_in(3) { Some(world.a_schedule().1) } else { None },
            states: states.into_iter().filter(|_| world.dice.one_in(4)).collect(),
            since: world.dice.one_in(3).then(|| world.near()),
            error: None,
        };
        for error in [None, Some(text("Sold")), Some(text("Other"))] {
            let filter = RunFilter { error, ..filter.clone() };
            let mut page = Page { limit: 1 + limit * 4, after: None };
            loop {
                let expected = model.runs(project, &filter, &page).unwrap();
                assert_eq!(expected, store.runs(project, &filter, &page).unwrap(), "{filter:?}, {page:?}");
                let Some(last) = expected.last() else { break };
                page.after = Some(last.id.to_string());
            }
        }
    }
    for worker in WORKERS {
        let worker = WorkerId::from(worker);
        assert_eq!(model.cancel_requests(&worker), store.cancel_requests(&worker));
    }
    assert_eq!(model.claims_stand(&world.claims), store.claims_stand(&world.claims));
    assert_eq!(model.may_enter(&world.claims), store.may_enter(&world.claims));

    let known: BTreeSet<_> = world.schedules.iter().rev().take(40).cloned().collect();
    for (project, id) in known {
        assert_eq!(model.schedule(&project, &id), store.schedule(&project, &id));
        let mut page = Page { limit: 1 + world.dice.below(5) as usize, after: None };
        loop {
            let expected = model.history(&project, &id, &page).unwrap();
            assert_eq!(expected, store.history(&project, &id, &page).unwrap());
            let Some(last) = expected.as_ref().and_then(|entries| entries.last()) else { break };
            page.after = Some(last.from.as_micros().to_string());
        }
        if let Some((_, before)) = world.dice.pick(&world.runs) {
            assert_eq!(model.previous_result(&id, before), store.previous_result(&id, before));
        }
    }
    let known: BTreeSet<_> = world.runs.iter().rev().take(60).cloned().collect();
    for (project, id) in known {
        assert_eq!(model.run(&project, &id), store.run(&project, &id));
        assert_eq!(model.steps(&id), store.steps(&id));
    }
}

/// One story: batches of random commands, and a look around after each few.
pub fn compare(seed: u64, batches: usize, store: &dyn Store) {
    let model = MemoryStore::new();
    let mut world = World {
        model: &model,
        dice: Dice(seed),
        now: Timestamp::from_micros(1_800_000_000_000_000),
        made: 0,
        schedules: Vec::new(),
        runs: Vec::new(),
        claims: Vec::new(),
        endings: Vec::new(),
    };
    for batch in 0..batches {
        let step = world.dice.below(4_000_000) as i64 - 500_000;
        world.now = Timestamp::from_micros(world.now.as_micros() + step);
        let mut commands = Vec::new();
        for _ in 0..=world.dice.below(5) {
            commands.push(world.command());
        }
        let (model_mark, store_mark) = (model.change_mark().unwrap(), store.change_mark().unwrap());
        let expected = model.commit(&commands, world.now).unwrap();
        let answers = store.commit(&commands, world.now).unwrap();
        for (number, (expected, answer)) in expected.iter().zip(&answers).enumerate() {
            assert_eq!(expected, answer, "seed {seed}, batch {batch}, {:#?}", commands[number]);
            world.learn(&commands[number], answer);
        }
        if model.change_mark().unwrap() != model_mark {
            assert_ne!(store.change_mark().unwrap(), store_mark, "seed {seed}, batch {batch}: {commands:#?}");
        }
        if batch % 7 == 0 || batch + 1 == batches {
            let looked =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| compare_reads(&mut world, store)));
            if let Err(panic) = looked {
                eprintln!("seed {seed}, after batch {batch}: {commands:#?}");
                std::panic::resume_unwind(panic);
            }
        }
    }
}

#[test]
fn the_model_equals_itself() {
    compare(1, 200, &MemoryStore::new());
}

#[cfg(feature = "sqlite")]
#[test]
fn sqlite_answers_like_the_model() {
    let folder = tempfile::tempdir().unwrap();
    for seed in 0..seeds() {
        let store = SqliteStore::open(folder.path().join(format!("{seed}.db")), super::quick()).unwrap();
        compare(seed, 150, &store);
    }
}

#[cfg(feature = "postgres")]
#[test]
fn postgres_answers_like_the_model() {
    for seed in 0..seeds() {
        compare(seed, 150, &super::server::Server::shared().new_store());
    }
}

/// More by `POLOS_SEEDS`.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
fn seeds() -> u64 {
    std::env::var("POLOS_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(12)
}
