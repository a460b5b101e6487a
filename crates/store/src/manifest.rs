//! The manifest of a directory: the names, sizes and hashes of its parts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The file name of the manifest.
pub const NAME: &str = "manifest.json";
pub(crate) const MAX_BYTES: u64 = 1 << 16;

/// Increased when an older program could misread the new format.
const VERSION: u32 = 1;
const MAX_PARTS: usize = 64;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    /// "surprisal checkpoint" or "surprisal model".
    format: String,
    version: u32,
    /// The step, for a checkpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<u64>,
    pub(crate) parts: BTreeMap<String, ManifestEntry>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ManifestEntry {
    pub(crate) bytes: u64,
    /// Lower-case hexadecimal.
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
                return Err(Error::malformed("the list of parts", &format!("duplicate name `{name}`")));
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

    /// Reads a manifest and checks its format and step.
    ///
    /// It must be byte for byte what this program writes, so that a flipped bit cannot produce
    /// another spelling of the same content.
    pub(crate) fn parse(what: &str, json: &[u8], format: &str, step: Option<u64>) -> Result<Self> {
        let malformed = |problem: &str| Err(Error::malformed(what, problem));
        let manifest: Self = serde_json::from_slice(json).map_err(|error| Error::malformed(what, &error))?;
        if manifest.format != format {
            let found = manifest.format.escape_debug();
            return malformed(&format!("it is the manifest of a `{found}`, but a `{format}` is expected"));
        }
        if manifest.version != VERSION {
            let version = manifest.version;
            return malformed(&format!("its version is {version}, but this program reads version {VERSION}"));
        }
        if manifest.step != step {
            return malformed("its step differs from the step in its folder's name");
        }
        check_count(&manifest.parts)?;
        for name in manifest.parts.keys() {
            check_name(name)?;
        }
        if manifest.to_json()? != json {
            return malformed("its formatting is not that of a manifest");
        }
        Ok(manifest)
    }
}

impl ManifestEntry {
    /// Checks the length and the hash of `bytes`. `what` names the part in errors.
    pub(crate) fn check(&self, what: &str, bytes: &[u8]) -> Result<()> {
        if bytes.len() as u64 != self.bytes {
            let problem = format!("it has {} bytes, but the manifest says {}", bytes.len(), self.bytes);
            return Err(Error::malformed(what, &problem));
        }
        // Compared as text: `AB` was not written where `ab` was.
        if blake3::hash(bytes).to_hex().as_str() != self.blake3 {
            return Err(Error::malformed(what, "its hash differs from the one in the manifest"));
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

/// Checks that `name` is a plain file name on every system, so that it cannot lead to another
/// directory.
fn check_name(name: &str) -> Result<()> {
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    if !plain || name.is_empty() || name.starts_with('.') || name.len() > 100 || name == NAME {
        return Err(Error::malformed(
            "the list of parts",
            &format!("`{}` is not a valid part name", name.escape_debug()),
        ));
    }
    Ok(())
}
