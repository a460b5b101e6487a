//! Compressed texts: gzip, bzip2, xz and zstd, told apart by content.

use std::io::{self, BufRead, Read, Write};
use std::path::Path;

/// The memory that an xz file may ask for; `xz -9` needs 65 MiB.
const XZ_MEMORY: u64 = 512 << 20;
const XZ_LEVEL: u32 = 6;
const ZSTD_LEVEL: i32 = 3;

/// A compressed format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// RFC 1952.
    Gzip,
    /// bzip2.
    Bzip2,
    /// xz.
    Xz,
    /// RFC 8878.
    Zstd,
}

impl Compression {
    const ALL: [Self; 4] = [Self::Gzip, Self::Bzip2, Self::Xz, Self::Zstd];

    /// The first bytes, the file extension and the name of the format.
    fn describe(self) -> (&'static [u8], &'static str, &'static str) {
        match self {
            Self::Gzip => (b"\x1f\x8b\x08", "gz", "gzip"),
            Self::Bzip2 => (b"BZh", "bz2", "bzip2"),
            Self::Xz => (b"\xfd7zXZ\0", "xz", "xz"),
            Self::Zstd => (b"\x28\xb5\x2f\xfd", "zst", "zstd"),
        }
    }

    /// The name, also of the program that decompresses it.
    pub fn name(self) -> &'static str {
        self.describe().2
    }

    /// The format of a file that starts with `head`.
    pub fn of(head: &[u8]) -> Option<Self> {
        let known = Self::ALL.into_iter().find(|format| head.starts_with(format.describe().0))?;
        // A text may start with "BZh"; a bzip2 file goes on with a level and a block.
        let block = |level: u8, rest: &[u8]| {
            level.is_ascii_digit() && (rest.starts_with(b"1AY&SY") || rest.starts_with(b"\x17rE8P\x90"))
        };
        (known != Self::Bzip2 || head.get(3).is_some_and(|&level| block(level, &head[4..]))).then_some(known)
    }

    /// The format that a file name asks for by its extension.
    pub fn by_name(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        Self::ALL.into_iter().find(|format| format.describe().1 == extension)
    }

    /// A reader of the decompressed bytes of all members of `source`.
    ///
    /// # Errors
    /// A failure to start the decompressor. A damaged or truncated file is an error of the reader.
    pub fn reader<'a>(self, source: impl BufRead + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
        Ok(match self {
            Self::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(source)),
            Self::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(source)),
            Self::Xz => {
                let stream =
                    liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, liblzma::stream::CONCATENATED)?;
                Box::new(liblzma::bufread::XzDecoder::new_stream(source, stream))
            }
            Self::Zstd => Box::new(zstd::Decoder::with_buffer(source)?),
        })
    }

    /// A writer that compresses into `target`.
    ///
    /// # Errors
    /// A failure to start the compressor.
    pub fn writer<'a, W: Write + Send + 'a>(
        self,
        target: W,
    ) -> io::Result<Box<dyn Compressor<W> + Send + 'a>> {
        Ok(match self {
            Self::Gzip => Box::new(flate2::write::GzEncoder::new(target, flate2::Compression::default())),
            Self::Bzip2 => Box::new(bzip2::write::BzEncoder::new(target, bzip2::Compression::default())),
            Self::Xz => Box::new(liblzma::write::XzEncoder::new(target, XZ_LEVEL)),
            Self::Zstd => {
                let mut encoder = zstd::Encoder::new(target, ZSTD_LEVEL)?;
                encoder.include_checksum(true)?;
                Box::new(encoder)
            }
        })
    }
}

/// A compressing writer.
pub trait Compressor<W>: Write {
    /// Writes the end of the compressed file and gives the target back.
    ///
    /// # Errors
    /// An error of the target.
    fn finish(self: Box<Self>) -> io::Result<W>;
}

impl<W: Write> Compressor<W> for flate2::write::GzEncoder<W> {
    fn finish(self: Box<Self>) -> io::Result<W> {
        (*self).finish()
    }
}

impl<W: Write> Compressor<W> for bzip2::write::BzEncoder<W> {
    fn finish(self: Box<Self>) -> io::Result<W> {
        (*self).finish()
    }
}

impl<W: Write> Compressor<W> for liblzma::write::XzEncoder<W> {
    fn finish(self: Box<Self>) -> io::Result<W> {
        (*self).finish()
    }
}

impl<W: Write> Compressor<W> for zstd::Encoder<'_, W> {
    fn finish(self: Box<Self>) -> io::Result<W> {
        (*self).finish()
    }
}
