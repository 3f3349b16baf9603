//! Encrypted recordings: cut anywhere, read like any other, and unreadable without their key.

use std::path::Path;

use super::*;
use crate::core::{
    record::{Record, fixture},
    seal::{SealKey, Seals},
};

/// Writes an encrypted recording of a few writes; returns its folder, its path, its text and its seal if it is
/// `sealed`.
fn encrypted(sealed: bool) -> (tempfile::TempDir, PathBuf, Vec<u8>, Option<Seal>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(format!("{SESSION}.cast"));
    let mut writer = RecordingWriter::create(path.clone(), &header(), options(), Some(&seals())).unwrap();
    for second in 1..5 {
        writer.output(Duration::from_secs(second), format!("line {second}\r\n").as_bytes()).unwrap();
        writer.output(Duration::from_secs(second), b"secret").unwrap();
        writer.flush().unwrap();
        writer.release();
    }
    let seal = if sealed { writer.seal(Duration::from_secs(5)).unwrap() } else { None };
    let text = read(&path);
    (folder, path, text, seal.map(|(seal, _)| seal))
}

fn seals() -> Seals {
    Seals::new(SealKey::new([7; 32]), Vec::new())
}

fn read(path: &Path) -> Vec<u8> {
    let mut text = Vec::new();
    Text::open(path, Some(&seals())).unwrap().read_to_end(&mut text).unwrap();
    text
}

#[test]
fn an_encrypted_recording_reads_as_any_other_and_its_file_shows_nothing() {
    let (folder, path, text, seal) = encrypted(true);
    assert_eq!((look(&text).damage, look(&text).seal), (None, seal));
    assert!(shown(&text).contains("line 4\r\nsecret"));
    let bytes = fs::read(&path).unwrap();
    for part in ["line", "secret", "ada", "web-1", "version"] {
        assert!(!bytes.windows(part.len()).any(|bytes| bytes == part.as_bytes()), "{part}");
    }
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let recording_dir = RecordingDir::new(folder.path(), Some(Arc::new(seals())));
    assert!(recording_dir.is_sealed(&path).unwrap());
    assert_eq!(recording_dir.recover(&path, "cut").unwrap(), seal, "nothing is left to do");
}

#[test]
fn an_encrypted_recording_cut_anywhere_is_sealed_with_every_whole_write() {
    let (folder, path, text, _) = encrypted(false);
    let recording_dir = RecordingDir::new(folder.path(), Some(Arc::new(seals())));
    let bytes = fs::read(&path).unwrap();
    let mut kept = Vec::new();
    for cut in (0..=bytes.len()).rev() {
        // The remains of an unfinished write: nothing, zeros, or other bytes.
        for rest in [&[][..], &[0; 40], &[0xa5; 40]] {
            fs::write(&path, [&bytes[..cut], rest].concat()).unwrap();
            let Ok(seal) = recording_dir.recover(&path, "cut") else {
                assert!(cut < 158, "cut at {cut}, where the head is whole");
                continue;
            };
            let Some(seal) = seal else {
                assert_eq!(
                    fs::read(&path).unwrap(),
                    [&bytes[..cut], rest].concat(),
                    "without a header there is nothing to seal"
                );
                continue;
            };
            let sealed = read(&path);
            assert_eq!((look(&sealed).damage, look(&sealed).seal), (None, Some(seal)), "cut at {cut}");
            let end = sealed.windows(8).position(|part| part == b"\"m\",\"cut").unwrap();
            let end = sealed[..end].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
            assert!(text.starts_with(&sealed[..end]), "cut at {cut}");
            kept.push(end);
            assert_eq!(recording_dir.recover(&path, "cut").unwrap(), Some(seal), "again changes nothing");
        }
    }
    // The bytes in the place of the end may by chance equal the original ones.
    kept.sort_unstable();
    kept.dedup();
    assert!(kept.len() == 5 && kept[4] == text.len(), "{kept:?}");
}

#[test]
fn what_a_full_disk_took_of_an_encrypted_write_does_not_stay() {
    let (folder, path, text, _) = encrypted(false);
    let recording_dir = RecordingDir::new(folder.path(), Some(Arc::new(seals())));
    let torn = fs::read(&path).unwrap();
    fs::write(&path, &torn[..torn.len() - 1]).unwrap();
    assert!(!recording_dir.is_sealed(&path).unwrap());
    let (file, whole) = directory::open_whole(&path).unwrap();
    assert!(file.metadata().unwrap().len() > whole && whole > 158, "a copy ends with a whole write");
    let seal = recording_dir.recover(&path, "cut").unwrap().unwrap();
    assert!(seal.bytes < text.len() as u64 + 200 && recording_dir.is_sealed(&path).unwrap());
}

#[test]
fn an_encrypted_recording_that_is_finished_tells_when_its_last_event_was() {
    let folder = tempfile::tempdir().unwrap();
    let recording_dir = RecordingDir::new(folder.path(), Some(Arc::new(seals())));
    let place = format!("recordings/2026/01/{SESSION}.cast");
    let path = folder.path().join(&place);
    let mut writer = RecordingWriter::create(path, &header(), options(), Some(&seals())).unwrap();
    writer.output(Duration::from_millis(2_500), b"last").unwrap();
    writer.flush().unwrap();
    drop(writer);
    let session = Record { recording: Some(place), ..fixture::opened(UtcMicros(1)) };
    let finished = recording_dir.finish(&session).unwrap().unwrap();
    assert_eq!(finished.ended_at, Some(UtcMicros(options().began.0 + 2_500_000)));
    assert_eq!(recording_dir.finish(&session).unwrap(), Some(finished), "it is sealed already");
}

#[test]
fn two_torn_pieces_are_found_and_sealed_as_one() {
    let (folder, path, text, _) = encrypted(false);
    let recording_dir = RecordingDir::new(folder.path(), Some(Arc::new(seals())));
    let mut bytes = fs::read(&path).unwrap();
    // Damages the last write, which has a few lines, and part of the write before it.
    let torn = bytes.len() - 400;
    bytes[torn..].iter_mut().for_each(|byte| *byte ^= 0x55);
    // The pieces are there as far as their lengths say.
    let whole = fs::read(&path).unwrap();
    let lengths = whole.windows(3).enumerate().filter(|(at, part)| *at >= torn && part == &[0, 0, 0]);
    lengths.for_each(|(at, _)| bytes[at..at + 4].copy_from_slice(&whole[at..at + 4]));
    fs::write(&path, &bytes).unwrap();
    assert!(!recording_dir.is_sealed(&path).unwrap(), "it can be asked");
    let seal = recording_dir.recover(&path, "cut").unwrap().unwrap();
    assert!(seal.bytes < text.len() as u64 && look(&read(&path)).seal == Some(seal));
}

#[test]
fn an_altered_length_is_damage_with_its_place_and_a_torn_end_is_none() {
    let (_folder, path, text, seal) = encrypted(true);
    let verdict = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        verify_file(Text::open(&path, Some(&seals())).unwrap()).unwrap()
    };
    let whole = fs::read(&path).unwrap();
    assert_eq!((verdict(&whole).damage, verdict(&whole).seal), (None, seal));
    let (mut at, mut places) = (158, Vec::new());
    while at < whole.len() {
        places.push(at);
        at += 32 + u32::from_be_bytes(*whole[at..].first_chunk().unwrap()) as usize;
    }
    assert!(places.len() >= 5 && at == whole.len(), "{places:?}");
    for place in &places {
        for bit in 0..32 {
            let mut altered = whole.clone();
            altered[place + bit / 8] ^= 1 << (bit % 8);
            let found = verdict(&altered);
            let damage = found.damage.unwrap_or_else(|| panic!("bit {bit} at {place} is taken for a torn end"));
            assert!(damage.what.contains(&format!("its bytes {place} … ")), "bit {bit} at {place}: {damage:?}");
            assert!(damage.from == found.bytes && text.len() as u64 > damage.from, "bit {bit} at {place}: {damage:?}");
        }
    }
    // Cut short enough that random bytes do not make the end whole by chance.
    for cut in places[1]..whole.len() - 8 {
        for rest in [&[][..], &[0; 40], &[0xa5; 40]] {
            let found = verdict(&[&whole[..cut], rest].concat());
            // The random end may have the length of a piece without being one.
            let is_torn =
                found.damage.as_ref().is_none_or(|damage| damage.what.contains("were altered, or belong elsewhere"));
            assert!(is_torn && found.seal.is_none(), "cut at {cut}: {found:?}");
        }
    }
}
