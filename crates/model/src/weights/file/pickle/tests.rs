use super::*;

#[test]
fn a_global_that_is_no_tensor_is_refused_by_name() {
    // os.system("echo")
    let bytes = b"\x80\x02cposix\nsystem\nX\x04\x00\x00\x00echo\x85R.";
    assert_eq!(
        run(bytes).unwrap_err(),
        PickleError::Global("posix.system".to_owned())
    );
    // The same through STACK_GLOBAL.
    let bytes = b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93.";
    assert_eq!(
        run(bytes).unwrap_err(),
        PickleError::Global("builtins.eval".to_owned())
    );
}

#[test]
fn nesting_and_sharing_cost_no_more_than_their_bytes() {
    // A million lists inside each other: dropped without recursion.
    let mut deep = b"\x80\x02".to_vec();
    deep.extend(std::iter::repeat_n(b']', 1_000_000));
    deep.extend(std::iter::repeat_n(b'a', 999_999));
    deep.push(b'.');
    assert!(run(&deep).unwrap().named().is_empty());
    // Pairs of pairs of pairs: 2^60 leaves if they were copied.
    let mut wide = b"\x80\x02)q\x00".to_vec();
    for _ in 0..60 {
        wide.extend(b"h\x00h\x00\x86q\x00");
    }
    wide.push(b'.');
    assert!(run(&wide).unwrap().values.len() < 100);
}

#[test]
fn broken_pickles_are_errors() {
    for bytes in [
        b"".as_slice(),
        b"\x80",
        b".",
        b"t.",
        b"]]s.",
        b"h\x00.",
        b"X\xff\xff\xff\xffabc",
        b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff",
        b"NQ.",
        b"NNR.",
        b"]b.",
        b"\x8a\x09123456789.",
        b"F1.5\n.",
    ] {
        assert!(run(bytes).is_err(), "{bytes:?}");
    }
}
