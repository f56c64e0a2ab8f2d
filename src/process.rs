//! Identifies the machine and its processes, and tells whether another process is still running.

/// Identifies the machine, its boot, and the process namespace: process ids compare only within
/// one.
pub fn host_id() -> String {
    let machine = read_line("/etc/machine-id").or_else(|| read_line("/proc/sys/kernel/hostname"));
    let boot = read_line("/proc/sys/kernel/random/boot_id");
    let namespace =
        std::fs::read_link("/proc/self/ns/pid").ok().map(|link| link.to_string_lossy().into_owned());
    [machine, boot, namespace].into_iter().flatten().collect::<Vec<_>>().join("/")
}

/// Distinguishes a process from a later one with the same id: its start time, in clock ticks since
/// boot. Empty if the system does not report it.
pub fn process_mark(pid: i64) -> String {
    start_ticks(pid).unwrap_or_default()
}

/// Whether a process of this host is certainly gone. False also means "unknown".
pub fn is_gone(host: &str, pid: i64, mark: &str) -> bool {
    if host.is_empty() || mark.is_empty() || host != host_id() {
        return false;
    }
    std::path::Path::new("/proc/self/stat").exists() && start_ticks(pid).is_none_or(|ticks| ticks != mark)
}

fn start_ticks(pid: i64) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the command in parentheses and may contain anything; the last parenthesis
    // ends it. Of what follows, field 3 (state) is the first and field 22 (start time) the
    // twentieth.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    if state == "Z" || state == "X" {
        // A zombie: dead, but not yet reaped by its parent.
        return None;
    }
    fields.nth(18).map(str::to_owned)
}

fn read_line(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}
