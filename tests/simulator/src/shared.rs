//! What all connections share.

use std::sync::Mutex;

use crate::entra::token::Issuer;
use crate::record::Record;
use crate::tenant::World;

pub(crate) struct Shared {
    pub(crate) world: Mutex<World>,
    pub(crate) record: Record,
    pub(crate) issuer: Issuer,
    /// The CA of the servers here.
    pub(crate) ca_pem: String,
}
