//! Certificates that somebody else made: what is right works, and each mistake has a sentence of its own on both sides.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use qtl_wire::certs::{Fault, Role, check_kit, make_client_kit};
use qtl_wire::*;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use time::OffsetDateTime;

use crate::toy::{ToyClient, ToyServer, terms};
use crate::world::{impatient, kits, listen, unchecked};

type Change = fn(&mut CertificateParams);

/// A root, an intermediate authority under it, and what they issue.
struct Pki {
    root: String,
    intermediate: String,
    issuer: Issuer<'static, KeyPair>,
}

fn params(names: &[&str], subject: &str) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, subject);
    params
}

fn authority(subject: &str) -> CertificateParams {
    let mut params = params(&[], subject);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

impl Pki {
    fn new() -> Pki {
        let (root_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let (root, sub) = (authority("the root"), authority("the intermediate"));
        let root_pem = root.self_signed(&root_key).unwrap().pem();
        let root = Issuer::new(root, root_key);
        let intermediate = sub.signed_by(&key, &root).unwrap().pem();
        Pki {
            root: root_pem,
            intermediate,
            issuer: Issuer::new(sub, key),
        }
    }

    /// A kit, with the intermediate's certificate or without it.
    fn kit(&self, dir: &Path, role: Role, whole: bool, change: Change) {
        let (names, usage): (&[&str], _) = match role {
            Role::Server => (&["localhost"], ExtendedKeyUsagePurpose::ServerAuth),
            Role::Client => (&[], ExtendedKeyUsagePurpose::ClientAuth),
        };
        let mut params = params(names, "localhost");
        params.insert_extended_key_usage(usage);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let mut chain = params.signed_by(&key, &self.issuer).unwrap().pem();
        if whole {
            chain.push_str(&self.intermediate);
        }
        fs::write(dir.join("ca.pem"), &self.root).unwrap();
        fs::write(dir.join(role.certificate()), chain).unwrap();
        fs::write(dir.join(role.key()), key.serialize_pem()).unwrap();
    }
}

/// What a client meets with, and what the two kits are said to be at home.
struct Met {
    outcome: Result<(), WireError>,
    server: Result<Vec<String>, KitError>,
    client: Result<Vec<String>, KitError>,
}

impl Met {
    fn problem(&self) -> &TlsProblem {
        match &self.outcome {
            Err(WireError::Tls { problem, .. }) => problem,
            other => panic!("{other:?}"),
        }
    }
}

fn meet(server: (bool, Change), client: (bool, Change)) -> Met {
    let (pki, dir) = (Pki::new(), tempfile::tempdir().unwrap());
    let dir = dir.path();
    pki.kit(dir, Role::Server, server.0, server.1);
    pki.kit(dir, Role::Client, client.0, client.1);
    let ca = pki.root.clone().into_bytes();
    let tls = ServerTls {
        ca: ca.clone(),
        identity: unchecked(dir, Role::Server),
    };
    let running =
        crate::world::Running::start(ServeOptions::new(listen(0), tls), ToyServer::fresh());
    let tls = ClientTls {
        ca,
        identity: Some(unchecked(dir, Role::Client)),
    };
    let mut options = ClientOptions::new(&running.address(), tls);
    options.retry = impatient();
    options.retry.connect_for = Duration::ZERO;
    let outcome = GrpcClient::connect(options).and_then(|mut client| {
        let standing = ToyClient::default().standing();
        client
            .greet(&terms(), &standing, Purpose::Train)
            .map(|_| ())
    });
    let home = |role| check_kit(dir, role, SystemTime::now()).map(|facts| facts.warnings);
    Met {
        outcome,
        server: home(Role::Server),
        client: home(Role::Client),
    }
}

const WHOLE: (bool, Change) = (true, |_| ());
const ALONE: (bool, Change) = (false, |_| ());

fn names_the_intermediate(warnings: &Result<Vec<String>, KitError>) -> bool {
    let warnings = warnings.as_ref().unwrap();
    warnings
        .iter()
        .any(|line| line.contains("the intermediate"))
}

#[test]
fn an_intermediate_authority_in_the_chain_is_followed() {
    let met = meet(WHOLE, WHOLE);
    met.outcome.as_ref().unwrap();
    assert!(!names_the_intermediate(&met.server) && !names_the_intermediate(&met.client));
}

#[test]
fn a_forgotten_intermediate_is_named_on_both_sides() {
    let met = meet(ALONE, WHOLE);
    let TlsProblem::Server(Fault::Issuer { issuer, file }) = met.problem() else {
        panic!("{:?}", met.problem())
    };
    assert!(issuer.contains("the intermediate") && *file == "server.pem");
    assert!(names_the_intermediate(&met.server));

    let met = meet(WHOLE, ALONE);
    let TlsProblem::Client(Fault::Issuer { issuer, file }) = met.problem() else {
        panic!("{:?}", met.problem())
    };
    assert!(issuer.contains("the intermediate") && *file == "client.pem");
    assert!(names_the_intermediate(&met.client));
}

#[test]
fn a_name_in_the_subject_alone_is_no_name() {
    let met = meet((true, |params| params.subject_alt_names.clear()), WHOLE);
    let fault = Fault::NoAlternativeName("localhost".to_owned());
    assert_eq!(*met.problem(), TlsProblem::Server(fault));
    let error = met.server.unwrap_err().to_string();
    assert!(error.contains("no subjectAltName"), "{error}");
}

#[test]
fn the_wrong_purpose_is_named_on_both_sides() {
    let met = meet(
        (true, |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        }),
        WHOLE,
    );
    assert!(matches!(
        met.problem(),
        TlsProblem::Server(Fault::Purpose {
            lacks: "serverAuth",
            ..
        })
    ));
    assert!(matches!(met.server, Err(KitError::Unfit { .. })));

    let met = meet(
        WHOLE,
        (true, |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        }),
    );
    let TlsProblem::Client(fault @ Fault::Purpose { lacks, .. }) = met.problem() else {
        panic!("{:?}", met.problem())
    };
    assert!(*lacks == "clientAuth" && fault.to_string().contains("(serverAuth)"));
    assert!(matches!(met.client, Err(KitError::Unfit { .. })));
}

#[test]
fn an_authority_is_no_server() {
    let change: Change = |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let met = meet((true, change), WHOLE);
    assert_eq!(
        *met.problem(),
        TlsProblem::Server(Fault::Authority("server"))
    );
    assert!(matches!(met.server, Err(KitError::Unfit { .. })));
}

#[test]
fn an_expired_authority_beside_a_good_one_is_a_warning() {
    let (pki, dir) = (Pki::new(), tempfile::tempdir().unwrap());
    pki.kit(dir.path(), Role::Client, true, |_| ());
    let mut old = authority("the old root");
    let now = OffsetDateTime::now_utc();
    (old.not_before, old.not_after) = (now - 3 * time::Duration::DAY, now - time::Duration::DAY);
    let old = old
        .self_signed(&KeyPair::generate().unwrap())
        .unwrap()
        .pem();
    let path = dir.path().join("ca.pem");
    let check = || check_kit(dir.path(), Role::Client, SystemTime::now());
    fs::write(&path, format!("{old}{}", pki.root)).unwrap();
    let warnings = check().unwrap().warnings;
    assert!(
        warnings.iter().any(|line| line.contains("expired on")),
        "{warnings:?}"
    );
    fs::write(&path, old).unwrap();
    assert!(matches!(check(), Err(KitError::Expired { .. })));
}

/// Files made with openssl, which stay as they are until 2126.
fn fixture(certificate: &str, key: &str, role: Role) -> KitError {
    let dir = tempfile::tempdir().unwrap();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    for (name, file) in [
        ("ca.pem", "ca.pem"),
        (role.certificate(), certificate),
        (role.key(), key),
    ] {
        fs::copy(from.join(file), dir.path().join(name)).unwrap();
    }
    let then = SystemTime::UNIX_EPOCH + Duration::from_secs(2_000_000_000);
    check_kit(dir.path(), role, then).unwrap_err()
}

#[test]
fn files_of_openssl_that_cannot_be_used_are_named_for_what_they_are() {
    let error = fixture("v1.pem", "v1.key", Role::Server);
    assert!(
        matches!(
            &error,
            KitError::Unfit {
                fault: Fault::Version(1),
                ..
            }
        ),
        "{error:?}"
    );
    let error = fixture("expired.pem", "v1.key", Role::Client);
    assert!(
        matches!(&error, KitError::Expired { end, .. } if end.starts_with("2020-01-01")),
        "{error:?}"
    );
    let error = fixture("p521.pem", "p521.key", Role::Client);
    assert!(
        matches!(
            &error,
            KitError::KeyKind {
                kind: "ECDSA P-521",
                ..
            }
        ),
        "{error:?}"
    );
    for key in ["encrypted_pkcs8.key", "encrypted_ec.key"] {
        let error = fixture("v1.pem", key, Role::Client);
        assert!(matches!(error, KitError::Encrypted { .. }), "{error:?}");
        assert!(error.to_string().contains("openssl pkey -in"), "{error}");
    }
}

#[cfg(unix)]
#[test]
fn a_key_that_others_can_read_is_a_warning_with_its_cure() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    make_client_kit(&kits().ca, dir.path(), "ward", &certs::Issue::days(1)).unwrap();
    let warnings = || {
        check_kit(dir.path(), Role::Client, SystemTime::now())
            .unwrap()
            .warnings
    };
    assert!(warnings().is_empty());
    let key = dir.path().join("client.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let line = warnings().remove(0);
    assert!(
        line.contains("mode 644") && line.contains("chmod 600"),
        "{line}"
    );
}

#[test]
fn a_name_cannot_forge_a_line() {
    let dir = tempfile::tempdir().unwrap();
    let name = "ward\n\u{1b}[31mERROR\u{202e} all is lost";
    make_client_kit(&kits().ca, dir.path(), name, &certs::Issue::days(1)).unwrap();
    let facts = check_kit(dir.path(), Role::Client, SystemTime::now()).unwrap();
    assert!(
        !facts.name.contains(['\n', '\u{1b}', '\u{202e}']),
        "{:?}",
        facts.name
    );
}
