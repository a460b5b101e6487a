//! Hugging Face folders: `fixtures/gpt2_tiny` was written by `transformers` 5.23.0
//! (`GPT2LMHeadModel.save_pretrained`, 2 layers, 3 heads, 24 wide, 40 tokens, random weights), and
//! `fixtures/llama_tiny` likewise (`LlamaForCausalLM`).

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use candle_core::{DType, Device, Tensor, quantized::gguf_file};
use surprisal_formats::{
    Error, gguf,
    hf::{self, Gpt2Config, HuggingFaceConfig, HuggingFaceTokenizer},
    weights::{Accept, read_safetensors, to_safetensors},
};
use surprisal_model::neural::{NormKind, PositionKind, TransformerConfig};
use surprisal_store::{Error as StoreError, atomic};
use surprisal_text::{TextMode, Tokenizer, TokenizerKind};

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/gpt2_tiny")
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn a_folder_of_transformers_is_read_under_our_names_and_layout() {
    let model = hf::read(fixture()).unwrap();
    let config = model.config.transformer();
    assert_eq!((config.n_layer, config.n_head, config.vocab_size), (2, 3, 40));
    assert_eq!(model.tensors.len(), 28);
    assert_eq!(model.tensors["h.1.attn.c_attn.weight"].dims(), [72, 24]);
    assert_eq!(model.tensors["h.0.mlp.c_proj.weight"].dims(), [24, 96]);
    assert!(model.tokenizer.is_none());
    let theirs = read_safetensors(fixture().join("model.safetensors"), Accept::F32).unwrap();
    let transposed = theirs["transformer.h.0.mlp.c_fc.weight"].t().unwrap();
    assert_eq!(values(&model.tensors["h.0.mlp.c_fc.weight"]), values(&transposed));
    assert_eq!(values(&model.tensors["wte.weight"]), values(&theirs["transformer.wte.weight"]));
}

#[test]
fn what_is_written_is_what_transformers_wrote() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("exported");
    let model = hf::read(fixture()).unwrap();
    let tokenizer = HuggingFaceTokenizer {
        json: b"{}".to_vec(),
        unk: Some((0, "<unk>".to_owned())),
        ..Default::default()
    };
    hf::write(&out, &model.config, &model.tensors, Some(&tokenizer)).unwrap();
    let wrote = |name: &str| fs::read(out.join(name)).unwrap();
    let original = fs::read(fixture().join("model.safetensors")).unwrap();
    assert_eq!(wrote("model.safetensors"), original, "byte for byte");
    let HuggingFaceConfig::Gpt2(config) = model.config.clone() else { panic!("another layout") };
    let config = HuggingFaceConfig::Gpt2(Gpt2Config { bos_token_id: None, eos_token_id: None, ..config });
    assert_eq!(hf::read(&out).unwrap().config, config);
    assert_eq!(wrote("tokenizer.json"), b"{}");
    assert!(String::from_utf8(wrote("tokenizer_config.json")).unwrap().contains(r#""unk_token": "<unk>""#));
    let error = hf::write(&out, &model.config, &model.tensors, None).unwrap_err();
    assert!(matches!(error, Error::Store(StoreError::Occupied { .. })), "{error}");
}

#[test]
fn llamas_layout_is_read_and_written_byte_for_byte() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/llama_tiny");
    let model = hf::read(&fixture).unwrap();
    let config = model.config.transformer();
    assert_eq!((config.n_layer, config.n_head, config.kv_heads(), config.mlp_width()), (2, 3, 3, 64));
    assert!(config.norm == NormKind::Rms && config.position == PositionKind::Rope && !config.tied);
    assert_eq!(model.tensors["h.1.attn.c_attn.weight"].dims(), [72, 24]);
    assert_eq!(model.tensors["h.0.mlp.c_fc.weight"].dims(), [128, 24]);
    let theirs = read_safetensors(fixture.join("model.safetensors"), Accept::F32).unwrap();
    let keys = model.tensors["h.0.attn.c_attn.weight"].narrow(0, 24, 24).unwrap();
    assert_eq!(values(&keys), values(&theirs["model.layers.0.self_attn.k_proj.weight"]));
    // Converted to our configuration and back.
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("exported");
    let again = HuggingFaceConfig::from_transformer(&config).unwrap();
    hf::write(&out, &again, &model.tensors, None).unwrap();
    let wrote = fs::read(out.join("model.safetensors")).unwrap();
    assert_eq!(wrote, fs::read(fixture.join("model.safetensors")).unwrap(), "byte for byte");
    assert_eq!(hf::read(&out).unwrap().config.transformer(), config);
    let plain = TransformerConfig::default();
    assert!(matches!(HuggingFaceConfig::from_transformer(&plain), Some(HuggingFaceConfig::Gpt2(_))));
    assert!(
        HuggingFaceConfig::from_transformer(&TransformerConfig { qk_norm: true, ..plain.clone() }).is_none()
    );
    assert!(
        HuggingFaceConfig::from_transformer(&TransformerConfig { norm: NormKind::Rms, ..plain }).is_none()
    );
}

#[test]
fn a_llama_that_is_not_computed_here_is_refused_by_field() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/llama_tiny/config.json");
    let json = fs::read(fixture).unwrap();
    for (field, value) in [
        ("hidden_act", serde_json::json!("gelu")),
        ("head_dim", serde_json::json!(16)),
        ("num_key_value_heads", serde_json::json!(2)),
        ("mlp_bias", serde_json::json!(true)),
        ("rope_parameters", serde_json::json!({ "rope_theta": 1e4, "rope_type": "yarn" })),
        ("rope_scaling", serde_json::json!({ "factor": 2.0 })),
        ("num_hidden_layers", serde_json::json!(1_000_000_000)),
        ("hidden_size", serde_json::json!(0)),
        ("rms_norm_eps", serde_json::json!(-1.0)),
        ("rope_parameters", serde_json::json!({ "rope_theta": 1e300 })),
    ] {
        let mut fields: serde_json::Value = serde_json::from_slice(&json).unwrap();
        fields[field] = value.clone();
        let error = HuggingFaceConfig::parse("config.json", fields.to_string().as_bytes()).unwrap_err();
        assert!(matches!(error, Error::Store(StoreError::Malformed { .. })), "{field} = {value}: {error}");
    }
}

#[test]
fn a_model_without_biases_is_written_with_zeros() {
    let folder = tempfile::tempdir().unwrap();
    let mut model = hf::read(fixture()).unwrap();
    model.tensors.retain(|name, _| !name.ends_with("bias"));
    hf::write(folder.path().join("out"), &model.config, &model.tensors, None).unwrap();
    let back = hf::read(folder.path().join("out")).unwrap();
    assert_eq!(back.tensors.len(), 28);
    assert_eq!(values(&back.tensors["h.0.attn.c_attn.bias"]), vec![0.0; 72]);
}

/// Reads the fixture with changed tensors and configuration.
fn changed(
    folder: &Path,
    tensors: impl FnOnce(&mut BTreeMap<String, Tensor>),
    config: impl FnOnce(&mut serde_json::Value),
) -> Result<(), Error> {
    let mut all = read_safetensors(fixture().join("model.safetensors"), Accept::F32).unwrap();
    tensors(&mut all);
    atomic::write(folder.join("model.safetensors"), &to_safetensors(&all).unwrap()).unwrap();
    let mut fields = serde_json::from_slice(&fs::read(fixture().join("config.json")).unwrap()).unwrap();
    config(&mut fields);
    atomic::write(folder.join("config.json"), fields.to_string().as_bytes()).unwrap();
    hf::read(folder).map(|_| ())
}

#[test]
fn tensors_that_are_not_the_configurations_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |change: &dyn Fn(&mut BTreeMap<String, Tensor>), expected: &str| {
        let error = changed(folder.path(), change, |_| ()).unwrap_err();
        assert!(
            matches!(error, Error::Store(StoreError::Malformed { .. }))
                && error.to_string().contains(expected),
            "{error}"
        );
    };
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
    refused(&|all| drop(all.remove("transformer.h.1.ln_2.bias")), "`h.1.ln_2.bias` is missing");
    refused(
        &|all| drop(all.insert("transformer.h.2.ln_1.bias".into(), zeros(&[24]))),
        "`h.2.ln_1.bias` does not belong",
    );
    refused(
        &|all| drop(all.insert("transformer.wpe.weight".into(), zeros(&[15, 24]))),
        "`wpe.weight` has shape [15, 24]",
    );
    refused(&|all| drop(all.insert("wpe.weight".into(), zeros(&[16, 24]))), "with and without the prefix");
    refused(&|all| drop(all.insert("lm_head.weight".into(), zeros(&[40, 24]))), "`lm_head.weight` differs");
}

#[test]
fn half_precision_and_an_old_files_mask_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let older = |all: &mut BTreeMap<String, Tensor>| {
        for tensor in all.values_mut() {
            *tensor = tensor.to_dtype(DType::F16).unwrap();
        }
        all.insert(
            "transformer.h.0.attn.bias".into(),
            Tensor::ones((1, 1, 16, 16), DType::F32, &Device::Cpu).unwrap(),
        );
        all.insert("lm_head.weight".into(), all["transformer.wte.weight"].clone());
    };
    changed(folder.path(), older, |_| ()).unwrap();
}

#[test]
fn configurations_that_are_not_computed_here_are_refused_by_field() {
    let folder = tempfile::tempdir().unwrap();
    let cases = [
        ("model_type", serde_json::json!("mamba")),
        ("model_type", serde_json::json!("llama")),
        ("vocab_size", serde_json::json!(0)),
        ("vocab_size", serde_json::json!(-1)),
        ("vocab_size", serde_json::json!(1_u64 << 63)),
        ("n_layer", serde_json::json!(1_000_000_000)),
        ("n_head", serde_json::json!(5)),
        ("n_embd", serde_json::json!("24")),
        ("n_inner", serde_json::json!(7)),
        ("activation_function", serde_json::json!("relu")),
        ("layer_norm_epsilon", serde_json::json!(1e-6)),
        ("scale_attn_weights", serde_json::json!(false)),
        ("scale_attn_by_inverse_layer_idx", serde_json::json!(true)),
        ("add_cross_attention", serde_json::json!(true)),
        ("attn_pdrop", serde_json::json!(1.5)),
        ("n_positions", serde_json::Value::Null),
    ];
    for (field, value) in cases {
        let error = changed(folder.path(), |_| (), |config| config[field] = value.clone()).unwrap_err();
        assert!(matches!(error, Error::Store(StoreError::Malformed { .. })), "{field} = {value}: {error}");
        assert!(error.to_string().contains("config.json"), "{error}");
    }
    for json in ["", "[]", "{\"model_type\":\"gpt2\"}", &"[".repeat(100_000)] {
        assert!(HuggingFaceConfig::parse("config.json", json.as_bytes()).is_err());
    }
}

#[test]
fn a_folder_that_is_none_says_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let missing = |name: &str| match hf::read(folder.path()).unwrap_err() {
        Error::Store(StoreError::Missing { missing, hint, .. }) => {
            assert!(missing == name && !hint.is_empty(), "{missing}: {hint}");
        }
        other => panic!("{other}"),
    };
    missing("config.json");
    atomic::write(folder.path().join("config.json"), b"{}").unwrap();
    missing("model.safetensors");
    atomic::write(folder.path().join("pytorch_model.bin"), b"").unwrap();
    assert!(hf::read(folder.path()).unwrap_err().hint().unwrap().contains("pickle"));
    assert!(matches!(hf::read(folder.path().join("none")), Err(Error::Store(StoreError::Io { .. }))));
}

/// llama.cpp's layout: linear weights as (out, in), and of Llama's queries and keys the rows of a
/// head's two halves in turn.
#[test]
fn gguf_is_read_back_with_equal_tensors() {
    let folder = tempfile::tempdir().unwrap();
    for (fixture, family) in [("gpt2_tiny", "gpt2"), ("llama_tiny", "llama")] {
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(fixture);
        let model = hf::read(&fixture).unwrap();
        let config = model.config.transformer();
        let more = (0..config.vocab_size as u32 - 3).map(|i| char::from_u32(0x61 + i).unwrap().to_string());
        let words: Vec<String> = ["<unk>", "é", " "].map(str::to_owned).into_iter().chain(more).collect();
        let words = words.iter().map(String::as_str);
        let tokenizer = Tokenizer::from_words(TokenizerKind::Char, TextMode::Stream, words).unwrap();
        let path = folder.path().join("x.gguf");
        let size = gguf::write(&path, &model.config, &model.tensors, &tokenizer).unwrap();
        assert_eq!(size, fs::metadata(&path).unwrap().len());
        let mut file = fs::File::open(&path).unwrap();
        let content = gguf_file::Content::read(&mut file).unwrap();
        let mut read = |name: &str| {
            let tensor = content.tensor(&mut file, name, &Device::Cpu).unwrap();
            tensor.dequantize(&Device::Cpu).unwrap()
        };
        let number = |name: &str| content.metadata[&format!("{family}.{name}")].to_u32().unwrap() as usize;
        assert_eq!(content.metadata["general.architecture"].to_string().unwrap(), family);
        assert_eq!((number("block_count"), number("attention.head_count")), (2, 3));
        assert_eq!((number("embedding_length"), number("context_length")), (24, config.block_size));
        let list = |name: &str| content.metadata[&format!("tokenizer.ggml.{name}")].to_vec().unwrap().clone();
        assert_eq!(list("tokens").len(), config.vocab_size);
        assert_eq!(list("tokens")[1].to_string().unwrap(), "Ã©");
        assert_eq!(list("merges")[0].to_string().unwrap(), "Ã ©");
        assert_eq!(list("token_type")[0].to_i32().unwrap(), 2);
        let ours = |name: &str| model.tensors[name].clone();
        assert_eq!(values(&read("token_embd.weight")), values(&ours("wte.weight")));
        assert_eq!(values(&read("output_norm.weight")), values(&ours("ln_f.weight")));
        assert_eq!(values(&read("blk.1.ffn_down.weight")), values(&ours("h.1.mlp.c_proj.weight")));
        let joined = ours("h.1.attn.c_attn.weight");
        if family == "gpt2" {
            assert_eq!(content.tensor_infos.len(), 28);
            assert_eq!(values(&read("blk.1.attn_qkv.weight")), values(&joined));
            assert_eq!(values(&read("position_embd.weight")), values(&ours("wpe.weight")));
            continue;
        }
        let keys = joined.narrow(0, 24, 24).unwrap();
        let rows: Vec<u32> = (0..24).map(|i| i / 8 * 8 + i % 2 * 4 + i % 8 / 2).collect();
        let rows = Tensor::new(rows, &Device::Cpu).unwrap();
        assert_eq!(values(&read("blk.1.attn_k.weight")), values(&keys.index_select(&rows, 0).unwrap()));
        let up = ours("h.1.mlp.c_fc.weight").narrow(0, 64, 64).unwrap();
        assert_eq!(values(&read("blk.1.ffn_up.weight")), values(&up));
        assert_eq!(values(&read("output.weight")), values(&ours("lm_head.weight")));
    }
}
