//! Monitoring of a worker: probes over HTTP, and a heartbeat file. All of it comes from a separate
//! thread, so neither a handler nor the database can delay an answer.

mod address;
mod exposition;
mod health;
mod http;

pub use address::bind;
pub use exposition::{CONTENT_TYPE, exposition};
pub use health::{Health, HealthMonitor, LoopPulse};
pub use http::{HttpServer, Respond, Response, answer};

use crate::engine::Permits;
use crate::engine::metrics::Metrics;
use crate::error::Error;
use crate::sync::Mutex;
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How a worker is watched; durations in microseconds.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MonitorSetup {
    /// `HOST:PORT` for the probes.
    health: Option<String>,
    /// How long the event loop may take to answer.
    stall: u64,
    /// The file that is written while the worker is live.
    heartbeat_file: Option<PathBuf>,
}

/// The longest interval at which a watched worker looks at itself.
const INTERVAL_MAX: Duration = Duration::from_secs(5);

/// The shortest one.
const INTERVAL_MIN: Duration = Duration::from_millis(20);

/// How long stopping waits for the thread, which never waits for anything itself.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

const TEXT: &str = "text/plain; charset=utf-8";

impl MonitorSetup {
    /// How long the event loop may take to answer.
    pub fn stall(&self) -> Duration {
        Duration::from_micros(self.stall)
    }

    fn is_watched(&self) -> bool {
        self.health.is_some() || self.heartbeat_file.is_some()
    }

    fn interval(&self, lease: Duration) -> Duration {
        (self.stall().min(lease) / 3).clamp(INTERVAL_MIN, INTERVAL_MAX)
    }
}

/// What the port shows of a worker.
pub struct Site {
    /// Its health.
    pub health: Arc<HealthMonitor>,
    /// Its counts.
    pub metrics: Arc<Metrics>,
    /// Its permits.
    pub permits: Arc<Permits>,
}

impl Site {
    fn respond(&self, path: &str) -> Response {
        let probe = |problem: Option<String>| match problem {
            None => Response::new(200, TEXT, "ok\n".to_owned()),
            Some(problem) => Response::new(503, TEXT, format!("{problem}\n")),
        };
        match path {
            "/livez" => probe(self.health.check().live_problem),
            "/readyz" => probe(self.health.check().ready_problem),
            "/metrics" => {
                let body = exposition(&self.metrics, &self.health.check(), self.permits.usage());
                Response::new(200, CONTENT_TYPE, body)
            }
            _ => {
                let body = "there is nothing here; see /livez, /readyz, and /metrics\n";
                Response::new(404, TEXT, body.to_owned())
            }
        }
    }
}

/// The port and the file of a worker that has not started yet: taken first, so that a worker whose
/// probes could not be answered does not start at all.
pub struct Reserved {
    setup: MonitorSetup,
    listener: Option<std::net::TcpListener>,
}

impl Reserved {
    /// Binds the port and writes the file.
    pub fn new(setup: MonitorSetup) -> Result<Self, Error> {
        let listener = setup.health.as_deref().map(bind).transpose()?;
        if let Some(path) = &setup.heartbeat_file {
            touch(path).map_err(|error| {
                Error::Argument(format!(
                    "heartbeat_file: cannot write `{}`: {error}; name a file in a folder that the worker may write",
                    path.display()
                ))
            })?;
        }
        Ok(Self { setup, listener })
    }

    /// Starts the thread, if there is anything to watch.
    pub fn start(
        self,
        site: Site,
        lease: Duration,
        on_advice: Box<dyn Fn(&str) + Send + Sync>,
    ) -> Result<Option<Monitor>, Error> {
        if !self.setup.is_watched() {
            return Ok(None);
        }
        let file = self.setup.heartbeat_file.clone();
        let beating =
            file.clone().map(|path| HeartbeatFile { path, has_failed: Mutex::default(), on_advice });
        let health = Arc::clone(&site.health);
        let server = HttpServer::start(
            self.listener,
            Arc::new(move |path| site.respond(path)),
            self.setup.interval(lease),
            Box::new(move || {
                let health = health.check();
                if let Some(file) = &beating
                    && health.live_problem.is_none()
                {
                    file.beat();
                }
            }),
        )
        .map_err(|error| Error::State(format!("health: the thread could not be started: {error}")))?;
        Ok(Some(Monitor { server, file }))
    }
}

/// A worker's probes. Stopped when it is dropped.
pub struct Monitor {
    server: HttpServer,
    file: Option<PathBuf>,
}

impl Monitor {
    /// The address on which probes are answered.
    pub fn address(&self) -> Option<SocketAddr> {
        self.server.address()
    }

    /// Stops answering, and removes the file: the worker ends as it should.
    pub fn stop(self) {
        self.server.stop(STOP_TIMEOUT);
        if let Some(file) = &self.file {
            // A file that cannot be removed grows old.
            let _ = std::fs::remove_file(file);
        }
    }
}

struct HeartbeatFile {
    path: PathBuf,
    has_failed: Mutex<bool>,
    on_advice: Box<dyn Fn(&str) + Send + Sync>,
}

impl HeartbeatFile {
    fn beat(&self) {
        let mut has_failed = self.has_failed.lock();
        let result = touch(&self.path);
        if let Err(error) = &result
            && !*has_failed
        {
            (self.on_advice)(&format!(
                "the heartbeat file `{}` cannot be written, so a probe of its age takes this worker for dead: {error}",
                self.path.display()
            ));
        }
        *has_failed = result.is_err();
    }
}

/// Writes the file again, which sets its time of modification by the file system's clock.
fn touch(path: &Path) -> std::io::Result<()> {
    std::fs::write(path, "live\n")
}
