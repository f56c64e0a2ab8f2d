//! Commits a batch of commands as one transaction: reads the rows that they need, applies them in
//! memory, and writes what changed. Commands that need no read take the fast path.

use super::calendars;
use super::claim;
use super::commit_counters::CommitCounters;
use super::completions::{BusySchedules, Completions};
use super::connection::Session;
use super::deleted_limits;
use super::error::{PgError, refusal};
use super::expected_limits::ExpectedLimits;
use super::fast_path::FastPath;
use super::fetch::{Edits, Fetch, Part};
use super::heartbeats::Heartbeats;
use super::missing::Missing;
use super::pipeline::Statement;
use super::prune;
use super::queries::{self, Sql};
use super::rows::{Args, limit_to_sql};
use super::transaction::{self, Held};
use super::write_back::{changes, insertions};
use crate::calendar::Timestamp;
use crate::model::{RunState, Token};
use crate::store::tables::read_set::{Group, ReadSet, groups};
use crate::store::{Answer, Command, Outcome, Rejection, StoreError};
use std::borrow::Cow;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

/// How often the rows of one group are read before the store gives up.
const LOADS_MAX: u32 = 5;

/// From this number on, schedules of one command are many.
const MANY: usize = 1_000;

/// How to commit a batch.
#[derive(Copy, Clone)]
pub(super) struct Terms<'t> {
    /// Returns when the commands happen. Called once the rows that they read are locked.
    pub now: &'t dyn Fn() -> Timestamp,
    /// The advisory lock that edits share and a barrier waits for.
    pub edits: i64,
    /// The schema of the tables.
    pub schema: &'t str,
    /// Commit even if nothing is left to write: an earlier commit got no answer, and what is found
    /// of it may exist only on a primary that is cut off from its synchronous standby.
    pub must_commit: bool,
    /// Apply each command separately, to find the one whose data the database refuses.
    pub is_careful: bool,
    /// The commit counter to use.
    pub slot: usize,
    /// Count the heartbeats of idle workers. Nobody waits for those, and each counted commit has
    /// every worker look for changes.
    pub counts_idle: bool,
    /// The values seen of all commit counters.
    pub counters: &'t CommitCounters,
    /// Counts reads that missed a row.
    pub misses: &'t AtomicU64,
    /// What limits claims probably have to keep.
    pub expected_limits: &'t ExpectedLimits,
    /// Schedules whose completions are not tried without reading.
    pub busy: &'t BusySchedules,
}

/// Commands to commit, and the outcomes so far.
pub(super) struct Work<'c> {
    commands: &'c [Command],
    /// `None` for commands that are not committed yet.
    outcomes: Vec<Option<Outcome>>,
    /// Whether the fast path was tried.
    is_tried: bool,
    /// Whether that try got no answer, so that it may have happened.
    is_unsure: bool,
}

impl<'c> Work<'c> {
    pub fn new(commands: &'c [Command]) -> Self {
        Self { commands, outcomes: vec![None; commands.len()], is_tried: false, is_unsure: false }
    }

    /// Whether some commands may have been committed without an answer.
    pub fn is_unsure(&self) -> bool {
        self.is_unsure
    }

    fn is_done(&self) -> bool {
        self.outcomes.iter().all(Option::is_some)
    }

    /// The commands that are not committed yet.
    fn rest(&self) -> Cow<'c, [Command]> {
        if self.outcomes.iter().all(Option::is_none) {
            return Cow::Borrowed(self.commands);
        }
        let open = self.commands.iter().zip(&self.outcomes).filter(|(_, outcome)| outcome.is_none());
        Cow::Owned(open.map(|(command, _)| command.clone()).collect())
    }

    fn settle(&mut self, outcomes: Vec<Outcome>) {
        let open = self.outcomes.iter_mut().filter(|outcome| outcome.is_none());
        for (place, outcome) in open.zip(outcomes) {
            *place = Some(outcome);
        }
    }

    /// The outcome of each command, once all are committed.
    pub fn outcomes(self) -> Vec<Outcome> {
        self.outcomes.into_iter().flatten().collect()
    }
}

/// Commits all commands that are not committed yet, or none of them.
pub(super) async fn commit(
    session: Session<'_>,
    work: &mut Work<'_>,
    terms: Terms<'_>,
    end_was_asked: &Cell<bool>,
) -> Result<(), PgError> {
    if !std::mem::replace(&mut work.is_tried, true)
        && let Some(one) = OneStatement::of(work.commands, terms.now)
    {
        end_was_asked.set(true);
        match in_one_statement(session, one, &terms).await {
            Ok(outcomes) => work.outcomes = outcomes,
            Err(error) if error.is_broken() => {
                // The general path answers repeated commands as if they had been executed once.
                work.is_unsure = !error.was_rolled_back();
                end_was_asked.set(false);
                return Err(error);
            }
            // Nothing happened. The general path finds out why, or fails alike.
            Err(_) => {}
        }
        end_was_asked.set(false);
        if work.is_done() {
            return Ok(());
        }
    }
    let commands = work.rest();
    let mut outcomes = on_general_path(session, &commands, terms, end_was_asked).await?;
    if work.is_unsure {
        for (command, outcome) in commands.iter().zip(&mut outcomes) {
            report_as_new(session, command, outcome).await?;
        }
    }
    work.settle(outcomes);
    Ok(())
}

/// Commands that one statement can commit.
enum OneStatement<'c> {
    Heartbeats(Heartbeats<'c>),
    FastPath(FastPath<'c>),
}

impl<'c> OneStatement<'c> {
    fn of(commands: &'c [Command], now: &dyn Fn() -> Timestamp) -> Option<Self> {
        if let Some(heartbeats) = Heartbeats::of(commands) {
            return Some(Self::Heartbeats(heartbeats));
        }
        FastPath::of(commands, now).map(Self::FastPath)
    }
}

/// Commits commands as one statement. `None` for those that need the general path.
async fn in_one_statement(
    session: Session<'_>,
    one: OneStatement<'_>,
    terms: &Terms<'_>,
) -> Result<Vec<Option<Outcome>>, PgError> {
    let (slot, counters) = (terms.slot, terms.counters);
    let before = counters.seen();
    let (outcomes, number) = match one {
        OneStatement::Heartbeats(heartbeats) => {
            let rows = session.commit(heartbeats.statement((terms.now)(), slot, terms.counts_idle)).await?;
            heartbeats.outcomes(&rows)?
        }
        OneStatement::FastPath(fast_path) => {
            let rows = session.commit(fast_path.statement(slot)).await?;
            fast_path.outcomes(&rows)?
        }
    };
    if let Some(number) = number {
        counters.note_own(&before, slot, number);
    }
    Ok(outcomes)
}

/// Reports a run as new if the try without an answer created it: only this process knows its id.
async fn report_as_new(
    session: Session<'_>,
    command: &Command,
    outcome: &mut Outcome,
) -> Result<(), PgError> {
    if let (Command::CreateRun(new), Ok(Answer::Created { is_new, claimed, .. })) = (command, outcome)
        && !*is_new
        && let Some(run) = session.run(&new.project, &new.id).await?
    {
        *is_new = true;
        let is_claimed = run.state == RunState::Running && run.token == Token::NONE.next();
        *claimed = (is_claimed && run.worker == new.claim_for).then(|| Box::new(run));
    }
    Ok(())
}

/// How many milliseconds the server waits between two requests of a transaction, if that is longer
/// than usual: between reading and writing very many schedules, a busy machine computes for more
/// than a second.
fn pause_max(commands: &[Command]) -> Option<usize> {
    let count = |command: &Command| match command {
        Command::UpsertSchedules(new) => new.len(),
        _ => 0,
    };
    let count: usize = commands.iter().map(count).sum();
    (count > MANY).then(|| 1_000 + count / 2)
}

/// Commits commands on the general path: read, apply, write.
async fn on_general_path(
    session: Session<'_>,
    commands: &[Command],
    terms: Terms<'_>,
    end_was_asked: &Cell<bool>,
) -> Result<Vec<Outcome>, PgError> {
    let must_commit = terms.must_commit;
    // A busy server may take minutes for very many. It is asked whether it is still there.
    let session = if pause_max(commands).is_some() { session.slow() } else { session };
    let batch = Batch {
        session,
        terms,
        commands,
        held: Held::default(),
        has_edits: commands.iter().any(Command::may_revoke_early_claims),
        is_begun: false,
        has_written: must_commit,
        is_last_group: false,
        completed: BTreeMap::new(),
        end_was_asked,
    };
    let done = batch.all(commands).await;
    if let Err(error) = &done
        && !error.is_broken()
    {
        // So that the next transaction can begin. If this fails too, the connection is replaced.
        session.script("ROLLBACK").await?;
    }
    done
}

/// An open transaction.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not states of one machine")]
pub(super) struct Batch<'s> {
    pub session: Session<'s>,
    terms: Terms<'s>,
    /// All commands.
    commands: &'s [Command],
    /// The names that transactions of the application are creating. Known once the transaction has
    /// begun.
    held: Held<'s>,
    has_edits: bool,
    is_begun: bool,
    pub has_written: bool,
    is_last_group: bool,
    /// The places of the commands of a group that completed their runs by a statement of their own,
    /// and whether each freed a permit of a limit.
    completed: BTreeMap<usize, bool>,
    /// Set once the commit is sent: from then on, only the database knows whether it happened.
    end_was_asked: &'s Cell<bool>,
}

impl Batch<'_> {
    pub fn now(&self) -> Timestamp {
        (self.terms.now)()
    }

    /// What limits claims probably have to keep.
    pub fn expected_limits(&self) -> &ExpectedLimits {
        self.terms.expected_limits
    }

    async fn all(mut self, commands: &[Command]) -> Result<Vec<Outcome>, PgError> {
        let mut outcomes = Vec::with_capacity(commands.len());
        if self.terms.is_careful {
            for command in commands {
                outcomes.push(self.guarded(command).await?);
            }
        } else {
            let groups = groups(commands);
            let count = groups.len();
            for (place, group) in groups.into_iter().enumerate() {
                self.is_last_group = place + 1 == count;
                outcomes.extend(self.group(group).await?);
            }
        }
        self.end().await?;
        Ok(outcomes)
    }

    /// Applies one command, or undoes it if the database refuses its data.
    async fn guarded(&mut self, command: &Command) -> Result<Outcome, PgError> {
        self.send(vec![Statement::Script("SAVEPOINT command".to_owned())]).await?;
        let mut done = Err(PgError::Silence);
        for group in groups(std::slice::from_ref(command)) {
            done = self.group(group).await;
        }
        match done {
            Ok(mut outcomes) => {
                self.send(vec![Statement::Script("RELEASE command".to_owned())]).await?;
                Ok(outcomes.pop().unwrap_or(Err(Rejection::Stale)))
            }
            Err(error) => {
                let reason = refusal(&error).ok_or(error)?;
                self.send(vec![Statement::Script("ROLLBACK TO command; RELEASE command".to_owned())]).await?;
                Ok(Err(Rejection::Invalid(reason)))
            }
        }
    }

    async fn group(&mut self, group: Group<'_>) -> Result<Vec<Outcome>, PgError> {
        match group {
            Group::Named(commands) => self.named(commands).await,
            Group::Claim(command) => Ok(vec![claim::claim(self, command).await?]),
            Group::Prune(command) => Ok(vec![prune::prune(self, command).await?]),
            Group::Calendar(command) => Ok(vec![calendars::set(self, command).await?]),
            Group::DeletedLimit(command) => Ok(vec![deleted_limits::delete(self, command).await?]),
        }
    }

    async fn named(&mut self, commands: &[Command]) -> Result<Vec<Outcome>, PgError> {
        if let Some(completions) = Completions::of(commands, self.terms.busy, self.terms.now) {
            return self.completions(commands, &completions).await;
        }
        self.in_order(commands).await
    }

    /// Applies commands of which some complete runs that probably need not be read.
    async fn completions(
        &mut self,
        commands: &[Command],
        completions: &Completions<'_>,
    ) -> Result<Vec<Outcome>, PgError> {
        let needs = completions.needs();
        self.completed.clear();
        let (mut part, now) = self.load_with(&needs, Some(completions)).await?;
        let mut outcomes = completions.outcomes(&self.completed);
        for (place, command) in &completions.rest {
            outcomes[*place] = Some(part.tables.apply(command, now));
        }
        let is_left = |(_, outcome): &(&Command, &Option<Outcome>)| outcome.is_none();
        let left: Vec<Command> =
            commands.iter().zip(&outcomes).filter(is_left).map(|(command, _)| command.clone()).collect();
        self.has_written |= !self.completed.is_empty();
        let is_last_group = self.is_last_group;
        self.is_last_group = is_last_group && left.is_empty();
        self.save(changes(&part)).await?;
        if !left.is_empty() {
            self.is_last_group = is_last_group;
            self.terms.busy.note(completions.left(&self.completed));
            let rest = self.in_order(&left).await?;
            let open = outcomes.iter_mut().filter(|outcome| outcome.is_none());
            for (place, outcome) in open.zip(rest) {
                *place = Some(outcome);
            }
        }
        Ok(outcomes.into_iter().flatten().collect())
    }

    /// Reads what the commands need, applies them, and writes what has changed.
    async fn in_order(&mut self, commands: &[Command]) -> Result<Vec<Outcome>, PgError> {
        let needs = ReadSet::of(commands);
        let (mut part, now) = self.load(&needs).await?;
        let mut created = Vec::new();
        let apply = |command| {
            if self.held.rejects(command) {
                return Err(Rejection::NameHeld);
            }
            match command {
                Command::UpsertSchedules(new) if new.len() > MANY && commands.len() == 1 => {
                    let answer;
                    (answer, created) = part.tables.upsert_many(new, now)?;
                    Ok(answer)
                }
                _ => part.tables.apply(command, now),
            }
        };
        let outcomes = commands.iter().map(apply).collect();
        let mut statements = changes(&part);
        statements.extend(insertions(created.iter()));
        self.save(statements).await?;
        Ok(outcomes)
    }

    /// Reads and locks the rows that the commands need; also returns when the commands happen.
    /// Reads again if a row was missed, see `missing.rs`.
    pub async fn load(&mut self, needs: &ReadSet<'_>) -> Result<(Part, Timestamp), PgError> {
        self.load_with(needs, None).await
    }

    /// The same; completes runs on the way.
    async fn load_with(
        &mut self,
        needs: &ReadSet<'_>,
        completions: Option<&Completions<'_>>,
    ) -> Result<(Part, Timestamp), PgError> {
        for _ in 0..LOADS_MAX {
            let (part, now) = self.load_once(needs, completions).await?;
            self.completed.extend(part.completed.iter().copied());
            let missing = Missing::of(needs, &part);
            if missing.is_empty() || self.send(vec![missing.statement()]).await?.concat().is_empty() {
                return Ok((part, now));
            }
            self.terms.misses.fetch_add(1, Ordering::Relaxed);
        }
        Err(PgError::Store(StoreError::Unavailable(
            "the database returns rows and then does not return them for locking; check its row-level security \
             policies"
                .to_owned(),
        )))
    }

    /// Takes one round trip, or two if stored schedules are edited: an edit reads only runs after
    /// the time of the edit, which is known once the schedules are locked.
    async fn load_once(
        &mut self,
        needs: &ReadSet<'_>,
        completions: Option<&Completions<'_>>,
    ) -> Result<(Part, Timestamp), PgError> {
        let mut part = Part::default();
        let mut load = Fetch::first(needs);
        if needs.has_edits() {
            let answers = self.send(std::mem::take(&mut load.statements)).await?;
            load.take(&mut part, &answers)?;
            let now = self.now();
            let edits = Edits::of(needs, &part, now);
            let mut rest = Fetch::default();
            rest.add_runs(needs, edits.as_ref());
            if !rest.statements.is_empty() {
                let answers = self.send(std::mem::take(&mut rest.statements)).await?;
                rest.take(&mut part, &answers)?;
            }
            return Ok((part, now));
        }
        if let Some(completions) = completions {
            load.add_completions(completions.statement());
        }
        load.add_runs(needs, None);
        let answers = self.send(std::mem::take(&mut load.statements)).await?;
        load.take(&mut part, &answers)?;
        let now = self.now();
        Ok((part, now))
    }

    /// Sends statements. The first ones begin the transaction.
    pub async fn send(
        &mut self,
        mut statements: Vec<Statement<'_>>,
    ) -> Result<Vec<Vec<tokio_postgres::Row>>, PgError> {
        let begins = !std::mem::replace(&mut self.is_begun, true);
        let names = begins.then(|| transaction::lock_names(self.commands, self.terms.schema)).flatten();
        let asks_for_names = names.is_some();
        if begins {
            statements.splice(0..0, names);
            let mut begin = self.session.begin();
            if let Some(time) = pause_max(self.commands) {
                let _ = write!(begin, "; SET LOCAL idle_in_transaction_session_timeout = {time}");
            }
            if self.has_edits {
                let _ = write!(begin, "; SELECT pg_advisory_xact_lock_shared({})", self.terms.edits);
            }
            statements.insert(0, Statement::Script(begin));
        }
        let mut answers = self.session.send(statements).await?;
        if begins {
            answers.remove(0);
        }
        if asks_for_names {
            self.held = Held::of(self.commands, self.terms.schema, &answers.remove(0))?;
        }
        Ok(answers)
    }

    /// Sends statements that write. Those of the last group are followed by the commit.
    pub async fn save(&mut self, statements: Vec<Statement<'_>>) -> Result<(), PgError> {
        self.has_written |= !statements.is_empty();
        if self.is_last_group && self.has_written {
            self.is_begun = false;
            self.end_was_asked.set(true);
            return self.commit(statements).await;
        }
        if !statements.is_empty() {
            self.session.send(statements).await?;
        }
        Ok(())
    }

    /// Ends the transaction, unless the last group has.
    async fn end(&mut self) -> Result<(), PgError> {
        if self.is_begun {
            self.end_was_asked.set(self.has_written);
            if self.has_written {
                return self.commit(Vec::new()).await;
            }
            // Nothing was written, so no commit has to reach the disk.
            self.session.script("ROLLBACK").await?;
        }
        Ok(())
    }

    /// Sends the last statements and the commit. Counts the commit last, so that other transactions
    /// wait for the counter as briefly as possible.
    async fn commit(&self, mut statements: Vec<Statement<'_>>) -> Result<(), PgError> {
        let (slot, counters) = (self.terms.slot, self.terms.counters);
        let mut args = Args::default();
        args.int(limit_to_sql(slot));
        statements.push(Statement::Query(queries::COUNT_COMMIT, args));
        statements.push(Statement::Script("COMMIT".to_owned()));
        let place = statements.len() - 2;
        let before = counters.seen();
        let answers = self.session.send(statements).await?;
        if let Some(row) = answers.get(place).and_then(|rows| rows.first()) {
            counters.note_own(&before, slot, row.try_get(0)?);
        }
        Ok(())
    }

    /// Sends one statement; returns its rows.
    pub async fn query(&mut self, sql: Sql, args: Args<'_>) -> Result<Vec<tokio_postgres::Row>, PgError> {
        let mut answers = self.send(vec![Statement::Query(sql, args)]).await?;
        Ok(answers.pop().unwrap_or_default())
    }
}
