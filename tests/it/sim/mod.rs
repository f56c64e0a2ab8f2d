//! A seeded simulation of whole installations: real engines and a real store, virtual time, faults of every kind.

pub mod faults;
