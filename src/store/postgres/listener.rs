//! Hearing of other processes' commits sooner than by asking, and telling them of ours.
//!
//! A hint and nothing more: who hears nothing finds everything by asking ([`crate::store::Store::change_mark`]). So
//! notifications are sent behind the commits, gathered, by a connection of their own: inside of a commit they would make
//! all commits of the server wait for each other.

use super::commit_counters::Counters;
use super::config::Address;
use super::connect::Hearer;
use super::connection::{Link, NO_IDLE_LIMIT};
use super::error::Trouble;
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
pub trait Listener: Send + Sync + 'static {
    /// Somebody else committed something. It may come late, twice, or not at all.
    fn hears_of_change(&self);
    /// The database has become an older one: what was committed last is gone. Told once for each time.
    fn hears_of_setback(&self);
    /// Something that a person should know.
    fn is_told(&self, what: &str);
    /// Every second: `ask` gives the time by the database's clock.
    fn may_set_clock(&self, ask: &dyn Fn() -> Result<Timestamp, StoreError>);
}

/// The thread that hears.
pub(super) struct Ear {
    shared: Arc<Shared>,
    thread: Option<Thread>,
}

struct Shared {
    address: Arc<Address>,
    listener: Arc<dyn Listener>,
    counters: Arc<Counters>,
    has_news: AtomicBool,
    wake: Notify,
    is_closed: Mutex<bool>,
    closing: Condvar,
    /// A pooler is in between, and that was said.
    is_pooler_told: AtomicBool,
    /// Nobody waits for what may take as long as the network likes.
    is_connecting: AtomicBool,
}

impl Ear {
    pub fn open(
        address: Arc<Address>,
        listener: Arc<dyn Listener>,
        counters: Arc<Counters>,
    ) -> Result<Self, StoreError> {
        let shared = Arc::new(Shared {
            address,
            listener,
            counters,
            has_news: AtomicBool::new(false),
            wake: Notify::new(),
            is_closed: Mutex::new(false),
            closing: Condvar::new(),
            is_pooler_told: AtomicBool::new(false),
            is_connecting: AtomicBool::new(false),
        });
        let attentive = Arc::clone(&shared);
        let thread = Thread::spawn("polos-listener", move || attentive.listen())
            .map_err(|error| StoreError::Unavailable(error.to_string()))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Others shall hear of it, if there is something in it for them.
    pub fn tell_others_of(&self, commands: &[Command], outcomes: &[Result<Answer, Rejection>]) {
        let is_news = commands.iter().zip(outcomes).any(|(command, outcome)| is_news(command, outcome));
        if is_news && !self.shared.has_news.swap(true, Ordering::AcqRel) {
            self.shared.wake.notify_one();
        }
    }

    /// Says that the database went back, if it did: whoever finds out says so at once.
    pub fn tell_of_setback(&self) {
        self.shared.tell_of_setback();
    }
}

impl Drop for Ear {
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
    fn attend(&self) -> Result<(), Trouble> {
        self.is_connecting.store(true, Ordering::Release);
        let connected = self.connect();
        self.is_connecting.store(false, Ordering::Release);
        let link = connected?;
        if self.is_closed() {
            return Ok(());
        }
        // Whatever happened while nobody listened.
        self.compare(&link)?;
        self.listener.hears_of_change();
        while !self.is_closed() && !link.is_closed() {
            link.wait_for(&self.wake, TICK);
            if self.has_news.swap(false, Ordering::AcqRel) {
                let channel = channel(&self.address);
                link.with(async |session| session.script(&format!("NOTIFY {channel}")).await)?;
                link.idle(GATHERING);
            }
            self.listener.may_set_clock(&|| {
                let time = link.with(async |session| session.time().await);
                time.map_err(|trouble| trouble.told(&self.address))
            });
        }
        Ok(())
    }

    /// A connection that was cut may lead to another server now.
    fn compare(&self, link: &Link) -> Result<(), Trouble> {
        let before = self.counters.seen();
        let found = link.with(async |session| session.commit_counts().await)?;
        self.counters.note(&before, &found);
        self.tell_of_setback();
        Ok(())
    }

    fn tell_of_setback(&self) {
        if self.counters.take_setback() {
            self.listener.hears_of_setback();
        }
    }

    fn connect(&self) -> Result<Link, Trouble> {
        // Our own notifications come back with the answer to `NOTIFY`.
        let own = Arc::new(AtomicI32::new(0));
        let hearer = || -> Option<Hearer> {
            let (listener, own) = (Arc::clone(&self.listener), Arc::clone(&own));
            Some(Box::new(move |message| {
                if let AsyncMessage::Notification(heard) = message
                    && heard.process_id() != own.load(Ordering::Acquire)
                {
                    listener.hears_of_change();
                }
            }))
        };
        let (link, is_server) = Link::open(&self.address, hearer)?;
        if is_server {
            link.with(async |session| session.script(NO_IDLE_LIMIT).await)?;
            own.store(link.process().unwrap_or(0), Ordering::Release);
            let channel = channel(&self.address);
            link.with(async |session| session.script(&format!("LISTEN {channel}")).await)?;
        } else if !self.is_pooler_told.swap(true, Ordering::AcqRel) {
            self.listener.is_told(&format!(
                "the database `{}` is reached through a connection pooler, which passes no notifications \
                 on: what other processes change is noticed by asking",
                self.address.name()
            ));
        }
        Ok(link)
    }
}

/// Whether other processes have something to do, or to see, because of it. What is recorded of runs under way concerns
/// nobody else.
fn is_news(command: &Command, outcome: &Result<Answer, Rejection>) -> bool {
    let Ok(answer) = outcome else { return false };
    match command {
        Command::PutSchedules(_)
        | Command::PatchSchedule { .. }
        | Command::DeleteSchedule { .. }
        | Command::CancelRun { .. }
        | Command::RetryRun { .. }
        | Command::WakeParents { .. }
        | Command::BuryWorker { .. }
        | Command::LeaveWorker { .. } => true,
        Command::CreateRun(_) => !matches!(answer, Answer::Created { claimed: Some(_), .. }),
        // What the worker had no room for is for others.
        Command::Fire { plan, .. } => plan.runs.iter().any(|run| run.admission == Admission::Queue),
        Command::EndRun { .. } => {
            matches!(answer, Answer::Ended { state, released } if *released || !state.is_finished())
        }
        Command::EnterWorker(_)
        | Command::Reconcile { .. }
        | Command::Beat { .. }
        | Command::UncountInterruptions { .. }
        | Command::ClaimRuns { .. }
        | Command::RecordStep { .. }
        | Command::Sweep { .. } => false,
    }
}

/// One for each schema: notifications go to all of a database. Names are cut at 63 bytes, the same on both sides.
fn channel(address: &Address) -> String {
    let mut name = format!("polos {}", address.schema());
    while name.len() > 63 {
        name.pop();
    }
    super::config::quoted(&name)
}
