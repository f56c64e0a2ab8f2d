//! Opens connections: finds the host that accepts writes, and limits the time each host gets.
//!
//! Hosts are tried in order, starting with the last one that accepted writes. If a host does not
//! answer within [`NEXT_HOST_AFTER`], the next is tried in parallel, and the first connection wins.
//! So a host that drops packets delays us by that second, not by its whole timeout.

use super::config::ServerConfig;
use super::error::{PgError, at_opening, refuses_settings, verdict};
use super::tls::Tls;
use crate::store::StoreError;
use crate::sync::Mutex;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_postgres::config::SslMode;
use tokio_postgres::{AsyncMessage, Client, Config, Error, SimpleQueryMessage};

/// How long to wait for a host before also trying the next one.
const NEXT_HOST_AFTER: Duration = Duration::from_secs(1);

/// The same for the addresses of one host.
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);

/// If there are several hosts, one that accepts no TCP connection within this time is dead. TLS and
/// login may then take as long as the URL says.
const REACH_MAX: Duration = Duration::from_secs(3);

/// How long a server may take to tell whether it still works on our request.
const PROBE_MAX: Duration = Duration::from_secs(4);

/// Receives the messages that the server sends unasked.
pub(super) type NotificationHandler = Box<dyn FnMut(AsyncMessage) + Send>;

/// The handler of a connection. Set once the connection has won the race between hosts.
type NotificationSlot = Arc<Mutex<Option<NotificationHandler>>>;

/// Connects to the host that accepts writes, or to any host if the URL does not ask for one that
/// does. Returns the client and the number of the host.
pub(super) async fn connect(
    server: &ServerConfig,
    handler: Option<NotificationHandler>,
) -> Result<(Client, usize), NotConnected> {
    let hosts = server.order();
    let attempts = hosts.iter().map(|host| (*host, reach(server.clone(), *host))).collect();
    match race(attempts, NEXT_HOST_AFTER).await {
        Ok((host, (client, notification_slot))) => {
            *notification_slot.lock() = handler;
            server.note_host(host);
            Ok((client, host))
        }
        Err(failures) => Err(NotConnected {
            error: summary(server, &failures),
            refuses_settings: failures.iter().any(|(_, failure)| failure.refuses_settings()),
        }),
    }
}

/// Why there is no connection.
pub(super) struct NotConnected {
    pub error: StoreError,
    /// Whether it may succeed without the setting that the login asks for.
    pub refuses_settings: bool,
}

impl From<StoreError> for NotConnected {
    fn from(error: StoreError) -> Self {
        Self { error, refuses_settings: false }
    }
}

impl From<NotConnected> for StoreError {
    fn from(failed: NotConnected) -> Self {
        failed.error
    }
}

/// What a server says about our unanswered request.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Diagnosis {
    /// The server works on it or can't tell.
    Busy,
    /// The server has no such request, does not answer, or no longer accepts writes.
    Lost,
}

/// Asks the server at `host`, on a separate connection, what the session `process` is doing.
pub(super) async fn diagnose(server: &ServerConfig, host: usize, process: Option<i32>) -> Diagnosis {
    let asked = async {
        let (client, _) = match reach(server.clone(), host).await {
            Ok(connected) => connected,
            // The server is alive, whatever its reason to reject a new connection.
            Err(Failure::Postgres(error)) if error.as_db_error().is_some() => return Diagnosis::Busy,
            Err(_) => return Diagnosis::Lost,
        };
        let Some(process) = process else { return Diagnosis::Busy };
        let sql = format!("SELECT state FROM pg_stat_activity WHERE pid = {process}");
        match first_value(&client, &sql).await {
            Ok(Some(state)) if state.starts_with("idle") => Diagnosis::Lost,
            Ok(None) => Diagnosis::Lost,
            Ok(Some(_)) | Err(_) => Diagnosis::Busy,
        }
    };
    timeout(PROBE_MAX, asked).await.unwrap_or(Diagnosis::Lost)
}

/// Why a host can't be used.
#[derive(Debug)]
enum Failure {
    /// An error of the server or the network.
    Postgres(Error),
    /// No answer within this time.
    Slow(Duration),
    /// The server accepts no writes.
    ReadOnly,
    /// The host's name could not be resolved.
    Unknown(std::io::Error),
    /// TLS could not be set up, so the server's certificate can't be verified.
    Tls(StoreError),
}

impl Failure {
    fn refuses_settings(&self) -> bool {
        matches!(self, Self::Postgres(error) if refuses_settings(error))
    }
}

type Connected = (Client, NotificationSlot);
type Attempt<T> = Pin<Box<dyn Future<Output = Result<T, Failure>> + Send>>;

/// Starts the attempts one after another, each `next_after` the one before or as soon as that one
/// has failed. The first success wins, and the other attempts are dropped.
async fn race<T: Send + 'static>(
    attempts: Vec<(usize, Attempt<T>)>,
    next_after: Duration,
) -> Result<(usize, T), Vec<(usize, Failure)>> {
    let mut waiting = attempts.into_iter();
    let mut under_way = JoinSet::new();
    let mut failures = Vec::new();
    let mut has_more = true;
    loop {
        if has_more {
            match waiting.next() {
                Some((key, attempt)) => _ = under_way.spawn(async move { (key, attempt.await) }),
                None => has_more = false,
            }
        }
        let ended = if has_more {
            match timeout(next_after, under_way.join_next()).await {
                Ok(ended) => ended,
                Err(_) => continue,
            }
        } else {
            under_way.join_next().await
        };
        match ended {
            Some(Ok((key, Ok(made)))) => return Ok((key, made)),
            Some(Ok((key, Err(failure)))) => failures.push((key, failure)),
            // The panic hook has reported it.
            Some(Err(_)) => {}
            None if has_more => {}
            None => return Err(failures),
        }
    }
}

/// Connects to one host, at any of its addresses.
fn reach(server: ServerConfig, host: usize) -> Attempt<Connected> {
    Box::pin(async move {
        let time = server.connect_timeout();
        let reached = reach_any(&server, host);
        match time {
            Some(time) => timeout(time, reached).await.unwrap_or(Err(Failure::Slow(time))),
            None => reached.await,
        }
    })
}

async fn reach_any(server: &ServerConfig, host: usize) -> Result<Connected, Failure> {
    let Some((name, port)) = server.to_resolve(host) else {
        return open(server, host, None).await;
    };
    let found: Vec<IpAddr> = match tokio::net::lookup_host((&*name, port)).await {
        Ok(found) => found.map(|found| found.ip()).collect(),
        Err(error) => return Err(Failure::Unknown(error)),
    };
    let attempts = found
        .into_iter()
        .enumerate()
        .map(|(number, ip)| {
            let server = server.clone();
            let attempt: Attempt<Connected> = Box::pin(async move { open(&server, host, Some(ip)).await });
            (number, attempt)
        })
        .collect();
    match race(attempts, NEXT_ADDRESS_AFTER).await {
        Ok((_, made)) => Ok(made),
        Err(failures) => Err(most_telling(failures)),
    }
}

/// The most useful of the failures of one host's addresses: an error that the server reports says
/// more than an error of the network.
fn most_telling(failures: Vec<(usize, Failure)>) -> Failure {
    let mut best = Failure::Unknown(std::io::Error::other("it has no address"));
    let mut best_rank = 0;
    for (_, failure) in failures {
        let rank = match &failure {
            Failure::Postgres(error) if error.as_db_error().is_some() => 4,
            Failure::Tls(_) | Failure::ReadOnly => 3,
            Failure::Postgres(_) => 2,
            Failure::Slow(_) | Failure::Unknown(_) => 1,
        };
        if rank > best_rank {
            (best, best_rank) = (failure, rank);
        }
    }
    best
}

/// Connects to one address of a host, with TLS as the URL demands.
async fn open(server: &ServerConfig, host: usize, ip: Option<IpAddr>) -> Result<Connected, Failure> {
    let mut config = server.config_of(host, ip);
    if server.has_several_hosts() {
        let time = server.connect_timeout().map_or(REACH_MAX, |time| time.min(REACH_MAX));
        config.connect_timeout(time);
    }
    let connected = if server.tries_plain_first() {
        let mut plain = config.clone();
        plain.ssl_mode(SslMode::Disable);
        match log_in(&plain, None).await {
            Err(error) if error.as_db_error().is_some() => {
                log_in(&config, Some(server.tls().map_err(Failure::Tls)?)).await
            }
            connected => connected,
        }
    } else {
        log_in(&config, Some(server.tls().map_err(Failure::Tls)?)).await
    };
    let connected = connected.map_err(Failure::Postgres)?;
    if server.wants_primary() {
        let is_read_only =
            first_value(&connected.0, "SHOW transaction_read_only").await.map_err(Failure::Postgres)?;
        if is_read_only.as_deref() == Some("on") {
            return Err(Failure::ReadOnly);
        }
    }
    Ok(connected)
}

async fn log_in(config: &Config, tls: Option<Tls>) -> Result<Connected, Error> {
    let notification_slot = NotificationSlot::default();
    macro_rules! drive {
        ($connected:expr) => {{
            let (client, mut connection) = $connected?;
            let slot = Arc::clone(&notification_slot);
            // Runs while a thread uses the connection, and ends with the connection.
            tokio::spawn(async move {
                while let Some(Ok(message)) =
                    std::future::poll_fn(|context| connection.poll_message(context)).await
                {
                    if let Some(handle) = &mut *slot.lock() {
                        handle(message);
                    }
                }
            });
            Ok((client, notification_slot))
        }};
    }
    if let Some(tls) = tls {
        drive!(config.connect(tls).await)
    } else {
        drive!(config.connect(tokio_postgres::NoTls).await)
    }
}

/// The first column of the first row.
async fn first_value(client: &Client, sql: &str) -> Result<Option<String>, Error> {
    let answers = client.simple_query(sql).await?;
    Ok(answers.iter().find_map(|answer| match answer {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    }))
}

/// Why none of the hosts can be used. Failures that need action come first: that a standby accepts
/// no writes is expected.
fn summary(server: &ServerConfig, failures: &[(usize, Failure)]) -> StoreError {
    let name = server.name();
    if let [(_, failure)] = failures {
        return match failure {
            Failure::Postgres(error) => at_opening(server, error),
            Failure::Tls(error) => error.clone(),
            other => StoreError::Unavailable(format!(
                "the database `{name}` can't be used: {}",
                explained(server, other).1
            )),
        };
    }
    let mut reasons: Vec<(bool, String)> = failures
        .iter()
        .map(|(host, failure)| {
            let (needs_action, reason) = explained(server, failure);
            (needs_action, format!("`{}`: {reason}", server.host_name(*host)))
        })
        .collect();
    reasons.sort_by_key(|(needs_action, _)| !needs_action);
    let needs_action = reasons.iter().any(|(needs_action, _)| *needs_action);
    let reasons: Vec<String> = reasons.into_iter().map(|(_, reason)| reason).collect();
    let reason = format!("no host can be used: {}", reasons.join("; "));
    if needs_action {
        StoreError::Unusable { path: name.into(), action: "opened", reason }
    } else {
        StoreError::Unavailable(format!("the database `{name}` can't be opened: {reason}"))
    }
}

/// Whether an operator has to act, and what is wrong.
fn explained(server: &ServerConfig, failure: &Failure) -> (bool, String) {
    match failure {
        Failure::Postgres(error) => verdict(server, error),
        Failure::Slow(time) => {
            (false, format!("no answer in {} s; check the server and the network", time.as_secs()))
        }
        Failure::ReadOnly => (
            false,
            "it takes no writes: it is a standby, or `default_transaction_read_only` is on; a promotion \
             may be under way, or the primary is missing in the URL"
                .to_owned(),
        ),
        Failure::Unknown(error) => (false, format!("its name can't be resolved: {error}")),
        Failure::Tls(error) => (true, error.to_string()),
    }
}

/// The result of whichever future finishes first; that of `one` if both have.
pub(super) async fn first_of<A, B>(
    mut one: Pin<&mut impl Future<Output = A>>,
    other: impl Future<Output = B>,
) -> Result<A, B> {
    let mut other = std::pin::pin!(other);
    std::future::poll_fn(|context| {
        if let std::task::Poll::Ready(value) = one.as_mut().poll(context) {
            return std::task::Poll::Ready(Ok(value));
        }
        other.as_mut().poll(context).map(Err)
    })
    .await
}

/// Waits for the answer to a request while the server works on it, for at most `time`. Every
/// [`ASK_AFTER`] it asks the server whether it still does: if the host is dead or the network is
/// cut, no answer will come.
pub(super) async fn answered<T>(
    request: impl Future<Output = Result<T, Error>>,
    (server, host, process): (&ServerConfig, usize, Option<i32>),
    time: Duration,
) -> Result<T, PgError> {
    let mut request = std::pin::pin!(request);
    let rounds = (time.as_secs() / ASK_AFTER.as_secs()).max(1);
    for round in 1..=rounds {
        match timeout(ASK_AFTER, request.as_mut()).await {
            Ok(answer) => return Ok(answer?),
            Err(_) if round == rounds => break,
            Err(_) => {}
        }
        match first_of(request.as_mut(), diagnose(server, host, process)).await {
            Ok(answer) => return Ok(answer?),
            Err(Diagnosis::Busy) => {}
            Err(Diagnosis::Lost) => {
                // The server may just have sent the answer.
                if let Ok(answer) = timeout(GRACE, request.as_mut()).await {
                    return Ok(answer?);
                }
                break;
            }
        }
    }
    Err(PgError::Silence)
}

/// How long to wait for an answer before asking the server about the request.
const ASK_AFTER: Duration = Duration::from_secs(6);

/// How long to wait for an answer that the server has already sent.
const GRACE: Duration = Duration::from_secs(1);
