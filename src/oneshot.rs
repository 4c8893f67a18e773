//! oneshot
