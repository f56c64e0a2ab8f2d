//! The log lines for what the engine notices.

use polos::engine::Notice;
use polos::model::ScheduleLabel;

/// The level (or, for `entered` and `lost`, the kind) of a notice, and its text.
#[expect(clippy::too_many_lines, reason = "one sentence for each notice")]
pub fn describe(notice: &Notice) -> (&'static str, String) {
    match notice {
        Notice::Registered(id) => ("entered", id.to_string()),
        Notice::StoreTrouble(error) => {
            ("warning", format!("the database fails; the worker continues when it recovers: {error}"))
        }
        Notice::StoreDenied(error) => (
            "error",
            format!(
                "the database refuses this worker, which an administrator has to fix; the worker \
                 retries until it works: {error}"
            ),
        ),
        Notice::StoreRecovered(after) => {
            ("warning", format!("the database works again after {:.1} s", after.as_secs_f64()))
        }
        Notice::StoreLost(error) => {
            ("lost", format!("the worker stops because its database cannot be used: {error}"))
        }
        Notice::ScheduleBroken(id, reason) => {
            ("error", format!("the schedule {id} is broken and no longer fires: {reason}"))
        }
        Notice::LeaseLost { held_count: 0 } => (
            "info",
            "this worker was silent for so long that others removed it (suspended, or without its database); it held \
             no runs, and registers again"
                .to_owned(),
        ),
        Notice::LeaseLost { held_count } => (
            "warning",
            format!(
                "this worker was presumed dead (suspended, or starved for longer than its lease); \
                 other workers took over {held_count} of its runs, and their handlers are \
                 cancelled here"
            ),
        ),
        Notice::RollbackDetected { held_count } => (
            "error",
            format!(
                "the database went back in time: a replica that lagged behind was promoted, or a \
                 backup was restored. The newest commits are lost: slots and steps of that time \
                 are executed again, and runs and schedules created then are gone. {held_count} \
                 runs in progress here are released; they continue when their lease has run out"
            ),
        ),
        Notice::TookOver { worker, run_count } => (
            "warning",
            format!(
                "worker {worker} sent no heartbeat within its lease; {run_count} of its runs are \
                 queued again"
            ),
        ),
        Notice::Suspect { run, workflow, interruptions, is_alone } => (
            "warning",
            format!(
                "run {run} of workflow `{workflow}` was interrupted {interruptions} times in a row \
                 without recording a step: each time its worker died (killed, out of memory, \
                 crashed). It is executed again, {}",
                if *is_alone {
                    "and this worker claims no other run until it completes or records a step, for \
                     60 s at most"
                } else {
                    "beside other runs, because no worker was idle"
                }
            ),
        ),
        Notice::StoreStalled(duration) => (
            "warning",
            format!(
                "the database did not answer for {:.1} s (another process locked it, or the disk \
                 hung); slots of that time follow the catch-up policy",
                duration.as_secs_f64()
            ),
        ),
        Notice::WasAway(duration) => (
            "warning",
            format!(
                "this worker did not run for {:.1} s (suspended, or the clock was set forward); \
                 slots of that time follow the catch-up policy",
                duration.as_secs_f64()
            ),
        ),
        Notice::Advice(what) => ("warning", what.clone()),
        Notice::Recomputed(count) => (
            "warning",
            format!(
                "the next slots of {count} schedules did not match the current clock and time zone \
                 data and were recomputed"
            ),
        ),
        Notice::WokeParents(count) => (
            "warning",
            format!(
                "{count} {} waited for a child run that had already finished, and can continue \
                 now. A worker of an earlier release on PostgreSQL could cause this; upgrade all \
                 workers",
                if *count == 1 { "run" } else { "runs" }
            ),
        ),
        Notice::Retired { app, schedules } => (
            "warning",
            format!(
                "retired {}: `{app}` no longer declares {}, nor does any live worker. A retired \
                 schedule starts nothing, keeps its history, and comes back, with its pause and \
                 note, when code that declares it starts. If another program declares it, give \
                 each program a name: `Worker(app=...)` or `polos run --app`",
                listed(schedules),
                if schedules.len() == 1 { "it" } else { "them" },
            ),
        ),
        Notice::Protected { app, schedules } => (
            "info",
            format!(
                "`{app}` no longer declares {}; kept because another live worker does, and retired \
                 when none does",
                listed(schedules)
            ),
        ),
        Notice::Overridden { app, schedules } => (
            "warning",
            format!(
                "{} that `{app}` declares: a change made through the API or the command line \
                 overrides the decorator, until `schedules.reset(id)`, `polos schedules reset`, or \
                 a change of the decorator",
                listed(schedules)
            ),
        ),
        Notice::Outdated { app, schedules } => (
            "warning",
            format!(
                "`{app}` declares {} differently from live workers with newer code; the newer \
                 declaration wins while one of them is alive. If this is the newer code, set \
                 `Worker(version=...)`",
                listed(schedules)
            ),
        ),
        Notice::Adopted { app, schedules } => (
            "warning",
            format!(
                "`{app}` does not declare {}, which an older release of polos recorded for it. It \
                 is kept now, and retired at its next start unless the code declares it again",
                listed(schedules)
            ),
        ),
        Notice::HookCalls(calls) => ("info", format!("{} hooks are to be called", calls.len())),
        Notice::Missed(missed) => ("info", format!("slots of {} schedules were missed", missed.len())),
    }
}

/// Formats schedules for a message: the first few by name.
fn listed(schedules: &[ScheduleLabel]) -> String {
    const NAMED_MAX: usize = 10;
    let names: Vec<_> = schedules
        .iter()
        .take(NAMED_MAX)
        .map(|label| format!("`{}` (key `{}`, {})", label.workflow, label.key, label.id))
        .collect();
    let noun = if schedules.len() == 1 { "the schedule" } else { "the schedules" };
    match schedules.len().saturating_sub(NAMED_MAX) {
        0 => format!("{noun} {}", names.join(", ")),
        more => format!("{noun} {} and {more} more", names.join(", ")),
    }
}
