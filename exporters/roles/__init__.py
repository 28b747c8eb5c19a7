"""One exporter per role that several strategies share."""
