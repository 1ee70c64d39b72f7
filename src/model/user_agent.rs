//! Devices in words, from what a browser says about itself. It may say anything: the words help a
//! user to recognise a session and decide nothing.

use std::fmt;

/// A browser and its system, by the names of the products.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// `None`: not a browser that is known here.
    pub browser: Option<&'static str>,
    pub system: Option<&'static str>,
}

/// Marks of browsers in `User-Agent`. Most browsers also have the marks of others: the first that
/// is found counts.
const BROWSERS: [(&str, &str); 17] = [
    ("YaBrowser/", "Yandex Browser"),
    ("Edg/", "Edge"),
    ("EdgA/", "Edge"),
    ("EdgiOS/", "Edge"),
    ("OPR/", "Opera"),
    ("OPT/", "Opera"),
    ("Vivaldi/", "Vivaldi"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("UCBrowser/", "UC Browser"),
    ("DuckDuckGo/", "DuckDuckGo"),
    ("FxiOS/", "Firefox"),
    ("Firefox/", "Firefox"),
    ("CriOS/", "Chrome"),
    ("Chromium/", "Chromium"),
    ("Chrome/", "Chrome"),
    // Chrome and others on Apple's systems have `Safari/`, but no `Version/`.
    ("Version/", "Safari"),
    ("curl/", "curl"),
];

/// Marks of systems, likewise: Android says that it is Linux, an iPhone that it is like Mac OS X.
const SYSTEMS: [(&str, &str); 9] = [
    ("Windows", "Windows"),
    ("Android", "Android"),
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("CrOS", "ChromeOS"),
    ("Mac OS X", "macOS"),
    ("Macintosh", "macOS"),
    ("Linux", "Linux"),
    ("FreeBSD", "FreeBSD"),
];

impl Device {
    /// The device that a `User-Agent` names.
    pub fn of(user_agent: Option<&str>) -> Self {
        let text = user_agent.unwrap_or_default();
        let first = |marks: &[(&str, &'static str)]| {
            marks.iter().find(|(mark, _)| text.contains(mark)).map(|(_, name)| *name)
        };
        Self { browser: first(&BROWSERS), system: first(&SYSTEMS) }
    }
}

/// `Firefox, Linux`; empty where neither is known.
impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = [self.browser, self.system].into_iter().flatten();
        f.write_str(&known.collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_and_systems_are_told_apart() {
        for (text, browser, system) in [
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 \
                 Safari/537.36 Edg/140.0.0.0",
                Some("Edge"),
                Some("Windows"),
            ),
            (
                "Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0",
                Some("Firefox"),
                Some("Linux"),
            ),
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) \
                 Version/18.0 Mobile/15E148 Safari/604.1",
                Some("Safari"),
                Some("iPhone"),
            ),
            (
                "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Mobile \
                 Safari/537.36",
                Some("Chrome"),
                Some("Android"),
            ),
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 \
                 YaBrowser/25.8.0.0 Safari/537.36",
                Some("Yandex Browser"),
                Some("Windows"),
            ),
            (
                "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) \
                 Version/18.1 Safari/605.1.15",
                Some("Safari"),
                Some("macOS"),
            ),
            ("curl/8.14.1", Some("curl"), None),
            ("okhttp/4.12.0", None, None),
            ("call +1 900 555 0100 https://evil.example", None, None),
            ("", None, None),
        ] {
            assert_eq!(Device::of(Some(text)), Device { browser, system }, "{text}");
        }
        assert_eq!(Device::of(None), Device::default());
        let device = |browser, system| Device { browser, system }.to_string();
        assert_eq!(device(Some("Firefox"), Some("Linux")), "Firefox, Linux");
        assert_eq!(device(None, Some("Linux")), "Linux");
        assert_eq!(device(None, None), "");
    }
}
