//! Damaged checkpoints: every flipped bit and every truncation is detected.

use std::{collections::BTreeMap, fs, path::Path};

use candle_core::{Device, Tensor};
use surprisal_formats::weights;
use surprisal_store::checkpoint;

/// Writes `bytes` without crash safety, which a test of damage does not need.
#[expect(clippy::disallowed_methods, reason = "a thousand damaged files need not survive a power loss")]
fn damage(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
}

/// A random generator of test positions: Knuth's linear congruential one (MMIX).
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

fn a_checkpoint(folder: &Path) -> std::path::PathBuf {
    let values: Vec<f32> = (0..300).map(|i| i as f32 / 7.0).collect();
    let tensor = Tensor::from_slice(&values, (20, 15), &Device::Cpu).unwrap();
    let model = weights::to_safetensors(&BTreeMap::from([("wte.weight".to_owned(), tensor)])).unwrap();
    let state = br#"{"step":12,"epoch":0,"streams":{"order":[1,2]}}"#;
    checkpoint::save(folder, 12, &[("model.safetensors", &model), ("state.json", state)]).unwrap()
}

/// `fixtures/checkpoint_v1` was written by Python's `json`, `safetensors` and `blake3` and must not
/// change: checkpoints of version 1 must always load.
#[test]
fn a_checkpoint_of_version_1_loads() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/checkpoint_v1");
    let newest = checkpoint::load_newest(&fixtures).unwrap();
    assert!(newest.skipped.is_empty(), "{:?}", newest.skipped);
    let found = newest.checkpoint.unwrap();
    assert_eq!((found.step, found.part("state.json").unwrap()), (7, &b"{\"step\":7}\n"[..]));
    let model = found.part("model.safetensors").unwrap();
    let tensors = weights::from_safetensors("the test", model, weights::Accept::F32).unwrap();
    assert_eq!(tensors["wte.weight"].to_vec2::<f32>().unwrap(), [[0.0, 0.25], [0.5, 0.75], [1.0, 1.25]]);
}

#[test]
fn no_flipped_bit_is_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let path = a_checkpoint(folder.path());
    let mut flips = 0;
    let mut state = 6;
    for name in ["manifest.json", "state.json", "model.safetensors"] {
        let file = path.join(name);
        let original = fs::read(&file).unwrap();
        // Every bit of structured data, and some of the weights.
        let bits: Vec<usize> = if name == "model.safetensors" {
            (0..1500).map(|_| next(&mut state) as usize % (original.len() * 8)).collect()
        } else {
            (0..original.len() * 8).collect()
        };
        for bit in bits {
            let mut flipped = original.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            damage(&file, &flipped);
            let outcome = checkpoint::load(&path);
            assert!(outcome.is_err(), "bit {bit} of {name} was not noticed");
            flips += 1;
        }
        damage(&file, &original);
    }
    checkpoint::load(&path).unwrap();
    assert!(flips > 4500, "{flips} flips");
}

#[test]
fn no_cut_and_no_addition_is_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let path = a_checkpoint(folder.path());
    for name in ["manifest.json", "state.json", "model.safetensors"] {
        let file = path.join(name);
        let original = fs::read(&file).unwrap();
        for length in 0..original.len() {
            damage(&file, &original[..length]);
            assert!(checkpoint::load(&path).is_err(), "{name} cut to {length}");
        }
        damage(&file, &[&original[..], b"\n"].concat());
        assert!(checkpoint::load(&path).is_err(), "{name} with a byte more");
        damage(&file, &original);
    }
}

#[test]
fn hostile_manifests_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = a_checkpoint(folder.path());
    let file = path.join("manifest.json");
    let original = String::from_utf8(fs::read(&file).unwrap()).unwrap();
    let changed = |from: &str, to: &str| {
        assert!(original.contains(from), "{from}");
        original.replace(from, to)
    };
    let many: Vec<_> = (0..100).map(|i| format!("\"p{i}\": {{\"bytes\": 0, \"blake3\": \"\"}}, ")).collect();
    let many = many.concat();
    let cases = [
        ("empty", String::new()),
        ("nested", "[".repeat(60_000)),
        ("too large", " ".repeat(70_000)),
        ("a path upwards", changed("state.json", "../state.json")),
        ("an absolute path", changed("state.json", "/etc/passwd")),
        ("a path of Windows", changed("state.json", "C:state.json")),
        ("a hidden file", changed("state.json", ".state.json")),
        ("itself", changed("state.json", "manifest.json")),
        ("a part that is not there", changed("state.json", "stata.json")),
        ("another case", changed("state.json", "State.json")),
        ("a huge size", changed("\"bytes\": 47", "\"bytes\": 18446744073709551615")),
        ("a negative size", changed("\"bytes\": 47", "\"bytes\": -1")),
        ("a size as a float", changed("\"bytes\": 47", "\"bytes\": 47.0")),
        ("a newer version", changed("\"version\": 1", "\"version\": 2")),
        ("another format", changed("surprisal checkpoint", "surprisal model")),
        ("another step", changed("\"step\": 12", "\"step\": 13")),
        ("an unknown key", changed("\"version\": 1", "\"version\": 1, \"more\": 2")),
        ("a key twice", changed("\"version\": 1", "\"version\": 1, \"version\": 1")),
        ("another spelling", changed("\"version\": 1", "\"version\":  1")),
        ("a hundred parts", changed("\"parts\": {", &format!("\"parts\": {{{many}"))),
    ];
    for (name, manifest) in cases {
        damage(&file, manifest.as_bytes());
        assert!(checkpoint::load(&path).is_err(), "{name}");
    }
}

#[cfg(unix)]
#[test]
fn a_part_that_is_no_file_is_refused_and_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = a_checkpoint(folder.path());
    let part = path.join("state.json");
    fs::remove_file(&part).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&part).status().unwrap();
    assert!(made.success());
    let error = checkpoint::load(&path).unwrap_err();
    assert!(error.to_string().contains("not a regular file"), "{error}");
    fs::remove_file(&part).unwrap();
    fs::create_dir(&part).unwrap();
    assert!(checkpoint::load(&path).is_err());
}
