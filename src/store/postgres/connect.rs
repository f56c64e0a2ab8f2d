//! Making a connection: which of the hosts takes writes, and how long each may take to answer.
//!
//! Hosts are tried in their order, the last one that took writes first. One that doesn't answer
//! within a moment gets company: the next is tried beside it, and the first connection wins. So a
//! host that swallows packets costs that moment, not its timeout.

use super::config::ServerConfig;
use super::error::{PgError, at_opening, verdict};
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

/// How long a host may take before the next one is tried beside it.
const NEXT_HOST_AFTER: Duration = Duration::from_secs(1);

/// The same for the addresses of one host.
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);

/// Where there are several hosts, one that accepts no TCP connection within this time is dead. What it does then
/// (TLS, login) may take as long as the URL says.
const REACH_MAX: Duration = Duration::from_secs(3);

/// How long a server may take to tell whether it is at work on a request of ours.
const PROBE_MAX: Duration = Duration::from_secs(4);

/// Hears what the server says of its own accord.
pub(super) type NotificationHandler = Box<dyn FnMut(AsyncMessage) + Send>;

/// A place for the hearer of a connection: it is filled in once the connection is the chosen one.
type NotificationSlot = Arc<Mutex<Option<NotificationHandler>>>;

/// Connects to the host that takes writes, or to any where that doesn't matter. Also which host it is.
pub(super) async fn connect(
    server: &ServerConfig,
    handler: Option<NotificationHandler>,
) -> Result<(Client, usize), StoreError> {
    let hosts = server.order();
    let attempts = hosts.iter().map(|host| (*host, reach(server.clone(), *host))).collect();
    match race(attempts, NEXT_HOST_AFTER).await {
        Ok((host, (client, notification_slot))) => {
            *notification_slot.lock() = handler;
            server.note_host(host);
            Ok((client, host))
        }
        Err(failures) => Err(summary(server, &failures)),
    }
}

/// What a server says of a request of ours that it has not answered.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Diagnosis {
    /// It is at work on it, or can't tell.
    Busy,
    /// It knows of no such request, doesn't answer at all, or takes no writes any more.
    Lost,
}

/// Asks the server at `host`, on a connection of its own, what it does for the session `process`.
pub(super) async fn diagnose(server: &ServerConfig, host: usize, process: Option<i32>) -> Diagnosis {
    let asked = async {
        let (client, _) = match reach(server.clone(), host).await {
            Ok(connected) => connected,
            // It lives, whatever it has against a new connection.
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

/// Why a host is of no use.
#[derive(Debug)]
enum Failure {
    /// It, or the way to it, says so.
    Postgres(Error),
    /// It gave no answer in so many seconds.
    Slow(Duration),
    /// It takes no writes.
    ReadOnly,
    /// Its name leads nowhere.
    Unknown(std::io::Error),
    /// Its certificate can't be judged.
    Tls(StoreError),
}

type Connected = (Client, NotificationSlot);
type Attempt<T> = Pin<Box<dyn Future<Output = Result<T, Failure>> + Send>>;

/// Starts the attempts one after another, each `next_after` the one before or as soon as that has failed; the first
/// that succeeds wins, and the others end.
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
            // A panic has been reported by its hook.
            Some(Err(_)) => {}
            None if has_more => {}
            None => return Err(failures),
        }
    }
}

/// Connects to one host, whatever addresses it has.
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

/// Of the failures of one host's addresses, what its server says before what the network says.
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

/// Connects to one address of a host, with TLS as the URL says it.
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
            let heard = Arc::clone(&notification_slot);
            // Driven whenever somebody works with the connection; ends with it.
            tokio::spawn(async move {
                while let Some(Ok(message)) =
                    std::future::poll_fn(|context| connection.poll_message(context)).await
                {
                    if let Some(hear) = &mut *heard.lock() {
                        hear(message);
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

/// Why none of the hosts is of any use. What one of them has against us comes before what is wrong with the others:
/// a standby takes no writes, and that isn't news.
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
    let mut into_store_error: Vec<(bool, String)> = failures
        .iter()
        .map(|(host, failure)| {
            let (is_for_good, reason) = explained(server, failure);
            (is_for_good, format!("`{}`: {reason}", server.host_name(*host)))
        })
        .collect();
    into_store_error.sort_by_key(|(is_for_good, _)| !is_for_good);
    let is_for_good = into_store_error.iter().any(|(is_for_good, _)| *is_for_good);
    let reasons: Vec<String> = into_store_error.into_iter().map(|(_, reason)| reason).collect();
    let reason = format!("no host can be used: {}", reasons.join("; "));
    if is_for_good {
        StoreError::Unusable { path: name.into(), action: "opened", reason }
    } else {
        StoreError::Unavailable(format!("the database `{name}` can't be opened: {reason}"))
    }
}

/// Whether somebody has to act, and what is wrong.
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

/// Whichever of the two ends first; the first one where both have.
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

/// Waits for the answer to a request as long as the server is at work on it, `time` at most. From time to time the
/// server is asked, for its host may be dead, or the way to it cut: then nothing will come.
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
                // The answer may be on its way.
                if let Ok(answer) = timeout(GRACE, request.as_mut()).await {
                    return Ok(answer?);
                }
                break;
            }
        }
    }
    Err(PgError::Silence)
}

/// How long a request may take before the server is asked about it.
const ASK_AFTER: Duration = Duration::from_secs(6);

/// How long an answer may take that the server has sent.
const GRACE: Duration = Duration::from_secs(1);
