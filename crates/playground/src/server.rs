//! The server: connections and their limits, admission, and answers.

use std::net::{IpAddr, SocketAddr, TcpListener as StdListener, UdpSocket};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, RETRY_AFTER};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use surprisal_engine::{Context, Error, Result as EngineResult};
use surprisal_platform::threads::Pool;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::api::{self, FILES, Handler};
use crate::app::{App, Ask};
use crate::connection::{Answer, Socket, Timer};
use crate::guard::{Guard, Token};
use crate::problem::{Problem, Result};
use crate::query::Query;
use crate::runs::AT_ONCE;
use crate::screens::training;
use crate::stream::{Next, Stream};

/// Where and how the page is served.
#[derive(Debug, Clone)]
pub struct Options {
    /// The address to listen on.
    pub host: IpAddr,
    /// The port; 0: a free one.
    pub port: u16,
    /// The folder of runs and texts.
    pub runs: PathBuf,
    /// A model, a run or a text to begin with; `None`: the embedded stories, on which a network
    /// begins to train.
    pub given: Option<PathBuf>,
    /// The time after which the page ends by itself.
    pub lifetime: Option<Duration>,
    /// Limits of what clients can make the server hold.
    pub limits: Limits,
}

/// Limits of the server.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at a time.
    pub connections: usize,
    /// Live streams at a time.
    pub streams: usize,
    /// Bytes of a text that is sent.
    pub body: u64,
    /// Time for the head of a request, for a pause in a body, and for a write that is not taken.
    pub patience: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 400, streams: 120, body: 50 << 20, patience: Duration::from_secs(15) }
    }
}

/// Bytes of the body of a request that is no text.
const SMALL_BODY: u64 = 64 << 10;
/// Slower bodies than so many bytes per second are refused after [`Limits::patience`].
const SLOWEST: u64 = 100_000;
/// Texts that are received at a time, as they are in memory.
const UPLOADS: usize = 2;
/// Answers at a time beyond the number of cores: short ones go past long ones, and past those that
/// wait for the same number.
const MORE_ANSWERS: usize = 4;
/// Requests that may wait for a thread.
const MOST_WAITING: usize = 300;
/// The time between two questions of a stream.
const PACE: Duration = Duration::from_millis(125);
/// The time after which a silent stream shows that it lives.
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);
/// The interval at which a stop is looked for.
const POLL: Duration = Duration::from_millis(50);

/// Every answer has these: the page loads and runs nothing but its own files.
const HEADERS: [(&str, &str); 7] = [
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), microphone=(), geolocation=()"),
];

struct Server {
    app: App,
    guard: Guard,
    limits: Limits,
    answers: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    uploads: Arc<Semaphore>,
}

/// Serves the page until `ctx`'s control is stopped; `ready` gets its address. Runs that are at
/// work then are left with a usable model.
///
/// # Errors
/// A text or a model that cannot be read, an address that cannot be listened on, an error of
/// `ready`.
pub fn serve(
    options: &Options,
    ctx: &Context<'_>,
    ready: impl FnOnce(&str) -> EngineResult<()>,
) -> EngineResult<()> {
    let threads = ctx.pool.threads();
    let app = App::new(&options.runs, options.given.as_deref(), threads)?;
    if options.given.is_some() {
        // A text that cannot be read is said before there is a page.
        app.text(&app.texts.first()).map_err(Problem::into_error)?;
    }
    let listener = listen(options)?;
    let cannot = |error: std::io::Error| Error::failed(format!("cannot serve the page: {error}"));
    let address = listener.local_addr().map_err(cannot)?;
    let guard = Guard { token: Token::new()?, address };
    let shown = format!("http://{}/{}/", shown(address), guard.token.as_str());
    let limit = |most| Arc::new(Semaphore::new(most));
    let server = Arc::new(Server {
        app,
        guard,
        limits: options.limits,
        answers: limit(threads + MORE_ANSWERS),
        waiting: limit(MOST_WAITING),
        streams: limit(options.limits.streams),
        uploads: limit(UPLOADS),
    });
    let pool = Pool::new(threads)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(threads + MORE_ANSWERS)
        .build()
        .map_err(cannot)?;
    let deadline = options.lifetime.map(|lifetime| Instant::now() + lifetime);
    // From here on a stop lets the runs end by themselves.
    let _steps = ctx.control.steps();
    let served = std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| server.app.runs.work(&server.app.texts, &pool));
        }
        let served = ready(&shown).and_then(|()| {
            if options.given.is_none() {
                training::first(&server.app).map_err(Problem::into_error)?;
            }
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).map_err(cannot)?;
                let is_over = || {
                    ctx.control.is_stopped() || deadline.is_some_and(|deadline| Instant::now() >= deadline)
                };
                accept(&server, &listener, is_over).await;
                Ok(())
            })
        });
        server.app.runs.close();
        served
    });
    // Streams that still have a reader end with the runtime.
    runtime.shutdown_background();
    served
}

fn listen(options: &Options) -> EngineResult<StdListener> {
    let wanted = SocketAddr::new(options.host, options.port);
    let listener = StdListener::bind(wanted).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    listener.map_err(|error| Error::usage(format!("cannot listen on {wanted}: {error}")))
}

/// The address that others reach the server at.
fn shown(address: SocketAddr) -> SocketAddr {
    if !address.ip().is_unspecified() {
        return address;
    }
    // The address of the way out of this machine; connecting a datagram socket sends nothing.
    let way_out = || {
        let socket = UdpSocket::bind((address.ip(), 0)).ok()?;
        socket.connect(if address.is_ipv4() { "192.0.2.1:9" } else { "[2001:db8::1]:9" }).ok()?;
        Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_unspecified())
    };
    let local = if address.is_ipv4() { "127.0.0.1" } else { "::1" };
    SocketAddr::new(way_out().or_else(|| local.parse().ok()).unwrap_or(address.ip()), address.port())
}

async fn accept(server: &Arc<Server>, listener: &TcpListener, is_over: impl Fn() -> bool) {
    let connections = Arc::new(Semaphore::new(server.limits.connections));
    while !is_over() {
        let Ok(accepted) = tokio::time::timeout(POLL, listener.accept()).await else { continue };
        let Ok((stream, _)) = accepted else {
            // Without file descriptors for now.
            tokio::time::sleep(POLL).await;
            continue;
        };
        match connections.clone().try_acquire_owned() {
            Ok(place) => drop(tokio::spawn(converse(server.clone(), stream, place))),
            Err(_) => drop(tokio::spawn(refuse(stream))),
        }
    }
}

/// Refuses a connection beyond the limit, in words.
async fn refuse(stream: TcpStream) {
    let body = Problem::busy("too many connections: close some windows of this page").json().to_string();
    let head = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: {}\r\nretry-after: 5\r\n\
         connection: close\r\n\r\n",
        body.len()
    );
    // The request is taken, too: a connection that closes before loses its answer on the way.
    let answer = async {
        stream.writable().await.ok()?;
        stream.try_write((head + &body).as_bytes()).ok()?;
        let mut request = [0; 1 << 10];
        loop {
            stream.readable().await.ok()?;
            match stream.try_read(&mut request) {
                Ok(0) => return None,
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => return None::<()>,
            }
        }
    };
    drop(tokio::time::timeout(Duration::from_millis(500), answer).await);
}

async fn converse(server: Arc<Server>, stream: TcpStream, _place: OwnedSemaphorePermit) {
    // Small answers are not held back.
    drop(stream.set_nodelay(true));
    let patience = server.limits.patience;
    let answer = service_fn(move |request| {
        let server = server.clone();
        async move { Ok::<_, std::convert::Infallible>(server.answer(request).await) }
    });
    let served = http1::Builder::new()
        .timer(Timer)
        .header_read_timeout(patience)
        .max_headers(64)
        .max_buf_size(32 << 10)
        .serve_connection(Socket::new(stream, patience), answer);
    // A connection that breaks is its client's own affair.
    drop(served.await);
}

impl Server {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Answer> {
        let (parts, body) = request.into_parts();
        let is_head = parts.method == Method::HEAD;
        let answer = self.clone().routed(parts, body).await;
        let mut answer = answer.unwrap_or_else(|problem| {
            let body = problem.json().to_string();
            let mut answer = of_kind("application/json", Answer::whole(body));
            *answer.status_mut() = problem.status;
            let headers = answer.headers_mut();
            // What was not read of the request would be taken for the next one.
            put(headers, CONNECTION, "close");
            if problem.status == StatusCode::SERVICE_UNAVAILABLE {
                put(headers, RETRY_AFTER, "2");
            }
            answer
        });
        for (name, value) in HEADERS {
            put(answer.headers_mut(), HeaderName::from_static(name), value);
        }
        put(answer.headers_mut(), CACHE_CONTROL, "no-store");
        if is_head {
            *answer.body_mut() = Answer::Whole(None);
        }
        answer
    }

    async fn routed(
        self: Arc<Self>,
        parts: hyper::http::request::Parts,
        body: Incoming,
    ) -> Result<Response<Answer>> {
        let path = self.guard.admit(&parts)?;
        let method = if parts.method == Method::HEAD { &Method::GET } else { &parts.method };
        let Some(path) = path.strip_prefix("api/") else {
            let file = FILES.iter().find(|(name, ..)| *name == path);
            let (_, kind, content) =
                file.ok_or_else(|| Problem::not_found("there is nothing at this address"))?;
            if method != Method::GET {
                return Err(Problem::new(StatusCode::METHOD_NOT_ALLOWED, "files are only read"));
            }
            return Ok(of_kind(kind, Answer::whole(content.as_bytes())));
        };
        let handler = api::handler(method, path)?;
        let query = Query::parse(parts.uri.query().unwrap_or_default())?;
        let is_text = path == "texts" && method == Method::POST;
        let most = if is_text { self.limits.body } else { SMALL_BODY };
        // The length is known before anything is read.
        let length = parts.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        if length.is_some_and(|length: u64| length > most) {
            return Err(too_large(most));
        }
        let _upload = if is_text { self.uploads.clone().acquire_owned().await.ok() } else { None };
        let body = read(body, most, self.limits.patience).await?;
        let ask = Ask { query, body };
        match handler {
            Handler::Numbers(numbers) => {
                let numbers = *numbers;
                let found = self.compute(move |app| numbers(app, &ask)).await??;
                Ok(of_kind("application/json", Answer::whole(found.to_string())))
            }
            Handler::Live(live) => {
                let place = self.streams.clone().try_acquire_owned().map_err(|_| {
                    Problem::busy("too many live pictures at once: close some windows of this page")
                })?;
                let live = *live;
                let stream = self.compute(move |app| live(app, &ask)).await??;
                // One event waits at most: who reads slowly gets fewer.
                let (events, parts) = mpsc::channel(1);
                drop(tokio::spawn(self.clone().live(stream, events, place)));
                Ok(of_kind("text/event-stream", Answer::Live(parts)))
            }
        }
    }

    /// Computes on a thread of its own, a few at a time.
    async fn compute<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&App) -> T + Send + 'static,
    ) -> Result<T> {
        let busy = || Problem::busy("too many requests wait already: try again in a moment");
        let _waits = self.waiting.clone().try_acquire_owned().map_err(|_| busy())?;
        let turn = self.answers.clone().acquire_owned().await.map_err(|_| busy())?;
        let server = self.clone();
        let computed = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work(&server.app)
        });
        computed.await.map_err(|_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "this request has failed"))
    }

    /// Sends the events of a stream until it ends or nobody reads it.
    async fn live(
        self: Arc<Self>,
        mut stream: Stream,
        events: mpsc::Sender<Bytes>,
        _place: OwnedSemaphorePermit,
    ) {
        let mut last = Instant::now();
        loop {
            let next = self.compute(move |app| {
                let next = stream.next(app);
                (stream, next)
            });
            let Ok((after, next)) = next.await else { return };
            stream = after;
            let part = match next {
                Next::Event(json) => format!("data: {json}\n\n"),
                Next::Nothing if last.elapsed() > SIGN_OF_LIFE => ":\n\n".to_owned(),
                Next::Nothing => String::new(),
                Next::End => "event: end\ndata: {}\n\n".to_owned(),
            };
            let ends = part.starts_with("event: end");
            if !part.is_empty() {
                last = Instant::now();
                if events.send(part.into()).await.is_err() || ends {
                    return;
                }
            }
            if tokio::time::timeout(PACE, events.closed()).await.is_ok() {
                return;
            }
        }
    }
}

fn too_large(most: u64) -> Problem {
    let message = format!("this is too large: at most {} MB are taken", most >> 20);
    let message =
        if most < 1 << 20 { format!("this is too large: at most {most} bytes are taken") } else { message };
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, message)
}

/// Reads a body of at most `most` bytes, which comes without long pauses.
async fn read(mut body: Incoming, most: u64, patience: Duration) -> Result<Vec<u8>> {
    let (mut bytes, started) = (Vec::new(), Instant::now());
    let slow = || Problem::new(StatusCode::REQUEST_TIMEOUT, "the text came too slowly");
    loop {
        let frame = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx));
        let Some(frame) = tokio::time::timeout(patience, frame).await.map_err(|_| slow())? else {
            return Ok(bytes);
        };
        let frame = frame.map_err(|_| Problem::bad("the request was broken off"))?;
        let Ok(part) = frame.into_data() else { continue };
        if (bytes.len() + part.len()) as u64 > most {
            return Err(too_large(most));
        }
        bytes.extend_from_slice(&part);
        let due = patience + Duration::from_millis(1000 * bytes.len() as u64 / SLOWEST);
        if started.elapsed() > due {
            return Err(slow());
        }
    }
}

fn put(headers: &mut HeaderMap, name: HeaderName, value: &'static str) {
    headers.insert(name, hyper::header::HeaderValue::from_static(value));
}

fn of_kind(kind: &'static str, body: Answer) -> Response<Answer> {
    let mut answer = Response::new(body);
    put(answer.headers_mut(), CONTENT_TYPE, kind);
    answer
}
