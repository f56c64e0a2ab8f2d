//! Runs requests and answers each exactly once.

use super::delayed::DelayedReplies;
use super::events::{self, Receiver as EventReceiver};
use super::request::Request;
#[cfg(all(feature = "sqlite", feature = "postgres"))]
use super::run_waiters::WaitHints;
use super::run_waiters::{Awaited, RunWaiters, WaitId};
use super::starts::Invocation;
use super::{
    backfills, calendars, entry, limits, overview, runs, schedule_runs, schedules, skips, transactions,
};
use crate::calendar::Timestamp;
use crate::clock::Now;
use crate::engine::PermitPools;
use crate::engine::group_commit::{GroupCommit, Job};
use crate::error::Error;
use crate::store::{Command, Outcome, StoreError, StoreReads};
use crate::sync::Mutex;
use crate::thread::Thread;
use crossbeam_channel::{Receiver, Sender};
use std::sync::Arc;
use std::time::Duration;

/// A response: JSON text.
pub type Reply = Result<String, Error>;

/// Called once with the response, on a thread of the service: it must not block.
pub type Done = Box<dyn FnOnce(Reply) + Send>;

/// Makes the response from the outcomes of commands, and says how long it must wait.
type DelayedFinish = Box<dyn FnOnce(Vec<Outcome>) -> Result<(String, Duration), Error> + Send>;

/// What a request needs after its checks and reads.
pub(super) enum NextStep {
    /// Nothing: this is the response.
    Answered(String),
    /// Commit the commands, then make the response from the outcomes.
    Commit(Vec<Command>, Box<dyn FnOnce(Vec<Outcome>) -> Reply + Send>),
    /// Commit the commands, then respond after the time that follows from the outcomes.
    CommitAndWait(Vec<Command>, DelayedFinish),
    /// Respond when this has happened.
    Await(Awaited),
}

/// What the handlers of requests share.
pub(super) struct RequestContext {
    pub reads: Arc<dyn StoreReads>,
    pub writes: GroupCommit,
    pub project: Arc<str>,
    pub permit_pools: Arc<PermitPools>,
    pub delayed: Arc<DelayedReplies>,
}

impl RequestContext {
    pub fn now(&self) -> Timestamp {
        self.now_by_both_clocks().wall
    }

    pub fn now_by_both_clocks(&self) -> Now {
        self.writes.clock().now()
    }

    #[expect(clippy::too_many_lines, reason = "one table of all requests")]
    fn begin(&self, request: Request) -> Result<NextStep, Error> {
        match request {
            Request::Create { drafts, local_workflows } => schedules::create(self, drafts, &local_workflows),
            Request::Put { drafts, local_workflows } => schedules::put(self, drafts, &local_workflows),
            Request::GetSchedule { id } => schedules::get(self, &id),
            Request::ListSchedules {
                workflow,
                key,
                status,
                owner,
                key_prefix,
                tags,
                limit,
                after,
                after_key,
            } => {
                let filter = crate::store::ScheduleFilter { workflow, key, status, owner, key_prefix, tags };
                schedules::list(self, &filter, limit, after, after_key)
            }
            Request::Coming { until, limit } => schedules::coming(self, until, limit),
            Request::History { id, limit, after } => schedules::history(self, &id, limit, after),
            Request::Upcoming { id, count } => schedules::upcoming(self, &id, count),
            Request::Update { id, changes, input, tags } => {
                let input = input.as_ref().map(|input| input.set.as_deref());
                schedules::update(self, &id, &changes, input, tags.as_ref())
            }
            Request::Pause { id, note } => schedules::pause(self, &id, note.as_deref()),
            Request::Resume { id, catch_up } => schedules::resume(self, &id, catch_up),
            Request::Skip { id, count, at } => {
                skips::skip(self, &id, at.map_or(skips::Which::Next(count), skips::Which::At))
            }
            Request::Unskip { id, at } => skips::unskip(self, &id, at),
            Request::Reset { id } => schedules::reset(self, &id),
            Request::Delete { id } => Ok(entry::delete(self, &id)),
            Request::Trigger { id, applies_overlap, input } => {
                schedule_runs::trigger(self, &id, applies_overlap, input.as_ref())
            }
            Request::Backfill { id, start, end, dry_run, limit, concurrency } => {
                let how = schedule_runs::HowToBackfill { dry_run, limit, concurrency };
                schedule_runs::backfill(self, &id, start, end, &how)
            }
            Request::GetBackfill { id } => backfills::get(self, &id),
            Request::ListBackfills {} => backfills::list(self),
            Request::CancelBackfill { id } => backfills::cancel(self, &id),
            Request::Invoke {
                workflow,
                payload,
                idempotency_key,
                parent,
                is_local,
                local_workflows,
                start,
            } => {
                let invocation = Invocation { payload, idempotency_key, start };
                let (new, debounce) =
                    runs::invoked(self, &workflow, invocation, parent, runs::random_number());
                runs::invoke(self, new, debounce, is_local, &local_workflows)
            }
            Request::InvokeMany { workflow, runs, is_local, local_workflows } => {
                runs::invoke_many(self, &workflow, runs, is_local, &local_workflows)
            }
            Request::InvokeIn { workflow, payload, idempotency_key, is_local, local_workflows, start } => {
                let invocation = Invocation { payload, idempotency_key, start };
                transactions::create_run(self, &workflow, invocation, is_local, &local_workflows)
            }
            Request::CreateIn { drafts, local_workflows } => {
                transactions::create_schedule(self, drafts, &local_workflows)
            }
            Request::GetRun { id } => runs::get(self, &id),
            Request::ListRuns { workflow, key, schedule, states, since, error, limit, after, brief } => {
                let schedule = schedule.as_deref().map(crate::model::ScheduleId::from);
                runs::list(
                    self,
                    crate::store::RunFilter { workflow, key, schedule, states, since, error },
                    limit,
                    after,
                    brief,
                )
            }
            Request::RemarkableRuns { limit } => runs::remarkable(self, limit),
            Request::CancelRun { id } => Ok(runs::cancel(self, &id)),
            Request::RetryRun { id } => Ok(runs::retry(self, &id)),
            Request::AwaitRun { id } => Ok(NextStep::Await(Awaited::End(id.as_str().into()))),
            Request::AwaitStep { run, name } => Ok(NextStep::Await(Awaited::Step(run.as_str().into(), name))),
            Request::SendEvent { run, workflow, key, name, payload, idempotency_key } => {
                let receiver = EventReceiver::of(run.as_deref(), workflow.as_ref(), key.as_ref())?;
                events::send(self, &receiver, &name, &payload, idempotency_key)
            }
            Request::ClaimStands { run, token } => runs::claim_stands(self, &run, token),
            Request::MayEnter { claims } => entry::may_enter(self, claims),
            Request::CancelRequested { id } => runs::cancel_requested(self, &id),
            Request::PreviousResult { schedule_id, before } => {
                runs::previous_result(self, &schedule_id, &before)
            }
            Request::ListLimits { count_to, workflow, key } => {
                limits::list(self, count_to, workflow.as_ref(), key.as_deref())
            }
            Request::DeleteLimit { name } => Ok(limits::delete(self, &name)),
            Request::SetLimit { name, changes } => Ok(limits::set(self, &name, changes.as_ref())),
            Request::ListCalendars {} => calendars::list(self),
            Request::GetCalendar { name } => calendars::get(self, &name),
            Request::SetCalendar { name, dates } => calendars::set(self, &name, &dates),
            Request::DeleteCalendar { name } => calendars::delete(self, &name),
            Request::Workers {} => overview::workers(self),
            Request::StuckParents { look_at } => overview::stuck_parents(self, look_at),
            Request::Overview { count_to } => overview::overview(self, count_to),
        }
    }
}

/// Accepts the requests of one project.
pub struct Service {
    context: Arc<RequestContext>,
    waiters: Arc<RunWaiters>,
    /// `None` once closed.
    queue: Mutex<Option<Sender<(Request, Done)>>>,
    thread: Mutex<Option<Thread>>,
}

impl Service {
    /// Starts a thread that runs the reads of callers that don't block.
    pub fn open(
        writes: GroupCommit,
        project: Arc<str>,
        permit_pools: Arc<PermitPools>,
    ) -> std::io::Result<Self> {
        let waiters = RunWaiters::start(&writes, Arc::clone(&project))?;
        let (reads, delayed) = (writes.reads(), Arc::new(DelayedReplies::new(Arc::clone(writes.clock()))));
        let context = Arc::new(RequestContext { reads, writes, project, permit_pools, delayed });
        let (queue, requests) = crossbeam_channel::unbounded();
        let (thread_context, thread_waiters) = (Arc::clone(&context), Arc::clone(&waiters));
        let thread =
            Thread::spawn("polos-service", move || serve(&thread_context, &thread_waiters, &requests))?;
        Ok(Self { context, waiters, queue: Mutex::new(Some(queue)), thread: Mutex::new(Some(thread)) })
    }

    /// Answers later, from another thread. A request that waits for a run to finish may stay
    /// unanswered for as long as the run takes; its id is returned for [`Self::withdraw`].
    pub fn submit(&self, request: Request, done: Done) -> Option<WaitId> {
        let queue = self.queue.lock().clone();
        let refused = match queue {
            Some(_) if reads_nothing(&request) => {
                return handle(&self.context, &self.waiters, request, done);
            }
            Some(queue) => queue.send((request, done)).err().map(|refused| refused.into_inner().1),
            None => Some(done),
        };
        if let Some(done) = refused {
            done(Err(StoreError::Closed.into()));
        }
        None
    }

    /// Forgets a request whose caller has given up; see [`RunWaiters::withdraw`].
    pub fn withdraw(&self, wait: WaitId) {
        self.waiters.withdraw(wait);
    }

    /// The callers that wait for a run to finish, for whoever notices changes.
    #[cfg(all(feature = "sqlite", feature = "postgres"))]
    pub(super) fn waits(&self) -> WaitHints {
        WaitHints::of(&self.waiters)
    }

    /// Number of callers that wait for a run to finish.
    pub fn wait_count(&self) -> usize {
        self.waiters.count()
    }

    /// Answers on the calling thread, which blocks. `timeout` bounds only the wait for a run to
    /// finish.
    pub fn call(&self, request: Request, timeout: Option<Duration>) -> Result<Option<String>, Error> {
        let (done, answer) = answer_channel();
        let wait = handle(&self.context, &self.waiters, request, done);
        match timeout {
            None => answer.recv().unwrap_or(Err(StoreError::Closed.into())).map(Some),
            Some(timeout) => self.received_within(&answer, timeout, wait),
        }
    }

    /// Answers within `limit` even if the database hangs, because another thread reads it. `None`
    /// if there is no answer by then.
    pub fn call_within(&self, request: Request, limit: Duration) -> Result<Option<String>, Error> {
        let (done, answer) = answer_channel();
        let wait = self.submit(request, done);
        self.received_within(&answer, limit, wait)
    }

    fn received_within(
        &self,
        answer: &Receiver<Reply>,
        limit: Duration,
        wait: Option<WaitId>,
    ) -> Result<Option<String>, Error> {
        match answer.recv_timeout(limit) {
            Ok(reply) => reply.map(Some),
            Err(crossbeam_channel::RecvTimeoutError::Timeout) => {
                if let Some(wait) = wait {
                    self.withdraw(wait);
                }
                Ok(None)
            }
            Err(crossbeam_channel::RecvTimeoutError::Disconnected) => Err(StoreError::Closed.into()),
        }
    }

    /// Ends the threads, so that they no longer keep the store open; open waits fail with `Closed`.
    /// A thread that hangs in the database is abandoned after `limit`. Returns whether all threads
    /// have ended.
    pub fn close_within(&self, limit: Duration) -> bool {
        drop(self.queue.lock().take());
        let has_watcher_ended = self.waiters.close_within(limit);
        let thread = self.thread.lock().take();
        // Both threads hang in the same database: a second full wait would be in vain.
        let rest = if has_watcher_ended { limit } else { Duration::ZERO };
        let has_ended = thread.is_none_or(|thread| thread.join_for(rest)) && has_watcher_ended;
        self.context.delayed.close();
        has_ended
    }
}

fn answer_channel() -> (Done, Receiver<Reply>) {
    let (sender, receiver) = crossbeam_channel::bounded(1);
    let done: Done = Box::new(move |reply| {
        // A caller that gave up waiting has dropped the other end.
        let _ = sender.send(reply);
    });
    (done, receiver)
}

fn serve(context: &RequestContext, waiters: &RunWaiters, requests: &Receiver<(Request, Done)>) {
    for (request, done) in requests {
        handle(context, waiters, request, done);
    }
}

/// Whether starting the request takes a few microseconds and no read: handing it to the service's
/// thread would take longer.
fn reads_nothing(request: &Request) -> bool {
    match request {
        Request::Create { drafts, .. } | Request::Put { drafts, .. } => {
            drafts.schedules.len() <= 4
                && drafts.schedules.iter().all(|draft| draft.local.is_some())
                && !drafts.name_calendars()
        }
        Request::Invoke { is_local, .. } => *is_local,
        Request::AwaitRun { .. } | Request::AwaitStep { .. } => true,
        _ => false,
    }
}

fn handle(context: &RequestContext, waiters: &RunWaiters, request: Request, done: Done) -> Option<WaitId> {
    match context.begin(request) {
        Err(error) => done(Err(error)),
        Ok(NextStep::Answered(answer)) => done(Ok(answer)),
        Ok(NextStep::Await(awaited)) => return waiters.add(awaited, done),
        Ok(NextStep::Commit(commands, finish)) => context.writes.submit(Job {
            commands,
            retries_when_busy: false,
            done: Box::new(move |report| done(report.map_err(Error::from).and_then(finish))),
        }),
        Ok(NextStep::CommitAndWait(commands, finish)) => commit_and_wait(context, commands, finish, done),
    }
    None
}

fn commit_and_wait(context: &RequestContext, commands: Vec<Command>, finish: DelayedFinish, done: Done) {
    let (delayed, clock) = (Arc::clone(&context.delayed), Arc::clone(context.writes.clock()));
    context.writes.submit(Job {
        commands,
        retries_when_busy: false,
        done: Box::new(move |report| match report.map_err(Error::from).and_then(finish) {
            Ok((answer, wait)) if !wait.is_zero() => {
                delayed.add(clock.now().mono + wait, Ok(answer), done);
            }
            reply => done(reply.map(|(answer, _)| answer)),
        }),
    });
}
