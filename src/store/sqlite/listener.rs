//! Wakes workers when another process commits to the file.
//!
//! Best effort: polling [`crate::store::StoreReads::change_mark`] finds everything anyway. Every
//! commit writes to the log, and Linux reports each write to the watchers of a file (inotify). It
//! reports writes of their own process too, and each write before the commit can be read. So after
//! a write, this thread checks for a while whether others have committed.

use super::pool::Lane;
use crate::thread::Thread;
use rusqlite::Connection;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fd::OwnedFd;
use rustix::fs::inotify;
use rustix::io::{Errno, write};
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::time::Duration;

/// How much longer than [`LOOK_GAP`] the pauses between looks after a write are, in milliseconds:
/// most commits reach the disk within a few, and some take much longer. After the last one, polling
/// has found it.
const PAUSES: [u64; 15] = [0, 0, 0, 0, 0, 0, 0, 0, 1, 3, 7, 15, 31, 63, 127];

/// The workers are woken at most this often: each time they read what has changed.
const GAP: Duration = Duration::from_millis(10);

/// The pause after a look that found nothing. Without it, a process that commits thousands of times
/// a second would look as often, and each look needs the connection that commits.
const LOOK_GAP: Duration = Duration::from_millis(1);

/// The same while this process commits too: most of the writes are its own then.
const OWN_LOOK_GAP: Duration = GAP;

/// How long closing waits for the thread, which may wait for a commit.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

/// The thread that watches the log.
pub(super) struct Listener {
    closing: Arc<OwnedFd>,
    thread: Option<Thread>,
}

impl Listener {
    /// Starts to watch; `on_change` is called on a thread of its own after others have committed.
    /// The call may come late, twice, or not at all.
    pub fn open(writer: Arc<Lane>, on_change: Box<dyn Fn() + Send>) -> std::io::Result<Self> {
        let events = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        watch_next_write(&events, &writer)?;
        let closing = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let mut watch = Watch {
            writer,
            on_change,
            events,
            closing: Arc::clone(&closing),
            seen: None,
            // The first look must succeed: there is nothing to compare with yet.
            has_skipped: true,
            uses: 0,
        };
        watch.has_changed();
        let thread = Thread::spawn("polos-listener", move || watch.listen())?;
        Ok(Self { closing, thread: Some(thread) })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = write(&*self.closing, &1_u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            thread.join_for(CLOSE_TIMEOUT);
        }
    }
}

/// What the thread uses.
struct Watch {
    /// A connection does not count its own commits as changes, and all of this process's commits go
    /// through this one.
    writer: Arc<Lane>,
    on_change: Box<dyn Fn() + Send>,
    events: OwnedFd,
    closing: Arc<OwnedFd>,
    seen: Option<i64>,
    /// Whether the last look was left out because the connection was in use. Waiting for it delays
    /// the next commit of this process, so at most every other look waits.
    has_skipped: bool,
    /// How often the connection had been used at the last look.
    uses: u64,
}

impl Watch {
    fn listen(&mut self) {
        let mut pauses = [].iter();
        loop {
            let pause = pauses.next().copied().map(Duration::from_millis);
            let Some(has_news) = self.wait(pause) else { return };
            let gap = if self.has_own_commits() { OWN_LOOK_GAP } else { LOOK_GAP };
            if self.has_changed() {
                (self.on_change)();
                if self.is_closed_within(GAP) {
                    return;
                }
                pauses = PAUSES.iter();
            } else {
                if has_news {
                    pauses = PAUSES.iter();
                }
                if self.is_closed_within(gap) {
                    return;
                }
            }
        }
    }

    /// Whether this process has used the connection since the last look.
    fn has_own_commits(&mut self) -> bool {
        let uses = self.writer.uses();
        std::mem::replace(&mut self.uses, uses) != uses
    }

    /// Whether others have committed since the last look.
    fn has_changed(&mut self) -> bool {
        let look = |connection: &Connection| {
            connection.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))
        };
        let version = if self.has_skipped {
            self.uses += 1;
            Some(self.writer.with(look))
        } else {
            self.writer.with_unused(look)
        };
        self.has_skipped = version.is_none();
        // While the file can't be read, its users report it.
        let Some(Ok(version)) = version else { return false };
        self.seen.replace(version) != Some(version)
    }

    /// Waits for a write to the log, for `limit` at most. Returns whether there was one; `None` if
    /// the store is closing.
    fn wait(&self, limit: Option<Duration>) -> Option<bool> {
        let mut polled =
            [PollFd::new(&self.events, PollFlags::IN), PollFd::new(&*self.closing, PollFlags::IN)];
        match poll(&mut polled, limit.map(timespec).as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return None,
        }
        if !polled[1].revents().is_empty() {
            return None;
        }
        let mut has_news = false;
        let mut space = [MaybeUninit::uninit(); 512];
        let mut events = inotify::Reader::new(&self.events, &mut space);
        while let Ok(event) = events.next() {
            has_news |= event.events().contains(inotify::ReadFlags::MODIFY);
        }
        if has_news {
            // Before the look that follows, so that nothing is missed. If the log is gone, its
            // users report it.
            let _ = watch_next_write(&self.events, &self.writer);
        }
        Some(has_news)
    }

    fn is_closed_within(&self, limit: Duration) -> bool {
        let mut polled = [PollFd::new(&*self.closing, PollFlags::IN)];
        poll(&mut polled, Some(&timespec(limit))).is_ok_and(|count| count > 0)
    }
}

/// Has the next write to the log reported, and none after it: a report of every write would cost
/// whoever writes as much as the write itself.
fn watch_next_write(events: &OwnedFd, writer: &Lane) -> rustix::io::Result<()> {
    let once = inotify::WatchFlags::MODIFY | inotify::WatchFlags::ONESHOT;
    inotify::add_watch(events, writer.file().log(), once).map(drop)
}

fn timespec(duration: Duration) -> Timespec {
    // No limit here is longer than a second.
    Timespec { tv_sec: 0, tv_nsec: i64::from(duration.subsec_nanos()) }
}
