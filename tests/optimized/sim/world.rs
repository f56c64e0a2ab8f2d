//! A whole installation in virtual time: machines with their own clocks, handlers, users who edit
//! schedules, and all events of one seed.

use super::checks::{Checks, Health, PROJECT};
use super::faults::{FaultyStore, Rng, Sent, SentLog, SkewedClock, Trouble, Witness};
use super::handlers::{Doing, Task};
use super::hooks::{CALLS, Hooks, WANTED};
use super::limits::{CONCURRENCY, Limits, declared_limits};
use super::overrides::Overrides;
use super::workload::declared;
use polos::calendar::Timestamp;
use polos::engine::metrics::Metrics;
use polos::engine::{Engine, EngineConfig, Message, Notice, WorkflowConfig};
use polos::model::{DeclaredLimit, ScheduleId, WorkerId};
use polos::plan::Backoff;
use polos::store::{Command, Store};
use polos::sync::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

pub const MS: i64 = 1_000;
pub const SECOND: i64 = 1_000 * MS;
pub const MINUTE: i64 = 60 * SECOND;
pub const HOUR: i64 = 60 * MINUTE;
pub const DAY: i64 = 24 * HOUR;

pub const LEASE: i64 = 15 * SECOND;
const LEAD: i64 = 500 * MS;
const LEAD_MAX: i64 = 4 * LEAD;
pub const RETRY_MAX: u32 = 2;
pub const WORKFLOWS: [&str; 3] = ["mail", "report", "sync"];

/// In one of this many simulations, each machine has one workflow.
const APART_IN: u64 = 16;

/// Which of them.
const APART_AT: u64 = 5;

/// Every second one of these simulations combines limits and events.
const COMBINED_AT: u64 = 9;

/// In one of this many simulations, the application is often busy when a run starts.
const LATE_IN: u64 = 5;

/// Which of them.
const LATE_AT: u64 = 0;

/// A theme that one of this many simulations has, in addition to everything else.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Theme {
    None,
    /// Some runs kill their worker.
    Killers,
    /// Code of two kinds comes and goes, and holds runs that it can't continue.
    Holds,
    /// Users override what code declares, and old processes start again beside new ones.
    Overrides,
    /// Workflows have limits, rates, and priorities, and operators change limits.
    Limits,
    /// Runs wait for events, and many callers debounce.
    Events,
    /// Hooks are told of late runs and skipped slots.
    Hooks,
    /// Schedules have days to skip, and operators change calendars.
    Calendars,
    /// Limits and events at once: runs wait for events under limits, and are delayed and debounced.
    Combined,
}

impl Theme {
    fn of(seed: u64) -> Self {
        match seed % APART_IN {
            COMBINED_AT if (seed / APART_IN).is_multiple_of(2) => Self::Combined,
            1 => Self::Events,
            3 => Self::Limits,
            6 => Self::Killers,
            7 => Self::Overrides,
            8 => Self::Holds,
            12 => Self::Hooks,
            13 => Self::Calendars,
            _ => Self::None,
        }
    }

    /// Whether workflows have limits, rates, and priorities, and operators change limits.
    pub fn has_limits(self) -> bool {
        matches!(self, Self::Limits | Self::Combined)
    }

    /// Whether runs wait for events, and many callers debounce.
    pub fn has_events(self) -> bool {
        matches!(self, Self::Events | Self::Combined)
    }
}
pub const APP: &str = "app";

/// More ticks than this at one instant mean that the engine is spinning.
const TURNS_AT_ONCE_MAX: usize = 60;
/// How long the row of a worker that died idle is kept, in addition to the time between two polls.
const IDLE_ROW_MAX: i64 = 4 * MINUTE;
/// Time for everything to settle after the faults are over.
const SETTLING_MAX: i64 = 8 * HOUR;

/// Around clock changes in the zones of the schedules.
const BEGINNINGS: [&str; 5] = [
    "2026-03-08T06:40:00Z",
    "2026-03-29T00:40:00Z",
    "2026-10-25T00:40:00Z",
    "2026-11-01T05:40:00Z",
    "2026-06-01T23:45:00Z",
];

/// The time scale of a simulation.
#[derive(Copy, Clone, Debug)]
pub struct Pace {
    /// Slots are days apart instead of seconds.
    pub is_slow: bool,
    /// Schedules have days to skip.
    pub has_calendars: bool,
    /// Duration of the faults.
    pub chaos: i64,
    /// Poll interval of the workers.
    pub poll: i64,
    /// Longest time between two uses of the API, and between two faults.
    pub use_every: i64,
    pub fault_every: i64,
    /// Time that a rolling deployment takes from one machine to the next.
    pub roll: i64,
}

const FAST: Pace = Pace {
    is_slow: false,
    has_calendars: false,
    chaos: 30 * MINUTE,
    poll: 5 * SECOND,
    use_every: MINUTE,
    fault_every: 2 * MINUTE,
    roll: 20 * SECOND,
};
const SLOW: Pace = Pace {
    is_slow: true,
    has_calendars: false,
    chaos: 60 * DAY,
    poll: 20 * MINUTE,
    use_every: 12 * HOUR,
    fault_every: 12 * HOUR,
    roll: 10 * MINUTE,
};
/// Long enough for slots that move over weekends and holidays.
const CALENDARS: Pace = Pace {
    is_slow: true,
    has_calendars: true,
    chaos: 16 * DAY,
    poll: 20 * MINUTE,
    use_every: 4 * HOUR,
    fault_every: 6 * HOUR,
    roll: 10 * MINUTE,
};

/// The result of a simulation.
pub struct SimResult {
    pub trace_hash: u64,
    /// Total true time that workers were up.
    pub worker_us: i64,
    pub fired_count: u64,
    pub expired_count: u64,
    pub fenced_count: u64,
    /// Pairs of overlap and catch-up that had something to decide.
    pub policies: BTreeSet<String>,
    /// What happened, and how often.
    pub event_counts: BTreeMap<&'static str, u64>,
    /// The last events; `POLOS_SIM_EVENTS` says how many.
    pub last_events: Vec<String>,
}

/// Runs the simulation of a seed on an empty store; panics when it breaks a promise.
pub fn simulate(seed: u64, store: Arc<dyn Store>) -> SimResult {
    let mut world = World::new(seed, store);
    world.live();
    let mut checks = world.checks.lock();
    SimResult {
        trace_hash: checks.trace_hash(),
        worker_us: world.worker_us,
        fired_count: checks.fired_count,
        expired_count: checks.expired_count,
        fenced_count: checks.fenced_count,
        policies: std::mem::take(&mut checks.policies),
        event_counts: std::mem::take(&mut checks.event_counts),
        last_events: checks.take_last_events(),
    }
}

#[derive(Debug)]
pub enum Event {
    /// The machine's engine ticks, if this is still the event that it waits for.
    Tick {
        machine: usize,
        number: u64,
    },
    /// A handler continues.
    Continue {
        machine: usize,
        task: u64,
    },
    /// The machine's engine receives its queued messages.
    Deliver {
        machine: usize,
        incarnation: u64,
    },
    /// The machine is notified that the store has changed.
    Hint {
        machine: usize,
        incarnation: u64,
    },
    /// A machine starts, continues, or has its store again.
    Start {
        machine: usize,
    },
    Resume {
        machine: usize,
    },
    Reconnect {
        machine: usize,
    },
    /// The machine gets the new version: it drains, deregisters, and starts again.
    Drain {
        machine: usize,
        version: u64,
    },
    Deregister {
        machine: usize,
        incarnation: u64,
    },
    /// A hook has returned.
    HookReturns {
        machine: usize,
        incarnation: u64,
        call: Arc<str>,
    },
    /// A user calls the API.
    CallApi,
    /// A user deletes a schedule.
    Delete {
        schedule: ScheduleId,
    },
    /// A caller sends this, maybe again.
    Call {
        command: Box<Command>,
    },
    /// A fault happens.
    Fault,
    /// Time for a check.
    Check,
    CheckTakeover {
        worker: WorkerId,
        died_at: i64,
    },
}

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Power {
    Up,
    Paused,
    Down,
}

pub struct Machine {
    pub power: Power,
    pub clock: SkewedClock,
    pub incarnation: u64,
    /// Versions of the application: the current one, and the one that it gets at its next start.
    pub version: u64,
    pub target_version: u64,
    /// The fingerprint of its code.
    pub code: Arc<str>,
    /// What it can execute.
    pub workflows: Vec<&'static str>,
    pub is_draining: bool,
    pub engine: Option<Engine<FaultyStore, SentLog>>,
    pub sent_log: SentLog,
    pub store: FaultyStore,
    pub failures_seen: u64,
    pub well_since: i64,
    pub up_since: i64,
    pub known_as: Option<WorkerId>,
    pub turn_number: u64,
    pub tasks: BTreeMap<u64, Task>,
    /// Messages that arrived while it was paused.
    pub missed: Vec<Event>,
    /// Messages that its engine has not received yet, because it was busy.
    pub inbox: Vec<Message>,
}

/// The faults of this simulation.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum FaultKind {
    /// Only crashes.
    Crashes,
    /// The store fails.
    Store,
    /// Clocks jump, machines are suspended.
    Clocks,
    /// All of these.
    Everything,
}

pub struct World {
    pub rng: Rng,
    pub fault_kind: FaultKind,
    pub theme: Theme,
    pub pace: Pace,
    pub truth: i64,
    pub began: i64,
    pub chaos_ends: i64,
    pub is_calm: bool,
    pub store: Arc<dyn Store>,
    pub api: FaultyStore,
    pub checks: Arc<Mutex<Checks>>,
    pub machines: Vec<Machine>,
    pub queue: BTreeMap<(i64, u64), Event>,
    pub sequence: u64,
    /// The version of the application that is being deployed.
    pub version: u64,
    seed: u64,
    /// How long finished runs are kept.
    retention: Option<(Duration, u32)>,
    worker_us: i64,
    /// The counts of all engines, also of those that are gone.
    pub metrics: Vec<Arc<Metrics>>,
}

impl World {
    fn new(seed: u64, store: Arc<dyn Store>) -> Self {
        let mut rng = Rng(seed.wrapping_mul(0x2545_f491_4f6c_dd1d));
        let beginning: &&str = rng.pick(&BEGINNINGS);
        let truth = parse(beginning).as_micros() + rng.range(0, 60 * SECOND);
        let fault_kind =
            *rng.pick(&[FaultKind::Crashes, FaultKind::Store, FaultKind::Clocks, FaultKind::Everything]);
        let pace = if rng.chance(80) { SLOW } else { FAST };
        let theme = Theme::of(seed);
        // The counts depend on the order of times that different machines wrote, and rates hold for
        // clocks that agree.
        let needs_true_clocks = theme.has_limits() || matches!(theme, Theme::Killers | Theme::Hooks);
        let fault_kind = match fault_kind {
            FaultKind::Clocks if needs_true_clocks => FaultKind::Crashes,
            FaultKind::Everything if needs_true_clocks => FaultKind::Store,
            any => any,
        };
        let pace = match theme {
            Theme::Calendars => CALENDARS,
            _ if needs_true_clocks || theme.has_events() => FAST,
            _ => pace,
        };
        let mut checks = Checks::new(seed, LEAD_MAX, LEASE, pace.poll);
        checks.truth = truth;
        checks.overrides = (theme == Theme::Overrides).then(Overrides::default);
        checks.limits = theme.has_limits().then(Limits::default);
        checks.hooks = (theme == Theme::Hooks).then(Hooks::default);
        checks.counts_interruptions = theme == Theme::Killers;
        checks.note(format_args!("a simulation of {fault_kind:?}, {pace:?}"));
        let checks = Arc::new(Mutex::new(checks));
        let api = connect(&store, &checks, rng.bits());
        let retention = rng.chance(700).then(|| {
            let age = if pace.is_slow { rng.range(HOUR, 2 * DAY) } else { rng.range(10 * MINUTE, 2 * HOUR) };
            (Duration::from_micros(age.unsigned_abs()), u32::try_from(rng.range(0, 5)).unwrap())
        });
        let mut world = Self {
            rng,
            fault_kind,
            theme,
            pace,
            truth,
            began: truth,
            chaos_ends: truth + pace.chaos,
            is_calm: false,
            store,
            api,
            checks,
            machines: Vec::new(),
            queue: BTreeMap::new(),
            sequence: 0,
            version: 0,
            seed,
            retention,
            worker_us: 0,
            metrics: Vec::new(),
        };
        if matches!(fault_kind, FaultKind::Store | FaultKind::Everything) {
            let per_mille = u32::try_from(world.rng.range(1, 60)).unwrap();
            set_faults(&world.api, per_mille, 0);
        }
        for _ in 0..world.rng.range(2, 6) {
            world.create_schedule();
        }
        let machines = usize::try_from(world.rng.range(1, 5)).unwrap();
        // One for each kind of code.
        let machines = if theme == Theme::Holds { machines.max(2) } else { machines };
        for machine in 0..machines {
            let it = world.new_machine();
            world.machines.push(it);
            let delay = world.rng.range(0, 10 * SECOND);
            world.after(delay, Event::Start { machine });
        }
        world.after(SECOND, Event::CallApi);
        world.after(20 * SECOND, Event::Fault);
        world.after(10 * SECOND, Event::Check);
        world
    }

    fn new_machine(&mut self) -> Machine {
        let store = connect(&self.store, &self.checks, self.rng.bits());
        Machine {
            power: Power::Down,
            clock: SkewedClock { booted_at: self.truth - MINUTE, wall_ahead_us: 0, drift_ppm: 0 },
            incarnation: 0,
            version: 0,
            target_version: 0,
            code: "code".into(),
            workflows: Vec::new(),
            is_draining: false,
            engine: None,
            sent_log: SentLog::default(),
            store,
            failures_seen: 0,
            well_since: self.truth,
            up_since: self.truth,
            known_as: None,
            turn_number: 0,
            tasks: BTreeMap::new(),
            missed: Vec::new(),
            inbox: Vec::new(),
        }
    }

    pub fn after(&mut self, delay: i64, event: Event) {
        self.sequence += 1;
        self.queue.insert((self.truth + delay.max(0), self.sequence), event);
    }

    pub fn note(&self, text: std::fmt::Arguments<'_>) {
        self.checks.lock().note(text);
    }

    fn live(&mut self) {
        while self.truth < self.chaos_ends {
            self.step();
        }
        self.end_all_faults();
        // A dead worker without runs still counts as one that declares schedules for this long;
        // then a little longer.
        let quiet_from = self.truth + 5 * MINUTE;
        while self.truth < quiet_from {
            self.step();
        }
        self.pause_all();
        let end = self.truth + SETTLING_MAX;
        while !self.checks.lock().is_settled() {
            if self.truth > end {
                self.checks.lock().fail_unsettled();
            }
            self.step();
        }
        // A worker that still believes it holds something finds out soon.
        let end = self.truth + MINUTE;
        while self.truth < end {
            self.step();
        }
        self.expire_dead_rows();
        self.check_counts();
        self.checks.lock().audit(&*self.store);
        self.checks.lock().check_all_told();
        self.checks.lock().check_deployment(&declared(self.seed, self.version, self.began, self.pace));
        for machine in &self.machines {
            let held = machine.engine.as_ref().map(Engine::held_count);
            // A revoked claim is noticed at its instant, which is far off once the clock was set
            // right.
            if held.is_none_or(|(all, ahead)| all != ahead) {
                self.checks.lock().fail(format_args!("nothing is under way and a worker holds {held:?}"));
            }
        }
        for machine in 0..self.machines.len() {
            self.count_time(machine);
        }
    }

    /// Rows of workers that died idle don't accumulate: in the end, each live worker has one row
    /// and no others exist.
    fn expire_dead_rows(&mut self) {
        let end = self.truth + IDLE_ROW_MAX + 4 * self.pace.poll;
        while self.truth < end {
            self.step();
        }
        let engines = self.machines.iter().filter_map(|machine| machine.engine.as_ref());
        let live = engines.map(|engine| engine.worker().clone()).collect();
        self.checks.lock().check_worker_rows(&*self.store, &live);
    }

    fn step(&mut self) {
        let ((at, _), event) = self.queue.pop_first().expect("the world always has something to do");
        self.truth = at;
        self.checks.lock().truth = at;
        match event {
            Event::Tick { machine, number } => match self.machines[machine].power {
                Power::Up if self.machines[machine].turn_number == number => self.tick(machine),
                Power::Up | Power::Down => {}
                Power::Paused => self.machines[machine].missed.push(Event::Tick { machine, number }),
            },
            Event::Continue { machine, task } => match self.machines[machine].power {
                Power::Up => self.go(machine, task),
                Power::Paused => self.machines[machine].missed.push(Event::Continue { machine, task }),
                Power::Down => {}
            },
            Event::Deliver { machine, incarnation } => match self.machines[machine].power {
                Power::Up if self.machines[machine].incarnation == incarnation => self.deliver(machine),
                Power::Up | Power::Down => {}
                Power::Paused => self.machines[machine].missed.push(Event::Deliver { machine, incarnation }),
            },
            Event::HookReturns { machine, incarnation, call } => {
                let is_same = self.machines[machine].incarnation == incarnation;
                match self.machines[machine].power {
                    Power::Up if is_same => self.receive_later(machine, Message::HookCalled(call)),
                    Power::Up | Power::Down => {}
                    Power::Paused => {
                        let missed = Event::HookReturns { machine, incarnation, call };
                        self.machines[machine].missed.push(missed);
                    }
                }
            }
            Event::Hint { machine, incarnation } => {
                let it = &mut self.machines[machine];
                if it.power == Power::Up && it.incarnation == incarnation {
                    self.send(machine, Message::Changed);
                }
            }
            Event::Drain { machine, version } => {
                let it = &mut self.machines[machine];
                it.target_version = it.target_version.max(version);
                if !self.is_calm {
                    self.drain(machine);
                }
            }
            Event::Deregister { machine, incarnation } => {
                if self.machines[machine].incarnation == incarnation {
                    self.send(machine, Message::Deregister);
                }
            }
            Event::Start { machine } => self.start(machine),
            Event::Resume { machine } => self.resume(machine),
            Event::Reconnect { machine } => {
                self.machines[machine].store.trouble.lock().is_down = false;
                self.note(format_args!("machine {machine} has its store again"));
            }
            Event::Delete { schedule } => {
                if !self.is_calm {
                    self.ask(Command::DeleteSchedule { project: PROJECT.into(), id: schedule });
                }
            }
            Event::CallApi => {
                if !self.is_calm {
                    self.call_api();
                    let delay = self.rng.range(SECOND, self.pace.use_every);
                    self.after(delay, Event::CallApi);
                }
            }
            Event::Call { command } => self.call(command),
            Event::Fault => {
                if !self.is_calm {
                    self.inject_fault();
                    let delay = self.rng.range(5 * SECOND, self.pace.fault_every);
                    self.after(delay, Event::Fault);
                }
            }
            Event::Check => {
                self.check_all();
                self.check_idle_permits();
                if self.is_calm {
                    self.send_what_is_awaited();
                }
                self.after(self.pace.poll * 2, Event::Check);
            }
            Event::CheckTakeover { worker, died_at } => {
                self.checks.lock().check_takeover(&*self.store, &worker, died_at);
            }
        }
    }

    // ---- machines
    // --------------------------------------------------------------------------------

    pub fn start(&mut self, machine: usize) {
        if self.machines[machine].power != Power::Down {
            return;
        }
        let (skews, drifts) = match self.fault_kind {
            FaultKind::Crashes | FaultKind::Store => (0, 50),
            FaultKind::Clocks | FaultKind::Everything => (5 * MINUTE, 200),
        };
        let ahead = if self.is_calm { 0 } else { self.rng.range(-skews, skews) };
        let drift_ppm = self.rng.range(-drifts, drifts);
        let faults = match self.fault_kind {
            FaultKind::Crashes | FaultKind::Clocks => 0,
            FaultKind::Store | FaultKind::Everything if self.is_calm => 0,
            FaultKind::Store | FaultKind::Everything => u32::try_from(self.rng.range(0, 80)).unwrap(),
        };
        let workflows = self.workflow_set(machine);
        let mut config = config(&mut self.rng, machine, &workflows, self.pace.poll);
        if let Some((age, keep)) = self.retention {
            (config.retention, config.retention_keep) = (Some(age), keep);
        }
        let version = self.machines[machine].target_version;
        config.declared = declared(self.seed, version, self.began, self.pace);
        if self.theme == Theme::Overrides {
            let version: Arc<str> = version.to_string().into();
            for new in &mut config.declared {
                new.version = Some(Arc::clone(&version));
            }
            config.version = Some(version);
        }
        if self.theme.has_limits() {
            let (limits, rules) = declared_limits(self.seed, version);
            for (id, workflow) in &mut config.workflows {
                workflow.rules.clone_from(&rules[id]);
            }
            let is_used = |limit: &DeclaredLimit| {
                config.workflows.values().any(|workflow| workflow.rules.limit.as_ref() == Some(&limit.name))
            };
            config.limits = limits.into_iter().filter(is_used).collect();
            config.concurrency = CONCURRENCY;
        }
        if self.theme == Theme::Hooks {
            for workflow in config.workflows.values_mut() {
                workflow.rules.hooks = WANTED;
                workflow.calls = CALLS.to_vec();
            }
        }
        let incarnation = self.machines[machine].incarnation + 1;
        config.process_mark = format!("mark{incarnation}").into();
        let code = self.code_of(machine, version);
        for workflow in config.workflows.values_mut() {
            workflow.code = Arc::clone(&code);
        }
        self.checks.lock().codes.insert(format!("w{machine}.{incarnation}"), Arc::clone(&code));
        let mut count = 0;
        let new_id = move || {
            count += 1;
            WorkerId::from(format!("w{machine}.{incarnation}.{count}"))
        };
        let truth = self.truth;
        let it = &mut self.machines[machine];
        it.clock = SkewedClock { booted_at: truth - 1_000, wall_ahead_us: ahead, drift_ppm };
        it.power = Power::Up;
        it.incarnation = incarnation;
        it.workflows = workflows;
        it.version = version;
        it.code = code;
        it.is_draining = false;
        it.sent_log = SentLog::default();
        let (reads, sent_log) = (Arc::new(it.store.clone()), it.sent_log.clone());
        let engine = Engine::new(reads, it.store.clone(), sent_log, config, Box::new(new_id));
        self.metrics.push(engine.metrics());
        it.engine = Some(engine);
        it.store.trouble.lock().is_down = false;
        set_faults(&it.store, faults, faults);
        (it.well_since, it.up_since) = (truth, truth);
        self.note(format_args!("machine {machine} starts, {ahead} us ahead, {faults} per mille of faults"));
        self.wake(machine, 0);
    }

    /// The code that a machine runs: with the theme of held runs, one of two kinds, which change
    /// with each version.
    fn code_of(&self, machine: usize, version: u64) -> Arc<str> {
        match self.theme {
            Theme::Holds => format!("code{}", (machine as u64 + version) % 2).into(),
            _ => "code".into(),
        }
    }

    /// The number of machines that execute everything after the faults: one for each kind of code.
    pub fn whole_count(&self) -> usize {
        if self.theme == Theme::Holds { 2 } else { 1 }
    }

    /// Whether some runs are entered seconds after they were started, in this simulation.
    pub fn has_late_entries(&self) -> bool {
        self.seed % LATE_IN == LATE_AT
    }

    /// The workflows that a machine registers: all, or some. After the faults, every workflow must
    /// be served.
    fn workflow_set(&mut self, machine: usize) -> Vec<&'static str> {
        let is_whole = self.is_calm && machine < self.whole_count();
        if self.seed % APART_IN == APART_AT && !is_whole {
            // Each workflow has machines of its own, so that a parent and its child are never on
            // the same one.
            return vec![WORKFLOWS[machine % WORKFLOWS.len()]];
        }
        let is_whole = self.rng.chance(500) || is_whole;
        let mut workflows = WORKFLOWS.to_vec();
        if !is_whole {
            let left_out = self.rng.range(0, 2);
            workflows.remove(usize::try_from(left_out).unwrap());
        }
        workflows
    }

    fn count_time(&mut self, machine: usize) {
        if self.machines[machine].power != Power::Down {
            self.worker_us += self.truth - self.machines[machine].up_since;
        }
    }

    /// The worker is unhealthy: healthy again from now at the earliest, or not at all.
    pub fn mark_unhealthy(&mut self, machine: usize, is_up: bool) {
        self.machines[machine].well_since = self.truth;
        self.report_health(machine, is_up);
    }

    fn report_health(&mut self, machine: usize, is_up: bool) {
        let it = &mut self.machines[machine];
        let Some(engine) = &it.engine else { return };
        let well_since = is_up.then_some(it.well_since);
        let mut checks = self.checks.lock();
        let health = Health { well_since: None, beat_at: checks.truth };
        let worker = engine.worker().clone();
        if let Some(former) = it.known_as.replace(worker.clone()).filter(|former| *former != worker) {
            checks.workers.entry(former).or_insert(health).well_since = None;
        }
        checks.workers.entry(worker).or_insert(health).well_since = well_since;
    }

    pub fn crash(&mut self, machine: usize) {
        if self.machines[machine].power == Power::Down {
            return;
        }
        self.count_time(machine);
        self.mark_unhealthy(machine, false);
        let it = &mut self.machines[machine];
        let engine = it.engine.take();
        it.power = Power::Down;
        it.tasks.clear();
        it.missed.clear();
        it.inbox.clear();
        let worker = engine.map(|engine| engine.worker().clone());
        self.note(format_args!("machine {machine} dies ({worker:?})"));
        if let Some(worker) = worker {
            let event = Event::CheckTakeover { worker, died_at: self.truth };
            self.after(LEASE + self.pace.poll + SECOND, event);
        }
    }

    pub fn pause(&mut self, machine: usize, duration: i64) {
        if self.machines[machine].power != Power::Up {
            return;
        }
        self.note(format_args!("machine {machine} is stopped for {duration} us"));
        self.machines[machine].power = Power::Paused;
        self.mark_unhealthy(machine, false);
        self.after(duration, Event::Resume { machine });
    }

    pub fn resume(&mut self, machine: usize) {
        if self.machines[machine].power != Power::Paused {
            return;
        }
        self.note(format_args!("machine {machine} continues"));
        self.machines[machine].power = Power::Up;
        self.mark_unhealthy(machine, true);
        for event in std::mem::take(&mut self.machines[machine].missed) {
            let delay = self.rng.range(0, 20 * MS);
            self.after(delay, event);
        }
    }

    pub fn wake(&mut self, machine: usize, delay: i64) {
        self.machines[machine].turn_number += 1;
        let number = self.machines[machine].turn_number;
        self.after(delay, Event::Tick { machine, number });
    }

    /// Drains, then exits after handlers had some time.
    fn drain(&mut self, machine: usize) {
        if self.machines[machine].power != Power::Up {
            return;
        }
        self.note(format_args!("machine {machine} drains"));
        self.send(machine, Message::Drain);
        self.machines[machine].is_draining = true;
        let incarnation = self.machines[machine].incarnation;
        let busy_retry = self.rng.range(0, 10 * SECOND);
        self.after(busy_retry, Event::Deregister { machine, incarnation });
        let delay = busy_retry + self.rng.range(SECOND, self.pace.roll);
        self.after(delay, Event::Start { machine });
    }

    /// Sends a message to the engine, whatever else is queued.
    fn send(&mut self, machine: usize, message: Message) {
        let it = &mut self.machines[machine];
        let now = it.clock.now(self.truth);
        if let Some(engine) = &mut it.engine {
            engine.receive(message, now);
            self.wake(machine, 0);
        }
    }

    /// Sends a message of group commit to the engine.
    pub fn receive(&mut self, machine: usize, message: Message) {
        self.machines[machine].inbox.push(message);
        // After the messages that are still queued.
        if self.machines[machine].inbox.len() == 1 {
            self.deliver(machine);
        }
    }

    /// Like `receive`, but delayed: not longer than a healthy worker waits between two heartbeats.
    pub fn receive_later(&mut self, machine: usize, message: Message) {
        self.machines[machine].inbox.push(message);
        let delay =
            if self.rng.chance(50) { self.rng.range(0, LEASE / 3) } else { self.rng.range(0, 20 * MS) };
        let incarnation = self.machines[machine].incarnation;
        self.after(delay, Event::Deliver { machine, incarnation });
    }

    fn deliver(&mut self, machine: usize) {
        for message in std::mem::take(&mut self.machines[machine].inbox) {
            self.send(machine, message);
        }
    }

    fn tick(&mut self, machine: usize) {
        let mut round = 0;
        loop {
            let pruned_before = self.checks.lock().pruned_count();
            let it = &mut self.machines[machine];
            let now = it.clock.now(self.truth);
            let Some(engine) = &mut it.engine else { return };
            let next = engine.tick(now);
            let failures = it.store.trouble.lock().failure_count;
            if failures != it.failures_seen {
                it.failures_seen = failures;
                it.well_since = self.truth;
            }
            self.report_health(machine, true);
            self.deliver_to_application(machine, now.wall);
            if next.is_over {
                self.note(format_args!("machine {machine} has left"));
                self.crash(machine);
                if self.is_calm {
                    // Whenever it got that far: a start that was planned for an instant may have
                    // found it still there.
                    self.after(SECOND, Event::Start { machine });
                }
                return;
            }
            let it = &self.machines[machine];
            let by_mono = it.clock.truth_of_mono(i64::try_from(next.mono.as_micros()).unwrap());
            let by_wall = next.wall.map_or(i64::MAX, |wall| it.clock.truth_of_wall(wall));
            let at = by_mono.min(by_wall);
            if at > self.truth {
                let lateness = self.rng.range(0, 2 * MS);
                self.wake(machine, at - self.truth + lateness);
                return;
            }
            // Pruning continues with one batch per tick until it is done.
            round += usize::from(self.checks.lock().pruned_count() == pruned_before);
            if round >= TURNS_AT_ONCE_MAX {
                self.checks.lock().fail(format_args!("machine {machine} spins: {next:?} at {now:?}"));
            }
        }
    }

    /// Plays the application: takes what the engine sent.
    fn deliver_to_application(&mut self, machine: usize, wall: Timestamp) {
        for sent in self.machines[machine].sent_log.take() {
            match sent {
                Sent::Start(claimed, confirmed_at) => {
                    let it = &self.machines[machine];
                    if it.engine.as_ref().is_some_and(Engine::is_leaving) {
                        // A worker that closes starts no more handlers: its claims are given back.
                        continue;
                    }
                    if it.is_draining || !it.workflows.contains(&&*claimed.run.workflow) {
                        let what = format!("machine {machine} should not start {:?}", claimed.run);
                        self.checks.lock().fail(format_args!("{what}"));
                    }
                    self.enter_handler(machine, claimed, confirmed_at, wall);
                }
                Sent::Stop(stop) => {
                    let it = &mut self.machines[machine];
                    let tasks = it.tasks.iter_mut();
                    for (number, task) in
                        tasks.filter(|(_, task)| task.run.id == stop.run && task.run.token == stop.token)
                    {
                        task.stop = task.stop.or(Some(stop.reason));
                        let delay = if task.is_deaf { 12 * SECOND } else { 30 * MS };
                        self.sequence += 1;
                        let event = Event::Continue { machine, task: *number };
                        if matches!(task.doing, Doing::Hanging) {
                            self.queue.insert((self.truth + delay, self.sequence), event);
                        }
                    }
                }
                Sent::Ring(_) => {}
                Sent::Tell(Notice::HookCalls(calls)) => {
                    self.call_hooks(machine, calls.into_iter().map(|due| due.call.id).collect());
                }
                Sent::Tell(notice) => {
                    if !matches!(notice, Notice::Missed(_)) {
                        self.note(format_args!("machine {machine} says {notice:?}"));
                    }
                    if let Notice::ScheduleBroken(id, why) = notice
                        && !self.may_be_broken(&id)
                    {
                        self.checks.lock().fail(format_args!("{id} was set aside: {why}"));
                    }
                }
            }
        }
    }

    fn check_all(&mut self) {
        let well_before = self.truth - self.pace.poll - 2 * SECOND;
        let checks = self.checks.lock();
        for machine in &self.machines {
            let is_working = machine.engine.as_ref().is_some_and(Engine::is_registered);
            if machine.power == Power::Up
                && is_working
                && !machine.is_draining
                && machine.well_since < well_before
            {
                checks.check_on_time(machine.clock.now(self.truth).wall, &machine.workflows);
            }
        }
    }
}

pub fn parse(text: &str) -> Timestamp {
    Timestamp::from_micros(text.parse::<jiff::Timestamp>().unwrap().as_microsecond())
}

fn connect(store: &Arc<dyn Store>, checks: &Arc<Mutex<Checks>>, seed: u64) -> FaultyStore {
    let mut faulty = FaultyStore::on(Arc::clone(store));
    let witness: Arc<Mutex<dyn Witness>> = Arc::clone(checks) as _;
    faulty.witness = Some(witness);
    *faulty.trouble.lock() = Trouble { rng: Rng(seed), ..Trouble::none() };
    faulty
}

pub fn set_faults(store: &FaultyStore, commits: u32, reads: u32) {
    let mut trouble = store.trouble.lock();
    (trouble.before, trouble.after, trouble.reads) = (commits, commits, reads / 4);
}

fn config(rng: &mut Rng, machine: usize, workflows: &[&str], poll: i64) -> EngineConfig {
    let backoff = Backoff { initial_us: SECOND, factor: 2.0, maximum_us: MINUTE, jitter: 0.1 };
    let workflow = |id: &&str| {
        let timeout = Some(Duration::from_secs(60 + 10 * id.len() as u64));
        (
            (*id).into(),
            WorkflowConfig {
                is_schedulable: true,
                retry_max: RETRY_MAX,
                backoff,
                timeout,
                rules: polos::model::ClaimRules::default(),
                calls: Vec::new(),
                code: "code".into(),
            },
        )
    };
    EngineConfig {
        project: PROJECT.into(),
        app: APP.into(),
        aliases: Vec::new(),
        former: Vec::new(),
        version: None,
        is_whole: true,
        host: format!("host{machine}").into(),
        pid: 1,
        process_mark: "mark".into(),
        about: "{}".into(),
        workflows: workflows.iter().map(workflow).collect(),
        declared: Vec::new(),
        run_on_create: BTreeSet::new(),
        limits: Vec::new(),
        concurrency: usize::try_from(rng.range(1, 12)).unwrap(),
        idle_heartbeat: Duration::from_secs(60),
        lease: Duration::from_micros(LEASE.unsigned_abs()),
        lead: Duration::from_micros(LEAD.unsigned_abs()),
        lead_per_slot: Duration::from_millis(200),
        lead_max: Duration::from_micros(LEAD_MAX.unsigned_abs()),
        poll_interval: Duration::from_micros(poll.unsigned_abs()),
        retention: None,
        retention_keep: 10,
        batch_max: usize::try_from(rng.range(1, 20)).unwrap(),
    }
}
