//! The manifest of a folder of parts: what they are, how long, with which hash.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Its name in the folder.
pub const NAME: &str = "manifest.json";
pub(crate) const MAX_BYTES: u64 = 1 << 16;

/// Raised when an older program could misread what a newer one writes.
const VERSION: u32 = 1;
const MAX_PARTS: usize = 64;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    /// "surprisal checkpoint" or "surprisal model".
    format: String,
    version: u32,
    /// Of a checkpoint, its step.
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<u64>,
    pub(crate) parts: BTreeMap<String, ManifestEntry>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ManifestEntry {
    pub(crate) bytes: u64,
    /// In lower-case hexadecimal.
    blake3: String,
}

impl Manifest {
    pub(crate) fn new(format: &str, step: Option<u64>, parts: &[(&str, &[u8])]) -> Result<Self> {
        let mut named = BTreeMap::new();
        for (name, bytes) in parts {
            check_name(name)?;
            let part =
                ManifestEntry { bytes: bytes.len() as u64, blake3: blake3::hash(bytes).to_hex().to_string() };
            if named.insert((*name).to_owned(), part).is_some() {
                return Err(Error::malformed("the list of parts", &format!("`{name}` comes twice")));
            }
        }
        check_count(&named)?;
        Ok(Self { format: format.to_owned(), version: VERSION, step, parts: named })
    }

    pub(crate) fn to_json(&self) -> Result<Vec<u8>> {
        let mut json = serde_json::to_vec_pretty(self).map_err(|error| Error::malformed(NAME, &error))?;
        json.push(b'\n');
        Ok(json)
    }

    /// Reads a manifest of this format and step.
    ///
    /// It must be, byte for byte, what this program writes: so no flipped bit passes as another spelling of the same.
    pub(crate) fn parse(what: &str, json: &[u8], format: &str, step: Option<u64>) -> Result<Self> {
        let malformed = |problem: &str| Err(Error::malformed(what, problem));
        let manifest: Self = serde_json::from_slice(json).map_err(|error| Error::malformed(what, &error))?;
        if manifest.format != format {
            let found = manifest.format.escape_debug();
            return malformed(&format!("it is the manifest of a `{found}`, not of a `{format}`"));
        }
        if manifest.version != VERSION {
            let version = manifest.version;
            return malformed(&format!("its version is {version}, this program reads version {VERSION}"));
        }
        if manifest.step != step {
            return malformed("its step is not that of its folder's name");
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

impl ManifestEntry {
    /// Whether `bytes` are the part's.
    pub(crate) fn check(&self, what: &str, bytes: &[u8]) -> Result<()> {
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

fn check_count(parts: &BTreeMap<String, ManifestEntry>) -> Result<()> {
    let (size, limit) = (parts.len() as u64, MAX_PARTS as u64);
    if parts.len() > MAX_PARTS {
        return Err(Error::TooLarge { what: "the list of parts".to_owned(), size, limit, unit: "parts" });
    }
    Ok(())
}

/// A plain file name on every system: it cannot lead out of its folder.
fn check_name(name: &str) -> Result<()> {
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    if !plain || name.is_empty() || name.starts_with('.') || name.len() > 100 || name == NAME {
        return Err(Error::malformed(
            "the list of parts",
            &format!("`{}` cannot name one", name.escape_debug()),
        ));
    }
    Ok(())
}
