//! The captures under pcaps/.
