//! Flow monitors: tell a controller how tables change. OpenFlow 1.4 and later; ONF's extension in 1.3,
//! Nicira's before.

mod request;
mod update;

pub use request::{
    MonitorCommand, MonitorFlags, MonitorRequest, decode_cancel, decode_request, encode_cancel,
    encode_request,
};
pub use update::{
    FlowUpdate, FullUpdate, UpdateEvent, append_update, begin_updates, decode_updates, encode_pause,
};
