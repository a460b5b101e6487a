//! Large files straight to the disk, past the cache that the system keeps of files.
//!
//! A file of gigabytes is rarely read at once by who wrote it, and the memory that its copy in the cache takes must be
//! found first: for text of 3.4 GB that took longer than the disk did. So once a file has become large, a thread of its
//! own writes the rest in large aligned chunks while the next ones are made. Where that cannot be done, or the disk is
//! slower than the cache, it is written the usual way.

use std::{
    fs::{File, OpenOptions},
    io::{self, Seek, SeekFrom, Write},
    path::Path,
    sync::mpsc::{Receiver, SyncSender, channel, sync_channel},
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// How much is written at once.
pub(crate) const CHUNK: usize = 1 << 20;
/// Where chunks begin in memory and in the file; no common disk asks for more.
pub(crate) const ALIGNMENT: usize = 4096;
/// How many chunks may wait for the disk.
const WAITING: usize = 4;
/// After how many bytes it is judged whether the disk is fast, and how many a second that is.
const TRIED: u64 = 16 << 20;
const FAST: f64 = 1e9;

/// The rest of a file, on its way to the disk.
#[derive(Debug)]
pub(crate) struct Direct {
    chunk: Chunk,
    full: SyncSender<Chunk>,
    empty: Receiver<Chunk>,
    writer: JoinHandle<io::Result<()>>,
}

impl Direct {
    /// What follows byte `at` of the file at `path`, if the system can write it that way. `at` is a multiple of
    /// [`ALIGNMENT`].
    pub(crate) fn start(path: &Path, at: u64) -> Option<Self> {
        debug_assert_eq!(at % ALIGNMENT as u64, 0);
        let direct = open_direct(path).ok()?;
        let cached = OpenOptions::new().write(true).open(path).ok()?;
        Self::to(Files { direct: Some(direct), cached, at, began: at, busy: Duration::ZERO })
    }

    fn to(mut files: Files) -> Option<Self> {
        let (full, chunks) = sync_channel::<Chunk>(WAITING);
        let (give_back, empty) = channel();
        let write = move || {
            for mut chunk in chunks {
                files.write(chunk.bytes())?;
                chunk.len = 0;
                // Nobody may be left to fill it.
                let _ = give_back.send(chunk);
            }
            Ok(())
        };
        let writer = std::thread::Builder::new().name("disk".into()).spawn(write).ok()?;
        Some(Self { chunk: Chunk::default(), full, empty, writer })
    }

    /// Takes as much of `bytes` as fits; returns how much, and whether the chunk is full and [`Self::hand_on`] next.
    pub(crate) fn put(&mut self, bytes: &[u8]) -> (usize, bool) {
        let len = bytes.len().min(CHUNK - self.chunk.len);
        self.chunk.push(&bytes[..len]);
        (len, self.chunk.len == CHUNK)
    }

    /// Gives the chunk to the disk.
    ///
    /// # Errors
    /// Of any write since [`Self::start`].
    pub(crate) fn hand_on(mut self) -> io::Result<Self> {
        let next = self.empty.try_recv().unwrap_or_default();
        match self.full.send(std::mem::replace(&mut self.chunk, next)) {
            Ok(()) => Ok(self),
            // The thread has ended, and says why.
            Err(_) => self.finish().and(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    /// Drops half of what was not handed on: for faults that tear a write.
    pub(crate) fn tear(&mut self) {
        self.chunk.len /= 2;
    }

    /// Waits until everything is written.
    ///
    /// # Errors
    /// As [`Self::hand_on`].
    pub(crate) fn finish(self) -> io::Result<()> {
        let Self { chunk, full, writer, .. } = self;
        if chunk.len > 0 {
            // If it cannot be sent, the thread says why.
            let _ = full.send(chunk);
        }
        drop(full);
        writer.join().unwrap_or_else(|_| Err(io::Error::other("the thread that writes panicked")))
    }
}

/// A piece of the file, aligned.
#[derive(Debug)]
struct Chunk {
    memory: Box<[u8]>,
    /// Where it begins in its memory.
    start: usize,
    len: usize,
}

impl Default for Chunk {
    fn default() -> Self {
        let memory = vec![0; CHUNK + ALIGNMENT].into_boxed_slice();
        let start = memory.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        Self { memory, start, len: 0 }
    }
}

impl Chunk {
    fn push(&mut self, bytes: &[u8]) {
        let end = self.start + self.len;
        self.memory[end..end + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    fn bytes(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.len]
    }
}

/// The file, opened past the cache and as usual.
#[derive(Debug)]
struct Files {
    /// None once it is given up.
    direct: Option<File>,
    cached: File,
    /// Where the next byte goes, and where the first went.
    at: u64,
    began: u64,
    /// How long the disk has taken.
    busy: Duration,
}

impl Files {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        if let Some(file) = &mut self.direct {
            // The end of the file need not fill a block.
            let (whole, end) = bytes.split_at(bytes.len() / ALIGNMENT * ALIGNMENT);
            let began = Instant::now();
            let outcome = file.seek(SeekFrom::Start(self.at)).and_then(|_| file.write_all(whole));
            self.busy += began.elapsed();
            if outcome.is_ok() {
                self.at += whole.len() as u64;
                rest = end;
            }
            // After an error, the usual way works or says what is wrong.
            if outcome.is_err() || self.is_slow() {
                self.direct = None;
            }
        }
        if !rest.is_empty() {
            self.cached.seek(SeekFrom::Start(self.at))?;
            self.cached.write_all(rest)?;
            self.at += rest.len() as u64;
        }
        Ok(())
    }

    fn is_slow(&self) -> bool {
        let written = self.at - self.began;
        written >= TRIED && (written as f64) < FAST * self.busy.as_secs_f64()
    }
}

#[cfg(target_os = "linux")]
fn open_direct(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    OpenOptions::new().write(true).custom_flags(libc::O_DIRECT).open(path)
}

#[cfg(not(target_os = "linux"))]
fn open_direct(_: &Path) -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn write(files: Files, bytes: &[u8]) -> io::Result<()> {
        let mut direct = Direct::to(files).unwrap();
        let mut rest = bytes;
        while !rest.is_empty() {
            let (len, full) = direct.put(rest);
            rest = &rest[len..];
            if full {
                direct = direct.hand_on()?;
            }
        }
        direct.finish()
    }

    #[test]
    fn what_cannot_go_past_the_cache_goes_the_usual_way_and_what_cannot_be_written_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let bytes: Vec<u8> = (0..9 * CHUNK + 77).map(|i| (i % 251) as u8).collect();
        let open = |write: bool| OpenOptions::new().read(true).write(write).open(&path).unwrap();
        let files = |direct: Option<File>, cached: File| Files {
            direct,
            cached,
            at: 8192,
            began: 8192,
            busy: Duration::ZERO,
        };
        for direct in [None, Some(false), Some(true)] {
            File::create_new(&path).unwrap();
            write(files(direct.map(open), open(true)), &bytes).unwrap();
            let found = fs::read(&path).unwrap();
            assert!(found[..8192].iter().all(|&byte| byte == 0) && found[8192..] == bytes, "{direct:?}");
            // Files that are only read from cannot be written to.
            assert!(write(files(Some(open(false)), open(false)), &bytes).is_err());
            fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn a_slow_disk_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        File::create_new(&path).unwrap();
        let open = || OpenOptions::new().write(true).open(&path).unwrap();
        let mut files =
            Files { direct: Some(open()), cached: open(), at: 0, began: 0, busy: Duration::from_secs(60) };
        let chunk = vec![7; CHUNK];
        let mut chunks = 0;
        while files.direct.is_some() {
            files.write(&chunk).unwrap();
            chunks += 1;
        }
        files.write(&chunk).unwrap();
        assert_eq!((chunks * CHUNK) as u64, TRIED);
        assert!(fs::read(&path).unwrap() == vec![7; (chunks + 1) * CHUNK]);
    }
}
