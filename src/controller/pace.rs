//! Token buckets for writes to the API server (law 5). Knows nothing of what is written.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// A bucket of permits that refills with time. `Pure` in what it decides: the caller gives the time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bucket {
    burst: u32,
    every: Duration,
    /// When the bucket will be full again if nothing more is taken: the only state a token bucket needs.
    full_at: Instant,
}

impl Bucket {
    /// A full bucket of `burst` permits (at least one), of which one comes back every `every`.
    pub(crate) fn new(burst: u32, every: Duration, now: Instant) -> Self {
        Self { burst: burst.max(1), every, full_at: now }
    }

    /// Takes a permit, or says when there will be one.
    pub(crate) fn take(&mut self, now: Instant) -> Result<(), Instant> {
        let free_at = self.next_free(now);
        if free_at > now {
            return Err(free_at);
        }
        self.full_at = self.full_at.max(now) + self.every;
        Ok(())
    }

    /// Takes a permit that may lie in the future, and says when it may be used.
    fn reserve(&mut self, now: Instant) -> Instant {
        let free_at = self.next_free(now);
        self.full_at = self.full_at.max(now) + self.every;
        free_at
    }

    fn next_free(&self, now: Instant) -> Instant {
        let room = self.every * (self.burst - 1);
        self.full_at.checked_sub(room).map_or(now, |at| at.max(now))
    }
}

/// A bucket that many tasks share; they are served in the order in which they come.
#[derive(Debug)]
pub(crate) struct Pace(Mutex<Bucket>);

impl Pace {
    /// At most `per_second` on average, `burst` at once. `per_second` of 0 counts as 1.
    pub(crate) fn per_second(per_second: u32, burst: u32) -> Self {
        Self(Mutex::new(Bucket::new(burst, Duration::from_secs(1) / per_second.max(1), Instant::now())))
    }

    /// Waits for a permit. A dropped wait has used it up.
    pub(crate) async fn wait(&self) {
        let at = self.0.lock().unwrap_or_else(PoisonError::into_inner).reserve(Instant::now());
        sleep_until(at).await;
    }

    /// Takes a permit, or says when to ask again.
    pub(crate) fn take(&self) -> Result<(), Instant> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn after_the_burst_permits_come_at_the_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(3, Duration::from_secs(60), start);
        for _ in 0..3 {
            assert_eq!(bucket.take(start), Ok(()));
        }
        assert_eq!(bucket.take(start), Err(start + Duration::from_secs(60)));
        assert_eq!(bucket.take(start + Duration::from_secs(59)), Err(start + Duration::from_secs(60)));
        assert_eq!(bucket.take(start + Duration::from_secs(60)), Ok(()));
        assert_eq!(bucket.take(start + Duration::from_secs(61)), Err(start + Duration::from_secs(120)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_hundred_waiters_take_the_time_that_the_rate_allows() {
        let pace = Pace::per_second(10, 5);
        let start = Instant::now();
        for _ in 0..105 {
            pace.wait().await;
        }
        let took = start.elapsed();
        assert!(took >= Duration::from_millis(9_900) && took <= Duration::from_millis(10_200), "{took:?}");
    }
}
