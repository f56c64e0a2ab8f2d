//! Completions of slots' runs that most probably change nothing else: one statement checks this and
//! writes them, so that neither the runs nor their schedules are read. The other commands of the
//! group are applied as usual, and so are completions whose conditions do not hold.

use super::pipeline::Statement;
use super::queries;
use super::rows::{Args, limit_to_sql};
use crate::calendar::Timestamp;
use crate::model::text::state_word;
use crate::model::{Admission, Completion, RunId, Token};
use crate::store::tables::read_set::ReadSet;
use crate::store::tables::transitions::{self, Ended};
use crate::store::{Answer, Command, Outcome};
use crate::sync::Mutex;
use std::collections::{BTreeMap, BTreeSet};

/// A run to complete, and its place among the commands.
struct Completed<'c> {
    place: usize,
    run: &'c RunId,
    token: Token,
    print: i64,
    ended: Ended,
}

/// A group of commands of which some complete runs.
pub(super) struct Completions<'c> {
    now: Timestamp,
    completed: Vec<Completed<'c>>,
    /// The other commands, with their places.
    pub rest: Vec<(usize, &'c Command)>,
}

impl<'c> Completions<'c> {
    /// `None` if no command completes the run of a slot, or if the order of the commands may
    /// matter.
    pub fn of(commands: &'c [Command], busy: &BusySchedules, now: &dyn Fn() -> Timestamp) -> Option<Self> {
        let places = || commands.iter().enumerate();
        let (completions, rest): (Vec<_>, Vec<_>) = places().partition(|(_, command)| is_completion(command));
        if completions.is_empty() || !rest.iter().all(|(_, command)| is_independent(command)) {
            return None;
        }
        let now = now();
        let mut runs = BTreeSet::new();
        let mut completed = Vec::with_capacity(completions.len());
        for (place, command) in completions {
            let Command::CompleteRun { run, token, ending, .. } = command else { continue };
            let ended = transitions::final_completion(ending, now)?;
            let print = transitions::completion_print(ending);
            completed.push(Completed { place, run, token: *token, print, ended });
            if !runs.insert(run) {
                return None;
            }
        }
        if rest.iter().any(|(_, command)| writes_to(command).is_some_and(|run| runs.contains(run))) {
            return None;
        }
        if busy.include_one_of(&runs) {
            return None;
        }
        // Every commit locks rows in this order.
        completed.sort_by_key(|completed| completed.run);
        Some(Self { now, completed, rest })
    }

    /// What is read and locked.
    pub fn needs(&self) -> ReadSet<'c> {
        let mut needs = ReadSet::of(self.rest.iter().map(|(_, command)| *command));
        needs.completed = self.completed.iter().map(|completed| completed.run.as_str()).collect();
        needs
    }

    /// The statement. Returns the places of the runs that it completed, and whether each frees a
    /// permit of a limit.
    pub fn statement(&self) -> Statement<'_> {
        let mut args = Args::default();
        let all = || self.completed.iter();
        args.texts(all().map(|completed| completed.run.as_str()));
        args.ints(all().map(|completed| completed.token.0));
        args.texts(all().map(|completed| state_word(completed.ended.state)));
        args.optional_texts(all().map(|completed| completed.ended.result.as_deref()));
        args.ints(all().map(|completed| completed.print));
        args.ints(all().map(|completed| limit_to_sql(completed.place)));
        args.int(self.now.as_micros());
        Statement::Query(queries::COMPLETE_RUNS, args)
    }

    /// The runs that the statement has not completed: not those at `places`.
    pub fn left(&self, places: &BTreeMap<usize, bool>) -> impl Iterator<Item = &RunId> {
        let left = self.completed.iter().filter(|completed| !places.contains_key(&completed.place));
        left.map(|completed| completed.run)
    }

    /// The outcomes of the commands at `places`, which have completed their runs, and may have
    /// freed a permit of a limit. `None` for all others.
    pub fn outcomes(&self, places: &BTreeMap<usize, bool>) -> Vec<Option<Outcome>> {
        let mut outcomes = vec![None; self.completed.len() + self.rest.len()];
        for Completed { place, ended, .. } in &self.completed {
            let answer = |released| Answer::Ended { state: ended.state, released };
            outcomes[*place] = places.get(place).map(|frees| Ok(answer(*frees)));
        }
        outcomes
    }
}

/// Schedules whose runs could lately not be completed like this, because others of their runs were
/// unfinished. The attempt costs a round trip if it fails, so it is made for one in some of them.
#[derive(Default)]
pub(super) struct BusySchedules(Mutex<BTreeMap<Box<str>, u32>>);

/// After so many completions, the next one is tried.
const TRIED_AFTER: u32 = 16;

/// Most schedules to remember.
const BUSY_MAX: usize = 1_000;

impl BusySchedules {
    /// Whether the schedule of one of the runs is busy.
    fn include_one_of(&self, runs: &BTreeSet<&RunId>) -> bool {
        let mut known = self.0.lock();
        if known.is_empty() {
            return false;
        }
        let mut is_busy = false;
        for schedule in runs.iter().copied().filter_map(schedule_of) {
            if let Some(left) = known.get_mut(schedule) {
                is_busy = true;
                *left -= 1;
                if *left == 0 {
                    known.remove(schedule);
                }
            }
        }
        is_busy
    }

    /// Notes that these runs could not be completed like this.
    pub fn note<'r>(&self, runs: impl Iterator<Item = &'r RunId>) {
        let mut known = self.0.lock();
        for schedule in runs.filter_map(schedule_of) {
            if known.len() >= BUSY_MAX {
                known.clear();
            }
            known.insert(schedule.into(), TRIED_AFTER);
        }
    }
}

/// The part of a slot's run's id that is its schedule's.
fn schedule_of(run: &RunId) -> Option<&str> {
    run.as_str().rsplit_once('_').map(|(schedule, _)| schedule)
}

/// Whether the command completes the run of a slot for good, and nobody is told. A failure counts
/// for its schedule.
fn is_completion(command: &Command) -> bool {
    match command {
        Command::CompleteRun { run, ending, tells: false, .. } => {
            run.may_be_of_slot()
                && matches!(
                    **ending,
                    Completion::Succeeded { .. } | Completion::Cancelled { error: None, .. }
                )
        }
        _ => false,
    }
}

/// Whether the command neither looks at the unfinished runs of a schedule, nor completes one. A run
/// that a fire of the same group creates completes in another group.
fn is_independent(command: &Command) -> bool {
    match command {
        Command::Fire { plan, .. } => {
            !plan.cancel_unfinished && plan.runs.iter().all(|run| run.admission != Admission::Behind)
        }
        Command::Heartbeat { .. } | Command::RecordStep { .. } | Command::ReportProgress { .. } => true,
        _ => false,
    }
}

/// The run that a claim of it changes.
fn writes_to(command: &Command) -> Option<&RunId> {
    match command {
        Command::RecordStep { run, .. } | Command::ReportProgress { run, .. } => Some(run),
        _ => None,
    }
}
