//! The counts of a worker in the text format of Prometheus.

use super::Health;
use crate::engine::metrics::{FINISHED, Histogram, Metrics, SlotCount, WorkflowMetrics};
use std::fmt::Write;

/// The type of the format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A histogram of a workflow, with its name and its help.
type HistogramOf = (&'static str, &'static str, fn(&WorkflowMetrics) -> &Histogram);

const HISTOGRAMS: [HistogramOf; 2] = [
    ("polos_lateness_seconds", "From slots to the first entries of their handlers.", |counts| {
        &counts.lateness
    }),
    (
        "polos_run_duration_seconds",
        "From entries of handlers to the recorded ends of their executions.",
        |counts| &counts.duration,
    ),
];

/// The counts as text. Counters of a workflow begin at zero; a histogram appears with its first
/// value.
pub fn exposition(metrics: &Metrics, health: &Health, (permits, taken): (usize, usize)) -> String {
    let mut text = String::new();
    head(&mut text, "polos_slots_total", "counter", "Slots that this worker has decided, by outcome.");
    for (workflow, counts) in metrics.workflows() {
        for outcome in SlotCount::ALL {
            let labels = format!("workflow=\"{}\",outcome=\"{}\"", escaped(workflow), outcome.word());
            line(&mut text, "polos_slots_total", &labels, counts.slots(outcome));
        }
    }
    head(&mut text, "polos_runs_total", "counter", "Runs whose end this worker has recorded, by status.");
    for (workflow, counts) in metrics.workflows() {
        for (state, status) in FINISHED {
            let labels = format!("workflow=\"{}\",status=\"{status}\"", escaped(workflow));
            line(&mut text, "polos_runs_total", &labels, counts.runs(state));
        }
    }
    for (name, help, histogram) in HISTOGRAMS {
        head(&mut text, name, "histogram", help);
        for (workflow, counts) in metrics.workflows() {
            add_histogram(&mut text, name, &escaped(workflow), histogram(counts));
        }
    }
    let is_live = usize::from(health.live_problem.is_none());
    let is_ready = usize::from(health.ready_problem.is_none());
    for (name, help, value) in [
        ("polos_permits", "The most runs that this worker executes at once.", permits),
        ("polos_permits_taken", "Runs that this worker executes now; those that wait do not count.", taken),
        ("polos_live", "Whether /livez answers 200.", is_live),
        ("polos_ready", "Whether /readyz answers 200.", is_ready),
    ] {
        head(&mut text, name, "gauge", help);
        line(&mut text, name, "", value);
    }
    text
}

fn add_histogram(text: &mut String, name: &str, workflow: &str, histogram: &Histogram) {
    let reading = histogram.read();
    if reading.count == 0 {
        return;
    }
    let bucket = format!("{name}_bucket");
    for (bound, count) in &reading.up_to {
        let labels = format!("workflow=\"{workflow}\",le=\"{}\"", bound.as_secs_f64());
        line(text, &bucket, &labels, count);
    }
    line(text, &bucket, &format!("workflow=\"{workflow}\",le=\"+Inf\""), reading.count);
    let labels = format!("workflow=\"{workflow}\"");
    line(text, &format!("{name}_sum"), &labels, reading.sum.as_secs_f64());
    line(text, &format!("{name}_count"), &labels, reading.count);
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn line(text: &mut String, name: &str, labels: &str, value: impl std::fmt::Display) {
    let _ = match labels {
        "" => writeln!(text, "{name} {value}"),
        _ => writeln!(text, "{name}{{{labels}}} {value}"),
    };
}

/// A label's value as the format has it.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
