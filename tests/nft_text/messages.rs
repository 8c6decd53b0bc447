//! Snapshots of messages.
