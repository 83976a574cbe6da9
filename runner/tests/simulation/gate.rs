//! The gate between a process and the world: every request passes it, and it delays the request, holds it while the process
//! is paused, and never lets it through once the process is dead.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use millrace::failpoint::{Failpoint, Failpoints};
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::chance::Chance;
use crate::watch::Watch;

/// A process's way to anything outside.
pub struct Gate {
    pub watch: Arc<Watch>,
    closed: AtomicBool,
    dead: AtomicBool,
    opened: Notify,
    faulty: AtomicBool,
    chance: Mutex<Chance>,
    latency_ms: u64,
    /// After so many more requests and replies it dies; 0: not.
    fuse: AtomicU32,
    /// Creates whose reply was lost, by key.
    lost: Mutex<BTreeMap<String, Bytes>>,
}

impl Gate {
    pub fn new(watch: Arc<Watch>, chance: Chance, latency_ms: u64, faulty: bool) -> Arc<Self> {
        Arc::new(Self {
            watch,
            closed: AtomicBool::new(false),
            dead: AtomicBool::new(false),
            opened: Notify::new(),
            faulty: AtomicBool::new(faulty),
            chance: Mutex::new(chance),
            latency_ms,
            fuse: AtomicU32::new(0),
            lost: Mutex::default(),
        })
    }

    pub fn pause(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    pub fn resume(&self) {
        self.closed.store(false, Ordering::SeqCst);
        self.opened.notify_waiters();
    }

    pub fn is_paused(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Nothing of this runner reaches the world any more.
    pub fn kill(&self) {
        self.dead.store(true, Ordering::SeqCst);
    }

    pub fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    /// It dies after so many more requests and replies.
    pub fn light(&self, fuse: u32) {
        self.fuse.store(fuse, Ordering::SeqCst);
    }

    /// No more faults of the sinks' writers, and no death.
    pub fn heal(&self) {
        self.light(0);
        self.faulty.store(false, Ordering::SeqCst);
    }

    pub async fn pass(&self) {
        loop {
            if self.is_dead() {
                std::future::pending::<()>().await;
            }
            if !self.is_paused() {
                return;
            }
            self.opened.notified().await;
        }
    }

    /// One way of a request or a reply.
    pub async fn travel(&self) {
        self.watch.request();
        let left = self.fuse.load(Ordering::SeqCst);
        if left > 0 {
            self.fuse.store(left - 1, Ordering::SeqCst);
            if left == 1 {
                self.kill();
            }
        }
        self.pass().await;
        let ms = {
            let mut chance = self.chance();
            if chance.one_in(2) { 0 } else { chance.between(0, self.latency_ms) }
        };
        if ms > 0 {
            sleep(Duration::from_millis(ms)).await;
            self.pass().await;
        }
    }

    fn chance(&self) -> std::sync::MutexGuard<'_, Chance> {
        self.chance.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn fails(&self, one_in: u64) -> bool {
        self.faulty.load(Ordering::SeqCst) && self.chance().one_in(one_in)
    }

    pub fn lost(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Bytes>> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A failpoint that is armed is where the process dies: it never returns, and nothing else of the process gets through.
pub struct Deadly {
    pub gate: Arc<Gate>,
    pub armed: Mutex<Option<(Failpoint, u32)>>,
}

impl Deadly {
    pub fn arm(&self, armed: Option<(Failpoint, u32)>) {
        *self.armed.lock().unwrap_or_else(PoisonError::into_inner) = armed;
    }

    fn strikes(&self, point: Failpoint) -> bool {
        let mut armed = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *armed {
            Some((at, left)) if *at == point => {
                *left = left.saturating_sub(1);
                *left == 0
            }
            _ => false,
        }
    }
}

#[async_trait]
impl Failpoints for Deadly {
    async fn reach(&self, point: Failpoint) {
        self.gate.pass().await;
        self.gate.watch.count(&format!("reached {}", point.name()));
        if self.strikes(point) {
            self.gate.watch.event(&format!("dies at {}", point.name()));
            self.gate.watch.count(&format!("died at {}", point.name()));
            self.gate.kill();
            std::future::pending::<()>().await;
        }
    }
}
