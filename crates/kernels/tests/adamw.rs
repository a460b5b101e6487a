//! AdamW against PyTorch (`fixtures/adamw.json`) in `f64`: a hundred steps of softmax regression
//! with two decay groups, clipping by the global norm, warm-up and cosine decay.
#![expect(clippy::unwrap_used, reason = "an unreadable fixture fails the test")]

use serde_json::Value;
use surprisal_kernels::optim::AdamW;

const BASE: AdamW = AdamW {
    lr: 0.0,
    beta1: 0.9,
    beta2: 0.99,
    eps: 1e-8,
    weight_decay: 0.0,
    l2: 0.0,
    grad_scale: 1.0,
    step: 1,
};

fn flat(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(items) => items.iter().flat_map(flat).collect(),
        number => vec![number.as_f64().unwrap()],
    }
}

/// Mean cross-entropy of `softmax(x w + b)` in nats, and its gradients.
fn loss(x: &[f64], y: &[f64], w: &[f64], b: &[f64]) -> (f64, Vec<f64>, Vec<f64>) {
    let (rows, classes) = (y.len(), b.len());
    let features = x.len() / rows;
    let (mut total, mut dw, mut db) = (0.0, vec![0.0; w.len()], vec![0.0; classes]);
    for (row, &target) in x.chunks(features).zip(y) {
        let logits: Vec<f64> = (0..classes)
            .map(|c| b[c] + (0..features).map(|f| row[f] * w[f * classes + c]).sum::<f64>())
            .collect();
        let lse = logits.iter().map(|z| z.exp()).sum::<f64>().ln();
        total += lse - logits[target as usize];
        for c in 0..classes {
            let d = ((logits[c] - lse).exp() - f64::from(c == target as usize)) / rows as f64;
            db[c] += d;
            for f in 0..features {
                dw[f * classes + c] += row[f] * d;
            }
        }
    }
    (total / rows as f64, dw, db)
}

fn learning_rate(step: u64) -> f64 {
    if step < 10 {
        return 1e-2 * (step + 1) as f64 / 11.0;
    }
    let done = (step - 10) as f64 / 90.0;
    1e-3 + 0.5 * (1.0 + (std::f64::consts::PI * done).cos()) * (1e-2 - 1e-3)
}

fn assert_near(got: &[f64], want: &[f64], what: &str) {
    assert_eq!(got.len(), want.len());
    for (g, w) in got.iter().zip(want) {
        assert!((g - w).abs() < 1e-9, "{what}: {g} for {w}");
    }
}

#[test]
fn a_hundred_steps_agree_with_pytorch() {
    let reference: Value = serde_json::from_str(include_str!("fixtures/adamw.json")).unwrap();
    let (x, y) = (flat(&reference["x"]), flat(&reference["y"]));
    let (mut w, mut b) = (flat(&reference["w0"]), flat(&reference["b0"]));
    let mut moments = [vec![0.0; w.len()], vec![0.0; w.len()], vec![0.0; b.len()], vec![0.0; b.len()]];
    let known = reference["steps"].as_array().unwrap();
    for step in 0..100 {
        let (nats, dw, db) = loss(&x, &y, &w, &b);
        let norm = dw.iter().chain(&db).map(|g| g * g).sum::<f64>().sqrt();
        let grad_scale = (0.5 / (norm + 1e-6)).min(1.0);
        let group = AdamW { lr: learning_rate(step), grad_scale, step: step + 1, ..BASE };
        let [mw, vw, mb, vb] = &mut moments;
        AdamW { weight_decay: 0.1, ..group }.update_real(&mut w, &dw, mw, vw);
        group.update_real(&mut b, &db, mb, vb);
        if let Some(want) = known.iter().find(|known| known["step"] == step) {
            let scalars = [&want["lr"], &want["loss"], &want["grad_norm"]].map(|v| v.as_f64().unwrap());
            assert_near(&[group.lr, nats, norm], &scalars, "scalars");
            assert_near(&w, &flat(&want["w"]), "w");
            assert_near(&b, &flat(&want["b"]), "b");
        }
    }
    assert_eq!(known.len(), 8);
}
