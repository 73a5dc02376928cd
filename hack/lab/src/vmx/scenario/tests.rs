//! Reading scenarios.
