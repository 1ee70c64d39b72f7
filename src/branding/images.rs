//! Logos and icons of the operator.

use std::{fs, path::Path};

/// The largest image in bytes: each page loads it.
const MAX_BYTES: usize = 128 * 1024;

/// The largest side of a PNG in pixels.
const MAX_PIXELS: u32 = 4096;

/// An image whose content is that of its type.
#[derive(Debug)]
pub(super) struct Image {
    pub extension: &'static str,
    pub media_type: &'static str,
    pub content: Vec<u8>,
}

/// Reads an image. `is_icon`: ICO files are images, too.
///
/// # Errors
/// What is wrong with it.
pub(super) fn read(path: &Path, is_icon: bool) -> Result<Image, String> {
    let content = fs::read(path).map_err(|error| format!("cannot read the file: {error}"))?;
    check(content, is_icon)
}

fn check(content: Vec<u8>, is_icon: bool) -> Result<Image, String> {
    if content.len() > MAX_BYTES {
        return Err(format!("has {} bytes of at most {MAX_BYTES}", content.len()));
    }
    if let Some(rest) = content.strip_prefix(b"\x89PNG\r\n\x1a\n") {
        check_png(rest)?;
        return Ok(Image { extension: "png", media_type: "image/png", content });
    }
    if is_icon && content.starts_with(&[0, 0, 1, 0]) {
        return Ok(Image { extension: "ico", media_type: "image/x-icon", content });
    }
    let expected = if is_icon { "an SVG, PNG or ICO file" } else { "an SVG or PNG file" };
    let text = std::str::from_utf8(&content).map_err(|_| format!("is not {expected}"))?;
    if !text.contains("<svg") {
        return Err(format!("is not {expected}"));
    }
    check_svg(text)?;
    Ok(Image { extension: "svg", media_type: "image/svg+xml", content })
}

/// The sides, which the first chunk begins with (PNG, third edition, §11.2.1).
fn check_png(chunks: &[u8]) -> Result<(), String> {
    let side = |at: usize| Some(u32::from_be_bytes(chunks.get(at..at + 4)?.try_into().ok()?));
    let is_header = chunks.get(4..8) == Some(b"IHDR");
    let (Some(width), Some(height), true) = (side(8), side(12), is_header) else {
        return Err("is not a whole PNG file".to_owned());
    };
    if !(1..=MAX_PIXELS).contains(&width) || !(1..=MAX_PIXELS).contains(&height) {
        return Err(format!("has {width} × {height} pixels of at most {MAX_PIXELS} each way"));
    }
    Ok(())
}

/// Browsers run nothing in an image of a page; opened by itself, its own policy forbids all. What
/// would not be drawn is refused rather than left out.
fn check_svg(text: &str) -> Result<(), String> {
    let lower = text.to_ascii_lowercase();
    if !lower.contains("http://www.w3.org/2000/svg") {
        return Err("needs xmlns=\"http://www.w3.org/2000/svg\"".to_owned());
    }
    for forbidden in ["<script", "<foreignobject", "<!entity", "javascript:", "@import"] {
        if lower.contains(forbidden) {
            return Err(format!("must not contain {forbidden}: save it as a plain SVG"));
        }
    }
    let is_handler = |rest: &str| {
        let name = rest.trim_start_matches(|c: char| c.is_ascii_alphabetic());
        name.len() < rest.len() && name.trim_start().starts_with('=')
    };
    for space in [" on", "\non", "\ton", "\ron", "\"on", "'on", "/on"] {
        if lower.split(space).skip(1).any(is_handler) {
            return Err("must not contain event handlers (on…=)".to_owned());
        }
    }
    let external = ["href=\"http", "href='http", "href=\"//", "href='//", "url(http", "url(\"http"];
    if external.iter().any(|part| lower.contains(part)) {
        return Err("must not load files of other hosts: embed them".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(content: &[u8], is_icon: bool) -> String {
        check(content.to_vec(), is_icon).map(|image| image.extension).unwrap_err()
    }

    #[test]
    fn images_are_what_they_say() {
        let svg = b"<?xml version=\"1.0\"?><svg xmlns=\"http://www.w3.org/2000/svg\"><path d=\"M0 0\"/></svg>";
        assert_eq!(check(svg.to_vec(), false).unwrap().media_type, "image/svg+xml");
        let png = |side: u32| {
            let side = side.to_be_bytes();
            [b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".as_slice(), &side, &side].concat()
        };
        assert_eq!(check(png(64), false).unwrap().media_type, "image/png");
        assert!(problem(&png(5000), false).contains("5000 × 5000"));
        assert!(problem(&png(0), false).contains("0 × 0"));
        assert!(problem(b"\x89PNG\r\n\x1a\n\0\0", false).contains("not a whole PNG"));
        assert_eq!(check(vec![0, 0, 1, 0, 1, 0], true).unwrap().extension, "ico");
        assert!(problem(&[0, 0, 1, 0, 1, 0], false).contains("SVG or PNG"));
        assert!(problem(b"GIF89a", false).contains("not an SVG or PNG"));
        assert!(problem(b"<html>", true).contains("SVG, PNG or ICO"));
        assert!(problem(&vec![b'x'; MAX_BYTES + 1], false).contains("of at most"));
    }

    #[test]
    fn t240_an_svg_with_scripts_or_external_files_is_refused() {
        for (inside, expected) in [
            ("<script>alert(1)</script>", "<script"),
            ("<SCRIPT href=\"data:,\"/>", "<script"),
            ("<g onload=\"alert(1)\"/>", "event handlers"),
            ("<g\nonClick = 'alert(1)'/>", "event handlers"),
            ("<g id=\"a\"onload=\"alert(1)\"/>", "event handlers"),
            ("<a href=\"javascript:alert(1)\"/>", "javascript:"),
            ("<foreignObject><p/></foreignObject>", "<foreignobject"),
            ("<image href=\"https://tracker.example/p.png\"/>", "other hosts"),
            ("<image xlink:href='//tracker.example/p.png'/>", "other hosts"),
            ("<style>@import 'x.css';</style>", "@import"),
            ("<rect fill=\"url(https://tracker.example/#p)\"/>", "other hosts"),
        ] {
            let svg = format!("<svg xmlns=\"http://www.w3.org/2000/svg\">{inside}</svg>");
            let found = problem(svg.as_bytes(), false);
            assert!(found.contains(expected), "{inside}: {found}");
        }
        assert!(problem(b"<svg></svg>", false).contains("xmlns"));
        let entity =
            "<!DOCTYPE svg [<!ENTITY a \"b\">]><svg xmlns=\"http://www.w3.org/2000/svg\"/>";
        assert!(problem(entity.as_bytes(), false).contains("<!entity"));
    }
}
