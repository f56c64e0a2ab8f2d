//! SQLite's prepared statements.

use polos::store::SqliteOptions;
use polos::store::internals::connect_raw;
use rusqlite::StatementStatus;

#[test]
fn statements_are_prepared_once_whatever_is_bound() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("some.db");
    std::fs::write(&path, b"").unwrap();
    let connection = connect_raw(&path, &SqliteOptions::default()).unwrap();
    let tables = "CREATE TABLE run (id, state); CREATE INDEX active ON run (id) WHERE state = 'active'";
    connection.execute_batch(tables).unwrap();
    let mut statement = connection.prepare("SELECT id FROM run WHERE state = ?1 AND id = ?2").unwrap();
    for state in ["active", "over", "active"] {
        assert!(!statement.exists((state, 1)).unwrap());
    }
    assert_eq!(statement.get_status(StatementStatus::RePrepare), 0);
}
