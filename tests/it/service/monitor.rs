//! What probes are told, and how little a client can do to the responder.
#![allow(clippy::unwrap_used, reason = "test helpers")]

use polos::engine::metrics::{Metrics, SlotCount};
use polos::engine::{Stage, VitalSigns};
use polos::model::RunState;
use polos::service::monitor::{Health, LoopPulse, Respond, Response, answer, bind, exposition};
use std::sync::Arc;
use std::time::Duration;

const LEASE: Duration = Duration::from_secs(15);
const STALL: Duration = Duration::from_secs(30);
const NOW: Duration = Duration::from_secs(1_000);

fn ago(seconds: u64) -> Duration {
    NOW.checked_sub(Duration::from_secs(seconds)).unwrap()
}

fn working() -> VitalSigns {
    VitalSigns {
        last_beat: ago(0),
        is_ticking: false,
        is_registered: true,
        stage: Stage::Working,
        failing_since: None,
    }
}

/// What `/livez` and `/readyz` say; empty for 200.
fn probes(signs: &VitalSigns, loop_silent: u64) -> (String, String) {
    let health = Health::new(signs, Duration::from_secs(loop_silent), LEASE, STALL, NOW);
    (health.live_problem.unwrap_or_default(), health.ready_problem.unwrap_or_default())
}

#[track_caller]
fn assert_probes(signs: &VitalSigns, live: &str, ready: &str) {
    assert_eq!(probes(signs, 0), (live.to_owned(), ready.to_owned()));
}

#[test]
fn a_working_worker_is_live_and_ready() {
    assert_probes(&working(), "", "");
    assert_probes(&VitalSigns { last_beat: ago(14), ..working() }, "", "");
}

#[test]
fn a_worker_that_is_not_registered_is_live_but_not_ready() {
    let signs = VitalSigns { is_registered: false, ..working() };
    assert_probes(&signs, "", "the worker is not registered yet");
}

#[test]
fn a_draining_worker_is_live_but_not_ready() {
    let signs = VitalSigns { stage: Stage::Draining, ..working() };
    assert_probes(&signs, "", "the worker is draining");
}

#[test]
fn a_database_that_fails_is_no_reason_for_a_restart() {
    let signs = VitalSigns { failing_since: Some(ago(3_000 / 10)), is_registered: false, ..working() };
    assert_probes(&signs, "", "the database has failed for 300 s; the worker's log says how");
}

#[test]
fn a_database_that_hangs_is_a_reason_for_a_restart_after_the_lease() {
    let hanging = |seconds| VitalSigns { last_beat: ago(seconds), is_ticking: true, ..working() };
    assert_probes(&hanging(4), "", "");
    assert_probes(&hanging(5), "", "the database has not answered for 5 s");
    assert_probes(&hanging(14), "", "the database has not answered for 14 s");
    assert_probes(
        &hanging(15),
        "the database has not answered for 15 s, and the lease is 15 s",
        "the database has not answered for 15 s",
    );
}

#[test]
fn a_core_that_does_not_run_is_not_live() {
    let says = "the core has not run for 15 s, and the lease is 15 s";
    assert_probes(&VitalSigns { last_beat: ago(15), ..working() }, says, says);
}

#[test]
fn a_worker_that_has_ended_is_neither_live_nor_ready() {
    let says = "the worker has ended; its log says why";
    assert_probes(&VitalSigns { stage: Stage::Over, ..working() }, says, says);
}

#[test]
fn an_event_loop_may_be_blocked_for_the_stall_and_no_longer() {
    assert_eq!(probes(&working(), 30), (String::new(), String::new()));
    let says = "the event loop has not answered for 31 s, and may take 30 s: something blocks it";
    assert_eq!(probes(&working(), 31), (says.to_owned(), String::new()));
}

#[test]
fn before_its_first_tick_a_worker_is_live() {
    let signs = polos::engine::Vitals::new().read();
    assert_probes(&signs, "", "the worker is not registered yet");
}

#[test]
fn a_loop_owes_one_answer_at_a_time() {
    let pulse = LoopPulse::default();
    assert_eq!(pulse.silent_for(NOW), Duration::ZERO);
    assert!(pulse.ask(ago(9)));
    assert!(!pulse.ask(ago(5)), "it still owes the first answer");
    assert_eq!(pulse.silent_for(NOW), Duration::from_secs(9));
    pulse.answer();
    assert_eq!(pulse.silent_for(NOW), Duration::ZERO);
    assert!(pulse.ask(NOW));
}

// --- the responder ---------------------------------------------------------------------------

fn site() -> Respond {
    Arc::new(|path| {
        Response::new(if path == "/livez" { 200 } else { 404 }, "text/plain", format!("{path}\n"))
    })
}

fn answered(request: &str) -> String {
    String::from_utf8(answer(request.as_bytes(), &site())).unwrap()
}

#[test]
fn a_probe_gets_the_text_with_its_length() {
    let text = answered("GET /livez?verbose HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    assert!(
        text.contains("\r\nContent-Length: 7\r\n") && text.contains("\r\nConnection: close\r\n"),
        "{text}"
    );
    assert!(text.ends_with("\r\n\r\n/livez\n"), "{text}");
}

#[test]
fn head_is_answered_without_a_body() {
    let text = answered("HEAD /livez HTTP/1.0\r\n\r\n");
    assert!(text.contains("Content-Length: 7\r\n") && text.ends_with("\r\n\r\n"), "{text}");
}

#[test]
fn anything_else_is_refused() {
    let long = format!("GET /{} HTTP/1.1", "x".repeat(9_000));
    for (request, status) in [
        ("POST /livez HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", "405 Method Not Allowed"),
        ("GET /elsewhere HTTP/1.1\r\n\r\n", "404 Not Found"),
        ("GET /livez HTTP/2.0\r\n\r\n", "505 HTTP Version Not Supported"),
        ("GET http://host/livez HTTP/1.1\r\n\r\n", "400 Bad Request"),
        ("GET  /livez HTTP/1.1\r\n\r\n", "400 Bad Request"),
        ("GET /livez\r\n\r\n", "400 Bad Request"),
        ("\r\n\r\n", "400 Bad Request"),
        ("\u{16}\u{3}\u{1}\r\n\r\n", "400 Bad Request"),
        (long.as_str(), "431 Request Header Fields Too Large"),
    ] {
        let text = answered(request);
        assert!(text.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{request:?}: {text}");
    }
}

#[test]
fn a_port_that_cannot_be_had_is_named_with_the_reason() {
    let taken = bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let says = |address: &str| bind(address).unwrap_err().to_string();
    assert_eq!(
        says(&address),
        format!("health: cannot listen on `{address}`: another program uses this port; give another one")
    );
    assert!(says("192.0.2.1:8080").contains("this machine does not have this address"));
    assert!(says("nonsense").contains("not of the form `HOST:PORT`"));
}

// --- the counts ------------------------------------------------------------------------------

#[test]
fn the_counts_are_text_that_prometheus_reads() {
    let (daily, odd) = ("daily".into(), "a\"b\\c".into());
    let metrics = Metrics::new([&daily, &odd].into_iter());
    metrics.add_slots("daily", SlotCount::Missed, 3);
    metrics.add_run("daily", RunState::Succeeded);
    metrics.add_run("daily", RunState::Queued);
    metrics.add_run("unknown", RunState::Succeeded);
    metrics.of("daily").unwrap().lateness.add(Duration::from_millis(2_500));
    let health = Health::new(&working(), Duration::ZERO, LEASE, STALL, NOW);
    let text = exposition(&metrics, &health, (100, 7));
    for line in [
        "# TYPE polos_slots_total counter",
        "polos_slots_total{workflow=\"daily\",outcome=\"missed\"} 3",
        "polos_slots_total{workflow=\"daily\",outcome=\"ran\"} 0",
        "polos_slots_total{workflow=\"a\\\"b\\\\c\",outcome=\"ran\"} 0",
        "polos_runs_total{workflow=\"daily\",status=\"succeeded\"} 1",
        "polos_runs_total{workflow=\"daily\",status=\"failed\"} 0",
        "# TYPE polos_lateness_seconds histogram",
        "polos_lateness_seconds_bucket{workflow=\"daily\",le=\"1\"} 0",
        "polos_lateness_seconds_bucket{workflow=\"daily\",le=\"5\"} 1",
        "polos_lateness_seconds_bucket{workflow=\"daily\",le=\"+Inf\"} 1",
        "polos_lateness_seconds_sum{workflow=\"daily\"} 2.5",
        "polos_lateness_seconds_count{workflow=\"daily\"} 1",
        "polos_permits 100",
        "polos_permits_taken 7",
        "polos_live 1",
        "polos_ready 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    assert!(!text.contains("unknown") && !text.contains("polos_run_duration_seconds_count"), "{text}");
    assert!(text.ends_with('\n'));
}
