//! Samples, and what is said of them.

use std::time::Duration;

/// Durations of one thing, done again and again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(Vec<Duration>);

impl Samples {
    pub(crate) fn add(&mut self, sample: Duration) {
        self.0.push(sample);
    }

    pub(crate) fn extend(&mut self, samples: impl IntoIterator<Item = Duration>) {
        self.0.extend(samples);
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.0.extend_from_slice(&other.0);
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// The sample that so many of a thousand do not exceed, in milliseconds.
    pub(crate) fn per_mille_ms(&self, per_mille: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let at = (sorted.len() * per_mille).div_ceil(1_000).saturating_sub(1);
        sorted.get(at).map_or(f64::NAN, |sample| sample.as_secs_f64() * 1_000.0)
    }

    pub(crate) fn median_ms(&self) -> f64 {
        self.per_mille_ms(500)
    }
}

/// A number of milliseconds, as exact as it is worth.
pub(crate) fn ms(value: f64) -> String {
    match value {
        value if !value.is_finite() => "–".to_owned(),
        value if value < 1.0 => format!("{value:.3}"),
        value if value < 100.0 => format!("{value:.2}"),
        value => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_odd_number_is_the_middle_one_and_the_last_is_the_maximum() {
        let mut samples = Samples::default();
        samples.extend([5, 1, 3].map(Duration::from_millis));
        assert_eq!(ms(samples.median_ms()), "3.00");
        assert_eq!(ms(samples.per_mille_ms(1_000)), "5.00");
        assert_eq!(ms(samples.per_mille_ms(0)), "1.00");
        assert_eq!(ms(Samples::default().median_ms()), "–");
    }
}
