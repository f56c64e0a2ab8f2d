//! Users and programs that call the API during the simulation, and what the application's code
//! declares.

use super::calendars;
use super::checks::PROJECT;
use super::faults::Rng;
use super::world::{APP, DAY, Event, HOUR, MINUTE, MS, Pace, SECOND, Theme, WORKFLOWS, World};
use polos::calendar::Timestamp;
use polos::model::spec::CompiledSpec;
use polos::model::{
    LedgerLine, NewRun, NewSchedule, Origin, Overlap, RunId, Schedule, ScheduleId, ScheduleSpec,
    ScheduleStatus, SlotOutcome,
};
use polos::store::{Command, Patch, StoreWrites};
use serde_json::json;
use std::sync::Arc;

const ZONES: [&str; 5] = ["UTC", "America/New_York", "Europe/Paris", "Australia/Lord_Howe", "Asia/Kolkata"];
const CRONS: [&str; 6] =
    ["* * * * *", "*/2 * * * *", "*/5 * * * *", "30 2 * * *", "0,15,45 1-3 * * *", "7 * * * *"];
const SLOW_CRONS: [&str; 7] = [
    "0 * * * *",
    "30 2 * * *",
    "0 9 * * 1-5",
    "0 0 * * 0",
    "15 */6 * * *",
    "0,15,45 1-3 * * *",
    "0 3 8,29 * *",
];
const OVERLAPS: [&str; 5] = ["buffer_one", "skip", "buffer_all", "cancel_running", "allow"];
const CATCH_UPS: [&str; 4] = ["latest", "latest", "all", "none"];
/// Slot limit of one backfill.
const BACKFILL_MAX: usize = 6;

impl World {
    /// Commits until the result is known. The API's clock is right.
    pub fn ask(&mut self, command: Command) {
        self.ask_all(&[command]);
    }

    pub fn ask_all(&mut self, commands: &[Command]) {
        let now = Timestamp::from_micros(self.truth);
        while self.api.commit(commands, now).is_err() {}
        self.hint_machines();
    }

    /// Most machines hear that the store has changed.
    pub fn hint_machines(&mut self) {
        for machine in 0..self.machines.len() {
            if self.rng.chance(700) {
                let incarnation = self.machines[machine].incarnation;
                let delay = self.rng.range(MS, 50 * MS);
                self.after(delay, Event::Hint { machine, incarnation });
            }
        }
    }

    pub fn call_api(&mut self) {
        if self.theme == Theme::Combined && self.rng.chance(800) {
            return match self.rng.range(0, 9) {
                0..=3 => self.debounce_in_a_row(),
                4..=8 => self.invoke_by_hand(),
                _ => self.set_limit(),
            };
        }
        if self.theme == Theme::Events && self.rng.chance(600) {
            return if self.rng.chance(500) { self.debounce_in_a_row() } else { self.invoke_by_hand() };
        }
        let schedules = self.checks.lock().live_schedules();
        if schedules.len() < 2 || (schedules.len() < 8 && self.rng.chance(150)) {
            self.create_schedule();
            return;
        }
        let schedule = self.rng.pick(&schedules).clone();
        // Declared schedules change only by deploying other code.
        let is_free = schedule.owner.is_none();
        if !is_free && self.theme == Theme::Overrides && self.rng.chance(600) {
            return self.override_declared(&schedule);
        }
        if self.theme.has_limits() && self.rng.chance(500) {
            return if self.rng.chance(200) { self.set_limit() } else { self.invoke_by_hand() };
        }
        if self.theme == Theme::Calendars && self.rng.chance(250) {
            return self.change_calendar();
        }
        match self.rng.range(0, 17) {
            0..=2 if is_free => {
                let spec = any_spec(&mut self.rng, self.truth, self.pace);
                self.put(&schedule.workflow, &schedule.key, &spec);
            }
            3 if is_free => {
                let spec = serde_json::from_str(schedule.spec.text()).unwrap();
                self.put(&schedule.workflow, &schedule.key, &spec);
            }
            4 if is_free => self.update(&schedule),
            5..=6 if schedule.status == ScheduleStatus::Active => {
                self.set_status(&schedule, ScheduleStatus::Paused);
            }
            5..=8 if schedule.status == ScheduleStatus::Paused => {
                self.set_status(&schedule, ScheduleStatus::Active);
            }
            9 if is_free => {
                self.ask(Command::DeleteSchedule { project: PROJECT.into(), id: schedule.id.clone() });
            }
            10 => {
                let new = self.triggered(&schedule);
                self.ask(Command::CreateRun(Box::new(new)));
            }
            11..=12 => self.skip(&schedule),
            13 => self.backfill(&schedule),
            14 => {
                let runs = self.checks.lock().unfinished_runs();
                if !runs.is_empty() {
                    let run = self.rng.pick(&runs).clone();
                    self.ask(Command::CancelRun { project: PROJECT.into(), run });
                }
            }
            15 => {
                let runs = self.checks.lock().retryable_runs();
                if !runs.is_empty() {
                    let run = self.rng.pick(&runs).clone();
                    self.ask(Command::RetryRun { project: PROJECT.into(), run });
                }
            }
            17 if self.theme == Theme::None => self.debounce_by_hand(),
            16..=17 => self.invoke_by_hand(),
            _ => {}
        }
    }

    /// Overrides what code declares, or discards an override.
    fn override_declared(&mut self, schedule: &Schedule) {
        match self.rng.range(0, 9) {
            0..=2 => {
                let spec = any_spec(&mut self.rng, self.truth, self.pace);
                self.put(&schedule.workflow, &schedule.key, &spec);
            }
            3..=5 => self.update(schedule),
            6..=8 => self.reset(schedule),
            _ => self.ask(Command::DeleteSchedule { project: PROJECT.into(), id: schedule.id.clone() }),
        }
    }

    fn patch(&mut self, schedule: &Schedule, revision: Option<i64>, patch: Patch) {
        self.ask(Command::PatchSchedule {
            project: PROJECT.into(),
            id: schedule.id.clone(),
            revision,
            patch: Box::new(patch),
        });
    }

    pub fn set_status(&mut self, schedule: &Schedule, status: ScheduleStatus) {
        self.patch(schedule, None, Patch { status: Some(status), ..Patch::default() });
    }

    /// Changes the trigger, as `schedules.update` does; the policies stay.
    fn update(&mut self, schedule: &Schedule) {
        let now = Timestamp::from_micros(self.truth);
        let mut fields: serde_json::Value = serde_json::from_str(schedule.spec.text()).unwrap();
        let other = serde_json::to_value(any_spec(&mut self.rng, self.truth, self.pace)).unwrap();
        for trigger in ["cron", "every_us", "at_us"] {
            fields.as_object_mut().unwrap().remove(trigger);
            if let Some(value) = other.get(trigger).filter(|value| !value.is_null()) {
                fields[trigger] = value.clone();
            }
        }
        let spec: ScheduleSpec = serde_json::from_value(fields).unwrap();
        let Ok(compiled_spec) = CompiledSpec::new(spec.clone()) else { return };
        if !self.has_calendars_of(&spec) {
            return;
        }
        let text = serde_json::to_string(&spec).unwrap();
        let spec = Some((text.into(), spec.trigger_key().into(), compiled_spec.next(now)));
        self.patch(schedule, Some(schedule.revision), Patch { spec, ..Patch::default() });
    }

    /// Skips one of the next slots, also one that may be claimed already, or takes skips back.
    fn skip(&mut self, schedule: &Schedule) {
        if !matches!(schedule.status, ScheduleStatus::Active | ScheduleStatus::Paused) {
            return;
        }
        let is_coming = |slot: &Timestamp| slot.as_micros() > self.truth;
        let mut skipped = schedule.settled_slots();
        skipped.retain(is_coming);
        if !skipped.is_empty() && self.rng.chance(500) {
            return self.unskip(schedule, &skipped);
        }
        let compiled_spec = schedule.compiled_spec().unwrap();
        let mut slot = schedule.next_slot.filter(is_coming);
        for _ in 0..self.rng.range(0, 3) {
            slot = slot.and_then(|slot| compiled_spec.next(slot)).or(slot);
        }
        if self.rng.chance(300) {
            slot = schedule.last_slot.filter(is_coming).or(slot);
        }
        let Some(slot) = slot else { return };
        let (outcome, reason) = (SlotOutcome::Skipped, "skipped on request".into());
        let line = LedgerLine { from: slot, until: slot, count: 1, outcome, reason };
        self.patch(schedule, Some(schedule.revision), Patch { ledger: vec![line], ..Patch::default() });
    }

    /// Undoes one skip or all of them.
    fn unskip(&mut self, schedule: &Schedule, skipped: &[Timestamp]) {
        let compiled_spec = Arc::clone(schedule.spec.compiled().unwrap());
        let one = *self.rng.pick(skipped);
        let is_all = self.rng.chance(500);
        let is_wanted =
            |slot: &&Timestamp| (is_all || **slot == one) && compiled_spec.prev(**slot) == Some(**slot);
        let unskipped: Vec<_> = skipped.iter().filter(is_wanted).copied().collect();
        self.patch(schedule, Some(schedule.revision), Patch { unskipped, ..Patch::default() });
    }

    /// Backfills past slots.
    fn backfill(&mut self, schedule: &Schedule) {
        let compiled_spec = schedule.spec.compiled().unwrap();
        let mut slots = Vec::new();
        let mut slot = compiled_spec.prev(Timestamp::from_micros(self.truth - self.rng.range(0, HOUR)));
        while let Some(at) = slot.filter(|_| slots.len() < BACKFILL_MAX) {
            slots.push(at);
            slot = compiled_spec.prev(Timestamp::from_micros(at.as_micros() - 1));
        }
        let behind = compiled_spec.spec().overlap != Overlap::Allow;
        let base = self.triggered(schedule);
        let new = |slot: &Timestamp| NewRun {
            id: RunId::of_slot(&schedule.id, *slot),
            slot: Some(*slot),
            origin: Origin::Backfill,
            behind,
            revokes_claims: behind,
            ..base.clone()
        };
        let commands: Vec<Command> =
            slots.iter().rev().map(|slot| Command::CreateRun(Box::new(new(slot)))).collect();
        self.ask_all(&commands);
    }

    fn triggered(&mut self, schedule: &Schedule) -> NewRun {
        let now = Timestamp::from_micros(self.truth);
        NewRun {
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
            revokes_claims: schedule
                .spec
                .compiled()
                .is_ok_and(|compiled_spec| compiled_spec.spec().overlap != Overlap::Allow),
            revision: None,
            parent: None,
            idempotency_key: None,
            together: None,
            claim_for: None,
            priority: None,
        }
    }

    pub fn create_schedule(&mut self) {
        let spec = any_spec(&mut self.rng, self.truth, self.pace);
        let workflow: Arc<str> = (*self.rng.pick(&WORKFLOWS)).into();
        let key = format!("k{}", self.rng.range(0, 1_000_000));
        self.put(&workflow, &key, &spec);
    }

    fn put(&mut self, workflow: &Arc<str>, key: &str, spec: &ScheduleSpec) {
        let mut spec = spec.clone();
        if self.theme.has_limits() && self.rng.chance(500) {
            spec.priority = Some(u8::try_from(self.rng.range(0, 9)).unwrap());
        }
        if !self.has_calendars_of(&spec) {
            spec.calendars.clear();
        }
        let spec = &spec;
        let id = ScheduleId::from(format!("sch_{workflow}{key}n{}", self.sequence));
        let new = new_schedule(id, workflow, key, spec, self.truth);
        self.ask(Command::UpsertSchedules(vec![new]));
    }

    /// Pauses all schedules, so that the simulation can settle.
    pub fn pause_all(&mut self) {
        let schedules = self.checks.lock().live_schedules();
        for schedule in schedules.iter().filter(|schedule| schedule.status == ScheduleStatus::Active) {
            self.set_status(schedule, ScheduleStatus::Paused);
        }
    }
}

fn new_schedule(
    id: ScheduleId,
    workflow: &Arc<str>,
    key: &str,
    spec: &ScheduleSpec,
    truth: i64,
) -> NewSchedule {
    let compiled_spec = CompiledSpec::new(spec.clone()).unwrap();
    NewSchedule {
        id,
        project: PROJECT.into(),
        workflow: Arc::clone(workflow),
        key: key.into(),
        owner: None,
        spec: serde_json::to_string(spec).unwrap().into(),
        compiled_spec: spec.trigger_key().into(),
        version: None,
        tags: None,
        input: None,
        next_slot: compiled_spec.next(Timestamp::from_micros(truth)),
    }
}

/// The schedules that a version of the application declares: the next version changes some, drops
/// some, and declares some again.
pub fn declared(seed: u64, version: u64, began: i64, pace: Pace) -> Vec<NewSchedule> {
    let mut declared = Vec::new();
    for (number, workflow) in (0_u64..).zip(WORKFLOWS) {
        let mut rng = Rng(seed.wrapping_mul(31) ^ (number << 8));
        let is_for_all = rng.chance(300);
        // A new specification with every second version; some versions don't declare it.
        let mut rng = Rng(rng.bits() ^ if is_for_all { 0 } else { version / 2 });
        let spec = any_spec(&mut rng, began, pace);
        let mut rng = Rng(rng.bits() ^ version);
        if is_for_all || rng.chance(700) {
            let (key, id) = (format!("d{number}"), ScheduleId::from(format!("sch_d{number}")));
            let new = new_schedule(id, &workflow.into(), &key, &spec, began);
            declared.push(NewSchedule { owner: Some(APP.into()), ..new });
        }
    }
    declared
}

fn any_spec(rng: &mut Rng, truth: i64, pace: Pace) -> ScheduleSpec {
    if pace.has_calendars {
        return calendars::any_spec(rng, truth, pace);
    }
    let is_slow = pace.is_slow;
    let mut fields = match rng.range(0, 9) {
        0..=4 if is_slow => json!({"cron": *rng.pick(&SLOW_CRONS)}),
        0..=4 => json!({"cron": *rng.pick(&CRONS)}),
        5..=8 if is_slow => json!({"every_us": rng.range(10, 720) * MINUTE}),
        5..=8 => json!({"every_us": rng.range(7, 90) * SECOND}),
        _ => json!({"at_us": truth + rng.range(SECOND, pace.chaos / 2)}),
    };
    fields["timezone"] = json!(*rng.pick(&ZONES));
    fields["overlap"] = json!(*rng.pick(&OVERLAPS));
    fields["catch_up"] = json!(*rng.pick(&CATCH_UPS));
    fields["max_catch_up"] = json!(rng.range(1, 10));
    if rng.chance(200) {
        fields["catch_up_window_us"] = json!(rng.range(0, if is_slow { DAY } else { 10 * MINUTE }));
    }
    if rng.chance(250) {
        fields["jitter_us"] = json!(rng.range(MS, if is_slow { 20 * MINUTE } else { 20 * SECOND }));
    }
    if rng.chance(100) {
        fields["max_runs"] = json!(rng.range(1, 10));
    }
    if rng.chance(100) {
        fields["end_at_us"] = json!(truth + rng.range(MINUTE, pace.chaos * 4 / 3));
    }
    if rng.chance(150) {
        fields["pause_after_failures"] = json!(rng.range(1, 3));
    }
    if rng.chance(100) {
        fields["skip_dates"] = json!(["2026-03-08", "2026-06-02", "2026-10-25"]);
    }
    serde_json::from_value(fields).unwrap()
}
