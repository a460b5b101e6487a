//! Whom the page answers: requests with the token, for a host that this server is, from this page.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use hyper::header::{HOST, HeaderName, ORIGIN};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode};
use surprisal_engine::{Error, Result as EngineResult};

use crate::problem::{Problem, Result};

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// Letters and digits that are not read as others.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// A random word of 160 bits, the first part of every address of the page.
#[derive(Clone)]
pub(crate) struct Token(String);

impl Token {
    pub(crate) fn new() -> EngineResult<Self> {
        let mut bytes = [0; 20];
        getrandom::fill(&mut bytes)
            .map_err(|error| Error::failed(format!("the system gives no random numbers: {error}")))?;
        let bit = |i: usize| usize::from(bytes[i / 8] >> (i % 8) & 1);
        let letter = |i: usize| ALPHABET[(0..5).fold(0usize, |sum, k| 2 * sum + bit(5 * i + k))] as char;
        Ok(Self((0..32).map(letter).collect()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `given` is the token; the time does not depend on where they differ, as hashes of
    /// BLAKE3 are compared in constant time.
    pub(crate) fn is(&self, given: &str) -> bool {
        blake3::hash(self.0.as_bytes()) == blake3::hash(given.as_bytes())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// The conditions of an answer.
#[derive(Debug, Clone)]
pub(crate) struct Guard {
    pub(crate) token: Token,
    pub(crate) address: SocketAddr,
}

impl Guard {
    /// The path behind the token, if the request may be answered.
    pub(crate) fn admit<'a>(&self, request: &'a Parts) -> Result<&'a str> {
        let header = |name| request.headers.get(name).map(|value| value.to_str().unwrap_or("?"));
        let host = header(HOST).unwrap_or_default();
        if request.headers.get_all(HOST).iter().count() != 1 || !self.is_own(host) {
            // A name that an attacker's own server gives this address has no business here.
            let message = "this page is at the address that `surprisal serve` printed, and at no other name";
            return Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, message));
        }
        let path = request.uri.path().strip_prefix('/').unwrap_or_default();
        let (token, rest) = path.split_once('/').unwrap_or((path, ""));
        if !self.token.is(token) {
            let message = "this address lacks the token: open the one that `surprisal serve` printed";
            return Err(Problem::new(StatusCode::FORBIDDEN, message));
        }
        let foreign = Problem::new(StatusCode::FORBIDDEN, "another page asks for this");
        let own_origin = |origin: &str| origin.strip_prefix("http://").is_some_and(|from| from == host);
        if header(ORIGIN).is_some_and(|origin| !own_origin(origin)) {
            return Err(foreign);
        }
        let is_read = matches!(request.method, Method::GET | Method::HEAD);
        match header(FETCH_SITE) {
            // A link to the page is followed from anywhere; nothing else is.
            None | Some("same-origin" | "none") => {}
            Some(_) if is_read && rest.is_empty() && header(FETCH_MODE) == Some("navigate") => {}
            Some(_) => return Err(foreign),
        }
        // Browsers name the origin of whatever changes something.
        if !is_read && header(ORIGIN).is_none() && header(FETCH_SITE).is_some() {
            return Err(foreign);
        }
        Ok(rest)
    }

    /// Whether `host` is this server: an address of the machine with the port, or `localhost`.
    fn is_own(&self, host: &str) -> bool {
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => (name, port.parse().ok()),
            _ => (host, Some(80)),
        };
        let ip = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
        let ip: Option<IpAddr> = ip.parse().ok();
        let own = self.address.ip();
        let is_loopback = name == "localhost" || ip.is_some_and(|ip| ip.is_loopback());
        let is_here = if own.is_unspecified() {
            // Names can be made to point here, numbers cannot.
            ip.is_some() || is_loopback
        } else if own.is_loopback() {
            is_loopback
        } else {
            ip == Some(own)
        };
        port == Some(self.address.port()) && is_here
    }
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    fn admitted(guard: &Guard, method: &str, path: &str, headers: &[(&str, &str)]) -> u16 {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        guard.admit(&parts).map_or_else(|problem| problem.status.as_u16(), |_| 200)
    }

    fn guard(address: &str) -> (Guard, String) {
        let token = Token::new().unwrap();
        let path = format!("/{}/", token.as_str());
        (Guard { token, address: address.parse().unwrap() }, path)
    }

    #[test]
    fn tokens_are_long_and_differ() {
        let (a, b) = (Token::new().unwrap(), Token::new().unwrap());
        assert!(a.as_str().len() == 32 && a.as_str() != b.as_str());
        assert!(a.is(a.as_str()) && !a.is(b.as_str()) && !a.is("") && !a.is(&a.as_str()[..31]));
        assert_eq!(format!("{a:?}"), "Token", "it is in no log");
    }

    #[test]
    fn other_hosts_are_refused() {
        let (here, path) = guard("127.0.0.1:8000");
        let (all, open) = guard("0.0.0.0:8000");
        let (one, classroom) = guard("192.168.1.5:8000");
        for (host, expected) in [
            ("127.0.0.1:8000", [200, 200, 421]),
            ("localhost:8000", [200, 200, 421]),
            ("[::1]:8000", [200, 200, 421]),
            ("192.168.1.5:8000", [421, 200, 200]),
            ("127.0.0.1:8001", [421, 421, 421]),
            ("127.0.0.1", [421, 421, 421]),
            ("evil.example:8000", [421, 421, 421]),
            ("localhost.evil.example:8000", [421, 421, 421]),
            ("127.0.0.1:8000.evil.example", [421, 421, 421]),
            ("", [421, 421, 421]),
        ] {
            let found = [(&here, &path), (&all, &open), (&one, &classroom)]
                .map(|(guard, path)| admitted(guard, "GET", path, &[("host", host)]));
            assert_eq!(found, expected, "{host}");
        }
        assert_eq!(admitted(&here, "GET", &path, &[]), 421);
        assert_eq!(
            admitted(&here, "GET", &path, &[("host", "localhost:8000"), ("host", "evil.example")]),
            421
        );
    }

    #[test]
    fn the_token_is_needed_everywhere() {
        let (guard, path) = guard("127.0.0.1:8000");
        let host = [("host", "127.0.0.1:8000")];
        for wrong in ["/", "/x/", "/api/runs", &path[..20], &format!("{}x/", path.trim_end_matches('/'))] {
            assert_eq!(admitted(&guard, "GET", wrong, &host), 403, "{wrong}");
        }
        assert_eq!(admitted(&guard, "GET", &format!("{path}api/runs"), &host), 200);
    }

    #[test]
    fn other_sites_are_refused() {
        let (guard, path) = guard("127.0.0.1:8000");
        let host = ("host", "127.0.0.1:8000");
        for (method, rest, headers, expected) in [
            ("POST", "api/runs", vec![("origin", "http://127.0.0.1:8000")], 200),
            ("POST", "api/runs", vec![("origin", "http://127.0.0.1:9000")], 403),
            ("POST", "api/runs", vec![("origin", "https://127.0.0.1:8000")], 403),
            ("POST", "api/runs", vec![("origin", "null")], 403),
            ("POST", "api/runs", vec![("origin", "http://evil.example")], 403),
            ("POST", "api/runs", vec![("sec-fetch-site", "cross-site")], 403),
            ("POST", "api/runs", vec![("sec-fetch-site", "none")], 403),
            ("POST", "api/runs", vec![], 200),
            ("GET", "api/runs", vec![("sec-fetch-site", "same-origin")], 200),
            ("GET", "api/runs", vec![("sec-fetch-site", "same-site")], 403),
            ("GET", "", vec![("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")], 200),
            ("GET", "", vec![("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")], 403),
            ("GET", "api/runs", vec![("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")], 403),
        ] {
            let headers = [vec![host], headers].concat();
            assert_eq!(
                admitted(&guard, method, &format!("{path}{rest}"), &headers),
                expected,
                "{method} {rest} {headers:?}"
            );
        }
    }
}
