//! Every file in configs/ runs, and every parameter of its model is reached by a finite, non-zero
//! gradient.

use crate::common::{Bench, sentences};

#[test]
fn every_config_takes_two_steps_and_reaches_every_parameter() {
    let mut files = crate::common::configs();
    // Comparisons are tested in tests/compare.rs.
    files.retain(|path| !path.file_name().unwrap().to_string_lossy().starts_with("compare_"));
    assert!(files.len() >= 8, "{files:?}");
    let bench = Bench::new();
    // Long enough for the longest block, with short lines for the configs that read lines.
    bench.file("a.txt", sentences(150));
    for path in files {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        let mut arguments = vec!["train", path.to_str().unwrap(), "a.txt", "--out", &name, "--json"];
        let trained = !text.contains("kind = \"ngram\"");
        if trained {
            arguments.extend(["--audit", "--set", "train.steps=2", "--set", "train.batch_size=2"]);
            if text.contains("warmup = 100") {
                arguments.extend(["--set", "optim.warmup=0"]);
            }
            // A run ends after steps or epochs, not both.
            let without: String = text
                .lines()
                .filter(|line| !line.starts_with("epochs ="))
                .map(|line| format!("{line}\n"))
                .collect();
            let copy = bench.file(&format!("{name}.toml"), without);
            let copy = copy.to_str().unwrap().to_owned();
            arguments[1] = &copy;
            let ran = bench.run(&arguments).succeeded();
            let audits: Vec<_> = ran.events().into_iter().filter(|event| event["event"] == "audit").collect();
            assert_eq!(audits.len(), 2, "{name}: one audit a step");
            for (step, audit) in audits.iter().enumerate() {
                let parameters = audit["parameters"].as_array().unwrap();
                assert!(!parameters.is_empty());
                for parameter in parameters {
                    let norm = parameter["gradient_norm"].as_f64().unwrap_or(f64::NAN);
                    // Behind a zero-initialised projection gradients are zero until the first step.
                    let behind = [".c_attn.", ".c_fc.", ".ln_1.", ".ln_2."];
                    let hidden = behind.iter().any(|part| parameter["name"].as_str().unwrap().contains(part));
                    let waits = step == 0 && text.contains("zero_init = true") && hidden;
                    assert!(norm.is_finite() && (norm > 0.0 || waits), "{name}: {parameter}");
                }
            }
            assert_eq!(ran.result()["steps"], 2, "{name}");
        } else {
            let ran = bench.run(&arguments).succeeded();
            assert!(ran.result()["parameters"].as_u64().unwrap() > 0, "{name}");
        }
    }
}
