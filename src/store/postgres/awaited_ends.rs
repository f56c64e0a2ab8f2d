//! Runs that callers in other processes wait for.
//!
//! A process that waits for runs says so on the channel [`waits_channel`], which all processes
//! listen to. Whoever completes such a run tells the session that asked, on a channel of its own
//! ([`ends_channel`]). So the completion of a run that nobody waits for costs nothing. All of this
//! is best effort: callers also poll.

use crate::model::RunId;
use crate::store::{Answer, Command, Rejection};
use crate::sync::Mutex;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Most runs that others wait for. Past it, all are forgotten: their callers find them by polling.
const AWAITED_MAX: usize = 50_000;

/// Ids in one notification, whose payload the server limits to 8,000 bytes.
const AT_ONCE: usize = 64;

/// The longest id that is announced; ours are shorter.
const ID_LENGTH_MAX: usize = 100;

/// What others wait for, and what is to be announced.
#[derive(Default)]
pub(super) struct AwaitedEnds(Mutex<State>);

#[derive(Default)]
struct State {
    /// The sessions that wait for each run.
    awaited: HashMap<RunId, BTreeSet<i32>>,
    /// Runs that this process waits for and has not asked others about.
    to_ask: BTreeSet<RunId>,
    /// Runs that have ended, by the session that waits for them.
    to_tell: BTreeMap<i32, Vec<RunId>>,
}

impl AwaitedEnds {
    /// This process waits for these runs. Returns whether there is something to send.
    pub fn ask(&self, runs: &[RunId]) -> bool {
        let plain = runs.iter().filter(|run| is_plain(run.as_str()));
        let mut state = self.0.lock();
        state.to_ask.extend(plain.cloned());
        !state.to_ask.is_empty()
    }

    /// The session `process` waits for the runs that a notification names.
    pub fn note_waits(&self, process: i32, payload: &str) {
        let mut state = self.0.lock();
        for run in runs_in(payload) {
            if state.awaited.len() >= AWAITED_MAX {
                state.awaited.clear();
            }
            state.awaited.entry(run).or_default().insert(process);
        }
    }

    /// Notes which awaited runs these commands completed. Returns whether there is something to
    /// send.
    pub fn note_commit(&self, commands: &[Command], outcomes: &[Result<Answer, Rejection>]) -> bool {
        let mut state = self.0.lock();
        if state.awaited.is_empty() {
            return false;
        }
        for (command, outcome) in commands.iter().zip(outcomes) {
            let run = match (command, outcome) {
                (Command::CompleteRun { run, .. }, Ok(Answer::Ended { state, .. }))
                    if state.is_finished() =>
                {
                    run
                }
                (Command::CancelRun { run, .. }, Ok(Answer::State(state))) if state.is_finished() => run,
                _ => continue,
            };
            for process in state.awaited.remove(run).unwrap_or_default() {
                state.to_tell.entry(process).or_default().push(run.clone());
            }
        }
        !state.to_tell.is_empty()
    }

    /// The notifications to send, as SQL.
    pub fn take_notifications(&self, schema: &str) -> Vec<String> {
        let (to_ask, to_tell) = {
            let mut state = self.0.lock();
            (std::mem::take(&mut state.to_ask), std::mem::take(&mut state.to_tell))
        };
        let to_ask: Vec<RunId> = to_ask.into_iter().collect();
        let asked = to_ask.chunks(AT_ONCE).map(|runs| notify(&waits_channel(schema), runs));
        let told = to_tell.iter().flat_map(|(process, runs)| {
            let channel = ends_channel(*process);
            runs.chunks(AT_ONCE).map(move |runs| notify(&channel, runs))
        });
        asked.chain(told).collect()
    }
}

/// The runs that a notification names.
pub(super) fn runs_in(payload: &str) -> impl Iterator<Item = RunId> {
    payload.split(' ').filter(|id| is_plain(id)).map(RunId::from)
}

/// Where sessions say which runs they wait for. Each schema has one.
pub(super) fn waits_channel(schema: &str) -> String {
    super::listener::cut(format!("polos waits {schema}"))
}

/// Where a session is told that runs have ended.
pub(super) fn ends_channel(process: i32) -> String {
    format!("polos ends {process}")
}

fn notify(channel: &str, runs: &[RunId]) -> String {
    let ids: Vec<&str> = runs.iter().map(RunId::as_str).collect();
    format!("NOTIFY {}, '{}'", super::config::quoted(channel), ids.join(" "))
}

/// Whether an id can be part of a notification as it is. Callers may wait for any text.
fn is_plain(id: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    !id.is_empty() && id.len() <= ID_LENGTH_MAX && id.bytes().all(is_plain)
}
