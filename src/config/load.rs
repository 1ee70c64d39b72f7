//! Layers of configuration: defaults, overridden by the operator's file, overridden by the
//! environment. Every key keeps its source, so that an error can name the place to fix.

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde::Deserialize as _;
use toml::{Table, Value};
use url::Url;

use super::{
    Config, DEFAULT_TOML, mask_url,
    named::{self, NamedSection},
    older_service, pages, services, upstream, validate,
};

pub(super) const PREFIX: &str = "PROPUSK_";
/// Names the configuration file, so it cannot be a key itself.
const FILE_VARIABLE: &str = "PROPUSK_CONFIG";
/// Arguments of `propusk move`.
const ARGUMENTS: &[&str] = &["PROPUSK_MOVE_TO", "PROPUSK_MOVE_TO_FILE"];
/// Variables with this prefix belong to the test suite.
const TEST_PREFIX: &str = "PROPUSK_TEST_";
/// Read from the working directory when no file is given.
const DEFAULT_FILE: &str = "propusk.toml";
/// Keys whose values never appear in messages.
const SECRET: &[&str] =
    &["database.url", "redis.url", "redis.sentinels", "kafka.password", "mail.password"];

/// A key's value as written, and its source.
#[derive(Clone)]
pub(super) struct Setting {
    pub(super) value: Value,
    pub(super) source: Source,
}

#[derive(Clone, PartialEq)]
pub(super) enum Source {
    Default,
    File(PathBuf),
    Variable(String),
    /// A `…_FILE` variable, and the file it names.
    VariableFile(String, PathBuf),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Variable(name) => f.write_str(name),
            Self::VariableFile(name, path) => write!(f, "{name}, {}", path.display()),
        }
    }
}

/// An invalid configuration: every problem found, each with the key, its source, and how to fix it.
/// Contains no secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    problems: Vec<String>,
}

impl ConfigError {
    /// One text per problem; never empty.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("invalid configuration:")?;
        for problem in &self.problems {
            write!(f, "\n  {problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// The process's variables that [`Config::load`] reads: `PROPUSK_…` and those of the older auth
/// service. Unlike `std::env::vars`, this does not panic when other variables are not Unicode.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| {
        let name = name.into_string().ok()?;
        is_read(&name).then(|| (name, value.to_string_lossy().into_owned()))
    })
}

fn is_read(name: &str) -> bool {
    name.starts_with(PREFIX) || older_service::is_known(name)
}

impl Config {
    /// Overrides the defaults with `file` (else the one that `PROPUSK_CONFIG` names, else
    /// `propusk.toml` if it exists) and the environment, and validates the result.
    ///
    /// # Errors
    /// [`ConfigError`] with all unknown keys, wrong types, invalid values and unreadable files.
    pub fn load(
        file: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let (env, older): (BTreeMap<_, _>, BTreeMap<_, _>) =
            env.filter(|(name, _)| is_read(name)).partition(|(name, _)| name.starts_with(PREFIX));
        let mut layers = Layers::defaults()?;
        if let Some(file) = file_to_read(file, &env) {
            layers.merge_file(&file);
        }
        layers.merge_environment(&env);
        if let Some(port) = older.get(older_service::PORT).filter(|port| !port.is_empty()) {
            layers.adopt_port(port);
        }
        layers.derive_issuer();
        let ignored = older_service::ignored(&older, |key| layers.is_set(key));
        Ok(Self { ignored_variables: ignored, ..layers.finish()? })
    }
}

fn file_to_read(argument: Option<&Path>, env: &BTreeMap<String, String>) -> Option<PathBuf> {
    if let Some(path) = argument {
        return Some(path.to_owned());
    }
    if let Some(path) = env.get(FILE_VARIABLE).filter(|path| !path.is_empty()) {
        return Some(path.into());
    }
    let default = PathBuf::from(DEFAULT_FILE);
    default.is_file().then_some(default)
}

/// The merged settings by dotted key (`server.tls.key`), and the problems found.
struct Layers {
    settings: BTreeMap<String, Setting>,
    problems: Vec<String>,
    /// Keys whose values could not be read, and have the value of the layer below instead: what is
    /// found about that one says nothing.
    unread: Vec<String>,
    /// Whether a whole file could not be read: then every key may be one of those.
    is_incomplete: bool,
}

impl Layers {
    fn defaults() -> Result<Self, ConfigError> {
        let table = parse(DEFAULT_TOML).map_err(|problem| ConfigError {
            problems: vec![format!("config.default.toml: {problem}")],
        })?;
        let mut settings = BTreeMap::new();
        flatten("", table, &mut settings);
        Ok(Self { settings, problems: Vec::new(), unread: Vec::new(), is_incomplete: false })
    }

    fn merge_file(&mut self, path: &Path) {
        let table = match std::fs::read_to_string(path) {
            Ok(text) => parse(&text),
            Err(error) => Err(format!("cannot read the file: {error}")),
        };
        match table {
            Ok(table) => self.merge_table("", table, path),
            Err(problem) => {
                self.is_incomplete = true;
                self.problems.push(format!("{}: {problem}", path.display()));
            }
        }
    }

    fn merge_table(&mut self, section: &str, table: Table, path: &Path) {
        for (name, value) in table {
            let key = join(section, &name);
            let named = named::section_of(&key).filter(|_| section.is_empty() && value.is_table());
            if let Some(named) = named {
                let Value::Table(inner) = value else { continue };
                self.merge_named(named, inner, path);
                continue;
            }
            if self.settings.contains_key(&key) {
                self.set(key, value, Source::File(path.to_owned()));
                continue;
            }
            let is_section = self.is_section(&key);
            match value {
                Value::Table(inner) if is_section => self.merge_table(&key, inner, path),
                _ if is_section => self.problems.push(format!(
                    "{key} ({}): is a section, not a key; write `[{key}]` with its keys below",
                    path.display()
                )),
                value => {
                    let hint = self.suggest_key(&key, value.is_table());
                    let what = if value.is_table() { "section" } else { "key" };
                    self.problems
                        .push(format!("{key} ({}): unknown {what}; {hint}", path.display()));
                }
            }
        }
    }

    /// The sections whose names are the operator's.
    fn merge_named(&mut self, named: &NamedSection, sections: Table, path: &Path) {
        for (section, value) in sections {
            let Value::Table(keys) = value else {
                let key = join(named.name, &section);
                let how = format!("is a section, not a key; write `[{key}]` with its keys below");
                self.problems.push(format!("{key} ({}): {how}", path.display()));
                continue;
            };
            let mut paths = vec![vec![section.clone()]];
            if let Some((below, _)) = named.nested {
                let nested = keys.get(below).and_then(Value::as_table);
                let nested = nested.into_iter().flat_map(Table::keys);
                paths.extend(
                    nested.map(|name| vec![section.clone(), below.to_owned(), name.clone()]),
                );
            }
            let source = path.display().to_string();
            let known = paths.iter().all(|names| self.add_named(named, names, &source));
            if known {
                self.merge_table(&join(named.name, &section), keys, path);
            }
        }
    }

    /// Adds the keys of such a section with their defaults, if they are new; `false` for a name that
    /// is not allowed.
    fn add_named(&mut self, named: &NamedSection, names: &[String], source: &str) -> bool {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        match named.defaults_for(&names) {
            Ok(defaults) => {
                for (key, setting) in defaults {
                    self.settings.entry(key).or_insert(setting);
                }
                true
            }
            Err(problem) => {
                self.problems.push(format!("{} ({source}): {problem}", named.name));
                false
            }
        }
    }

    fn merge_environment(&mut self, env: &BTreeMap<String, String>) {
        for name in env.keys() {
            for named in named::ALL {
                if let Some(names) = named.path_of_variable(name) {
                    self.add_named(named, &names, name);
                }
            }
        }
        let keys: BTreeMap<String, String> =
            self.settings.keys().map(|key| (variable(key), key.clone())).collect();
        for (name, text) in env {
            let is_other = name == FILE_VARIABLE || ARGUMENTS.contains(&name.as_str());
            if is_other || name.starts_with(TEST_PREFIX) || is_service_link(name, text) {
                continue;
            }
            if let Some(key) = keys.get(name) {
                self.set_from_text(key, text, Source::Variable(name.clone()));
                continue;
            }
            let plain = name.strip_suffix("_FILE");
            if let Some((plain, key)) = plain.and_then(|plain| keys.get_key_value(plain)) {
                if env.contains_key(plain) {
                    self.problems
                        .push(format!("{key}: {plain} and {name} are both set; unset one of them"));
                } else {
                    self.set_from_file(key, text, name);
                }
                continue;
            }
            let hint = match nearest(name, keys.keys().map(String::as_str)) {
                Some(near) => format!("did you mean {near}?"),
                None => format!(
                    "variables are named {PREFIX}<SECTION>__<KEY>; \
                     `propusk config show` lists all keys"
                ),
            };
            self.problems.push(format!("{name}: unknown variable; {hint}"));
        }
    }

    /// Takes the port that hosting platforms name in `PORT`, where an issuer is set and no address.
    fn adopt_port(&mut self, port: &str) {
        const KEY: &str = "server.listen";
        let is_unread = self.unread.iter().any(|key| key == KEY);
        if !self.is_set("server.issuer") || self.is_set(KEY) || is_unread {
            return;
        }
        let source = Source::Variable(older_service::PORT.to_owned());
        match port.trim().parse::<u16>() {
            Ok(port @ 1..) => {
                self.set(KEY.to_owned(), Value::String(format!("0.0.0.0:{port}")), source);
            }
            _ => {
                self.unread.push(KEY.to_owned());
                self.problems.push(format!(
                    "{KEY} ({source}): must be a port from 1 to 65535, not {port:?}; \
                     unset {source} or set {KEY}"
                ));
            }
        }
    }

    /// Without an issuer, that of a server on loopback follows its address: what a developer is
    /// shown after changing the port are URLs of this server. A port that the system chooses is not
    /// known yet.
    fn derive_issuer(&mut self) {
        const KEY: &str = "server.issuer";
        let is_unread = self.unread.iter().any(|key| key == KEY);
        let decisive = ["server.listen", "server.tls.certificate"];
        let decisive = decisive.into_iter().filter(|key| self.is_set(key));
        let source = decisive.filter_map(|key| self.settings.get(key)).next();
        let Some(source) = source.map(|setting| setting.source.clone()) else {
            return;
        };
        let Ok(config) = self.deserialize() else {
            return;
        };
        let address = config.server.listen;
        let ip = address.ip().to_canonical();
        if self.is_set(KEY) || is_unread || !ip.is_loopback() || address.port() == 0 {
            return;
        }
        let scheme = if config.server.tls.certificate.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}", SocketAddr::new(ip, address.port()));
        if let Ok(url) = Url::parse(&url) {
            let issuer = url.origin().ascii_serialization();
            self.set(KEY.to_owned(), Value::String(issuer), source);
        }
    }

    /// Whether a key has another source than the defaults.
    fn is_set(&self, key: &str) -> bool {
        self.settings.get(key).is_some_and(|setting| setting.source != Source::Default)
    }

    fn set_from_file(&mut self, key: &str, path: &str, name: &str) {
        let source = Source::VariableFile(name.to_owned(), path.into());
        match std::fs::read_to_string(path) {
            Ok(text) => {
                let text = text.strip_suffix('\n').unwrap_or(&text);
                let text = text.strip_suffix('\r').unwrap_or(text);
                self.set_from_text(key, text, source);
            }
            Err(error) => {
                self.unread.push(key.to_owned());
                self.problems.push(format!(
                    "{key} ({source}): cannot read the file: {error}; \
                     {name} must name a file that contains the value"
                ));
            }
        }
    }

    /// Parses a variable's text as the type of the key's default.
    fn set_from_text(&mut self, key: &str, text: &str, source: Source) {
        let value = match self.settings.get(key).map(|setting| &setting.value) {
            Some(Value::Boolean(_)) => text.trim().parse().ok().map(Value::Boolean),
            Some(Value::Integer(_)) => text.trim().parse().ok().map(Value::Integer),
            Some(Value::Array(_)) => {
                let items = text.split(',').map(str::trim);
                let items = items.filter(|item| !item.is_empty());
                let items = items.map(|item| Value::String(item.to_owned()));
                Some(Value::Array(items.collect()))
            }
            Some(Value::Table(_)) => named::table_of_text(text).map(Value::Table),
            _ => None,
        };
        // An invalid value stays text, and `set` reports the expected type.
        let value = value.unwrap_or_else(|| Value::String(text.to_owned()));
        self.set(key.to_owned(), value, source);
    }

    /// Stores the value if it has the type of the key.
    fn set(&mut self, key: String, value: Value, source: Source) {
        let Some(old) = self.settings.get(&key).cloned() else {
            return;
        };
        let new = Setting { value, source };
        self.settings.insert(key.clone(), new.clone());
        if let Err(error) = self.deserialize() {
            let problem = wrong_type(&key, &old.value, &new.value, &error);
            self.problems.push(format!("{key} ({}): {problem}", new.source));
            self.unread.push(key.clone());
            self.settings.insert(key, old);
        }
    }

    fn deserialize(&self) -> Result<Config, toml::de::Error> {
        let mut root = Table::new();
        for (key, setting) in &self.settings {
            insert(&mut root, key, setting.value.clone());
        }
        Config::deserialize(Value::Table(root))
    }

    fn finish(mut self) -> Result<Config, ConfigError> {
        let mut config = match self.deserialize() {
            Ok(config) => config,
            Err(error) => {
                self.problems.push(error.message().to_owned());
                return Err(ConfigError { problems: self.problems });
            }
        };
        config.settings = self.settings;
        if !self.is_incomplete {
            let found = validate::problems(&config).into_iter();
            let found = found.map(|(key, problem)| (key.to_owned(), problem));
            let found = found.chain(pages::problems(&config)).chain(services::problems(&config));
            let found = found.chain(upstream::problems(&config)).filter(|(key, problem)| {
                !self.unread.iter().any(|unread| key == unread || problem.contains(unread))
            });
            let found =
                found.map(|(key, problem)| format!("{key} ({}): {problem}", config.source(&key)));
            self.problems.extend(found.collect::<Vec<_>>());
        }
        if self.problems.is_empty() {
            Ok(config)
        } else {
            Err(ConfigError { problems: self.problems })
        }
    }

    fn is_section(&self, key: &str) -> bool {
        self.sections().any(|section| section == key)
    }

    fn sections(&self) -> impl Iterator<Item = &str> {
        self.settings.keys().flat_map(|key| {
            let dots = key.match_indices('.');
            dots.map(|(at, _)| &key[..at])
        })
    }

    fn suggest_key(&self, key: &str, section: bool) -> String {
        let near = if section {
            nearest(key, self.sections())
        } else {
            // The right name in the wrong section is likelier than a similar full key.
            let last = |key: &str| key.rsplit('.').next().map(str::to_owned);
            let mut keys = self.settings.keys().map(String::as_str);
            let same_name = keys.find(|known| last(known) == last(key));
            same_name.or_else(|| nearest(key, self.settings.keys().map(String::as_str)))
        };
        match near {
            Some(near) => format!("did you mean {near}?"),
            None => "`propusk config show` lists all keys".to_owned(),
        }
    }
}

/// `toml`'s own messages quote the line, which may contain a password; this names its number only.
fn parse(text: &str) -> Result<Table, String> {
    toml::from_str(text).map_err(|error: toml::de::Error| {
        let line = error.span().map_or(1, |span| {
            let before = text.get(..span.start).unwrap_or(text);
            before.matches('\n').count() + 1
        });
        format!("line {line}: invalid TOML: {}", error.message())
    })
}

fn flatten(section: &str, table: Table, settings: &mut BTreeMap<String, Setting>) {
    for (name, value) in table {
        let key = join(section, &name);
        match value {
            Value::Table(inner) => flatten(&key, inner, settings),
            value => {
                let source = Source::Default;
                settings.insert(key, Setting { value, source });
            }
        }
    }
}

fn insert(table: &mut Table, key: &str, value: Value) {
    match key.split_once('.') {
        None => {
            table.insert(key.to_owned(), value);
        }
        Some((section, rest)) => {
            let inner = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(inner) = inner {
                insert(inner, rest, value);
            }
        }
    }
}

fn join(section: &str, name: &str) -> String {
    if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") }
}

/// `server.tls.key` → `PROPUSK_SERVER__TLS__KEY`.
fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.to_uppercase().replace('.', "__"))
}

/// The variables that Kubernetes sets in every container for a Service named `propusk…`:
/// `PROPUSK_SERVICE_HOST`, `PROPUSK_SERVICE_PORT_HTTP`, `PROPUSK_PORT`, `PROPUSK_PORT_80_TCP_ADDR`.
fn is_service_link(name: &str, value: &str) -> bool {
    let has_port_number = |(_, rest): (&str, &str)| rest.starts_with(|c: char| c.is_ascii_digit());
    !name.contains("__")
        && (name.ends_with("_SERVICE_HOST")
            || name.ends_with("_SERVICE_PORT")
            || (name.ends_with("_PORT") && value.contains("://"))
            || name.contains("_SERVICE_PORT_")
            || name.split_once("_PORT_").is_some_and(has_port_number))
}

fn wrong_type(key: &str, old: &Value, new: &Value, error: &toml::de::Error) -> String {
    let is_secret = SECRET.contains(&key) || named::is_secret(key);
    let expected = match old {
        Value::Boolean(_) => "must be true or false".to_owned(),
        Value::Integer(_) => format!("must be an integer, like {old}"),
        Value::String(_) if !new.is_str() => format!("must be a string, like {old}"),
        _ if is_secret => "has an invalid value".to_owned(),
        Value::Array(_) if !new.is_array() => format!("must be a list, like {old}"),
        Value::Table(_) if !new.is_table() => {
            "must be a table, like { name = \"value\" }".to_owned()
        }
        _ => return format!("{}; the default is {old}", error.message()),
    };
    if is_secret { expected } else { format!("{expected}, not {new}") }
}

/// The candidate that a typing error would explain, if any.
fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let bound = (name.trim_start_matches(PREFIX).chars().count() / 3).max(2);
    candidates
        .map(|candidate| (strsim::levenshtein(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= bound)
        .min()
        .map(|(_, candidate)| candidate)
}

/// The settings in the order of the reference configuration, one line per key.
pub(super) fn render(settings: &BTreeMap<String, Setting>) -> String {
    let mut out = String::new();
    let mut section = "";
    for line in DEFAULT_TOML.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']');
            out.push_str(&format!("\n[{section}]\n"));
        } else if let Some((name, _)) = line.split_once(" = ").filter(|_| !line.starts_with('#'))
            && let Some((key, setting)) = settings.get_key_value(&join(section, name))
        {
            let value = match &setting.value {
                Value::String(text) if key.ends_with(".password") && !text.is_empty() => {
                    Value::String("***".to_owned())
                }
                Value::String(text) if SECRET.contains(&key.as_str()) => {
                    Value::String(mask_url(text))
                }
                Value::Array(texts) if SECRET.contains(&key.as_str()) => {
                    let masked = texts.iter().filter_map(Value::as_str).map(mask_url);
                    Value::Array(masked.map(Value::String).collect())
                }
                value => value.clone(),
            };
            let source = setting.source.to_string().replace(char::is_control, " ");
            out.push_str(&format!("{name} = {value}  # {source}\n"));
        }
    }
    named::render(settings, &mut out);
    out
}
