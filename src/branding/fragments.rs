//! HTML fragments that the operator puts on pages. The policy of the pages forbids their scripts;
//! what would be ignored, or would break the page around it, is refused at start.

/// The elements of a fragment. Headings begin below that of the page; forms, frames, scripts and
/// styles are not among them.
const ELEMENTS: [&str; 38] = [
    "a",
    "abbr",
    "address",
    "aside",
    "b",
    "bdi",
    "blockquote",
    "br",
    "code",
    "dd",
    "details",
    "div",
    "dl",
    "dt",
    "em",
    "figcaption",
    "figure",
    "h2",
    "h3",
    "h4",
    "hr",
    "i",
    "img",
    "li",
    "nav",
    "ol",
    "p",
    "q",
    "section",
    "small",
    "span",
    "strong",
    "sub",
    "summary",
    "sup",
    "time",
    "ul",
    "wbr",
];

const VOID: [&str; 4] = ["br", "hr", "img", "wbr"];

/// The attributes that every element may have, beside `aria-…` and `data-…`.
const ATTRIBUTES: [&str; 7] = ["class", "dir", "id", "lang", "role", "title", "translate"];

/// The prefix of an `id`, so that it differs from those of the page.
const OWN_ID: &str = "own-";

/// Checks a fragment.
///
/// # Errors
/// The line, and what is wrong there.
pub(super) fn check(text: &str) -> Result<(), (usize, String)> {
    Checker { text, at: 0, open: vec![] }.run()
}

struct Checker<'t> {
    text: &'t str,
    at: usize,
    /// Where each element that is open begins.
    open: Vec<(&'t str, usize)>,
}

impl<'t> Checker<'t> {
    fn run(mut self) -> Result<(), (usize, String)> {
        if let Some(at) = self.text.find(|c: char| c.is_control() && !"\t\r\n".contains(c)) {
            return Err(self.wrong(at, "has a control character"));
        }
        while let Some(next) = self.rest().find('<') {
            let begin = self.at + next;
            self.at = begin + 1;
            if self.skip("!--") {
                let rest = self.rest();
                let end = rest.find("-->");
                let end = end.ok_or_else(|| self.wrong(begin, "a comment does not end"))?;
                // HTML §13.2.5.43–52: `<!-->`, `<!--->` and `--!>` end a comment too.
                if rest.starts_with('>') || rest.starts_with("->") || rest[..end].contains("--!>") {
                    return Err(self.wrong(begin, "browsers end this comment earlier"));
                }
                self.at += end + 3;
            } else if self.skip("/") {
                self.close(begin)?;
            } else {
                self.element(begin)?;
            }
        }
        match self.open.last() {
            None => Ok(()),
            Some((name, at)) => Err(self.wrong(*at, &format!("<{name}> is not closed"))),
        }
    }

    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn skip(&mut self, text: &str) -> bool {
        let is_next = self.rest().starts_with(text);
        self.at += if is_next { text.len() } else { 0 };
        is_next
    }

    fn skip_space(&mut self) -> bool {
        let rest = self.rest();
        let trimmed = rest.trim_start_matches([' ', '\t', '\r', '\n']);
        self.at += rest.len() - trimmed.len();
        trimmed.len() < rest.len()
    }

    /// A name in lower case, possibly empty.
    fn name(&mut self) -> &'t str {
        let rest = self.rest();
        let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let name = &rest[..rest.find(|c| !is_part(c)).unwrap_or(rest.len())];
        self.at += name.len();
        name
    }

    fn wrong(&self, at: usize, what: &str) -> (usize, String) {
        (line_of(self.text, at), what.to_owned())
    }

    fn close(&mut self, begin: usize) -> Result<(), (usize, String)> {
        let name = self.name();
        self.skip_space();
        if !self.skip(">") {
            return Err(self.wrong(begin, "is no end tag; write `<` as &lt;"));
        }
        match self.open.pop() {
            Some((open, _)) if open == name => Ok(()),
            Some((open, _)) => {
                Err(self.wrong(begin, &format!("</{name}> closes <{open}>: close that first")))
            }
            None => Err(self.wrong(begin, &format!("</{name}> closes nothing"))),
        }
    }

    fn element(&mut self, begin: usize) -> Result<(), (usize, String)> {
        let name = self.name();
        if !ELEMENTS.contains(&name) {
            let end = self.rest().find(['>', ' ', '\n']).unwrap_or(0).min(20);
            let shown = self.text.get(begin..self.at + end).unwrap_or_default();
            let what = format!(
                "{shown}…: not an element of fragments (in lower case: {}); write `<` as &lt;",
                ELEMENTS.join(" ")
            );
            return Err(self.wrong(begin, &what));
        }
        let mut seen: Vec<&str> = vec![];
        loop {
            let spaced = self.skip_space();
            if self.skip(">") {
                break;
            }
            if VOID.contains(&name) && self.skip("/>") {
                break;
            }
            let at = self.at;
            let attribute = self.name();
            if !spaced || attribute.is_empty() {
                let what = format!("<{name}: an attribute is not name=\"value\"");
                return Err(self.wrong(at, &what));
            }
            let value = self.value();
            let value = value.ok_or_else(|| {
                self.wrong(at, &format!("the value of {attribute} is not in quotation marks"))
            })?;
            if seen.contains(&attribute) {
                return Err(self.wrong(at, &format!("{attribute} is there twice")));
            }
            check_attribute(name, attribute, value).map_err(|what| self.wrong(at, &what))?;
            seen.push(attribute);
        }
        if name == "img" && !(seen.contains(&"alt") && seen.contains(&"src")) {
            return Err(self.wrong(begin, "<img> needs src, and alt (empty if it only decorates)"));
        }
        if !VOID.contains(&name) {
            self.open.push((name, begin));
        }
        Ok(())
    }

    /// The value of an attribute; one without is empty.
    fn value(&mut self) -> Option<&'t str> {
        if !self.skip("=") {
            return Some("");
        }
        let quote = self.rest().chars().next().filter(|c| "\"'".contains(*c))?;
        self.at += 1;
        let rest = self.rest();
        let value = &rest[..rest.find(quote)?];
        self.at += value.len() + 1;
        Some(value)
    }
}

fn check_attribute(element: &str, name: &str, value: &str) -> Result<(), String> {
    let is_own_path = value.starts_with('/') && !value.starts_with("//") && !value.contains('\\');
    let fits = match (element, name) {
        (_, "id") if !value.starts_with(OWN_ID) => {
            return Err(format!("an id begins with {OWN_ID}, so that it is none of the page's"));
        }
        ("a", "href") => {
            let schemes = ["https://", "http://", "mailto:", "tel:", "#"];
            let leads_on = is_own_path || schemes.iter().any(|scheme| value.starts_with(scheme));
            if !leads_on {
                return Err(
                    "href must be https://…, http://…, mailto:…, tel:…, /… or #…".to_owned()
                );
            }
            true
        }
        ("img", "src") => {
            if !is_own_path && !value.starts_with("data:image/") {
                return Err(
                    "src must be data:image/… or /…: pages load nothing of other hosts".to_owned()
                );
            }
            true
        }
        ("a", "hreflang" | "rel" | "target")
        | ("img", "alt" | "height" | "width")
        | ("ol", "start" | "reversed" | "type")
        | ("details", "open")
        | ("time", "datetime") => true,
        _ => ATTRIBUTES.contains(&name) || name.starts_with("aria-") || name.starts_with("data-"),
    };
    if fits { Ok(()) } else { Err(format!("<{element}> cannot have {name} in a fragment")) }
}

/// The number of the line that a position is in.
pub(super) fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes()[..at.min(text.len())].iter().filter(|byte| **byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_html_is_accepted() {
        for text in [
            "",
            "Только текст & знаки > 1",
            "<p class=\"hint\">Need help? <a href=\"https://example.com/help\">Ask us</a>.</p>",
            "<!-- a <script> that is none -->\n<nav aria-label='Acme'><ul><li><a href=/x></a></li></ul></nav>"
                .replace("=/x", "=\"/x\"").as_str(),
            "<img src=\"data:image/png;base64,AA==\" alt=\"\" width=\"10\"/><br><hr class=\"a\" />",
            "<details open><summary id=\"own-a\">A</summary><p>b</p></details>",
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn t240_a_fragment_with_active_or_broken_html_is_refused() {
        for (text, line, expected) in [
            ("<p>\n<script>alert(1)</script></p>", 2, "<script…: not an element"),
            ("<SCRIPT>alert(1)</SCRIPT>", 1, "not an element"),
            ("<p onclick=\"alert(1)\">a</p>", 1, "<p> cannot have onclick"),
            ("<p style=\"color:red\">a</p>", 1, "cannot have style"),
            ("<a href=\"javascript:alert(1)\">a</a>", 1, "href must be"),
            ("<a href=\" javascript:alert(1)\">a</a>", 1, "href must be"),
            ("<a href=\"//other.example\">a</a>", 1, "href must be"),
            ("<a href=\"/\\other.example\">a</a>", 1, "href must be"),
            ("<img src=\"https://tracker.example/p.png\" alt=\"\">", 1, "src must be"),
            ("<img src=\"/logo.png\">", 1, "needs src, and alt"),
            ("<form action=\"https://evil.example\"></form>", 1, "not an element"),
            ("<iframe src=\"/\"></iframe>", 1, "not an element"),
            ("<meta http-equiv=\"refresh\" content=\"0\">", 1, "not an element"),
            ("<h1>Acme</h1>", 1, "not an element"),
            ("a\n\n</main>", 3, "closes nothing"),
            ("<div>\n<p>a</div>", 2, "</div> closes <p>"),
            ("<div>\n<p>a</p>", 1, "<div> is not closed"),
            ("<p class=hint>a</p>", 1, "not in quotation marks"),
            ("<p class=\"a>b</p>", 1, "not in quotation marks"),
            ("<p class=\"a\"lang=\"en\">b</p>", 1, "not name=\"value\""),
            ("<p class=\"a\" class=\"b\">c</p>", 1, "twice"),
            ("<p id=\"password\">a</p>", 1, "an id begins with own-"),
            ("<p/>", 1, "not name=\"value\""),
            ("1 < 2", 1, "write `<` as &lt;"),
            ("<!-- a", 1, "does not end"),
            (
                "<!--><meta http-equiv=\"refresh\" content=\"0\"><!-- -->",
                1,
                "end this comment earlier",
            ),
            ("<!---><script></script><!-- -->", 1, "end this comment earlier"),
            ("<!-- a --!><script></script> -->", 1, "end this comment earlier"),
            ("<!doctype html>", 1, "not an element"),
            ("<p>a\0b</p>", 1, "control character"),
            ("<", 1, "not an element"),
            ("<p", 1, "not name=\"value\""),
        ] {
            let (at, what) = check(text).expect_err(text);
            assert!(what.contains(expected), "{text}: {what}");
            assert_eq!(at, line, "{text}");
        }
    }
}
