//! The colors of the pages. An operator sets a few; the others are derived from them, so that every
//! text is legible (WCAG 2.2, success criteria 1.4.3 and 1.4.11).

use std::fmt;

use super::pages::SchemeColors;

/// A color of sRGB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Color([u8; 3]);

const WHITE: Color = Color([255; 3]);
const BLACK: Color = Color([0; 3]);

impl Color {
    const fn hex(value: u32) -> Self {
        let [_, red, green, blue] = value.to_be_bytes();
        Self([red, green, blue])
    }

    /// `#rgb` or `#rrggbb`.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix('#')?;
        if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let value = u32::from_str_radix(digits, 16).ok()?;
        match digits.len() {
            3 => {
                let digit = |shift: u32| ((value >> shift) & 0xf) * 0x11;
                Some(Self::hex((digit(8) << 16) | (digit(4) << 8) | digit(0)))
            }
            6 => Some(Self::hex(value)),
            _ => None,
        }
    }

    /// Relative luminance, as WCAG 2.2 defines it.
    fn luminance(self) -> f64 {
        let [red, green, blue] = self.0.map(|channel| {
            let value = f64::from(channel) / 255.0;
            if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        });
        0.2126 * red + 0.7152 * green + 0.0722 * blue
    }

    /// The contrast ratio of two colors, from 1 to 21.
    pub fn contrast(self, other: Self) -> f64 {
        let (one, two) = (self.luminance(), other.luminance());
        (one.max(two) + 0.05) / (one.min(two) + 0.05)
    }

    /// This color with a share of another one, in percent.
    fn mix(self, other: Self, percent: u16) -> Self {
        let channel = |at: usize| {
            let (own, added) = (u16::from(self.0[at]), u16::from(other.0[at]));
            let sum = own * (100 - percent) + added * percent;
            u8::try_from((sum + 50) / 100).unwrap_or(u8::MAX)
        };
        Self([channel(0), channel(1), channel(2)])
    }
}

impl fmt::Display for Color {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [red, green, blue] = self.0;
        write!(f, "#{red:02x}{green:02x}{blue:02x}")
    }
}

/// Every color of a color scheme, by the names of the style sheet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Palette {
    /// The background.
    pub paper: Color,
    /// The surface of cards and fields.
    pub card: Color,
    /// The text.
    pub ink: Color,
    /// Text of less importance.
    pub soft: Color,
    /// Lines that only decorate.
    pub line: Color,
    /// Links and buttons.
    pub accent: Color,
    /// The same under the pointer, and on `tint`.
    pub accent_deep: Color,
    /// Text on a button.
    pub on_accent: Color,
    /// A surface that stands out.
    pub tint: Color,
    /// The borders of fields.
    pub edge: Color,
    /// Errors.
    pub bad: Color,
    pub bad_tint: Color,
    /// Warnings.
    pub care: Color,
    pub care_tint: Color,
}

/// The colors of `assets/propusk.css`.
const LIGHT: Palette = Palette {
    paper: Color::hex(0xfb_fa_f7),
    card: WHITE,
    ink: Color::hex(0x17_21_1f),
    soft: Color::hex(0x4d_5b_58),
    line: Color::hex(0xdc_df_d9),
    accent: Color::hex(0x0b_6b_5b),
    accent_deep: Color::hex(0x08_4f_43),
    on_accent: WHITE,
    tint: Color::hex(0xe6_f1_ee),
    edge: Color::hex(0x7b_88_84),
    bad: Color::hex(0xa0_23_18),
    bad_tint: Color::hex(0xfc_eb_e8),
    care: Color::hex(0x6b_47_00),
    care_tint: Color::hex(0xfb_f1_d9),
};

const DARK: Palette = Palette {
    paper: Color::hex(0x0f_15_14),
    card: Color::hex(0x17_20_20),
    ink: Color::hex(0xe9_ef_ed),
    soft: Color::hex(0xa9_b7_b3),
    line: Color::hex(0x2c_39_37),
    accent: Color::hex(0x7f_d8_c5),
    accent_deep: Color::hex(0xa5_e8_d9),
    on_accent: Color::hex(0x06_21_1c),
    tint: Color::hex(0x18_30_2b),
    edge: Color::hex(0x73_83_7f),
    bad: Color::hex(0xff_b3_a8),
    bad_tint: Color::hex(0x3b_1a_17),
    care: Color::hex(0xf2_cf_86),
    care_tint: Color::hex(0x32_27_11),
};

/// The contrast of text (1.4.3), and of what else must be seen (1.4.11).
const TEXT: f64 = 4.5;
const COMPONENT: f64 = 3.0;

/// The colors that an operator has set; `None` is derived from the others.
#[derive(Clone, Copy, Default)]
struct Chosen {
    accent: Option<Color>,
    background: Option<Color>,
    surface: Option<Color>,
    text: Option<Color>,
}

impl Chosen {
    fn of(colors: &SchemeColors) -> Self {
        Self {
            accent: Color::parse(&colors.accent),
            background: Color::parse(&colors.background),
            surface: Color::parse(&colors.surface),
            text: Color::parse(&colors.text),
        }
    }
}

/// Both schemes of these settings, of which every color that is set can be parsed.
pub(super) fn palettes(light: &SchemeColors, dark: &SchemeColors) -> [Palette; 2] {
    let (light, mut dark) = (Chosen::of(light), Chosen::of(dark));
    if let (Some(accent), None) = (light.accent, dark.accent) {
        dark.accent = Some(on_dark(accent, dark));
    }
    [Palette::of(LIGHT, light), Palette::of(DARK, dark)]
}

/// The accent of the light scheme with as much white as the dark one needs.
fn on_dark(accent: Color, dark: Chosen) -> Color {
    const COMFORTABLE: f64 = 7.0;
    let card = dark.surface.or(dark.background).unwrap_or(DARK.card);
    let lighter = (0..=100).step_by(5).map(|percent| accent.mix(WHITE, percent));
    let mut fitting = lighter.filter(|color| color.contrast(card) >= COMFORTABLE);
    fitting.next().unwrap_or(WHITE)
}

impl Palette {
    fn of(ours: Self, chosen: Chosen) -> Self {
        let own_surface = chosen.background.or(chosen.surface).or(chosen.text).is_some();
        let paper = chosen.background.unwrap_or(ours.paper);
        // In the dark scheme a card is a little lighter than the background.
        let followed = match chosen.background {
            Some(background) if ours == DARK => background.mix(WHITE, 4),
            _ => ours.card,
        };
        let card = chosen.surface.unwrap_or(followed);
        let ink = chosen.text.unwrap_or(ours.ink);
        let mut palette = Self { paper, card, ink, ..ours };
        if let Some(accent) = chosen.accent {
            palette.accent = accent;
            palette.accent_deep = accent.mix(ink, 28);
            let on = [WHITE, BLACK.mix(accent, 15)];
            let least =
                |text: &Color| text.contrast(accent).min(text.contrast(palette.accent_deep));
            palette.on_accent =
                on.into_iter().max_by(|a, b| least(a).total_cmp(&least(b))).unwrap_or(WHITE);
        }
        if chosen.accent.is_some() || own_surface {
            let text = if own_surface { ink } else { ours.soft };
            let on_tint = [ink, text, palette.accent, palette.accent_deep];
            let tints = (0..=12).rev().map(|percent| card.mix(palette.accent, percent));
            palette.tint = legible(tints, |tint| on_tint.map(|text| (text, tint)), TEXT, card);
        }
        if own_surface {
            let Self { tint, .. } = palette;
            let softer = |most: u16| (0..=most).rev().step_by(5).map(move |p| ink.mix(card, p));
            let soft_on = |soft| [paper, card, tint, card].map(|under| (soft, under));
            palette.soft = legible(softer(35), soft_on, TEXT, ink);
            let edge_on = |edge| [paper, card, card, card].map(|under| (edge, under));
            palette.edge = legible(softer(55), edge_on, COMPONENT, ink);
            palette.line = card.mix(ink, 15);
        }
        palette
    }

    /// The first pair that is not legible: what it is, its colors, its ratio and the least one; and
    /// the setting that it depends on.
    fn first_problem(&self) -> Option<(&'static str, String)> {
        let Self { paper, card, ink, tint, accent, accent_deep, .. } = *self;
        let pairs = [
            ("text", "the text", ink, "the background", paper, TEXT),
            ("text", "the text", ink, "the surface", card, TEXT),
            ("text", "the text", ink, "the tinted surface", tint, TEXT),
            ("text", "text of less importance", self.soft, "the background", paper, TEXT),
            ("text", "text of less importance", self.soft, "the surface", card, TEXT),
            ("text", "text of less importance", self.soft, "the tinted surface", tint, TEXT),
            ("accent", "the accent of links", accent, "the background", paper, TEXT),
            ("accent", "the accent of links", accent, "the surface", card, TEXT),
            ("accent", "the accent of links", accent, "the tinted surface", tint, TEXT),
            ("accent", "the accent under the pointer", accent_deep, "the background", paper, TEXT),
            ("accent", "the accent under the pointer", accent_deep, "the surface", card, TEXT),
            ("accent", "the accent under the pointer", accent_deep, "its surface", tint, TEXT),
            ("accent", "the text of a button", self.on_accent, "the accent", accent, TEXT),
            ("accent", "the text of a button", self.on_accent, "its accent", accent_deep, TEXT),
            ("surface", "the text of an error", self.bad, "the surface", card, TEXT),
            ("surface", "the text of an error", self.bad, "its surface", self.bad_tint, TEXT),
            ("surface", "the text of a warning", self.care, "its surface", self.care_tint, TEXT),
            ("surface", "the border of a field", self.edge, "the surface", card, COMPONENT),
        ];
        pairs.into_iter().find(|(.., one, _, two, least)| one.contrast(*two) < *least).map(
            |(key, name, one, under, two, least)| {
                // Rounded down: 4.499 is not 4.5.
                let ratio = (one.contrast(two) * 100.0).floor() / 100.0;
                let found = format!(
                    "{name} ({one}) on {under} ({two}) has a contrast of {ratio:.2}:1; WCAG 2.2 AA needs {least}:1"
                );
                (key, found)
            },
        )
    }

    /// The custom properties of the style sheet.
    pub fn css(&self) -> String {
        let named = [
            ("paper", self.paper),
            ("card", self.card),
            ("ink", self.ink),
            ("soft", self.soft),
            ("line", self.line),
            ("accent", self.accent),
            ("accent-deep", self.accent_deep),
            ("on-accent", self.on_accent),
            ("tint", self.tint),
            ("edge", self.edge),
            ("bad", self.bad),
            ("bad-tint", self.bad_tint),
            ("care", self.care),
            ("care-tint", self.care_tint),
        ];
        named.map(|(name, color)| format!("  --{name}: {color};\n")).concat()
    }
}

/// The first candidate whose pairs have that contrast.
fn legible(
    candidates: impl Iterator<Item = Color>,
    pairs: impl Fn(Color) -> [(Color, Color); 4],
    least: f64,
    otherwise: Color,
) -> Color {
    let fits = |one: &Color| pairs(*one).iter().all(|(text, under)| text.contrast(*under) >= least);
    candidates.into_iter().find(fits).unwrap_or(otherwise)
}

/// What is wrong with the colors of a scheme: the setting, as in `accent`, and how to fix it.
pub(super) fn problems(
    light: &SchemeColors,
    dark: &SchemeColors,
) -> Vec<(&'static str, &'static str, String)> {
    let mut found = vec![];
    for (scheme, colors) in [("light", light), ("dark", dark)] {
        let SchemeColors { accent, background, surface, text } = colors;
        let given =
            [("accent", accent), ("background", background), ("surface", surface), ("text", text)];
        for (name, value) in given {
            if !value.is_empty() && Color::parse(value).is_none() {
                found.push((scheme, name, format!("must be a color like #0b6b5b, not {value:?}")));
            }
        }
    }
    if found.is_empty() {
        let [light, dark] = palettes(light, dark);
        for (scheme, palette) in [("light", light), ("dark", dark)] {
            if let Some((name, problem)) = palette.first_problem() {
                found.push((scheme, name, format!("{problem} (the {scheme} scheme)")));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn colors(accent: &str, background: &str, surface: &str, text: &str) -> SchemeColors {
        let [accent, background, surface, text] =
            [accent, background, surface, text].map(str::to_owned);
        SchemeColors { accent, background, surface, text }
    }

    #[test]
    fn contrast_is_that_of_wcag() {
        let ratio = |one: &str, two: &str| {
            let contrast = Color::parse(one).unwrap().contrast(Color::parse(two).unwrap());
            format!("{contrast:.2}")
        };
        assert_eq!(ratio("#000", "#fff"), "21.00");
        assert_eq!(ratio("#777", "#fff"), "4.48");
        assert_eq!(ratio("#767676", "#ffffff"), "4.54");
        assert_eq!(ratio("#ff0000", "#ffffff"), "4.00");
        assert_eq!(ratio("#1a73e8", "#1A73E8"), "1.00");
        for wrong in ["", "#", "red", "#12345", "#+12345", "0b6b5b", "#0b6b5b80", "#éé"] {
            assert_eq!(Color::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn our_colors_are_those_of_the_style_sheet_and_legible() {
        let sheet = include_str!("../../assets/propusk.css");
        let (light, rest) = sheet.split_once("@media (prefers-color-scheme: dark)").unwrap();
        let dark = rest.split_once("}\n}").unwrap().0;
        for (palette, part) in [(LIGHT, light), (DARK, dark)] {
            assert_eq!(palette.first_problem(), None);
            let part = part.replace("#fff;", "#ffffff;");
            for line in palette.css().lines() {
                assert!(part.contains(line.trim()), "{line} in {part}");
            }
            let count = part.matches("  --").count();
            assert_eq!(count, palette.css().lines().count(), "every color is checked");
        }
    }

    #[test]
    fn what_follows_from_legible_colors_is_legible() {
        let none = SchemeColors::default();
        for accent in ["#0b57d0", "#b3261e", "#6750a4", "#7a4900", "#000", "#c2185b", "#00639b"] {
            let light = colors(accent, "", "", "");
            assert_eq!(problems(&light, &none), [], "{accent}");
            let [light, dark] = palettes(&light, &none);
            assert_eq!(light.accent, Color::parse(accent).unwrap());
            assert_ne!(dark.accent, DARK.accent, "it follows");
        }
        let light = colors("#5b21b6", "#f5f3ff", "#ffffff", "#1e1b4b");
        let dark = colors("#c4b5fd", "#12101f", "", "#ede9fe");
        assert_eq!(problems(&light, &dark), []);
    }

    #[test]
    fn an_illegible_pair_is_named_with_its_ratio() {
        let none = SchemeColors::default();
        let of = |light: &SchemeColors, dark: &SchemeColors| {
            let found = problems(light, dark);
            let [(scheme, key, problem)] = found.as_slice() else { panic!("{found:?}") };
            format!("{scheme}.{key}: {problem}")
        };
        let yellow = of(&colors("#ffcc00", "", "", ""), &none);
        assert!(yellow.starts_with("light.accent: the accent of links (#ffcc00) on the background (#fbfaf7) has a contrast of 1.4"), "{yellow}");
        assert!(yellow.ends_with(":1; WCAG 2.2 AA needs 4.5:1 (the light scheme)"), "{yellow}");
        let dark = of(&none, &colors("#0b6b5b", "", "", ""));
        assert!(dark.starts_with("dark.accent: "), "{dark}");
        let grey = of(&colors("", "", "", "#777"), &none);
        assert!(grey.contains("the text (#777777)") && grey.contains("4.29:1"), "{grey}");
        let middle = of(&colors("#000", "#808080", "#808080", "#000"), &none);
        assert!(middle.starts_with("light.surface: the text of an error"), "{middle}");
        let word = of(&colors("teal", "", "", ""), &none);
        assert_eq!(word, "light.accent: must be a color like #0b6b5b, not \"teal\"");
    }
}
