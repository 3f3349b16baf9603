//! Jump hosts of the catalogue.

use super::{Config, load, mistakes};
use crate::core::target::Jump;

fn way(config: &Config, of: usize) -> Vec<String> {
    let way = config.way_to(&config.targets[of]).unwrap().into_iter().map(|hop| match hop {
        Jump::Target(name) => name.to_owned(),
        Jump::Place(login, host, port) => format!("{login} at {host}, {port}"),
    });
    way.collect()
}

fn chain(length: usize) -> String {
    let hop = |at: usize| format!("  - {{ name: t{at}, host: h, username: u, via: t{} }}\n", at + 1);
    let hops: String = (0..length).map(hop).collect();
    format!("targets:\n{hops}  - {{ name: t{length}, host: h, username: u }}\n")
}

#[test]
fn a_way_begins_at_the_jump_host_that_is_dialled_first() {
    let config = load(&chain(4), &[]).unwrap();
    assert_eq!(way(&config, 0), ["t4", "t3", "t2", "t1"]);
    assert!(config.way_to(&config.targets[4]).unwrap().is_empty());
}

#[test]
fn a_way_that_is_too_long_or_leads_in_a_circle_is_refused() {
    let told = mistakes(&chain(5), &[]);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].ends_with(
            "targets[0].via: leads over more than 4 jump hosts: t0 behind t1 behind t2 behind t3 behind t4 behind t5"
        ),
        "{told:?}"
    );
    let circle = "targets:\n  - { name: a, host: h, username: u, via: b }\n  - { name: b, host: h, username: u, via: c }\n  \
                  - { name: c, host: h, username: u, via: b }\n";
    let told = mistakes(circle, &[]);
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told[0].ends_with("targets[0].via: leads in a circle: a behind b behind c behind b"), "{told:?}");
}

#[test]
fn a_list_is_dialled_in_its_order_behind_the_way_to_its_first() {
    let yaml = "targets:\n  - { name: a, host: h, username: u, via: [b, ops@10.0.0.9, c] }\n  \
                - { name: b, host: h, username: u, via: 'x@[::1]:2200' }\n  - { name: c, host: h, username: u, via: d }\n  \
                - { name: d, host: h, username: u }\n";
    let config = load(yaml, &[]).unwrap();
    assert_eq!(way(&config, 0), ["x at ::1, 2200", "b", "ops at 10.0.0.9, 22", "c"]);
    let told = mistakes("targets:\n  - { name: a, host: h, username: u, via: [-l@h] }\n", &[]);
    assert!(told[0].ends_with("targets[0].via: leads over -l@h, which is no user@host:port"), "{told:?}");
}
