//! The figures of a scenario, compared with their goals and printed as lines or JSON. Measures nothing.

use std::time::Duration;

use serde::Serialize;

/// The figures of one scenario.
#[derive(Serialize)]
pub struct Report {
    scenario: &'static str,
    /// The load average of the machine when the scenario began (1 minute, as in `uptime`): figures of a busy machine do
    /// not count.
    load: f64,
    facts: Vec<Fact>,
}

/// One figure, with its goal if it has one.
#[derive(Serialize)]
struct Fact {
    name: String,
    value: f64,
    unit: &'static str,
    goal: Option<Goal>,
    /// Whether a missed goal is an error, and not only slow.
    must: bool,
    met: bool,
}

/// The goal of a figure.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// The upper limit.
    AtMost(f64),
    /// The lower limit.
    AtLeast(f64),
}

impl Goal {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtMost(limit) => value <= limit,
            Self::AtLeast(limit) => value >= limit,
        }
    }
}

impl Report {
    /// Returns a report without figures.
    pub fn new(scenario: &'static str) -> Self {
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load = load.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(f64::NAN);
        Self { scenario, load, facts: Vec::new() }
    }

    /// Adds a figure.
    pub fn tell(&mut self, name: impl Into<String>, value: f64, unit: &'static str) {
        self.facts.push(Fact { name: name.into(), value, unit, goal: None, must: false, met: true });
    }

    /// Adds a figure that has a goal.
    pub fn hold(&mut self, name: impl Into<String>, value: f64, unit: &'static str, goal: Goal) {
        self.add(name.into(), value, unit, goal, false);
    }

    /// Adds a figure whose goal is met however busy the machine is; a miss is an error.
    pub fn must(&mut self, name: impl Into<String>, value: f64, unit: &'static str, goal: Goal) {
        self.add(name.into(), value, unit, goal, true);
    }

    fn add(&mut self, name: String, value: f64, unit: &'static str, goal: Goal, must: bool) {
        self.facts.push(Fact { name, value, unit, goal: Some(goal), must, met: goal.is_met(value) });
    }

    /// Whether every goal is met.
    pub fn met(&self) -> bool {
        self.facts.iter().all(|fact| fact.met)
    }

    /// Returns the first figure that is an error, with its scenario.
    pub fn wrong(&self) -> Option<String> {
        let wrong = self.facts.iter().find(|fact| fact.must && !fact.met);
        wrong.map(|fact| format!("{}: {}: {} {}", self.scenario, fact.name, fact.value, fact.unit))
    }

    /// Prints lines of text, or one JSON object.
    pub fn print(&self, json: bool) {
        if json {
            match serde_json::to_string(self) {
                Ok(text) => println!("{text}"),
                Err(error) => eprintln!("load-tests: a report could not be written as JSON: {error}"),
            }
            return;
        }
        println!("{} (load {:.2})", self.scenario, self.load);
        for Fact { name, value, unit, goal, met, .. } in &self.facts {
            let goal = match goal {
                None => String::new(),
                Some(Goal::AtMost(limit)) => format!("   goal ≤ {limit} {unit}{}", verdict(*met)),
                Some(Goal::AtLeast(limit)) => format!("   goal ≥ {limit} {unit}{}", verdict(*met)),
            };
            println!("  {name:<44} {value:>10.2} {unit}{goal}");
        }
    }
}

fn verdict(met: bool) -> &'static str {
    if met { "" } else { "   MISSED" }
}

/// Samples of one duration.
#[derive(Default)]
pub struct Samples(Vec<Duration>);

impl Samples {
    /// Adds a sample.
    pub fn push(&mut self, sample: Duration) {
        self.0.push(sample);
    }

    /// Returns the smallest sample, in microseconds, that `share` (0 … 1) of the samples do not exceed; NaN if there
    /// are none.
    pub fn quantile_us(&mut self, share: f64) -> f64 {
        self.0.sort_unstable();
        let rank = (self.0.len() as f64 * share).ceil() as usize;
        self.0.get(rank.saturating_sub(1)).map_or(f64::NAN, |sample| sample.as_secs_f64() * 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_a_sample() {
        let mut samples = Samples::default();
        (1..=200).rev().for_each(|ms| samples.push(Duration::from_millis(ms)));
        assert_eq!(samples.quantile_us(0.5), 100_000.0);
        assert_eq!(samples.quantile_us(0.99), 198_000.0);
        assert_eq!(samples.quantile_us(1.0), 200_000.0);
        assert!(Samples::default().quantile_us(0.5).is_nan());
    }

    #[test]
    fn a_missed_goal_is_seen() {
        let mut report = Report::new("test");
        report.tell("anything", f64::NAN, "s");
        report.hold("low", 2.0, "s", Goal::AtMost(2.0));
        report.hold("high", 2.0, "s", Goal::AtLeast(2.0));
        assert!(report.met());
        report.hold("nothing was measured", f64::NAN, "s", Goal::AtMost(2.0));
        assert!(!report.met());
    }

    #[test]
    fn what_is_wrong_is_told_from_what_is_slow() {
        let mut report = Report::new("test");
        report.hold("slow", 3.0, "s", Goal::AtMost(2.0));
        report.must("whole", 0.0, "B", Goal::AtMost(0.0));
        assert_eq!((report.met(), report.wrong()), (false, None));
        report.must("missing", 1.0, "B", Goal::AtMost(0.0));
        assert_eq!(report.wrong().as_deref(), Some("test: missing: 1 B"));
    }
}
