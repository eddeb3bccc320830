//! Counters and histograms that workers do not share: each adds to a cell of its own, and a scrape adds the
//! cells up. Never touches: what is counted.

use std::array;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use prometheus::core::{Atomic, GenericCounterVec, Metric, MetricVec, MetricVecBuilder};
use prometheus::{Opts, proto};

use crate::observe::cells::Cells;

/// Counters of one name.
pub(super) type Counts = GenericCounterVec<Count>;
/// Histograms of durations of one name.
pub(super) type DurationsVec = MetricVec<Buckets>;

/// Upper bounds of the duration histograms, in microseconds: from a memory hit to a slow origin.
const BOUNDS: [u64; 14] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 5_000_000,
    30_000_000,
];

/// One counter.
#[derive(Debug)]
pub(super) struct Count(Cells<AtomicU64>);

impl Atomic for Count {
    type T = u64;

    fn new(value: u64) -> Self {
        let count = Self(Cells::default());
        count.inc_by(value);
        count
    }

    fn set(&self, value: u64) {
        self.0.all().for_each(|cell| cell.store(0, Relaxed));
        self.inc_by(value);
    }

    fn get(&self) -> u64 {
        self.0.all().map(|cell| cell.load(Relaxed)).fold(0, u64::wrapping_add)
    }

    fn inc_by(&self, more: u64) {
        self.0.own().fetch_add(more, Relaxed);
    }

    fn dec_by(&self, less: u64) {
        self.0.own().fetch_sub(less, Relaxed);
    }
}

/// One histogram of durations; clones are the same one.
#[derive(Clone, Debug)]
pub(super) struct Durations {
    cells: Arc<Cells<Observed>>,
    labels: Vec<proto::LabelPair>,
}

#[derive(Debug, Default)]
struct Observed {
    /// By bound; what is beyond them all comes last.
    buckets: [AtomicU64; BOUNDS.len() + 1],
    nanos: AtomicU64,
}

impl Durations {
    /// Counts one.
    pub(super) fn observe(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.iter().position(|bound| nanos <= bound * 1_000).unwrap_or(BOUNDS.len());
        let own = self.cells.own();
        own.buckets[bucket].fetch_add(1, Relaxed);
        own.nanos.fetch_add(nanos, Relaxed);
    }
}

impl Metric for Durations {
    fn metric(&self) -> proto::Metric {
        let sum = |of: &dyn Fn(&Observed) -> u64| self.cells.all().map(of).fold(0, u64::wrapping_add);
        let counts: [u64; BOUNDS.len() + 1] = array::from_fn(|n| sum(&|cell| cell.buckets[n].load(Relaxed)));
        let mut so_far = 0;
        let buckets = BOUNDS.iter().zip(counts).map(|(bound, count)| {
            so_far += count;
            let mut bucket = proto::Bucket::default();
            bucket.set_upper_bound(Duration::from_micros(*bound).as_secs_f64());
            bucket.set_cumulative_count(so_far);
            bucket
        });
        let mut histogram = proto::Histogram::default();
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(counts.iter().sum());
        let nanos = sum(&|cell| cell.nanos.load(Relaxed));
        histogram.set_sample_sum(Duration::from_nanos(nanos).as_secs_f64());
        let mut metric = proto::Metric::from_label(self.labels.clone());
        metric.set_histogram(histogram);
        metric
    }
}

/// Makes histograms of durations.
#[derive(Clone, Debug)]
pub(super) struct Buckets;

impl MetricVecBuilder for Buckets {
    type M = Durations;
    type P = Opts;

    fn build<V: AsRef<str>>(&self, opts: &Opts, values: &[V]) -> prometheus::Result<Durations> {
        let pair = |(name, value): (&String, &V)| {
            let mut pair = proto::LabelPair::default();
            pair.set_name(name.clone());
            pair.set_value(value.as_ref().to_owned());
            pair
        };
        let mut labels: Vec<_> = opts.variable_labels.iter().zip(values).map(pair).collect();
        labels.sort_by(|one, other| one.name().cmp(other.name()));
        Ok(Durations { cells: Arc::default(), labels })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_threads_count_adds_up() {
        let count = Count::new(2);
        let durations = Buckets.build::<&str>(&Opts::new("a", "b"), &[]).expect("a histogram");
        std::thread::scope(|scope| {
            for _ in 0..9 {
                scope.spawn(|| {
                    for micros in [0, 100, 101, 30_000_000, 30_000_001] {
                        count.inc_by(1);
                        durations.observe(Duration::from_micros(micros));
                    }
                });
            }
        });
        assert_eq!(count.get(), 47);
        count.dec_by(7);
        assert_eq!(count.get(), 40);
        count.set(5);
        assert_eq!(count.get(), 5);
        let metric = durations.metric();
        let histogram = metric.get_histogram();
        assert_eq!(histogram.get_sample_count(), 45);
        assert!(
            (histogram.get_sample_sum() - 9.0 * 60.000_202).abs() < 1e-6,
            "{}",
            histogram.get_sample_sum()
        );
        let counts: Vec<u64> =
            histogram.get_bucket().iter().map(|bucket| bucket.cumulative_count()).collect();
        assert_eq!(counts[..2], [18, 27], "a bound belongs to its bucket");
        assert_eq!(counts[12..], [27, 36], "what is beyond all bounds is in the count alone");
    }
}
