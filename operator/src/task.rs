//! Work that goes on beside whoever waits for it, and no longer than they do.

use tokio::task::{JoinError, JoinHandle};

/// A task that ends when nobody waits for it any more.
struct Task<T>(JoinHandle<T>);

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Does a piece of work on whichever core is free: all that a controller waits for is polled by one task, which would decide
/// about one job at a time. Dropping the future ends the work; a panic in it is nobody else's.
pub async fn on_any_core<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Result<T, JoinError> {
    let mut task = Task(tokio::spawn(work));
    (&mut task.0).await
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::future::pending;

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_panic_in_a_piece_of_work_is_an_error_of_that_piece() {
        let work = on_any_core(async { panic!("a bug") });
        let error: Result<(), _> = work.await;
        assert!(error.unwrap_err().is_panic());
    }

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_ends() {
        let (begins, begun) = oneshot::channel();
        let (ends, ended) = oneshot::channel::<()>();
        let work = on_any_core(async move {
            begins.send(()).unwrap();
            let _ends = ends;
            pending::<()>().await;
        });
        tokio::select! {
            _ = work => panic!("it came to its end"),
            begun = begun => begun.unwrap(),
        }
        ended.await.unwrap_err();
    }
}
