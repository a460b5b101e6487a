//! A page that tests ask, and a client that can also send what no browser would.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "test helpers: a test fails aloud where something is wrong"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;
use surprisal_engine::platform::threads::Pool;
use surprisal_engine::{Context, Control, Silent};
use surprisal_playground::{Limits, Options, serve};

/// A page in a folder of its own, which ends when this is dropped.
pub struct Page {
    pub folder: std::sync::Arc<tempfile::TempDir>,
    pub host: String,
    pub token: String,
    control: Control,
    server: Option<JoinHandle<()>>,
}

/// An answer.
#[derive(Debug)]
pub struct Got {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Got {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

/// A small text with some structure.
pub fn sentences(lines: usize) -> String {
    let (who, what) = (["cat", "dog", "hen"], ["sees", "likes", "hears"]);
    let line =
        |i: usize| format!("the {} {} the {}.\n", who[i % 3], what[i * i % 5 % 3], who[(i / 3 + i) % 3]);
    (0..lines).map(line).collect()
}

impl Page {
    /// A page over `text`, or over the embedded stories with a network that trains.
    pub fn open(text: Option<&str>, limits: Limits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let given = text.map(|text| {
            let path = folder.path().join("book.txt");
            #[expect(clippy::disallowed_methods, reason = "a test's own file")]
            std::fs::write(&path, text).unwrap();
            path
        });
        Self::over(folder, given, limits)
    }

    pub fn over(folder: tempfile::TempDir, given: Option<PathBuf>, limits: Limits) -> Self {
        let runs = folder.path().join("runs");
        let control = Control::new();
        let (send, receive) = mpsc::channel();
        let of_server = control.clone();
        let server = std::thread::spawn(move || {
            let host = IpAddr::V4(Ipv4Addr::LOCALHOST);
            let options = Options { host, port: 0, runs, given, lifetime: None, limits };
            let pool = Pool::new(2).unwrap();
            let ready = |address: &str| {
                send.send(address.to_owned()).unwrap();
                Ok(())
            };
            serve(&options, &Context::new(&pool, &Silent, &of_server), ready).unwrap();
        });
        let address: String = receive.recv_timeout(Duration::from_secs(60)).unwrap();
        let (host, token) = address.strip_prefix("http://").unwrap().split_once('/').unwrap();
        let (host, token) = (host.to_owned(), token.trim_end_matches('/').to_owned());
        Self { folder: folder.into(), host, token, control, server: Some(server) }
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.host).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        stream
    }

    /// The answer to a request of any text.
    pub fn raw(&self, request: &[u8]) -> Got {
        let mut stream = self.connect();
        // A server that refuses may close before all is sent.
        drop(stream.write_all(request));
        received(stream)
    }

    /// The answer to a method at a path behind the token, with more lines in the head.
    pub fn ask(&self, method: &str, path: &str, lines: &str, body: &[u8]) -> Got {
        let head = format!(
            "{method} /{}/{path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-length: {}\r\n{lines}\r\n",
            self.token,
            self.host,
            body.len()
        );
        self.raw(&[head.as_bytes(), body].concat())
    }

    pub fn get(&self, path: &str) -> Got {
        self.ask("GET", path, "", b"")
    }

    /// Numbers of the page.
    pub fn numbers(&self, path: &str) -> Value {
        let got = self.get(&format!("api/{path}"));
        assert_eq!(got.status, 200, "{path}: {}", got.body);
        got.json()
    }

    pub fn post(&self, path: &str, body: &str) -> Got {
        self.ask("POST", &format!("api/{path}"), "", body.as_bytes())
    }

    /// The first `count` events of a stream.
    pub fn events(&self, path: &str, count: usize) -> Vec<Value> {
        let mut stream = self.connect();
        write!(stream, "GET /{}/api/{path} HTTP/1.1\r\nhost: {}\r\n\r\n", self.token, self.host).unwrap();
        let lines = BufReader::new(stream).lines();
        let data =
            lines.map_while(Result::ok).filter_map(|line| line.strip_prefix("data: ").map(str::to_owned));
        data.take(count).map(|json| serde_json::from_str(&json).unwrap()).collect()
    }

    /// Ends the page and waits for it; gives its folder.
    pub fn close(mut self) -> std::sync::Arc<tempfile::TempDir> {
        self.control.stop();
        self.server.take().unwrap().join().unwrap();
        self.folder.clone()
    }

    /// Waits until the run `name` is in a state that `fits`.
    pub fn wait(&self, name: &str, fits: impl Fn(&Value) -> bool) -> Value {
        for _ in 0..2400 {
            let run = self.numbers(&format!("runs?name={name}"));
            assert_ne!(run["known"]["phase"], "failed", "{run}");
            if fits(&run) {
                return run;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!(
            "{name} does not come to it: {}",
            self.numbers(&format!("runs?name={name}"))["known"]["phase"]
        );
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        self.control.stop();
        if let Some(server) = self.server.take() {
            drop(server.join());
        }
    }
}

/// All that comes on a connection until it closes.
pub fn received(mut stream: TcpStream) -> Got {
    let mut bytes = Vec::new();
    drop(stream.read_to_end(&mut bytes));
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Got { status, head: head.to_lowercase(), body: body.to_owned() }
}
