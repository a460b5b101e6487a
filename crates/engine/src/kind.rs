//! Kinds of files and folders, told apart by content, never by name.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;
use surprisal_formats::mixture_dir::StoredMixture;
use surprisal_formats::model_dir::StoredModel;
use surprisal_formats::{arpa, compressed, counts, infinigram, kenlm, mixture_dir, ngram};
use surprisal_store::Error as StoreError;
use surprisal_store::checkpoint;
use surprisal_store::read::read_regular;
use surprisal_text::{Compression, Error as TextError, is_standard_input, open_converted};

use crate::error::{Advice, Error, Result};
use crate::events::{Context, Note};

/// Bytes read from the start of a file to recognise it.
const HEAD: u64 = 1 << 16;
/// The byte-order mark that some programs write before UTF-8.
const BOM: &[u8] = b"\xef\xbb\xbf";
/// Size of the largest config.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// The kind of a file or a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The folder of a run, finished or not.
    Run,
    /// A checkpoint of a run.
    Checkpoint,
    /// A model's own folder.
    Model,
    /// The folder of a mixture of models.
    Mixture,
    /// A folder in Hugging Face's layout.
    HuggingFace,
    /// Another folder.
    Folder,
    /// An n-gram model in our own format.
    Ngram,
    /// An ∞-gram model.
    Infinigram,
    /// An ARPA file.
    Arpa {
        /// Whether it has lines before `\data\`, so that it may be a text about such files.
        preface: bool,
    },
    /// A KenLM binary.
    Kenlm,
    /// Counts in our own binary format.
    Counts,
    /// Counts as lines of text.
    CountsTsv,
    /// A file that a model has compressed.
    Compressed,
    /// Tensors without a config.
    Safetensors,
    /// A tokenizer.json.
    Tokenizer,
    /// A config.
    Config,
    /// The folder of a comparison.
    Comparison,
    /// A compressed file that is cut off or damaged: its name.
    Damaged(&'static str),
    /// A known kind that is not read: its name, and what to do instead.
    Other(&'static str, &'static str),
    /// An empty file.
    Empty,
    /// A pipe, a device, a socket.
    Special,
    /// Other UTF-8.
    Text,
    /// Other bytes.
    Binary,
}

/// First bytes, names and advice for known kinds that are not read.
const OTHERS: [(&[u8], &str, &str); 3] = [
    (
        b"PK\x03\x04",
        "a zip file, as PyTorch's .pt are",
        "unpack texts with unzip; save a model as safetensors",
    ),
    (b"GGUF", "a GGUF file", "use the safetensors that it was made from"),
    (b"\x80\x02", "a Python pickle", "save the model as safetensors; a pickle runs code when it is read"),
];

impl Kind {
    /// The kind of `path`.
    ///
    /// # Errors
    /// A path that does not exist or cannot be read.
    pub fn detect(path: &Path) -> Result<Self> {
        let cannot = |reason| StoreError::Io { action: "open".into(), path: path.to_owned(), reason };
        if is_standard_input(path) {
            return Ok(Self::Special);
        }
        let metadata = std::fs::metadata(path).map_err(cannot)?;
        if metadata.is_dir() {
            return Ok(Self::of_folder(path));
        }
        if !metadata.is_file() {
            return Ok(Self::Special);
        }
        let mut file = File::open(path).map_err(cannot)?;
        let head_of = |text: Box<dyn Read + Send>| {
            let mut head = Vec::new();
            let read = text.take(HEAD).read_to_end(&mut head);
            read.map_err(|reason| TextError::of_io(path, reason)).map(|_| head)
        };
        match open_converted(path).and_then(|text| text.map(head_of).transpose()) {
            Ok(Some(head)) => return Ok(Self::of_bytes(&head)),
            Ok(None) => {}
            Err(TextError::Damaged { format, .. }) => return Ok(Self::damaged(format)),
            Err(error) => return Err(error.into()),
        }
        let mut head = Vec::new();
        file.by_ref().take(HEAD).read_to_end(&mut head).map_err(cannot)?;
        let kind = Self::of_head(&head, metadata.len());
        if kind != Self::Config {
            return Ok(kind);
        }
        if metadata.len() > MAX_CONFIG_BYTES {
            return Ok(Self::Text);
        }
        file.read_to_end(&mut head).map_err(cannot)?;
        Ok(if is_config(&head) { kind } else { Self::Text })
    }

    /// The kind of a file of this compressed format that is damaged.
    fn damaged(format: Compression) -> Self {
        Self::Damaged(match format {
            Compression::Gzip => "a damaged gzip file",
            Compression::Bzip2 => "a damaged bzip2 file",
            Compression::Xz => "a damaged xz file",
            Compression::Zstd => "a damaged zstd file",
        })
    }

    /// The kind of a file with the content `bytes`, of which the first are enough.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        // Configs and tensors are read from plain files only.
        match Self::of_head(&bytes[..bytes.len().min(HEAD as usize)], 0) {
            Self::Config => Self::Text,
            kind => kind,
        }
    }

    /// The name of the kind of a file that starts with `head`, if that has weights or counts.
    pub fn no_text(head: &[u8]) -> Option<&'static str> {
        match Self::of_bytes(head) {
            kind @ (Self::Ngram
            | Self::Infinigram
            | Self::Kenlm
            | Self::Arpa { preface: false }
            | Self::Counts) => Some(kind.words().0),
            Self::Other(name, _) => Some(name),
            _ => None,
        }
    }

    /// The kind of a file of `len` bytes that starts with `head`; [`Self::Config`] if it may be
    /// one.
    fn of_head(head: &[u8], len: u64) -> Self {
        let header = head.first_chunk::<8>().map_or(u64::MAX, |length| u64::from_le_bytes(*length));
        if header < len && head.get(8) == Some(&b'{') {
            return Self::Safetensors;
        }
        if head.is_empty() {
            return Self::Empty;
        }
        if ngram::has_magic(head) {
            return Self::Ngram;
        }
        if infinigram::has_magic(head) {
            return Self::Infinigram;
        }
        if kenlm::has_magic(head) {
            return Self::Kenlm;
        }
        if counts::has_magic(head) {
            return Self::Counts;
        }
        if compressed::has_magic(head) {
            return Self::Compressed;
        }
        if let Some((_, name, hint)) = OTHERS.iter().find(|(magic, ..)| head.starts_with(magic)) {
            return Self::Other(name, hint);
        }
        let text = String::from_utf8_lossy(head.strip_prefix(BOM).unwrap_or(head)).into_owned();
        if let Some(preface) = preface(&text) {
            return Self::Arpa { preface };
        }
        // The last character may be cut.
        if std::str::from_utf8(head).is_err_and(|error| error.error_len().is_some()) {
            return Self::Binary;
        }
        let mut lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n')).take(100).peekable();
        let counted = |line: &str| {
            let gram = line.trim_end().rsplit_once('\t');
            gram.is_some_and(|(gram, count)| !gram.is_empty() && count.parse::<u32>().is_ok())
                || counts::part_of_tsv(line.as_bytes()).is_some()
        };
        if lines.peek().is_some() && lines.all(counted) {
            return Self::CountsTsv;
        }
        if text.starts_with('{') && text.contains("\"added_tokens\"") {
            return Self::Tokenizer;
        }
        let sections = |line: &str| line.starts_with(['[', '{']);
        if text.lines().any(sections) { Self::Config } else { Self::Text }
    }

    fn of_folder(path: &Path) -> Self {
        let has = |name: &str| path.join(name).exists();
        let manifest = read_regular(path.join("manifest.json")).unwrap_or_default();
        let manifest: Value = serde_json::from_slice(&manifest).unwrap_or_default();
        match manifest["format"].as_str() {
            Some("surprisal model") => return Self::Model,
            Some(mixture_dir::FORMAT) => return Self::Mixture,
            Some("surprisal checkpoint") => return Self::Checkpoint,
            _ => {}
        }
        // A folder of texts may have files of these names, too.
        let begun = has("checkpoints") || has("metrics.jsonl");
        let is_run = || begun && read_regular(path.join("config.toml")).is_ok_and(|bytes| is_config(&bytes));
        let describes_model = || {
            let config = read_regular(path.join("config.json")).unwrap_or_default();
            serde_json::from_slice::<Value>(&config).is_ok_and(|config| !config["model_type"].is_null())
        };
        let weights = ["model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"];
        if has("model/manifest.json") || is_run() {
            Self::Run
        } else if has("config.json") && (weights.into_iter().any(has) || describes_model()) {
            Self::HuggingFace
        } else if has("comparison.json") || has_cells(path) {
            Self::Comparison
        } else if !checkpoint::list(path).unwrap_or_default().is_empty() {
            Self::Other("the checkpoints of a run", "name the folder of the run, or one of them")
        } else {
            Self::Folder
        }
    }

    /// Whether this is neither a text nor a folder of texts.
    pub fn is_model(self) -> bool {
        use Kind::{Binary, Damaged, Empty, Folder, Special, Text};
        !matches!(self, Folder | Empty | Special | Text | Binary | Damaged(_))
    }

    /// Name in words, and what to do with it where a model is expected.
    pub fn words(self) -> (&'static str, Option<Advice>) {
        let (name, advice): (_, Advice) = match self {
            Self::Run => return ("the folder of a run", None),
            Self::Checkpoint => return ("a checkpoint of a run", None),
            Self::Model => return ("a model's folder", None),
            Self::Mixture => return ("a mixture of models", None),
            Self::HuggingFace => return ("a Hugging Face folder", None),
            Self::Ngram => return ("an n-gram model (.ngram)", None),
            Self::Infinigram => return ("an ∞-gram model (.infgram)", None),
            Self::Arpa { .. } => return ("an ARPA file", None),
            Self::Kenlm => return ("a KenLM binary", None),
            Self::Counts | Self::CountsTsv => ("a file of counts, not a model", Advice::Merge),
            Self::Compressed => ("a file that a model has compressed", "decompress it first".into()),
            Self::Safetensors => ("a file of tensors (safetensors) without its config", WHOLE.into()),
            Self::Tokenizer => ("a tokenizer, not a model", WHOLE.into()),
            Self::Config => ("a config, not a model", Advice::TrainConfig),
            Self::Comparison => ("the folder of a comparison", Advice::ComparisonRuns),
            Self::Other(name, hint) => (name, hint.into()),
            Self::Damaged(name) => (name, "it may be cut off: download or compress it again".into()),
            Self::Folder => ("a folder without a model: there is no model/manifest.json", WANTED.into()),
            Self::Empty => ("empty", WANTED.into()),
            Self::Special => ("a pipe or a device, which can be read only once", FILE_FIRST.into()),
            Self::Binary => ("neither text in UTF-8 nor a known model format", WANTED.into()),
            Self::Text => (
                "a text, not a model (an ARPA file has \\data\\ within the first 64 kB)",
                "give the model first; train or count one from the text".into(),
            ),
        };
        (name, Some(advice))
    }

    /// The error for `path`, where another kind is expected.
    pub fn refuse(self, path: &Path) -> Error {
        let (what, advice) = self.words();
        Error { advice, ..Error::failed(format!("`{}` is {what}", path.display())) }
    }
}

const WHOLE: &str = "give the folder that it is in";
const FILE_FIRST: &str = "write the data to a file first";
const WANTED: &str =
    "give the folder of a run, a Hugging Face folder, an ARPA file, an .ngram file or a KenLM binary";

/// Refuses `paths` that are certainly not texts. Unreadable ones pass.
///
/// # Errors
/// The first path that is not a text.
pub fn check_texts(paths: &[PathBuf]) -> Result<()> {
    for path in paths {
        let kind = Kind::detect(path).unwrap_or(Kind::Text);
        if matches!(kind, Kind::Comparison | Kind::Other(..)) {
            return Err(kind.refuse(path));
        }
        // Lists of words with counts, configs and texts about ARPA files are texts, too.
        let readable =
            matches!(kind, Kind::CountsTsv | Kind::Tokenizer | Kind::Arpa { preface: true } | Kind::Config);
        if kind.is_model() && !readable {
            let (what, _) = kind.words();
            let what = what.split_once(", ").map_or(what, |(what, _)| what);
            let problem = format!("`{}` is {what}: these are weights or counts, not text", path.display());
            return Err(Error::failed(problem).hint("give the text itself"));
        }
    }
    Ok(())
}

/// Whether the folder `path` has a whole model, or a whole mixture.
pub(crate) fn is_whole_model(path: &Path) -> bool {
    match Kind::detect(path) {
        Ok(Kind::Mixture) => StoredMixture::load(path).is_ok(),
        _ => StoredModel::load(path).is_ok(),
    }
}

/// Emits a note for each of `paths`, given as texts, that is a config.
///
/// # Errors
/// An error of the subscriber.
pub fn note_configs(paths: &[PathBuf], ctx: &Context<'_>) -> Result<()> {
    let configs = paths.iter().filter(|path| Kind::detect(path).is_ok_and(|kind| kind == Kind::Config));
    configs.cloned().try_for_each(|path| ctx.note(Note::LooksLikeConfig(path)))
}

/// Whether a comparison was begun in the folder `path`.
fn has_cells(path: &Path) -> bool {
    let inside = |path: &Path| std::fs::read_dir(path).into_iter().flatten().flatten().map(|it| it.path());
    let is_run = |path: &Path| path.join("config.toml").is_file();
    inside(&path.join("cells")).any(|cell| is_run(&cell) || inside(&cell).any(|seed| is_run(&seed)))
}

fn is_config(bytes: &[u8]) -> bool {
    let toml = std::str::from_utf8(bytes).ok().and_then(|text| text.parse::<toml::Table>().ok());
    let known = toml::Table::try_from(crate::config::Config::default()).unwrap_or_default();
    let is_section = |(key, keys): (&String, &toml::Value)| {
        keys.is_table() && (known.contains_key(key) || key == "compare")
    };
    let table = toml.or_else(|| serde_json::from_slice(bytes).ok());
    table.is_some_and(|table| table.iter().any(is_section))
}

/// Whether a line of an ARPA file gives the number of n-grams of an order.
fn is_header(line: &str) -> bool {
    let number = line.strip_prefix("ngram").and_then(|line| line.split_once('='));
    number.is_some_and(|(order, count)| {
        order.trim().parse::<u32>().is_ok() && count.trim().parse::<u64>().is_ok()
    })
}

/// Whether there are lines before `\data\`; `None` where `text` does not start an ARPA file.
fn preface(text: &str) -> Option<bool> {
    const OURS: [&str; 3] = [arpa::DECLARATION_PREFIX, arpa::TOKENIZER_PREFIX, arpa::SCORES_DECLARATION];
    let (mut preface, mut last) = (false, "");
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    for line in lines.by_ref() {
        if line == "\\data\\" {
            return lines.next().is_none_or(is_header).then_some(preface);
        }
        // Lines that this program writes before `\data\` do not count.
        preface |= !OURS.iter().any(|ours| line.starts_with(ours));
        last = line;
    }
    // A tokenizer may be longer than what is looked at.
    last.starts_with(arpa::TOKENIZER_PREFIX).then_some(preface)
}
