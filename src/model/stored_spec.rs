//! Specifications as stored. A million schedules share few distinct texts, so a process compiles
//! each text once.

use super::spec::{CompiledSpec, SpecError};
use super::{Json, ScheduleSpec};
use crate::sync::Mutex;
use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// A specification as a row contains it: its JSON text, and what that compiles to. Equal texts are
/// equal specifications.
#[derive(Clone)]
pub struct StoredSpec {
    text: Json,
    compiled_spec: Result<Arc<CompiledSpec>, Arc<SpecError>>,
}

impl StoredSpec {
    /// The text.
    pub fn text(&self) -> &Json {
        &self.text
    }

    /// Its fields, also of one that can't be compiled, for example because its zone is unknown
    /// here. `None` if it can't be read at all.
    pub fn fields(&self) -> Option<Cow<'_, ScheduleSpec>> {
        match &self.compiled_spec {
            Ok(compiled_spec) => Some(Cow::Borrowed(compiled_spec.spec())),
            Err(_) => serde_json::from_str(&self.text).ok().map(Cow::Owned),
        }
    }

    /// What it compiles to. An error for a row that a person has edited, or that a newer release
    /// has written.
    pub fn compiled(&self) -> Result<&Arc<CompiledSpec>, &SpecError> {
        self.compiled_spec.as_ref().map_err(|error| &**error)
    }
}

impl From<Json> for StoredSpec {
    fn from(text: Json) -> Self {
        let compiled_spec = compiled(&text).map_err(Arc::new);
        Self { text, compiled_spec }
    }
}

impl From<&str> for StoredSpec {
    fn from(text: &str) -> Self {
        Json::from(text).into()
    }
}

impl From<String> for StoredSpec {
    fn from(text: String) -> Self {
        Json::from(text).into()
    }
}

impl From<Arc<CompiledSpec>> for StoredSpec {
    fn from(compiled_spec: Arc<CompiledSpec>) -> Self {
        Self { text: Arc::clone(compiled_spec.text()), compiled_spec: Ok(compiled_spec) }
    }
}

impl PartialEq for StoredSpec {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl fmt::Debug for StoredSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

/// Most specifications to keep; beyond it all are dropped.
const CACHED_MAX: usize = 20_000;

static CACHE: Mutex<Option<HashMap<Json, Arc<CompiledSpec>>>> = Mutex::new(None);

/// The specification with this JSON text. Compiles it if this process doesn't know it yet.
///
/// Never waits for the cache: a child that was forked while another thread held the lock compiles
/// for itself.
pub fn compiled(text: &str) -> Result<Arc<CompiledSpec>, SpecError> {
    if let Some(Some(cache)) = CACHE.try_lock().as_deref()
        && let Some(known) = cache.get(text)
    {
        return Ok(Arc::clone(known));
    }
    let compiled_spec = Arc::new(CompiledSpec::parse(text)?);
    keep(text.into(), &compiled_spec);
    Ok(compiled_spec)
}

/// Keeps a new specification, so that [`compiled`] knows its text.
pub fn keep_compiled(compiled_spec: CompiledSpec) -> Arc<CompiledSpec> {
    let compiled_spec = Arc::new(compiled_spec);
    keep(Arc::clone(compiled_spec.text()), &compiled_spec);
    compiled_spec
}

fn keep(text: Json, compiled_spec: &Arc<CompiledSpec>) {
    let Some(mut cache) = CACHE.try_lock() else { return };
    let cache = cache.get_or_insert_default();
    if cache.len() >= CACHED_MAX {
        cache.clear();
    }
    cache.insert(text, Arc::clone(compiled_spec));
}
