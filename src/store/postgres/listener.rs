//! Hearing of other processes' commits sooner than by asking, and telling them of ours.
//!
//! A hint and nothing more: who hears nothing finds everything by asking ([`crate::store::Store::change_mark`]). So
//! notifications are sent behind the commits, gathered, by a connection of their own: inside of a commit they would make
//! all commits of the server wait for each other.

use super::commit_counters::CommitCounters;
use super::config::ServerConfig;
use super::connect::NotificationHandler;
use super::connection::{Connection, NO_IDLE_LIMIT};
use super::error::PgError;
use crate::calendar::Timestamp;
use crate::model::Admission;
use crate::store::{Answer, Command, Rejection, StoreError};
use crate::sync::{Condvar, Mutex};
use crate::thread::Thread;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio_postgres::AsyncMessage;

/// What is committed within this time is told with one notification.
const GATHERING: Duration = Duration::from_millis(10);

/// How often somebody looks whether the clock is to be set.
const TICK: Duration = Duration::from_secs(1);

/// How long closing waits for the thread, which may hang in a server that doesn't answer.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

/// Who hears, on a thread of the store's own.
pub trait ChangeObserver: Send + Sync + 'static {
    /// Somebody else committed something. It may come late, twice, or not at all.
    fn on_change(&self);
    /// The database has become an older one: what was committed last is gone. Told once for each time.
    fn on_rollback(&self);
    /// Something that a person should know.
    fn on_advice(&self, what: &str);
    /// Every second: `ask` gives the time by the database's clock.
    fn may_set_clock(&self, ask: &dyn Fn() -> Result<Timestamp, StoreError>);
}

/// The thread that hears.
pub(super) struct Listener {
    shared: Arc<Shared>,
    thread: Option<Thread>,
}

struct Shared {
    server: Arc<ServerConfig>,
    listener: Arc<dyn ChangeObserver>,
    counters: Arc<CommitCounters>,
    has_news: AtomicBool,
    wake: Notify,
    is_closed: Mutex<bool>,
    closing: Condvar,
    /// A pooler is in between, and that was said.
    is_pooler_reported: AtomicBool,
    /// Nobody waits for what may take as long as the network likes.
    is_connecting: AtomicBool,
}

impl Listener {
    pub fn open(
        server: Arc<ServerConfig>,
        listener: Arc<dyn ChangeObserver>,
        counters: Arc<CommitCounters>,
    ) -> Result<Self, StoreError> {
        let shared = Arc::new(Shared {
            server,
            listener,
            counters,
            has_news: AtomicBool::new(false),
            wake: Notify::new(),
            is_closed: Mutex::new(false),
            closing: Condvar::new(),
            is_pooler_reported: AtomicBool::new(false),
            is_connecting: AtomicBool::new(false),
        });
        let listening = Arc::clone(&shared);
        let thread = Thread::spawn("polos-listener", move || listening.listen())
            .map_err(|error| StoreError::Unavailable(error.to_string()))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Others shall hear of it, if there is something in it for them.
    pub fn notify_others_of(&self, commands: &[Command], outcomes: &[Result<Answer, Rejection>]) {
        let is_news = commands.iter().zip(outcomes).any(|(command, outcome)| is_news(command, outcome));
        if is_news && !self.shared.has_news.swap(true, Ordering::AcqRel) {
            self.shared.wake.notify_one();
        }
    }

    /// Says that the database went back, if it did: whoever finds out says so at once.
    pub fn emit_rollback(&self) {
        self.shared.emit_rollback();
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        *self.shared.is_closed.lock() = true;
        self.shared.closing.notify_all();
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.take()
            && !self.shared.is_connecting.load(Ordering::Acquire)
        {
            thread.join_for(CLOSE_TIMEOUT);
        }
    }
}

impl Shared {
    fn is_closed(&self) -> bool {
        *self.is_closed.lock()
    }

    fn listen(&self) {
        while !self.is_closed() {
            // What is wrong is said by those who want something of the database; here it is only tried again.
            let _ = self.attend();
            let mut is_closed = self.is_closed.lock();
            if !*is_closed {
                self.closing.wait_for(&mut is_closed, TICK);
            }
        }
    }

    /// Until it is closed, or the connection is cut.
    fn attend(&self) -> Result<(), PgError> {
        self.is_connecting.store(true, Ordering::Release);
        let connected = self.connect();
        self.is_connecting.store(false, Ordering::Release);
        let connection = connected?;
        if self.is_closed() {
            return Ok(());
        }
        // Whatever happened while nobody listened.
        self.compare(&connection)?;
        self.listener.on_change();
        while !self.is_closed() && !connection.is_closed() {
            connection.wait_for(&self.wake, TICK);
            if self.has_news.swap(false, Ordering::AcqRel) {
                let channel = channel(&self.server);
                connection.with(async |session| session.script(&format!("NOTIFY {channel}")).await)?;
                connection.idle(GATHERING);
            }
            self.listener.may_set_clock(&|| {
                let time = connection.with(async |session| session.time().await);
                time.map_err(|error| error.into_store_error(&self.server))
            });
        }
        Ok(())
    }

    /// A connection that was cut may lead to another server now.
    fn compare(&self, connection: &Connection) -> Result<(), PgError> {
        let before = self.counters.seen();
        let found = connection.with(async |session| session.commit_counts().await)?;
        self.counters.note(&before, &found);
        self.emit_rollback();
        Ok(())
    }

    fn emit_rollback(&self) {
        if self.counters.take_rollback() {
            self.listener.on_rollback();
        }
    }

    fn connect(&self) -> Result<Connection, PgError> {
        // Our own notifications come back with the answer to `NOTIFY`.
        let own = Arc::new(AtomicI32::new(0));
        let handler = || -> Option<NotificationHandler> {
            let (listener, own) = (Arc::clone(&self.listener), Arc::clone(&own));
            Some(Box::new(move |message| {
                if let AsyncMessage::Notification(heard) = message
                    && heard.process_id() != own.load(Ordering::Acquire)
                {
                    listener.on_change();
                }
            }))
        };
        let (connection, is_server) = Connection::open(&self.server, handler)?;
        if is_server {
            connection.with(async |session| session.script(NO_IDLE_LIMIT).await)?;
            own.store(connection.process().unwrap_or(0), Ordering::Release);
            let channel = channel(&self.server);
            connection.with(async |session| session.script(&format!("LISTEN {channel}")).await)?;
        } else if !self.is_pooler_reported.swap(true, Ordering::AcqRel) {
            self.listener.on_advice(&format!(
                "the database `{}` is reached through a connection pooler, which passes no notifications \
                 on: what other processes change is noticed by asking",
                self.server.name()
            ));
        }
        Ok(connection)
    }
}

/// Whether other processes have something to do, or to see, because of it. What is recorded of runs under way concerns
/// nobody else.
fn is_news(command: &Command, outcome: &Result<Answer, Rejection>) -> bool {
    let Ok(answer) = outcome else { return false };
    match command {
        Command::UpsertSchedules(_)
        | Command::PatchSchedule { .. }
        | Command::DeleteSchedule { .. }
        | Command::CancelRun { .. }
        | Command::RetryRun { .. }
        | Command::WakeParents { .. }
        | Command::ExpireWorker { .. }
        | Command::DeregisterWorker { .. } => true,
        Command::CreateRun(_) => !matches!(answer, Answer::Created { claimed: Some(_), .. }),
        // What the worker had no room for is for others.
        Command::Fire { plan, .. } => plan.runs.iter().any(|run| run.admission == Admission::Queue),
        Command::CompleteRun { .. } => {
            matches!(answer, Answer::Ended { state, released } if *released || !state.is_finished())
        }
        Command::RegisterWorker(_)
        | Command::Reconcile { .. }
        | Command::Heartbeat { .. }
        | Command::UncountInterruptions { .. }
        | Command::ClaimRuns { .. }
        | Command::RecordStep { .. }
        | Command::Prune { .. } => false,
    }
}

/// One for each schema: notifications go to all of a database. Names are cut at 63 bytes, the same on both sides.
fn channel(server: &ServerConfig) -> String {
    let mut name = format!("polos {}", server.schema());
    while name.len() > 63 {
        name.pop();
    }
    super::config::quoted(&name)
}
