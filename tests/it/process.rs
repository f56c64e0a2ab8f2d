//! Identification of processes on this machine.

use polos::process::{host_id, is_gone, process_mark};

#[test]
#[cfg(target_os = "linux")]
fn a_process_is_distinguished_from_a_later_one_with_its_id() {
    let (host, pid) = (host_id(), i64::from(std::process::id()));
    let mark = process_mark(pid);
    assert!(!mark.is_empty());
    assert!(!is_gone(&host, pid, &mark));
    assert!(is_gone(&host, pid, "1"), "another start time is another process");
    assert!(!is_gone("another machine", pid, "1"), "nothing is known of other machines");
}

#[test]
#[cfg(target_os = "linux")]
fn an_ended_process_is_gone() {
    let mut child = std::process::Command::new("true").spawn().unwrap();
    let pid = i64::from(child.id());
    let mark = process_mark(pid);
    child.wait().unwrap();
    assert!(is_gone(&host_id(), pid, if mark.is_empty() { "1" } else { &mark }));
}
