//! The numbers of the screens are those of the engine.

use crate::common::{Page, sentences};
use serde_json::Value;
use surprisal_engine::compare::diagnostics;
use surprisal_engine::data::Dataset;
use surprisal_engine::model::LanguageModel;
use surprisal_engine::model::ngram::{NgramConfig, NgramModel, Smoothing};
use surprisal_engine::platform::threads::Pool;
use surprisal_engine::text::InputOptions;
use surprisal_engine::{Context, Control, Silent, config, models};
use surprisal_playground::Limits;

fn page() -> Page {
    Page::open(Some(&sentences(600)), Limits::default())
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// The tokens of the page's text, as `surprisal train` reads it.
fn data(page: &Page, pool: &Pool) -> Dataset {
    let path = page.folder.path().join("book.txt");
    let mut loaded = config::parse("a test", "[tokenizer]\nkind = \"char\"\n", &[]).unwrap();
    loaded.config.data.train = vec![path];
    config::check(&mut loaded).unwrap();
    Dataset::load(&loaded.config, false, None, &Context::new(pool, &Silent, &Control::new())).unwrap()
}

#[test]
fn the_grid_is_the_counted_model() {
    let (page, pool) = (page(), Pool::new(1).unwrap());
    let data = data(&page, &pool);
    for (smoothing, name) in [
        (Smoothing::Mle, "mle"),
        (Smoothing::AddK, "add_k"),
        (Smoothing::Dirichlet, "dirichlet"),
        (Smoothing::KneserNey, "kneser_ney"),
    ] {
        let settings = NgramConfig { k: 0.5, alpha: vec![3.0], ..NgramConfig::new(2, smoothing) };
        let model = NgramModel::estimate(&data.train.ids, data.tokenizer.vocab_size(), &settings).unwrap();
        let grid = page.numbers(&format!("grid?smoothing={name}&k=0.5&alpha=3"));
        let expected = serde_json::to_value(data.evaluate(&model, &pool).unwrap()).unwrap();
        assert_eq!(grid["eval"], expected, "{name}");
        let names: Vec<&str> =
            grid["names"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
        let id =
            |letter: &str| data.tokenizer.encode(&letter.replace('␣', " ").replace('⏎', "\n")).unwrap()[0];
        for (i, v) in names.iter().enumerate() {
            let row = model.next_log_probs(&[id(v)]).unwrap();
            for (j, w) in names.iter().enumerate() {
                assert_eq!(number(&grid["q"][i][j]), row[id(w) as usize].exp(), "{name}: {w} after {v}");
                let count = data.train.ids.windows(2).filter(|pair| **pair == [id(v), id(w)]).count();
                assert_eq!(number(&grid["counts"][i][j]), count as f64);
            }
        }
    }
    let drawn = page.numbers("grid/sample?smoothing=mle&seed=4&tokens=50");
    assert_eq!(drawn, page.numbers("grid/sample?smoothing=mle&seed=4&tokens=50"));
    assert!(drawn["text"].as_str().unwrap().chars().count() >= 50);
}

#[test]
fn an_impossible_pair_makes_the_loss_infinite() {
    let text = sentences(600) + &"zq\n".repeat(40);
    let page = Page::open(Some(&text), Limits::default());
    let grid = page.numbers("grid?smoothing=mle");
    assert!(grid["eval"]["nats_per_token"].is_null() && number(&grid["eval"]["zero_probability"]) > 0.0);
    let smoothed = page.numbers("grid?smoothing=add_k&k=0.1");
    assert!(number(&smoothed["eval"]["nats_per_token"]) > 0.0);
}

#[test]
fn descent_comes_to_the_counts_live() {
    let page = page();
    let events = page.events("descent/live?lr=15", 12);
    let kl: Vec<f64> = events.iter().map(|event| number(&event["kl"])).collect();
    assert!(kl.windows(2).all(|pair| pair[1] < pair[0]), "{kl:?}");
    assert_eq!(number(&events[0]["step"]), 0.0);
    // The state after as many steps is the same.
    let last = &events[11];
    let state = page.numbers(&format!("descent?lr=15&steps={}", last["step"]));
    assert_eq!((&state["q"], &state["kl"]), (&last["q"], &last["kl"]));
    let end = page.numbers("descent?lr=15&steps=4000");
    assert!(number(&end["kl"]) < 0.02, "{}", end["kl"]);
    let grid = page.numbers("grid?smoothing=mle");
    for (i, row) in end["counted"].as_array().unwrap().iter().enumerate() {
        let rows = (number(&grid["totals"][i]), number(&end["totals"][i]));
        assert_eq!(rows.0, rows.1);
        let sum: f64 = row.as_array().unwrap().iter().map(number).sum();
        assert!((sum - 1.0).abs() < 1e-9);
    }
}

#[test]
fn a_run_of_the_page_is_a_run() {
    let page = page();
    let wanted = r#"{"architecture":"bigram","passes":4,"epsilon":0.1,"seed":7}"#;
    let name = page.post("runs", wanted).json()["name"].as_str().unwrap().to_owned();
    assert_eq!(name, "given-bigram");
    let news = page.events(&format!("runs/live?names={name}"), 2);
    assert!(news[0]["figure"].as_str().unwrap().contains("<svg"));
    let run = page.wait(&name, |run| run["known"]["phase"] == "finished");
    let points = run["known"]["points"].as_array().unwrap();
    assert!(points.len() > 3 && number(&points[0]["step"]) == 1.0);
    assert!(run["known"]["samples"].as_array().unwrap().len() > 1, "one after every evaluation");
    let eval = &run["known"]["result"]["eval"];
    // Every screen can open it.
    let id = format!("run:{name}");
    let models = page.numbers("models");
    assert!(models.as_array().unwrap().iter().any(|model| model["id"] == *id), "{models}");
    assert_eq!(page.get(&format!("api/step?model={id}&written=the+cat")).status, 200);
    let surprise = page.numbers(&format!("surprise?models={id},bigram,5gram&written=the+cat"));
    assert_eq!(surprise["models"].as_array().unwrap().len(), 3);
    let path = page.folder.path().join("runs").join(&name);
    let pool = Pool::new(1).unwrap();
    let control = Control::new();
    let ctx = Context::new(&pool, &Silent, &control);
    let loaded = models::load(&path, &ctx).unwrap();
    let (text, source) = loaded.evaluation_text(&[], &loaded.inputs(InputOptions::default()), &ctx).unwrap();
    let again = serde_json::to_value(loaded.evaluate(&text.tokens, source, &pool).unwrap()).unwrap();
    assert_eq!(again["nats_per_token"], eval["nats_per_token"]);
    let resolved = std::fs::read_to_string(path.join("config.toml")).unwrap();
    assert!(resolved.contains("label_smoothing = 0.1") && resolved.contains("seed = 7"), "{resolved}");
}

#[test]
fn the_parts_of_a_loss_are_told_at_every_evaluation() {
    let (page, pool, control) = (page(), Pool::new(2).unwrap(), Control::new());
    let wanted = r#"{"architecture":"bigram","text":"babble","passes":0.05}"#;
    let name = page.post("runs", wanted).json()["name"].as_str().unwrap().to_owned();
    page.wait(&name, |run| run["known"]["phase"] == "finished");
    let over = page.numbers(&format!("parts/training?name={name}"));
    let last = over["evaluations"].as_array().unwrap().last().unwrap();
    let path = page.folder.path().join("runs").join(&name);
    let loaded = models::load(&path, &Context::new(&pool, &Silent, &control)).unwrap();
    let mut babble =
        config::parse("a test", "[data]\nembedded = \"babble\"\n[tokenizer]\nkind = \"char\"\n", &[])
            .unwrap();
    config::check(&mut babble).unwrap();
    let data = Dataset::load(&babble.config, false, None, &Context::new(&pool, &Silent, &control)).unwrap();
    let expected = diagnostics::miscalibration(&*loaded.model, &data, 1 << 13, &pool).unwrap().unwrap();
    assert_eq!(number(&last["miscalibration"]), expected);
    // One temperature for the whole text differs by what 8,192 letters do not tell.
    let parts = page.numbers(&format!("parts?models=run:{name}&text=babble"))["models"][0]["parts"].clone();
    assert!((number(&parts["miscalibration"]) - expected).abs() < 0.01, "{parts} {expected}");
    assert!(number(&over["approximation"]) < number(&last["kl"]));
}

#[test]
fn what_cannot_be_read_is_said() {
    let page = page();
    for path in ["step?written=", "surprise?written=", "surprise/next?written=", "surprise/sample?written="] {
        let got = page.get(&format!("api/{path}"));
        assert!(got.status == 400 && got.body.contains("empty"), "{path}: {}", got.body);
    }
    let long = "a".repeat(4001);
    assert!(page.get(&format!("api/surprise?written={long}")).body.contains("more than 4000"));
}

#[test]
fn runs_wait_pause_go_on_and_stop_with_a_usable_model() {
    let page = page();
    let wanted = r#"{"architecture":"mlp","size":"small","passes":1000}"#;
    let names: Vec<String> =
        (0..4).map(|_| page.post("runs", wanted).json()["name"].as_str().unwrap().to_owned()).collect();
    assert_eq!(names[1], "given-mlp-2");
    page.wait(&names[1], |run| run["known"]["phase"] == "running");
    let last = page.numbers(&format!("runs?name={}", names[3]));
    assert!(last["known"]["phase"] == "queued" && last["waits"] == 2, "{last}");
    let control =
        |name: &str, what: &str| page.post(&format!("runs/control?name={name}&do={what}"), "").status;
    assert_eq!(control(&names[3], "pause"), 400, "it does not run yet");
    assert_eq!(control(&names[3], "stop"), 200);
    assert_eq!(control(&names[0], "pause"), 200);
    let step = |name: &str| number(&page.numbers(&format!("runs?name={name}"))["known"]["progress"]);
    std::thread::sleep(std::time::Duration::from_millis(300));
    let paused = step(&names[0]);
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(step(&names[0]), paused);
    assert_eq!(control(&names[0], "resume"), 200);
    page.wait(&names[0], |run| number(&run["known"]["progress"]) > paused);
    page.wait(&names[0], |run| !run["known"]["evaluations"].as_array().unwrap().is_empty());
    assert_eq!(control(&names[0], "stop"), 200);
    page.wait(&names[0], |run| run["known"]["phase"] == "stopped");
    assert_eq!(page.get(&format!("api/step?model=run:{}&written=the+cat", names[0])).status, 200);
    // The place of the stopped run is the next one's.
    page.wait(&names[2], |run| run["known"]["phase"] == "running");
    page.wait(&names[2], |run| !run["known"]["points"].as_array().unwrap().is_empty());
    // Closing the page stops those at work, with models that open.
    let second = names[1].clone();
    page.wait(&second, |run| !run["known"]["points"].as_array().unwrap().is_empty());
    let path = page.folder.path().join("runs").join(&second);
    let pool = Pool::new(1).unwrap();
    let control = Control::new();
    let folder = page.close();
    assert!(folder.path().is_dir());
    let opened = models::load(&path, &Context::new(&pool, &Silent, &control)).map(|loaded| loaded.kind);
    assert_eq!(opened.unwrap(), "mlp");
}

#[test]
fn one_step_is_what_explain_shows() {
    let (page, pool) = (page(), Pool::new(1).unwrap());
    let data = data(&page, &pool);
    let settings = NgramConfig { k: 0.01, ..NgramConfig::new(5, Smoothing::AddK) };
    let model = NgramModel::estimate(&data.train.ids, data.tokenizer.vocab_size(), &settings).unwrap();
    let ids = data.tokenizer.encode("the cat").unwrap();
    let step = page.numbers("step?model=5gram&written=the+cat&top=5&at=6");
    assert_eq!(number(&step["all"]["nats"]), {
        let row = model.next_log_probs(&ids[..6]).unwrap();
        surprisal_engine::loss::information::log_sum_exp(&row) - row[ids[6] as usize]
    });
    assert_eq!(step["names"][step["target"].as_u64().unwrap() as usize], "t");
    let body = serde_json::json!({ "z": step["z"], "target": step["target"], "epsilon": 0.0 });
    let dragged = page.post("step/dragged", &body.to_string()).json();
    assert_eq!(dragged, step["computed"]);
    let surprise = page.numbers("surprise?models=5gram&written=the+cat");
    let nats: Vec<f64> = surprise["models"][0]["tokens"]
        .as_array()
        .unwrap()
        .iter()
        .map(|token| number(&token["nats"]))
        .collect();
    let expected: Vec<f64> = model.log_probs(&ids, 0).unwrap().iter().map(|l| -l).collect();
    assert_eq!(nats, expected);
    let next = page.numbers("surprise/next?model=5gram&written=the+cat&at=4&temperature=0.5&top_p=0.9");
    let (q, drawn): (Vec<f64>, Vec<f64>) =
        next["next"].as_array().unwrap().iter().map(|one| (number(&one["q"]), number(&one["drawn"]))).unzip();
    assert!(q.windows(2).all(|pair| pair[0] >= pair[1]));
    assert!((drawn.iter().sum::<f64>() - 1.0).abs() < 1e-9 && drawn[0] > q[0]);
}

#[test]
fn texts_of_any_script_are_read() {
    let page = page();
    for (name, line) in [
        ("kyrillisch", "Кошка видит собаку у реки.\n"),
        ("arabic", "القطة ترى الكلب عند النهر\n"),
        ("chinese", "猫看见河边的狗。\n"),
        ("emoji", "🐈 👀 🐕 — naïve café\n"),
    ] {
        let sent = page.post(&format!("texts?name={name}"), &line.repeat(120)).json();
        let id = sent["id"].as_str().unwrap();
        assert!(page.numbers(&format!("grid?text={id}"))["names"].as_array().unwrap().len() > 4, "{name}");
        let wanted = format!(r#"{{"architecture":"bigram","text":"{id}","passes":1}}"#);
        let run = page.post("runs", &wanted).json()["name"].as_str().unwrap().to_owned();
        let encoded: String = run.bytes().map(|byte| format!("%{byte:02x}")).collect();
        page.wait(&encoded, |run| run["known"]["phase"] == "finished");
    }
}

#[test]
fn the_stories_are_there_at_once_and_a_network_begins() {
    let page = Page::open(None, Limits::default());
    let started = std::time::Instant::now();
    assert_eq!(page.numbers("texts")[0]["id"], "stories");
    assert!(number(&page.numbers("loss?model=5gram")["kl"]) > 0.1);
    eprintln!("the first loss of an n-gram model: {:.2} s", started.elapsed().as_secs_f64());
    let name = page.numbers("runs")[0]["name"].as_str().unwrap().to_owned();
    assert_eq!(name, "stories-transformer");
    page.wait(&name, |run| run["known"]["points"].as_array().unwrap().len() > 1);
    eprintln!("the first moving point of a curve: {:.2} s", started.elapsed().as_secs_f64());
}
