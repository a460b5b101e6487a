//! What is fuzzed: every parser of untrusted bytes, each with what must hold for the bytes it accepts.
//!
//! One file for two uses: `fuzz_targets/` hands it what libFuzzer finds, `tests/mutations.rs` a bounded number of mutations of the seeds.

use std::path::{Component, Path};

use surprisal_formats::{
    checkpoint,
    hf::Gpt2Config,
    weights::{ReadOptions, from_safetensors, to_safetensors},
};

/// Weights that are accepted are written and read again as the same.
pub(crate) fn safetensors(data: &[u8]) {
    for options in [
        ReadOptions::default(),
        ReadOptions { convert: true, allow_non_finite: true, max_tensors: 100, ..ReadOptions::default() },
    ] {
        let Ok(tensors) = from_safetensors(data, &options) else { continue };
        let list: Vec<_> = tensors.iter().map(|(name, tensor)| (name.clone(), tensor.clone())).collect();
        let written = to_safetensors(&list).expect("what was read can be written");
        let again = from_safetensors(&written, &options).expect("what was written can be read");
        assert!(
            tensors
                .iter()
                .map(|(name, tensor)| (name, tensor.dims()))
                .eq(again.iter().map(|(n, t)| (n, t.dims())))
        );
    }
}

/// A manifest that is accepted names files of its own folder only.
pub(crate) fn manifest(data: &[u8]) {
    let Ok(parts) = checkpoint::parse_manifest("manifest.json", data, 7) else { return };
    for name in parts.keys() {
        let components: Vec<_> = Path::new(name).components().collect();
        assert!(matches!(components[..], [Component::Normal(_)]), "{name}");
    }
}

/// A configuration that is accepted has sizes that can be computed with.
pub(crate) fn hf_config(data: &[u8]) {
    let Ok(config) = Gpt2Config::parse("config.json", data) else { return };
    assert!(config.n_layer <= 1024 && config.n_embd.is_multiple_of(config.n_head));
    let again = serde_json::to_vec(&config).expect("what was read can be written");
    assert_eq!(Gpt2Config::parse("config.json", &again).expect("what was written can be read"), config);
}
