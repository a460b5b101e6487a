//! Ranks as threads of one process, for tests.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

use super::{Link, Ranks};
use crate::error::{Error, Result};

/// Messages by from · size + to, with one that was looked at.
type Channel = (Mutex<Sender<Vec<u8>>>, Mutex<(Receiver<Vec<u8>>, Option<Vec<u8>>)>);

#[derive(Debug)]
pub(crate) struct Threads {
    rank: usize,
    size: usize,
    channels: Arc<Vec<Channel>>,
}

impl Threads {
    /// A rank whose messages nobody gets.
    pub(crate) fn alone(rank: usize, size: usize) -> Ranks {
        let channels = (0..size * size)
            .map(|_| channel())
            .map(|(send, receive)| (Mutex::new(send), Mutex::new((receive, None))));
        Ranks::linked(Self { rank, size, channels: Arc::new(channels.collect()) })
    }
}

impl Link for Threads {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn send(&self, to: usize, bytes: &[u8]) -> Result<()> {
        let sender = self.channels[self.rank * self.size + to].0.lock().unwrap();
        sender.send(bytes.to_vec()).map_err(|_| Error::failed("the other rank has ended"))
    }

    fn receive(&self, from: usize) -> Result<Vec<u8>> {
        let mut receiver = self.channels[from * self.size + self.rank].1.lock().unwrap();
        match receiver.1.take() {
            Some(bytes) => Ok(bytes),
            None => receiver.0.recv().map_err(|_| Error::failed("the other rank has ended")),
        }
    }

    fn has_message(&self, from: usize) -> Result<bool> {
        let mut receiver = self.channels[from * self.size + self.rank].1.lock().unwrap();
        if receiver.1.is_none() {
            receiver.1 = receiver.0.try_recv().ok();
        }
        Ok(receiver.1.is_some())
    }

    fn abort(&self) {
        panic!("rank {} ends the job", self.rank);
    }
}

/// Results of `work` on each of `size` ranks.
pub(crate) fn run<R: Send>(size: usize, work: impl Fn(&Ranks) -> R + Sync) -> Vec<R> {
    let channels = (0..size * size).map(|_| channel());
    let channels: Arc<Vec<Channel>> =
        Arc::new(channels.map(|(send, receive)| (Mutex::new(send), Mutex::new((receive, None)))).collect());
    std::thread::scope(|scope| {
        let start = |rank| {
            let (channels, work) = (channels.clone(), &work);
            scope.spawn(move || work(&Ranks::linked(Threads { rank, size, channels })))
        };
        let started: Vec<_> = (0..size).map(start).collect();
        started.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}
