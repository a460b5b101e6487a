//! Parses lines into rules and tables.

use std::sync::Arc;

use crate::{
    Error, Result,
    lexer::{Line, Token},
};

/// The content of a grammar file.
#[derive(Debug)]
pub(super) struct ParsedGrammar {
    pub(super) start: String,
    pub(super) rules: Vec<Rule>,
    pub(super) tables: Vec<Table>,
}

#[derive(Debug)]
pub(super) struct Rule {
    pub(super) line: usize,
    pub(super) name: String,
    pub(super) alternatives: Vec<Alternative>,
}

#[derive(Debug)]
pub(super) struct Alternative {
    pub(super) line: usize,
    pub(super) weight: f64,
    pub(super) segments: Vec<Segment>,
}

#[derive(Debug)]
pub(super) enum Segment {
    Text(Arc<str>),
    Rule(String),
    Draw { variable: String, table: String, except: Option<String> },
    Cell { variable: String, column: String, capital: bool },
}

#[derive(Debug)]
pub(super) struct Table {
    pub(super) name: String,
    pub(super) columns: Vec<String>,
    /// The weight and the cells of each row.
    pub(super) rows: Vec<(f64, Vec<String>)>,
}

/// The rule or table that indented lines belong to.
enum OpenBlock {
    Nothing,
    Rule(Rule),
    Table(Table, usize),
}

pub(super) fn parse(lines: &[Line]) -> Result<ParsedGrammar> {
    let mut start = None;
    let (mut rules, mut tables) = (Vec::new(), Vec::new());
    let mut open = OpenBlock::Nothing;
    for line in lines {
        if line.indented {
            match &mut open {
                OpenBlock::Rule(rule) => add_alternatives(rule, line)?,
                OpenBlock::Table(table, _) => add_row(table, line)?,
                OpenBlock::Nothing => {
                    return Err(Error::parse(line.number, "an indented line belongs to a rule or a table"));
                }
            }
            continue;
        }
        close(std::mem::replace(&mut open, OpenBlock::Nothing), &mut rules, &mut tables)?;
        match line.tokens.as_slice() {
            [Token::Word(word), Token::Word(name)] if word == "start" && start.is_none() => {
                start = Some(name.clone());
            }
            [Token::Word(word), Token::Word(name)] if word == "rule" => {
                let (line, name) = (line.number, name.clone());
                open = OpenBlock::Rule(Rule { line, name, alternatives: Vec::new() });
            }
            [Token::Word(word), Token::Word(name), Token::Colon, columns @ ..] if word == "table" => {
                let names = columns
                    .iter()
                    .map(|column| if let Token::Word(name) = column { Some(name.clone()) } else { None });
                let columns: Option<Vec<_>> = names.collect();
                let columns = columns.filter(|columns| !columns.is_empty());
                let columns = columns.ok_or_else(|| {
                    Error::parse(line.number, "a table has the names of its columns after `:`")
                })?;
                open = OpenBlock::Table(Table { name: name.clone(), columns, rows: Vec::new() }, line.number);
            }
            _ => {
                let problem = "this is neither `start RULE`, `rule NAME` nor `table NAME: COLUMN ...`";
                return Err(Error::parse(line.number, problem));
            }
        }
    }
    close(open, &mut rules, &mut tables)?;
    let last = lines.last().map_or(1, |line| line.number);
    let start = start.ok_or_else(|| Error::parse(last, "the source has no `start RULE`"))?;
    Ok(ParsedGrammar { start, rules, tables })
}

fn close(open: OpenBlock, rules: &mut Vec<Rule>, tables: &mut Vec<Table>) -> Result<()> {
    match open {
        OpenBlock::Nothing => {}
        OpenBlock::Rule(rule) => {
            if rule.alternatives.is_empty() {
                return Err(Error::parse(rule.line, format!("the rule `{}` has no alternative", rule.name)));
            }
            if rules.iter().any(|known| known.name == rule.name) {
                return Err(Error::parse(rule.line, format!("there are two rules `{}`", rule.name)));
            }
            rules.push(rule);
        }
        OpenBlock::Table(table, line) => {
            // A row's number is stored in a byte.
            if table.rows.is_empty() || table.rows.len() > 255 {
                return Err(Error::parse(line, format!("the table `{}` needs 1 to 255 rows", table.name)));
            }
            if tables.iter().any(|known| known.name == table.name) {
                return Err(Error::parse(line, format!("there are two tables `{}`", table.name)));
            }
            tables.push(table);
        }
    }
    Ok(())
}

fn add_alternatives(rule: &mut Rule, line: &Line) -> Result<()> {
    for (weight, text) in line.weighted(&line.tokens)? {
        let pieces = parse_segments(line.number, &text)?;
        rule.alternatives.push(Alternative { line: line.number, weight, segments: pieces });
    }
    Ok(())
}

fn add_row(table: &mut Table, line: &Line) -> Result<()> {
    let (weight, cells) = match line.tokens.as_slice() {
        [Token::Weight(weight), cells @ ..] => (*weight, cells),
        cells => (1.0, cells),
    };
    let cells = cells.iter().map(|cell| match cell {
        Token::Text(text) if !text.is_empty() && !text.contains(['<', '>']) => Some(text.clone()),
        _ => None,
    });
    match cells.collect::<Option<Vec<_>>>() {
        Some(cells) if cells.len() == table.columns.len() => table.rows.push((weight, cells)),
        _ => {
            let problem = format!("a row is a weight and {} strings that are not empty", table.columns.len());
            return Err(Error::parse(line.number, problem));
        }
    }
    Ok(())
}

/// Cuts an alternative's text at its `<...>`.
fn parse_segments(line: usize, text: &str) -> Result<Vec<Segment>> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(['<', '>']) {
        let (before, tag) = rest.split_at(at);
        let end = tag
            .strip_prefix('<')
            .and_then(|inside| inside.find(['<', '>']).filter(|end| inside[*end..].starts_with('>')));
        let end = end.ok_or_else(|| Error::parse(line, "a `<` without its `>`, or a `>` without its `<`"))?;
        if !before.is_empty() {
            pieces.push(Segment::Text(before.into()));
        }
        let inside = &tag[1..=end];
        pieces.push(parse_segment(inside).ok_or_else(|| {
            let problem = "it is none of `<rule>`, `<name.column>`, `<^name.column>`, `<name = table>`, `<name = table except name>`";
            Error::parse(line, format!("`<{}>`: {problem}", inside.escape_debug()))
        })?);
        rest = &tag[end + 2..];
    }
    if !rest.is_empty() {
        pieces.push(Segment::Text(rest.into()));
    }
    Ok(pieces)
}

fn parse_segment(inside: &str) -> Option<Segment> {
    let name = |word: &str| {
        let plain = !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        plain.then(|| word.to_owned())
    };
    if let Some((variable, table)) = inside.split_once('=') {
        let (table, except) = match table.split_once(" except ") {
            Some((table, except)) => (table, Some(name(except.trim())?)),
            None => (table, None),
        };
        return Some(Segment::Draw { variable: name(variable.trim())?, table: name(table.trim())?, except });
    }
    let (inside, capital) = inside.strip_prefix('^').map_or((inside, false), |inside| (inside, true));
    if let Some((variable, column)) = inside.split_once('.') {
        return Some(Segment::Cell { variable: name(variable)?, column: name(column)?, capital });
    }
    if capital { None } else { name(inside).map(Segment::Rule) }
}
