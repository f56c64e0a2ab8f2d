//! A minimal HTTP/1.1 responder for probes and scrapes: `GET` and `HEAD`, one request for each
//! connection, everything bounded (`docs/decisions/0018-health-port.md`).

use crate::thread::Thread;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

/// Longest head of a request, in bytes.
const HEAD_MAX: usize = 8 * 1024;

/// Most connections at a time. One more ends the oldest: a probe must not wait for a client that
/// sends nothing.
const CONNECTIONS_MAX: usize = 32;

/// How long a client may take to send its request, and then to take the answer.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long to read on after the answer, so that what the client still sends does not make its
/// system discard it.
const LINGER: Duration = Duration::from_millis(500);

/// How long to wait when the process has no descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// An answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Response {
    status: u16,
    content_type: &'static str,
    body: String,
}

impl Response {
    /// An answer with this body.
    pub fn new(status: u16, content_type: &'static str, body: String) -> Self {
        Self { status, content_type, body }
    }

    fn refusal(status: u16, why: &str) -> Self {
        Self::new(status, "text/plain; charset=utf-8", format!("{why}\n"))
    }

    fn to_bytes(&self, is_head: bool) -> Vec<u8> {
        let reason = match self.status {
            200 => "OK",
            400 => "Bad Request",
            404 => "Not Found",
            405 => "Method Not Allowed",
            408 => "Request Timeout",
            431 => "Request Header Fields Too Large",
            503 => "Service Unavailable",
            _ => "HTTP Version Not Supported",
        };
        let allow = if self.status == 405 { "Allow: GET, HEAD\r\n" } else { "" };
        let head = format!(
            "HTTP/1.1 {} {reason}\r\nContent-Type: {}\r\nContent-Length: {}\r\n{allow}Cache-Control: no-store\r\n\
             X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n",
            self.status,
            self.content_type,
            self.body.len(),
        );
        let mut bytes = head.into_bytes();
        if !is_head {
            bytes.extend_from_slice(self.body.as_bytes());
        }
        bytes
    }
}

/// Answers the request for a path, at once.
pub type Respond = Arc<dyn Fn(&str) -> Response + Send + Sync>;

/// A thread that answers requests, and calls a function at regular intervals.
pub struct HttpServer {
    address: Option<SocketAddr>,
    stop: oneshot::Sender<()>,
    thread: Thread,
}

impl HttpServer {
    /// Starts the thread. Without a listener, it only calls `at_intervals`.
    pub fn start(
        listener: Option<std::net::TcpListener>,
        site: Respond,
        every: Duration,
        mut at_intervals: Box<dyn FnMut() + Send>,
    ) -> std::io::Result<Self> {
        let address = listener.as_ref().map(std::net::TcpListener::local_addr).transpose()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = match listener {
            None => None,
            Some(listener) => {
                listener.set_nonblocking(true)?;
                let _inside = runtime.enter();
                Some(TcpListener::from_std(listener)?)
            }
        };
        let (stop, stopped) = oneshot::channel();
        let thread = Thread::spawn("polos-health", move || {
            runtime.spawn(async move {
                let mut ticks = interval(every);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                loop {
                    ticks.tick().await;
                    at_intervals();
                }
            });
            if let Some(listener) = listener {
                runtime.spawn(accept(listener, site));
            }
            // Ends when the server is stopped or dropped; the tasks end with the runtime.
            let _ = runtime.block_on(stopped);
        })?;
        Ok(Self { address, stop, thread })
    }

    /// The address on which it listens.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Ends the thread, and waits for that for `limit` at most.
    pub fn stop(self, limit: Duration) {
        drop(self.stop);
        self.thread.join_for(limit);
    }
}

async fn accept(listener: TcpListener, site: Respond) {
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        open.retain(|connection| !connection.is_finished());
        if open.len() >= CONNECTIONS_MAX
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
        }
        open.push_back(tokio::spawn(serve(stream, Arc::clone(&site))).abort_handle());
    }
}

async fn serve(mut stream: TcpStream, site: Respond) {
    let bytes = match timeout(CLIENT_TIMEOUT, read_head(&mut stream)).await {
        Ok(Some(head)) => answer(&head, &site),
        Ok(None) => return,
        Err(_) => Response::refusal(408, "the request did not arrive in time").to_bytes(false),
    };
    let sent = timeout(CLIENT_TIMEOUT, async {
        stream.write_all(&bytes).await?;
        stream.shutdown().await
    });
    if matches!(sent.await, Ok(Ok(()))) {
        let mut rest = [0_u8; 1024];
        let drain = async { while matches!(stream.read(&mut rest).await, Ok(count) if count > 0) {} };
        let _ = timeout(LINGER, drain).await;
    }
}

/// The head of the request, or as much of it as is accepted; `None` if the client has gone.
async fn read_head(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut head = Vec::new();
    let mut part = [0_u8; 1024];
    loop {
        let count = stream.read(&mut part).await.ok().filter(|count| *count > 0)?;
        head.extend_from_slice(&part[..count]);
        if is_complete(&head) || head.len() > HEAD_MAX {
            return Some(head);
        }
    }
}

fn is_complete(head: &[u8]) -> bool {
    head.windows(4).any(|end| end == b"\r\n\r\n")
}

/// The bytes that answer a request with this head.
pub fn answer(head: &[u8], site: &Respond) -> Vec<u8> {
    let refuse = |status, why| Response::refusal(status, why).to_bytes(false);
    if !is_complete(head) {
        return refuse(431, "the head of the request is too long");
    }
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let Ok(line) = std::str::from_utf8(line) else { return refuse(400, "this is not an HTTP request") };
    let mut parts = line.split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return refuse(400, "this is not an HTTP request");
    };
    if !version.starts_with("HTTP/") || !target.starts_with('/') {
        return refuse(400, "this is not an HTTP request");
    }
    if !matches!(version, "HTTP/1.1" | "HTTP/1.0") {
        return refuse(505, "only HTTP/1.1 is spoken here");
    }
    if !matches!(method, "GET" | "HEAD") {
        return refuse(405, "only GET and HEAD are answered here");
    }
    let path = target.split(['?', '#']).next().unwrap_or(target);
    site(path).to_bytes(method == "HEAD")
}
