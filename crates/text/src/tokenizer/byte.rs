//! Bytes as tokens: the id of a byte is its value.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::{Map, json};

use super::byte_level::{byte_to_unicode, check_byte_level, is_bytes_only};
use super::codec::{Codec, SpecialIds, TrainingText};
use super::json::{JsonFile, refuse, write_file};
use super::{TokenizerKind, special_tokens};
use crate::TextMode;
use crate::error::Result;

/// The byte tokenizer: ids 0 to 255, then `<s>` and `</s>` in line mode.
#[derive(Debug, Clone)]
pub(crate) struct ByteCodec {
    mode: TextMode,
}

impl ByteCodec {
    pub(super) fn new(mode: TextMode) -> Self {
        Self { mode }
    }

    /// [`Codec::encode`] of bytes that need not be UTF-8.
    pub(crate) fn encode_bytes(&self, bytes: &[u8], ids: &mut Vec<u32>) {
        let kept = bytes.iter().filter(|&&byte| self.mode.keeps_newlines() || byte != b'\n');
        ids.extend(kept.map(|&byte| u32::from(byte)));
    }

    pub(super) fn from_json(file: &mut JsonFile<'_>) -> Result<Option<Arc<dyn Codec>>> {
        if !is_bytes_only(file) {
            return Ok(None);
        }
        check_byte_level(file)?;
        let bytes = (0..=255u8).map(|byte| byte_to_unicode(byte).to_string());
        if !file.vocab.words().iter().eq(bytes) {
            return refuse("a byte vocabulary must have the 256 bytes, in order");
        }
        Ok(Some(Arc::new(Self { mode: file.mode })))
    }
}

impl Codec for ByteCodec {
    fn kind(&self) -> TokenizerKind {
        TokenizerKind::Byte
    }

    fn mode(&self) -> TextMode {
        self.mode
    }

    fn vocab_size(&self) -> usize {
        // All special tokens but <unk>: every byte is in the vocabulary.
        255 + special_tokens(self.mode).len()
    }

    fn special_ids(&self) -> SpecialIds {
        SpecialIds::marks(self.mode, 256)
    }

    fn learn(&mut self, _: &TrainingText<'_>) -> Result<()> {
        Ok(())
    }

    fn encode(&self, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        self.encode_bytes(text.as_bytes(), ids);
        Ok(())
    }

    fn token_bytes(&self, id: u32) -> Cow<'_, [u8]> {
        u8::try_from(id).into_iter().collect::<Vec<u8>>().into()
    }

    fn save(&self) -> Result<Vec<u8>> {
        let vocab: Map<_, _> =
            (0..=255u8).map(|byte| (byte_to_unicode(byte).to_string(), byte.into())).collect();
        let byte_level = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false });
        let model = json!({
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocab, "merges": [],
        });
        // All special tokens but <unk>: every byte is in the vocabulary.
        write_file(&special_tokens(self.mode)[1..], 256, byte_level.clone(), byte_level, model)
    }
}
