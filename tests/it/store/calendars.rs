//! A calendar is deleted while a schedule gets it, in two transactions at once.

use super::fixture::{Fixture, PROJECT, at, new_schedule, text};
use super::locking::{open, until_it_waits};
use super::rows_read::Administrator;
use super::server::Server;
use polos::model::{NewSchedule, ScheduleId};
use polos::store::{Answer, Command, Outcome, PostgresStore, Rejection, StoreWrites};

/// Two transactions on PostgreSQL.
pub(super) struct Race {
    pub administrator: Administrator,
    pub schema: String,
    pub store: PostgresStore,
}

impl Race {
    /// A calendar that no schedule names yet, and a schedule.
    pub fn new() -> Self {
        let server = Server::shared();
        let url = server.new_schema();
        let schema = url.rsplit_once("schema=").unwrap().1.to_owned();
        let race =
            Self { administrator: Administrator::new(&server.url), store: open(&url, &schema), schema };
        let fixture = Fixture::on(&race.store);
        let dates = Some("[]".into());
        fixture.ok(at(0), Command::SetCalendar { project: text(PROJECT), name: text("us"), dates });
        fixture.put(at(0), new_schedule("other", Some(at(60))));
        race
    }

    /// Commits while another transaction is open that has executed `statement`, and that ends as
    /// `end` says once the commit waits for it.
    pub fn commit_beside(&self, statement: &str, command: Command, end: &str) -> Outcome {
        let statement = statement.replace('@', &format!("{}.", self.schema));
        self.administrator.execute(&format!("BEGIN; {statement}"));
        std::thread::scope(|scope| {
            let committed = scope.spawn(|| self.store.commit(&[command], at(1)).unwrap().remove(0));
            until_it_waits(&self.administrator, &self.schema, &committed);
            self.administrator.execute(end);
            committed.join().unwrap()
        })
    }
}

fn naming() -> NewSchedule {
    let spec = r#"{"cron":"0 9 * * *","calendars":["us"]}"#.into();
    NewSchedule { spec, ..new_schedule("k", Some(at(60))) }
}

#[test]
fn a_calendar_is_not_deleted_that_a_schedule_gets_meanwhile() {
    let delete = || Command::SetCalendar { project: text(PROJECT), name: text("us"), dates: None };
    let named = "SELECT FROM @calendar WHERE name = 'us' FOR KEY SHARE; \
                 UPDATE @schedule SET spec = '{\"cron\":\"0 9 * * *\",\"calendars\":[\"us\"]}'";
    let race = Race::new();
    let outcome = race.commit_beside(named, delete(), "COMMIT");
    assert_eq!(outcome, Err(Rejection::CalendarInUse(text("us"))));
    assert_eq!(Race::new().commit_beside(named, delete(), "ROLLBACK"), Ok(Answer::Done));
}

#[test]
fn a_schedule_does_not_get_a_calendar_that_is_deleted_meanwhile() {
    let deleted = "DELETE FROM @calendar WHERE name = 'us'";
    let race = Race::new();
    let create = || Command::UpsertSchedules(vec![naming()]);
    let outcome = race.commit_beside(deleted, create(), "COMMIT");
    assert_eq!(outcome, Err(Rejection::CalendarNotFound(text("us"))));
    assert_eq!(Fixture::on(&race.store).find_schedule(&naming().id), None);
    let outcome = Race::new().commit_beside(deleted, create(), "ROLLBACK");
    assert!(matches!(outcome, Ok(Answer::Schedules(_))), "{outcome:?}");
}

#[test]
fn a_schedule_is_not_changed_to_a_calendar_that_is_deleted_meanwhile() {
    let race = Race::new();
    let new = naming();
    let patch = polos::store::Patch {
        spec: Some((new.spec, new.compiled_spec, new.next_slot)),
        ..polos::store::Patch::default()
    };
    let id = ScheduleId::from(new_schedule("other", None).id.as_str());
    let command = super::fixture::patch_command(&id, None, patch);
    let outcome = race.commit_beside("DELETE FROM @calendar WHERE name = 'us'", command, "COMMIT");
    assert_eq!(outcome, Err(Rejection::CalendarNotFound(text("us"))));
}
