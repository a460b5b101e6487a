//! Compression gives every file back bit for bit, by any model, at any number of threads; and a
//! damaged file is an error. Adaptive evaluations are causal and say that they are adaptive.

use crate::common::{Bench, sentences};
use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use surprisal_engine::compress::{compress, decompress};
use surprisal_engine::formats::compressed::Compressed;
use surprisal_engine::models::{self, LoadedModel};
use surprisal_engine::platform::threads::Pool;
use surprisal_engine::{Context, Control, Silent};

const NETWORKS: [(&str, &str); 3] = [
    ("mlp", "context = 2\nn_embd = 4\nn_hidden = 8\n"),
    ("gru", "n_embd = 8\nn_hidden = 8\n"),
    ("transformer", "n_layer = 1\nn_head = 1\nn_embd = 8\n"),
];

/// Models of all kinds, of characters, words, bytes and byte pairs.
fn prepared() -> Bench {
    let bench = Bench::new();
    bench.text("a.txt", 150);
    let run = |line: &str| bench.run(&line.split(' ').collect::<Vec<_>>()).succeeded();
    for (kind, sizes) in NETWORKS {
        let train = "[train]\nsteps = 4\nbatch_size = 4\nblock_size = 16\n[eval]\nevery_epochs = 0\n[sample]\ntokens = 0\n";
        bench.file(&format!("{kind}.toml"), format!("[model]\nkind = \"{kind}\"\n{sizes}{train}"));
        run(&format!("train {kind}.toml a.txt --out {kind}"));
    }
    run("count a.txt --order 3 --out words.arpa --out words.ngram");
    run("count a.txt --order 4 --tokenizer char --unit stream --out chars.ngram");
    run("count a.txt --order 3 --tokenizer byte --unit line --out bytes.ngram");
    run("count a.txt --order 3 --smoothing mle --tokenizer char --unit stream --out mle.ngram");
    run("train a.txt --set model.kind=uniform --out uniform");
    run(
        "train a.txt --set model.kind=ngram --set tokenizer.kind=bpe --set tokenizer.vocab_size=300 --out pairs",
    );
    run("train a.txt --set model.kind=ngram --set data.unit=document --out documents");
    run("mix words.ngram words.arpa --weights 1,2 --out mixed");
    bench
}

const MODELS: [&str; 11] = [
    "words.arpa",
    "words.ngram",
    "chars.ngram",
    "bytes.ngram",
    "mle.ngram",
    "uniform",
    "pairs",
    "documents",
    "mlp",
    "gru",
    "transformer",
];

/// Files of all kinds: empty, one byte, text with and without what models know, and other bytes.
fn contents(scale: usize, seed: u64) -> Vec<Vec<u8>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let text = sentences(2 + 10 * scale);
    let mut random = vec![0; 30 * scale];
    rng.fill_bytes(&mut random);
    let mut damaged = text.clone().into_bytes();
    (0..4).for_each(|_| {
        let at = rng.random_range(0..damaged.len());
        damaged[at] = rng.random();
    });
    vec![
        Vec::new(),
        vec![rng.random()],
        b"\n\n".to_vec(),
        text.clone().into_bytes(),
        text.trim_end().replace('\n', "\r\n").into_bytes(),
        text.replace(' ', "  ").replace("the", "\tthé 日本 <unk> </s>").into_bytes(),
        damaged,
        vec![0; 90 * scale],
        random,
    ]
}

/// Compresses and decompresses, at one and two threads with the same bytes.
#[track_caller]
fn round_trip(loaded: Option<&LoadedModel>, content: &[u8], adapts: bool, pools: &[Pool; 2]) -> Vec<u8> {
    let control = Control::new();
    let [(file, sizes), again] = [0, 1]
        .map(|i| compress(loaded, content, adapts, &Context::new(&pools[i], &Silent, &control)).unwrap());
    assert!(file == again.0 && sizes == again.1, "threads change the file");
    for pool in pools {
        let found = decompress(loaded, &file, &Context::new(pool, &Silent, &control)).unwrap();
        assert!(found == content, "{} bytes became {}", content.len(), found.len());
    }
    assert_eq!((sizes.bytes, sizes.compressed), (content.len() as u64, file.len() as u64));
    // Of a model that gives a token probability zero the nats are infinite, and the file is not.
    if sizes.nats.is_finite() {
        let expected = sizes.nats / (8.0 * std::f64::consts::LN_2);
        assert!((sizes.coded as f64 - expected).abs() < 4.0 + 0.001 * expected, "{sizes:?}");
    }
    file
}

fn round_trips(scale: usize, seeds: std::ops::Range<u64>) -> usize {
    let bench = prepared();
    let pools = [1, 2].map(|threads| Pool::new(threads).unwrap());
    let control = Control::new();
    let ctx = Context::new(&pools[0], &Silent, &control);
    let mut trips = 0;
    for seed in seeds {
        for (i, content) in contents(scale, seed).iter().enumerate() {
            round_trip(None, content, true, &pools);
            trips += 1;
            // Every model has every kind of file in turn.
            for (m, model) in MODELS.iter().chain(&["mixed"]).enumerate() {
                if (m + i + seed as usize).is_multiple_of(4) {
                    let loaded = models::load(&bench.path().join(model), &ctx).unwrap();
                    round_trip(Some(&loaded), content, (m + i) % 8 < 4, &pools);
                    trips += 1;
                }
            }
        }
    }
    trips
}

#[test]
fn files_come_back_bit_for_bit() {
    assert!(round_trips(2, 0..1) >= 35);
}

#[test]
#[ignore = "takes minutes: cargo test --release -p surprisal --test it -- --ignored compress"]
fn two_hundred_files_come_back_bit_for_bit() {
    assert!(round_trips(60, 1..6) >= 175);
    let pools = [1, 2].map(|threads| Pool::new(threads).unwrap());
    round_trip(None, &sentences(250_000).into_bytes(), true, &pools);
}

fn flips(count: usize) {
    let bench = prepared();
    let pools = [1, 2].map(|threads| Pool::new(threads).unwrap());
    let control = Control::new();
    let ctx = Context::new(&pools[0], &Silent, &control);
    let content = &contents(2, 7)[5];
    let chars = models::load(&bench.path().join("chars.ngram"), &ctx).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for (loaded, adapts) in [(None, true), (Some(&chars), false), (Some(&chars), true)] {
        let file = round_trip(loaded, content, adapts, &pools);
        for _ in 0..count / 3 {
            let mut flipped = file.clone();
            let bit = rng.random_range(0..8 * file.len());
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decompress(loaded, &flipped, &ctx).is_err(), "bit {bit} makes no difference");
            // Past the checksum of the file: another content is noticed by its hash.
            let mut parts = Compressed::from_bytes(&file).unwrap();
            let bit = rng.random_range(0..8 * parts.coded.len());
            parts.coded[bit / 8] ^= 1 << (bit % 8);
            if let Ok(found) = decompress(loaded, &parts.to_bytes(), &ctx) {
                assert!(found == *content, "another content passes");
            }
        }
        for end in (0..file.len()).step_by(7) {
            assert!(decompress(loaded, &file[..end], &ctx).is_err(), "{end} bytes are enough");
        }
    }
}

#[test]
fn a_flipped_bit_is_an_error() {
    flips(300);
}

#[test]
#[ignore = "takes minutes: cargo test --release -p surprisal --test it -- --ignored compress"]
fn every_one_of_five_thousand_flipped_bits_is_an_error() {
    flips(5001);
}

#[test]
fn hostile_files_are_refused() {
    let bench = prepared();
    let pools = [1, 2].map(|threads| Pool::new(threads).unwrap());
    let file = round_trip(None, sentences(20).as_bytes(), true, &pools);
    let parts = Compressed::from_bytes(&file).unwrap();
    let refused = |parts: &Compressed, says: &str| {
        bench.file("hostile.sz", parts.to_bytes());
        bench.run(&["decompress", "hostile.sz", "--out", "o.txt"]).refused(1, &["hostile.sz", says]);
        assert!(!bench.path().join("o.txt").exists());
    };
    refused(&Compressed { tokens: u64::MAX >> 2, ..parts.clone() }, "more tokens");
    refused(&Compressed { tokens: parts.tokens + 500, ..parts.clone() }, "damaged");
    refused(&Compressed { tokens: parts.tokens - 5, ..parts.clone() }, "damaged");
    refused(&Compressed { bytes: 3, ..parts.clone() }, "not of its text");
    refused(&Compressed { hash: [0; 16], ..parts.clone() }, "checksum");
    refused(&Compressed { patch: vec![77; 40], patch_bytes: 60, ..parts.clone() }, "damaged");
    bench.run(&["decompress", "a.txt", "--out", "o.txt"]).refused(1, &["does not begin"]);
    bench.run(&["eval", "chars.ngram", "hostile.sz"]).refused(1, &["has compressed"]);
}

#[test]
fn a_file_asks_for_its_own_model_and_instruction_set() {
    let bench = prepared();
    bench.run(&["compress", "mlp", "a.txt", "--out", "a.sz"]).succeeded();
    bench.run(&["decompress", "a.sz", "--out", "o.txt"]).refused(2, &["by a model", "before the file"]);
    bench.run(&["decompress", "gru", "a.sz", "--out", "o.txt"]).refused(2, &["whose hash is", "same model"]);
    bench.run(&["compress", "a.txt", "--out", "b.sz"]).succeeded();
    bench.run(&["decompress", "mlp", "b.sz", "--out", "o.txt"]).refused(2, &["without a model"]);
    let of = |isa: &str, arguments: &[&str]| {
        let output = bench.command(arguments).env("SURPRISAL_ISA", isa).output().unwrap();
        crate::common::Ran::of(output, arguments)
    };
    of("portable", &["compress", "mlp", "a.txt", "--out", "portable.sz"]).succeeded();
    of("portable", &["decompress", "mlp", "portable.sz", "--out", "again.txt"]).succeeded();
    assert!(std::fs::read(bench.path().join("again.txt")).unwrap() == sentences(150).as_bytes());
    if surprisal_kernels::simd::Isa::available().len() > 1 {
        let ran = bench.run(&["decompress", "mlp", "portable.sz", "--out", "o.txt"]);
        ran.refused(2, &["instruction set portable", "SURPRISAL_ISA=portable"]);
    }
    // A compressed file is replaced by another, and a text is not.
    bench.run(&["compress", "a.txt", "--out", "a.sz"]).succeeded();
    bench.run(&["compress", "mlp", "a.sz", "--out", "a.txt"]).refused(2, &["already there"]);
}

#[test]
fn an_adaptive_evaluation_says_so_and_learns_from_what_it_reads() {
    let bench = prepared();
    let nats = |arguments: &[&str]| {
        let ran = bench.run(&[&["eval"][..], arguments, &["--json"]].concat()).succeeded();
        let result = ran.result();
        (result["eval"]["nats_per_token"].as_f64().unwrap(), result["adaptive"].clone())
    };
    let later = sentences(400).lines().skip(150).map(|line| format!("{line}\n")).collect::<String>();
    bench.file("b.txt", later);
    for model in ["mlp", "transformer", "words.ngram", "mixed", "uniform"] {
        let (frozen, none) = nats(&[model, "b.txt"]);
        let (alone, adaptive) = nats(&[model, "b.txt", "--adapt"]);
        let (after, before) = nats(&[model, "b.txt", "--adapt", "--adapt-on", "a.txt"]);
        assert!(none.is_null() && adaptive["read_before"].as_array().unwrap().is_empty());
        assert_eq!(before["read_before"].as_array().unwrap().len(), 1);
        assert!(after < alone, "{model}: {alone} {after}");
        // An n-gram model has little to learn from another text of its source.
        assert!(alone < frozen + 0.1, "{model}: {frozen} {alone}");
        if model == "mlp" || model == "uniform" {
            assert!(alone < 0.7 * frozen, "{model}: {frozen} {alone}");
        }
        let (threads, _) = nats(&[model, "b.txt", "--adapt", "--threads", "1"]);
        assert_eq!(threads, alone);
    }
    let table = bench.run(&["eval", "mlp", "--adapt", "--adapt-on-train"]).succeeded().stdout;
    let first = table.lines().next().unwrap();
    assert!(first.starts_with("adaptive ") && first.contains("tokens of training part of a.txt"), "{table}");
}
