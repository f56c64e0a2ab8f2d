//! Questions, each answered in one trip and, but for long histories, from one snapshot.

#![expect(
    clippy::redundant_closure_for_method_calls,
    reason = "a method of a type with a lifetime is no function for all lifetimes"
)]

use super::commit_counters::{COUNTERS, Counts};
use super::connection::Session;
use super::error::PgError;
use super::fetch::{WORKER, peer};
use super::rows::{Args, Columns, RUN, SCHEDULE, STEP, limit_to_sql};
use super::run_pages::{part_in_state, part_with_key};
use crate::calendar::Timestamp;
use crate::model::text::{run_reason, state_word, status_word};
use crate::model::{
    LedgerEntry, Peer, Run, RunId, RunState, Schedule, ScheduleId, ScheduleStatus, SlotOutcome, StepRecord,
    Token, WorkerId, WorkflowEntry,
};
use crate::store::pagination::cut_page;
use crate::store::query::{COUNTED_MAX, MANY_RUNS};
use crate::store::{
    DueSchedule, NextWork, Page, ProjectStats, RunFilter, ScheduleFilter, Shard, StoreError, WaitingParent,
};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio_postgres::Row;

type Result<T> = std::result::Result<T, PgError>;

/// How a list of runs is found.
pub(super) enum Way {
    /// All runs of the schedule are read and sorted: they are few.
    Schedule,
    /// Those with a key are walked, those of one workflow or of each.
    Key(Arc<str>, Option<Arc<str>>),
    /// In rare states where only these are asked for, else of a workflow or of all.
    Plain,
}

/// Reads each row.
pub(super) fn each<T>(
    rows: &[Row],
    mut read: impl FnMut(&mut Columns<'_>) -> std::result::Result<T, tokio_postgres::Error>,
) -> Result<Vec<T>> {
    Ok(rows.iter().map(|row| read(&mut Columns::of(row))).collect::<std::result::Result<_, _>>()?)
}

fn named(workflows: &[Arc<str>]) -> BTreeSet<&str> {
    workflows.iter().map(|id| &**id).collect()
}

/// A query of the workflows that have active schedules, named `w`: skips from one to the next, whatever number each has.
fn due_workflows(project: usize) -> String {
    let next = |more: &str| {
        format!(
            "SELECT s.workflow FROM @schedule s WHERE s.project = ${project} {more} AND s.status = 'active' \
             AND s.next_slot IS NOT NULL ORDER BY s.workflow, s.next_slot LIMIT 1"
        )
    };
    format!(
        "WITH RECURSIVE w (id) AS (({}) UNION ALL SELECT ({}) FROM w WHERE w.id IS NOT NULL)",
        next(""),
        next("AND s.workflow > w.id")
    )
}

impl Session<'_> {
    pub async fn due(
        self,
        project: &str,
        workflows: &[Arc<str>],
        until: Timestamp,
        shard: Shard,
        limit: usize,
    ) -> Result<Vec<DueSchedule>> {
        let mut args = Args::default();
        let (project, workflows) = (args.text(project), args.texts(named(workflows)));
        let (until, limit) = (args.int(until.as_micros()), args.int(limit_to_sql(limit)));
        // As `Shard::holds` has it.
        let in_shard = if shard == Shard::WHOLE {
            String::new()
        } else {
            let (part, of) = (args.int(i64::from(shard.part)), args.int(i64::from(shard.of)));
            format!("AND (ascii(right(s.id, 1)) + 31 * ascii(right(s.id, 2))) % ${of} = ${part} ")
        };
        let count = |phase| {
            format!(
                "(SELECT count(*) FROM (SELECT FROM @run r WHERE r.schedule_id = s.id AND r.phase = {phase} \
                 AND r.finished_at IS NULL LIMIT {COUNTED_MAX}) c)"
            )
        };
        let sql = format!(
            "SELECT {SCHEDULE}, {}, {} FROM (SELECT h.id, h.next_slot FROM unnest(${workflows}) AS w (id) \
             CROSS JOIN LATERAL (SELECT s.id, s.next_slot FROM @schedule s WHERE s.project = ${project} \
             AND s.workflow = w.id AND s.status = 'active' AND s.next_slot IS NOT NULL AND s.next_slot <= ${until} \
             {in_shard}ORDER BY s.next_slot, s.id LIMIT ${limit}) h ORDER BY h.next_slot, h.id LIMIT ${limit}) d \
             JOIN @schedule s ON s.id = d.id ORDER BY d.next_slot, d.id",
            count(1),
            count(2)
        );
        each(&self.query(sql, args).await?, |columns| {
            let schedule = columns.schedule()?;
            let live_count = columns.small_count()?;
            let buffered_count = columns.small_count()?;
            Ok(DueSchedule {
                schedule,
                unfinished_count: live_count.saturating_add(buffered_count),
                buffered_count,
            })
        })
    }

    pub async fn due_count(
        self,
        project: &str,
        workflows: &[Arc<str>],
        until: Timestamp,
        limit: usize,
    ) -> Result<usize> {
        let mut args = Args::default();
        let (project, workflows) = (args.text(project), args.texts(named(workflows)));
        let (until, limit) = (args.int(until.as_micros()), args.int(limit_to_sql(limit)));
        let sql = format!(
            "SELECT count(*) FROM (SELECT FROM @schedule s WHERE s.project = ${project} \
             AND s.workflow = ANY(${workflows}) AND s.status = 'active' AND s.next_slot IS NOT NULL \
             AND s.next_slot <= ${until} LIMIT ${limit}) due"
        );
        let counts = each(&self.query(sql, args).await?, |columns| columns.count())?;
        Ok(counts.first().map_or(0, |count| usize::try_from(*count).unwrap_or(usize::MAX)))
    }

    pub async fn next_work(self, project: &str, workflows: &[Arc<str>]) -> Result<NextWork> {
        let mut args = Args::default();
        let (project, workflows) = (args.text(project), args.texts(named(workflows)));
        let sql = format!(
            "SELECT (SELECT min(h.next_slot) FROM unnest(${workflows}) AS w (id) CROSS JOIN LATERAL ( \
             SELECT s.next_slot FROM @schedule s WHERE s.project = ${project} AND s.workflow = w.id \
             AND s.status = 'active' AND s.next_slot IS NOT NULL ORDER BY s.next_slot LIMIT 1) h), \
             (SELECT min(h.available_at) FROM unnest(${workflows}) AS w (id) CROSS JOIN LATERAL ( \
             SELECT r.available_at FROM @run r WHERE r.project = ${project} AND r.workflow = w.id \
             AND r.state IN ('queued', 'waiting') AND NOT r.cancel_requested AND r.interruptions < 2 \
             AND r.refused_by IS NULL \
             ORDER BY r.available_at LIMIT 1) h), \
             (SELECT r.available_at FROM @run r WHERE r.project = ${project} AND r.interruptions >= 2 \
             AND r.state IN ('queued', 'waiting') AND NOT r.cancel_requested AND r.workflow = ANY(${workflows}) \
             AND r.refused_by IS NULL ORDER BY r.available_at LIMIT 1), \
             EXISTS (SELECT FROM @run r WHERE r.project = ${project} AND r.refused_by IS NOT NULL \
             AND r.state IN ('queued', 'waiting') AND NOT r.cancel_requested)"
        );
        let wakes = each(&self.query(sql, args).await?, |columns| {
            Ok(NextWork {
                slot: columns.optional_time()?,
                run: columns.optional_time()?,
                suspect: columns.optional_time()?,
                has_held: columns.flag()?,
            })
        })?;
        Ok(wakes.into_iter().next().unwrap_or_default())
    }

    pub async fn cancel_requests(self, worker: &WorkerId) -> Result<Vec<RunId>> {
        let mut args = Args::default();
        let worker = args.text(worker.as_str());
        let sql = format!(
            "SELECT id FROM @run WHERE worker = ${worker} AND cancel_requested AND state = 'running' ORDER BY id"
        );
        each(&self.query(sql, args).await?, |columns| columns.run_id())
    }

    pub async fn claims_stand(self, claims: &[(RunId, Token)]) -> Result<Vec<bool>> {
        let mut args = Args::default();
        let runs = args.texts(claims.iter().map(|(run, _)| run.as_str()));
        let tokens = args.ints(claims.iter().map(|(_, token)| token.0));
        let sql = format!(
            "SELECT r.id IS NOT NULL FROM unnest(${runs}, ${tokens}) WITH ORDINALITY AS w (id, token, place) \
             LEFT JOIN @run r ON r.id = w.id AND r.token = w.token AND r.state = 'running' ORDER BY w.place"
        );
        each(&self.query(sql, args).await?, |columns| columns.flag())
    }

    pub async fn peers(self, project: &str) -> Result<Vec<Peer>> {
        let mut args = Args::default();
        let project = args.text(project);
        let sql = format!(
            "SELECT w.id, {WORKER}, (SELECT count(*) FROM @run r WHERE r.worker = w.id AND r.state = 'running') \
             FROM @worker w WHERE w.project = ${project} ORDER BY w.id"
        );
        each(&self.query(sql, args).await?, |columns| {
            let id = columns.worker_id()?;
            columns.text()?;
            let peer = peer(id, columns)?;
            Ok(Peer { held_count: columns.count()?, ..peer })
        })
    }

    pub async fn workflows(self, project: &str) -> Result<Vec<WorkflowEntry>> {
        let mut args = Args::default();
        let project = args.text(project);
        let sql = format!("SELECT id, schedulable FROM @workflow WHERE project = ${project} ORDER BY id");
        each(&self.query(sql, args).await?, |columns| {
            Ok(WorkflowEntry { id: columns.text()?, schedulable: columns.flag()? })
        })
    }

    pub async fn schedule(self, project: &str, id: &ScheduleId) -> Result<Option<Schedule>> {
        let mut args = Args::default();
        let (project, id) = (args.text(project), args.text(id.as_str()));
        let sql = format!("SELECT {SCHEDULE} FROM @schedule s WHERE s.id = ${id} AND s.project = ${project}");
        Ok(each(&self.query(sql, args).await?, |columns| columns.schedule())?.pop())
    }

    pub async fn schedules(
        self,
        project: &str,
        filter: &ScheduleFilter,
        page: &Page,
    ) -> Result<Vec<Schedule>> {
        let ScheduleFilter { workflow, key, status, owner, key_prefix } = filter;
        let (_, behind) = key_prefix.as_deref().map_or(("", None), ScheduleFilter::key_range);
        let mut args = Args::default();
        let mut conditions = vec![format!("s.project = ${}", args.text(project))];
        let mut order = "s.id";
        if let Some(prefix) = key_prefix {
            order = "s.key, s.workflow";
            conditions.push(format!("s.key >= ${}", args.text(prefix)));
            if let Some(behind) = &behind {
                conditions.push(format!("s.key < ${}", args.text(behind)));
            }
            if let Some((key, workflow)) = page.after.as_deref().and_then(ScheduleFilter::parse_cursor) {
                let (key, workflow) = (args.text(key), args.text(workflow));
                conditions.push(format!("(s.key, s.workflow) > (${key}, ${workflow})"));
            }
        } else if let Some(workflow) = workflow
            && key.is_none()
            && owner.is_none()
            && status.is_none_or(|status| status == ScheduleStatus::Active)
        {
            // As a range, so that only the index of workflows has this order: the planner would walk all schedules by
            // their ids in the hope to meet enough of this workflow.
            order = "s.workflow, s.id";
            let (workflow, after) = (args.text(workflow), args.text(page.after.as_deref().unwrap_or("")));
            conditions
                .push(format!("s.workflow <= ${workflow} AND (s.workflow, s.id) > (${workflow}, ${after})"));
        } else if let Some(after) = &page.after {
            conditions.push(format!("s.id > ${}", args.text(after)));
        }
        let workflow = if order == "s.workflow, s.id" { &None } else { workflow };
        for (column, value) in [("workflow", workflow), ("key", key), ("owner", owner)] {
            if let Some(value) = value {
                conditions.push(format!("s.{column} = ${}", args.text(value)));
            }
        }
        if let Some(status) = status {
            // Spelled out, so that the index of the rare ones is seen to serve.
            conditions.push(format!("s.status = '{}'", status_word(*status)));
        }
        let limit = args.int(limit_to_sql(page.limit));
        let conditions = conditions.join(" AND ");
        let sql = if key.is_some() {
            // Few have the same key: found first, then sorted.
            format!(
                "SELECT {SCHEDULE} FROM (SELECT * FROM @schedule s WHERE {conditions} OFFSET 0) s \
                 ORDER BY {order} LIMIT ${limit}"
            )
        } else {
            format!("SELECT {SCHEDULE} FROM @schedule s WHERE {conditions} ORDER BY {order} LIMIT ${limit}")
        };
        each(&self.query(sql, args).await?, |columns| columns.schedule())
    }

    pub async fn history(
        self,
        project: &str,
        id: &ScheduleId,
        page: &Page,
    ) -> Result<Option<Vec<LedgerEntry>>> {
        let before = page.after.as_deref().and_then(|text| text.parse().ok()).unwrap_or(i64::MAX);
        // One more than asked for shows whether the page cuts through slots that are equal.
        let count = page.limit.saturating_add(1);
        let mut entries = self.entries(project, id, i64::MIN..before, count).await?;
        if let Some(newest) = entries.first().map(|entry| entry.from)
            && entries.get(page.limit).is_some_and(|entry| entry.from == newest)
        {
            let slot = newest.as_micros();
            entries = self.entries(project, id, slot..slot.saturating_add(1), usize::MAX).await?;
        }
        cut_page(&mut entries, page.limit);
        if entries.is_empty() {
            let exists = self.schedule(project, id).await?.is_some()
                || !self.entries(project, id, i64::MIN..i64::MAX, 1).await?.is_empty();
            return Ok(exists.then_some(entries));
        }
        Ok(Some(entries))
    }

    /// History in a range of slots, newest first, at least `count` where there are so many.
    async fn entries(
        self,
        project: &str,
        id: &ScheduleId,
        slots: std::ops::Range<i64>,
        count: usize,
    ) -> Result<Vec<LedgerEntry>> {
        let mut args = Args::default();
        let (project, id) = (args.text(project), args.text(id.as_str()));
        let (first, behind) = (args.int(slots.start), args.int(slots.end));
        let count = args.int(limit_to_sql(count));
        let sql = format!(
            "(SELECT 0 AS kind, r.slot AS from_slot, r.no, r.slot, 1::bigint, NULL::text, r.state, r.id, r.started_at, \
             r.worker, r.interruptions FROM @run r WHERE r.schedule_id = ${id} AND r.slot >= ${first} AND r.slot < ${behind} \
             AND r.project = ${project} AND r.origin IN ('schedule', 'backfill') \
             ORDER BY r.slot DESC NULLS LAST, r.no DESC LIMIT ${count}) UNION ALL \
             (SELECT 1, l.from_slot, l.no, l.until_slot, l.slot_count, l.fate, l.reason, NULL, NULL, NULL, NULL \
             FROM @ledger l WHERE l.schedule_id = ${id} AND l.from_slot >= ${first} AND l.from_slot < ${behind} \
             AND l.project = ${project} ORDER BY l.from_slot DESC, l.no DESC LIMIT ${count}) \
             ORDER BY from_slot DESC, kind, no DESC LIMIT ${count}"
        );
        each(&self.query(sql, args).await?, |columns| {
            columns.skip();
            let from = columns.time()?;
            columns.skip();
            let (until, count, outcome) = (columns.time()?, columns.count()?, columns.word()?);
            let reason = columns.text()?;
            let run = columns.optional_text()?.map(|id| RunId::from(&*id));
            let is_run = run.is_some();
            let (started_at, worker) = (columns.optional_time()?, columns.optional_worker_id()?);
            let interruptions = columns.small_count()?;
            Ok(LedgerEntry {
                from,
                until,
                count,
                outcome: if is_run { SlotOutcome::Ran } else { outcome.unwrap_or(SlotOutcome::Missed) },
                reason: if is_run { run_reason(state_of(&reason), interruptions) } else { reason },
                run,
                started_at,
                worker,
            })
        })
    }

    pub async fn remarkable_runs(self, project: &str, limit: usize) -> Result<Vec<Run>> {
        let mut args = Args::default();
        let (project, limit) = (args.text(project), args.int(limit_to_sql(limit)));
        let sql = format!(
            "SELECT {RUN} FROM @run r WHERE r.project = ${project} \
             AND (r.interruptions > 0 OR r.note IS NOT NULL) AND r.finished_at IS NULL \
             ORDER BY r.created_at DESC, r.id DESC LIMIT ${limit}"
        );
        each(&self.query(sql, args).await?, |columns| columns.run())
    }

    pub async fn run(self, project: &str, id: &RunId) -> Result<Option<Run>> {
        let mut args = Args::default();
        let (project, id) = (args.text(project), args.text(id.as_str()));
        let sql = format!("SELECT {RUN} FROM @run r WHERE r.id = ${id} AND r.project = ${project}");
        Ok(each(&self.query(sql, args).await?, |columns| columns.run())?.pop())
    }

    pub async fn runs(self, project: &str, filter: &RunFilter, page: &Page) -> Result<Vec<Run>> {
        let way = self.way_to(project, filter).await?;
        let is_rare = matches!(way, Way::Plain) && filter.is_for_rare_states();
        let RunFilter { workflow, key, schedule, states, since, .. } = filter;
        let mut args = Args::default();
        let project = args.text(project);
        let mut conditions = vec![format!("r.project = ${project}")];
        // Before the columns that order the runs: a workflow, as a range, so that only the index of workflows has this
        // order. The planner would walk the runs of all workflows in the hope to meet enough of this one.
        let (mut lead, mut lead_value, mut lead_order) = ("", String::new(), "");
        if let Some(workflow) = workflow {
            let workflow = args.text(workflow);
            if is_rare || !matches!(way, Way::Plain) {
                conditions.push(format!("r.workflow = ${workflow}"));
            } else {
                (lead, lead_value, lead_order) =
                    ("r.workflow, ", format!("${workflow}, "), "r.workflow DESC, ");
                conditions.push(format!("r.workflow >= ${workflow} AND r.workflow <= ${workflow}"));
            }
        }
        if let Some(after) = &page.after {
            let after = args.text(after);
            conditions.push(format!(
                "({lead}r.created_at, r.id) < (SELECT {lead_value}p.created_at, p.id FROM @run p \
                 WHERE p.id = ${after} AND p.project = ${project})"
            ));
        }
        if let Some(key) = key {
            conditions.push(format!("r.key = ${}", args.text(key)));
        }
        if let Some(schedule) = schedule {
            // Where its runs are many, spelled so that the server doesn't read all of them by their index.
            let column = if matches!(way, Way::Schedule) { "r.schedule_id" } else { "r.schedule_id || ''" };
            conditions.push(format!("{column} = ${}", args.text(schedule.as_str())));
        }
        if !is_rare && !states.is_empty() {
            let states = args.texts(states.iter().map(|state| state_word(*state)));
            conditions.push(format!("r.state = ANY(${states})"));
        }
        if let Some(since) = since {
            let since = args.int(since.as_micros());
            conditions.push(format!("({lead}r.created_at) >= ({lead_value}${since})"));
        }
        let limit = args.int(limit_to_sql(page.limit));
        let conditions = conditions.join(" AND ");
        let sql = if let Way::Key(key, workflow) = &way {
            let (key, workflow) = (args.text(key), workflow.as_ref().map(|workflow| args.text(workflow)));
            format!(
                "SELECT {RUN} FROM {} h JOIN @run r ON r.no = h.no \
                 ORDER BY h.created_at DESC, h.id DESC LIMIT ${limit}",
                part_with_key(&conditions, project, key, workflow, limit)
            )
        } else if is_rare {
            let parts: Vec<_> = states.iter().collect::<BTreeSet<_>>().into_iter().collect();
            let parts: Vec<_> = parts
                .into_iter()
                .map(|state| part_in_state(*state, &conditions, project, limit, workflow.is_some()))
                .collect();
            format!(
                "SELECT {RUN} FROM ({}) h JOIN @run r ON r.no = h.no \
                 ORDER BY h.created_at DESC, h.id DESC LIMIT ${limit}",
                parts.join(" UNION ALL ")
            )
        } else {
            // A schedule has few runs: found first, then sorted.
            let fence = if matches!(way, Way::Schedule) { "OFFSET 0" } else { "" };
            format!(
                "SELECT {RUN} FROM (SELECT * FROM @run r WHERE {conditions} {fence}) r \
                 ORDER BY {lead_order}r.created_at DESC, r.id DESC LIMIT ${limit}"
            )
        };
        each(&self.query(sql, args).await?, |columns| columns.run())
    }

    /// How the runs that a filter asks for are found: by their key where there are few with it, or no rare states to look
    /// for. The runs of a schedule have its key and its workflow, and are walked where they are many.
    pub async fn way_to(self, project: &str, filter: &RunFilter) -> Result<Way> {
        let mut args = Args::default();
        let (condition, order) = if let Some(id) = &filter.schedule {
            (format!("r.schedule_id = ${}", args.text(id.as_str())), "r.slot NULLS FIRST, r.no")
        } else {
            let Some(key) = &filter.key else { return Ok(Way::Plain) };
            if !filter.is_for_rare_states() {
                return Ok(Way::Key(Arc::clone(key), filter.workflow.clone()));
            }
            let (project, key) = (args.text(project), args.text(key));
            let condition = format!("r.project = ${project} AND r.key >= ${key} AND r.key <= ${key}");
            (condition, "r.key, r.workflow, r.created_at, r.id")
        };
        let most = args.int(limit_to_sql(MANY_RUNS));
        let sql = format!(
            "SELECT count(*), min(c.key), min(c.workflow) FROM \
             (SELECT r.key, r.workflow FROM @run r WHERE {condition} ORDER BY {order} LIMIT ${most}) c"
        );
        let found = each(&self.query(sql, args).await?, |columns| {
            Ok((columns.count()?, columns.optional_text()?, columns.optional_text()?))
        })?;
        let Some((count, Some(key), Some(workflow))) = found.into_iter().next() else {
            return Ok(match &filter.key {
                Some(key) if filter.schedule.is_none() => Way::Key(Arc::clone(key), None),
                _ => Way::Schedule,
            });
        };
        let is_burst = count >= MANY_RUNS as u64;
        if filter.schedule.is_none() {
            return Ok(if is_burst { Way::Plain } else { Way::Key(key, filter.workflow.clone()) });
        }
        Ok(match (is_burst, filter.is_for_rare_states()) {
            (false, _) => Way::Schedule,
            (true, true) => Way::Plain,
            (true, false) => Way::Key(key, Some(workflow)),
        })
    }

    pub async fn coming(self, project: &str, until: Timestamp, limit: usize) -> Result<Vec<Schedule>> {
        let mut args = Args::default();
        let (project, until) = (args.text(project), args.int(until.as_micros()));
        let limit = args.int(limit_to_sql(limit));
        let workflows = due_workflows(project);
        let sql = format!(
            "{workflows} SELECT {SCHEDULE} FROM (SELECT h.id, h.next_slot FROM w CROSS JOIN LATERAL (\
             SELECT s.id, s.next_slot FROM @schedule s WHERE s.project = ${project} AND s.workflow = w.id \
             AND s.status = 'active' AND s.next_slot IS NOT NULL AND s.next_slot <= ${until} \
             ORDER BY s.next_slot, s.id LIMIT ${limit}) h ORDER BY h.next_slot, h.id LIMIT ${limit}) d \
             JOIN @schedule s ON s.id = d.id ORDER BY d.next_slot, d.id"
        );
        each(&self.query(sql, args).await?, |columns| columns.schedule())
    }

    pub async fn project_stats(
        self,
        project: &str,
        due_before: Timestamp,
        count_to: usize,
    ) -> Result<ProjectStats> {
        let mut args = Args::default();
        let (project, most) = (args.text(project), args.int(limit_to_sql(count_to)));
        let due_before = args.int(due_before.as_micros());
        let workflows = due_workflows(project);
        // The order is that of the index that serves.
        let active = format!(
            "SELECT FROM @schedule s WHERE s.project = ${project} AND s.status = 'active' \
             AND s.next_slot IS NOT NULL ORDER BY s.workflow, s.next_slot LIMIT ${most}"
        );
        let in_status = |status| {
            format!(
                "SELECT FROM @schedule s WHERE s.project = ${project} AND s.status = '{}' ORDER BY s.id LIMIT ${most}",
                status_word(status)
            )
        };
        let held = format!(
            "SELECT FROM @worker w CROSS JOIN LATERAL (SELECT FROM @run r WHERE r.worker = w.id \
             AND r.state = 'running' AND r.project = ${project} LIMIT ${most}) h LIMIT ${most}"
        );
        let in_state = |state| {
            format!(
                "SELECT FROM @run r WHERE r.project = ${project} AND r.state = '{}' \
                 ORDER BY r.workflow, r.created_at LIMIT ${most}",
                state_word(state)
            )
        };
        let mut counted: Vec<String> = Vec::new();
        counted.extend(ScheduleStatus::ALL.map(|status| match status {
            ScheduleStatus::Active => active.clone(),
            rare => in_status(rare),
        }));
        counted.extend(RunState::UNFINISHED.map(|state| match state {
            RunState::Running => held.clone(),
            rare => in_state(rare),
        }));
        counted.push(format!(
            "SELECT FROM w CROSS JOIN LATERAL (SELECT FROM @schedule s WHERE s.project = ${project} \
             AND s.workflow = w.id AND s.status = 'active' AND s.next_slot IS NOT NULL \
             AND s.next_slot < ${due_before} ORDER BY s.next_slot LIMIT ${most}) h LIMIT ${most}"
        ));
        let counted: Vec<_> =
            counted.into_iter().map(|rows| format!("(SELECT count(*) FROM ({rows}) c)")).collect();
        let sql = format!(
            "{workflows} SELECT {}, (SELECT min(h.next_slot) FROM w CROSS JOIN LATERAL (\
             SELECT s.next_slot FROM @schedule s WHERE s.project = ${project} AND s.workflow = w.id \
             AND s.status = 'active' AND s.next_slot IS NOT NULL AND s.next_slot < ${due_before} \
             ORDER BY s.next_slot LIMIT 1) h)",
            counted.join(", ")
        );
        let found = each(&self.query(sql, args).await?, |columns| {
            let mut count = || Ok(usize::try_from(columns.count()?).unwrap_or(usize::MAX));
            let mut project_stats =
                ProjectStats { schedules: Vec::new(), runs: Vec::new(), overdue: 0, oldest_due: None };
            for status in ScheduleStatus::ALL {
                project_stats.schedules.push((status, count()?));
            }
            for state in RunState::UNFINISHED {
                project_stats.runs.push((state, count()?));
            }
            project_stats.overdue = count()?;
            project_stats.oldest_due = columns.optional_time()?;
            Ok(project_stats)
        })?;
        found.into_iter().next().ok_or(PgError::Silence)
    }

    pub async fn waiting_parents(self, project: &str, page: &Page) -> Result<Vec<WaitingParent>> {
        let mut args = Args::default();
        let (project, limit) = (args.text(project), args.int(limit_to_sql(page.limit)));
        let after = args.text(page.after.as_deref().unwrap_or(""));
        let sql = format!(
            "SELECT w.id, (SELECT true FROM @run c WHERE c.parent = w.id AND c.finished_at IS NULL LIMIT 1) IS NULL \
             FROM (SELECT r.id FROM @run r WHERE r.project = ${project} AND r.state = 'waiting' \
             AND r.available_at >= 253402300799999999 AND r.id > ${after} ORDER BY r.id LIMIT ${limit}) w \
             ORDER BY w.id"
        );
        each(&self.query(sql, args).await?, |columns| {
            Ok(WaitingParent { run: columns.run_id()?, is_stuck: columns.flag()? })
        })
    }

    pub async fn steps(self, id: &RunId) -> Result<Vec<StepRecord>> {
        let mut args = Args::default();
        let id = args.text(id.as_str());
        let sql = format!(
            "SELECT {STEP} FROM @step t WHERE t.run = (SELECT no FROM @run WHERE id = ${id}) ORDER BY t.no"
        );
        each(&self.query(sql, args).await?, |columns| columns.step())
    }

    pub async fn previous_result(self, schedule: &ScheduleId, before: &RunId) -> Result<Option<Run>> {
        let mut args = Args::default();
        let (schedule, before) = (args.text(schedule.as_str()), args.text(before.as_str()));
        let sql = format!(
            "SELECT {RUN} FROM @run r WHERE r.schedule_id = ${schedule} AND r.state = 'succeeded' \
             AND r.finished_at < (SELECT created_at FROM @run WHERE id = ${before}) \
             ORDER BY r.slot DESC NULLS LAST, r.no DESC LIMIT 1"
        );
        Ok(each(&self.query(sql, args).await?, |columns| columns.run())?.pop())
    }

    /// How many commits of all processes can be seen.
    pub async fn commit_counts(self) -> Result<Counts> {
        let rows = self.query("SELECT no FROM @commits ORDER BY slot", Args::default()).await?;
        if rows.len() != COUNTERS {
            // Taken for zeros, they would say that the database has become an older one.
            return Err(PgError::Store(StoreError::Denied(format!(
                "{} of the {COUNTERS} rows of the table `commits` can be seen: row-level security hides rows \
                 from this role, or somebody deleted them; let an administrator give the role BYPASSRLS, or \
                 restore the table",
                rows.len()
            ))));
        }
        let mut counts: Counts = [0; COUNTERS];
        for (count, found) in counts.iter_mut().zip(each(&rows, |columns| columns.int())?) {
            *count = found;
        }
        Ok(counts)
    }

    pub async fn is_encrypted(self) -> Result<bool> {
        let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        let rows = self.query(sql, Args::default()).await?;
        Ok(each(&rows, |columns| columns.flag())?.pop().unwrap_or_default())
    }

    /// What the database's clock says.
    pub async fn time(self) -> Result<Timestamp> {
        let sql = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
        let rows = self.query(sql, Args::default()).await?;
        each(&rows, |columns| columns.time())?.pop().ok_or(PgError::Silence)
    }
}

/// The state that is meant; an unknown one is taken for an end.
fn state_of(word: &str) -> crate::model::RunState {
    crate::model::text::TextEnum::from_word(word).unwrap_or(crate::model::RunState::Failed)
}
