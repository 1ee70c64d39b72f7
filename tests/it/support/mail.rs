//! Mails, as a server writes them into its folder or sends them.

use std::{fs, path::Path};

use base64::{Engine, engine::general_purpose::STANDARD};
use propusk::storage::Statement;
use url::Url;

use super::{TestServer, chromium::until};

/// Has a server write its mails into the folder.
pub const MAILS: (&str, &str) = ("PROPUSK_MAIL__DELIVERY", "folder");

/// A mail, decoded.
#[derive(Clone, Debug)]
pub struct ReceivedMail {
    pub to: String,
    pub subject: String,
    pub text: String,
    pub html: String,
    /// As it was sent.
    pub raw: String,
}

impl ReceivedMail {
    pub fn parse(raw: &str) -> Self {
        let raw = raw.replace("\r\n", "\n");
        let (head, body) = raw.split_once("\n\n").expect("a header section");
        let boundary = header(head, "Content-Type");
        let (_, boundary) = boundary.split_once("boundary=\"").expect("several parts");
        let separator = format!("--{}", boundary.split('"').next().expect("a boundary"));
        let part = |kind: &str| {
            let part = body.split(&separator).find(|part| part.contains(kind)).expect("a part");
            let (head, body) = part.trim_start().split_once("\n\n").expect("a header section");
            decoded(header(head, "Content-Transfer-Encoding").trim(), body)
        };
        Self {
            to: header(head, "To").trim_matches(['<', '>', ' ']).to_owned(),
            subject: words(&header(head, "Subject")),
            text: part("text/plain"),
            html: part("text/html"),
            raw: raw.clone(),
        }
    }

    /// The URL in the text.
    #[track_caller]
    pub fn url(&self) -> Url {
        let url = self
            .text
            .split_whitespace()
            .find(|word| word.contains("?token=") || word.contains("?invitation="));
        let url = url.unwrap_or_else(|| panic!("no link: {}", self.text));
        assert!(self.html.contains(&url.replace('&', "&#38;")), "{}", self.html);
        Url::parse(url).expect("a URL")
    }

    /// Its path and query.
    #[track_caller]
    pub fn path(&self) -> String {
        let url = self.url();
        format!("{}?{}", url.path(), url.query().unwrap_or_default())
    }

    #[track_caller]
    pub fn token(&self) -> String {
        let url = self.url();
        let token = url.query_pairs().find(|(name, _)| name == "token");
        token.expect("a token").1.into_owned()
    }

    /// The eight digits.
    #[track_caller]
    pub fn code(&self) -> String {
        let is_digits = |word: &&str| word.len() == 4 && word.bytes().all(|b| b.is_ascii_digit());
        let code: String = self.text.split_whitespace().filter(is_digits).collect();
        assert_eq!(code.len(), 8, "{}", self.text);
        code
    }
}

/// The value of a header field, unfolded.
fn header(head: &str, name: &str) -> String {
    let head = head.replace("\n ", " ").replace("\n\t", " ");
    let prefix = format!("{}:", name.to_lowercase());
    let line = head.lines().find(|line| line.to_lowercase().starts_with(&prefix));
    line.map_or("", |line| &line[prefix.len()..]).trim().to_owned()
}

/// A text with encoded words (RFC 2047).
fn words(text: &str) -> String {
    let (mut out, mut rest) = (String::new(), text.to_owned());
    while let Some((before, word)) = rest.split_once("=?utf-8?b?") {
        // White space between two words is not part of the text.
        out += if out.is_empty() || !before.trim().is_empty() { before } else { "" };
        let (word, after) = word.split_once("?=").expect("the end of a word");
        out += &String::from_utf8(STANDARD.decode(word).expect("base64")).expect("UTF-8");
        rest = after.to_owned();
    }
    out += &rest;
    out
}

fn decoded(encoding: &str, body: &str) -> String {
    match encoding {
        "base64" => {
            let joined: String = body.split_whitespace().collect();
            String::from_utf8(STANDARD.decode(joined).expect("base64")).expect("UTF-8")
        }
        "quoted-printable" => {
            let body = body.replace("=\n", "");
            let mut bytes = vec![];
            let mut rest = body.as_bytes();
            while let Some((first, after)) = rest.split_first() {
                match (first, after) {
                    (b'=', [high, low, after @ ..]) => {
                        let hex = [*high, *low];
                        let hex = std::str::from_utf8(&hex).expect("hexadecimal");
                        bytes.push(u8::from_str_radix(hex, 16).expect("hexadecimal"));
                        rest = after;
                    }
                    _ => {
                        bytes.push(*first);
                        rest = after;
                    }
                }
            }
            String::from_utf8(bytes).expect("UTF-8")
        }
        "7bit" | "" => body.to_owned(),
        other => panic!("unexpected encoding {other}"),
    }
}

/// The mails in a folder, oldest first.
pub fn in_folder(folder: &Path) -> Vec<ReceivedMail> {
    let Ok(files) = fs::read_dir(folder) else {
        return vec![];
    };
    let mut files: Vec<_> = files.map(|file| file.expect("a file").path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "eml"));
    // Ids have no order while the clock stands.
    files.sort_by_key(|file| file.metadata().and_then(|of| of.modified()).expect("a time"));
    let read = |file| ReceivedMail::parse(&fs::read_to_string(file).expect("a mail"));
    files.iter().map(read).collect()
}

impl TestServer {
    /// Every mail so far, oldest first: waits until none is queued.
    pub async fn mails(&self) -> Vec<ReceivedMail> {
        until("an empty queue of mails", || async {
            let statement =
                Statement::new("SELECT COUNT(*) AS count FROM mails WHERE state = 'queued'");
            let rows = self.app.db.read(statement).await.expect("the queue");
            (rows[0].get::<i64>("count").expect("a number") == 0).then_some(())
        })
        .await;
        in_folder(&self.app.config.mail_folder())
    }

    /// Every mail so far to an address.
    pub async fn mails_to(&self, address: &str) -> Vec<ReceivedMail> {
        let mut mails = self.mails().await;
        mails.retain(|mail| mail.to == address);
        mails
    }

    /// The last mail to an address.
    pub async fn mail_to(&self, address: &str) -> ReceivedMail {
        let mails = self.mails_to(address).await;
        mails.into_iter().next_back().unwrap_or_else(|| panic!("no mail to {address}"))
    }
}
