//! The models that chatnap knows by name: `assets/models.toml`.
