//! Kits: made, checked, and never overwritten by accident.

use std::fs;
use std::time::{Duration, SystemTime};

use qtl_wire::KitError;
use qtl_wire::certs::*;

use crate::world::{Kits, kits};

#[test]
fn a_kit_says_whose_it_is_and_how_long() {
    let facts = check_kit(&kits().path("client"), Role::Client, SystemTime::now()).unwrap();
    assert_eq!(facts.name, "hospital");
    let left = facts.until.duration_since(SystemTime::now()).unwrap();
    assert!(left > Duration::from_secs(80_000) && left <= Duration::from_secs(86_400));
    check_kit(&kits().path("server"), Role::Server, SystemTime::now()).unwrap();
}

#[test]
fn a_kit_is_checked_against_the_clock() {
    let dir = kits().path("client");
    let now = SystemTime::now();
    let day = Duration::from_secs(86_400);
    match check_kit(&dir, Role::Client, now + 2 * day) {
        Err(KitError::Expired { path, end }) => {
            assert!(
                path.ends_with("ca.pem") && end.contains("UTC"),
                "{path:?} {end}"
            );
        }
        other => panic!("{other:?}"),
    }
    let error = check_kit(&dir, Role::Client, now - 2 * day).unwrap_err();
    assert!(matches!(error, KitError::NotYetValid { .. }), "{error:?}");
    assert!(error.to_string().contains("clock"), "{error}");
}

#[test]
fn a_missing_file_is_named() {
    for name in ["ca.pem", "client.pem", "client.key"] {
        let kits = Kits::new("missing");
        let path = kits.path("client").join(name);
        fs::remove_file(&path).unwrap();
        match check_kit(&kits.path("client"), Role::Client, SystemTime::now()) {
            Err(KitError::Missing { path: named }) => assert_eq!(named, path),
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn a_key_of_another_kit_is_found_out() {
    let (mine, other) = (Kits::new("mine"), Kits::new("other"));
    fs::copy(
        other.path("client/client.key"),
        mine.path("client/client.key"),
    )
    .unwrap();
    let error = check_kit(&mine.path("client"), Role::Client, SystemTime::now()).unwrap_err();
    assert!(matches!(error, KitError::KeyMismatch { .. }), "{error:?}");
}

#[test]
fn damaged_files_are_named() {
    for (name, content) in [
        ("client.pem", "nothing at all"),
        (
            "client.pem",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ),
        (
            "client.key",
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        ),
        ("client.key", ""),
        (
            "ca.pem",
            "-----BEGIN CERTIFICATE-----\n?!\n-----END CERTIFICATE-----\n",
        ),
    ] {
        let kits = Kits::new("damaged");
        let path = kits.path("client").join(name);
        fs::write(&path, content).unwrap();
        match check_kit(&kits.path("client"), Role::Client, SystemTime::now()) {
            Err(KitError::Malformed { path: named, .. }) => assert_eq!(named, path),
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn nothing_is_overwritten_unless_told() {
    let kits = Kits::new("again");
    let issue = Issue::days(1);
    let key = kits.path("client/client.key");
    let before = fs::read(&key).unwrap();
    let again = make_client_kit(&kits.ca, &kits.path("client"), "other", &issue);
    assert!(matches!(again, Err(KitError::Exists { .. })), "{again:?}");
    assert_eq!(fs::read(&key).unwrap(), before);
    assert!(matches!(
        make_ca(&kits.path("ca"), "again", &issue),
        Err(KitError::Exists { .. })
    ));

    let issue = Issue {
        overwrite: true,
        ..issue
    };
    make_client_kit(&kits.ca, &kits.path("client"), "other", &issue).unwrap();
    let facts = check_kit(&kits.path("client"), Role::Client, SystemTime::now()).unwrap();
    assert_eq!(facts.name, "other");
    // A run may belong to the key that was there.
    make_client_kit(&kits.ca, &kits.path("client"), "third", &issue).unwrap();
    assert_eq!(
        fs::read(kits.path("client/client.key.old")).unwrap(),
        before
    );
    let mut names: Vec<_> = fs::read_dir(kits.path("client"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let kept = ["ca.pem", "client.key", "client.key.old", "client.key.old-2"];
    let pem = ["client.pem", "client.pem.old", "client.pem.old-2"];
    assert_eq!(names, [&kept[..], &pem].concat());
}

#[test]
fn a_server_has_names_that_a_client_can_ask_for() {
    let kits = Kits::new("names");
    let make = |name: &str| {
        let names = [name.to_owned()];
        make_server_kit(
            &kits.ca,
            &kits.path(&format!("of {}", name.len())),
            &names,
            &Issue::days(1),
        )
    };
    for name in [
        "gpu.example.org",
        "*.example.org",
        "10.0.0.5",
        "2001:db8::5",
    ] {
        make(name).unwrap();
    }
    for name in ["a b", "https://gpu.example.org", "gpu:7443", "x..y", ""] {
        assert!(matches!(make(name), Err(KitError::Name { .. })), "{name:?}");
    }
}

#[test]
fn an_authority_read_back_issues_kits_that_fit() {
    let kits = Kits::new("reloaded");
    let ca = Ca::load(&kits.path("ca")).unwrap();
    make_client_kit(&ca, &kits.path("second"), "clinic", &Issue::days(1)).unwrap();
    check_kit(&kits.path("second"), Role::Client, SystemTime::now()).unwrap();
    let same = |kit: &str| fs::read(kits.path(kit).join("ca.pem")).unwrap();
    assert_eq!(same("second"), same("client"));
    assert!(matches!(
        Ca::load(&kits.path("client")),
        Err(KitError::Missing { .. })
    ));
}

#[test]
fn a_kit_needs_a_name() {
    let dir = tempfile::tempdir().unwrap();
    let issue = Issue::days(1);
    for names in [vec![], vec!["näme".to_owned()]] {
        let outcome = make_server_kit(&kits().ca, dir.path(), &names, &issue);
        assert!(matches!(outcome, Err(KitError::Name { .. })), "{outcome:?}");
    }
    assert!(make_client_kit(&kits().ca, dir.path(), " ", &issue).is_err());
    assert_eq!(
        fs::read_dir(dir.path()).unwrap().count(),
        0,
        "nothing half-written"
    );
}

#[cfg(unix)]
#[test]
fn keys_are_for_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let mode = |file: &str| {
        fs::metadata(kits().path(file))
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    };
    for key in ["ca/ca.key", "server/server.key", "client/client.key"] {
        assert_eq!(mode(key), 0o600, "{key}");
    }
    assert_eq!(mode("client/client.pem"), 0o644);
}

#[test]
fn a_renewed_kit_keeps_its_key_and_names() {
    let kits = Kits::new("renewed");
    let issue = Issue::days(30);
    for (kit, role) in [("client", Role::Client), ("server", Role::Server)] {
        let dir = kits.path(kit);
        let before = check_kit(&dir, role, SystemTime::now()).unwrap();
        let key = fs::read(dir.join(role.key())).unwrap();
        let renewed = renew(&dir, &kits.path("ca"), &issue).unwrap();
        let after = check_kit(&dir, role, SystemTime::now()).unwrap();
        assert_eq!((renewed.key, &renewed.name), (before.key, &before.name));
        assert_eq!((after.key, &after.name), (before.key, &before.name));
        assert!(after.until > before.until);
        assert_eq!(fs::read(dir.join(role.key())).unwrap(), key);
    }
    let other = kits.path("second");
    make_client_kit(&kits.ca, &other, "hospital", &issue).unwrap();
    let key = |dir| check_kit(dir, Role::Client, SystemTime::now()).unwrap().key;
    assert_ne!(key(&other), key(&kits.path("client")));
}

#[test]
fn a_renewed_authority_still_knows_its_kits_and_they_get_its_new_certificate() {
    let kits = Kits::new("long-lived");
    let ca = kits.path("ca");
    let before = leaf_key(&ca.join("ca.pem")).unwrap();
    renew(&ca, &ca, &Issue::days(900)).unwrap();
    assert_eq!(leaf_key(&ca.join("ca.pem")).unwrap(), before);
    let same = |kit: &str| fs::read(kits.path(kit).join("ca.pem")).unwrap();
    assert_ne!(same("ca"), same("client"));
    renew(&kits.path("client"), &ca, &Issue::days(800)).unwrap();
    assert_eq!(same("ca"), same("client"));
    let facts = check_kit(&kits.path("client"), Role::Client, SystemTime::now()).unwrap();
    assert!(facts.until > SystemTime::now() + Duration::from_secs(700 * 86_400));
}

#[test]
fn what_cannot_be_renewed_is_named_and_stays() {
    let (mine, other) = (Kits::new("mine"), Kits::new("other"));
    let dir = mine.path("client");
    let before = fs::read(dir.join("client.pem")).unwrap();
    let error = renew(&dir, &other.path("ca"), &Issue::days(1)).unwrap_err();
    assert!(matches!(error, KitError::OtherAuthority { .. }), "{error}");
    assert_eq!(fs::read(dir.join("client.pem")).unwrap(), before);
    fs::copy(other.path("client/client.key"), dir.join("client.key")).unwrap();
    let error = renew(&dir, &mine.path("ca"), &Issue::days(1)).unwrap_err();
    assert!(matches!(error, KitError::KeyMismatch { .. }), "{error}");
    let error = renew(&mine.path("nothing"), &mine.path("ca"), &Issue::days(1)).unwrap_err();
    assert!(matches!(error, KitError::Missing { .. }), "{error}");
    assert_eq!(fs::read(dir.join("client.pem")).unwrap(), before);
}
