//! The text formats of metrics: Prometheus' own or OpenMetrics, by content negotiation. Does not know any metric.

use std::{
    collections::HashSet,
    fmt::{self, Write as _},
};

use actix_web::{
    HttpRequest,
    http::header::{Accept, Header, Quality},
};
use prometheus_client::{
    encoding::text::{encode, encode_registry},
    registry::Registry,
};

/// A text format of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text, version 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// Returns OpenMetrics if it is asked for by name, and Prometheus text is not preferred (RFC 9110 §12.5.1).
    pub fn of(request: &HttpRequest) -> Self {
        let accept = Accept::parse(request).unwrap_or_else(|_| Accept(Vec::new()));
        let quality = |name: &str| {
            let named = accept.iter().filter(|range| range.item.essence_str() == name);
            named.map(|range| range.quality).max().unwrap_or(Quality::ZERO)
        };
        let open = quality("application/openmetrics-text");
        if open > Quality::ZERO && open >= quality("text/plain") { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// Returns its media type.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// Writes every metric of `registry`.
    ///
    /// # Errors
    /// Where a metric cannot be written.
    pub fn write(self, registry: &Registry) -> Result<String, fmt::Error> {
        let mut text = String::new();
        match self {
            Self::Prometheus => {
                encode_registry(&mut text, registry)?;
                classic(&text)
            }
            Self::OpenMetrics => {
                encode(&mut text, registry)?;
                Ok(text)
            }
        }
    }
}

/// Converts OpenMetrics, without its last line, to Prometheus text: there, a counter has the name of its samples, which
/// end in `_total`.
fn classic(text: &str) -> Result<String, fmt::Error> {
    let typed = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let counters: HashSet<&str> = typed.filter_map(|line| line.strip_suffix(" counter")).collect();
    let mut told = String::with_capacity(text.len());
    for line in text.lines() {
        match described(line).filter(|(_, name, _)| counters.contains(name)) {
            Some((keyword, name, said)) => writeln!(told, "# {keyword} {name}_total {said}")?,
            None => writeln!(told, "{line}")?,
        }
    }
    Ok(told)
}

/// Splits a line that describes a metric: `HELP` or `TYPE`, the metric's name, and the rest.
fn described(line: &str) -> Option<(&str, &str, &str)> {
    let (keyword, rest) = line.strip_prefix("# ")?.split_once(' ')?;
    let (name, said) = rest.split_once(' ')?;
    matches!(keyword, "HELP" | "TYPE").then_some((keyword, name, said))
}

#[cfg(test)]
mod tests {
    use actix_web::{http::header::ACCEPT, test::TestRequest};
    use prometheus_client::metrics::{counter::Counter, family::Family, gauge::ConstGauge, histogram::Histogram};

    use super::*;

    /// Reads Prometheus text by its specification, rejecting everything else; returns the samples.
    fn read(text: &str) -> Vec<(String, f64)> {
        assert!(text.ends_with('\n'), "the last line has an end");
        let (mut seen, mut samples) = (HashSet::new(), Vec::new());
        let mut lines = text.lines().peekable();
        while let Some(help) = lines.next() {
            let name = help.strip_prefix("# HELP ").unwrap_or_else(|| panic!("no HELP: {help}"));
            let (name, _) = name.split_once(' ').unwrap();
            assert!(seen.insert(name), "{name} comes twice");
            let kind = lines.next().and_then(|line| line.strip_prefix("# TYPE ")?.strip_prefix(name)).unwrap();
            let endings: &[&str] = match kind {
                " counter" | " gauge" => &[""],
                " histogram" => &["_bucket", "_sum", "_count"],
                _ => panic!("no type: {kind}"),
            };
            assert_eq!(kind == " counter", name.ends_with("_total"), "{name}");
            while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
                let (sample, value) = line.rsplit_once(' ').unwrap();
                let bare = sample.split('{').next().unwrap();
                assert!(sample == bare || sample.ends_with('}'), "{line}");
                let ending = bare.strip_prefix(name).unwrap_or_else(|| panic!("{line} is not of {name}"));
                assert!(endings.contains(&ending), "{line} is not of {name}");
                samples.push((sample.to_owned(), value.parse().unwrap()));
            }
        }
        samples
    }

    fn registry() -> Registry {
        let mut registry = Registry::default();
        let closed = Family::<[(&str, &str); 1], Counter>::default();
        closed.get_or_create(&[("reason", "exited")]).inc_by(3);
        registry.register("sessions_closed", "Sessions closed # TYPE open counter", closed);
        registry.register("open", "Open ones", ConstGauge::new(7_u64));
        registry.register("beats", "Beats", Counter::<u64>::default());
        let seconds = Histogram::new([0.5, 1.0]);
        seconds.observe(0.7);
        registry.register("flush_seconds", "How long", seconds);
        registry
    }

    #[test]
    fn prometheus_text_is_what_its_specification_says() {
        let text = Format::Prometheus.write(&registry()).unwrap();
        let samples = read(&text);
        for (name, value) in [
            ("sessions_closed_total{reason=\"exited\"}", 3.0),
            ("open", 7.0),
            ("beats_total", 0.0),
            ("flush_seconds_count", 1.0),
            ("flush_seconds_bucket{le=\"0.5\"}", 0.0),
        ] {
            assert!(samples.contains(&(name.to_owned(), value)), "{name} is missing in {text}");
        }
    }

    #[test]
    fn open_metrics_is_as_it_was() {
        let text = Format::OpenMetrics.write(&registry()).unwrap();
        assert!(text.contains("# TYPE beats counter\nbeats_total 0\n") && text.ends_with("# EOF\n"), "{text}");
    }

    #[test]
    fn who_asks_for_nothing_gets_prometheus_text() {
        use Format::{OpenMetrics, Prometheus};
        let by_a_server = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                           application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for (accept, format) in [
            (None, Prometheus),
            (Some("*/*"), Prometheus),
            (Some("text/plain"), Prometheus),
            (Some("nonsense;;q"), Prometheus),
            (Some("application/openmetrics-text;q=0"), Prometheus),
            (Some("text/plain, application/openmetrics-text;q=0.5"), Prometheus),
            (Some("application/openmetrics-text"), OpenMetrics),
            (Some(by_a_server), OpenMetrics),
        ] {
            let asks = TestRequest::default();
            let asks = accept.into_iter().fold(asks, |asks, accept| asks.insert_header((ACCEPT, accept)));
            assert_eq!(Format::of(&asks.to_http_request()), format, "{accept:?}");
        }
    }
}
