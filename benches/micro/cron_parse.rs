//! Parses cron expressions.

use super::baseline::Expression;
use super::expressions::EXPRESSIONS;
use criterion::{BenchmarkId, Criterion};
use polos::cron::CronExpr;
use std::hint::black_box;
use std::str::FromStr;

pub fn parse(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parse");
    for &(name, text, with_seconds) in EXPRESSIONS {
        let in_zone = format!("{text} America/New_York");
        group.bench_function(BenchmarkId::new(name, "polos"), |bench| {
            bench.iter(|| CronExpr::parse(black_box(text)).unwrap());
        });
        group.bench_function(BenchmarkId::new(name, "baseline"), |bench| {
            bench.iter(|| Expression::parse(black_box(text)).unwrap());
        });
        group.bench_function(BenchmarkId::new(name, "cron"), |bench| {
            bench.iter(|| cron::Schedule::from_str(black_box(with_seconds)).unwrap());
        });
        group.bench_function(BenchmarkId::new(name, "croner"), |bench| {
            bench.iter(|| croner::Cron::from_str(black_box(text)).unwrap());
        });
        group.bench_function(BenchmarkId::new(name, "cronexpr"), |bench| {
            bench.iter(|| cronexpr::parse_crontab(black_box(&in_zone)).unwrap());
        });
    }
    group.finish();
}
