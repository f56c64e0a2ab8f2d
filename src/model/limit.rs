//! Limits: how many runs of some workflows may be claimed at once, and how many may start in a
//! period.

use super::schedule::{Declaration, fingerprint};
use super::{DeclaredKey, Json, WantedCalls};
use crate::calendar::Timestamp;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The values of a limit. At least one of `max`, `per_key`, and `rate` is set.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct LimitSpec {
    /// Most runs that may be claimed at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
    /// Most runs of one key that may be claimed at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_key: Option<u32>,
    /// Most claims in any period of the length `per_us`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<u32>,
    /// The length of the period of `rate`, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_us: Option<i64>,
}

impl LimitSpec {
    /// Parses the stored text; `None` if it can't be parsed.
    pub fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// As stored: equal values have equal text.
    pub fn to_json(&self) -> Json {
        serde_json::to_string(self).unwrap_or_default().into()
    }
}

/// A limit that the code of a worker declares.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeclaredLimit {
    /// Unique in the project.
    pub name: Arc<str>,
    /// The declared values.
    pub spec: LimitSpec,
}

/// What the code of a worker declares about the runs of one workflow.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ClaimRules {
    /// The limit that its runs count against.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Arc<str>>,
    /// The priority of its runs, unless their creator gives another one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub priority: u8,
    /// The hook calls to record. Not part of the declaration: what one worker wants does not
    /// replace what another wants.
    #[serde(skip)]
    pub hooks: WantedCalls,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(priority: &u8) -> bool {
    *priority == 0
}

impl ClaimRules {
    /// As stored: equal rules have equal text.
    pub fn to_json(&self) -> Json {
        serde_json::to_string(self).unwrap_or_default().into()
    }
}

/// Identifies a declaration of a limit among the declarations of a live worker.
pub fn limit_label(name: &str) -> Arc<str> {
    format!("limit {name}").into()
}

/// Whether a worker declares the limit, by what is stored of its declarations.
pub fn is_declared(declares: Option<&str>, name: &str) -> bool {
    let keys: Option<Vec<DeclaredKey>> = declares.and_then(|text| serde_json::from_str(text).ok());
    let label = limit_label(name);
    keys.is_some_and(|keys| keys.iter().any(|key| is_labeled(key, &label)))
}

/// Whether a declaration is that of the limit with this label.
pub fn is_labeled(DeclaredKey(workflow, key, _): &DeclaredKey, label: &str) -> bool {
    workflow.is_empty() && **key == *label
}

/// Identifies the declared [`ClaimRules`] of a workflow among the declarations of a live worker.
pub fn rules_label(workflow: &str) -> Arc<str> {
    format!("workflow {workflow}").into()
}

/// Fingerprint of a declared limit or of declared rules.
pub fn declared_fingerprint(json: &str) -> Arc<str> {
    fingerprint(json, None, None).into()
}

/// A limit as stored.
#[derive(Clone, PartialEq, Debug)]
pub struct Limit {
    /// The declaration that counts, as [`Declaration`] stores it; its specification is a
    /// [`LimitSpec`].
    pub declaration: Json,
    /// The values that an operator set, and only these. They win until they are reset. Either both
    /// of the rate and its period are among them, or none.
    pub set: Option<LimitSpec>,
    /// The claims of the last period, for a limit with a rate.
    pub taken: TakenTokens,
    /// When the declaration or the operator's values last changed.
    pub updated_at: Timestamp,
}

impl Limit {
    /// The values that the code declares.
    pub fn declared(&self) -> LimitSpec {
        let declaration = Declaration::parse(Some(&self.declaration));
        declaration.and_then(|known| LimitSpec::parse(&known.spec)).unwrap_or_default()
    }

    /// The values in effect: those that an operator set, and the declared ones beside them.
    pub fn spec(&self) -> LimitSpec {
        let declared = self.declared();
        let Some(set) = &self.set else { return declared };
        let paced = if set.rate.is_some() { set } else { &declared };
        LimitSpec {
            max: set.max.or(declared.max),
            per_key: set.per_key.or(declared.per_key),
            rate: paced.rate,
            per_us: paced.per_us,
        }
    }

    /// How many runs may start now as far as the rate decides that, and if none, when the next one
    /// may; `None` without a rate.
    pub fn starts(&self, now: Timestamp) -> Option<(u32, Option<Timestamp>)> {
        let spec = self.spec();
        let (rate, per_us) = spec.rate.zip(spec.per_us)?;
        let mut taken = self.taken.clone();
        taken.settle(now, per_us);
        let left = taken.left(now, rate, per_us);
        Some((left, (left == 0).then(|| taken.next(now, rate, per_us))))
    }

    /// The values that an operator has set after this change, which keeps those that it does not
    /// give. A rate that is given without its period has the period in effect, and the other way
    /// round; `None` if there is none.
    pub fn after(&self, changes: &LimitSpec) -> Option<LimitSpec> {
        let known = self.set.clone().unwrap_or_default();
        let paced = match (changes.rate, changes.per_us) {
            (None, None) => known.rate.zip(known.per_us),
            (rate, per_us) => {
                let current = self.spec();
                Some(rate.or(current.rate).zip(per_us.or(current.per_us))?)
            }
        };
        Some(LimitSpec {
            max: changes.max.or(known.max),
            per_key: changes.per_key.or(known.per_key),
            rate: paced.map(|(rate, _)| rate),
            per_us: paced.map(|(_, per_us)| per_us),
        })
    }

    /// The values that an operator set, as stored. Earlier releases take them for all values in
    /// effect, so these are there, with the names of those that were set.
    pub fn stored_set(&self) -> Option<Json> {
        let set = self.set.as_ref()?;
        let names = [
            set.max.map(|_| SetValue::Max),
            set.per_key.map(|_| SetValue::PerKey),
            set.rate.map(|_| SetValue::Rate),
        ];
        let stored = StoredSet { values: self.spec(), set: Some(names.into_iter().flatten().collect()) };
        Some(serde_json::to_string(&stored).unwrap_or_default().into())
    }

    /// Parses what [`Self::stored_set`] gives.
    pub fn parse_set(text: &str) -> Option<LimitSpec> {
        let StoredSet { values, set } = serde_json::from_str(text).ok()?;
        // An earlier release stored all of them.
        let Some(set) = set else { return Some(values) };
        let is_set = |name| set.contains(&name);
        Some(LimitSpec {
            max: values.max.filter(|_| is_set(SetValue::Max)),
            per_key: values.per_key.filter(|_| is_set(SetValue::PerKey)),
            rate: values.rate.filter(|_| is_set(SetValue::Rate)),
            per_us: values.per_us.filter(|_| is_set(SetValue::Rate)),
        })
    }
}

/// See [`Limit::stored_set`].
#[derive(Serialize, Deserialize)]
struct StoredSet {
    #[serde(flatten)]
    values: LimitSpec,
    #[serde(default)]
    set: Option<Vec<SetValue>>,
}

/// A value that an operator set; `rate` stands for its period, too.
#[derive(PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum SetValue {
    Max,
    PerKey,
    Rate,
}

/// A limit and its use, for people.
#[derive(Clone, PartialEq, Debug)]
pub struct LimitStatus {
    /// Unique in the project.
    pub name: Arc<str>,
    /// The limit.
    pub limit: Limit,
    /// The workflows whose runs count against it, in order.
    pub workflows: Vec<Arc<str>>,
    /// Number of its runs that are claimed.
    pub running: u64,
    /// Number of its runs that are available and not claimed, counted up to a bound.
    pub queued: u64,
    /// Since when the first of these has been available.
    pub oldest: Option<Timestamp>,
}

/// The tokens of a rate limit that are out. A token returns one period after it was taken, so no
/// period of that length, wherever it begins, holds more claims than there are tokens.
///
/// Those whose date no clock can have had that agrees with the reader's are apart. A worker whose
/// clock was ahead took them, and a reader counts them as taken when it has found them
/// ([`Self::settle`]), so that they return as well. Their date stays: by the clock that took them,
/// they return when they should.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(from = "Vec<(i64, u32)>", into = "Vec<(i64, u32)>")]
pub struct TakenTokens(Vec<(i64, u32)>, Vec<TokensAhead>);

/// Tokens that a clock took that was ahead.
#[derive(Clone, PartialEq, Eq, Debug)]
struct TokensAhead {
    at: i64,
    count: u32,
    /// When they were found.
    found_at: i64,
}

/// Stored are pairs, which earlier releases read, too. Behind tokens that were found ahead, a pair
/// with no tokens says when.
impl From<Vec<(i64, u32)>> for TakenTokens {
    fn from(pairs: Vec<(i64, u32)>) -> Self {
        let mut taken = Self::default();
        for (at, count) in pairs {
            if count > 0 {
                taken.0.push((at, count));
            } else if let Some((ahead, count)) = taken.0.pop() {
                taken.1.push(TokensAhead { at: ahead, count, found_at: at });
            }
        }
        taken
    }
}

impl From<TakenTokens> for Vec<(i64, u32)> {
    fn from(taken: TakenTokens) -> Self {
        let ahead = taken.1.into_iter().flat_map(|ahead| [(ahead.at, ahead.count), (ahead.found_at, 0)]);
        taken.0.into_iter().chain(ahead).collect()
    }
}

/// About the most entries that are kept; claims closer together than the period divided by this
/// share one.
const ENTRIES: i64 = 64;

/// How far ahead of its time a run may be claimed at most, with some room; in microseconds.
const EARLY_MAX: i64 = 5_000_000;

impl TakenTokens {
    /// Parses the stored text; no token is out if there is none.
    pub fn parse(text: Option<&str>) -> Self {
        text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }

    /// As stored; `None` if no token is out.
    pub fn to_json(&self) -> Option<Json> {
        (!self.0.is_empty() || !self.1.is_empty())
            .then(|| serde_json::to_string(self).unwrap_or_default().into())
    }

    /// Number of tokens that are out at `now`.
    fn out(&self, now: i64, per_us: i64) -> u32 {
        self.0.iter().filter(|(at, _)| *at > now - per_us).fold(0, |sum, (_, count)| sum + count)
    }

    /// The same for those that were found ahead.
    fn out_ahead(&self, now: i64, per_us: i64) -> u32 {
        let out = self.1.iter().filter(|ahead| ahead.found_at > now - per_us);
        out.fold(0, |sum, ahead| sum.saturating_add(ahead.count))
    }

    /// Number of tokens left at `now` out of `rate`.
    pub fn left(&self, now: Timestamp, rate: u32, per_us: i64) -> u32 {
        let now = now.as_micros();
        rate.saturating_sub(self.out(now, per_us).saturating_add(self.out_ahead(now, per_us)))
    }

    /// When the next token can be taken: `now` if one is left.
    pub fn next(&self, now: Timestamp, rate: u32, per_us: i64) -> Timestamp {
        let ahead = self.1.iter().map(|ahead| (ahead.found_at, ahead.count));
        let mut taken: Vec<(i64, u32)> = self.0.iter().copied().chain(ahead).collect();
        taken.sort_unstable();
        let mut left = self.left(now, rate, per_us);
        let mut at = now;
        for (taken, _) in taken.into_iter().filter(|(at, _)| *at > now.as_micros() - per_us) {
            if left > 0 {
                break;
            }
            at = Timestamp::from_micros(taken + per_us);
            left = self.left(at, rate, per_us);
        }
        if left > 0 { at } else { Timestamp::MAX }
    }

    /// Sets tokens apart that a clock took that was ahead: their date is later than that of any
    /// claim by a clock that agrees with this one to a cell. Returns whether that has to be stored,
    /// for them to return.
    pub fn settle(&mut self, now: Timestamp, per_us: i64) -> bool {
        let (now, cell) = (now.as_micros(), (per_us / ENTRIES).max(1));
        let latest = now.saturating_add(EARLY_MAX).saturating_add(3 * cell);
        let found_at = now.div_euclid(cell) * cell + 2 * cell - 1;
        let mut is_new = false;
        let known = std::mem::take(&mut self.1);
        for (at, count) in self.0.extract_if(.., |(at, _)| *at > latest) {
            is_new = true;
            self.1.push(TokensAhead { at, count, found_at });
        }
        for ahead in known {
            // By the clock that took them, which is still ahead by more than a period.
            if ahead.at <= latest && ahead.at - ahead.found_at >= per_us {
                self.0.push((ahead.at, ahead.count));
            } else if ahead.found_at > latest {
                is_new = true;
                self.1.push(TokensAhead { found_at, ..ahead });
            } else if ahead.found_at > now - per_us {
                self.1.push(ahead);
            }
        }
        self.0.sort_unstable();
        is_new
    }

    /// Takes `count` tokens at `now` for runs that start then or, claimed ahead of their time, up
    /// to `until`. They return no sooner than tokens taken before, even if the clock of this claim
    /// is behind.
    pub fn take(&mut self, now: Timestamp, until: Timestamp, count: u32, per_us: i64) {
        if count == 0 {
            return;
        }
        let (now, until) = (now.as_micros(), until.as_micros());
        // Runs that start before `until` may still be claimed, and count these tokens.
        self.0.retain(|(at, _)| *at > now - per_us);
        // Entries lie on a grid, each at the end of the next cell. So its tokens return later by
        // one to two cells, and clocks that differ by a cell do no harm.
        let cell = (per_us / ENTRIES).max(1);
        let at = until.div_euclid(cell) * cell + 2 * cell - 1;
        match self.0.last_mut() {
            Some((last, taken)) if *last >= at => *taken += count,
            _ => self.0.push((at, count)),
        }
    }
}
