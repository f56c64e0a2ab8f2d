//! Closing a database writes what was submitted before.

use super::watching::open;
use serde_json::json;
use std::sync::mpsc;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(30);
/// Long enough to distinguish waiting from not waiting.
const SHORT: Duration = Duration::from_millis(20);

#[test]
fn closing_waits_until_what_was_submitted_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("polos.db");
    let database = open(&path);
    // Like another process that writes: nothing can be committed meanwhile.
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (answered, answers) = mpsc::channel();
    for _ in 0..2 {
        let request = json!({"invoke": {"workflow": "wf", "is_local": true}});
        let answered = answered.clone();
        let request = serde_json::from_value(request).unwrap();
        database.service.submit(request, Box::new(move |answer| answered.send(answer.is_ok()).unwrap_or(())));
    }
    let (closed, has_closed) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| closed.send(database.close_within(LIMIT)).unwrap());
        assert!(has_closed.recv_timeout(SHORT).is_err(), "it has closed before they could be written");
        other.execute_batch("ROLLBACK").unwrap();
    });
    assert_eq!(has_closed.recv(), Ok(true));
    drop(answered);
    assert_eq!(answers.iter().collect::<Vec<_>>(), [true, true]);
    let count = other.query_row("SELECT count(*) FROM run", [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(count, 2);
}
