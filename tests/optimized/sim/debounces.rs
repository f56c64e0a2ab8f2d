//! Debounced calls: their workload, and a model of what each of them does.

use super::checks::{Checks, PROJECT};
use super::handlers::any_run;
use super::world::{Event, WORKFLOWS, World};
use polos::calendar::Timestamp;
use polos::model::{Debounce, Json, NewRun, Origin, Run, RunId, is_replaceable};
use polos::store::{Answer, Command, Store};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const KEYS: [&str; 2] = ["u7", "u8"];

/// What is expected of a debounced run.
#[derive(Clone, PartialEq, Debug)]
struct Expected {
    /// The payload of its newest call.
    payload: Json,
    /// That call.
    call: RunId,
    /// When it starts.
    start: Timestamp,
    /// The latest start: `at_most` after its first call.
    until: Timestamp,
}

/// What the debounced calls so far mean for the next ones.
#[derive(Default)]
pub struct Debounces {
    expected: BTreeMap<RunId, Expected>,
    /// By workflow and debounce key: the newest run.
    newest: BTreeMap<(Arc<str>, Arc<str>), RunId>,
}

impl World {
    /// Calls a workflow that waits for further calls. The caller repeats a call whose answer was
    /// lost.
    pub fn debounce_by_hand(&mut self) {
        let command = self.debounced_call();
        self.ask(command);
    }

    /// Several callers debounce, each on its own: one may repeat a call that others have followed.
    pub fn debounce_in_a_row(&mut self) {
        for _ in 0..self.rng.range(1, 6) {
            let command = Box::new(self.debounced_call());
            let delay = self.rng.range(0, self.pace.use_every);
            self.after(delay, Event::Call { command });
        }
    }

    fn debounced_call(&mut self) -> Command {
        let now = Timestamp::from_micros(self.truth);
        let workflow = *self.rng.pick(&WORKFLOWS);
        let new = NewRun {
            origin: Origin::Invoke,
            parent: None,
            idempotency_key: None,
            payload: Some(self.rng.bits().to_string().into()),
            ..any_run(RunId::new(now, self.rng.bits()), workflow, now)
        };
        let delay = Duration::from_secs(u64::try_from(self.rng.range(0, 600)).unwrap());
        let debounce = Debounce {
            key: (*self.rng.pick(&KEYS)).into(),
            delay,
            at_most: self.rng.chance(500).then_some(2 * delay),
        };
        Command::DebounceRun { new: Box::new(new), debounce }
    }
}

impl Debounces {
    /// What a call does: the run, whether it is new, and what to expect of it. `run` finds a run as
    /// it was before.
    fn outcome<'r>(
        &self,
        (new, debounce): (&NewRun, &Debounce),
        run: impl Fn(&RunId) -> Option<&'r Run>,
        now: Timestamp,
    ) -> (RunId, Expected, &'static str) {
        let is_it = |id: &RunId, it: &Expected| *id == new.id || it.call == new.id;
        if let Some((id, it)) = self.expected.iter().find(|(id, it)| is_it(id, it) && run(id).is_some()) {
            return (id.clone(), it.clone(), "a debounced call repeated");
        }
        let key = (Arc::clone(&new.workflow), Arc::clone(&debounce.key));
        let waiting = self.newest.get(&key).filter(|id| run(id).is_some_and(is_replaceable));
        let payload = new.payload.clone().expect("the workload gives one");
        let later = |duration| now.saturating_add(duration);
        let until = match waiting.and_then(|id| self.expected.get(id)) {
            Some(it) => it.until,
            None => debounce.at_most.map_or(Timestamp::MAX, later),
        };
        let start = later(debounce.delay).min(until);
        let it = Expected { payload, call: new.id.clone(), start, until };
        match waiting {
            Some(id) => (id.clone(), it, "debounced into a waiting run"),
            None => (new.id.clone(), it, "debounced"),
        }
    }

    /// Returns the mistake if a run starts with another payload than that of its newest call.
    fn started(&self, run: &Run) -> Option<String> {
        let it = self.expected.get(&run.id)?;
        (run.payload.as_ref() != Some(&it.payload)).then(|| format!("{it:?} started as {run:?}"))
    }
}

impl Checks {
    /// A call either changes the run that waits or creates one, as the model says.
    pub fn check_debounce(
        &mut self,
        store: &dyn Store,
        (new, debounce): (&NewRun, &Debounce),
        answer: &Answer,
        now: Timestamp,
    ) {
        let (run, it, event) = self.debounces.outcome((new, debounce), |id| self.run(id), now);
        let is_new = event == "debounced";
        let expected = Answer::Created { run: run.clone(), is_new, claimed: None };
        let stored = store.run(PROJECT, &run).unwrap();
        let Some(row) = stored.filter(|_| *answer == expected) else {
            self.fail(format_args!("{new:?} was answered {answer:?} and not {expected:?}"))
        };
        let is_right = row.payload.as_ref() == Some(&it.payload);
        let is_in_time = !is_replaceable(&row) || row.available_at == it.start;
        if !is_right || !is_in_time {
            self.fail(format_args!("expected {it:?} of {row:?}"));
        }
        let key = (Arc::clone(&new.workflow), Arc::clone(&debounce.key));
        if event != "a debounced call repeated" {
            self.debounces.newest.insert(key, run.clone());
        }
        self.debounces.expected.insert(run, it);
        self.count_event(event);
    }

    /// See [`Debounces::started`].
    pub fn check_started(&self, answer: &Answer) {
        let Answer::Claimed(runs) = answer else { return };
        if let Some(mistake) = runs.iter().find_map(|claimed| self.debounces.started(&claimed.run)) {
            self.fail(format_args!("{mistake}"));
        }
    }
}
