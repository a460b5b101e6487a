//! The page around a report: one file, nothing fetched, readable without scripts.

/// Text as HTML.
pub(super) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            // HTML has no place for them, not even as references.
            c if c.is_control() && !matches!(c, '\n' | '\t') => safe.push('\u{FFFD}'),
            // They would turn round what stands after them, too.
            '\u{61C}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' => {
                safe.push('\u{FFFD}');
            }
            c => safe.push(c),
        }
    }
    safe
}

/// The whole file. The policy forbids every request, whatever a text may smuggle in.
pub(super) fn page(title: &str, body: &str) -> String {
    let (css, js) = (include_str!("page.css"), include_str!("page.js"));
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; \
         script-src 'unsafe-inline'; img-src data:\">\n\
         <link rel=\"icon\" href=\"data:,\">\n<title>{}</title>\n<style>\n{css}</style>\n</head>\n<body>\n<main>\n{body}\
         </main>\n<script>\n{js}</script>\n</body>\n</html>\n",
        escape(title)
    )
}

/// A cell: what is read and, where it is a number, what it sorts by.
pub(super) struct Cell {
    pub(super) text: String,
    pub(super) value: Option<f64>,
    pub(super) html: bool,
}

impl Cell {
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), value: None, html: false }
    }

    pub(super) fn number(text: impl Into<String>, value: Option<f64>) -> Self {
        Self { value, ..Self::text(text) }
    }

    pub(super) fn html(text: String) -> Self {
        Self { html: true, ..Self::text(text) }
    }
}

/// What stands where a number would is not words.
fn is_words(cell: &Cell) -> bool {
    let stands_in = matches!(cell.text.as_str(), "" | "–" | "inf" | "(with the next)");
    cell.value.is_none() && !stands_in
}

/// A heading whose signs and short words stay with their neighbours where it is broken.
fn whole(heading: &str) -> String {
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

/// A table that sorts by its headings, which stand as their cells do: words to the left, numbers to the right.
pub(super) fn table(id: &str, headings: &[String], rows: &[Vec<Cell>]) -> String {
    let words: Vec<&str> = (0..headings.len())
        .map(|column| rows.iter().any(|row| row.get(column).is_some_and(is_words)))
        .map(|words| if words { " class=\"words\"" } else { "" })
        .collect();
    let mut html = format!("<div class=\"scroll\"><table class=\"sortable\" id=\"{id}\">\n<thead><tr>");
    for (heading, words) in headings.iter().zip(&words) {
        html.push_str(&format!("<th scope=\"col\"{words}>{}</th>", escape(&whole(heading))));
    }
    html.push_str("</tr></thead>\n<tbody>\n");
    for row in rows {
        html.push_str("<tr>");
        for (cell, words) in row.iter().zip(&words) {
            let value = match cell.value {
                Some(value) if value.is_finite() => format!(" data-value=\"{value}\""),
                _ => String::new(),
            };
            let text = if cell.html { cell.text.clone() } else { escape(&cell.text) };
            html.push_str(&format!("<td{words}{value}>{text}</td>"));
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</tbody></table></div>\n");
    html
}

/// Numbers that matter most, large.
pub(super) fn facts(facts: &[(&str, String)]) -> String {
    let items: String = facts
        .iter()
        .map(|(name, value)| format!("<div><dt>{}</dt><dd>{}</dd></div>", escape(name), escape(value)))
        .collect();
    format!("<dl class=\"facts\">{items}</dl>\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_text_becomes_markup() {
        assert_eq!(escape("<script>\"&'\u{1b}[0m"), "&lt;script&gt;&quot;&amp;&#39;\u{FFFD}[0m");
        assert_eq!(whole("+ approximation"), "+\u{a0}approximation");
        assert_eq!(whole("H(p, q) − H(p)"), "H(p,\u{a0}q)\u{a0}−\u{a0}H(p)");
        assert_eq!(escape("a\u{202E}b\u{2067}c"), "a\u{FFFD}b\u{FFFD}c");
        let page = page("a<b", "<h1>x</h1>");
        assert!(page.contains("<title>a&lt;b</title>") && page.contains("default-src 'none'"));
        // Nothing to fetch: the only addresses are those of the data: icon and of names inside attributes.
        assert!(!page.contains("http://") && !page.contains("https://"));
    }
}
