//! Files of encrypted recordings: read anywhere, altered anywhere, moved, under other keys.

use proptest::prelude::*;

use super::*;
use crate::recording::{encrypted::whole, storage::Storage};

const SESSION: &str = "019b7cc2-3f4e-7000-8000-000000000001";

fn seals(keys: &[u8]) -> Seals {
    let mut keys: Vec<_> = keys.iter().map(|byte| SealKey::new([*byte; 32])).collect();
    let older = keys.split_off(1);
    Seals::new(keys.pop().unwrap(), older)
}

/// Returns a file with these pieces, and the offset at which each of them ends, the head first.
fn file(pieces: &[&[u8]]) -> (File, Vec<usize>) {
    let (cipher, mut bytes) = Cipher::new(&seals(&[1]), SESSION).unwrap();
    let (mut at, mut ends) = (0, vec![bytes.len()]);
    for piece in pieces {
        cipher.encrypt(at, piece, &mut bytes).unwrap();
        at += piece.len() as u64;
        ends.push(bytes.len());
    }
    (holding(&bytes), ends)
}

fn holding(bytes: &[u8]) -> File {
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file
}

fn bytes(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

fn read(file: File, keys: &[u8]) -> io::Result<Vec<u8>> {
    let mut storage = Storage::open(file, SESSION, Some(&seals(keys)))?;
    let mut text = vec![0; storage.length()? as usize];
    storage.read_exact_at(&mut text, 0)?;
    Ok(text)
}

#[test]
fn a_head_has_the_length_that_is_told_and_fits_a_sector() {
    let (file, ends) = file(&[]);
    assert_eq!((ends.as_slice(), file.metadata().unwrap().len()), (&[158][..], 158));
}

#[test]
fn whatever_is_altered_no_other_text_is_read() {
    let (file, ends) = file(&[b"first", b"second", b"third"]);
    let (whole, text) = (bytes(&file), b"firstsecondthird");
    for at in 0..whole.len() {
        for bit in [0x01, 0x80] {
            let mut spoilt = whole.clone();
            spoilt[at] ^= bit;
            // A file without the first line does not count as encrypted.
            match read(holding(&spoilt), &[1]) {
                Ok(read) => {
                    assert!(at < MAGIC.len() || (text.starts_with(&read) && read.len() < text.len()), "byte {at}")
                }
                // A flipped bit in the key's name names another key.
                Err(error) if error.kind() == ErrorKind::PermissionDenied => assert!(at < ends[0], "byte {at}"),
                Err(error) => assert_eq!(error.kind(), ErrorKind::InvalidData, "byte {at}: {error}"),
            }
        }
    }
    for length in ends[0]..whole.len() {
        let read = read(holding(&whole[..length]), &[1]).unwrap();
        let pieces = ends.iter().filter(|end| **end <= length).count() - 1;
        assert_eq!(read, [&b"first"[..], b"second", b"third"][..pieces].concat(), "cut off at {length}");
    }
}

#[test]
fn a_piece_is_read_in_its_place_of_its_session_only() {
    let (file, ends) = file(&[b"one", b"two", b"six"]);
    let whole = bytes(&file);
    let piece = |nth: usize| &whole[ends[nth]..ends[nth + 1]];
    let head = &whole[..ends[0]];
    for order in [[1, 0, 2], [0, 0, 2], [0, 2, 1]] {
        let moved = [head, piece(order[0]), piece(order[1]), piece(order[2])].concat();
        let said = read(holding(&moved), &[1]).unwrap_err().to_string();
        assert!(said.contains("were altered, or belong elsewhere"), "{said}");
    }
    let said = Storage::open(holding(&whole), "another", Some(&seals(&[1]))).unwrap_err().to_string();
    assert!(said.contains("the file is not called SESSION.cast or SESSION.cast.zst any more"), "{said}");
    // The same text is never encrypted to the same bytes.
    let (file, ends) = self::file(&[b"same", b"same"]);
    let bytes = bytes(&file);
    let text = |nth: usize| &bytes[ends[nth] + LENGTH + NONCE_LEN..][..4];
    assert!(text(0) != text(1));
}

#[test]
fn who_lacks_the_key_is_told_which() {
    let (file, _) = file(&[b"text"]);
    let whole = bytes(&file);
    let said = read(holding(&whole), &[2]).unwrap_err().to_string();
    assert!(said.contains(&format!("the key {}, which", seals(&[1]).keys().next().unwrap().id())), "{said}");
    let said = Storage::open(holding(&whole), SESSION, None).unwrap_err().to_string();
    assert!(said.contains("there is no seal key here; name the gateway's configuration"), "{said}");
}

#[test]
fn a_new_key_seals_the_old_recording_anew_in_its_place() {
    let (file, ends) = file(&[b"text"]);
    let (before, both) = (bytes(&file), seals(&[2, 1]));
    assert!(is_outdated(&file, &both).unwrap() && !is_outdated(&file, &seals(&[1])).unwrap());
    let written = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
    file.set_modified(written).unwrap();
    seal_again(&file, SESSION, &both).unwrap();
    assert_eq!(file.metadata().unwrap().modified().unwrap(), written, "its age decides when it leaves");
    assert!(!is_outdated(&file, &both).unwrap());
    let after = bytes(&file);
    assert!(after[ends[0]..] == before[ends[0]..] && after[..ends[0]] != before[..ends[0]]);
    assert_eq!(read(holding(&after), &[2]).unwrap(), b"text");
    assert!(read(holding(&after), &[1]).is_err(), "the old key opens it no more");
    seal_again(&holding(b"{\"version\":2"), SESSION, &both).unwrap();
    assert!(seal_again(&holding(&after), SESSION, &seals(&[3])).is_err());
}

#[test]
fn what_is_added_is_read_without_opening_it_again() {
    let (cipher, head) = Cipher::new(&seals(&[1]), SESSION).unwrap();
    let file = holding(&head);
    let mut reader = Storage::open(file.try_clone().unwrap(), SESSION, Some(&seals(&[1]))).unwrap();
    let (mut end, mut text) = (head.len() as u64, Vec::new());
    for added in ["a", "bc", "def"] {
        let mut piece = Vec::new();
        cipher.encrypt(text.len() as u64, added.as_bytes(), &mut piece).unwrap();
        file.write_all_at(&piece[..piece.len() - 1], end).unwrap();
        assert_eq!(reader.length().unwrap(), text.len() as u64, "half of it is nothing yet");
        file.write_all_at(&piece, end).unwrap();
        end += piece.len() as u64;
        text.extend_from_slice(added.as_bytes());
        let mut read = vec![0; text.len()];
        reader.read_exact_at(&mut read, 0).unwrap();
        assert_eq!((reader.length().unwrap(), &read), (text.len() as u64, &text));
    }
}

proptest! {
    #[test]
    fn any_part_is_read(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 1..6),
        from in any::<prop::sample::Index>(),
        length in 0usize..90,
    ) {
        let text = pieces.concat();
        let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
        let mut storage = Storage::open(file(&pieces).0, SESSION, Some(&seals(&[1]))).unwrap();
        let from = from.index(text.len() + 1);
        let until = text.len().min(from + length);
        let mut part = vec![0; until - from];
        storage.read_exact_at(&mut part, from as u64).unwrap();
        prop_assert_eq!(&part, &text[from..until]);
        prop_assert_eq!(storage.read_at(&mut [0; 1], text.len() as u64).unwrap(), 0);
    }

    #[test]
    fn any_end_is_replaced(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..20), 1..5),
        kept in any::<prop::sample::Index>(),
        added in prop::collection::vec(any::<u8>(), 1..40),
    ) {
        let text = pieces.concat();
        let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
        let file = file(&pieces).0;
        let kept = kept.index(text.len() + 1);
        let expected = [&text[..kept], &added].concat();
        let mut storage = Storage::open(file.try_clone().unwrap(), SESSION, Some(&seals(&[1]))).unwrap();
        storage.replace_end(kept as u64, &added).unwrap();
        let mut same = vec![0; storage.length().unwrap() as usize];
        storage.read_exact_at(&mut same, 0).unwrap();
        prop_assert_eq!(&same, &expected);
        prop_assert_eq!(read(file, &[1]).unwrap(), expected);
    }

    #[test]
    fn what_is_written_through_is_read_back(writes in prop::collection::vec(0usize..100_000, 0..5)) {
        let file = tempfile::tempfile().unwrap();
        let mut sink = Encrypting::begin(&file, SESSION, &seals(&[1])).unwrap();
        let mut text = Vec::new();
        for (nth, length) in writes.into_iter().enumerate() {
            let part: Vec<u8> = (0..length).map(|at| (at * (nth + 3)) as u8).collect();
            sink.write_all(&part).unwrap();
            text.extend_from_slice(&part);
        }
        sink.flush().unwrap();
        drop(sink);
        prop_assert!(read(file, &[1]).unwrap() == text);
    }

    #[test]
    fn any_file_is_read_or_refused(tail in prop::collection::vec(any::<u8>(), 0..300), keep in 0usize..400) {
        let (file, _) = file(&[b"first", b"second"]);
        let mut bytes = bytes(&file);
        bytes.truncate(keep);
        bytes.extend_from_slice(&tail);
        let file = holding(&bytes);
        if let Ok(whole) = whole(&file) {
            prop_assert!(whole.is_none_or(|whole| whole <= bytes.len() as u64));
        }
        if let Ok(mut storage) = Storage::open(file, SESSION, Some(&seals(&[1]))) {
            let length = storage.length().unwrap();
            prop_assert!(length <= bytes.len() as u64 && storage.sound_from(0).unwrap() <= length);
            prop_assert!(storage.check_end().is_ok(), "what is torn is not altered");
        }
    }
}
