//! Builds the recorder from the configuration. Knows no other layer.

use anyhow::Context;

use crate::{
    actor::clock,
    config::{self, Config},
    recording::{self, directory::RecordingDir, recorder::Recorder, syncer::Syncer},
};

/// Starts the recorder of sessions into `recording_dir`, if any is to be recorded, and in any case the removal of old
/// recordings.
///
/// # Errors
/// If recordings cannot be begun in the data directory.
pub fn recorder(config: &Config, recording_dir: RecordingDir) -> anyhow::Result<Option<Recorder>> {
    let wanted = &config.recording;
    let policy = |policy| match policy {
        config::RecordingPolicy::Required => recording::Policy::Required,
        config::RecordingPolicy::BestEffort => recording::Policy::BestEffort,
        config::RecordingPolicy::Off => recording::Policy::Off,
    };
    let targets = config.targets.iter().filter_map(|target| Some((target.name.clone(), policy(target.recording?))));
    let settings = recording::Settings {
        recording_dir,
        encrypt: wanted.encrypt,
        policy: policy(wanted.policy),
        targets: targets.collect(),
        input: wanted.input,
        max_size: wanted.max_size.bytes(),
        compress: wanted.compress,
        retention: Some(wanted.retention).filter(|retention| !retention.is_zero()),
        utc: clock::utc,
        clock: || clock::boottime().0,
    };
    if !wanted.enabled {
        // Retention still applies to earlier recordings.
        Syncer::alone(&settings).context("old recordings cannot be let go")?;
        return Ok(None);
    }
    let started = Recorder::start(settings);
    started.map(Some).context("recordings cannot be begun; see node.data_dir, or set recording.enabled to false")
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, File},
        time::{Duration, Instant, SystemTime},
    };

    use super::*;

    #[test]
    fn old_recordings_go_where_nothing_is_recorded_any_more() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recordings/2026/01/old.cast");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let hours = |hours| SystemTime::now() - Duration::from_hours(hours);
        File::create(&path).unwrap().set_modified(hours(3)).unwrap();
        let mut config = Config::default();
        (config.recording.enabled, config.recording.retention) = (false, Duration::from_hours(2));
        assert!(recorder(&config, RecordingDir::new(folder.path(), None)).unwrap().is_none());
        let begun = Instant::now();
        while path.exists() {
            assert!(begun.elapsed() < Duration::from_secs(20), "it is still there");
            std::thread::yield_now();
        }
    }
}
