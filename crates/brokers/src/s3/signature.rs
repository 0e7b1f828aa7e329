//! Whether a request is signed with the right secret: version 4 of Amazon's signatures, with HMAC-SHA256.

use std::fmt::Write as _;

use hyper::http::request::Parts;
use ring::{digest, hmac};

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const UNSIGNED: &str = "UNSIGNED-PAYLOAD";

/// Fails with Amazon's word for what is wrong with the key, the signature or the hash of the body.
pub(super) fn check(head: &Parts, body: &[u8], key: &str, secret: &str) -> Result<(), &'static str> {
    let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    let told = header("authorization").and_then(Authorization::parse).ok_or("AccessDenied")?;
    let (known, scope) = told.credential.split_once('/').ok_or("AuthorizationHeaderMalformed")?;
    if known != key {
        return Err("InvalidAccessKeyId");
    }
    let [date, region, service, end] = scope.split('/').collect::<Vec<_>>()[..] else {
        return Err("AuthorizationHeaderMalformed");
    };
    let time = header("x-amz-date").filter(|time| time.starts_with(date)).ok_or("AccessDenied")?;
    let hash = header("x-amz-content-sha256").ok_or("MissingSecurityHeader")?;
    if hash != UNSIGNED && hash != hex(digest::digest(&digest::SHA256, body).as_ref()) {
        return Err("XAmzContentSHA256Mismatch");
    }
    if !told.signed_headers.split(';').any(|name| name == "host") {
        return Err("AccessDenied");
    }
    let request = canonical_request(head, told.signed_headers, hash);
    let request = hex(digest::digest(&digest::SHA256, request.as_bytes()).as_ref());
    let text = format!("{ALGORITHM}\n{time}\n{scope}\n{request}");
    let seed = format!("AWS4{secret}").into_bytes();
    let signing_key = [date, region, service, end].iter().fold(seed, |key, part| sign(&key, part));
    if told.signature == hex(&sign(&signing_key, &text)) { Ok(()) } else { Err("SignatureDoesNotMatch") }
}

/// What the header of that name says.
struct Authorization<'a> {
    credential: &'a str,
    signed_headers: &'a str,
    signature: &'a str,
}

impl<'a> Authorization<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let fields = text.strip_prefix(ALGORITHM)?;
        let field = |name: &str| {
            fields.split(',').find_map(|field| field.trim().strip_prefix(name)?.strip_prefix('='))
        };
        Some(Self {
            credential: field("Credential")?,
            signed_headers: field("SignedHeaders")?,
            signature: field("Signature")?,
        })
    }
}

fn canonical_request(head: &Parts, signed_headers: &str, hash: &str) -> String {
    let mut query = query_pairs(head);
    query.sort_unstable();
    let query: Vec<_> =
        query.iter().map(|(key, value)| format!("{}={}", encoded(key), encoded(value))).collect();
    let mut headers = String::new();
    for name in signed_headers.split(';') {
        let values: Vec<_> =
            head.headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
        let values: Vec<_> =
            values.iter().map(|value| value.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        let _ = writeln!(headers, "{name}:{}", values.join(","));
    }
    let (method, path, query) = (&head.method, head.uri.path(), query.join("&"));
    format!("{method}\n{path}\n{query}\n{headers}\n{signed_headers}\n{hash}")
}

/// The keys and values of a query.
pub(super) fn query_pairs(head: &Parts) -> Vec<(String, String)> {
    let pairs = head.uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(&key.replace('+', " ")), decoded(&value.replace('+', " ")))
    };
    pairs.map(pair).collect()
}

/// The text of a part of a URL.
pub(super) fn decoded(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, others @ ..] = rest {
        let code = others.get(..2).and_then(|code| std::str::from_utf8(code).ok());
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()).filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &others[2..];
            }
            None => {
                bytes.push(*first);
                rest = others;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

fn sign(key: &[u8], text: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    /// The example "GET Object" of Amazon's documentation of signatures.
    fn example(signature: &str) -> Parts {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,Signature={signature}"
        );
        let request = Request::get("/test.txt")
            .header("host", "examplebucket.s3.amazonaws.com")
            .header("range", "bytes=0-9")
            .header("x-amz-content-sha256", empty)
            .header("x-amz-date", "20130524T000000Z")
            .header("authorization", authorization);
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn the_documented_example_is_taken_and_nothing_else() {
        const KEY: &str = "AKIAIOSFODNN7EXAMPLE";
        const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
        const SIGNATURE: &str = "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41";
        let request = example(SIGNATURE);
        assert_eq!(check(&request, b"", KEY, SECRET), Ok(()));
        assert_eq!(check(&request, b"", KEY, "another secret"), Err("SignatureDoesNotMatch"));
        assert_eq!(check(&request, b"", "another key", SECRET), Err("InvalidAccessKeyId"));
        assert_eq!(check(&request, b"body", KEY, SECRET), Err("XAmzContentSHA256Mismatch"));
        let mut other = example(SIGNATURE);
        other.headers.insert("range", "bytes=0-10".parse().unwrap());
        assert_eq!(check(&other, b"", KEY, SECRET), Err("SignatureDoesNotMatch"));
        assert_eq!(check(&example(""), b"", KEY, SECRET), Err("SignatureDoesNotMatch"));
    }
}
