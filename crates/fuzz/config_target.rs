//! The fuzz target of configs, separate from targets.rs because only the trainer can test it.

use surprisal_engine::config;

/// An accepted config is saved and accepted again unchanged.
pub(crate) fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // The first line of the input is an override.
    let (set, text) = text.split_once('\n').unwrap_or(("", text));
    let sets: Vec<_> = set.contains('=').then(|| set.into()).into_iter().collect();
    let Ok(mut loaded) = config::parse("config.toml", text, &sets) else { return };
    if config::check(&mut loaded).is_err() {
        return;
    }
    let saved = toml::to_string(&loaded.config).expect("what was read can be written");
    let mut again = config::parse("config.toml", &saved, &[]).expect("what was written can be read");
    config::check(&mut again).expect("what was checked passes again");
    assert_eq!(again.config, loaded.config);
}
