//! Who is answered, and what a client cannot make the server do.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use crate::common::{Page, received, sentences};
use surprisal_playground::Limits;

fn page() -> Page {
    Page::open(Some(&sentences(400)), Limits::default())
}

#[test]
fn only_the_printed_address_is_answered() {
    let page = page();
    let (token, host) = (&page.token, &page.host);
    let port = host.rsplit(':').next().unwrap();
    let ask = |path: &str, head: &str| {
        page.raw(format!("GET {path} HTTP/1.1\r\nconnection: close\r\n{head}\r\n").as_bytes()).status
    };
    let own = format!("host: {host}\r\n");
    assert_eq!(ask(&format!("/{token}/"), &own), 200);
    for path in ["/", "/favicon.ico", "/api/runs", "/page.js", &format!("/{}x/api/runs", &token[..31])] {
        assert_eq!(ask(path, &own), 403, "{path}");
    }
    for name in ["evil.example", "127.0.0.1.evil.example", "10.0.0.1"] {
        assert_eq!(ask(&format!("/{token}/api/runs"), &format!("host: {name}:{port}\r\n")), 421, "{name}");
    }
    assert_eq!(ask(&format!("/{token}/api/runs"), ""), 421);
    let post = |lines: &str| page.ask("POST", "api/runs", lines, b"{}").status;
    assert_eq!(post("origin: http://evil.example\r\n"), 403);
    assert_eq!(post("origin: null\r\n"), 403);
    assert_eq!(post("sec-fetch-site: cross-site\r\n"), 403);
    assert_eq!(post(&format!("origin: http://{host}\r\n")), 400, "it is heard, and {{}} is no run");
    assert_eq!(page.ask("GET", "api/runs", "sec-fetch-site: cross-site\r\n", b"").status, 403);
}

#[test]
fn the_page_allows_nothing_but_itself() {
    let page = page();
    for path in ["", "page.js", "page.css", "figure.css", "api/texts", "api/nothing", "nothing"] {
        let got = page.get(path);
        for line in [
            "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self';",
            "x-content-type-options: nosniff",
            "referrer-policy: no-referrer",
            "cross-origin-resource-policy: same-origin",
            "cache-control: no-store",
        ] {
            assert!(got.head.contains(line), "{path}: {}", got.head);
        }
        assert!(!got.head.contains("access-control"), "{path}");
        // No file names another machine.
        assert!(!got.body.contains("http://") && !got.body.contains("https://"), "{path}");
    }
    let html = page.get("").body;
    for forbidden in ["<script>", " style=", "onclick", "javascript:"] {
        assert!(!html.contains(forbidden), "{forbidden}");
    }
}

#[test]
fn no_other_file_is_read() {
    let page = page();
    for path in [
        "../Cargo.toml",
        "..%2f..%2fetc%2fpasswd",
        "%2e%2e/x",
        "/etc/passwd",
        "book.txt",
        "runs",
        "page.js/..",
    ] {
        let got = page.get(path);
        assert!(got.status == 404 && !got.body.contains("root:"), "{path}: {}", got.body);
    }
    for name in ["../book", "..", "/etc", "book.txt", "../../../../etc/passwd", "%2e%2e%2fbook", "a%00b"] {
        for path in [
            format!("runs?name={name}"),
            format!("runs/watch?names={name}"),
            format!("grid?text={name}"),
            format!("step?model=run:{name}"),
            format!("step?model={name}"),
        ] {
            let got = page.get(&format!("api/{path}"));
            assert_eq!(got.status, 404, "{path}: {}", got.body);
        }
        let wanted = format!(r#"{{"architecture":"bigram","text":"{}"}}"#, name.replace("%2e%2e%2f", "../"));
        assert_eq!(page.post("runs", &wanted).status, 404, "{name}");
    }
    // A sent name makes no path.
    let sent = page.post("texts?name=..%2F..%2Fout", &sentences(300)).json();
    assert_eq!(sent["name"], "out");
    let folder = page.close();
    let mut found: Vec<_> = std::fs::read_dir(folder.path().parent().unwrap()).unwrap().flatten().collect();
    found.retain(|entry| entry.file_name().to_string_lossy().starts_with("out"));
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn a_large_text_is_refused_in_words_before_it_is_sent() {
    let page = page();
    let head = |length: &str| {
        format!("POST /{}/api/texts HTTP/1.1\r\nhost: {}\r\n{length}\r\n", page.token, page.host)
    };
    let started = Instant::now();
    let got = page.raw(head("content-length: 1073741824\r\n").as_bytes());
    assert!(got.status == 413 && got.body.contains("at most 50 MB"), "{got:?}");
    assert!(started.elapsed() < Duration::from_secs(5));
    // Without a length the limit holds while it comes.
    let mut stream = page.connect();
    stream.write_all(head("transfer-encoding: chunked\r\n").as_bytes()).unwrap();
    let chunk = [b"100000\r\n".as_slice(), &vec![b'a'; 1 << 20], b"\r\n"].concat();
    let sent = (0..1024).take_while(|_| stream.write_all(&chunk).is_ok()).count();
    assert!((50..100).contains(&sent), "{sent} MB");
    // Requests that are no texts are small.
    assert_eq!(page.post("runs", &"a".repeat(70 << 10)).status, 413);
    assert_eq!(page.get("api/texts").status, 200, "the page goes on");
}

#[test]
fn a_slow_reader_and_a_slow_sender_are_let_go() {
    let limits = Limits { patience: Duration::from_millis(400), ..Limits::default() };
    let page = Page::open(Some(&sentences(400)), limits);
    // Half a head; a head without its body; nothing at all.
    for start in [
        "GET / HTTP/1.1\r\nhost:".to_owned(),
        format!(
            "POST /{}/api/texts HTTP/1.1\r\nhost: {}\r\ncontent-length: 9\r\n\r\nabc",
            page.token, page.host
        ),
        String::new(),
    ] {
        let mut stream = page.connect();
        stream.write_all(start.as_bytes()).unwrap();
        let begun = Instant::now();
        let got = received(stream);
        assert!(begun.elapsed() < Duration::from_secs(20), "{start}");
        assert!([0, 408].contains(&got.status), "{start}: {got:?}");
    }
    // Many answers that nobody takes fill the socket, and the connection ends.
    let mut stream = page.connect();
    let request = format!("GET /{}/api/grid HTTP/1.1\r\nhost: {}\r\n\r\n", page.token, page.host);
    drop(stream.write_all(request.repeat(2000).as_bytes()));
    std::thread::sleep(Duration::from_secs(4));
    let mut taken = 0;
    let mut bytes = vec![0; 1 << 16];
    while let Ok(count @ 1..) = stream.read(&mut bytes) {
        taken += count;
    }
    let one = page.get("api/grid").body.len();
    assert!(taken < 1500 * one, "{taken} bytes, {one} each");
}

#[test]
fn connections_and_streams_have_a_limit_that_is_said() {
    let limits = Limits { connections: 8, streams: 3, ..Limits::default() };
    let page = Page::open(Some(&sentences(400)), limits);
    let request = format!("GET /{}/api/descent/live HTTP/1.1\r\nhost: {}\r\n\r\n", page.token, page.host);
    let mut open = Vec::new();
    for _ in 0..3 {
        let mut stream = page.connect();
        stream.write_all(request.as_bytes()).unwrap();
        let mut first = [0; 15];
        stream.read_exact(&mut first).unwrap();
        assert_eq!(&first, b"HTTP/1.1 200 OK");
        open.push(stream);
    }
    let got = page.raw(request.as_bytes());
    assert!(got.status == 503 && got.body.contains("close some windows"), "{got:?}");
    while open.len() < 8 {
        open.push(page.connect());
    }
    std::thread::sleep(Duration::from_millis(300));
    let got = page.get("");
    assert!(got.status == 503 && got.body.contains("too many connections"), "{got:?}");
    drop(open);
    for _ in 0..100 {
        if page.get("api/texts").status == 200 {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("places come free again");
}

#[test]
fn markup_in_texts_names_and_prompts_stays_text() {
    let page = page();
    let script = "<script>alert(1)</script> & \"x\" ";
    let sent = page.ask(
        "POST",
        "api/texts?name=%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E",
        "",
        script.repeat(200).as_bytes(),
    );
    let id = sent.json()["id"].as_str().unwrap().to_owned();
    assert!(sent.head.contains("content-type: application/json") && !id.contains('<'));
    let grid = page.numbers(&format!("grid?text={id}"));
    assert!(grid["names"].as_array().unwrap().iter().any(|name| name == "<"));
    let written = "%3Cscript%3Ealert(1)%3C%2Fscript%3E";
    assert_eq!(page.get(&format!("api/surprise?text={id}&written={written}")).status, 200);
    // A run has the text's name, which figures show.
    let run = page.post("runs", &format!(r#"{{"architecture":"bigram","text":"{id}","passes":1}}"#)).json();
    let name = run["name"].as_str().unwrap();
    let done = page.wait(name, |run| run["known"]["phase"] == "finished");
    assert!(!done["known"]["samples"].as_array().unwrap().is_empty());
    let news = page.numbers(&format!("runs/watch?names={name}"));
    let figure = news["figure"].as_str().unwrap();
    assert!(
        figure.contains("<svg") && !figure.contains("<script") && !figure.contains("onerror"),
        "{figure}"
    );
}

#[test]
fn wrong_requests_are_answered_in_words() {
    let limits = Limits { patience: Duration::from_secs(2), ..Limits::default() };
    let page = Page::open(Some(&sentences(400)), limits);
    for (method, path, body, status, word) in [
        ("GET", "api/nothing", "", 404, "nothing at this address"),
        ("DELETE", "api/runs", "", 405, "DELETE"),
        ("POST", "page.js", "", 405, "only read"),
        ("GET", "api/grid?k=many&smoothing=add_k", "", 400, "k is \"many\""),
        ("GET", "api/grid?smoothing=magic", "", 400, "smoothing is \"magic\""),
        ("GET", "api/grid?text=%ff", "", 400, "UTF-8"),
        ("GET", "api/descent?epsilon=2", "", 400, "epsilon"),
        ("GET", "api/step?written=the&at=9", "", 400, "from 0 to 2"),
        ("POST", "api/step/dragged", "{\"z\":[1,1e999],\"target\":0,\"epsilon\":0}", 400, "logits"),
        ("POST", "api/step/dragged", "{\"z\":[],\"target\":0,\"epsilon\":0}", 400, "logits"),
        ("POST", "api/step/dragged", "{\"z\":[1,2],\"target\":2,\"epsilon\":0}", 400, "target"),
        ("POST", "api/runs", "nonsense", 400, "settings of a run"),
        ("POST", "api/runs", "{\"architecture\":\"oracle\"}", 400, "transformer, lstm"),
        ("POST", "api/runs", "{\"architecture\":\"mlp\",\"lr\":-1}", 400, "optim.lr"),
        ("POST", "api/runs", "{\"architecture\":\"mlp\",\"passes\":1e9}", 400, "passes"),
        ("POST", "api/runs", "{\"architecture\":\"mlp\",\"size\":\"huge\"}", 400, "huge"),
        ("POST", "api/runs/control?name=x&do=stop", "", 404, "no run"),
        ("GET", "api/runs/live", "", 400, "no run is named"),
        ("GET", "api/runs/watch?names=a,b,c", "", 400, "at most 2"),
        ("POST", "api/texts", "", 400, "empty"),
        ("GET", "api/surprise?models=a,b,c,d", "", 400, "at most 3"),
    ] {
        let got = page.ask(method, path, "", body.as_bytes());
        assert_eq!(got.status, status, "{method} {path}: {}", got.body);
        let message = got.json()["error"].as_str().unwrap().to_owned();
        assert!(message.contains(word), "{path}: {message}");
    }
    for nonsense in ["\r\n\r\n", "GET\r\n\r\n", "\u{0}\u{1}\u{2}\r\n\r\n", "GET / HTTP/9.9\r\n\r\n"] {
        let got = page.raw(nonsense.as_bytes());
        assert!([0, 400, 408, 505].contains(&got.status), "{nonsense:?}: {got:?}");
    }
    let many: String = (0..200).map(|i| format!("x-{i}: y\r\n")).collect();
    assert!([0, 431].contains(&page.ask("GET", "", &many, b"").status));
    assert!([0, 431].contains(&page.ask("GET", "", &format!("x: {}\r\n", "y".repeat(200_000)), b"").status));
    assert_eq!(page.get("api/texts").status, 200, "the page goes on");
}
