//! `pulsegate selftest`: a gateway of its own, tested from its start to its end.

use std::fs;

use crate::support::gateway::Home;

#[test]
fn a_gateway_of_its_own_is_tried_and_nothing_of_the_configured_one_is_touched() {
    let home = Home::new();
    let (status, told) = home.run(&["selftest"]);
    assert!(status.success(), "{told}");
    assert_eq!(told.lines().filter(|line| line.starts_with("ok ")).count(), 12, "{told}");
    assert!(told.contains("everything works") && !told.contains("FAILED"), "{told}");
    let (status, told) = home.run(&["selftest", "--json"]);
    assert!(status.success() && told.contains(r#""passed":true"#), "{told}");
    let untouched = fs::read_dir(home.data_dir()).map_or(0, Iterator::count);
    assert_eq!(untouched, 0, "nothing lies in the configured data directory");
}
