//! Error messages for a wrong command line: clap's, with hints about configs, texts and numbers.

use std::path::Path;

use clap::CommandFactory;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::cli::Cli;
use crate::examples;
use crate::habits;
use crate::wording::one_line;
use surprisal_engine::config;

/// The definition of the command line.
pub fn command() -> clap::Command {
    // Negative numbers are values, which are checked later, not unknown flags.
    Cli::command().mut_subcommands(|command| {
        let examples = examples::of(command.get_name());
        command.after_help(examples).mut_args(|argument| {
            let is_value = argument.get_action().takes_values() && !argument.is_positional();
            if is_value { argument.allow_negative_numbers(true) } else { argument }
        })
    })
}

/// The error message about the `typed` arguments, with a hint what to type instead if known.
pub fn explain(mut error: clap::Error, typed: &[String]) -> String {
    let refused = context(&error, ContextKind::InvalidArg);
    let (flags_of_others, mut tips): (Vec<String>, Vec<String>) =
        habits::answers(&command(), typed).into_iter().unzip();
    if let Some(flag) = flags_of_others.first() {
        // clap reads `-order` as `-o rder`.
        if error.kind() != ErrorKind::UnknownArgument {
            error = clap::Error::new(ErrorKind::UnknownArgument).with_cmd(&command());
        }
        if !typed.contains(&refused) {
            error.insert(ContextKind::InvalidArg, ContextValue::String(flag.clone()));
        }
    }
    let text = |kind| context(&error, kind);
    let hint = match error.kind() {
        ErrorKind::UnknownArgument => {
            let (flag, usage) = (text(ContextKind::InvalidArg), text(ContextKind::Usage));
            // "Usage: surprisal VERB …"
            let verb = usage.split_whitespace().nth(2).unwrap_or_default();
            // An empty hint replaces clap's suggestion to pass it as a value, unless a similar flag
            // exists.
            if let Some(name) = flag.strip_prefix("--") {
                let key = config::named(name).filter(|_| matches!(verb, "train" | "compare"));
                let message = |(of, key)| format!("settings are given as --set {of}.{key}=VALUE");
                Some(key.map_or(String::new(), message))
            } else if let Some(letter) = flag.strip_prefix('-') {
                let long = if letter.chars().count() == 1 { flags(verb, letter) } else { String::new() };
                Some(if long.is_empty() { long } else { format!("flags with this letter: {long}") })
            } else {
                (verb == "sample").then(|| "give the beginning of the text as --prompt TEXT".to_owned())
            }
        }
        ErrorKind::InvalidSubcommand => {
            let name = text(ContextKind::InvalidSubcommand);
            let exists = Path::new(&name).exists();
            exists.then(|| format!("to train on it: surprisal train {}", one_line(&name)))
        }
        _ => None,
    };
    if hint.is_some() || !tips.is_empty() {
        error.remove(ContextKind::Suggested);
        tips.extend(hint.filter(|hint| !hint.is_empty()));
        if !tips.is_empty() {
            error.remove(ContextKind::SuggestedArg);
            error.remove(ContextKind::SuggestedSubcommand);
            let tips = tips.into_iter().map(Into::into).collect();
            error.insert(ContextKind::Suggested, ContextValue::StyledStrs(tips));
        }
    }
    // Quoted input stays on one line.
    let typed = error.context().filter_map(|(kind, value)| match value {
        ContextValue::String(text) => Some((kind, one_line(text))),
        _ => None,
    });
    for (kind, text) in typed.collect::<Vec<_>>() {
        error.insert(kind, ContextValue::String(text));
    }
    let mut message = error.render().to_string();
    for (theirs, ours) in [
        ("invalid digit found in string", "a whole number is expected"),
        ("cannot parse integer from empty string", "a whole number is expected"),
        ("number too large to fit in target type", "this number is too large"),
        ("invalid float literal", "a number is expected"),
        ("cannot parse float from empty string", "a number is expected"),
    ] {
        message = message.replace(theirs, ours);
    }
    message
}

/// The text of one part of an error.
fn context(error: &clap::Error, kind: ContextKind) -> String {
    match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::StyledStr(text)) => text.to_string(),
        _ => String::new(),
    }
}

/// The flags of a command that start with `letter`.
fn flags(verb: &str, letter: &str) -> String {
    let command = command();
    let found = command.find_subcommand(verb).into_iter().flat_map(clap::Command::get_arguments);
    let found = found.filter_map(clap::Arg::get_long).filter(|name| name.starts_with(letter));
    found.map(|name| format!("--{name}")).collect::<Vec<_>>().join(", ")
}
