//! The fuzz targets without a fuzzer: each gets the same few thousand mutations of its seeds in
//! every run.

use std::path::Path;

use crate::{mutation, targets};

fn survives(name: &str, target: impl Fn(&[u8])) {
    mutation::survives(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(name), target);
}

#[test]
fn safetensors_survive() {
    survives("safetensors", targets::safetensors);
}

#[test]
fn manifests_survive() {
    survives("manifest", targets::manifest);
}

#[test]
fn hugging_face_configurations_survive() {
    survives("hf_config", targets::hf_config);
}

#[test]
fn tokenizers_survive() {
    survives("tokenizer", targets::tokenizer);
}

#[test]
fn texts_survive() {
    survives("text", targets::text);
}

#[test]
fn texts_through_every_door_survive() {
    survives("doors", targets::doors);
}

#[test]
fn counted_models_survive() {
    survives("ngram", targets::ngram);
}

#[test]
fn infinigrams_survive() {
    survives("infinigram", targets::infinigram);
}

#[test]
fn arpa_files_survive() {
    survives("arpa", targets::arpa);
}

#[test]
fn kenlm_binaries_survive() {
    survives("../../formats/tests/fixtures/kenlm", targets::kenlm);
}

#[test]
fn counts_survive() {
    survives("counts", targets::counts);
    survives("counts_tsv", targets::counts_tsv);
}
