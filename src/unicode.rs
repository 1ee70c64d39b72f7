//! Unicode rules for the names by which users are recognised: what may be in them, and which are
//! the same.

use caseless::Caseless;
use icu_properties::{
    CodePointMapData, CodePointSetData,
    props::{DefaultIgnorableCodePoint, GeneralCategory, Script},
    script::ScriptWithExtensions,
};
use unicode_normalization::UnicodeNormalization;

/// Nonspacing marks in a row that a name may have; more are drawn over other text (UTS #39 §5.4).
const MARKS_IN_A_ROW: usize = 4;

/// `NFKC_Casefold` (Unicode §3.13): equal for texts that differ in case, compatibility forms or
/// ignorable characters only.
pub fn nfkc_casefold(text: &str) -> String {
    let mut folded: String = text.nfkc().collect();
    // A step can make another one necessary; the property is defined by the result being stable.
    loop {
        let visible = folded.chars().filter(|c| !is_ignorable(*c));
        let next: String = visible.default_case_fold().nfkc().collect();
        if next == folded {
            return folded;
        }
        folded = next;
    }
}

fn is_ignorable(c: char) -> bool {
    CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c)
}

fn category(c: char) -> GeneralCategory {
    CodePointMapData::<GeneralCategory>::new().get(c)
}

/// Whether a character is invisible, changes the direction of the text around it, controls the
/// terminal, or is unassigned: it makes a text look like another one.
pub fn is_hidden(c: char) -> bool {
    use GeneralCategory as G;
    is_ignorable(c)
        || matches!(
            category(c),
            G::Control
                | G::Format
                | G::LineSeparator
                | G::ParagraphSeparator
                | G::PrivateUse
                | G::Unassigned
                | G::Surrogate
        )
        // Blank without being a space: BRAILLE PATTERN BLANK, MUSICAL SYMBOL NULL NOTEHEAD.
        || matches!(c, '\u{2800}' | '\u{1d159}')
}

/// Whether a character is a letter, a decimal digit, or a mark of one: LetterDigits of RFC 8264
/// §9.1, and title case letters; not the hidden ones among them.
pub fn is_letter_digit(c: char) -> bool {
    is_base(c)
        || (matches!(category(c), GeneralCategory::NonspacingMark | GeneralCategory::SpacingMark)
            && !is_ignorable(c))
}

/// As [`is_letter_digit`], without marks: what a name may begin with.
pub fn is_base(c: char) -> bool {
    use GeneralCategory as G;
    let fits = matches!(
        category(c),
        G::UppercaseLetter
            | G::LowercaseLetter
            | G::TitlecaseLetter
            | G::OtherLetter
            | G::ModifierLetter
            | G::DecimalNumber
    );
    fits && !is_ignorable(c)
}

/// Whether more nonspacing marks follow one another than any language writes.
pub fn has_stacked_marks(text: &str) -> bool {
    let mut in_a_row = 0;
    text.nfd().any(|c| {
        let is_mark = category(c) == GeneralCategory::NonspacingMark;
        in_a_row = if is_mark { in_a_row + 1 } else { 0 };
        in_a_row > MARKS_IN_A_ROW
    })
}

/// Writing systems of several scripts (UTS #39 §5.1).
const SYSTEMS: [(&[Script], &str); 3] = [
    (&[Script::Han, Script::Hiragana, Script::Katakana], "Jpan"),
    (&[Script::Han, Script::Hangul], "Kore"),
    (&[Script::Han, Script::Bopomofo], "Hanb"),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum System {
    Script(Script),
    Several(&'static str),
}

/// Whether a name mixes scripts whose letters look alike, such as Latin and Cyrillic: whether it is
/// not Highly Restrictive (UTS #39 §5.2). Latin may stand beside Chinese, Japanese and Korean.
pub fn mixes_scripts(text: &str) -> bool {
    let scripts = ScriptWithExtensions::new();
    let mut has_latin = false;
    // The systems that every character so far belongs to; `None`: all.
    let mut common: Option<Vec<System>> = None;
    for c in text.chars() {
        let of_char: Vec<Script> = scripts.get_script_extensions_val(c).iter().collect();
        if of_char.iter().any(|one| matches!(*one, Script::Common | Script::Inherited)) {
            continue;
        }
        if of_char == [Script::Latin] {
            has_latin = true;
            continue;
        }
        let several = SYSTEMS.iter().filter(|(of, _)| of.iter().any(|one| of_char.contains(one)));
        let systems = of_char.iter().copied().map(System::Script);
        let systems = systems.chain(several.map(|(_, name)| System::Several(name)));
        let left: Vec<System> = match &common {
            None => systems.collect(),
            Some(common) => systems.filter(|one| common.contains(one)).collect(),
        };
        if left.is_empty() {
            return true;
        }
        common = Some(left);
    }
    let beside_latin = |system: &System| {
        matches!(system, System::Several(_)) || *system == System::Script(Script::Latin)
    };
    has_latin && common.is_some_and(|common| !common.iter().any(beside_latin))
}

/// The text with its hidden characters but line feeds as `\uXXXX` (UTF-16, as in JSON, which it may
/// be), so that it can neither control a terminal nor read as something else.
pub fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '\n' || !is_hidden(c) {
            escaped.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            escaped.push_str(&format!("\\u{unit:04x}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_without_case_and_compatibility_forms() {
        for (one, other) in [
            ("straße", "STRASSE"),
            ("straße", "STRAẞE"),
            ("Ｖera", "vera"),
            ("ΣΊΣΥΦΟΣ", "σίσυφος"),
            ("ᾳ\u{301}", "ΆΙ"),
            ("ﬀ", "FF"),
            ("İ", "i\u{307}"),
            ("Ꭰ", "ꭰ"),
            ("K", "k"),
            ("a\u{ad}b\u{200b}c", "abc"),
            ("कि", "कि"),
        ] {
            assert_eq!(nfkc_casefold(one), nfkc_casefold(other), "{one:?} {other:?}");
            assert_eq!(nfkc_casefold(&nfkc_casefold(one)), nfkc_casefold(one), "{one:?}");
        }
        for (one, other) in [("ı", "i"), ("e", "é"), ("ß", "s"), ("a", "а")] {
            assert_ne!(nfkc_casefold(one), nfkc_casefold(other), "{one:?} {other:?}");
        }
    }

    #[test]
    fn hidden_characters_are_known() {
        let hidden = "\u{115f}\u{1160}\u{3164}\u{ffa0}\u{200b}\u{200d}\u{202e}\u{2066}\u{61c}\u{ad}\
                      \u{34f}\u{17b4}\u{180b}\u{fe0f}\u{e0001}\u{feff}\u{2800}\u{1b}\u{85}\u{2028}\u{e000}\u{fff9}\u{378}";
        for c in hidden.chars() {
            assert!(is_hidden(c) && !is_letter_digit(c), "{c:?}");
        }
        for c in "aя٣क्ि한字ー".chars() {
            assert!(!is_hidden(c) && is_letter_digit(c), "{c:?}");
        }
        assert_eq!(
            escaped("a\u{202e}b\n\u{1b}[0m\u{e0001}ß"),
            "a\\u202eb\n\\u001b[0m\\udb40\\udc01ß"
        );
    }

    #[test]
    fn scripts_that_look_alike_are_not_mixed() {
        for single in [
            "vera",
            "вера.1",
            "ヴェラさん漢字",
            "vera漢字かな",
            "김vera",
            "हिन्दी_१",
            "สวัสดี",
            "ខ្មែរ",
            "தமிழ்",
            "1_2",
        ] {
            assert!(!mixes_scripts(single), "{single:?}");
        }
        for mixed in ["vеra", "аdmin", "paypαl", "верa", "김ア", "aक", "vera١", "вера漢"]
        {
            assert!(mixes_scripts(mixed), "{mixed:?}");
        }
        assert!(has_stacked_marks("e\u{301}\u{302}\u{303}\u{304}\u{305}"));
        assert!(!has_stacked_marks("ế\u{323}"));
    }
}
