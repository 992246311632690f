//! What `torch.save` writes, and what somebody else may put into such a file.

use std::fs;
use std::io::{Cursor, Write};
use std::path::Path;

use qtl_model::weights::{Checkpoint, CheckpointError};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// A tensor in a pickle: storage class, member, offset, shape, strides.
struct Saved<'a> {
    class: &'a str,
    key: &'a str,
    offset: u32,
    shape: &'a [u32],
    strides: &'a [u32],
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.push(b'X');
    out.extend((text.len() as u32).to_le_bytes());
    out.extend(text.as_bytes());
}

fn int(out: &mut Vec<u8>, n: u32) {
    out.push(b'J');
    out.extend(n.to_le_bytes());
}

fn tuple(out: &mut Vec<u8>, items: &[u32]) {
    out.push(b'(');
    items.iter().for_each(|n| int(out, *n));
    out.push(b't');
}

/// `{name: tensor}` as pickle's protocol 2 has it.
fn pickle(tensors: &[(&str, Saved<'_>)]) -> Vec<u8> {
    let mut out = b"\x80\x02}(".to_vec();
    for (name, saved) in tensors {
        text(&mut out, name);
        out.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        text(&mut out, "storage");
        out.extend(format!("ctorch\n{}\n", saved.class).bytes());
        text(&mut out, saved.key);
        text(&mut out, "cpu");
        int(&mut out, 0);
        out.extend(b"tQ");
        int(&mut out, saved.offset);
        tuple(&mut out, saved.shape);
        tuple(&mut out, saved.strides);
        out.extend(b"\x89ccollections\nOrderedDict\n)RtR");
    }
    out.extend(b"u.");
    out
}

fn archive(pickle: &[u8], members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    zip.start_file("archive/data.pkl", stored).unwrap();
    zip.write_all(pickle).unwrap();
    for (name, bytes) in members {
        zip.start_file(format!("archive/{name}"), stored).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn open(dir: &Path, bytes: &[u8]) -> Result<Checkpoint, CheckpointError> {
    let file = dir.join("pytorch_model.bin");
    fs::write(&file, bytes).unwrap();
    Checkpoint::open(dir)
}

const PLAIN: Saved<'_> = Saved {
    class: "FloatStorage",
    key: "0",
    offset: 0,
    shape: &[2, 3],
    strides: &[3, 1],
};

#[test]
fn views_of_one_storage_come_out_as_they_were() {
    let dir = tempfile::tempdir().unwrap();
    let data = floats(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    let transposed = Saved {
        shape: &[3, 2],
        strides: &[1, 3],
        ..PLAIN
    };
    let tail = Saved {
        offset: 4,
        shape: &[2],
        strides: &[1],
        ..PLAIN
    };
    let saved = pickle(&[("plain", PLAIN), ("turned", transposed), ("tail", tail)]);
    let file = open(dir.path(), &archive(&saved, &[("data/0", &data)])).unwrap();
    assert_eq!(file.read("plain").unwrap(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    assert_eq!(file.read("turned").unwrap(), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
    assert_eq!(file.read("tail").unwrap(), [4.0, 5.0]);
    assert_eq!(file.entry("turned").unwrap().shape, [3, 2]);
}

#[test]
fn a_pickle_that_wants_to_run_code_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let witness = dir.path().join("witness");
    let command = format!("touch {}", witness.display());
    for (global, opening) in [
        ("posix.system", b"cposix\nsystem\n".as_slice()),
        (
            "builtins.eval",
            b"\x8c\x08builtins\x8c\x04eval\x93".as_slice(),
        ),
        (
            "torch.storage._load_from_bytes",
            b"ctorch.storage\n_load_from_bytes\n".as_slice(),
        ),
    ] {
        let mut evil = b"\x80\x04".to_vec();
        evil.extend(opening);
        text(&mut evil, &command);
        evil.extend(b"\x85R.");
        let error = open(dir.path(), &archive(&evil, &[])).unwrap_err();
        assert!(matches!(error, CheckpointError::Code { .. }), "{error}");
        let said = error.to_string();
        assert!(
            said.contains(global) && said.contains("pytorch_model.bin"),
            "{said}"
        );
    }
    assert!(!witness.exists());
}

#[test]
fn tensors_that_do_not_fit_their_storage_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let data = floats(&[0.0; 6]);
    let cases = [
        Saved {
            shape: &[2, 4],
            strides: &[4, 1],
            ..PLAIN
        },
        Saved { offset: 1, ..PLAIN },
        Saved {
            strides: &[i32::MAX as u32, i32::MAX as u32],
            ..PLAIN
        },
        // A small storage shown a million times over.
        Saved {
            shape: &[1000, 1000],
            strides: &[0, 0],
            ..PLAIN
        },
        Saved { key: "1", ..PLAIN },
        Saved {
            key: "../0",
            ..PLAIN
        },
    ];
    for saved in cases {
        let error = open(
            dir.path(),
            &archive(&pickle(&[("weight", saved)]), &[("data/0", &data)]),
        );
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains("weight") && error.contains("download it again"),
            "{error}"
        );
    }
}

#[test]
fn other_archives_and_the_old_format_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let error = open(dir.path(), b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.").unwrap_err();
    assert!(matches!(error, CheckpointError::Legacy(_)), "{error}");

    let data = floats(&[0.0; 6]);
    let whole = archive(&pickle(&[("weight", PLAIN)]), &[("data/0", &data)]);
    // The compression method of every member, in both of its places, becomes "deflated".
    let mut deflated = whole.clone();
    for i in 0..deflated.len() - 12 {
        match &deflated[i..i + 4] {
            b"PK\x03\x04" => deflated[i + 8] = 8,
            b"PK\x01\x02" => deflated[i + 10] = 8,
            _ => {}
        }
    }
    let error = open(dir.path(), &deflated).unwrap_err().to_string();
    assert!(error.contains("torch.save never does"), "{error}");

    let two = archive(
        &pickle(&[("weight", PLAIN)]),
        &[("data/0", &data), ("x/data.pkl", b".")],
    );
    let error = open(dir.path(), &two).unwrap_err().to_string();
    assert!(error.contains("data.pkl"), "{error}");
    let error = open(dir.path(), &archive(b"\x80\x02}.", &[]))
        .unwrap_err()
        .to_string();
    assert!(error.contains("no dictionary of tensors"), "{error}");
}

#[test]
fn damaged_archives_are_errors_and_never_panics() {
    let dir = tempfile::tempdir().unwrap();
    let data = floats(&[0.0; 6]);
    let whole = archive(&pickle(&[("weight", PLAIN)]), &[("data/0", &data)]);
    for length in 4..whole.len() {
        assert!(open(dir.path(), &whole[..length]).is_err(), "{length}");
    }
    for place in 0..whole.len() {
        for bit in [0x01, 0x40, 0x80] {
            let mut flipped = whole.clone();
            flipped[place] ^= bit;
            // It may still be a model, but then a readable one.
            if let Ok(file) = open(dir.path(), &flipped) {
                for name in file.names() {
                    let _ = file.read(name);
                }
            }
        }
    }
}

#[test]
fn the_integers_of_old_buffers_do_no_harm_until_they_are_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let ids = Saved {
        class: "LongStorage",
        key: "1",
        shape: &[2],
        strides: &[1],
        ..PLAIN
    };
    let saved = pickle(&[("weight", PLAIN), ("position_ids", ids)]);
    let members: [(&str, &[u8]); 2] = [("data/0", &floats(&[0.0; 6])), ("data/1", &[0; 16])];
    let file = open(dir.path(), &archive(&saved, &members)).unwrap();
    assert_eq!(file.read("weight").unwrap().len(), 6);
    let error = file.read("position_ids").unwrap_err().to_string();
    assert!(error.contains("I64") && error.contains("BF16"), "{error}");
}
