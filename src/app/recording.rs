//! Builds the recorder of the configuration. Knows nothing else of the house.

use anyhow::Context;

use crate::{
    actor::clock,
    config::{self, Config},
    recording::{self, recorder::Recorder, shelf::Shelf},
};

/// Starts what records the sessions onto `shelf`, where any is to be recorded.
///
/// # Errors
/// That recordings cannot be begun in the data directory.
pub fn recorder(config: &Config, shelf: Shelf) -> anyhow::Result<Option<Recorder>> {
    let wanted = &config.recording;
    if !wanted.enabled {
        return Ok(None);
    }
    let policy = |policy| match policy {
        config::RecordingPolicy::Required => recording::Policy::Required,
        config::RecordingPolicy::BestEffort => recording::Policy::BestEffort,
        config::RecordingPolicy::Off => recording::Policy::Off,
    };
    let targets = config.targets.iter().filter_map(|target| Some((target.name.clone(), policy(target.recording?))));
    let settings = recording::Settings {
        shelf,
        encrypt: wanted.encrypt,
        policy: policy(wanted.policy),
        targets: targets.collect(),
        input: wanted.input,
        max_size: wanted.max_size.bytes(),
        compress: wanted.compress,
        retention: Some(wanted.retention).filter(|retention| !retention.is_zero()),
        utc: clock::utc,
        clock: clock::since_start,
    };
    let started = Recorder::start(settings);
    started.map(Some).context("recordings cannot be begun; see node.data_dir, or set recording.enabled to false")
}
