//! A batch of commands as one transaction: read what they need, apply the rules in memory, write what changed. What needs nothing
//! read is written at once.

use super::claim;
use super::commit_counters::CommitCounters;
use super::connection::Session;
use super::error::{PgError, refusal};
use super::fast_path::FastPath;
use super::fetch::{Edits, Fetch, Part};
use super::missing::Missing;
use super::pipeline::Statement;
use super::prune;
use super::read_set::{Group, ReadSet, groups, may_edit};
use super::rows::Args;
use super::write_back::changes;
use crate::calendar::Timestamp;
use crate::model::{RunState, Token};
use crate::store::{Answer, Command, Outcome, Rejection, StoreError};
use std::borrow::Cow;
use std::cell::Cell;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

/// How often the rows of one group are read before the store gives up.
const LOADS_MAX: u32 = 5;

/// How a batch is committed.
#[derive(Copy, Clone)]
pub(super) struct Terms<'t> {
    /// Tells when its commands happen; asked when what they look at is locked, if they look at anything.
    pub now: &'t dyn Fn() -> Timestamp,
    /// The lock that edits share and a barrier waits for.
    pub edits: i64,
    /// Commit even where nothing is left to write: an earlier commit was left without an answer, and what
    /// is found of it may be on a primary that is cut off from its synchronous standby.
    pub must_commit: bool,
    /// Each by itself, so that the one whose data the database refuses is found.
    pub is_careful: bool,
    /// The counter of commits to use.
    pub slot: usize,
    /// What was seen of all of them.
    pub counters: &'t CommitCounters,
    /// Counts reads that missed a row.
    pub misses: &'t AtomicU64,
}

/// Commands that are to be committed.
pub(super) struct Work<'c> {
    commands: &'c [Command],
    /// Of those that are committed.
    outcomes: Vec<Option<Outcome>>,
    /// Whether what needs no look was tried.
    is_tried: bool,
    /// Whether that try was left without an answer: it may have happened.
    is_unsure: bool,
}

impl<'c> Work<'c> {
    pub fn new(commands: &'c [Command]) -> Self {
        Self { commands, outcomes: vec![None; commands.len()], is_tried: false, is_unsure: false }
    }

    /// Whether some of it may have happened without an answer.
    pub fn is_unsure(&self) -> bool {
        self.is_unsure
    }

    fn is_done(&self) -> bool {
        self.outcomes.iter().all(Option::is_some)
    }

    /// What is still to be committed.
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

    /// How each command ended, when all are committed.
    pub fn outcomes(self) -> Vec<Outcome> {
        self.outcomes.into_iter().flatten().collect()
    }
}

/// Commits what is still to be committed, or nothing of it.
pub(super) async fn commit(
    session: Session<'_>,
    work: &mut Work<'_>,
    terms: Terms<'_>,
    end_was_asked: &Cell<bool>,
) -> Result<(), PgError> {
    if !std::mem::replace(&mut work.is_tried, true)
        && let Some(direct) = FastPath::of(work.commands, terms.now)
    {
        end_was_asked.set(true);
        match at_once(session, direct, &terms).await {
            Ok(outcomes) => work.outcomes = outcomes,
            Err(error) if error.is_broken() => {
                // Done again with a look, each of them is answered as if it had been done once.
                work.is_unsure = !error.was_rolled_back();
                end_was_asked.set(false);
                return Err(error);
            }
            // Nothing of it happened, and those who look find out why, or meet the same again.
            Err(_) => {}
        }
        end_was_asked.set(false);
        if work.is_done() {
            return Ok(());
        }
    }
    let commands = work.rest();
    let mut outcomes = after_a_look(session, &commands, terms, end_was_asked).await?;
    if work.is_unsure {
        for (command, outcome) in commands.iter().zip(&mut outcomes) {
            own_up(session, command, outcome).await?;
        }
    }
    work.settle(outcomes);
    Ok(())
}

/// Commits commands that need no look, as one statement; `None` for those that do after all.
async fn at_once(
    session: Session<'_>,
    direct: FastPath<'_>,
    terms: &Terms<'_>,
) -> Result<Vec<Option<Outcome>>, PgError> {
    let (slot, counters) = (terms.slot, terms.counters);
    let before = counters.seen();
    let rows = session.commit(direct.statement(slot)).await?;
    let (outcomes, number) = direct.outcomes(&rows)?;
    if let Some(number) = number {
        counters.note_own(&before, slot, number);
    }
    Ok(outcomes)
}

/// A run that is there since the try that was left without an answer: nobody else knows its id, nor of its claim.
async fn own_up(session: Session<'_>, command: &Command, outcome: &mut Outcome) -> Result<(), PgError> {
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

async fn after_a_look(
    session: Session<'_>,
    commands: &[Command],
    terms: Terms<'_>,
    end_was_asked: &Cell<bool>,
) -> Result<Vec<Outcome>, PgError> {
    let must_commit = terms.must_commit;
    let batch = Batch {
        session,
        terms,
        has_edits: commands.iter().any(may_edit),
        is_begun: false,
        has_written: must_commit,
        is_last_group: false,
        end_was_asked,
    };
    let done = batch.all(commands).await;
    if let Err(error) = &done
        && !error.is_broken()
    {
        // The next transaction on this connection begins with a clean slate. Where even this fails, it is replaced.
        session.script("ROLLBACK").await?;
    }
    done
}

/// A transaction under way.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not states of one machine")]
pub(super) struct Batch<'s> {
    pub session: Session<'s>,
    terms: Terms<'s>,
    has_edits: bool,
    is_begun: bool,
    pub has_written: bool,
    is_last_group: bool,
    /// From then on nobody but the database knows whether it happened.
    end_was_asked: &'s Cell<bool>,
}

impl Batch<'_> {
    pub fn now(&self) -> Timestamp {
        (self.terms.now)()
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

    /// Applies one command, or undoes what it did where the database refuses its data.
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
        }
    }

    async fn named(&mut self, commands: &[Command]) -> Result<Vec<Outcome>, PgError> {
        let needs = ReadSet::of(commands);
        let (mut part, now) = self.load(&needs).await?;
        let outcomes = commands.iter().map(|command| part.tables.apply(command, now)).collect();
        self.save(changes(&part)).await?;
        Ok(outcomes)
    }

    /// The rows that the commands need, locked, and when they happen. Reads again where a row was
    /// missed: see `missing.rs`.
    pub async fn load(&mut self, needs: &ReadSet<'_>) -> Result<(Part, Timestamp), PgError> {
        for _ in 0..LOADS_MAX {
            let (part, now) = self.load_once(needs).await?;
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

    /// One trip; two where stored schedules are edited, since an edit looks only at what lies ahead of
    /// its instant, and the instant is known when the schedules are locked.
    async fn load_once(&mut self, needs: &ReadSet<'_>) -> Result<(Part, Timestamp), PgError> {
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
        load.add_runs(needs, None);
        let answers = self.send(std::mem::take(&mut load.statements)).await?;
        load.take(&mut part, &answers)?;
        let now = self.now();
        Ok((part, now))
    }

    /// Sends statements that read.
    pub async fn send(
        &mut self,
        mut statements: Vec<Statement<'_>>,
    ) -> Result<Vec<Vec<tokio_postgres::Row>>, PgError> {
        let begins = !std::mem::replace(&mut self.is_begun, true);
        if begins {
            let mut begin = self.session.begin();
            if self.has_edits {
                let _ = write!(begin, "; SELECT pg_advisory_xact_lock_shared({})", self.terms.edits);
            }
            statements.insert(0, Statement::Script(begin));
        }
        let mut answers = self.session.send(statements).await?;
        if begins {
            answers.remove(0);
        }
        Ok(answers)
    }

    /// Sends statements that write; the last ones with the commit behind them.
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

    /// Ends the transaction, where the last group did not.
    async fn end(&mut self) -> Result<(), PgError> {
        if self.is_begun {
            self.end_was_asked.set(self.has_written);
            if self.has_written {
                return self.commit(Vec::new()).await;
            }
            // Nothing happened, so there is nothing to wait for the disk for.
            self.session.script("ROLLBACK").await?;
        }
        Ok(())
    }

    /// Sends the last statements and the commit. It is counted behind all else, so that others wait for the counter as
    /// briefly as can be.
    async fn commit(&self, mut statements: Vec<Statement<'_>>) -> Result<(), PgError> {
        let (slot, counters) = (self.terms.slot, self.terms.counters);
        let count = format!("UPDATE @commits SET no = no + 1 WHERE slot = {slot} RETURNING no");
        statements.push(Statement::Query(count, Args::default()));
        statements.push(Statement::Script("COMMIT".to_owned()));
        let place = statements.len() - 2;
        let before = counters.seen();
        let answers = self.session.send(statements).await?;
        if let Some(row) = answers.get(place).and_then(|rows| rows.first()) {
            counters.note_own(&before, slot, row.try_get(0)?);
        }
        Ok(())
    }

    /// One statement.
    pub async fn query(
        &mut self,
        sql: impl Into<String>,
        args: Args<'_>,
    ) -> Result<Vec<tokio_postgres::Row>, PgError> {
        let mut answers = self.send(vec![Statement::Query(sql.into(), args)]).await?;
        Ok(answers.pop().unwrap_or_default())
    }
}
