//! Finds the next time after a random instant, in New York and in UTC.

use super::baseline;
use super::expressions::{EXPRESSIONS, instants};
use chrono::{DateTime, TimeZone};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion};
use polos::calendar::{Timestamp, Zone, next_fire};
use polos::cron::CronExpr;
use std::hint::black_box;
use std::str::FromStr;

/// Calls `next` with each of `instants` in turn.
fn cycle<I: Copy, O>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    id: BenchmarkId,
    instants: &[I],
    next: impl Fn(I) -> O,
) {
    let mut number = 0;
    group.bench_function(id, |bench| {
        bench.iter(|| {
            number = (number + 1) % instants.len();
            next(black_box(instants[number]))
        });
    });
}

pub fn next(criterion: &mut Criterion) {
    // One expression is enough in UTC: only the zone makes a difference.
    for (permit, zone, count) in [("New York", "America/New_York", EXPRESSIONS.len()), ("UTC", "UTC", 1)] {
        let mut group = criterion.benchmark_group(format!("next {permit}"));
        for &(name, text, with_seconds) in &EXPRESSIONS[..count] {
            ours(&mut group, name, text, zone);
            bare(&mut group, name, text, zone);
            others(&mut group, name, text, with_seconds, zone);
        }
        group.finish();
    }
}

fn ours(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, text: &str, zone: &str) {
    let expression = CronExpr::parse(text).unwrap();
    let zone = Zone::get(zone).unwrap();
    let instants: Vec<_> = instants().into_iter().map(Timestamp::from_second).collect();
    let next = |instant| next_fire(&expression, &zone, instant).unwrap();
    cycle(group, BenchmarkId::new(name, "polos"), &instants, next);
}

fn bare(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, text: &str, zone: &str) {
    let expression = baseline::Expression::parse(text).unwrap();
    let zone = baseline::Zone::named(zone);
    let next = |instant| baseline::next(&expression, &zone, instant).unwrap();
    cycle(group, BenchmarkId::new(name, "baseline"), &instants(), next);
}

fn others(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, text: &str, with_seconds: &str, zone: &str) {
    let tz = chrono_tz::Tz::from_str(zone).unwrap();
    let times: Vec<DateTime<chrono_tz::Tz>> =
        instants().into_iter().map(|second| tz.timestamp_opt(second, 0).unwrap()).collect();

    let schedule = cron::Schedule::from_str(with_seconds).unwrap();
    cycle(group, BenchmarkId::new(name, "cron"), &times, |time| schedule.after(&time).next().unwrap());

    let schedule = croner::Cron::from_str(text).unwrap();
    let next = |time| schedule.find_next_occurrence(&time, false).unwrap();
    cycle(group, BenchmarkId::new(name, "croner"), &times, next);

    let schedule = cronexpr::parse_crontab(&format!("{text} {zone}")).unwrap();
    let stamps: Vec<_> =
        instants().into_iter().map(|second| jiff::Timestamp::from_second(second).unwrap()).collect();
    let next = |stamp| schedule.find_next(stamp).unwrap();
    cycle(group, BenchmarkId::new(name, "cronexpr"), &stamps, next);
}
