//! Opening sessions and ending them, which several flows share.

pub mod end;
pub mod open;
