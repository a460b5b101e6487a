//! Reads ahead on a thread of its own, so that a decompressor or the program before a pipe and the
//! work on the text run at the same time.

use std::io::{self, Cursor, Read};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};

use crate::records::Source;
use crate::warnings::lock;

/// The bytes of a block.
const BLOCK_BYTES: usize = 1 << 18;
/// The number of blocks that wait to be taken.
const WAITING_BLOCKS: usize = 64;

/// A reader of what the thread has read.
struct ReadAhead {
    blocks: Receiver<io::Result<Vec<u8>>>,
    block: Cursor<Vec<u8>>,
}

/// `source` read ahead; `source` itself if the system gives no thread.
pub(crate) fn read_ahead(source: Source) -> Source {
    let (sender, blocks) = sync_channel(WAITING_BLOCKS);
    let shared = Arc::new(Mutex::new(Some(source)));
    let own = Arc::clone(&shared);
    let read = move || {
        let Some(mut source) = lock(&own).take() else { return };
        loop {
            let mut block = vec![0; BLOCK_BYTES];
            let (filled, read) = fill(&mut source, &mut block);
            let ended = filled < BLOCK_BYTES;
            block.truncate(filled);
            // A reader that is gone needs nothing more.
            if !block.is_empty() && sender.send(Ok(block)).is_err() {
                return;
            }
            if let Err(error) = read {
                drop(sender.send(Err(error)));
                return;
            }
            if ended {
                return;
            }
        }
    };
    match std::thread::Builder::new().name("read-ahead".into()).spawn(read) {
        Ok(_) => Box::new(ReadAhead { blocks, block: Cursor::default() }),
        Err(_) => lock(&shared).take().unwrap_or_else(|| Box::new(io::empty())),
    }
}

/// Reads until `block` is full or the source ends; the number of bytes, and what went wrong after
/// them. The standard library's `read_to_end` asks for 8 KiB at first.
fn fill(source: &mut Source, block: &mut [u8]) -> (usize, io::Result<()>) {
    let mut filled = 0;
    while filled < block.len() {
        match source.read(&mut block[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (filled, Err(error)),
        }
    }
    (filled, Ok(()))
}

impl Read for ReadAhead {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.block.read(out)?;
            if count > 0 || out.is_empty() {
                return Ok(count);
            }
            // Without a sender, the source has ended.
            let Ok(block) = self.blocks.recv() else { return Ok(0) };
            self.block = Cursor::new(block?);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fails;

    impl Read for Fails {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("gone"))
        }
    }

    #[test]
    fn all_bytes_come_in_order_and_an_error_after_them() {
        let bytes: Vec<u8> = (0..3_000_000u32).map(|n| ((n * 7) >> 3) as u8).collect();
        let failing = bytes.clone();
        let mut read = Vec::new();
        read_ahead(Box::new(io::Cursor::new(bytes.clone()))).read_to_end(&mut read).unwrap();
        assert!(read == bytes);
        read.clear();
        let mut reader = read_ahead(Box::new(io::Cursor::new(failing).chain(Fails)));
        assert_eq!(reader.read_to_end(&mut read).unwrap_err().to_string(), "gone");
        assert!(read == bytes);
        // A reader that stops early ends the thread.
        drop(read_ahead(Box::new(io::repeat(1))));
    }
}
