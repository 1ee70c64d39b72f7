//! OAuth's endpoints, one file each.

pub mod jwks;
pub mod params;
pub mod token;
