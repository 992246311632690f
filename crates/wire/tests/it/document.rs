//! docs/PROTOCOL.md describes this very protocol.

use std::path::Path;

#[test]
fn the_document_describes_this_protocol() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let proto = std::fs::read(root.join("proto/split.proto")).unwrap();
    let digest = ring::digest::digest(&ring::digest::SHA256, &proto);
    let hash: String = digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let document = std::fs::read_to_string(root.join("../../docs/PROTOCOL.md")).unwrap();
    assert!(
        document.contains(&hash),
        "proto/split.proto has changed: bring docs/PROTOCOL.md up to date, then put this hash into it: {hash}"
    );
    let text = String::from_utf8(proto).unwrap();
    for line in text
        .lines()
        .filter_map(|line| line.strip_prefix("message "))
    {
        let name = line.split_whitespace().next().unwrap();
        assert!(
            document.contains(&format!("`{name}`")),
            "docs/PROTOCOL.md does not mention {name}"
        );
    }
}
