//! LISTEN/NOTIFY: wakes workers when another process commits.
//!
//! Best effort: polling [`crate::store::StoreReads::change_mark`] finds everything anyway.
//! Notifications are sent after the commits, gathered, on a connection of their own. Inside of a
//! commit they would make all commits of the server wait for each other.

use super::awaited_ends::{AwaitedEnds, ends_channel, runs_in, waits_channel};
use super::commit_counters::CommitCounters;
use super::config::ServerConfig;
use super::connect::NotificationHandler;
use super::connection::{Connection, NO_IDLE_LIMIT};
use super::error::PgError;
use super::pool::Pool;
use crate::calendar::Timestamp;
use crate::model::RunId;
use crate::store::{Answer, Command, Effect, Rejection, StoreError};
use crate::sync::{Condvar, Mutex};
use crate::thread::Thread;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio_postgres::AsyncMessage;

/// Commits within this time share one notification.
const GATHERING: Duration = Duration::from_millis(10);

/// How often to check whether the clock has to be set.
const TICK: Duration = Duration::from_secs(1);

/// How long closing waits for the thread, which may hang in a server that does not answer.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

/// Receives what the listener notices, on a thread of the store.
pub trait ChangeObserver: Send + Sync + 'static {
    /// Another process committed something. The call may come late, twice, or not at all.
    fn on_change(&self);
    /// Runs that this process waits for have ended. The call may come late, twice, or not at all.
    fn on_ends(&self, _runs: &[RunId]) {}
    /// The database was restored to an earlier state: its last commits are gone. Called once each
    /// time.
    fn on_rollback(&self);
    /// Something that an operator should know.
    fn on_advice(&self, what: &str);
    /// Called every second; `ask` returns the time by the database's clock.
    fn may_set_clock(&self, ask: &dyn Fn() -> Result<Timestamp, StoreError>);
}

/// More commits within a second than this keep the connection for commits busy.
const QUIET_COMMITS_MAX: u32 = 10;

/// What the thread knows for others.
#[derive(Default)]
pub(super) struct Attention {
    is_listening: AtomicBool,
    /// Commits since the last second began.
    commits: AtomicU32,
    /// Commits within the second before.
    commits_before: AtomicU32,
}

impl Attention {
    /// Whether commits of other processes are noticed at once.
    pub fn is_listening(&self) -> bool {
        self.is_listening.load(Ordering::Acquire)
    }

    /// Records a commit.
    pub fn note_commit(&self) {
        self.commits.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether the connection for commits is free most of the time. Not known without listening.
    pub fn is_quiet(&self) -> bool {
        let commits = self.commits.load(Ordering::Relaxed).max(self.commits_before.load(Ordering::Relaxed));
        self.is_listening() && commits <= QUIET_COMMITS_MAX
    }

    fn note_second(&self) {
        self.commits_before.store(self.commits.swap(0, Ordering::Relaxed), Ordering::Relaxed);
    }
}

/// The thread that listens.
pub(super) struct Listener {
    shared: Arc<Shared>,
    thread: Option<Thread>,
}

struct Shared {
    server: Arc<ServerConfig>,
    listener: Arc<dyn ChangeObserver>,
    counters: Arc<CommitCounters>,
    has_news: AtomicBool,
    /// Whether `awaited_ends` has something to send.
    has_ends: AtomicBool,
    awaited_ends: Arc<AwaitedEnds>,
    wake: Notify,
    is_closed: Mutex<bool>,
    closing: Condvar,
    /// Whether it was reported that a pooler is in between.
    is_pooler_reported: AtomicBool,
    readers: Arc<Pool>,
    attention: Arc<Attention>,
    /// Set while it connects, which may take as long as the network likes: closing does not wait
    /// for it.
    is_connecting: AtomicBool,
}

impl Listener {
    pub fn open(
        server: Arc<ServerConfig>,
        listener: Arc<dyn ChangeObserver>,
        counters: Arc<CommitCounters>,
        readers: Arc<Pool>,
        attention: Arc<Attention>,
    ) -> Result<Self, StoreError> {
        let shared = Arc::new(Shared {
            server,
            listener,
            counters,
            readers,
            attention,
            has_news: AtomicBool::new(false),
            has_ends: AtomicBool::new(false),
            awaited_ends: Arc::default(),
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

    /// Notifies other processes of these commands, if the commands concern them.
    pub fn notify_others_of(&self, commands: &[Command], outcomes: &[Result<Answer, Rejection>]) {
        let is_news = commands.iter().zip(outcomes).any(|(command, outcome)| {
            outcome.as_ref().is_ok_and(|answer| command.effect(Some(answer)) != Effect::Nothing)
        });
        let is_new = is_news && !self.shared.has_news.swap(true, Ordering::AcqRel);
        if self.shared.awaited_ends.note_commit(commands, outcomes) {
            self.shared.send_ends();
        } else if is_new {
            self.shared.wake.notify_one();
        }
    }

    /// Asks other processes to tell when these runs have ended.
    pub fn ask_for_ends(&self, runs: &[RunId]) {
        if self.shared.attention.is_listening() && self.shared.awaited_ends.ask(runs) {
            self.shared.send_ends();
        }
    }

    /// Reports a rollback of the database, unless another thread has reported it.
    pub fn emit_rollback(&self) {
        self.shared.emit_rollback();
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        *self.shared.is_closed.lock() = true;
        self.shared.attention.is_listening.store(false, Ordering::Release);
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
    fn send_ends(&self) {
        self.has_ends.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    fn is_closed(&self) -> bool {
        *self.is_closed.lock()
    }

    fn listen(&self) {
        while !self.is_closed() {
            // Requests report what is wrong with the database. Here it is only tried again.
            let _ = self.attend();
            self.attention.is_listening.store(false, Ordering::Release);
            let mut is_closed = self.is_closed.lock();
            if !*is_closed {
                self.closing.wait_for(&mut is_closed, TICK);
            }
        }
    }

    /// Listens until it is closed or the connection is cut.
    fn attend(&self) -> Result<(), PgError> {
        self.is_connecting.store(true, Ordering::Release);
        let connected = self.connect();
        self.is_connecting.store(false, Ordering::Release);
        let connection = connected?;
        let is_listening = connection.process().is_some();
        if self.is_closed() {
            return Ok(());
        }
        // Commits may have happened while nothing listened.
        self.compare(&connection)?;
        self.attention.is_listening.store(is_listening, Ordering::Release);
        self.listener.on_change();
        while !self.is_closed() && !connection.is_closed() {
            if !connection.wait_for(&self.wake, TICK) {
                self.readers.note_second();
                self.attention.note_second();
            }
            if !is_listening {
                // Commits of polos are counted, and so noticed by asking. A transaction of an
                // application is not, since its counter would stay locked until it ends.
                self.listener.on_change();
            }
            let mut news = Vec::new();
            // In this order: who hears of a commit has heard of the waits before it.
            let has_news = self.has_news.swap(false, Ordering::AcqRel);
            if self.has_ends.swap(false, Ordering::AcqRel) {
                news = self.awaited_ends.take_notifications(self.server.schema());
            }
            if has_news {
                news.push(format!("NOTIFY {}", channel(&self.server)));
            }
            if !news.is_empty() {
                connection.with(async |session| session.script(&news.join("; ")).await)?;
                connection.idle(GATHERING);
            }
            self.listener.may_set_clock(&|| {
                let time = connection.with(async |session| session.time().await);
                time.map_err(|error| error.into_store_error(&self.server))
            });
        }
        Ok(())
    }

    /// After a cut, the connection may lead to another server.
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

    /// Connects, and listens if the other end passes notifications on.
    fn connect(&self) -> Result<Connection, PgError> {
        // Our own notifications come back with the answer to `NOTIFY`.
        let own = Arc::new(AtomicI32::new(0));
        let (listener, myself, ends) =
            (Arc::clone(&self.listener), Arc::clone(&own), Arc::clone(&self.awaited_ends));
        let (waits, news) = (waits_channel(self.server.schema()), channel_name(self.server.schema()));
        let handler: NotificationHandler = Box::new(move |message| {
            let AsyncMessage::Notification(heard) = message else { return };
            if heard.process_id() == myself.load(Ordering::Acquire) {
                return;
            }
            if heard.channel() == waits {
                ends.note_waits(heard.process_id(), heard.payload());
            } else if heard.channel() == news {
                listener.on_change();
            } else {
                listener.on_ends(&runs_in(heard.payload()).collect::<Vec<_>>());
            }
        });
        let connection = Connection::open(&self.server, Some(handler))?;
        if let Some(process) = connection.process() {
            connection.with(async |session| session.script(NO_IDLE_LIMIT).await)?;
            own.store(process, Ordering::Release);
            let ends = ends_channel(process);
            let names = [channel_name(self.server.schema()), waits_channel(self.server.schema()), ends];
            let listen: Vec<_> =
                names.iter().map(|name| format!("LISTEN {}", super::config::quoted(name))).collect();
            connection.with(async |session| session.script(&listen.join("; ")).await)?;
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

/// The channel's name. Each schema has one, because notifications go to all of a database. The name
/// is cut at 63 bytes, on both sides alike.
pub(super) fn channel_name(schema: &str) -> String {
    cut(format!("polos {schema}"))
}

/// The name of a channel as the server keeps it.
pub(super) fn cut(mut name: String) -> String {
    while name.len() > 63 {
        name.pop();
    }
    name
}

/// The same, quoted for SQL.
fn channel(server: &ServerConfig) -> String {
    super::config::quoted(&channel_name(server.schema()))
}
