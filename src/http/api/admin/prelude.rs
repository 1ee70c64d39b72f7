//! What every noun's file uses.

pub use poem_openapi::{Enum, Object, OpenApi, types::Example};
pub use serde::{Deserialize, Serialize};

pub(super) use super::{documented::example, reply::errors};
pub use super::{
    guard::Admin,
    params::{IdempotencyKey, IfMatch, Paging, Path, Query},
    reply::{Act, Delete, Get, List, NotFound, Read, Reply, Update, WithEtag, Write, deleted},
};
pub use crate::{
    clock::Timestamp,
    error::Error,
    http::{
        api::Tag,
        json::{Answer, Body},
    },
};
