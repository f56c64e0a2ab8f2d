//! Connections, and what becomes of one that failed.

use super::config::Address;
use super::connection::{Link, Session};
use super::error::Trouble;
use crate::store::StoreError;
use crate::sync::{Condvar, Mutex};
use std::sync::Arc;

/// Connections that answer questions.
pub(super) struct Pool {
    address: Arc<Address>,
    size: usize,
    state: Mutex<PoolState>,
    returned: Condvar,
}

#[derive(Default)]
struct PoolState {
    idle: Vec<Link>,
    open: usize,
}

impl Pool {
    pub fn new(address: Arc<Address>, size: usize) -> Self {
        Self { address, size: size.max(1), state: Mutex::default(), returned: Condvar::new() }
    }

    /// Answers a question; asked once more where the connection turns out to have been cut while it was idle.
    #[expect(clippy::needless_pass_by_value, reason = "closures are given as they are")]
    pub fn read<T>(
        &self,
        question: impl AsyncFn(Session<'_>) -> Result<T, Trouble>,
    ) -> Result<T, StoreError> {
        loop {
            let (link, is_fresh) = self.take()?;
            match link.with(async |session| question(session.reading()).await) {
                Ok(answer) => {
                    self.put_back(Some(link));
                    return Ok(answer);
                }
                Err(trouble) => {
                    let is_broken = trouble.is_broken();
                    self.put_back((!is_broken).then_some(link));
                    if !is_broken || is_fresh || matches!(trouble, Trouble::Silence) {
                        return Err(trouble.told(&self.address));
                    }
                    // What else is idle was probably cut by the same event; if it was, it will be noticed.
                    self.drop_idle();
                }
            }
        }
    }

    /// Closes what nobody uses.
    pub fn drop_idle(&self) {
        let mut state = self.state.lock();
        let dropped = std::mem::take(&mut state.idle);
        state.open -= dropped.len();
        drop(state);
        drop(dropped);
        self.returned.notify_all();
    }

    fn take(&self) -> Result<(Link, bool), StoreError> {
        let mut state = self.state.lock();
        loop {
            if let Some(link) = state.idle.pop() {
                // Not under the lock: it may have to be asked.
                drop(state);
                if link.is_usable(&self.address) {
                    return Ok((link, false));
                }
                drop(link);
                state = self.state.lock();
                state.open -= 1;
                continue;
            }
            if state.open < self.size {
                state.open += 1;
                break;
            }
            self.returned.wait(&mut state);
        }
        drop(state);
        let link = Link::open_to_work(&self.address).inspect_err(|_| self.put_back(None))?;
        Ok((link, true))
    }

    fn put_back(&self, link: Option<Link>) {
        let mut state = self.state.lock();
        match link {
            Some(link) => state.idle.push(link),
            None => state.open -= 1,
        }
        drop(state);
        self.returned.notify_one();
    }
}
