//! Recordings before, while and after they are compressed: a reader sees no difference.

use std::{
    fs,
    io::{Seek, SeekFrom},
    os::unix::fs::PermissionsExt,
    time::{Instant, UNIX_EPOCH},
};

use super::*;
use crate::{
    core::{
        record::UtcMicros,
        seal::{SealKey, Seals},
    },
    recording::{
        RecordingHeader, Seal,
        compressed::FRAME_BYTES,
        verify::{Verdict, verify},
        writer::{RecordingWriter, WriterOptions},
    },
};

const NAME: &str = "recordings/2026/01/019b7cc2-3f4e-7000-8000-000000000001.cast";

fn clock() -> Duration {
    static BEGUN: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    BEGUN.elapsed()
}

/// Returns the keys that open encrypted recordings.
fn seals() -> Arc<Seals> {
    Arc::new(Seals::new(SealKey::new([7; 32]), Vec::new()))
}

fn recording_dir(folder: &tempfile::TempDir) -> RecordingDir {
    RecordingDir::new(folder.path(), Some(seals()))
}

/// Returns a data directory with one recording of about `bytes` bytes.
fn recorded(bytes: usize, sealed: bool) -> (tempfile::TempDir, PathBuf, Option<Seal>) {
    written(bytes, sealed, None)
}

/// As [`recorded`], encrypted if `seals` are given.
fn written(bytes: usize, sealed: bool, seals: Option<&Seals>) -> (tempfile::TempDir, PathBuf, Option<Seal>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(NAME);
    let header = RecordingHeader {
        session: "019b7cc2-3f4e-7000-8000-000000000001".into(),
        username: "ada".into(),
        target: "web-1".into(),
        term: "xterm".into(),
        cols: 80,
        rows: 24,
    };
    let options = WriterOptions {
        input: false,
        max_size: 1 << 30,
        begins: Duration::ZERO,
        began: UtcMicros(1_700_000_000_000_000),
    };
    let mut writer = RecordingWriter::create(path.clone(), &header, options, seals).unwrap();
    let mut number = 1_u64;
    while fs::metadata(&path).unwrap().len() < bytes as u64 {
        for _ in 0..100 {
            number = number.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            writer.output(Duration::from_millis(number >> 44), format!("line {number}\r\n").as_bytes()).unwrap();
        }
        writer.flush().unwrap();
    }
    let seal = if sealed { writer.seal(Duration::from_secs(9)).unwrap().map(|(seal, _)| seal) } else { None };
    (folder, path, seal)
}

fn whole(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    Text::open(path, Some(&seals())).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

fn look(path: &Path) -> io::Result<Verdict> {
    Text::open(path, Some(&seals())).and_then(|text| verify(BufReader::new(text)))
}

#[test]
fn a_compressed_recording_reads_jumps_and_verifies_as_it_was_written() {
    let (folder, path, seal) = recorded(3 * FRAME_BYTES, true);
    let written = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    File::options().append(true).open(&path).unwrap().set_modified(written).unwrap();
    let (plain, verdict) = (fs::read(&path).unwrap(), look(&path).unwrap());
    let (from, to) = replace(&recording_dir(&folder), &path, clock).unwrap().unwrap();
    let compressed = text::compressed_path(&path);
    assert_eq!((from, to), (plain.len() as u64, fs::metadata(&compressed).unwrap().len()));
    assert!(to < from / 2 && !path.exists(), "{from} bytes became {to}");
    assert_eq!(fs::metadata(&compressed).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(&compressed).unwrap().modified().unwrap(), written, "its age decides when it leaves");

    assert!(whole(&compressed) == plain && whole(&path) == plain, "by either name");
    let mut text = Text::open(&path, None).unwrap();
    for at in [
        0,
        1,
        FRAME_BYTES - 1,
        FRAME_BYTES,
        FRAME_BYTES + 1,
        2 * FRAME_BYTES + 7,
        5,
        plain.len() - 1,
        plain.len(),
        plain.len() + 9,
    ] {
        let mut part = vec![0; 300];
        text.seek(SeekFrom::Start(at as u64)).unwrap();
        let read = text.by_ref().take(300).read(&mut part).unwrap();
        let end = plain.len().min(at + read);
        assert!(part[..read] == plain[at.min(end)..end], "{read} bytes at {at}");
        assert!(read > 0 || at >= plain.len());
    }
    assert_eq!(look(&path).unwrap(), verdict);
    assert_eq!(recording_dir(&folder).find(NAME).unwrap(), compressed.canonicalize().unwrap());
    assert_eq!(recording_dir(&folder).recover(&compressed, "cut").unwrap(), seal);
    assert_eq!(recording_dir(&folder).all().unwrap(), std::slice::from_ref(&compressed));
    assert!(
        recording_dir(&folder).is_sealed(&compressed).unwrap() && recording_dir(&folder).unsealed().unwrap().is_empty()
    );
    assert_eq!(replace(&recording_dir(&folder), &compressed, clock).unwrap(), None, "once is enough");
    recording_dir(&folder).remove(NAME).unwrap();
    assert!(!compressed.exists());
}

#[test]
fn every_flipped_bit_of_a_compressed_recording_is_named_or_changes_nothing() {
    let (folder, path, _) = recorded(6_000, true);
    let plain = fs::read(&path).unwrap();
    replace(&recording_dir(&folder), &path, clock).unwrap().unwrap();
    let compressed = text::compressed_path(&path);
    let bytes = fs::read(&compressed).unwrap();
    let mut harmless = 0;
    for at in 0..bytes.len() {
        for bit in [0x01, 0x10, 0x80] {
            let mut spoilt = bytes.clone();
            spoilt[at] ^= bit;
            fs::write(&compressed, spoilt).unwrap();
            let said = match look(&compressed) {
                Err(error) => error.to_string(),
                Ok(verdict) => verdict.damage.map_or(String::new(), |damage| damage.what),
            };
            if said.is_empty() {
                // A decoder passes over a bit of a frame's head, and over the padding of its streams.
                assert!(whole(&compressed) == plain, "byte {at} was flipped unnoticed");
                harmless += 1;
            } else {
                assert!(said.starts_with("the compressed file is damaged: "), "byte {at}: {said}");
            }
        }
    }
    assert!(harmless < bytes.len() / 50, "{harmless} of {} flips changed nothing", 3 * bytes.len());
    for length in 0..bytes.len() {
        fs::write(&compressed, &bytes[..length]).unwrap();
        assert!(look(&compressed).is_err(), "cut off at {length}");
    }
}

#[test]
fn the_first_damaged_frame_is_named_with_the_text_it_holds() {
    let (folder, path, _) = recorded(3 * FRAME_BYTES, true);
    replace(&recording_dir(&folder), &path, clock).unwrap().unwrap();
    let compressed = text::compressed_path(&path);
    let mut bytes = fs::read(&compressed).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 40].fill(0);
    fs::write(&compressed, bytes).unwrap();
    let damage = look(&compressed).unwrap().damage.unwrap();
    assert!(damage.what.contains("frame 1, its bytes ") && damage.until == damage.from, "{damage:?}");
    assert!((FRAME_BYTES as u64 / 2..2 * FRAME_BYTES as u64).contains(&damage.from), "{damage:?}");
}

#[test]
fn wherever_a_crash_comes_the_recording_is_whole_and_the_next_start_tidies() {
    let (folder, path, _) = recorded(9_000, true);
    let (plain, compressed) = (fs::read(&path).unwrap(), text::compressed_path(&path));
    let unfinished = compressed.with_extension(UNFINISHED);
    // Ended while the file was being written.
    fs::write(&unfinished, "half").unwrap();
    assert_eq!(recording_dir(&folder).all().unwrap(), std::slice::from_ref(&path));
    sweep(&recording_dir(&folder)).unwrap();
    assert!(!unfinished.exists() && fs::read(&path).unwrap() == plain);
    // Ended before the plain one was removed.
    replace(&recording_dir(&folder), &path, clock).unwrap().unwrap();
    fs::write(&path, &plain).unwrap();
    assert_eq!(recording_dir(&folder).all().unwrap(), std::slice::from_ref(&path), "it is one recording");
    assert!(whole(&path) == plain);
    replace(&recording_dir(&folder), &path, clock).unwrap();
    assert!(!path.exists() && whole(&path) == plain);
    // The same, and the compressed one is damaged.
    let useful = fs::read(&compressed).unwrap();
    for useless in [&useful[..useful.len() - 3], b"", &useful[..useful.len() / 2]] {
        fs::write(&path, &plain).unwrap();
        fs::write(&compressed, useless).unwrap();
        replace(&recording_dir(&folder), &path, clock).unwrap();
        assert!(!compressed.exists() && fs::read(&path).unwrap() == plain);
    }
    // Removing a recording removes both files.
    fs::write(&compressed, &useful).unwrap();
    recording_dir(&folder).remove(NAME).unwrap();
    assert!(!path.exists() && !compressed.exists());
}

#[test]
fn an_encrypted_recording_is_compressed_encrypted() {
    let (folder, path, seal) = written(3 * FRAME_BYTES, true, Some(&seals()));
    let (plain, verdict) = (whole(&path), look(&path).unwrap());
    assert_eq!((verdict.damage.clone(), verdict.seal), (None, seal));
    let unfinished = text::compressed_path(&path).with_extension(UNFINISHED);
    let (from, to) = replace(&recording_dir(&folder), &path, clock).unwrap().unwrap();
    let compressed = text::compressed_path(&path);
    assert!(to < from / 2 && !path.exists() && !unfinished.exists(), "{from} bytes became {to}");
    assert!(whole(&compressed) == plain && look(&compressed).unwrap() == verdict);
    // The file shows neither the text nor that it is compressed.
    let bytes = fs::read(&compressed).unwrap();
    assert!(bytes.starts_with(b"pulsegate recording 1\ns1."));
    assert!(!bytes.windows(4).any(|part| part == [0x28, 0xb5, 0x2f, 0xfd] || part == b"line"));
    assert_eq!(Text::open(&compressed, None).unwrap_err().kind(), ErrorKind::PermissionDenied, "it is not damaged");
    // The compressed file has a key of its own.
    let mut text = Text::open(&path, Some(&seals())).unwrap();
    text.seek(SeekFrom::Start(plain.len() as u64 * 5 / 6)).unwrap();
    let mut part = [0; 300];
    text.read_exact(&mut part).unwrap();
    assert!(plain[plain.len() * 5 / 6..].starts_with(&part));
}

#[test]
fn what_is_still_written_is_not_compressed() {
    let (folder, path, _) = recorded(9_000, false);
    assert_eq!(replace(&recording_dir(&folder), &path, clock).unwrap(), None);
    assert!(path.exists() && !text::compressed_path(&path).exists());
}

#[test]
fn a_jump_in_six_hours_reads_one_frame() {
    // The output of a busy terminal in six hours, at 3 KB/s.
    let (folder, path, _) = recorded(60 << 20, true);
    let (plain, begun) = (fs::metadata(&path).unwrap().len(), Instant::now());
    let (_, to) = replace(&recording_dir(&folder), &path, || Duration::ZERO).unwrap().unwrap();
    println!("{plain} bytes became {to} in {:?}, read back", begun.elapsed());
    let begun = Instant::now();
    let mut text = Text::open(&path, None).unwrap();
    text.seek(SeekFrom::Start(plain * 5 / 6)).unwrap();
    let mut part = [0; 4096];
    text.read_exact(&mut part).unwrap();
    let took = begun.elapsed();
    println!("a jump took {took:?}");
    assert!(took < Duration::from_millis(300), "{took:?}");
}
