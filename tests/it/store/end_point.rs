//! Hashes of servers' certificates.

use polos::store::internals::certificate_hash as hash;
use ring::digest::{SHA256, digest};

#[test]
fn the_hash_is_that_of_the_signature() {
    let made = rcgen::generate_simple_self_signed(["h".to_owned()]).unwrap();
    let certificate = made.cert.der();
    assert_eq!(hash(certificate).unwrap(), digest(&SHA256, certificate).as_ref());
}

#[test]
fn what_is_no_certificate_has_none() {
    let made = rcgen::generate_simple_self_signed(["h".to_owned()]).unwrap();
    let certificate = made.cert.der();
    for length in 0..certificate.len().min(200) {
        assert_eq!(hash(&certificate[..length]), None);
    }
    assert_eq!(hash(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 0x30]), None);
}
