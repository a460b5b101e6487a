//! The config's fuzz target without a fuzzer: the same few thousand mutations of every file in
//! configs/ in every run.

#[path = "../../../fuzz/config_target.rs"]
mod config_target;
#[path = "../../../formats/tests/mutation/mod.rs"]
mod mutation;

#[test]
fn configs_survive() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs");
    mutation::survives(&folder, config_target::config);
}
