//! A model of interruptions: the expected count of every run, computed from the commands alone.

use polos::calendar::Timestamp;
use polos::model::{Run, RunId, RunState, Token, WorkerId};
use polos::store::{Answer, Command};
use std::collections::{BTreeMap, BTreeSet};

/// The limit of all workflows of these simulations, as `@workflow(max_interruptions=)`.
pub const INTERRUPTIONS_MAX: u32 = 3;

/// A run that is never alone fails after this many times the limit.
const NEVER_ALONE_FACTOR: u32 = 4;

/// The counts of one run.
#[derive(Copy, Clone, Default, PartialEq, Eq, Debug)]
pub struct Count {
    pub interruptions: u32,
    pub was_alone: bool,
    /// The claim that was interrupted last.
    token: Option<Token>,
}

impl Count {
    /// Whether the next claim must fail the run instead of starting its handler.
    pub fn is_too_often(self) -> bool {
        let most = if self.was_alone { INTERRUPTIONS_MAX } else { NEVER_ALONE_FACTOR * INTERRUPTIONS_MAX };
        self.interruptions >= most
    }
}

/// The counts of all runs.
#[derive(Default)]
pub struct Interruptions {
    counts: BTreeMap<RunId, Count>,
    /// Which worker has recorded steps of which run.
    progress: BTreeMap<RunId, BTreeSet<WorkerId>>,
    /// What was counted before an interruption that the store may have counted or not.
    before: BTreeMap<RunId, Count>,
}

impl Interruptions {
    pub fn of(&self, run: &RunId) -> Count {
        self.counts.get(run).copied().unwrap_or_default()
    }

    pub fn forget(&mut self, run: &RunId) {
        self.counts.remove(run);
    }

    /// Forgets a deleted run.
    pub fn remove(&mut self, run: &RunId) {
        self.counts.remove(run);
        self.progress.remove(run);
    }

    /// Applies an accepted command to the counts; `runs` are the runs before it. Returns the runs
    /// that the store may or may not count: another worker recorded a step of theirs, and whether
    /// that was before or after the worker's registration is not known here.
    pub fn apply<'a>(
        &mut self,
        command: &Command,
        answer: &Answer,
        runs: impl Iterator<Item = &'a Run>,
        now: Timestamp,
    ) -> Vec<RunId> {
        let mut unclear = Vec::new();
        match (command, answer) {
            (Command::ExpireWorker { worker, shares_process, .. }, Answer::Count(_)) => {
                let is_held =
                    |run: &&Run| run.state == RunState::Running && run.worker.as_ref() == Some(worker);
                let held: Vec<&Run> = runs.filter(is_held).collect();
                let was_alone = held.len() == 1 && !shares_process;
                for run in held.into_iter().filter(|run| run.available_at <= now) {
                    let of_run = self.progress.get(&run.id);
                    if of_run.is_some_and(|workers| workers.contains(worker)) {
                        continue;
                    }
                    let count = self.counts.entry(run.id.clone()).or_default();
                    if of_run.is_some() {
                        unclear.push(run.id.clone());
                        self.before.insert(run.id.clone(), *count);
                    }
                    count.interruptions += 1;
                    (count.was_alone, count.token) = (was_alone, Some(run.token));
                }
            }
            (Command::UncountInterruptions { claims }, _) => {
                for (run, token) in claims {
                    if let Some(count) = self.counts.get_mut(run).filter(|count| count.token == Some(*token))
                    {
                        let interruptions = count.interruptions - 1;
                        *count = Count { interruptions, ..Count::default() };
                    }
                }
            }
            _ => {}
        }
        unclear
    }

    /// Records that the worker has recorded a step.
    pub fn note_step(&mut self, run: &RunId, worker: Option<&WorkerId>) {
        self.counts.remove(run);
        self.progress.entry(run.clone()).or_default().extend(worker.cloned());
    }

    /// Takes over what the store did where the model can't know it: it counted the interruption, or
    /// it left the count unchanged.
    pub fn adopt(&mut self, run: &Run) {
        let before = self.before.remove(&run.id).unwrap_or_default();
        if run.interruptions != self.of(&run.id).interruptions {
            self.counts.insert(run.id.clone(), before);
        }
    }
}
