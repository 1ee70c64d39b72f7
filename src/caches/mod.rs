//! What a process remembers between requests. A cache is a data structure: it is given the HTTP
//! client and the time it needs, and knows nothing of `App`; what follows from its contents is
//! decided in `flows`.

pub mod client_keys;
pub mod logos;
pub mod metadata_documents;
pub mod signed_list;
pub mod verified_tokens;
