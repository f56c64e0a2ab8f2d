//! Channel binding, `tls-server-end-point` of RFC 5929: ties a login to its TLS connection. Both
//! sides include a hash of the server's certificate in the proof of the password, so an
//! attacker in between, whose certificate differs, can't relay the proof.

use ring::digest::{Algorithm, SHA256, SHA384, SHA512, digest};

/// The hash of a certificate, by the hash function of its own signature. `None` if the signature
/// uses none, or one that is not supported.
pub fn hash(certificate: &[u8]) -> Option<Vec<u8>> {
    let function = signature_hash(certificate)?;
    Some(digest(function, certificate).as_ref().to_vec())
}

/// 1.2.840.113549.1.1.x
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];

/// 1.2.840.10045.4.x
const ECDSA: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04];

/// The hash function of a certificate's signature.
fn signature_hash(certificate: &[u8]) -> Option<&'static Algorithm> {
    const SEQUENCE: u8 = 0x30;
    const OBJECT_IDENTIFIER: u8 = 0x06;
    // Certificate ::= SEQUENCE { tbsCertificate, signatureAlgorithm SEQUENCE { OID, ... },
    // signature }
    let (body, _) = value(certificate, SEQUENCE)?;
    let (_, rest) = value(body, SEQUENCE)?;
    let (algorithm, _) = value(rest, SEQUENCE)?;
    let (identifier, _) = value(algorithm, OBJECT_IDENTIFIER)?;
    if let Some(kind) = identifier.strip_prefix(RSA) {
        return match kind {
            // The RFC replaces MD5 and SHA-1, which are weak, by SHA-256.
            [4 | 5 | 11] => Some(&SHA256),
            [12] => Some(&SHA384),
            [13] => Some(&SHA512),
            _ => None,
        };
    }
    match identifier.strip_prefix(ECDSA)? {
        [1] | [3, 2] => Some(&SHA256),
        [3, 3] => Some(&SHA384),
        [3, 4] => Some(&SHA512),
        _ => None,
    }
}

/// Splits off the DER value at the start of `bytes`: its contents and the rest.
fn value(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&[found, first], rest) = bytes.split_first_chunk::<2>()?;
    if found != tag {
        return None;
    }
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}
