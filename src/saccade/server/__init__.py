"""HTTP: the one place where dialects and the engine meet, with keys, quotas and the settings."""
