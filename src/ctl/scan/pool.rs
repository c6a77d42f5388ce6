//! Work shared by several threads: each has its own jobs, and gives some to an idle thread.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

/// The jobs for idle threads.
#[derive(Debug)]
pub struct Pool<T> {
    queue: Mutex<Queue<T>>,
    wake: Condvar,
    /// Number of waiting threads, minus the jobs for them.
    idle: AtomicUsize,
    workers: usize,
}

#[derive(Debug)]
struct Queue<T> {
    jobs: Vec<T>,
    waiting: usize,
}

/// Runs a number of workers on one job and all jobs made from it, until none is left.
pub fn run<T: Send>(workers: usize, first: T, work: impl Fn(&Pool<T>) + Sync) {
    let queue = Mutex::new(Queue { jobs: vec![first], waiting: 0 });
    let pool = Pool { queue, wake: Condvar::new(), idle: AtomicUsize::new(0), workers };
    std::thread::scope(|scope| {
        for _ in 1..workers {
            scope.spawn(|| work(&pool));
        }
        work(&pool);
    });
}

impl<T> Pool<T> {
    /// True if a thread waits for work.
    pub fn has_idle(&self) -> bool {
        self.idle.load(Ordering::Relaxed) > 0
    }

    /// Gives work away.
    pub fn give(&self, job: T) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.jobs.push(job);
        self.count(&queue);
        drop(queue);
        self.wake.notify_one();
    }

    /// Waits for work; none when there is no more, as everybody waits.
    pub fn take(&self) -> Option<T> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.waiting += 1;
        loop {
            if let Some(job) = queue.jobs.pop() {
                queue.waiting -= 1;
                self.count(&queue);
                return Some(job);
            }
            if queue.waiting == self.workers {
                self.wake.notify_all();
                return None;
            }
            self.count(&queue);
            queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn count(&self, queue: &Queue<T>) {
        self.idle.store(queue.waiting.saturating_sub(queue.jobs.len()), Ordering::Relaxed);
    }
}
