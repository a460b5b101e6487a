//! The manifest of a checkpoint: what its parts are, how long, with which hash.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

pub(super) const NAME: &str = "manifest.json";

const FORMAT: &str = "surprisal checkpoint";
/// Raised when an older program could misread what a newer one writes.
const VERSION: u32 = 1;
const MAX_PARTS: usize = 64;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    format: String,
    version: u32,
    step: u64,
    pub(super) parts: BTreeMap<String, Part>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Part {
    pub(super) bytes: u64,
    /// In lower-case hexadecimal.
    blake3: String,
}

impl Manifest {
    pub(super) fn new(step: u64, parts: &[(&str, &[u8])]) -> Result<Self> {
        let mut named = BTreeMap::new();
        for (name, bytes) in parts {
            check_name(name)?;
            let part = Part { bytes: bytes.len() as u64, blake3: blake3::hash(bytes).to_hex().to_string() };
            if named.insert((*name).to_owned(), part).is_some() {
                return Err(Error::malformed("the checkpoint", &format!("its part `{name}` comes twice")));
            }
        }
        check_count(&named)?;
        Ok(Self { format: FORMAT.to_owned(), version: VERSION, step, parts: named })
    }

    pub(super) fn to_json(&self) -> Result<Vec<u8>> {
        let mut json = serde_json::to_vec_pretty(self).map_err(|error| Error::malformed(NAME, &error))?;
        json.push(b'\n');
        Ok(json)
    }

    /// Reads the manifest of the checkpoint of `step`.
    ///
    /// It must be, byte for byte, what this program writes: so no flipped bit passes as another spelling of the same.
    pub(super) fn parse(what: &str, json: &[u8], step: u64) -> Result<Self> {
        let malformed = |problem: &str| Err(Error::malformed(what, problem));
        let manifest: Self = serde_json::from_slice(json).map_err(|error| Error::malformed(what, &error))?;
        if manifest.format != FORMAT {
            return malformed("it is not a checkpoint's");
        }
        if manifest.version != VERSION {
            let version = manifest.version;
            return malformed(&format!("its version is {version}, this program reads version {VERSION}"));
        }
        if manifest.step != step {
            return malformed(&format!("it is of step {}, its folder of step {step}", manifest.step));
        }
        check_count(&manifest.parts)?;
        for name in manifest.parts.keys() {
            check_name(name)?;
        }
        if manifest.to_json()? != json {
            return malformed("it is not in the form in which manifests are written");
        }
        Ok(manifest)
    }
}

impl Part {
    /// Whether `bytes` are the part's.
    pub(super) fn check(&self, what: &str, bytes: &[u8]) -> Result<()> {
        if bytes.len() as u64 != self.bytes {
            let problem = format!("it has {} bytes, the manifest says {}", bytes.len(), self.bytes);
            return Err(Error::malformed(what, &problem));
        }
        // As text: `AB` is not what was written where `ab` was.
        if blake3::hash(bytes).to_hex().as_str() != self.blake3 {
            return Err(Error::malformed(what, "its hash is not the manifest's"));
        }
        Ok(())
    }
}

fn check_count(parts: &BTreeMap<String, Part>) -> Result<()> {
    let (size, limit) = (parts.len() as u64, MAX_PARTS as u64);
    if parts.len() > MAX_PARTS {
        return Err(Error::TooLarge { what: "the checkpoint".to_owned(), size, limit, unit: "parts" });
    }
    Ok(())
}

/// A plain file name on every system: it cannot lead out of the checkpoint's folder.
fn check_name(name: &str) -> Result<()> {
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    if !plain || name.is_empty() || name.starts_with('.') || name.len() > 100 || name == NAME {
        return Err(Error::malformed(
            "the checkpoint",
            &format!("`{}` cannot name a part", name.escape_debug()),
        ));
    }
    Ok(())
}
