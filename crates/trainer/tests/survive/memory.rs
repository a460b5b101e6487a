//! Memory does not grow: the slope is below a kibibyte per step over 20,000 steps with evaluations
//! and checkpoints.

use std::time::Duration;

use crate::runs::{KINDS, borrowed};

/// The resident memory of a process in bytes, and the least-squares slope of bytes over steps.
#[cfg(target_os = "linux")]
fn slope(samples: &[(f64, f64)]) -> f64 {
    let n = samples.len() as f64;
    let mean = |f: fn(&(f64, f64)) -> f64| samples.iter().map(f).sum::<f64>() / n;
    let (x, y) = (mean(|s| s.0), mean(|s| s.1));
    let covariance: f64 = samples.iter().map(|s| (s.0 - x) * (s.1 - y)).sum();
    covariance / samples.iter().map(|s| (s.0 - x).powi(2)).sum::<f64>()
}

#[cfg(target_os = "linux")]
#[test]
fn memory_does_not_grow_with_the_steps() {
    // The transformer allocates most: graphs, dropout and evaluation.
    let kind = &KINDS[2];
    let bench = kind.bench();
    let more = [
        "train.steps=20000",
        "optim.skip_spikes=0",
        "eval.every_steps=500",
        "checkpoint.every_steps=1000",
        "data.val_fraction=0.02",
    ];
    let mut child = bench.command(&borrowed(&kind.train("run", &more))).spawn().unwrap();
    let metrics = bench.path().join("run/metrics.jsonl");
    let status = format!("/proc/{}/status", child.id());
    let mut samples: Vec<(f64, f64)> = Vec::new();
    while child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(20));
        let text = std::fs::read_to_string(&metrics).unwrap_or_default();
        let step = text.lines().rev().find_map(|line| {
            let event: serde_json::Value = serde_json::from_str(line).ok()?;
            (event["event"] == "epoch").then(|| event["step"].as_f64())?
        });
        let resident = std::fs::read_to_string(&status).ok().and_then(|text| {
            let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:").map(str::to_owned))?;
            line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok()
        });
        if let (Some(step), Some(kibibytes)) = (step, resident)
            && samples.last().is_none_or(|last| last.0 < step)
        {
            samples.push((step, kibibytes * 1024.0));
        }
    }
    assert!(child.wait().unwrap().success());
    // The first tenth is warm-up, in which buffers reach their size.
    samples.retain(|sample| sample.0 >= 2000.0);
    assert!(samples.len() > 25, "only {} samples", samples.len());
    let slope = slope(&samples);
    eprintln!(
        "{slope:.1} bytes a step over {} samples, from {:.1} MiB to {:.1} MiB",
        samples.len(),
        samples[0].1 / 1048576.0,
        samples.last().unwrap().1 / 1048576.0
    );
    assert!(slope < 1024.0, "{slope} bytes a step");
}
