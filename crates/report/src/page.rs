//! The HTML page of a report: one file that loads nothing and is readable without scripts.

use maud::{Markup, PreEscaped, html};

use surprisal_engine::compare::tables::{Cell, Table};

use super::plot::STYLE;

/// The complete HTML file. Its security policy forbids every request, whatever the texts in it
/// contain.
pub(super) fn page(title: &str, body: &Markup) -> String {
    let page = html! {
        // This and the title identify our pages.
        (PreEscaped("<!doctype html>"))
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="Content-Security-Policy"
                    content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:";
                link rel="icon" href="data:,";
                title { (title) }
                style { (PreEscaped(STYLE)) (PreEscaped(include_str!("page.css"))) }
            }
            body {
                main { (body) }
                script { (PreEscaped(include_str!("page.js"))) }
            }
        }
    };
    page.into_string().replace(is_unsafe_in_html, "\u{FFFD}") + "\n"
}

/// Control characters, which HTML cannot contain, and characters that change the text direction.
fn is_unsafe_in_html(c: char) -> bool {
    let turns =
        matches!(c, '\u{61C}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}');
    turns || c.is_control() && !matches!(c, '\n' | '\t')
}

/// The heading with non-breaking spaces around words of one or two characters.
fn nonbreaking(heading: &str) -> String {
    let mut text = String::new();
    let mut short = false;
    for (index, word) in heading.split(' ').enumerate() {
        let sign = word.chars().count() <= 2;
        if index > 0 {
            text.push(if short || sign { '\u{a0}' } else { ' ' });
        }
        text.push_str(word);
        short = sign;
    }
    text
}

/// A table that can be sorted by column; words are left-aligned, numbers right-aligned. `bars` is
/// an extra column after the first: its heading and its cells.
pub(super) fn table(id: &str, table: &Table, bars: Option<(&str, &[Markup])>) -> Markup {
    let class = |cell: &Cell| matches!(cell, Cell::Words(_)).then_some("words");
    let value = |cell: &Cell| match cell {
        Cell::Number(_, value) => value.filter(|value| value.is_finite()),
        Cell::Words(_) => None,
    };
    html! {
        // What scrolls can be reached by keyboard.
        div.scroll tabindex="0" role="region" aria-label=(id) {
            table.sortable id=(id) {
                thead {
                    tr {
                        @for (column, heading) in table.headings.iter().enumerate() {
                            th scope="col" class=[table.rows.first().and_then(|row| class(&row[column]))] {
                                (nonbreaking(heading))
                            }
                            @if let (0, Some((heading, _))) = (column, bars) {
                                th.words scope="col" { (nonbreaking(heading)) }
                            }
                        }
                    }
                }
                tbody {
                    @for (index, row) in table.rows.iter().enumerate() {
                        tr {
                            @for (column, cell) in row.iter().enumerate() {
                                td class=[class(cell)] data-value=[value(cell)] { (cell.shown()) }
                                @if let (0, Some((_, bars))) = (column, bars) {
                                    td.words { (bars[index]) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The most important numbers, in large print.
pub(super) fn facts(facts: &[(&str, String)]) -> Markup {
    html! {
        dl.facts {
            @for (name, value) in facts {
                div { dt { (name) } dd { (value) } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_text_becomes_markup() {
        let page = page("a<b", &html! { p title="\"<'" { "<script>\"&\u{1b}[0m" "a\u{202E}b\u{2067}c" } });
        assert!(page.contains("<title>a&lt;b</title>") && page.contains("default-src 'none'"));
        assert!(page.contains(
            "<p title=\"&quot;&lt;'\">&lt;script&gt;&quot;&amp;\u{FFFD}[0ma\u{FFFD}b\u{FFFD}c</p>"
        ));
        assert_eq!(nonbreaking("+ approximation"), "+\u{a0}approximation");
        assert_eq!(nonbreaking("H(p, q) − H(p)"), "H(p,\u{a0}q)\u{a0}−\u{a0}H(p)");
        // The page has no addresses to load.
        assert!(!page.contains("http://") && !page.contains("https://"));
    }
}
