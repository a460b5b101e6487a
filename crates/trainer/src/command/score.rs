//! `surprisal score`: a row for each line, word or token.

use std::borrow::Cow;
use std::io::Write;

use serde_json::json;
use surprisal_engine::score::{By, Options, Reach, Row, score};
use surprisal_engine::{Context, models};

use crate::cli::{self, ScoreBy, ScoreContext};
use crate::command::count::input_options;
use crate::error::{Result, name_flags};
use crate::output::Output;
use crate::wording::{in_json, many, number, one_line, percent, thousands};

pub(crate) fn run(arguments: &cli::ScoreArgs, ctx: &Context<'_>, output: &Output) -> Result<()> {
    let mut loaded = ctx.pool.install(|| models::load(&arguments.model, ctx))?;
    if let Some(stride) = arguments.stride {
        let flags = [("a stride", "--stride"), ("the stride", "--stride")];
        loaded.set_stride(stride).map_err(|error| name_flags(error, &flags))?;
    }
    let options = Options {
        by: match arguments.by {
            ScoreBy::Line => By::Line,
            ScoreBy::Word => By::Word,
            ScoreBy::Token => By::Token,
        },
        reach: arguments.context.map(|context| match context {
            ScoreContext::Line => Reach::Line,
            ScoreContext::Text => Reach::Text,
        }),
        bos: !arguments.no_bos,
        eos: !arguments.no_eos,
    };
    let inputs = loaded.inputs(input_options(&arguments.reading)?);
    let by = options.by;
    if !output.json() {
        output.write_styled(heading(by))?;
    }
    let sums = if output.json() {
        let format = |row: &Row<'_>, out: &mut Vec<u8>| json_line(by, row, out);
        let mut write = |rows: &[u8]| output.write_rows(rows);
        score(&loaded, &arguments.texts, &inputs, options, ctx, &format, &mut write)?
    } else {
        let format = |row: &Row<'_>, out: &mut Vec<u8>| tab_line(by, row, out);
        let mut write = |rows: &[u8]| output.write_rows(rows);
        score(&loaded, &arguments.texts, &inputs, options, ctx, &format, &mut write)?
    };
    let nats = 0.0 - sums.log_prob;
    output.info(format!(
        "{}, {}{}: {} nats, {} a token",
        many(sums.lines, "line"),
        many(sums.tokens, "token"),
        if sums.unknown > 0 {
            format!(" ({} unknown, {})", thousands(sums.unknown), percent(sums.unknown, sums.tokens))
        } else {
            String::new()
        },
        number(nats, 2),
        number(nats / sums.tokens as f64, 4)
    ));
    if !loaded.model.is_distribution() {
        output.warn(
            "note: the scores of this model do not sum to one: they rank texts, and are no probabilities",
        );
    }
    output.event(&json!({
        "event": "result", "model": arguments.model.display().to_string(), "lines": sums.lines,
        "tokens": sums.tokens, "unknown": sums.unknown, "nats": nats,
    }))
}

/// The names of the columns.
fn heading(by: By) -> &'static str {
    match by {
        By::Line => "text\tline\ttokens\tunknown\tnats\tlog10\n",
        By::Word => "text\tline\tposition\tword\ttokens\tmatched\tunknown\tnats\tlog10\n",
        By::Token => "text\tline\tposition\ttoken\tmatched\tunknown\tnats\tlog10\n",
    }
}

/// Surprisal in nats and log10 q: of ln q = 0, both are 0 without a sign.
fn figures(log_prob: f64) -> [f64; 2] {
    [0.0 - log_prob, 0.0 + log_prob / std::f64::consts::LN_10]
}

fn tab_line<'a>(by: By, row: &Row<'a>, out: &mut Vec<u8>) {
    let plain = |text: &str| text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    let shown = |text: &'a str| -> Cow<'a, str> {
        if plain(text) { text.into() } else { one_line(text).replace('\t', "\\t").into() }
    };
    // Writing to memory cannot fail.
    let matched = || row.matched.map_or(String::new(), |matched| matched.to_string());
    let (text, line, position) = (row.text, row.line, row.position);
    let (tokens, unknown, part) = (row.tokens, row.unknown, row.part);
    drop(match by {
        By::Line => write!(out, "{}\t{line}\t{tokens}\t{unknown}", shown(text)),
        By::Word => write!(
            out,
            "{}\t{line}\t{position}\t{}\t{tokens}\t{}\t{unknown}",
            shown(text),
            shown(part),
            matched()
        ),
        By::Token => {
            write!(out, "{}\t{line}\t{position}\t{}\t{}\t{unknown}", shown(text), shown(part), matched())
        }
    });
    let mut buffer = zmij::Buffer::new();
    for figure in figures(row.log_prob) {
        out.push(b'\t');
        out.extend_from_slice(buffer.format(figure).as_bytes());
    }
    out.push(b'\n');
}

fn json_line(by: By, row: &Row<'_>, out: &mut Vec<u8>) {
    let [nats, log10] = figures(row.log_prob);
    let name = match by {
        By::Line => "line",
        By::Word => "word",
        By::Token => "token",
    };
    let mut event = json!({
        "event": name, "text": row.text, "line": row.line, "tokens": row.tokens, "unknown": row.unknown,
        "nats": nats, "log10": log10,
    });
    if by != By::Line {
        event["position"] = row.position.into();
        event[name] = row.part.into();
        event["matched"] = row.matched.into();
    }
    out.extend_from_slice(in_json(&event.to_string()).as_bytes());
    out.push(b'\n');
}
