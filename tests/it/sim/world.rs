//! A whole installation in virtual time: machines with clocks of their own, handlers, people who edit schedules, and
//! everything that happens to them. One seed, one story.

use super::checks::{Checks, Health, PROJECT};
use super::faults::{Door, FaultyStore, Rng, Sent, SkewedClock, Trouble, Witness};
use _polos::calendar::Timestamp;
use _polos::engine::{Engine, EngineConfig, Message, Notice, StopReason, WorkflowConfig};
use _polos::model::cadence::Cadence;
use _polos::model::{
    ClaimedRun, Ending, NewRun, NewSchedule, Origin, Run, RunId, ScheduleId, ScheduleSpec, ScheduleStatus,
    StepRecord, StepState, WorkerId,
};
use _polos::plan::Backoff;
use _polos::store::{Answer, Command, MemoryStore, Patch, Rejection, Store};
use _polos::sync::Mutex;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

const MS: i64 = 1_000;
const SECOND: i64 = 1_000 * MS;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;

const LEASE: i64 = 15 * SECOND;
const LEAD: i64 = 500 * MS;
const LEAD_MAX: i64 = 4 * LEAD;
const POLL: i64 = 5 * SECOND;
const RETRY_MAX: u32 = 2;
const WORKFLOWS: [&str; 2] = ["mail", "report"];

/// More turns than this at one instant, and the engine is spinning.
const TURNS_AT_ONCE_MAX: usize = 60;
/// How long faults go on, and how long everything may take to settle afterwards.
const CHAOS: i64 = 30 * MINUTE;
const SETTLING_MAX: i64 = 8 * HOUR;

/// Around changes of the clocks in the zones below.
const BEGINNINGS: [&str; 5] = [
    "2026-03-08T06:40:00Z",
    "2026-03-29T00:40:00Z",
    "2026-10-25T00:40:00Z",
    "2026-11-01T05:40:00Z",
    "2026-06-01T23:45:00Z",
];
const ZONES: [&str; 5] = ["UTC", "America/New_York", "Europe/Paris", "Australia/Lord_Howe", "Asia/Kolkata"];
const CRONS: [&str; 6] =
    ["* * * * *", "*/2 * * * *", "*/5 * * * *", "30 2 * * *", "0,15,45 1-3 * * *", "7 * * * *"];

/// How a story went.
pub struct Story {
    pub trace_hash: u64,
    /// True time that workers were up, all together.
    pub worker_us: i64,
    pub fired_count: u64,
    pub buried_count: u64,
    pub fenced_count: u64,
}

/// Tells the story of a seed, and panics where it breaks a promise.
pub fn tell(seed: u64) -> Story {
    let mut world = World::new(seed);
    world.live();
    let checks = world.checks.lock();
    Story {
        trace_hash: checks.trace_hash(),
        worker_us: world.worker_us,
        fired_count: checks.fired_count,
        buried_count: checks.buried_count,
        fenced_count: checks.fenced_count,
    }
}

#[derive(Debug)]
enum Event {
    /// The machine turns its engine, if this is still what it waits for.
    Turn {
        machine: usize,
        number: u64,
    },
    /// A handler goes on.
    Go {
        machine: usize,
        task: u64,
    },
    /// Somebody tells the machine that the store has changed.
    Hint {
        machine: usize,
        incarnation: u64,
    },
    /// A machine is started, goes on, or has its store again.
    Start {
        machine: usize,
    },
    Resume {
        machine: usize,
    },
    Reconnect {
        machine: usize,
    },
    /// Somebody uses the API.
    Use,
    /// Something goes wrong.
    Fault,
    /// Time to look.
    Look,
    LookForHeirs {
        worker: WorkerId,
        died_at: i64,
    },
}

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Power {
    Up,
    Paused,
    Down,
}

struct Machine {
    power: Power,
    clock: SkewedClock,
    incarnation: u64,
    engine: Option<Engine<FaultyStore, Door>>,
    door: Door,
    store: FaultyStore,
    failures_seen: u64,
    well_since: i64,
    up_since: i64,
    known_as: Option<WorkerId>,
    turn_number: u64,
    tasks: BTreeMap<u64, Task>,
    /// What came while it was paused.
    missed: Vec<Event>,
}

/// A handler under way.
struct Task {
    run: Run,
    doing: Doing,
    done: BTreeSet<Arc<str>>,
    kind: Kind,
    stop: Option<StopReason>,
    is_deaf: bool,
}

#[derive(Clone, Debug)]
enum Doing {
    Deciding,
    Stepping(u32),
    Recording(Box<Command>),
    Ending(Box<Command>),
    Hanging,
}

/// What a handler is like; always the same for one attempt of one run.
#[derive(Copy, Clone, Debug)]
enum Kind {
    /// So many steps, each about so long.
    Steps(u32, i64),
    /// A step, then an error.
    Failing,
    /// A step, then a durable sleep, then another.
    Sleeping(i64),
    /// Until it is stopped.
    Hanging,
}

/// What goes wrong in this story.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Genre {
    /// Machines die, nothing else.
    Crashes,
    /// The store fails.
    Store,
    /// Clocks jump, machines are suspended.
    Clocks,
    /// All of it.
    Everything,
}

struct World {
    rng: Rng,
    genre: Genre,
    truth: i64,
    chaos_ends: i64,
    is_calm: bool,
    store: MemoryStore,
    api: FaultyStore,
    checks: Arc<Mutex<Checks>>,
    machines: Vec<Machine>,
    queue: BTreeMap<(i64, u64), Event>,
    sequence: u64,
    worker_us: i64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng(seed.wrapping_mul(0x2545_f491_4f6c_dd1d));
        let beginning: &&str = rng.pick(&BEGINNINGS);
        let truth = parse(beginning).as_micros() + rng.range(0, 60 * SECOND);
        let genre = *rng.pick(&[Genre::Crashes, Genre::Store, Genre::Clocks, Genre::Everything]);
        let store = MemoryStore::new();
        let mut checks = Checks::new(seed, LEAD_MAX, LEASE, POLL);
        checks.truth = truth;
        checks.note(format_args!("a story of {genre:?}"));
        let checks = Arc::new(Mutex::new(checks));
        let api = door_to(&store, &checks, rng.bits());
        let mut world = Self {
            rng,
            genre,
            truth,
            chaos_ends: truth + CHAOS,
            is_calm: false,
            store,
            api,
            checks,
            machines: Vec::new(),
            queue: BTreeMap::new(),
            sequence: 0,
            worker_us: 0,
        };
        if matches!(genre, Genre::Store | Genre::Everything) {
            let per_mille = u32::try_from(world.rng.range(1, 60)).unwrap();
            set_faults(&world.api, per_mille, 0);
        }
        for _ in 0..world.rng.range(2, 6) {
            world.create_schedule();
        }
        for machine in 0..usize::try_from(world.rng.range(1, 5)).unwrap() {
            let store = door_to(&world.store, &world.checks, world.rng.bits());
            let clock = SkewedClock { booted_at: truth - MINUTE, wall_ahead_us: 0, drift_ppm: 0 };
            world.machines.push(Machine {
                power: Power::Down,
                clock,
                incarnation: 0,
                engine: None,
                door: Door::default(),
                store,
                failures_seen: 0,
                well_since: truth,
                up_since: truth,
                known_as: None,
                turn_number: 0,
                tasks: BTreeMap::new(),
                missed: Vec::new(),
            });
            let delay = world.rng.range(0, 10 * SECOND);
            world.after(delay, Event::Start { machine });
        }
        world.after(SECOND, Event::Use);
        world.after(20 * SECOND, Event::Fault);
        world.after(10 * SECOND, Event::Look);
        world
    }

    fn after(&mut self, delay: i64, event: Event) {
        self.sequence += 1;
        self.queue.insert((self.truth + delay.max(0), self.sequence), event);
    }

    fn note(&self, text: std::fmt::Arguments<'_>) {
        self.checks.lock().note(text);
    }

    fn live(&mut self) {
        while self.truth < self.chaos_ends {
            self.step();
        }
        self.calm_down();
        let quiet_from = self.truth + 2 * MINUTE;
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
        // Whoever thinks that he still holds something hears of it soon.
        let end = self.truth + MINUTE;
        while self.truth < end {
            self.step();
        }
        self.checks.lock().audit(&self.store);
        for machine in &self.machines {
            let held = machine.engine.as_ref().map(Engine::held_count);
            // A claim that was taken back is noticed at its instant, which is far off once the clock was put right.
            if held.is_none_or(|(all, ahead)| all != ahead) {
                self.checks.lock().fail(format_args!("nothing is under way and a worker holds {held:?}"));
            }
        }
        for machine in 0..self.machines.len() {
            self.count_time(machine);
        }
    }

    fn step(&mut self) {
        let ((at, _), event) = self.queue.pop_first().expect("the world always has something to do");
        self.truth = at;
        self.checks.lock().truth = at;
        match event {
            Event::Turn { machine, number } => match self.machines[machine].power {
                Power::Up if self.machines[machine].turn_number == number => self.turn(machine),
                Power::Up | Power::Down => {}
                Power::Paused => self.machines[machine].missed.push(Event::Turn { machine, number }),
            },
            Event::Go { machine, task } => match self.machines[machine].power {
                Power::Up => self.go(machine, task),
                Power::Paused => self.machines[machine].missed.push(Event::Go { machine, task }),
                Power::Down => {}
            },
            Event::Hint { machine, incarnation } => {
                let it = &mut self.machines[machine];
                if it.power == Power::Up && it.incarnation == incarnation {
                    self.hear(machine, Message::Changed);
                }
            }
            Event::Start { machine } => self.start(machine),
            Event::Resume { machine } => self.resume(machine),
            Event::Reconnect { machine } => {
                self.machines[machine].store.trouble.lock().is_down = false;
                self.note(format_args!("machine {machine} has its store again"));
            }
            Event::Use => {
                if !self.is_calm {
                    self.use_api();
                    let delay = self.rng.range(SECOND, MINUTE);
                    self.after(delay, Event::Use);
                }
            }
            Event::Fault => {
                if !self.is_calm {
                    self.go_wrong();
                    let delay = self.rng.range(5 * SECOND, 2 * MINUTE);
                    self.after(delay, Event::Fault);
                }
            }
            Event::Look => {
                self.look();
                self.after(10 * SECOND, Event::Look);
            }
            Event::LookForHeirs { worker, died_at } => {
                self.checks.lock().check_takeover(&self.store, &worker, died_at);
            }
        }
    }

    // ---- machines ------------------------------------------------------------------------------------------------

    fn start(&mut self, machine: usize) {
        if self.machines[machine].power != Power::Down {
            return;
        }
        let (skews, drifts) = match self.genre {
            Genre::Crashes | Genre::Store => (0, 50),
            Genre::Clocks | Genre::Everything => (5 * MINUTE, 200),
        };
        let ahead = if self.is_calm { 0 } else { self.rng.range(-skews, skews) };
        let drift_ppm = self.rng.range(-drifts, drifts);
        let faults = match self.genre {
            Genre::Crashes | Genre::Clocks => 0,
            Genre::Store | Genre::Everything if self.is_calm => 0,
            Genre::Store | Genre::Everything => u32::try_from(self.rng.range(0, 80)).unwrap(),
        };
        let config = config(&mut self.rng, machine);
        let incarnation = self.machines[machine].incarnation + 1;
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
        it.door = Door::default();
        it.engine = Some(Engine::new(it.store.clone(), it.door.clone(), config, Box::new(new_id)));
        it.store.trouble.lock().is_down = false;
        set_faults(&it.store, faults, faults);
        (it.well_since, it.up_since) = (truth, truth);
        self.note(format_args!("machine {machine} starts, {ahead} us ahead, {faults} per mille of faults"));
        self.wake(machine, 0);
    }

    fn count_time(&mut self, machine: usize) {
        if self.machines[machine].power != Power::Down {
            self.worker_us += self.truth - self.machines[machine].up_since;
        }
    }

    /// The worker is not well: since now at the earliest, or not at all.
    fn unwell(&mut self, machine: usize, is_up: bool) {
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

    fn crash(&mut self, machine: usize) {
        if self.machines[machine].power == Power::Down {
            return;
        }
        self.count_time(machine);
        self.unwell(machine, false);
        let it = &mut self.machines[machine];
        let engine = it.engine.take();
        it.power = Power::Down;
        it.tasks.clear();
        it.missed.clear();
        let worker = engine.map(|engine| engine.worker().clone());
        self.note(format_args!("machine {machine} dies ({worker:?})"));
        if let Some(worker) = worker {
            let event = Event::LookForHeirs { worker, died_at: self.truth };
            self.after(LEASE + POLL + SECOND, event);
        }
    }

    fn pause(&mut self, machine: usize, duration: i64) {
        if self.machines[machine].power != Power::Up {
            return;
        }
        self.note(format_args!("machine {machine} is stopped for {duration} us"));
        self.machines[machine].power = Power::Paused;
        self.unwell(machine, false);
        self.after(duration, Event::Resume { machine });
    }

    fn resume(&mut self, machine: usize) {
        if self.machines[machine].power != Power::Paused {
            return;
        }
        self.note(format_args!("machine {machine} goes on"));
        self.machines[machine].power = Power::Up;
        self.unwell(machine, true);
        for event in std::mem::take(&mut self.machines[machine].missed) {
            let delay = self.rng.range(0, 20 * MS);
            self.after(delay, event);
        }
    }

    fn wake(&mut self, machine: usize, delay: i64) {
        self.machines[machine].turn_number += 1;
        let number = self.machines[machine].turn_number;
        self.after(delay, Event::Turn { machine, number });
    }

    fn hear(&mut self, machine: usize, message: Message) {
        let it = &mut self.machines[machine];
        let now = it.clock.now(self.truth);
        if let Some(engine) = &mut it.engine {
            engine.receive(message, now);
            self.wake(machine, 0);
        }
    }

    fn turn(&mut self, machine: usize) {
        for round in 0.. {
            let it = &mut self.machines[machine];
            let now = it.clock.now(self.truth);
            let Some(engine) = &mut it.engine else { return };
            let next = engine.turn(now);
            let failures = it.store.trouble.lock().failure_count;
            if failures != it.failures_seen {
                it.failures_seen = failures;
                it.well_since = self.truth;
            }
            self.report_health(machine, true);
            self.open_door(machine, now.wall);
            if next.is_over {
                self.note(format_args!("machine {machine} has left"));
                self.crash(machine);
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
            if round >= TURNS_AT_ONCE_MAX {
                self.checks.lock().fail(format_args!("machine {machine} spins: {next:?} at {now:?}"));
            }
        }
    }

    /// Plays the application: takes what the engine sent.
    fn open_door(&mut self, machine: usize, wall: Timestamp) {
        for sent in self.machines[machine].door.take() {
            match sent {
                Sent::Start(claimed) => self.enter_handler(machine, claimed, wall),
                Sent::Stop(stop) => {
                    let it = &mut self.machines[machine];
                    let tasks = it.tasks.iter_mut();
                    for (number, task) in
                        tasks.filter(|(_, task)| task.run.id == stop.run && task.run.token == stop.token)
                    {
                        task.stop = task.stop.or(Some(stop.reason));
                        let delay = if task.is_deaf { 12 * SECOND } else { 30 * MS };
                        self.sequence += 1;
                        let event = Event::Go { machine, task: *number };
                        if matches!(task.doing, Doing::Hanging) {
                            self.queue.insert((self.truth + delay, self.sequence), event);
                        }
                    }
                }
                Sent::Ring(_) => {}
                Sent::Tell(notice) => {
                    if !matches!(notice, Notice::Missed(_)) {
                        self.note(format_args!("machine {machine} says {notice:?}"));
                    }
                    if let Notice::ScheduleBroken(id, why) = notice {
                        self.checks.lock().fail(format_args!("{id} was set aside: {why}"));
                    }
                }
            }
        }
    }

    // ---- handlers ------------------------------------------------------------------------------------------------

    fn enter_handler(&mut self, machine: usize, claimed: ClaimedRun, wall: Timestamp) {
        let ClaimedRun { run, journal } = claimed;
        let is_done = |step: &&StepRecord| step.state == StepState::Done;
        let done: BTreeSet<Arc<str>> =
            journal.iter().filter(is_done).map(|step| Arc::clone(&step.name)).collect();
        {
            let mut checks = self.checks.lock();
            checks.note(format_args!("machine {machine} starts {} under {}", run.id, run.token.0));
            checks.check_start(&run, &done, wall);
        }
        let (kind, is_deaf) = character(&run.id, run.attempt);
        let task = Task { run, doing: Doing::Deciding, done, kind, stop: None, is_deaf };
        self.sequence += 1;
        let number = self.sequence;
        self.machines[machine].tasks.insert(number, task);
        let delay = self.rng.range(0, 5 * MS);
        self.after(delay, Event::Go { machine, task: number });
    }

    fn go(&mut self, machine: usize, number: u64) {
        let Some(mut task) = self.machines[machine].tasks.remove(&number) else { return };
        let wall = self.machines[machine].clock.now(self.truth).wall;
        let mut wait = 0;
        let mut is_over = false;
        let doing = std::mem::replace(&mut task.doing, Doing::Deciding);
        task.doing = match doing {
            Doing::Recording(command) => match self.commit(machine, &command) {
                None => {
                    wait = self.rng.range(20 * MS, SECOND);
                    Doing::Recording(command)
                }
                Some(Ok(_)) => {
                    if let Command::RecordStep { step, .. } = &*command
                        && step.state == StepState::Done
                    {
                        task.done.insert(Arc::clone(&step.name));
                    }
                    Doing::Deciding
                }
                Some(Err(_)) => {
                    is_over = true;
                    self.hear(machine, Message::Fenced { run: task.run.id.clone(), token: task.run.token });
                    Doing::Deciding
                }
            },
            Doing::Ending(command) => match self.commit(machine, &command) {
                None => {
                    wait = self.rng.range(20 * MS, SECOND);
                    Doing::Ending(command)
                }
                Some(outcome) => {
                    is_over = true;
                    let (run, token) = (task.run.id.clone(), task.run.token);
                    let leaves_work = !matches!(
                        &outcome,
                        Ok(Answer::Ended { state, released: false }) if state.is_finished()
                    );
                    let is_accepted = outcome.is_ok();
                    self.hear(machine, Message::Settled { run, token, is_accepted, leaves_work });
                    Doing::Deciding
                }
            },
            Doing::Deciding | Doing::Hanging | Doing::Stepping(_) => {
                let (doing, delay) = self.decide(machine, &mut task, &doing, wall);
                wait = delay;
                if matches!(doing, Doing::Ending(_)) {
                    let (run, token) = (task.run.id.clone(), task.run.token);
                    self.hear(machine, Message::Returned { run, token });
                }
                doing
            }
        };
        if is_over {
            return;
        }
        if !matches!(task.doing, Doing::Hanging) {
            self.after(wait, Event::Go { machine, task: number });
        }
        self.machines[machine].tasks.insert(number, task);
    }

    /// What the handler does next, and how long that takes.
    fn decide(&mut self, machine: usize, task: &mut Task, doing: &Doing, wall: Timestamp) -> (Doing, i64) {
        let is_waking = matches!(doing, Doing::Hanging);
        let must_stop = task.stop.is_some() && (!task.is_deaf || is_waking || self.rng.chance(300));
        if must_stop {
            let ending = match task.stop {
                Some(StopReason::TimedOut) => failure(task, wall),
                _ => Ending::Cancelled { error: None },
            };
            return (end(task, ending), self.rng.range(0, 2 * SECOND));
        }
        if let Doing::Stepping(step) = doing {
            return (record(task, &format!("s{step}"), StepState::Done, None, wall), 0);
        }
        let (steps, length) = match task.kind {
            Kind::Steps(steps, length) => (steps, length),
            Kind::Failing => (1, SECOND),
            Kind::Sleeping(_) => (2, 500 * MS),
            Kind::Hanging => return (Doing::Hanging, 0),
        };
        let has = |name: &str| task.done.contains(name);
        if let Kind::Sleeping(sleep) = task.kind
            && has("s0")
            && !has("sleep")
        {
            // Asleep once, the run comes back when its time has come.
            if task.run.token.0 > 1
                && task.run.started_at.is_some_and(|at| at.as_micros() + sleep < wall.as_micros())
            {
                return (record(task, "sleep", StepState::Done, None, wall), 0);
            }
            let wakes_at = Timestamp::from_micros(wall.as_micros() + sleep);
            return (end(task, Ending::Parked { wakes_at }), 0);
        }
        match (0..steps).find(|step| !has(&format!("s{step}"))) {
            Some(step) => {
                let name: Arc<str> = format!("s{step}").into();
                self.checks.lock().check_step(&task.run.id, task.run.token, &name);
                let delay = self.rng.range(length / 2, length);
                (Doing::Stepping(step), delay)
            }
            None if matches!(task.kind, Kind::Failing) => (end(task, failure(task, wall)), 0),
            None => {
                let _ = machine;
                let result = Some(format!("\"{}\"", task.run.id).as_str().into());
                (end(task, Ending::Succeeded { result }), self.rng.range(0, 10 * MS))
            }
        }
    }

    /// As the writing thread does: `None` when the store was in trouble and it must be sent again.
    fn commit(&mut self, machine: usize, command: &Command) -> Option<Result<Answer, Rejection>> {
        let it = &self.machines[machine];
        let wall = it.clock.now(self.truth).wall;
        let outcome = it.store.commit(std::slice::from_ref(command), wall).ok()?.remove(0);
        match &outcome {
            Ok(_) | Err(Rejection::Fenced) => {}
            Err(rejection) => self.checks.lock().fail(format_args!("{command:?} was refused: {rejection}")),
        }
        Some(outcome)
    }

    // ---- people --------------------------------------------------------------------------------------------------

    /// Commits until it is known to have happened. The API's clock is right.
    fn ask(&mut self, command: Command) {
        let now = Timestamp::from_micros(self.truth);
        let commands = [command];
        while self.api.commit(&commands, now).is_err() {}
        for machine in 0..self.machines.len() {
            if self.rng.chance(700) {
                let incarnation = self.machines[machine].incarnation;
                let delay = self.rng.range(MS, 50 * MS);
                self.after(delay, Event::Hint { machine, incarnation });
            }
        }
    }

    fn use_api(&mut self) {
        let schedules = self.checks.lock().live_schedules();
        if schedules.len() < 2 || (schedules.len() < 8 && self.rng.chance(150)) {
            self.create_schedule();
            return;
        }
        let schedule = self.rng.pick(&schedules).clone();
        let status = |status| Box::new(Patch { status: Some(status), ..Patch::default() });
        let patch = |patch| Command::PatchSchedule {
            project: PROJECT.into(),
            id: schedule.id.clone(),
            revision: None,
            patch,
        };
        match self.rng.range(0, 11) {
            0..=1 => {
                let spec = any_spec(&mut self.rng, self.truth);
                self.put(&schedule.workflow, &schedule.key, &spec);
            }
            2 => {
                let spec = serde_json::from_str(&schedule.spec).unwrap();
                self.put(&schedule.workflow, &schedule.key, &spec);
            }
            3..=4 if schedule.status == ScheduleStatus::Active => {
                self.ask(patch(status(ScheduleStatus::Paused)));
            }
            3..=6 if schedule.status == ScheduleStatus::Paused => {
                self.ask(patch(status(ScheduleStatus::Active)));
            }
            7 => {
                self.ask(Command::DeleteSchedule { project: PROJECT.into(), id: schedule.id.clone() });
            }
            8..=9 => {
                let new = self.triggered(&schedule);
                self.ask(new);
            }
            10 => {
                let runs = self.checks.lock().unfinished_runs();
                if !runs.is_empty() {
                    let run = self.rng.pick(&runs).clone();
                    self.ask(Command::CancelRun { project: PROJECT.into(), run });
                }
            }
            11 => {
                let runs = self.checks.lock().retryable_runs();
                if !runs.is_empty() {
                    let run = self.rng.pick(&runs).clone();
                    self.ask(Command::RetryRun { project: PROJECT.into(), run });
                }
            }
            _ => {}
        }
    }

    fn triggered(&mut self, schedule: &_polos::model::Schedule) -> Command {
        let now = Timestamp::from_micros(self.truth);
        Command::CreateRun(Box::new(NewRun {
            id: RunId::new(now, self.rng.bits()),
            project: PROJECT.into(),
            workflow: Arc::clone(&schedule.workflow),
            key: Arc::clone(&schedule.key),
            schedule_id: Some(schedule.id.clone()),
            slot: Some(now),
            last_slot: schedule.last_slot,
            upcoming: schedule.next_slot,
            timezone: "UTC".into(),
            origin: Origin::Trigger,
            payload: None,
            input: None,
            available_at: now,
            behind: false,
            parent: None,
            idempotency_key: None,
        }))
    }

    fn create_schedule(&mut self) {
        let spec = any_spec(&mut self.rng, self.truth);
        let workflow: Arc<str> = (*self.rng.pick(&WORKFLOWS)).into();
        let key = format!("k{}", self.rng.range(0, 1_000_000));
        self.put(&workflow, &key, &spec);
    }

    fn put(&mut self, workflow: &Arc<str>, key: &str, spec: &ScheduleSpec) {
        let cadence = Cadence::new(spec.clone()).unwrap();
        self.ask(Command::PutSchedules(vec![NewSchedule {
            id: ScheduleId::from(format!("sch_{workflow}{key}n{}", self.sequence)),
            project: PROJECT.into(),
            workflow: Arc::clone(workflow),
            key: key.into(),
            owner: None,
            spec: serde_json::to_string(spec).unwrap().into(),
            cadence: spec.cadence_text().into(),
            input: None,
            next_slot: cadence.next(Timestamp::from_micros(self.truth)),
        }]));
    }

    // ---- what goes wrong -----------------------------------------------------------------------------------------

    fn go_wrong(&mut self) {
        let machine =
            usize::try_from(self.rng.range(0, i64::try_from(self.machines.len()).unwrap() - 1)).unwrap();
        let has = |genre| self.genre == genre || self.genre == Genre::Everything;
        let (store, clocks) = (has(Genre::Store), has(Genre::Clocks));
        match self.rng.range(0, 11) {
            0..=2 => {
                self.crash(machine);
                let delay = self.rng.range(SECOND, MINUTE);
                self.after(delay, Event::Start { machine });
            }
            3 => {
                // Ends well: what it holds is free at once.
                self.hear(machine, Message::Drain);
                self.hear(machine, Message::Leave);
                let delay = self.rng.range(SECOND, MINUTE);
                self.after(delay, Event::Start { machine });
            }
            4..=5 if clocks => {
                let duration = self.rng.range(SECOND, 4 * LEASE);
                self.pause(machine, duration);
            }
            6 if clocks && self.chaos_ends < self.truth + CHAOS => {
                let duration = *self.rng.pick(&[30 * SECOND, 10 * MINUTE, 2 * HOUR]);
                for machine in 0..self.machines.len() {
                    let apart = self.rng.range(0, SECOND);
                    self.pause(machine, duration + apart);
                }
                // Everybody slept; the story goes on afterwards.
                self.chaos_ends += duration;
            }
            7..=8 if clocks => {
                let jump = *self.rng.pick(&[-SECOND, SECOND, -MINUTE, MINUTE, -HOUR, HOUR, -24 * HOUR]);
                self.note(format_args!("the clock of machine {machine} jumps by {jump} us"));
                self.machines[machine].clock.wall_ahead_us += jump;
                let is_up = self.machines[machine].power == Power::Up;
                self.unwell(machine, is_up);
                if is_up {
                    // The driver never waits longer than this.
                    let delay = self.rng.range(0, 200 * MS);
                    self.wake(machine, delay);
                }
            }
            9..=10 if store => {
                let duration = self.rng.range(SECOND, 3 * LEASE);
                self.note(format_args!("machine {machine} has no store for {duration} us"));
                self.machines[machine].store.trouble.lock().is_down = true;
                self.after(duration, Event::Reconnect { machine });
            }
            11 if store => {
                self.note(format_args!("nobody has a store"));
                let duration = self.rng.range(SECOND, 3 * LEASE);
                for machine in 0..self.machines.len() {
                    self.machines[machine].store.trouble.lock().is_down = true;
                    self.after(duration, Event::Reconnect { machine });
                }
            }
            _ => {}
        }
    }

    /// Nothing goes wrong any more, and everybody is there.
    fn calm_down(&mut self) {
        self.note(format_args!("calm"));
        self.is_calm = true;
        set_faults(&self.api, 0, 0);
        for machine in 0..self.machines.len() {
            self.resume(machine);
            self.start(machine);
            let it = &mut self.machines[machine];
            set_faults(&it.store, 0, 0);
            it.store.trouble.lock().is_down = false;
            let wrong = it.clock.now(self.truth).wall.as_micros() - self.truth;
            it.clock.wall_ahead_us -= wrong;
            self.unwell(machine, true);
            self.wake(machine, 0);
        }
    }

    fn pause_all(&mut self) {
        let schedules = self.checks.lock().live_schedules();
        for schedule in schedules {
            if schedule.status == ScheduleStatus::Active {
                let patch = Box::new(Patch { status: Some(ScheduleStatus::Paused), ..Patch::default() });
                self.ask(Command::PatchSchedule {
                    project: PROJECT.into(),
                    id: schedule.id,
                    revision: None,
                    patch,
                });
            }
        }
    }

    fn look(&mut self) {
        let well_before = self.truth - POLL - 2 * SECOND;
        let checks = self.checks.lock();
        for machine in &self.machines {
            let is_working = machine.engine.as_ref().is_some_and(Engine::has_entered);
            if machine.power == Power::Up && is_working && machine.well_since < well_before {
                checks.check_on_time(machine.clock.now(self.truth).wall);
            }
        }
    }
}

fn parse(text: &str) -> Timestamp {
    Timestamp::from_micros(text.parse::<jiff::Timestamp>().unwrap().as_microsecond())
}

fn door_to(store: &MemoryStore, checks: &Arc<Mutex<Checks>>, seed: u64) -> FaultyStore {
    let mut door = FaultyStore::new(store.clone());
    let witness: Arc<Mutex<dyn Witness>> = Arc::clone(checks) as _;
    door.witness = Some(witness);
    *door.trouble.lock() = Trouble { rng: Rng(seed), ..Trouble::none() };
    door
}

fn set_faults(store: &FaultyStore, commits: u32, reads: u32) {
    let mut trouble = store.trouble.lock();
    (trouble.before, trouble.after, trouble.reads) = (commits, commits, reads / 4);
}

fn config(rng: &mut Rng, machine: usize) -> EngineConfig {
    let backoff = Backoff { initial_us: SECOND, factor: 2.0, maximum_us: MINUTE, jitter: 0.1 };
    let workflow = |timeout: u64| WorkflowConfig {
        is_schedulable: true,
        retry_max: RETRY_MAX,
        backoff,
        timeout: Some(Duration::from_secs(timeout)),
    };
    EngineConfig {
        project: PROJECT.into(),
        app: "app".into(),
        host: format!("host{machine}").into(),
        pid: 1,
        process_mark: "mark".into(),
        about: "{}".into(),
        workflows: [(WORKFLOWS[0].into(), workflow(60)), (WORKFLOWS[1].into(), workflow(90))].into(),
        declared: Vec::new(),
        concurrency: usize::try_from(rng.range(1, 12)).unwrap(),
        lease: Duration::from_micros(LEASE.unsigned_abs()),
        lead: Duration::from_micros(LEAD.unsigned_abs()),
        lead_per_slot: Duration::from_millis(200),
        lead_max: Duration::from_micros(LEAD_MAX.unsigned_abs()),
        poll_interval: Duration::from_micros(POLL.unsigned_abs()),
        retention: None,
        retention_keep: 10,
        batch_max: usize::try_from(rng.range(1, 20)).unwrap(),
    }
}

fn any_spec(rng: &mut Rng, truth: i64) -> ScheduleSpec {
    let mut fields = match rng.range(0, 9) {
        0..=4 => json!({"cron": *rng.pick(&CRONS)}),
        5..=8 => json!({"every_us": rng.range(7, 90) * SECOND}),
        _ => json!({"at_us": truth + rng.range(SECOND, 20 * MINUTE)}),
    };
    fields["timezone"] = json!(*rng.pick(&ZONES));
    fields["overlap"] = json!(*rng.pick(&["buffer_one", "skip", "buffer_all", "cancel_running", "allow"]));
    fields["catch_up"] = json!(*rng.pick(&["latest", "latest", "all", "none"]));
    fields["max_catch_up"] = json!(rng.range(1, 10));
    if rng.chance(200) {
        fields["catch_up_window_us"] = json!(rng.range(0, 10 * MINUTE));
    }
    if rng.chance(200) {
        fields["jitter_us"] = json!(rng.range(MS, 20 * SECOND));
    }
    if rng.chance(100) {
        fields["max_runs"] = json!(rng.range(1, 10));
    }
    if rng.chance(100) {
        fields["end_at_us"] = json!(truth + rng.range(MINUTE, 40 * MINUTE));
    }
    if rng.chance(100) {
        fields["skip_dates"] = json!(["2026-03-08", "2026-06-02", "2026-10-25"]);
    }
    serde_json::from_value(fields).unwrap()
}

/// What the handler of this attempt is like, and whether it is slow to hear that it should stop.
fn character(run: &RunId, attempt: u32) -> (Kind, bool) {
    let mut seed = u64::from(attempt);
    for byte in run.as_str().bytes() {
        seed = (seed ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    let mut rng = Rng(seed);
    let kind = match rng.range(0, 99) {
        0..=39 => Kind::Steps(0, 0),
        40..=69 => Kind::Steps(u32::try_from(rng.range(1, 4)).unwrap(), rng.range(100 * MS, 6 * SECOND)),
        // Outlives the lease.
        70..=79 => Kind::Steps(u32::try_from(rng.range(1, 2)).unwrap(), rng.range(18 * SECOND, 50 * SECOND)),
        80..=89 => Kind::Failing,
        90..=95 => Kind::Sleeping(rng.range(SECOND, 40 * SECOND)),
        _ => Kind::Hanging,
    };
    (kind, rng.chance(200))
}

fn failure(task: &Task, wall: Timestamp) -> Ending {
    let backoff = Backoff { initial_us: SECOND, factor: 2.0, maximum_us: MINUTE, jitter: 0.1 };
    let may_retry = task.run.attempt <= RETRY_MAX;
    let retry_at = may_retry.then(|| backoff.retry_at(task.run.id.as_str(), task.run.attempt, wall));
    Ending::Failed { error: "{}".into(), retry_at }
}

fn end(task: &Task, ending: Ending) -> Doing {
    let command = Command::EndRun {
        run: task.run.id.clone(),
        token: task.run.token,
        ending: Box::new(ending),
        pause_after_failures: None,
    };
    Doing::Ending(Box::new(command))
}

fn record(task: &Task, name: &str, state: StepState, wakes_at: Option<Timestamp>, wall: Timestamp) -> Doing {
    let step = StepRecord {
        name: name.into(),
        state,
        attempt: 1,
        run_attempt: task.run.attempt,
        result: Some("1".into()),
        error: None,
        wakes_at,
        started_at: wall,
        finished_at: wall,
    };
    let command = Command::RecordStep { run: task.run.id.clone(), token: task.run.token, step };
    Doing::Recording(Box::new(command))
}
