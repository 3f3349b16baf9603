//! The sweeps, which compare actors and stores, as an operator sees them.

use crate::support::{
    eventually,
    gateway::{Gateway, Home},
    playground::Playground,
    terminal::PATIENCE,
};

#[test]
fn a_start_that_lost_nothing_says_so_of_nothing() {
    let playground = Playground::start();
    let gateway = Gateway::start(Home::with(&playground));
    let (_page, _id) = gateway.page("playground");
    eventually(PATIENCE, || gateway.home.logs().contains("the interval of the sweeps has changed").then_some(()));
    assert!(!gateway.home.logs().contains("the live view lost entries"), "{}", gateway.home.logs());
}

#[test]
fn how_fast_the_sweeps_go_is_in_the_log_and_in_the_metrics() {
    let gateway = Gateway::start(Home::new());
    eventually(PATIENCE, || gateway.home.logs().contains("the interval of the sweeps has changed").then_some(()));
    let metrics = gateway.asks("GET", "/metrics", None).text();
    let told = |name: &str| -> f64 {
        let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("{name} is missing in\n{metrics}")).parse().unwrap()
    };
    let (interval, rows) = (told("pulsegate_sweep_interval_seconds"), told("pulsegate_sweep_rows"));
    assert!((1.0..=5.0).contains(&interval) && (50.0..=500.0).contains(&rows), "{interval} s, {rows} rows");
}
