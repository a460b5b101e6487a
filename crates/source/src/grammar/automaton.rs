//! A grammar as a finite automaton: each use of a rule is a copy of it with its own successor node.

use std::{collections::BTreeMap, sync::Arc};

use super::parser::{Alternative, ParsedGrammar, Rule, Segment};
use crate::{Error, Result};

/// The node where a story starts, and the successor of its end.
pub(super) const START: u32 = 0;

/// The maximum number of nodes and alternatives together.
const MAX_SIZE: usize = 1 << 19;
const MAX_DEPTH: usize = 64;
/// Each variable has one byte in [`Memory`].
pub(super) const MAX_VARIABLES: usize = 8;

#[derive(Debug)]
pub(super) struct Automaton {
    pub(super) nodes: Vec<Node>,
    tables: Vec<Table>,
}

#[derive(Debug)]
pub(super) enum Node {
    /// Emits a text.
    Text { text: Arc<str>, next: u32 },
    /// Emits a cell of a variable's row.
    Cell { variable: u8, table: u32, column: u32, capital: bool, next: u32 },
    /// Continues at one of these nodes, with these probabilities.
    Choice(Vec<(f64, u32)>),
    /// Draws a row other than that of `except` and stores it in a variable.
    Draw { variable: u8, table: u32, except: Option<u8>, next: u32 },
}

#[derive(Debug)]
struct Table {
    /// Probabilities, summing to one.
    probabilities: Vec<f64>,
    /// By row and column: the text as in the file, and with a capital.
    cells: Vec<Vec<[String; 2]>>,
}

/// The rows of all variables: one byte each, the row + 1, or 0 before the first draw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Memory(u64);

impl Memory {
    pub(super) fn with(self, variable: u8, row: u8) -> Self {
        let shift = 8 * u32::from(variable);
        Self(self.0 & !(0xff << shift) | (u64::from(row) + 1) << shift)
    }

    fn row(self, variable: u8) -> Option<usize> {
        (self.0 >> (8 * u32::from(variable)) & 0xff).checked_sub(1).map(|row| row as usize)
    }
}

impl Automaton {
    /// The text that a node emits; empty for choices and draws.
    pub(super) fn text(&self, node: u32, memory: Memory) -> &str {
        match &self.nodes[node as usize] {
            Node::Text { text, .. } => text,
            Node::Cell { variable, .. } => memory.row(*variable).map_or("", |row| self.cell(node, row)),
            Node::Choice(_) | Node::Draw { .. } => "",
        }
    }

    /// The text that a [`Node::Cell`] emits for a row of its variable.
    pub(super) fn cell(&self, node: u32, row: usize) -> &str {
        let Node::Cell { table, column, capital, .. } = &self.nodes[node as usize] else { return "" };
        let row = self.tables[*table as usize].cells.get(row);
        row.map_or("", |row| &row[*column as usize][usize::from(*capital)])
    }

    /// The row that a [`Node::Draw`] with `except` must not draw.
    pub(super) fn excluded(&self, node: u32, memory: Memory) -> Option<usize> {
        let Node::Draw { except: Some(except), .. } = &self.nodes[node as usize] else { return None };
        memory.row(*except)
    }

    /// The rows of a [`Node::Draw`] without `excluded`, with their probabilities.
    pub(super) fn rows(&self, node: u32, excluded: Option<usize>) -> impl Iterator<Item = (u8, f64)> {
        let probabilities = match &self.nodes[node as usize] {
            Node::Draw { table, .. } => self.tables[*table as usize].probabilities.as_slice(),
            Node::Text { .. } | Node::Cell { .. } | Node::Choice(_) => &[],
        };
        let left: f64 = 1.0 - excluded.and_then(|row| probabilities.get(row)).unwrap_or(&0.0);
        let rows = probabilities.iter().enumerate().filter(move |(row, _)| Some(*row) != excluded);
        rows.map(move |(row, probability)| (row as u8, probability / left))
    }
}

pub(super) fn compile(script: &ParsedGrammar) -> Result<Automaton> {
    let mut compiler = Compiler {
        script,
        // The start node, a choice of one that is filled in at the end.
        nodes: vec![Node::Choice(Vec::new())],
        size: 0,
        variables: BTreeMap::new(),
        known: BTreeMap::new(),
    };
    let start = compiler.rule_number(&script.start, 1)?;
    compiler.check(start, 0, &mut Vec::new(), &mut BTreeMap::new())?;
    if compiler.may_be_empty(start, &mut BTreeMap::new()) {
        let problem = "the start rule can be empty: a story must have a character";
        return Err(Error::parse(script.rules[start].line, problem));
    }
    let first = compiler.rule(start, START)?;
    compiler.nodes[START as usize] = Node::Choice(vec![(1.0, first)]);
    let tables = script.tables.iter().map(|table| {
        let total: f64 = table.rows.iter().map(|(weight, _)| weight).sum();
        Table {
            probabilities: table.rows.iter().map(|(weight, _)| weight / total).collect(),
            cells: table
                .rows
                .iter()
                .map(|(_, cells)| cells.iter().map(|cell| [cell.clone(), capital(cell)]).collect())
                .collect(),
        }
    });
    Ok(Automaton { nodes: compiler.nodes, tables: tables.collect() })
}

fn capital(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}

struct Compiler<'a> {
    script: &'a ParsedGrammar,
    nodes: Vec<Node>,
    size: usize,
    /// The number and the table of each variable.
    variables: BTreeMap<&'a str, (u8, usize)>,
    /// The first nodes of compiled rules, by rule and successor node.
    known: BTreeMap<(usize, u32), u32>,
}

impl<'a> Compiler<'a> {
    /// The first node of a copy of `rule` that continues at `next`.
    fn rule(&mut self, rule: usize, next: u32) -> Result<u32> {
        if let Some(node) = self.known.get(&(rule, next)) {
            return Ok(*node);
        }
        let script = self.script;
        let alternatives = &script.rules[rule].alternatives;
        let total: f64 = alternatives.iter().map(|alternative| alternative.weight).sum();
        let mut choices = Vec::with_capacity(alternatives.len());
        for alternative in alternatives {
            choices.push((alternative.weight / total, self.alternative(alternative, next)?));
        }
        let node = if let [(_, only)] = choices[..] {
            only
        } else {
            self.push(alternatives[0].line, Node::Choice(choices))?
        };
        self.known.insert((rule, next), node);
        Ok(node)
    }

    /// Compiles the segments from last to first, because each needs the first node of the next.
    fn alternative(&mut self, alternative: &'a Alternative, next: u32) -> Result<u32> {
        let line = alternative.line;
        let mut next = next;
        for piece in alternative.segments.iter().rev() {
            next = match piece {
                Segment::Text(text) => self.push(line, Node::Text { text: text.clone(), next })?,
                Segment::Rule(name) => {
                    let rule = self.rule_number(name, line)?;
                    self.rule(rule, next)?
                }
                Segment::Draw { variable, table, except } => {
                    let (variable, table) = self.variable(variable, table, line)?;
                    let except = except.as_ref().map(|except| self.drawn(except, line)).transpose()?;
                    let except = except.map(|(variable, _)| variable);
                    self.push(line, Node::Draw { variable, table: table as u32, except, next })?
                }
                Segment::Cell { variable, column, capital } => {
                    let (variable, table, column) = self.cell(variable, column, line)?;
                    let (table, capital) = (table as u32, *capital);
                    self.push(line, Node::Cell { variable, table, column, capital, next })?
                }
            };
        }
        Ok(next)
    }

    fn push(&mut self, line: usize, node: Node) -> Result<u32> {
        self.size += if let Node::Choice(choices) = &node { choices.len() } else { 1 };
        if self.size > MAX_SIZE {
            let problem =
                format!("the grammar has more than {MAX_SIZE} steps when every use of a rule is written out");
            return Err(Error::parse(line, problem));
        }
        self.nodes.push(node);
        Ok(self.nodes.len() as u32 - 1)
    }

    fn rule_number(&self, name: &str, line: usize) -> Result<usize> {
        let found = self.script.rules.iter().position(|rule| rule.name == name);
        found.ok_or_else(|| Error::parse(line, format!("there is no rule `{name}`")))
    }

    /// The number and the table of a variable, which is new or was drawn from the same table.
    fn variable(&mut self, name: &'a str, table: &str, line: usize) -> Result<(u8, usize)> {
        let found = self.script.tables.iter().position(|known| known.name == table);
        let table = found.ok_or_else(|| Error::parse(line, format!("there is no table `{table}`")))?;
        let number = self.variables.len();
        let entry = *self.variables.entry(name).or_insert((number as u8, table));
        if entry.1 != table {
            return Err(Error::parse(line, format!("`{name}` is drawn from two tables")));
        }
        if number >= MAX_VARIABLES && entry.0 as usize == number {
            return Err(Error::parse(line, format!("there are more than {MAX_VARIABLES} names to remember")));
        }
        Ok(entry)
    }

    fn drawn(&self, name: &str, line: usize) -> Result<(u8, usize)> {
        let found = self.variables.get(name).copied();
        found.ok_or_else(|| {
            Error::parse(line, format!("nothing draws `{name}`: `<{name} = TABLE>` must come before"))
        })
    }

    fn cell(&self, variable: &str, column: &str, line: usize) -> Result<(u8, usize, u32)> {
        let (number, table) = self.drawn(variable, line)?;
        let columns = &self.script.tables[table].columns;
        let Some(column) = columns.iter().position(|known| known == column) else {
            let problem = format!("`{variable}` has no column `{column}`, it has {}", columns.join(", "));
            return Err(Error::parse(line, problem));
        };
        Ok((number, table, column as u32))
    }

    fn may_be_empty(&self, rule: usize, known: &mut BTreeMap<usize, bool>) -> bool {
        if let Some(empty) = known.get(&rule) {
            return *empty;
        }
        let mut empty_piece = |piece: &Segment| match piece {
            Segment::Draw { .. } => true,
            Segment::Rule(name) => self.rule_number(name, 0).is_ok_and(|rule| self.may_be_empty(rule, known)),
            Segment::Text(_) | Segment::Cell { .. } => false,
        };
        let mut alternatives = self.script.rules[rule].alternatives.iter();
        let empty = alternatives.any(|alternative| alternative.segments.iter().all(&mut empty_piece));
        known.insert(rule, empty);
        empty
    }

    /// Checks that variables are drawn before they are used, and returns the variables, one bit
    /// each, that every alternative of `rule` has drawn if `drawn` were drawn before.
    ///
    /// `open` are the rules around this one.
    ///
    /// # Errors
    /// A cell of a variable that may not be drawn; a rule that contains itself; too deep nesting.
    fn check(
        &mut self,
        rule: usize,
        drawn: u64,
        open: &mut Vec<usize>,
        known: &mut BTreeMap<(usize, u64), u64>,
    ) -> Result<u64> {
        let script = self.script;
        let Rule { line, name, alternatives } = &script.rules[rule];
        let refuse = |problem: String| Err(Error::parse(*line, problem));
        if open.contains(&rule) {
            return refuse(format!("the rule `{name}` contains itself: a grammar must be finite"));
        }
        if let Some(after) = known.get(&(rule, drawn)) {
            return Ok(*after);
        }
        if known.len() > 10_000 {
            return refuse("there are more than 10,000 rules".into());
        }
        if open.len() >= MAX_DEPTH {
            return refuse(format!("rules are nested deeper than {MAX_DEPTH}"));
        }
        open.push(rule);
        let mut after = u64::MAX;
        for Alternative { line, segments: pieces, .. } in alternatives {
            let mut here = drawn;
            for piece in pieces {
                match piece {
                    Segment::Text(_) => {}
                    Segment::Rule(name) => {
                        here = self.check(self.rule_number(name, *line)?, here, open, known)?;
                    }
                    Segment::Draw { variable, table, except } => {
                        if let Some(except) = except {
                            self.check_drawn(except, here, *line)?;
                            let (_, theirs) = self.drawn(except, *line)?;
                            let (_, ours) = self.variable(variable, table, *line)?;
                            if theirs != ours || script.tables[ours].rows.len() < 2 {
                                let problem =
                                    "`except` needs a name drawn from the same table, with two rows or more";
                                return Err(Error::parse(*line, problem));
                            }
                        }
                        here |= 1 << self.variable(variable, table, *line)?.0;
                    }
                    Segment::Cell { variable, column, .. } => {
                        self.check_drawn(variable, here, *line)?;
                        self.cell(variable, column, *line)?;
                    }
                }
            }
            after &= here;
        }
        open.pop();
        known.insert((rule, drawn), after);
        Ok(after)
    }

    fn check_drawn(&self, name: &str, drawn: u64, line: usize) -> Result<()> {
        let (number, _) = self.drawn(name, line)?;
        if drawn >> number & 1 == 0 {
            let problem = format!("`{name}` may not have been drawn at this point");
            return Err(Error::parse(line, problem));
        }
        Ok(())
    }
}
